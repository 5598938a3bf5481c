"""Two word rules again, slow and obvious, one character at a time; and the law that all rules keep."""

from functools import cache

import regex

# PropList.txt of the Unicode Character Database; the set has not changed since Unicode 6.3.
WHITE_SPACE = frozenset(
    [
        *range(0x09, 0x0E),
        0x20,
        0x85,
        0xA0,
        0x1680,
        *range(0x2000, 0x200B),
        0x2028,
        0x2029,
        0x202F,
        0x205F,
        0x3000,
    ]
)


def is_space(character: str) -> bool:
    return ord(character) in WHITE_SPACE


@cache
def is_extending(character: str) -> bool:
    if character in "\u200c\u200d" or 0x1F3FB <= ord(character) <= 0x1F3FF:
        return True
    return regex.fullmatch(r"\p{Mark}", character) is not None


@cache
def is_letter(character: str) -> bool:
    return regex.fullmatch(r"\p{Letter}", character) is not None


@cache
def is_word_character(character: str) -> bool:
    return (
        is_letter(character)
        or regex.fullmatch(r"\p{Number}|\p{Connector_Punctuation}", character) is not None
    )


def joins_letters(text: str, place: int) -> bool:
    """Whether the apostrophe at this place stands between two letters."""
    before = place - 1
    while before >= 0 and is_extending(text[before]):
        before -= 1
    if before < 0 or place + 1 == len(text):
        return False
    return is_letter(text[before]) and is_letter(text[place + 1])


def kinds_default(text: str) -> list[str]:
    kinds: list[str] = []
    for place, character in enumerate(text):
        if is_space(character):
            kind = "space"
        elif is_extending(character):
            kind = kinds[-1] if kinds and kinds[-1] != "space" else "other"
        elif is_word_character(character) or (character in "'\u2019" and joins_letters(text, place)):
            kind = "word"
        else:
            kind = "other"
        kinds.append(kind)
    return kinds


def kinds_whitespace(text: str) -> list[str]:
    return ["space" if is_space(character) else "other" for character in text]


KINDS = {"default": kinds_default, "whitespace": kinds_whitespace}


def split_slowly(text: str, rule: str) -> list[tuple[int, int]]:
    """Byte spans of the words under ``default`` or ``whitespace``."""
    spans: list[tuple[int, int]] = []
    byte = 0
    previous = "space"
    for character, kind in zip(text, KINDS[rule](text), strict=True):
        width = len(character.encode())
        if kind != "space":
            if kind == previous:
                spans[-1] = (spans[-1][0], byte + width)
            else:
                spans.append((byte, byte + width))
        previous = kind
        byte += width
    return spans


def find_broken_law(text: str, spans: list[tuple[int, int]]) -> str:
    """What is wrong with words given as byte spans of a text, "" if nothing is."""
    data = text.encode()
    covered = [0] * len(data)
    end = 0
    for start, stop in spans:
        if start < end or stop > len(data):
            return f"word {start}:{stop} overlaps the one before it, or the end of the text"
        if start >= stop:
            return f"word {start}:{stop} is empty"
        try:
            word = data[start:stop].decode()
        except UnicodeDecodeError:
            return f"word {start}:{stop} cuts a character"
        if is_space(word[0]) or is_space(word[-1]):
            return f"word {word!r} begins or ends with whitespace"
        covered[start:stop] = [1] * (stop - start)
        end = stop
    byte = 0
    for character in text:
        if not is_space(character) and not covered[byte]:
            return f"{character!r} at byte {byte} is in no word"
        byte += len(character.encode())
    return ""
