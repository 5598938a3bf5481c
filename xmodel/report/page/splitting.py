"""How features split from a narrow dictionary into a wider one, and what became of their partners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

import numpy as np

from xmodel.report.layout import count, format_share
from xmodel.report.page.records import Column, Figure, Lines, Scatter, Series, Table
from xmodel.report.page.texts import show_plain
from xmodel.similarity.kept_splits import read_splits
from xmodel.similarity.sweep import Sweep

MOST = 12
"""Features whose splitting is drawn, those that were asked for last."""
MOST_COLOURS = 8
"""Curves that can be told apart by their colours."""
_WORD = 40


@dataclass(frozen=True)
class Splits:
    """What the page says of splitting."""

    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def build_splits(sweep: Sweep, found: Mapping[str, Any], name: str) -> Splits:
    """Figures and tables of all features whose splitting was asked for.

    Args:
        sweep: the sweep.
        found: what `xmodel.report.sweep.describe_sweep` says of it.
        name: the sweep as it is typed in commands.

    Returns:
        Nothing where no site has SAEs of two widths; how to ask where none was asked for.

    Raises:
        InputError: if what is kept is damaged.
    """
    splits = read_splits(sweep)
    if not splits:
        sides = sorted({one["side"] for one in found["widths"]})
        if not sides:
            return Splits()
        told = f"How a feature of the narrower SAE splits: `xmodel split {quote(name)} --{sides[0]} N`"
        return Splits(notes=(f"{told}, and then `xmodel report` again.",))
    shown = splits[-MOST:]
    numbers = {one["name"]: one["features"] for one in found["dictionaries"].values()}
    notes = (
        "Children are the features of the wider SAE that match this one best among the narrower SAE's; "
        "covers: share of its firings on which the child fires; r over words of the discovery half, held "
        "out on the others.",
    )
    if len(splits) > len(shown):
        notes += (f"Of {len(splits):,} features that were asked for, the last {len(shown)} are shown.",)
    return Splits(
        sentences=tuple(
            f"{one['side'].upper()}: {one['verdict']}" for one in shown if not _list_matches(one)
        ),
        figures=(*_draw_all(shown), *(_draw_fan(one, numbers) for one in shown if _list_matches(one))),
        tables=tuple(_list_children(one) for one in shown if one["children"]),
        notes=notes,
    )


def _list_matches(split: Mapping[str, Any]) -> dict[int, tuple[int, float | None]]:
    """By child: its partner in the other model, and their r on held-out words."""
    if "partner_split" in split:
        own = split["partner_split"].get("matched", [])
        return {one["child"]: (one["partner_child"], one["r_heldout"]) for one in own}
    own = split.get("children_partners", {}).get("partners", [])
    return {one["child"]: (one["feature"], one["r_heldout"]) for one in own}


def _take_chance(split: Mapping[str, Any]) -> float | None:
    own = split.get("partner_split") or split.get("children_partners") or {}
    return own.get("null_mean")


def _name_split(split: Mapping[str, Any]) -> str:
    return f"{split['side'].upper()} {split['feature']}"


def _draw_all(splits: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Every child: how much of its parent it covers, and how well it goes with a partner."""
    points = [
        (child["covers"], matches[child["feature"]][1], _name_split(split), _tell_child(split, child))
        for split in splits
        for matches in (_list_matches(split),)
        for child in split["children"]
        if matches.get(child["feature"], (0, None))[1] is not None
    ]
    if len(points) < 2:
        return []
    x, y, groups, hover = zip(*points, strict=True)
    return [
        Scatter(
            name="splits",
            title="Children of the features that were split",
            caption=f"{count(len(points), 'child').replace('childs', 'children')} of "
            f"{count(len(splits), 'feature')}: to the right, those that cover much of their parent; higher, "
            "those that go well with a partner in the other model.",
            x_label="share of the parent's firings that the child covers",
            y_label="r of the child with its partner, held out",
            x=np.array(x, np.float64),
            y=np.array(y, np.float64),
            hover=hover,
            groups=groups,
        )
    ]


def _tell_child(split: Mapping[str, Any], child: Mapping[str, Any]) -> str:
    partner = _list_matches(split)[child["feature"]][0]
    return f"{child['feature']} (with {partner}): {_join(child['top_words'][:4])}"


def _draw_fan(split: Mapping[str, Any], numbers: Mapping[str, int]) -> Lines:
    """From the feature's r with its partner to those of its children with theirs."""
    matches, partner = _list_matches(split), split["partner"]
    widths = np.array([numbers[split["narrow"]], numbers[split["wide"]]], np.float64)
    start = np.nan if partner is None or partner["r_heldout"] is None else partner["r_heldout"]
    series = []
    for child in split["children"]:
        other, r = matches.get(child["feature"], (0, None))
        if r is None:
            continue
        label = f"{child['feature']} with {other}, covers {format_share(child['covers'], 1)}"
        series.append(Series(label=label, x=widths, y=np.array([start, r], np.float64)))
    chance = _take_chance(split)
    if chance is not None:
        label = "children with those of other features, by chance"
        series.append(Series(label=label, x=widths, y=np.array([chance, chance]), dashed=True))
    covered = format_share(round(1000 * split["covered"]), 1000)
    begun = ""
    if partner is not None:
        known = "no r on held-out words" if np.isnan(start) else f"r {start:.3f}, held out"
        begun = f" Its own partner is {partner['feature']} ({known})."
    return Lines(
        name=f"split-{split['side']}-{split['feature']}",
        title=f"How {_name_split(split)} splits, from {int(widths[0]):,} to {int(widths[1]):,} features",
        caption=f"{split['verdict']}{begun} Its children fire on {covered} of the words on which it fires.",
        x_label="features of the SAE",
        y_label="r with the partner, held out",
        series=tuple(series),
        pick=len(series) > MOST_COLOURS,
    )


def _list_children(split: Mapping[str, Any]) -> Table:
    matches, rows = _list_matches(split), []
    for child in split["children"]:
        other, r = matches.get(child["feature"], (None, None))
        numbers = (child[key] for key in ("r", "r_heldout", "cosine", "covers", "firings"))
        rows.append((str(child["feature"]), _join(child["top_words"]), *numbers, _spell(other), r))
    columns = (
        Column("child"),
        Column("fires most on"),
        Column("r", "r"),
        Column("held out", "r"),
        Column("cosine", "r", "of the decoder directions of child and parent"),
        Column("covers", "share"),
        Column("firings", "count", "words of the discovery half on which the child fires"),
        Column("partner", "text", "the child's partner in the other model"),
        Column("r with it", "r", "on held-out words"),
    )
    title = f"Children of {_name_split(split)} ({_join(split['top_words'])})"
    names = (show_plain(split[key], 80) for key in ("narrow", "wide"))
    return Table(title=title, columns=columns, rows=tuple(rows), caption=" to ".join(names))


def _spell(feature: int | None) -> str | None:
    return None if feature is None else str(feature)


def _join(words: Sequence[str]) -> str:
    return ", ".join(show_plain(word, _WORD) for word in words)
