"""How long a 6 x 12 grid of layers takes: simulated SAEs of 4,096 features, 1,000 shuffles per cell.

No model runs: word features are simulated with planted structure (layers of nearby depth share concepts),
decoder vectors are random maps of the concepts' own. Printed are the machine, the time of the grid against
shuffled pairs, whether the planted band was found, and the estimated time of the re-pairing null with 99
shifts on the same grid, which `--shift` then runs.

    python benchmarks/grid.py [--shift] [--layers-a 6] [--layers-b 12] [--features 4096] [--words 20000]
                             [--metric NAME ...]
"""

import argparse
import os
import platform
from time import perf_counter, process_time

import numpy as np

from xmodel.pairing.settings import PairSettings
from xmodel.records import WordFeatures
from xmodel.similarity.grid_cells import draw_grid_shifts, score_cell, shift_cell, time_shift
from xmodel.similarity.grids import SweepSettings, correct_grid, correct_shifted
from xmodel.similarity.layers import Layer
from xmodel.similarity.metrics import DEFAULT_METRICS
from xmodel.similarity.threads import describe_time

WIDTHS = 512, 768
"""Dimensions of A's and B's decoder vectors."""
ACTIVE = 40
"""Concepts per word."""
DOCUMENT = 500
"""Words per document."""


def draw_concepts(words, concepts, rng):
    """Which concepts are there at which word, and how strongly: word, concept, strength."""
    weights = 1 / (10 + np.arange(concepts))
    drawn = rng.choice(concepts, (words, ACTIVE), p=weights / weights.sum())
    keys = np.unique(np.repeat(np.arange(words), ACTIVE) * concepts + drawn.ravel())
    return keys // concepts, keys % concepts, rng.gamma(4.0, 1.0, len(keys))


def make_layer(name, site, half, known, meaning, width, features, rng):
    """A dictionary whose features are some of the concepts, in an order of its own."""
    order = rng.permutation(known)[:features]
    number = np.full(len(meaning), -1)
    number[order] = np.arange(len(order))
    parts = []
    for words, (word, concept, strength) in half:
        kept = (number[concept] >= 0) & (rng.random(len(word)) < 0.9)
        own, values = number[concept[kept]], strength[kept] * rng.uniform(0.7, 1.3, int(kept.sum()))
        sort = np.lexsort((own, word[kept]))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(word[kept], minlength=words))])
        parts.append(
            WordFeatures(indptr, own[sort].astype(np.int32), values[sort].astype(np.float32), features)
        )
    decoder = meaning[order] @ rng.normal(size=(meaning.shape[1], width)) + rng.normal(size=(features, width))
    firings = np.bincount(parts[0].indices, minlength=features)
    return Layer(name, site, parts[0], parts[1], firings >= 10, decoder.astype(np.float32))


def make_side(letter, count, features, width, half, meaning, rng):
    """Layers from the first concepts to the last: neighbours share most of theirs, first and last none."""
    concepts, layers = len(meaning), []
    for number in range(count):
        share = number / max(1, count - 1)
        # Concepts are ordered by how often they occur, so each layer takes every third of all frequencies.
        position = (np.arange(concepts) * 0.6180339887) % 1.0
        distance = np.abs(position - (0.2 + 0.6 * share))
        known = np.argsort(distance)[:features]
        name = f"{letter}{number}"
        layers.append(make_layer(name, f"blocks.{number}", half, known, meaning, width, features, rng))
    return layers


def main():
    """Time the grid and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("layers-a", 6), ("layers-b", 12), ("features", 4096), ("words", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--shifts", type=int, default=99)
    parser.add_argument("--metric", action="append", help="default: " + ", ".join(DEFAULT_METRICS))
    parser.add_argument("--shift", action="store_true", help="also run the re-pairing null")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(2 * chosen.features, 64))
    words = chosen.words // 2
    half = [(words, draw_concepts(words, len(meaning), rng)) for _ in range(2)]
    sides = [
        make_side(letter, count, chosen.features, width, half, meaning, rng)
        for letter, count, width in zip("ab", (chosen.layers_a, chosen.layers_b), WIDTHS, strict=True)
    ]
    cells = [(a, b) for a in sides[0] for b in sides[1]]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, NumPy {np.__version__}"
    )
    print(
        f"{chosen.layers_a} x {chosen.layers_b} layers of {chosen.features:,} features, "
        f"{chosen.words:,} words, decoder vectors of {WIDTHS[0]} and {WIDTHS[1]} dimensions"
    )
    settings = SweepSettings(
        metrics=tuple(chosen.metric or DEFAULT_METRICS),
        permutations=chosen.permutations,
        shifts=chosen.shifts,
    )
    pairing = PairSettings()
    begin, cpu, rows = perf_counter(), process_time(), []
    for number, (a, b) in enumerate(cells):
        rows += score_cell(a, b, settings, pairing, len(cells))
        if number in (0, len(cells) // 2):
            seconds = perf_counter() - begin
            print(
                f"  {number + 1} of {len(cells)} cells after {seconds:.0f} s, {rows[-1].n:,} pairs",
                flush=True,
            )
    seconds = perf_counter() - begin
    print(
        f"{chosen.permutations:,} pair shuffles, {len({row.metric for row in rows})} metrics, "
        f"{len(cells)} cells: {seconds:.0f} s ({process_time() - cpu:.0f} s of CPU)"
    )
    report(correct_grid(rows), chosen)
    halves = [np.full(words // DOCUMENT, DOCUMENT)] * 2
    if words % DOCUMENT:
        halves = [np.append(own, words % DOCUMENT) for own in halves]
    shifts = draw_grid_shifts(halves[0], halves[1], chosen.shifts, 0)
    each = time_shift(*cells[len(cells) // 2], settings, pairing, shifts)
    whole = describe_time(each * len(cells) * chosen.shifts)
    print(
        f"the re-pairing null with {chosen.shifts} shifts: about {whole}, at {each:.2f} s a cell and shift",
        flush=True,
    )
    if chosen.shift:
        begin = perf_counter()
        found = [shift_cell(a, b, settings, pairing, shifts) for a, b in cells]
        print(f"it took {describe_time(perf_counter() - begin)}")
        report(correct_shifted(found), chosen)


def report(rows, chosen):
    """One line per metric: values near and far from the planted diagonal, and what is rejected."""
    for metric in dict.fromkeys(row.metric for row in rows):
        own = [row for row in rows if row.metric == metric and row.value is not None]
        depth = {
            id(row): abs(
                int(row.site_a[7:]) / max(1, chosen.layers_a - 1)
                - int(row.site_b[7:]) / max(1, chosen.layers_b - 1)
            )
            for row in own
        }
        near = [row.value for row in own if depth[id(row)] < 0.1]
        far = [row.value for row in own if depth[id(row)] > 0.6]
        chance = np.mean([row.null_mean for row in own])
        rejected = sum(row.p_bh <= 0.05 for row in own), sum(row.p_adjusted <= 0.05 for row in own)
        print(
            f"  {metric:20} near {np.mean(near):.3f}, far {np.mean(far):.3f}, by chance {chance:.3f}; of "
            f"{len(own)} cells p <= 0.05 by Benjamini-Hochberg in {rejected[0]}, by {own[0].correction} in "
            f"{rejected[1]}"
        )


if __name__ == "__main__":
    main()
