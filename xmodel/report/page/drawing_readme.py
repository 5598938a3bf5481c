"""What lies beside the figures for print: a file that says what each of them is."""

import re
from collections.abc import Sequence

from xmodel.report.page.figures_json import list_columns
from xmodel.report.page.records import Figure, Flow, Heatmap, Histogram, Lines, Scatter

README = "README.md"
"""The name of the file."""
_ROWS: dict[type[Figure], str] = {
    Flow: "a row per filter",
    Histogram: "a row per value; those that are `observed` are drawn as lines",
    Lines: "a row per point of a curve; `from` and `to` are the ends of its interval",
    Heatmap: "a row per cell",
    Scatter: "a row per point",
}


def describe_files(figures: Sequence[Figure]) -> str:
    """Say what the files of figures for print hold, as Markdown.

    Args:
        figures: those that were drawn.

    Returns:
        A line per figure: its file, title and caption, and the columns of its CSV. Whatever texts hold is
        shown as it is, not as Markdown or HTML.
    """
    lines = [_describe(figure) for figure in figures]
    head = (
        "# Figures\n\nEach is there as SVG and PDF, for print, and as CSV, its data in full. Texts in the "
        "CSV files that a spreadsheet would take for a formula begin with an apostrophe.\n\n"
    )
    return head + "".join(f"{line}\n" for line in lines)


def _describe(figure: Figure) -> str:
    columns, _ = list_columns(figure)
    told = ", ".join(f"“{_escape(column)}”" for column in columns)
    ends = "" if figure.title.endswith(("?", ".", "!")) else "."
    return (
        f"- `{figure.name}.svg`, `.pdf`, `.csv`: **{_escape(figure.title)}{ends}** {_escape(figure.caption)} "
        f"CSV: {_ROWS[type(figure)]}; columns {told}."
    )


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_<>&\[\]#|~$])", r"\\\1", " ".join(text.split()))
