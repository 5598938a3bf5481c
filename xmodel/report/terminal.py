"""The picture of an alignment for a terminal: words, and under each the tokens of every tokenizer."""

import re
from collections.abc import Sequence
from itertools import cycle, islice

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xmodel.records import Alignment, Certificate, TokenFlag
from xmodel.report.columns import MARKED, Cell, Column, Piece, Vocabulary, build_columns
from xmodel.report.visible import ELLIPSIS, FAINT, shorten, show_bytes, show_text

LEGEND = {
    "^": "a token of several words",
    "~": "rewritten by the normaliser; shown as the vocabulary has it, placed as a whole",
    "x": "deleted by the normaliser; no token has it",
    "?": "an unknown token, or one with two readings",
    "!": "a special token that the text spells out",
    "-": "left out, because a token covers parts of several words",
}
"""What the signs under words and tokens mean."""
_SIGN_LEGEND = {
    "⁀": "words joined, because a token covers parts of both",
    "×": "the share of the token's bytes that is the word's",
    "‹›": "bytes of a character that several tokens share",
}
_PARTIAL = re.compile("‹[0-9A-F]{2}\\b")
_BAR = "│"
_COLUMN_GAP = "  "
_TOKEN_LINES = 4
_MOST_RANGES = 5


def render_alignment(
    alignment: Alignment,
    vocabularies: Sequence[Vocabulary],
    *,
    width: int = 80,
    words: int | None = 200,
) -> RenderableType:
    """Draw one text's words over the tokens of every tokenizer, and a table of how exact they are.

    Nothing of the text reaches the terminal as it is unless it is harmless and has a width: see
    `xmodel.report.visible`.

    Args:
        alignment: one text and its tokens.
        vocabularies: [M] for each tokenizer how to name an id, `Tokenizer.token_name`; used for tokens
            that the text's bytes cannot show.
        width: cells per line, 20 or more.
        words: how many words to draw, or None for all. The table is always about the whole text.
    """
    width = max(20, width)
    names = _shorten_names(alignment.tokenizers, max(6, width // 4))
    indent = max(map(cell_len, names), default=0) + len(_COLUMN_GAP)
    room = width - indent - 1
    columns = build_columns(alignment, vocabularies, words=words, width=room)
    parts: list[RenderableType] = [_describe_text(alignment, words)]
    for block in _pack_columns(columns, room):
        parts.append(Text())
        parts.extend(_draw_block(block, names, indent, room))
    parts.extend(_draw_legend(columns, split=alignment.groups.straddle == "split"))
    parts.append(Text())
    parts.append(_draw_table(alignment, names, width))
    parts.extend(_list_ranges(alignment, names, width))
    return Group(*parts)


def _describe_text(alignment: Alignment, words: int | None) -> Text:
    count, groups = len(alignment.words), len(alignment.groups)
    size = len(alignment.text.encode())
    parts = [f"{size:,} {_plural(size, 'byte')}", f"{count:,} {_plural(count, 'word')}"]
    if any(spans.certificate.status == "failed" for spans in alignment.spans):
        parts.append("excluded, since a tokenizer failed")
    elif groups != count:
        parts.append(f"{groups:,} {_plural(groups, 'group')}")
    if alignment.words.rule != "default":
        parts.append(f"words by {show_text(alignment.words.rule).plain}")
    if words is not None and words < count:
        parts.append(f"the first {words:,} words shown")
    return Text(", ".join(parts), FAINT)


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _shorten_names(names: Sequence[str], most: int) -> list[str]:
    """Names that fit the left margin; of a long id the end says more than the beginning."""
    shown = [show_text(name.removeprefix("builtin:")).plain.replace("·", " ") for name in names]
    return [name if cell_len(name) <= most else ELLIPSIS + name[-(most - 1) :] for name in shown]


def _cell_width(cell: Cell) -> int:
    return max(0, sum(_piece_width(piece) + 1 for piece in cell.pieces) - 1)


def _piece_width(piece: Piece) -> int:
    return max(cell_len(piece.label.plain), len(piece.marks))


def _column_width(column: Column) -> int:
    return max([cell_len(column.words.plain), 1, *map(_cell_width, column.cells)])


def _pack_columns(columns: Sequence[Column], room: int) -> list[list[Column]]:
    blocks: list[list[Column]] = []
    used = 0
    for column in columns:
        needed = _column_width(column) + len(_COLUMN_GAP)
        if not blocks or used + needed > room + len(_COLUMN_GAP):
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += needed
    return blocks


def _draw_block(block: Sequence[Column], names: Sequence[str], indent: int, room: int) -> list[Text]:
    widths = [min(room, _column_width(column)) for column in block]
    heading = [shorten(column.words, width) for column, width in zip(block, widths, strict=True)]
    marks = [
        Text(column.word_marks * cell_len(label.plain), MARKED)
        for column, label in zip(block, heading, strict=True)
    ]
    lines = []
    if any(label.plain for label in heading):
        lines.append(_join_cells(Text(" " * indent), heading, widths))
    if any(mark.plain for mark in marks):
        lines.append(_join_cells(Text(" " * indent), marks, widths))
    for number, name in enumerate(names):
        wrapped = [
            _wrap_cell(column.cells[number], width) for column, width in zip(block, widths, strict=True)
        ]
        for line in range(max(map(len, wrapped))):
            here = [rows[line] if line < len(rows) else (Text(), Text()) for rows in wrapped]
            margin = Text(name if line == 0 else "", "cyan")
            margin.append(" " * (indent - cell_len(margin.plain)))
            lines.append(_join_cells(margin, [tokens for tokens, _ in here], widths))
            if any(mark.plain.strip() for _, mark in here):
                lines.append(_join_cells(Text(" " * indent), [mark for _, mark in here], widths))
    return lines


def _join_cells(margin: Text, cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore", end="\n")
    line.append_text(margin)
    for cell, width in zip(cells, widths, strict=True):
        line.append_text(cell)
        line.append(" " * (width - cell_len(cell.plain)) + _COLUMN_GAP)
    line.rstrip()
    return line


def _wrap_cell(cell: Cell, width: int) -> list[tuple[Text, Text]]:
    """The lines of a cell, each with the line of marks under it."""
    lines: list[tuple[Text, Text]] = [(Text(), Text())]
    used = 0
    for number, piece in enumerate(cell.pieces):
        needed = _piece_width(piece) + (1 if used else 0)
        if used and used + needed > width:
            if len(lines) == _TOKEN_LINES:
                hidden = cell.hidden + len(cell.pieces) - number
                lines[-1] = (_end_line(lines[-1][0], hidden, width), lines[-1][1])
                return lines
            lines.append((Text(), Text()))
            used, needed = 0, _piece_width(piece)
        tokens, marks = lines[-1]
        if used:
            tokens.append(_BAR, FAINT)
            marks.append(" ")
        label = shorten(piece.label, width)
        own = max(cell_len(label.plain), len(piece.marks))
        tokens.append_text(label)
        tokens.append(" " * (own - cell_len(label.plain)))
        marks.append("".join(islice(cycle(piece.marks or " "), own)), MARKED)
        used += needed
    return lines


def _end_line(tokens: Text, hidden: int, width: int) -> Text:
    """Put the number of tokens that are not shown at the end of the last line."""
    note = f"{ELLIPSIS}+{hidden:,}"
    room = width - len(note) - 1
    return shorten(tokens, room).append(" ").append(note, FAINT)


def _draw_legend(columns: Sequence[Column], *, split: bool) -> list[Text]:
    """One line for every sign that occurs, and for no other."""
    pieces = [piece for column in columns for cell in column.cells for piece in cell.pieces]
    present = {mark for column in columns for mark in column.word_marks}
    present |= {mark for piece in pieces for mark in piece.marks}
    lines = {mark: text for mark, text in LEGEND.items() if mark in present}
    if any("⁀" in column.words.plain for column in columns):
        lines["⁀"] = _SIGN_LEGEND["⁀"]
    if split and "^" in present:
        lines["×"] = _SIGN_LEGEND["×"]
    if any(_PARTIAL.search(piece.label.plain) for piece in pieces):
        lines["‹›"] = _SIGN_LEGEND["‹›"]
    drawn = [Text()] if lines else []
    for mark, text in lines.items():
        line = Text(f"{mark} ", MARKED, no_wrap=False)
        line.append(text, FAINT)
        drawn.append(line)
    return drawn


def _draw_table(alignment: Alignment, names: Sequence[str], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD if width >= 60 else None, pad_edge=False, show_edge=False)
    table.add_column("tokenizer", no_wrap=True)
    table.add_column("tokens", justify="right")
    table.add_column("per word", justify="right")
    table.add_column("certificate" if width >= 50 else "status")
    for name, spans in zip(names, alignment.spans, strict=True):
        added = int(((spans.flags & TokenFlag.TEMPLATE) != 0).sum())
        own = len(spans) - added
        status = spans.certificate.status
        table.add_row(
            Text(name, "cyan"),
            Text(f"{own:,}" + (f" + {added:,}" if added else "")),
            Text(f"{own / len(alignment.words):.2f}" if len(alignment.words) else "-"),
            Text(status, "green" if status == "exact" else "red" if status == "failed" else MARKED),
        )
    return table


def _list_ranges(alignment: Alignment, names: Sequence[str], width: int) -> list[Text]:
    """The stretches that are not exact, the first few of each tokenizer."""
    data = alignment.text.encode()
    lines: list[Text] = []
    for name, spans in zip(names, alignment.spans, strict=True):
        certificate = spans.certificate
        if certificate.reason:
            lines.append(
                Text(f"{name}: ", "cyan").append(show_text(certificate.reason).plain.replace("·", " "))
            )
        stretches = _join_ranges(certificate)
        for start, end, kind in stretches[:_MOST_RANGES]:
            line = Text(f"{name}: ", "cyan").append(kind, MARKED).append(f" bytes {start:,}-{end:,} ", FAINT)
            line.append_text(show_bytes(data, start, end, most=max(8, width // 3)))
            lines.append(line)
        if len(stretches) > _MOST_RANGES:
            more = len(stretches) - _MOST_RANGES
            lines.append(Text(f"{name}: ", "cyan").append(f"and {more:,} more", FAINT))
    return [Text(), *lines] if lines else []


def _join_ranges(certificate: Certificate) -> list[tuple[int, int, str]]:
    """Ranges with their kinds, those that touch and are of one kind as one."""
    joined: list[tuple[int, int, str]] = []
    for (start, end), kind in zip(certificate.ranges, certificate.kinds, strict=True):
        if joined and joined[-1][1:] == (start, kind):
            start = joined.pop()[0]
        joined.append((start, end, kind))
    return joined
