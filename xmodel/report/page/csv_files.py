"""CSV files that a reader takes along: safe to open in a spreadsheet."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from xmodel.report.page.records import Cell

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(place: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table as CSV: UTF-8, None as an empty cell, numbers in full.

    A text that a spreadsheet would take for a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a
    carriage return) gets an apostrophe before it, as OWASP advises ("CSV Injection"): texts here come from
    corpora and from other people's labels. Numbers stay as they are.

    Args:
        place: the file.
        header: names of the columns.
        rows: each as long as `header`.
    """
    with place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_show(cell) for cell in row] for row in rows)


def guard_formula(text: str) -> str:
    """A text with an apostrophe before it if a spreadsheet would run it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def strip_guard(text: str) -> str:
    """The text that `guard_formula` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _show(cell: Cell) -> str | int | float | None:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return guard_formula(cell) if isinstance(cell, str) else cell
