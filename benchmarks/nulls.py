"""How much faster are shuffles that keep what one side alone decides? And what memory do they take?

    python benchmarks/nulls.py [--quick] [--one-core] [--shuffles 1000]

Rows are made up, with seed 0: standard normal, float32, y unrelated to x. Ours is preparing the metric and
1,000 shuffles, all of them done and timed. Recomputing is the metric from x and shuffled y for every shuffle,
timed on 3 (after one that does not count) and scaled up to as many. Every figure comes from one process of
its own; seconds are wall time with all cores, and nothing else should run. With --one-core they are seconds
of CPU with one thread, for machines on which other programs run. The last column is by how much the values
of the same shuffles differ at most.

1. Canonical correlations, n = 5,000, against three ways to recompute them:
   SVDs: centre both, thin SVD of both, singular values of the product of the bases (Björck & Golub).
   published: as the program that came with SVCCA and PWCCA does it: covariances, pseudo-inverses and their
   roots, full SVD; for SVCCA the thin SVDs before that. Its PWCCA takes other directions than the paper, so
   that its values differ; see `xmodel.similarity.cca`.
   Cholesky: the cheapest we know: covariances, their Cholesky factors, and the product between.
2. The others, n = 10,000, against the plain formula: CKA in features, distances and neighbours from matrices
   of n x n by BLAS, Procrustes from X' Y.
3. Peak memory of ours (with Python, NumPy, SciPy and the data) at n = 40,000, where one matrix of n x n has
   12.8 GB.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

seconds_now = time.process_time if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else time.perf_counter
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe_machine, read_peak  # noqa: E402
from xmodel.similarity.metrics import parse_metric  # noqa: E402

WIDTHS = 512, 768
TIMED = 3
Array = NDArray[Any]
Plain = Callable[[Array, Array], float]


def draw_sides(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    one, two = (rng.standard_normal((n, width), np.float32) for width in WIDTHS)
    return one, two


def draw_orders(n: int, count: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(1)
    return np.array([rng.permutation(n) for _ in range(count)])


def centre(x: Array) -> Array:
    x = x.astype(np.float64)
    return x - x.mean(axis=0)


# Three ways to the canonical correlations.


def decompose(x: Array, kept: int | None = None) -> tuple[Array, Array, Array]:
    u, s, vt = np.linalg.svd(centre(x), full_matrices=False)
    return u[:, :kept], s[:kept], vt[:kept]


def by_svds(x: Array, y: Array, power: int = 1, kept: int | None = None) -> float:
    bases = decompose(x, kept)[0], decompose(y, kept)[0]
    r = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return float((r**power).mean())


def pwcca_by_svds(x: Array, y: Array) -> float:
    u, s, vt = decompose(x)
    w, r, _ = np.linalg.svd(u.T @ decompose(y)[0], full_matrices=False)
    weights = np.abs(w.T @ (s[:, None] * vt)).sum(axis=1)
    return float(weights @ r / weights.sum())


def correlate_published(x: Array, y: Array) -> tuple[Array, Array]:
    width = x.shape[1]
    covariance = np.cov(x.T, y.T)
    xx, yy = covariance[:width, :width], covariance[width:, width:]
    sizes = np.abs(xx).max(), np.abs(yy).max()
    between = covariance[:width, width:] / np.sqrt(sizes[0] * sizes[1])
    roots = []
    for own, size in ((xx, sizes[0]), (yy, sizes[1])):
        values, vectors = np.linalg.eigh(np.linalg.pinv(own / size))
        roots.append(vectors @ np.diag(np.sqrt(values)) @ vectors.T)
    u, s, _ = np.linalg.svd(roots[0] @ between @ roots[1])
    return u, np.abs(s)


def by_published(x: Array, y: Array, power: int = 1) -> float:
    return float((correlate_published(x, y)[1] ** power).mean())


def svcca_published(x: Array, y: Array, kept: int | None = None) -> float:
    (u, s, _), (v, t, _) = decompose(x, kept), decompose(y, kept)
    return by_published(u * s, v * t)


def pwcca_published(x: Array, y: Array) -> float:
    x = centre(x)
    u, r = correlate_published(x, y)
    directions = np.linalg.qr(x @ u)[0]
    weights = np.abs(directions.T @ x).sum(axis=1)
    return float(weights @ r / weights.sum())


def by_cholesky(x: Array, y: Array, power: int = 1) -> float:
    from scipy.linalg import cholesky, solve_triangular

    x, y = centre(x), centre(y)
    left, right = cholesky(x.T @ x, lower=True), cholesky(y.T @ y, lower=True)
    half = solve_triangular(left, x.T @ y, lower=True)
    product = solve_triangular(right, half.T, lower=True)
    if power == 2:
        return float((product**2).sum() / min(product.shape))
    return float(np.linalg.svd(product, compute_uv=False).mean())


# The other metrics as their formulas say.


def plain_cka(x: Array, y: Array) -> float:
    x, y = centre(x), centre(y)
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def plain_cka_debiased(x: Array, y: Array) -> float:
    x, y = centre(x), centre(y)
    n = len(x)

    def debias(squares: float, one: Array, two: Array) -> float:
        return squares - n / (n - 2) * (one @ two) + one.sum() * two.sum() / ((n - 1) * (n - 2))

    one, two = (x**2).sum(axis=1), (y**2).sum(axis=1)
    between = debias(np.linalg.norm(x.T @ y) ** 2, one, two)
    own = debias(np.linalg.norm(x.T @ x) ** 2, one, one) * debias(np.linalg.norm(y.T @ y) ** 2, two, two)
    return float(between / np.sqrt(own))


def plain_procrustes(x: Array, y: Array) -> float:
    x, y = centre(x), centre(y)
    r = np.linalg.svd((x / np.linalg.norm(x)).T @ (y / np.linalg.norm(y)), compute_uv=False)
    return float(r.sum())


def plain_rsa(x: Array, y: Array, cosine: bool) -> float:
    sides = []
    for rows in (x.astype(np.float64), y.astype(np.float64)):
        if cosine:
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            d = 1 - rows @ rows.T
        else:
            lengths = (rows**2).sum(axis=1)
            d = lengths[:, None] + lengths - 2 * (rows @ rows.T)
        sides.append(d[np.triu_indices(len(rows), 1)])
    return float(np.corrcoef(*sides)[0, 1])


def plain_knn(x: Array, y: Array, jaccard: bool) -> float:
    k, near = 10, []
    for rows in (x.astype(np.float64), y.astype(np.float64)):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -np.inf)
        near.append(np.argpartition(-cosines, k, axis=1)[:, :k])
    common = np.array([len(np.intersect1d(one, two)) for one, two in zip(*near, strict=True)])
    return float((common / (2 * k - common)).mean() if jaccard else common.mean() / k)


CCA: dict[str, dict[str, Plain]] = {
    "cca": {"SVDs": by_svds, "published": by_published, "Cholesky": by_cholesky},
    "cca_squared": {
        "SVDs": lambda x, y: by_svds(x, y, 2),
        "published": lambda x, y: by_published(x, y, 2),
        "Cholesky": lambda x, y: by_cholesky(x, y, 2),
    },
    "svcca:1.0": {"SVDs": by_svds, "published": svcca_published},
    "svcca:50": {
        "SVDs": lambda x, y: by_svds(x, y, 1, 50),
        "published": lambda x, y: svcca_published(x, y, 50),
    },
    "pwcca": {"SVDs": pwcca_by_svds, "published": pwcca_published},
}
OTHERS: dict[str, dict[str, Plain]] = {
    "cka": {"plain": plain_cka},
    "cka_debiased": {"plain": plain_cka_debiased},
    "procrustes": {"plain": plain_procrustes},
    "rsa:cosine:pearson": {"plain": lambda x, y: plain_rsa(x, y, True)},
    "rsa:sqeuclidean:pearson": {"plain": lambda x, y: plain_rsa(x, y, False)},
    "mutual_knn:10": {"plain": lambda x, y: plain_knn(x, y, False)},
    "jaccard:10": {"plain": lambda x, y: plain_knn(x, y, True)},
}


def time_ours(name: str, n: int, count: int) -> dict[str, Any]:
    x, y = draw_sides(n)
    orders = draw_orders(n, count)
    began = seconds_now()
    prepared = parse_metric(name).prepare(x, y)
    before = seconds_now() - began
    values = prepared.permute(orders)
    return {"prepare": before, "seconds": seconds_now() - began, "values": values[: TIMED + 1].tolist()}


def time_again(name: str, way: str, n: int) -> dict[str, Any]:
    """Seconds for each recomputation; the first shuffle, which starts threads and imports, is not timed."""
    x, y = draw_sides(n)
    measure = (CCA | OTHERS)[name][way]
    seconds, values = [], []
    for order in draw_orders(n, TIMED + 1):
        began = seconds_now()
        values.append(measure(x, y[order]))
        seconds.append(seconds_now() - began)
    return {"each": float(np.mean(seconds[1:])), "values": values}


def run_apart(*work: object) -> dict[str, Any]:
    """One piece of work in a process of its own; its figures and peak memory in bytes."""
    command = [sys.executable, __file__, "--work", *map(str, work)]
    print(*work, file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def compare(console: Console, title: str, ways: dict[str, dict[str, Plain]], n: int, count: int) -> None:
    table = Table(title=f"{title}: n = {n:,}, widths {WIDTHS[0]} and {WIDTHS[1]}, {count:,} shuffles")
    for head in (
        "",
        "prepare",
        "ms each",
        "total s",
        "peak GB",
        "against",
        "s each",
        "peak GB",
        "times",
        "differ",
    ):
        table.add_column(head, justify="left" if head in ("", "against") else "right")
    for name, plain in ways.items():
        ours = run_apart("ours", name, n, count)
        each = (ours["seconds"] - ours["prepare"]) / count
        begin = [
            name,
            f"{ours['prepare']:.2f}",
            f"{1000 * each:.2f}",
            f"{ours['seconds']:.1f}",
            f"{ours['peak'] / 1e9:.2f}",
        ]
        for way in plain:
            again = run_apart("again", name, way, n)
            differ = np.abs(np.subtract(ours["values"], again["values"])).max()
            times = again["each"] * count / ours["seconds"]
            peak = f"{again['peak'] / 1e9:.2f}"
            table.add_row(*begin, way, f"{again['each']:.2f}", peak, f"{times:.0f}", f"{differ:.0e}")
            begin = [""] * 5
    console.print(table)


def report_memory(console: Console, names: list[str], n: int) -> None:
    table = Table(title=f"3. Peak memory: n = {n:,} (n x n: {8e-9 * n * n:.1f} GB)")
    for head in ("", "prepare s", "ms a shuffle", "peak GB"):
        table.add_column(head, justify="right" if head else "left")
    for name in names:
        found = run_apart("ours", name, n, 10)
        each = (found["seconds"] - found["prepare"]) / 10
        table.add_row(name, f"{found['prepare']:.1f}", f"{1000 * each:.0f}", f"{found['peak'] / 1e9:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows and of the shuffles")
    parser.add_argument("--shuffles", type=int, default=1_000, help="instead of 1,000")
    parser.add_argument("--one-core", action="store_true", help="one thread, seconds of CPU")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, name, *rest = options.work
        if kind == "ours":
            found = time_ours(name, *map(int, rest))
        else:
            found = time_again(name, rest[0], int(rest[1]))
        print(json.dumps({**found, "peak": read_peak()}))
        return
    if options.one_core:
        os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "VECLIB", "NUMEXPR")}
    console = Console(width=None if sys.stdout.isatty() else 116)
    timed = "one thread, seconds of CPU" if options.one_core else "all cores, seconds of wall time"
    blas: Any = np.show_config(mode="dicts")
    blas = blas["Build Dependencies"]["blas"]
    load = f"load before: {os.getloadavg()[0]:.1f}"
    machine = describe_machine(f"{blas['name']} {blas['version']}", load)
    console.print(f"{machine}; {timed}", highlight=False)
    part = 5 if options.quick else 1
    compare(console, "1. Canonical correlations", CCA, 5_000 // part, options.shuffles // part)
    compare(console, "2. The others", OTHERS, 10_000 // part, options.shuffles // part)
    report_memory(console, [name for name in OTHERS if name != "jaccard:10"], 40_000 // part)


if __name__ == "__main__":
    main()
