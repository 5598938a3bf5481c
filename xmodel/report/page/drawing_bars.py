"""The ledger of filters for print, and what all figures for print have in common."""

import textwrap
from typing import TYPE_CHECKING

from xmodel.report.page.records import Flow, Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

COLUMN, PAGE = 3.4, 7.0
"""Widths of a column and of a page, in inches."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#a8558a", "#8a6d00", "#2b8cbe", "#555555", "#b2182b")
"""Colours of categories, those of the page in its light theme (assets/plots.js), so that a paper's figure
and the page agree: after Okabe and Ito (2008), darkened where they would be faint on white."""
GREY = "#777777"
_TONES = {"features a": SERIES[0], "features b": SERIES[1]}


def draw_flow(figure: Flow) -> "Canvas":
    """Draw how much came through one filter after another, each as a share of what its group began with."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(PAGE, 0.55 + 0.26 * len(figure.stages)))
    canvas.subplots_adjust(left=0.33, right=0.83)
    axes = canvas.add_subplot()
    first: dict[str, int] = {}
    place, ticks = 0.0, []
    for number, stage in enumerate(figure.stages):
        if number and stage.group != figure.stages[number - 1].group:
            place += 0.5
        whole = max(first.setdefault(stage.group, stage.entered), 1)
        tone = _TONES.get(stage.group, GREY)
        axes.barh(place, stage.passed / whole, 0.55, color=tone, linewidth=0)
        axes.barh(
            place,
            (stage.entered - stage.passed) / whole,
            0.55,
            left=stage.passed / whole,
            facecolor="none",
            edgecolor=tone,
            hatch="//////",
            linewidth=0.4,
        )
        axes.text(1.01, place, _tell_stage(stage), va="center", fontsize=6.5)
        ticks.append(place)
        place += 1
    labels = [textwrap.fill(f"{one.group}: {one.label}", 44) for one in figure.stages]
    axes.set_yticks(ticks, labels)
    axes.set_xlim(0, 1)
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("share of what there was at first (hatched: left out)")
    return canvas


def _tell_stage(stage: Stage) -> str:
    if stage.passed == stage.entered:
        return f"all {stage.passed:,}"
    return f"{stage.passed:,} of {stage.entered:,}"
