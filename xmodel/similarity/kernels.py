"""Centred kernel alignment with the linear kernel, and its debiased form.

Both need ||X' Y||_F^2 of centred rows; debiasing takes away what the diagonals of the Gram matrices add,
which is a sum over rows. So a shuffle costs one product of d_x x d_y and no Gram matrix of n x n.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError
from xmodel.similarity.products import PreparedProduct, prepare_product, sum_squares
from xmodel.similarity.rows import EXACT, check_rows, scale_extent


def prepare_cka(x: ArrayLike, y: ArrayLike, *, debiased: bool = False) -> PreparedProduct:
    """Linear CKA: ||X' Y||^2 / (||X' X|| ||Y' Y||) of centred rows (Kornblith et al., arXiv 1905.00414).

    With few rows for the width, unrelated data have a high CKA: it has a bias of order d / n. The debiased
    form replaces the Hilbert-Schmidt independence criterion by its unbiased estimate (Song et al., JMLR
    13:1393, 2012; in features as in Kornblith's program), has mean 0 for unrelated data, and may be
    negative. Invariant to rotation, scale and translation of either side, not to invertible maps.

    Args:
        x: [n, d_x] matched rows.
        y: [n, d_y] likewise.
        debiased: whether to debias; then n is 4 or more.

    Raises:
        InputError: rows that `check_rows` refuses, or of which debiasing leaves nothing: all inner products
            between different rows are equal but for sums of row effects.
    """
    one, two = check_rows(x, y, least=4 if debiased else 3)
    rows_x, rows_y = scale_extent(one), scale_extent(two)
    n = len(rows_x)
    diagonal_x, diagonal_y = (np.einsum("ij,ij->i", rows, rows) for rows in (rows_x, rows_y))
    if not debiased:
        scale = float(np.linalg.norm(rows_x.T @ rows_x) * np.linalg.norm(rows_y.T @ rows_y))

        def finish(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
            return sum_squares(product) / scale

        return prepare_product(rows_x, rows_y, finish)

    def debias(squares: float, one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
        return squares - n / (n - 2) * float(one @ two) + one.sum() * two.sum() / ((n - 1) * (n - 2))

    norms = []
    for rows, diagonal, name in ((rows_x, diagonal_x, "x"), (rows_y, diagonal_y, "y")):
        raw = sum_squares(rows.T @ rows)
        norms.append(debias(raw, diagonal, diagonal))
        if norms[-1] <= 100 * n * EXACT * raw:
            raise InputError(
                f"Debiased CKA was asked of {n} rows of {name} of which no two are more alike than others: "
                "beyond what each row adds by itself, all their inner products are equal. Expected were rows "
                "of which some are more alike; give more pairs, or take cka."
            )
    scale = float(np.sqrt(norms[0] * norms[1]))

    def finish_debiased(product: NDArray[np.floating], order: NDArray[np.int64]) -> float:
        return debias(sum_squares(product), diagonal_x, diagonal_y[order]) / scale

    return prepare_product(rows_x, rows_y, finish_debiased)
