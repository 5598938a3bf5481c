"""Figures of agreement: who agrees with whom, beside what chance and random layers give."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.report.layout import count, format_r, format_share
from xmodel.report.page.records import Draws, Figure, Heatmap, Histogram, Lines, Series
from xmodel.report.scores import format_p
from xmodel.report.steer import name_depth, take_primary
from xmodel.similarity.orders import draw_orders
from xmodel.steering.readouts import LEAST_PAIRS, list_distinct

MOST_PAIRS = 150
"""Pairs whose matrix is shown: cells of more could not be told apart."""
MOST_VALUES = 400
"""Points of a cumulative curve."""
_MATCHED = "partners that have a hard pair"
_REACH = 99.5
# Percentile of the sizes of T at which colours end: a few large ones would leave the rest white.


def draw_transfers(
    found: Mapping[str, Any], rows: Mapping[str, Any], matrices: Mapping[str, NDArray[Any]]
) -> list[Figure]:
    """All figures that are made of the matrices of transfers.

    Args:
        found: what `xmodel.report.steer.describe_steering` gives.
        rows: the columns of transfer.parquet.
        matrices: of `xmodel.steering.results.Steering`.
    """
    place = found["primary"]
    s = np.asarray(matrices["odd"][place], np.float64)
    random = np.asarray(matrices["reinitialised"][:, place], np.float64)
    counted = list_counted(rows, len(found["cells"]))
    features = [np.array(rows[f"feature_{side}"])[:: len(found["cells"])][counted] for side in "ab"]
    own, others = s[np.ix_(counted, counted)], random[:, counted][:, :, counted]
    figures: list[Figure] = [
        *_draw_matrices(found, own, others, features),
        _draw_values(found, rows, own, others, matrices, counted),
    ]
    if len(counted) >= LEAST_PAIRS:
        figures.append(_draw_null(found, own, others))
    return [*figures, *_draw_cells(found)]


def list_counted(rows: Mapping[str, Any], cells: int) -> NDArray[np.int64]:
    """Which pairs the tests over pairs take: no two share a feature, and each has a T.

    Args:
        rows: the columns of transfer.parquet.
        cells: doses and depths of a pair.

    Returns:
        [k] ascending numbers of pairs.
    """
    there = np.array([value is not None for value in rows["odd"][::cells]])
    features = [np.array(rows[f"feature_{side}"])[::cells][there] for side in "ab"]
    return np.flatnonzero(there)[list_distinct(*features)]


def draw_exchanges(s: NDArray[np.float64], permutations: int, seed: int) -> NDArray[np.float64]:
    """The mean T of partners that were exchanged at random, in the orders in which steering tested them.

    Args:
        s: [k, k] T of the pairs that count.
        permutations: orders.
        seed: of steering.

    Returns:
        [permutations]
    """
    orders = draw_orders(len(s), permutations, np.random.default_rng([seed, 5]))
    return s[np.arange(len(s)), orders].mean(axis=1)


def tell_cell(cell: Mapping[str, Any]) -> str:
    """Dose and depth in words."""
    dose = "" if cell["dose"] is None else f"dose {cell['dose']:g}, "
    return f"{dose}read {name_depth(cell['depth'])}"


def _draw_matrices(
    found: Mapping[str, Any],
    s: NDArray[np.float64],
    random: NDArray[np.float64],
    features: list[NDArray[np.int64]],
) -> list[Figure]:
    """S, and beside it the mean over draws of random layers in the same colours."""
    shown = min(len(s), MOST_PAIRS)
    cut = s[:shown, :shown]
    many = f" Shown are the first {shown} of {len(s):,} pairs." if shown < len(s) else ""
    if skipped := len(found["pairs"]) - len(s):
        many += f" {count(skipped, 'pair')} that share a feature or have no value are left out."
    limit = float(np.percentile(np.abs(cut), _REACH)) or None
    names = [tuple(str(one) for one in own[:shown].tolist()) for own in features]
    own, cell = np.diag(s), take_primary(found)
    off = s[~np.eye(len(s), dtype=np.bool_)]
    order = "from greatest r on" if not found["settings"]["features"] else "in the order they were named"

    def draw(name: str, title: str, caption: str, values: NDArray[np.float64]) -> Heatmap:
        return Heatmap(
            name=name,
            title=title,
            caption=caption,
            x_label="feature of B",
            y_label="feature of A",
            x=names[1],
            y=names[0],
            values=values,
            value_label="agreement",
            diverging=True,
            limit=limit,
            links=tuple(tuple(f"#a={a}&b={b}" for b in names[1]) for a in names[0]),
        )

    mean = f"{format_r(float(own.mean()))} on the diagonal"
    if len(off):
        mean += f", {format_r(float(off.mean()))} elsewhere"
    told = f"Pairs {order}, partners on the diagonal; {tell_cell(cell)}. Mean agreement {mean}.{many}"
    told += f" Colours end at {limit:.2g}." if limit else ""
    figures: list[Figure] = [draw("steering-matrix", "Does A's feature do what B's feature does?", told, cut)]
    if len(random):
        average = random.mean(axis=0)
        means = f"{format_r(float(np.diag(average).mean()))} on the diagonal"
        told = (
            f"The same features where the layers after the site are random ({count(len(random), 'draw')}, "
            f"averaged): {means}. Same colours as in the other matrix."
        )
        figures.append(draw("steering-random", "The same with random layers", told, average[:shown, :shown]))
    return figures


def _draw_values(
    found: Mapping[str, Any],
    rows: Mapping[str, Any],
    s: NDArray[np.float64],
    random: NDArray[np.float64],
    matrices: Mapping[str, NDArray[Any]],
    counted: NDArray[np.int64],
) -> Lines:
    """How T is distributed among partners, and among all that is put in their place."""
    place, cells = found["primary"], len(found["cells"])
    off, own = ~np.eye(len(s), dtype=np.bool_), np.diag(s)
    hard, next_best = (
        np.array(rows[name][place::cells], np.float64)[counted] for name in ("hard", "next_best")
    )
    matched = ~np.isnan(hard)
    directions = matrices["random"][counted, place] if "random" in matrices else np.empty(0)
    kinds = {"partners": own, _MATCHED: own[matched]}
    if matched.all() or not matched.any():
        del kinds[_MATCHED]
    kinds |= {
        "hard pairs": hard[matched],
        "next best partners": next_best[~np.isnan(next_best)],
        "other pairs": s[off],
        "partners, random layers": np.einsum("rff->rf", random),
        "random directions": np.asarray(directions, np.float64),
    }
    series, medians = [], []
    for label, values in kinds.items():
        x, share = thin_shares(np.ravel(values), MOST_VALUES)
        if not len(x):
            continue
        series.append(Series(label=label, x=x, y=share, dashed=label not in ("partners", _MATCHED)))
        medians.append(f"{label} {format_r(float(np.median(values)))}")
    told = ""
    if matched.any():
        told = "Hard pairs fire as much alike as partners do, but are none; they were found for "
        many = f"{int(matched.sum())} of {count(len(own), 'pair')}"
        few = f"{many}, whose own curve is the one to compare them with"
        told += f"{few if _MATCHED in kinds else 'every pair'}. "
    return Lines(
        name="steering-agreement",
        title="Agreement of partners, and of what is put in the partner's place",
        caption="How large a share of each kind agrees at least so much; a curve further right agrees more. "
        f"{told}Medians: {', '.join(medians)} ({tell_cell(take_primary(found))}).",
        x_label="agreement",
        y_label="share that agrees at least so much",
        series=tuple(series),
    )


def thin_shares(values: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How large a share of values is at least as great as each; of many only `most` points.

    Args:
        values: [n]
        most: points that are kept, evenly among the values, the least and the greatest included.

    Returns:
        The values in ascending order, and of the i-th of them (from 0) the share (n - i) / n.
    """
    n = len(values)
    kept = np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(np.int64)
    return np.sort(values)[kept], (n - kept) / max(n, 1)


def _draw_null(found: Mapping[str, Any], s: NDArray[np.float64], random: NDArray[np.float64]) -> Histogram:
    cell, settings = take_primary(found), found["settings"]
    null = draw_exchanges(s, settings["permutations"], settings["seed"])
    marks = [("partners", float(np.diag(s).mean()))]
    if len(random):
        marks.append(("random layers", float(np.einsum("rff->rf", random).mean())))
    many = f", corrected for {len(found['cells'])} doses and depths" if len(found["cells"]) > 1 else ""
    return Histogram(
        name="steering-null",
        title="Mean agreement of partners, where partners are exchanged",
        caption=f"{settings['permutations']:,} times every feature of A got another one's partner. Then the "
        f"mean is {format_r(float(null.mean()))} on average, and {format_r(float(null.max()))} at most; of "
        f"partners it is {format_r(marks[0][1])} (p {format_p(cell['p_max'])}{many}). {tell_cell(cell)}."
        .replace(". dose", ". Dose").replace(". read", ". Read"),
        x_label="mean agreement",
        draws=(Draws(label="exchanges", values=null),),
        marks=tuple(marks),
    )  # fmt: skip


def _draw_cells(found: Mapping[str, Any]) -> list[Figure]:
    """Retrieval and AUROC over depths or doses; none where there is but one of either."""
    cells = found["cells"]
    depths, doses = (list(dict.fromkeys(cell[name] for cell in cells)) for name in ("depth", "dose"))
    if len(depths) > 1:
        along, by, x_label = "depth", "dose", "depth: how far from the site to the last block"
    elif len(doses) > 1:
        along, by, x_label = "dose", "depth", "dose: the push's length by the residual stream's"
    else:
        return []
    groups = {
        value: [cell for cell in cells if cell[by] == value]
        for value in dict.fromkeys(cell[by] for cell in cells)
    }

    def name(value: float | None) -> str:
        return "" if value is None or len(groups) == 1 else f", {by} {value:g}"

    def line(
        label: str,
        get: Callable[[Mapping[str, Any]], float | None],
        dashed: bool,
        shown: Mapping[Any, list[Any]] = groups,
    ) -> list[Series]:
        found = []
        for value, own in shown.items():
            x = np.array([cell[along] for cell in own], np.float64)
            y = np.array([get(cell) for cell in own], np.float64)
            if not np.isnan(y).all():
                found.append(Series(label=label + name(value), x=x, y=y, dashed=dashed))
        return found

    primary = take_primary(found)
    own, only = primary["retrieval"], {primary[by]: groups[primary[by]]}
    first = [cell for cell in cells if cell[by] == cells[0][by]]
    x = np.array([cell[along] for cell in first], np.float64)

    def flat(value: float) -> Series:
        return Series(label="chance", x=x, y=np.full(len(x), value), dashed=True)

    told = f"chance {format_share(own['chance1'], 1)}"
    if own["p_top1_max"] is not None:
        told += f", p {format_p(own['p_top1_max'])} after correction"
    retrieval = Lines(
        name="steering-retrieval",
        title="How often the partner comes first",
        caption=f"Of {own['candidates']:,} candidates B's partner agrees most with A's feature in "
        f"{format_share(own['top1'], 1)} of cases ({told}; {tell_cell(take_primary(found))}).",
        x_label=x_label,
        y_label="share of features whose partner comes first",
        series=(
            *line("partners", lambda cell: cell["retrieval"]["top1"], False),
            *line("random layers", lambda cell: _mean(cell["reinitialised"], "top1"), True),
            flat(own["chance1"]),
        ),
    )
    auroc = Lines(
        name="steering-auroc",
        title="How often a pair agrees more than what it is compared with",
        caption="AUROC: the share of comparisons that pairs win; a half is chance. Hard pairs fire as much "
        f"alike as partners do{_tell_auroc(found)}.",
        x_label=x_label,
        y_label="AUROC",
        series=(
            *line("against other pairs", lambda cell: cell["auroc"]["off_diagonal"], False, only),
            *line("against hard pairs", lambda cell: cell["auroc"]["hard"], False, only),
            *line(
                "random layers, other pairs",
                lambda cell: _mean(cell["reinitialised"], "auroc_off_diagonal"),
                True,
                only,
            ),
            *line(
                "random layers, hard pairs",
                lambda cell: _mean(cell["reinitialised"], "auroc_hard"),
                True,
                only,
            ),
            flat(0.5),
        ),
    )
    return [one for one in (retrieval, auroc) if own["candidates"] > 1]


def _mean(own: Mapping[str, Any] | None, name: str) -> float | None:
    return float(np.mean(own[name])) if own is not None and own.get(name) else None


def _tell_auroc(found: Mapping[str, Any]) -> str:
    own = take_primary(found)["auroc"]
    parts = [
        f"{own[name]:.2f} against {told}"
        for name, told in (("off_diagonal", "other pairs"), ("hard", "hard pairs"))
        if own[name] is not None
    ]
    return f"; {', '.join(parts)} ({tell_cell(take_primary(found))})" if parts else ""
