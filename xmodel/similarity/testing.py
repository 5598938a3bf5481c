"""The tests of a score: every set of pairs, by every metric, against every null."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.ceilings import measure_ceiling
from xmodel.similarity.cells import Cell
from xmodel.similarity.material import Material
from xmodel.similarity.metrics import Metric, compares_neighbours
from xmodel.similarity.nulls import Plan, Tested, test_draws, test_orders
from xmodel.similarity.repairing import Matches, keep_one_per_feature
from xmodel.similarity.scores import Score, Scored, record_test
from xmodel.similarity.settings import LEAST_PAIRS, ScoreSettings
from xmodel.similarity.views import Rows, View, draw_other_pairs, draw_random_features

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
PERMUTING = ("shuffle", "stratified")
"""Nulls that only put rows into another order, whatever the rows are."""
SHUFFLED_WORDS = (
    "neighbouring words are alike in each model, and shuffling them takes that away, so this p is too small: "
    "trust the null shift."
)
"""What must be known about shuffled words."""
NEIGHBOURING_WORDS = (
    "neighbouring words are each other's nearest rows in both models, which a shift breaks where its circle "
    "closes: this p is somewhat too small (7 % in place of 5 % in simulations)."
)
"""What must be known about nearest neighbours among shifted words."""


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that the scores of one call have in common."""

    material: Material
    view: View
    settings: ScoreSettings
    metrics: dict[str, list[Metric]]
    """By part."""
    matches: dict[str, Matches]
    again: dict[str, Matches]
    """The pairs that the held-out half gives by itself; empty where no ceiling is asked for."""
    shifted: list[dict[str, Matches]]
    """The pairs after every shift; empty where the null ``shift`` does not pair again."""


def test_cells(task: Task, cells: Sequence[Cell], report: Report) -> list[Scored]:
    """Test every set of pairs.

    Args:
        task: what the tests have in common.
        cells: the sets of pairs.
        report: told of progress.
    """
    parts = [cell.part for cell in cells]
    tests = [(cell, null) for cell in cells for null in task.settings.list_nulls(cell.part)]
    scored = []
    for done, (cell, null) in enumerate(tests):
        report("score", done, len(tests))
        family = parts.count(cell.part) * len(task.metrics[cell.part])
        scored += _test_cell(task, cell, null, family)
    report("score", len(tests), len(tests))
    return scored


def _test_cell(task: Task, cell: Cell, null: str, family: int) -> list[Scored]:
    matches, told = task.matches[cell.rule], ()
    draws_anew = null not in PERMUTING and not _shifts_rows(task, null)
    if draws_anew and len(single := keep_one_per_feature(matches)) < len(matches):
        # What is drawn anew shares no features as these pairs do, so that sharing would count as similarity.
        told = (
            f"scored on {len(single):,} of {len(matches):,} pairs of the rule: one for each shared feature.",
        )
        matches = single
    chosen = cell.choose(matches)
    rows = task.view.take(matches, chosen) if len(chosen) >= LEAST_PAIRS else None
    found = []
    for metric in task.metrics[cell.part]:
        blank = Score(
            part=cell.part,
            metric=metric.name,
            on=task.settings.on,
            rule=cell.rule,
            null=null,
            concept=cell.name if cell.part == "concept" else None,
            subset=cell.name if cell.part in ("coverage", "stratum") else None,
            share=cell.share,
            pairs=len(chosen),
            seed=task.settings.seed,
            warnings=told,
        )
        if rows is None:
            few = f"not measured: {len(chosen)} pairs belong here, and fewer than {LEAST_PAIRS} say nothing."
            found.append(Scored(replace(blank, warnings=(few,)), None))
            continue
        try:
            tested = _test_metric(task, metric, cell, matches, chosen, rows, null, family)
        except InputError as error:
            # One set of pairs that is too small for one metric must not cost all other scores.
            found.append(Scored(replace(blank, warnings=(*told, f"not measured: {error}")), None))
            continue
        ceiling, ceiling_n = _measure_ceiling(task, metric, cell, matches, chosen)
        done = replace(blank, ceiling=ceiling, ceiling_n=ceiling_n)
        if task.settings.on == "activations" and null in PERMUTING:
            done = replace(done, warnings=(*told, SHUFFLED_WORDS))
        elif _shifts_rows(task, null) and compares_neighbours(metric):
            done = replace(done, warnings=(*told, NEIGHBOURING_WORDS))
        found.append(record_test(done, tested, shared=null == "shift" and _is_fixed(task)))
    return found


def _shifts_rows(task: Task, null: str) -> bool:
    """Whether shifting words is no more than another order of rows: the pairs were found on other words."""
    return null == "shift" and task.settings.on == "activations"


def _is_fixed(task: Task) -> bool:
    """Whether a shift's number of draws is fixed beforehand."""
    return task.settings.on == "decoder" or not task.settings.adaptive


def _test_metric(
    task: Task,
    metric: Metric,
    cell: Cell,
    matches: Matches,
    chosen: NDArray[np.int64],
    rows: Rows,
    null: str,
    family: int,
) -> Tested:
    settings, view = task.settings, task.view
    count = settings.count_permutations(null, family)
    plan = Plan(
        permutations=count,
        seed=settings.seed,
        adaptive=settings.adaptive,
        alpha=settings.alpha,
        most=10 * count + 9,
    )
    if null in PERMUTING or _shifts_rows(task, null):
        return test_orders([metric], *rows, view.arrange(matches, chosen, null), plan)[0]
    if null == "shift":
        shifted = [own[cell.rule] for own in task.shifted]
        counts = [len(cell.choose(own)) for own in shifted]
        plan = replace(plan, adaptive=False, permutations=len(shifted))
        tested = test_draws([metric], *rows, _take_turns(view, cell, shifted, len(chosen)), plan)
        return _warn_of_fewer(tested[0], min(counts), len(chosen))
    if null == "pairs":
        others = draw_other_pairs(view, matches, chosen, task.material.moments[0].firings)
    else:
        others = draw_random_features(view, task.material, matches, chosen, null == "subsets_stratified")
    return test_draws([metric], *rows, others, plan)[0]


def _take_turns(
    view: View, cell: Cell, shifted: Sequence[Matches], most: int
) -> Callable[[np.random.Generator], Rows]:
    """The pairs of one shift after another: as many as there are in the text, the best ones."""
    turns: Iterator[Matches] = iter(shifted)

    def draw(rng: np.random.Generator) -> Rows:
        own = next(turns)
        return view.take(own, cell.choose(own)[:most])

    return draw


def _warn_of_fewer(tested: Tested, fewest: int, pairs: int) -> Tested:
    """Say so where shifted words have fewer pairs than the text: some metrics depend on their number."""
    if fewest >= 0.9 * pairs:
        return tested
    told = (
        f"shifted words gave as few as {fewest:,} pairs in place of {pairs:,}: a metric that grows as rows "
        "become fewer makes this p too large."
    )
    return replace(tested, warnings=(*tested.warnings, told))


def _measure_ceiling(
    task: Task, metric: Metric, cell: Cell, matches: Matches, chosen: NDArray[np.int64]
) -> tuple[float | None, int | None]:
    if not task.settings.ceiling:
        return None, None
    own = matches.take(chosen)
    value, features = measure_ceiling(metric, cell.rule, own, task.again[cell.rule], task.view.take_side)
    return value, features if value is not None else None
