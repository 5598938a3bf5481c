"""One simulated model: its features of a text, and how well they show what is planted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.synthetic_firing import Firings
from xmodel.records import WordFeatures


@dataclass(frozen=True, eq=False)
class PlantedSide:
    """One simulated model and its dictionary."""

    features: WordFeatures
    """[W] words' features, pooled from the words' last tokens."""
    decoder: NDArray[np.float32]
    """[F, d] decoder vectors, of length 1."""
    concepts: NDArray[np.int64]
    """[F] the ground-truth concept of each feature, numbered over both models: the first S are shared. -1
    where a trained SAE's latent is none."""
    snr: NDArray[np.float64]
    """[F] rho^2 / (1 - rho^2), rho being the correlation over words of the feature with the concept it stands
    for, errorless: the variance explained by the truth over the variance of the rest. Not a number where
    there is no concept, or one of both never fires."""
    tokens: NDArray[np.int64]
    """[W] tokens of each word."""
    token_features: WordFeatures
    """[N] the features of each token, words one after another."""


def measure_snr(features: WordFeatures, firings: Firings, concepts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much of each feature's variance over words its concept explains; see `PlantedSide.snr`."""
    count, words = features.features, len(features)
    numbers = np.full(firings.concepts.max(initial=0) + 1, -1)
    known = np.flatnonzero((concepts >= 0) & (concepts < len(numbers)))
    numbers[concepts[known]] = known
    of = numbers[firings.concepts]
    mine = of >= 0
    x_of, x = features.indices.astype(np.int64), features.values.astype(np.float64)
    y_of, y = of[mine], firings.values[mine].astype(np.float64)
    x_keys = np.repeat(np.arange(words), np.diff(features.indptr)) * count + x_of
    _, first, second = np.intersect1d(
        x_keys, firings.words[mine] * count + y_of, assume_unique=True, return_indices=True
    )

    def add(of: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(of, values, minlength=count).astype(np.float64)

    covariance = words * add(x_of[first], x[first] * y[second]) - add(x_of, x) * add(y_of, y)
    spread = words * add(x_of, x * x) - add(x_of, x) ** 2
    spread_of_truth = words * add(y_of, y * y) - add(y_of, y) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.clip(covariance, 0, None) ** 2 / (spread * spread_of_truth)
        return np.where(concepts >= 0, squared / np.clip(1 - squared, 1e-12, None), np.nan)
