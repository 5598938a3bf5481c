"""Scores on the terminal: every value beside what chance gives, its p raw and corrected, and its ceiling."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.report.layout import Field, draw_heading, draw_table, show_name, wrap
from xmodel.report.runs import RULE_NAMES, WARNING
from xmodel.report.visible import FAINT
from xmodel.similarity.concepts import KEYWORDS, TOP_WORDS
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.scores import Score
from xmodel.similarity.settings import LEAST_PAIRS, ScoreSettings

TITLES = {
    "rule": "By rule of pairing",
    "coverage": "By coverage: the best pairs of",
    "stratum": "By the number of words that a's feature fires on:",
    "concept": "By concept:",
}
"""What each part is called."""
CHANCE = {
    "shuffle": "the partners of these pairs are exchanged; those that share a feature stay together",
    "stratified": "partners are exchanged among features (or words) of about equal frequency; those that "
    "share a feature stay together",
    "subsets": "as many random features on both sides, unpaired",
    "subsets_stratified": "as many random features of the same frequencies on both sides, unpaired",
    "pairs": "as many other pairs of the same rule and of the same frequencies",
    "shift": "one model's words are moved in a circle",
}
"""What each null is, for the legend."""
NULL_NAMES = {
    "shuffle": "exchanged partners",
    "stratified": "exchanged partners, by frequency",
    "subsets": "random features",
    "subsets_stratified": "random features, by frequency",
    "pairs": "other pairs",
    "shift": "shifted words",
}
"""What each null is called in front of a person."""
_PLAIN = "cka_debiased"
# The metric of the sentence above all tables: by chance it is 0, whatever the number of pairs.
CONFIRM = (
    "Where features that fire together also lie together, exchanged partners can come out significant up to "
    "twice too often. Confirm what matters with --null shift, which pairs the features again."
)
"""What stands under scores whose nulls do not pair again."""
_CORRECTIONS = {
    "holm": "Holm",
    "bh": "Benjamini-Hochberg",
    "by": "Benjamini-Yekutieli",
    "max": "the max-statistic",
}


def describe_scores(
    run: str, sides: Mapping[str, str], settings: ScoreSettings, scores: Sequence[Score]
) -> dict[str, Any]:
    """Scores in the format of ``xmodel score --json``.

    Args:
        run: the run's folder.
        sides: names of the dictionaries by side.
        settings: what was asked for.
        scores: what was found.
    """
    return {
        "run": run,
        "sides": dict(sides),
        "settings": settings.as_json(),
        "scores": [one.as_json() for one in scores],
    }


def render_scores(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_scores` found.

    Args:
        found: the description.
        width: cells per line.
    """
    settings, scores = found["settings"], found["scores"]
    what = {
        "decoder": "the decoder vectors of paired features",
        "activations": "what paired features do on the same held-out words",
    }[settings["on"]]
    parts: list[RenderableType] = [Text(), Text(f"How alike are {what}?", "bold"), Text()]
    for side, name in found["sides"].items():
        parts.append(Text().append(f"{side}  ", "bold cyan").append_text(show_name(name, width - 3)))
    parts += _draw_verdict(scores, settings, width)
    for part, title in TITLES.items():
        own = [one for one in scores if one["part"] == part]
        for null in dict.fromkeys(one["null"] for one in own):
            parts += _draw_part(
                part, title, null, [one for one in own if one["null"] == null], settings["alpha"], width
            )
    return Group(*parts, *_draw_legend(found, scores, settings, width))


def _draw_verdict(scores: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], width: int) -> list[Text]:
    tested = [one for one in scores if one["p_adjusted"] is not None]
    above = [one for one in tested if one["p_adjusted"] <= settings["alpha"]]
    if not tested:
        return [Text(), *wrap(Text("Nothing could be measured; see below why.", WARNING), width)]
    # Which correction was used may differ by part: the max-statistic needs shared draws.
    names = " and ".join(sorted({_CORRECTIONS[one["correction"]] for one in tested}))
    sentence = (
        f"In {len(above)} of {len(tested)} tests the value lies above chance, each p corrected by {names} "
        f"for the number of tests in its table (level {settings['alpha']:g})."
    )
    first = min(tested, key=_rank_for_headline)
    name = "" if first["part"] == "rule" else f" of {_name_row(first)}"
    label = parse_metric(first["metric"]).label
    told = (
        f"{first['pairs']:,} pairs{name} ({RULE_NAMES[first['rule']]}) by {label}: "
        f"{_format(first['value'])}, by chance {_format(first['null_mean'])}, p {format_p(first['p'])}"
    )
    ceiling = "" if first["ceiling"] is None else f"; noise of pairing allows {_format(first['ceiling'])}"
    return [Text(), *wrap(Text(f"{told}{ceiling}.", "bold"), width), *wrap(Text(sentence), width)]


def _rank_for_headline(score: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    return score["part"] != "rule", score["rule"] != "mutual", score["metric"] != _PLAIN


def _draw_part(
    part: str, title: str, null: str, scores: Sequence[Mapping[str, Any]], alpha: float, width: int
) -> list[Text]:
    if part != "rule":
        title = f"{title} {RULE_NAMES[scores[0]['rule']]}"
    # The first columns are those that must not be missed on a narrow terminal.
    fields = [Field("", right=False), Field("metric", right=False)]
    fields += [Field(name) for name in ("value", "chance", "p", "corr.", "±", "ceiling", "pairs", "z")]
    rows, before = [], ""
    for one in scores:
        if one["value"] is not None:
            name = _name_row(one)
            rows.append(_draw_row(one, name if name != before else "", alpha))
            before = name
    lines = draw_heading(f"{title}; chance: {NULL_NAMES[null]}")
    if rows:
        table = draw_table(fields, rows, [], [[] for _ in rows], width)
        lines += table
        lost_columns = [one.title for one in fields if one.title not in table[0].plain.split()]
        if lost_columns := [title for title in lost_columns if title not in ("", "z")]:
            lines += wrap(Text(f"no room here for: {', '.join(lost_columns)}", FAINT), width)
    lost = list(dict.fromkeys((_name_row(one), one["pairs"]) for one in scores if one["value"] is None))
    if lost:
        names = ", ".join(f"{name} ({pairs})" for name, pairs in lost)
        lines += wrap(
            Text(f"not measured ({LEAST_PAIRS} pairs are needed; else see below): {names}", FAINT), width
        )
    return [line for heading in lines for line in wrap(heading, width)]


def _name_row(score: Mapping[str, Any]) -> str:
    return score["concept"] or (score["subset"] or _shorten_rule(score["rule"])).removesuffix(" words")


def _shorten_rule(rule: str) -> str:
    return {"best_of_a": "a to b", "best_of_b": "b to a", "one_to_one": "one to one"}.get(rule, rule)


def _draw_row(one: Mapping[str, Any], name: str, alpha: float) -> list[Text]:
    k = f" k{one['k']}" if one["k"] is not None else ""
    significant = one["p_adjusted"] is not None and one["p_adjusted"] <= alpha
    return [
        Text(name, "cyan"),
        Text(shorten_metric(one["metric"]) + k),
        Text(_format(one["value"]), "bold"),
        Text(_format(one["null_mean"])),
        Text(format_p(one["p"])),
        Text(format_p(one["p_adjusted"]), "bold green" if significant else ""),
        Text(_format_reach(one)),
        Text(_format(one["ceiling"])),
        Text(f"{one['pairs']:,}" if name else ""),
        Text("–" if one["z"] is None else f"{one['z']:.1f}"),
    ]


def shorten_metric(name: str) -> str:
    """A metric in a few letters: ``SVCCA``, ``debiased CKA``; what its name says beyond that stays."""
    known = {
        "cka": "CKA",
        "cka_debiased": "CKA, deb.",
        "cca": "CCA",
        "cca_squared": "CCA squared",
        "pwcca": "PWCCA",
        "rsa:cosine:pearson": "RSA",
        "procrustes": "Procrustes",
        "mean_max_cosine": "max cosine",
        "soft_matching": "soft match",
    }
    if name in known:
        return known[name]
    head, _, rest = name.partition(":")
    return {"svcca": "SVCCA", "mutual_knn": f"{rest}-NN", "jaccard": f"{rest}-NN Jaccard"}.get(head, name)


def format_p(p: float | None) -> str:
    """A p-value with three decimals; one figure below 0.0005, never 0."""
    if p is None:
        return "–"
    return f"{p:.3f}" if p >= 0.0005 else f"{p:.0e}"


def _format_reach(score: Mapping[str, Any]) -> str:
    """Half of the 95 % interval, the longer side where it is cut off at 1 or -1."""
    if score["interval"] is None:
        return "–"
    low, high = score["interval"]
    return f"{max(score['value'] - low, high - score['value']):.3f}"


def _format(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}"


def _explain_metric(name: str, scores: Sequence[Mapping[str, Any]]) -> str:
    ratios = [one["n_per_k"] for one in scores if one["metric"] == name and one["n_per_k"] is not None]
    ends = dict.fromkeys(f"{ratio:.1f}" for ratio in (min(ratios), max(ratios))) if ratios else {}
    span = f" (n/k {' to '.join(ends)})" if ends else ""
    return f"{shorten_metric(name)}: {parse_metric(name).label}{span}"


def _draw_legend(
    found: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], width: int
) -> list[Text]:
    nulls = list(dict.fromkeys(one["null"] for one in scores))
    counts = sorted({one["permutations"] for one in scores if one["permutations"]})
    told = []
    if counts:
        told.append(
            f"chance: the mean over {' or '.join(f'{count:,}' for count in counts)} arrangements. "
            + ". ".join(f"{NULL_NAMES[null].capitalize()}: {CHANCE[null]}" for null in nulls)
            + "."
        )
    if any(one["part"] == "concept" for one in scores):
        told.append(
            f"Features of a concept: at least {KEYWORDS} of their {TOP_WORDS} strongest words are keywords."
        )
    if settings["on"] == "decoder" and not set(nulls) - {"shuffle", "stratified", "pairs"}:
        told.append(CONFIRM)
    if "shift" in nulls and settings["on"] == "decoder":
        told.append("After every shift the features are paired again, and those pairs are scored.")
    if any(one["ceiling"] is not None for one in scores):
        told.append(
            "ceiling: each model with itself, its partners found on one half of the text against those found "
            "on the other."
        )
    if any(one["interval"] for one in scores):
        told.append(f"±: half of the 95% interval, by {settings['bootstrap']} resamplings of documents.")
    metrics = list(dict.fromkeys(one["metric"] for one in scores))
    told.append("; ".join(_explain_metric(name, scores) for name in metrics) + ".")
    for one in scores:
        if one["p_tail"] is not None:
            told.append(
                f"{_name_row(one)}, {shorten_metric(one['metric'])}: by a tail fitted to the null, an "
                f"approximation, p is about {one['p_tail']:.0e}."
            )
    lines = [Text()]
    for one in told:
        lines += wrap(Text(one, FAINT), width)
    notes: dict[str, int] = {}
    for one in scores:
        # What is too small to measure is listed under its table.
        for warning in one["warnings"] if one["pairs"] >= LEAST_PAIRS else []:
            notes[warning] = notes.get(warning, 0) + 1
    for warning, times in sorted(notes.items(), key=lambda item: -item[1])[:8]:
        lines += wrap(Text(f"{times}×  {warning}", WARNING), width)
    return [*lines, *wrap(Text(f"All of it: {found['run']}/scores.json", FAINT), width)]
