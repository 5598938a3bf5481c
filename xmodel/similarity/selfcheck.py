"""The tool on planted truth: does it find what is there, and nothing where nothing is?

Everything goes through the functions that real runs go through: pairing on one half of the documents, judging
on the other, metrics and nulls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from xmodel.alignment.rows import take_rows
from xmodel.datasets.synthetic import ARRANGEMENTS, Planted, PlantedSettings, plant_models
from xmodel.errors import InputError
from xmodel.similarity.chance import ALPHA, HARD, PERMUTATIONS, Chance, compare_nulls, measure_chance
from xmodel.similarity.checks import FALSE_ALARM, bound_count, judge
from xmodel.similarity.metrics import DEFAULT_METRICS, parse_metric
from xmodel.similarity.recovering import (
    LEAST_R,
    LEAST_SNR,
    LEVEL,
    RULES,
    Recovered,
    recover_pairs,
    split_planted,
)

Report = Callable[[str, int, int | None], None]

WORLD = PlantedSettings(words=16000, documents=80)
"""Models that share half of their features; perfect SAEs."""
TRAINED = PlantedSettings(
    features_a=100,
    features_b=120,
    exponent=0.5,
    strength=0.3,
    cofiring=0.2,
    topics=0.1,
    noise=0.1,
    words=16000,
    documents=80,
    saes="trained",
)
"""The same for trained SAEs: fewer features, easier to tell apart, so that seconds of training suffice."""
LEAST_RECALL = {"perfect": 0.95, "trained": 0.9}
LEAST_PRECISION = {"perfect": 0.95, "trained": 0.9}
MOST_UNSHARED = {"perfect": 0.01, "trained": 0.05}
LEAST_POWER = 0.95
CALIBRATED = (("one_to_one", "repaired"), ("best_of_a", "repaired"))
"""Pairs and nulls that must be right on every arrangement."""


ENOUGH_WORLDS = 20
"""Worlds from which on it is judged that naive shuffles reject more often."""


@dataclass(frozen=True)
class Scope:
    """How much is simulated."""

    seeds: int
    """Pairs of models per arrangement that share features."""
    worlds: int
    """Pairs of models per arrangement that share nothing."""
    permutations: int
    """Arrangements per test of power."""


FULL = Scope(seeds=3, worlds=32, permutations=39)
QUICK = Scope(seeds=1, worlds=9, permutations=19)


def run_selfcheck(
    seed: int = 0,
    *,
    quick: bool = False,
    trained: bool = False,
    report: Report = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Run pairing and scoring on planted truth.

    Args:
        seed: of everything that is simulated; 0 or more.
        quick: a quarter of the simulations; misses smaller faults.
        trained: also with SAEs that are trained on the simulated models' activations; half a minute more.
        report: told of progress.

    Returns:
        ``passed``; ``checks``, each with name, arrangement, value, bound, ``at_least`` or ``at_most``, count
        and of (value = count / of), interval (95 %, Clopper and Pearson) and passed; ``pairing``, ``power``
        and ``chance``, the figures by arrangement; ``settings``, what was planted; seed, seconds.

    Raises:
        InputError: a negative seed.
    """
    if seed < 0:
        raise InputError(f"The seed came as {seed}; expected was a whole number, 0 or more.")
    from threadpoolctl import threadpool_limits

    begin, scope = perf_counter(), QUICK if quick else FULL
    # Several threads for one small matrix take longer than one, and many times longer on a busy machine.
    with threadpool_limits(1):
        pairing, power = _check_shared(seed, scope, report)
        if trained:
            pairing += _check_trained(seed, report)
        chance = _check_nothing(seed, scope, report)
    checks = [*_judge_pairing(pairing), *_judge_power(power), *_judge_chance(chance)]
    return {
        "passed": all(one["passed"] for one in checks),
        "seed": seed,
        "quick": quick,
        "trained": trained,
        "checks": checks,
        "pairing": pairing,
        "power": power,
        "chance": [_describe_chance(one) for one in chance],
        "settings": {
            "least_snr": LEAST_SNR,
            "confident_r": LEAST_R,
            "confident_level": LEVEL,
            "alpha": ALPHA,
            "rejected_by_chance": bound_count(len(chance) * scope.worlds, 0.025),
            "permutations": {"power": scope.permutations, "chance": PERMUTATIONS},
            "metrics": [parse_metric(name).name for name in DEFAULT_METRICS],
            "world": {name: getattr(WORLD, name) for name in ("features_a", "features_b", "shared", "words")},
            "nothing_shared": dict(HARD),
        },
        "seconds": round(perf_counter() - begin, 2),
    }


def _check_shared(
    seed: int, scope: Scope, report: Report
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Recall and precision where half of the features are shared, and whether scores see it."""
    pairing, power = [], []
    metrics = [parse_metric(name) for name in DEFAULT_METRICS]
    done, total = 0, len(ARRANGEMENTS) * scope.seeds
    report("planted", 0, total)
    for number, arrangement in enumerate(ARRANGEMENTS):
        for own in _draw_seeds(seed, number, scope.seeds):
            planted = plant_models(replace(WORLD, arrangement=arrangement, seed=own))
            halves = split_planted(planted)
            found = recover_pairs(halves)
            pairing += [_describe_pairing(planted, rule, one) for rule, one in found.items()]
            moved = recover_pairs(split_planted(_misalign(planted)), ("one_to_one",))["one_to_one"]
            pairing.append(_describe_pairing(planted, "misaligned", moved))
            matches = {"one_to_one": found["one_to_one"].matches}
            for key, p in compare_nulls(halves, matches, metrics, scope.permutations, own).items():
                power.append(dict(zip(("rule", "null", "metric"), key, strict=True)))
                power[-1] |= {"arrangement": arrangement, "seed": own, "p": p}
            done += 1
            report("planted", done, total)
    return pairing, power


def _misalign(planted: Planted) -> Planted:
    """B's features belong to the word before."""
    count = len(planted.b.features)
    moved = take_rows(planted.b.features, np.roll(np.arange(count), 1))
    return replace(planted, b=replace(planted.b, features=moved))


def _check_trained(seed: int, report: Report) -> list[dict[str, Any]]:
    pairing = []
    report("trained", 0, len(ARRANGEMENTS))
    for number, arrangement in enumerate(ARRANGEMENTS):
        (own,) = _draw_seeds(seed, number, 1)
        planted = plant_models(replace(TRAINED, arrangement=arrangement, seed=own))
        found = recover_pairs(split_planted(planted), ("one_to_one",))
        pairing += [_describe_pairing(planted, rule, one) for rule, one in found.items()]
        report("trained", number + 1, len(ARRANGEMENTS))
    return pairing


def _check_nothing(seed: int, scope: Scope, report: Report) -> list[Chance]:
    done, total = 0, len(ARRANGEMENTS) * scope.worlds

    def tick() -> None:
        nonlocal done
        done += 1
        report("chance", done, total)

    report("chance", 0, total)
    return [measure_chance(arrangement, scope.worlds, seed, tick) for arrangement in ARRANGEMENTS]


def _draw_seeds(seed: int, number: int, count: int) -> list[int]:
    return np.random.SeedSequence([seed, number, 1]).generate_state(count).tolist()


def _describe_pairing(planted: Planted, rule: str, found: Recovered) -> dict[str, Any]:
    settings, confident = planted.settings, found.confident & found.known
    return {
        "arrangement": settings.arrangement,
        "saes": settings.saes,
        "seed": settings.seed,
        "rule": rule,
        "shared": settings.shared_features,
        "planted": len(planted.pairs),
        "pairs": len(found.r),
        "findable": found.findable,
        "found": found.found,
        "confident": int(confident.sum()),
        "true": int((confident & found.true).sum()),
        "unshared": found.unshared,
        "unshared_confident": found.unshared_confident,
    }


def _describe_chance(found: Chance) -> dict[str, Any]:
    tests = [
        {"rule": rule, "null": null, "metric": metric, "rejected": count, "share": count / found.worlds}
        for (rule, null, metric), count in found.rejected.items()
    ]
    return {
        "arrangement": found.arrangement,
        "worlds": found.worlds,
        "pairs": found.pairs,
        "confident": found.confident,
        "tests": tests,
    }


def _judge_pairing(pairing: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    checks = []
    for saes in ("perfect", "trained"):
        for rule in RULES:
            own = [one for one in pairing if one["saes"] == saes and one["rule"] == rule]
            if not own:
                continue
            name = f"{saes}/{rule}"
            recall, precision = LEAST_RECALL[saes], LEAST_PRECISION[saes]
            checks.append(judge(f"recall/{name}", own, "found", "findable", at_least=recall))
            checks.append(judge(f"precision/{name}", own, "true", "confident", at_least=precision))
            most = MOST_UNSHARED[saes]
            checks.append(judge(f"unshared/{name}", own, "unshared_confident", "unshared", at_most=most))
    own = [one for one in pairing if one["rule"] == "misaligned"]
    return [*checks, judge("misaligned", own, "confident", "pairs", at_most=0.01)]


def _judge_power(power: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    checks = []
    for null in ("shuffled", "repaired"):
        own = [{"seen": one["p"] <= ALPHA, "tests": 1} for one in power if one["null"] == null]
        checks.append(judge(f"power/{null}", own, "seen", "tests", at_least=LEAST_POWER))
    return checks


def _judge_chance(chance: Sequence[Chance]) -> list[dict[str, Any]]:
    metrics = [parse_metric(name).name for name in DEFAULT_METRICS]
    own = [{"confident": one.confident, "pairs": one.pairs} for one in chance]
    checks = [judge("nothing_shared", own, "confident", "pairs", at_most=0.01)]
    isotropic = [one for one in chance if one.arrangement == "isotropic"]
    families = [(rule, null, chance) for rule, null in CALIBRATED]
    # Shuffled pairs are exact where directions do not depend on when features fire.
    families += [("one_to_one", "shuffled", isotropic), ("best_of_a", "grouped", isotropic)]
    level = FALSE_ALARM / (len(families) * len(metrics))
    for rule, null, among in families:
        counts = {metric: sum(one.rejected[rule, null, metric] for one in among) for metric in metrics}
        worst = max(counts, key=lambda metric: counts[metric])
        of = sum(one.worlds for one in among)
        own = [{"rejected": counts[worst], "worlds": of}]
        most = bound_count(of, level) / of
        where = "isotropic" if among is isotropic else "all"
        check = judge(f"type_1/{rule}/{null}", own, "rejected", "worlds", at_most=most, arrangement=where)
        checks.append({**check, "metric": worst})
    return [*checks, *_judge_naive(chance, metrics)]


def _judge_naive(chance: Sequence[Chance], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Whether shuffling many-to-one pairs naively finds similarity more often than pairing again does."""
    clustered = next(one for one in chance if one.arrangement == "clustered")
    if clustered.worlds < ENOUGH_WORLDS:
        return []  # The difference is large, but a handful of worlds may not show it.
    naive, ours = (
        max(clustered.rejected["best_of_a", null, metric] for metric in metrics)
        for null in ("shuffled", "repaired")
    )
    own = [{"rejected": naive - ours, "worlds": clustered.worlds}]
    return [judge("inflation_seen", own, "rejected", "worlds", at_least=0.1, arrangement="clustered")]
