"""Features one by one: a column per feature for search and lists, and chunks with partners and contexts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodel.report.features import explain_unpaired
from xmodel.report.page.chunks import ChunkWriter, name_part, round_decimals, round_significant
from xmodel.report.page.columns import Columns, Report
from xmodel.report.page.contexts import Windows, find_activations
from xmodel.report.page.partner_lists import PartnerLists
from xmodel.report.page.summaries import FeatureSummaries
from xmodel.report.page.texts import show_plain
from xmodel.report.page.word_table import WordTable

if TYPE_CHECKING:
    import pyarrow as pa

FEATURE_CHUNK = 64
"""Features per chunk."""
PARTNERS = 6
"""Partners listed per feature."""


def write_feature_words(
    writer: ChunkWriter,
    side: str,
    summaries: FeatureSummaries,
    words: WordTable,
    *,
    concepts: Sequence[str | None] | None,
    labels: Sequence[str | None] | None,
    carried: Mapping[str, Any] | None,
) -> int:
    """Write ``features/words_a``: of every feature its top words, how it fires, its concept and labels.

    Args:
        writer: of the chunks.
        side: ``a`` or ``b``.
        summaries: of this side.
        words: of the run.
        concepts: [F] names; None is as none for all.
        labels: [F] given names; None where none were given at all.
        carried: columns of the labels carried over from the other side, written as they are.

    Returns:
        Bytes.
    """
    numbers: dict[str, int] = {}
    top = [
        [numbers.setdefault(show_plain(text), len(numbers)) for text in words.list_texts(own)]
        for own in summaries.top
    ]
    total = len(summaries.mean)
    payload = {
        "words": list(numbers),
        "top": top,
        "firings": summaries.firings.tolist(),
        "maximum": round_significant(summaries.maximum),
        "mean": round_significant(summaries.mean),
        "concept": [None] * total if concepts is None else _show_names(concepts),
        "labels": None if labels is None else _show_names(labels),
        "carried": None if carried is None else dict(carried),
    }
    return writer.write(f"features/words_{side}", payload)


def _show_names(names: Sequence[str | None]) -> list[str | None]:
    return [None if name is None else show_plain(name) for name in names]


def write_features(
    writer: ChunkWriter,
    side: str,
    columns: Columns,
    summaries: FeatureSummaries,
    words: WordTable,
    windows: Sequence[Windows],
    partners: PartnerLists,
    pairs: "pa.Table",
    settings: Mapping[str, Any],
    *,
    report: Report = lambda stage, done, total: None,
) -> tuple[int, int]:
    """Write ``features/a-0000`` and so on: partners, and contexts with this feature's own activations.

    Args:
        writer: of the chunks.
        side: ``a`` or ``b``.
        columns: activations of this side.
        summaries: of this side.
        words: of the run.
        windows: [F] of this side's features.
        partners: of this side.
        pairs: the content of pairs.parquet.
        settings: ``pairing`` of the run's manifest.
        report: told of progress.

    Returns:
        Chunks and bytes.
    """
    listed = _list_rows(partners, pairs)
    total, size = len(columns), 0
    means, maxima = round_significant(summaries.mean), round_significant(summaries.maximum)
    chunks = -(-total // FEATURE_CHUNK)
    for number in range(chunks):
        report(f"features of {side}", number, chunks)
        payload: list[dict[str, Any] | None] = []
        features = range(number * FEATURE_CHUNK, min((number + 1) * FEATURE_CHUNK, total))
        own = find_activations(columns, [(feature, windows[feature]) for feature in features])
        for feature, entries in zip(features, own, strict=True):
            if not summaries.peaks[feature]:
                payload.append(None)
                continue
            discovery = int(summaries.discovery[feature])
            rows = listed[int(partners.bounds[feature]) : int(partners.bounds[feature + 1])][:PARTNERS]
            payload.append(
                {
                    "f": feature,
                    "firings": [discovery, int(summaries.heldout[feature])],
                    "mean": means[feature],
                    "maximum": maxima[feature],
                    "top": [show_plain(text) for text in words.list_texts(summaries.top[feature])],
                    "partners": [dict(zip(_PARTNER, row, strict=True)) for row in rows],
                    "unpaired": None if rows else explain_unpaired(settings, discovery),
                    "contexts": _describe_contexts(windows[feature], entries),
                }
            )
        size += writer.write(name_part("features", number).replace("/", f"/{side}-"), payload)
    report(f"features of {side}", chunks, chunks)
    return chunks, size


_PARTNER = ("f", "r", "r_heldout", "n_ab", "margin", "rank_own", "rank_other", "mutual")


def _list_rows(partners: PartnerLists, pairs: "pa.Table") -> list[tuple[Any, ...]]:
    """The values of `_PARTNER` in the order of a side's partner lists."""
    rows = partners.rows
    r, heldout = (np.asarray(pairs[name].to_numpy(), np.float64)[rows] for name in ("r", "r_heldout"))
    ranks = ([rank or None for rank in one.tolist()] for one in (partners.ranks, partners.other_ranks))
    columns = (
        partners.partners.tolist(),
        round_decimals(r),
        round_decimals(heldout),
        pairs["n_ab"].to_numpy()[rows].tolist(),
        round_decimals(partners.margins),
        *ranks,
        pairs["mutual"].to_numpy()[rows].tolist(),
    )
    return list(zip(*columns, strict=True))


def _describe_contexts(windows: Windows, own: Sequence[Any]) -> list[dict[str, Any]]:
    peaks, starts, stops = (one.tolist() for one in (windows.peaks, windows.starts, windows.stops))
    return [
        {"word": peak, "start": start, "stop": stop, "own": entries}
        for peak, start, stop, entries in zip(peaks, starts, stops, own, strict=True)
    ]
