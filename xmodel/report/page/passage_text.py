"""A passage as columns: words of the run, words left out and gaps, each with both models' tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.extract import EXCLUDED_FIRST, EXCLUDED_MASSIVE
from xmodel.datasets.words import find_whitespace
from xmodel.records import TokenFlag
from xmodel.report.page.texts import show_plain
from xmodel.report.visible import show_bytes

_MOST_WORD, _MOST_TOKEN = 60, 24
# Characters of a word, and of a token, that are shown.
MOST_TOKENS = 20
"""Tokens of a column that are shown: a word may have thousands."""
_PLAIN = re.compile(rb"[ -~]+")
_ISOLATES = str.maketrans("", "", "\u2068\u2069")
# The page isolates every text by <bdi>.


@dataclass(frozen=True, eq=False)
class Tokens:
    """One model's tokens of a document."""

    ids: NDArray[np.int32]
    """[N]"""
    starts: NDArray[np.int64]
    """[N] first byte in the document; never decreasing."""
    ends: NDArray[np.int64]
    """[N] one past the last byte."""
    flags: NDArray[np.uint8]
    """[N] `TokenFlag` bits."""
    excluded: NDArray[np.uint8]
    """[N] why a token stands for no word, 0 where it does."""


@dataclass(frozen=True)
class Token:
    """A token in a column."""

    text: str
    """Its bytes, spaces as ·, parts of characters as ‹E2 82›; ∅ if it has none."""
    id: int
    start: int
    end: int
    marks: tuple[str, ...]
    """Of `MARKS`."""


@dataclass(frozen=True)
class Column:
    """Some bytes of the passage with the tokens that cover them."""

    kind: str
    """``word`` (a word or words joined to one), ``out`` (not in the run), ``gap`` (no word's bytes)."""
    text: str
    start: int
    end: int
    group: int | None
    """The word's number in the run's table of groups of its document."""
    marks: tuple[str, ...]
    """Of `MARKS`."""
    tokens: tuple[tuple[Token, ...], tuple[Token, ...]]
    """A's and B's, `MOST_TOKENS` of each at most."""
    hidden: tuple[int, int]
    """How many more there are."""


MARKS = {
    "rewritten": "the tokenizer's normaliser rewrote these bytes before it cut them",
    "unknown": "the model's unknown token: its bytes are known from its neighbours only",
    "deleted": "bytes that no token of this model stands for: its normaliser deleted them",
    "joined": "words that one token touches together, joined to one",
    "out": "not among the run's words",
    "first": "at a first position of its window, which stands for no word",
    "massive": "massive activation, which stands for no word",
    "oversized": "in no window: its word is longer than a model's context",
    "literal": "a special token spelled out in the text",
    "partial": "part of a character",
    "prefix": "carries a space that the tokenizer put before the text",
    "inserted": "put in by the tokenizer, no bytes of the text",
    "shared": "shared with another column",
}
"""What is marked, and what it means."""
INEXACT = frozenset({"rewritten", "unknown", "deleted"})
"""The marks of stretches whose spans are not exact."""
_EXCLUDED = {EXCLUDED_FIRST: "first", EXCLUDED_MASSIVE: "massive"}
_FLAGS = {
    "rewritten": TokenFlag.REWRITTEN,
    "unknown": TokenFlag.UNKNOWN,
    "literal": TokenFlag.LITERAL_SPECIAL,
    "partial": TokenFlag.PARTIAL,
    "prefix": TokenFlag.PREFIX,
    "inserted": TokenFlag.TEMPLATE,
}


@dataclass(frozen=True)
class _Unit:
    kind: str
    start: int
    end: int
    group: int | None


_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Places:
    at: dict[int, NDArray[np.int64]]
    shared: set[int]


def build_columns(
    data: bytes,
    bounds: tuple[int, int],
    words: Sequence[tuple[int, int, int]],
    rule_ends: NDArray[np.int64],
    tokens: tuple[Tokens, Tokens],
) -> list[Column]:
    """Lay out some bytes of a document.

    Args:
        data: the whole document, UTF-8.
        bounds: first byte and one past the last; no word of the run lies across them.
        words: start, end and group of the run's words within, ascending and disjoint.
        rule_ends: [R] where the words of the rule end, before any were joined; ascending.
        tokens: A's and B's of the whole document.
    """
    units = _find_units(data, bounds, words)
    places = [_assign(units, bounds, own, len(data)) for own in tokens]
    columns: list[Column] = []
    for number, unit in enumerate(units):
        before = [
            (int(own.starts[one]), int(own.ends[one]))
            for own, where in zip(tokens, places, strict=True)
            for one in where.at.get(2 * number, _NONE).tolist()
        ]
        if before:
            low, high = min(low for low, _ in before), max(high for _, high in before)
            gap = _Unit("gap", low, high, None)
            columns.append(_build(data, gap, rule_ends, tokens, places, 2 * number))
        if unit.kind != "end":
            columns.append(_build(data, unit, rule_ends, tokens, places, 2 * number + 1))
    return columns


def count_inexact(columns: Sequence[Column]) -> int:
    """Columns in which a span of either model is not exact."""
    return sum(
        bool(INEXACT & {*one.marks, *(m for side in one.tokens for t in side for m in t.marks)})
        for one in columns
    )


def _find_units(data: bytes, bounds: tuple[int, int], words: Sequence[tuple[int, int, int]]) -> list[_Unit]:
    """The run's words, and between them the stretches of other bytes that are not whitespace."""
    units: list[_Unit] = []
    cursor = bounds[0]
    for start, end, group in words:
        units += [_Unit("out", low, high, None) for low, high in _find_stretches(data, cursor, start)]
        units.append(_Unit("word", start, end, group))
        cursor = end
    units += [_Unit("out", low, high, None) for low, high in _find_stretches(data, cursor, bounds[1])]
    # Tokens after the last word have a gap to be in.
    return [*units, _Unit("end", bounds[1], bounds[1], None)]


def _find_stretches(data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    if start >= end:
        return []
    solid = ~find_whitespace(np.frombuffer(data[start:end], dtype=np.uint8))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], solid.view(np.int8), [0]]))) + start
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _assign(units: Sequence[_Unit], bounds: tuple[int, int], own: Tokens, size: int) -> _Places:
    """Which of one model's tokens stand where: 2 u + 1 is unit u, 2 u the gap before it."""
    starts = np.array([unit.start for unit in units], dtype=np.int64)
    ends = np.array([unit.end for unit in units], dtype=np.int64)
    low = int(np.searchsorted(own.starts, bounds[0], side="left"))
    while low > 0 and own.ends[low - 1] > bounds[0]:
        low -= 1
    high = len(own.ids) if bounds[1] == size else int(np.searchsorted(own.starts, bounds[1], side="left"))
    begins, stops = own.starts[low:high], own.ends[low:high]
    first = np.searchsorted(ends, begins, side="right")
    last = np.searchsorted(starts, stops, side="left") - 1
    solid = (stops > begins) & (first <= last)
    at = np.where(solid, 2 * first + 1, 2 * np.minimum(first, len(units) - 1))
    tokens = np.arange(low, high)
    shared = np.flatnonzero(solid & (last > first))
    for one in shared.tolist():
        more = 2 * np.arange(first[one] + 1, last[one] + 1) + 1
        at = np.concatenate([at, more])
        tokens = np.concatenate([tokens, np.full(len(more), low + one)])
    order = np.lexsort((tokens, at))
    at, tokens = at[order], tokens[order]
    edges = np.flatnonzero(np.diff(at, prepend=-1))
    parts = np.split(tokens, edges[1:]) if len(edges) else []
    return _Places(dict(zip(at[edges].tolist(), parts, strict=True)), set((low + shared).tolist()))


def _build(
    data: bytes,
    unit: _Unit,
    rule_ends: NDArray[np.int64],
    tokens: tuple[Tokens, Tokens],
    places: Sequence[_Places],
    place: int,
) -> Column:
    taken = [own.at.get(place, _NONE) for own in places]
    marks = []
    if unit.kind == "word" and _holds_several(rule_ends, unit):
        marks.append("joined")
    if unit.kind == "out":
        marks.append("out")
    if unit.kind != "gap" and any(
        len(own.ids) and _misses_bytes(data, unit, own, mine) for own, mine in zip(tokens, taken, strict=True)
    ):
        marks.append("deleted")
    first, second = (
        tuple(_describe(data, own, one, one in where.shared) for one in mine[:MOST_TOKENS].tolist())
        for own, mine, where in zip(tokens, taken, places, strict=True)
    )
    hidden = [max(0, len(mine) - MOST_TOKENS) for mine in taken]
    return Column(
        unit.kind,
        _show(data, unit),
        unit.start,
        unit.end,
        unit.group,
        tuple(marks),
        (first, second),
        (hidden[0], hidden[1]),
    )


def _show(data: bytes, unit: _Unit) -> str:
    if unit.kind == "gap":
        return ""
    # Of a word of a million characters only the beginning is looked at.
    return show_plain(
        data[unit.start : min(unit.end, unit.start + 8 * _MOST_WORD)].decode("utf-8", "ignore"), _MOST_WORD
    )


def _holds_several(rule_ends: NDArray[np.int64], unit: _Unit) -> bool:
    """Whether a word of the rule ends within, before the unit does."""
    first = int(np.searchsorted(rule_ends, unit.start, side="right"))
    return first < len(rule_ends) and int(rule_ends[first]) < unit.end


def _misses_bytes(data: bytes, unit: _Unit, own: Tokens, mine: NDArray[np.int64]) -> bool:
    """Whether bytes of a unit that are not whitespace are in none of one model's tokens."""
    reached = np.maximum.accumulate(np.concatenate([[unit.start], own.ends[mine]]))
    following = np.minimum(np.concatenate([own.starts[mine], [unit.end]]), unit.end)
    holes = np.flatnonzero(following > reached)
    return any(_find_stretches(data, int(reached[hole]), int(following[hole])) for hole in holes.tolist())


def _describe(data: bytes, own: Tokens, token: int, shared: bool) -> Token:
    start, end = int(own.starts[token]), int(own.ends[token])
    bits, excluded = int(own.flags[token]), int(own.excluded[token])
    marks = [name for name, flag in _FLAGS.items() if bits & flag]
    if excluded:
        marks.append(_EXCLUDED.get(excluded, "oversized"))
    if shared:
        marks.append("shared")
    return Token(_spell(data, start, end), int(own.ids[token]), start, end, tuple(marks))


def _spell(data: bytes, start: int, end: int) -> str:
    if start == end:
        return "∅"
    own = data[start : min(end, start + _MOST_TOKEN + 1)]
    if len(own) <= _MOST_TOKEN and _PLAIN.fullmatch(own):
        return own.decode().replace(" ", "·")  # what `show_bytes` makes of it, many times faster
    return show_bytes(data, start, end, most=_MOST_TOKEN).plain.translate(_ISOLATES)
