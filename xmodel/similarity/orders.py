"""Orders of rows: shuffled pairs, and circular shifts of words.

An order is a row permutation: where `orders[i]` is applied, row j of the second matrix becomes its row
`orders[i, j]`. A test by permutation is exact where the data are as likely in any of the orders as they are
in their own, so what must not be torn apart (strata of frequency, pairs that share a partner, neighbouring
words) has to be said here.
"""

import math

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError

SHORT_DOCUMENT = 50
"""Median words per document below which shifts go along the concatenation."""
COUNTABLE = 1 << 40
"""Most possible shifts that are numbered, so as to draw none twice; among more, repeats are rare enough."""


def draw_orders(
    n: int,
    count: int,
    rng: np.random.Generator,
    *,
    strata: NDArray[np.integer] | None = None,
    groups: NDArray[np.integer] | None = None,
) -> NDArray[np.int64]:
    """Shuffle rows, within strata and group by group where asked.

    Orders are uniform over all allowed ones, the identity included (Phipson and Smyth, Stat. Appl. Genet.
    Mol. Biol. 9:39, 2010). How many are drawn at a time makes no difference: two calls for 5 and 7 give the
    12 orders of one call.

    Args:
        n: rows.
        count: orders to draw.
        rng: source of random numbers.
        strata: [n] rows move only within their stratum, for instance of frequency.
        groups: [n] rows that share a partner, as in many-to-one pairs. A group's rows go, in their order,
            to the rows of another group of the same size and stratum, so that duplicates stay duplicates.
            A group that is the only one of its size and stratum stays where it is.

    Returns:
        [count, n] row orders.

    Raises:
        InputError: fewer than 1 row or 0 orders, labels of another length, or a group in two strata.
    """
    if n < 1 or count < 0:
        raise InputError(
            f"Orders of {n} rows were asked for, {count} of them; expected were 1 row or more and 0 orders "
            "or more. Give at least one row."
        )
    strata = None if strata is None else _check_labels(strata, n, "strata")
    if groups is None:
        return _shuffle(n, count, rng, strata)
    groups = _check_labels(groups, n, "groups")
    rows = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[rows], return_index=True, return_counts=True)
    kinds = sizes
    if strata is not None:
        own = strata[rows][starts]
        torn = np.repeat(own, sizes) != strata[rows]
        if torn.any():
            row = int(rows[torn][0])
            raise InputError(
                f"Row {row} is of group {groups[row]}, whose rows are in different strata; expected were "
                "groups that lie within one stratum. Cut the strata by a property of the shared partner."
            )
        kinds = np.unique(np.stack([own, sizes]), axis=1, return_inverse=True)[1].reshape(-1)
    moved = _shuffle(len(sizes), count, rng, kinds)
    group_of_row = np.repeat(np.arange(len(sizes)), sizes)
    place_in_group = np.arange(n) - starts[group_of_row]
    orders = np.empty((count, n), np.int64)
    orders[:, rows] = rows[starts[moved[:, group_of_row]] + place_in_group]
    return orders


def draw_shifts(
    lengths: NDArray[np.integer], count: int, rng: np.random.Generator, *, within: bool | None = None
) -> NDArray[np.int64]:
    """Shift words in a circle, as row orders, see `draw_offsets`.

    Returns:
        [count, n] row orders of the n words of all documents; none is the identity.

    Raises:
        InputError: as `draw_offsets`.
    """
    return shift_rows(lengths, draw_offsets(lengths, count, rng, within=within))


def draw_offsets(
    lengths: NDArray[np.integer], count: int, rng: np.random.Generator, *, within: bool | None = None
) -> NDArray[np.int64]:
    """By how much to shift words in a circle, against the other model's words.

    What one model does from word to word, with all its autocorrelation, stays as it is; only what both do at
    the same word is broken. Shifts are uniform over all but the identity (a single document may stay in
    place, never all of them), and those of one call are different from each other as long as they can be
    numbered; the test is then exact for data that do not care where the circle begins (Harris, bioRxiv
    2020.08.13.249573; Hemerik and Goeman, TEST 27:811, 2018). Shifts of separate calls may coincide, by
    which P(p <= alpha) can exceed alpha by one part in the number of possible shifts.

    Args:
        lengths: [D] words per document, in the order of the rows.
        count: shifts to draw.
        rng: source of random numbers.
        within: True for a shift of its own within each document, False for one along the concatenation of
            all; None for within, unless there are fewer than 2 documents or their median is shorter than
            `SHORT_DOCUMENT` words.

    Returns:
        [count, D] words to shift each document by, or [count, 1] along the concatenation, for `shift_rows`.

    Raises:
        InputError: no words, or fewer different shifts than asked for.
    """
    lengths = _check_lengths(lengths)
    if within is None:
        within = len(lengths) >= 2 and float(np.median(lengths)) >= SHORT_DOCUMENT
    circles = lengths if within else lengths.sum(keepdims=True)
    possible = math.prod(circles.tolist())
    if possible - 1 < max(count, 1):
        place = "within these documents" if within else "along the concatenation"
        raise InputError(
            f"Of {lengths.sum()} words in {len(lengths)} documents, {count} different circular shifts "
            f"{place} were asked for; there are {possible - 1}. Ask for fewer permutations, or "
            "give more words."
        )
    if possible <= COUNTABLE:
        numbers = rng.choice(possible - 1, count, replace=False) + 1
        return np.stack(np.unravel_index(numbers, tuple(circles)), axis=1).astype(np.int64)
    offsets = rng.integers(0, circles, (count, len(circles)))
    while len(still := np.flatnonzero(~offsets.any(axis=1))):
        offsets[still] = rng.integers(0, circles, (len(still), len(circles)))
    return offsets


def count_lengths(documents: NDArray[np.integer]) -> NDArray[np.int64]:
    """[D] words per document, from the document of every word; documents without words are left out.

    Args:
        documents: [n] ascending, from 0.
    """
    ends = np.flatnonzero(np.diff(documents, append=-1)) + 1
    return np.diff(ends, prepend=0).astype(np.int64)


def shift_rows(lengths: NDArray[np.integer], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row orders of circular shifts.

    Args:
        lengths: [D] words per document, in the order of the rows.
        offsets: [count, D] by how many words each document is shifted, or [count, 1] for one shift of all
            words along the concatenation.

    Returns:
        [count, n] row orders.

    Raises:
        InputError: no words, or offsets of another number of documents.
    """
    lengths = _check_lengths(lengths)
    if offsets.ndim != 2 or offsets.shape[1] not in (1, len(lengths)):
        raise InputError(
            f"Offsets came with shape {list(offsets.shape)} for {len(lengths)} documents; expected was one "
            "row per shift, with one number per document or one for all. Draw them for the same documents."
        )
    circles = lengths if offsets.shape[1] == len(lengths) else lengths.sum(keepdims=True)
    circle_of_row = np.repeat(np.arange(len(circles)), circles)
    starts = (np.cumsum(circles) - circles)[circle_of_row]
    places = np.arange(len(circle_of_row)) - starts
    orders = offsets[:, circle_of_row]
    orders += places
    orders %= circles[circle_of_row]
    orders += starts
    return orders


def _shuffle(
    n: int, count: int, rng: np.random.Generator, strata: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """[count, n] uniform orders within strata, the same for any division into calls."""
    if strata is None or (strata == strata[0]).all():
        return rng.permuted(np.broadcast_to(np.arange(n), (count, n)), axis=1)
    labels = np.unique(strata, return_inverse=True)[1].reshape(-1)
    places = np.argsort(labels, kind="stable")
    # Sorting random keys plus the stratum's number shuffles within all strata at once.
    sources = np.argsort(rng.random((count, n)) + labels, axis=1)
    orders = np.empty((count, n), np.int64)
    orders[:, places] = sources
    return orders


def _check_labels(labels: NDArray[np.integer], n: int, name: str) -> NDArray[np.int64]:
    labels = np.asarray(labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"The {name} came as {labels.dtype} of shape {list(labels.shape)} for {n} rows; expected was one "
            "integer per row. Number them from 0."
        )
    return labels.astype(np.int64)


def _check_lengths(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer) or lengths.size == 0:
        raise InputError(
            f"Words per document came as {lengths.dtype} of shape {list(lengths.shape)}; expected was one "
            "integer per document. Give the number of words of every document, in order."
        )
    if lengths.min() < 1:
        raise InputError(
            f"Document {int(lengths.argmin())} came with {int(lengths.min())} words; expected was 1 or more. "
            "Leave documents without words out."
        )
    return lengths.astype(np.int64)
