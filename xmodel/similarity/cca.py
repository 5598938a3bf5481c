"""Canonical correlations: mean CCA, mean squared CCA, SVCCA and PWCCA.

With centred rows x = U S V' (thin SVD), the canonical correlations of x and y are the singular values of
U_x' U_y (Björck & Golub, Mathematics of Computation 27:579, 1973). Shuffling y's rows shuffles those of U_y
and leaves S and V as they are. With n rows and k components a side, unrelated data have large correlations
too unless n is several times k: which is why `kept` is there to be printed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError
from xmodel.similarity.products import (
    SMALL_SIDE,
    PreparedProduct,
    prepare_product,
    sum_singular,
    sum_squares,
)
from xmodel.similarity.rows import EXACT, centre_rows, check_rows, find_precision

MANY = 256
"""Components of which a few are looked for by themselves."""
LEAST_CARRIED = 1e-6
"""Share of the first component's variance that the last one wanted must carry for this."""
EQUAL = 1e-5
"""Correlations this near to 1 or 0 count as such where their directions matter."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Centred rows as U S V', without the directions that are rounding only."""

    u: NDArray[np.float64]
    """[n, r] orthonormal columns."""
    s: NDArray[np.float64]
    """[r] singular values, descending, in units of the largest absolute value in the centred rows."""
    vt: NDArray[np.float64]
    """[r, d] orthonormal rows."""


def prepare_cca(x: ArrayLike, y: ArrayLike, *, squared: bool = False) -> PreparedProduct:
    """The mean of the canonical correlations, or of their squares, over all directions of both sides.

    Invariant to invertible linear maps of either side. The mean is over the smaller of the two ranks; with a
    rank of n - 1 on either side it is 1 for any data. The mean of squares is R^2_CCA in Kornblith et
    al., arXiv 1905.00414, table 1.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.
        squared: whether correlations are squared, which makes shuffles cheapest.

    Raises:
        InputError: rows that `check_rows` refuses.
    """
    one, two = check_rows(x, y)
    return _correlate(find_basis(one, find_precision(x)), find_basis(two, find_precision(y)), squared)


def prepare_svcca(
    x: ArrayLike, y: ArrayLike, *, components: int | None = None, share: float | None = None
) -> PreparedProduct:
    """The mean canonical correlation of the first principal components (Raghu et al., arXiv 1706.05806).

    Invariant to rotations and scale of either side.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.
        components: how many of each side; or else
        share: the fewest of each side that hold this share of its variance, above 0 and at most 1.

    Raises:
        InputError: rows that `check_rows` refuses, or that do not span as many components.
    """
    if (components is None) == (share is None):
        raise InputError(
            "SVCCA needs either a number of components or a share of variance; give one of them."
        )
    one, two = check_rows(x, y)
    bases = []
    for rows, given, name in ((one, x, "x"), (two, y, "y")):
        basis = _find_enough(rows, find_precision(given), components)
        count = _count_components(basis, share) if components is None else components
        _check_components(count, len(basis.s), rows.shape, name)
        bases.append(Basis(basis.u[:, :count], basis.s[:count], basis.vt[:count]))
    return _correlate(bases[0], bases[1], squared=False)


def prepare_pwcca(x: ArrayLike, y: ArrayLike) -> PreparedProduct:
    """Canonical correlations, weighted by how much of x they account for (Morcos et al., arXiv 1806.05759).

    The weight of canonical direction h_i of x is sum_j |<h_i, x_j>| over x's centred columns ("Beyond mean
    CCA similarity"), for as many directions as the smaller rank. It is not symmetric: the weights are x's.
    The program the authors published weights by whichever side is narrower, and takes as directions the
    columns times the singular vectors without the whitening in between, which the paper does not.

    Where n is at most the sum of the ranks, several correlations are 1; which directions are theirs, and so
    what they weigh, the paper leaves open. Here they are the principal axes of x among them (so too for
    several correlations of 0): otherwise the value would depend on rounding in the third decimal.

    Args:
        x: [n, d_x] matched rows, whose columns give the weights.
        y: [n, d_y] likewise.

    Raises:
        InputError: rows that `check_rows` refuses.
    """
    one, two = check_rows(x, y)
    basis_x, basis_y = find_basis(one, find_precision(x)), find_basis(two, find_precision(y))
    loads = basis_x.s[:, None] * basis_x.vt / basis_x.s[0]

    def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        correlations, directions = _find_directions(product.astype(np.float64, copy=False))
        weights = np.abs(_settle_equals(correlations, directions.T @ loads)).sum(axis=1)
        return float(correlations @ weights / weights.sum())

    return prepare_product(basis_x.u, basis_y.u, finish, (len(basis_x.s), len(basis_y.s)))


def find_basis(rows: NDArray[np.float64], precision: float = EXACT) -> Basis:
    """The thin SVD of centred rows, down to directions that may be rounding of the values.

    Args:
        rows: [n, d], not centred.
        precision: relative rounding of the values, see `xmodel.similarity.rows.find_precision`.

    Raises:
        InputError: rows that differ by no more than rounding.
    """
    centred = centre_rows(rows)
    scale = np.abs(centred).max()
    u, s, vt = np.linalg.svd(centred / scale, full_matrices=False)
    # Rounding of values adds a matrix of at most this norm; so does the rounding of the SVD.
    least = max(precision, 10 * EXACT) * float(np.linalg.norm(rows / scale))
    rank = min(int(np.count_nonzero(s > least)), len(rows) - 1)
    if rank == 0:
        raise InputError(
            f"Rows came that differ by no more than the rounding of their values (up to {scale:.1e}, around "
            f"{np.abs(rows).max():.1e}); expected were rows that differ. Take the offset away before values "
            "are rounded."
        )
    return Basis(u[:, :rank], s[:rank], vt[:rank])


def _find_enough(rows: NDArray[np.float64], precision: float, components: int | None) -> Basis:
    """The basis, or where few components of many are wanted only those, which costs far less."""
    small = min(rows.shape)
    if components is None or small < MANY or 4 * components > small:
        return find_basis(rows, precision)
    from scipy.linalg import eigh

    centred = centre_rows(rows)
    tall = rows.shape[0] >= rows.shape[1]
    gram = centred.T @ centred if tall else centred @ centred.T
    squares, vectors = eigh(gram, subset_by_index=(small - components, small - 1))
    # Squaring costs half of the digits, which matters for components that carry next to nothing.
    least = max(LEAST_CARRIED * squares[-1], (10 * precision * np.linalg.norm(rows)) ** 2)
    if squares[0] <= least:
        return find_basis(rows, precision)
    s, vectors = np.sqrt(squares[::-1]), vectors[:, ::-1]
    u = centred @ vectors / s if tall else vectors
    vt = vectors.T if tall else (centred.T @ vectors / s).T
    return Basis(u, s, vt)


def _correlate(x: Basis, y: Basis, squared: bool) -> PreparedProduct:
    count = min(len(x.s), len(y.s))

    def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        total = sum_squares(product) if squared else sum_singular(product, ceiling=1.0)
        return min(total / count, 1.0)

    return prepare_product(x.u, y.u, finish, (len(x.s), len(y.s)))


def _find_directions(product: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Canonical correlations [r] and x's directions [r_x, r] in its basis."""
    count = min(product.shape)
    if count <= SMALL_SIDE:
        directions, correlations, _ = np.linalg.svd(product, full_matrices=False)
        return np.minimum(correlations, 1.0), directions
    squares, directions = np.linalg.eigh(product @ product.T)
    return np.sqrt(np.clip(squares[-count:], 0.0, 1.0)), directions[:, -count:]


def _settle_equals(correlations: NDArray[np.float64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
    """The directions' loads [r, d], turned to principal axes where correlations are all 1 or all 0."""
    for equal in (correlations > 1 - EQUAL, correlations < EQUAL):
        if np.count_nonzero(equal) > 1:
            own = loads[equal]
            loads[equal] = np.linalg.eigh(own @ own.T)[1].T @ own
    return loads


def _count_components(basis: Basis, share: float | None) -> int:
    if share is None or not 0 < share <= 1:
        raise InputError(f"The share of variance came as {share}; expected was above 0 and at most 1.")
    if share == 1:
        return len(basis.s)
    held = np.cumsum(basis.s**2)
    return int(np.searchsorted(held, share * held[-1])) + 1


def _check_components(count: int, rank: int, shape: tuple[int, int], name: str) -> None:
    if count < 1:
        raise InputError(f"The number of components came as {count}; expected was 1 or more.")
    if count > rank:
        rows, width = shape
        bound = f"{rows} rows have at most {rows - 1} components" if rows - 1 < count else (
            f"rows of {width} columns have at most {width}" if width < count else
            f"its {rows} rows of {width} columns are linearly dependent and have rank {rank}"
        )  # fmt: skip
        raise InputError(
            f"SVCCA was asked for {count} components, but of {name} {bound}. Ask for fewer (svcca:K with K "
            f"at most {rank}), or give more pairs."
        )
