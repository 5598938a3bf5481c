"""Metrics that are functions of X' Y: shuffling y's rows costs one product of matrices, and no more.

What can be computed from one side alone (centring, scaling, bases) does not change when rows change places,
so it is done once; only the product, and what follows from it, is done again for every shuffle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError

LARGE_PRODUCT = 10**8
"""Multiplications from which a product is done in float32, which takes half the time.

Its rounding then stays below 1e-7 of the metric. Smaller ones are done in float64, so that arrangements that
are equal in truth (equal rows in other places) differ by no more than its rounding, and count as equal."""
SMALL_SIDE = 128
"""Up to this size singular values are computed as such, above from eigenvalues of M M', which is faster."""
LEAST_RATIO = 1e-12
"""Eigenvalues of M M' below this share of the largest are too inexact: then the singular values proper."""


@dataclass(frozen=True, eq=False)
class PreparedProduct:
    """A metric that is a function of the product of two sides' prepared rows."""

    x: NDArray[np.floating]
    """[n, p] x's rows, prepared."""
    y: NDArray[np.floating]
    """[n, q] y's, of the same type."""
    finish: Callable[[NDArray[np.floating], NDArray[np.int64]], float]
    """From X' Y [p, q], with y's rows in an order, and that order [n], to the metric."""
    value: float
    """The metric for the rows as they came."""
    kept: tuple[int, int] | None
    """Components kept of x and of y, if the metric keeps components."""

    def permute(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """The metric with y's rows in other orders: [m, n] -> [m]; row i of x then meets row order[i] of y.

        Raises:
            InputError: orders of another number of rows, or of rows that do not exist.
        """
        orders = check_orders(orders, len(self.x))
        return _evaluate(self.x, self.y, self.finish, orders)


def prepare_product(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    finish: Callable[[NDArray[np.floating], NDArray[np.int64]], float],
    kept: tuple[int, int] | None = None,
) -> PreparedProduct:
    """A metric from prepared rows [n, p] and [n, q], of a size near 1; see `PreparedProduct`."""
    kind = np.float32 if x.size * y.shape[1] >= LARGE_PRODUCT else np.float64
    one, two = np.ascontiguousarray(x, kind), np.ascontiguousarray(y, kind)
    # On the same path as the shuffles, so that an arrangement equal to the observed one has the same value.
    value = float(_evaluate(one, two, finish, np.arange(len(x))[None])[0])
    return PreparedProduct(one, two, finish, value, kept)


def check_orders(orders: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Orders of rows [m, n], as they came.

    Raises:
        InputError: orders of another number of rows, or of rows that do not exist.
    """
    orders = np.asarray(orders)
    if orders.ndim != 2 or orders.shape[1] != rows or orders.dtype.kind not in "iu":
        raise InputError(
            f"Orders of rows came with shape {orders.shape} and type {orders.dtype}; expected were whole "
            f"numbers [m, {rows}], one order of all rows after another."
        )
    if orders.size and (orders.min() < 0 or orders.max() >= rows):
        raise InputError(
            f"Orders of rows name rows {orders.min()} to {orders.max()}; expected were rows 0 to {rows - 1}."
        )
    return orders


def sum_squares(product: NDArray[np.floating]) -> float:
    """The squared Frobenius norm of a matrix, its rows added in float64."""
    return float(np.einsum("ij,ij->i", product, product).sum(dtype=np.float64))


def sum_singular(product: NDArray[np.floating], ceiling: float | None = None) -> float:
    """The sum of a matrix's singular values, each at most the ceiling, if there is one."""
    product = product.astype(np.float64, copy=False)
    if min(product.shape) > SMALL_SIDE:
        squares = np.linalg.eigvalsh(_multiply_short(product))
        if squares[0] > LEAST_RATIO * squares[-1]:
            return float(np.minimum(np.sqrt(squares), ceiling or np.inf).sum())
    return float(np.minimum(np.linalg.svd(product, compute_uv=False), ceiling or np.inf).sum())


def _multiply_short(product: NDArray[np.float64]) -> NDArray[np.float64]:
    """M M' or M' M, whichever is smaller."""
    return product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product


def _evaluate(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    finish: Callable[[NDArray[np.floating], NDArray[np.int64]], float],
    orders: NDArray[np.int64],
) -> NDArray[np.float64]:
    values = np.empty(len(orders))
    moved = np.empty_like(y)
    product = np.empty((x.shape[1], y.shape[1]), x.dtype)
    for i, order in enumerate(orders):
        # Without "clip" NumPy copies through a buffer; the orders have been checked.
        np.take(y, order, axis=0, out=moved, mode="clip")
        np.matmul(x.T, moved, out=product)
        values[i] = finish(product, order)
    return values
