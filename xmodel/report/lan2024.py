"""The published recipe on a page: what each of its choices does to the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.pairing.results import Run
from xmodel.report.layout import Field, draw_heading, draw_table, format_r, show_name
from xmodel.report.visible import FAINT
from xmodel.similarity.lan2024 import FEW_ROWS, SWITCHES, Lan2024Score

NAMES = {
    "one_component": "one component",
    "hook_off_by_one": "one block early",
    "unmasked_padding": "padding as words",
    "noop_filter": "filter undone",
    "dead_in_mean": "dead ones in mean r",
    "p_without_one": "p without + 1",
}
"""The switches in front of a person."""
WARNING = "yellow"
_FIELDS = (
    Field("recipe", right=False),
    Field("mean r"),
    Field("pairs"),
    Field("SVCCA"),
    Field("k"),
    Field("n/k"),
    Field("null"),
    Field("p"),
)
_PARTS = {"alone": "one choice at a time", "together": "one after another"}
_MISSING = "–"


def describe_lan2024(run: Run, scores: Sequence[Lan2024Score]) -> dict[str, Any]:
    """A table of scores as JSON can hold it, see `Lan2024Score` for the keys of its rows.

    Args:
        run: the run.
        scores: as `tabulate_lan2024` gives them.
    """
    return {
        "run": str(run.path),
        "compat": "lan2024",
        "shuffles": scores[0].shuffles,
        "seed": scores[0].seed,
        "rows": [one.as_json() for one in scores],
    }


def render_lan2024(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_lan2024` found.

    Args:
        found: the description.
        width: cells per line.
    """
    rows: list[list[Text]] = []
    part = "intended"
    for one in found["rows"]:
        if one["part"] != part:
            part = one["part"]
            rows.append([Text(_PARTS[part], FAINT), *(Text() for _ in _FIELDS[1:])])
        rows.append(_draw_row(one))
    lines = draw_heading("The recipe of Lan et al. 2024, choice by choice")
    lines += draw_table(_FIELDS, rows, [], [[]] * len(rows), width)
    lines += [Text(), *(Text(note, FAINT) for note in _explain(found))]
    lines += _draw_warnings(found["rows"])
    return Group(*lines)


def _draw_row(one: Mapping[str, Any]) -> list[Text]:
    if one["not_run"]:
        return [_name(one), Text("not run", WARNING), *(Text(_MISSING) for _ in _FIELDS[2:])]
    few = one["n_per_k"] is not None and one["n_per_k"] < FEW_ROWS
    return [
        _name(one),
        Text(format_r(one["mean_actv_corr"])),
        Text(f"{one['pairs']:,}"),
        Text(format_r(one["svcca"]), "bold"),
        Text(_MISSING if one["k"] is None else "/".join(map(str, one["k"]))),
        Text(_format_ratio(one["n_per_k"]), WARNING if few else ""),
        Text(format_r(one["null_mean"])),
        Text(_format_p(one["p"]), WARNING if one["p"] == 0 else ""),
    ]


def _name(one: Mapping[str, Any]) -> Text:
    on = [name for name in SWITCHES if one["switches"][name]]
    if one["part"] == "intended":
        return Text("as intended")
    name = NAMES[on[-1]]
    return Text(f"  {name}" if one["part"] == "alone" else f"+ {name}")


def _format_ratio(ratio: float | None) -> str:
    return _MISSING if ratio is None else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def _format_p(p: float | None) -> str:
    return _MISSING if p is None else "0" if p == 0 else f"{p:.4f}"


def _explain(found: Mapping[str, Any]) -> list[str]:
    notes = [
        "mean r: of all features of b with their best of a, before any filter. pairs: n, those with r above "
        "0.1 that pass the filter; many may have the same feature of a. SVCCA: of their decoder vectors, "
        "with k components of a and b. null: mean SVCCA of "
        f"{found['shuffles']:,} shuffles (seed {found['seed']}); p: the share of them that reach the score.",
        "The last row is the recipe as published (arXiv 2410.06981).",
    ]
    padded = max((one["padding"] or 0 for one in found["rows"]), default=0)
    if padded:
        words = next(one["words"] for one in found["rows"] if one["padding"])
        notes.append(f"Padding: {padded:,} positions beside {words:,} words.")
    return notes


def _draw_warnings(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    told = [warning for one in rows for warning in one["warnings"]]
    told += [f"not run: {one['not_run']}" for one in rows if one["not_run"]]
    return [Text(show_name(one).plain, WARNING) for one in dict.fromkeys(told)]
