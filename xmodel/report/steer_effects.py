"""What else steering found, in sentences: damage, doses, next words, what rises, what is carried over."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.text import Text

from xmodel.report.layout import (
    Field,
    count,
    draw_heading,
    draw_table,
    format_r,
    format_share,
    show_name,
    wrap,
)
from xmodel.report.scores import format_p
from xmodel.report.visible import FAINT

_COLUMN = 12


def draw_effects(found: Mapping[str, Any], width: int) -> list[Text]:
    """A sentence on everything that was measured beside transfer, and a table of contrast vectors."""
    lines = [line for name, text in list_effects(found) for line in _draw_beside(name, text, width)]
    heading = draw_heading("What else the pushes do") if lines else []
    return [*heading, *lines, *_draw_contrasts(found, width)]


def list_effects(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and finding of everything that was measured beside transfer."""
    told = [
        ("damage", tell_damage(found)),
        ("doses", tell_doses(found)),
        ("next words", tell_next_words(found)),
        ("what rises", tell_rises(found)),
        ("linear map", tell_carried(found)),
        ("other texts", tell_reliability(found)),
    ]
    return [(name, text) for name, text in told if text]


def tell_damage(found: Mapping[str, Any]) -> str | None:
    """How much of a change does not turn round with the push; None for ablation, which has no sign."""
    cell = found["cells"][found["primary"]]
    own, means = cell["damage"], cell["means"]
    if found["mode"] == "ablate" or not own:
        return None
    parts = " and ".join(f"{value:.2f} in {letter.upper()}" for letter, value in own.items())
    told = f"What a push does whichever way it goes is {parts} times as large as what turns round with it"
    told += ": most of what it does is damage." if min(own.values()) > 1 else "."
    if means["even_off_diagonal"] is None:
        return told
    return (
        f"{told} It agrees by {format_r(means['even'])} for partners and "
        f"{format_r(means['even_off_diagonal'])} for other pairs, and is left out above."
    )


def tell_doses(found: Mapping[str, Any]) -> str | None:
    """What a dose does to the next token, and which dose of B does as much as one of A."""
    study = found.get("dose_response")
    if study is None:
        return None
    cell, exchange = found["cells"][found["primary"]], study["exchange"]
    pairs, told = _name_first(found, len(study["pairs"])), []
    if cell["dose"] in study["doses"]:
        column = study["doses"].index(cell["dose"])
        kl = [float(np.mean([row[column] for row in study["kl"][letter]])) for letter in "ab"]
        told.append(
            f"At {cell['dose']:g} a push changes the prediction of the next token by {kl[0]:.2g} nats in A "
            f"and {kl[1]:.2g} in B (KL, {pairs})."
        )
    if exchange["rate"] is None:
        told.append("No dose of B could be found that does as much as one of A.")
    else:
        span = ""
        if exchange["low"] is not None and exchange["pairs"] > 1:
            span = f"; half of them between {exchange['low']:.2f} and {exchange['high']:.2f}"
        told.append(
            f"A dose in A does as much as {exchange['rate']:.2f} times it in B ({pairs}{span}); in the "
            f"models' own units a push of 1 as much as one of {exchange['units']:.2f}."
        )
    matched = study["kl_matched"]
    if matched is not None:
        told.append(
            f"At doses that do as much, partners agree by {format_r(matched['mean_diagonal'])}, others by "
            f"{format_r(matched['mean_off_diagonal'])} ({pairs})."
        )
    slopes = [one for letter in "ab" for one in study["slopes"][letter] if one is not None]
    if slopes:
        growth = 2 ** float(np.median(slopes))
        told.append(f"Twice a small dose makes {growth:.1f} times the change.")
    return " ".join(told)


def tell_next_words(found: Mapping[str, Any]) -> str | None:
    """Whether partners raise and lower the same next words."""
    if found["mode"] == "ablate":
        return None
    study = found.get("next_words")
    if study is None:
        return "The two vocabularies share too few words to compare what comes next."
    told = (
        f"Over {study['shared_words']:,} words that are one token in both vocabularies, partners raise and "
        "lower the same ones, the push's own copy taken out, by a correlation of "
        f"{format_r(study['mean_diagonal'])}"
    )
    if study["mean_off_diagonal"] is not None:
        told += f" (other pairs {format_r(study['mean_off_diagonal'])}"
        told += ")" if study["p"] is None else f", p {format_p(study['p'])})"
        told += (
            f"; A's push picks out B's partner in {format_share(study['top1'], 1)} of cases "
            f"(chance {format_share(study['chance1'], 1)})"
        )
    copy, random = study["copy_alone"], study["reinitialised"]
    told += f". The copy alone, without any layer after the site, gives {_tell_beside(copy)}"
    if random is None:
        return f"{told}; random layers were not tried."
    return f"{told}; one draw of random layers, their copy taken out, {_tell_beside(random)}."


def _tell_beside(other: Mapping[str, Any]) -> str:
    told = format_r(other["mean_diagonal"])
    return told if other["top1"] is None else f"{told} ({format_share(other['top1'], 1)} picked out)"


def _name_first(found: Mapping[str, Any], number: int) -> str:
    """The pairs whose doses were measured: the first ones, which are those of greatest r if none is named."""
    if found["settings"]["features"]:
        return f"the first {count(number, 'pair')}" if number > 1 else "the first pair"
    return f"the {count(number, 'pair')} of greatest r" if number > 1 else "the pair of greatest r"


def tell_rises(found: Mapping[str, Any]) -> str | None:
    """Whether the pushed feature is the one that rises most, also when the push comes from A linearly."""
    study = found.get("rises")
    if study is None or study["b"]["of"] < 2:
        return None
    own, linear = study["b"], study["b_linear"]
    return (
        f"At the site itself, so that no later layer has part in it: of the {own['of']:,} paired features "
        f"of B the partner rises most in {format_share(own['first'], 1)} of its pushes (chance "
        f"{format_share(1 / own['of'], 1)}). Pushed along A's direction, carried over by a linear map that "
        "knows of no pairs, it is "
        f"{format_share(linear['first'], 1)} (median place {linear['median_rank']:g})."
    )


def tell_carried(found: Mapping[str, Any]) -> str | None:
    """A's directions in B by a linear map, against the partners' own directions."""
    study = found.get("carried")
    if study is None:
        return None
    pairs, linear, fit = study["pairs"], study["linear"], study["linear_map"]
    told = (
        f"A's directions, carried over by that map, do in B what they do in A by "
        f"{format_r(linear['mean_diagonal'])}; the partners' by {format_r(pairs['mean_diagonal'])}."
    )
    if linear["mean_off_diagonal"] is not None:
        told += (
            f" The right one is picked out in {format_share(linear['top1'], 1)} of cases (by partners "
            f"{format_share(pairs['top1'], 1)})."
        )
    told += " Random layers were not measured for it, so how much of that is architecture is not known."
    if fit["r2_heldout"] is not None:
        told += (
            f" The map predicts {format_share(max(fit['r2_heldout'], 0.0), 1)} of the variance of B's "
            "residual stream on held-out words."
        )
    return told


def tell_reliability(found: Mapping[str, Any]) -> str | None:
    """How much depends on which passages were read."""
    own = found["reliability"]
    if own["correlation"] is None:
        return None
    told = (
        "Agreements of all features of A with all of B, over one half of the passages and over the other, "
        f"correlate at {format_r(own['correlation'])}"
    )
    return (
        f"{told}." if own["full"] is None else f"{told}; for all passages that means {format_r(own['full'])}."
    )


def _draw_contrasts(found: Mapping[str, Any], width: int) -> list[Text]:
    """Vectors of contrast prompts, by the ways they get into B."""
    contrasts = found.get("contrasts")
    if not contrasts:
        return []
    fields = [Field("contrast", right=False), Field("share")]
    fields += [Field(name) for name in ("pairs", "p", "linear", "p", "own", "p")]
    rows = []
    for one in contrasts:
        row = [show_name(one["name"], 24), Text(format_share(one["share"], 1))]
        for way in ("pairs", "linear", "own"):
            row += [Text(format_r(one[way]["odd"]), "bold"), Text(format_p(one[way]["p"]))]
        rows.append(row)
    note = explain_contrasts(contrasts)
    lines = draw_heading("Vectors of contrast prompts")
    table = draw_table(fields, rows, [], [[] for _ in rows], width)
    lines += table
    if lost := [way for way in ("pairs", "linear", "own") if way not in table[0].plain.split()]:
        lines += wrap(Text(f"no room here for: {', '.join(lost)}", FAINT), width)
    return [*lines, *wrap(Text(note, FAINT), width)]


def explain_contrasts(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """What the columns of the table of contrast vectors mean."""
    shares = [one["share_random"] for one in contrasts if one["share_random"] is not None]
    random = (
        " to ".join(dict.fromkeys(format_share(one, 1) for one in (min(shares), max(shares))))
        if shares
        else ""
    )
    return (
        "share: of the length of A's vector, what its paired features express"
        f"{f' (of random vectors {random})' if random else ''}. Then how far B's vector does what A's does: "
        "carried through the pairs, by the linear map, and made of B's own activations at the same prompts; "
        "p against random directions, not corrected over the table."
    )


def _draw_beside(name: str, text: str, width: int) -> list[Text]:
    """A word in a column of its own, and a sentence beside it."""
    lines = wrap(Text(text), max(width - _COLUMN, 20))
    heads = [Text().append(name.ljust(_COLUMN), "bold"), *(Text(" " * _COLUMN) for _ in lines[1:])]
    return [head.append_text(line) for head, line in zip(heads, lines, strict=True)]
