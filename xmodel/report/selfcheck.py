"""The screen of ``xmodel selfcheck``, for someone who meets the terms for the first time."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.report.layout import Field, count, draw_heading, draw_table, format_share, wrap
from xmodel.report.visible import FAINT

RULES = {"one_to_one": "one to one", "mutual": "best of each other", "optimal": "optimal"}
"""What rules of pairing are called here."""
ARRANGEMENTS = {"isotropic": "scattered", "clustered": "clusters", "circular": "rings"}
"""What arrangements of directions are called here."""
TESTS = {
    ("one_to_one", "repaired"): "one to one: shifted and paired again",
    ("best_of_a", "repaired"): "best of a: shifted and paired again",
    ("one_to_one", "shuffled"): "one to one: shuffled",
    ("best_of_a", "grouped"): "best of a: shuffled in groups",
    ("best_of_a", "shuffled"): "best of a: shuffled naively",
}
"""What pairs and nulls are called here, in this order."""
STEERING = {
    "identity": "of {of:,} responses are not exactly 0 where the later layers do nothing.",
    "falling": "of {of:,} steps to more noise: transfer falls.",
    "power": "of {of:,} pairs transfer beyond every null (p ≤ {alpha:g}).",
    "type_1": "of {of:,} wrong pairs seem to, which should be {alpha:.0%} or less ...",
    "words_alone": "... and would, if permuted words were the only null.",
    "unpaired": "of {of:,} choices fall on the wrong partner: by chance one in {features}.",
    "excess": "of {of:,} copies (noise of {paired_level:g}) are seen to lie above re-initialised layers.",
    "no_excess": "of {of:,} pairs of re-initialised layers are ...",
    "wrong_excess": "... and of {of:,} copies by their wrong partners.",
    "mean_alone": "of {of:,} copies would be, if wrong partners were not compared with yet others.",
    "copy_kept": "of {of:,} partners are picked out behind re-initialised layers if the push's own copy is "
    "left in what is read: found without any network.",
    "raw": "of {of:,} pairs of random directions agree by raw changes (transfer above {damage:g}, pushed "
    "{large_dose:g} of the length) ...",
    "odd": "... and by odd changes.",
}
"""What the checks of steering tell, in this order."""
_OK = Text("ok", "green")
_FAILED = Text("FAILED", "bold red")


def render_selfcheck(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `run_selfcheck` found.

    Args:
        found: its dictionary.
        width: cells per line.
    """
    question = "Does the program tell truth from chance on this machine?"
    world = found["settings"]["world"]
    intro = (
        "Pairs of models were simulated, so that the truth is known, and paired and scored as real ones are. "
        f"Both read the same {world['words']:,} words, cut into different tokens; they have "
        f"{world['features_a']} and {world['features_b']} features of different widths, numbered at random, "
        "which miss firings, fire for nothing, and get strengths wrong."
    )
    parts = [Text(), Text(question, "bold"), Text(), *wrap(Text(intro), width)]
    parts += _draw_pairing(found, "perfect", width)
    if found["trained"]:
        parts += _draw_pairing(found, "trained", width)
    parts += _draw_power(found, width)
    parts += _draw_chance(found, width)
    if "steering" in found:
        parts += _draw_steering(found, width)
    return Group(*parts, *_draw_verdict(found, width))


def _draw_pairing(found: Mapping[str, Any], saes: str, width: int) -> list[Text]:
    settings = found["settings"]
    titles = {
        "perfect": f"Where {settings['world']['shared']:.0%} of the features are in both models",
        "trained": "The same with SAEs that were trained on the simulated activations",
    }
    checks = {one["name"]: one for one in found["checks"]}
    rules = [rule for rule in RULES if f"recall/{saes}/{rule}" in checks]
    fields = [
        Field("pairs", right=False),
        Field("partner found"),
        Field("pairs right"),
        Field("unshared paired"),
        Field("", right=False),
    ]
    rows, kinds = [], ("recall", "precision", "unshared")
    for rule in rules:
        own = [checks[f"{kind}/{saes}/{rule}"] for kind in kinds]
        rows.append([Text(RULES[rule]), *(_show_share(one) for one in own), _show_mark(own)])
    bounds = [_show_bound(checks[f"{kind}/{saes}/{rules[0]}"]) for kind in kinds]
    rows.append([Text("expected", FAINT), *bounds, Text()])
    lines = [*draw_heading(titles[saes]), *draw_table(fields, rows, [], [()] * len(rows), width)]
    recall = checks[f"recall/{saes}/one_to_one"]
    notes = (
        f"Partner found: of the {recall['of']:,} shared features with a signal-to-noise ratio of "
        f"{settings['least_snr']:g} or more and 10 firings, those confidently paired with the right one. "
        "Pairs right: of the confident pairs, those that were planted. Confident: paired on one half of the "
        f"documents, and on the other half a correlation of {settings['confident_r']:g} or more that chance "
        "does not explain. Unshared: features that only one model has."
    )
    if saes == "trained":
        notes = (
            f"Of {_sum(found, saes, 'shared')} shared features both SAEs learned "
            f"{_sum(found, saes, 'planted')}; only those can be found."
        )
    lines += wrap(Text(notes, FAINT), width)
    if saes == "perfect":
        lines += [Text(), *_draw_line(checks["misaligned"], _tell_misaligned(checks["misaligned"]), width)]
    return lines


def _draw_power(found: Mapping[str, Any], width: int) -> list[Text]:
    metrics = len(found["settings"]["metrics"])
    lines = draw_heading("Are their spaces found to be similar, where they are?")
    for null, told in (("shuffled", "partners were shuffled"), ("repaired", "words were shifted and paired")):
        check = next(one for one in found["checks"] if one["name"] == f"power/{null}")
        text = (
            f"of {count(check['of'], 'score')} ({metrics} metrics) have p ≤ {found['settings']['alpha']:g}: "
            f"higher than when {told}{' again' if null == 'repaired' else ''}."
        )
        lines += _draw_line(check, text, width)
    return lines


def _draw_chance(found: Mapping[str, Any], width: int) -> list[Text]:
    alpha = found["settings"]["alpha"]
    checks = {one["name"]: one for one in found["checks"]}
    worlds = sum(one["worlds"] for one in found["chance"])
    nothing = checks["nothing_shared"]
    lines = draw_heading(f"Where nothing is shared ({worlds} pairs of models)")
    lines += _draw_line(nothing, f"of {count(nothing['of'], 'pair')} seem confident.", width)
    usual = found["settings"]["rejected_by_chance"]
    title = (
        f"How often p ≤ {alpha:g}, which should be {alpha:.0%} (up to {usual} of {worlds} are no surprise):"
    )
    lines += [Text(), *wrap(Text(title), width)]
    fields = [Field("pairs, and how p was found", right=False)]
    fields += [Field(ARRANGEMENTS[one["arrangement"]]) for one in found["chance"]]
    fields += [Field("all"), Field("", right=False)]
    rows = []
    for (rule, null), title in TESTS.items():
        check = checks.get(f"type_1/{rule}/{null}")
        metric = check["metric"] if check else None
        among = [[one] for one in found["chance"]] + [found["chance"]]
        shares = [_show_rejected(some, rule, null, metric) for some in among]
        mark = _show_mark([check]) if check else Text()
        if check and check["arrangement"] != "all":
            mark.append(" *", FAINT)
        rows.append([Text(title), *shares, mark])
    lines += draw_table(fields, rows, [], [()] * len(rows), width)
    note = (
        "Shown is the metric for which it is most often. Best of a: every feature of a has its best "
        "partner, and many may share one; naive shuffles count that as many. * Judged on scattered features "
        "alone: in clusters and on rings features that fire together also lie together, so that pairs found "
        "by chance match cluster with cluster. Shuffling does not know that; shifting one model's words and "
        "pairing again does."
    )
    return [*lines, *wrap(Text(note, FAINT), width)]


def _draw_steering(found: Mapping[str, Any], width: int) -> list[Text]:
    steering, settings = found["steering"], found["steering"]["settings"]
    checks = {one["name"].removeprefix("steer/"): one for one in found["checks"]}
    intro = (
        "The bundled model was compared with copies of itself whose layers after the site got noise in their "
        "weights, so that the partner of every feature is known. Both were pushed along the same "
        f"{settings['features']} features, {settings['dose']:g} of the residual stream's length, over "
        f"{settings['words']} words; this {len(steering['comparisons'])} times, each with features and words "
        "of its own."
    )
    lines = [*draw_heading("Does steering tell what a feature does?"), *wrap(Text(intro), width), Text()]
    fields = [Field("later layers of the copy", right=False), Field("transfer"), Field("partner picked out")]
    fields += [Field("AUROC"), Field("", right=False)]
    rows = []
    for level in steering["levels"]:
        noise = level["noise"]
        title = "re-initialised, in both" if noise is None else f"noise of {noise:g} standard deviations"
        own = []
        if noise == settings["paired_level"]:
            own = [checks["retrieval"], checks["auroc"]]
        elif noise is None or level is steering["levels"][-2]:
            own = [checks["reinitialised" if noise is None else "damaged"]]
        share = Text(_format(level["top1"], level["of"]))
        figures = [Text(f"{level['transfer']:.2f}"), share, Text(f"{level['auroc']:.2f}")]
        rows.append([Text(title), *figures, _show_mark(own) if own else Text()])
    lines += draw_table(fields, rows, [], [()] * len(rows), width)
    note = (
        "Transfer: how alike the changes are that a feature and its partner make in the words' Gram matrix. "
        f"Partner picked out: of {settings['features']} candidates, in both directions. AUROC: how often a "
        "pair transfers more than two features that are none."
    )
    lines += [*wrap(Text(note, FAINT), width), Text()]
    for name, told in STEERING.items():
        if check := checks.get(name):
            lines += _draw_line(check, told.format(of=check["of"], **settings), width)
    return lines


def _draw_verdict(found: Mapping[str, Any], width: int) -> list[Text]:
    failed = [one["name"] for one in found["checks"] if not one["passed"]]
    total, took = len(found["checks"]), f"{found['seconds']:.0f} s, seed {found['seed']}"
    if not failed:
        return [Text(), *wrap(Text(f"Passed: all {total} checks ({took}).", "bold green"), width)]
    told = f"FAILED: {len(failed)} of {total} checks ({took}): {', '.join(failed)}."
    return [Text(), *wrap(Text(told, "bold red"), width)]


def _tell_misaligned(check: Mapping[str, Any]) -> str:
    return (
        f"of {count(check['of'], 'pair')} seem confident when every word of b is taken for the next one, as "
        "a fault in aligning words would do."
    )


def _draw_line(check: Mapping[str, Any], text: str, width: int) -> list[Text]:
    """A mark and a share, and a sentence beside them."""
    head = Text().append_text(_show_share(check)).append(" ")
    lines = wrap(head.append_text(Text(text)), width - 8)
    marks = [_show_mark([check]), *(Text() for _ in lines[1:])]
    return [
        Text().append_text(mark).append(" " * (8 - len(mark.plain))).append_text(line)
        for mark, line in zip(marks, lines, strict=True)
    ]


def _show_share(check: Mapping[str, Any]) -> Text:
    return Text(_format(check["count"], check["of"]) if check["of"] else "none")


def _show_bound(check: Mapping[str, Any]) -> Text:
    if "at_least" in check:
        return Text(f"≥ {check['at_least']:.0%}", FAINT)
    return Text(f"≤ {check['at_most']:.0%}", FAINT)


def _show_mark(checks: Sequence[Mapping[str, Any]]) -> Text:
    return (_OK if all(one["passed"] for one in checks) else _FAILED).copy()


def _show_rejected(chance: Sequence[Mapping[str, Any]], rule: str, null: str, metric: str | None) -> Text:
    """The share of a metric, or the largest of any where none is named."""
    counts: dict[str, int] = {}
    for one in chance:
        for test in one["tests"]:
            if (test["rule"], test["null"]) == (rule, null) and metric in (None, test["metric"]):
                counts[test["metric"]] = counts.get(test["metric"], 0) + test["rejected"]
    return Text(_format(max(counts.values()), sum(one["worlds"] for one in chance)))


def _format(part: int, whole: int) -> str:
    return format_share(part, whole) if part else "0%"


def _sum(found: Mapping[str, Any], saes: str, key: str) -> int:
    return sum(one[key] for one in found["pairing"] if one["saes"] == saes and one["rule"] == "one_to_one")
