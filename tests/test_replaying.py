"""Later layers run by themselves: equal to passes of the whole model whose residual a hook changes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import KINDS, tiny_model

from tests.model_helpers import EVERY_KIND, PLACES, count_hooks, load, make_batch, pad
from tests.test_processed import load_processed
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.steering.replaying import Replay, choose_reads, find_stream_block, record_pass

SITES = ["hook_resid_pre", "hook_resid_post", "hook_mlp_out"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_passages(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Three passages of different lengths, padded on one side."""
    rows = []
    for number, length in enumerate([11, 6, 9]):
        left = 11 - length if side == "left" else 0
        rows.append(pad(make_batch(1, length, seed=number)[0], left, 11 - length - left, filler=40 + number))
    ids, mask = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return ids, mask


def make_steps(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, 1, width, generator=torch.Generator().manual_seed(seed)) * 2


def run_hooked(
    model: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, site: str, steps: torch.Tensor
) -> dict[int, torch.Tensor]:
    """What a user would write: one pass of the whole model over a batch of [k * P] rows, with a hook on the
    submodule, found by its path as written by hand, that adds each change's vector.

    Returns [k, P, T, d] per block."""
    blocks, paths = PLACES[model.name]
    _, number, kind = site.split(".", 2)
    path, side = paths[kind]
    target = model.module.get_submodule(f"{blocks}.{number}{'.' if path else ''}{path}")
    k = len(steps)

    def shift(x: torch.Tensor) -> torch.Tensor:
        return (x.view(k, -1, *x.shape[1:]) + steps.to(x.dtype)).view_as(x)

    def on_input(_: Any, args: Any, kwargs: Any) -> Any:
        return (shift(args[0]), *args[1:]), kwargs

    def on_output(_: Any, __: Any, output: Any) -> Any:
        return (shift(output[0]), *output[1:]) if isinstance(output, tuple) else shift(output)

    if side == "input":
        handle = target.register_forward_pre_hook(on_input, with_kwargs=True)
    else:
        handle = target.register_forward_hook(on_output)
    names = [f"blocks.{block}.hook_resid_post" for block in range(model.layers)]
    found = capture(model, ids.repeat(k, 1), mask.repeat(k, 1), names)
    handle.remove()
    return {block: x.view(k, len(ids), *x.shape[1:]) for block, x in enumerate(found.values())}


def add_steps(replay: Replay, steps: torch.Tensor) -> Any:
    return lambda first, stop: replay.hidden + steps[first:stop].to(replay.hidden.dtype)


def replay_all(
    model: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, site: str, steps: torch.Tensor
) -> dict[int, torch.Tensor]:
    """All changes in one tile, read after every block that can be read."""
    start = find_stream_block(model, site) + 1
    replay = record_pass(model, ids, mask, site, range(start, model.layers))
    (tile,) = replay.run(add_steps(replay, steps), len(steps))
    assert torch.equal(tile.pushed, add_steps(replay, steps)(0, len(steps)))
    return tile.reads


def list_sites(model: LanguageModel) -> list[str]:
    names = [f"blocks.{block}.{kind}" for block in range(model.layers) for kind in SITES]
    return [name for name in names if find_stream_block(model, name) < model.layers - 1]


@EVERY_KIND
def test_replayed_layers_equal_hooked_passes_bit_for_bit(kind: str) -> None:
    model = load(kind)
    ids, mask = make_passages("right")
    steps = make_steps(3, model.width)
    sites = list_sites(model)
    assert len(sites) == 3 * model.layers - 2
    for site in sites:
        expected = run_hooked(model, ids, mask, site, steps)
        found = replay_all(model, ids, mask, site, steps)
        assert list(found) == list(range(find_stream_block(model, site) + 1, model.layers))
        for block, residual in found.items():
            if "mlp_out" in site:  # Added to the stream before the push or after it: the order of rounding.
                torch.testing.assert_close(residual[:, mask], expected[block][:, mask], atol=1e-4, rtol=1e-4)
            else:
                assert torch.equal(residual[:, mask], expected[block][:, mask]), (site, block)


@EVERY_KIND
@pytest.mark.parametrize(("side", "dtype"), [("left", torch.float32), ("right", torch.bfloat16)])
def test_replayed_layers_equal_hooked_passes_elsewhere(kind: str, side: str, dtype: torch.dtype) -> None:
    model = load(kind)
    if dtype != torch.float32:
        model = wrap_language_model(tiny_model(kind).to(dtype), name=kind, digest="none")
    ids, mask = make_passages(side)
    steps = make_steps(2, model.width)
    site = "blocks.0.hook_resid_post"
    expected = run_hooked(model, ids, mask, site, steps)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for block, residual in replay_all(model, ids, mask, site, steps).items():
        assert residual.dtype == dtype
        first, second = residual[:, mask].double(), expected[block][:, mask].double()
        assert float((first - second).norm() / second.norm()) < tolerance


@EVERY_KIND
def test_the_clean_pass_is_what_capture_reads_and_leaves_no_hooks(kind: str) -> None:
    model = load(kind)
    ids, mask = make_passages("right")
    hooks = count_hooks(model.module)
    replay = record_pass(model, ids, mask, "blocks.1.hook_mlp_out", [2, 2])
    assert count_hooks(model.module) == hooks
    sites = ["blocks.2.hook_resid_pre", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"]
    hidden, activation, after = capture(model, ids, mask, sites).values()
    assert torch.equal(replay.hidden, hidden)
    assert torch.equal(replay.activation, activation)
    assert list(replay.clean) == [2]
    assert torch.equal(replay.clean[2], after)
    assert (replay.start, replay.last) == (2, 2)


@pytest.mark.parametrize("kind", ["neox", "gpt-neo", "gemma2", "llama3"])
def test_the_size_of_a_tile_changes_nothing_but_rounding(kind: str) -> None:
    model = load(kind)
    ids, mask = make_passages("right")
    steps = make_steps(7, model.width)
    site = "blocks.0.hook_resid_post"
    whole = replay_all(model, ids, mask, site, steps)
    full = record_pass(model, ids, mask, site, list(whole))
    budget = 3 * full.needed + full.needed // 2
    small = record_pass(model, ids, mask, site, list(whole), budget=budget)
    tiles = list(small.run(add_steps(small, steps), 7))
    assert [(tile.first, tile.stop) for tile in tiles] == [(0, 3), (3, 6), (6, 7)]
    for block, residual in whole.items():
        pieces = torch.cat([tile.reads[block] for tile in tiles])
        torch.testing.assert_close(pieces[:, mask], residual[:, mask], atol=1e-4, rtol=1e-4)


def test_passages_do_not_see_each_other() -> None:
    """A change of one passage's residual leaves the others as they are: rows are not mixed up."""
    model = load("gemma3")
    ids, mask = make_passages("right")
    replay = record_pass(model, ids, mask, "blocks.0.hook_resid_post", [1, 3])
    step = torch.zeros(3, 3, 1, 1)
    step[0, 0] = step[1, 1] = step[2, 2] = 1
    (tile,) = replay.run(lambda first, stop: replay.hidden + step[first:stop], 3)
    for block, clean in replay.clean.items():
        moved = ((tile.reads[block] - clean).abs().amax(-1) > 1e-4) & mask
        assert torch.equal(moved.any(-1), torch.eye(3, dtype=torch.bool)), block


def test_blocks_before_the_site_and_after_the_last_read_out_do_not_run() -> None:
    model = load("gemma3")
    ran: list[int] = []
    blocks = model.module.model.layers
    replay = record_pass(model, *make_passages("right"), "blocks.0.hook_resid_post", [2])
    handles = [
        block.register_forward_pre_hook(lambda _, __, number=number: ran.append(number))
        for number, block in enumerate(blocks)
    ]
    list(replay.run(lambda first, stop: replay.hidden.expand(stop - first, -1, -1, -1), 4))
    for handle in handles:
        handle.remove()
    assert ran == [1, 2]


def test_other_blocks_run_in_the_place_of_the_models_own() -> None:
    model, other = load("llama3"), tiny_model("llama3", seed=5)
    ids, mask = make_passages("right")
    steps = make_steps(2, model.width)
    strange = other.model.layers[1:]
    replay = record_pass(model, ids, mask, "blocks.0.hook_resid_post", [1, 2], blocks=strange)
    mixed = tiny_model("llama3")
    mixed.model.layers[1], mixed.model.layers[2] = strange
    expected = run_hooked(
        wrap_language_model(mixed.eval(), name="llama3", digest="none"),
        ids,
        mask,
        "blocks.0.hook_resid_post",
        steps,
    )
    (tile,) = replay.run(add_steps(replay, steps), 2)
    own = record_pass(model, ids, mask, "blocks.0.hook_resid_post", [1, 2])
    assert torch.equal(own.hidden, replay.hidden)
    for block, residual in tile.reads.items():
        assert torch.equal(residual[:, mask], expected[block][:, mask])
        assert not torch.allclose(own.clean[block][mask], replay.clean[block][mask], atol=1e-2)
    with pytest.raises(InputError, match="1 blocks came to stand for"):
        record_pass(model, ids, mask, "blocks.0.hook_resid_post", [1, 2], blocks=strange[:1])


def test_a_processed_model_is_replayed_like_any_other() -> None:
    model = load_processed("fold_ln", "center_writing_weights")
    ids, mask = make_passages("right")
    steps = make_steps(2, model.width)
    steps -= steps.mean(-1, keepdim=True)
    plain = run_hooked(load("gpt2"), ids, mask, "blocks.0.hook_resid_post", steps)
    for block, found in replay_all(model, ids, mask, "blocks.0.hook_resid_post", steps).items():
        expected = plain[block] - plain[block].mean(-1, keepdim=True)
        torch.testing.assert_close(found[:, mask], expected[:, mask], atol=1e-4, rtol=1e-4)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    place=st.sampled_from(SITES),
    block=st.integers(0, 3),
    depth=st.floats(0, 1, exclude_min=True),
)
def test_read_outs_are_at_fractions_of_what_remains(kind: str, place: str, block: int, depth: float) -> None:
    model = load(kind)
    site = f"blocks.{min(block, model.layers - 1)}.{place}"
    after = find_stream_block(model, site)
    rest = model.layers - 1 - after
    if not rest:
        with pytest.raises(InputError, match=r"no block of .* comes after it"):
            choose_reads(model, site, [depth])
        return
    (read,) = choose_reads(model, site, [depth])
    assert after + 1 <= read <= model.layers - 1
    assert abs(read - after - depth * rest) <= (1 if depth * rest < 0.5 else 0.5)
    assert choose_reads(model, site, [1.0, depth]) == (model.layers - 1, read)


@pytest.mark.parametrize("depths", [[], [0.0], [0.5, 1.1], [-0.5], [float("nan")]])
def test_bad_depths_are_refused(depths: list[float]) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        choose_reads(load("gpt2"), "blocks.0.hook_resid_post", depths)


@pytest.mark.parametrize("kind", ["hook_resid_mid", "hook_attn_out", "attn.hook_z", "mlp.hook_post"])
def test_sites_outside_the_stream_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match="goes straight into the residual stream"):
        find_stream_block(load("gpt2"), f"blocks.0.{kind}")


@pytest.mark.parametrize("reads", [[], [1], [0, 2], [3]])
def test_read_outs_at_or_before_the_site_or_beyond_the_model_are_refused(reads: list[int]) -> None:
    with pytest.raises(InputError, match="none before block 2"):
        record_pass(load("gpt2"), *make_batch(), "blocks.1.hook_resid_post", reads)


def test_equal_changes_give_equal_residuals_wherever_they_stand() -> None:
    model = load("qwen3")
    ids, mask = make_passages("right")
    replay = record_pass(model, ids, mask, "blocks.0.hook_resid_post", [2])
    (tile,) = replay.run(lambda first, stop: replay.hidden.repeat(stop - first, 1, 1, 1), 4)
    spread = (tile.reads[2] - replay.clean[2])[:, mask].abs().amax().item()
    assert spread < 1e-4
    assert np.isfinite(spread)
