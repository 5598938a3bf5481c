"""A grid of layers: what it is scored by, one row of it, and the correction for the number of its cells."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from xmodel.errors import InputError
from xmodel.similarity.counting import ROUNDING
from xmodel.similarity.families import ADJUSTMENTS, adjust_max
from xmodel.similarity.heldout import MEAN_R
from xmodel.similarity.metrics import DEFAULT_METRICS, Metric, parse_metric
from xmodel.similarity.pvalues import bound_p, count_p
from xmodel.similarity.repairing import RULES

NULLS = ("shuffle", "shift")
"""What chance is: shuffled pairs, or pairs found anew after a circular shift of B's words."""
LEVEL = 0.05
"""The level that a corrected p is compared with."""
ORDERS = 999
"""Shuffles of a cell, where the grid does not need more."""
SHIFTS = 99
"""Shifts of the whole grid."""


@dataclass(frozen=True)
class SweepSettings:
    """Choices of a sweep's scores.

    Raises:
        InputError: for a name that is not known, or a count below 1.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    """Names as `parse_metric` knows them; the mean held-out r always comes beside them."""
    rule: str = "mutual"
    """The rule of pairing."""
    nulls: tuple[str, ...] = ("shuffle",)
    """Which of `NULLS`."""
    permutations: int | None = None
    """Shuffles per cell; None for `ORDERS`, or for as many as Holm's correction of the grid needs to reach
    0.05 where that is more: 20 per cell less 1."""
    shifts: int = SHIFTS
    """Shifts, the same ones for all cells."""
    seed: int = 0
    """Of all shuffles and shifts."""

    def __post_init__(self) -> None:
        names = [parse_metric(name).name for name in self.metrics if name != MEAN_R]
        if len(set(names)) < len(names):
            raise InputError(f"a metric came twice: {', '.join(names)}. Name each once.")
        for name, known, choices in (
            ("the rule of pairing", (self.rule,), RULES),
            ("the null", self.nulls, NULLS),
        ):
            unknown = [one for one in known if one not in choices]
            if unknown or not known:
                raise InputError(
                    f"{name} came as {unknown[0] if unknown else 'nothing'}: choose {', '.join(choices)}."
                )
        for name, value in (("permutations", self.permutations), ("shifts", self.shifts)):
            if value is not None and value < 1:
                raise InputError(f"{name} came as {value}: it must be at least 1, 999 for a p of 0.001.")
        if self.seed < 0:
            raise InputError(f"the seed came as {self.seed}: it must be 0 or more.")

    def list_metrics(self) -> list[Metric]:
        """The metrics on decoder vectors."""
        return [parse_metric(name) for name in self.metrics if name != MEAN_R]

    def count_permutations(self, cells: int) -> int:
        """Shuffles per cell of a grid."""
        return self.permutations or max(ORDERS, round(cells / LEVEL) - 1)

    def as_json(self) -> dict[str, Any]:
        """The choices by name, metrics in full."""
        return {
            "metrics": [metric.name for metric in self.list_metrics()],
            "rule": self.rule,
            "nulls": list(self.nulls),
            "permutations": self.permutations,
            "shifts": self.shifts,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class GridRow:
    """One metric of one cell against one null: a row of grid.parquet."""

    site_a: str
    site_b: str
    metric: str
    null: str
    sae_a: str
    sae_b: str
    features_a: int
    """Size of A's dictionary."""
    features_b: int
    rule: str
    """Of pairing."""
    n: int
    """Pairs."""
    value: float | None = None
    """None where it could not be measured: `warning` says why."""
    p: float | None = None
    p_adjusted: float | None = None
    """Corrected over the grid, by `correction`."""
    correction: str | None = None
    """``holm`` for shuffled pairs, ``max`` for shifts."""
    p_low: float | None = None
    """95 % interval of the p that all possible arrangements would give."""
    p_high: float | None = None
    p_holm: float | None = None
    p_bh: float | None = None
    p_by: float | None = None
    p_max: float | None = None
    """By the max-statistic; for shifts, which all cells share."""
    z: float | None = None
    """(value - mean) / standard deviation of the null."""
    null_mean: float | None = None
    null_sd: float | None = None
    k_a: int | None = None
    """Components kept of A's vectors; None where the metric keeps none."""
    k_b: int | None = None
    permutations: int | None = None
    seed: int = 0
    warning: str | None = None


@dataclass(frozen=True)
class ShiftedCell:
    """One cell under shifts: all that the max-statistic needs."""

    rows: list[GridRow]
    """One per metric, without p."""
    nulls: list[list[float] | None] = field(default_factory=list)
    """[metrics] the value under every shift; None where it could not be measured under some."""


def correct_grid(rows: Sequence[GridRow]) -> list[GridRow]:
    """Correct p-values of shuffled pairs over the grid: the cells of one metric are a family.

    ``p_adjusted`` is Holm's; those of Benjamini and Hochberg, and Benjamini and Yekutieli stand beside it.
    """
    found = list(rows)
    for metric in dict.fromkeys(row.metric for row in rows):
        places = [place for place, row in enumerate(rows) if row.metric == metric]
        p = np.array([np.nan if rows[place].p is None else rows[place].p for place in places], np.float64)
        adjusted = {f"p_{name}": adjust(p) for name, adjust in ADJUSTMENTS.items()}
        for number, place in enumerate(places):
            if rows[place].p is not None:
                own = {name: float(values[number]) for name, values in adjusted.items()}
                found[place] = replace(found[place], **own, p_adjusted=own["p_holm"], correction="holm")
    return found


def correct_shifted(cells: Sequence[ShiftedCell]) -> list[GridRow]:
    """P-values under shifts, corrected by the max-statistic; the cells of one metric are a family.

    Args:
        cells: with the same metrics, under the same shifts.
    """
    rows = [row for cell in cells for row in cell.rows]
    nulls = [null for cell in cells for null in cell.nulls]
    found = [_judge_shifted(row, null) for row, null in zip(rows, nulls, strict=True)]
    found = correct_grid(found)
    for metric in dict.fromkeys(row.metric for row in rows):
        places = [p for p, row in enumerate(rows) if row.metric == metric and nulls[p] is not None]
        if places:
            values = np.array([rows[place].value for place in places], np.float64)
            adjusted = adjust_max(values, np.array([nulls[place] for place in places], np.float64))
            for place, p in zip(places, adjusted.tolist(), strict=True):
                found[place] = replace(found[place], p_max=p, p_adjusted=p, correction="max")
    return found


def _judge_shifted(row: GridRow, null: list[float] | None) -> GridRow:
    if null is None or row.value is None:
        return row
    own = np.array(null)
    exceeding = int((own >= row.value - ROUNDING * max(1.0, abs(row.value))).sum())
    spread = float(own.std(ddof=1)) if len(own) > 1 else 0.0
    low, high = bound_p(exceeding, len(own))
    return replace(
        row,
        p=count_p(exceeding, len(own)),
        p_low=low,
        p_high=high,
        z=(row.value - float(own.mean())) / spread if spread > ROUNDING else None,
        null_mean=float(own.mean()),
        null_sd=spread,
        permutations=len(own),
    )


def list_widths(rows: Sequence[GridRow]) -> list[dict[str, Any]]:
    """How similarity goes with the number of features, where a side has SAEs of several sizes at one site.

    Args:
        rows: of a grid.

    Returns:
        one entry per such site, dictionary of the other model, metric and null: ``side``, ``site``,
        ``partner`` (the other model's dictionary), ``partner_site``, ``metric``, ``null`` and ``points``:
        each with ``sae``, ``features``, ``value``, ``p``, ``p_adjusted``, ``n``, ``null_mean``, ``z`` and
        ``warning``, from the narrowest on.
    """
    found = []
    for side, other in (("a", "b"), ("b", "a")):
        trajectories: dict[tuple[str, ...], list[GridRow]] = {}
        for row in rows:
            own = asdict(row)
            key = own[f"site_{side}"], own[f"sae_{other}"], own[f"site_{other}"], row.metric, row.null
            trajectories.setdefault(key, []).append(row)
        for (site, partner, partner_site, metric, null), members in trajectories.items():
            points = sorted((asdict(row) for row in members), key=lambda own: own[f"features_{side}"])
            if len({own[f"features_{side}"] for own in points}) < 2:
                continue
            found.append(
                {
                    "side": side,
                    "site": site,
                    "partner": partner,
                    "partner_site": partner_site,
                    "metric": metric,
                    "null": null,
                    "points": [
                        {
                            "sae": own[f"sae_{side}"],
                            "features": own[f"features_{side}"],
                            **{name: own[name] for name in _POINT},
                        }
                        for own in points
                    ],
                }
            )
    return found


_POINT = ("value", "p", "p_adjusted", "n", "null_mean", "z", "warning")
