"""Which words and which features take part in pairing, with a ledger of what every filter took."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tables import iterate_table
from xmodel.datasets.concepts import NON_CONCEPTS, find_non_concepts, find_skipped, parse_skip_words
from xmodel.errors import InputError
from xmodel.pairing.halves import Shards, read_split, read_word_texts
from xmodel.pairing.moments import measure_spreads
from xmodel.pairing.settings import PairSettings
from xmodel.pairing.top_words import find_top_words
from xmodel.records import Attrition, Moments

TOP_WORDS = 10
"""Strongest words of a feature by which it is judged a concept or not."""
NON_CONCEPT_SHARE = 0.6
"""Share of them that are no concepts, from which on the feature is none."""


@dataclass(frozen=True, eq=False)
class WordChoice:
    """Which words of a run serve which purpose."""

    discovery: NDArray[np.bool_]
    """[W] words on which features are paired."""
    heldout: NDArray[np.bool_]
    """[W] words on which pairs are judged."""
    ledger: list[Attrition]
    skipped: dict[str, Any] | None
    """What was skipped, with the word list, for the manifest."""


def choose_words(shards: Shards, settings: PairSettings) -> WordChoice:
    """Split the words of a run, and leave out those that the user does not want.

    Raises:
        InputError: if a half is left with fewer than two words, or the list of words cannot be read.
    """
    discovery = read_split(shards.folder)
    kept = np.ones(len(discovery), dtype=np.bool_)
    ledger, skipped = [], None
    if settings.skip_words:
        skip = parse_skip_words(settings.skip_words)
        skipped = skip.as_json()
        first = 0
        for table in iterate_table(shards.folder, "words", ["text"]):
            kept[first : first + len(table)] = ~find_skipped(table["text"].to_pylist(), skip)
            first += len(table)
        ledger.append(Attrition(f"words: {skip.describe()} skipped", len(kept), int(kept.sum())))
    found = WordChoice(discovery & kept, ~discovery & kept, ledger, skipped)
    for name, half in (("discovery", found.discovery), ("held-out", found.heldout)):
        if half.sum() < 2:
            raise InputError(
                f"the {name} half of {shards.folder.path} has {int(half.sum())} of {len(kept):,} words, "
                "and a correlation needs at least two: use a longer corpus, or skip fewer words."
            )
    return found


def choose_features(
    letter: str, moments: Moments, shards: Shards, words: WordChoice, settings: PairSettings
) -> tuple[NDArray[np.bool_], list[Attrition]]:
    """Which features of one side may be paired.

    Returns:
        [F] kept or not, and the ledger.
    """
    alive = moments.firings > 0
    frequent = moments.firings >= settings.min_firings
    varying = frequent & measure_spreads(moments, frequent).usable
    ledger = [
        Attrition(f"features {letter}: fire at all (discovery half)", len(alive), int(alive.sum())),
        Attrition(
            f"features {letter}: at least {settings.min_firings} firings",
            int(alive.sum()),
            int(frequent.sum()),
        ),
        Attrition(f"features {letter}: not the same on all words", int(frequent.sum()), int(varying.sum())),
    ]
    if not settings.drop_non_concepts:
        return varying, ledger
    chunks = shards.number_rows(letter, words.discovery)
    top, _ = find_top_words(chunks, len(alive), TOP_WORDS)
    candidates = np.flatnonzero(varying)
    texts = read_word_texts(shards.folder, top[candidates][top[candidates] >= 0])
    own = [[texts[word] for word in row[row >= 0].tolist()] for row in top[candidates]]
    kept = varying.copy()
    kept[candidates[find_non_concepts(own, share=NON_CONCEPT_SHARE)]] = False
    name = f"features {letter}: concepts by their top {TOP_WORDS} words"
    ledger.append(Attrition(name, int(varying.sum()), int(kept.sum())))
    return kept, ledger


def describe_concepts() -> dict[str, Any]:
    """What decides whether a feature is a concept, with the word list, for the manifest."""
    return {"top_words": TOP_WORDS, "share": NON_CONCEPT_SHARE, **NON_CONCEPTS.as_json()}
