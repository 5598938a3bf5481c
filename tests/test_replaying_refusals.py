"""What replaying refuses, how it goes on when memory runs out, and that it stays inside its budget."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from tests.model_helpers import EVERY_KIND, count_hooks, load, make_batch, pad
from xmodel.errors import InputError
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.steering.memory import is_out_of_memory
from xmodel.steering.replaying import Replay, record_pass

SITE = "blocks.0.hook_resid_post"
WIDTH = 8


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class PlainBlock(torch.nn.Module):
    """A block that may add what it is handed beside the residual, what it keeps, or what it counts."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.attn = torch.nn.Linear(WIDTH, WIDTH)
        self.kind = kind
        self.calls = 0
        self.kept: dict[str, torch.Tensor] = {}

    def forward(self, hidden_states: torch.Tensor, carried: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        more = {
            "plain": lambda: 0,
            "hands on": lambda: carried.cos(),
            "counts": lambda: self.calls,
            "keeps": lambda: self.kept.setdefault("first", hidden_states).cos(),
        }[self.kind]()
        return hidden_states + self.attn(hidden_states).tanh() + more


class PlainDecoder(torch.nn.Module):
    """A language model that is not of transformers, whose blocks may hand on more than the residual."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(101, WIDTH)
        self.layers = torch.nn.ModuleList(PlainBlock(kind) for _ in range(3))
        self.kind = kind
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=64))

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed

    def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        hidden = self.embed(input_ids)
        first = self.layers[0]
        if self.kind == "keeps" and isinstance(first, PlainBlock):
            shared: dict[str, torch.Tensor] = {}
            for block in self.layers:
                block.kept = shared  # What the first block keeps, the others read.
        carried = torch.zeros_like(hidden)
        for block in self.layers:
            before = hidden
            hidden = block(hidden, carried=carried)
            carried = before
        return hidden


def load_plain(kind: str) -> LanguageModel:
    torch.manual_seed(0)
    module = PlainDecoder(kind).eval().requires_grad_(False)
    return wrap_language_model(module, name=kind, digest="none")


def test_a_model_of_another_library_is_replayed() -> None:
    replay = record_pass(load_plain("plain"), *make_batch(), SITE, [1, 2])
    (tile,) = replay.run(lambda first, stop: replay.hidden.repeat(stop - first, 1, 1, 1) + 1, 3)
    assert not torch.allclose(tile.reads[2][0], replay.clean[2], atol=0.1)


@pytest.mark.parametrize("kind", ["hands on", "counts", "keeps"])
def test_blocks_that_hand_on_more_than_the_residual_are_refused(kind: str) -> None:
    model = load_plain(kind)
    with pytest.raises(InputError, match="hand on more than the residual"):
        record_pass(model, *make_batch(3), SITE, [1, 2])
    assert count_hooks(model.module) == 0


class ScaledBlock(torch.nn.Module):
    """A block of another model that scales the stream before it adds to it, as if by a norm or a gate."""

    def __init__(self, block: torch.nn.Module, scale: float) -> None:
        super().__init__()
        self.block = block
        self.self_attn = block.get_submodule("self_attn")
        self.mlp = block.get_submodule("mlp")
        self.scale = scale

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        added = self.block(hidden_states, *args, **kwargs) - hidden_states
        return self.scale * hidden_states + added


def load_scaled(scale: float, place: int, dtype: torch.dtype = torch.float32) -> LanguageModel:
    module = tiny_model("llama3").to(dtype)
    module.model.layers[place] = ScaledBlock(module.model.layers[place], scale)
    return wrap_language_model(module, name="scaled", digest="none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.5, 0.95])
@pytest.mark.parametrize("place", [1, 2])
def test_blocks_that_scale_the_stream_are_refused(place: int, scale: float, dtype: torch.dtype) -> None:
    """The push's own copy would not be the push: Y with it taken away would still hold a share of it."""
    model = load_scaled(scale, place, dtype)
    with pytest.raises(InputError, match=f"block {place} of scaled does not carry its input on unchanged"):
        record_pass(model, *make_batch(), SITE, [1, 2])
    assert count_hooks(model.module) == 0


def test_a_block_that_only_wraps_another_is_not_refused() -> None:
    replay = record_pass(load_scaled(1.0, 2), *make_batch(), SITE, [1, 2])
    plain = record_pass(load("llama3"), *make_batch(), SITE, [1, 2])
    torch.testing.assert_close(replay.clean[2], plain.clean[2], atol=1e-5, rtol=1e-5)


def test_blocks_before_the_site_and_after_the_last_read_out_may_scale_the_stream() -> None:
    record_pass(load_scaled(0.5, 0), *make_batch(), SITE, [1, 2])
    record_pass(load_scaled(0.5, 2), *make_batch(), SITE, [1])


def load_opt(norm_before: bool) -> LanguageModel:
    """OPT: the smallest published model of the family has its norms after each part, on the stream itself."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=101,
        hidden_size=24,
        word_embed_proj_dim=24,
        ffn_dim=40,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=64,
        do_layer_norm_before=norm_before,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = OPTForCausalLM(config)
    return wrap_language_model(module.eval().requires_grad_(False), name="opt", digest="none")


def test_norms_on_the_stream_itself_are_refused() -> None:
    with pytest.raises(InputError, match="block 1 of opt does not carry its input on unchanged"):
        record_pass(load_opt(norm_before=False), *make_batch(), SITE, [1, 2])
    record_pass(load_opt(norm_before=True), *make_batch(), SITE, [1, 2])


@EVERY_KIND
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_known_architecture_is_refused(kind: str, dtype: torch.dtype, seed: int) -> None:
    """With other weights, at all of the blocks after the first."""
    model = wrap_language_model(tiny_model(kind, seed=seed).to(dtype), name=kind, digest="none")
    replay = record_pass(model, *make_batch(), SITE, range(1, model.layers))
    assert set(replay.clean) == set(range(1, model.layers))


def test_residuals_that_are_not_finite_are_refused() -> None:
    module = tiny_model("llama3")
    module.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    model = wrap_language_model(module, name="damaged", digest="none")
    with pytest.raises(InputError, match="after block 1 are not finite"):
        record_pass(model, *make_batch(), SITE, [1])


def test_changes_of_another_shape_or_dtype_are_refused() -> None:
    replay = record_pass(load("gpt2"), *make_batch(), SITE, [2])
    with pytest.raises(InputError, match=r"of shape \(2, 12, 24\)"):
        list(replay.run(lambda first, stop: replay.hidden, 1))
    with pytest.raises(InputError, match=r"torch\.float64 came"):
        list(replay.run(lambda first, stop: replay.hidden[None].double(), 1))


def raise_cpu() -> None:
    """What PyTorch's own allocator says."""
    torch.empty(1 << 60, dtype=torch.uint8)


def raise_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def make_failing(replay: Replay, most: int, fail: Callable[[], None]) -> tuple[Any, list[tuple[int, int]]]:
    """Changed residuals that take too much memory for more than `most` at a time, and what was asked for."""
    asked: list[tuple[int, int]] = []

    def make(first: int, stop: int) -> torch.Tensor:
        asked.append((first, stop))
        if stop - first > most:
            fail()
        return replay.hidden + torch.arange(first, stop).view(-1, 1, 1, 1)

    return make, asked


@pytest.mark.parametrize("fail", [raise_cpu, raise_gpu])
def test_a_tile_without_memory_is_halved_and_goes_on(fail: Callable[[], None]) -> None:
    replay = record_pass(load("gemma2"), *make_batch(), SITE, [1, 2])
    whole = torch.cat([tile.reads[2] for tile in replay.run(make_failing(replay, 99, fail)[0], 11)])
    make, asked = make_failing(replay, 3, fail)
    tiles = list(replay.run(make, 11))
    assert asked == [(0, 11), (0, 5), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]
    torch.testing.assert_close(torch.cat([tile.reads[2] for tile in tiles]), whole, atol=1e-4, rtol=1e-4)


def test_memory_that_runs_out_inside_a_block_halves_the_tile_too() -> None:
    model = load("llama3")
    replay = record_pass(model, *make_batch(), SITE, [2])
    sizes: list[int] = []

    def fail(_: Any, args: tuple[Any, ...]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 2 * 4:
            raise_cpu()

    handle = model.module.model.layers[2].register_forward_pre_hook(fail)
    tiles = list(replay.run(lambda first, stop: replay.hidden.repeat(stop - first, 1, 1, 1), 10))
    handle.remove()
    assert sizes == [20, 10, 4, 4, 4, 4, 4]
    assert [tile.stop for tile in tiles] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("fail", [raise_cpu, raise_gpu])
def test_a_single_change_without_memory_is_an_error_of_the_input(fail: Callable[[], None]) -> None:
    replay = record_pass(load("gemma2"), *make_batch(), SITE, [1, 2])
    with pytest.raises(InputError, match=r"memory ran out on cpu .* use fewer words"):
        list(replay.run(make_failing(replay, 0, fail)[0], 4))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    replay = record_pass(load("gemma2"), *make_batch(), SITE, [1, 2])

    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(replay.run(make_failing(replay, 0, fail)[0], 4))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_clean_pass_without_memory_is_an_error_of_the_input() -> None:
    model = load("gemma2")
    handle = model.module.model.layers[1].register_forward_pre_hook(lambda _, __: raise_cpu())
    with pytest.raises(InputError, match="memory ran out on cpu in a pass"):
        record_pass(model, *make_batch(), SITE, [1, 2])
    handle.remove()


def test_a_budget_below_one_change_is_refused() -> None:
    replay = record_pass(load("gemma2"), *make_batch(), SITE, [1, 2], budget=1000)
    with pytest.raises(InputError, match="the budget is 1,000"):
        list(replay.run(lambda first, stop: replay.hidden[None], 1))


def measure_peak(work: Callable[[], None], folder: Path) -> int:
    """Most bytes of tensors that were alive at a time during a piece of work, by PyTorch's own account."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        work()
    path = folder / "trace.json"
    profiler.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: (event["ts"], event["args"].get("Ev Idx", 0))):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["neox", "gpt2", "gpt-neo", "gemma", "gemma2", "gemma3", "llama3", "qwen3"])
def test_tiles_stay_inside_the_budget(tmp_path: Path, kind: str, padded: bool) -> None:
    model = load(kind)
    ids, mask = make_batch(4, 40)
    if padded:
        ids, mask = pad(ids, 0, 8, filler=5)
    budget = 12_000_000
    replay = record_pass(model, ids, mask, SITE, [1, 2], budget=budget)
    # Two tiles, since the first is still held while the second is made.
    count = 2 * replay.plan_tile()

    def work() -> None:
        for tile in replay.run(lambda first, stop: replay.hidden + torch.ones(stop - first, 1, 1, 1), count):
            assert tile.stop - tile.first == count // 2

    peak = measure_peak(work, tmp_path)
    assert budget / 4 < peak <= budget
