"""What a run found, on one page: the two sides, the pairs by rule, what was left out, and the best pairs."""

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.pairing.firings import survey_features
from xmodel.pairing.results import Run
from xmodel.report.layout import (
    Field,
    count,
    draw_heading,
    draw_table,
    find_shared,
    fit,
    fit_words,
    format_r,
    format_share,
    pad,
    show_name,
    wrap,
)
from xmodel.report.partners import BOTH_NOTE, SIGNED_NOTE, format_both
from xmodel.report.visible import FAINT

TOP_WORDS = 8
"""Different words listed per feature."""
TOP_WORDS_NOTE = (
    "top words: the distinct words on which the feature fires most strongly, over all words of the run, "
    "strongest first."
)
"""What stands under top words."""
RULE_NAMES = {
    "best_of_a": "best partner of each a",
    "best_of_b": "best partner of each b",
    "mutual": "mutual best",
    "one_to_one": "one to one, greedy",
    "many_to_one": "many a to one b",
    "optimal": "one to one, optimal",
}
"""The rules of pairing in words."""
HELD_OUT_NOTE = (
    "held out: mean r on the words that had no part in finding the pairs; shuffled: the same, had partners "
    "been exchanged at random."
)
"""What stands under the rules."""
WARNING = "yellow"
_PAIR_COLUMNS = (
    "feature_a",
    "feature_b",
    "r",
    "r_heldout",
    "n_a",
    "n_b",
    "n_ab",
    "n_ab_heldout",
    "mutual",
    "one_to_one",
)


def describe_run(run: Run, limit: int) -> dict[str, Any]:
    """Describe a finished run in the format of ``xmodel align --json``.

    Args:
        run: the run.
        limit: how many pairs to list.

    Returns:
        What JSON can hold: ``run``, the folder; everything in summary.json; ``corpus``, its name; ``unit``,
        ``word`` or ``token``; ``sides``,
        each with ``model``, ``dictionary``, ``signed``, ``site``, ``fvu`` (None for baselines),
        ``fvu_tokens`` (the first word tokens of the corpus, which it was measured on), ``misfit`` and
        ``certificates``; and ``best_pairs``, the mutual and one-to-one pairs of greatest r (of greatest
        magnitude for signed features): columns of pairs.parquet, and the different words of the whole run
        on which either feature fires most strongly.

    Raises:
        InputError: if the run is not finished, or damaged.
    """
    pairs = list_best_pairs(run, limit)
    for side in "ab":
        surveys = survey_features(run, side, [pair[f"feature_{side}"] for pair in pairs], words=TOP_WORDS)
        for pair in pairs:
            pair[f"top_words_{side}"] = surveys[pair[f"feature_{side}"]].words
    return {
        "run": str(run.path),
        **run.summary,
        "corpus": run.manifest["corpus"]["name"],
        "unit": run.manifest["arguments"]["settings"]["unit"],
        "best_pairs": pairs,
        "sides": {side: describe_side(run, side) for side in "ab"},
    }


def list_best_pairs(run: Run, limit: int) -> list[dict[str, Any]]:
    """The rows of the mutual and one-to-one pairs of greatest r."""
    table = run.pairs
    chosen = np.flatnonzero(table["mutual"].to_numpy() | table["one_to_one"].to_numpy())
    order = np.argsort(-np.abs(table["r"].to_numpy()[chosen]), kind="stable")[:limit]
    return table.select(list(_PAIR_COLUMNS)).take(chosen[order]).to_pylist()


def describe_side(run: Run, side: str) -> dict[str, Any]:
    """What one side of a run is: its model, dictionary and site, and how well they fit."""
    own = run.manifest["sides"][side]
    calibration = own.get("calibration", {})
    return {
        "model": own["model"]["name"],
        "dictionary": own["dictionary"]["name"],
        "architecture": own["dictionary"]["architecture"],
        "signed": own["dictionary"]["signed"],
        "site": own["site"],
        "fvu": calibration.get("fvu"),
        "fvu_tokens": calibration.get("tokens"),
        "misfit": calibration.get("misfit"),
        "certificates": own.get("certificates", {}),
    }


def render_run(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_run` found.

    Args:
        found: the description.
        width: cells per line.
    """
    parts: list[RenderableType] = [Text()]
    for side in "ab":
        parts += _draw_side(found, side, width)
    parts += [Text(), *_draw_facts(found)]
    parts += _draw_rules(found, width)
    parts += _draw_ledger(found, width)
    parts += _draw_best(found, width)
    parts += _draw_next(found, width)
    return Group(*parts)


def draw_identity(side: str, own: Mapping[str, Any], width: int) -> list[Text]:
    """Model, site and dictionary of a side, on two or three lines."""
    model = show_name(own["model"], width - 3)
    site = show_name(own["site"], width - 3)
    first = Text(no_wrap=True).append(f"{side}  ", "bold cyan").append_text(model)
    if cell_len(first.plain) + 4 + cell_len(site.plain) <= width:
        first.append(" at ", FAINT).append_text(site)
        lines = [first]
    else:
        lines = [first, Text("   ").append_text(site)]
    return [*lines, Text("   ").append_text(show_name(own["dictionary"], width - 3))]


def _draw_side(found: Mapping[str, Any], side: str, width: int) -> list[RenderableType]:
    own, features = found["sides"][side], found["features"][side]
    lines: list[RenderableType] = [*draw_identity(side, own, width)]
    facts = [f"{features['total']:,} features", f"{features['alive']:,} fire", f"{features['kept']:,} kept"]
    if own["fvu"] is not None:
        facts.append(f"FVU {own['fvu']:.3f}")
    lines.append(_indent(", ".join(facts), FAINT))
    if own["misfit"]:
        lines.append(_indent(show_name(str(own["misfit"])).plain, WARNING))
    return lines


def _draw_facts(found: Mapping[str, Any]) -> list[Text]:
    facts = f"{count(found['words'], found['unit'])} of {count(found['documents'], 'document')}; pairs found "
    facts += f"on {found['discovery_words']:,} of them, judged on {found['heldout_words']:,} others."
    lines = [Text(facts)]
    texts = [_describe_certificates(found["sides"][side]["certificates"], side) for side in "ab"]
    known = [text for text in texts if text is not None]
    if known:
        same = len(known) == 2 and known[0].plain[3:] == known[1].plain[3:]
        lines += [Text("a and b: ").append_text(known[0][3:])] if same else known
    return [*lines, *_explain_fvu(found["sides"])]


def _explain_fvu(sides: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    """What FVU is and what it was measured on, if a side has one."""
    measured = {side: own["fvu_tokens"] for side, own in sides.items() if own["fvu"] is not None}
    if not measured:
        return []
    meaning = "FVU: the share of the activations' variance that the SAE does not rebuild; 0 is all of it "
    meaning += "rebuilt, 1 no better than their mean. Measured on the first word tokens of the corpus only: "
    numbers = ", ".join(f"{number:,} of {side}" for side, number in measured.items())
    return [Text(f"{meaning}{numbers}.", FAINT)]


def is_signed(sides: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a side's features are signed, so that pairs go by the magnitude of r."""
    return any(own["signed"] for own in sides.values())


def _describe_certificates(counts: Mapping[str, int], side: str) -> Text | None:
    """How many texts have which certificate."""
    if not counts:
        return None
    line = Text(f"{side}: ").append("token spans ")
    for place, (status, number) in enumerate(sorted(counts.items(), key=lambda one: -one[1])):
        style = WARNING if status in ("ambiguous", "failed") and number else ""
        line.append(", " if place else "").append(f"{status} in {number:,}", style)
    return line.append(" document." if sum(counts.values()) == 1 else " documents.")


def _draw_rules(found: Mapping[str, Any], width: int) -> list[Text]:
    signed = is_signed(found["sides"])
    mean = "mean |r|" if signed else "mean r"
    fields = [Field("rule", right=False), Field("pairs"), Field(mean), Field("held out"), Field("shuffled")]
    rows: list[list[Text]] = []
    for rule, own in found["pairs"].items():
        spelled_out = rule in RULE_NAMES and width >= 56
        name = Text(RULE_NAMES[rule] if spelled_out else rule.replace("_", " "))
        means = (
            Text(format_r(own[mean])) for mean in ("mean_r", "mean_r_heldout", "mean_r_heldout_shuffled")
        )
        rows.append([name, Text(f"{own['count']:,}"), *means])
    lines = draw_heading("Pairs") + draw_table(fields, rows, [], [[]] * len(rows), width)
    lines.append(Text(HELD_OUT_NOTE, FAINT))
    if signed:
        note = f"{SIGNED_NOTE} held out: the mean of r there, counted as positive where its sign is the same."
        lines.append(Text(note, FAINT))
    return [*lines, *_draw_reproduced(found), *_draw_agreement(found)]


def _draw_reproduced(found: Mapping[str, Any]) -> list[Text]:
    again = found["reproduced"]
    judged = again["frequent_in_both_halves"]
    if not judged:
        return []
    share = format_share(again["same_best_partner"], judged)
    sentence = (
        f"Paired afresh on the held-out half, {share} of a's {count(judged, 'feature')} that fire often "
    )
    sentence += f"enough there too find the same best partner ({again['same_best_partner']:,})."
    return [Text(), Text(sentence)]


def _draw_agreement(found: Mapping[str, Any]) -> list[Text]:
    """Of a run by token: how far pairing by word agrees with it."""
    by_word = found.get("by_word")
    if not by_word or not by_word["features_a"]:
        return []
    share = format_share(by_word["same_best_partner"], by_word["features_a"])
    sentence = (
        f"Paired by word instead, {share} of {count(by_word['features_a'], 'feature')} have the same best "
    )
    sentence += f"partner; r by word and by token correlate at {format_r(by_word['correlation_of_r'])}. "
    sentence += f"{format_share(by_word['one_token_words'], by_word['words'])} of the words are one token."
    return [Text(), Text(sentence)]


def _draw_ledger(found: Mapping[str, Any], width: int) -> list[Text]:
    """What every filter took; those that took nothing are only counted."""
    taking = [one for one in found["attrition"] if one["in"] != one["out"]]
    idle = len(found["attrition"]) - len(taking)
    lines = draw_heading("What the filters left")
    numbers = [f"{one['in']:,} → {one['out']:,}" for one in taking]
    share = [format_share(one["out"], one["in"]) for one in taking]
    column, last = (max(map(len, own), default=0) for own in (numbers, share))
    room = width - column - last - 4
    for one, number, percent in zip(taking, numbers, share, strict=True):
        label = show_name(one["filter"])
        own = Text(no_wrap=True, overflow="ignore").append_text(pad(Text(number), column, right=True))
        own.append("  ").append(percent.rjust(last), FAINT)
        if room >= 30:
            label, *more = wrap(label, room)
            lines.append(pad(label, room).append("  ").append_text(own))
            for rest in more:
                lines += [Text("  ").append_text(line) for line in wrap(rest, room - 2)]
        else:
            lines += [Text(label.plain), fit(Text("  ").append_text(own), width)]
    if idle:
        more = "more " if taking else ""
        lines.append(Text(f"{idle} {more}{'filter' if idle == 1 else 'filters'} took nothing.", FAINT))
    return lines


def _draw_best(found: Mapping[str, Any], width: int) -> list[Text]:
    pairs = found["best_pairs"]
    if not pairs:
        return [Text(), Text("No two features are each other's best partner.", WARNING)]
    fields = [Field("a"), Field("b"), Field("r"), Field("held out"), Field("both")]
    rows, lists = [], []
    for pair, both in zip(pairs, format_both(pairs), strict=True):
        shared = find_shared(pair["top_words_a"], pair["top_words_b"])
        rows.append(
            [
                Text(str(pair["feature_a"]), "cyan"),
                Text(str(pair["feature_b"]), "cyan"),
                Text(format_r(pair["r"]), "bold"),
                Text(format_r(pair["r_heldout"])),
                Text(both),
            ]
        )
        lists.append([partial(fit_words, pair[f"top_words_{side}"], shared=shared) for side in "ab"])
    title = f"The {len(pairs)} best pairs" if len(pairs) > 1 else "The best pair"
    title += " (mutual or one to one)"
    lines = draw_heading(title) + draw_table(fields, rows, ["top words of a", "top words of b"], lists, width)
    return [*lines, Text(f"{BOTH_NOTE} {TOP_WORDS_NOTE}", FAINT)]


def _draw_next(found: Mapping[str, Any], width: int) -> list[Text]:
    """Where everything is, and what to type next; what a command is for is said where there is room."""
    run = shlex.quote(found["run"])
    best = [pair["feature_a"] for pair in found["best_pairs"][:1]]
    commands = [
        *((show_name(f"xmodel features {run} --a {one}"), "a feature in context") for one in best),
        (show_name(f"xmodel features {run} --word WORD"), "the features of a word"),
        (show_name(f"xmodel pair {run} --help"), "pair again, with other filters"),
    ]
    column = max(cell_len(command.plain) for command, _ in commands)
    spacious = 2 + column + 2 + max(len(purpose) for _, purpose in commands) <= width
    lines = [
        Text(),
        Text("All pairs, words and tokens: ").append_text(show_name(f"{found['run']}/*.parquet")),
    ]
    for command, purpose in commands:
        line = Text("  ").append_text(pad(command, column) if spacious else command)
        lines.append(line.append(f"  {purpose}", FAINT) if spacious else line)
    for line in lines:
        line.no_wrap, line.overflow = False, "fold"
    return lines


def _indent(text: str, style: str) -> RenderableType:
    from rich.padding import Padding

    return Padding(Text(text, style), (0, 0, 0, 3), expand=False)
