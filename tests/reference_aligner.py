"""A slow, obvious aligner, written from the definitions alone: the fast one must equal it.

Every byte of a text is looked at, one after the other, in plain loops. Nothing here is shared with the
package: not the byte map, not the list of whitespace, not the grouping.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

Span = tuple[int, int]

WHITESPACE = {
    chr(point)
    for point in (
        *(0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000),
        *range(0x2000, 0x200B),
    )
}
"""Unicode White_Space, from PropList.txt."""


@dataclass(frozen=True)
class Group:
    """One group: its words, its bytes, and per tokenizer the tokens with their weights."""

    first_word: int
    last_word: int
    start: int
    end: int
    members: tuple[dict[int, Fraction], ...]


def mark_whitespace(text: str) -> list[bool]:
    """For every byte of the text, whether it belongs to a whitespace character."""
    marks = []
    for character in text:
        marks += [character in WHITESPACE] * len(character.encode())
    return marks


def label_bytes(text: str, words: Sequence[Span]) -> list[int | None]:
    """For every byte, the word it belongs to; None for whitespace, inside a word too."""
    labels: list[int | None] = [None] * len(text.encode())
    blank = mark_whitespace(text)
    for number, (start, end) in enumerate(words):
        for place in range(start, end):
            assert labels[place] is None, "words overlap"
            if not blank[place]:
                labels[place] = number
    return labels


def count_words(labels: Sequence[int | None], token: Span) -> dict[int, int]:
    """How many non-whitespace bytes a token has of every word that it touches."""
    counts: dict[int, int] = {}
    for place in range(*token):
        word = labels[place]
        if word is not None:
            counts[word] = counts.get(word, 0) + 1
    return counts


def group_words(
    text: str, words: Sequence[Span], models: Sequence[Sequence[Span]], straddle: str
) -> list[Group]:
    """The groups of one text under any number of tokenizers."""
    labels = label_bytes(text, words)
    touched = [[count_words(labels, token) for token in tokens] for tokens in models]
    bridged = set()  # numbers of words that are joined with the next one
    dropped = set()
    for counts in (counts for tokens in touched for counts in tokens):
        if len(counts) > 1:
            bridged |= set(range(min(counts), max(counts)))
            dropped |= set(range(min(counts), max(counts) + 1))
    if straddle == "merge":
        runs: list[list[int]] = []
        for word in range(len(words)):
            if word - 1 in bridged:
                runs[-1].append(word)
            else:
                runs.append([word])
    elif straddle == "drop":
        runs = [[word] for word in range(len(words)) if word not in dropped]
    else:
        assert straddle == "split"
        runs = [[word] for word in range(len(words))]
    groups = []
    for run in runs:
        members: tuple[dict[int, Fraction], ...] = tuple({} for _ in models)
        for model, tokens in enumerate(touched):
            for number, counts in enumerate(tokens):
                inside = sum(counts.get(word, 0) for word in run)
                if inside:
                    members[model][number] = Fraction(inside, sum(counts.values()))
        groups.append(Group(run[0], run[-1], words[run[0]][0], words[run[-1]][1], members))
    return groups


def invert_byte_map() -> dict[str, int]:
    """GPT-2's printable characters and their bytes: a character that prints stands for itself."""
    table: dict[str, int] = {}
    extra = 0x100
    for byte in range(0x100):
        character = chr(byte)
        prints = unicodedata.category(character) not in ("Cc", "Zs", "Cf") and byte != 0xAD
        if not prints:
            character = chr(extra)
            extra += 1
        table[character] = byte
    return table


BYTE_MAP = invert_byte_map()


def walk_byte_level(strings: Sequence[str], literal: Callable[[str], bool] = lambda _: False) -> list[Span]:
    """Spans of byte-level tokens by running sum; strings for which `literal` is true stand for themselves.

    Holds where the text is in the form that the tokenizer's normaliser would give it.
    """
    spans, place = [], 0
    for string in strings:
        size = len(string.encode()) if literal(string) else len([BYTE_MAP[character] for character in string])
        spans.append((place, place + size))
        place += size
    return spans


def walk_pieces(strings: Sequence[str], text: str, mark: str = "▁") -> list[Span] | None:
    """Spans of SentencePiece-like tokens by reading them off the text; None where they do not fit.

    Only for texts without a literal mark and without unknown tokens. If the pieces have one byte more than
    the text, the tokenizer put a space before it.
    """
    data = text.encode()
    pieces = [_read_piece(string, mark) for string in strings]
    if sum(map(len, pieces)) == len(data) + 1 and pieces[0][:1] == b" ":
        pieces[0] = pieces[0][1:]
    spans, place = [], 0
    for piece in pieces:
        if data[place : place + len(piece)] != piece:
            return None
        spans.append((place, place + len(piece)))
        place += len(piece)
    return spans if place == len(data) else None


def _read_piece(string: str, mark: str) -> bytes:
    found = re.fullmatch("<0x([0-9A-F]{2})>", string)
    return bytes([int(found[1], 16)]) if found else string.replace(mark, " ").encode()


def characters_to_bytes(text: str) -> list[int]:
    """Where each character begins in UTF-8, and where the last one ends."""
    places = [0]
    for character in text:
        places.append(places[-1] + len(character.encode()))
    return places
