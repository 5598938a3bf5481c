"""What is set aside because it names no concept: words of some kinds, and features that fire on them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.word_kinds import WordKind, classify_words, fold_word, list_stop_words
from xmodel.errors import InputError

_NO_KIND = WordKind(0)
_KIND_NAMES = {
    "punctuation": WordKind.PUNCTUATION,
    "digits": WordKind.DIGITS,
    "stop": WordKind.STOP,
    "space": WordKind.SPACE,
    "special": WordKind.SPECIAL,
}


@dataclass(frozen=True)
class SkipWords:
    """Which words are left out: of some kinds, or on a list, or made of nothing but such."""

    kinds: WordKind = _NO_KIND
    """The kinds that are skipped."""
    words: frozenset[str] = frozenset()
    """More words, case-folded."""
    files: tuple[str, ...] = ()
    """Where `words` came from, as the user wrote it."""
    language: str = "en"
    """Whose stop words: a language code of spaCy."""

    def describe(self) -> str:
        """One line for a person: ``punctuation, stop (326 words, spaCy en), 12 words of skip.txt``."""
        parts = [self._describe_kind(name) for name, kind in _KIND_NAMES.items() if kind in self.kinds]
        if self.words:
            source = f" of {', '.join(self.files)}" if self.files else ""
            parts.append(f"{len(self.words):,} words{source}")
        return ", ".join(parts) or "nothing"

    def as_json(self) -> dict[str, Any]:
        """All that decides which words are skipped, for the run's manifest: the words themselves included."""
        stop = sorted(list_stop_words(self.language)) if WordKind.STOP in self.kinds else []
        return {
            "kinds": [name for name, kind in _KIND_NAMES.items() if kind in self.kinds],
            "words": sorted(self.words),
            "files": list(self.files),
            "language": self.language,
            "stop_words": stop,
        }

    def _describe_kind(self, name: str) -> str:
        if name != "stop":
            return name
        return f"stop ({len(list_stop_words(self.language)):,} words, spaCy {self.language})"


NON_CONCEPTS = SkipWords(~WordKind.LISTED)
"""Every kind, and no list: what makes a feature a non-concept one unless the user says otherwise."""


def find_skipped(texts: Sequence[str], skip: SkipWords) -> NDArray[np.bool_]:
    """Which words are left out: those whose every part is of a skipped kind or on the list.

    Returns:
        [W] bool.

    Raises:
        InputError: as `classify_words`.
    """
    bits = classify_words(texts, language=skip.language, listed=skip.words)
    kept = 0xFF & ~int(skip.kinds | WordKind.LISTED)
    return (bits != 0) & (bits & kept == 0)


def find_non_concepts(
    top_words: Sequence[Sequence[str]], skip: SkipWords = NON_CONCEPTS, *, share: float = 0.6
) -> NDArray[np.bool_]:
    """Which features name no concept: at least a share of their top words are non-concept words.

    Args:
        top_words: [F] texts of the words on which each feature fires most, each as often as it is among them.
        skip: which words are non-concept; all kinds by default.
        share: of a feature's top words, above 0 and at most 1. By default six of ten: a feature of concepts
            has some punctuation beside them, one of punctuation has few concepts.

    Returns:
        [F] bool; False for a feature without top words, about which nothing is known.

    Raises:
        InputError: for another share, and as `classify_words`.
    """
    if not 0 < share <= 1:
        raise InputError(
            f"the share of non-concept top words is {share}. Expected a number above 0, at most 1."
        )
    counts = np.array([len(words) for words in top_words], dtype=np.int64)
    skipped = find_skipped([word for words in top_words for word in words], skip)
    owners = np.repeat(np.arange(len(counts)), counts)
    found = np.bincount(owners[skipped], minlength=len(counts))
    # A division, because 0.55 * 20 is more than 11.
    return found / np.maximum(counts, 1) >= share


def parse_skip_words(text: str, *, language: str = "en") -> SkipWords:
    """The words to skip as the command line has them: kinds and files, parted by commas.

    Args:
        text: ``punctuation``, ``digits``, ``stop``, ``space``, ``special``, or the path of a word list; a
            file called like a kind is written ``./stop``.
        language: whose stop words, a language code of spaCy.

    Raises:
        InputError: for an empty text, a name that is neither, and as `read_word_list`.
    """
    kinds, words, files = _NO_KIND, frozenset[str](), []
    for part in [text] if Path(text).is_file() else text.split(","):
        name = part.strip()
        if kind := _KIND_NAMES.get(name.casefold()):
            kinds |= kind
        elif name and Path(name).exists():
            words |= read_word_list(name)
            files.append(name)
        else:
            raise InputError(
                f"--skip-words has {name!r}, which is no kind of word and no file. Expected "
                f"{', '.join(_KIND_NAMES)}, or the path of a word list, parted by commas."
            )
    list_stop_words(language)
    return SkipWords(kinds, words, tuple(files), language)


def read_word_list(path: str | Path) -> frozenset[str]:
    """The words of a UTF-8 file: one a line, case-folded; lines that begin with ``#`` are comments.

    What follows a ``#`` behind whitespace is a comment too, so that ``C#`` can be a word.

    Raises:
        InputError: where the file cannot be read, is not UTF-8, or has no word.
    """
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the word list {str(path)!r} is not UTF-8: byte {error.start:,} cannot be decoded "
            f"({error.reason}). Expected one word a line, in UTF-8."
        ) from None
    except OSError as error:
        raise InputError(f"the word list {str(path)!r} cannot be read: {error.strerror}.") from error
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in content.splitlines())
    words = frozenset(fold_word(line) for line in lines if line)
    if not words:
        raise InputError(
            f"the word list {str(path)!r} has no word. Expected one word a line; # begins a comment."
        )
    return words
