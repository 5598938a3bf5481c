"""SAEs really trained on a simulated model's activations, and which of their latents is which concept."""

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.synthetic_firing import Firings, pool_last
from xmodel.datasets.synthetic_sides import PlantedSide, measure_snr
from xmodel.records import WordFeatures

if TYPE_CHECKING:
    from sae_lens.saes.topk_sae import TopKTrainingSAE

LEAST_COSINE = 0.9
"""Least cosine of a latent's decoder vector with a concept's direction for the latent to be that concept."""
LEARNING_RATE = 6e-3
BATCH = 256
ENCODED = 8192
"""Tokens that are encoded at once."""


def train_side(
    side: PlantedSide,
    firings: Firings,
    probabilities: NDArray[np.float64],
    factors: NDArray[np.float32],
    training_tokens: int,
    seed: int,
) -> PlantedSide:
    """Train a TopK SAE on a simulated model's activations, and put its latents in place of the features.

    It is trained on fresh activations, which `sae_lens.synthetic` draws from the same distribution: sums of
    the features' directions. Then it reads the activations that the model has on the text's own tokens, noise
    of the features included. The SAE has as many latents as the model has features, of which as many are
    active as fire on a token on average, and one more. Latents are told apart by optimal assignment of their
    decoder vectors to the features' directions by cosine; those below `LEAST_COSINE` are no concept.

    Args:
        side: the simulated model, with its features.
        firings: the text's concepts.
        probabilities: [C] chance of every concept to fire on a word.
        factors: [C, L] loadings of the latent variables that make concepts fire together.
        training_tokens: activations to train on.
        seed: of training and initialisation.

    Returns:
        The same model with the trained SAE: `features`, `decoder`, `concepts` and `snr` are the latents'.
    """
    import torch

    with _use_one_thread(), torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(seed)
        sae = _train(side, probabilities, factors, training_tokens)
        token_features = _encode(sae, side)
    decoder = sae.W_dec.detach().numpy()
    decoder = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-12)
    concepts = identify_latents(decoder, side.decoder, side.concepts)
    features = pool_last(token_features, side.tokens)
    snr = measure_snr(features, firings, concepts)
    return PlantedSide(features, decoder.astype(np.float32), concepts, snr, side.tokens, token_features)


def identify_latents(
    decoder: NDArray[np.floating], directions: NDArray[np.floating], concepts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which concept each latent stands for, by optimal one-to-one assignment on cosines.

    Args:
        decoder: [L, d] latents' decoder vectors, of length 1.
        directions: [F, d] the features' true directions, of length 1.
        concepts: [F] their concepts.

    Returns:
        [L] concept, -1 where the cosine is below `LEAST_COSINE`.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = decoder @ directions.T
    # What is below counts for nothing, so that a latent that is no concept takes none from another.
    latents, features = linear_sum_assignment(np.where(cosines >= LEAST_COSINE, cosines, 0.0), maximize=True)
    good = cosines[latents, features] >= LEAST_COSINE
    found = np.full(len(decoder), -1, np.int64)
    found[latents[good]] = concepts[features[good]]
    return found


@contextlib.contextmanager
def _use_one_thread() -> Iterator[None]:
    """Faster for small matrices, and the same bits on every machine with the same instructions."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    side: PlantedSide, probabilities: NDArray[np.float64], factors: NDArray[np.float32], samples: int
) -> "TopKTrainingSAE":
    import torch
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.synthetic import (
        ActivationGenerator,
        FeatureDictionary,
        LowRankCorrelationMatrix,
        train_toy_sae,
    )

    rates = torch.tensor(probabilities[side.concepts], dtype=torch.float32)
    loadings = torch.tensor(factors[side.concepts])
    generator = ActivationGenerator(
        len(rates),
        rates,
        std_firing_magnitudes=0.5,
        correlation_matrix=LowRankCorrelationMatrix(loadings, 1 - (loadings**2).sum(dim=1)),
    )
    features, width = side.decoder.shape
    dictionary = FeatureDictionary(features, width, initializer=None)
    dictionary.feature_vectors.data = torch.tensor(side.decoder)
    active = min(features, round(float(rates.sum())) + 1)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=width, d_sae=features, k=active))
    train_toy_sae(
        sae,
        dictionary,
        generator,
        training_samples=samples,
        batch_size=BATCH,
        lr=LEARNING_RATE,
        lr_decay_steps=samples // BATCH // 3,
    )
    return sae.eval()


def _encode(sae: "TopKTrainingSAE", side: PlantedSide) -> WordFeatures:
    """The latents of the text's tokens, as compressed sparse rows."""
    import torch
    from scipy.sparse import csr_array

    own = side.token_features
    tokens = csr_array((own.values, own.indices, own.indptr), shape=(len(own), own.features))
    indices, values, counts = [], [], []
    for begin in range(0, len(own), ENCODED):
        activations = torch.tensor(tokens[begin : begin + ENCODED] @ side.decoder)
        with torch.no_grad():
            latents = sae.encode(activations).numpy()
        rows, columns = np.nonzero(latents)
        counts.append(np.bincount(rows, minlength=len(latents)))
        indices.append(columns.astype(np.int32))
        values.append(latents[rows, columns].astype(np.float32))
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))])
    return WordFeatures(indptr, np.concatenate(indices), np.concatenate(values), sae.cfg.d_sae)
