"""The published recipe on the page, where the run was scored by it."""

import json
from collections.abc import Mapping
from typing import Any

from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.report.lan2024 import NAMES
from xmodel.report.page.records import Cell, Column, Table
from xmodel.report.page.texts import show_plain
from xmodel.similarity.lan2024 import SWITCHES

_COLUMNS = (
    Column("recipe"),
    Column("mean r", "r", "of all features of B with their best of A, before any filter"),
    Column("pairs", "count", "with r above 0.1 that pass the filter; many may have the same feature of A"),
    Column("SVCCA", "r", "of their decoder vectors, with k components of A and of B"),
    Column("k"),
    Column("n/k", "value"),
    Column("null", "r", "mean SVCCA with partners shuffled"),
    Column("p", "p"),
    Column("remarks"),
)
_PARTS = {"alone": "alone: ", "together": "and also: "}


def list_lan2024_tables(run: Run) -> list[Table]:
    """The recipe of Lan et al. 2024, choice by choice; none where lan2024.json is not there.

    Args:
        run: a finished run.

    Raises:
        InputError: if the file is damaged.
    """
    place = run.path / "lan2024.json"
    if not place.is_file():
        return []
    try:
        found = json.loads(place.read_text("utf-8"))
        rows = tuple(_list_row(one) for one in found["rows"])
        caption = (
            f"What each choice of the published code (arXiv 2410.06981) does to its numbers: first one at a "
            f"time, then one after another; the last row is the recipe as published. "
            f"{found['shuffles']:,} shuffles, seed {found['seed']}."
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{place} is damaged ({error!r}): run `xmodel score {run.path} --compat lan2024` again."
        ) from error
    return [Table("The recipe of Lan et al. 2024, choice by choice", _COLUMNS, rows, caption)]


def _list_row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    on = [name for name in SWITCHES if one["switches"][name]]
    name = "as intended" if one["part"] == "intended" else f"{_PARTS[one['part']]}{NAMES[on[-1]]}"
    remarks = [*one["warnings"], *([f"not run: {one['not_run']}"] if one["not_run"] else [])]
    return (
        name,
        one["mean_actv_corr"],
        None if one["not_run"] else one["pairs"],
        one["svcca"],
        None if one["k"] is None else " / ".join(map(str, one["k"])),
        one["n_per_k"],
        one["null_mean"],
        one["p"],
        show_plain(" ".join(remarks), 600),
    )
