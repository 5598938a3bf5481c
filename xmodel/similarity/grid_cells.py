"""One cell of a grid: the features of two dictionaries paired, and their pairs scored.

Pairs are found on the discovery half. Their decoder vectors are compared by each metric, and their
activations by the mean r on the held-out half; each against shuffled pairs, or against pairing again with one
model's words shifted in a circle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import take_rows
from xmodel.errors import InputError
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.grids import GridRow, ShiftedCell, SweepSettings
from xmodel.similarity.heldout import MEAN_R, make_mean_r
from xmodel.similarity.layers import Layer, check_halves
from xmodel.similarity.metrics import Metric
from xmodel.similarity.nulls import Plan, Tested, test_orders
from xmodel.similarity.orders import draw_offsets, draw_orders, shift_rows
from xmodel.similarity.repairing import Matches, Repairer, keep_one_per_feature, turn_signs

LEAST_PAIRS = 10
"""Pairs below which a cell has no scores."""


def pair_cell(first: Layer, second: Layer, settings: SweepSettings, pairing: PairSettings) -> Matches:
    """Pair two layers' features on the discovery half.

    Raises:
        InputError: layers of different words.
    """
    check_halves(first, second)
    return _repair(first, second, pairing).pair(rules=[settings.rule])[settings.rule]


def score_cell(
    first: Layer, second: Layer, settings: SweepSettings, pairing: PairSettings, cells: int = 1
) -> list[GridRow]:
    """Score the pairs of two layers against shuffled pairs.

    Args:
        first: A's dictionary.
        second: B's.
        settings: metrics, rule, permutations.
        pairing: floor and other choices of pairing.
        cells: how many cells the grid has, which permutations may depend on.

    Returns:
        one row per metric, the last for the mean held-out r; p not yet corrected.

    Raises:
        InputError: layers of different words.
    """
    matches = pair_cell(first, second, settings, pairing)
    groups = {"best_of_a": matches.b, "best_of_b": matches.a}.get(settings.rule)
    plan = Plan(permutations=settings.count_permutations(cells), seed=settings.seed)

    def draw(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return draw_orders(len(matches), count, rng, groups=groups)

    rows = []
    metrics, x, y = _gather(first, second, matches, settings)
    for metric, tested in zip(metrics, _test_each(metrics, x, y, draw, plan, first, second), strict=True):
        row = _start_row(first, second, metric.name, "shuffle", settings, len(matches))
        rows.append(replace(row, warning=tested) if isinstance(tested, str) else _fill(row, tested))
    return rows


def shift_cell(
    first: Layer,
    second: Layer,
    settings: SweepSettings,
    pairing: PairSettings,
    shifts: "Shifts",
    tick: Callable[[], None] = lambda: None,
) -> ShiftedCell:
    """Pair two layers again under every shift of B's words, and measure the pairs that come out.

    Under rules by which pairs share features, one pair of each shared feature is scored, see
    `Repairer.pair_by_chance`.

    Args:
        first: A's dictionary.
        second: B's.
        settings: metrics and rule.
        pairing: floor and other choices of pairing.
        shifts: of both halves, shared by all cells.
        tick: called after every shift.

    Raises:
        InputError: layers of different words.
    """
    matches = keep_one_per_feature(pair_cell(first, second, settings, pairing))
    metrics, *_ = _gather(first, second, matches, settings)
    observed = _measure(first, second, matches, settings)
    nulls: list[list[float | str]] = [[] for _ in metrics]
    repairer = _repair(first, second, pairing)
    for number in range(len(shifts)):
        order, order_heldout = shifts.order(number)
        moved = replace(second, heldout=take_rows(second.heldout, order_heldout))
        own = repairer.pair_by_chance(order, [settings.rule])[settings.rule].take(slice(len(matches)))
        for null, value in zip(nulls, _measure(first, moved, own, settings, order), strict=True):
            null.append(value[0] if isinstance(value, tuple) else value)
        tick()
    rows, kept = [], []
    for metric, value, null in zip(metrics, observed, nulls, strict=True):
        row = _start_row(first, second, metric.name, "shift", settings, len(matches))
        failed = [one for one in null if isinstance(one, str)]
        if isinstance(value, str):
            row = replace(row, warning=value)
        elif failed:
            row = replace(
                row,
                warning=f"under {len(failed)} of {len(null)} shifts the pairs could not be measured, so "
                f"there is no p-value and no value is shown: {failed[0]}",
            )
        else:
            k_a, k_b = value[1] or (None, None)
            row = replace(row, value=value[0], k_a=k_a, k_b=k_b)
        rows.append(row)
        kept.append(None if row.value is None else [float(one) for one in null])
    return ShiftedCell(rows, kept)


@dataclass(frozen=True, eq=False)
class Shifts:
    """Circular shifts of B's words, on both halves; see `xmodel.similarity.orders.draw_offsets`."""

    lengths: tuple[NDArray[np.int64], NDArray[np.int64]]
    """[D] words per document of the discovery half, and of the held-out half."""
    offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
    """[m, D], or [m, 1] along the concatenation."""

    def __len__(self) -> int:
        return len(self.offsets[0])

    def order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row orders of one shift, of the discovery and of the held-out half."""
        first, second = (
            shift_rows(lengths, offsets[number : number + 1])[0]
            for lengths, offsets in zip(self.lengths, self.offsets, strict=True)
        )
        return first, second


def draw_grid_shifts(
    discovery: NDArray[np.int64], heldout: NDArray[np.int64], count: int, seed: int
) -> Shifts:
    """Draw the shifts of a grid.

    Args:
        discovery: [D] words per document of the discovery half, in order.
        heldout: [E] of the held-out half.
        count: shifts.
        seed: of the shifts.

    Raises:
        InputError: too few words for so many different shifts.
    """
    rng = np.random.default_rng(seed)
    offsets = draw_offsets(discovery, count, rng), draw_offsets(heldout, count, rng)
    return Shifts((discovery, heldout), offsets)


def time_shift(
    first: Layer, second: Layer, settings: SweepSettings, pairing: PairSettings, shifts: Shifts
) -> float:
    """Seconds that one shift of one cell takes."""
    begin = perf_counter()
    repairer = _repair(first, second, pairing)
    order, order_heldout = shifts.order(0)
    moved = replace(second, heldout=take_rows(second.heldout, order_heldout))
    own = repairer.pair_by_chance(order, [settings.rule])[settings.rule]
    _measure(first, moved, own, settings, order)
    return perf_counter() - begin


def _repair(first: Layer, second: Layer, pairing: PairSettings) -> Repairer:
    signed = first.signed or second.signed
    return Repairer(first.discovery, second.discovery, first.kept, second.kept, pairing, signed)


def _gather(
    first: Layer,
    second: Layer,
    matches: Matches,
    settings: SweepSettings,
    order: NDArray[np.int64] | None = None,
) -> tuple[list[Metric], NDArray[np.floating], NDArray[np.floating]]:
    """The metrics, and the decoder vectors of the pairs; without vectors, rows of no content."""
    discovery = None
    if first.signed or second.signed:
        moved = second.discovery if order is None else take_rows(second.discovery, order)
        discovery = first.discovery, moved
    mean_r = make_mean_r((first.heldout, second.heldout), matches.a, matches.b, discovery)
    metrics = [*settings.list_metrics(), mean_r]
    if first.decoder is None or second.decoder is None:
        nothing = np.zeros((len(matches), 1))
        return metrics, nothing, nothing
    x, y = first.decoder[matches.a], second.decoder[matches.b]
    if discovery is not None:
        x, y = turn_signs(x, y, matches)
    return metrics, x, y


def _explain_gap(first: Layer, second: Layer, metric: Metric, pairs: int) -> str | None:
    """Why a metric cannot be measured, where that is known beforehand."""
    if pairs < LEAST_PAIRS:
        return f"{pairs} pairs: too few for any score, which needs at least {LEAST_PAIRS}"
    missing = first.missing or second.missing
    return missing if missing and metric.name != MEAN_R else None


def _test_each(
    metrics: Sequence[Metric],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    draw: Callable[[int, np.random.Generator], NDArray[np.int64]],
    plan: Plan,
    first: Layer,
    second: Layer,
) -> list[Tested | str]:
    """The test of each metric, or why there is none; all that can be tested share their orders."""
    found: list[Tested | str | None] = [_explain_gap(first, second, metric, len(x)) for metric in metrics]
    able = [place for place, why in enumerate(found) if why is None]
    try:
        tests = test_orders([metrics[place] for place in able], x, y, draw, plan) if able else []
        for place, tested in zip(able, tests, strict=True):
            found[place] = tested
    except InputError:
        for place in able:
            try:
                found[place] = test_orders([metrics[place]], x, y, draw, plan)[0]
            except InputError as error:
                found[place] = str(error)
    return [one if one is not None else "" for one in found]


def _measure(
    first: Layer,
    second: Layer,
    matches: Matches,
    settings: SweepSettings,
    order: NDArray[np.int64] | None = None,
) -> list[tuple[float, tuple[int, int] | None] | str]:
    """Value and components kept of each metric, or why there is none."""
    metrics, x, y = _gather(first, second, matches, settings, order)
    found: list[tuple[float, tuple[int, int] | None] | str] = []
    for metric in metrics:
        why = _explain_gap(first, second, metric, len(matches))
        if why is None:
            try:
                ready = metric.prepare(x, y)
                found.append((float(ready.value), ready.kept))
            except InputError as error:
                found.append(str(error))
        else:
            found.append(why)
    return found


def _start_row(
    first: Layer, second: Layer, metric: str, null: str, settings: SweepSettings, pairs: int
) -> GridRow:
    return GridRow(
        first.site,
        second.site,
        metric,
        null,
        first.name,
        second.name,
        first.features,
        second.features,
        settings.rule,
        pairs,
        seed=settings.seed,
    )


def _fill(row: GridRow, tested: Tested) -> GridRow:
    k_a, k_b = tested.k or (None, None)
    return replace(
        row,
        value=tested.value,
        p=tested.p,
        p_low=tested.p_interval[0],
        p_high=tested.p_interval[1],
        z=tested.z,
        null_mean=float(tested.null.mean()),
        null_sd=float(tested.null.std(ddof=1)) if tested.permutations > 1 else None,
        k_a=k_a,
        k_b=k_b,
        permutations=tested.permutations,
        warning=" ".join(tested.warnings) or None,
    )
