"""Carrying vectors through pairs: planted truth, an independent pursuit, laws, and what must fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

from xmodel.errors import InputError
from xmodel.steering.carrying import Carried, carry_by_pairs
from xmodel.steering.vectors import SteeringVector

SITE_A, SITE_B = "blocks.3.hook_resid_post", "blocks.5.hook_resid_post"
FEATURES, WIDTH_A, WIDTH_B = 90, 48, 64


def make_world(seed=0, features=FEATURES):
    """Decoders of both models, and pairs of all features of A with features of B in another order."""
    rng = np.random.default_rng(seed)
    decoder_a = rng.normal(size=(features, WIDTH_A)).astype(np.float32) * rng.uniform(0.5, 3, (features, 1))
    decoder_b = rng.normal(size=(features + 10, WIDTH_B)).astype(np.float32)
    return decoder_a, decoder_b, rng.permutation(features), rng.permutation(features + 10)[:features], rng


def turn(width, rng):
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


def normalise(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def carry(values, decoder_a, decoder_b, a, b, sign=None, **options) -> Carried:
    vector = SteeringVector(values, SITE_A, "A", "planted")
    return carry_by_pairs(vector, decoder_a, decoder_b, a, b, sign, site=SITE_B, model="B", **options)


@pytest.mark.parametrize("seed", range(5))
def test_a_vector_of_five_features_is_carried_to_their_partners_exactly(seed):
    decoder_a, decoder_b, a, b, rng = make_world(seed)
    places = rng.choice(len(a), 5, replace=False)
    weights = rng.uniform(2, 4, 5) * rng.choice([-1, 1], 5)
    sign = rng.choice([-1, 1], len(a))
    vector = weights @ normalise(decoder_a[a[places]])
    got = carry(vector, decoder_a, decoder_b, a, b, sign, scale=2.5)
    assert set(got.features_a.tolist()) == set(a[places].tolist()) and len(got.features_a) == 5
    partner = dict(zip(a.tolist(), b.tolist(), strict=True))
    assert [partner[one] for one in got.features_a.tolist()] == got.features_b.tolist()
    expected = 2.5 * (weights * sign[places]) @ normalise(decoder_b[b[places]])
    np.testing.assert_allclose(got.vector.values, expected, atol=2e-5)
    found = dict(zip(got.features_a.tolist(), got.coefficients, strict=True))
    np.testing.assert_allclose([found[one] for one in a[places].tolist()], weights, atol=1e-5)
    assert got.share == pytest.approx(1, abs=1e-6) and got.cosine == pytest.approx(1, abs=1e-6)
    assert (got.vector.site, got.vector.model, got.vector.name) == (SITE_B, "B", "planted")
    assert (got.expressed.site, got.expressed.model) == (SITE_A, "A")
    # With the partners in another order the vector goes elsewhere: it is the pairs that carry it.
    wrong = carry(vector, decoder_a, decoder_b, a, rng.permutation(b), sign, scale=2.5)
    assert abs(np.dot(wrong.vector.unit().values, normalise(expected))) < 0.7


@pytest.mark.parametrize("most", [1, 2, 7, 20])
def test_the_pursuit_is_that_of_scikit_learn(most):
    decoder_a, decoder_b, a, b, rng = make_world(3)
    for _ in range(5):
        vector = rng.normal(size=WIDTH_A).astype(np.float32)
        got = carry(vector, decoder_a, decoder_b, a, b, most=most)
        atoms = normalise(decoder_a[a].astype(np.float64))
        theirs = np.asarray(orthogonal_mp(atoms.T, vector.astype(np.float64), n_nonzero_coefs=most))
        ours = np.zeros(len(a))
        ours[[a.tolist().index(one) for one in got.features_a]] = got.coefficients
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert got.share == pytest.approx(np.linalg.norm(theirs @ atoms) / np.linalg.norm(vector), abs=1e-6)


@given(st.integers(0, 10_000), st.floats(0.1, 10), st.integers(1, 12))
@settings(max_examples=25)
def test_carrying_is_a_projection_and_scales_with_the_vector(seed, factor, most):
    decoder_a, decoder_b, a, b, rng = make_world(seed, features=30)
    vector = rng.normal(size=WIDTH_A).astype(np.float32)
    got = carry(vector, decoder_a, decoder_b, a, b, most=most)
    left = vector - got.expressed.values.astype(np.float64)
    np.testing.assert_allclose(normalise(decoder_a[got.features_a]) @ left, 0, atol=1e-4)
    assert 0 < got.share <= 1 and got.cosine == pytest.approx(got.share, abs=1e-5)
    assert len(set(got.features_a.tolist())) == len(got.features_a) <= most
    more = carry(vector, decoder_a, decoder_b, a, b, most=most + 1)
    assert more.share >= got.share - 1e-9
    assert more.features_a[: len(got.features_a)].tolist() == got.features_a.tolist()
    scaled = carry(-factor * vector, decoder_a, decoder_b, a, b, most=most, scale=3)
    atol = 1e-4 * factor * got.vector.norm
    np.testing.assert_allclose(scaled.vector.values, -3 * factor * got.vector.values, atol=atol)
    assert scaled.stretch == pytest.approx(got.stretch, rel=1e-4)


def test_turning_either_space_turns_what_comes_out():
    decoder_a, decoder_b, a, b, rng = make_world(4)
    vector = rng.normal(size=WIDTH_A)
    rotation_a, rotation_b = turn(WIDTH_A, rng), turn(WIDTH_B, rng)
    plain = carry(vector, decoder_a, decoder_b, a, b, most=8)
    turned = carry(vector @ rotation_a, decoder_a @ rotation_a, decoder_b @ rotation_b, a, b, most=8)
    np.testing.assert_allclose(turned.vector.values, plain.vector.values @ rotation_b, atol=1e-4)
    assert turned.share == pytest.approx(plain.share, abs=1e-5)
    assert turned.features_a.tolist() == plain.features_a.tolist()


def test_stretch_is_one_in_a_turned_copy_and_zero_where_partners_cancel():
    decoder_a, _, _, _, rng = make_world(5)
    pairs = np.arange(FEATURES)
    vector = rng.normal(size=WIDTH_A)
    copy = decoder_a @ turn(WIDTH_A, rng)
    assert carry(vector, decoder_a, copy, pairs, pairs, scale=0.3).stretch == pytest.approx(1, abs=1e-5)
    one, other = normalise(decoder_a[0]), normalise(decoder_a[1])
    opposite = np.stack([np.eye(WIDTH_B)[0], -np.eye(WIDTH_B)[0]])
    assert carry(one + other, decoder_a[:2], opposite, [0, 1], [0, 1]).stretch < 1e-5


def test_a_vector_beside_the_features_is_carried_in_part_only():
    decoder_a, decoder_b, a, b, rng = make_world(6, features=10)
    inside = rng.normal(size=10) @ decoder_a
    basis = np.linalg.qr(decoder_a.T)[0]
    outside = rng.normal(size=WIDTH_A)
    outside -= basis @ (basis.T @ outside)
    inside, outside = normalise(inside), normalise(outside)
    got = carry(3 * inside + 4 * outside, decoder_a, decoder_b, a, b)
    assert got.share == pytest.approx(0.6, abs=1e-5) and len(got.features_a) == 10
    np.testing.assert_allclose(got.expressed.values, 3 * inside, atol=1e-4)
    with pytest.raises(InputError, match="has nothing to do with the decoder rows of the 10 paired"):
        carry(outside, decoder_a, decoder_b, a, b)


def test_the_first_pair_of_a_feature_counts_and_rows_of_zeros_are_passed_over():
    rng = np.random.default_rng(0)
    decoder_a, decoder_b = np.eye(4), turn(5, rng)
    decoder_b[4] = 0
    got = carry([1.0, 1, 0, 0], decoder_a, decoder_b, [0, 0, 1], [2, 3, 3])
    assert sorted(zip(got.features_a.tolist(), got.features_b.tolist(), strict=True)) == [(0, 2), (1, 3)]
    got = carry([1.0, 1, 0, 0], decoder_a, decoder_b, [0, 0, 1], [4, 2, 3])
    assert sorted(got.features_b.tolist()) == [2, 3]
    decoder_a[1] = 0
    got = carry([1.0, 1, 0, 0], decoder_a, decoder_b, [0, 1], [2, 3])
    assert got.features_a.tolist() == [0] and got.share == pytest.approx(np.sqrt(0.5), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"values": np.ones(5)}, "has 5 dimensions, and the decoder rows of A's dictionary have 4"),
        ({"values": np.zeros(4)}, "is zero: there is nothing to carry"),
        ({"a": [0, 4]}, "the feature 4 of A came in a pair: expected 0 to 3"),
        ({"b": [0, -1]}, "the feature -1 of B came in a pair"),
        ({"a": [0.0, 1.0]}, "the feature 0.0 of A"),
        ({"a": [0]}, r"shapes \[1\] and \[2\]"),
        ({"a": [], "b": []}, "at least one"),
        ({"sign": [1, 0]}, "signs that are 1 or -1"),
        ({"sign": [1, float("nan")]}, "signs that are 1 or -1"),
        ({"scale": 0.0}, "expected a positive scale"),
        ({"scale": float("nan")}, "expected a positive scale"),
        ({"most": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, told):
    sound = {"values": np.ones(4), "decoder_a": np.eye(4), "decoder_b": np.eye(3), "a": [0, 1], "b": [0, 1]}
    carry(**sound)
    with pytest.raises(InputError, match=told):
        carry(**{**sound, **changes})
