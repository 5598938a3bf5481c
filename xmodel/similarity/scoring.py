"""`xmodel score`: how similar two feature spaces are, where, and whether that is more than chance."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from xmodel.datasets.concept_sets import Concept, choose_concepts, load_concepts
from xmodel.pairing.results import Run
from xmodel.similarity.cells import (
    Cell,
    list_concept_cells,
    list_coverage_cells,
    list_rule_cells,
    list_stratum_cells,
)
from xmodel.similarity.intervals import measure_reaches
from xmodel.similarity.material import Material
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.null_draws import write_score_nulls
from xmodel.similarity.orders import draw_shifts
from xmodel.similarity.repairing import Matches
from xmodel.similarity.scores import Score, correct_families
from xmodel.similarity.settings import PARTS, ScoreSettings
from xmodel.similarity.testing import Task, test_cells
from xmodel.similarity.threads import describe_time, limit_threads
from xmodel.similarity.views import ActivationView, DecoderView, View

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
_LONG = 20.0
# Seconds from which on the time of pairing again is told before it starts.


def score_run(
    run: Run,
    settings: ScoreSettings | None = None,
    *,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> list[Score]:
    """Score how similar the feature spaces of a run's two models are, each value with its null.

    Pairs were found on the discovery half of the documents. On ``decoder`` the paired features' vectors are
    compared, on ``activations`` what the features do on held-out words. Writes scores.json into the run, and
    the draws of all nulls as scores_nulls.parquet.

    Args:
        run: a finished run.
        settings: metrics, nulls, rules, concepts.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Returns:
        one score per metric, null and set of pairs; what could not be measured has value None and says why.

    Raises:
        InputError: for an unknown metric, rule, null or concept, a run without enough pairs, dictionaries
            that cannot be loaded or have changed, or a damaged file.
    """
    settings = settings or ScoreSettings()
    metrics = {part: [parse_metric(name) for name in settings.list_metrics(part)] for part in PARTS}
    concepts = choose_concepts(settings.concepts, load_concepts(settings.concept_file))
    material = Material(run, settings.device)
    report("read", 0, None)
    matches = material.read_matches(settings.rules)
    cells = _list_cells(material, matches, concepts, settings)
    view = _make_view(material, settings)
    again = material.heldout.pair(rules=settings.rules) if settings.ceiling else {}
    task = Task(material, view, settings, metrics, matches, again, [])
    if settings.on == "decoder" and any("shift" in settings.list_nulls(cell.part) for cell in cells):
        task = replace(task, shifted=_pair_shifted(material, settings, report, warn))
    with limit_threads(_count_multiplications(task, cells)):
        scored = test_cells(task, cells, report)
        reaches = measure_reaches(material, view, cells, matches, metrics, settings, report, warn)
    found = [
        _add_interval(one, reaches.get((_name(one), one.metric)), settings.bootstrap)
        for one in correct_families(scored, settings.correction)
    ]
    _warn_of_few_permutations(found, settings.alpha, warn)
    with run.folder.lock():
        if (run.folder / "scores.json").is_file():
            warn(f"the scores that were in {run.path / 'scores.json'} are replaced.")
        digest = run.folder.write_json("scores.json", [one.as_json() for one in found])
        write_score_nulls(run.folder, [one.null for one in scored], digest)
        run.folder.tell_old_page(warn)
    return found


def _count_multiplications(task: Task, cells: Sequence[Cell]) -> int:
    """Of the largest product of two sides' rows."""
    pairs = max((len(cell.choose(task.matches[cell.rule])) for cell in cells), default=0)
    if task.settings.on == "activations":
        return task.settings.most_words * pairs * pairs
    first, second = task.material.decoders
    return pairs * first.shape[1] * second.shape[1]


def _list_cells(
    material: Material, matches: dict[str, Matches], concepts: Sequence[Concept], settings: ScoreSettings
) -> list[Cell]:
    main = "one_to_one" if "one_to_one" in settings.rules else settings.rules[0]
    cells = list_rule_cells(settings.rules) if "rule" in settings.parts else []
    if "coverage" in settings.parts:
        kept = material.kept[1 if main == "best_of_b" else 0]
        cells += list_coverage_cells(main, int(kept.sum()), len(matches[main]))
    if "stratum" in settings.parts:
        cells += list_stratum_cells(main, material.moments[0].firings, matches[main])
    if "concept" in settings.parts:
        cells += list_concept_cells(main, material.find_members(matches[main], concepts))
    return cells


def _make_view(material: Material, settings: ScoreSettings) -> View:
    if settings.on == "decoder":
        return DecoderView(material)
    return ActivationView(material, material.choose_rows(settings.most_words, settings.seed))


def _pair_shifted(
    material: Material, settings: ScoreSettings, report: Report, warn: Callable[[str], None]
) -> list[dict[str, Matches]]:
    """The pairs after every circular shift of B's words; the same shifts serve all scores."""
    repairer, count = material.discovery, settings.count_permutations("shift")
    lengths = material.list_lengths(material.choice.discovery)
    rng = np.random.default_rng(settings.seed)
    orders = draw_shifts(lengths, count, rng)
    found = []
    begin = perf_counter()
    for number, order in enumerate(orders):
        found.append(repairer.pair_by_chance(order, settings.rules))
        if number == 0 and (seconds := (perf_counter() - begin) * count) > _LONG:
            warn(f"pairing again after {count} shifts will take about {describe_time(seconds)}.")
        report("shift", number + 1, count)
    return found


def _add_interval(score: Score, reach: float | None, resamplings: int) -> Score:
    if score.value is None or reach is None:
        return score
    low, high = max(score.value - reach, -1.0), min(score.value + reach, 1.0)
    return replace(score, interval=(low, high), resamplings=resamplings)


def _warn_of_few_permutations(scores: Sequence[Score], alpha: float, warn: Callable[[str], None]) -> None:
    """Say so where so few permutations were drawn that no corrected p of a table can be small."""
    families: dict[tuple[str, str], list[Score]] = {}
    for one in scores:
        if one.p is not None and one.correction == "holm":
            families.setdefault((one.part, one.null), []).append(one)
    for (part, null), family in families.items():
        drawn = min(one.permutations or 0 for one in family)
        if len(family) / (drawn + 1) > alpha:
            warn(
                f"with {drawn:,} permutations no p of the table {part!r} (null {null!r}) can be below "
                f"{1 / (drawn + 1):.2g}, and Holm's correction multiplies the smallest by its "
                f"{len(family)} tests: none can come out at {alpha:g}. Use --permutations "
                f"{int(np.ceil(len(family) / alpha)):,}, fewer tests, or another --correction."
            )


def _name(score: Score) -> tuple[str, str, str | None]:
    """What a score's set of pairs is called, as `xmodel.similarity.intervals` has it."""
    return score.part, score.rule, score.concept or score.subset
