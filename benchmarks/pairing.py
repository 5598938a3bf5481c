"""How long does pairing take, next to dense BLAS and to SciPy's sparse product? And what memory?

    python benchmarks/pairing.py [--quick]

The words are made up, with seed 0: each word draws 60 features of each model with replacement (repeats fall
away, about 58 remain), with probability proportional to 1 / (rank + 20); half of B's draws are instead a
fixed one-to-one image of one of A's, at its activation times lognormal(0, 0.5); activations are lognormal.
Features with fewer than 10 firings are set aside. Every figure comes from one process of its own, whose peak
memory is told beside it and includes the data, Python and NumPy (or torch). Seconds are wall time, with all
cores; nothing else should run.

1. All best partners both ways, against dense BLAS: torch float32, standardised, in tiles, with topk both
   ways. BLAS does one tile out of eight and is scaled up; standardising counts once, in full.
2. The same at more words, against SciPy's sparse product A.T @ B alone, in tiles and without any top-k.
3. As large as it gets: 131,072 features a side.
4. One-to-one pairing of 32,768 features out of a million candidates, greedy and optimal, against sorting
   all the candidates and scanning them in Python (which is not exact: it ends with the lists).
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe_machine, read_peak  # noqa: E402
from xmodel.pairing import chunks as chunks_module  # noqa: E402
from xmodel.pairing.greedy import match_greedy  # noqa: E402
from xmodel.pairing.moments import measure_moments  # noqa: E402
from xmodel.pairing.optimal import match_optimal  # noqa: E402
from xmodel.pairing.prepared import PreparedFeatures, prepare_features  # noqa: E402
from xmodel.records import WordFeatures  # noqa: E402

ACTIVE = 60
TOP_K = 10
DENSE_TILE = 2048
DENSE_SHARE = 8
SPARSE_TILE = 1024
Size = tuple[int, int, int]


def make_words(features_a: int, features_b: int, words: int) -> tuple[WordFeatures, WordFeatures]:
    """Both sides' features of made-up words, as the text above says."""
    rng = np.random.default_rng(0)
    image = np.resize(rng.permutation(features_b), features_a)
    order = rng.permutation(features_b)
    drawn_a, drawn_b = draw_ranks(rng, features_a, words), order[draw_ranks(rng, features_b, words)]
    values_a, values_b = rng.lognormal(size=drawn_a.shape), rng.lognormal(size=drawn_b.shape)
    shared = rng.random(drawn_b.shape) < 0.5
    drawn_b = np.where(shared, image[drawn_a], drawn_b)
    values_b = np.where(shared, values_a * rng.lognormal(sigma=0.5, size=values_a.shape), values_b)
    return pack_rows(drawn_a, values_a, features_a), pack_rows(drawn_b, values_b, features_b)


def draw_ranks(rng: np.random.Generator, features: int, words: int) -> NDArray[np.int64]:
    cumulated = np.cumsum(1 / (np.arange(features) + 20.0))
    drawn = np.searchsorted(cumulated / cumulated[-1], rng.random((words, ACTIVE)))
    return np.minimum(drawn, features - 1)


def pack_rows(drawn: NDArray[np.int64], values: NDArray[np.float64], features: int) -> WordFeatures:
    words = len(drawn)
    keys, first = np.unique((np.arange(words)[:, None] * features + drawn).ravel(), return_index=True)
    indptr = np.searchsorted(keys, np.arange(words + 1) * features).astype(np.int64)
    return WordFeatures(
        indptr, (keys % features).astype(np.int32), values.ravel()[first].astype(np.float32), features
    )


def prepare(size: Size) -> tuple[PreparedFeatures, float]:
    """From rows to features that can be searched (moments, filter, columns), and the seconds it took."""
    pair = make_words(*size)
    began = time.perf_counter()
    moments = measure_moments(lambda: [pair], *size[:2])
    kept = [own.firings >= 10 for own in moments]
    prepared = prepare_features(lambda: [pair], *moments, kept_a=kept[0], kept_b=kept[1], memory=2 << 30)
    return prepared, time.perf_counter() - began


def time_ours(size: Size) -> dict[str, float]:
    prepared, before = prepare(size)
    began = time.perf_counter()
    of_a, _ = prepared.find_partners(TOP_K, 0.0)
    seconds = before + time.perf_counter() - began
    return {"seconds": seconds, "listed": float((of_a.features >= 0).sum())}


def time_streamed(size: Size) -> dict[str, float]:
    """The same with 256 MB for accumulators and nothing held, in 10 chunks."""
    side_a, side_b = make_words(*size)
    cuts = np.linspace(0, size[2], 11).astype(int)
    parts = [[cut(side, a, b) for side in (side_a, side_b)] for a, b in pairwise(cuts)]

    def chunks() -> Any:
        return iter([(a, b) for a, b in parts])

    began = time.perf_counter()
    moments = measure_moments(chunks, *size[:2])
    kept = [own.firings >= 10 for own in moments]
    prepared = prepare_features(chunks, *moments, kept_a=kept[0], kept_b=kept[1], memory=0)
    prepared = replace(prepared, memory=1 << 28)
    of_a, _ = prepared.find_partners(TOP_K, 0.0)
    return {"seconds": time.perf_counter() - began, "listed": float((of_a.features >= 0).sum())}


def cut(side: WordFeatures, begin: int, end: int) -> WordFeatures:
    first, last = side.indptr[begin], side.indptr[end]
    return WordFeatures(
        side.indptr[begin : end + 1] - first,
        side.indices[first:last],
        side.values[first:last],
        side.features,
    )


def time_dense(size: Size) -> dict[str, float]:
    """Standardise, multiply tiles and keep the best both ways with torch in float32; one tile of eight."""
    import torch

    sides = make_words(*size)
    began = time.perf_counter()
    standard = []
    for side in sides:
        x = torch.zeros((len(side), side.features))
        rows = torch.from_numpy(np.repeat(np.arange(len(side)), np.diff(side.indptr)))
        x[rows, torch.from_numpy(side.indices.astype(np.int64))] = torch.from_numpy(side.values)
        x -= x.mean(dim=0)
        x /= x.norm(dim=0).clamp_min(1e-9)
        standard.append(x)
    once = time.perf_counter() - began
    tiles = [(a, b) for a in range(0, size[0], DENSE_TILE) for b in range(0, size[1], DENSE_TILE)]
    chosen = tiles[::DENSE_SHARE]
    began = time.perf_counter()
    for a, b in chosen:
        r = standard[0][:, a : a + DENSE_TILE].T @ standard[1][:, b : b + DENSE_TILE]
        r.topk(TOP_K, dim=1)
        r.topk(TOP_K, dim=0)
    tiled = (time.perf_counter() - began) * len(tiles) / len(chosen)
    return {"seconds": once + tiled, "once": once}


def time_scipy(size: Size) -> dict[str, float]:
    """A.T @ B in tiles of A's features, each thrown away."""
    from scipy.sparse import csr_array

    sides = make_words(*size)
    left, right = (
        csr_array((s.values.astype(np.float64), s.indices, s.indptr), shape=(len(s), s.features))
        for s in sides
    )
    began = time.perf_counter()
    turned = left.T.tocsr()
    products = 0
    for first in range(0, size[0], SPARSE_TILE):
        products += (turned[first : first + SPARSE_TILE] @ right).nnz
    return {"seconds": time.perf_counter() - began, "products": float(products)}


def time_matching(size: Size) -> dict[str, float]:
    """A million candidates: lists of 31 for 32,768 features."""
    prepared, _ = prepare(size)
    of_a, _ = prepared.find_partners(31, 0.0)
    found = {"candidates": float((of_a.features >= 0).sum())}
    began = time.perf_counter()
    pairs = match_greedy(prepared, of_a)
    found |= {"greedy": time.perf_counter() - began, "pairs": float(len(pairs))}
    began = time.perf_counter()
    scan_plainly(of_a.features, of_a.r)
    found["scanned"] = time.perf_counter() - began
    for name, price, lists in (
        ("optimal", 0.0, prepared.find_partners(TOP_K, 0.0)),
        ("optimal_priced", 0.2, prepared.find_partners(TOP_K, 0.2)),
    ):
        began = time.perf_counter()
        _, gap = match_optimal(prepared, *lists, price=price)
        found |= {name: time.perf_counter() - began, f"{name}_gap": gap}
    return found


def scan_plainly(features: NDArray[np.int32], r: NDArray[np.float64]) -> int:
    rows, places = np.nonzero(features >= 0)
    candidates = list(
        zip((-r[rows, places]).tolist(), rows.tolist(), features[rows, places].tolist(), strict=True)
    )
    candidates.sort()
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    for _, a, b in candidates:
        if a not in taken_a and b not in taken_b:
            taken_a.add(a)
            taken_b.add(b)
    return len(taken_a)


WORK = {
    "ours": time_ours,
    "streamed": time_streamed,
    "dense": time_dense,
    "scipy": time_scipy,
    "matching": time_matching,
}


def run_apart(name: str, size: Size) -> dict[str, float]:
    """One piece of work in a process of its own; its figures and peak memory in bytes."""
    command = [sys.executable, __file__, "--work", name, *map(str, size)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def compare(console: Console, title: str, size: Size, names: dict[str, str]) -> None:
    """One table: the first name is what the others are measured by."""
    a, b, words = size
    table = Table(title=f"{title}: {a:,} x {b:,} features, {words:,} words, {ACTIVE} drawn")
    for head in ("", "seconds", "times ours", "peak memory"):
        table.add_column(head, justify="right" if head else "left")
    ours = 0.0
    for name, label in names.items():
        found = run_apart(name, size)
        ours = ours or found["seconds"]
        table.add_row(
            label,
            f"{found['seconds']:.2f}",
            f"{found['seconds'] / ours:.1f}",
            f"{found['peak'] / 1e9:.2f} GB",
        )
    console.print(table)


def report_matching(console: Console, size: Size) -> None:
    found = run_apart("matching", size)
    table = Table(
        title=f"One-to-one pairing, {size[0]:,} features a side: {found['candidates']:,.0f} candidates, "
        f"{found['pairs']:,.0f} greedy pairs"
    )
    for head in ("", "seconds", "certified gap"):
        table.add_column(head, justify="right" if head else "left")
    table.add_row("greedy, exact (lists of 31)", f"{found['greedy']:.2f}", "")
    table.add_row("sorting and scanning the lists in Python", f"{found['scanned']:.2f}", "")
    for name, label in (
        ("optimal", "optimal, price 0 (lists of 10)"),
        ("optimal_priced", "optimal, price 0.2 (lists of 10)"),
    ):
        table.add_row(label, f"{found[name]:.2f}", f"{found[f'{name}_gap']:.1e}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the features and words")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, *size = options.work
        found = WORK[name](tuple(map(int, size)))
        print(json.dumps({**found, "peak": read_peak()}))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    loops = "compiled loops" if chunks_module.kernels is not None else "no compiled loops"
    console.print(describe_machine(loops), highlight=False)
    part = 8 if options.quick else 1
    sizes = [
        tuple(number // part for number in size)
        for size in ((16384, 32768, 20_000), (32768, 32768, 100_000), (131072, 131072, 50_000))
    ]
    ours = {"ours": "xmodel, partners both ways"}
    compare(console, "1", sizes[0], {**ours, "dense": "torch float32, tiles and topk (1/8, scaled)"})
    compare(
        console,
        "2",
        sizes[1],
        {**ours, "streamed": "xmodel, streamed: 256 MB, 10 chunks", "scipy": "SciPy's product alone"},
    )
    compare(console, "3", sizes[2], ours)
    report_matching(console, sizes[1])


if __name__ == "__main__":
    main()
