"""One word of a run: the features of both models that stand for it, their partners, and its contexts."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from xmodel.alignment.tables import iterate_table
from xmodel.datasets.word_kinds import fold_word
from xmodel.errors import InputError
from xmodel.pairing.firings import is_discovery, join_chunks, look_up_activations, survey_features
from xmodel.pairing.results import Run
from xmodel.report.contexts import UNITS_NOTE, draw_contexts, read_contexts
from xmodel.report.layout import (
    Field,
    count,
    draw_heading,
    draw_table,
    fit_words,
    format_r,
    format_share,
    show_name,
)
from xmodel.report.partners import OTHER, SIGNED_NOTE, check_count, describe_survey, list_partners
from xmodel.report.runs import TOP_WORDS, TOP_WORDS_NOTE, WARNING, describe_side, draw_identity, is_signed
from xmodel.report.visible import FAINT

_SUGGESTIONS = 5


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Where a word occurs in a run."""

    ids: NDArray[np.int64]
    """[n] word ids, ascending."""
    discovery: int
    """How many are of the discovery half."""
    spellings: list[str]
    """As it is written, most frequent first."""


@dataclass(frozen=True, eq=False)
class WordScores:
    """How closely every feature of one model goes with one word."""

    r: NDArray[np.float64]
    """[F] Pearson's r between activation and the word's indicator, over all words; NaN if it never fires."""
    mean: NDArray[np.float64]
    """[F] mean activation over the word's occurrences, those where it does not fire included."""
    fires: NDArray[np.int64]
    """[F] occurrences that it fires on."""
    firings: NDArray[np.int64]
    """[F] words that it fires on."""


def describe_word(run: Run, word: str, *, count: int, contexts: int) -> dict[str, Any]:
    """Describe a word's features in the format of ``xmodel features --word --json``.

    Features are ranked by Pearson's r between their activation and the word's indicator (1 on its
    occurrences, 0 on all other words). Unlike the mean activation alone this is high only for a feature that
    fires on the word and little elsewhere; features that always fire, or fired once, do not lead. Features
    with fewer firings than pairing asked for are left out.

    Args:
        run: the run.
        word: compared without case, as a whole word of the run.
        count: how many features per side.
        contexts: how many occurrences to show, spread evenly over the corpus.

    Returns:
        What JSON can hold: ``run``; ``word``; ``spellings``; ``occurrences`` by half; ``words`` of the run;
        ``sides``; ``least_firings``; under ``a`` and ``b`` the features, each with ``feature``, ``r_word``,
        ``mean_on_word``, ``share_of_maximum`` (that mean relative to the feature's greatest activation),
        ``fires_on`` (of the occurrences), ``firings``, ``mean``, ``maximum``, ``top_words`` and ``partner``
        (best partner's row, or None); and ``contexts``, see `read_contexts`, with the activations of the
        first feature of either side.

    Raises:
        InputError: if the word does not occur, or the run is not finished, or damaged.
    """
    check_count(count, "count")
    check_count(contexts, "contexts")
    pairs = run.pairs
    found = find_word(run, word)
    least = run.manifest["pairing"]["min_firings"]
    chosen = np.zeros(int(run.shards.bounds[-1]), dtype=np.bool_)
    chosen[found.ids] = True
    places = np.unique(
        np.linspace(0, len(found.ids) - 1, min(contexts, len(found.ids))).round().astype(np.int64)
    )
    shown = found.ids[places].tolist()
    described: dict[str, Any] = {
        "run": str(run.path),
        "word": word,
        "spellings": found.spellings,
        "occurrences": {"discovery": found.discovery, "heldout": len(found.ids) - found.discovery},
        "words": len(chosen),
        "least_firings": least,
        "sides": {side: describe_side(run, side) for side in "ab"},
        "contexts": read_contexts(run, shown),
    }
    for side in "ab":
        scores = score_word(run, side, chosen)
        features = _choose_best(scores, least, count)
        surveys = survey_features(run, side, features, words=TOP_WORDS)
        described[side] = [
            {
                "feature": one,
                "r_word": float(scores.r[one]),
                "mean_on_word": float(scores.mean[one]),
                "share_of_maximum": float(abs(scores.mean[one] / surveys[one].maximum)),
                "fires_on": int(scores.fires[one]),
                **describe_survey(surveys[one]),
                "partner": next(iter(list_partners(pairs, side, one)), None),
            }
            for one in features
        ]
        values = look_up_activations(run, side, features[0], shown) if features else [None] * len(shown)
        for context, value in zip(described["contexts"], values, strict=True):
            context[side] = value
    return described


def find_word(run: Run, word: str) -> Occurrences:
    """Where a word occurs, compared without case.

    Raises:
        InputError: if it does not; names words of the run that are close to it.
    """
    sought = fold_word(word)
    ids: list[NDArray[np.int64]] = []
    spellings: Counter[str] = Counter()
    known: set[str] = set()
    first = discovery = 0
    for table in iterate_table(run.folder, "words", ["text", "split"]):
        encoded = join_chunks(table["text"]).dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        folded = [fold_word(text) for text in texts]
        numbers = encoded.indices.to_numpy(zero_copy_only=False)
        own = np.flatnonzero(np.array([text == sought for text in folded], dtype=np.bool_)[numbers])
        spellings.update(texts[number] for number in numbers[own].tolist())
        discovery += int(is_discovery(table)[own].sum())
        ids.append(first + own)
        known.update(folded)
        first += len(table)
    if not spellings:
        raise InputError(_explain_missing(run, word, known))
    order = sorted(spellings, key=lambda text: (-spellings[text], text))
    return Occurrences(np.concatenate(ids), discovery, order)


def _explain_missing(run: Run, word: str, known: set[str]) -> str:
    near = suggest_words(word, known)
    rule = run.manifest["arguments"]["settings"]["words"]
    advice = f"near it are {', '.join(map(repr, near))}" if near else "nothing in it is near"
    return (
        f"the word {word!r} does not occur in {run.path} (compared without case, as a whole word by the rule "
        f"{rule!r}): {advice}; choose a word of the run, listed in words.parquet."
    )


def suggest_words(word: str, known: Collection[str]) -> list[str]:
    """Words that contain a word or are spelled much like it, the closest first."""
    from difflib import get_close_matches

    sought = fold_word(word)
    # difflib is slow; a near word is of similar length and begins or ends alike.
    similar = [
        one
        for one in sorted(known)
        if one
        and abs(len(one) - len(sought)) <= 3
        and sought
        and (one[0] == sought[0] or one[-1] == sought[-1])
    ]
    near = get_close_matches(sought, similar, n=_SUGGESTIONS, cutoff=0.7)
    longer = sorted((one for one in known if sought and sought in one), key=lambda one: (len(one), one))
    return list(dict.fromkeys([*near, *longer]))[:_SUGGESTIONS]


def score_word(run: Run, side: str, chosen: NDArray[np.bool_]) -> WordScores:
    """Compare every feature of one model with a word's indicator, in one pass over its shards.

    Args:
        run: the run.
        side: ``a`` or ``b``.
        chosen: [W] the word's occurrences.
    """
    shards = run.shards
    width = shards.features["ab".index(side)]
    sums, squares, on_word = np.zeros(width), np.zeros(width), np.zeros(width)
    fires, firings = np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.int64)
    for number in range(len(shards)):
        own = shards.load(side, number)
        here = np.repeat(chosen[shards.bounds[number] : shards.bounds[number + 1]], np.diff(own.indptr))
        values = own.values.astype(np.float64)
        sums += np.bincount(own.indices, values, minlength=width)
        squares += np.bincount(own.indices, values * values, minlength=width)
        on_word += np.bincount(own.indices[here], values[here], minlength=width)
        fires += np.bincount(own.indices[here], minlength=width)
        firings += np.bincount(own.indices, minlength=width)
    words, times = len(chosen), int(chosen.sum())
    spread = (words * squares - sums * sums) * (words * times - times * times)
    r = np.full(width, np.nan)
    np.divide(words * on_word - sums * times, np.sqrt(np.maximum(spread, 0)), out=r, where=spread > 0)
    return WordScores(r, on_word / times, fires, firings)


def _choose_best(scores: WordScores, least: int, number: int) -> list[int]:
    """The features that go most closely with the word, among those that fire on it and often enough."""
    usable = np.flatnonzero((scores.fires > 0) & (scores.firings >= least) & np.isfinite(scores.r))
    order = np.lexsort((usable, -np.abs(scores.r[usable])))
    return usable[order[:number]].tolist()


def render_word(found: Mapping[str, Any], width: int) -> RenderableType:
    """Draw what `describe_word` found.

    Args:
        found: the description.
        width: cells per line.
    """
    occurrences = found["occurrences"]
    total = occurrences["discovery"] + occurrences["heldout"]
    head = Text("Word ", "bold").append_text(show_name(found["spellings"][0], width - 5))
    facts = f"Occurs {count(total, 'time')} in {count(found['words'], 'word')} "
    facts += f"({format_share(total, found['words'])}): {occurrences['discovery']:,} in the discovery half, "
    facts += f"{occurrences['heldout']:,} held out."
    head.stylize("bold")
    parts: list[RenderableType] = [Text(), head, Text(facts)]
    if len(found["spellings"]) > 1:
        parts.append(Text("Also written ").append_text(fit_words(found["spellings"][1:], width - 13)))
    for side in "ab":
        parts += [Text(), *draw_identity(side, found["sides"][side], width)]
        parts += _draw_features(found, side, width)
    note = "r: Pearson's r of the feature's activation with the word's indicator, over all words. mean: over "
    note += "the word's occurrences, relative to the feature's greatest activation. on: share of the "
    note += "occurrences that it fires on. Then its best partner in the other model, and their r. "
    note += TOP_WORDS_NOTE + (f" {SIGNED_NOTE}" if is_signed(found["sides"]) else "")
    parts.append(Text(note, FAINT))
    parts += _draw_occurrences(found, total, width)
    return Group(*parts)


def _draw_features(found: Mapping[str, Any], side: str, width: int) -> list[Text]:
    if not found[side]:
        least = found["least_firings"]
        return [Text(f"No feature that fires on at least {count(least, 'word')} fires on this one.", WARNING)]
    other = OTHER[side]
    total = sum(found["occurrences"].values())
    fields = [Field(side), Field("r"), Field("mean"), Field("on"), Field(other), Field("pair's r")]
    rows, lists = [], []
    for one in found[side]:
        partner = one["partner"]
        rows.append(
            [
                Text(str(one["feature"]), "cyan"),
                Text(format_r(one["r_word"]), "bold"),
                Text(f"{100 * one['share_of_maximum']:.0f}%"),
                Text(f"{100 * one['fires_on'] / total:.0f}%"),
                Text(str(partner["feature"]) if partner else "–", "cyan"),
                Text(format_r(partner["r"] if partner else None)),
            ]
        )
        lists.append([partial(fit_words, one["top_words"], shared={fold_word(found["word"])})])
    return draw_table(fields, rows, ["top words"], lists, width)


def _draw_occurrences(found: Mapping[str, Any], total: int, width: int) -> list[Text]:
    columns = {
        side: (f"{side} {found[side][0]['feature']}", found[side][0]["maximum"])
        for side in "ab"
        if found[side]
    }
    shown = len(found["contexts"])
    title = "In context" if shown == total else f"In context: {shown} of {total:,}, spread over the corpus"
    lines = draw_heading(title) + draw_contexts(found["contexts"], columns, width)
    return [*lines, Text(UNITS_NOTE, FAINT)] if columns else lines
