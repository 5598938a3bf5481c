"""What a page is made of: parts, each with sentences, tables and figures, or with why it is missing.

A figure holds its data once. The page draws it in the browser (assets/plots.js), ``--figures`` draws it for
print (`xmodel.report.page.drawing`) and writes the same data as CSV.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Cell = str | int | float | bool | None
"""What a table may hold: a number is formatted by its column, None is shown as a dash."""


@dataclass(frozen=True)
class Missing:
    """Why a part of the page is not there."""

    reason: str
    """A sentence: what the run lacks."""
    command: str | None
    """The command that adds it, as it is typed; None where none can."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    kind: str = "text"
    """``text``, ``count`` (1,234), ``r`` (two or three digits after the point), ``p``, ``share`` (percent),
    ``value`` (three significant digits)."""
    note: str = ""
    """What the numbers are; shown under the table."""


@dataclass(frozen=True)
class Table:
    """A table that is part of the page itself: a few dozen rows at most."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """Each as long as `columns`."""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What every figure has."""

    name: str
    """File name without ending, and id in the page: lower-case letters, digits and hyphens."""
    title: str
    caption: str
    """What is seen, in a sentence or two with the numbers that matter; also the text for those who cannot
    see it."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A filter of the attrition ledger."""

    group: str
    """What is counted: ``documents``, ``words``, ``features a``, ``features b``."""
    label: str
    entered: int
    passed: int


@dataclass(frozen=True, kw_only=True)
class Flow(Figure):
    """How much came through one filter after another."""

    stages: tuple[Stage, ...]
    """In order; the stages of a group follow each other."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Values that are shown as a histogram, for instance the draws of a null."""

    label: str
    values: NDArray[np.float64]
    """[m]"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram(Figure):
    """Distributions on one axis, and where single values fall."""

    x_label: str
    draws: tuple[Draws, ...]
    marks: tuple[tuple[str, float], ...] = ()
    """Labels and values of the observed, drawn as lines."""
    bins: int = 40
    top: float | None = None
    """What no value can exceed, 1 for correlations: the axis ends there at the latest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """A line, or points."""

    label: str
    x: NDArray[np.float64]
    """[m]"""
    y: NDArray[np.float64]
    """[m] NaN leaves a gap."""
    low: NDArray[np.float64] | None = None
    """[m] lower end of an interval around `y`."""
    high: NDArray[np.float64] | None = None
    dashed: bool = False
    """For what is there to compare with: a null, damage."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines(Figure):
    """Curves over a common axis."""

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    """Whether the x axis is."""
    pick: bool = False
    """Whether series are too many to tell apart: the page then has a menu that brings one to the front."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heatmap(Figure):
    """A matrix in colours."""

    x_label: str
    y_label: str
    x: tuple[str, ...]
    y: tuple[str, ...]
    values: NDArray[np.float64]
    """[y, x] NaN where there is none."""
    value_label: str
    marked: NDArray[np.bool_] | None = None
    """[y, x] cells that bear a sign, for instance the significant ones."""
    marked_label: str = ""
    """What the sign says."""
    diverging: bool = False
    """Whether colours part at 0."""
    limit: float | None = None
    """Value at which the colours end (and, if they part at 0, its negative): figures that stand beside each
    other have the same. None takes the greatest of `values`."""
    hover: tuple[tuple[str, ...], ...] | None = None
    """[y][x] what is to be said of a cell besides its value."""
    links: tuple[tuple[str | None, ...], ...] | None = None
    """[y][x] the page's own addresses (``#a=1&b=2``) that a click on a cell goes to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scatter(Figure):
    """Points in the plane."""

    x_label: str
    y_label: str
    x: NDArray[np.float64]
    """[m]"""
    y: NDArray[np.float64]
    """[m]"""
    hover: tuple[str, ...] = ()
    """[m] or none: what a point is."""
    color: NDArray[np.float64] | None = None
    """[m] in a continuous scale; NaN is grey."""
    color_label: str = ""
    groups: tuple[str, ...] = ()
    """[m] or none: names of categories, coloured each its own way."""
    group_order: tuple[str, ...] = ()
    """The groups in the order of their colours, those without a point here as well, so that figures that
    stand beside each other agree; points of any other group are small and grey, behind. Empty takes the
    groups as they come."""
    links: tuple[str, ...] = ()
    """[m] or none: see `Heatmap.links`."""
    diagonal: bool = False
    """Whether the line x = y is drawn."""
    bare: bool = False
    """Whether the axes have no numbers, because coordinates mean nothing by themselves."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the page: one entry of its menu."""

    name: str
    """Its address after ``#``."""
    title: str
    missing: Missing | None = None
    """If given, the part has nothing else."""
    sentences: tuple[str, ...] = ()
    """Paragraphs of plain text, first the finding."""
    figures: Sequence[Figure] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)
    notes: tuple[str, ...] = ()
    """Smaller paragraphs under all else: definitions, caveats."""
