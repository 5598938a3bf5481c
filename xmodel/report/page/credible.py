"""Which features have a credible partner: one of a greater r than the search for partners finds by chance.

The best of many partners correlates, whatever the features do. What chance gives is seen by pairing again
after B's words were shifted in a circle against A's: what both models do keeps its autocorrelation, only what
they do at the same word is broken.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.chunks import keep_features
from xmodel.pairing.results import Run
from xmodel.records import WordFeatures
from xmodel.report.page.few_nulls import draw_few_nulls
from xmodel.report.page.own_nulls import ALPHA, Compared, compare_own, compare_standardised
from xmodel.similarity.material import Material
from xmodel.similarity.nulls import cut_strata
from xmodel.similarity.orders import draw_offsets, shift_rows
from xmodel.similarity.repairing import Repairer

SHIFTS = 20
"""Circular shifts that a run is paired again after."""
FEWEST_SHIFTS = 5
"""Drawn at least: fewer do not tell a null's spread."""
OWN_SHIFTS = 200
"""Further shifts of the features for which those of all leave it open."""
FEWEST_OWN_SHIFTS = 59
"""If fewer would be drawn of these, none are: their p would be coarser than what it replaces."""
OPEN = 0.005
"""p above which a feature gets shifts of its own."""
STRATA = 10
"""Strata of like firing counts within which features' nulls are taken to be of one shape."""
_WORK = 1.2e10
# Products and pairs of features of one pairing, times shifts, from which on fewer are drawn: about a minute.

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True, eq=False)
class SideCredible:
    """How credible the best partner of each of one model's features is."""

    judged: NDArray[np.bool_]
    """[F] features that passed the filters of pairing; of the others nothing is said."""
    firings: NDArray[np.int64]
    """[F] words of the discovery half on which a feature fires."""
    partner: NDArray[np.int32]
    """[F] the other model's feature with the greatest r (|r| where signed); -1 where none is above 0."""
    r: NDArray[np.float64]
    """[F] its Pearson's r on the discovery half; NaN where there is no partner."""
    p: NDArray[np.float64]
    """[F] share of the null's draws that reach the feature's r, both counted with the feature itself; NaN
    where not judged."""
    null_mean: NDArray[np.float64]
    """[F] mean best r (|r| where signed) of the feature itself after shifts; NaN where not judged."""
    null_sd: NDArray[np.float64]
    """[F] their standard deviation."""
    reach: NDArray[np.float64]
    """[F] the r that chance reaches for this feature with a probability of `ALPHA`: p is no more than that
    exactly for r above it. NaN where not judged, or where shifts are too few to say."""
    draws: NDArray[np.int32]
    """[F] shifts that the feature's own null rests on; 0 where not judged."""
    refined: NDArray[np.bool_]
    """[F] whether p is the plain share of these shifts; otherwise the feature's r and its few draws are
    taken in units of their own null, and compared with those of features of like firing count."""

    @property
    def credible(self) -> NDArray[np.bool_]:
        """[F] judged, with a partner, and p of `ALPHA` at most."""
        return self.judged & (self.partner >= 0) & (np.nan_to_num(self.p, nan=1.0) <= ALPHA)

    @property
    def alone(self) -> NDArray[np.bool_]:
        """[F] judged, and not shown to have a partner."""
        return self.judged & ~self.credible


@dataclass(frozen=True, eq=False)
class Credible:
    """How credible the partners of both models' features are."""

    a: SideCredible
    b: SideCredible
    shifts: int
    """Shifts of all features drawn."""
    asked: int
    """Shifts asked for; more than drawn where they would have taken long."""
    own_shifts: int
    """Further shifts of the features that these left open; 0 where none were, or where they would have taken
    long."""
    within: bool
    """Whether each document was shifted within itself; otherwise all words along their concatenation."""
    documents: int
    """Documents of the discovery half."""
    signed: bool
    """Whether partners go by |r|."""

    def side(self, letter: str) -> SideCredible:
        """Of ``a`` or of ``b``."""
        return {"a": self.a, "b": self.b}[letter]


def judge_partners(
    run: Run,
    *,
    shifts: int = SHIFTS,
    seed: int = 0,
    report: Report = lambda stage, done, total: None,
) -> Credible:
    """Compare every feature's best r with what pairing again after circular shifts of B's words gives it.

    Args:
        run: a finished run.
        shifts: how often to pair all features again.
        seed: of the shifts.
        report: told of progress.

    Raises:
        InputError: if a file is missing or damaged, or there are fewer different shifts.
    """
    material = Material(run)
    lengths = material.list_lengths(material.choice.discovery)
    return judge_features(material.discovery, lengths, shifts=shifts, seed=seed, report=report)


def judge_features(
    repairer: Repairer,
    lengths: NDArray[np.int64],
    *,
    shifts: int = SHIFTS,
    own_shifts: int = OWN_SHIFTS,
    seed: int = 0,
    report: Report = lambda stage, done, total: None,
) -> Credible:
    """The same for features in memory.

    All features are paired again after `shifts` shifts and compared in units of their own nulls, see
    `xmodel.report.page.own_nulls.compare_standardised`, within strata of like firing counts. Those with a p
    above `OPEN` are paired again, alone, after `own_shifts` further shifts, and p is the plain share of these
    that reach their r (`compare_own`). Shifts as in `xmodel score`, see `draw_offsets`; fewer for so many
    features that they would take much longer than a minute, by their number alone, so that a run gives the
    same everywhere.

    Args:
        repairer: both models' features over the same words.
        lengths: [D] words per document.
        shifts: how often to pair all features again; `FEWEST_SHIFTS` at least.
        own_shifts: how often to pair again what these leave open.
        seed: of the shifts.
        report: told of progress.

    Raises:
        InputError: if there are fewer different shifts.
    """
    drawn = max(FEWEST_SHIFTS, min(shifts, int(_WORK / max(1.0, count_work(repairer.a, repairer.b)))))
    offsets = draw_offsets(lengths, drawn, np.random.default_rng(seed))
    found = find_best(repairer, None)
    nulls: tuple[list[NDArray[np.float64]], ...] = ([], [])
    for number in range(drawn):
        order = shift_rows(lengths, offsets[number : number + 1])[0]
        for own, (_, r) in zip(nulls, find_best(repairer, order), strict=True):
            own.append(np.abs(r))
        report("re-pairing null", number + 1, drawn)
    of_a = _judge(repairer.kept_a, repairer.a, *found[0], np.stack(nulls[0]))
    of_b = _judge(repairer.kept_b, repairer.b, *found[1], np.stack(nulls[1]))
    within = offsets.shape[1] > 1
    possible = (math.prod(lengths.tolist()) if within else int(lengths.sum())) - 1
    left_a, left_b = (side.judged & (side.partner >= 0) & (side.p > OPEN) for side in (of_a, of_b))
    further = min(own_shifts, possible, _bound_own_shifts(repairer, (left_a, left_b)))
    if further >= FEWEST_OWN_SHIFTS:
        again = draw_offsets(lengths, further, np.random.default_rng([seed, 1]))
        own_a, own_b = draw_few_nulls(
            repairer,
            (left_a, left_b),
            lengths,
            again,
            lambda done: report("re-pairing null of some", done, further),
        )
        of_a, of_b = _refine(of_a, left_a, own_a), _refine(of_b, left_b, own_b)
    else:
        further = 0
    return Credible(of_a, of_b, drawn, shifts, further, within, len(lengths), repairer.signed)


def find_best(
    repairer: Repairer, order: NDArray[np.int64] | None
) -> tuple[tuple[NDArray[np.int32], NDArray[np.float64]], ...]:
    """The best partner of every feature of either side, with B's words in another order; no floor.

    Args:
        repairer: both models' features.
        order: [W] word i of A meets word ``order[i]`` of B; None leaves them in place.

    Returns:
        For A and for B: [F] partners, -1 for none with r above 0, and [F] r, 0 for none.
    """
    pairs = _loosen(repairer).pair(order, rules=("best_of_a", "best_of_b"))
    of_a, of_b = pairs["best_of_a"], pairs["best_of_b"]
    best = []
    for features, own, others, r in (
        (repairer.a.features, of_a.a, of_a.b, of_a.r),
        (repairer.b.features, of_b.b, of_b.a, of_b.r),
    ):
        partner, values = np.full(features, -1, np.int32), np.zeros(features)
        partner[own], values[own] = others, r
        best.append((partner, values))
    return tuple(best)


def count_work(a: WordFeatures, b: WordFeatures) -> float:
    """What one pairing takes: products of two activations that are summed up, and sums that are compared."""
    products = float((np.diff(a.indptr).astype(np.float64) * np.diff(b.indptr)).sum())
    return products + a.features * b.features


def _loosen(repairer: Repairer) -> Repairer:
    return replace(repairer, settings=replace(repairer.settings, floor=0.0, price=None))


def _judge(
    kept: NDArray[np.bool_],
    features: WordFeatures,
    partner: NDArray[np.int32],
    r: NDArray[np.float64],
    null: NDArray[np.float64],
) -> SideCredible:
    compared = Compared(*(np.full(len(kept), np.nan) for _ in range(4)))
    firings = np.bincount(features.indices, minlength=len(kept))
    if kept.any():
        strata = cut_strata(firings[kept], STRATA)
        compared = _spread(compared, kept, compare_standardised(np.abs(r[kept]), null[:, kept], strata))
    return SideCredible(
        judged=kept,
        firings=firings,
        partner=partner,
        r=np.where(partner >= 0, r, np.nan),
        p=compared.p,
        null_mean=compared.mean,
        null_sd=compared.sd,
        reach=compared.reach,
        draws=np.where(kept, len(null), 0).astype(np.int32),
        refined=np.zeros(len(kept), np.bool_),
    )


def _refine(side: SideCredible, chosen: NDArray[np.bool_], null: NDArray[np.float64]) -> SideCredible:
    before = Compared(side.p, side.null_mean, side.null_sd, side.reach)
    now = _spread(before, chosen, compare_own(np.abs(side.r[chosen]), null))
    return replace(
        side,
        p=now.p,
        null_mean=now.mean,
        null_sd=now.sd,
        reach=now.reach,
        draws=np.where(chosen, len(null), side.draws).astype(np.int32),
        refined=chosen,
    )


def _spread(before: Compared, chosen: NDArray[np.bool_], own: Compared) -> Compared:
    """[F] with the chosen features' values put in."""
    columns = []
    for old, new in (
        (before.p, own.p),
        (before.mean, own.mean),
        (before.sd, own.sd),
        (before.reach, own.reach),
    ):
        column = old.copy()
        column[chosen] = new
        columns.append(column)
    return Compared(*columns)


def _bound_own_shifts(repairer: Repairer, left: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> int:
    """How many shifts of the features that are left can be drawn in about a minute."""
    work = 0.0
    for own, other, chosen in ((repairer.a, repairer.b, left[0]), (repairer.b, repairer.a, left[1])):
        if chosen.any():
            few = keep_features(own, chosen)
            products = count_work(few, other) - few.features * other.features
            work += products + int(chosen.sum()) * other.features
    return int(_WORK / work) if work else 0
