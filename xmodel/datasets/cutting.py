"""A long text, as a stream of pieces, cut into documents: nothing is lost, and memory stays bounded.

The rule depends on the text alone, not on the pieces in which it arrives. Words are counted as `str.split`
finds them. From the end of one document to the end of the next:

1. Cut behind the first blank lines (line ends with only whitespace between them) that leave at least
   `minimum` words. A line end is LF, CR LF or CR; the whitespace belongs to the document before it.
2. Where that takes more than `maximum` words, cut at the last line end before the next word, unless fewer
   than `minimum` words lie before it; then between words `maximum` and `maximum + 1`.
3. Where that takes more than `characters` characters (a text with hardly any whitespace), cut within them: at
   the last line end, else at the last whitespace, with at least `minimum` words if there are so many; in a
   text without any whitespace, between two characters.

What remains at the end joins the last document if it has fewer than `minimum` words.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

# Atomic groups, so that a CR LF never counts as two line ends.
_BLANK_LINES = re.compile(r"(?>\r\n|\r|\n)(?>[^\S\r\n]*(?>\r\n|\r|\n))+")
_WORD = re.compile(r"\S+")
_UP_TO_WHITESPACE = re.compile(r".*\s", re.DOTALL)


@dataclass(frozen=True)
class CutRule:
    """How large a document is; see the top of this module."""

    minimum: int = 500
    """Words that a document has at least."""
    maximum: int = 20_000
    """Words after which a text without blank lines is cut."""
    characters: int = 500_000
    """Characters after which a text with hardly any whitespace is cut; 2 at least."""


DEFAULT_RULE = CutRule()
"""Documents of at least 500 words, the rule of the command line."""


def cut_text(pieces: Iterable[str], rule: CutRule = DEFAULT_RULE) -> Iterator[str]:
    """Cut a text into documents by the rule at the top of this module.

    Args:
        pieces: the text, in any pieces; only a few documents' worth of it is held at a time.
        rule: the sizes.

    Yields:
        Documents, never empty: joined they are the text. Only rule 3 makes one of fewer than `minimum` words,
        or of whitespace alone, except where that is all there is.
    """
    held = text = ""
    for piece in pieces:
        text += piece
        start = 0
        while (stop := _find_cut(text, start, rule)) is not None:
            if held:
                yield held
            held = text[start:stop]
            start = stop
        text = text[start:]
    if not _has_words(text, rule.minimum):
        held, text = held + text, ""
    yield from filter(None, (held, text))


def _find_cut(text: str, start: int, rule: CutRule) -> int | None:
    """Where the document that begins at `start` ends; None if that takes more text than there is yet."""
    stop = len(text)
    full = stop - start > rule.characters
    if full:
        stop = start + rule.characters
        stop -= text[stop - 1 : stop + 1] == "\r\n"
        settled = stop
    else:
        # Blank lines count when they are over: the next piece may go on with them.
        settled = start + len(text[start:].rstrip())
    cut, words = _find_blank_lines(text, start, stop, settled, rule)
    if cut is not None:
        return cut
    if words > rule.maximum:
        beyond = next(islice(_WORD.finditer(text, start), rule.maximum, None)).start()
        return _choose_cut(text, start, min(beyond, stop), rule)
    return _choose_cut(text, start, stop, rule) if full else None


def _find_blank_lines(
    text: str, start: int, stop: int, settled: int, rule: CutRule
) -> tuple[int | None, int]:
    """The end of the first blank lines, not beyond `settled`, behind `minimum` to `maximum` words.

    Also the number of words up to there, or in all of ``text[start:stop]`` where there are no such lines.
    """
    words, at = 0, start
    for match in _BLANK_LINES.finditer(text, start, stop):
        end = match.end()
        if end > settled:
            break
        words += len(text[at:end].split())
        at = end
        if words > rule.maximum:
            return None, words
        if words >= rule.minimum:
            return end, words
    return None, words + len(text[at:stop].split())


def _choose_cut(text: str, start: int, stop: int, rule: CutRule) -> int:
    """Where to cut ``text[start:stop]`` that has no blank lines to be cut at; beyond `start`."""
    line = max(text.rfind("\n", start, stop), text.rfind("\r", start, stop)) + 1
    few = not _has_words(text[start:stop], rule.minimum)
    if line > start and (few or _has_words(text[start:line], rule.minimum)):
        return line
    space = _UP_TO_WHITESPACE.match(text, start, stop)
    return space.end() if space else stop


def _has_words(text: str, minimum: int) -> bool:
    """Whether a text has so many words, without making a list of all of them."""
    return len(text.split(None, minimum)) >= minimum
