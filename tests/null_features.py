"""Features of two models that have nothing to do with each other, of kinds whose best r differ greatly."""

import numpy as np

from tests.tiny_runs import make_rows
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.repairing import Repairer

KINDS = ("rare", "burst", "waves", "spikes", "frequent", "constant")
"""A dozen firings anywhere; as many one after another in a document where both models have such features, by
which chance reaches a far greater r; long runs; one firing far stronger than the others; on a third of all
words; on nearly all."""
DOCUMENTS, LENGTH = 16, 120


def draw_features(rng, each):
    """[W, kinds * each] activations; within a document, no place is unlike another."""
    columns = [_draw(kind, rng) for kind in KINDS for _ in range(each)]
    return np.stack(columns, axis=1).astype(np.float32)


def make_repairer(a, b, *, signed=False):
    """Both sides' dense [W, F] activations, to be paired again."""
    kept = [(values != 0).sum(axis=0) >= 5 for values in (a, b)]
    settings = PairSettings(min_firings=5, workers=1)
    return Repairer(make_rows(a), make_rows(b), kept[0], kept[1], settings, signed)


def list_lengths():
    """[D] words per document."""
    return np.full(DOCUMENTS, LENGTH)


def _draw(kind, rng):
    words = DOCUMENTS * LENGTH
    strength = rng.lognormal(0, 1, words)
    fires = np.zeros(words, np.bool_)
    if kind == "burst":
        start, document = rng.integers(LENGTH), rng.integers(2)
        fires[document * LENGTH + (start + np.arange(rng.integers(8, 20))) % LENGTH] = True
    elif kind == "waves":
        for document in np.flatnonzero(rng.random(DOCUMENTS) < 0.5):
            start = rng.integers(LENGTH)
            fires[document * LENGTH + (start + np.arange(LENGTH // 3)) % LENGTH] = True
    else:
        rates = {"rare": 0.007, "spikes": 0.02, "frequent": 0.3, "constant": 0.95}
        fires = rng.random(words) < rates[kind]
    if kind == "spikes":
        strength[rng.integers(words)] *= 50
        fires[strength.argmax()] = True
    return np.where(fires, strength, 0)
