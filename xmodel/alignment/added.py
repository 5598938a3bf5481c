"""Finding added tokens in a text, as the tokenizers library does before its model runs."""

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.spelling import AddedToken

_SPACE = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""Unicode White_Space, which is what the library's own whitespace test is."""
_LAST_SPACE = 0x3000


@cache
def _whitespace_table() -> NDArray[np.bool_]:
    space = re.compile(_SPACE)
    return np.array([space.match(chr(point)) is not None for point in range(_LAST_SPACE + 2)])


def find_whitespace_characters(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """[characters] which code points are Unicode White_Space."""
    return _whitespace_table()[np.minimum(points, _LAST_SPACE + 1)]


class AddedTokenFinder:
    """Finds added tokens in a text as the tokenizers library does: leftmost, then longest."""

    def __init__(
        self, tokens: Sequence[AddedToken], *, normalized: bool, python_spaces: bool = False
    ) -> None:
        # Tokenizers in pure Python swallow what str.isspace accepts, which is more than White_Space.
        space = _SPACE[:-1] + "\x1c-\x1f]" if python_spaces else _SPACE
        self.spaces_at_start, self.spaces_at_end = re.compile(f"{space}*"), re.compile(f"{space}*$")
        chosen = [token for token in tokens if token.normalized == normalized and token.content]
        self.by_content = {(token.native if normalized else token.content): token for token in chosen}
        self.pattern = _compile_alternatives(list(self.by_content)) if chosen else None

    def find(self, text: str) -> list[tuple[int, int, int, int, AddedToken]]:
        """(start, stop, content start, content stop, token): start and stop include swallowed whitespace."""
        if self.pattern is None:
            return []
        found: list[tuple[int, int, int, int, AddedToken]] = []
        done = 0
        for match in self.pattern.finditer(text):
            token = self.by_content[match[0]]
            start, stop = match.span()
            if token.single_word and not _stands_alone(text, start, stop):
                continue
            if start < done:
                # Whitespace that the token before has swallowed may itself be an added token.
                outer, _, inner, inner_stop, before = found.pop()
                found.append((outer, start, inner, inner_stop, before))
                done = start
            outer_start = start
            if token.left_strip:
                outer_start -= len(self.spaces_at_end.search(text, done, start)[0])  # type: ignore[index]
            outer_stop = stop
            if token.right_strip:
                outer_stop += len(self.spaces_at_start.match(text, stop)[0])  # type: ignore[index]
            found.append((outer_start, outer_stop, start, stop, token))
            done = outer_stop
        return found


def _compile_alternatives(contents: list[str]) -> re.Pattern[str]:
    """Leftmost-longest over many strings: grouped by first character, longest first within a group."""
    groups: dict[str, list[str]] = {}
    for content in sorted(contents, key=len, reverse=True):
        groups.setdefault(content[0], []).append(re.escape(content[1:]))
    return re.compile("|".join(f"{re.escape(head)}(?:{'|'.join(tails)})" for head, tails in groups.items()))


def _stands_alone(text: str, start: int, stop: int) -> bool:
    """Whether no word character touches a match; combining marks count as word characters."""
    import regex

    word = regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]")
    return not (start and word.match(text[start - 1])) and not (stop < len(text) and word.match(text[stop]))
