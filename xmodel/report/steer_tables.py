"""What steering found as tables: every dose and depth, and what chance gives by every null."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.text import Text

from xmodel.report.layout import (
    Field,
    count,
    draw_heading,
    draw_table,
    format_r,
    format_share,
    pad,
    wrap,
)
from xmodel.report.scores import format_p
from xmodel.report.visible import FAINT

MARK = "▸"
"""In front of the cell that the sentences are about."""
_NAME = 17
_VALUE = 6


def draw_cells(found: Mapping[str, Any], width: int) -> list[Text]:
    """A row for each dose and depth."""
    cells, push = found["cells"], found["mode"] == "push"
    # The first columns are those that must not be missed on a narrow terminal.
    titles = ["depth", "partners", "others", "p", "beyond", "top-1", "hard", "pairs", "±", "top-5"]
    fields = [Field(one) for one in (["dose", *titles] if push else titles)]
    rows = []
    for place, cell in enumerate(cells):
        excess = None if cell["excess"] is None else cell["excess"]["difference"]
        interval = None if excess is None else excess["interval"]
        own = [
            Text(f"{cell['depth']:g}"),
            Text(format_r(cell["mean_diagonal"]), "bold"),
            Text(format_r(cell["mean_off_diagonal"])),
            Text(format_p(cell["p_max"])),
            Text(format_r(None if excess is None else excess["value"])),
            Text(format_share(cell["retrieval"]["top1"], 1)),
            Text("–" if cell["auroc"]["hard"] is None else f"{cell['auroc']['hard']:.2f}"),
            Text(f"{cell['pairs_significant']:,}"),
            Text(format_r(None if interval is None else (interval[1] - interval[0]) / 2)),
            Text(format_share(cell["retrieval"]["top5"], 1)),
        ]
        row = [Text(f"{cell['dose']:g}"), *own] if push else own
        if place == found["primary"] and len(cells) > 1:
            row[0] = Text(f"{MARK} ").append_text(row[0])
        rows.append(row)
    lines = draw_heading("By dose and depth" if push else "By depth")
    table = draw_table(fields, rows, [], [[] for _ in rows], width)
    lines += table
    shown = set(table[0].plain.split())
    if lost := [one for one in titles if one not in shown]:
        lines += wrap(Text(f"no room here for: {', '.join(lost)}", FAINT), width)
    return [*lines, *wrap(Text(explain_cells(found, shown), FAINT), width)]


def explain_cells(found: Mapping[str, Any], shown: set[str]) -> str:
    """What the columns that are shown mean."""
    cells, settings = found["cells"], found["settings"]
    own = cells[found["primary"]]["retrieval"]
    many = f", corrected for the {len(cells)} rows" if len(cells) > 1 else ""
    told = []
    if len(cells) > 1:
        told.append(f"{MARK} what the sentences above are about, chosen before anything was measured.")
    terms = {
        "dose": "the push's length by the residual stream's.",
        "depth": f"how far from the site to the last block; {_tell_blocks(found)}.",
        "partners": "their mean agreement; others: that of all other pairs.",
        "p": f"of the difference, by {settings['permutations']:,} exchanges of partners{many}.",
        "beyond": "the difference less what random layers give.",
        "±": "half of the 95% interval of that.",
        "top-1": f"the partner comes first (chance {format_share(own['chance1'], 1)}).",
        "top-5": f"it is among five (chance {format_share(own['chance5'], 1)}).",
        "hard": "how often a pair that has a hard pair beats one (chance 0.50).",
        "pairs": "those that by themselves transfer beyond all their nulls.",
    }
    if cells[found["primary"]]["p_max"] is None:
        del terms["p"]
    if cells[found["primary"]]["excess"] is None:
        del terms["beyond"], terms["±"]
    return " ".join(told + [f"{name}: {term}" for name, term in terms.items() if name in shown])


def _tell_blocks(found: Mapping[str, Any]) -> str:
    """After which blocks each depth is read, and which depths are one block: small models have few."""
    own = {cell["depth"]: cell for cell in found["cells"]}
    told, same = [], []
    for side in "ab":
        blocks = [cell[f"block_{side}"] for cell in own.values()]
        last = found["sides"][side]["layers"] - 1
        told.append(f"{', '.join(map(str, blocks))} of 0 to {last} in {side.upper()}")
        for block in dict.fromkeys(blocks):
            depths = [f"{depth:g}" for depth, cell in own.items() if cell[f"block_{side}"] == block]
            if len(depths) > 1:
                same.append(f"{' and '.join(depths)} are one block of {side.upper()}")
    word = "blocks" if len(own) > 1 else "block"
    return ". ".join([f"read after {word} {' and '.join(told)}", *([", ".join(same)] if same else [])])


def draw_nulls(found: Mapping[str, Any], width: int) -> list[Text]:
    """What `list_nulls` says, as a table."""
    title = "What chance gives: mean agreement, by what is put in the partner's place"
    lines = [line for heading in draw_heading(title) for line in wrap(heading, width)]
    for name, value, told in list_nulls(found):
        own = name == "partners"
        line = pad(Text(name, "bold" if own else ""), _NAME)
        line.append("  ").append_text(pad(Text(format_r(value), "bold" if own else ""), _VALUE, right=True))
        if told:
            line.append(f"  {told}", FAINT)
        lines += wrap_after(line, width, _NAME + _VALUE + 4)
    return [*lines, *wrap(Text(tell_single(found)), width)]


def list_nulls(found: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Mean T of everything that is no pair, from what is easily beaten to what is not; then partners.

    Returns:
        Name, mean and explanation of what was measured.
    """
    cell = found["cells"][found["primary"]]
    means, random = cell["means"], cell["reinitialised"]
    hard = found["hard_pairs"]
    matched = format_share(hard["matched"], 1)
    live, matched_mean = _count_live(found), means["partners_matched"]
    draws = 0 if random is None else random["draws"]
    rows = [
        ("words permuted", means.get("words"), "within their passages"),
        ("random directions", means.get("random"), f"{found['settings']['random']:,} of B"),
        ("live features", means.get("live"), f"{live:,} of B that fire as often"),
        ("other pairs", cell["mean_off_diagonal"], "partners exchanged"),
        ("next best", means["next_best"], "A's second best partner"),
        (
            "hard pairs",
            means["hard"],
            f"fire as much alike, but are no partners; found for {matched} of pairs ({hard['count']:,})",
        ),
        (
            "random layers",
            None if random is None else random["mean_diagonal"],
            f"after the site, in both models; {count(draws, 'draw')}",
        ),
        (
            "partners",
            cell["mean_diagonal"],
            "" if matched_mean is None else f"those that have a hard pair {format_r(matched_mean)}",
        ),
    ]
    return [(name, value, told) for name, value, told in rows if value is not None]


def wrap_after(line: Text, width: int, indent: int) -> list[Text]:
    """Break a line whose continuation stands in a column of its own."""
    first, rest = line[:indent], line[indent:]
    lines = wrap(rest, max(width - indent, 10))
    heads = [first, *(Text(" " * indent) for _ in lines[1:])]
    return [head.append_text(own) for head, own in zip(heads, lines, strict=True)]


def tell_single(found: Mapping[str, Any]) -> str:
    """How many pairs transfer by themselves, and where too few draws are why none does."""
    settings, clear, live = found["settings"], found["pairs_significant"], _count_live(found)
    fired = found.get("ablation")
    pairs = len(found["pairs"]) if fired is None else fired["pairs"]
    draws = {"permuted words": settings["permutations"]}
    if found["cells"][found["primary"]]["means"].get("random") is not None:
        draws["random directions"] = settings["random"]
    if live:
        draws["live features"] = live
    names = list(draws)
    against = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    told = (
        f"Pair by pair, {clear:,} of {pairs:,} transfer beyond {against}, at a false discovery rate of "
        f"{settings['alpha']:g}."
    )
    few = min(draws.values())
    least = 1 / (few + 1)
    if not clear and least * pairs > settings["alpha"]:
        needed = int(np.ceil(least * pairs / settings["alpha"]))
        told += f" With {few:,} draws no p lies below {format_p(least)}: "
        told += "too few for any." if needed > pairs else f"none counts unless {needed} or more reach that."
    return told


def _count_live(found: Mapping[str, Any]) -> int:
    """Live features that are a null; of an ablation those that fire on the passages."""
    return found["live"] if found.get("ablation") is None else found["ablation"]["live"]
