"""The page itself: ``index.html`` from its templates, and the scripts and styles beside it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from xmodel.report.page.assets import list_scripts, list_styles
from xmodel.report.page.records import Cell, Part

if TYPE_CHECKING:
    from markupsafe import Markup

_HERE = Path(__file__).parent
_LINK = re.compile(r"#(?:a=\d+(?:&b=\d+)?|b=\d+)")
_DASH, _MINUS = "–", "\u2212"


class PageFacts(TypedDict):
    """What the page's frame says."""

    title: str
    """The two models: ``MODEL A ↔ MODEL B``."""
    lines: Sequence[str]
    """Facts under the title: dictionaries, words, documents."""
    version: str
    """Of xmodel."""
    date: str
    """When the run was made: ``2026-11-21``."""
    downloads: NotRequired[Sequence[tuple[str, str]]]
    """Names of files in the page's folder that a reader may take along, and what each is."""


def render_index(parts: Sequence[Part], facts: PageFacts) -> str:
    """Render the page.

    Args:
        parts: in the order of the menu; figures are drawn in the browser from chunks ``figures/NAME``.
        facts: what the frame says.

    Returns:
        The text of ``index.html``; every string in `parts` and `facts` is shown as text, whatever it holds.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": format_cell, "prose": mark_code, "link": find_link}
    widgets = {place.name.removesuffix(".html.j2") for place in (_HERE / "templates/parts").glob("*.j2")}
    page = environment.get_template("index.html.j2")
    return page.render(
        parts=parts, facts=facts, widgets=widgets, scripts=list_scripts(), styles=list_styles()
    )


def format_cell(value: Cell, kind: str) -> str:
    """A cell of a table as text, as assets/core.js formats the same numbers.

    Args:
        value: what the cell holds.
        kind: see `xmodel.report.page.records.Column.kind`.
    """
    if value is None or value != value:
        return _DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return _FORMATS.get(kind, _format_value)(value).replace("-", _MINUS, 1)


def mark_code(sentence: str) -> "Markup":
    """Escape a sentence, and show what stands between backticks as code."""
    from markupsafe import Markup, escape

    pieces = sentence.split("`")
    if len(pieces) % 2 == 0:
        return escape(sentence)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece)
        for number, piece in enumerate(pieces)
    )


def find_link(value: Cell) -> str | None:
    """What to call the link, if a cell is an address of the page: ``#a=12&b=45`` is ``a 12 – b 45``."""
    if not isinstance(value, str) or not _LINK.fullmatch(value):
        return None
    return value[1:].replace("=", " ").replace("&", f" {_DASH} ")


def _format_p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def _format_share(value: float) -> str:
    percent = 100 * value
    return f"{percent:.{1 if abs(percent) < 10 and percent else 0}f}%"


def _format_value(value: float) -> str:
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 1e6 or size < 1e-4:
        return f"{value:.2e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:#.3g}".removesuffix(".")


_FORMATS = {
    "count": lambda value: f"{value:,.0f}",
    "r": lambda value: f"{value:.3f}",
    "p": _format_p,
    "share": _format_share,
    "value": _format_value,
}
