"""Responses equal those of a slow loop: whole passes with a hook written by hand, definitions in loops."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from tests.model_helpers import EVERY_KIND, PLACES, load, make_batch, pad
from tests.slow_steering import pack, split
from xmodel.errors import InputError
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.steering import measuring
from xmodel.steering.measuring import Responses, SteeredSide, measure_responses, prepare_side
from xmodel.steering.replaying import CPU_BYTES
from xmodel.steering.transfers import collect_responses

SITE = "blocks.0.hook_resid_post"
LENGTHS = (11, 6, 9)
ROWS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
COLUMNS = np.array([1, 3, 5, 8, 10, 2, 3, 5, 1, 4, 8])
SPECIAL = (0, 4)
"""Passage and column of a token that is not pushed."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_passages() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = [
        pad(make_batch(1, length, seed=number)[0], 0, 11 - length, filler=40)
        for number, length in enumerate(LENGTHS)
    ]
    ids, mask = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    special = np.zeros(mask.shape, dtype=np.bool_)
    special[SPECIAL] = True
    return ids, mask, special


def prepare(model: LanguageModel, reads: Sequence[int], site: str = SITE, **options: Any) -> SteeredSide:
    ids, mask, special = make_passages()
    return prepare_side(model, site, ids, mask, ROWS, COLUMNS, reads, special=special, **options)


def draw_units(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def run_whole(model: LanguageModel, site: str, step: np.ndarray, reads: Sequence[int]) -> dict[Any, Any]:
    """One pass of the whole model, with a vector added to what is at the site at every pushed token.

    Returns the words' residuals [N, d] float64 after each block, and under "clean" and "pushed" what was at
    the site."""
    ids, mask, special = make_passages()
    where = torch.from_numpy(mask & ~special)
    where[:, 0] = False
    blocks, paths = PLACES[model.name]
    _, number, kind = site.split(".", 2)
    path, _ = paths[kind]
    found: dict[Any, Any] = {}
    vector = torch.from_numpy(step).to(model.dtype)

    def push(_: Any, __: Any, output: Any) -> Any:
        x = output[0] if isinstance(output, tuple) else output
        changed = torch.where(where[..., None], x + vector, x)
        found["clean"], found["pushed"] = take(x), take(changed)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def keep(block: int) -> Any:
        def read(_: Any, __: Any, output: Any) -> None:
            found[block] = take(output[0] if isinstance(output, tuple) else output)

        return read

    def take(x: torch.Tensor) -> np.ndarray:
        return x.double().numpy()[ROWS, COLUMNS]

    handles = [
        model.module.get_submodule(f"{blocks}.{block}").register_forward_hook(keep(block)) for block in reads
    ]
    target = model.module.get_submodule(f"{blocks}.{number}{'.' if path else ''}{path}")
    handles.append(target.register_forward_hook(push))
    with torch.no_grad():
        model.module(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask).long(), use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def respond_slowly(
    model: LanguageModel,
    site: str,
    units: np.ndarray,
    doses: np.ndarray,
    reads: Sequence[int],
    scale: float,
    keep_copy: bool = False,
) -> Responses:
    """Responses by the definition; ``doses`` are [n, J]."""
    clean = run_whole(model, site, np.zeros(units.shape[1], np.float32), reads)
    odd, even = [], []
    for unit, own in zip(units, doses, strict=True):
        cells = []
        for dose in own:
            runs = []
            for sign in (1, -1):
                found = run_whole(model, site, unit * np.float32(sign * dose * scale), reads)
                copy = 0 if keep_copy else found["pushed"] - found["clean"]
                runs.append([found[block] - copy for block in reads])
            for number, block in enumerate(reads):
                cells.append(split(runs[0][number], runs[1][number], clean[block]))
        odd.append([pack(first) for first, _ in cells])
        even.append([pack(second) for _, second in cells])
    return Responses(np.array(odd), np.array(even))


def assert_alike(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Rows of a response differ by at most a share of their size."""
    assert found.shape == expected.shape
    apart = np.linalg.norm(found - expected, axis=-1)
    assert (apart <= tolerance * np.linalg.norm(expected, axis=-1)).all(), apart


@EVERY_KIND
def test_responses_are_those_of_whole_passes_and_loops(kind: str) -> None:
    """Two depths share a block; the doses are the same for all directions."""
    model, reads = load(kind), (1, 1, 2)
    side = prepare(model, reads)
    units, doses = draw_units(2, model.width), [0.1, 0.5]
    clean = run_whole(model, SITE, np.zeros(model.width, np.float32), reads)
    assert side.scale == pytest.approx(np.median(np.linalg.norm(clean["clean"], axis=1)), rel=1e-5)
    found = collect_responses(side, units, doses)
    assert found.odd.dtype == np.float32 and found.odd.shape == (2, 6, 55)
    expected = respond_slowly(model, SITE, units, np.tile(doses, (2, 1)), reads, side.scale)
    assert_alike(found.odd, expected.odd, 1e-3)
    assert_alike(found.even, expected.even, 1e-2)
    assert np.array_equal(found.odd[:, 0], found.odd[:, 1])
    assert not np.array_equal(found.odd[:, 0], found.odd[:, 2])
    assert np.array_equal(found.raw, found.odd + found.even)


@pytest.mark.parametrize("kind", ["neox", "gpt2", "gemma3"])
@pytest.mark.parametrize("site", ["blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"])
def test_doses_may_be_each_direction_s_own_and_the_copy_may_stay(kind: str, site: str) -> None:
    model, reads = load(kind), (2,)
    side = prepare(model, reads, site)
    units, doses = draw_units(3, model.width), np.array([[0.1, 0.3], [0.7, 0.2], [1.0, 0.05]])
    for keep_copy in (False, True):
        found = collect_responses(side, units, doses, keep_copy=keep_copy)
        expected = respond_slowly(model, site, units, doses, reads, side.scale, keep_copy)
        assert_alike(found.odd, expected.odd, 1e-3)
        assert_alike(found.even, expected.even, 2e-2)
    same = collect_responses(side, units, np.tile([0.1, 0.3], (3, 1)))
    assert np.array_equal(same.odd, collect_responses(side, units, [0.1, 0.3]).odd)


@pytest.mark.parametrize("kind", ["llama3", "gemma2"])
def test_half_precision_is_close(kind: str) -> None:
    module = tiny_model(kind).to(torch.bfloat16)
    model = wrap_language_model(module, name=kind, digest="none")
    side, units = prepare(model, (1, 2)), draw_units(2, model.width)
    found = collect_responses(side, units, [0.5, 1.0])
    expected = respond_slowly(model, SITE, units, np.tile([0.5, 1.0], (2, 1)), (1, 2), side.scale)
    assert_alike(found.odd, expected.odd, 0.05)
    exact = collect_responses(prepare(load(kind), (1, 2)), units, [0.5, 1.0])
    assert_alike(found.odd, exact.odd, 0.3)


@pytest.mark.parametrize("tile", [1, 2, 5, 1000])
@pytest.mark.parametrize("chunk", [1, 1 << 28])
def test_neither_tiles_nor_chunks_change_anything(
    tile: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("neox")
    side, units = prepare(model, (1, 2)), draw_units(5, model.width)
    expected = collect_responses(side, units, [0.25, 0.5])
    needed = side.replay.needed
    side = replace(side, replay=replace(side.replay, budget=needed * tile + tile))
    assert side.replay.plan_tile() == min(tile, CPU_BYTES // needed)
    monkeypatch.setattr(measuring, "CHUNK_BYTES", chunk)
    done: list[int] = []
    found = list(measure_responses(side, units, [0.25, 0.5], tick=done.append))
    assert [len(one) for one in found] == ([1] * 5 if chunk == 1 else [5]) == done
    assert_alike(np.concatenate([one.odd for one in found]), expected.odd, 1e-4)
    assert_alike(np.concatenate([one.even for one in found]), expected.even, 1e-2)


class Skip(torch.nn.Module):
    """A block that does nothing."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["neox", "llama2", "gemma3"])
def test_layers_that_do_nothing_give_exactly_nothing(kind: str, dtype: torch.dtype) -> None:
    model = wrap_language_model(tiny_model(kind).to(dtype), name=kind, digest="none")
    side = prepare(model, (1, 2), blocks=torch.nn.ModuleList([Skip(), Skip()]))
    units = draw_units(4, model.width)
    found = collect_responses(side, units, [0.05, 0.5, 2.0])
    assert not found.odd.any() and not found.even.any()
    kept = collect_responses(side, units, [0.05, 0.5, 2.0], keep_copy=True)
    assert (np.abs(kept.odd).max(axis=-1) > 1e-3).all() and kept.even.any(axis=-1).all()


def test_a_push_of_length_0_does_nothing_but_round() -> None:
    model = load("neox")
    side, units = prepare(model, (1, 2)), draw_units(4, model.width)
    nothing, something = (collect_responses(side, units, [dose]) for dose in (0.0, 0.1))
    assert np.linalg.norm(nothing.odd) < 1e-4 * np.linalg.norm(something.odd)


def test_the_other_direction_turns_the_odd_response_and_leaves_the_even_one() -> None:
    model = load("gpt2")
    side, units = prepare(model, (1, 2)), draw_units(3, model.width)
    one, other = collect_responses(side, units, [0.25]), collect_responses(side, -units, [0.25])
    assert_alike(other.odd, -one.odd, 1e-4)
    assert_alike(other.even, one.even, 1e-2)


def test_only_pushed_tokens_are_pushed() -> None:
    """Padding, first columns and special tokens are not: the words' rows there are those of a clean pass."""
    side = prepare(load("neox"), (1,))
    _, mask, special = make_passages()
    expected = mask & ~special
    expected[:, 0] = False
    assert np.array_equal(side.where.numpy(), expected)
    without = prepare_side(load("neox"), SITE, *make_passages()[:2], ROWS, COLUMNS, (1,))
    assert without.where.numpy().sum() == expected.sum() + 1


def test_activations_that_are_not_finite_are_refused() -> None:
    module = tiny_model("neox")
    module.get_input_embeddings().weight[5] = float("nan")
    model = wrap_language_model(module, name="neox", digest="none")
    ids, mask, _ = make_passages()
    ids[0, 1] = 5
    with pytest.raises(InputError, match="not finite"):
        prepare_side(model, SITE, ids, mask, ROWS, COLUMNS, (1,))
