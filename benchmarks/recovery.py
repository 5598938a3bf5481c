"""How many planted pairs does pairing find, against noise and sample size? And how soon do scores see them?

    python benchmarks/recovery.py [--quick] [--json FILE]

Simulated models of `xmodel.datasets.synthetic` with their default settings but for what a table varies: 300
and 400 features, 150 of them shared, Zipf's frequencies, clusters that fire together, topics, different
tokens and widths; 5 seeds and the three arrangements, 15 pairs of models in every row. Pairs are made one to
one on half of the documents and judged on the other half. Features with fewer than 10 firings on the first
half are set aside, as in real runs.

Columns: *frequent*, planted pairs with 10 firings on both sides, of 150; *SNR*, their median; *clear*,
those with an SNR of 0.5 or more; then recall at precision 0.95 of the clear ones by arrangement, the *lowest*
of the 15 pairs of models, and *of all* frequent ones; *confident*, recall of confident pairs, with its
*precision*, and the share of *unshared* features that are in a confident pair.

*Recall at precision 0.95* goes down the pairs in order of their held-out r for as long as 95 % of them are
right. *Recall* and *precision* without more are those of confident pairs: held-out r of 0.15 or more, and a
p of firing together that stays below 0.01 after Bonferroni's correction. The signal-to-noise ratio (SNR) of a
pair is rho_a rho_b / (1 - rho_a rho_b), rho being the correlation of a feature with what it stands for.
"""

import argparse
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from xmodel.datasets.synthetic import ARRANGEMENTS, PlantedSettings, plant_models  # noqa: E402
from xmodel.similarity.chance import HARD, compare_nulls  # noqa: E402
from xmodel.similarity.metrics import DEFAULT_METRICS, parse_metric  # noqa: E402
from xmodel.similarity.recovering import LEAST_SNR, judge_pairs, split_planted  # noqa: E402

PRECISION = 0.95
NOISES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
SIZES = (1000, 2000, 4000, 8000, 16000, 32000, 64000)
RATIOS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, np.inf)
FIRINGS = (10, 20, 40, 80, 1 << 30)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)
WORDS = 16000


def recover(settings: PlantedSettings) -> dict[str, Any]:
    """One world: figures, and of every shared pair that is frequent enough its SNR, firings, and place."""
    planted = plant_models(settings)
    halves = split_planted(planted)
    (matches,) = halves.discovery.pair(rules=("one_to_one",)).values()
    judged = judge_pairs(halves, matches)
    order = np.argsort(-judged.r, kind="stable")
    right = np.cumsum(judged.true[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(right >= PRECISION)
    cut = np.zeros(len(order), bool)
    cut[order[: good[-1] + 1 if len(good) else 0]] = True
    listed = {
        pair: place for place, pair in enumerate(zip(matches.a.tolist(), matches.b.tolist(), strict=True))
    }
    repairer = halves.discovery
    firings = [np.bincount(side.indices, minlength=side.features) for side in (repairer.a, repairer.b)]
    pairs = []
    for (a, b), snr in zip(planted.pairs.tolist(), planted.snr.tolist(), strict=True):
        if repairer.kept_a[a] and repairer.kept_b[b]:
            place = listed.get((a, b))
            pairs.append(
                (
                    snr,
                    int(min(firings[0][a], firings[1][b])),
                    place is not None and bool(cut[place]),
                    place is not None and bool(judged.confident[place]),
                )
            )
    clear = [one for one in pairs if one[0] >= LEAST_SNR]
    return {
        "arrangement": settings.arrangement,
        "seed": settings.seed,
        "noise": settings.noise,
        "words": settings.words,
        "shared": len(planted.pairs),
        "frequent": len(pairs),
        "clear": len(clear),
        "median_snr": float(np.median([one[0] for one in pairs])) if pairs else None,
        "recall_at_precision": mean(one[2] for one in clear),
        "recall_of_all": mean(one[2] for one in pairs),
        "recall": mean(one[3] for one in clear),
        "precision": mean(judged.true[judged.confident]),
        "confident": int(judged.confident.sum()),
        "unshared_confident": judged.unshared_confident / max(1, judged.unshared),
        "pairs": pairs,
    }


def mean(values: Any) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def average(rows: list[dict[str, Any]], key: str, least: bool = False) -> str:
    found = [row[key] for row in rows if row[key] is not None]
    return f"{(min if least else np.mean)(found):.3f}" if found else "–"


def tabulate(console: Console, title: str, name: str, groups: dict[Any, list[dict[str, Any]]]) -> None:
    table = Table(title=title)
    heads = [name, "frequent", "SNR", "clear"]
    heads += ARRANGEMENTS
    for head in (*heads, "lowest", "of all", "confident", "precision", "unshared"):
        table.add_column(head, justify="right")
    for value, rows in groups.items():
        by = [[row for row in rows if row["arrangement"] == one] for one in ARRANGEMENTS]
        table.add_row(
            f"{value:,}",
            f"{np.mean([row['frequent'] for row in rows]):.0f}",
            average(rows, "median_snr")[:-1],
            f"{np.mean([row['clear'] for row in rows]):.0f}",
            *(average(own, "recall_at_precision") for own in by),
            average(rows, "recall_at_precision", least=True),
            average(rows, "recall_of_all"),
            average(rows, "recall"),
            average(rows, "precision"),
            average(rows, "unshared_confident"),
        )
    console.print(table)


def tabulate_bins(console: Console, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Recall by SNR and by firings of the rarer feature, over all noises."""
    pairs = np.array([pair for row in rows for pair in row["pairs"]], dtype=float)
    table = Table(title=f"Recall at precision 0.95 by SNR and firings of the rarer feature ({WORDS:,} words)")
    table.add_column("SNR", justify="right")
    for low, high in pairwise(FIRINGS):
        table.add_column(f"{low} to {high - 1}" if high < 1 << 30 else f"{low} or more", justify="right")
    table.add_column("all", justify="right")
    found = []
    for low, high in pairwise(RATIOS):
        own = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)]
        cells = []
        for least, most in [*pairwise(FIRINGS), (0, 1 << 30)]:
            some = own[(own[:, 1] >= least) & (own[:, 1] < most)]
            cells.append(f"{some[:, 2].mean():.3f} ({len(some)})" if len(some) else "–")
            recall = float(some[:, 2].mean()) if len(some) else None
            found.append({"snr": low, "firings": least, "recall": recall, "pairs": len(some)})
        table.add_row(f"{low:g} to {high:g}" if high < np.inf else f"{low:g} or more", *cells)
    console.print(table)
    return found


def measure_power(worlds: int) -> list[dict[str, Any]]:
    """How often p <= 0.05 where ever more is shared, in the hard worlds of the selfcheck."""
    metrics = [parse_metric(name) for name in DEFAULT_METRICS]
    found = []
    for shared in SHARES:
        for arrangement in ARRANGEMENTS:
            p: dict[Any, list[float]] = {}
            for seed in range(worlds):
                settings = PlantedSettings(
                    **{**HARD, "shared": shared}, arrangement=arrangement, seed=1000 + seed
                )
                halves = split_planted(plant_models(settings))
                pairs = halves.discovery.pair(rules=("one_to_one",))
                for key, one in compare_nulls(halves, pairs, metrics, 19, seed).items():
                    p.setdefault(key, []).append(one)
            for (_, null, metric), own in p.items():
                share = float(np.mean(np.array(own) <= 0.05))
                found.append(
                    {
                        "shared": shared,
                        "arrangement": arrangement,
                        "null": null,
                        "metric": metric,
                        "worlds": worlds,
                        "share": share,
                    }
                )
    return found


def tabulate_power(console: Console, found: list[dict[str, Any]], worlds: int) -> None:
    metrics = [parse_metric(name).name for name in DEFAULT_METRICS]
    for null in ("shuffled", "repaired"):
        table = Table(title=f"Share of {3 * worlds} pairs of models with p <= 0.05, null: {null}")
        table.add_column("shared", justify="right")
        for metric in metrics:
            table.add_column(metric, justify="right")
        for shared in SHARES:
            cells = [
                np.mean(
                    [o["share"] for o in found if (o["shared"], o["null"], o["metric"]) == (shared, null, m)]
                )
                for m in metrics
            ]
            table.add_row(f"{shared:.0%}", *(f"{cell:.3f}" for cell in cells))
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed instead of five, fewer words")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there")
    options = parser.parse_args()
    seeds = 1 if options.quick else 5
    sizes = SIZES[:5] if options.quick else SIZES
    worlds = 4 if options.quick else 30
    console = Console(width=None if sys.stdout.isatty() else 140)
    begin = time.perf_counter()

    def run(**changed: Any) -> list[dict[str, Any]]:
        return [
            recover(PlantedSettings(arrangement=arrangement, seed=seed, documents=80, **changed))
            for arrangement in ARRANGEMENTS
            for seed in range(seeds)
        ]

    noises = {noise: run(noise=noise, words=WORDS) for noise in NOISES}
    clear = f"SNR of {LEAST_SNR:g} or more"
    tabulate(
        console,
        f"Recall at precision 0.95 of shared features with an {clear}, {WORDS:,} words",
        "noise",
        noises,
    )
    by_size = {size: run(noise=0.3, words=size) for size in sizes}
    tabulate(
        console, f"Recall at precision 0.95 of shared features with an {clear}, noise 0.3", "words", by_size
    )
    bins = tabulate_bins(console, [row for rows in noises.values() for row in rows])
    power = measure_power(worlds)
    tabulate_power(console, power, worlds)
    console.print(f"{time.perf_counter() - begin:.0f} s")
    if options.json:
        content = {
            "noise": [
                {k: v for k, v in row.items() if k != "pairs"} for rows in noises.values() for row in rows
            ],
            "words": [
                {k: v for k, v in row.items() if k != "pairs"} for rows in by_size.values() for row in rows
            ],
            "bins": bins,
            "power": power,
        }
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
