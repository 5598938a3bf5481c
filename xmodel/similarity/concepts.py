"""Which features belong to a concept, by the words on which they fire most strongly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tables import iterate_table
from xmodel.datasets.concept_sets import Concept
from xmodel.datasets.word_kinds import fold_word
from xmodel.pairing.halves import Shards

TOP_WORDS = 10
"""Strongest different words by which a feature is judged."""
KEYWORDS = 2
"""How many of them are keywords of a concept that the feature belongs to, at least."""


def list_top_words(
    shards: Shards, letter: str, chosen: NDArray[np.bool_], features: NDArray[np.int32]
) -> list[list[str]]:
    """The different words on which features fire most strongly, strongest first, compared without case.

    Args:
        shards: of the run.
        letter: ``a`` or ``b``.
        chosen: [W] which words of the run count.
        features: [n] which features.

    Returns:
        [n] up to `TOP_WORDS` words each, case-folded; at equal strength the word that comes first.
    """
    names, spelled = _number_words(shards)
    wanted = np.zeros(shards.features["ab".index(letter)], dtype=np.bool_)
    wanted[features] = True
    best = _Strongest(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    for word_ids, own in shards.number_rows(letter, chosen):
        words = np.repeat(word_ids, np.diff(own.indptr))
        kept = wanted[own.indices]
        keys = own.indices[kept].astype(np.int64) * len(spelled) + names[words[kept]]
        best = best.add(keys, np.abs(own.values[kept]), words[kept])
    found: dict[int, list[str]] = {feature: [] for feature in features.tolist()}
    order = np.lexsort((best.words, -best.values, best.keys // len(spelled)))
    for key in best.keys[order].tolist():
        own_words = found[key // len(spelled)]
        if len(own_words) < TOP_WORDS:
            own_words.append(spelled[key % len(spelled)])
    return [found[feature] for feature in features.tolist()]


@dataclass(frozen=True, eq=False)
class _Strongest:
    """The strongest firing of every feature on every different word, so far."""

    keys: NDArray[np.int64]
    """[n] feature times number of different words, plus the word's number; ascending, each once."""
    values: NDArray[np.float32]
    """[n] activation."""
    words: NDArray[np.int64]
    """[n] where it is, as a word id."""

    def add(
        self, keys: NDArray[np.int64], values: NDArray[np.float32], words: NDArray[np.int64]
    ) -> "_Strongest":
        """The same with more firings."""
        keys = np.concatenate([self.keys, keys])
        values, words = np.concatenate([self.values, values]), np.concatenate([self.words, words])
        order = np.lexsort((words, -values, keys))
        first = np.ones(len(keys), dtype=np.bool_)
        first[1:] = np.diff(keys[order]) > 0
        kept = order[first]
        return _Strongest(keys[kept], values[kept], words[kept])


def _number_words(shards: Shards) -> tuple[NDArray[np.int64], list[str]]:
    """[W] the number of every word's spelling, and the spellings, case-folded."""
    numbers: dict[str, int] = {}
    names = [
        numbers.setdefault(fold_word(text), len(numbers))
        for table in iterate_table(shards.folder, "words", ["text"])
        for text in table["text"].to_pylist()
    ]
    return np.array(names, dtype=np.int64), list(numbers)


def find_members(
    top_words: Sequence[Sequence[str]], features: NDArray[np.int32], concepts: Sequence[Concept]
) -> dict[str, NDArray[np.int32]]:
    """The features of every concept: at least `KEYWORDS` of their top words are its keywords.

    Args:
        top_words: [n] the strongest different words of each feature, case-folded.
        features: [n] their numbers.
        concepts: the concepts.
    """
    found = {}
    for concept in concepts:
        hits = [sum(word in concept.words for word in words) for words in top_words]
        found[concept.name] = features[np.array(hits) >= KEYWORDS]
    return found
