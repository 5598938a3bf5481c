"""Words that are one token in two vocabularies, so that what two models say next can be compared.

Two models with different tokenizers predict different things next: pieces of words. But many words are one
token in both, and over these both models give probabilities of the same events.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tokenizer import Tokenizer
from xmodel.errors import InputError

BEFORE = "."
"""What stands before a word where its token is looked for.

A word is predicted in the middle of a text. At its beginning, SentencePiece puts a space of its own before
the text, and ``" word"`` would be two tokens."""
_LETTERS = r"(?:\p{L}\p{M}*){2,}"


@dataclass(frozen=True, eq=False)
class SharedWords:
    """V words that are one token each in both of two vocabularies, the most frequent first.

    Both list frequent tokens first, as byte-pair encoding learns them, so the order is by the sum of a word's
    two places.
    """

    texts: tuple[str, ...]
    """[V] the words, each without the space before it."""
    ids_a: NDArray[np.int64]
    """[V] the token that A predicts after a text where this word comes next."""
    ids_b: NDArray[np.int64]
    """[V] the token that B predicts."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, count: int) -> "SharedWords":
        """The first `count` of them."""
        return SharedWords(self.texts[:count], self.ids_a[:count], self.ids_b[:count])


def find_shared_words(
    tokenizer_a: Tokenizer,
    tokenizer_b: Tokenizer,
    *,
    among: Collection[str] | None = None,
    most: int | None = None,
) -> SharedWords:
    """Find the words that are exactly one token in both vocabularies.

    A word is two letters or more, with their combining marks, and a space before it. It is shared where both
    vocabularies spell it by the same bytes and both tokenizers, given it within a text, make just that one
    token of it. Both are asked: that a token of these bytes exists does not mean that it is ever made.

    Where no token contains spaces (WordPiece), the token is that of the word by itself.

    Args:
        tokenizer_a: A's.
        tokenizer_b: B's.
        among: keep only these, for instance the words of a corpus; without it pieces that begin words are
            there too, such as ``th``, where a vocabulary has them.
        most: keep only so many, the most frequent; all where None.

    Returns:
        the words; there are none for tokenizers of characters or bytes, or of different scripts.

    Raises:
        InputError: if a tokenizer was built for given ids only, or `most` is below 1.
    """
    if most is not None and most < 1:
        raise InputError(
            f"{most} shared words were asked for; expected was 1 or more. Leave the number out for all of "
            "them."
        )
    allowed = set(_list_words(tokenizer_b))
    if among is not None:
        allowed &= set(among)
    candidates = [word for word in _list_words(tokenizer_a) if word in allowed]
    ids_a, ids_b = (_find_tokens(one, candidates) for one in (tokenizer_a, tokenizer_b))
    kept = np.flatnonzero((ids_a >= 0) & (ids_b >= 0))
    places = ids_a[kept].argsort().argsort() + ids_b[kept].argsort().argsort()
    kept = kept[np.lexsort((ids_a[kept], places))]
    words = SharedWords(tuple(candidates[place] for place in kept), ids_a[kept], ids_b[kept])
    return words if most is None else words.take(most)


def _list_words(tokenizer: Tokenizer) -> list[str]:
    """Every word that one token of the vocabulary spells, with a space before it or without."""
    import regex

    spelling = tokenizer.spelling
    plain = spelling.known & ~spelling.special & (spelling.flags == 0) & (spelling.text.lengths > 1)
    letters = regex.compile(_LETTERS)
    found = (_read_word(tokenizer, token) for token in np.flatnonzero(plain).tolist())
    return list(dict.fromkeys(word for word in found if letters.fullmatch(word)))


def _find_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> NDArray[np.int64]:
    """[V] the one token made of each word within a text; -1 where it is not one, or that of another word."""
    ids, counts = tokenizer.encode([BEFORE, *(f"{BEFORE} {word}" for word in words)])
    before = ids[: counts[0]]
    starts = counts.cumsum() - counts
    found = np.full(len(words), -1, np.int64)
    for place in np.flatnonzero(counts[1:] == len(before) + 1).tolist():
        start = int(starts[place + 1])
        token = int(ids[start + len(before)])
        same = np.array_equal(ids[start : start + len(before)], before)
        # A normaliser may have turned the word into another one, which then has this token.
        if same and _read_word(tokenizer, token) == words[place]:
            found[place] = token
    return found


def _read_word(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.describe_id(token).decode("utf-8", "replace").removeprefix(" ")
