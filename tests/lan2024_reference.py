"""The published recipe, slow and literal, for small dense arrays: what similarity/lan2024.py must equal."""

import numpy as np

NON_CONCEPTS = [".", "\\n", "\n", "", " ", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "|bos|", "<pad>"]


def published_svcca(x, y, absolute):
    """Mean canonical correlation by the formula of google/svcca's cca_core, of principal components.

    Args:
        x, y: [n, d].
        absolute: whether the share of the variance is compared with 0.99 of the total variance.
    """
    kept = []
    for rows in (x, y):
        centred = (rows - rows.mean(0)).T
        _, s, v = np.linalg.svd(centred, full_matrices=False)
        total, reached, k = (s**2).sum(), 0.0, 1
        for place, one in enumerate(s**2):
            reached += one / total
            if reached >= 0.99 * (total if absolute else 1):
                k = place + 1
                break
        kept.append(s[:k, None] * v[:k])
    size = len(kept[0])
    covariance = np.cov(kept[0], kept[1])
    sigma_xx, sigma_yy = covariance[:size, :size], covariance[size:, size:]
    scale_x, scale_y = np.abs(sigma_xx).max(), np.abs(sigma_yy).max()
    sigma_xy = covariance[:size, size:] / np.sqrt(scale_x * scale_y)
    sigma_xx, sigma_yy = sigma_xx / scale_x, sigma_yy / scale_y
    roots = []
    for own in (sigma_xx, sigma_yy):
        values, vectors = np.linalg.eigh(np.linalg.pinv(own + 1e-10 * np.eye(len(own))))
        roots.append(vectors @ np.diag(np.sqrt(values)) @ vectors.T)
    correlations = np.linalg.svd(roots[0] @ sigma_xy @ roots[1], compute_uv=False)
    return float(np.abs(correlations).mean()), (size, len(kept[1]))


def publish(a, b, labels_a, labels_b, w_a, w_b, orders):
    """All numbers of the published recipe, everything as published.

    Args:
        a, b: [n, F_A] and [n, F_B] activations on the same rows.
        labels_a, labels_b: [n] what each row is called.
        w_a, w_b: decoder vectors.
        orders: makes the shuffles of n rows.
    """
    n = len(a)
    left, right = ((m - m.mean(0)) / (m.std(0, ddof=1) + 1e-8) for m in (a, b))
    r = left.T @ right / n
    best, values = r.argmax(0), r.max(0)
    # What was to be standardised with n was standardised with n - 1.
    values = values * n / (n - 1)
    kept_a, kept_b = [], []
    for one_b, one_a in enumerate(best):
        top_a = [labels_a[row] for row in np.argsort(-a[:, one_a], kind="stable")[:5]]
        top_b = [labels_b[row] for row in np.argsort(-b[:, one_b], kind="stable")[:5]]
        good = True
        for word in NON_CONCEPTS:
            if word in top_a or word in top_b:
                good = False
                break
        if good and set(top_a) & set(top_b):
            kept_a.append(one_a)
            kept_b.append(one_b)
    else:
        intended = sum(values[one] > 0.1 for one in kept_b)
        kept_a, kept_b = list(best), list(range(len(best)))
    pairs = [(i, j) for i, j in zip(kept_a, kept_b, strict=True) if values[j] > 0.1]
    rows_a, rows_b = [i for i, _ in pairs], [j for _, j in pairs]
    score, k = published_svcca(w_a[rows_a], w_b[rows_b], True)
    null = [published_svcca(w_a[rows_a], w_b[rows_b][order], True)[0] for order in orders(len(pairs))]
    return {
        "mean_actv_corr": sum(values) / len(values),
        "pairs": len(pairs),
        "mean_r": np.mean([values[j] for j in rows_b]),
        "svcca": score,
        "k": k,
        "null_mean": np.mean(null),
        "p": np.mean(np.array(null) >= score - 1e-12),
        "intended_pairs": intended,
    }
