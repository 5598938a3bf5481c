"""Orthogonal Procrustes: how well one side can be rotated onto the other."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.similarity.cca import find_basis
from xmodel.similarity.products import PreparedProduct, prepare_product, sum_singular
from xmodel.similarity.rows import check_rows, find_precision


def prepare_procrustes(x: ArrayLike, y: ArrayLike) -> PreparedProduct:
    """The nuclear norm of X' Y, rows centred and both sides scaled to Frobenius norm 1.

    With it, the least squared distance after a rotation (and zeros for missing columns) is 2 - 2 value, and
    after a rotation and a factor 1 - value^2, which SciPy calls the disparity (Schönemann, Psychometrika
    31:1, 1966; Williams et al., arXiv 2110.14739, whose distance is its arc cosine). Invariant to rotation,
    scale and translation of either side.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.

    Raises:
        InputError: rows that `check_rows` refuses.
    """
    one, two = check_rows(x, y)
    # Rotated to their principal axes, where directions without extent can be left out.
    sides = []
    for rows, given in ((one, x), (two, y)):
        basis = find_basis(rows, find_precision(given))
        sides.append(basis.u * (basis.s * (np.sqrt(len(rows)) / np.linalg.norm(basis.s))))

    def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        return min(sum_singular(product) / len(order), 1.0)

    return prepare_product(sides[0], sides[1], finish)
