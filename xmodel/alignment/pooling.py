"""Which token row stands for a word: the choice, and what it has read that it should not have."""

import numpy as np
from numpy.typing import NDArray

from xmodel.records import Alignment


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
