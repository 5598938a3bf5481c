"""Where unknown tokens stand, when only their neighbours' bytes are known.

The known tokens between two unknown ones spell a string; the unknown stretch ends where that string
begins. How far a stretch may reach follows from the model: WordPiece gives up on a whole piece of the
pre-tokenizer, BPE on one character, Unigram (and BPE with ``fuse_unk``) on a run of characters that
its vocabulary has not.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.preprocessing import Replayed
from xmodel.alignment.rewriting import byte_offsets, code_points
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.records import TokenFlag

_MOST_STEPS = 200_000
_get_start, _get_end = itemgetter(0), itemgetter(1)

Span = tuple[int, int]
Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]
"""Starts, ends, which tokens are unknown, and which have two readings."""


def match_around_unknowns(
    tokenizer: Tokenizer, ids: NDArray[np.int64], native: bytes, replayed: Replayed
) -> Found | str:
    """Lay ids over the rewritten text `native`, unknown tokens taking what the others leave.

    Returns:
        starts, ends [N] in `native`, [N] which tokens are unknown and which have two readings; or a
        sentence on why it failed.
    """
    table = tokenizer.spelling.native
    unknown = (tokenizer.spelling.flags[ids] & np.uint8(TokenFlag.UNKNOWN)) > 0
    spelled = [table[token] for token in ids.tolist()]
    literals = _find_literal_unknowns(tokenizer, replayed)
    doubtful = np.zeros(len(ids), dtype=np.bool_)
    if int(unknown.sum()) == len(literals):
        doubtful[_read_literal_byte_tokens(tokenizer, ids, spelled, native)] = True
    found: list[Span] | str = ""
    for strict in (True, False):
        search = _Search(tokenizer, native, replayed, spelled, unknown, strict=strict)
        found = _fit_around_literals(search, literals)
        if not isinstance(found, str):
            starts, ends = np.array(found, dtype=np.int64).reshape(-1, 2).T
            return starts, ends, search.unknown, doubtful
        if not unknown.any():
            break
    return found


def _fit_around_literals(search: "_Search", literals: list[Span]) -> list[Span] | str:
    """A text may itself contain the spelling of the unknown token, which then stands for those bytes."""
    spans: list[Span] = []
    token = place = 0
    for begin, end in literals:
        for choice in (np.flatnonzero(search.unknown[token:]) + token).tolist():
            found = search.fit(token, choice, place, begin)
            if not isinstance(found, str):
                break
        else:
            return f"no id is left for the unknown token's spelling at byte {begin} of the rewritten text"
        spans += [*found, (begin, end)]
        search.unknown[choice] = False
        token, place = choice + 1, end
    found = search.fit(token, len(search.spelled), place, len(search.native))
    return found if isinstance(found, str) else [*spans, *found]


def _find_literal_unknowns(tokenizer: Tokenizer, replayed: Replayed) -> list[Span]:
    flag = np.uint8(TokenFlag.UNKNOWN)
    literals = [found for found in replayed.literals if tokenizer.spelling.flags[found.id] & flag]
    if not literals:
        return []
    offsets = byte_offsets(code_points(replayed.rewriting.text))
    return [(int(offsets[found.native_start]), int(offsets[found.native_stop])) for found in literals]


def _read_literal_byte_tokens(
    tokenizer: Tokenizer, ids: NDArray[np.int64], spelled: list[bytes], native: bytes
) -> list[int]:
    """A text that contains ``<0x41>`` may get that very token, which then stands for six bytes (in place)."""
    place, changed = 0, []
    for number, token in enumerate(ids.tolist()):
        name = tokenizer.spelling.strings[token].encode("utf-8", "surrogatepass")
        if len(name) == 6 and len(spelled[number]) == 1 and native.startswith(name, place):
            spelled[number] = name
            changed.append(number)
        place += len(spelled[number])
    return changed


class _Search:
    """Fits tokens, some of them unknown, between two places of a rewritten text.

    Strictly, a stretch ends where the model's rule says; ids that the model would not have made for this
    text (generated or edited ones) may need the looser search, for which any end will do.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        native: bytes,
        replayed: Replayed,
        spelled: list[bytes],
        unknown: NDArray[np.bool_],
        *,
        strict: bool,
    ) -> None:
        self.strict = strict
        self.native, self.spelled, self.unknown = native, spelled, unknown.copy()
        self.rule, self.alphabet = tokenizer.unknown_rule, tokenizer.alphabet
        self._replayed = replayed

    def fit(self, first: int, stop: int, low: int, high: int) -> list[Span] | str:
        """Spans of tokens ``first:stop`` that together cover ``low:high`` of the rewritten text."""
        marks = np.diff(np.concatenate([[False], self.unknown[first:stop], [False]]).astype(np.int8))
        edges = (np.flatnonzero(marks) + first).tolist()
        groups = list(zip(edges[::2], edges[1::2], strict=True))
        bounds = [first, *edges, stop]
        known = [b"".join(self.spelled[a:b]) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
        ends = self._search(groups, known, low, high)
        if isinstance(ends, str):
            return ends
        spans: list[Span] = []
        place, token = low, first
        for (begin_token, stop_token), end in zip(groups, ends, strict=True):
            place = self._lay(spans, token, begin_token, place)
            spans += self._share(stop_token - begin_token, place, end)
            place, token = end, stop_token
        self._lay(spans, token, stop, place)
        return spans

    def _lay(self, spans: list[Span], first: int, stop: int, place: int) -> int:
        for spelled in self.spelled[first:stop]:
            spans.append((place, place + len(spelled)))
            place += len(spelled)
        return place

    def _search(self, groups: list[Span], known: list[bytes], low: int, high: int) -> list[int] | str:
        """Where each stretch ends, depth-first, nearest end first."""
        place = low + len(known[0])
        fits = self.native.startswith(known[0], low) and place <= high
        if not groups:
            return [] if fits and place == high else self._part_ways(known[0], low, high)
        if not fits:
            return self._part_ways(known[0], low, high)
        stack = [self._ends(groups, known, 0, place, high)]
        chosen: list[int] = []
        furthest = place
        for _ in range(_MOST_STEPS):
            end = next(stack[-1], None)
            if end is None:
                stack.pop()
                if not stack:
                    return self._explain(furthest)
                chosen.pop()
                continue
            depth = len(stack)
            place = end + len(known[depth])
            furthest = max(furthest, place)
            if depth < len(groups):
                chosen.append(end)
                stack.append(self._ends(groups, known, depth, place, high))
            elif place == high:
                return [*chosen, end]
        return f"unknown tokens could not be placed within {_MOST_STEPS} steps"

    def _ends(
        self, groups: list[Span], known: list[bytes], number: int, begin: int, high: int
    ) -> Iterator[int]:
        """Where the stretch of a group that begins at `begin` may end, likeliest first."""
        count = groups[number][1] - groups[number][0]
        following = known[number + 1]
        sure = self._sure_end(count, begin)
        if sure is not None and sure <= high and self.native.startswith(following, sure):
            yield sure
        if sure is not None and self.strict:
            return
        limit = min(self._unspellable_end(begin, high), high) if self.strict else high
        if number + 1 == len(groups):
            end = high - len(following)
            if begin < end <= limit and end != sure and self.native.startswith(following, end):
                yield end
            return
        end = begin
        while (end := self.native.find(following, end + 1, min(limit + len(following), high))) > 0:
            if end != sure and self.native[end] & 0xC0 != 0x80:
                yield end

    def _sure_end(self, count: int, begin: int) -> int | None:
        """The end that the model's rule prescribes, if it prescribes one."""
        if self.rule == "piece":
            last = bisect_right(self.pieces, begin, key=_get_end) + count - 1
            return self.pieces[last][1] if last < len(self.pieces) else None
        if self.rule == "character":
            end = begin
            for _ in range(count):
                end += _character_size(self.native, end)
            return end
        return None

    def _unspellable_end(self, begin: int, high: int) -> int:
        end = begin
        while end < high:
            size = _character_size(self.native, end)
            if self.native[end : end + size] in self.alphabet:
                break
            end += size
        return max(end, begin + _character_size(self.native, begin))

    @cached_property
    def pieces(self) -> list[Span]:
        """The pre-tokenizer's pieces in bytes of the rewritten text."""
        offsets = byte_offsets(code_points(self._replayed.rewriting.text))
        return [(int(offsets[a]), int(offsets[b])) for a, b in self._replayed.find_pieces()]

    def _pieces_between(self, begin: int, end: int) -> list[Span]:
        low = bisect_right(self.pieces, begin, key=_get_end)
        return self.pieces[low : bisect_left(self.pieces, end, lo=low, key=_get_start)]

    def _share(self, count: int, begin: int, end: int) -> list[Span]:
        """Spread a stretch over its unknown tokens where one reading is certain; else all carry it all."""
        if count == 1:
            return [(begin, end)]
        pieces = [(max(low, begin), min(high, end)) for low, high in self._pieces_between(begin, end)]
        if self.rule == "piece" and len(pieces) == count:
            return pieces
        edges = [begin]
        while edges[-1] < end:
            edges.append(edges[-1] + _character_size(self.native, edges[-1]))
        if len(edges) - 1 == count:
            return list(pairwise(edges))
        return pieces if len(pieces) == count else [(begin, end)] * count

    def _part_ways(self, known: bytes, low: int, high: int) -> str:
        """Why known bytes do not cover ``low:high``."""
        span = self.native[low:high]
        size = min(len(known), len(span))
        differs = np.frombuffer(known[:size], np.uint8) != np.frombuffer(span[:size], np.uint8)
        if differs.any():
            return self._explain(low + int(np.argmax(differs)))
        what = "the ids end where the text goes on" if len(known) < len(span) else "ids are left at its end"
        return f"{self._explain(low + size)}; {what}"

    def _explain(self, place: int) -> str:
        """A sentence that names the character of the user's text where ids and text part."""
        rewriting = self._replayed.rewriting
        before, after = rewriting.cuts()
        offsets = byte_offsets(code_points(rewriting.text))
        native = int(np.searchsorted(offsets, place, side="right")) - 1
        character = int(before[np.searchsorted(after, native, side="right") - 1])
        shown = rewriting.text[max(native - 10, 0) : native + 20]
        return f"the ids do not spell the text: they part at character {character}, near {shown!r}"


def _character_size(text: bytes, place: int) -> int:
    """Bytes of the character that begins at `place`."""
    if place >= len(text):
        return 1
    lead = text[place]
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
