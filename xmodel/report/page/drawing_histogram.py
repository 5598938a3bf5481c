"""Histograms for print, with lines where single values fall."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.report.page.drawing_bars import COLUMN, GREY, SERIES
from xmodel.report.page.records import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_POINTS = 72
_LETTER = 0.56
# Mean width of a letter of DejaVu Sans, in font sizes.
_WIDTH = COLUMN * 0.775 * _POINTS
_LEAST_SHARE = 1 / 3
# Share of the axis that the draws have, unless the first mark itself is too far away.
_THINNEST = 1.2
# Points that a bar is wide at least.
_ROW = 0.085


@dataclass(frozen=True)
class _Label:
    """A mark with its label, where it is drawn."""

    text: str
    value: float
    place: float
    """Of the line, in points from the left end of the axis."""
    start: float
    """Of the label."""
    stop: float
    main: bool

    @property
    def left(self) -> bool:
        """Whether the label is left of its line."""
        return self.start < self.place


def draw_histogram(figure: Histogram) -> "Canvas":
    """Draw distributions, and lines where single values fall, the first of these strongest.

    Marks other than the first that are so far away that the draws would be a needle stand at the edge, with
    an arrow.
    """
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(COLUMN, 2.0))
    axes = canvas.add_subplot()
    drawn = [one.values[np.isfinite(one.values)] for one in figure.draws]
    pooled = np.concatenate([*drawn, np.zeros(0)])
    marks = [(label, value) for label, value in figure.marks if np.isfinite(value)]
    first, last = choose_limits(pooled, [value for _, value in marks], figure.top)
    edges = _choose_edges(pooled, figure.bins, last - first)
    several = len(drawn) > 1
    for number, (one, values) in enumerate(zip(figure.draws, drawn, strict=True)):
        color = SERIES[number % len(SERIES)] if several else "#9AA5B1"
        alpha = 0.55 if several else 1.0
        axes.hist(values, edges.tolist(), color=color, alpha=alpha, label=one.label, linewidth=0)
    axes.set_xlim(first, last)
    rows = _draw_marks(axes, marks, (first, last), "black" if several else SERIES[1]) if marks else 0
    axes.set_xlabel(figure.x_label)
    if several:
        axes.set_ylabel("count")
        top = 1.0 + _ROW * rows
        axes.legend(loc="lower left", bbox_to_anchor=(0, top), ncols=1, borderaxespad=0.2)
    elif figure.draws:
        axes.set_ylabel(textwrap.fill(figure.draws[0].label, 34))
    return canvas


def choose_limits(
    pooled: NDArray[np.float64], marks: list[float], top: float | None = None
) -> tuple[float, float]:
    """The ends of the axis.

    Args:
        pooled: [m] all that is drawn as bars, finite.
        marks: values that are drawn as lines, the one that matters first.
        top: what no value can exceed; None if there is nothing like that.

    Returns:
        Ends between which all of `pooled` and the first mark lie, and the other marks too, unless one would
        leave less than a third of the axis to `pooled`.
    """
    ends = [*([pooled.min(), pooled.max()] if len(pooled) else []), *marks[:1]]
    low, high = (float(min(ends)), float(max(ends))) if ends else (0.0, 1.0)
    spread = float(np.ptp(pooled)) if len(pooled) else 0.0
    for value in sorted(marks[1:], key=lambda one: max(low - one, one - high)):
        wider = min(low, value), max(high, value)
        if spread == 0 or spread >= _LEAST_SHARE * (wider[1] - wider[0]):
            low, high = wider
    room = 0.04 * ((high - low) or abs(high) or 1.0)
    last = high + room if top is None else max(high, min(high + room, top))
    return low - room, last


def _choose_edges(pooled: NDArray[np.float64], most: int, reach: float) -> NDArray[np.float64]:
    if not len(pooled):
        return np.array([0.0, 1.0])
    fitting = int(float(np.ptp(pooled)) / reach * _WIDTH / _THINNEST)
    return np.histogram_bin_edges(pooled, max(4, min(most, fitting)))


def _draw_marks(axes: "Axes", marks: list[tuple[str, float]], limits: tuple[float, float], main: str) -> int:
    """Draw lines with labels; returns the rows of labels."""
    labels = _place_labels(marks, limits)
    rows = _stack(labels)
    across = axes.get_xaxis_transform()
    for label, row in zip(labels, rows, strict=True):
        at = min(max(label.value, limits[0]), limits[1])
        if at == label.value:
            axes.plot(
                [at, at],
                [0, 1 + _ROW * (row + 0.9)],
                color=main if label.main else GREY,
                transform=across,
                clip_on=False,
                linewidth=1.4 if label.main else 0.8,
                linestyle="-" if label.main else (0, (2, 1.5)),
            )
        axes.annotate(
            label.text,
            (at, 1 + _ROW * row),
            xycoords=across,
            xytext=(-2 if label.left else 2, 1),
            textcoords="offset points",
            ha="right" if label.left else "left",
            fontsize=6.5,
            fontweight="bold" if label.main else "normal",
            color="black" if label.main else "#444444",
            annotation_clip=False,
        )
    return max(rows) + 1


def _place_labels(marks: list[tuple[str, float]], limits: tuple[float, float]) -> list[_Label]:
    """Labels right of their lines, or left where there is no room; those furthest right first."""
    first, last = limits
    found: list[_Label] = []
    for number in sorted(range(len(marks)), key=lambda number: -marks[number][1]):
        name, value = marks[number]
        text = _name_mark(name, value)
        text = f"{text} \u2192" if value > last else f"\u2190 {text}" if value < first else text
        size = 6.5 * _LETTER * len(text) + 6
        place = (min(max(value, first), last) - first) / (last - first) * _WIDTH
        # A label that reached into one that is left of its line could be stacked in no way.
        reached = any(one.left and one.place <= place + size for one in found)
        if (reached or place + size > _WIDTH) and place >= size:
            found.append(_Label(text, value, place, place - size, place, number == 0))
        else:
            found.append(_Label(text, value, place, place, place + size, number == 0))
    return found


def _stack(labels: list[_Label]) -> list[int]:
    """A row for every label: above all lines and labels that it would touch."""
    rows: dict[int, int] = {}
    own = range(len(labels))
    order = [at for at in own if not labels[at].left] + [at for at in reversed(own) if labels[at].left]
    for at in order:
        label = labels[at]
        touched = [
            row
            for other, row in rows.items()
            if labels[other].start < label.stop and label.start < labels[other].stop
        ]
        rows[at] = max(touched, default=-1) + 1
    return [rows[at] for at in own]


def _name_mark(label: str, value: float) -> str:
    return f"{label} {value:.3f}".replace("-", "\u2212") if value < 0 else f"{label} {value:.3f}"
