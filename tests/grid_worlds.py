"""Simulated layers whose relation is known, for the tests of sweeps."""

import numpy as np

from tests.score_worlds import make_decoders, plant_values
from xmodel.records import WordFeatures
from xmodel.similarity.layers import Layer


def make_rows(dense):
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    values = dense[rows, columns].astype(np.float32)
    return WordFeatures(indptr.astype(np.int64), columns.astype(np.int32), values, dense.shape[1])


def densify(features):
    dense = np.zeros((len(features), features.features))
    dense[np.repeat(np.arange(len(features)), np.diff(features.indptr)), features.indices] = features.values
    return dense


def make_layer(name, firing, decoder, *, site="blocks.0.hook_resid_post", least=5, signed=False):
    """A layer from the activations of all words [W, F]; the first half of the words is the discovery half."""
    half = len(firing) // 2
    kept = (firing[:half] != 0).sum(0) >= least
    return Layer(name, site, make_rows(firing[:half]), make_rows(firing[half:]), kept, decoder, signed)


def make_firing(words, features, rng, rate=0.06):
    return np.where(rng.random((words, features)) < rate, rng.gamma(4.0, 1.0, (words, features)), 0.0)


def make_grid(layers_a=2, layers_b=3, *, related=True, features=40, words=1200, widths=(12, 16), seed=0):
    """Layers of two models; where related, layer i of A has the features of layer i of B in another order."""
    rng = np.random.default_rng(seed)
    truth = [make_firing(words, features, rng) for _ in range(max(layers_a, layers_b))]
    meaning = [rng.normal(size=(features, 8)) for _ in truth]
    grid = []
    for letter, count, width in (("a", layers_a, widths[0]), ("b", layers_b, widths[1])):
        own = []
        for number in range(count):
            order = rng.permutation(features)
            firing, vectors = truth[number], meaning[number]
            if not related:
                firing, vectors = make_firing(words, features, rng), rng.normal(size=vectors.shape)
            noisy = firing * rng.uniform(0.8, 1.2, firing.shape)
            decoder = vectors @ rng.normal(size=(8, width)) + 0.1 * rng.normal(size=(features, width))
            site = f"blocks.{number}.hook_resid_post"
            name = f"{letter}{number}"
            own.append(make_layer(name, noisy[:, order], decoder[order].astype(np.float32), site=site))
        grid.append(own)
    return grid


def make_twins(seed=0, *, split=20, miss=0.3, words=1200, related=False):
    """Two layers; A has some features twice, which share B's one partner. B's vectors have nothing of A's."""
    values = plant_values(range(words), seed=seed, split=split, miss=miss)
    decoders = make_decoders(related, seed=seed, split=split)
    first, second = (make_layer(side, values[side], own) for side, own in zip("ab", decoders, strict=True))
    return first, second
