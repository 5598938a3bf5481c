"""From a run's word features to its table of pairs: one call, which `xmodel pair` repeats at will."""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.chunks import Chunks
from xmodel.pairing.dense import prepare_dense
from xmodel.pairing.densify import densify
from xmodel.pairing.filters import WordChoice, choose_features, choose_words
from xmodel.pairing.greedy import match_greedy
from xmodel.pairing.halves import Shards
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.optimal import match_optimal
from xmodel.pairing.pair_table import RULES, Matched, tabulate_pairs
from xmodel.pairing.prepared import Searchable, prepare_features
from xmodel.pairing.results import open_shards, read_manifest
from xmodel.pairing.settings import PairSettings
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
    warn: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Pair the features of a finished pass; writes pairs.parquet and summary.json.

    Features are paired on the discovery half; every pair's r on the held-out half stands beside it.

    Args:
        folder: the run.
        settings: filters and rules.
        report: told of progress.
        warn: told what a user should know.

    Returns:
        The summary, as in summary.json.

    Raises:
        InputError: if the run is not finished or damaged, or a half has no words left.
    """
    begin = perf_counter()
    report("pair", 0, None)
    manifest = read_manifest(folder)
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
    prepared = _prepare(discovery, moments, (kept[0], kept[1]), settings, signed)
    matched = _match(prepared, settings, signed)
    if not (matched.of_a.features >= 0).any():
        warn(
            f"no two features correlate by more than {settings.floor} on {int(words.discovery.sum()):,} "
            f"words with "
            f"at least {settings.min_firings} firings: a longer corpus or a smaller --min-firings gives more."
        )
    held_moments = measure_moments(heldout, *shards.features)
    table = tabulate_pairs(matched, discovery, heldout, moments, held_moments)
    digest = folder.write("pairs.parquet", lambda place: _write_parquet(table, place))
    seconds = {**manifest["seconds"], "pair": round(perf_counter() - begin, 3)}
    summary = _summarise(manifest, shards, words, moments, kept, table, matched, ledger, seconds)
    summary["reproduced"] = _measure_reproduced(
        matched, heldout, held_moments, (kept[0], kept[1]), settings, signed
    )
    chosen = manifest["arguments"]["settings"]
    if chosen["unit"] == "token" and not (signed or chosen["pool_before_encoding"]):
        summary["by_word"] = compare_units(
            shards, words.discovery, matched.of_a, chosen["pool"], settings.min_firings
        )
    summary["pairs_sha256"] = digest
    folder.write_json("summary.json", summary)
    folder.write_json(
        "manifest.json",
        {
            **manifest,
            "pairing": {**settings.as_json(), "skipped_words": words.skipped, "pairs_sha256": digest},
        },
    )
    return summary


def _prepare(
    chunks: Chunks,
    moments: tuple[Moments, Moments],
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    settings: PairSettings,
    signed: bool,
) -> Searchable:
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
    of_a, of_b = prepared.find_partners(settings.top_k, settings.floor)
    rest: dict[str, Any] = {"floor": settings.floor, "absolute": signed}
    one_to_one = match_greedy(prepared, of_a, **rest)
    many = match_greedy(prepared, of_a, capacity=settings.at_most, **rest)
    price = max(settings.price, settings.floor)
    optimal, gap = match_optimal(prepared, of_a, of_b, price=price, absolute=signed)
    return Matched(of_a, of_b, one_to_one, many, optimal, gap)


def _measure_reproduced(
    matched: Matched,
    heldout: Chunks,
    moments: tuple[Moments, Moments],
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    settings: PairSettings,
    signed: bool,
) -> dict[str, Any]:
    """How many of A's features have the same best partner on the held-out half, found there afresh."""
    of_a, _ = _prepare(heldout, moments, kept, settings, signed).find_partners(1, settings.floor)
    first, again = matched.of_a.features[:, 0], of_a.features[:, 0]
    both = (first >= 0) & (again >= 0)
    same = int((first[both] == again[both]).sum())
    return {"features_a": int((first >= 0).sum()), "found_again": int(both.sum()), "same_best_partner": same}


def _write_parquet(table: "pa.Table", place: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, place, compression="zstd")


def _read_ledger(manifest: dict[str, Any]) -> list[Attrition]:
    return [Attrition(line["filter"], line["in"], line["out"]) for line in manifest["attrition"]]


def _summarise(
    manifest: dict[str, Any],
    shards: Shards,
    words: WordChoice,
    moments: tuple[Moments, Moments],
    kept: list[NDArray[np.bool_]],
    table: "pa.Table",
    matched: Matched,
    ledger: list[Attrition],
    seconds: dict[str, float],
) -> dict[str, Any]:
    r, held = (table[name].to_numpy(zero_copy_only=False) for name in ("r", "r_heldout"))
    rules = {}
    for rule in RULES:
        own = table[rule].to_numpy(zero_copy_only=False).astype(bool)
        rules[rule] = {
            "count": int(own.sum()),
            "mean_r": _average(r[own]),
            "mean_r_heldout": _average(held[own]),
        }
    rules["optimal"]["gap"] = float(matched.gap)
    return {
        "words": int(shards.bounds[-1]),
        "discovery_words": int(words.discovery.sum()),
        "heldout_words": int(words.heldout.sum()),
        "documents": manifest["corpus"]["documents"],
        "features": {
            letter: {"total": len(own.sums), "alive": int((own.firings > 0).sum()), "kept": int(chosen.sum())}
            for letter, own, chosen in zip("ab", moments, kept, strict=True)
        },
        "pairs": rules,
        "attrition": [{"filter": one.filter, "in": one.entered, "out": one.left} for one in ledger],
        "seconds": seconds,
    }


def _average(values: NDArray[np.float64]) -> float | None:
    """The mean of the values that exist, rounded for reading; None where there is none."""
    values = values[np.isfinite(values)]
    return round(float(values.mean()), 6) if len(values) else None
