"""Figures for print of curves, matrices and points."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodel.report.page.drawing_bars import COLUMN, GREY, PAGE, SERIES
from xmodel.report.page.records import Heatmap, Lines, Scatter
from xmodel.report.page.spans import choose_span, starts_at_zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_MANY_CURVES = 8
_MANY_POINTS = 2_000
_MARKERS = "oDs^vPX*"
_MOST_TICKS = 12
_SHORT = 1.4
# Inches; the label of a shorter colour bar stands above the matrix.
_LEGEND_MARKER = 5.0
_NO_GROUP = "#8d96a0"
# As on the page, see assets/maps_color.js.
_SIGN = "*"


def draw_lines(figure: Lines) -> "Canvas":
    """Draw curves with their intervals; where they are too many to tell apart, all thin, without a legend."""
    from matplotlib.figure import Figure as Canvas

    many = figure.pick or len(figure.series) > _MANY_CURVES
    canvas = Canvas(figsize=(COLUMN, 2.4))
    axes = canvas.add_subplot()
    for number, one in enumerate(figure.series):
        color = GREY if many else SERIES[number % len(SERIES)]
        if one.low is not None and one.high is not None and not many:
            axes.fill_between(one.x, one.low, one.high, color=color, alpha=0.2, linewidth=0)
        marker = _MARKERS[number % len(_MARKERS)] if not many and len(one.x) <= 40 else ""
        axes.plot(
            one.x,
            one.y,
            color=color,
            label=one.label,
            linestyle="--" if one.dashed else "-",
            linewidth=0.5 if many else 1.2,
            alpha=0.6 if many else 1.0,
            marker=marker,
            markerfacecolor="white" if one.dashed else color,
        )
    if figure.logarithmic:
        _scale_logarithmic(axes, figure)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(textwrap.fill(figure.y_label, 38))
    axes.grid(color="#E5E5E5", linewidth=0.5)
    if starts_at_zero(figure):
        axes.set_ylim(bottom=0, top=1.06 * (axes.dataLim.ymax or 1.0))
    if not many and figure.series:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if len(figure.series) < 4 else 2)
    return canvas


def _scale_logarithmic(axes: "Axes", figure: Lines) -> None:
    """Ticks where something was measured, if these are few."""
    axes.set_xscale("log")
    places = np.unique(np.concatenate([one.x for one in figure.series] or [np.zeros(0)]))
    places = places[places > 0]
    if 0 < len(places) <= 12:
        axes.set_xticks(places.tolist(), [f"{place:.3g}" for place in places])
        axes.set_xticks([], minor=True)


def draw_heatmap(figure: Heatmap) -> "Canvas":
    """Draw a matrix in colours, its first row at the top; values stand in the cells where there is room."""
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure as Canvas

    rows, columns = len(figure.y), len(figure.x)
    width = COLUMN if columns <= 12 else PAGE
    side = min(0.42, 0.72 * width / max(columns, 1))
    canvas = Canvas(figsize=(width, max(0.9, min(side * rows, 1.1 * width) + 0.5)))
    axes = canvas.add_subplot()
    scale = Normalize(*choose_span(figure))
    colors = "RdBu_r" if figure.diverging else "viridis"
    values = np.ma.masked_invalid(figure.values)
    image = axes.imshow(values, cmap=colors, norm=scale, aspect="auto", interpolation="nearest")
    room = 0.72 * width / max(columns, 1)
    for y, x in np.ndindex(rows, columns):
        value = float(figure.values[y, x])
        sign = _SIGN if figure.marked is not None and figure.marked[y, x] else ""
        told = f"{value:.2f}{sign}" if room >= 0.3 and np.isfinite(value) else sign
        if told:
            share = float(scale(value)) if np.isfinite(value) else 1.0
            dark = abs(share - 0.5) > 0.35 if figure.diverging else share < 0.6
            size = 6.0 if room >= 0.3 else 5.0
            axes.text(x, y, told, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    _label_ticks(axes, figure, room)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    label = (
        f"{figure.value_label}\n{_SIGN} {figure.marked_label}" if figure.marked_label else figure.value_label
    )
    from matplotlib.ticker import MaxNLocator

    height = canvas.get_figheight() * 0.77
    bar = canvas.colorbar(
        image, ax=axes, pad=0.03, fraction=0.05, ticks=MaxNLocator(max(2, int(height / 0.22)))
    )
    if height < _SHORT:
        axes.set_title(label, loc="left", fontsize=6.5)
    else:
        bar.set_label(label)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return canvas


def _label_ticks(axes: "Axes", figure: Heatmap, room: float) -> None:
    """Every label, or every second, third, ... where there is no room for all."""
    step = max(1, int(np.ceil(0.11 / room)), -(-len(figure.x) // _MOST_TICKS))
    across = np.arange(0, len(figure.x), step)
    tilted = max((len(one) for one in figure.x), default=0) * 0.055 > room * step
    axes.set_xticks(across, [_cut(figure.x[at]) for at in across], rotation=60 if tilted else 0)
    if tilted:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    height = axes.get_window_extent().height / axes.get_figure().dpi  # type: ignore[union-attr]
    close = int(np.ceil(0.11 * len(figure.y) / height))
    down = np.arange(0, len(figure.y), max(1, close, -(-len(figure.y) // _MOST_TICKS)))
    axes.set_yticks(down, [_cut(figure.y[at]) for at in down])


def _cut(label: str) -> str:
    return label if len(label) <= 32 else f"{label[:31]}…"


def draw_scatter(figure: Scatter) -> "Canvas":
    """Draw points; thousands of them are an image within the SVG and PDF, which stay small."""
    from matplotlib.figure import Figure as Canvas

    many = len(figure.x) > _MANY_POINTS
    canvas = Canvas(figsize=(COLUMN, 2.7))
    axes = canvas.add_subplot()
    style = {"s": 3 if many else 9, "alpha": 0.4 if many else 0.7, "linewidths": 0, "rasterized": many}
    if figure.groups:
        _draw_groups(axes, figure, style)
    elif figure.color is not None:
        known = np.isfinite(figure.color)
        axes.scatter(figure.x[~known], figure.y[~known], color="#BBBBBB", **style)
        points = axes.scatter(
            figure.x[known], figure.y[known], c=figure.color[known], cmap="viridis", **style
        )
        bar = canvas.colorbar(points, ax=axes, pad=0.03)
        bar.set_label(figure.color_label)
        bar.solids.set_alpha(1)  # type: ignore[union-attr]
        bar.outline.set_visible(False)  # type: ignore[operator]
    else:
        axes.scatter(figure.x, figure.y, color=SERIES[0], **style)
    if figure.diagonal:
        axes.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    if figure.bare:
        axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axes.spines[["left", "bottom"]].set_color("#CCCCCC")
    else:
        axes.grid(color="#E5E5E5", linewidth=0.5)
    return canvas


def _draw_groups(axes: "Axes", figure: Scatter, style: dict[str, Any]) -> None:
    """Groups in their colours and shapes, the background behind them; markers of the legend are large."""
    of = np.array(figure.groups, dtype=object)
    order = figure.group_order or tuple(dict.fromkeys(figure.groups))
    rest = [name for name in dict.fromkeys(figure.groups) if name not in order]
    larger = {**style, "s": 1.6 * style["s"], "alpha": 0.9} if rest else style
    handles = []
    for name in rest:
        own = np.flatnonzero(of == name)
        behind = {**style, "s": 0.5 * style["s"], "alpha": 0.45}
        handles.append(
            axes.scatter(figure.x[own], figure.y[own], color=_NO_GROUP, marker="o", label=name, **behind)
        )
    for number, name in enumerate(order):
        own = np.flatnonzero(of == name)
        marker = _MARKERS[number // len(SERIES) % len(_MARKERS)]
        color = SERIES[number % len(SERIES)]
        points = axes.scatter(figure.x[own], figure.y[own], color=color, marker=marker, label=name, **larger)
        if len(own):
            handles.append(points)
    # The background is named last.
    legend = axes.legend(
        handles=handles[len(rest) :] + handles[: len(rest)],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        columnspacing=1,
        handletextpad=0.2,
    )
    for handle in legend.legend_handles:
        handle.set(sizes=[_LEGEND_MARKER**2], alpha=1)  # type: ignore[union-attr]
