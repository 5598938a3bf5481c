"""How a feature splits, on the terminal."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.report.layout import (
    Field,
    count,
    draw_heading,
    draw_table,
    find_shared,
    fit_words,
    format_r,
    format_share,
    show_name,
)
from xmodel.report.visible import FAINT


def render_split(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `split_feature` found.

    Args:
        found: the description.
        width: cells per line.
    """
    title = Text(f"{found['side']} {found['feature']}", "bold cyan", no_wrap=True)
    title.append_text(Text(" of ", FAINT)).append_text(show_name(found["narrow"], width - 16))
    parts: list[RenderableType] = [Text(), title, *_draw_words(found["top_words"], width)]
    facts = f"fires on {count(found['firings'], 'word')} of the discovery half; its children on "
    parts.append(Text(facts + f"{format_share(round(1000 * found['covered']), 1000)} of them", FAINT))
    parts += _draw_children(f"Children in {found['wide']}", found["children"], found["top_words"], width)
    partner = found["partner"]
    if partner:
        parts += draw_heading(f"Partner in the other model: {partner['feature']} of {partner['sae']}")
        mutual = "each other's best" if partner["mutual"] else "not the best of its partner"
        parts.append(Text(f"r {format_r(partner['r'])}, held out {format_r(partner['r_heldout'])}, {mutual}"))
        parts += _draw_words(partner["top_words"], width)
    if "partner_split" in found:
        own = found["partner_split"]
        parts += _draw_children(f"Its children in {own['wide']}", own["children"], found["top_words"], width)
        parts += _draw_pairs("Children matched", own["matched"], ("child", "partner_child"), width)
    if "children_partners" in found:
        rows = found["children_partners"]["partners"]
        parts += _draw_pairs("Partners of the children", rows, ("child", "feature"), width)
    return Group(*parts, Text(), Text(found["verdict"], "bold"))


def _draw_words(words: Sequence[str], width: int) -> list[Text]:
    return [Text("fires most on: ", FAINT).append_text(fit_words(words, width - 15))]


def _draw_children(
    title: str, children: Sequence[Mapping[str, Any]], parent: Sequence[str], width: int
) -> list[Text]:
    lines = draw_heading(title)
    if not children:
        return [*lines, Text("none")]
    fields = [Field("child"), Field("r"), Field("held out"), Field("cosine"), Field("covers"), Field("fires")]
    rows, lists = [], []
    for one in children:
        cells = [str(one["feature"]), format_r(one["r"]), format_r(one["r_heldout"]), format_r(one["cosine"])]
        cells += [format_share(round(1000 * one["covers"]), 1000), f"{one['firings']:,}"]
        rows.append([Text(cell) for cell in cells])
        shared = find_shared(one["top_words"], parent)
        lists.append([partial(fit_words, one["top_words"], shared=shared)])
    return lines + draw_table(fields, rows, ["top words"], lists, width)


def _draw_pairs(
    title: str, pairs: Sequence[Mapping[str, Any]], names: tuple[str, str], width: int
) -> list[Text]:
    if not pairs:
        return []
    fields = [Field("child"), Field("partner"), Field("r"), Field("held out")]
    rows = [
        [Text(str(one[names[0]])), Text(str(one[names[1]]) + (" (the parent's)" if one.get("same") else ""))]
        + [Text(format_r(one[key])) for key in ("r", "r_heldout")]
        for one in pairs
    ]
    return draw_heading(title) + draw_table(fields, rows, [], [[]] * len(rows), width)
