"""Bytes of a text as characters that any terminal shows, one cell or two each, and that do nothing else.

Whatever has no width, no shape, or power over a terminal (control characters, escape sequences,
bidirectional controls, joiners) is spelled out, so that columns hold and no text can act on the screen.
"""

import unicodedata

from rich.cells import cell_len
from rich.text import Text

FAINT = "dim"
ELLIPSIS = "…"
_SIGNS = {" ": "·", "\n": "↵", "\t": "⇥"}
_NAMES = {
    "\u00a0": "NBSP",
    "\u00ad": "SHY",
    "\u200b": "ZWSP",
    "\u200c": "ZWNJ",
    "\u200d": "ZWJ",
    "\ufe0e": "VS15",
    "\ufe0f": "VS16",
    "\ufeff": "BOM",
    "\x1b": "ESC",
    "\r": "CR",
}
_AMBIGUOUS = frozenset("·↵⇥│⁀‹›")
"""Signs of the picture itself: where a text has them they are spelled out."""
_SPELLED_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_SPELLED_RANGES = (
    (0x0300, 0x036F),  # combining marks of no particular script
    (0x034F, 0x034F),
    (0x1100, 0x11FF),  # conjoining Jamo, which a terminal joins to syllables
    (0x180B, 0x180F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x2800, 0x2800),  # empty Braille pattern
    (0x3164, 0x3164),  # Hangul filler
    (0xA960, 0xA97F),
    (0xD7B0, 0xD7FF),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0xFFA0, 0xFFA0),
    (0x1F1E6, 0x1F1FF),  # regional indicators, which a terminal joins to flags
    (0x1F3FB, 0x1F3FF),  # emoji modifiers
    (0xE0100, 0xE01EF),
)
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"


def show_bytes(
    data: bytes,
    start: int,
    end: int,
    *,
    style: str = "",
    most: int | None = None,
    goes_on: tuple[bool, bool] = (False, False),
) -> Text:
    """Show bytes ``[start, end)`` of a valid UTF-8 text; parts of characters at either end as ``‹E2 82›``.

    Args:
        data: the whole text.
        start: first byte.
        end: one past the last byte.
        style: a rich style for what the text shows as it is; what is spelled out is faint.
        most: the most terminal cells to fill; more is cut off and ends in ``…``.
        goes_on: whether the byte before `start`, and the byte at `end`, are shown right beside this; the
            parts of one character then share a pair of quotes, ``‹E2`` and ``82›``.
    """
    # A character takes at most four bytes and at least one cell, or no cell if it is a mark on another.
    cut = end if most is None else min(end, start + 16 * most + 16)
    first, last = start, cut
    while first < last and data[first] & 0xC0 == 0x80:
        first += 1
    if last < len(data) and data[last] & 0xC0 == 0x80:
        while last > first and data[last - 1] & 0xC0 == 0x80:
            last -= 1
        last = max(first, last - 1)
    shown = Text()
    if start < first:
        closed = first == len(data) or data[first] & 0xC0 != 0x80 or not goes_on[1]
        shown.append(_spell_bytes(data[start:first], not goes_on[0], closed), FAINT)
    shown.append_text(show_text(data[first:last].decode(), style=style))
    if last < cut:
        shown.append(_spell_bytes(data[last:cut], True, not goes_on[1]), FAINT)
    return shown if most is None else shorten(shown, most, cut < end)


def show_text(text: str, *, style: str = "") -> Text:
    """Show a text with everything invisible spelled out, and right-to-left text kept in its place."""
    shown = Text()
    plain: list[str] = []

    def flush() -> None:
        run = "".join(plain)
        if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in plain):
            run = f"{_ISOLATE}{run}{_POP_ISOLATE}"
        shown.append(run, style)
        plain.clear()

    for character in text:
        sign = _SIGNS.get(character) or spell_character(character, attached=bool(plain))
        if sign is None:
            plain.append(character)
        else:
            flush()
            shown.append(sign, f"{style} {FAINT}".strip())
    flush()
    return shown


def shorten(shown: Text, most: int, longer: bool = False) -> Text:
    """Cut to `most` cells, the last one ``…`` if anything is missing (`longer`: if more was to follow)."""
    if cell_len(shown.plain) <= most and not longer:
        return shown
    width, kept = 0, 0
    for character in shown.plain:
        width += cell_len(character)
        if width > most - 1:
            break
        kept += 1
    short = shown[:kept]
    if short.plain.count(_ISOLATE) > short.plain.count(_POP_ISOLATE):
        short.append(_POP_ISOLATE)
    return short.append(ELLIPSIS, FAINT)


def _spell_bytes(data: bytes, opened: bool, closed: bool) -> str:
    return f"{'‹' if opened else ''}{data.hex(' ').upper()}{'›' if closed else ''}"


def spell_character(character: str, *, attached: bool) -> str | None:
    """How to spell a character out, or None if it can be shown as it is."""
    if " " < character <= "~":
        return None
    code = ord(character)
    category = unicodedata.category(character)
    spelled = (
        category in _SPELLED_CATEGORIES
        or character in _AMBIGUOUS
        or (category.startswith("M") and not attached)
        or any(low <= code <= high for low, high in _SPELLED_RANGES)
    )
    if not spelled:
        return None
    return f"‹{_NAMES.get(character, f'U+{code:04X}')}›"
