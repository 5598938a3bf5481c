"""Scores on the page: each value with what chance gives, as sentences, tables and histograms of the draws."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.report.layout import format_r
from xmodel.report.page.feature_concepts import spell_concept
from xmodel.report.page.records import Cell, Column, Draws, Histogram, Table
from xmodel.report.page.texts import show_plain
from xmodel.report.runs import RULE_NAMES
from xmodel.report.scores import CHANCE, CONFIRM, NULL_NAMES, format_p
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.null_draws import read_score_nulls
from xmodel.similarity.settings import ScoreSettings

MOST_HISTOGRAMS = 12
"""Scores whose draws are shown; the tables have all."""
TITLES = {
    "rule": "Scores by rule of pairing",
    "coverage": "Scores by coverage: the best pairs only",
    "stratum": "Scores by the number of words that A's feature fires on",
    "concept": "Scores by concept",
}
"""The tables, in their order."""
MINUS = "\u2212"
"""The sign of negative numbers in sentences."""
ALPHA = ScoreSettings.alpha
"""Level of the sentences; scores.json does not say which was asked for."""
_SAME = ("part", "rule", "concept", "subset", "null")
_ORDER = ("mutual", "one_to_one", "best_of_a", "best_of_b", "many_to_one", "optimal")
_CORRECTIONS = {
    "holm": "Holm",
    "bh": "Benjamini-Hochberg",
    "by": "Benjamini-Yekutieli",
    "max": "max-statistic",
}
_COLUMNS = (
    Column("pairs of"),
    Column("metric"),
    Column("chance", note="what was done to get values that mean nothing"),
    Column("pairs", "count"),
    Column("value", "r"),
    Column("null mean", "r"),
    Column("z", "value", "the value less the mean by chance, in standard deviations of chance"),
    Column("p", "p"),
    Column("corrected", "p", "p for the number of tests of this table against this chance"),
    Column("ceiling", "r", "what the noise of pairing allows: each model with itself, by halves of the text"),
    Column("interval", note="95 %, over resampled documents"),
)


@dataclass(frozen=True)
class ScoredPart:
    """What the overview says of scores."""

    sentences: tuple[str, ...]
    figures: tuple[Histogram, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def describe_scored(run: Run, name: str) -> ScoredPart:
    """Describe the scores of a run, those of pairs that are each other's best first.

    Args:
        run: a finished run.
        name: the run as it is typed in commands.

    Raises:
        InputError: if scores.json or the draws beside it are damaged.
    """
    scores = _read_scores(run)
    if scores is None:
        told = "How alike the two feature spaces are was not measured in this run"
        return ScoredPart((f"{told}: `xmodel score {name}` adds scores, each with what chance gives.",))
    nulls = read_score_nulls(run)
    order = sorted(range(len(scores)), key=lambda place: _rank(scores[place]))
    notes = [*_list_remarks(scores), *_explain_chance(scores)]
    figures: list[Histogram] = []
    if nulls is None:
        notes.append(
            f"The draws behind “chance” were not kept when this run was scored; `xmodel score {name}` "
            "keeps them, and the page then shows them as histograms."
        )
    else:
        shown = [place for place in order if nulls[place] is not None][:MOST_HISTOGRAMS]
        names = name_figures([scores[place] for place in shown])
        figures = [
            _draw_null(scores[place], nulls[place], name) for place, name in zip(shown, names, strict=True)
        ]
        left = sum(null is not None for null in nulls) - len(shown)
        if left:
            notes.append(
                f"The draws of {left:,} more scores are not drawn here; the tables have their means."
            )
    tables = [_list_table(part, scores, order) for part in TITLES]
    return ScoredPart(
        _tell_headline([scores[place] for place in order]),
        tuple(figures),
        tuple(table for table in tables if table.rows),
        tuple(notes),
    )


def tell_score(score: Mapping[str, Any]) -> str:
    """One score in a sentence, with what chance gives and how sure that is.

    Args:
        score: a line of scores.json that has a value.
    """
    label = parse_metric(score["metric"]).label
    if score["k"] is not None and "component" not in label:
        label += f" ({score['k']} components)"
    z = "" if score["z"] is None else f", z {score['z']:.1f}"
    adjusted = score["p_adjusted"]
    verdict = "are more alike than chance" if _is_above(score) else "are not clearly more alike than chance"
    told = (
        f"{_name_subject(score)} {verdict}: {label} {_show_r(score['value'])}, by chance "
        f"({NULL_NAMES[score['null']]}) {_tell_chance(score)}{z}, p {format_p(score['p'])} "
        f"({score['permutations']:,} permutations; "
    )
    told += f"corrected {format_p(adjusted)}, {_CORRECTIONS[score['correction']]})"
    if score["ceiling"] is not None:
        told += f". The noise of pairing allows {_show_r(score['ceiling'])}"
    return f"{told}."


def _tell_headline(scores: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    tested = [one for one in scores if one["value"] is not None]
    if not tested:
        return ("Scores were asked for, but none could be measured: the tables say why.",)
    above = sum(_is_above(one) for one in tested)
    told = f"In {above:,} of {len(tested):,} tests the value lies above chance (level {ALPHA:g}, corrected)."
    return f"{tell_score(tested[0])} {told}", *_tell_others(tested)


def _tell_others(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What other metrics say of the pairs that the first score is of."""
    first, *rest = scores
    same = [one for one in rest if all(one[key] == first[key] for key in _SAME)]
    told = [
        f"{parse_metric(one['metric']).label} {_show_r(one['value'])}, by chance {_tell_chance(one)}, "
        f"corrected p {format_p(one['p_adjusted'])}"
        for one in same
    ]
    return [f"The same pairs by other metrics: {'; '.join(told)}."] if told else []


def _show_r(value: float | None) -> str:
    return format_r(value).replace("-", MINUS)


def _tell_chance(score: Mapping[str, Any]) -> str:
    spread = "" if score["null_sd"] is None else f" ± {_show_r(score['null_sd'])}"
    return f"{_show_r(score['null_mean'])}{spread}"


def _name_subject(score: Mapping[str, Any]) -> str:
    what = "The decoder vectors of" if score["on"] == "decoder" else "The activations (held-out words) of"
    return f"{what} {score['pairs']:,} pairs ({_name_pairs(score)})"


def _name_pairs(score: Mapping[str, Any]) -> str:
    rule, own = RULE_NAMES[score["rule"]], score["concept"] or score["subset"]
    return f"{rule}, {show_plain(spell_concept(own), 60)}" if own else rule


def _is_above(score: Mapping[str, Any]) -> bool:
    return score["p_adjusted"] is not None and score["p_adjusted"] <= ALPHA


def _rank(score: Mapping[str, Any]) -> tuple[int, int]:
    return list(TITLES).index(score["part"]), _ORDER.index(score["rule"])


def name_figures(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the figures of scores, no two alike: ``score-svcca-20-mutual``.

    Args:
        scores: lines of scores.json.

    Returns:
        Metric and rule; the concept or the coverage where the score has one; and, where that does not tell
        scores apart, what chance is, then a number.
    """
    keys = ("metric", "rule", "concept", "subset")
    short = [_spell([one[key] for key in keys]) for one in scores]
    clash = {name for name, times in Counter(short).items() if times > 1}
    found: list[str] = []
    for one, own in zip(scores, short, strict=True):
        name = f"{own}-{_spell([one['null']])}" if own in clash else own
        number, chosen = 2, name
        while chosen in found:
            number, chosen = number + 1, f"{name}-{number}"
        found.append(chosen)
    return [f"score-{name}" for name in found]


def _spell(words: Sequence[str | None]) -> str:
    return re.sub("[^a-z0-9]+", "-", "-".join(filter(None, words)).lower()).strip("-")


def _draw_null(score: Mapping[str, Any], null: NDArray[np.float64] | None, name: str) -> Histogram:
    label = parse_metric(score["metric"]).label
    marks = [("observed", score["value"])]
    if score["ceiling"] is not None:
        marks.append(("ceiling", score["ceiling"]))
    values = np.zeros(0) if null is None else null
    return Histogram(
        name=name,
        title=f"{label}: {_name_pairs(score)}",
        caption=tell_score(score),
        x_label=label,
        draws=(Draws(label=f"{len(values):,} draws of chance", values=values),),
        marks=tuple(marks),
        top=1.0,
    )


def _list_table(part: str, scores: Sequence[Mapping[str, Any]], order: Sequence[int]) -> Table:
    own = [scores[place] for place in order if scores[place]["part"] == part]
    columns = (*_COLUMNS, Column("remarks")) if any(one["value"] is None for one in own) else _COLUMNS
    rows = tuple(_list_row(one)[: len(columns)] for one in own)
    above = sum(_is_above(one) for one in own)
    caption = (
        f"{above:,} of {len(own):,} above chance, each p corrected for the number of tests of its chance."
    )
    return Table(TITLES[part], columns, rows, caption)


def _list_row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    interval = one["interval"]
    missing = " ".join(one["warnings"]) if one["value"] is None else ""
    return (
        _name_pairs(one),
        parse_metric(one["metric"]).label,
        NULL_NAMES[one["null"]],
        one["pairs"],
        one["value"],
        one["null_mean"],
        one["z"],
        one["p"],
        one["p_adjusted"],
        one["ceiling"],
        None if interval is None else "\u00a0–\u00a0".join(_show_r(end) for end in interval),
        show_plain(missing, 400),
    )


def _list_remarks(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be known about scores that have a value; of the others the tables tell."""
    notes: dict[str, int] = {}
    for one in scores:
        for warning in one["warnings"] if one["value"] is not None else []:
            notes[warning] = notes.get(warning, 0) + 1
    ordered = sorted(notes.items(), key=lambda item: -item[1])[:8]
    return [f"Of {times:,} of {len(scores):,} scores: {show_plain(told, 600)}" for told, times in ordered]


def _explain_chance(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    nulls = list(dict.fromkeys(one["null"] for one in scores))
    told = ["Chance: " + "; ".join(f"{NULL_NAMES[null]}: {CHANCE[null]}" for null in nulls) + "."]
    decoder = any(one["on"] == "decoder" for one in scores)
    return [*told, CONFIRM] if decoder and not set(nulls) - {"shuffle", "stratified", "pairs"} else told


def _read_scores(run: Run) -> list[dict[str, Any]] | None:
    place = run.path / "scores.json"
    if not place.is_file():
        return None
    try:
        scores = json.loads(place.read_text("utf-8"))
        for one in scores:
            _rank(one)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} is damaged ({error!r}): run `xmodel score {run.path}` again.") from error
    return scores
