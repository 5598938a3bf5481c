"""Planted truth: what is simulated is what the settings say, and nothing else gives the pairs away."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import multivariate_normal, norm

from xmodel.alignment.pooling import keep_entries
from xmodel.datasets.synthetic import ARRANGEMENTS, PlantedSettings, plant_models
from xmodel.datasets.synthetic_firing import (
    draw_factors,
    draw_firings,
    draw_probabilities,
)
from xmodel.datasets.synthetic_geometry import draw_directions, draw_embedding
from xmodel.errors import InputError
from xmodel.pairing.chunks import check_rows
from xmodel.records import Members, WordFeatures

SMALL = PlantedSettings(features_a=60, features_b=80, words=3000, documents=30)
EXACT = replace(SMALL, noise=0.0, carry=1.0, geometry_noise=0.0)


def to_dense(rows: WordFeatures) -> np.ndarray:
    shape = (len(rows), rows.features)
    return csr_array((rows.values.astype(np.float64), rows.indices, rows.indptr), shape=shape).toarray()


def get_arrays(planted):
    yield from (planted.lengths, planted.pairs, planted.snr, planted.probabilities, planted.groups)
    for side in (planted.a, planted.b):
        yield from (side.decoder, side.concepts, side.snr, side.tokens)
        for rows in (side.features, side.token_features):
            yield from (rows.indptr, rows.indices, rows.values)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_equal_seeds_give_equal_models_and_other_seeds_others(arrangement):
    settings = replace(SMALL, arrangement=arrangement, seed=3)
    first, second = (list(get_arrays(plant_models(settings))) for _ in range(2))
    assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(first, second, strict=True))
    other = plant_models(replace(settings, seed=4))
    assert not np.array_equal(other.pairs, first[1])


def test_shapes_are_those_of_the_settings():
    planted = plant_models(SMALL)
    assert planted.a.decoder.shape == (60, 48) and planted.b.decoder.shape == (80, 64)
    assert planted.lengths.sum() == 3000 and len(planted.lengths) == 30 and planted.lengths.min() >= 1
    assert np.array_equal(np.bincount(planted.documents), planted.lengths)
    assert planted.pairs.shape == (30, 2) and (np.diff(planted.pairs[:, 0]) > 0).all()
    for side, features, most in ((planted.a, 60, 2), (planted.b, 80, 3)):
        check_rows(side.features, features, "words")
        check_rows(side.token_features, features, "tokens")
        assert len(side.features) == 3000 and len(side.token_features) == side.tokens.sum()
        assert set(np.unique(side.tokens)) == set(range(1, most + 1))
        assert np.allclose(np.linalg.norm(side.decoder, axis=1), 1, atol=1e-6)
        assert sorted(side.concepts)[:30] == list(range(30))
    own = set(planted.a.concepts[planted.a.concepts >= 30]), set(planted.b.concepts[planted.b.concepts >= 30])
    assert len(own[0]) == 30 and len(own[1]) == 50 and not own[0] & own[1]


@pytest.mark.parametrize("shared", [0.0, 0.25, 1.0])
def test_pairs_are_the_features_of_one_concept(shared):
    planted = plant_models(replace(SMALL, shared=shared))
    a, b = planted.pairs[:, 0], planted.pairs[:, 1]
    assert len(planted.pairs) == round(60 * shared)
    assert np.array_equal(planted.a.concepts[a], planted.b.concepts[b])
    assert len(set(a)) == len(set(b)) == len(a)


def test_numbers_say_nothing_about_pairs():
    """Neither do equal numbers belong together, nor ranks, nor those of the ground truth."""
    equal, ranks, concepts = 0, [], []
    for seed in range(40):
        planted = plant_models(replace(SMALL, shared=1.0, words=100, documents=2, seed=seed))
        a, b = planted.pairs.T
        equal += int((a == b).sum())
        ranks.append(np.corrcoef(a, b)[0, 1])
        concepts += [np.corrcoef(side.concepts, np.arange(len(side.concepts)))[0, 1] for side in (planted.a,)]
    # One feature out of 80 has its partner's number by chance: 40 * 60 / 80 = 30 in all.
    assert 10 < equal < 55
    assert abs(np.mean(ranks)) < 0.1 and abs(np.mean(concepts)) < 0.1


def test_a_model_without_noise_sees_the_same_as_the_other():
    planted = plant_models(EXACT)
    a, b = (to_dense(side.features) for side in (planted.a, planted.b))
    assert a.any() and np.array_equal(a[:, planted.pairs[:, 0]], b[:, planted.pairs[:, 1]])
    assert planted.snr.min() > 1e6
    own = np.setdiff1d(np.arange(60), planted.pairs[:, 0])
    r = np.nan_to_num(np.corrcoef(a.T, b.T)[:60, 60:])
    assert r[own].max() < 0.5


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3])
def test_frequencies_follow_zipf(exponent):
    found = np.sort(draw_probabilities(200, exponent, 0.3, np.random.default_rng(0)))[::-1]
    slope = np.polyfit(np.log(np.arange(1, 201)), np.log(found), 1)[0]
    assert slope == pytest.approx(-exponent) and found[0] == pytest.approx(0.3)
    settings = replace(EXACT, exponent=exponent, words=40000, documents=400, topics=0.0, features_a=40)
    planted = plant_models(settings)
    measured = np.bincount(planted.a.features.indices, minlength=40) / 40000
    expected = planted.probabilities[planted.a.concepts]
    assert np.all(np.abs(measured - expected) < 5 * np.sqrt(expected / 40000))
    # Shared and unshared concepts both have all ranks.
    for part in (planted.probabilities[:20], planted.probabilities[20:40]):
        assert np.allclose(np.sort(part)[::-1], settings.highest * np.arange(1, 21) ** -exponent)


def test_frequencies_are_those_of_saelens_where_its_law_is_zipfs():
    from sae_lens.synthetic import zipfian_firing_probabilities

    theirs = zipfian_firing_probabilities(100, 0.8, max_prob=0.2, min_prob=0.2 * 100**-0.8).numpy()
    ours = np.sort(draw_probabilities(100, 0.8, 0.2, np.random.default_rng(0)))[::-1]
    assert np.allclose(ours, theirs, rtol=1e-4)


def measure_joint(factors, words=40000, documents=40000):
    lengths = np.full(documents, words // documents)
    probabilities = np.full(len(factors), 0.2)
    found = draw_firings(probabilities, factors, lengths, np.random.default_rng(1))
    fires = np.zeros((words, len(factors)), bool)
    fires[found.words, found.concepts] = True
    return fires, (fires.T.astype(float) @ fires) / words


def test_features_of_a_group_fire_together_as_the_latent_correlation_says():
    groups, angles = np.repeat(np.arange(2), 6), np.tile(2 * np.pi * np.arange(6) / 6, 2)
    factors = draw_factors(groups, angles, 0.1, 0.6, np.random.default_rng(0))
    latent = factors @ factors.T
    assert np.allclose(np.diag(latent), 0.7, atol=1e-6)
    _, joint = measure_joint(factors)
    threshold = norm.isf(0.2)
    for one, other in ((0, 1), (0, 3), (0, 7), (2, 4)):
        covariance = [[1, latent[one, other]], [latent[one, other], 1]]
        expected = multivariate_normal(cov=covariance).cdf([-threshold, -threshold])
        assert joint[one, other] == pytest.approx(expected, abs=0.008)
    assert joint[0, 1] > joint[0, 2] > joint[0, 3]
    independent = draw_factors(groups, angles, 0.0, 0.0, np.random.default_rng(0))
    _, joint = measure_joint(independent)
    off = joint[~np.eye(12, dtype=bool)]
    assert np.abs(off - 0.04).max() < 0.006


def test_concepts_fire_together_as_saelens_generator_makes_them():
    import torch
    from sae_lens.synthetic import ActivationGenerator, LowRankCorrelationMatrix

    groups, angles = np.repeat(np.arange(3), 3), np.zeros(9)
    factors = draw_factors(groups, angles, 0.2, 0.5, np.random.default_rng(2))
    _, ours = measure_joint(factors)
    loadings = torch.tensor(factors)
    matrix = LowRankCorrelationMatrix(loadings, 1 - (loadings**2).sum(dim=1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fires = ActivationGenerator(9, 0.2, correlation_matrix=matrix).sample(40000).numpy() > 0
    assert np.abs((fires.T.astype(float) @ fires) / 40000 - ours).max() < 0.015


def test_topics_stay_for_a_document():
    """Counts per document vary more than those of independent words, and more so with topics."""
    groups = np.arange(20)
    excess = []
    for topics in (0.0, 0.5):
        factors = draw_factors(groups, np.zeros(20), topics, 0.0, np.random.default_rng(0))
        fires, _ = measure_joint(factors, 20000, 200)
        counts = fires.reshape(200, 100, 20).sum(axis=1)
        excess.append(np.mean(counts.var(axis=0) / (100 * 0.2 * 0.8)))
    assert 0.8 < excess[0] < 1.2 and excess[1] > 4


def test_clusters_are_clusters_and_rings_are_rings():
    groups = np.repeat(np.arange(20), 8)
    angles = np.tile(2 * np.pi * np.arange(8) / 8, 20)
    inside = (groups[:, None] == groups) & ~np.eye(160, dtype=bool)

    def compute_cosines(arrangement, own_angles, strength=0.6):
        rng = np.random.default_rng(0)
        rows = draw_directions(groups, own_angles, arrangement, strength, 256, rng)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1)
        return rows @ rows.T

    clustered = compute_cosines("clustered", np.zeros(160))
    assert clustered[inside].mean() == pytest.approx(0.6, abs=0.03)
    assert abs(clustered[groups[:, None] != groups].mean()) < 0.01
    isotropic = compute_cosines("isotropic", np.zeros(160))
    assert abs(isotropic[inside].mean()) < 0.02
    ring = compute_cosines("circular", angles)
    steps = np.abs(np.arange(160)[:, None] - np.arange(160)) % 8
    by_step = [ring[inside & (np.minimum(steps, 8 - steps) == step)].mean() for step in range(1, 5)]
    assert by_step == pytest.approx(0.6 * np.cos(np.pi / 4 * np.arange(1, 5)), abs=0.04)
    assert all(near > far for near, far in pairwise(by_step))


def test_shared_features_lie_alike_and_others_do_not():
    planted = plant_models(replace(EXACT, words=100, documents=2))
    a, b = (side.decoder.astype(np.float64) for side in (planted.a, planted.b))
    first, second = a[planted.pairs[:, 0]], b[planted.pairs[:, 1]]
    assert np.allclose(first @ first.T, second @ second.T, atol=1e-5)
    # The shared space is turned: no coordinate of one model is one of the other.
    assert np.abs(first[:, :48] - second[:, :48]).mean() > 0.05
    own_a, own_b = a[planted.a.concepts >= 30], b[planted.b.concepts >= 30][:30]
    off = ~np.eye(30, dtype=bool)
    assert abs(np.corrcoef((own_a @ own_a.T)[off], (own_b @ own_b.T)[off])[0, 1]) < 0.2
    noisy = plant_models(replace(EXACT, words=100, documents=2, geometry_noise=0.5))
    first, second = noisy.a.decoder[noisy.pairs[:, 0]], noisy.b.decoder[noisy.pairs[:, 1]]
    assert not np.allclose(first @ first.T, second @ second.T, atol=0.05)


def test_the_embedding_keeps_all_angles():
    embedding = draw_embedding(5, 9, np.random.default_rng(0))
    assert embedding.shape == (5, 9) and np.allclose(embedding @ embedding.T, np.eye(5))


def test_words_have_the_features_of_their_last_token_as_the_tool_pools_them():
    planted = plant_models(SMALL)
    for side in (planted.a, planted.b):
        indptr = np.concatenate([[0], np.cumsum(side.tokens)])
        count = int(indptr[-1])
        members = Members(indptr, np.arange(count), np.ones(count))
        last = keep_entries(members, np.ones(count, bool), "last").tokens
        assert np.array_equal(to_dense(side.token_features)[last], to_dense(side.features))


def test_carry_decides_what_the_last_token_still_shows():
    seen = []
    for carry in (0.0, 0.9, 1.0):
        planted = plant_models(replace(EXACT, carry=carry, tokens_a=3))
        seen.append(len(planted.a.features.indices))
    # Of words of 1, 2, 3 tokens, (1 + 1/2 + 1/3) / 3 of the firings begin on the last one.
    assert seen[0] == pytest.approx(seen[2] * 11 / 18, rel=0.05) and seen[0] < seen[1] < seen[2]


def test_noise_misses_adds_and_distorts_as_it_says():
    noise = 0.3
    settings = replace(EXACT, words=20000, tokens_a=1, exponent=0.2, topics=0.0, cofiring=0.0)
    exact, noisy = plant_models(settings), plant_models(replace(settings, noise=noise))
    assert np.array_equal(exact.a.concepts, noisy.a.concepts)
    true, seen = (to_dense(planted.a.features) for planted in (exact, noisy))
    missed = ((true > 0) & (seen == 0)).sum(axis=0) / (true > 0).sum(axis=0)
    assert missed.mean() == pytest.approx(noise, abs=0.03) and 0.1 < missed.min() < missed.max() < 0.5
    spurious = ((true == 0) & (seen > 0)).sum(axis=0) / (seen > 0).sum(axis=0)
    assert spurious.mean() == pytest.approx(noise, abs=0.06)
    both = (true > 0) & (seen > 0)
    ratio = np.log(seen[both] / true[both])
    assert abs(ratio.mean()) < 0.02 and ratio.std() == pytest.approx(noise, abs=0.05)


def test_snr_is_that_of_the_definition():
    noisy, exact = plant_models(SMALL), plant_models(EXACT)
    for name in ("a", "b"):
        x, truth = (to_dense(getattr(planted, name).features) for planted in (noisy, exact))
        rho = np.array([np.corrcoef(x[:, f], truth[:, f])[0, 1] for f in range(x.shape[1])])
        assert np.allclose(getattr(noisy, name).snr, rho**2 / (1 - rho**2))
    ratios = noisy.a.snr[noisy.pairs[:, 0]], noisy.b.snr[noisy.pairs[:, 1]]
    r = np.sqrt(np.prod([one / (1 + one) for one in ratios], axis=0))
    assert np.allclose(noisy.snr, r / (1 - r))
    found = np.corrcoef(to_dense(noisy.a.features).T, to_dense(noisy.b.features).T)[:60, 60:]
    assert np.mean(found[tuple(noisy.pairs.T)] - r) == pytest.approx(0, abs=0.03)
    louder = plant_models(replace(SMALL, noise=0.6))
    assert np.median(louder.snr) < np.median(noisy.snr)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shared": 1.1}, "shared"),
        ({"shared": float("nan")}, "shared"),
        ({"noise": 1.0}, "noise"),
        ({"highest": 0.0}, "highest"),
        ({"highest": 0.6}, "highest"),
        ({"features_a": 1}, "features_a"),
        ({"width_b": 2}, "width_b"),
        ({"tokens_a": 0}, "tokens_a"),
        ({"documents": 1}, "documents"),
        ({"words": 10, "documents": 20}, "10 words"),
        ({"topics": 0.5, "cofiring": 0.5}, "together"),
        ({"exponent": 0.0}, "exponent"),
        ({"exponent": float("nan")}, "exponent"),
        ({"geometry_noise": -0.1}, "geometry_noise"),
        ({"geometry_noise": float("inf")}, "geometry_noise"),
        ({"arrangement": "square"}, "isotropic"),
        ({"saes": "good"}, "perfect"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        replace(SMALL, **changes)
