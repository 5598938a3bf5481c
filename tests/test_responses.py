"""Responses as changes of Gram matrices: laws of the statistic, and equality with plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from slow_steering import center, correlate, draw_packed, make_gram, pack, split, sum_quadruples

from xmodel.errors import InputError
from xmodel.similarity.orders import draw_orders
from xmodel.steering.responses import (
    center_gram,
    correlate_responses,
    count_words,
    measure_norms,
    normalise_gram,
    number_pairs,
    pack_gram,
    permute_words,
    remove_copy,
    split_response,
    take_words,
    unpack_gram,
)

sizes = st.tuples(st.integers(4, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))


def draw_rows(n, width, seed, count=3):
    """Rows of a clean pass and of passes at +c and -c: [count, n, width]."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, n, width)) + 0.5)


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_gram_and_centring_equal_loops(size):
    n, width, seed = size
    rows = draw_rows(n, width, seed)
    grams = normalise_gram(rows)
    slow = np.stack([make_gram(one.numpy()) for one in rows])
    np.testing.assert_allclose(grams, slow, atol=1e-12)
    np.testing.assert_allclose(center_gram(grams), [center(gram) for gram in slow], atol=1e-12)


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_centring_is_an_orthogonal_projection(size):
    n, width, seed = size
    one, two = normalise_gram(draw_rows(n, width, seed, count=2))
    centred = center_gram(one)
    torch.testing.assert_close(center_gram(centred), centred, atol=1e-12, rtol=0)
    torch.testing.assert_close(centred, centred.T, atol=0, rtol=0)
    assert float(centred.diagonal().abs().max()) == 0
    assert float(centred.sum(dim=0).abs().max()) < 1e-11
    # What is taken away is orthogonal to all that stays.
    assert abs(float((center_gram(two) * (one - centred)).sum())) < 1e-10


@given(st.integers(4, 7), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_centred_product_is_the_published_unbiased_hsic(n, seed):
    one, two = normalise_gram(draw_rows(n, 3, seed, count=2))
    product = float((center_gram(one) * center_gram(two)).sum())
    assert product / (n * (n - 3)) == pytest.approx(sum_quadruples(one.numpy(), two.numpy()), abs=1e-10)


def test_sums_of_word_effects_are_centred_away():
    effects = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12)))
    assert float(center_gram(effects[:, :, None] + effects[:, None, :]).abs().max()) < 1e-12


def test_a_diagonal_is_not_looked_at():
    gram = normalise_gram(draw_rows(9, 4, 0, count=1))
    torch.testing.assert_close(
        center_gram(gram + torch.diag(torch.arange(9.0))), center_gram(gram), atol=0, rtol=0
    )


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_split_equals_loops_and_sums_to_the_raw_change(size):
    n, width, seed = size
    zero, plus, minus = draw_rows(n, width, seed)
    odd, even = split_response(plus, minus, zero)
    slow = split(plus.numpy(), minus.numpy(), zero.numpy())
    np.testing.assert_allclose(odd, pack(slow[0]), atol=1e-12)
    np.testing.assert_allclose(even, pack(slow[1]), atol=1e-12)
    raw = pack(center(make_gram(plus.numpy()) - make_gram(zero.numpy())))
    np.testing.assert_allclose(odd + even, raw, atol=1e-12)


def test_odd_turns_round_with_the_push_and_even_does_not():
    zero, plus, minus = draw_rows(10, 6, 1)
    odd, even = split_response(plus, minus, zero)
    turned, same = split_response(minus, plus, zero)
    torch.testing.assert_close(turned, -odd, atol=1e-15, rtol=0)
    torch.testing.assert_close(same, even, atol=1e-15, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_that_do_nothing_give_exactly_nothing(dtype):
    """Copies differ in their last bits by rounding at the push; what is left without them does not."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(30, 48, generator=generator).mul(7).to(dtype)
    push = torch.randn(5, 2, 1, 48, generator=generator).to(dtype)
    plus, minus = hidden + push, hidden - push
    odd, even = split_response(remove_copy(plus, plus, hidden), remove_copy(minus, minus, hidden), hidden)
    assert float(odd.abs().max()) == 0
    assert float(even.abs().max()) == 0


def test_keeping_the_copy_gives_a_response_without_any_layers():
    """The must-fail case: with the copy kept, two models with no layers at all agree on shared words."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(40, 8))
    found = []
    for width in (24, 32):
        turn = ortho_group.rvs(width, random_state=rng)[:8]
        hidden, directions = torch.from_numpy(shared @ turn), torch.from_numpy(turn)
        push = 0.3 * directions[:, None, :]
        found.append(split_response(hidden + push, hidden - push, hidden)[0].numpy())
    scores = correlate_responses(*found)
    assert (scores.argmax(axis=1) == np.arange(8)).all()
    assert np.diagonal(scores).min() > 0.99


def test_small_doses_keep_their_digits():
    zero, plus, _ = draw_rows(20, 8, 3)
    push = plus - zero
    expected = split_response(zero + 1e-3 * push, zero - 1e-3 * push, zero)[0]
    small = split_response(zero + 1e-9 * push, zero - 1e-9 * push, zero)[0] * 1e6
    torch.testing.assert_close(small, expected, rtol=1e-4, atol=1e-8)


def test_leading_dimensions_broadcast_and_slices_make_no_difference(monkeypatch):
    zero = draw_rows(8, 5, 0)[None]
    plus, minus = draw_rows(8, 5, 1, count=12).reshape(2, 2, 3, 8, 5)
    odd, even = split_response(plus, minus, zero)
    assert odd.shape == even.shape == (2, 3, 28)
    for i in range(2):
        for j in range(3):
            one, two = split_response(plus[i, j], minus[i, j], zero[0, j])
            torch.testing.assert_close(one, odd[i, j], atol=1e-14, rtol=0)
            torch.testing.assert_close(two, even[i, j], atol=1e-14, rtol=0)
    monkeypatch.setattr("xmodel.steering.responses.SLICE_BYTES", 1)
    torch.testing.assert_close(split_response(plus, minus, zero)[0], odd, atol=1e-14, rtol=0)


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_packing_is_the_upper_triangle_and_goes_back(size):
    n, width, seed = size
    grams = center_gram(normalise_gram(draw_rows(n, width, seed)))
    packed = pack_gram(grams).numpy()
    np.testing.assert_array_equal(packed, grams.numpy()[:, *np.triu_indices(n, 1)])
    np.testing.assert_array_equal(unpack_gram(packed, n), grams)
    assert count_words(packed.shape[-1]) == n
    np.testing.assert_allclose(measure_norms(packed), np.linalg.norm(grams.numpy(), axis=(1, 2)), rtol=1e-12)
    rows, columns = np.triu_indices(n, 1)
    np.testing.assert_array_equal(number_pairs(columns, rows, n), np.arange(len(rows)))


def test_correlation_equals_whole_matrices(monkeypatch):
    rng = np.random.default_rng(0)
    one, two = draw_packed(4, 9, rng), draw_packed(3, 9, rng)
    slow = [[correlate(a, b) for b in unpack_gram(two, 9)] for a in unpack_gram(one, 9)]
    np.testing.assert_allclose(correlate_responses(one, two), slow, atol=1e-12)
    monkeypatch.setattr("xmodel.steering.responses.SLICE_BYTES", 8 * 7 * 5)
    np.testing.assert_allclose(correlate_responses(one, two), slow, atol=1e-12)


def test_sums_have_the_accuracy_of_float64():
    rng = np.random.default_rng(0)
    one = (rng.normal(size=(1, 200 * 199 // 2)) * 1e-12).astype(np.float32)
    two = one + np.float32(1e-16)
    exact = np.longdouble(one[0]) @ np.longdouble(two[0])
    exact /= np.sqrt(np.sum(np.longdouble(one) ** 2) * np.sum(np.longdouble(two) ** 2))
    assert abs(correlate_responses(one, two)[0, 0] - float(exact)) < 1e-13


def test_no_response_has_no_transfer():
    one = draw_packed(2, 6, np.random.default_rng(0))
    one[0] = 0
    np.testing.assert_array_equal(correlate_responses(one, one), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(permute_words(one, one, np.arange(6)[None]), [[0], [1]])


def test_transfer_is_invariant_to_rotation_scale_and_equal_orders_of_words():
    rng = np.random.default_rng(0)
    rows = [draw_rows(12, 7, seed) for seed in (1, 2)]
    before = correlate_responses(*(split_response(y[1], y[2], y[0])[0][None].numpy() for y in rows))
    order = rng.permutation(12)
    moved = []
    for y in rows:
        turn = torch.from_numpy(ortho_group.rvs(7, random_state=rng))
        scales = torch.from_numpy(rng.uniform(0.1, 10, size=(3, 12, 1)))
        y = ((y @ turn) * scales)[:, order]
        moved.append(split_response(y[1], y[2], y[0])[0][None].numpy())
    np.testing.assert_allclose(correlate_responses(*moved), before, atol=1e-12)


def test_permuting_one_side_only_changes_transfer():
    rng = np.random.default_rng(0)
    one = draw_packed(1, 20, rng)
    shuffled = permute_words(one, one, draw_orders(20, 50, rng))
    assert float(np.abs(shuffled).max()) < 0.6
    assert float(permute_words(one, one, np.arange(20)[None])[0, 0]) == pytest.approx(1)


@given(st.integers(5, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_permuting_words_equals_computing_anew(n, seed):
    rng = np.random.default_rng(seed)
    one, two = draw_rows(n, 4, rng.integers(1 << 30)), draw_rows(n, 4, rng.integers(1 << 30))
    first, second = (split_response(y[1], y[2], y[0])[0].numpy() for y in (one, two))
    orders = draw_orders(n, 6, rng)
    found = permute_words(np.stack([first, -first]), np.stack([second, second]), orders)
    for number, order in enumerate(orders):
        moved = split_response(*(two[k][order] for k in (1, 2, 0)))[0].numpy()
        assert found[0, number] == pytest.approx(
            correlate_responses(first[None], moved[None])[0, 0], abs=1e-12
        )
    np.testing.assert_allclose(found[1], -found[0], atol=1e-12)


def test_blocks_of_responses_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    one, two = (draw_packed(6, 8, rng).reshape(2, 3, 28).astype(np.float32) for _ in range(2))
    orders = draw_orders(8, 5, rng)
    whole = permute_words(one, two, orders)
    assert whole.shape == (2, 3, 5)
    monkeypatch.setattr("xmodel.steering.responses.BLOCK", 4)
    np.testing.assert_allclose(permute_words(one, two, orders), whole, atol=1e-14)


@given(st.integers(6, 10), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_taking_words_equals_centring_the_raw_matrix_of_these_words(n, seed):
    rng = np.random.default_rng(seed)
    grams = normalise_gram(draw_rows(n, 3, rng.integers(1 << 30)))
    chosen = rng.permutation(n)[: rng.integers(4, n + 1)]
    found = take_words(pack_gram(center_gram(grams)).numpy(), chosen)
    raw = grams.numpy()[:, chosen][:, :, chosen]
    np.testing.assert_allclose(found, [pack(center(gram)) for gram in raw], atol=1e-12)


def test_taking_words_keeps_dtype_and_shape(monkeypatch):
    packed = draw_packed(6, 9, np.random.default_rng(0)).reshape(2, 3, 36).astype(np.float32)
    found = take_words(packed, np.arange(5))
    assert found.dtype == np.float32
    assert found.shape == (2, 3, 10)
    monkeypatch.setattr("xmodel.steering.responses.SLICE_BYTES", 1)
    np.testing.assert_array_equal(take_words(packed, np.arange(5)), found)


def test_bad_input_is_refused():
    three, four = draw_rows(3, 4, 0), draw_rows(4, 4, 0)
    with pytest.raises(InputError, match="over 3 words"):
        split_response(three[1], three[2], three[0])
    with pytest.raises(InputError, match="over 3 words"):
        center_gram(normalise_gram(three))
    broken = four[1].clone()
    broken[2, 1] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        split_response(broken, four[2], four[0])
    packed = draw_packed(2, 6, np.random.default_rng(0))
    with pytest.raises(InputError, match="not finite"):
        correlate_responses(packed * np.nan, packed)
    with pytest.raises(InputError, match="equally many"):
        correlate_responses(packed, packed[:, :10])
    with pytest.raises(InputError, match="equal shapes"):
        permute_words(packed, packed[:1], np.arange(6)[None])
    for orders in (np.arange(5)[None], np.zeros((1, 6), int), np.arange(6)):
        with pytest.raises(InputError, match="every word stands once"):
            permute_words(packed, packed, orders)
    with pytest.raises(InputError, match="over the same words"):
        unpack_gram(packed, 7)
    with pytest.raises(InputError, match="whole number of words"):
        take_words(packed[:, :14], np.arange(4))
    for chosen, match in (
        ([0, 1, 2, 2], "once"),
        ([0.0, 1, 2, 3], "once"),
        ([0, 1, 2], "3 words"),
        ([0, 1, 2, 6], "0 to 5"),
    ):
        with pytest.raises(InputError, match=match):
            take_words(packed, np.array(chosen))
