"""How often does each metric find a relation, under each null, where there is none?

    python benchmarks/null_calibration.py [--datasets 2000] [--workers 2] [--json OUT]

The data sets are those of tests/null_worlds.py: pairs of simulated models without a relation, 40 rows (or 200
autocorrelated words), 6 and 8 columns, each tested with 199 permutations. A cell is a metric, a null and a
level; its share of p at or below the level must not exceed the level by more than the exact binomial
distribution allows, corrected over all cells (Bonferroni, 5 % in all), and no p may be 0. For nulls that draw
matrices anew, drawing ends where p is above 0.1 whatever would follow, which changes no cell.

Beside it, with a tenth of the data sets: the same data with a test that overlooks what they are like (no
strata, no groups, no shifts, no pairing again), and the power where a relation of rising strength is planted.
"""

import os

# Small matrices: more threads than one only get in each other's way. Read when NumPy is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.null_worlds import (  # noqa: E402
    ALPHAS,
    METRICS,
    NAIVE,
    PERMUTATIONS,
    WORLDS,
    collect_p,
    count_limit,
)
from xmodel.similarity.metrics import parse_metric  # noqa: E402

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0)
PLANTED = ("pairs, gaussian", "pairs, clustered")
CHUNK = 20
CELLS = len(WORLDS) * len(METRICS) * len(ALPHAS)

Task = tuple[str, str, float, range]


def run_task(task: Task) -> tuple[Task, np.ndarray]:
    kind, world, strength, seeds = task
    simulate = (NAIVE if kind == "naive" else WORLDS)[world]
    metrics = [parse_metric(name) for name in METRICS]
    return task, collect_p(simulate, metrics, seeds, strength=strength)


def list_tasks(data_sets: int) -> list[Task]:
    """All chunks of work, the calibration first, evenly through the worlds."""
    tasks: list[Task] = []
    for begin in range(0, data_sets, CHUNK):
        seeds = range(begin, min(begin + CHUNK, data_sets))
        tasks += [("null", world, 0.0, seeds) for world in WORLDS]
    few = max(1, data_sets // 10)
    for begin in range(0, few, CHUNK):
        seeds = range(begin, min(begin + CHUNK, few))
        tasks += [("naive", world, 0.0, seeds) for world in NAIVE]
        tasks += [("planted", world, strength, seeds) for world in PLANTED for strength in STRENGTHS]
    return tasks


def print_table(title: str, columns: dict[str, np.ndarray]) -> None:
    """Rows are metrics; every column has one or more shares per metric, in percent."""
    print(f"\n{title}")
    width = 6 * max(values.shape[0] for values in columns.values())
    for number, name in enumerate(columns, 1):
        print(f"  {number}: {name}")
    print(" " * 24 + "".join(f"{number:>{width + 2}}" for number in range(1, len(columns) + 1)))
    for row, metric in enumerate(METRICS):
        cells = ["".join(f"{100 * share:6.1f}" for share in values[:, row]) for values in columns.values()]
        print(f"{metric:24}" + "".join(f"{cell:>{width + 2}}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=int, default=2000, help="per null; the rest gets a tenth")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the counts")
    options = parser.parse_args()
    began = time.time()
    tasks = list_tasks(options.datasets)
    found: dict[tuple[str, str, float], list[np.ndarray]] = {}
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for done, (task, p) in enumerate(pool.imap_unordered(run_task, tasks), 1):
            found.setdefault(task[:3], []).append(p)
            if done % max(1, len(tasks) // 50) == 0:
                print(f"{done} of {len(tasks)} parts, {time.time() - began:.0f} s", flush=True)
    p_values = {key: np.concatenate(parts) for key, parts in found.items()}

    def share(kind: str, world: str, strength: float, alphas: tuple[float, ...]) -> np.ndarray:
        p = p_values[kind, world, strength]
        return np.array([(p <= alpha).mean(axis=0) for alpha in alphas])

    levels = ", ".join(f"{alpha:.0%}" for alpha in ALPHAS)
    print_table(
        f"Percent of {options.datasets:,} data sets without a relation with p at or below {levels}, by null",
        {world: share("null", world, 0.0, ALPHAS) for world in WORLDS},
    )
    print_table(
        "The same data with a null that overlooks what they are like: percent with p at or below 5%",
        {world: share("naive", world, 0.0, (0.05,)) for world in NAIVE},
    )
    for world in PLANTED:
        print_table(
            f"Power at 5%, {world}: percent of data sets with p at or below it, by strength of the relation",
            {f"strength {strength}": share("planted", world, strength, (0.05,)) for strength in STRENGTHS},
        )
    limits = {alpha: count_limit(options.datasets, alpha, CELLS) for alpha in ALPHAS}
    smallest = min(float(p.min()) for p in p_values.values())
    counts = {
        world: {
            metric: {
                str(alpha): int((p_values["null", world, 0.0][:, row] <= alpha).sum()) for alpha in ALPHAS
            }
            for row, metric in enumerate(METRICS)
        }
        for world in WORLDS
    }
    broken = [
        f"{metric}, {world}: {counts[world][metric][str(alpha)]} of {options.datasets} at {alpha}"
        for world in WORLDS
        for metric in METRICS
        for alpha in ALPHAS
        if counts[world][metric][str(alpha)] > limits[alpha]
    ]
    print(f"\n{CELLS} cells; most rejections allowed at " + ", ".join(f"{a}: {n}" for a, n in limits.items()))
    for alpha in ALPHAS:
        most = max(counts[world][metric][str(alpha)] for world in WORLDS for metric in METRICS)
        print(f"  most seen at {alpha}: {most} ({most / options.datasets:.2%})")
    print(f"  smallest p: {smallest}, of {PERMUTATIONS} permutations")
    calibrated = not broken and smallest > 0
    print("\n".join(["not calibrated:", *broken]) if broken else "calibrated: every cell within its bound")
    print(f"{time.time() - began:.0f} s with {options.workers} workers")
    if options.json:
        written = {
            "datasets": options.datasets, "permutations": PERMUTATIONS, "cells": CELLS, "limits": limits,
            "rejections": counts, "smallest_p": smallest, "calibrated": calibrated, "broken": broken,
            "naive": {
                world: dict(zip(METRICS, share("naive", world, 0.0, (0.05,))[0].tolist(), strict=True))
                for world in NAIVE
            },
            "power": {
                f"{world}, strength {strength}": dict(
                    zip(METRICS, share("planted", world, strength, (0.05,))[0].tolist(), strict=True)
                )
                for world in PLANTED
                for strength in STRENGTHS
            },
        }  # fmt: skip
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    sys.exit(0 if calibrated else 1)


if __name__ == "__main__":
    main()
