"""Divergence of predictions, matched doses, exchange rates and slopes: planted truth, laws, slow formulas."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import linregress
from sklearn.isotonic import IsotonicRegression
from tiny_models import VOCABULARY, tiny_model

from xmodel import InputError
from xmodel.models.capture import capture
from xmodel.models.language import wrap_language_model
from xmodel.steering import exchange
from xmodel.steering.exchange import (
    DoseCurves,
    compute_exchange,
    match_doses,
    measure_damage,
    measure_kl,
    measure_slopes,
)
from xmodel.steering.heads import find_head

DOSES = np.array([0.05, 0.1, 0.25, 0.5, 1.0])
SEEDS = st.integers(0, 2**32 - 1)


def draw(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def compute_slow_kl(logits: torch.Tensor, clean: torch.Tensor) -> np.ndarray:
    """KL(clean || pushed) from probabilities."""
    p, q = (softmax(one.double().numpy(), -1) for one in (clean, logits))
    return rel_entr(p, q).sum(-1)


# Divergence


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 40), SEEDS)
def test_the_divergence_is_scipys(pushes: int, positions: int, words: int, seed: int) -> None:
    logits = draw(pushes, positions, words, seed=seed)
    clean = draw(positions, words, seed=seed + 1)
    found = measure_kl(logits, clean)
    assert found.shape == (pushes, positions) and found.dtype == np.float64
    assert found == pytest.approx(compute_slow_kl(logits, clean), abs=1e-12)
    assert measure_kl(logits[0], clean) == pytest.approx(found[0], abs=0)


@given(SEEDS)
def test_laws_of_the_divergence(seed: int) -> None:
    clean = draw(4, 30, seed=seed)
    pushed = clean + draw(4, 30, seed=seed + 1, scale=1e-3)
    assert (measure_kl(clean, clean) == 0).all()
    assert (measure_kl(pushed, clean) >= 0).all()
    moved = measure_kl(pushed.double() + 7, clean.double() - 3)
    assert moved == pytest.approx(measure_kl(pushed, clean), abs=1e-13)


def test_it_is_from_clean_to_pushed_not_the_other_way() -> None:
    clean, pushed = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    there, back = measure_kl(pushed, clean)[0], measure_kl(clean, pushed)[0]
    assert there == pytest.approx(np.log(0.5 / softmax([0, 9])).mean())
    assert there > 5 * back


def test_small_divergences_are_not_lost_in_rounding() -> None:
    """It grows with the square of the dose: a thousandth of the push, a millionth of the divergence."""
    clean, step = draw(3, 50_000), draw(3, 50_000, seed=1, scale=1.0).double()
    large, small = (measure_kl(clean.double() + share * step, clean) for share in (1e-2, 1e-5))
    assert small == pytest.approx(large * 1e-6, rel=0.05)


def test_words_that_are_never_said() -> None:
    clean = torch.tensor([[1.0, 2.0, -torch.inf]])
    assert measure_kl(torch.tensor([[1.0, 2.0, -torch.inf]]), clean)[0] == 0
    kept = measure_kl(torch.tensor([[2.0, 2.0, 3.0]]), clean)[0]
    assert kept == pytest.approx(compute_slow_kl(torch.tensor([[2.0, 2.0, 3.0]]), clean)[0])
    assert measure_kl(torch.tensor([[1.0, -torch.inf, 0.0]]), clean)[0] == np.inf


@pytest.mark.parametrize("size", [1, 40 * 50 * 3, 1 << 26])
def test_slices_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, clean = draw(2, 7, 50), draw(7, 50, seed=1)
    monkeypatch.setattr(exchange, "SLICE_BYTES", size)
    assert measure_kl(logits, clean) == pytest.approx(compute_slow_kl(logits, clean), abs=1e-12)


@pytest.mark.parametrize("size", [1, 2 * 4 * VOCABULARY * 3, 1 << 28])
@pytest.mark.parametrize("kind", ["gemma2", "gpt2", "llama2"])
def test_through_a_head_it_is_that_of_the_models_own_logits(
    kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LOGIT_BYTES", size)
    model = wrap_language_model(tiny_model(kind))
    ids = torch.randint(0, VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    site = f"blocks.{model.layers - 1}.hook_resid_post"
    rows = capture(model, ids, mask, [site])[site]
    module: Any = model.module
    with torch.no_grad():
        logits = module(ids).logits
    found = measure_damage(find_head(model, ids, mask).logits, rows[1:], rows[0])
    assert found.shape == (2, 5)
    assert found == pytest.approx(compute_slow_kl(logits[1:], logits[0]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("pushed", "clean"), [((2, 5), (3, 5)), ((5,), (5,)), ((0, 5), (0, 5)), ((2, 3, 5), (2, 5))]
)
def test_logits_that_do_not_fit_are_refused(pushed: tuple[int, ...], clean: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="same positions"):
        measure_kl(torch.zeros(pushed), torch.zeros(clean))
    with pytest.raises(InputError, match="same positions"):
        measure_damage(lambda rows: rows, torch.zeros(pushed), torch.zeros(clean))


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="not numbers"):
        measure_kl(torch.tensor([[0.0, torch.nan]]), torch.zeros(1, 2))


# Doses of equal divergence


@given(st.floats(0.2, 5), st.floats(0.5, 4), st.floats(1e-6, 10))
def test_a_power_law_is_undone_exactly(factor: float, power: float, height: float) -> None:
    """What B does at a dose is what A does at `factor` times that dose."""
    curve = height * DOSES**power
    wanted = height * (DOSES / factor) ** power
    found = match_doses(wanted, curve, DOSES)
    inside = (DOSES / factor > DOSES[0] * (1 + 1e-9)) & (DOSES / factor < DOSES[-1] * (1 - 1e-9))
    outside = (DOSES / factor < DOSES[0] * (1 - 1e-9)) | (DOSES / factor > DOSES[-1] * (1 + 1e-9))
    assert found[inside] == pytest.approx(DOSES[inside] / factor, rel=1e-9)
    assert np.isnan(found[outside]).all()


@given(SEEDS)
def test_matched_doses_rise_with_the_divergence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve = np.exp(2 * np.log(DOSES) + rng.normal(scale=1.5, size=len(DOSES)))
    wanted = np.exp(np.linspace(-9, 3, 50))
    found = match_doses(wanted, curve, DOSES)
    heights = np.exp(IsotonicRegression().fit_transform(np.log(DOSES), np.log(curve)))
    inside = (wanted >= heights[0]) & (wanted <= heights[-1])
    assert (np.isfinite(found) == inside).all()
    # Tied doses count as their geometric mean, so that a curve may begin or end between two of them.
    assert (np.diff(found[inside]) >= 0).all()
    assert ((found[inside] >= DOSES[0] - 1e-12) & (found[inside] <= DOSES[-1] + 1e-12)).all()


@given(SEEDS)
def test_a_curve_matched_with_itself_gives_its_doses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve = np.sort(rng.uniform(1e-6, 5, size=len(DOSES)))
    assert match_doses(curve, curve, DOSES) == pytest.approx(DOSES, rel=1e-12)


def test_a_dip_is_levelled() -> None:
    curve = np.array([1.0, 4.0, 1.0, 16.0, 64.0])
    found = match_doses([2.0, 32.0, 1.0], curve, [1, 2, 4, 8, 16])
    # The second and third are tied at the geometric mean of their heights, 2, and of their doses.
    assert found == pytest.approx([8**0.5, 8 * 2**0.5, 1])


def test_what_does_nothing_has_no_dose() -> None:
    assert np.isnan(match_doses([0.0, 1.0], [0.0, 0.0], [0.1, 0.2])).all()
    found = match_doses([0.0, 1.0, 2.0], [0.0, 1.0, 4.0], [1, 2, 4])
    assert found == pytest.approx([np.nan, 2, 8**0.5], nan_ok=True)


@pytest.mark.parametrize(
    ("first", "second", "doses", "message"),
    [
        ([1.0], [1.0, 2.0], [0.1], "two curves"),
        ([-1.0], [1.0, 2.0], [0.1, 0.2], "negative"),
        ([1.0], [1.0, np.nan], [0.1, 0.2], "not numbers"),
        ([1.0], [1.0, 2.0], [0.2, 0.1], "ascending"),
        ([1.0], [1.0, 2.0], [0.0, 0.1], "ascending"),
        ([1.0], [], [], "ascending"),
    ],
)
def test_curves_that_make_no_sense_are_refused(
    first: list[float], second: list[float], doses: list[float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        match_doses(first, second, doses)


# The exchange rate


def plant(rates: np.ndarray, seed: int = 0, scale: float = 3.0) -> tuple[DoseCurves, DoseCurves]:
    """Curves whose pairs do the same where B's dose is `rate` times A's."""
    rng = np.random.default_rng(seed)
    heights, power = rng.uniform(0.1, 5, (len(rates), 1)), rng.uniform(1.5, 2, (len(rates), 1))
    first = DoseCurves(DOSES, heights * DOSES**power, 2.0)
    return first, DoseCurves(DOSES, heights * (DOSES / rates[:, None]) ** power, 2.0 * scale)


@given(SEEDS, st.integers(1, 12))
def test_planted_rates_are_found(seed: int, pairs: int) -> None:
    rates = np.exp(np.random.default_rng(seed).uniform(-1.5, 1.5, pairs))
    found = compute_exchange(*plant(rates, seed))
    expected = np.exp(np.quantile(np.log(rates), [0.25, 0.5, 0.75], method="averaged_inverted_cdf"))
    assert [found.low, found.rate, found.high] == pytest.approx(expected, rel=1e-9)
    assert found.units == pytest.approx(3 * expected[1], rel=1e-9) and found.by_norm == 3
    assert (found.pairs, found.matched, found.above, found.below) == (pairs, pairs, 0, 0)
    inside = np.isfinite(found.doses)
    assert (found.doses / DOSES)[inside] == pytest.approx(np.tile(rates[:, None], 5)[inside], rel=1e-9)


def test_the_sides_can_be_exchanged() -> None:
    first, second = plant(np.array([0.5, 0.8, 2.0]))
    there, back = compute_exchange(first, second), compute_exchange(second, first)
    assert there.rate is not None and there.units is not None
    assert back.rate == pytest.approx(1 / there.rate) and back.units == pytest.approx(1 / there.units)


def test_pairs_out_of_reach_are_counted_and_do_not_pull_the_rate_to_1() -> None:
    rates = np.array([2.0, 3.0, 4.0, 5.0, 50.0, 60.0, 70.0])
    found = compute_exchange(*plant(rates))
    assert (found.matched, found.above, found.below) == (4, 3, 0)
    assert found.rate == pytest.approx(5.0) and found.high is None
    left_out = compute_exchange(*plant(rates[:4]))
    assert left_out.rate is not None and left_out.rate < 4
    low = compute_exchange(*plant(1 / rates))
    assert (low.above, low.below, low.low) == (0, 3, None) and low.rate == pytest.approx(0.2)
    nothing = compute_exchange(*plant(rates[4:]))
    assert nothing.rate is nothing.units is nothing.low is None and nothing.above == 3


def test_directions_that_do_nothing_have_no_rate() -> None:
    still = DoseCurves(DOSES, np.zeros((2, 5)), 1.0)
    found = compute_exchange(still, still)
    assert (found.rate, found.pairs, found.matched, found.above, found.below) == (None, 2, 0, 0, 0)


def test_a_model_written_twice_as_large_takes_twice_the_push() -> None:
    """Norms make a model blind to the size of its residual stream, so both models predict the same."""
    first: Any = tiny_model("llama2")
    second: Any = tiny_model("llama2")
    with torch.no_grad():
        second.model.embed_tokens.weight.mul_(2)
        for block in second.model.layers:
            block.self_attn.o_proj.weight.mul_(2)
            block.mlp.down_proj.weight.mul_(2)
    ids = torch.randint(0, VOCABULARY, (4, 8), generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(draw(3, 32), dim=1)
    curves = []
    for module in (first, second):
        site = "blocks.0.hook_resid_post"
        model = wrap_language_model(module)
        norms = capture(model, ids, torch.ones_like(ids, dtype=torch.bool), [site])[site].norm(dim=-1)
        scale = float(norms.median())
        kl = np.array([[push(module, ids, v * dose * scale) for dose in DOSES] for v in directions])
        curves.append(DoseCurves(DOSES, kl, scale))
    found = compute_exchange(*curves)
    assert found.by_norm == pytest.approx(2, rel=1e-3)
    assert found.rate == pytest.approx(1, rel=1e-2) and found.units == pytest.approx(2, rel=1e-2)


def push(module: Any, ids: torch.Tensor, vector: torch.Tensor) -> float:
    """Mean divergence over positions and both signs, under a push of every token after block 0."""

    def add(step: torch.Tensor) -> torch.Tensor:
        def hook(_: Any, __: Any, output: Any) -> Any:
            return output + step if isinstance(output, torch.Tensor) else (output[0] + step, *output[1:])

        handle = module.model.layers[0].register_forward_hook(hook)
        with torch.no_grad():
            logits = module(ids).logits.flatten(0, 1)
        handle.remove()
        return logits

    clean = add(torch.zeros_like(vector))
    return float(measure_kl(torch.stack([add(vector), add(-vector)]), clean).mean())


@pytest.mark.parametrize(
    ("doses", "kl", "scale", "message"),
    [
        ([0.1, 0.1], [[1.0, 2.0]], 1.0, "ascending"),
        ([], [[]], 1.0, "ascending"),
        ([0.1, 0.2], [1.0, 2.0], 1.0, "row per direction|one row"),
        ([0.1, 0.2], [[1.0]], 1.0, "one number per dose"),
        ([0.1], [[1.0]], 0.0, "scale"),
        ([0.1], [[1.0]], np.nan, "scale"),
    ],
)
def test_curves_of_wrong_shapes_are_refused(doses: Any, kl: Any, scale: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DoseCurves(np.array(doses), np.array(kl), scale)


def test_curves_without_partners_are_refused() -> None:
    first, second = plant(np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="for every pair"):
        compute_exchange(first, DoseCurves(DOSES, second.kl[:1], 1.0))
    empty = DoseCurves(DOSES, np.zeros((0, 5)), 1.0)
    with pytest.raises(InputError, match="for every pair"):
        compute_exchange(empty, empty)


# Slopes


@given(SEEDS)
def test_slopes_are_those_of_a_straight_line_through_the_small_doses(seed: int) -> None:
    sizes = np.exp(np.random.default_rng(seed).normal(size=(2, 3, 5)))
    found = measure_slopes(DOSES, sizes)
    x = np.log(DOSES[:3])
    for place in np.ndindex(2, 3):
        y = np.log(sizes[place][:3])
        assert found.exponent[place] == pytest.approx(linregress(x, y).slope, rel=1e-9, abs=1e-12)
        assert found.gain[place] == pytest.approx(np.exp((y - x).mean()))


@given(st.floats(0.1, 9), st.floats(1, 2))
def test_planted_slopes_are_found_though_large_doses_saturate(gain: float, power: float) -> None:
    sizes = gain * DOSES**power
    sizes[3:] = sizes[2]
    found = measure_slopes(DOSES, sizes)
    assert found.exponent == pytest.approx(power)
    assert measure_slopes(DOSES, sizes, small=1).exponent < power - 0.1
    assert measure_slopes(DOSES, gain * DOSES).gain == pytest.approx(gain)


def test_responses_of_nothing_have_no_slope() -> None:
    found = measure_slopes(DOSES, np.array([np.zeros(5), [0, 0, 1, 2, 3], [0, 0.1, 0.25, 9, 9]]))
    assert found.exponent == pytest.approx([np.nan, np.nan, 1], nan_ok=True)
    assert found.gain == pytest.approx([0, 4, 1])
    assert np.isnan(measure_slopes([0.5, 1.0], np.ones((2, 2))).exponent).all()


@pytest.mark.parametrize(
    ("doses", "sizes", "message"),
    [
        (DOSES, np.ones(4), "one size per"),
        (DOSES[::-1], np.ones(5), "ascending"),
        (DOSES, -np.ones(5), "negative"),
        (DOSES, np.full(5, np.inf), "not finite"),
    ],
)
def test_responses_that_make_no_sense_are_refused(doses: Any, sizes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_slopes(doses, sizes)
