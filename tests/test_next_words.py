"""The effect of pushes on the next word: against SciPy, as laws, and through a real head."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.stats import pearsonr, spearmanr
from tiny_models import VOCABULARY, tiny_model

from xmodel import InputError, load_tokenizer
from xmodel.models.capture import capture
from xmodel.models.language import wrap_language_model
from xmodel.steering import next_words
from xmodel.steering.heads import find_head
from xmodel.steering.next_words import compare_effects, list_next_words, measure_effects, measure_word_effects

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(3, 30), st.integers(0, 2**32 - 1))


def draw(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@given(SIZES)
def test_the_effect_is_half_the_mean_change_of_log_probability(sizes: tuple[int, ...]) -> None:
    pushes, positions, words, seed = sizes
    plus, minus = draw(2, pushes, positions, words, seed=seed)
    found = measure_effects(plus, minus)
    assert found.shape == (pushes, words) and found.dtype == np.float64
    for push in range(pushes):
        slow = np.zeros(words)
        for n in range(positions):
            first, second = (log_softmax(one[push, n].double().numpy()) for one in (plus, minus))
            slow += (first - second) / 2 / positions
        assert found[push] == pytest.approx(slow, abs=1e-12)
        assert measure_effects(plus[push], minus[push]) == pytest.approx(slow, abs=1e-12)


@given(SIZES)
def test_laws_of_the_effect(sizes: tuple[int, ...]) -> None:
    _, positions, words, seed = sizes
    plus, minus, shift = draw(3, positions, words, seed=seed)
    found = measure_effects(plus, minus)
    # Only the shared words count: what a position says of all others moves their logits by a constant.
    moved = measure_effects(plus.double() + shift[:, :1], minus.double() - shift[:, :1])
    assert moved == pytest.approx(found, abs=1e-12)
    assert measure_effects(minus, plus) == pytest.approx(-found, abs=1e-15)
    assert not measure_effects(plus, plus).any()


def test_without_normalising_over_the_shared_words_it_would_be_another() -> None:
    """The two vocabularies' other words must not count, since they are not the same words."""
    plus, minus = draw(2, 5, 40)
    whole = measure_effects(plus, minus)[:10]
    assert np.abs(whole - measure_effects(plus[:, :10], minus[:, :10])).max() > 0.1


@pytest.mark.parametrize("slice_bytes", [1, 32 * 7 * 2, 1 << 28])
@pytest.mark.parametrize("kind", ["gemma2", "gpt2", "neox"])
def test_through_a_head_it_is_that_of_the_models_own_logits(
    kind: str, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_words, "LOGIT_BYTES", slice_bytes)
    model = wrap_language_model(tiny_model(kind))
    ids = torch.randint(0, VOCABULARY, (4, 5), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    site = f"blocks.{model.layers - 1}.hook_resid_post"
    rows = capture(model, ids, mask, [site])[site]
    head = find_head(model, ids, mask)
    columns = torch.tensor([3, 90, 17, 4, 55, 8, 21])
    with torch.no_grad():
        module: Any = model.module
        logits = module(ids).logits[..., columns]
    found = measure_word_effects(head.logits_of, rows[:2], rows[2:], columns)
    assert found == pytest.approx(measure_effects(logits[:2], logits[2:]), abs=2e-6)


@given(SIZES, st.booleans())
def test_effects_correlate_as_in_scipy(sizes: tuple[int, ...], ranks: bool) -> None:
    pushes, others, words, seed = sizes
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(pushes, words)), rng.normal(size=(others, words)).round(1)
    found = compare_effects(first, second, ranks=ranks)
    assert found.shape == (pushes, others)
    for f, one in enumerate(first):
        for g, two in enumerate(second):
            if np.ptp(two):
                expected = (spearmanr if ranks else pearsonr)(one, two).statistic
                assert found[f, g] == pytest.approx(expected, abs=1e-10)
            else:
                assert found[f, g] == 0


@pytest.mark.parametrize("ranks", [False, True])
def test_a_push_that_changes_nothing_correlates_with_nothing(ranks: bool) -> None:
    effects = np.random.default_rng(0).normal(size=(3, 50))
    effects[1] = 0.1
    found = compare_effects(effects, effects, ranks=ranks)
    assert found[[0, 2], [0, 2]] == pytest.approx(1) and found[0, 2] < 0.9
    assert not found[1].any() and not found[:, 1].any()


def test_tiny_effects_are_compared_as_well_as_large_ones() -> None:
    effects = np.random.default_rng(0).normal(size=(4, 50))
    found = compare_effects(effects * 1e-200, effects)
    assert found == pytest.approx(compare_effects(effects, effects), abs=1e-12)


def test_ranks_tell_what_one_loud_word_hides() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 200))
    first[5] = second[5] = 1e3
    value, rank = (compare_effects(first[None], second[None], ranks=ranks)[0, 0] for ranks in (False, True))
    assert value > 0.99 and abs(rank) < 0.3


def test_the_next_words_are_the_likeliest() -> None:
    tokenizer = load_tokenizer("builtin:neox-demo")
    words, counts = tokenizer.encode([" the night", "."])
    logits = torch.full((4100,), -20.0)
    logits[torch.from_numpy(words)] = torch.tensor([2.0, 3.0, 1.0])
    assert counts.tolist() == [2, 1]
    found = list_next_words(logits, tokenizer, most=3)
    assert [one.text for one in found] == [" night", " the", "."]
    assert [one.id for one in found] == [words[1], words[0], words[2]]
    odds = np.exp([3.0, 2.0, 1.0])
    assert [one.probability for one in found] == pytest.approx(odds / odds.sum(), abs=1e-6)
    assert sum(one.probability for one in list_next_words(logits, tokenizer, most=9999)) == pytest.approx(1)


def test_tokens_without_a_text_have_a_name() -> None:
    tokenizer = load_tokenizer("builtin:neox-demo")
    special = int(np.flatnonzero(tokenizer.spelling.special)[0])
    partial = next(n for n in range(len(tokenizer.spelling)) if tokenizer.describe_id(n) == b"\xe2")
    for token, name in ((special, tokenizer.token_name(special)), (4099, "<id 4099>"), (partial, "\\xe2")):
        logits = torch.zeros(4100)
        logits[token] = 9.0
        assert list_next_words(logits, tokenizer, most=1)[0].text == name


@pytest.mark.parametrize(
    ("plus", "minus"), [((2, 5), (3, 5)), ((2, 5), (2, 6)), ((5,), (5,)), ((0, 5), (0, 5)), ((2, 0), (2, 0))]
)
def test_predictions_that_do_not_fit_are_refused(plus: tuple[int, ...], minus: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="same positions"):
        measure_effects(torch.zeros(plus), torch.zeros(minus))
    with pytest.raises(InputError, match="same positions"):
        measure_word_effects(
            lambda rows, columns: rows, torch.zeros(plus), torch.zeros(minus), torch.tensor([1])
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_predictions_that_are_not_finite_are_refused(value: float) -> None:
    plus = torch.zeros(2, 5)
    plus[1, 3] = value
    with pytest.raises(InputError, match="not finite"):
        measure_effects(plus, torch.zeros(2, 5))


def test_effects_that_do_not_fit_are_refused() -> None:
    effects = np.ones((3, 5))
    for second in (np.ones((3, 6)), np.ones(5)):
        with pytest.raises(InputError, match="same shared words"):
            compare_effects(effects, second)
    with pytest.raises(InputError, match="share 2 words"):
        compare_effects(effects[:, :2], effects[:, :2])
    with pytest.raises(InputError, match="not finite"):
        compare_effects(effects, effects * np.nan)


@pytest.mark.parametrize("logits", [torch.zeros(2, 5), torch.zeros(0), torch.full((5,), float("nan"))])
def test_logits_that_are_no_row_are_refused(logits: torch.Tensor) -> None:
    with pytest.raises(InputError, match="one row"):
        list_next_words(logits, load_tokenizer("builtin:neox-demo"))
