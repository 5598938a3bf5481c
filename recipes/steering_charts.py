"""The charts of steering: the push's own copy, all pairs with all, nulls, and doses."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from steering_material import Material
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

MOST_DOTS = 150
"""Above so many, a distribution is drawn as a histogram."""
NEAR = 15
"""How many pairs to either side of the diagonal are averaged over in the picture of all pairs."""


def draw_copy(material: Material) -> Figure:
    """Partners found with and without the push's copy, and what raw changes of random directions share."""
    own = material.copy
    figure = make_figure(352)
    canvas = place_canvas(figure)
    write_heading(
        canvas,
        "Two things that look like transfer and are not",
        "Left: the push itself, carried past the later layers.  Right: damage, which any large push does.",
    )
    count = len(material.matrices["odd"][0])
    axes = place_axes(figure, 168, 104, 130, 190)
    axes.set_title(f"Partners ranked first, of {count}", x=-152 / 130, pad=12)
    rows = {
        ("none", True): "no later layers,\ncopy kept",
        ("none", False): "no later layers,\ncopy taken away",
        ("trained", True): "the models' layers,\ncopy kept",
        ("trained", False): "the models' layers,\ncopy taken away",
    }
    far = max(own.top1.values())
    for place, (name, label) in enumerate(rows.items()):
        y = place + (0.4 if place > 1 else 0)
        axes.barh(y, own.top1[name], height=0.62, color=PARTNERS if name == ("trained", False) else PALE)
        write_lines(axes, -0.05, y, label, 0.38, ha="right", transform=axes.get_yaxis_transform())
        axes.text(
            own.top1[name] + 0.03 * far, y - 0.17, f"{own.top1[name]:.0%}", va="center", fontweight="bold"
        )
        mean = f"mean T {own.mean[name]:.3f}".replace("-", "–") if own.mean[name] else "all T exactly 0"
        axes.text(own.top1[name] + 0.03 * far, y + 0.17, mean, va="center", fontsize=8, color=GREY)
    axes.axvline(1 / count, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.text(1 / count + 0.03 * far, 4.15, f"chance {1 / count:.0%}", fontsize=8, color=GREY, va="center")
    axes.set(ylim=(4.4, -0.5), xlim=(0, far * 1.1), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines["left"].set_visible(False)
    _draw_random(figure, own.doses, own.random)
    return figure


def _draw_random(figure: Figure, doses: NDArray[np.float64], random: dict[str, NDArray[np.float64]]) -> None:
    axes = place_axes(figure, 440, 104, 180, 190)
    shape = random["odd"].shape
    axes.set_title(f"Mean T of {shape[1]} × {shape[2]} random directions", x=-50 / 180, pad=12)
    texts = {"raw": ("raw change", DAMAGE), "odd": ("odd part", PARTNERS)}
    axes.axhline(0, color=PALE, linewidth=0.8)
    for name, (text, colour) in texts.items():
        means = random[name].mean(axis=(1, 2))
        axes.plot(doses, means, "o-", color=colour, linewidth=1.8, markersize=4)
        axes.text(doses[-1] * 1.1, means[-1], text, color=colour, va="center", fontweight="bold")
    _scale_doses(axes, doses)
    axes.set_ylim(min(0, axes.get_ylim()[0]), None)


def draw_pairs(material: Material) -> Figure:
    """S of the pairs, as trained and with random layers after the site, and means along its diagonals."""
    primary = material.settings.primary
    matrices = [material.matrices["odd"][primary], material.matrices["reinitialised"][0, primary]]
    limit = float(np.quantile(np.abs(np.stack(matrices)), 0.995))
    count = len(matrices[0])
    figure = make_figure(560)
    canvas = place_canvas(figure)
    write_heading(
        canvas,
        f"Transfer between all {count} pairs",
        "A row is a push of A, a column a push of B; partners meet on the diagonal (mean: green bar).",
        f"{describe_cell(material)}.",
    )
    reach = min(NEAR, count - 1)
    offsets = np.arange(-reach, reach + 1)
    means = [np.array([np.diagonal(one, k).mean() for k in offsets]) for one in matrices]
    low, high = min(0.0, *(one.min() for one in means)), max(one.max() for one in means)
    titles = ("As trained", "Layers after the site re-initialised")
    for left, title, s, mean in zip((66, 378), titles, matrices, means, strict=True):
        axes = place_axes(figure, left, 112, 276, 276)
        show_matrix(axes, s, HEAT, -limit, limit)
        frame(axes, GREY, 0.8)
        axes.set_title(title, pad=6)
        axes.set_xlabel("feature pushed in B", labelpad=4)
        if title == titles[0]:
            axes.set_ylabel("feature pushed in A", labelpad=4)
        axes = place_axes(figure, left, 432, 276, 76)
        axes.bar(offsets, mean, width=0.72, color=[PARTNERS if k == 0 else PALE for k in offsets])
        axes.axhline(0, color=GREY, linewidth=0.8)
        span = high - low
        axes.set(ylim=(low - 0.05 * span, high + 0.3 * span), xlim=(-reach - 0.7, reach + 0.7))
        axes.text(
            0, max(mean[reach], 0) + 0.05 * span, f"partners {mean[reach]:.3f}", ha="center", color=PARTNERS
        )
        axes.set_xlabel("columns right of the diagonal", labelpad=3)
        if title == titles[0]:
            axes.set_ylabel("mean T", labelpad=4)
        else:
            axes.set_yticklabels([])
    bar = place_axes(figure, 666, 112, 12, 276)
    show_matrix(bar, np.linspace(1, -1, 200)[:, None], HEAT, -1, 1)
    frame(bar, PALE, 0.8)
    for y, text in ((112, f"{limit:.2f}"), (250, "0"), (388, f"–{limit:.2f}")):
        canvas.text(683, y, text, va="center", fontsize=7.5, color=GREY)
    canvas.text(672, 100, "T", ha="center", va="center", color=GREY)
    return figure


def describe_cell(material: Material) -> str:
    """The primary cell in words."""
    cell = material.cell
    return f"Dose {cell['dose']:g}, read {cell['depth']:g} of the way from the site to the last layer"


def draw_nulls(material: Material) -> Figure:
    """Distributions of T of partners and of everything that they are compared with."""
    groups, row = _list_groups(material), 58
    figure = make_figure(132 + row * len(groups))
    canvas = place_canvas(figure)
    write_heading(canvas, "Transfer of pairs, and of what is not a pair", f"{describe_cell(material)}.")
    axes = place_axes(figure, 202, 70, 410, row * len(groups))
    # A few draws from wide nulls would leave no room for the rest.
    low = min(float(np.quantile(values, 0.001)) for _, _, values, _ in groups)
    high = max(float(np.quantile(values, 0.999)) for _, _, values, _ in groups)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    edges = np.linspace(low, high, 61)
    rng = np.random.default_rng(0)
    axes.axvline(0, color=PALE, linewidth=0.8)
    axes.axvline(groups[0][2].mean(), color=PARTNERS, linewidth=0.8, linestyle=(0, (3, 2)))
    for place, (name, text, values, colour) in enumerate(groups):
        base = place + 0.9
        if len(values) > MOST_DOTS:
            _draw_density(axes, values, edges, base, colour)
        else:
            heights = base - 0.12 - 0.5 * rng.random(len(values))
            axes.plot(values, heights, "o", markersize=3, color=colour, alpha=0.6, markeredgewidth=0)
        axes.plot([values.mean()] * 2, [base - 0.72, base], color=INK, linewidth=2)
        _write_beside(axes, -0.02, base, name, text, INK if colour == GREY else colour)
        # Adding 0 makes 0 of what is rounded to -0.
        mean = f"mean {round(float(values.mean()), 3) + 0:.3f}".replace("-", "–")
        _write_beside(axes, 1.02, base, mean, f"of {len(values):,}", INK)
    axes.set(ylim=(len(groups), 0), xlim=(low, high), yticks=[])
    axes.set_xlabel("T (thick lines: means; dashed: that of the pairs)")
    axes.spines["left"].set_visible(False)
    return figure


def _list_groups(material: Material) -> list[tuple[str, str, NDArray[Any], str]]:
    """Name, what it is, T, and colour of everything that has been measured, pairs first."""
    primary, arrays = material.settings.primary, material.matrices
    s = arrays["odd"][primary]
    layers = np.einsum("rff->rf", arrays["reinitialised"][:, primary])
    groups = [
        ("pairs", "A's feature with its partner", np.diag(s), PARTNERS),
        ("next best", "with the second-best match", material.next_best, GREY),
        ("hard pairs", "as correlated, not partners", arrays["hard"][primary], GREY),
        ("other pairs", "with another pair's partner", s[~np.eye(len(s), dtype=np.bool_)], GREY),
        ("live features", "of B, that fire as often", material.live.ravel(), GREY),
        ("random directions", "of B", arrays["random"][:, primary].ravel(), GREY),
        ("random layers", "pairs, layers re-initialised", layers.ravel(), DAMAGE),
    ]
    return [one for one in groups if len(one[2])]


def _write_beside(axes: Axes, x: float, base: float, bold: str, small: str, colour: str) -> None:
    """Two lines to the left or to the right of a row."""
    common: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "left" if x > 1 else "right"}
    axes.text(x, base - 0.36, bold, va="bottom", fontweight="bold", color=colour, **common)
    axes.text(x, base - 0.3, small, va="top", fontsize=8, color=GREY, **common)


def _draw_density(
    axes: Axes, values: NDArray[np.floating], edges: NDArray[np.float64], base: float, colour: str
) -> None:
    counts, _ = np.histogram(values, edges)
    heights = base - 0.7 * counts / counts.max()
    axes.fill_between(
        edges, np.append(heights, base), base, step="post", color=colour, alpha=0.45, linewidth=0
    )


def draw_doses(material: Material) -> Figure:
    """Sizes of the odd and the even part, next-token KL, and T, against the dose."""
    own = material.summary["dose_response"]
    doses = np.array(own["doses"])
    figure = make_figure(576)
    canvas = place_canvas(figure)
    write_heading(
        canvas,
        "Longer pushes: effect, damage and transfer",
        f"Thin lines: the {len(own['pairs'])} best pairs, one each; thick lines: their medians.",
    )
    sizes = [np.array(own[part][letter]) for part in ("odd_norms", "even_norms") for letter in "ab"]
    limits = min(one.min() for one in sizes) / 1.4, max(one.max() for one in sizes) * 4
    for left, letter, colour in ((72, "a", MODEL_A), (432, "b", MODEL_B)):
        axes = _place_panel(figure, left, 92, f"Model {letter.upper()}: size of the change", colour)
        odd, even = (np.array(own[part][letter]) for part in ("odd_norms", "even_norms"))
        for values, shade in ((odd, colour), (even, GREY)):
            _draw_lines(axes, doses, values, shade)
        _write_inside(axes, 0.97, "odd part: the effect", colour)
        _write_inside(axes, 0.14, "even part: damage", GREY, right=True)
        axes.set(yscale="log", ylim=limits, ylabel="norm over pairs of words")
        _scale_doses(axes, doses)
    axes = _place_panel(figure, 72, 352, "Change of the next token", INK)
    for place, (letter, colour) in enumerate((("a", MODEL_A), ("b", MODEL_B))):
        _draw_lines(axes, doses, np.array(own["kl"][letter]), colour, "--" if place else "-")
        _write_inside(axes, 0.97 - 0.1 * place, f"model {letter.upper()}", colour)
    axes.set(yscale="log", ylabel="KL divergence (nats)")
    _scale_doses(axes, doses)
    axes = _place_panel(figure, 432, 352, "Transfer of partners", INK)
    axes.axhline(0, color=PALE, linewidth=0.8)
    _draw_lines(axes, doses, np.array(own["transfer"]), PARTNERS)
    axes.set_ylabel("T")
    _scale_doses(axes, doses)
    return figure


def _place_panel(figure: Figure, left: float, top: float, title: str, colour: str) -> Axes:
    axes = place_axes(figure, left, top, 264, 176)
    axes.set_title(title, x=-56 / 264, pad=10, color=colour)
    return axes


def _write_inside(axes: Axes, y: float, text: str, colour: str, *, right: bool = False) -> None:
    """A label in a corner of a panel, where no line is."""
    x, side = (0.97, "right") if right else (0.03, "left")
    axes.text(x, y, text, ha=side, va="top", color=colour, fontweight="bold", transform=axes.transAxes)


def _draw_lines(
    axes: Axes, doses: NDArray[np.float64], values: NDArray[np.float64], colour: str, style: str = "-"
) -> None:
    """[n, J] one thin line each, and their median."""
    axes.plot(doses, values.T, color=colour, linewidth=0.7, alpha=0.4)
    median = np.median(values, axis=0)
    axes.plot(doses, median, linestyle=style, marker="o", color=colour, linewidth=2, markersize=4)


def _scale_doses(axes: Axes, doses: NDArray[np.float64]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(doses[0] / 1.15, doses[-1] * 1.1)
    axes.set_xticks(doses)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda dose, _: f"{dose:g}"))
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.set_xlabel("dose (push length / residual norm)")
