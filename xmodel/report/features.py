"""One feature of a run: its partners in the other model, and the words on which both fire, in context."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.errors import InputError
from xmodel.pairing.firings import Survey, look_up_activations, survey_features
from xmodel.pairing.results import Run
from xmodel.report.contexts import UNITS_NOTE, draw_contexts, read_contexts
from xmodel.report.layout import (
    Field,
    count,
    draw_heading,
    draw_table,
    find_shared,
    fit_words,
    format_r,
    format_share,
    format_value,
)
from xmodel.report.partners import (
    BOTH_NOTE,
    OTHER,
    SIGNED_NOTE,
    check_count,
    describe_survey,
    format_both,
    list_partners,
)
from xmodel.report.runs import TOP_WORDS, TOP_WORDS_NOTE, WARNING, describe_side, draw_identity, is_signed
from xmodel.report.visible import FAINT
from xmodel.report.word_features import describe_word, render_word

__all__ = ["describe_feature", "describe_word", "render_feature", "render_word"]


def describe_feature(run: Run, side: str, number: int, *, partners: int, contexts: int) -> dict[str, Any]:
    """Describe a feature in the format of ``xmodel features --json``; over both halves where not said.

    Args:
        run: the run.
        side: ``a`` or ``b``.
        number: of the feature.
        partners: how many partners to list, best first.
        contexts: how many of its strongest firings to show, and of its best partner's.

    Returns:
        What JSON can hold: ``run``; ``side``; ``feature``; ``features``, how many there are; ``model``,
        ``dictionary``, ``site``; ``signed``, whether either model's features are; ``firings`` by half;
        ``words`` of the run; ``mean`` and ``maximum`` where it fires, in the dictionary's units;
        ``top_words``, the different words of its strongest firings; ``partners``, each with columns of
        pairs.parquet, ``margin`` (its r less that of this feature's best other partner), and the same facts
        as the feature; ``unpaired``, why there are none; and ``contexts``: see `read_contexts`, with the
        activations of this feature and its best partner under ``a`` and ``b``, and under ``strongest_of`` the
        sides whose strongest firings it is among.

    Raises:
        InputError: if there is no such feature, it never fires, or the run is not finished, or damaged.
    """
    check_count(partners, "partners")
    check_count(contexts, "contexts")
    _check_number(run, side, number)
    rows = list_partners(run.pairs, side, number)[:partners]
    own = survey_features(run, side, [number], words=TOP_WORDS, places=contexts)[number]
    if not own.firings:
        raise InputError(
            f"feature {number} of {side} fires on none of the {int(run.shards.bounds[-1]):,} words of "
            f"{run.path}: choose another, or make a run over a longer corpus."
        )
    other = OTHER[side]
    found = survey_features(run, other, [row["feature"] for row in rows], words=TOP_WORDS, places=contexts)
    surveys = {side: own, other: found[rows[0]["feature"]] if rows else None}
    return {
        "run": str(run.path),
        "side": side,
        "feature": number,
        "features": run.shards.features["ab".index(side)],
        **{name: describe_side(run, side)[name] for name in ("model", "dictionary", "site")},
        "signed": is_signed({letter: describe_side(run, letter) for letter in "ab"}),
        "words": int(run.shards.bounds[-1]),
        **describe_survey(own),
        "partners": [{**row, **describe_survey(found[row["feature"]])} for row in rows],
        "unpaired": None if rows else explain_unpaired(run.manifest["pairing"], own.discovery),
        "contexts": _list_contexts(run, surveys),
    }


def _check_number(run: Run, side: str, number: int) -> None:
    if side not in OTHER:
        raise InputError(f"side {side!r}: it is 'a' or 'b'.")
    total = run.shards.features["ab".index(side)]
    if not 0 <= number < total:
        name = run.manifest["sides"][side]["dictionary"]["name"]
        raise InputError(
            f"there is no feature {number} of {side}: {name} has {total:,} features, 0 to {total - 1}."
        )


def explain_unpaired(settings: Mapping[str, Any], discovery: int) -> str:
    """Why a feature has no partner.

    Args:
        settings: ``pairing`` of the run's manifest.
        discovery: words of the discovery half that it fires on.
    """
    least = settings["min_firings"]
    if discovery < least:
        return (
            f"It fires on {count(discovery, 'word')} of the discovery half; pairing asked for at least "
            f"{least} (--min-firings)."
        )
    others = [name for name in ("skip_words", "drop_non_concepts") if settings.get(name)]
    filtered = ", or a filter set it aside" if others else ""
    return f"No feature of the other model correlates with it by more than {settings['floor']}{filtered}."


def _list_contexts(run: Run, surveys: Mapping[str, Survey | None]) -> list[dict[str, Any]]:
    """The strongest firings of a feature, then those of its partner that are not among them."""
    strongest: dict[int, list[str]] = {}
    for side, survey in surveys.items():
        for word, _ in survey.places if survey else []:
            strongest.setdefault(word, []).append(side)
    found = read_contexts(run, list(strongest))
    for side in "ab":
        survey = surveys[side]
        values = (
            look_up_activations(run, side, survey.feature, list(strongest)) if survey else [None] * len(found)
        )
        for context, value in zip(found, values, strict=True):
            context[side] = value
    for context in found:
        context["strongest_of"] = strongest[context["word_id"]]
    return found


def render_feature(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_feature` found.

    Args:
        found: the description.
        width: cells per line.
    """
    side = found["side"]
    parts: list[RenderableType] = [
        Text(),
        Text()
        .append(f"Feature {found['feature']} of {side}", "bold")
        .append(f", one of {found['features']:,}", FAINT),
        *draw_identity(side, found, width),
        Text(),
        Text(describe_firings(found)),
        Text("Top words: ").append_text(fit_words(found["top_words"], width - 11)),
        *_draw_partners(found, width),
        *_draw_contexts(found, width),
    ]
    return Group(*parts)


def describe_firings(found: Mapping[str, Any]) -> str:
    """One sentence on how often and how strongly a feature fires."""
    firings, words = found["firings"], found["words"]
    total = firings["discovery"] + firings["heldout"]
    return (
        f"Fires on {total:,} of {count(words, 'word')} ({format_share(total, words)}): "
        f"{firings['discovery']:,} of the discovery half, {firings['heldout']:,} held out. "
        f"Mean {format_value(found['mean'])} where it fires, at most {format_value(found['maximum'])}."
    )


def _draw_partners(found: Mapping[str, Any], width: int) -> list[Text]:
    other = OTHER[found["side"]]
    rows = found["partners"]
    lines = draw_heading(f"Partners in {other}")
    if not rows:
        return [*lines, Text(found["unpaired"], WARNING)]
    fields = [Field(other), Field("r"), Field("held out"), Field("margin"), Field("ranks"), Field("both")]
    cells, lists = [], []
    for row, both in zip(rows, format_both(rows), strict=True):
        shared = find_shared(found["top_words"], row["top_words"])
        ranks = f"{row['rank_a'] or '–'} | {row['rank_b'] or '–'}"
        numbers = format_r(row["r_heldout"]), format_r(row["margin"], sign=True), ranks, both
        cells.append(
            [Text(str(row["feature"]), "cyan"), Text(format_r(row["r"]), "bold"), *map(Text, numbers)]
        )
        lists.append([partial(fit_words, row["top_words"], shared=shared)])
    lines += draw_table(fields, cells, ["top words"], lists, width)
    note = "margin: r less that of the best other partner. ranks: of b among a's partners | of a among b's; "
    note += f"– is beyond the list. {BOTH_NOTE} {TOP_WORDS_NOTE}"
    return [*lines, Text(f"{note} {SIGNED_NOTE}" if found["signed"] else note, FAINT)]


def _draw_contexts(found: Mapping[str, Any], width: int) -> list[Text]:
    side = found["side"]
    columns = {side: (f"{side} {found['feature']}", found["maximum"])}
    if found["partners"]:
        best = found["partners"][0]
        columns[OTHER[side]] = f"{OTHER[side]} {best['feature']}", best["maximum"]
    columns = dict(sorted(columns.items()))
    own = [one for one in found["contexts"] if side in one["strongest_of"]]
    rest = [one for one in found["contexts"] if side not in one["strongest_of"]]
    lines = draw_heading(f"Where {side} {found['feature']} fires most")
    lines += draw_contexts(own, columns, width)
    if rest:
        lines += draw_heading(f"Where {columns[OTHER[side]][0]} fires most, not shown above")
        lines += draw_contexts(rest, columns, width)
    return [*lines, Text(UNITS_NOTE, FAINT)]
