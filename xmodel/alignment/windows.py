"""Cut a long document so that the same words fit every model's context.

Cuts lie only where no token of any model crosses, and windows slice the document's own ids: nothing is
tokenized again, no word is whole in one model and cut in another.
"""

from collections.abc import Sequence

import numpy as np

from xmodel.alignment.groups import group_flat, map_words
from xmodel.datasets.words import find_whitespace
from xmodel.errors import InputError
from xmodel.records import Alignment, Groups, TokenFlag, Windows


def cut_windows(
    alignment: Alignment, limits: Sequence[int], *, most_groups: int | None = None
) -> tuple[Windows, Groups]:
    """Cut a document greedily into the longest windows that fit every model.

    Args:
        alignment: the document. Tokens that its template inserted (BOS, EOS) are in no window.
        limits: [M] most tokens of a window per tokenizer; leave room for BOS and EOS yourself.
        most_groups: most groups of a window, if wanted.

    Returns:
        The windows, and the groups that their group numbers refer to: always those of ``merge``, since a
        cut between words that one token joins would cut that token's words in every model. A text whose
        certificate is ``failed`` for some tokenizer has no groups, and so no windows.

    Raises:
        InputError: for limits below 1, or not one per tokenizer.
    """
    if len(limits) != len(alignment.spans):
        raise InputError(
            f"{len(limits)} window limits came for {len(alignment.spans)} tokenizers: give one for each."
        )
    for limit in (*limits, *(() if most_groups is None else (most_groups,))):
        if not isinstance(limit, int | np.integer) or isinstance(limit, bool) or limit < 1:
            raise InputError(
                f"a window limit of {limit!r} came; every limit must be a whole number of tokens or groups, "
                "at least 1."
            )
    groups = merge_groups(alignment)
    stops = np.stack([_count_stops(alignment, groups, model) for model in range(len(limits))], axis=1)
    leads = [
        int(np.argmin(_inserted(alignment, m))) if len(alignment.spans[m]) else 0 for m in range(len(limits))
    ]
    begins = np.concatenate([np.array([leads], dtype=np.int64), stops])[:-1]
    return _cut(stops, begins, np.asarray(limits), most_groups or len(groups), len(groups)), groups


def merge_groups(alignment: Alignment) -> Groups:
    """The groups of an alignment under ``merge``, whatever policy it was made with."""
    if alignment.groups.straddle == "merge":
        return alignment.groups
    if any(span.certificate.status == "failed" for span in alignment.spans):
        return alignment.groups
    buffer = np.frombuffer(alignment.text.encode(), dtype=np.uint8)
    words = map_words(alignment.words.starts, alignment.words.ends, find_whitespace(buffer), len(buffer))
    flat = group_flat(words, [(span.starts, span.ends) for span in alignment.spans], "merge")
    return Groups(flat.starts, flat.ends, flat.first_word, flat.last_word, flat.members, "merge")


def _inserted(alignment: Alignment, model: int) -> np.ndarray:
    return (alignment.spans[model].flags & np.uint8(TokenFlag.TEMPLATE)) > 0


def _count_stops(alignment: Alignment, groups: Groups, model: int) -> np.ndarray:
    """[G] one past the last token that a model has read by the end of each group."""
    members = groups.members[model]
    stops = np.zeros(len(groups), dtype=np.int64)
    filled = members.indptr[1:] > members.indptr[:-1]
    stops[filled] = members.tokens[members.indptr[1:][filled] - 1] + 1
    lead = int(np.argmin(_inserted(alignment, model))) if len(alignment.spans[model]) else 0
    return np.maximum.accumulate(np.maximum(stops, lead)) if len(stops) else stops


def _cut(stops: np.ndarray, begins: np.ndarray, limits: np.ndarray, most: int, count: int) -> Windows:
    sizes = stops - begins
    too_long = np.flatnonzero((sizes > limits).any(axis=1))
    rows: list[tuple[int, int]] = []
    for low, high in zip([0, *(too_long + 1).tolist()], [*too_long.tolist(), count], strict=True):
        group = low
        while group < high:
            budget = begins[group] + limits
            reach = min(
                int(np.searchsorted(stops[:, m], budget[m], side="right")) for m in range(len(limits))
            )
            stop = min(reach, group + most, high)
            rows.append((group, stop))
            group = stop
    first = np.array([row[0] for row in rows], dtype=np.int64)
    stop = np.array([row[1] for row in rows], dtype=np.int64)
    models = len(limits)
    return Windows(
        first,
        stop,
        begins[first] if len(first) else np.zeros((0, models), dtype=np.int64),
        stops[stop - 1] if len(first) else np.zeros((0, models), dtype=np.int64),
        too_long,
    )
