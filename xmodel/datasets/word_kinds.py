"""Why a word names no concept: punctuation, a number, a stop word, whitespace, a special token, on a list.

A word's text may be several words that a token joined, such as ``night.CNN`` or ``"No,``. So it is taken
apart: special tokens first, then punctuation and symbols at both ends, then runs of letters and numbers. A
single part that names a concept makes the whole a concept word; otherwise it has the kinds of all its parts,
and punctuation only where there is nothing else.

Stop words are those of spaCy's language data, without regard to case (so ``US`` is one, as ``us`` is, and
``U.S.`` is not). No trained pipeline is used and nothing is downloaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError


class WordKind(IntFlag):
    """Why a word names no concept; stored as uint8, combined with ``|``. 0 is a concept word."""

    PUNCTUATION = 1
    """Punctuation and symbols of mathematics and money; emoji and other pictures are concepts."""
    DIGITS = 2
    """Numbers in figures, with their ordinal endings; ``million`` is a concept."""
    STOP = 4
    """Words that every text is full of, and contractions of them."""
    SPACE = 8
    """Nothing visible, or nothing at all."""
    SPECIAL = 16
    """The spelling of a special token, such as ``<|endoftext|>`` or ``</s>``."""
    LISTED = 32
    """On the user's own list, whatever else it is."""


def classify_words(
    texts: Sequence[str], *, language: str = "en", listed: frozenset[str] = frozenset()
) -> NDArray[np.uint8]:
    """Why each word names no concept, see the top of this module.

    Args:
        texts: the words' texts; a text that occurs often is looked at once.
        language: whose stop words, a language code of spaCy; ``xx`` has none.
        listed: case-folded words of the user's own.

    Returns:
        [W] uint8 `WordKind` bits, 0 for a concept word. A word of several parts (``the 1990's``) has the
        bits of all of them.

    Raises:
        InputError: for a language that spaCy does not know.
    """
    lexicon = _Lexicon(list_stop_words(language), _find_number_test(language), listed)
    kinds = {text: int(_classify_text(text, lexicon)) for text in set(texts)}
    return np.fromiter((kinds[text] for text in texts), dtype=np.uint8, count=len(texts))


@cache
def list_stop_words(language: str) -> frozenset[str]:
    """spaCy's stop words of a language, case-folded, with ``'`` for every apostrophe; ``xx`` has none.

    Raises:
        InputError: for a language that spaCy does not know.
    """
    return frozenset(fold_word(word) for word in _load_defaults(language).stop_words)


@dataclass(frozen=True)
class _Lexicon:
    stop: frozenset[str]
    is_number: Callable[[str], bool]
    listed: frozenset[str]

    def find(self, folded: str) -> WordKind | None:
        if folded in self.listed:
            return WordKind.LISTED
        return WordKind.STOP if folded in self.stop else None


def _load_defaults(language: str) -> Any:
    import spacy

    try:
        # A path such as `en.stop_words` would import something that is no language.
        if not language.isidentifier():
            raise ImportError(language)
        return spacy.util.get_lang_class(language).Defaults
    except (ImportError, AttributeError):
        raise InputError(
            f"spaCy has no language {language!r}, so there are no stop words for it. Expected a code such as "
            "en, de or fr, or xx for none."
        ) from None


@cache
def _find_number_test(language: str) -> Callable[[str], bool]:
    """spaCy's ``like_num`` of a language: it knows the ordinal endings."""
    from spacy.attrs import LIKE_NUM
    from spacy.lang.lex_attrs import like_num

    return _load_defaults(language).lex_attr_getters.get(LIKE_NUM, like_num)


def fold_word(text: str) -> str:
    """A word as it is looked up in lists: case-folded, with ``'`` for every apostrophe."""
    return text.casefold().replace("’", "'").replace("‘", "'")


@cache
def _compile_patterns() -> dict[str, Any]:
    import regex

    # Sm, Sc and Sk are symbols of mathematics, money and accents; U+FFFD stands for bytes that are no text.
    # A run of them at the end is looked for from its first one only, or a long run would take quadratic time.
    edge = r"[\p{P}\p{Sm}\p{Sc}\p{Sk}\uFFFD\p{White_Space}\p{Cc}\p{Cf}--[\u200C\u200D]]"
    outer = rf"[{edge}--['’‘]]"
    inside = r"\p{L}\p{N}\p{M}\p{So}\p{Pc}\u200C\u200D"
    names = "s|bos|eos|pad|unk|mask|cls|sep|(?:start|end)_of_(?:turn|image|text)|extra_id_[0-9]+|unused[0-9]+"
    upper = "CLS|SEP|PAD|UNK|MASK|BOS|EOS|/?INST"
    sources = {
        "special": rf"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|</?(?:{names})>|\[(?:{upper})\]|<</?SYS>>",
        "edges": rf"^{edge}++|(?<!{edge}){edge}++$",
        "outer": rf"^{outer}++|(?<!{outer}){outer}++$",
        "visible": r"[\p{P}\p{S}\p{M}]",
        # A word as the default rule has it, and pictures; an apostrophe may follow a number too.
        "part": rf"(?:[{inside}--[\uFFFD]]|(?<=[\p{{L}}\p{{M}}\p{{N}}])['’](?=\p{{L}}))+",
        "solid": r"[\p{L}\p{N}\p{So}]",
        "letter": r"\p{L}",
        "number": r"\p{N}",
        "acronym": r"(?:\p{L}\.)+\p{L}",
    }
    return {name: regex.compile(source, regex.V1) for name, source in sources.items()}


def _classify_text(text: str, lexicon: _Lexicon) -> WordKind:
    """The kinds of all parts; 0 as soon as one part is a concept."""
    patterns = _compile_patterns()
    rest, specials = patterns["special"].subn(" ", text)
    if specials and not lexicon.find(fold_word(text)):
        kinds = _classify_rest(rest, lexicon)
        alone = kinds in (WordKind.SPACE, WordKind.PUNCTUATION)
        return WordKind.SPECIAL if alone else kinds and kinds | WordKind.SPECIAL
    return _classify_rest(text, lexicon)


def _classify_rest(text: str, lexicon: _Lexicon) -> WordKind:
    patterns = _compile_patterns()
    # ’s is a stop word with its apostrophe, and a list may have — or U.S. in it.
    trimmed = patterns["outer"].sub("", text)
    core = patterns["edges"].sub("", trimmed)
    for candidate in (text, trimmed, core):
        if candidate and (kind := lexicon.find(fold_word(candidate.strip()))):
            return kind
    if patterns["acronym"].fullmatch(core):
        return WordKind(0)
    parts = [part for part in patterns["part"].findall(core) if patterns["solid"].search(part)]
    if not parts:
        return WordKind.PUNCTUATION if patterns["visible"].search(text) else WordKind.SPACE
    kinds = WordKind(0)
    for part in parts:
        kind = _classify_part(part, lexicon)
        if not kind:
            return kind
        kinds |= kind
    return kinds


def _classify_part(part: str, lexicon: _Lexicon) -> WordKind:
    folded = fold_word(part)
    if kind := lexicon.find(folded):
        return kind
    patterns = _compile_patterns()
    figures = patterns["number"].search(part)
    if figures and (not patterns["letter"].search(part) or lexicon.is_number(part)):
        return WordKind.DIGITS
    return _classify_contraction(folded, lexicon)


def _classify_contraction(folded: str, lexicon: _Lexicon) -> WordKind:
    """The kind of what is contracted with a stop word: it's, 1990's, l'homme; of don't as a whole."""
    if folded.endswith("n't") and "n't" in lexicon.stop:
        return WordKind.STOP
    first, last = folded.find("'"), folded.rfind("'")
    if first > 0 and folded[last:] in lexicon.stop:
        return _classify_part(folded[:last], lexicon)
    if first > 0 and folded[: first + 1] in lexicon.stop:
        return _classify_part(folded[first + 1 :], lexicon)
    return WordKind(0)
