"""The concept of every feature of a run, by the rule that scoring uses."""

from collections.abc import Sequence

import numpy as np

from xmodel.datasets.concept_sets import Concept, choose_concepts, load_concepts
from xmodel.pairing.filters import choose_words
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.concepts import KEYWORDS, list_top_words


def find_concepts(run: Run, side: str, concepts: Sequence[Concept] | None = None) -> list[str | None]:
    """The concept that every feature of one model belongs to.

    A feature belongs to a concept if at least `KEYWORDS` of its top words on the discovery half are
    keywords, as in scoring (`xmodel.similarity.concepts.find_members`). Of several concepts it is given the
    one with most keywords among its top words, at a tie the one that is listed first.

    Args:
        run: a finished run.
        side: ``a`` or ``b``.
        concepts: None takes the categories that come with the program, without their subsets.

    Returns:
        [F] names of concepts, None for a feature of none.

    Raises:
        InputError: if the words of the run cannot be split into halves, or a file is missing or damaged.
    """
    chosen = choose_concepts([], load_concepts()) if concepts is None else concepts
    discovery = choose_words(run.shards, PairSettings.of_manifest(run.manifest)).discovery
    features = np.arange(run.shards.features["ab".index(side)], dtype=np.int32)
    return name_concepts(list_top_words(run.shards, side, discovery, features), chosen)


def name_concepts(top_words: Sequence[Sequence[str]], concepts: Sequence[Concept]) -> list[str | None]:
    """The concept of every feature, from its top words.

    Args:
        top_words: [F] the strongest different words of each feature, case-folded.
        concepts: in the order that decides ties.

    Returns:
        [F] names of concepts, None for a feature of none.
    """
    places: dict[str, list[int]] = {}
    for place, concept in enumerate(concepts):
        for word in concept.words:
            places.setdefault(word, []).append(place)
    found: list[str | None] = []
    for words in top_words:
        hits = [0] * len(concepts)
        for word in words:
            for place in places.get(word, ()):
                hits[place] += 1
        most = max(hits, default=0)
        found.append(concepts[hits.index(most)].name if most >= KEYWORDS else None)
    return found


def spell_concept(name: str) -> str:
    """The name of a concept as it is read: ``sea and ships`` for ``sea_and_ships``."""
    return name.replace("_", " ")
