"""Texts of a corpus as characters that a page can show, and that do nothing but be seen."""

import re
import unicodedata
from functools import lru_cache

from xmodel.report.visible import ELLIPSIS, spell_character

_SPACES = re.compile(r"([ \t\r\n\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+)")
_MARKS = 3
"""Marks on one character that are shown; more would reach into the lines above and below."""
# What a browser joins to one picture, and a terminal does not: joiners, variation selectors, skin tones,
# flags, and marks on letters.
_JOINING = (
    (0x0300, 0x036F),
    (0x1100, 0x11FF),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x200C, 0x200D),
    (0x20D0, 0x20FF),
    (0xA960, 0xA97F),
    (0xD7B0, 0xD7FB),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0x1F1E6, 0x1F1FF),
    (0x1F3FB, 0x1F3FF),
)
_SIGNS = frozenset("·⇥│⁀")
"""Signs of the terminal's pictures, which the page does not use."""


def show_plain(text: str, most: int = 300) -> str:
    """A text with everything spelled out that has no shape, or has power over what stands beside it.

    Control characters, bidirectional controls, unassigned and private characters, and lone surrogates become
    ``‹NAME›`` or ``‹U+202E›``, as in the terminal. Runs of whitespace become one space, ``↵`` between
    paragraphs. Right-to-left text is kept in its order: what shows it isolates it (``<bdi>``).

    Args:
        text: any text.
        most: the most characters to return; of a longer text the last one is ``…``.
    """
    if len(text) <= most and text.isascii() and text.isprintable() and "  " not in text:
        return text
    return _show(text, most)


@lru_cache(maxsize=65536)
def _show(text: str, most: int) -> str:
    pieces: list[str] = []
    length = 0
    # What is cut off is never looked at, or a word of a million characters would take long.
    for number, piece in enumerate(_SPACES.split(text[: 4 * most + 4])):
        shown = _show_space(piece) if number % 2 else _show_word(piece, most - length)
        pieces.append(shown)
        length += len(shown)
        if length > most:
            break
    joined = "".join(pieces)
    if length <= most and len(text) <= 4 * most + 4:
        return joined
    return _cut(joined, most)


def _show_space(piece: str) -> str:
    return " ↵ " if piece.count("\n") > 1 else " "


def _show_word(piece: str, room: int) -> str:
    shown: list[str] = []
    length = marks = 0
    attached = False
    for character in piece:
        marks = marks + 1 if _is_mark(character) else 0
        spelled = _spell(character, attached and marks <= _MARKS)
        attached = spelled is None
        shown.append(character if spelled is None else spelled)
        length += len(shown[-1])
        if length > room:
            break
    return "".join(shown)


def _is_mark(character: str) -> bool:
    return character > "~" and unicodedata.category(character).startswith("M")


def _spell(character: str, attached: bool) -> str | None:
    """How to spell a character out, or None if a browser can show it as it is."""
    if " " < character <= "~" or character in _SIGNS:
        return None
    code = ord(character)
    if any(low <= code <= high for low, high in _JOINING):
        joins = _is_mark(character) or character in "\u200c\u200d"
        if (attached or not joins) and unicodedata.category(character) != "Cn":
            return None
    return spell_character(character, attached=attached)


def _cut(shown: str, most: int) -> str:
    """The beginning, not ending within what is spelled out."""
    kept = shown[: max(most - 1, 0)]
    opened = kept.rfind("‹")
    if opened > kept.rfind("›"):
        kept = kept[:opened]
    return kept + ELLIPSIS
