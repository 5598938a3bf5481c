"""From token rows to word rows: which tokens stand for a word, and how their rows become one."""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import pick_rows
from xmodel.errors import InputError
from xmodel.records import Alignment, Members

if TYPE_CHECKING:
    import torch

Pooling = Literal["last", "mean", "sum", "max", "first", "bytes"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def check_pooling(pooling: str) -> None:
    """Refuse a pooling that does not exist."""
    if pooling not in POOLINGS:
        raise InputError(f"unknown pooling {pooling!r}: choose one of {', '.join(POOLINGS)}.")


def choose_last_tokens(alignment: Alignment, model: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The last token of every group: the only one that has read the whole group.

    Args:
        alignment: one text.
        model: the tokenizer's number.

    Returns:
        [G] token index, -1 where the group has no token under this tokenizer; and [G] whether that
        token also covers bytes past the group's end, such as the newlines in ``."`` + newlines, or the
        next word's bytes under ``split``.
    """
    groups, spans = alignment.groups, alignment.spans[model]
    members = groups.members[model]
    filled = members.indptr[1:] > members.indptr[:-1]
    last = np.full(len(groups), -1, dtype=np.int64)
    last[filled] = members.tokens[members.indptr[1:][filled] - 1]
    past = np.zeros(len(groups), dtype=np.bool_)
    past[filled] = spans.ends[last[filled]] > groups.ends[filled]
    return last, past


def keep_entries(members: Members, kept: NDArray[np.bool_], pooling: Pooling) -> Members:
    """The entries that pooling will look at: those that are kept, and of these the last or the first.

    Args:
        members: which tokens belong to which group.
        kept: [E] per entry; one that is not kept is as if the word had no such token.
        pooling: ``last`` and ``first`` leave one entry per group, so that no row is encoded for nothing.

    Returns:
        The members that remain, for the same groups, some of which may be empty now.
    """
    indptr = np.concatenate([[0], np.cumsum(kept)])[members.indptr]
    entries = np.flatnonzero(kept)
    if pooling in ("last", "first"):
        filled = indptr[1:] > indptr[:-1]
        entries = entries[(indptr[1:] - 1 if pooling == "last" else indptr[:-1])[filled]]
        indptr = np.concatenate([[0], np.cumsum(filled)])
    return Members(indptr.astype(np.int64), members.tokens[entries], members.weights[entries])


def take_groups(members: Members, groups: NDArray[np.int64]) -> Members:
    """The members of some groups, in the order given."""
    indptr, entries = pick_rows(members.indptr, groups)
    return Members(indptr, members.tokens[entries], members.weights[entries])


def pool_rows(
    rows: "torch.Tensor",
    members: Members,
    bytes_of: NDArray[np.int64],
    pooling: Pooling,
    signed: bool = False,
) -> "torch.Tensor":
    """Make one row per group.

    With w the share of a token in the group (1 but under ``split``) and b the token's non-whitespace
    bytes: ``mean`` is sum(w x) / sum(w), ``sum`` is sum(w x), ``bytes`` is sum(w b x) / sum(w b),
    ``max`` is the x of largest magnitude of any token of the group, with its sign, dimension by dimension
    and whatever its share: a plain maximum of signed values would grow with the number of tokens.

    Args:
        rows: [E, d] one row per entry of `members`, in its order.
        members: [G] groups, none of them empty.
        bytes_of: [E] non-whitespace bytes of each entry's token.
        signed: whether rows may be negative; only ``max`` needs to know.
        pooling: how; for ``last`` and ``first`` there must be one entry per group.

    Returns:
        [G, d], of the type and on the device of `rows`.
    """
    import torch

    counts = np.diff(members.indptr)
    if pooling in ("last", "first") or (pooling != "sum" and (counts == 1).all()):
        return rows
    offsets = torch.as_tensor(members.indptr, device=rows.device)
    if pooling == "max":
        highest = torch.segment_reduce(rows, "max", offsets=offsets, axis=0)
        if not signed:
            return highest
        lowest = torch.segment_reduce(rows, "min", offsets=offsets, axis=0)
        return torch.where(highest >= -lowest, highest, lowest)
    weights = members.weights * bytes_of if pooling == "bytes" else np.asarray(members.weights)
    if not (weights == 1).all():
        rows = rows * torch.as_tensor(weights, dtype=rows.dtype, device=rows.device)[:, None]
    pooled = torch.segment_reduce(rows, "sum", offsets=offsets, axis=0)
    if pooling == "sum":
        return pooled
    totals = np.add.reduceat(weights, members.indptr[:-1])
    return pooled / torch.as_tensor(totals, dtype=rows.dtype, device=rows.device)[:, None]
