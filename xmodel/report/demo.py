"""The one screen that ``xmodel demo`` ends with, for someone who sees the program for the first time."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from xmodel.datasets.concepts import NON_CONCEPTS, find_non_concepts
from xmodel.datasets.demo import PREFIX, find_builtin
from xmodel.pairing.firings import survey_features
from xmodel.pairing.results import Run
from xmodel.report.layout import (
    Field,
    draw_heading,
    draw_table,
    find_shared,
    fit_words,
    format_r,
    format_share,
    show_name,
    wrap,
)
from xmodel.report.runs import TOP_WORDS, describe_run, list_best_pairs
from xmodel.report.scores import format_p
from xmodel.report.steer import classify_transfer, take_primary
from xmodel.report.visible import FAINT
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.scores import Score
from xmodel.similarity.settings import ScoreSettings
from xmodel.steering.results import Steering
from xmodel.steering.settings import SteerSettings

DEMO_SCORES = ScoreSettings(
    rules=("mutual", "one_to_one"), parts=("rule",), metrics=("svcca", "cka_debiased")
)
"""What is scored of the demo's run: enough for a sentence, in a second or two."""
DEMO_STEERING = SteerSettings(
    pairs=30, doses=(0.25,), depths=(0.5,), random=0, live=0, permutations=199, reinit=2, curve_pairs=0
)
"""How the demo's run is steered: enough for a sentence."""
BEST = 4
"""Best pairs on the screen, whatever their features fire on."""
CONCEPTS = 5
"""Best pairs beside them whose features fire on more than punctuation, digits and stop words."""
_STEERED = (("reinitialised", "mean_diagonal"), ("means", "hard"))
_SEARCHED = 400
_FIRINGS = 10
_SHARE = 0.3
_ARCHAIC = (
    "art doth didst ere hast hath hither lest nay neither nor shall shalt thee thereof thine thither thou "
    "thy till unto upon wherefore whereof whoso whosoever wilt ye yea"
)
_SKIPPED = replace(NON_CONCEPTS, words=frozenset(_ARCHAIC.split()))
COLUMN = 10
"""Cells of the words at the left."""
FAMILIES = {"gpt_neox": "GPT-NeoX", "gemma3_text": "Gemma 3"}
"""What the families of the bundled models are called."""


def describe_demo(
    run: Run, scores: Sequence[Score], steering: Steering, written: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the run of ``xmodel demo``, in the format of ``xmodel demo --json``.

    Args:
        run: a finished run on the bundled pair.
        scores: of the run, by `score_run` with `DEMO_SCORES`.
        steering: of the run, by `steer_run` with `DEMO_STEERING`.
        written: the page of the run, as ``xmodel report --json`` describes it.

    Returns:
        What `describe_run` returns; ``concept_pairs``, the best pairs of features that name a concept: fewer
        than three of the ten words on which either fires most strongly are punctuation, digits, stop words
        or their like in the Bible (see `find_non_concepts`); ``scores``, as scores.json has them;
        ``steering``, as steering.json has it; ``report``, `written`; and for each side also ``family``,
        ``blocks``, ``width`` and ``ids`` of its model.

    Raises:
        InputError: if the run is not finished, or damaged.
    """
    found = describe_run(run, BEST)
    found["concept_pairs"] = _find_concept_pairs(run)
    found["scores"] = [one.as_json() for one in scores]
    found["steering"] = steering.summary
    found["report"] = dict(written)
    for own in found["sides"].values():
        config = json.loads((find_builtin(own["model"], "model") / "config.json").read_text("utf-8"))
        own["family"] = FAMILIES[config["model_type"]]
        own["blocks"], own["width"] = config["num_hidden_layers"], config["hidden_size"]
        own["ids"] = config["vocab_size"]
    return found


def _find_concept_pairs(run: Run) -> list[dict[str, Any]]:
    """The best pairs after the first few whose features both fire most strongly on concept words."""
    pairs = list_best_pairs(run, _SEARCHED)[BEST:]
    texts = run.words["text"]
    empty = []
    for side in "ab":
        features = [pair[f"feature_{side}"] for pair in pairs]
        surveys = survey_features(run, side, features, words=TOP_WORDS, places=_FIRINGS)
        top = [[texts[word].as_py() for word, _ in surveys[feature].places] for feature in features]
        empty.append(find_non_concepts(top, _SKIPPED, share=_SHARE))
        for pair, feature in zip(pairs, features, strict=True):
            pair[f"top_words_{side}"] = surveys[feature].words
    return [pair for pair, *none in zip(pairs, *empty, strict=True) if not any(none)][:CONCEPTS]


def render_demo(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_demo` found.

    Args:
        found: the description.
        width: cells per line.
    """
    question = "Which feature of one model is which feature of the other?"
    parts: list[RenderableType] = [Text(), Text(question, "bold"), Text()]
    for side in "ab":
        parts += _draw_model(found, side, width)
    parts += [Text(), *wrap(Text(_tell_texts(found)), width), Text()]
    parts += _draw_sentence("words", _tell_words(found), width)
    parts += _draw_sentence("features", _tell_features(found), width)
    parts += _draw_sentence("pairs", _tell_pairs(found), width)
    parts += _draw_sentence("alike", _tell_alike(found), width)
    parts += _draw_sentence("steered", _tell_steered(found["steering"]), width)
    return Group(*parts, *_draw_pairs(found, width), *_draw_next(found))


def _draw_model(found: Mapping[str, Any], side: str, width: int) -> list[RenderableType]:
    own, features = found["sides"][side], found["features"][side]
    name = Text().append(f"{side}  ", "bold cyan").append(own["model"].removeprefix(PREFIX), "bold")
    shape = f"{own['blocks']} blocks of {own['width']} dimensions"
    facts = f"{own['family']}, {shape}, {own['ids']:,} token ids"
    block = own["site"].split(".")[1]
    rebuilt = f"{1 - own['fvu']:.1%} of the variance rebuilt"
    dictionary = f"SAE after block {block}: {features['total']:,} features, {rebuilt}"
    if cell_len(name.plain) + 2 + cell_len(facts) <= width:
        return [name.append(f"  {facts}"), _indent(dictionary, 3)]
    return [name, _indent(facts, 3), _indent(dictionary, 3)]


def _tell_texts(found: Mapping[str, Any]) -> str:
    return (
        "Both were trained from scratch, from different seeds and with different tokenizers, on the same "
        "public-domain English: Moby-Dick, State of the Union addresses, the King James Bible. Here they "
        f"read {found['documents']} passages new to both."
    )


def _tell_words(found: Mapping[str, Any]) -> str:
    exact = min(own["certificates"].get("exact", 0) for own in found["sides"].values())
    return (
        f"{found['words']:,}, each with its tokens in both models: every byte accounted for in {exact} of "
        f"{found['documents']} passages."
    )


def _tell_features(found: Mapping[str, Any]) -> str:
    shares = [f"{own['kept']:,} of {own['total']:,} in {side}" for side, own in found["features"].items()]
    return f"{' and '.join(shares)} fire on 10 words or more."


def _tell_pairs(found: Mapping[str, Any]) -> str:
    best, again = found["pairs"]["best_of_a"], found["reproduced"]
    share = format_share(again["same_best_partner"], again["frequent_in_both_halves"])
    return (
        f"{best['count']:,} features of a have a partner in b whose activations go up and down with theirs "
        f"from word to word: correlation {format_r(best['mean_r'])} on the half of the passages where the "
        f"partners were found, {format_r(best['mean_r_heldout'])} on the other half, "
        f"{format_r(best['mean_r_heldout_shuffled'])} with the partners shuffled. Searched for afresh on the "
        f"other half, {share} find the same partner again."
    )


def _tell_alike(found: Mapping[str, Any]) -> str:
    one = found["scores"][0]
    return (
        f"decoder vectors of {one['pairs']:,} mutual pairs by {parse_metric(one['metric']).label}: "
        f"{format_r(one['value'])}; exchanged partners {format_r(one['null_mean'])} "
        f"(p {format_p(one['p'])}); noise of pairing allows {format_r(one['ceiling'])}."
    )


def _tell_steered(steering: Mapping[str, Any]) -> str:
    cell = take_primary(steering)
    random, hard = (format_r(cell[part][name]) for part, name in _STEERED)
    told = (
        f"a pushed along one of the {len(steering['pairs'])} best pairs, b along the other: what changes "
        f"further down agrees by {format_r(cell['mean_diagonal'])} (p {format_p(cell['p_max'])}; with random "
        f"layers there {random})"
    )
    return {
        "partners": f"{told}, and more than for features that merely fire alike ({hard}).",
        "less": f"{told}, but also for features that merely fire alike ({hard}).",
        "alike": f"{told}, but also for features that merely fire alike ({hard}).",
        "unmatched": f"{told}.",
        "few": f"{told}. One draw of these is too few for a verdict.",
    }.get(classify_transfer(steering), f"{told}, which is not clearly more than chance.")


def _draw_pairs(found: Mapping[str, Any], width: int) -> list[Text]:
    fields = [Field("a"), Field("b"), Field("r"), Field("other half")]
    rows, lists = [], []
    for pair in [*found["best_pairs"], *found["concept_pairs"]]:
        shared = find_shared(pair["top_words_a"], pair["top_words_b"])
        rows.append(
            [
                Text(str(pair["feature_a"]), "cyan"),
                Text(str(pair["feature_b"]), "cyan"),
                Text(format_r(pair["r"]), "bold"),
                Text(format_r(pair["r_heldout"])),
            ]
        )
        lists.append([partial(fit_words, pair[f"top_words_{side}"], shared=shared) for side in "ab"])
    words = ["strongest words of a", "strongest words of b"]
    best, lines = len(found["best_pairs"]), draw_table(fields, rows, words, lists, width)
    each = (len(lines) - 1) // len(rows)
    title = draw_heading(
        f"The {best} best pairs, and the next {len(rows) - best} not mainly on function words"
    )
    note = Text("High on one half only: such a pair rests on few words. Trust the other half.", FAINT)
    return [*title, *lines[: 1 + best * each], Text(), *lines[1 + best * each :], *wrap(note, width)]


def _draw_next(found: Mapping[str, Any]) -> list[RenderableType]:
    run, pair = shlex.quote(found["run"]), found["best_pairs"][0]
    heading = Text("Now open ", "bold").append_text(show_name(found["report"]["page"]))
    lines = [Text(), heading.append(" in a browser, or type", "bold")]
    lines += [
        Text("  ").append_text(show_name(f"xmodel features {run} --a {pair['feature_a']}")),
        Text("  ").append_text(show_name(f"xmodel score {run}")),
        Text("  ").append_text(show_name(f"xmodel steer {run}")),
        Text("  xmodel align --help        for models and a text of your own"),
    ]
    for line in lines:
        line.no_wrap, line.overflow = False, "fold"
    return [*lines]


def _draw_sentence(name: str, text: str, width: int) -> list[Text]:
    """A word in a column of its own, and a sentence beside it."""
    lines = wrap(Text(text), max(width - COLUMN, 20))
    heads = [Text().append(name.ljust(COLUMN), "bold"), *(Text(" " * COLUMN) for _ in lines[1:])]
    return [head.append_text(line) for head, line in zip(heads, lines, strict=True)]


def _indent(text: str, cells: int) -> RenderableType:
    return Padding(Text(text, FAINT), (0, 0, 0, cells), expand=False)
