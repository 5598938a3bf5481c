"""From ids and a text to byte spans and a certificate, for one tokenizer.

Three tiers, each only for what the one before could not prove:

1. All texts at once: the ids' bytes, laid end to end, are the text (`matching.py`).
2. One text: the tokenizer's rewriting is replayed with every character accounted for
   (`preprocessing.py`), the ids' bytes are compared with the rewritten text, and spans are carried back.
3. Unknown tokens, whose bytes no id tells: what stands between them is found in the rewritten text
   (`unknown.py`), and they take the stretches in between.

Nothing here needs the tokenizer's offsets, so ids from a cache, a generation or a slow tokenizer get
the same spans as freshly encoded ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.certificates import (
    AMBIGUOUS,
    DELETED,
    EXACT,
    REWRITTEN,
    UNKNOWN,
    find_byte_cuts,
    find_covered,
    join_overlapping,
    make_certificate,
)
from xmodel.alignment.matching import PAD, match_flat
from xmodel.alignment.preprocessing import Replayed
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.alignment.unknown import match_around_unknowns
from xmodel.records import Certificate, TokenFlag, TokenSpans


@dataclass(frozen=True, eq=False)
class FlatTexts:
    """Several texts in one byte buffer, with a space before, between and after them."""

    texts: Sequence[str]
    buffer: NDArray[np.uint8]
    """[B + PAD] the UTF-8 bytes."""
    starts: NDArray[np.int64]
    """[T] first byte of each text in the buffer."""
    ends: NDArray[np.int64]
    """[T] one past its last byte."""


@dataclass(frozen=True, eq=False)
class FlatSpans:
    """The spans of several texts under one tokenizer, in coordinates of the shared buffer."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    flags: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    """[T + 1] text t owns tokens ``bounds[t]:bounds[t + 1]``."""
    certificates: list[Certificate]


def locate_flat(
    tokenizer: Tokenizer,
    texts: FlatTexts,
    ids: NDArray[np.int64],
    counts: NDArray[np.int64],
    template: NDArray[np.bool_] | None,
) -> FlatSpans:
    """Find the bytes of every token of several texts.

    Args:
        tokenizer: whose ids these are.
        texts: the texts, in one buffer.
        ids: [N] all ids, one text after another.
        counts: [T] ids per text.
        template: [N] True where the tokenizer's template inserted the id; None if that is not known and
            must be found out from the text.

    Returns:
        Spans in buffer coordinates; spans of failed texts are empty.
    """
    spelling = tokenizer.spelling
    inserted = spelling.special[ids] if template is None else template
    bounds = np.concatenate([[0], np.cumsum(counts)])
    flags = spelling.flags[ids]
    if inserted.any():
        starts, ends, matches = _match_without(tokenizer, texts, ids, counts, inserted)
        flags[inserted] = TokenFlag.TEMPLATE
    else:
        starts, ends, matches = _match_texts(tokenizer, texts, ids, counts)
    matches &= ~_has_unknown(flags, bounds)
    certificates = [EXACT] * len(texts.texts)
    if tokenizer.prefix != "never":
        first = starts < np.repeat(texts.starts, counts)
        flags[first] |= np.uint8(TokenFlag.PREFIX)
        starts = np.where(first, np.repeat(texts.starts, counts), starts)
        ends = np.maximum(ends, starts)
    for number in np.flatnonzero(~matches).tolist():
        low, high = int(bounds[number]), int(bounds[number + 1])
        own = None if template is None else template[low:high]
        spans = locate_text(tokenizer, texts.texts[number], ids[low:high], own)
        starts[low:high] = spans.starts + texts.starts[number]
        ends[low:high] = spans.ends + texts.starts[number]
        flags[low:high] = spans.flags
        certificates[number] = spans.certificate
    return FlatSpans(ids, starts, ends, flags, bounds, certificates)


def _has_unknown(flags: NDArray[np.uint8], bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[T] texts with an unknown token: its spelling may fit by accident, so the second tier decides."""
    unknown = np.flatnonzero(flags & np.uint8(TokenFlag.UNKNOWN))
    found = np.zeros(len(bounds) - 1, dtype=np.bool_)
    found[np.searchsorted(bounds, unknown, side="right") - 1] = True
    return found


def _match_texts(
    tokenizer: Tokenizer, texts: FlatTexts, ids: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    sizes = texts.ends - texts.starts
    leads = np.zeros(len(sizes), dtype=np.int64)
    if tokenizer.prefix != "never":
        leads[sizes > 0] = 1
        if tokenizer.prefix == "unless_space":
            leads[texts.buffer[texts.starts] == ord(" ")] = 0
    return match_flat(tokenizer.spelling.text, ids, counts, texts.buffer, texts.starts - leads, sizes + leads)


def _match_without(
    tokenizer: Tokenizer,
    texts: FlatTexts,
    ids: NDArray[np.int64],
    counts: NDArray[np.int64],
    inserted: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Match the ids that stand for text; the inserted ones get no bytes, where the next token begins."""
    own = ~inserted
    text_of = np.repeat(np.arange(len(counts)), counts)
    kept = np.bincount(text_of[own], minlength=len(counts))
    some_starts, some_ends, matches = _match_texts(tokenizer, texts, ids[own], kept)
    # Spans of texts that do not match mean nothing, and must not reach into the texts after them.
    lost = ~matches[text_of[own]]
    some_starts[lost] = some_ends[lost] = texts.starts[text_of[own]][lost]
    starts = np.zeros(len(ids), dtype=np.int64)
    ends = np.zeros(len(ids), dtype=np.int64)
    starts[own], ends[own] = some_starts, some_ends
    place_inserted(starts, ends, inserted, np.repeat(texts.starts, counts))
    return starts, ends, matches


def place_inserted(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    inserted: NDArray[np.bool_],
    origin: NDArray[np.int64],
) -> None:
    """Put every inserted token, with zero bytes, where the token before it ends (in place)."""
    ends[inserted] = 0
    reached = np.maximum(np.maximum.accumulate(ends), origin)
    starts[inserted] = ends[inserted] = reached[inserted]


def locate_text(
    tokenizer: Tokenizer, text: str, ids: NDArray[np.int64], template: NDArray[np.bool_] | None
) -> TokenSpans:
    """The second and third tier, for one text; spans are byte offsets in the text."""
    replayed = tokenizer.replay(text)
    native = replayed.rewriting.text.encode("utf-8", "surrogatepass")
    inserted = find_inserted(tokenizer, ids, replayed) if template is None else template
    size = len(text.encode())
    own, low, high, matches = _match_native(tokenizer, ids, inserted, native)
    if template is None and not matches:
        padded = inserted.copy()
        _strip_padding(tokenizer, ids, padded)
        stripped = _match_native(tokenizer, ids, padded, native)
        if stripped[3]:
            inserted = padded
            own, low, high, matches = stripped
    unknown = doubtful = np.zeros(len(own), dtype=np.bool_)
    candidates = (tokenizer.spelling.flags[ids[own]] & np.uint8(TokenFlag.UNKNOWN)) > 0
    if not matches or candidates.any():
        found = match_around_unknowns(tokenizer, ids[own], native, replayed)
        if isinstance(found, str):
            nothing = np.zeros(len(ids), dtype=np.int64)
            certificate = Certificate("failed", ((0, size),), ("unknown",), found)
            return TokenSpans(ids, nothing, nothing, np.zeros(len(ids), dtype=np.uint8), certificate)
        low, high, unknown, doubtful = found
    cuts = find_byte_cuts(text, replayed)
    starts = np.zeros(len(ids), dtype=np.int64)
    ends = np.zeros(len(ids), dtype=np.int64)
    starts[own] = cuts.before[np.searchsorted(cuts.after, low, side="right") - 1]
    ends[own] = np.maximum(cuts.before[np.searchsorted(cuts.after, high, side="left")], starts[own])
    place_inserted(starts, ends, inserted, np.zeros(len(ids), dtype=np.int64))

    flags = tokenizer.spelling.flags[ids] & ~np.uint8(TokenFlag.UNKNOWN | TokenFlag.LITERAL_SPECIAL)
    flags[inserted] = TokenFlag.TEMPLATE
    literal = np.isin(low, cuts.literals) & (high > low)
    literal &= (tokenizer.spelling.flags[ids[own]] & np.uint8(TokenFlag.LITERAL_SPECIAL)) > 0
    literal &= ~unknown
    flags[own[literal]] |= np.uint8(TokenFlag.LITERAL_SPECIAL)
    flags[own[unknown]] |= np.uint8(TokenFlag.UNKNOWN)
    if len(own):
        holder = np.clip(np.searchsorted(low, cuts.inserted, side="right") - 1, 0, len(own) - 1)
        flags[own[holder]] |= np.uint8(TokenFlag.PREFIX)
    rewritten = cuts.ranges[cuts.kinds == REWRITTEN]
    place = np.searchsorted(rewritten[:, 1], starts, side="right")
    begins = np.append(rewritten[:, 0], size)
    flags[begins[place] < ends] |= np.uint8(TokenFlag.REWRITTEN)
    ranges = [cuts.ranges]
    kinds = [cuts.kinds]
    spans = np.stack([starts, ends], axis=1)
    inside = find_covered(cuts.dropped_spaces, spans[own])
    for stretches, kind in (
        (inside, DELETED),
        (join_overlapping(spans[own[doubtful]]), AMBIGUOUS),
        (join_overlapping(spans[own[unknown]]), UNKNOWN),
    ):
        ranges.append(stretches)
        kinds.append(np.full(len(stretches), kind, dtype=np.uint8))
    return TokenSpans(ids, starts, ends, flags, make_certificate(ranges, kinds))


def _match_native(
    tokenizer: Tokenizer, ids: NDArray[np.int64], inserted: NDArray[np.bool_], native: bytes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], bool]:
    """Lay the ids that stand for text over the rewritten text: places, starts, ends, whether it fits."""
    own = np.flatnonzero(~inserted)
    low, high, matches = match_flat(
        tokenizer.spelling.native,
        ids[own],
        np.array([len(own)]),
        np.frombuffer(native + bytes(PAD), dtype=np.uint8),
        np.zeros(1, dtype=np.int64),
        np.array([len(native)]),
    )
    return own, low, high, bool(matches[0])


def find_inserted(tokenizer: Tokenizer, ids: NDArray[np.int64], replayed: Replayed) -> NDArray[np.bool_]:
    """Which special ids have no bytes, when only ids and text are known.

    A special id stands for text only where the text has its spelling. If there are more ids than spellings,
    the tokenizer's own template is tried first, then outermost ids at both ends (padding, BOS, EOS), then
    any that match no spelling (chat formats, generated end markers).
    """
    special = np.flatnonzero(tokenizer.spelling.special[ids])
    wanted = [found.id for found in replayed.literals if tokenizer.spelling.special[found.id]]
    present = ids[special].tolist()
    inserted = np.zeros(len(ids), dtype=np.bool_)
    before, after = tokenizer.template
    inner = slice(len(before), len(ids) - len(after))
    if (*ids[: inner.start].tolist(), *ids[inner.stop :].tolist()) == (*before, *after):
        own = ids[inner]
        if own[tokenizer.spelling.special[own]].tolist() == wanted:
            inserted[: inner.start] = inserted[inner.stop :] = True
            return inserted
    low, high = _find_edges(tokenizer.spelling.special[ids])
    surplus = len(present) - len(wanted)
    for front in range(min(surplus, int(np.searchsorted(special, low))), -1, -1):
        back = special[front + len(wanted) :]
        if present[front : front + len(wanted)] == wanted and (not len(back) or back[0] >= high):
            inserted[special[:front]] = True
            inserted[back] = True
            return inserted
    place = 0
    for index, token in zip(special.tolist(), present, strict=True):
        if place < len(wanted) and wanted[place] == token:
            place += 1
        else:
            inserted[index] = True
    return inserted


def _find_edges(special: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the first ordinary id is, and one past the last."""
    ordinary = np.flatnonzero(~special)
    return (int(ordinary[0]), int(ordinary[-1]) + 1) if len(ordinary) else (len(special), 0)


def _strip_padding(tokenizer: Tokenizer, ids: NDArray[np.int64], inserted: NDArray[np.bool_]) -> None:
    """Some models pad with their unknown token: take runs of it at either end as inserted (in place)."""
    unknown = (tokenizer.spelling.flags[ids] & np.uint8(TokenFlag.UNKNOWN)) > 0
    ordinary = np.flatnonzero(~(unknown | inserted))
    if len(ordinary):
        inserted[: ordinary[0]] = inserted[ordinary[-1] + 1 :] = True
