"""The picture of what steering transfer is: a diagram over matrices of real words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray
from steering_material import Example, Material
from steering_style import (
    DAMAGE,
    GREY,
    HEAT,
    INK,
    MODEL_A,
    MODEL_B,
    PALE,
    PARTNERS,
    frame,
    make_figure,
    place_axes,
    place_canvas,
    show_matrix,
    write_heading,
    write_lines,
)

from xmodel.steering.responses import unpack_gram

TOPS = (130, 254)
"""Pixels from the top at which the rows of A and B begin."""
HIGH = 84
"""Pixels of a row, and of a small matrix."""
HEAD: dict[str, Any] = {"fontweight": "bold", "va": "center"}
SMALL: dict[str, Any] = {"fontsize": 8, "color": GREY}


def draw_idea(material: Material) -> Figure:
    """From the words of a text to T, for the example of the material."""
    own = material.example
    figure = make_figure(672)
    canvas = place_canvas(figure)
    write_heading(
        canvas,
        "Steering transfer: push both models, compare what changes",
        "The same words go through both models. A is pushed along a feature, B along that feature's partner.",
    )
    _head_columns(canvas)
    _draw_words(canvas, own.words)
    for top, colour, name, push in zip(TOPS, (MODEL_A, MODEL_B), "AB", "fg", strict=True):
        _draw_model(canvas, top + HIGH / 2, colour, name, push, first=name == "A")
    canvas.text(
        593,
        TOPS[1] + HIGH + 14,
        "Gram matrices: dark, two words are alike",
        ha="center",
        va="center",
        **SMALL,
    )
    for top, colour, push, grams in zip(TOPS, (MODEL_A, MODEL_B), "fg", own.grams, strict=True):
        _draw_grams(figure, canvas, top, colour, push, grams)
    _draw_changes(figure, canvas, own)
    return figure


def _head_columns(canvas: Axes) -> None:
    heads = {16: "1. words", 116: "2. push, and read further on", 490: "3. how alike are any two words?"}
    for left, text in heads.items():
        canvas.text(left, 84, text, **HEAD)


def _draw_words(canvas: Axes, words: Sequence[str]) -> None:
    shown = _break_lines([*words[:9], "…"], 11)
    middle = (TOPS[0] + TOPS[1] + HIGH) / 2
    canvas.text(16, middle, "\n".join(shown), style="italic", va="center", linespacing=1.5)
    for top in TOPS:
        _draw_arrow(canvas, (88, middle + np.sign(top - TOPS[0] - 1) * 20), (114, top + HIGH / 2))


def _draw_model(canvas: Axes, y: float, colour: str, name: str, push: str, *, first: bool) -> None:
    _draw_box(canvas, 116, y, 84, f"model {name}\nfirst layers", colour)
    _draw_box(canvas, 282, y, 84, f"model {name}\nlater layers", colour)
    for x, sign in ((240, "+"), (412, "–")):
        canvas.add_patch(Circle((x, y), 10, facecolor="white", edgecolor=colour, linewidth=1.4))
        canvas.text(
            x, y, sign, ha="center", va="center_baseline", fontsize=11, fontweight="bold", color=colour
        )
    for left, right in ((200, 229), (251, 281), (366, 401), (423, 488)):
        _draw_arrow(canvas, (left, y), (right, y), colour)
    _draw_arrow(canvas, (240, y + 34), (240, y + 11), colour)
    canvas.text(240, y + 37, f"+{push}, then –{push}", ha="center", va="top", color=colour, fontweight="bold")
    write_lines(canvas, 455, y - 18, "words'\nstates", 13, ha="center", **SMALL)
    # The copy runs above the later layers, as the skip connections do.
    canvas.plot(
        [240, 240, 412], [y - 10, y - 34, y - 34], color=GREY, linewidth=1, linestyle=(0, (3, 2)), zorder=1
    )
    _draw_arrow(canvas, (412, y - 34), (412, y - 11), GREY, dashed=True)
    if first:
        write_lines(canvas, 326, y - 52, "the push's own copy\n(skip connection)", 13, ha="center", **SMALL)
        write_lines(canvas, 412, y + 28, "is taken\naway again", 13, ha="center", **SMALL)


def _draw_grams(
    figure: Figure, canvas: Axes, top: float, colour: str, push: str, grams: NDArray[np.float64]
) -> None:
    off = ~np.eye(grams.shape[1], dtype=np.bool_)
    low, high = grams[:, off].min(), grams[:, off].max()
    for left, sign, gram in zip((490, 612), "+–", grams, strict=True):
        axes = place_axes(figure, left, top, HIGH, HIGH)
        show_matrix(axes, np.where(off, gram, np.nan), "Greys", low, high)
        frame(axes, colour)
        canvas.text(left + HIGH / 2, top - 5, f"pushed {sign}{push}", ha="center", color=colour, fontsize=8.5)
    canvas.text(593, top + HIGH / 2, "–", ha="center", va="center_baseline", fontsize=14, color=colour)


def _draw_changes(figure: Figure, canvas: Axes, own: Example) -> None:
    count, top, size = len(own.words), 438, 196
    changes = unpack_gram(own.odd, count)
    changes /= np.sqrt((changes**2).mean(axis=(1, 2), keepdims=True))
    limit = float(np.quantile(np.abs(changes), 0.99))
    canvas.text(16, top - 58, "4. what the push changed: half of the difference", **HEAD)
    canvas.text(
        16, top - 38, "Damage that both pushes do drops out; so do means of rows and columns.", **SMALL
    )
    canvas.text(554, top - 58, "5. the same change?", **HEAD)
    both = zip((92, 306), (MODEL_A, MODEL_B), "AB", "fg", own.features, changes, strict=True)
    for left, colour, name, push, feature, change in both:
        axes = place_axes(figure, left, top, size, size)
        show_matrix(axes, change, HEAT, -limit, limit)
        frame(axes, colour)
        text = f"model {name}, {push} = feature {feature:,}"
        canvas.text(left, top - 7, text, color=colour, fontweight="bold", fontsize=8.5)
    for place, word in enumerate(own.words):
        y = top + size * (place + 0.5) / count
        canvas.text(87, y, word, ha="right", va="center_baseline", fontsize=7)
    below = top + size + 17
    canvas.text(92, below, "After the push two words are", va="center", **SMALL)
    canvas.text(344, below, "less alike", ha="right", va="center", **{**SMALL, "color": DAMAGE})
    show_matrix(place_axes(figure, 350, below - 5, 90, 10), np.linspace(-1, 1, 90)[None], HEAT, -1, 1)
    frame(figure.axes[-1], PALE, 0.8)
    canvas.text(446, below, "more alike", va="center", **{**SMALL, "color": PARTNERS})
    _draw_scatter(figure, canvas, own, top)


def _draw_scatter(figure: Figure, canvas: Axes, own: Example, top: float) -> None:
    x, y = own.odd / np.sqrt((own.odd**2).mean(axis=1, keepdims=True))
    axes = place_axes(figure, 554, top, 150, 150)
    limit = float(np.abs([x, y]).max()) * 1.05
    axes.axhline(0, color=PALE, linewidth=0.8)
    axes.axvline(0, color=PALE, linewidth=0.8)
    axes.plot([-limit, limit], np.array([-limit, limit]) * own.transfer, color=INK, linewidth=1)
    axes.plot(x, y, "o", markersize=2.2, color=GREY, markeredgewidth=0)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    frame(axes, PALE, 0.8)
    axes.set_xlabel("change in A", color=MODEL_A, labelpad=3)
    axes.set_ylabel("change in B", color=MODEL_B, labelpad=3)
    canvas.text(554, top - 30, f"T = {own.transfer:.2f}", fontsize=12, fontweight="bold", va="center")
    canvas.text(554, top - 8, "each dot is two words", **SMALL)
    canvas.text(
        554,
        top + 176,
        f"The words were picked\nto show it: over all of\nthe run's T is {own.whole:.2f}.",
        va="top",
        **SMALL,
    )


def _draw_box(canvas: Axes, left: float, y: float, width: float, text: str, colour: str) -> None:
    style = "round,pad=0,rounding_size=6"
    canvas.add_patch(
        FancyBboxPatch((left, y - 20), width, 40, boxstyle=style, facecolor="white", edgecolor=colour, lw=1.4)
    )
    write_lines(canvas, left + width / 2, y, text, 14, ha="center", fontsize=8.5, color=colour)


def _draw_arrow(
    canvas: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = GREY,
    *,
    dashed: bool = False,
) -> None:
    options: dict[str, Any] = {"linestyle": (0, (3, 2))} if dashed else {}
    canvas.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=8,
            shrinkA=0,
            shrinkB=0,
            color=colour,
            lw=1.2,
            **options,
        )
    )


def _break_lines(words: Sequence[str], most: int) -> list[str]:
    """Words in lines of at most so many letters, or one word."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
