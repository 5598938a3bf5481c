"""An alignment as columns: groups with each tokenizer's tokens, and the gaps between them."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from xmodel.records import Alignment, TokenFlag
from xmodel.report.visible import FAINT, shorten, show_bytes, show_text

MARKED = "yellow"
_WORD = "bold"
_UNREAD = int(TokenFlag.UNKNOWN | TokenFlag.REWRITTEN)
_JOIN = "⁀"

Vocabulary = Callable[[int], str]
"""From an id to the vocabulary's own string, `Tokenizer.token_name`."""

_Weighted = list[tuple[int, float]]
"""Token indices, ascending, with their weights."""


@dataclass(frozen=True)
class Piece:
    """One token as it stands in a cell, or a stretch that the normaliser deleted."""

    label: Text
    marks: str
    """The signs to put under it, of `xmodel.report.terminal.LEGEND`."""


@dataclass(frozen=True)
class Cell:
    """One tokenizer's tokens in one column."""

    pieces: tuple[Piece, ...]
    hidden: int = 0
    """How many more tokens there are than pieces."""


@dataclass(frozen=True)
class Column:
    """A group, a run of words that are in no group, or (without words) a gap between them."""

    words: Text
    word_marks: str
    cells: tuple[Cell, ...]
    """[M] one per tokenizer."""


@dataclass(frozen=True)
class _Unit:
    first: int
    last: int
    group: int | None


class _Row:
    """One tokenizer's spans as Python lists, with the words that every token touches."""

    def __init__(self, alignment: Alignment, model: int, vocabulary: Vocabulary, end: int | None):
        spans, members = alignment.spans[model], alignment.groups.members[model]
        words = alignment.words
        stop = len(spans) if end is None else int(spans.starts.searchsorted(end, "left"))
        starts, ends = spans.starts[:stop], spans.ends[:stop]
        self.ids: list[int] = spans.ids[:stop].tolist()
        self.starts: list[int] = starts.tolist()
        self.ends: list[int] = ends.tolist()
        self.flags: list[int] = spans.flags[:stop].tolist()
        # A word neither begins nor ends with whitespace, so a token that reaches from one word into
        # another has non-whitespace bytes of both.
        self.first_word: list[int] = words.ends.searchsorted(starts, "right").tolist()
        self.last_word: list[int] = (words.starts.searchsorted(ends, "left") - 1).tolist()
        self.failed = spans.certificate.status == "failed"
        self.vocabulary = vocabulary
        self.members = members
        marked = list(zip(spans.certificate.ranges, spans.certificate.kinds, strict=True))
        self.deleted = [span for span, kind in marked if kind == "deleted"]
        self.unsure = [span for span, kind in marked if kind in ("ambiguous", "unknown")]
        self.next = 0

    def straddles(self, token: int) -> bool:
        return self.starts[token] < self.ends[token] and self.first_word[token] < self.last_word[token]

    def has_bytes(self, token: int) -> bool:
        """Whether the token's own bytes are known, so that the text can show it."""
        return self.starts[token] < self.ends[token] and not self.flags[token] & _UNREAD

    def shows_end(self, own: tuple[int, float], end: int) -> bool:
        """Whether a token is shown by its bytes, and these end here."""
        return self.has_bytes(own[0]) and self.ends[own[0]] == end and own[1] == 1

    def shows_start(self, own: tuple[int, float], start: int) -> bool:
        """Whether a token is shown by its bytes, and these start here."""
        return self.has_bytes(own[0]) and self.starts[own[0]] == start and own[1] == 1

    def find_crossing(self, word: int, start: int) -> bool:
        """Whether a token reaches from the word's end into the next word, which begins at `start`."""
        token = bisect_left(self.starts, start) - 1
        while token >= 0 and self.starts[token] == self.ends[token]:
            token -= 1
        return token >= 0 and self.straddles(token) and self.last_word[token] > word

    def take(self, unit: _Unit, start: int, end: int) -> tuple[_Weighted, _Weighted]:
        """The tokens not yet taken that precede the unit, and the unit's own with their weights."""
        if unit.group is not None:
            low, high = self.members.indptr[unit.group : unit.group + 2].tolist()
            tokens, weights = self.members.tokens[low:high], self.members.weights[low:high]
            own = list(zip(tokens.tolist(), weights.tolist(), strict=True))
        else:
            low, high = bisect_left(self.starts, start), bisect_left(self.starts, end)
            while low and self.ends[low - 1] > start:
                low -= 1
            own = [
                (token, 1.0)
                for token in range(low, high)
                if self.starts[token] < self.ends[token] and self.last_word[token] >= unit.first
            ]
        if own:
            before = list(range(self.next, own[0][0]))
            present = {token for token, _ in own}
            own += [(token, 1.0) for token in range(own[0][0], own[-1][0]) if token not in present]
            own.sort()
            self.next = max(self.next, own[-1][0] + 1)
        else:
            stop = self.next
            while stop < len(self.starts) and self.starts[stop] < start:
                stop += 1
            before = list(range(self.next, stop))
            self.next = stop
        return [(token, 1.0) for token in before], own


def build_columns(
    alignment: Alignment, vocabularies: Sequence[Vocabulary], *, words: int | None, width: int
) -> list[Column]:
    """Lay out the first words of a text.

    Args:
        alignment: one text and its tokens.
        vocabularies: [M] how to name an id of each tokenizer, for tokens that no bytes can show.
        words: how many words to show, or None for all.
        width: the most terminal cells that one word or one token may take.
    """
    data = alignment.text.encode()
    starts, ends = alignment.words.starts.tolist(), alignment.words.ends.tolist()
    stop = len(starts) if words is None else min(words, len(starts))
    end = None if stop == len(starts) else _find_end(alignment, stop)
    rows = [_Row(alignment, model, vocabulary, end) for model, vocabulary in enumerate(vocabularies)]
    columns: list[Column] = []
    for unit in _find_units(alignment, rows, starts, stop):
        start, end = starts[unit.first], ends[unit.last]
        taken = [([], []) if row.failed else row.take(unit, start, end) for row in rows]
        _append_gap(columns, data, rows, [before for before, _ in taken], width)
        cells = tuple(
            _build_cell(data, row, own, (start, end), width)
            for row, (_, own) in zip(rows, taken, strict=True)
        )
        left_out = unit.group is None and alignment.groups.straddle == "drop"
        label = _join_words(data, starts, ends, unit, width)
        if left_out:
            label.stylize("dim strike")
        columns.append(Column(label, "-" if left_out else "", cells))
    if stop == len(starts):
        rest = [
            [] if row.failed else [(token, 1.0) for token in range(row.next, len(row.ids))] for row in rows
        ]
        _append_gap(columns, data, rows, rest, width)
    return columns


def _find_end(alignment: Alignment, stop: int) -> int:
    """Where the first words end, or the group that the last of them is in."""
    if stop == 0:
        return 0
    groups = alignment.groups
    group = int(groups.first_word.searchsorted(stop - 1, "right")) - 1
    last = stop - 1 if group < 0 else max(stop - 1, int(groups.last_word[group]))
    return int(alignment.words.ends[last])


def _find_units(alignment: Alignment, rows: Sequence[_Row], starts: list[int], stop: int) -> list[_Unit]:
    """Groups, and between them the words without a group, those that a token crosses kept together."""
    groups = alignment.groups
    firsts, lasts = groups.first_word.tolist(), groups.last_word.tolist()
    units: list[_Unit] = []
    word, group = 0, 0
    while word < stop:
        if group < len(firsts) and firsts[group] == word:
            units.append(_Unit(word, lasts[group], group))
            group += 1
        else:
            end = firsts[group] if group < len(firsts) else len(starts)
            last = word
            while last + 1 < end and any(row.find_crossing(last, starts[last + 1]) for row in rows):
                last += 1
            units.append(_Unit(word, last, None))
        word = units[-1].last + 1
    return units


def _join_words(data: bytes, starts: list[int], ends: list[int], unit: _Unit, width: int) -> Text:
    label = show_bytes(data, starts[unit.first], ends[unit.first], style=_WORD, most=width)
    for word in range(unit.first + 1, min(unit.last, unit.first + width) + 1):
        label.append_text(show_bytes(data, ends[word - 1], starts[word], style=FAINT, most=width))
        label.append(_JOIN, f"bold {MARKED}")
        label.append_text(show_bytes(data, starts[word], ends[word], style=_WORD, most=width))
    return label


def _append_gap(
    columns: list[Column],
    data: bytes,
    rows: Sequence[_Row],
    taken: Sequence[_Weighted],
    width: int,
) -> None:
    if any(taken):
        cells = tuple(_build_cell(data, row, own, None, width) for row, own in zip(rows, taken, strict=True))
        columns.append(Column(Text(), "", cells))


def _build_cell(data: bytes, row: _Row, own: _Weighted, span: tuple[int, int] | None, width: int) -> Cell:
    """The pieces of one cell; `span` is the bytes of its words, or None for a gap."""
    most = 4 * width
    pieces = []
    for place, (token, weight) in enumerate(own[:most]):
        goes_on = (
            place > 0 and row.shows_end(own[place - 1], row.starts[token]),
            place + 1 < len(own) and row.shows_start(own[place + 1], row.ends[token]),
        )
        piece = _build_piece(data, row, (token, weight), goes_on, span is None, width)
        pieces.append((row.starts[token], 1, piece))
    if span is not None:
        for start, end in _find_overlapping(row.deleted, *span):
            label = show_bytes(data, start, end, style="strike", most=width)
            pieces.append((start, 0, Piece(label, "x")))
        pieces.sort(key=lambda piece: piece[:2])
    return Cell(tuple(piece for _, _, piece in pieces), max(0, len(own) - most))


def _build_piece(
    data: bytes, row: _Row, own: tuple[int, float], goes_on: tuple[bool, bool], gap: bool, width: int
) -> Piece:
    token, weight = own
    start, end, flags = row.starts[token], row.ends[token], row.flags[token]
    marks = "^" if row.straddles(token) else ""
    if flags & TokenFlag.UNKNOWN or (not flags & TokenFlag.REWRITTEN and _is_unsure(row, start, end)):
        marks += "?"
    elif flags & TokenFlag.REWRITTEN:
        marks += "~"
    if flags & TokenFlag.LITERAL_SPECIAL:
        marks += "!"
    if not row.has_bytes(token):
        style = FAINT if start == end else MARKED
        label = shorten(show_text(row.vocabulary(row.ids[token]), style=style), width)
    else:
        style = FAINT if gap else MARKED if marks else ""
        label = show_bytes(data, start, end, style=style, most=width, goes_on=goes_on)
    if weight < 1:
        label.append(f"×{weight:.2f}", FAINT)
    return Piece(label, marks)


def _is_unsure(row: _Row, start: int, end: int) -> bool:
    return start < end and bool(_find_overlapping(row.unsure, start, end))


def _find_overlapping(ranges: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Those of ascending, disjoint ranges that overlap a span."""
    first = bisect_right(ranges, start, key=lambda span: span[1])
    last = bisect_left(ranges, end, key=lambda span: span[0])
    return ranges[first:last]
