"""Lines of a page that never exceed its width, whatever text they hold."""

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from xmodel.datasets.word_kinds import fold_word
from xmodel.report.visible import ELLIPSIS, FAINT, shorten, show_text

SHARED = "bold green"
"""Words that both features of a pair have among their strongest."""
GAP = 2
"""Cells between columns."""
LEAST_ROOM = 14
"""Where less is left for a column of words, words go on lines of their own."""
_BLOCKS = " ▏▎▍▌▋▊▉█"
_SPACES = re.compile(r"(\s+)")


@dataclass(frozen=True)
class Field:
    """A column of a table."""

    title: str
    right: bool = True
    """Whether it is aligned to the right, as numbers are."""


def show_name(name: str, most: int | None = None) -> Text:
    """A name of a model, file or document: harmless, with its spaces; of a long one the end is kept."""
    shown = show_prose(name)
    return shown if most is None else fit_end(shown, most)


def show_prose(text: str, style: str = "") -> Text:
    """A text to be read: runs of whitespace are one space, or ``↵`` between paragraphs; see `show_text`."""
    shown = Text(no_wrap=True, overflow="ignore")
    for piece in _SPACES.split(text):
        if not piece.isspace():
            shown.append_text(show_text(piece, style=style))
        elif piece.count("\n") > 1:
            shown.append(" ↵ ", FAINT)
        else:
            shown.append(" ")
    return shown


def fit(shown: Text, most: int) -> Text:
    """Cut a text to `most` cells, its beginning kept."""
    return shorten(shown, most) if most > 0 else Text()


def wrap(shown: Text, most: int) -> list[Text]:
    """Break a text into lines of at most `most` cells, at spaces where there are any."""
    isolate, pop = "\u2068", "\u2069"
    lines: list[Text] = []
    while cell_len(shown.plain) > most > 0:
        plain, stop, width = shown.plain, 0, 0
        while stop < len(plain) and width + cell_len(plain[stop]) <= most:
            width += cell_len(plain[stop])
            stop += 1
        # Where the line is full just before a space, that space is the place.
        stop = max(plain.rfind(" ", 0, stop + 1), 0) or max(stop, 1)
        line, shown = shown[:stop], shown[stop:]
        if line.plain.count(isolate) > line.plain.count(pop):
            line.append(pop)
            shown = Text(isolate, no_wrap=True, overflow="ignore").append_text(shown)
        lines.append(line)
        if shown.plain.startswith(" "):
            shown = shown[1:]
    return [*lines, shown]


def fit_end(shown: Text, most: int) -> Text:
    """Cut a text to `most` cells, its end kept."""
    if cell_len(shown.plain) <= most:
        return shown
    if most < 1:
        return Text()
    isolate, pop = "\u2068", "\u2069"
    plain, width, first = shown.plain, 0, len(shown.plain)
    while first > 0 and width + cell_len(plain[first - 1]) < most:
        first -= 1
        width += cell_len(plain[first])
    rest = shown[first:]
    # A combining mark must not land on the sign for what is missing.
    while rest.plain and cell_len(rest.plain[0]) == 0 and rest.plain[0] != isolate:
        rest = rest[1:]
    cut = Text(no_wrap=True, overflow="ignore").append(ELLIPSIS, FAINT)
    if rest.plain.count(pop) > rest.plain.count(isolate):
        cut.append(isolate)
    return cut.append_text(rest)


def pad(shown: Text, cells: int, *, right: bool = False) -> Text:
    """Fill a text up to so many cells."""
    blank = " " * (cells - cell_len(shown.plain))
    padded = Text(no_wrap=True, overflow="ignore")
    if right:
        return padded.append(blank).append_text(shown)
    return padded.append_text(shown).append(blank)


def fit_words(words: Sequence[str], most: int, shared: Collection[str] = ()) -> Text:
    """As many whole words as fit, with a space between; those in `shared` (folded) are set off."""
    line = Text(no_wrap=True, overflow="ignore")
    for word in words:
        shown = show_text(word, style=SHARED if fold_word(word) in shared else "")
        room = most - cell_len(line.plain) - (1 if line.plain else 0)
        if cell_len(shown.plain) > room:
            if not line.plain:
                return fit(shown, room)
            break
        line.append(" " if line.plain else "").append_text(shown)
    return line


def find_shared(first: Sequence[str], second: Sequence[str]) -> set[str]:
    """The words that are in both lists, folded."""
    return {fold_word(word) for word in first} & {fold_word(word) for word in second}


def format_r(r: float | None, *, sign: bool = False) -> str:
    """A correlation with three decimals; ``–`` where there is none."""
    # Adding 0 to what rounds to nothing takes its sign away.
    return "–" if r is None else f"{round(r, 3) + 0.0:+.3f}" if sign else f"{round(r, 3) + 0.0:.3f}"


def format_value(value: float) -> str:
    """An activation in at most six characters."""
    size = abs(value)
    if size != 0 and not 0.01 <= size < 9999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def format_share(part: float, whole: float) -> str:
    """A share in per cent: ``<0.1%`` for what is not nothing, ``99.9%`` for what is not all."""
    percent = 100 * part / whole if whole else 0.0
    if part and percent < 0.1:
        return "<0.1%"
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f}%"
    return f"{percent:.1f}%" if percent < 10 else f"{percent:.0f}%"


def count(number: int, noun: str) -> str:
    """``1 word``, ``1,200 words``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def draw_bar(value: float, maximum: float, cells: int) -> Text:
    """A bar of the value's share of the maximum, in eighths of a cell; always at least a sliver if not 0."""
    share = min(1.0, abs(value / maximum)) if maximum else 0.0
    eighths = max(1, round(share * cells * 8)) if value and math.isfinite(share) else 0
    full, rest = divmod(eighths, 8)
    bar = "█" * full + (_BLOCKS[rest] if rest else "")
    return Text(bar.ljust(cells), "green" if value >= 0 else "red", no_wrap=True)


def draw_heading(title: str) -> list[Text]:
    """A blank line and a heading."""
    return [Text(), Text(title, "bold")]


def draw_table(
    fields: Sequence[Field],
    rows: Sequence[Sequence[Text]],
    words: Sequence[str],
    lists: Sequence[Sequence[Callable[[int], Text]]],
    width: int,
) -> list[Text]:
    """Draw a table: columns that are as wide as they must be, and columns of words that share the rest.

    Args:
        fields: the fixed columns.
        rows: their cells.
        words: titles of the columns of words.
        lists: for each row and each column of words, what draws it into a given number of cells.
        width: cells per line. Where columns of words would be too narrow they become lines of their own, and
            the last fixed columns go where even those do not fit.
    """
    widths = [
        max([cell_len(one.title), *(cell_len(row[place].plain) for row in rows)])
        for place, one in enumerate(fields)
    ]
    while len(widths) > 1 and sum(widths) + GAP * (len(widths) - 1) > width:
        widths.pop()
    fields, rows = fields[: len(widths)], [row[: len(widths)] for row in rows]
    fixed = sum(widths) + GAP * (len(widths) - 1)
    room = (width - fixed) // max(1, len(words)) - GAP
    beside = room >= LEAST_ROOM
    heading = [Text(one.title, FAINT) for one in fields]
    lines = [_join(fields, heading, widths)]
    if beside:
        for title in words:
            lines[0].append(" " * GAP).append_text(pad(fit(Text(title, FAINT), room), room))
        lines[0].rstrip()
    for row, own in zip(rows, lists, strict=True):
        line = _join(fields, row, widths)
        if beside:
            for draw in own:
                line.append(" " * GAP).append_text(pad(draw(room), room))
            line.rstrip()
        lines.append(line)
        if not beside:
            for title, draw in zip(words, own, strict=True):
                label = Text().append(f"  {title.split()[-1]}  " if len(words) > 1 else "    ", FAINT)
                lines.append(label.append_text(draw(width - cell_len(label.plain))))
    return [fit(line, width) for line in lines]


def _join(fields: Sequence[Field], cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for place, (one, cell, own) in enumerate(zip(fields, cells, widths, strict=True)):
        line.append(" " * GAP if place else "").append_text(pad(cell, own, right=one.right))
    return line
