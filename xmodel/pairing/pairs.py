"""From a run's word features to its table of pairs: one call, which `xmodel pair` repeats at will."""

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.chunks import Chunks
from xmodel.pairing.dense import prepare_dense
from xmodel.pairing.densify import densify
from xmodel.pairing.filters import choose_features, choose_words, describe_concepts
from xmodel.pairing.greedy import match_greedy
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.optimal import match_optimal
from xmodel.pairing.pair_table import Matched, correlate_shuffled, tabulate_pairs
from xmodel.pairing.prepared import Searchable, prepare_features
from xmodel.pairing.results import open_shards, read_manifest
from xmodel.pairing.settings import PairSettings
from xmodel.pairing.summary import summarise_rules, summarise_words
from xmodel.pairing.units import compare_units
from xmodel.records import Attrition, Moments
from xmodel.run import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa


def pair_features(
    folder: RunFolder,
    settings: PairSettings,
    *,
    report: Callable[[str, int, int | None], None] = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Pair the features of a finished pass; writes pairs.parquet and summary.json.

    Features are paired on the discovery half; every pair's r on the held-out half stands beside it.

    Args:
        folder: the run.
        settings: filters and rules.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Returns:
        The summary, as in summary.json.

    Raises:
        InputError: if the run is not finished or damaged, or a half has no words left.
    """
    begin = perf_counter()
    report("pair", 0, None)
    manifest = read_manifest(folder)
    folder.check("words.parquet", manifest["files"]["words.parquet"])
    shards = open_shards(folder, manifest)
    words = choose_words(shards, settings)
    discovery, heldout = shards.select(words.discovery), shards.select(words.heldout)
    moments = measure_moments(discovery, *shards.features)
    ledger = [*_read_ledger(manifest), *words.ledger]
    kept = []
    for letter, own in zip("ab", moments, strict=True):
        chosen, lines = choose_features(letter, own, shards, words, settings)
        ledger += lines
        kept.append(chosen)
    signed = any(manifest["sides"][letter]["dictionary"]["signed"] for letter in "ab")
    prepared = prepare_search(discovery, moments, (kept[0], kept[1]), settings, signed)
    matched = _match(prepared, settings, signed)
    if not (matched.of_a.features >= 0).any():
        warn(
            f"no two features correlate by more than {settings.floor:g}: {int(kept[0].sum()):,} of a's and "
            f"{int(kept[1].sum()):,} of b's passed the filters, on {int(words.discovery.sum()):,} words. A "
            "longer corpus, a lower --floor or a smaller --min-firings gives more."
        )
    del prepared
    held_moments = measure_moments(heldout, *shards.features)
    ledger += _count_partnered(matched, settings, (kept[0], kept[1]))
    table = tabulate_pairs(matched, discovery, heldout, moments, held_moments, settings.top_k)
    digest = folder.write("pairs.parquet", lambda place: _write_parquet(table, place))
    shuffled = correlate_shuffled(table, discovery, heldout, moments, held_moments, signed=signed)
    summary = {
        **summarise_words(manifest, shards, words, moments, (kept[0], kept[1])),
        "pairs": summarise_rules(table, signed, matched.gap, shuffled),
        "reproduced": _measure_reproduced(
            matched, heldout, held_moments, (kept[0], kept[1]), settings, signed
        ),
        "attrition": [{"filter": one.filter, "in": one.entered, "out": one.left} for one in ledger],
    }
    chosen = manifest["arguments"]["settings"]
    if chosen["unit"] == "token" and not (signed or chosen["pool_before_encoding"]):
        summary["by_word"] = compare_units(
            shards, words.discovery, matched.of_a, chosen["pool"], (kept[0], kept[1]), settings
        )
    summary["seconds"] = {**manifest["seconds"], "pair": round(perf_counter() - begin, 3)}
    summary["pairs_sha256"] = digest
    if digest != manifest.get("pairing", {}).get("pairs_sha256"):
        _drop_old_results(folder, warn)
    folder.write_json("summary.json", summary)
    folder.write_json(
        "manifest.json",
        {
            **manifest,
            "pairing": {
                **settings.as_json(),
                "skipped_words": words.skipped,
                "non_concepts": describe_concepts() if settings.drop_non_concepts else None,
                "pairs_sha256": digest,
            },
        },
    )
    return summary


def _drop_old_results(folder: RunFolder, warn: Callable[[str], None]) -> None:
    """Remove the scores of other pairs, which would be taken for those of the new ones.

    What steering measured of features stays true of them, and may have taken hours: it stays, and says whose
    pairs it is of.
    """
    place = folder / "scores.json"
    (folder / "scores_nulls.parquet").unlink(missing_ok=True)
    if place.is_file():
        place.unlink()
        warn(f"the scores in {place} were of other pairs and are removed: run `xmodel score` again.")
    steered = folder / "steering.json"
    if steered.is_file():
        warn(
            f"what {steered} says is of the pairs that were there before: run `xmodel steer {folder.path}` "
            "again for those of now."
        )
    folder.tell_old_page(warn)
    folder.tell_old_page(warn)


def prepare_search(
    chunks: Chunks,
    moments: tuple[Moments, Moments],
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    settings: PairSettings,
    signed: bool,
) -> Searchable:
    """Both sides' features, ready to be searched for partners: sparse, or dense and signed.

    Args:
        chunks: the words' features.
        moments: of the same chunks.
        kept: [F_A] and [F_B] features that may have partners.
        settings: threads and memory.
        signed: whether either side's features are signed, so that partners have the greatest |r|.
    """
    if signed:
        first, second = densify(chunks, (len(moments[0].sums), len(moments[1].sums)), moments[0].words)
        return prepare_dense(
            first, second, absolute=True, kept_a=kept[0], kept_b=kept[1], memory=settings.memory
        )
    return prepare_features(
        chunks,
        moments[0],
        moments[1],
        kept_a=kept[0],
        kept_b=kept[1],
        workers=settings.workers,
        memory=settings.memory,
    )


def _match(prepared: Searchable, settings: PairSettings, signed: bool) -> Matched:
    # Two at least, so that a best partner has a runner-up to be compared with.
    of_a, of_b = prepared.find_partners(max(settings.top_k, 2), settings.floor)
    rest: dict[str, Any] = {"floor": settings.floor, "absolute": signed}
    one_to_one = match_greedy(prepared, of_a, **rest)
    many = match_greedy(prepared, of_a, capacity=settings.at_most, **rest)
    optimal, gap = match_optimal(prepared, of_a, of_b, price=settings.least_worth, absolute=signed)
    return Matched(of_a, of_b, one_to_one, many, optimal, gap)


def _count_partnered(
    matched: Matched, settings: PairSettings, kept: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> list[Attrition]:
    """The ledger's lines on the correlation floor."""
    return [
        Attrition(
            f"features {letter}: a partner with r above {settings.floor:g}",
            int(own.sum()),
            int((partners.features[:, 0] >= 0).sum()),
        )
        for letter, own, partners in zip("ab", kept, (matched.of_a, matched.of_b), strict=True)
    ]


def _measure_reproduced(
    matched: Matched,
    heldout: Chunks,
    moments: tuple[Moments, Moments],
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    settings: PairSettings,
    signed: bool,
) -> dict[str, Any]:
    """How many of A's features have the same best partner on the held-out half, found there afresh.

    Features must fire often enough on both halves.
    """
    first, second = (
        own & (half.firings >= settings.min_firings) for own, half in zip(kept, moments, strict=True)
    )
    prepared = prepare_search(heldout, moments, (first, second), settings, signed)
    of_a, _ = prepared.find_partners(1, settings.floor)
    before, again = matched.of_a.features[:, 0], of_a.features[:, 0]
    judged = first & (before >= 0)
    return {
        "features_a": int((before >= 0).sum()),
        "frequent_in_both_halves": int(judged.sum()),
        "same_best_partner": int((before[judged] == again[judged]).sum()),
    }


def _write_parquet(table: "pa.Table", place: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, place, compression="zstd")


def _read_ledger(manifest: dict[str, Any]) -> list[Attrition]:
    return [Attrition(line["filter"], line["in"], line["out"]) for line in manifest["attrition"]]
