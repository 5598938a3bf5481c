"""Responses to a push as changes of Gram matrices over words, and how alike two responses are.

Two models share words, but neither widths nor tokens. So what a push does in a model is told as the change
of the Gram matrix of its words: [N, N] in both, and the same whatever rotation the model's directions are
given in. Centring is that of the unbiased Hilbert-Schmidt independence criterion (Song et al., JMLR 13:1393,
2012, equation 4; as a projection in Szekely and Rizzo, Ann. Stat. 42:2382, 2014, section 3), which leaves out
the diagonal and all that is a sum of one number for each word: a shared scale per word says nothing.

A packed response is the strict upper triangle of such a matrix, row after row, M = N (N - 1) / 2 numbers.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LEAST_WORDS = 4
"""Words below which U-centring leaves nothing or is undefined."""
SLICE_BYTES = 1 << 28
"""Memory that matrices take while responses are made from residuals, or centred again."""
BLOCK = 16
"""Responses whose words are permuted at once: as many as stay near the processor."""


def remove_copy(read: "Tensor", pushed: "Tensor", clean: "Tensor") -> "Tensor":
    """Take the push's own copy, which the skip connection carries, out of a residual further down.

    Computed in float64 from the residuals as they were, rounded: differences of float32 numbers of like size
    are then exact, so that layers that do nothing give back exactly the clean residual.

    Args:
        read: [..., N, d] residual after a later block, of the pushed pass.
        pushed: [..., N, d] residual at the site after the push, broadcast against `read`.
        clean: [..., N, d] residual at the site before it, likewise.

    Returns:
        [..., N, d] float64.
    """
    return _widen(read) - (_widen(pushed) - _widen(clean))


def normalise_gram(y: "Tensor") -> "Tensor":
    """Inner products between rows of length 1, with a diagonal of 0.

    Args:
        y: [..., N, d] rows. One that is all 0 stays so.

    Returns:
        [..., N, N] float64.
    """
    rows = _normalise_rows(y)
    gram = rows @ rows.transpose(-1, -2)
    gram.diagonal(dim1=-2, dim2=-1).zero_()
    return gram


def center_gram(k: "Tensor") -> "Tensor":
    """U-centre symmetric matrices: off the diagonal, take away all that is a sum of one number for each word.

    K_ij - rowsum_i / (n - 2) - rowsum_j / (n - 2) + total / ((n - 1) (n - 2)), and 0 on the diagonal, where
    sums leave the diagonal out. It is an orthogonal projection: done twice it is done once.

    Args:
        k: [..., N, N] symmetric; the diagonal is not looked at.

    Returns:
        [..., N, N] of the same dtype.

    Raises:
        InputError: fewer than 4 words.
    """
    n = k.shape[-1]
    check_words(n)
    centred = k.clone()
    centred.diagonal(dim1=-2, dim2=-1).zero_()
    sums = centred.sum(dim=-1) / (n - 2)
    # Half of the mean goes to each side, so that the matrix stays symmetric to the last bit.
    sums -= sums.sum(dim=-1, keepdim=True) / (2 * (n - 1))
    centred -= sums[..., :, None] + sums[..., None, :]
    centred.diagonal(dim1=-2, dim2=-1).zero_()
    return centred


def pack_gram(k: "Tensor") -> "Tensor":
    """The strict upper triangle, row after row: [..., N, N] -> [..., M], M = N (N - 1) / 2."""
    import torch

    n = k.shape[-1]
    upper = torch.triu_indices(n, n, 1, device=k.device)
    return k.flatten(-2)[..., upper[0] * n + upper[1]]


def unpack_gram(packed: NDArray[np.floating], n: int) -> NDArray[np.floating]:
    """The symmetric matrices with a diagonal of 0 that were packed.

    Args:
        packed: [..., M].
        n: words, N.

    Returns:
        [..., N, N] of the same dtype.

    Raises:
        InputError: another M than n words have.
    """
    packed = np.asarray(packed)
    if packed.ndim < 1 or packed.shape[-1] != n * (n - 1) // 2:
        raise InputError(
            f"Packed responses came with shape {list(packed.shape)} for {n} words; expected were "
            f"{n * (n - 1) // 2} numbers for each. Give responses over the same words."
        )
    square = np.zeros((*packed.shape[:-1], n, n), packed.dtype)
    rows, columns = np.triu_indices(n, 1)
    square[..., rows, columns] = packed
    square[..., columns, rows] = packed
    return square


def split_response(y_plus: "Tensor", y_minus: "Tensor", y_zero: "Tensor") -> tuple["Tensor", "Tensor"]:
    """The odd and the even part of what pushes of +c and -c do to the words' Gram matrix.

    Odd is (K_+ - K_-) / 2, the feature's own effect, which turns round with the push; even is
    (K_+ + K_-) / 2 - K_0, what both signs do alike: damage. Their sum is the raw change K_+ - K_0. With rows
    a of length 1, half sum s = (a_+ + a_-) / 2, half difference t = (a_+ - a_-) / 2 and c = s - a_0, odd is
    s t' + t s' and even is (a_0 + c / 2) c' + c (a_0 + c / 2)' + t t'. No large numbers are subtracted, so
    that small doses keep their digits, and rows that are equal give exactly 0.

    Args:
        y_plus: [..., N, d] rows at +c, with the push's own copy removed.
        y_minus: [..., N, d] rows at -c, likewise.
        y_zero: [..., N, d] rows without a push, broadcast against the others.

    Returns:
        odd and even, each U-centred and packed: [..., M] float64 on the same device (on the host where the
        device has no float64).

    Raises:
        InputError: fewer than 4 words, or residuals that are not finite.
    """
    import torch

    n, d = y_plus.shape[-2:]
    check_words(n)
    leading = y_plus.shape[:-2]
    plus, minus = (y.reshape(-1, n, d) for y in (y_plus, y_minus.expand(y_plus.shape)))
    # Rows without a push are few and shared by many pushes, so they are not laid out once for each.
    zero = y_zero.expand(y_plus.shape)
    places = list(np.ndindex(*leading)) if leading else [()]
    step = max(1, SLICE_BYTES // (8 * (6 * n * n + 7 * n * d)))
    odds, evens = [], []
    for first in range(0, len(places), step):
        stop = min(first + step, len(places))
        rows_zero = _normalise_rows(torch.stack([zero[place] for place in places[first:stop]]))
        odd, even = _split(_normalise_rows(plus[first:stop]), _normalise_rows(minus[first:stop]), rows_zero)
        odds.append(pack_gram(center_gram(odd)))
        evens.append(pack_gram(center_gram(even)))
    odd, even = torch.cat(odds).reshape(*leading, -1), torch.cat(evens).reshape(*leading, -1)
    if not bool(torch.isfinite(odd).all() & torch.isfinite(even).all()):
        raise InputError(
            "Pushed residuals came with values that are not finite numbers; expected were numbers, as a "
            "model gives them. Use smaller doses, or float32 where the model runs in half precision."
        )
    return odd, even


def measure_norms(packed: NDArray[np.floating]) -> NDArray[np.float64]:
    """The Frobenius norm of the matrices that were packed: [..., M] -> [...] float64."""
    packed = np.asarray(packed)
    flat = packed.reshape(math.prod(packed.shape[:-1]), packed.shape[-1])
    squares = np.array([row @ row for row in (row.astype(np.float64) for row in flat)])
    return np.sqrt(2 * squares).reshape(packed.shape[:-1])


def correlate_responses(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """T: the cosine between each response of one model and each of the other, over the same words.

    Centred matrices have a mean of 0, so that it is a correlation too. A response that is exactly 0 has
    T = 0 with all.

    Args:
        first: [F, M] packed responses, U-centred.
        second: [G, M] packed responses, likewise.

    Returns:
        [F, G] from -1 to 1, with sums in float64.

    Raises:
        InputError: responses over another number of words, or that are not finite.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InputError(
            f"Responses came with shapes {list(first.shape)} and {list(second.shape)}; expected were "
            "[features, pairs of words] with equally many pairs of words. Read both models at the same words."
        )
    products = np.zeros((len(first), len(second)))
    step = max(1, SLICE_BYTES // (8 * max(1, len(first) + len(second))))
    for begin in range(0, first.shape[1], step):
        own, other = (rows[:, begin : begin + step].astype(np.float64) for rows in (first, second))
        products += own @ other.T
    norms = [measure_norms(rows) / math.sqrt(2) for rows in (first, second)]
    return _divide(products, norms[0][:, None] * norms[1][None, :])


def take_words(packed: NDArray[np.floating], chosen: NDArray[np.integer]) -> NDArray[np.floating]:
    """Responses over some of the words, U-centred again.

    Centring takes away sums of one number for each word, so it makes no difference that the larger matrix
    had been centred before: the result is that of the raw Gram matrices over the chosen words.

    Args:
        packed: [..., M] responses over N words.
        chosen: [n] different words, in the order wanted.

    Returns:
        [..., n (n - 1) / 2] of the same dtype.

    Raises:
        InputError: fewer than 4 words, words that do not exist, or one that is chosen twice.
    """
    packed, chosen = np.asarray(packed), np.asarray(chosen)
    n = count_words(packed.shape[-1])
    if (
        chosen.ndim != 1
        or not np.issubdtype(chosen.dtype, np.integer)
        or len(np.unique(chosen)) < len(chosen)
    ):
        raise InputError(
            f"Words were chosen by {chosen.dtype} of shape {list(chosen.shape)}; expected was a list of "
            "different whole numbers. Choose each word once."
        )
    check_words(len(chosen))
    if chosen.min() < 0 or chosen.max() >= n:
        raise InputError(
            f"Words {int(chosen.min())} to {int(chosen.max())} were chosen; expected were words from 0 to "
            f"{n - 1}. Choose among the words that were read."
        )
    rows, columns = np.triu_indices(len(chosen), 1)
    own = number_pairs(chosen[rows], chosen[columns], n)
    flat = packed.reshape(math.prod(packed.shape[:-1]), packed.shape[-1])
    taken = np.empty((len(flat), len(own)), packed.dtype)
    step = max(1, SLICE_BYTES // (8 * 4 * len(chosen) ** 2))
    for first in range(0, len(flat), step):
        taken[first : first + step] = _center_packed(flat[first : first + step][:, own], len(chosen))
    return taken.reshape(*packed.shape[:-1], len(own))


def permute_words(
    first: NDArray[np.floating], second: NDArray[np.floating], orders: NDArray[np.integer]
) -> NDArray[np.float64]:
    """T of matched responses with the second model's words in other orders: the null of permuted words.

    Word j of the second becomes its word `orders[i, j]`, as everywhere in `xmodel.similarity.orders`. Give
    many responses at once: what an order costs by itself is then paid once for all, and draw i is the same
    order for all of them.

    Args:
        first: [..., M] packed responses, U-centred.
        second: [..., M] the responses they are matched with, in the same shape.
        orders: [m, N] orders of the words.

    Returns:
        [..., m] float64.

    Raises:
        InputError: responses of different shape, or orders of another number of words.
    """
    first, second, orders = np.asarray(first), np.asarray(second), np.asarray(orders)
    if first.shape != second.shape or first.ndim < 1:
        raise InputError(
            f"Matched responses came with shapes {list(first.shape)} and {list(second.shape)}; expected were "
            "equal shapes. Give each response with the one it is matched with."
        )
    n = count_words(first.shape[-1])
    if orders.ndim != 2 or orders.shape[1] != n or (np.sort(orders, axis=1) != np.arange(n)).any():
        raise InputError(
            f"Orders came with shape {list(orders.shape)} for {n} words; expected was one row per draw, in "
            "which every word stands once. Draw them with draw_orders."
        )
    flat = [rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1]) for rows in (first, second)]
    products = np.empty((len(flat[0]), len(orders)))
    rows, columns = np.triu_indices(n, 1)
    moved = np.empty(len(rows))
    for begin in range(0, len(flat[0]), BLOCK):
        own = flat[0][begin : begin + BLOCK].astype(np.float64)
        other = unpack_gram(flat[1][begin : begin + BLOCK].astype(np.float64), n).reshape(len(own), n * n)
        for number, order in enumerate(orders):
            places = order[rows] * n + order[columns]
            for place, (one, two) in enumerate(zip(own, other, strict=True)):
                np.take(two, places, out=moved, mode="clip")
                products[begin + place, number] = one @ moved
    norms = [measure_norms(rows) / math.sqrt(2) for rows in flat]
    return _divide(products, (norms[0] * norms[1])[:, None]).reshape(*first.shape[:-1], len(orders))


def number_pairs(one: NDArray[np.integer], two: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """Where the pair of two different words, in either order, stands in a packed matrix of n words."""
    low = np.minimum(one, two).astype(np.int64)
    high = np.maximum(one, two).astype(np.int64)
    return low * (2 * n - low - 3) // 2 + high - 1


def count_words(pairs: int) -> int:
    """N of packed responses with M = N (N - 1) / 2 numbers.

    Raises:
        InputError: no whole number of words, or fewer than 4.
    """
    n = (1 + math.isqrt(1 + 8 * pairs)) // 2
    if n * (n - 1) // 2 != pairs:
        raise InputError(
            f"A packed response came with {pairs} numbers; expected were N (N - 1) / 2 for a whole number of "
            "words N. Give responses as pack_gram makes them."
        )
    check_words(n)
    return n


def check_words(n: int) -> None:
    """Refuse a word list that is too short for the statistic.

    Raises:
        InputError: fewer than 4 words.
    """
    if n < LEAST_WORDS:
        raise InputError(
            f"Responses were to be compared over {n} word{'' if n == 1 else 's'}; expected were "
            f"{LEAST_WORDS} or more, since centring leaves nothing of fewer. Read more words."
        )


def _widen(tensor: "Tensor") -> "Tensor":
    """In float64, on the host where the device has none."""
    import torch

    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.to(torch.float64)


def _normalise_rows(y: "Tensor") -> "Tensor":
    import torch

    # Sums over strided rows may round otherwise, and equal rows have to stay equal.
    rows = _widen(y).contiguous()
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms == 0, torch.ones_like(norms), norms)


def _split(plus: "Tensor", minus: "Tensor", zero: "Tensor") -> tuple["Tensor", "Tensor"]:
    """[k, N, N] odd and even parts, from rows of length 1."""
    mean, half = (plus + minus) / 2, (plus - minus) / 2
    shift = mean - zero
    product = mean @ half.transpose(-1, -2)
    odd = product + product.transpose(-1, -2)
    product = (zero + shift / 2) @ shift.transpose(-1, -2)
    return odd, product + product.transpose(-1, -2) + half @ half.transpose(-1, -2)


def _center_packed(packed: NDArray[np.floating], n: int) -> NDArray[np.float64]:
    import torch

    return pack_gram(center_gram(torch.from_numpy(unpack_gram(packed.astype(np.float64), n)))).numpy()


def _divide(products: NDArray[np.float64], norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines; 0 where a norm is, and refused where a number is not finite."""
    if not np.isfinite(norms).all():
        raise InputError(
            "Responses came with values that are not finite numbers; expected were numbers. Use smaller "
            "doses, or float32 where the model runs in half precision."
        )
    cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return np.clip(cosines, -1.0, 1.0)
