"""What do the choices of the published recipe do? Its nulls on random vectors, its table on a pair of models.

    python benchmarks/lan2024.py [RUN]

1. One-component SVCCA of random unit vectors (512 and 768 dimensions) under shuffles: the mean of the null,
   next to what was published for as many pairs and to the law sqrt(2 / (pi n)).
2. What was intended, SVCCA with 99 % of the variance, of random unit vectors: how high it is for vectors that
   have nothing to do with each other, and the components k that it keeps.
3. The table of RUN, a finished run; without it, of the two small models that come with xmodel.
"""

import argparse
import math
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xmodel.datasets.demo import DEMO_CORPUS, DEMO_SAES  # noqa: E402
from xmodel.pairing.comparing import align_models  # noqa: E402
from xmodel.pairing.results import open_run  # noqa: E402
from xmodel.report.lan2024 import describe_lan2024, render_lan2024  # noqa: E402
from xmodel.similarity.lan2024 import tabulate_lan2024  # noqa: E402
from xmodel.similarity.lan2024_score import prepare_svcca, svcca_lan2024  # noqa: E402
from xmodel.similarity.orders import draw_orders  # noqa: E402

WIDTHS = 512, 768
PUBLISHED = {24: 0.169, 126: 0.071, 228: 0.056}
"""Pairs, and the published mean of the null."""
SIZES = 50, 200, 1200
SHUFFLES = 10_000
REPEATS = 3


def make_rows(n: int, width: int, seed: int) -> NDArray[np.float64]:
    """[n, width] random unit vectors."""
    rows = np.random.default_rng(seed).normal(size=(n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure_nulls() -> list[tuple[int, float, float, float]]:
    """Pairs, mean of the null, the published one, and the law's."""
    found = []
    for n, published in PUBLISHED.items():
        prepared = prepare_svcca(make_rows(n, WIDTHS[0], n), make_rows(n, WIDTHS[1], n + 1), True)
        null = prepared.permute(draw_orders(n, SHUFFLES, np.random.default_rng(0)))
        found.append((n, float(null.mean()), published, math.sqrt(2 / (math.pi * n))))
    return found


def measure_intended() -> list[tuple[int, float, float, tuple[int, int]]]:
    """Vectors, mean and deviation of the intended SVCCA for unrelated ones, and components."""
    found = []
    for n in SIZES:
        scores = [
            svcca_lan2024(make_rows(n, WIDTHS[0], 2 * seed), make_rows(n, WIDTHS[1], 2 * seed + 1), False)
            for seed in range(REPEATS)
        ]
        values = [value for value, _ in scores]
        found.append((n, float(np.mean(values)), float(np.std(values)), scores[0][1]))
    return found


def show(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", metavar="RUN")
    chosen = parser.parse_args().run
    console = Console(width=100)
    nulls = [
        [str(n), f"{mean:.4f}", f"{published:.3f}", f"{law:.4f}", f"{mean / published - 1:+.1%}"]
        for n, mean, published, law in measure_nulls()
    ]
    title = f"One component: mean null of {SHUFFLES:,} shuffles of random unit vectors"
    show(console, title, ["n", "here", "published", "law", "here to published"], nulls)
    intended = [
        [f"{n:,}", f"{mean:.3f}", f"{deviation:.3f}", f"{k[0]}/{k[1]}", f"{n / max(k):.1f}"]
        for n, mean, deviation, k in measure_intended()
    ]
    title = f"99 % of the variance: SVCCA of unrelated unit vectors, {REPEATS} repeats"
    show(console, title, ["n", "mean", "deviation", "k", "n/k"], intended)
    with tempfile.TemporaryDirectory() as folder:
        # That a calling program is told of shares of words and the like is not of interest here.
        warnings.simplefilter("ignore")
        run = open_run(chosen) if chosen else align_models(*DEMO_SAES, DEMO_CORPUS, Path(folder) / "run")
        begin = time.perf_counter()
        table = tabulate_lan2024(run)
        seconds = time.perf_counter() - begin
        console.print(render_lan2024(describe_lan2024(run, table), 80))
        console.print(f"\n{seconds:.0f} s.")


if __name__ == "__main__":
    main()
