"""A sweep on the terminal: per metric a matrix of layers, what the numbers mean, and similarity by width."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.report.layout import GAP, Field, count, draw_heading, draw_table, fit, pad, show_name, wrap
from xmodel.report.runs import WARNING
from xmodel.report.visible import FAINT
from xmodel.similarity.grids import LEVEL
from xmodel.similarity.heldout import MEAN_R
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.sweep import Sweep

STAR = "*"
"""Behind a value whose corrected p is at most `LEVEL`."""
_CORRECTIONS = {"holm": "Holm's correction", "max": "the max-statistic"}
NULLS = {
    "shuffle": "the same pairs with their partners shuffled",
    "shift": "pairs found anew after one model's words were shifted in a circle",
}


def describe_sweep(sweep: Sweep) -> dict[str, Any]:
    """Describe a sweep in the format of ``xmodel sweep --json``.

    Returns:
        What JSON can hold: ``run``, the folder; everything in sweep.json; and ``grid``, the rows of
        grid.parquet.

    Raises:
        InputError: if it is not finished, or damaged.
    """
    return {"run": str(sweep.path), **sweep.summary, "grid": sweep.grid.to_pylist()}


def render_sweep(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_sweep` found.

    Args:
        found: the description.
        width: cells per line.
    """
    parts: list[RenderableType] = [Text()]
    short = {letter: shorten_dictionary(found, letter) for letter in found["dictionaries"]}
    for side in "ab":
        parts += _draw_dictionaries(found, side, short, width)
    facts = f"{count(found['words'], 'word')}; pairs found on {found['discovery_words']:,} of them (rule: "
    facts += f"{found['sweep']['rule'].replace('_', ' ')}), held out {found['heldout_words']:,}."
    parts += [Text(), Text(facts)]
    for null in found["sweep"]["nulls"]:
        rows = [row for row in found["grid"] if row["null"] == null]
        parts += [*draw_heading(f"Against {NULLS[null]}"), *explain_test(rows, null)]
        for metric in dict.fromkeys(row["metric"] for row in rows):
            parts += _draw_metric(found, [row for row in rows if row["metric"] == metric], short, width)
    parts += _draw_widths(found, short, width)
    parts += _draw_warnings(found, width)
    parts += [Text(), Text("All numbers: ").append_text(show_name(f"{found['run']}/grid.parquet"))]
    return Group(*parts)


def _draw_dictionaries(
    found: Mapping[str, Any], side: str, short: Mapping[str, str], width: int
) -> list[Text]:
    letters = found["letters"][side]
    model = show_name(found["dictionaries"][letters[0]]["model"], width - 3)
    lines = [Text(no_wrap=True).append(f"{side}  ", "bold cyan").append_text(model)]
    room = max(len(short[letter]) for letter in letters)
    for letter in letters:
        own = found["dictionaries"][letter]
        fvu = "" if own["fvu"] is None else f", FVU {own['fvu']:.3f}"
        line = Text("   ", no_wrap=True).append(pad(Text(short[letter]), room))
        line.append(f"  {own['features']:,} features{fvu}  ", FAINT)
        lines.append(line.append_text(show_name(own["name"], max(8, width - cell_len(line.plain)))))
    return lines


def explain_test(rows: Sequence[Mapping[str, Any]], null: str) -> list[Text]:
    """A line on how the rows of one null were tested, and what the star means."""
    tested = [row for row in rows if row["p"] is not None]
    if not tested:
        return [Text("No cell could be tested.", WARNING)]
    draws = {row["permutations"] for row in tested}
    cells = len(tested) // len({row["metric"] for row in tested})
    what = "shuffles per cell" if null == "shuffle" else "shifts, the same for all cells"
    line = (
        f"{max(draws):,} {what}; the least p is {1 / (max(draws) + 1):.2g}. {STAR}: p at most {LEVEL} after "
    )
    line += f"{_CORRECTIONS[tested[0]['correction']]} for {count(cells, 'cell')} of a metric."
    return [Text(line)]


def _draw_metric(
    found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], short: Mapping[str, str], width: int
) -> list[Text]:
    """One matrix: rows are A's dictionaries, columns B's; blocks of columns where the page is narrow."""
    cells = {(row["sae_a"], row["site_a"], row["sae_b"], row["site_b"]): row for row in rows}
    name = {letter: (own["name"], own["site"]) for letter, own in found["dictionaries"].items()}
    first = found["letters"]["a"]
    metric = rows[0]["metric"]
    label = "mean r of the pairs on held-out words" if metric == MEAN_R else parse_metric(metric).label
    lines = [Text(), Text(label, "bold").append(describe_rows(rows), FAINT)]
    head = max(len(short[letter]) for letter in first)
    columns = {
        letter: [_show_cell(cells.get((*name[one], *name[letter]))) for one in first]
        for letter in found["letters"]["b"]
    }
    widths = {
        letter: max(len(short[letter]), *(cell_len(text.plain) for text in own))
        for letter, own in columns.items()
    }
    block: list[str] = []
    for letter in [*columns, None]:
        used = head + sum(widths[one] + GAP for one in block)
        if block and (letter is None or used + widths[letter] + GAP > width):
            lines += _draw_block(block, first, columns, widths, short, head, width)
            block = []
        if letter is not None:
            block.append(letter)
    return lines


def _draw_block(
    block: Sequence[str],
    first: Sequence[str],
    columns: Mapping[str, Sequence[Text]],
    widths: Mapping[str, int],
    short: Mapping[str, str],
    head: int,
    width: int,
) -> list[Text]:
    top = Text("a \\ b".ljust(head)[: max(head, 5)], FAINT, no_wrap=True)
    for letter in block:
        top.append(" " * GAP).append_text(pad(Text(short[letter], FAINT), widths[letter], right=True))
    lines = [top]
    for place, one in enumerate(first):
        line = Text(short[one].ljust(max(head, 5)), no_wrap=True)
        for letter in block:
            line.append(" " * GAP).append_text(pad(columns[letter][place], widths[letter], right=True))
        lines.append(line)
    return [fit(line, width) for line in lines]


def _show_cell(row: Mapping[str, Any] | None) -> Text:
    if row is None or row["value"] is None:
        return Text("– ", WARNING)
    star = row["p_adjusted"] is not None and row["p_adjusted"] <= LEVEL
    return Text(f"{row['value']:.3f}", "bold" if star else "").append(STAR if star else " ")


def describe_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """What stands beside a metric's name: its null's mean, n, k, and p raw and corrected."""
    measured = [row for row in rows if row["value"] is not None]
    if not measured:
        return ""
    means = [row["null_mean"] for row in measured]
    text = f"  by chance {_show_range(means)}; n {_show_counts([row['n'] for row in measured])}"
    kept = [k for row in measured for k in (row["k_a"], row["k_b"]) if k is not None]
    if kept:
        least = min(row["n"] / max(row["k_a"], row["k_b"]) for row in measured)
        text += f", k {_show_counts(kept)}, n/k {least:.0f} or more"
    raw, corrected = (
        [row[name] for row in measured if row[name] is not None] for name in ("p", "p_adjusted")
    )
    if raw:
        text += f"; p {_show_p(raw)}, corrected {_show_p(corrected)}"
    return text


def _show_range(values: Sequence[float]) -> str:
    low, high = (f"{value + 0.0:.3f}".replace("-0.000", "0.000") for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _show_p(values: Sequence[float]) -> str:
    low, high = _small(min(values)), _small(max(values))
    return low if low == high else f"{low} to {high}"


def _show_counts(values: Sequence[int]) -> str:
    return f"{min(values):,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"


def _draw_widths(found: Mapping[str, Any], short: Mapping[str, str], width: int) -> list[Text]:
    """Similarity against the number of features, where a side has several sizes at one site."""
    own = [one for one in found["widths"] if one["null"] == found["sweep"]["nulls"][0]]
    lines: list[Text] = []
    for side, site in dict.fromkeys((one["side"], one["site"]) for one in own):
        lines += draw_heading(f"Similarity by width: the SAEs of {side} at {shorten_site(site)}")
        lines += _draw_site(
            found, [one for one in own if (one["side"], one["site"]) == (side, site)], short, width
        )
    if lines:
        note = "Pairs differ in number, and so does what chance gives: compare value less chance."
        lines += wrap(Text(note, FAINT), width)
    return lines


def _draw_site(
    found: Mapping[str, Any], trajectories: Sequence[Mapping[str, Any]], short: Mapping[str, str], width: int
) -> list[Text]:
    names = {(own["name"], own["site"]): short[letter] for letter, own in found["dictionaries"].items()}
    fields = [
        Field("partner", right=False), Field("metric", right=False), Field("features"), Field("value"),
        Field("chance"), Field("p"), Field("corrected"), Field("n"),
    ]  # fmt: skip
    rows: list[list[Text]] = []
    for one in trajectories:
        lead = [names[one["partner"], one["partner_site"]], one["metric"].partition(":")[0]]
        for point in one["points"]:
            own = [f"{point['features']:,}", *(_number(point[key]) for key in ("value", "null_mean"))]
            own += [*(_small(point[key]) for key in ("p", "p_adjusted")), f"{point['n']:,}"]
            rows.append([Text(text) for text in (*lead, *own)])
            lead = ["", ""]
    return draw_table(fields, rows, [], [[]] * len(rows), width)


def _draw_warnings(found: Mapping[str, Any], width: int) -> list[Text]:
    told: dict[str, list[str]] = {}
    for row in found["grid"]:
        if row["warning"]:
            told.setdefault(row["warning"], []).append(row["metric"].partition(":")[0])
    lines = draw_heading("Warnings") if told else []
    for warning, metrics in told.items():
        text = f"{count(len(metrics), 'row')} ({', '.join(dict.fromkeys(metrics))}): {warning}"
        lines += wrap(Text(text, WARNING), width)
    if "shift_estimate" in found:
        own = found["shift_estimate"]
        text = f"Shifts were estimated at {own['seconds']:,.0f} seconds and took "
        text += f"{found['seconds']['shift']:,.0f}, with reading the features."
        lines += [Text(), Text(text, FAINT)]
    return lines


def shorten_dictionary(found: Mapping[str, Any], letter: str) -> str:
    """A short name of a dictionary: its site, with the number of features where that is needed."""
    own = found["dictionaries"][letter]
    site = shorten_site(own["site"])
    same = [
        one
        for one in (found["dictionaries"][other] for other in found["letters"][letter[0]])
        if one["site"] == own["site"]
    ]
    if len(same) == 1:
        return site
    if len({one["features"] for one in same}) == len(same):
        return f"{site} {own['features']:,}"
    return f"{site} #{found['letters'][letter[0]].index(letter) + 1}"


def shorten_site(site: str) -> str:
    """``3.resid_post`` for ``blocks.3.hook_resid_post``, and ``3`` where it is that."""
    short = site.removeprefix("blocks.").replace("hook_", "")
    block, _, kind = short.partition(".")
    return f"block {block}" if kind == "resid_post" else short


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-0.000", "0.000")


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value < 0.01 else f"{value:.3f}"
