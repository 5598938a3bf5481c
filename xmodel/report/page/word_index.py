"""Which features fire on a word, for every word of a run: what the page's search for words looks up."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import take_rows
from xmodel.pairing.halves import Shards
from xmodel.report.page.chunks import ChunkWriter, name_part
from xmodel.report.page.columns import MOST_ENTRIES, Report, cut_tiles
from xmodel.report.page.summaries import FeatureSummaries
from xmodel.report.page.texts import show_plain
from xmodel.report.page.word_table import WordTable

WORD_CHUNK = 128
"""Word types per chunk."""
MOST_TYPES = 50_000
"""Word types in the index."""
MOST_FEATURES = 300
"""Features listed per word and side."""


@dataclass(frozen=True, eq=False)
class IndexedTypes:
    """The word types of the index."""

    chosen: NDArray[np.int64]
    """[T] numbers of the types in the word table, most frequent first."""
    counts: NDArray[np.int64]
    """[T] how often each occurs."""
    of: NDArray[np.int32]
    """[W] place of each word's type in the index, -1 where it is not in it."""


def choose_types(words: WordTable, most: int = MOST_TYPES) -> IndexedTypes:
    """The most frequent word types; at equal counts in alphabetical order.

    Args:
        words: of the run.
        most: how many.
    """
    types = words.type_words()
    counts = np.bincount(types, minlength=len(words.types))
    order = sorted(range(len(counts)), key=lambda one: (-int(counts[one]), words.types[one]))[:most]
    chosen = np.array(order, dtype=np.int64)
    places = np.full(len(counts), -1, dtype=np.int32)
    places[chosen] = np.arange(len(chosen))
    return IndexedTypes(chosen, counts[chosen], places[types])


def write_word_index(
    writer: ChunkWriter,
    shards: Shards,
    words: WordTable,
    summaries: Mapping[str, FeatureSummaries],
    *,
    most: int = MOST_ENTRIES,
    report: Report = lambda stage, done, total: None,
) -> tuple[int, int]:
    """Write ``words/index``, and ``words/0000`` and so on.

    A word's features are those that fire on any of its occurrences, by their mean activation over all
    occurrences, relative to the feature's maximum.

    Args:
        writer: of the chunks.
        shards: of the run.
        words: of the run.
        summaries: by side.
        most: activations held in memory at a time.
        report: told of progress.

    Returns:
        Chunks and bytes.
    """
    indexed = choose_types(words)
    size = writer.write(
        "words/index",
        {
            "words": [show_plain(words.types[one]) for one in indexed.chosen.tolist()],
            "count": indexed.counts.tolist(),
            "chunk": WORD_CHUNK,
        },
    )
    sides = [rank_by_type(shards, side, indexed, summaries[side], most=most) for side in "ab"]
    chunks = -(-len(indexed.chosen) // WORD_CHUNK)
    for number in range(chunks):
        report("index", number, chunks)
        payload = []
        for _ in range(min(WORD_CHUNK, len(indexed.chosen) - number * WORD_CHUNK)):
            (a, strong_a, all_a), (b, strong_b, all_b) = (next(side) for side in sides)
            entry: dict[str, Any] = {"a": a, "b": b, "s": {"a": strong_a, "b": strong_b}}
            more = {"a": all_a - len(a), "b": all_b - len(b)}
            if any(more.values()):
                entry["more"] = {side: count for side, count in more.items() if count}
            payload.append(entry)
        size += writer.write(name_part("words", number), payload)
    report("index", chunks, chunks)
    return chunks + 1, size


def rank_by_type(
    shards: Shards, side: str, indexed: IndexedTypes, summaries: FeatureSummaries, *, most: int = MOST_ENTRIES
) -> Iterator[tuple[list[int], list[int], int]]:
    """For each word type in turn the features that fire on it, how strongly, and how many there are.

    Types are taken in tiles, one pass over the shards each.

    Args:
        shards: of the run.
        side: ``a`` or ``b``.
        indexed: the types.
        summaries: of this side.
        most: activations of a tile.

    Yields:
        The first `MOST_FEATURES` features, strongest first, the smaller number at a tie; the mean activation
        of each on the word in hundredths of the feature's maximum, rounded down, 99 at most; how many
        features there are.
    """
    # Sorting takes several times what the columns do.
    for first, stop in cut_tiles(_bound_entries(shards, side, indexed), max(1, most // 8)):
        types, features, sums = _sum_by_type(shards, side, indexed, first, stop)
        maxima = np.abs(summaries.maximum[features])
        share = np.abs(sums) / indexed.counts[types] / maxima
        order = np.lexsort((features, -share, types))
        ranked = features[order]
        strengths = np.minimum(99, np.floor(100 * share[order])).astype(np.int64)
        bounds = np.searchsorted(types, np.arange(first, stop + 1)).tolist()
        for low, high in itertools.pairwise(bounds):
            stop_at = min(high, low + MOST_FEATURES)
            yield ranked[low:stop_at].tolist(), strengths[low:stop_at].tolist(), high - low


def _bound_entries(shards: Shards, side: str, indexed: IndexedTypes) -> NDArray[np.int64]:
    """[T + 1] where each type's activations would begin, were they all in one array."""
    totals = np.zeros(len(indexed.chosen), dtype=np.int64)
    for number in range(len(shards)):
        of = indexed.of[shards.bounds[number] : shards.bounds[number + 1]]
        fires = np.diff(shards.load(side, number).indptr)
        np.add.at(totals, of[of >= 0], fires[of >= 0])
    return np.concatenate([[0], np.cumsum(totals)])


def _sum_by_type(
    shards: Shards, side: str, indexed: IndexedTypes, first: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Types, features and summed activations of types ``[first, stop)``, by type, then by feature."""
    width = shards.features["ab".index(side)]
    keys, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
    for number in range(len(shards)):
        of = indexed.of[shards.bounds[number] : shards.bounds[number + 1]]
        rows = np.flatnonzero((of >= first) & (of < stop))
        if len(rows):
            own = take_rows(shards.load(side, number), rows)
            types = np.repeat(of[rows].astype(np.int64), np.diff(own.indptr))
            keys.append(types * width + own.indices)
            values.append(own.values)
    joined = np.concatenate(keys)
    # Activations of a type and feature stay in the order of the corpus, so tiles do not change their sum.
    order = np.argsort(joined, kind="stable")
    ordered = joined[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    summed = np.add.reduceat(np.concatenate(values)[order].astype(np.float64), begins) if len(begins) else []
    found = ordered[begins]
    return found // width, found % width, np.asarray(summed, dtype=np.float64)
