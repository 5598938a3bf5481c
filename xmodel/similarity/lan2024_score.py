"""The arithmetic of the published recipe, arrays in and numbers out: SVCCA, its null, p, and the filter.

Lan et al., "Quantifying Feature Space Universality Across Large Language Models via Sparse Autoencoders"
(arXiv 2410.06981), with the code that came with it. Everything is written anew here; what that code computes
is said where it differs from what was meant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.metrics import Prepared, parse_metric

SHARE = 0.99
"""Share of the variance that principal components are kept for."""
LEAST_R = 0.1
"""Only pairs with r above this are scored."""
TOP_WORDS = 5
"""Strongest words of a feature that the filter looks at."""
NON_CONCEPTS = frozenset(
    [".", "\\n", "\n", "", " ", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "|bos|", "<pad>"]
)
"""The published list of tokens that name no concept."""
PADDING = "<|endoftext|>"
"""What a position of padding is called."""
TIE = 1e-12
"""Null values that are smaller than the score by no more than this share count as equal to it."""


@dataclass(frozen=True, eq=False)
class TruncatedSvcca:
    """SVCCA of some components on either side; see `prepare_truncated`."""

    scores_x: NDArray[np.float64]
    """[n, k_x] orthonormal scores of x's components."""
    scores_y: NDArray[np.float64]
    """[n, k_y] those of y's."""

    @property
    def value(self) -> float:
        """Mean canonical correlation."""
        return float(self.permute(np.arange(len(self.scores_x))[None])[0])

    @property
    def kept(self) -> tuple[int, int]:
        """Components kept of x and of y."""
        return self.scores_x.shape[1], self.scores_y.shape[1]

    def permute(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """[m] the value with y's rows in each of the orders [m, n]."""
        products = (self.scores_x.T @ self.scores_y[order] for order in orders)
        return np.array([np.linalg.svd(one, compute_uv=False).mean() for one in products])


def svcca_lan2024(
    x: NDArray[np.floating], y: NDArray[np.floating], one_component: bool
) -> tuple[float, tuple[int, int]]:
    """SVCCA as published, or as it was meant: mean canonical correlation of the first principal components.

    Args:
        x: [n, d_x] vectors, for instance decoder vectors of paired features.
        y: [n, d_y] row i belongs to row i of x.
        one_component: whether the number of components is found as in the published code, see
            `count_components`; else 99 % of the variance are kept.

    Returns:
        the value, and the components kept of x and of y.

    Raises:
        InputError: fewer than three rows, no variance, or numbers that are not finite.
    """
    prepared = prepare_svcca(x, y, one_component)
    return prepared.value, prepared.kept or (0, 0)


def prepare_svcca(x: NDArray[np.floating], y: NDArray[np.floating], one_component: bool) -> Prepared:
    """Everything about `svcca_lan2024` that shuffling y's rows does not change; same arguments and errors."""
    return prepare_truncated(x, y) if one_component else parse_metric(f"svcca:{SHARE}").prepare(x, y)


def prepare_truncated(x: NDArray[np.floating], y: NDArray[np.floating]) -> TruncatedSvcca:
    """The published SVCCA with its number of components; arguments and errors as `svcca_lan2024`."""
    if len(x) != len(y) or len(x) < 3:
        raise InputError(
            f"{len(x)} and {len(y)} vectors came: expected were as many of both, and at least 3. With fewer "
            "pairs there is no correlation to speak of."
        )
    return TruncatedSvcca(_find_scores(np.asarray(x, np.float64)), _find_scores(np.asarray(y, np.float64)))


def _find_scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, k] orthonormal scores of rows [n, d] on the components that the published code keeps."""
    if not np.isfinite(rows).all():
        raise InputError("vectors with numbers that are not finite came: the dictionary is damaged.")
    centred = rows - rows.mean(axis=0)
    scores, singular, _ = np.linalg.svd(centred, full_matrices=False)
    if singular[0] <= 1e-12 * np.abs(rows).max(initial=0.0):
        raise InputError(f"{len(rows)} vectors that are all equal came: they have no components.")
    return scores[:, : count_components(singular)]


def count_components(singular: NDArray[np.float64], *, one_component: bool = True) -> int:
    """How many principal components SVCCA keeps.

    The share of the variance that the first k components have is to reach 0.99. The published code compares
    it with 0.99 times the *total variance* instead. A share is at most 1, so where the total variance is
    above 1 / 0.99, which for n unit vectors it is as soon as there are a few of them, no k is enough; the
    search for the first one that is then answers with 0, and **one** component is kept. Where the total is
    smaller, too few are kept, or just enough.

    Args:
        singular: singular values of centred rows, falling.
        one_component: whether to count as the published code does.
    """
    variances = singular**2
    reached = np.cumsum(variances / variances.sum()) >= SHARE * (variances.sum() if one_component else 1.0)
    # The first true one; 0 where there is none.
    return int(np.argmax(reached)) + 1


def judge_shuffled(value: float, null: NDArray[np.float64], p_without_one: bool) -> float:
    """The share of shuffles that reach a value: b / m as published, which can be 0, or (b + 1) / (m + 1).

    Args:
        value: of the pairs.
        null: [m] values of shuffled pairs.
        p_without_one: whether to leave out the 1.
    """
    exceeding = int((null >= value * (1 - TIE)).sum())
    return exceeding / len(null) if p_without_one else (exceeding + 1) / (len(null) + 1)


def average_best(r: NDArray[np.float64], varies: NDArray[np.bool_], dead_in_mean: bool) -> float | None:
    """Mean r of every feature of B with its best partner; None where there is nothing to average.

    Args:
        r: [F_B] 0 where a feature has no partner with r above 0.
        varies: [F_B] whether the feature is not the same on all rows. For one that is, Pearson's r does not
            exist; the published code adds 1e-8 to its deviation of 0 and gets 0.
        dead_in_mean: whether these zeros are in the mean.
    """
    own = r if dead_in_mean else r[varies]
    return float(own.mean()) if len(own) else None


def find_concept_pairs(top_a: Sequence[Sequence[str]], top_b: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Which pairs the published filter was meant to keep.

    Those with a word in common among the strongest of both, and none of `NON_CONCEPTS` among either's. (In
    the published code the lists so made are overwritten in the ``else`` of the ``for`` loop, which Python
    runs after every loop that was not left by ``break``: no pair is ever filtered.)

    Args:
        top_a: [P] the strongest words of the pairs' features of A, at most `TOP_WORDS` each.
        top_b: [P] those of B.
    """
    kept = [
        not (NON_CONCEPTS.intersection(a) or NON_CONCEPTS.intersection(b)) and bool(set(a).intersection(b))
        for a, b in zip(top_a, top_b, strict=True)
    ]
    return np.array(kept, dtype=np.bool_)
