"""What steering found, on one page: does A's push do what the partner's does in B, and by how much."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.report.layout import count, format_r, format_share, show_name, wrap
from xmodel.report.runs import TOP_WORDS, WARNING, draw_identity
from xmodel.report.scores import format_p
from xmodel.report.steer_effects import draw_effects
from xmodel.report.steer_examples import draw_best, draw_examples
from xmodel.report.steer_tables import draw_cells, draw_nulls
from xmodel.report.visible import FAINT
from xmodel.steering.results import SUMMARY, TABLE, Steering

BEST = 10
"""Pairs that are listed, greatest T first."""
Verdict = Literal["untested", "none", "open", "few", "architecture", "unmatched", "less", "alike", "partners"]
GOOD = "bold green"
LEAST_DRAWS = 2
"""Draws of random layers below which nothing is called transfer."""
ROUNDING = 0.1
"""Share of rounding in what random layers give, above which a reader is told."""
_WAYS = {0.25: "a quarter of the way", 0.5: "half of the way", 0.75: "three quarters of the way"}
_AGREEMENT = (
    "Agreement is 1 where both changes move the words in the same way relative to each other, 0 where they "
    "have nothing in common, -1 where they are opposite."
)
EXPLAINED = {
    "push": f"{_AGREEMENT} Only that part of a change counts which turns round with the push, and the push's "
    "own copy, which the residual stream carries along, is taken out.",
    "ablate": f"{_AGREEMENT} What was taken away is put back before, so that only what later layers make "
    "of its absence counts.",
}
"""What agreement is, by mode."""


def describe_steering(steering: Steering) -> dict[str, Any]:
    """Describe what steering found, in the format of ``xmodel steer --json``.

    Args:
        steering: as `steer_run` gives it.

    Returns:
        What JSON can hold: ``run``, the folder; everything in steering.json, its examples also with
        ``top_words_a`` and ``top_words_b``, the different words on which either feature fires most strongly,
        and with ``odd`` (T), ``p`` and ``p_adjusted``; and ``best_pairs``, those of greatest T in the primary
        cell: ``feature_a``, ``feature_b``, ``r``, ``r_heldout``, ``odd``, ``p`` (corrected over doses and
        depths), ``p_adjusted`` (also over pairs) and their top words. Pairs without T, whose features never
        fired where they were to be switched off, are not among them.

    Raises:
        InputError: if a file of the run is missing or damaged.
    """
    found = {"run": str(steering.run.path), **steering.summary}
    examples = [dict(one) for one in found.get("examples", [])]
    transfers = _list_transfers(steering)
    for one in examples:
        one |= {name: transfers[one["pair"]][name] for name in ("odd", "p", "p_adjusted")}
    tested = [one for one in transfers if one["odd"] is not None]
    order = np.argsort([-one["odd"] for one in tested], kind="stable")[:BEST]
    best = [tested[place] for place in order.tolist()]
    for side in "ab":
        features = sorted({one[f"feature_{side}"] for one in (*examples, *best)})
        words = dict(zip(features, steering.run.top_words(side, features, TOP_WORDS), strict=True))
        for one in (*examples, *best):
            one[f"top_words_{side}"] = words[one[f"feature_{side}"]]
    return {**found, "examples": examples, "best_pairs": best}


def _list_transfers(steering: Steering) -> list[dict[str, Any]]:
    """Every pair with its T in the primary cell and its p-values over all cells."""
    summary = steering.summary
    rows = steering.table.select(["r_heldout", "odd"]).to_pylist()
    own = rows[summary["primary"] :: len(summary["cells"])]
    return [{**pair, **row} for pair, row in zip(summary["pairs"], own, strict=True)]


def render_steering(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_steering` found.

    Args:
        found: the description.
        width: cells per line.
    """
    lines = [Text(), Text("Does the partner do the same?", "bold"), Text()]
    for side in "ab":
        lines += draw_identity(side, found["sides"][side], width)
    lines += [Text(), *wrap(Text(tell_doing(found)), width), Text()]
    if (told := tell_retrieval(found)) is not None:
        lines += wrap(Text(told, "bold"), width)
    for sentence in tell_agreement(found):
        lines += wrap(Text(sentence), width)
    verdict, style = judge_transfer(found)
    lines += [Text(), *wrap(Text(verdict, style), width)]
    if (told := tell_rounding(found)) is not None:
        lines += wrap(Text(told, WARNING), width)
    lines += [
        Text(),
        *wrap(Text(EXPLAINED[found["mode"]], FAINT), width),
    ]
    lines += draw_cells(found, width)
    lines += draw_nulls(found, width)
    lines += draw_effects(found, width)
    lines += draw_examples(found, width)
    lines += draw_best(found, width)
    return Group(*lines, *_draw_files(found, width))


def tell_doing(found: Mapping[str, Any]) -> str:
    """What was done, in a sentence or two."""
    cell, settings, push = take_primary(found), found["settings"], found["mode"] == "push"
    pairs, words = _name_pairs(found), f"{found['words']:,} held-out words"
    if push:
        begin = (
            f"Pushed {pairs}, A along the one and B along its partner, by {cell['dose']:g} of the residual "
            "stream's length"
        )
    else:
        begin = f"Switched off, wherever they fire, {pairs}, in A the one and in B its partner"
    told = f"{begin}, and compared what that does to {words} {name_depth(cell['depth'])}."
    others = len(found["cells"]) - 1
    if others:
        kinds = "doses and depths" if len(settings["doses"]) > 1 and push else "depths"
        told += f" The table has {others} more {kinds if others > 1 else kinds.removesuffix('s')}."
    fired = found.get("ablation")
    if fired is not None and (rest := len(found["pairs"]) - fired["pairs"]):
        told += (
            f" {fired['pairs']:,} of the {count(len(found['pairs']), 'pair')} count; the other {rest:,} have "
            "a feature that fires on no token of these passages, or that another pair has."
        )
    return told


def _name_pairs(found: Mapping[str, Any]) -> str:
    """Which pairs these are: those of greatest r are no sample of all pairs."""
    number, named = len(found["pairs"]), found["settings"]["features"]
    many = "the pair of features" if number == 1 else f"the {number:,} pairs of features"
    if named:
        return f"{many} that {'was' if number == 1 else 'were'} named"
    return f"{many} that {'fires' if number == 1 else 'fire'} most alike (greatest r)"


def tell_retrieval(found: Mapping[str, Any]) -> str | None:
    """The headline: how often A's push picks out B's partner; None for a lone pair."""
    cell = take_primary(found)
    own, random = cell["retrieval"], cell["reinitialised"]
    if own["candidates"] < 2:
        return None
    chance = f"chance {format_share(own['chance1'], 1)}"
    if random is not None:
        chance += f"; with random layers after the site {format_share(float(np.mean(random['top1'])), 1)}"
    subject = "A's push" if found["mode"] == "push" else "What A loses"
    p = "" if own["p_top1_max"] is None else f", p {format_p(own['p_top1_max'])}"
    return (
        f"{subject} picks out B's partner among {own['candidates']} candidates in "
        f"{format_share(own['top1'], 1)} of cases ({chance}){p}."
    )


def tell_agreement(found: Mapping[str, Any], over: str = "pairs") -> list[str]:
    """How far partners agree, beside other pairs, random layers, and a model with itself.

    Args:
        found: what `describe_steering` gives.
        over: what the interval is over.
    """
    cell, ceiling = take_primary(found), found.get("ceiling")
    others = cell["mean_off_diagonal"]
    sentence = f"Partners agree by {format_r(cell['mean_diagonal'])}"
    if others is not None:
        sentence += f", other pairs by {format_r(others)}"
    if cell["p_max"] is not None:
        sentence += f" (p {format_p(cell['p_max'])})"
    told = [f"{sentence}."]
    excess = take_excess(cell, "difference")
    if excess is not None:
        low, high = excess["interval"]
        told.append(
            f"Random layers after the site give a difference of {format_r(_average(excess['reinitialised']))}"
            f"; the trained ones lie {format_r(excess['value'])} above that (95% interval over {over} "
            f"{format_r(low)} to {format_r(high)}), {count_below(excess)}."
        )
    if ceiling is not None:
        told.append(
            f"For comparison: either model agrees by {ceiling['transfer']:.2f} with itself when the same "
            "words stand in another context."
        )
    return [" ".join(told)]


def count_below(excess: Mapping[str, Any]) -> str:
    """Above how many draws of random layers the trained ones lie, in words."""
    draws = excess["reinitialised"]
    below = sum(excess["trained"] > one for one in draws)
    if len(draws) == 1:
        return f"{'above' if below else 'not above'} the only draw"
    return f"above all {len(draws)} draws" if below == len(draws) else f"above {below} of {len(draws)} draws"


def tell_rounding(found: Mapping[str, Any]) -> str | None:
    """A warning where what random layers give is rounding to a good part."""
    shares = found.get("floor", {}).get("reinitialised")
    if shares is None:
        return None
    parts = [
        f"{format_share(shares[one], 1)} of what random layers give in {one.upper()}"
        for one in shares
        if shares[one] is not None and shares[one] > ROUNDING
    ]
    if not parts:
        return None
    advice = "push harder (--doses)" if found["settings"]["dtype"] == "float32" else "use --dtype float32"
    return f"Rounding makes up {' and '.join(parts)}: {advice}."


def classify_transfer(found: Mapping[str, Any]) -> Verdict:
    """What the numbers of the primary cell say.

    Returns:
        ``untested``: too few pairs; ``none``: no more than other pairs; ``open``: more than these, but no
        random layers were tried; ``architecture``: no more than with random layers, by the interval of the
        excess or because one of the draws does as well; ``few``: more than with the only draw of random
        layers; ``unmatched``: more than all draws, but there are no hard pairs; ``less``: more than all
        draws, but less than hard pairs, by the interval of the difference; ``alike``: more than all draws,
        but not clearly more or less than hard pairs; ``partners``: more than all of them.
    """
    cell = take_primary(found)
    excess, over = take_excess(cell, "difference"), cell["over_hard"]
    if cell["p_max"] is None:
        return "untested"
    if cell["p_max"] > found["settings"]["alpha"]:
        return "none"
    if excess is None:
        return "open"
    if excess["interval"][0] <= 0 or excess["trained"] <= max(excess["reinitialised"]):
        return "architecture"
    if len(excess["reinitialised"]) < LEAST_DRAWS:
        return "few"
    if cell["auroc"]["hard"] is None:
        return "unmatched"
    low, high = (over and over["interval"]) or (0, 0)
    if high < 0:
        return "less"
    return "partners" if low > 0 else "alike"


def judge_transfer(found: Mapping[str, Any]) -> tuple[str, str]:
    """`classify_transfer` in plain words, and their style."""
    verdict = classify_transfer(found)
    begin = "partners do alike, beyond what random layers give"
    common = "what transfers is then what the words have in common, not who was paired with whom"
    told = {
        "untested": f"none. {count(found['pairs_sharing_no_feature'], 'pair')} that share no feature are too "
        "few to tell partners from other pairs; each pair stands beside its own chance below.",
        "none": "no transfer is shown. Partners agree not clearly more than other pairs do"
        f"{tell_power(found)}.",
        "open": "partners agree more than other pairs do. Whether that takes trained layers is not known, "
        "because no random layers were tried (--reinit 3).",
        "few": "partners agree more than other pairs do. Whether that takes trained layers is not known: one "
        "draw of random layers only, not enough for a verdict; use --reinit 3 or more.",
        "architecture": "no transfer is shown. Partners agree more than other pairs do, but not clearly more "
        "than with random layers after the site, which have learnt nothing.",
        "unmatched": f"{begin}. Whether that takes partners is not known, because no other features fire as "
        "much alike (no hard pairs were found).",
        "less": f"{begin}. But pairs of features that merely fire alike (hard pairs) agree more than the "
        f"partners do, as far as {tell_hard(found)}: {common}.",
        "alike": f"{begin}. But pairs of features that merely fire alike (hard pairs) agree as well, as far "
        f"as {tell_hard(found)}: {common}.",
        "partners": f"{begin}, and beyond features that fire as much alike but are no partners, as far as "
        f"{tell_hard(found)}.",
    }[verdict]
    return f"Verdict: {told}", GOOD if verdict in ("unmatched", "partners") else WARNING


def tell_hard(found: Mapping[str, Any]) -> str:
    """How far pairs lie above the hard pairs they are matched to, and how many there are."""
    cell = take_primary(found)
    told = f"{count(found['hard_pairs']['count'], 'hard pair')} can tell ("
    over = cell["over_hard"]
    if over is not None:
        told += f"a pair's agreement less its hard pair's is {format_r(over['value'])}"
        if over["interval"] is not None:
            low, high = over["interval"]
            told += f", 95% interval {format_r(low)} to {format_r(high)}"
        told += "; "
    share = cell["auroc"]["hard"]
    won = f"{format_share(share or 0.0, 1)} of comparisons with all of them, chance 50%"
    return f"{told}pairs that have one win {won})"


def take_primary(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The cell of dose and depth that the sentences are about."""
    return found["cells"][found["primary"]]


def take_excess(cell: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """An excess over random layers; None where there is none, or too little for an interval."""
    own = None if cell["excess"] is None else cell["excess"][name]
    return None if own is None or own["interval"] is None else own


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values))


def name_depth(depth: float) -> str:
    """Where something is read, in words."""
    way = _WAYS.get(depth, f"{depth:.0%} of the way")
    return "at the last block" if depth == 1 else f"{way} from there to the output"


def _draw_files(found: Mapping[str, Any], width: int) -> list[Text]:
    place = found["run"]
    told = Text("Every pair, dose and depth: ", FAINT).append_text(show_name(f"{place}/{TABLE}"))
    rest = Text("Everything else: ", FAINT).append_text(show_name(f"{place}/{SUMMARY}"))
    return [Text(), *wrap(told, width), *wrap(rest, width)]


def tell_power(found: Mapping[str, Any]) -> str:
    """What limits a test over few pairs, as the end of a sentence."""
    pairs = found["pairs_sharing_no_feature"]
    least = 1 / math.factorial(min(pairs, 20))
    if least > found["settings"]["alpha"] / 5:
        return f"; with {pairs} pairs p cannot be below {least:.2g}: too few to tell"
    return "; more pairs (--pairs) or words (--words) would tell more" if pairs < 20 else ""
