"""The first part of the page: what was compared, what was left out, and what was found."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.results import Run
from xmodel.report.layout import count, format_r, format_share
from xmodel.report.page.lan2024_tables import list_lan2024_tables
from xmodel.report.page.overview_tables import list_neighbours, list_rules, list_sides
from xmodel.report.page.records import Draws, Figure, Flow, Histogram, Part, Scatter, Stage
from xmodel.report.page.score_parts import MINUS, describe_scored
from xmodel.report.page.texts import show_plain
from xmodel.report.runs import HELD_OUT_NOTE, RULE_NAMES, describe_run, is_signed

NAME, TITLE = "overview", "Overview"
MOST_POINTS = 5_000
"""Pairs in the scatter plot."""
_WORRYING = ("ambiguous", "failed")
_FVU_NOTE = (
    "FVU: the share of the activations' variance that the SAE does not rebuild; 0 is all of it rebuilt, 1 no "
    "better than their mean. It is measured on the first word tokens of the corpus only: {}. A neighbouring "
    "site that is rebuilt better would mean that the SAE was put at the wrong place."
)


def build_overview(run: Run, name: str | None = None) -> Part:
    """What a run compared and found.

    Args:
        run: a finished run.
        name: the run as it is typed in commands; left out, its path.

    Returns:
        The part ``overview``: sentences, the ledger of filters, r of the pairs, their scores with the draws
        of their nulls, and tables. What is not there (scores) is named with the command that adds it.

    Raises:
        InputError: if the run is not finished, or a file is missing or damaged.
    """
    name = str(run.path) if name is None else name
    found = describe_run(run, 0)
    scored = describe_scored(run, quote(name))
    pairs = _draw_pairs(run, found)
    flow = _draw_flow(found)
    return Part(
        name=NAME,
        title=TITLE,
        sentences=(
            _tell_pairs(found),
            *scored.sentences,
            *(_tell_side(found, side) for side in "ab"),
            _tell_corpus(run, found),
            *_tell_worries(run, found),
        ),
        figures=(flow, *pairs, *scored.figures),
        tables=(
            list_sides(run, found),
            list_rules(found),
            *list_neighbours(run),
            *scored.tables,
            *list_lan2024_tables(run),
        ),
        notes=(*scored.notes, *_list_notes(found)),
    )


def _show_r(value: float | None) -> str:
    return format_r(value).replace("-", MINUS)


def _tell_pairs(found: Mapping[str, Any]) -> str:
    features, rules, again = found["features"]["a"], found["pairs"], found["reproduced"]
    best = rules.get("best_of_a")
    kept = f"Of A's {count(features['total'], 'feature')}, {features['kept']:,} passed the filters"
    if not best or not best["count"]:
        return f"{kept}, and none of them has a partner in B."
    r = "|r|" if is_signed(found["sides"]) else "r"
    told = (
        f"{kept}, and {best['count']:,} have a partner in B: mean {r} {_show_r(best['mean_r'])} where the "
        f"partners were found, {_show_r(best['mean_r_heldout'])} on held-out words, "
        f"{_show_r(best['mean_r_heldout_shuffled'])} there with partners shuffled."
    )
    if mutual := rules.get("mutual", {}).get("count"):
        told += f" {count(mutual, 'pair')} are each other's best partner."
    if judged := again["frequent_in_both_halves"]:
        share = format_share(again["same_best_partner"], judged)
        told += f" Searched for afresh on the held-out half, {share} of {judged:,} find the same one again."
    return told


def _tell_side(found: Mapping[str, Any], side: str) -> str:
    own, features = found["sides"][side], found["features"][side]
    told = (
        f"{side.upper()} is {show_plain(own['model'])} at `{show_plain(own['site'])}`, seen through "
        f"{show_plain(own['dictionary'])} ({show_plain(own['architecture'])}): "
        f"{count(features['total'], 'feature')}, of which {features['alive']:,} fire on the discovery "
        f"half and {features['kept']:,} passed the filters"
    )
    if own["fvu"] is None:
        return f"{told}."
    return f"{told}; it rebuilds all but {own['fvu']:.3f} of the activations' variance (FVU)."


def _tell_corpus(run: Run, found: Mapping[str, Any]) -> str:
    told = (
        f"Both read {show_plain(found['corpus'])}: {count(found['words'], found['unit'])} of "
        f"{count(found['documents'], 'document')}; pairs found on {found['discovery_words']:,} of them, "
        f"judged on {found['heldout_words']:,} others."
    )
    counts = {side: found["sides"][side]["certificates"] for side in "ab"}
    if not any(counts.values()):
        return told
    if counts["a"] == counts["b"]:
        return f"{told} Token spans in both models: {_list_certificates(counts['a'])}."
    each = "; ".join(f"{side.upper()} {_list_certificates(own)}" for side, own in counts.items())
    return f"{told} Token spans: {each}."


def _list_certificates(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{status} in {number:,}" for status, number in ordered) + (
        " document" if sum(counts.values()) == 1 else " documents"
    )


def _tell_worries(run: Run, found: Mapping[str, Any]) -> list[str]:
    """What the run itself was warned of."""
    told = []
    failed = run.manifest["corpus"].get("failed_documents", 0)
    if failed:
        told.append(
            f"Warning: {count(failed, 'document')} were left out, as ids and text do not fit in one model."
        )
    for side in "ab":
        own = found["sides"][side]
        note = run.manifest["sides"][side].get("calibration", {}).get("note")
        told += [f"Warning: {show_plain(str(one), 1000)}" for one in (own["misfit"], note) if one]
        worrying = [f"{status} in {own['certificates'][status]:,}" for status in _WORRYING
                    if own["certificates"].get(status)]  # fmt: skip
        if worrying:
            told.append(
                f"Warning: token spans of {side.upper()} are {' and '.join(worrying)} of its documents: the "
                "words there may have wrong tokens."
            )
    return told


def _draw_flow(found: Mapping[str, Any]) -> Flow:
    stages = []
    for one in found["attrition"]:
        group, separator, label = one["filter"].partition(": ")
        stages.append(
            Stage(
                group=group if separator else "all",
                label=label if separator else group,
                entered=one["in"],
                passed=one["out"],
            )
        )
    groups = list(dict.fromkeys(one.group for one in stages))
    stages.sort(key=lambda one: groups.index(one.group))
    ends = {group: [one for one in stages if one.group == group] for group in groups}
    told = ", ".join(f"{own[-1].passed:,} of {own[0].entered:,} {group}" for group, own in ends.items())
    worst = max(stages, key=lambda one: (one.entered - one.passed) / max(one.entered, 1), default=None)
    caption = f"What came through one filter after another: {told}."
    if worst is not None and worst.entered > worst.passed:
        share = format_share(worst.entered - worst.passed, worst.entered)
        caption += f" Most was left out by “{worst.label}” ({worst.group}): {share}."
    return Flow(name="attrition", title="What the filters left", caption=caption, stages=tuple(stages))


def _draw_pairs(run: Run, found: Mapping[str, Any]) -> list[Figure]:
    table = run.pairs
    rules = [
        rule for rule in ("mutual", "best_of_a") if rule in table.column_names and found["pairs"].get(rule)
    ]
    members = {rule: np.flatnonzero(table[rule].to_numpy()) for rule in rules}
    members = {rule: rows for rule, rows in members.items() if len(rows)}
    if not members:
        return []
    r = table["r"].to_numpy()
    rule, rows = next(iter(members.items()))
    own = found["pairs"][rule]
    marks = [(f"held out, {RULE_NAMES[rule]}", own["mean_r_heldout"])]
    marks.append(("the same, shuffled", own["mean_r_heldout_shuffled"]))
    told = "; ".join(
        f"{RULE_NAMES[rule]}: {len(own):,}, median {_show_r(float(np.median(r[own])))}"
        for rule, own in members.items()
    )
    histogram = Histogram(
        name="r-of-pairs",
        title="How strongly pairs correlate",
        caption=f"r where the pairs were found, by rule ({told}). {_tell_marks(own)}",
        x_label="Pearson's r over words",
        draws=tuple(
            Draws(label=RULE_NAMES[rule], values=np.asarray(r[rows], dtype=np.float64))
            for rule, rows in reversed(members.items())
        ),
        marks=tuple((label, value) for label, value in marks if value is not None),
        top=1.0,
    )
    scatter = _draw_heldout(table, rule, rows)
    return [histogram] if scatter is None else [histogram, scatter]


def _tell_marks(own: Mapping[str, Any]) -> str:
    if own["mean_r_heldout"] is None:
        return "None of them could be measured on held-out words."
    return (
        f"On held-out words the first have a mean of {_show_r(own['mean_r_heldout'])}, with partners "
        f"shuffled {_show_r(own['mean_r_heldout_shuffled'])}."
    )


def _draw_heldout(table: Any, rule: str, rows: NDArray[np.int64]) -> Scatter | None:
    r = np.asarray(table["r"].to_numpy()[rows], dtype=np.float64)
    heldout = np.asarray(table["r_heldout"].to_numpy()[rows], dtype=np.float64)
    known = np.flatnonzero(np.isfinite(heldout))
    if len(known) < 2:
        return None
    rows, r, heldout = rows[known], r[known], heldout[known]
    lost = float(np.mean(np.abs(r) - heldout * np.sign(r)))
    caption = (
        f"Each point is a pair ({RULE_NAMES[rule]}): r where it was found, and on held-out words, which "
    )
    caption += f"is less by {_show_r(lost)} on average."
    if len(rows) > MOST_POINTS:
        # The table is sorted by r, so that every n-th row is an even sample of the whole range.
        kept = np.linspace(0, len(rows) - 1, MOST_POINTS).round().astype(np.int64)
        caption += f" {MOST_POINTS:,} of {len(rows):,} pairs are shown, evenly over the range of r."
        rows, r, heldout = rows[kept], r[kept], heldout[kept]
    first, second = (table[f"feature_{side}"].to_numpy()[rows].tolist() for side in "ab")
    return Scatter(
        name="r-heldout",
        title="Does r hold on words that had no part in finding the pairs?",
        caption=caption,
        x_label="r where the pair was found",
        y_label="r on held-out words",
        x=r,
        y=heldout,
        hover=tuple(f"a {a} – b {b}" for a, b in zip(first, second, strict=True)),
        links=tuple(f"#a={a}&b={b}" for a, b in zip(first, second, strict=True)),
        diagonal=True,
    )


def _list_notes(found: Mapping[str, Any]) -> Sequence[str]:
    notes = [HELD_OUT_NOTE[0].upper() + HELD_OUT_NOTE[1:]]
    measured = {side: own["fvu_tokens"] for side, own in found["sides"].items() if own["fvu"] is not None}
    if measured:
        told = ", ".join(f"{number:,} of {side.upper()}" for side, number in measured.items())
        notes.append(_FVU_NOTE.format(told))
    return notes
