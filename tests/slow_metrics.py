"""Every metric as its definition says, one pair of rows after another, with matrices of n x n."""

import numpy as np
from scipy.optimize import linprog


def draw_rows(n, width_x, width_y, seed=0, noise=1.0):
    """Matched rows that share some directions, with columns of different size and mean."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 4))
    sides = []
    for width in (width_x, width_y):
        rows = shared @ rng.normal(size=(4, width)) + noise * rng.normal(size=(n, width))
        sides.append(rows * rng.uniform(0.5, 2.0, width) + rng.normal(size=width))
    return sides[0], sides[1]


def draw_orders(n, count, seed=1):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) for _ in range(count)])


def centre(x):
    return x - x.mean(axis=0)


def project(x):
    """[n, n] onto the span of the centred columns."""
    x = centre(x)
    return x @ np.linalg.pinv(x, rcond=1e-10)


def canonical(x, y):
    """Canonical correlations of all directions and x's directions [n, r], which have length 1."""
    count = min(np.linalg.matrix_rank(centre(x)), np.linalg.matrix_rank(centre(y)))
    directions, correlations, _ = np.linalg.svd(project(x) @ project(y))
    return correlations[:count], directions[:, :count]


def cca(x, y):
    return canonical(x, y)[0].mean()


def cca_squared(x, y):
    return (canonical(x, y)[0] ** 2).mean()


def shorten(x, kept):
    """The principal components of x: so many, or as many as hold this share of variance."""
    values, vectors = np.linalg.eigh(np.cov(x.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    if isinstance(kept, float):
        kept = next(
            k for k in range(1, len(values) + 1) if values[:k].sum() >= kept * values.sum() * (1 - 1e-12)
        )
    return centre(x) @ vectors[:, :kept]


def svcca(x, y, kept=20):
    return cca(shorten(x, kept), shorten(y, kept))


def pwcca(x, y):
    """Among directions that correlate perfectly, x's principal axes: the paper leaves them open."""
    correlations, directions = canonical(x, y)
    perfect = correlations > 1 - 1e-7
    turned = np.linalg.svd(directions[:, perfect].T @ centre(x), full_matrices=False)[0]
    directions[:, perfect] = directions[:, perfect] @ turned
    weights = np.array([sum(abs(h @ column) for column in centre(x).T) for h in directions.T])
    return sum(weights * correlations) / sum(weights)


def hsic(k, m):
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ m @ h) / (n - 1) ** 2


def cka(x, y):
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def hsic_unbiased(k, m):
    """Song et al. 2012, with the diagonals set to 0."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    second = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + second - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def cka_debiased(x, y):
    k, m = x @ x.T, y @ y.T
    return hsic_unbiased(k, m) / np.sqrt(hsic_unbiased(k, k) * hsic_unbiased(m, m))


def cosine(u, v):
    return (u @ v) / np.sqrt((u @ u) * (v @ v))


DISTANCE = {
    "cosine": lambda u, v: 1 - cosine(u, v),
    "euclidean": lambda u, v: np.sqrt(((u - v) ** 2).sum()),
    "sqeuclidean": lambda u, v: ((u - v) ** 2).sum(),
}


def list_distances(x, distance):
    return np.array([DISTANCE[distance](x[i], x[j]) for i in range(len(x)) for j in range(i + 1, len(x))])


def rank(values):
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def rsa(x, y, distance="cosine", comparison="pearson"):
    one, two = list_distances(x, distance), list_distances(y, distance)
    if comparison == "spearman":
        one, two = rank(np.round(one / one.max(), 9)), rank(np.round(two / two.max(), 9))
    return np.corrcoef(one, two)[0, 1]


def procrustes(x, y):
    """With the rotation that is best, which a polar decomposition gives."""
    x, y = centre(x) / np.linalg.norm(centre(x)), centre(y) / np.linalg.norm(centre(y))
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(side, ((0, 0), (0, width - side.shape[1]))) for side in (x, y))
    u, _, vt = np.linalg.svd(y.T @ x)
    return 1 - np.linalg.norm(x - y @ (u @ vt)) ** 2 / 2


def name_neighbours(x, k):
    found = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        found.append(set(sorted(others, key=lambda j: -cosine(x[i], x[j]))[:k]))
    return found


def mutual_knn(x, y, k=10):
    sides = zip(name_neighbours(x, k), name_neighbours(y, k), strict=True)
    return np.mean([len(one & two) / k for one, two in sides])


def jaccard(x, y, k=10):
    sides = zip(name_neighbours(x, k), name_neighbours(y, k), strict=True)
    return np.mean([len(one & two) / len(one | two) for one, two in sides])


def mean_max_cosine(x, y):
    return np.mean([max(cosine(one, two) for two in y.T) for one in x.T])


def soft_matching(x, y):
    """The transport as a linear program."""
    r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    rows, columns = r.shape
    sums = [np.outer(np.arange(rows) == i, np.ones(columns)).ravel() for i in range(rows)]
    sums += [np.outer(np.ones(rows), np.arange(columns) == j).ravel() for j in range(columns)]
    weights = [1 / rows] * rows + [1 / columns] * columns
    return -linprog(-r.ravel(), A_eq=np.array(sums), b_eq=weights).fun


SLOW = {
    "cca": cca,
    "cca_squared": cca_squared,
    "svcca:3": lambda x, y: svcca(x, y, 3),
    "svcca:0.8": lambda x, y: svcca(x, y, 0.8),
    "svcca:1.0": cca,
    "pwcca": pwcca,
    "cka": cka,
    "cka_debiased": cka_debiased,
    "rsa:cosine:pearson": rsa,
    "rsa:cosine:spearman": lambda x, y: rsa(x, y, "cosine", "spearman"),
    "rsa:euclidean:pearson": lambda x, y: rsa(x, y, "euclidean"),
    "rsa:euclidean:spearman": lambda x, y: rsa(x, y, "euclidean", "spearman"),
    "rsa:sqeuclidean:pearson": lambda x, y: rsa(x, y, "sqeuclidean"),
    "rsa:sqeuclidean:spearman": lambda x, y: rsa(x, y, "sqeuclidean", "spearman"),
    "procrustes": procrustes,
    "mutual_knn:5": lambda x, y: mutual_knn(x, y, 5),
    "jaccard:5": lambda x, y: jaccard(x, y, 5),
    "mean_max_cosine": mean_max_cosine,
    "soft_matching": soft_matching,
}
"""Every metric by its name; settings that small data allow."""
