"""How long does it take to push directions, next to the loop that one would write with hooks? What memory?

    python benchmarks/steering.py [MODEL] [--device DEVICE] [--quick]

MODEL is a folder or Hugging Face id of a language model; by default the small one that comes with xmodel.
Directions are random, with seed 0: what they cost does not depend on them. Each is pushed both ways at two
doses, at the output of the block in the middle; four passages of random tokens (64 at most, padded on the
right), 50 words read in each: once in the middle of the layers that remain, once at the three depths that
`xmodel steer` reads by default. All loops read the same numbers, which is checked.

1. The loop with TransformerLens: one pass of the whole model (its bridge, as SAELens uses it) per direction,
   dose and sign, with a hook that adds the vector and hooks that keep what is read.
2. The same loop with hooks of PyTorch on the Hugging Face model.
3. The same loop, stopping after the last read-out, and so without the language model's head.
4. xmodel: one clean pass, then the later blocks alone, many changes at a time. Recording counts.
5. xmodel with all that the statistic needs besides: Gram matrices, centring, packing.

Loops take turns, and the best of a few rounds counts. Memory is told twice: of tensors alive at a time, which
the budget is about, and what a clean pass and its tiles add to a process of their own that has done the same
before and given back what it had freed (Linux): there the allocator's gaps and BLAS' own buffers count too.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe_machine, read_peak
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xmodel.datasets.demo import find_builtin  # noqa: E402
from xmodel.models.capture import capture, hook_place  # noqa: E402
from xmodel.models.language import LanguageModel, load_language_model  # noqa: E402
from xmodel.models.sites import locate_site  # noqa: E402
from xmodel.steering.interventions import add  # noqa: E402
from xmodel.steering.measuring import measure_responses, prepare_side  # noqa: E402
from xmodel.steering.replaying import choose_reads, record_pass  # noqa: E402

DOSES = (0.1, 0.25)
DEPTHS = ((0.5,), (0.25, 0.5, 0.75))
LENGTHS = (64, 57, 60, 52)
BUDGETS = (1 << 24, 1 << 30)


@dataclass(frozen=True, eq=False)
class Work:
    """What all loops do."""

    model: LanguageModel
    site: str
    reads: tuple[int, ...]
    ids: torch.Tensor
    mask: torch.Tensor
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    directions: NDArray[np.float32]
    steps: torch.Tensor
    """[n * doses * 2, d] what is added, direction by direction, dose by dose, plus and minus."""

    def take(self, activation: torch.Tensor) -> NDArray[np.float32]:
        """[..., N, d] the words' rows."""
        return activation[..., self.rows, self.columns, :].float().numpy(force=True)

    @property
    def names(self) -> list[str]:
        """Sites that are read."""
        return [f"blocks.{block}.hook_resid_post" for block in self.reads]


def make_work(model: LanguageModel, count: int, depths: tuple[float, ...]) -> Work:
    rng = np.random.default_rng(0)
    site = f"blocks.{model.layers // 2 - 1}.hook_resid_post"
    lengths = np.asarray(LENGTHS)
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = torch.from_numpy(rng.integers(10, 4000, mask.shape)).to(model.device)
    rows = np.repeat(np.arange(len(lengths)), 50)
    columns = np.concatenate([np.arange(length - 50, length) for length in lengths])
    directions = rng.standard_normal((count, model.width)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = capture(model, ids, torch.from_numpy(mask).to(model.device), [site])[site]
    scale = float(found[rows, columns].float().norm(dim=-1).median())
    signed = np.array([sign * dose * scale for dose in DOSES for sign in (1, -1)], np.float32)
    steps = (directions[:, None] * signed[:, None]).reshape(-1, model.width)
    moved = torch.from_numpy(steps).to(model.device, model.dtype)
    reads = tuple(sorted(set(choose_reads(model, site, depths))))
    return Work(
        model, site, reads, ids, torch.from_numpy(mask).to(model.device), rows, columns, directions, moved
    )


def loop_bridge(work: Work) -> Callable[[], NDArray[np.float32]]:
    """What one writes with TransformerLens' bridge, which SAELens wraps to splice SAEs in."""
    import copy

    from transformer_lens.model_bridge.sources import build_bridge_from_module

    module: Any = copy.deepcopy(work.model.module)
    bridge: Any = build_bridge_from_module(
        module, type(module).__name__, hf_config=copy.deepcopy(module.config), model_name=work.model.name
    )
    bridge.eval()

    def run() -> NDArray[np.float32]:
        found = []
        for step in work.steps:
            kept: dict[str, NDArray[np.float32]] = {}

            def push(x: torch.Tensor, hook: Any, step: torch.Tensor = step) -> torch.Tensor:
                return x + step

            def keep(x: torch.Tensor, hook: Any, kept: dict[str, Any] = kept) -> None:
                kept[hook.name] = work.take(x)

            hooks = [(work.site, push), *((name, keep) for name in work.names)]
            with torch.inference_mode():
                bridge.run_with_hooks(work.ids, fwd_hooks=hooks, attention_mask=work.mask.long())
            found.append(np.stack(list(kept.values())))
        return np.stack(found)

    return run


def loop_hooks(work: Work) -> Callable[[], NDArray[np.float32]]:
    """The same with hooks of PyTorch on the Hugging Face model."""

    def run() -> NDArray[np.float32]:
        found = []
        for step in work.steps:
            kept: list[NDArray[np.float32]] = []
            with ExitStack() as hooks, torch.inference_mode():
                hooks.enter_context(add(work.model, work.site, step))
                for name in work.names:
                    place = locate_site(work.model, name)
                    hooks.callback(hook_place(place, lambda x, kept=kept: kept.append(work.take(x))).remove)
                work.model.module(work.ids, attention_mask=work.mask, use_cache=False)
            found.append(np.stack(kept))
        return np.stack(found)

    return run


def loop_stopping(work: Work) -> Callable[[], NDArray[np.float32]]:
    """The same, stopping after the last read-out."""

    def run() -> NDArray[np.float32]:
        found = []
        for step in work.steps:
            with add(work.model, work.site, step):
                read = capture(work.model, work.ids, work.mask, work.names)
            found.append(np.stack([work.take(x) for x in read.values()]))
        return np.stack(found)

    return run


def loop_replay(work: Work) -> Callable[[], NDArray[np.float32]]:
    """xmodel."""
    return lambda: np.concatenate(list(replay_tiles(work, 1 << 30)))


def replay_tiles(work: Work, budget: int) -> Iterator[NDArray[np.float32]]:
    """[k, reads, N, d] rows of some pushes at a time."""
    replay = record_pass(work.model, work.ids, work.mask, work.site, work.reads, budget=budget)

    def make(first: int, stop: int) -> torch.Tensor:
        return replay.hidden + work.steps[first:stop, None, None]

    for tile in replay.run(make, len(work.steps)):
        yield np.stack([work.take(tile.reads[block]) for block in work.reads], 1)


def loop_responses(work: Work) -> Callable[[], None]:
    """xmodel, with the statistic."""

    def run() -> None:
        ids, mask = work.ids.numpy(force=True), work.mask.numpy(force=True)
        side = prepare_side(work.model, work.site, ids, mask, work.rows, work.columns, work.reads)
        for _ in measure_responses(side, work.directions, DOSES):
            pass

    return run


def compare(console: Console, work: Work, rounds: int) -> None:
    """Time and check all loops."""
    loops: dict[str, Callable[[], Any]] = {
        "TransformerLens, whole passes": loop_bridge(work),
        "PyTorch hooks, whole passes": loop_hooks(work),
        "PyTorch hooks, stopping at the last read-out": loop_stopping(work),
        "xmodel": loop_replay(work),
        "xmodel, with Gram matrices": loop_responses(work),
    }
    best = dict.fromkeys(loops, float("inf"))
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            results[name] = loop()
            best[name] = min(best[name], time.perf_counter() - start)
    table = Table(title=f"{len(work.steps)} pushes of {work.site}, read after blocks {work.reads}")
    for head in ("", "ms a push", "times xmodel's", "largest difference"):
        table.add_column(head, justify="right" if head else "left")
    ours = results["xmodel"]
    for name, seconds in best.items():
        rows = results[name]
        if rows is None:
            difference = ""
        else:
            errors = np.linalg.norm(rows - ours, axis=-1) / np.linalg.norm(ours, axis=-1)
            difference = f"{errors.max():.1e}"
        table.add_row(
            name,
            f"{1000 * seconds / len(work.steps):.1f}",
            f"{seconds / best['xmodel']:.1f}",
            difference,
        )
    console.print(table)


def run_tiles(work: Work, budget: int) -> None:
    """A clean pass and its tiles; nothing of what is read is kept."""
    for _ in replay_tiles(work, budget):
        pass


def measure_memory(source: str, device: str, budget: int) -> None:
    """Print what tiles take, in bytes; called in a process of its own."""
    model = load(source, device)
    work = make_work(model, 4, DEPTHS[-1])
    run_tiles(work, budget)  # What libraries set up once is not counted.
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
        before = torch.cuda.memory_allocated(model.device)
        run_tiles(work, budget)
        tensors = added = torch.cuda.max_memory_allocated(model.device) - before
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # Sets the peak back to what is held now.
        before = read_peak()
        run_tiles(work, budget)
        added = read_peak() - before
        tensors = measure_tensors(lambda: run_tiles(work, budget))
    replay = record_pass(model, work.ids, work.mask, work.site, work.reads, budget=budget)
    found = {"planned": replay.plan_tile() * replay.needed, "tensors": tensors, "added": added}
    print(json.dumps({"tile": replay.plan_tile(), **found}))


def measure_tensors(work: Callable[[], None]) -> int:
    """Most bytes of tensors that were alive at a time, by PyTorch's own account."""
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    sizes = [(event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
    return int(np.cumsum([size for _, size in sorted(sizes, key=lambda one: one[0])]).max())


def report_memory(console: Console, source: str, device: str) -> None:
    table = Table(title="Memory")
    for head in ("budget", "changes in a tile", "planned for it", "tensors alive", "added to the process"):
        table.add_column(head, justify="right")
    for budget in BUDGETS:
        command = [sys.executable, __file__, source, "--device", device, "--memory", str(budget)]
        out = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        sizes = [f"{found[name] / 1e6:.0f} MB" for name in ("planned", "tensors", "added")]
        table.add_row(f"{budget / 1e6:.0f} MB", str(found["tile"]), *sizes)
    console.print(table)


def load(source: str, device: str) -> LanguageModel:
    return load_language_model(
        find_builtin(source, "model") if source.startswith("builtin:") else source, device=device
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="builtin:neox-demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="one round with two directions")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.model, options.device, options.memory)
        return
    console = Console()
    console.print(
        describe_machine(f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", options.device)
    )
    model = load(options.model, options.device)
    console.print(
        f"{model.name}: {model.layers} blocks of width {model.width}; directions x {len(DOSES)} doses x 2 "
        f"signs; {len(LENGTHS)} passages, {sum(LENGTHS)} tokens, {50 * len(LENGTHS)} words"
    )
    # A small model takes milliseconds a pass, so that more of them fit the time.
    small = model.width * model.layers < 4000
    count, rounds = (2, 1) if options.quick else (32, 4) if small else (6, 2)
    for depths in DEPTHS:
        compare(console, make_work(model, count, depths), rounds)
    report_memory(console, options.model, options.device)


if __name__ == "__main__":
    main()
