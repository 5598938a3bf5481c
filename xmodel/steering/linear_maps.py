"""A linear map from one model's activations to another's over the same words; it carries vectors too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.steering.carrying import check_width
from xmodel.steering.vectors import SteeringVector

PENALTIES = tuple(float(one) for one in np.logspace(-6, 3, 19))
"""Ridge penalties that are tried, in units of the mean variance of a dimension of the first model."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map from model A's activations to model B's, fitted on words."""

    matrix: NDArray[np.float32]
    """[d_A, d_B]: a row vector of A times it is one of B."""
    site: str
    """Where B's activations were read."""
    model: str | None
    """B's name."""
    architecture: str | None
    """B's kind; see `xmodel.steering.vectors.name_architecture`."""
    penalty: float
    """Of the ridge, in units of the mean variance of a dimension of A."""
    words: int
    """Rows that it was fitted on."""
    r2: float
    """Share of the variance of B's activations that it explains on these rows, all dimensions together."""
    r2_heldout: float | None
    """The same on rows that it has not seen, about their own mean; None where there were none."""

    def carry(self, vector: SteeringVector) -> SteeringVector:
        """A's vector in B. It comes out shorter than a push in B should be, as a ridge shrinks: scale it.

        Raises:
            InputError: if the vector has another width than A's activations.
        """
        check_width(vector, len(self.matrix), "the activations of the linear map")
        values = vector.values.astype(np.float64) @ self.matrix.astype(np.float64)
        return SteeringVector(values, self.site, self.model, vector.name, self.architecture)


def fit_linear_map(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    *,
    site: str,
    model: str | None = None,
    architecture: str | None = None,
    heldout: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> LinearMap:
    """Fit a ridge regression, with an intercept, from A's activations to B's over the same words.

    The penalty is that of the least generalized cross-validation error (Golub, Heath and Wahba, Technometrics
    21, 1979), one for all dimensions, so that turning either model's space turns the map and changes nothing
    else. The intercept is not kept: a steering vector is a difference.

    Args:
        x: [n, d_A] activations of A at words, of the discovery half. Beside copies of x and y in float64 some
            3 min(n, d_A)^2 numbers are held in memory.
        y: [n, d_B] those of B at the same words.
        site: where B was read.
        model: B's name.
        architecture: B's kind.
        heldout: the same two arrays for words of the other half.
        penalties: positive, in units of the mean variance of a dimension of A.

    Raises:
        InputError: if the arrays do not fit each other, are not finite or have fewer than three rows, if a
            model's activations do not vary, or if a penalty is not positive.
    """
    _check_rows(x, y, x.shape[-1], y.shape[-1])
    if heldout is not None:
        _check_rows(*heldout, x.shape[1], y.shape[1])
    if not penalties or not all(math.isfinite(one) and one > 0 for one in penalties):
        raise InputError(f"the penalties {list(penalties)} came: expected positive numbers.")
    first, second = _center(x), _center(y)
    count, width = first.shape
    variance = float(np.square(first).sum()) / (count * width)
    total = float(np.square(second).sum())
    if not variance or not total:
        raise InputError(
            "the activations of a model are the same at all words: expected a site at which they vary."
        )
    values, basis, turned = _decompose(first, second)
    # Of B's sum of squares: what lies along each principal component of A, and what along none.
    along = np.square(turned).sum(1) / values
    beside = max(total - float(along.sum()), 0.0)
    errors: list[tuple[float, float, float]] = []
    for penalty in penalties:
        shrunk = penalty * variance * count / (values + penalty * variance * count)
        left = beside + float((along * np.square(shrunk)).sum())
        freedom = count - 1 - len(values) + float(shrunk.sum())
        errors.append((left / freedom**2, left, penalty))
    _, left, penalty = min(errors)
    matrix = basis @ (turned / (values + penalty * variance * count)[:, None])
    return LinearMap(
        matrix=matrix.astype(np.float32),
        site=site,
        model=model,
        architecture=architecture,
        penalty=penalty,
        words=count,
        r2=1 - left / total,
        r2_heldout=None if heldout is None else _measure_r2(matrix, x, y, heldout),
    )


def _check_rows(x: NDArray[Any], y: NDArray[Any], width_x: int, width_y: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 3:
        raise InputError(
            f"activations of shapes {list(x.shape)} and {list(y.shape)} came: expected two matrices with a "
            "row per word, the same at least three words in both models."
        )
    if (x.shape[1], y.shape[1]) != (width_x, width_y):
        raise InputError(
            f"held-out activations of {x.shape[1]} and {y.shape[1]} dimensions came: expected {width_x} and "
            f"{width_y}, as for the words that the map is fitted on."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(
            "the activations have numbers that are NaN or infinite: expected finite ones. Run the model in "
            "--dtype float32 if it was run in float16."
        )


def _center(rows: NDArray[Any]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return exact - exact.mean(0)


def _decompose(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Squared singular values [r] of A's rows, its principal directions V [d_A, r], and V^T X^T Y [r, d_B].

    From the Gram matrix of the smaller side, without what is zero but for rounding.
    """
    tall = first.shape[0] >= first.shape[1]
    values, vectors = np.linalg.eigh(first.T @ first if tall else first @ first.T)
    kept = values > values[-1] * max(first.shape) * np.finfo(np.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    if tall:
        return values, vectors, vectors.T @ (first.T @ second)
    roots = np.sqrt(values)
    return values, first.T @ vectors / roots, roots[:, None] * (vectors.T @ second)


def _measure_r2(
    matrix: NDArray[np.float64],
    x: NDArray[Any],
    y: NDArray[Any],
    heldout: tuple[NDArray[Any], NDArray[Any]],
) -> float:
    """1 - squared error over squared deviation from the held-out mean; NaN where B does not vary there."""
    inputs, outputs = (rows.astype(np.float64) for rows in heldout)
    predicted = (inputs - x.mean(0, dtype=np.float64)) @ matrix + y.mean(0, dtype=np.float64)
    deviation = float(np.square(outputs - outputs.mean(0)).sum())
    return 1 - float(np.square(outputs - predicted).sum()) / deviation if deviation else math.nan
