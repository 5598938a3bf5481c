"""A steering vector carried from A to B, on one page: what of it was carried, and whether to trust it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

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
from xmodel.report.runs import TOP_WORDS, TOP_WORDS_NOTE, WARNING
from xmodel.report.scores import format_p
from xmodel.report.steer import GOOD, name_depth
from xmodel.report.steer_tables import MARK
from xmodel.report.visible import FAINT

FEATURES = 10
"""Features that are listed, the largest coefficient first."""
MOST, LIKE = 0.7, 0.3
"""Agreement from which a vector does most of what another does, and from which something like it."""


def describe_port(run: Run, ported: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a vector that was carried over, in the format of ``xmodel steer --port --json``.

    Args:
        run: the run whose pairs it was carried through.
        ported: as `port_vector` gives it.

    Returns:
        What JSON can hold: ``run``, the folder; everything in `ported`, its features also with
        ``top_words_a`` and ``top_words_b``; and ``verdict``: ``trust``, ``care``, ``little``,
        ``distrust`` or ``unknown``.

    Raises:
        InputError: if a file of the run is missing or damaged.
    """
    features = [dict(one) for one in ported["features"]]
    for side in "ab":
        numbers = [one[f"feature_{side}"] for one in features]
        for one, words in zip(features, run.top_words(side, numbers, TOP_WORDS), strict=True):
            one[f"top_words_{side}"] = words
    return {"run": str(run.path), **ported, "features": features, "verdict": judge_port(ported)}


def judge_port(ported: Mapping[str, Any]) -> str:
    """Whether to trust B's vector.

    Returns:
        ``distrust`` where A's features express no more of the vector than of random ones, or where B's does
        no more of what A's does than random directions do; beyond chance ``trust`` from an agreement of
        `MOST`, ``care`` from `LIKE` and ``little`` below; ``unknown`` where nothing was compared with chance.
    """
    cell = ported["cells"][ported["primary"]]
    if ported["share"] <= ported["share_random"]:
        return "distrust"
    if cell["p_adjusted"] is None:
        return "unknown"
    if cell["p_adjusted"] > ported["settings"]["alpha"]:
        return "distrust"
    return "trust" if cell["odd"] >= MOST else "care" if cell["odd"] >= LIKE else "little"


def render_port(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_port` found.

    Args:
        found: the description.
        width: cells per line.
    """
    lines = [Text(), Text("A's steering vector, carried over to B", "bold"), Text()]
    for side, place in (("a", found["source"]), ("b", found["out"])):
        head = Text().append(f"{side}  ", "bold cyan").append_text(show_name(place, width - 3))
        at = f"{found[f'site_{side}']} of {found[f'model_{side}']}, length {found[f'norm_{side}']:.3g}"
        lines += [head, *(Text("   ").append_text(one) for one in wrap(show_name(at), width - 3))]
    verdict, style = _tell_verdict(found)
    for sentence in (tell_share(found), tell_scale(found), tell_agreement(found)):
        lines += [Text(), *wrap(Text(sentence), width)]
    lines += [Text(), *wrap(Text(verdict, style), width)]
    return Group(*lines, *_draw_cells(found, width), *_draw_features(found, width))


def tell_share(found: Mapping[str, Any]) -> str:
    """How much of A's vector its paired features express."""
    return (
        f"{len(found['features'])} of A's paired features express {format_share(found['share'], 1)} of the "
        f"vector's length (of random vectors {format_share(found['share_random'], 1)}). In B their partners "
        "stand in their place."
    )


def tell_scale(found: Mapping[str, Any]) -> str:
    """How long B's vector is, and why."""
    exchange = found["exchange"]
    if exchange["by"] == "norm":
        return (
            "B's vector is scaled by the norms of the residual streams: a length of 1 in A is "
            f"{exchange['units']:.2f} in B. No doses were found that change the next token as much."
        )
    return (
        "B's vector is scaled to change the prediction of the next token as much as A's does: a length of 1 "
        f"in A is {exchange['units']:.2f} in B. By the norms of the residual streams it would be "
        f"{exchange['by_norm']:.2f}."
    )


def tell_agreement(found: Mapping[str, Any]) -> str:
    """How far B's vector does what A's does, beside chance, the linear map and single pairs."""
    cell, reference = found["cells"][found["primary"]], found["reference"]
    told = (
        f"Pushed by {cell['dose']:g} of the residual stream's length, A's and B's vector agree by "
        f"{format_r(cell['odd'])} in what they do to {found['words']:,} held-out words, read "
        f"{name_depth(cell['depth'])} (1: the same, 0: nothing in common)."
    )
    if cell["random_mean"] is not None:
        told += (
            f" With {found['random']:,} random directions of B, A's agrees by "
            f"{format_r(cell['random_mean'])} in the mean and {format_r(cell['random_largest'])} at most; p "
            f"{format_p(cell['p_adjusted'])}."
        )
    told += (
        f" With its own image under a linear map of the residual streams, by {format_r(cell['odd_linear'])} "
        f"(cosine of that with B's vector {format_r(found['cosine_linear'])})."
    )
    if reference is not None:
        told += f" Single pairs of this run agree by {format_r(reference['mean_diagonal'])}"
        ceiling = reference["ceiling"]
        told += "."
        if ceiling is not None:
            told += (
                f" For comparison: either model agrees by {ceiling['transfer']:.2f} with itself when the "
                "same words stand in another context."
            )
    return told


def _tell_verdict(found: Mapping[str, Any]) -> tuple[str, str]:
    cell = found["cells"][found["primary"]]
    if found["verdict"] == "distrust" and found["share"] <= found["share_random"]:
        told = "do not trust it. A's paired features express no more of this vector than of a random one."
        return f"Verdict: {told}", WARNING
    agree = f"agreement {format_r(cell['odd'])}, p {format_p(cell['p_adjusted'])} against random directions"
    share = (
        f"its paired features express {format_share(found['share'], 1)} of A's vector, of random vectors "
        f"{format_share(found['share_random'], 1)}"
    )
    told = {
        "unknown": "not known. Nothing was compared with random directions (--random 1000).",
        "distrust": f"do not trust it. B's vector does what A's does no more than random directions do "
        f"({agree}).",
        "little": f"do not rely on it. B's vector does little of what A's does, though more than chance "
        f"({agree}; {share}).",
        "care": f"use it with care. B's vector does something like what A's does ({agree}; {share}).",
        "trust": f"trust it. B's vector does most of what A's does ({agree}; {share}).",
    }[found["verdict"]]
    if cell["odd_linear"] > cell["odd"]:
        told += " The linear map does better here."
    return f"Verdict: {told}", GOOD if found["verdict"] == "trust" else WARNING


def _draw_cells(found: Mapping[str, Any], width: int) -> list[Text]:
    fields = [Field(one) for one in ("dose", "depth", "agree", "p", "corr.", "linear", "p", "random")]
    rows = []
    for place, cell in enumerate(found["cells"]):
        mark = f"{MARK} " if place == found["primary"] and len(found["cells"]) > 1 else ""
        rows.append(
            [
                Text(f"{mark}{cell['dose']:g}"),
                Text(f"{cell['depth']:g}"),
                Text(format_r(cell["odd"]), "bold"),
                Text(format_p(cell["p"])),
                Text(format_p(cell["p_adjusted"])),
                Text(format_r(cell["odd_linear"])),
                Text(format_p(cell["p_linear"])),
                Text(format_r(cell["random_mean"])),
            ]
        )
    note = (
        "agree, linear: how far B's vector does what A's does, carried through the pairs and by the linear "
        f"map. p: against random directions; corr.: corrected for the {len(rows)} rows. random: their mean."
    )
    table = draw_table(fields, rows, [], [[] for _ in rows], width)
    return [*draw_heading("By dose and depth"), *table, *wrap(Text(note, FAINT), width)]


def _draw_features(found: Mapping[str, Any], width: int) -> list[Text]:
    features = found["features"]
    rows, lists = [], []
    for one in features[:FEATURES]:
        shared = find_shared(one["top_words_a"], one["top_words_b"])
        names = [Text(str(one[f"feature_{side}"]), "cyan") for side in "ab"]
        rows.append([*names, Text(f"{one['coefficient']:.3g}", "bold")])
        lists.append([partial(fit_words, one[f"top_words_{side}"], shared=shared) for side in "ab"])
    fields = [Field("a"), Field("b"), Field("weight")]
    lines = draw_heading("What it is made of")
    lines += draw_table(fields, rows, ["top words of a", "top words of b"], lists, width)
    rest = len(features) - len(rows)
    more = f"{rest} more features have smaller weights. " if rest else ""
    return [*lines, *wrap(Text(f"{more}{TOP_WORDS_NOTE[0].upper()}{TOP_WORDS_NOTE[1:]}", FAINT), width)]
