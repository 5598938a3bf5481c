"""Tables of steering: doses and depths, what chance gives, single pairs, and all else that was measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xmodel.report.layout import format_r
from xmodel.report.page.records import Cell, Column, Table
from xmodel.report.page.texts import show_plain
from xmodel.report.steer import take_primary
from xmodel.report.steer_effects import explain_contrasts, list_effects
from xmodel.report.steer_tables import MARK, explain_cells, list_nulls

_TITLES = ("depth", "partners", "others", "p", "beyond", "±", "top-1", "top-5", "hard", "pairs")
_MEASURES = {
    "mean_diagonal": ("mean agreement of partners", "r"),
    "difference": ("partners less other pairs", "r"),
    "top1": ("partner comes first", "r"),
    "auroc_hard": ("AUROC against hard pairs", "r"),
}
_WORD = 40


def list_tables(found: Mapping[str, Any], rows: Mapping[str, Any]) -> list[Table]:
    """All tables that there is anything for.

    Args:
        found: what `xmodel.report.steer.describe_steering` gives.
        rows: the columns of transfer.parquet.
    """
    tables = [_list_nulls(found), _list_cells(found), _list_excess(found), _list_effects(found)]
    tables += [_list_doses(found), _list_contrasts(found), _list_best(found, rows)]
    return [table for table in tables if table is not None and table.rows]


def name_resampled(found: Mapping[str, Any]) -> str:
    """What intervals of the excess over random layers are over: one draw of these cannot be drawn again."""
    random = take_primary(found)["reinitialised"]
    return "pairs and draws" if random is not None and random["draws"] > 1 else "pairs"


def _list_nulls(found: Mapping[str, Any]) -> Table:
    return Table(
        title="What chance gives",
        caption="Mean agreement, by what is put in the partner's place; from what is easily beaten to what "
        "is not.",
        columns=(Column("in the partner's place"), Column("mean agreement", "r"), Column("what it is")),
        rows=tuple(list_nulls(found)),
    )


def _list_cells(found: Mapping[str, Any]) -> Table:
    push, rows = found["mode"] == "push", []
    for place, cell in enumerate(found["cells"]):
        excess = None if cell["excess"] is None else cell["excess"]["difference"]
        interval = None if excess is None else excess["interval"]
        mark = f"{MARK}\N{NO-BREAK SPACE}" if place == found["primary"] and len(found["cells"]) > 1 else ""
        own: list[Cell] = [
            f"{cell['depth']:g}",
            cell["mean_diagonal"],
            cell["mean_off_diagonal"],
            cell["p_max"],
            None if excess is None else excess["value"],
            None if interval is None else (interval[1] - interval[0]) / 2,
            cell["retrieval"]["top1"],
            cell["retrieval"]["top5"],
            cell["auroc"]["hard"],
            cell["pairs_significant"],
        ]
        lead: list[Cell] = [f"{cell['dose']:g}"] if push else []
        own = [*lead, *own]
        own[0] = f"{mark}{own[0]}"
        rows.append(tuple(own))
    titles = ("dose", *_TITLES) if push else _TITLES
    kinds = {"dose": "text", "depth": "text", "p": "p", "top-1": "share", "top-5": "share", "pairs": "count"}
    return Table(
        title="By dose and depth" if push else "By depth",
        caption=explain_cells(found, set(titles)),
        columns=tuple(Column(title, kinds.get(title, "r")) for title in titles),
        rows=tuple(rows),
    )


def _list_excess(found: Mapping[str, Any]) -> Table | None:
    """What the trained layers have beyond random ones, and pairs beyond hard pairs."""
    cell, rows = take_primary(found), []
    least: set[float] = set()
    for name, (told, _) in _MEASURES.items():
        own = None if cell["excess"] is None else cell["excess"].get(name)
        if own is None:
            continue
        draws = ", ".join(format_r(one) for one in own["reinitialised"])
        interval = own["interval"] or (None, None)
        p = own["p"], own.get("p_draws")
        rows.append((told, "random layers", own["trained"], draws, own["value"], *interval, *p))
        least.add(1 / (1 + len(own["reinitialised"])))
    over = cell["over_hard"]
    if over is not None:
        interval, hard = over["interval"] or (None, None), cell["means"]["hard"]
        matched = cell["means"]["partners_matched"]
        base = "–" if hard is None else format_r(hard)
        rows.append(
            (
                "mean agreement, matched pairs",
                "hard pairs",
                matched,
                base,
                over["value"],
                *interval,
                over["p"],
                None,
            )
        )
    if not rows:
        return None
    return Table(
        title="How far beyond",
        caption="What was measured less what it is compared with, and a 95% interval over "
        f"{_tell_intervals(found)}. Random layers have their draws listed one by one.",
        columns=(
            Column("measure"),
            Column("compared with"),
            Column("measured", "r"),
            Column("there"),
            Column("beyond", "r"),
            Column("from", "r"),
            Column("to", "r"),
            Column(
                "p over pairs", "p", "by flips of the signs of pairs' differences; only for means over pairs"
            ),
            Column(
                "p over draws of layers",
                "p",
                "by the place of the trained layers among the random ones"
                + "".join(f"; the least possible is {one:.2g}" for one in sorted(least)),
            ),
        ),
        rows=tuple(rows),
    )


def _tell_intervals(found: Mapping[str, Any]) -> str:
    over = name_resampled(found)
    if over == "pairs" or take_primary(found)["over_hard"] is None:
        return over
    return f"{over} (of hard pairs, over pairs)"


def _list_effects(found: Mapping[str, Any]) -> Table:
    return Table(
        title="What else the pushes do" if found["mode"] == "push" else "What else was measured",
        columns=(Column("what"), Column("finding")),
        rows=tuple(list_effects(found)),
    )


def _list_doses(found: Mapping[str, Any]) -> Table | None:
    """The pairs whose doses were measured, one by one."""
    study = found.get("dose_response")
    if study is None:
        return None
    matched = study["kl_matched"] or {"pairs": [], "doses_b": [], "transfer": []}
    equal = dict(
        zip(matched["pairs"], zip(matched["doses_b"], matched["transfer"], strict=True), strict=True)
    )
    dose = matched.get("dose_a") or take_primary(found)["dose"]
    column = int(np.argmin(np.abs(np.array(study["doses"]) - dose)))
    rows = []
    for place, pair in enumerate(study["pairs"]):
        own = found["pairs"][pair]
        rows.append(
            (
                _link(own),
                study["transfer"][place][column],
                *(study["kl"][side][place][column] for side in "ab"),
                *(study["slopes"][side][place] for side in "ab"),
                *equal.get(pair, (None, None)),
            )
        )
    return Table(
        title="Doses, pair by pair",
        caption=f"All at dose {study['doses'][column]:g} of A. KL: of the next token, in nats. Growth: 1 "
        "where the change is in proportion to a small dose. Equal dose: that of B with the same KL as A's.",
        columns=(
            Column("pair"),
            Column("agreement", "r"),
            Column("KL in A", "value"),
            Column("KL in B", "value"),
            Column("growth in A", "r"),
            Column("growth in B", "r"),
            Column("equal dose", "value"),
            Column("agreement at it", "r"),
        ),
        rows=tuple(rows),
    )


def _list_contrasts(found: Mapping[str, Any]) -> Table | None:
    contrasts = found.get("contrasts")
    if not contrasts:
        return None
    ways = ("pairs", "linear", "own")
    columns = [Column("contrast"), Column("share", "share")]
    columns += [column for way in ways for column in (Column(way, "r"), Column(f"p, {way}", "p"))]
    rows = [
        (
            show_plain(one["name"], _WORD),
            one["share"],
            *(one[way][key] for way in ways for key in ("odd", "p")),
        )
        for one in contrasts
    ]
    return Table(
        title="Vectors of contrast prompts",
        caption=explain_contrasts(contrasts),
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _list_best(found: Mapping[str, Any], rows: Mapping[str, Any]) -> Table:
    """The pairs that agree most, with their hard pairs beside them."""
    place, cells = found["primary"], len(found["cells"])
    numbers = {
        (one["feature_a"], one["feature_b"]): pair * cells + place for pair, one in enumerate(found["pairs"])
    }
    listed = []
    for pair in found["best_pairs"]:
        row = numbers[pair["feature_a"], pair["feature_b"]]
        words = (", ".join(show_plain(w, _WORD) for w in pair[f"top_words_{side}"]) for side in "ab")
        values = (rows[name][row] for name in ("hard", "next_best", "damage_a", "damage_b"))
        mean = (pair[name] for name in ("r", "odd", "p", "p_adjusted"))
        listed.append((_link(pair), *words, *mean, *values))
    return Table(
        title="The pairs that agree most" if len(listed) > 1 else "The pair",
        caption=f"Of {len(found['pairs']):,} pairs, chosen for their agreement. p: the largest over all "
        "nulls, corrected for doses and depths; q: also for all pairs (Benjamini-Hochberg).",
        columns=(
            Column("pair"),
            Column("A fires most on"),
            Column("B fires most on"),
            Column("r", "r"),
            Column("agreement", "r"),
            Column("p", "p"),
            Column("q", "p"),
            Column("hard pair", "r", "agreement of the hard pair that is matched to it"),
            Column("next best", "r", "agreement with A's next best partner"),
            Column("damage in A", "value", "size of what a push does whichever way it goes"),
            Column("damage in B", "value"),
        ),
        rows=tuple(listed),
    )


def _link(pair: Mapping[str, Any]) -> str:
    """The page's address of a pair, which its tables show as a link."""
    return f"#a={pair['feature_a']}&b={pair['feature_b']}"
