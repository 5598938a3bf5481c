"""Figures as the page's data, and as tables: what assets/plots.js draws, and what the CSV files hold."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from xmodel.report.page.records import Cell, Figure, Flow, Heatmap, Histogram, Lines, Scatter

CHUNK = "figures/{name}"
"""The name of a figure's chunk."""
MOST_ROWS = 2_000
"""Rows of a figure's table in the page; the CSV has all."""
_DIGITS = 6

Rows = list[tuple[Cell, ...]]


def figure_as_json(figure: Figure) -> dict[str, Any]:
    """A figure as a chunk of the page.

    Args:
        figure: any of the kinds in `xmodel.report.page.records`.

    Returns:
        What JSON can hold: ``kind``; the fields of the record under their names, arrays as (nested) lists
        with six significant digits and None where a value is not finite; and ``table``: ``columns``,
        ``rows`` (the first `MOST_ROWS` of `list_columns`), ``links`` (an address of the page per row, or
        None; only for figures with links) and, if rows were left out, ``cut``, the number of all.
    """
    kind, describe = _KINDS[type(figure)][:2]
    columns, rows = list_columns(figure)
    table: dict[str, Any] = {
        "columns": columns,
        "rows": [[_shorten(cell) for cell in row] for row in rows[:MOST_ROWS]],
    }
    links = _list_links(figure)
    if any(links):
        table["links"] = links[:MOST_ROWS]
    if len(rows) > MOST_ROWS:
        table["cut"] = len(rows)
    head = {"kind": kind, "name": figure.name, "title": figure.title, "caption": figure.caption}
    return {**head, **describe(figure), "table": table}


def list_columns(figure: Figure) -> tuple[list[str], Rows]:
    """A figure's data as a table, one observation per row.

    Args:
        figure: any of the kinds in `xmodel.report.page.records`.

    Returns:
        The names of the columns, no two alike, and the rows: numbers in full, None for what is not finite.
    """
    columns, rows = _KINDS[type(figure)][2](figure)
    return _tell_apart(columns), rows


def _describe_flow(figure: Flow) -> dict[str, Any]:
    return {"stages": [asdict(one) for one in figure.stages]}


def _list_flow(figure: Flow) -> tuple[list[str], Rows]:
    rows: Rows = [
        (one.group, one.label, one.entered, one.passed, one.entered - one.passed) for one in figure.stages
    ]
    return ["counted", "filter", "entered", "passed", "left out"], rows


def _describe_histogram(figure: Histogram) -> dict[str, Any]:
    return {
        "x_label": figure.x_label,
        "draws": [{"label": one.label, "values": _numbers(one.values)} for one in figure.draws],
        "marks": [[label, _number(value)] for label, value in figure.marks],
        "bins": figure.bins,
        "top": figure.top,
    }


def _list_histogram(figure: Histogram) -> tuple[list[str], Rows]:
    # What is observed comes first: the page cuts long tables at their end.
    rows: Rows = [("observed", label, _finite(value)) for label, value in figure.marks]
    rows += [
        ("drawn", one.label, _finite(value))
        for one in figure.draws
        for value in np.ravel(one.values).tolist()
    ]
    return ["what", "of", figure.x_label], rows


def _describe_lines(figure: Lines) -> dict[str, Any]:
    return {
        "x_label": figure.x_label,
        "y_label": figure.y_label,
        "series": [
            {
                "label": one.label,
                "x": _numbers(one.x),
                "y": _numbers(one.y),
                "low": None if one.low is None else _numbers(one.low),
                "high": None if one.high is None else _numbers(one.high),
                "dashed": one.dashed,
            }
            for one in figure.series
        ],
        "logarithmic": figure.logarithmic,
        "pick": figure.pick,
    }


def _list_lines(figure: Lines) -> tuple[list[str], Rows]:
    rows: Rows = []
    for one in figure.series:
        ends = [np.full(len(one.y), np.nan) if end is None else end for end in (one.low, one.high)]
        values = zip(*(np.ravel(own).tolist() for own in (one.x, one.y, *ends)), strict=True)
        rows += [(one.label, *(_finite(value) for value in own)) for own in values]
    return ["curve", figure.x_label, figure.y_label, "from", "to"], rows


def _describe_heatmap(figure: Heatmap) -> dict[str, Any]:
    return {
        "x_label": figure.x_label,
        "y_label": figure.y_label,
        "x": list(figure.x),
        "y": list(figure.y),
        "values": [_numbers(row) for row in figure.values],
        "value_label": figure.value_label,
        "marked": None if figure.marked is None else figure.marked.tolist(),
        "marked_label": figure.marked_label,
        "diverging": figure.diverging,
        "limit": figure.limit,
        "hover": None if figure.hover is None else [list(row) for row in figure.hover],
        "links": None if figure.links is None else [list(row) for row in figure.links],
    }


def _list_heatmap(figure: Heatmap) -> tuple[list[str], Rows]:
    columns = [figure.y_label, figure.x_label, figure.value_label]
    rows: Rows = []
    for place, y in enumerate(figure.y):
        for other, x in enumerate(figure.x):
            sign = () if figure.marked is None else (bool(figure.marked[place, other]),)
            rows.append((y, x, _finite(float(figure.values[place, other])), *sign))
    return columns if figure.marked is None else [*columns, figure.marked_label or "marked"], rows


def _describe_scatter(figure: Scatter) -> dict[str, Any]:
    return {
        "x_label": figure.x_label,
        "y_label": figure.y_label,
        "x": _numbers(figure.x),
        "y": _numbers(figure.y),
        "hover": list(figure.hover),
        "color": None if figure.color is None else _numbers(figure.color),
        "color_label": figure.color_label,
        "groups": list(figure.groups),
        "group_order": list(figure.group_order),
        "links": list(figure.links),
        "diagonal": figure.diagonal,
        "bare": figure.bare,
    }


def _list_scatter(figure: Scatter) -> tuple[list[str], Rows]:
    columns: dict[str, Sequence[Cell]] = {"what": figure.hover} if figure.hover else {}
    names = _tell_apart([*columns, figure.x_label, figure.y_label, figure.color_label or "colour"])
    x, y, color = names[-3:]
    columns |= {
        x: [_finite(one) for one in figure.x.tolist()],
        y: [_finite(one) for one in figure.y.tolist()],
    }
    if figure.color is not None:
        columns[color] = [_finite(one) for one in figure.color.tolist()]
    if figure.groups:
        columns["group"] = figure.groups
    return list(columns), list(zip(*columns.values(), strict=True))


def _list_links(figure: Figure) -> list[str | None]:
    if isinstance(figure, Scatter):
        return list(figure.links)
    if isinstance(figure, Heatmap) and figure.links is not None:
        return [link for row in figure.links for link in row]
    return []


def _tell_apart(names: Sequence[str]) -> list[str]:
    """Names of columns of which no two are alike."""
    found: list[str] = []
    for name in names:
        number, own = 2, name
        while own in found:
            own, number = f"{name} ({number})", number + 1
        found.append(own)
    return found


def _numbers(values: Any) -> list[float | int | None]:
    return [_number(value) for value in np.ravel(values).tolist()]


def _number(value: float) -> float | int | None:
    return cast("float | int | None", _shorten(_finite(value)))


def _finite(value: Cell) -> Cell:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _shorten(value: Cell) -> Cell:
    """A number with as many digits as anyone can see in a picture."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


_KINDS: dict[
    type[Figure], tuple[str, Callable[..., dict[str, Any]], Callable[..., tuple[list[str], Rows]]]
] = {
    Flow: ("flow", _describe_flow, _list_flow),
    Histogram: ("histogram", _describe_histogram, _list_histogram),
    Lines: ("lines", _describe_lines, _list_lines),
    Heatmap: ("heatmap", _describe_heatmap, _list_heatmap),
    Scatter: ("scatter", _describe_scatter, _list_scatter),
}
