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
    ByteCuts,
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


@dataclass(frozen=True, eq=False)
class _Fit:
    """Ids laid over a rewritten text: P of the ids stand for some of it."""

    inserted: NDArray[np.bool_]
    """[N] which ids have no bytes."""
    own: NDArray[np.int64]
    """[P] the others."""
    low: NDArray[np.int64]
    """[P] first byte in the rewritten text."""
    high: NDArray[np.int64]
    """[P] one past the last."""
    unknown: NDArray[np.bool_]
    """[P] which are unknown tokens."""
    doubtful: NDArray[np.bool_]
    """[P] which have two readings."""


def locate_text(
    tokenizer: Tokenizer, text: str, ids: NDArray[np.int64], template: NDArray[np.bool_] | None
) -> TokenSpans:
    """The second and third tier, for one text; spans are byte offsets in the text."""
    replayed = tokenizer.replay(text)
    fit = _fit_ids(tokenizer, ids, replayed, template)
    if isinstance(fit, str):
        nothing = np.zeros(len(ids), dtype=np.int64)
        certificate = Certificate("failed", ((0, len(text.encode())),), ("unknown",), fit)
        return TokenSpans(ids, nothing, nothing, np.zeros(len(ids), dtype=np.uint8), certificate)
    cuts = find_byte_cuts(text, replayed)
    starts = np.zeros(len(ids), dtype=np.int64)
    ends = np.zeros(len(ids), dtype=np.int64)
    starts[fit.own] = cuts.before[np.searchsorted(cuts.after, fit.low, side="right") - 1]
    ends[fit.own] = cuts.before[np.searchsorted(cuts.after, fit.high, side="left")]
    ends = np.maximum(starts, ends)
    place_inserted(starts, ends, fit.inserted, np.zeros(len(ids), dtype=np.int64))
    spans = np.stack([starts, ends], axis=1)
    notable = {
        DELETED: find_covered(cuts.dropped_spaces, spans[fit.own]),
        AMBIGUOUS: join_overlapping(spans[fit.own[fit.doubtful]]),
        UNKNOWN: join_overlapping(spans[fit.own[fit.unknown]]),
    }
    ranges = [cuts.ranges, *notable.values()]
    kinds = [cuts.kinds, *(np.full(len(own), kind, dtype=np.uint8) for kind, own in notable.items())]
    flags = _flag_tokens(tokenizer, ids, fit, cuts, spans)
    return TokenSpans(ids, starts, ends, flags, make_certificate(ranges, kinds))


def _fit_ids(
    tokenizer: Tokenizer, ids: NDArray[np.int64], replayed: Replayed, template: NDArray[np.bool_] | None
) -> _Fit | str:
    """Lay ids over the rewritten text; or say where they part."""
    native = replayed.rewriting.text.encode("utf-8", "surrogatepass")
    inserted = find_inserted(tokenizer, ids, replayed) if template is None else template
    own, low, high, matches = _match_native(tokenizer, ids, inserted, native)
    if template is None and not matches:
        padded = _strip_padding(tokenizer, ids, inserted)
        stripped = _match_native(tokenizer, ids, padded, native)
        if stripped[3]:
            inserted = padded
            own, low, high, matches = stripped
    nowhere = np.zeros(len(own), dtype=np.bool_)
    if matches and not (tokenizer.spelling.flags[ids[own]] & np.uint8(TokenFlag.UNKNOWN)).any():
        return _Fit(inserted, own, low, high, nowhere, nowhere)
    found = match_around_unknowns(tokenizer, ids[own], native, replayed)
    return found if isinstance(found, str) else _Fit(inserted, own, *found)


def _flag_tokens(
    tokenizer: Tokenizer, ids: NDArray[np.int64], fit: _Fit, cuts: ByteCuts, spans: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """[N] what is particular about each token, given where everything lies."""
    implied = tokenizer.spelling.flags[ids]
    flags = implied & np.uint8(TokenFlag.PARTIAL)
    flags[fit.inserted] = TokenFlag.TEMPLATE
    literal = np.isin(fit.low, cuts.literals) & (fit.high > fit.low) & ~fit.unknown
    literal &= (implied[fit.own] & np.uint8(TokenFlag.LITERAL_SPECIAL)) > 0
    flags[fit.own[literal]] |= np.uint8(TokenFlag.LITERAL_SPECIAL)
    flags[fit.own[fit.unknown]] |= np.uint8(TokenFlag.UNKNOWN)
    if len(fit.own):
        holder = np.clip(np.searchsorted(fit.low, cuts.inserted, side="right") - 1, 0, len(fit.own) - 1)
        flags[fit.own[holder]] |= np.uint8(TokenFlag.PREFIX)
    rewritten = cuts.ranges[cuts.kinds == REWRITTEN]
    place = np.searchsorted(rewritten[:, 1], spans[:, 0], side="right")
    begins = np.append(rewritten[:, 0], np.iinfo(np.int64).max)
    flags[begins[place] < spans[:, 1]] |= np.uint8(TokenFlag.REWRITTEN)
    return flags


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


def _strip_padding(
    tokenizer: Tokenizer, ids: NDArray[np.int64], inserted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Some models pad with their unknown token: take runs of it at either end as inserted."""
    unknown = (tokenizer.spelling.flags[ids] & np.uint8(TokenFlag.UNKNOWN)) > 0
    ordinary = np.flatnonzero(~(unknown | inserted))
    padded = inserted.copy()
    if len(ordinary):
        padded[: ordinary[0]] = padded[ordinary[-1] + 1 :] = True
    return padded
