"""What `xmodel report` says when the page is written."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.report.layout import count, show_name, wrap
from xmodel.report.visible import FAINT

_MEGABYTE = 1e6


def render_report(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `Written.as_json` holds.

    Args:
        found: the description.
        width: cells per line.
    """
    size = f"{found['bytes'] / _MEGABYTE:,.0f} MB"
    if found["pairs"]:
        size = f"{count(found['pairs'], 'pair')}, {size}"
    parts: list[RenderableType] = [
        Text(),
        Text("Open in a browser: ", "bold").append_text(show_name(found["page"])),
        Text(),
        *wrap(Text(f"It shows {_join(list(found['parts'].values()))}: {size}."), width),
    ]
    for sentence in found["carried"]:
        parts += [Text(), *wrap(Text(sentence), width)]
    lacking: dict[tuple[str, str | None], list[str]] = {}
    for one in found["missing"].values():
        lacking.setdefault((one["reason"], one["command"]), []).append(one["title"])
    for (reason, command), titles in lacking.items():
        parts += [Text(), *wrap(Text(f"Not in it: {_join(titles)}. {reason}"), width)]
        steps = command.split(" && ") if command else []
        parts += [Text("  ", overflow="fold").append(step, "cyan") for step in steps]
    if found["files"]:
        parts += [Text(), *wrap(Text(f"Files beside it: {', '.join(found['files'])}", FAINT), width)]
    return Group(*parts)


def _join(titles: Sequence[str]) -> str:
    names = [title[0].lower() + title[1:] for title in titles]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
