"""When the concepts of a simulated text fire, and on which tokens a simulated model sees them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.records import WordFeatures

TOPICS = 8
"""Latent topics of a text."""
SPREAD = 0.5
"""Standard deviation of the logarithm of a concept's strength where it fires."""
BLOCK = 1 << 22
"""Latent values that are held at once."""


@dataclass(frozen=True, eq=False)
class Firings:
    """Which concepts are in which words, in order of words and then of concepts."""

    words: NDArray[np.int64]
    """[E] word of each firing."""
    concepts: NDArray[np.int64]
    """[E] concept."""
    values: NDArray[np.float64]
    """[E] strength, above 0; its median is 1."""


def draw_probabilities(
    count: int, exponent: float, highest: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Chances to fire by Zipf's law, ``highest * rank ** -exponent``, in random order.

    `sae_lens.synthetic.zipfian_firing_probabilities` gives the same where its lowest chance is that of this
    law's last rank; with another it is a power law plus a constant.
    """
    return highest * rng.permutation(np.arange(1, count + 1)) ** -float(exponent)


def cut_words(words: int, documents: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[D] lengths of documents, which differ about as those of texts do: each at least 1, `words` in sum."""
    shares = rng.lognormal(0.0, 0.5, documents)
    return 1 + rng.multinomial(words - documents, shares / shares.sum())


def draw_factors(
    groups: NDArray[np.int64],
    angles: NDArray[np.float64],
    topics: float,
    cofiring: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Loadings of the latent variables that make concepts fire together.

    Columns are first the topics, on which every concept has a random direction, whatever its group; then two
    for each group, on which a concept lies by its angle. Rows have a squared length of topics + cofiring, so
    that ``factors @ factors.T + (1 - topics - cofiring) * identity`` is the latent correlation matrix.

    Returns:
        [C, TOPICS + 2 G]
    """
    count = len(groups)
    directions = rng.normal(size=(count, TOPICS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    factors = np.zeros((count, TOPICS + 2 * (int(groups.max(initial=-1)) + 1)), np.float32)
    factors[:, :TOPICS] = np.sqrt(topics) * directions
    factors[np.arange(count), TOPICS + 2 * groups] = np.sqrt(cofiring) * np.cos(angles)
    factors[np.arange(count), TOPICS + 2 * groups + 1] = np.sqrt(cofiring) * np.sin(angles)
    return factors


def draw_firings(
    probabilities: NDArray[np.float64],
    factors: NDArray[np.float32],
    lengths: NDArray[np.int64],
    rng: np.random.Generator,
) -> Firings:
    """Draw which concepts are in which words.

    Args:
        probabilities: [C] chance of each concept to be in a word.
        factors: [C, L] as `draw_factors` gives them.
        lengths: [D] words of each document; topics are drawn once for each.
        rng: the random numbers.
    """
    from scipy.special import ndtri

    thresholds = -ndtri(probabilities).astype(np.float32)
    rest = np.sqrt(1 - (factors.astype(np.float64) ** 2).sum(axis=1)).astype(np.float32)
    topics = rng.standard_normal((len(lengths), TOPICS), dtype=np.float32)
    documents = np.repeat(np.arange(len(lengths)), lengths)
    step = max(1, BLOCK // max(1, len(probabilities)))
    words, concepts = [], []
    for begin in range(0, len(documents), step):
        own = documents[begin : begin + step]
        latent = rest * rng.standard_normal((len(own), len(probabilities)), dtype=np.float32)
        latent += topics[own] @ factors[:, :TOPICS].T
        groups = rng.standard_normal((len(own), factors.shape[1] - TOPICS), dtype=np.float32)
        latent += groups @ factors[:, TOPICS:].T
        rows, columns = np.nonzero(latent > thresholds)
        words.append(rows + begin)
        concepts.append(columns)
    found = np.concatenate(words), np.concatenate(concepts)
    return Firings(*found, rng.lognormal(0.0, SPREAD, len(found[0])))


def draw_tokens(
    firings: Firings,
    concepts: NDArray[np.int64],
    rates: NDArray[np.float64],
    levels: NDArray[np.float64],
    tokens: NDArray[np.int64],
    carry: float,
    rng: np.random.Generator,
) -> WordFeatures:
    """What a model sees of a text: its features on each token, with misses, spurious firings and noise.

    Args:
        firings: the text's concepts.
        concepts: [F] the concept of each feature.
        rates: [F] the concepts' chances to fire on a word.
        levels: [F] noise q of each feature, see `xmodel.datasets.synthetic.PlantedSettings`.
        tokens: [W] tokens of each word.
        carry: chance that a feature still fires on a word's next token.
        rng: the random numbers.

    Returns:
        Rows are tokens, words one after another.
    """
    features, count = len(concepts), int(tokens.sum())
    numbers = np.full(max(concepts.max(initial=0), firings.concepts.max(initial=0)) + 1, -1)
    numbers[concepts] = np.arange(features)
    of = numbers[firings.concepts]
    seen = (of >= 0) & (rng.random(len(of)) >= levels[of])
    of, words, values = of[seen], firings.words[seen], firings.values[seen]
    values = values * np.exp(levels[of] * rng.normal(size=len(of)))
    begin = np.floor(rng.random(len(of)) * tokens[words]).astype(np.int64)
    left = tokens[words] - begin
    # How many tokens in a row: 1 and a geometric number more, but none beyond the word.
    run = np.minimum(left, rng.geometric(1 - carry, len(of))) if carry < 1 else left
    first = np.cumsum(tokens)[words] - left
    places = np.repeat(first, run) + np.arange(run.sum()) - np.repeat(np.cumsum(run) - run, run)
    real = places * features + np.repeat(of, run)
    # On a last token a concept's own firings and the spurious ones are then as 1 - q to q.
    spurious = rng.binomial(count, rates * levels)
    false_of = np.repeat(np.arange(features), spurious)
    false = rng.integers(0, count, len(false_of)) * features + false_of
    keys = np.concatenate([real, false])
    strengths = np.concatenate([np.repeat(values, run), rng.lognormal(0.0, SPREAD, len(false))])
    keys, kept = np.unique(keys, return_index=True)  # Keeps the first of equal ones: what is real.
    indptr = np.searchsorted(keys, np.arange(count + 1) * features)
    return WordFeatures(
        indptr.astype(np.int64),
        (keys % features).astype(np.int32),
        strengths[kept].astype(np.float32),
        features,
    )


def pool_last(rows: WordFeatures, tokens: NDArray[np.int64]) -> WordFeatures:
    """Each word's features: those of its last token.

    Args:
        rows: features of tokens, words one after another.
        tokens: [W] tokens of each word.
    """
    last = np.cumsum(tokens) - 1
    sizes = np.diff(rows.indptr)
    chosen = np.zeros(len(rows), np.bool_)
    chosen[last] = True
    entries = np.repeat(chosen, sizes)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[last])])
    return WordFeatures(indptr, rows.indices[entries], rows.values[entries], rows.features)
