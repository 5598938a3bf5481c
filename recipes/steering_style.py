"""How the pictures of steering look: colours for every kind of colour vision, and text that stays text."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

WIDTH = 720
"""Pixels of a browser."""
INK, GREY, PALE = "#222222", "#6b6b6b", "#c9c9c9"
MODEL_A, MODEL_B = "#0072b2", "#c44e00"
PARTNERS, DAMAGE = "#1b7837", "#7b3294"
HEAT = "PRGn"
"""From purple, below zero, over white to green: told apart with any kind of colour vision."""
SHADES = 33

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xmodel",
    # Other sans-serif faces, which stand in where this one is not installed, are narrower: nothing overflows.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    # A page may be dark: the picture brings its own paper.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def make_figure(height: int) -> Figure:
    """A figure of `WIDTH` by `height` pixels."""
    return Figure(figsize=(WIDTH / 96, height / 96))


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in pixels, counted from the upper left corner."""
    total_width, total_height = (inches * 96 for inches in figure.get_size_inches())
    bottom = total_height - top - height
    return figure.add_axes(
        (left / total_width, bottom / total_height, width / total_width, height / total_height)
    )


def place_canvas(figure: Figure) -> Axes:
    """Axes over the whole figure, without ticks, whose units are pixels from the upper left corner."""
    width, height = (inches * 96 for inches in figure.get_size_inches())
    canvas = place_axes(figure, 0, 0, width, height)
    canvas.set(xlim=(0, width), ylim=(height, 0))
    canvas.axis("off")
    return canvas


def write_heading(canvas: Axes, title: str, *lines: str) -> None:
    """A title in the upper left corner, and what is to be seen under it."""
    canvas.text(16, 14, title, fontsize=12, fontweight="bold", va="top")
    for number, line in enumerate(lines):
        canvas.text(16, 38 + 17 * number, line, color=GREY, va="top")


def write_lines(axes: Axes, x: float, y: float, text: str, step: float, **options: Any) -> None:
    """Lines of text about the height y, `step` apart, each aligned by itself.

    matplotlib aligns the lines of one text by the widths that they have in its own font.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        height = y + step * (number - (len(lines) - 1) / 2)
        axes.text(x, height, line, va="center", **options)


def show_matrix(axes: Axes, values: NDArray[np.floating], colours: str, low: float, high: float) -> None:
    """A matrix as squares of colour, also where a browser smooths what it makes larger."""
    times = max(1, 400 // max(values.shape))
    squares = np.kron(values, np.ones((times, times)))
    # Of few shades an image takes few bytes; of an odd number, the one in the middle is that of 0.
    axes.imshow(
        squares,
        cmap=colormaps[colours].resampled(SHADES),
        vmin=low,
        vmax=high,
        interpolation="none",
        aspect="auto",
    )


def frame(axes: Axes, colour: str, width: float = 1.4) -> None:
    """All four sides of a matrix in one colour, no ticks."""
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, color=colour, linewidth=width)
