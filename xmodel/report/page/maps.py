"""Maps: the decoder vectors of both models in the plane, B's turned onto A's."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.baselines import is_identity, needs_fitting
from xmodel.pairing.halves import read_split
from xmodel.pairing.results import Run
from xmodel.report.layout import count
from xmodel.report.page.chunks import round_decimals, round_significant
from xmodel.report.page.feature_concepts import find_concepts, spell_concept
from xmodel.report.page.layouts import DRAWS, LEAST, NEIGHBOURS, Turn, lay_out, turn_onto
from xmodel.report.page.maps_cache import Layout, make_key, read_layouts, write_layouts
from xmodel.report.page.partner_lists import list_all_partners
from xmodel.report.page.records import Missing, Part, Scatter
from xmodel.report.scores import format_p
from xmodel.similarity.concepts import KEYWORDS, TOP_WORDS
from xmodel.similarity.decoders import load_decoder

TITLE = "Maps"
NO_CONCEPT = "no concept"
"""The group of features that belong to none."""
_STAGE = "maps"
_MISSING = -1
_FILTERS = ("skip_words", "drop_non_concepts")
# Settings of pairing that set features aside which fire often enough.

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""


@dataclass(frozen=True, eq=False)
class BestPartners:
    """The best partner of each of one model's features."""

    partner: NDArray[np.int64]
    """[F] the other model's feature, -1 for none."""
    r: NDArray[np.float64]
    """[F] its Pearson's r on the discovery half; NaN where there is no partner."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What is shown as maps."""

    part: Part
    """The part of the page: its text, or why it is missing."""
    payload: dict[str, Any] | None
    """The chunk ``maps``: see the page's assets/maps.js; None if the part is missing."""
    figures: list[Scatter]
    """The same for print: ``map-a`` and ``map-b``."""


def build_maps(
    run: Run,
    *,
    seed: int = 0,
    partners: Mapping[str, BestPartners] | None = None,
    concepts: Mapping[str, Sequence[str | None]] | None = None,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Maps:
    """Lay out both models' decoder vectors, or say why that cannot be.

    Layouts are kept in the run's folder (`xmodel.report.page.maps_cache`), and made anew where the
    dictionaries, the features that fire, the seed or UMAP's version are others.

    Args:
        run: a finished run.
        seed: equal seeds give equal maps.
        partners: by side; None takes the best r in pairs.parquet.
        concepts: by side, [F] names of concepts or None, see `find_concepts`, which None calls.
        report: told of progress.
        warn: told if kept layouts are damaged.

    Raises:
        InputError: if a file of the run is missing or damaged, or the disk is full.
    """
    missing = _find_reason(run)
    if missing is not None:
        return _leave_out(missing)
    firings = {side: count_firings(run, side) for side in "ab"}
    for side, own in firings.items():
        if (own > 0).sum() < LEAST:
            fires = count(int((own > 0).sum()), "feature")
            return _leave_out(
                Missing(f"Of {side}, {fires} fire in this run, and a map needs at least {LEAST}.", None)
            )
    try:
        layouts = _make_layouts(run, firings, seed, report, warn)
    except _UnmappableError as error:
        return _leave_out(Missing(str(error), None))
    best = find_best_partners(run) if partners is None else partners
    turn = turn_onto(layouts["b"].positions, layouts["a"].positions, _tie(layouts, best), seed=seed)
    found = {side: find_concepts(run, side) for side in "ab"} if concepts is None else concepts
    named = {
        side: [None if name is None else spell_concept(name) for name in own] for side, own in found.items()
    }
    words = int(run.shards.bounds[-1])
    placed = {"a": layouts["a"].positions, "b": turn.positions}
    names = _rank_concepts({side: [named[side][one] for one in layouts[side].features] for side in "ab"})
    payload: dict[str, Any] = {
        side: _describe_side(
            layouts[side], placed[side], best[side], firings[side] / words, named[side], names
        )
        for side in "ab"
    }
    discovery = read_split(run.folder)
    for side in "ab":
        judged = count_firings(run, side, discovery)[layouts[side].features]
        payload[side]["discovery"] = judged.tolist()
    notes = _write_notes()
    settings = run.manifest["pairing"]
    filtered = any(settings.get(name) for name in _FILTERS)
    payload |= {"concepts": names, "notes": " ".join(notes), "floor": settings["floor"], "filtered": filtered}
    part = Part(name="maps", title=TITLE, sentences=_write_sentences(layouts, turn, seed), notes=notes)
    figures = [_draw_side(side, layouts[side].features, placed[side], named[side], names) for side in "ab"]
    return Maps(part, payload, figures)


def count_firings(run: Run, side: str, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """[F] words of the run on which each feature of a side fires: of those `chosen` ([W]), or of all."""
    shards = run.shards
    total = np.zeros(shards.features["ab".index(side)], dtype=np.int64)
    for number in range(len(shards)):
        own = shards.load(side, number)
        indices = own.indices
        if chosen is not None:
            of_word = chosen[shards.bounds[number] : shards.bounds[number + 1]]
            indices = indices[np.repeat(of_word, np.diff(own.indptr))]
        total += np.bincount(indices, minlength=len(total))
    return total


def find_best_partners(run: Run) -> dict[str, BestPartners]:
    """By side, the best partner of every feature in pairs.parquet: the greatest r, |r| where signed.

    Raises:
        InputError: if pairing is not finished, or the file was changed.
    """
    pairs, found = run.pairs, {}
    r = pairs["r"].to_numpy().astype(np.float64)
    for side, features in zip("ab", run.shards.features, strict=True):
        lists = list_all_partners(pairs, side, features)
        partner, values = lists.best().astype(np.int64), np.full(features, np.nan)
        paired = partner != _MISSING
        values[paired] = r[lists.rows[lists.bounds[:-1][paired]]]
        found[side] = BestPartners(partner, values)
    return found


class _UnmappableError(Exception):
    """The decoder vectors cannot be had; its text says why, for the page."""


def _find_reason(run: Run) -> Missing | None:
    """Why dictionaries of a run have no geometry that a map could show."""
    for side in "ab":
        source = run.manifest["arguments"][side]["dictionary"]
        if is_identity(source):
            what = f"The features of {side} are the dimensions of its activations themselves"
            return Missing(
                f"{what} ({source}): they have no directions that could be more or less alike.", None
            )
        if needs_fitting(source):
            what = f"The features of {side} are principal components ({source})"
            return Missing(f"{what}, all at right angles to each other: a map would show nothing.", None)
    return None


def _leave_out(missing: Missing) -> Maps:
    return Maps(Part(name="maps", title=TITLE, missing=missing), None, [])


def _make_layouts(
    run: Run,
    firings: Mapping[str, NDArray[np.int64]],
    seed: int,
    report: Report,
    warn: Callable[[str], None],
) -> dict[str, Layout]:
    manifest = run.manifest
    keys = {
        side: make_key(manifest["sides"][side]["dictionary"]["digest"], firings[side] > 0, seed)
        for side in "ab"
    }
    layouts = read_layouts(run.folder, keys, warn)
    lacking = [side for side in "ab" if side not in layouts]
    if not lacking:
        return layouts
    rows = {}
    for side in lacking:
        try:
            decoder = load_decoder(run, manifest, side)
        except InputError as error:
            raise _UnmappableError(f"The decoder vectors of {side} cannot be loaded: {error}") from error
        rows[side] = _choose_rows(decoder, firings[side] > 0)
        if len(rows[side][0]) < LEAST:
            raise _UnmappableError(f"Of {side}, fewer than {LEAST} features that fire have a decoder vector.")
    for done, side in enumerate(lacking):
        report(_STAGE, done, len(lacking))
        features, units = rows[side]
        layouts[side] = Layout(keys[side], features, lay_out(units, seed))
    report(_STAGE, len(lacking), len(lacking))
    write_layouts(run.folder, layouts)
    return layouts


def _choose_rows(
    decoder: NDArray[np.float32], live: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The features that fire and write something, and their directions."""
    lengths = np.linalg.norm(decoder.astype(np.float64), axis=1)
    features = np.flatnonzero(live & (lengths > 0) & np.isfinite(lengths))
    return features, (decoder[features] / lengths[features, None]).astype(np.float32)


def _tie(
    layouts: Mapping[str, Layout], best: Mapping[str, BestPartners]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[k] rows of B's layout and [k] of A's: features that are each other's best partners."""
    a, b = layouts["a"].features, layouts["b"].features
    partner = best["a"].partner[a].astype(np.int64)
    mutual = (partner >= 0) & (best["b"].partner[partner] == a) & np.isin(partner, b)
    own = np.flatnonzero(mutual)
    return np.searchsorted(b, partner[own]), own


def _rank_concepts(named: Mapping[str, Sequence[str | None]]) -> list[str]:
    """The concepts that are there, those of most features first."""
    counts = Counter(name for side in named.values() for name in side if name is not None)
    return [name for name, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def _describe_side(
    layout: Layout,
    positions: NDArray[np.float64],
    best: BestPartners,
    rates: NDArray[np.float64],
    named: Sequence[str | None],
    names: Sequence[str],
) -> dict[str, list[Any]]:
    """One side of the chunk: columns, a row per feature."""
    numbers = {name: place for place, name in enumerate(names)}
    features = layout.features.tolist()
    partners = best.partner[layout.features].tolist()
    return {
        "feature": features,
        "x": round_decimals(positions[:, 0], 3),
        "y": round_decimals(positions[:, 1], 3),
        "r": round_decimals(best.r[layout.features], 4),
        "partner": [None if one < 0 else one for one in partners],
        "rate": round_significant(rates[layout.features]),
        "concept": [numbers.get(named[one] or "", _MISSING) for one in features],
    }


def _write_sentences(layouts: Mapping[str, Layout], turn: Turn, seed: int) -> tuple[str, ...]:
    if np.isnan(turn.agreement):
        finding = f"There are only {turn.ties} mutual pairs, too few to turn B's map onto A's."
    else:
        finding = (
            f"B's map is rotated or reflected, scaled and shifted so that the {turn.ties:,} mutual pairs lie "
            f"as near each other as that allows. Their positions then correlate at {turn.agreement:.2f} (1: "
            "both maps are the same picture); with partners exchanged at random at "
            f"{turn.chance:.2f} on average (p {format_p(turn.p)}, {DRAWS} times). A low number does not say "
            "that the spaces differ: UMAP places clusters at will."
        )
    counts = " and ".join(f"{len(layouts[side].features):,} of {side}" for side in "ab")
    return (
        finding,
        f"A point is a feature that fires in this run: {counts}. Near each other are features whose decoder "
        f"vectors point in like directions (UMAP on the cosine, {NEIGHBOURS} neighbours, seed {seed}). Each "
        "model's map is made from its own decoder alone.",
    )


def _write_notes() -> tuple[str, ...]:
    return (
        "UMAP (McInnes, Healy and Melville, 2018) keeps neighbourhoods: that two features are near says "
        "something; the distances between clusters, their sizes and how dense they are mean little.",
        f"A feature belongs to a concept if at least {KEYWORDS} of its {TOP_WORDS} strongest different words "
        "on the discovery half are keywords of it; to the one with most of them if there are several. r is "
        "that of the best partner.",
    )


def _draw_side(
    side: str,
    features: NDArray[np.int64],
    positions: NDArray[np.float64],
    named: Sequence[str | None],
    names: Sequence[str],
) -> Scatter:
    """One map for print, coloured by concept as on the page, whichever concepts this side has."""
    places = {name: place for place, name in enumerate([NO_CONCEPT, *names])}
    groups = [named[one] or NO_CONCEPT for one in features.tolist()]
    order = np.argsort([places[group] for group in groups], kind="stable")
    turned = ", turned onto that of a," if side == "b" else ""
    shown = sum(group != NO_CONCEPT for group in groups)
    return Scatter(
        name=f"map-{side}",
        title=f"Decoder vectors of {side}",
        caption=f"UMAP of the {len(features):,} features of {side} that fire{turned} by concept; {shown:,} "
        "belong to one.",
        x_label="UMAP 1",
        y_label="UMAP 2",
        x=positions[order, 0],
        y=positions[order, 1],
        hover=tuple(f"{side} {one}" for one in features[order].tolist()),
        groups=tuple(groups[place] for place in order.tolist()),
        group_order=tuple(names),
        bare=True,
        links=tuple(f"#{side}={one}" for one in features[order].tolist()),
    )
