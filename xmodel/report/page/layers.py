"""The part of the page about layers: a heatmap per metric of a sweep, similarity by width, and splitting."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from xmodel.pairing.results import read_manifest
from xmodel.report.layout import count
from xmodel.report.page.layer_order import find_depth, tell_order
from xmodel.report.page.records import Column, Figure, Heatmap, Lines, Missing, Part, Series, Table
from xmodel.report.page.splitting import build_splits
from xmodel.report.page.texts import show_plain
from xmodel.report.scores import CONFIRM, format_p
from xmodel.report.sweep import NULLS, STAR, describe_sweep, explain_test, shorten_dictionary, shorten_site
from xmodel.run import RunFolder
from xmodel.similarity.grids import LEVEL
from xmodel.similarity.heldout import MEAN_R
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.sweep import Sweep, open_sweep

NAME, TITLE = "layers", "Layers"
MOST_CELLS = 120
"""Rows of the table of all cells; a larger grid is in its file."""
_GENERIC = "--sae-a SAE --sae-a SAE --sae-b SAE --sae-b SAE --corpus CORPUS --out SWEEP"


def build_layers(path: Path, *, sweep: Path | None = None, name: str | None = None) -> Part:
    """The grid of layers of a run's own sweep, or of another one.

    Args:
        path: the run, which may be a sweep itself.
        sweep: the folder of another sweep, which goes before the run's own.
        name: the run as it is typed in commands; left out, its path.

    Returns:
        The part ``layers``; where there is no sweep, why and how to add one.

    Raises:
        InputError: if `sweep` holds no finished sweep, or a file of it is damaged.
    """
    typed = quote(name or str(path))
    if sweep is None and not (path / "sweep.json").is_file():
        reason = "No sweep over layers was given: a run compares one dictionary of each model."
        command = f"xmodel sweep {_GENERIC} && xmodel report {typed} --sweep SWEEP"
        return Part(name=NAME, title=TITLE, missing=Missing(reason, command))
    opened = open_sweep(path if sweep is None else sweep)
    found = describe_sweep(opened)
    short = {letter: _name_layer(found, letter) for letter in found["dictionaries"]}
    letters = {side: sort_by_depth(found, side) for side in "ab"}
    sentences, figures = [_tell_headline(found), _tell_grid(found)], []
    if sweep is not None and (told := _tell_other(path, opened)):
        sentences.append(told)
    tables: list[Table] = [_list_dictionaries(found, letters, short)]
    for null in found["sweep"]["nulls"]:
        rows = [row for row in found["grid"] if row["null"] == null]
        tested = explain_test(rows, null)[0].plain.replace(f"{STAR}: p", "Marked: p")
        sentences.append(f"Against {NULLS[null]}: {tested}{_tell_caveat(found, null)}")
        for metric in dict.fromkeys(row["metric"] for row in rows):
            own = [row for row in rows if row["metric"] == metric]
            above = _measure_above(found, own, letters)
            sentences.append(_tell_metric(found, own, above, short))
            caption = _tell_depth(found, own, above, short)
            figures.append(_draw_metric(found, own, letters, short, caption))
    figures += _draw_widths(found, short)
    tables += _list_cells(found, letters, short)
    splits = build_splits(opened, found, name if sweep is None and name else str(opened.path))
    return Part(
        name=NAME,
        title=TITLE,
        sentences=(*sentences, *splits.sentences),
        figures=(*figures, *splits.figures),
        tables=(*tables, *splits.tables),
        notes=(*_list_notes(found), *splits.notes),
    )


def sort_by_depth(found: Mapping[str, Any], side: str) -> list[str]:
    """The letters of a side's dictionaries, the first site of the model first, narrow ones before wide ones.

    Args:
        found: what `describe_sweep` gives.
        side: ``a`` or ``b``.
    """

    own = found["dictionaries"]
    return sorted(
        found["letters"][side], key=lambda one: (*find_depth(own[one]["site"]), own[one]["features"])
    )


def name_metric(metric: str) -> str:
    """A metric of the grid in words."""
    label = "mean r of the pairs on held-out words" if metric == MEAN_R else parse_metric(metric).label
    return label[0].upper() + label[1:]


def _tell_headline(found: Mapping[str, Any]) -> str:
    """How many pairs of layers are beyond chance by all metrics, and by any, against the first null."""
    null = found["sweep"]["nulls"][0]
    cells: dict[tuple[str, ...], list[bool]] = {}
    for row in found["grid"]:
        if row["null"] == null and row["p_adjusted"] is not None:
            key = (row["sae_a"], row["site_a"], row["sae_b"], row["site_b"])
            cells.setdefault(key, []).append(_is_clear(row))
    if not cells:
        return "No pair of layers could be tested."
    metrics = len({row["metric"] for row in found["grid"]})
    whole = [own for own in cells.values() if len(own) == metrics]
    every, some = sum(map(all, whole)), sum(map(any, cells.values()))
    told = f"{every:,} of {count(len(whole), 'pair')} of layers"
    alike = "is more alike than chance" if every == 1 else "are more alike than chance"
    if metrics == 1:
        return f"{told} {alike}."
    tested = "" if len(whole) == len(cells) else f" that could be tested by all {metrics} metrics"
    return (
        f"{told}{tested} {alike} by every one of {metrics} metrics, {some:,} of {len(cells):,} by at least "
        "one; p is corrected for the cells of a metric, not for trying several metrics."
    )


def _tell_caveat(found: Mapping[str, Any], null: str) -> str:
    """What is to be kept in mind of a null that does not pair again."""
    if null != "shuffle":
        return ""
    if "shift" not in found["sweep"]["nulls"]:
        return f" {CONFIRM}"
    return f" {CONFIRM.partition('. ')[0]}; shifts, which pair the features again, are no such null."


def _tell_grid(found: Mapping[str, Any]) -> str:
    sides = [
        f"{count(len(own), 'dictionary').replace('dictionarys', 'dictionaries')} of {side.upper()} "
        f"({show_plain(found['dictionaries'][own[0]]['model'], 80)})"
        for side, own in found["letters"].items()
    ]
    return (
        f"{sides[0]} against {sides[1]}, on {count(found['words'], 'word')}. Pairs were found on "
        f"{found['discovery_words']:,} of them (rule: {found['sweep']['rule'].replace('_', ' ')}); "
        f"{found['heldout_words']:,} were held out."
    )


def _tell_other(path: Path, sweep: Sweep) -> str | None:
    """Whether the sweep is of other models than the run."""
    own, theirs = read_manifest(RunFolder(path)), sweep.run.manifest
    models = [
        [side["model"]["name"] for side in (one["sides"]["a"], one["sides"]["b"])] for one in (own, theirs)
    ]
    if models[0] == models[1]:
        return None
    names = " and ".join(show_plain(model, 80) for model in models[1])
    return f"Mind that this sweep is of other models than this page's run: {names}."


def _name_layer(found: Mapping[str, Any], letter: str) -> str:
    """A dictionary's site, with its width in brackets where a site has several."""
    site = shorten_site(found["dictionaries"][letter]["site"])
    rest = shorten_dictionary(found, letter).removeprefix(site).strip()
    return f"{site} ({rest})" if rest else site


def _key(found: Mapping[str, Any], a: str, b: str) -> tuple[str, ...]:
    first, second = found["dictionaries"][a], found["dictionaries"][b]
    return first["name"], first["site"], second["name"], second["site"]


def _place_rows(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    return {(row["sae_a"], row["site_a"], row["sae_b"], row["site_b"]): row for row in rows}


def _draw_metric(
    found: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    letters: Mapping[str, Sequence[str]],
    short: Mapping[str, str],
    caption: str,
) -> Heatmap:
    placed = _place_rows(rows)
    grid = [[placed.get(_key(found, a, b)) for b in letters["b"]] for a in letters["a"]]
    label, null = name_metric(rows[0]["metric"]), rows[0]["null"]
    beside = f", against {NULLS[null]}" if len(found["sweep"]["nulls"]) > 1 else ""
    return Heatmap(
        name=f"layers-{_spell(rows[0]['metric'])}-{null}",
        title=label + beside,
        caption=caption,
        x_label="layer of B",
        y_label="layer of A",
        x=tuple(short[letter] for letter in letters["b"]),
        y=tuple(short[letter] for letter in letters["a"]),
        values=np.array([[_number(row) for row in line] for line in grid]),
        value_label="held-out r" if rows[0]["metric"] == MEAN_R else label,
        marked=np.array([[_is_clear(row) for row in line] for line in grid]),
        marked_label=f"corrected p at most {LEVEL:g}",
        hover=tuple(tuple(_tell_cell(row) for row in line) for line in grid),
    )


def _tell_cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "not measured" if row is None or not row["warning"] else row["warning"]
    told = count(row["n"], "pair")
    if row["null_mean"] is None:
        return f"{told}; not tested"
    told += f"; by chance {row['null_mean']:.3f}"
    return f"{told}; p {format_p(row['p'])}, corrected {format_p(row['p_adjusted'])}"


Above = Mapping[tuple[str, str], float]


def _measure_above(
    found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], letters: Mapping[str, Sequence[str]]
) -> Above:
    """By cell, how far a metric lies above chance: pairs differ in number, and so does what chance gives."""
    placed = _place_rows(rows)
    cells = {(a, b): placed.get(_key(found, a, b)) for a in letters["a"] for b in letters["b"]}
    return {
        cell: row["value"] - row["null_mean"]
        for cell, row in cells.items()
        if row is not None and row["value"] is not None and row["null_mean"] is not None
    }


def _tell_metric(
    found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], above: Above, short: Mapping[str, str]
) -> str:
    """How many cells are beyond chance, and which is farthest."""
    label = name_metric(rows[0]["metric"])
    if not above:
        return f"{label}: no cell could be tested."
    tested = [row for row in rows if row["p_adjusted"] is not None]
    best = max(above, key=lambda cell: above[cell])
    own = _place_rows(rows)[_key(found, *best)]
    told = f"{sum(map(_is_clear, tested))} of {count(len(tested), 'cell')} beyond chance; farthest above it "
    told += f"A's {short[best[0]]} with B's {short[best[1]]}, {own['value']:.3f} (by chance "
    return f"{label}: {told}{own['null_mean']:.3f}; corrected p {format_p(own['p_adjusted'])})."


def _tell_depth(
    found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], above: Above, short: Mapping[str, str]
) -> str:
    """The range of a metric, which layer of B is nearest to each of A's, and whether these are in order."""
    values = [row["value"] for row in rows if row["value"] is not None]
    chance = [row["null_mean"] for row in rows if row["null_mean"] is not None]
    told = "Rows are A's layers, columns B's, in order of depth."
    if values:
        told += f" From {_span(values)}" + (f", by chance {_span(chance)}." if chance else ".")
    placed = _place_rows(rows)
    clear = {cell: above[cell] for cell in above if _is_clear(placed[_key(found, *cell)])}
    sites = {letter: own["site"] for letter, own in found["dictionaries"].items()}
    if len({sites[letter] for letter in found["letters"]["b"]}) < 2:
        return told
    return told + tell_order(clear, sites, short)


def _draw_widths(found: Mapping[str, Any], short: Mapping[str, str]) -> list[Figure]:
    """Similarity against the number of features, where a side has SAEs of several sizes at one site."""
    own = [one for one in found["widths"] if one["null"] == found["sweep"]["nulls"][0]]
    names = {(one["name"], one["site"]): short[letter] for letter, one in found["dictionaries"].items()}
    figures: list[Figure] = []
    for side, site, metric in dict.fromkeys((one["side"], one["site"], one["metric"]) for one in own):
        series = []
        for one in own:
            if (one["side"], one["site"], one["metric"]) != (side, site, metric):
                continue
            label = names[one["partner"], one["partner_site"]]
            x = np.array([point["features"] for point in one["points"]], np.float64)
            y, chance = (
                np.array([point[key] for point in one["points"]], np.float64)
                for key in ("value", "null_mean")
            )
            series.append(Series(label=label, x=x, y=y - chance))
        place, other = shorten_site(site), "B" if side == "a" else "A"
        figures.append(
            Lines(
                name=f"widths-{side}-{_spell(place)}-{_spell(metric)}",
                title=f"{name_metric(metric)} by width: the SAEs of {side.upper()} at {place}",
                caption=f"A curve for each layer of {other}. Pairs differ in number, and so does what chance "
                "gives, which is taken away: 0 is what chance gives on average.",
                x_label=f"features of {side.upper()}'s SAE",
                y_label=f"{name_metric(metric)}, less chance",
                series=tuple(series),
            )
        )
    return figures


def _list_dictionaries(
    found: Mapping[str, Any], letters: Mapping[str, Sequence[str]], short: Mapping[str, str]
) -> Table:
    rows = []
    for side in "ab":
        for letter in letters[side]:
            own = found["dictionaries"][letter]
            name = show_plain(own["name"], 120)
            rows.append((side.upper(), short[letter], name, own["features"], own["fvu"]))
    return Table(
        title="The dictionaries",
        columns=(
            Column("side"),
            Column("layer"),
            Column("dictionary"),
            Column("features", "count"),
            Column("FVU", "value", "share of variance that the dictionary leaves unexplained at its site"),
        ),
        rows=tuple(rows),
    )


def _list_cells(
    found: Mapping[str, Any], letters: Mapping[str, Sequence[str]], short: Mapping[str, str]
) -> list[Table]:
    if len(found["grid"]) > MOST_CELLS:
        return []
    order = {(a, b): (a, b) for a in letters["a"] for b in letters["b"]}
    names = {_key(found, a, b): (short[a], short[b]) for a, b in order}
    rows = [
        (
            *names[row["sae_a"], row["site_a"], row["sae_b"], row["site_b"]],
            row["metric"].partition(":")[0],
            row["null"],
            *(row[key] for key in ("value", "null_mean", "z", "p", "p_adjusted", "n")),
        )
        for row in found["grid"]
    ]
    columns = (
        *(Column(title) for title in ("A", "B", "metric", "null")),
        Column("value", "r"),
        Column("by chance", "r", "the mean of the null"),
        Column("z", "value"),
        Column("p", "p"),
        Column("corrected", "p", "over the cells of a metric"),
        Column("pairs", "count"),
    )
    return [Table(title="Every cell", columns=columns, rows=tuple(rows))]


def _list_notes(found: Mapping[str, Any]) -> list[str]:
    told: dict[str, int] = {}
    for row in found["grid"]:
        if row["warning"]:
            told[row["warning"]] = told.get(row["warning"], 0) + 1
    notes = [f"{count(number, 'row')}: {show_plain(warning, 500)}" for warning, number in told.items()]
    return [*notes, f"All numbers: grid.parquet in {show_plain(found['run'])}."]


def _number(row: Mapping[str, Any] | None) -> float:
    return np.nan if row is None or row["value"] is None else row["value"]


def _is_clear(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["p_adjusted"] is not None and row["p_adjusted"] <= LEVEL


def _span(values: Sequence[float]) -> str:
    # Adding 0 to what rounds to nothing takes its sign away.
    low, high = (f"{round(value, 3) + 0.0:.3f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _spell(name: str) -> str:
    """A name as a figure may bear it."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
