"""Which features rise under a push: against SAELens row by row, and on dictionaries whose truth is known."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_saes import ARCHITECTURES, FEATURES, WIDTH, make_sae, rows

from xmodel import InputError
from xmodel.models.saelens import SaeLensDictionary, load_plain, wrap_sae
from xmodel.steering import rising
from xmodel.steering.rising import measure_rises, rank_rise


def wrap(architecture: str, **config: Any) -> SaeLensDictionary:
    return wrap_sae(make_sae(architecture, **config), architecture, "")


def make_orthonormal(width: int = 8, bias: float = 0.0) -> SaeLensDictionary:
    """A ReLU dictionary whose features are the axes: activations of at least 0 are its features."""
    state = {"W_enc": torch.eye(width), "W_dec": torch.eye(width), "b_dec": torch.zeros(width)}
    state["b_enc"] = torch.full((width,), bias)
    return load_plain(state, {}, "axes", device="cpu", dtype="float32", digest="")


@pytest.mark.parametrize("size", [1, 4 * FEATURES * 4, 1 << 26])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rises_are_those_of_saelens_row_by_row(
    architecture: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rising, "SLICE_BYTES", size)
    clean = rows(9)
    pushed = torch.stack([clean + rows(1, seed=seed) for seed in (1, 2, 3)]).reshape(3, 1, 9, WIDTH)
    features = [31, 0, 17, 5, 5]
    found = measure_rises(wrap(architecture), clean, pushed, features)
    assert found.shape == (3, 1, 5) and found.dtype == np.float64
    sae = make_sae(architecture)
    with torch.no_grad():
        before = torch.stack([sae.encode(row[None])[0] for row in clean]).double()
        for push in range(3):
            after = torch.stack([sae.encode(row[None])[0] for row in pushed[push, 0]]).double()
            slow = (after - before).mean(0)[features].numpy()
            assert found[push, 0] == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_push_is_no_rise(architecture: str) -> None:
    clean = rows(9)
    assert not measure_rises(wrap(architecture), clean, clean, range(FEATURES)).any()
    assert measure_rises(wrap(architecture), clean, clean[None].expand(0, 9, WIDTH), [1]).shape == (0, 1)


@given(st.integers(0, 7), st.floats(0.125, 5), st.integers(0, 2**32 - 1))
def test_a_feature_of_its_own_axis_rises_alone_and_by_the_push(feature: int, dose: float, seed: int) -> None:
    clean = torch.rand(6, 8, generator=torch.Generator().manual_seed(seed))
    dictionary = make_orthonormal()
    pushed = clean + dose * dictionary.decoder[feature]
    found = measure_rises(dictionary, clean, pushed, range(8))
    assert found == pytest.approx(dose * np.eye(8)[feature], abs=1e-6)
    rise = rank_rise(found, range(8), feature, most=1)
    assert (rise.rank, rise.of, rise.feature) == (1, 8, feature)
    assert rise.own == pytest.approx(dose, abs=1e-6) and rise.others_mean == pytest.approx(0, abs=1e-6)
    assert rise.top == ((feature, rise.own),)


@given(st.integers(0, 7))
def test_the_wrong_partner_is_not_first(feature: int) -> None:
    clean = torch.rand(6, 8, generator=torch.Generator().manual_seed(feature))
    dictionary = make_orthonormal()
    wrong = (feature + 1) % 8
    found = measure_rises(dictionary, clean, clean + dictionary.decoder[wrong], range(8))
    rise = rank_rise(found, range(8), feature)
    assert rise.rank > 1 and rise.own == 0 and rise.top[0][0] == wrong


def test_a_feature_that_stays_silent_is_last_not_first() -> None:
    clean = torch.rand(6, 8)
    found = measure_rises(make_orthonormal(bias=-9.0), clean, clean * 2, range(8))
    assert not found.any()
    assert rank_rise(found, range(8), 3).rank == 8


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_places_are_those_of_a_slow_ranking(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rises, features = rng.integers(-3, 4, count) / 2, rng.permutation(50)[:count]
    scales = 2.0 ** rng.integers(-2, 3, count)
    for place, feature in enumerate(features):
        rise = rank_rise(rises, features, feature, scales=scales, most=2)
        worth = (rises * scales).tolist()
        ahead = sum(other >= worth[place] for n, other in enumerate(worth) if n != place)
        assert rise.rank == 1 + ahead
        assert rise.own == rises[place]
        assert rise.others_mean == pytest.approx(np.mean([r for n, r in enumerate(rises) if n != place]))
        best = sorted(range(count), key=lambda n: (-worth[n], n))[:2]
        assert rise.top == tuple((int(features[n]), float(rises[n])) for n in best)


def test_scales_change_who_is_first() -> None:
    """A feature with a long decoder row counts by what it writes, not by its number."""
    assert rank_rise(np.array([1.0, 0.5]), [3, 4], 4).rank == 2
    assert rank_rise(np.array([1.0, 0.5]), [3, 4], 4, scales=[1.0, 3.0]).rank == 1


def test_a_single_feature_has_no_others() -> None:
    rise = rank_rise(np.array([2.0]), [7], 7)
    assert (rise.rank, rise.of, rise.others_mean) == (1, 1, 0.0)


def test_bfloat16_is_summed_without_loss() -> None:
    """A sum of many rows in the dictionary's own format would stop growing."""
    state = {"W_enc": torch.eye(2), "W_dec": torch.eye(2), "b_dec": torch.zeros(2), "b_enc": torch.zeros(2)}
    dictionary = load_plain(state, {}, "axes", device="cpu", dtype="bfloat16", digest="")
    clean = torch.ones(5_000, 2)
    assert measure_rises(dictionary, clean, clean * 2, [0, 1]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("clean", "pushed"), [((3, 12), (4, 12)), ((3, 12), (12,)), ((0, 12), (0, 12)), ((12,), (12,))]
)
def test_rows_that_do_not_fit_are_refused(clean: tuple[int, ...], pushed: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="same rows"):
        measure_rises(wrap("standard"), torch.zeros(clean), torch.zeros(pushed), [0])


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match="activations"):
        measure_rises(wrap("standard"), torch.zeros(3, 5), torch.zeros(3, 5), [0])


@pytest.mark.parametrize("features", [[], [-1], [FEATURES], [0.5], [[1, 2]]])
def test_features_that_do_not_exist_are_refused(features: Any) -> None:
    with pytest.raises(InputError, match="Features"):
        measure_rises(wrap("standard"), rows(3), rows(3), features)


@pytest.mark.parametrize(
    ("rises", "features", "feature", "scales", "message"),
    [
        ([1.0, 2.0], [1], 1, None, "one number per feature"),
        ([1.0, 2.0], [1, 2], 1, [1.0], "one number per feature"),
        ([1.0, np.nan], [1, 2], 1, None, "not finite"),
        ([1.0, 2.0], [1, 2], 1, [1.0, 0.0], "not above 0"),
        ([1.0, 2.0], [1, 2], 3, None, "among"),
        ([1.0, 2.0], [1, 1], 1, None, "each comes once"),
    ],
)
def test_rises_that_make_no_sense_are_refused(
    rises: Any, features: Any, feature: int, scales: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        rank_rise(np.array(rises), features, feature, scales=scales)
