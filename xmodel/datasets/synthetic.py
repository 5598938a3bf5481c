"""Planted truth: two simulated models that share features, so that it is known which pairs are right.

A text is simulated as words in documents. Every ground-truth feature of it ("concept") fires on some of the
words; a chosen share of the concepts is in both models, the others in one of them alone. Each model cuts
the words into tokens of its own, sees concepts with errors of its own, and numbers its features in an order
of its own. What pairing and scoring find in the two can then be compared with what was planted.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.synthetic_firing import (
    Firings,
    cut_words,
    draw_factors,
    draw_firings,
    draw_probabilities,
    draw_tokens,
    pool_last,
)
from xmodel.datasets.synthetic_geometry import Arrangement, blur, draw_directions, draw_embedding
from xmodel.datasets.synthetic_sides import PlantedSide, measure_snr
from xmodel.errors import InputError

Saes = Literal["perfect", "trained"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)

_SHARES = ("shared", "strength", "topics", "cofiring", "carry", "noise", "highest")
_COUNTS = {
    "features_a": 2,
    "features_b": 2,
    "width_a": 3,
    "width_b": 3,
    "group": 1,
    "tokens_a": 1,
    "tokens_b": 1,
    "documents": 2,
    "words": 2,
    "training_tokens": 1024,
}


@dataclass(frozen=True)
class PlantedSettings:
    """What is planted.

    Raises:
        InputError: for a value that makes no sense.
    """

    features_a: int = 300
    """Features of A's dictionary."""
    features_b: int = 400
    """Features of B's dictionary."""
    shared: float = 0.5
    """Share of the smaller dictionary's features that are in both models; 0 to 1."""
    arrangement: Arrangement = "clustered"
    """How directions lie: ``isotropic`` (independent of each other), ``clustered`` (groups around centres) or
    ``circular`` (groups on rings, as the months of a year)."""
    group: int = 8
    """Features per cluster or ring."""
    strength: float = 0.6
    """Share of a direction's squared length that its cluster or ring determines; 0 to 1."""
    exponent: float = 0.8
    """Zipf's exponent: the feature of rank k fires on a word with a chance of highest * k^-exponent."""
    highest: float = 0.2
    """The most frequent feature's chance to fire on a word; below 0.5."""
    topics: float = 0.2
    """Share of the latent variance of firing that comes from the document's topics, which are the text's and
    so the same for both models, for features in one model alone too; 0 to 1, together with `cofiring`."""
    cofiring: float = 0.5
    """Share of it that a group's features have in common on every word; on rings neighbours most."""
    width_a: int = 48
    """Dimensions of A's activations."""
    width_b: int = 64
    """Dimensions of B's activations."""
    tokens_a: int = 2
    """Most tokens of a word under A's tokenizer; a word has 1 to so many, each as likely."""
    tokens_b: int = 3
    """The same for B."""
    carry: float = 0.9
    """A feature begins to fire on any one of a word's tokens; the chance that it still fires on the next.
    Pooling sees the word's last token alone."""
    noise: float = 0.3
    """Mean noise of features, below 1. Each feature of each model draws a level q from 0.5 to 1.5 times
    this (0.95 at most): it misses a share q of its firings, of its firings a share q is spurious, and what it
    fires with is multiplied by exp(q * standard normal)."""
    geometry_noise: float = 0.3
    """Length of what is added to each decoder direction, of length 1, in each model; 0 or more."""
    words: int = 8000
    """Words of the simulated text."""
    documents: int = 60
    """Documents of the simulated text."""
    saes: Saes = "perfect"
    """``perfect``: features are the ground truth with the noise above. ``trained``: SAEs are trained on each
    model's simulated activations, and their latents compared with the ground truth."""
    training_tokens: int = 300_000
    """Activations that each SAE is trained on; only for ``trained``."""
    seed: int = 0
    """Of everything that is drawn; 0 or more."""

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} came as {getattr(self, name)}; expected was {least} or more.")
        for name in _SHARES:
            most = 0.5 if name == "highest" else 1.0
            value = getattr(self, name)
            if (
                not 0 <= value <= most
                or (name == "noise" and value == 1)
                or (name == "highest" and not value)
            ):
                raise InputError(f"{name} came as {value:g}; expected was a share from 0 to {most:g}.")
        if self.arrangement not in ARRANGEMENTS:
            raise InputError(
                f"arrangement came as {self.arrangement!r}; expected was one of {', '.join(ARRANGEMENTS)}."
            )
        if self.saes not in get_args(Saes):
            raise InputError(f"saes came as {self.saes!r}; expected was perfect or trained.")
        if self.topics + self.cofiring > 0.95 + 1e-9:
            raise InputError(
                f"topics {self.topics:g} and cofiring {self.cofiring:g} came; together they can be 0.95 at "
                "most, so that every feature still fires for reasons of its own. Lower one."
            )
        if not 0 <= self.geometry_noise < np.inf or not 0 < self.exponent < np.inf:
            raise InputError(
                f"geometry_noise {self.geometry_noise:g} and exponent {self.exponent:g} came; expected was 0 "
                "or more for the first and more than 0 for the second."
            )
        if self.words < self.documents:
            raise InputError(
                f"{self.words} words came for {self.documents} documents; a document has one at least."
            )
        if self.seed < 0:
            raise InputError(f"seed came as {self.seed}; expected was 0 or more.")

    @property
    def shared_features(self) -> int:
        """S, the number of features in both models."""
        return round(self.shared * min(self.features_a, self.features_b))


@dataclass(frozen=True, eq=False)
class Planted:
    """Two simulated models that read the same words, and what is true of them."""

    settings: PlantedSettings
    a: PlantedSide
    b: PlantedSide
    lengths: NDArray[np.int64]
    """[D] words of each document, in order."""
    pairs: NDArray[np.int64]
    """[S, 2] the true pairs, by A's number. Of trained SAEs: those concepts that both have learned."""
    snr: NDArray[np.float64]
    """[S] of each true pair: rho_a rho_b / (1 - rho_a rho_b). That is the features' own ratio where both are
    equally noisy; the correlation between the two is about rho_a rho_b. Not a number as above."""
    probabilities: NDArray[np.float64]
    """[C] chance of every concept to fire on a word."""
    groups: NDArray[np.int64]
    """[C] cluster or ring of every concept; concepts of one group follow each other, on rings in order."""

    @property
    def documents(self) -> NDArray[np.int64]:
        """[W] the document of every word."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@dataclass(frozen=True, eq=False)
class Truth:
    """The concepts of a simulated text, before any model has seen them."""

    firings: Firings
    """On which words which concept fires, and how strongly."""
    lengths: NDArray[np.int64]
    """[D] words of each document."""
    probabilities: NDArray[np.float64]
    """[C] chance of every concept to fire on a word."""
    groups: NDArray[np.int64]
    """[C] group of each concept."""
    angles: NDArray[np.float64]
    """[C] place on the ring, in radians; 0 where there are none."""
    factors: NDArray[np.float32]
    """[C, L] loadings of the latent variables that make concepts fire together; see `draw_factors`."""


def plant_models(settings: PlantedSettings) -> Planted:
    """Simulate two models with shared features.

    Concepts fire by a Gaussian copula: concept c fires on word w where a latent normal variable exceeds the
    (1 - p_c)-quantile, p_c being Zipf's; the latent variables have topics and groups in common (see
    `PlantedSettings.topics` and ``cofiring``). This is the model of `sae_lens.synthetic`'s
    ``ActivationGenerator`` with a ``LowRankCorrelationMatrix``, but for topics, which here stay for a whole
    document. Directions of shared concepts are the same in both models up to a random rotation into the
    model's own width and `geometry_noise`; all others are independent.

    Args:
        settings: what to plant. Equal settings give equal models, bit for bit on one machine.

    Returns:
        Both models, the text's documents and the true pairs.
    """
    # Each part has random numbers of its own, so that less noise leaves the same text and directions.
    rng, *own_rngs = np.random.default_rng(settings.seed).spawn(3)
    truth = _draw_truth(settings, rng)
    shared, total = settings.shared_features, len(truth.probabilities)
    common = min(settings.width_a, settings.width_b)
    kind = settings.arrangement, settings.strength
    directions = draw_directions(truth.groups[:shared], truth.angles[:shared], *kind, common, rng)
    sides = []
    for width, own, most, own_rng in (
        (settings.width_a, slice(shared, settings.features_a), settings.tokens_a, own_rngs[0]),
        (settings.width_b, slice(settings.features_a, total), settings.tokens_b, own_rngs[1]),
    ):
        concepts = np.concatenate([np.arange(shared), np.arange(total)[own]])
        private = draw_directions(truth.groups[own], truth.angles[own], *kind, width, own_rng)
        exact = np.concatenate([directions @ draw_embedding(common, width, own_rng), private])
        decoder = blur(exact, settings.geometry_noise, own_rng)
        sides.append(_see(settings, truth, concepts, decoder, most, own_rng))
    planted = pair_sides(settings, truth, sides[0], sides[1])
    if settings.saes == "perfect":
        return planted
    from xmodel.datasets.synthetic_training import train_side

    learned = [
        train_side(
            side,
            truth.firings,
            truth.probabilities,
            truth.factors,
            settings.training_tokens,
            2 * settings.seed + number,
        )
        for number, side in enumerate(sides)
    ]
    return pair_sides(settings, truth, learned[0], learned[1])


def pair_sides(settings: PlantedSettings, truth: Truth, a: PlantedSide, b: PlantedSide) -> Planted:
    """Put two sides together: which features stand for the same shared concept, and how well."""
    found = []
    for side in (a, b):
        numbers = np.full(len(truth.probabilities) + 1, -1)
        numbers[side.concepts] = np.arange(len(side.concepts))
        found.append(numbers[: settings.shared_features])
    both = np.flatnonzero((found[0] >= 0) & (found[1] >= 0))
    pairs = np.stack([found[0][both], found[1][both]], axis=1)
    pairs = pairs[np.argsort(pairs[:, 0])]
    ratios = a.snr[pairs[:, 0]], b.snr[pairs[:, 1]]
    r = np.sqrt(ratios[0] / (1 + ratios[0]) * ratios[1] / (1 + ratios[1]))
    return Planted(settings, a, b, truth.lengths, pairs, r / (1 - r), truth.probabilities, truth.groups)


def _draw_truth(settings: PlantedSettings, rng: np.random.Generator) -> Truth:
    shared = settings.shared_features
    parts = (shared, settings.features_a - shared, settings.features_b - shared)
    places = [np.arange(part) for part in parts]
    # No group has concepts of two parts, so that what is shared has its own clusters and rings.
    firsts = np.cumsum([0, *(-(-part // settings.group) for part in parts[:2])])
    groups = np.concatenate(
        [first + own // settings.group for first, own in zip(firsts, places, strict=True)]
    )
    inside = np.concatenate([own % settings.group for own in places])
    circular = settings.arrangement == "circular"
    angles = 2 * np.pi * inside / settings.group if circular else np.zeros(len(groups))
    probabilities = np.concatenate(
        [draw_probabilities(part, settings.exponent, settings.highest, rng) for part in parts]
    )
    lengths = cut_words(settings.words, settings.documents, rng)
    factors = draw_factors(groups, angles, settings.topics, settings.cofiring, rng)
    firings = draw_firings(probabilities, factors, lengths, rng)
    return Truth(firings, lengths, probabilities, groups, angles, factors)


def _see(
    settings: PlantedSettings,
    truth: Truth,
    concepts: NDArray[np.int64],
    decoder: NDArray[np.float32],
    most: int,
    rng: np.random.Generator,
) -> PlantedSide:
    """One model's features of the text, numbered in an order of its own."""
    order = rng.permutation(len(concepts))
    concepts, decoder = concepts[order], decoder[order]
    levels = np.clip(settings.noise * rng.uniform(0.5, 1.5, len(concepts)), 0, 0.95)
    tokens = rng.integers(1, most + 1, settings.words)
    rates = truth.probabilities[concepts]
    token_features = draw_tokens(truth.firings, concepts, rates, levels, tokens, settings.carry, rng)
    features = pool_last(token_features, tokens)
    snr = measure_snr(features, truth.firings, concepts)
    return PlantedSide(features, decoder, concepts, snr, tokens, token_features)
