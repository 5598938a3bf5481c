"""One score as it is printed and stored: never a value without its null."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.similarity.families import ADJUSTMENTS, adjust_max
from xmodel.similarity.nulls import Tested


@dataclass(frozen=True, eq=False)
class Score:
    """A metric over some pairs, against one null; a line of scores.json."""

    part: str
    """``rule``, ``coverage``, ``stratum`` or ``concept``: the family of tests that it is corrected with."""
    metric: str
    on: str
    """``decoder`` or ``activations``."""
    rule: str
    """Of pairing."""
    null: str
    concept: str | None = None
    subset: str | None = None
    """Which pairs of the rule, for coverage and strata."""
    share: float | None = None
    """For coverage, the share of the kept features (of A; of B under best_of_b) with one of these pairs."""
    pairs: int = 0
    value: float | None = None
    """None where it could not be measured: `warnings` say why."""
    null_mean: float | None = None
    null_sd: float | None = None
    p: float | None = None
    p_interval: tuple[float, float] | None = None
    """95 % interval of the p that infinitely many permutations would give."""
    p_adjusted: float | None = None
    """Corrected within the part and null, by `correction`."""
    correction: str = "holm"
    p_holm: float | None = None
    p_bh: float | None = None
    p_by: float | None = None
    p_max: float | None = None
    """By the max-statistic; only where all cells share the draws, as under the null ``shift``."""
    p_tail: float | None = None
    """By a fitted tail, an approximation; only in adaptive tests beyond the last permutation."""
    settled: bool | None = None
    """Adaptive tests: whether the interval of p lies on one side of the level."""
    z: float | None = None
    """(value - mean) / standard deviation of the null."""
    n: int | None = None
    """Matched rows: pairs on decoders, words on activations."""
    k: int | None = None
    """Components kept, the fewer of both sides'; None for metrics that keep all."""
    n_per_k: float | None = None
    """n over the components of the side that keeps more: below 5 CCA is high for unrelated rows."""
    k_a: int | None = None
    k_b: int | None = None
    permutations: int | None = None
    ceiling: float | None = None
    ceiling_n: int | None = None
    interval: tuple[float, float] | None = None
    """95 % interval over resampled documents."""
    resamplings: int | None = None
    seed: int = 0
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The line of scores.json."""
        content = asdict(self)
        return {name: list(own) if isinstance(own, tuple) else own for name, own in content.items()}


@dataclass(frozen=True, eq=False)
class Scored:
    """A score with its null distribution, as corrections by the max-statistic need it."""

    score: Score
    null: NDArray[np.float64] | None
    """[m] None where the score could not be measured."""
    shared: bool = False
    """Whether draw i is the same arrangement for all scores of the family."""


def record_test(score: Score, tested: Tested, shared: bool) -> Scored:
    """Put the result of a test into a score.

    Args:
        score: with everything that is known before the test.
        tested: the test.
        shared: whether its draws are those of all its family.
    """
    kept = tested.k or (None, None)
    mean, spread = float(tested.null.mean()), float(tested.null.std(ddof=1)) if len(tested.null) > 1 else None
    done = replace(
        score,
        value=tested.value,
        null_mean=mean,
        null_sd=spread,
        p=tested.p,
        p_interval=tested.p_interval,
        p_tail=tested.p_tail,
        settled=tested.settled,
        z=tested.z,
        n=tested.n,
        k=min(tested.k) if tested.k else None,
        n_per_k=tested.n / max(tested.k) if tested.k else None,
        k_a=kept[0],
        k_b=kept[1],
        permutations=tested.permutations,
        warnings=(*score.warnings, *tested.warnings),
    )
    return Scored(done, tested.null, shared)


def correct_families(scored: Sequence[Scored], correction: str) -> list[Score]:
    """Correct p-values for the number of tests: all scores of one part against one null are a family.

    Args:
        scored: the scores, in any order.
        correction: which correction ``p_adjusted`` is: holm, bh, by or max, or auto for max. Where max does
            not apply, Holm's.

    Returns:
        the scores in the same order.
    """
    found = [one.score for one in scored]
    families: dict[tuple[str, str], list[int]] = {}
    for place, one in enumerate(scored):
        families.setdefault((one.score.part, one.score.null), []).append(place)
    for places in families.values():
        p = np.array([np.nan if found[place].p is None else found[place].p for place in places], np.float64)
        adjusted = {name: adjust(p) for name, adjust in ADJUSTMENTS.items()}
        adjusted["max"] = _adjust_shared([scored[place] for place in places])
        for row, place in enumerate(places):
            own = {f"p_{name}": _drop_nan(values[row]) for name, values in adjusted.items()}
            used = "max" if correction == "auto" else correction
            used = used if own[f"p_{used}"] is not None else "holm"
            found[place] = replace(found[place], **own, p_adjusted=own[f"p_{used}"], correction=used)
    return found


def _adjust_shared(family: Sequence[Scored]) -> NDArray[np.float64]:
    """[c] by the max-statistic, NaN for cells that do not share their draws with the others."""
    lengths = [len(one.null) for one in family if one.shared and one.null is not None]
    adjusted = np.full(len(family), np.nan)
    usable = [
        place
        for place, one in enumerate(family)
        if one.shared and one.null is not None and len(one.null) == max(lengths)
    ]
    if usable:
        values = np.array([family[place].score.value for place in usable], np.float64)
        adjusted[usable] = adjust_max(values, np.stack([family[place].null for place in usable]))  # type: ignore[misc]
    return adjusted


def _drop_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
