"""The selfcheck with steering: what the first stages are judged by, and planted transfers.

Bounds come from what is planted: where partners are the same they are to be found nearly always, and what
chance does is to come as often as its law says, or rarer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from xmodel.similarity import selfcheck
from xmodel.similarity.chance import ALPHA
from xmodel.similarity.checks import FALSE_ALARM, bound_count, judge
from xmodel.steering.planted import PlantedSize, load_material, plant_comparison
from xmodel.steering.planted_transfers import (
    DAMAGE,
    DOSE,
    LARGE_DOSE,
    LEVELS,
    PAIRED_LEVEL,
    measure_comparison,
)

Report = Callable[[str, int, int | None], None]

LEAST_FOUND = 0.95
"""Share that has to be found where it is planted."""
MOST_LEFT = 0.25
"""Share of partners that may be found behind layers that know nothing of each other. Chance is 1 in 20;
random layers may find more, since they still read the feature's direction."""
LEAST_FOOLED = 0.5
"""Share for which weaker tests have to mistake wrong partners for right ones, and random directions have to
agree by raw changes: most, else there was nothing to be fooled by."""
LEAST_SEEN, ENOUGH = 0.25, 8
"""Share of comparisons in which T of wrong partners has to lie above re-initialised layers, if it is not
compared with yet others; and how many there have to be for this to be judged."""
MOST_AGREEING = 0.05
"""Share of pairs of random directions that may agree."""


@dataclass(frozen=True)
class Scope:
    """How much is pushed."""

    comparisons: int
    """Comparisons of the model with damaged copies, each with its own words, features and damage."""
    size: PlantedSize
    """Of each."""


FULL = Scope(comparisons=10, size=PlantedSize())
QUICK = Scope(comparisons=3, size=PlantedSize())


def run_selfcheck(
    seed: int = 0,
    *,
    quick: bool = False,
    trained: bool = False,
    report: Report = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Run pairing, scoring and steering on planted truth.

    Args:
        seed: of everything that is simulated; 0 or more.
        quick: a part of the simulations; misses smaller faults.
        trained: also with SAEs that are trained on the simulated models' activations; half a minute more.
        report: told of progress.

    Returns:
        what `xmodel.similarity.selfcheck.run_selfcheck` does, with the checks of steering among the others
        (``steer/...``), and ``steering``: ``comparisons``, what `measure_comparison` measured in each;
        ``levels``, its means by noise; ``settings``.

    Raises:
        InputError: a negative seed.
    """
    begin = perf_counter()
    found = selfcheck.run_selfcheck(seed, quick=quick, trained=trained, report=report)
    steering = check_steering(seed, QUICK if quick else FULL, report)
    checks = [*found["checks"], *steering.pop("checks")]
    return {
        **found,
        "passed": all(one["passed"] for one in checks),
        "checks": checks,
        "steering": steering,
        "seconds": round(perf_counter() - begin, 2),
    }


def check_steering(
    seed: int, scope: Scope, report: Report = lambda stage, done, total: None
) -> dict[str, Any]:
    """Measure planted comparisons and judge them; see `run_selfcheck`."""
    from threadpoolctl import threadpool_limits

    report("steering", 0, scope.comparisons)
    measured = []
    # This loads PyTorch, whose threads can be limited only then.
    material = load_material()
    # Several threads for small matrices take longer than one, and many times longer on a busy machine.
    with threadpool_limits(1):
        seeds = np.random.SeedSequence([seed, 2]).generate_state(scope.comparisons).tolist()
        for done, own in enumerate(seeds, 1):
            measured.append(measure_comparison(plant_comparison(material, own, scope.size)))
            report("steering", done, scope.comparisons)
    return {
        "checks": judge_steering(measured, scope.size),
        "comparisons": measured,
        "levels": _average_levels(measured),
        "settings": {
            "alpha": ALPHA,
            "dose": DOSE,
            "large_dose": LARGE_DOSE,
            "damage": DAMAGE,
            "paired_level": PAIRED_LEVEL,
            "features": scope.size.features,
            "words": scope.size.words,
        },
    }


def judge_steering(measured: Sequence[dict[str, Any]], size: PlantedSize) -> list[dict[str, Any]]:
    """The checks of planted comparisons, in the form of `judge`."""
    count, worlds = size.features, len(measured)
    levels = [{one["noise"]: one for one in own["levels"]} for own in measured]
    pairs = [own["pairs_wrong"] | {"pairs": own["pairs"]} for own in measured]
    right = [own["pairs_right"] | {"pairs": own["pairs"]} for own in measured]
    picked = [{"found": own["wrong_top1"], "of": 2 * count} for own in measured]
    kept = [{"found": own["copy_top1"], "of": 2 * count} for own in measured]
    excess, wrong, none, mean = (
        [{"seen": own[name]["low"] > 0, "of": 1} for own in measured]
        for name in ("excess", "wrong_excess", "no_excess", "wrong_mean")
    )

    def list_top1(noise: float | None) -> list[dict[str, Any]]:
        return [{"found": own[noise]["top1"], "of": 2 * count} for own in levels]

    # Most comparisons show it, but a handful may not.
    fooled = [judge("steer/mean_alone", mean, "seen", "of", at_least=LEAST_SEEN)] if worlds >= ENOUGH else []
    return [
        *fooled,
        judge("steer/identity", [own["identity"] for own in measured], "moved", "responses", at_most=0.0),
        judge("steer/retrieval", list_top1(PAIRED_LEVEL), "found", "of", at_least=LEAST_FOUND),
        judge("steer/auroc", _list_wins(levels, count), "won", "of", at_least=LEAST_FOUND),
        judge("steer/falling", _list_steps(levels), "fell", "steps", at_least=LEAST_FOUND),
        judge("steer/damaged", list_top1(LEVELS[-1]), "found", "of", at_most=MOST_LEFT),
        judge("steer/reinitialised", list_top1(None), "found", "of", at_most=MOST_LEFT),
        judge("steer/excess", excess, "seen", "of", at_least=LEAST_FOUND),
        # The interval leaves out 2.5 % on either side.
        judge("steer/wrong_excess", wrong, "seen", "of", at_most=_bound(worlds, 0.025)),
        judge("steer/no_excess", none, "seen", "of", at_most=_bound(worlds, 0.025)),
        # What A's features pick among B's and B's among A's are one and the same matrix.
        judge("steer/unpaired", picked, "found", "of", at_most=_bound(worlds * count, 1 / count)),
        judge("steer/power", right, "all", "pairs", at_least=LEAST_FOUND),
        judge("steer/type_1", pairs, "all", "pairs", at_most=_bound(_count_tests(worlds, size), ALPHA)),
        judge("steer/words_alone", pairs, "words", "pairs", at_least=LEAST_FOOLED),
        judge("steer/copy_kept", kept, "found", "of", at_least=LEAST_FOUND),
        judge("steer/raw", [own["random"] for own in measured], "raw", "pairs", at_least=LEAST_FOOLED),
        judge("steer/odd", [own["random"] for own in measured], "odd", "pairs", at_most=MOST_AGREEING),
    ]


def _bound(trials: int, chance: float) -> float:
    return bound_count(trials, FALSE_ALARM, chance) / trials


def _count_tests(worlds: int, size: PlantedSize) -> int:
    """How many independent tests are worth those of all pairs.

    The pairs of a comparison share their draws: the variance of their share is that of as many tests, and
    that of as many draws, one upon the other.
    """
    return int(worlds / (1 / size.features + 1 / size.others))


def _list_wins(levels: Sequence[dict[float | None, dict[str, Any]]], count: int) -> list[dict[str, int]]:
    """In how many comparisons of a pair with two features that are none the pair has the larger T."""
    of = count * count * (count - 1)
    return [{"won": round(own[PAIRED_LEVEL]["auroc"] * of), "of": of} for own in levels]


def _list_steps(levels: Sequence[dict[float | None, dict[str, Any]]]) -> list[dict[str, int]]:
    """In how many steps to more noise T of partners falls."""
    rows = []
    for own in levels:
        falls = np.diff([own[level]["transfer"] for level in LEVELS]) < 0
        rows.append({"fell": int(falls.sum()), "steps": len(falls)})
    return rows


def _average_levels(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of every level of noise, averaged over comparisons."""
    rows = []
    for place, noise in enumerate((*LEVELS, None)):
        own = [one["levels"][place] for one in measured]
        means = {name: float(np.mean([one[name] for one in own])) for name in ("transfer", "others", "auroc")}
        picked, of = sum(one["top1"] for one in own), sum(2 * one["pairs"] for one in measured)
        rows.append({"noise": noise, **means, "top1": picked, "of": of})
    return rows
