"""Figures for print: SVG, PDF, and the data as CSV, in one style that does not change from call to call."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.report.page.csv_files import write_csv
from xmodel.report.page.drawing_bars import draw_flow
from xmodel.report.page.drawing_fields import draw_heatmap, draw_lines, draw_scatter
from xmodel.report.page.drawing_histogram import draw_histogram
from xmodel.report.page.drawing_readme import README, describe_files
from xmodel.report.page.figures_json import list_columns
from xmodel.report.page.records import Figure, Flow, Heatmap, Histogram, Lines, Scatter

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.0,
    "axes.labelsize": 7.0,
    "axes.titlesize": 7.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
    # Texts stay texts, so that they can be searched, and changed in a drawing program.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    # Ids in an SVG come from this instead of a random number: equal data gives equal bytes.
    "svg.hashsalt": "xmodel",
    # A dollar sign in a corpus is no formula.
    "text.parse_math": False,
}
"""The style of all figures for print, as matplotlib calls its settings."""
_DRAWINGS: dict[type[Figure], Callable[..., "Canvas"]] = {
    Flow: draw_flow,
    Histogram: draw_histogram,
    Lines: draw_lines,
    Heatmap: draw_heatmap,
    Scatter: draw_scatter,
}


def draw_figures(
    figures: Sequence[Figure],
    folder: Path,
    report: Report = lambda stage, done, total: None,
) -> list[Path]:
    """Draw figures for print.

    Widths are those of a column (3.4 inches) or of a page (7 inches) of a paper; titles and captions, which
    a paper sets in its own type, are in the files' metadata. Equal figures give equal bytes.

    Args:
        figures: of the page; no two with one name.
        folder: where NAME.svg, NAME.pdf and NAME.csv go, and a README.md that says what they are; made if
            it is missing.
        report: told of progress.

    Returns:
        The files, in the order of the figures, README.md last.
    """
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    # The style stands on matplotlib's own defaults, whatever a user's matplotlibrc says.
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        # A corpus may have characters that the font lacks: they are boxes in the PDF, and texts in the SVG.
        warnings.filterwarnings("ignore", message=".*Glyph.*missing from font", category=UserWarning)
        for number, figure in enumerate(figures):
            report("figures", number, len(figures))
            written += _write_figure(figure, folder)
    (folder / README).write_text(describe_files(figures), "utf-8")
    report("figures", len(figures), len(figures))
    return [*written, folder / README]


def _write_figure(figure: Figure, folder: Path) -> list[Path]:
    canvas = _DRAWINGS[type(figure)](figure)
    places = [folder / f"{figure.name}.{ending}" for ending in ("svg", "pdf", "csv")]
    words = {"Title": figure.title, "Creator": "xmodel"}
    canvas.savefig(places[0], metadata={**words, "Description": figure.caption, "Date": None})
    # Without a date of creation and a version of matplotlib, equal figures are equal files.
    pdf = {**words, "Subject": figure.caption, "Producer": None, "CreationDate": None}
    canvas.savefig(places[1], metadata=pdf)
    columns, rows = list_columns(figure)
    write_csv(places[2], columns, rows)
    return places
