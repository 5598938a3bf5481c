"""Everything that the explorer of pairs loads: read once from a run, and written in chunks."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from xmodel.pairing.results import Run
from xmodel.report.page.chunks import ChunkWriter
from xmodel.report.page.columns import MOST_ENTRIES, Columns, Report, read_columns
from xmodel.report.page.contexts import Needed, Windows, cut_windows, write_texts
from xmodel.report.page.features import write_feature_words, write_features
from xmodel.report.page.pairs import list_shown_pairs, write_pair_table, write_pairs
from xmodel.report.page.partner_lists import PartnerLists, list_all_partners
from xmodel.report.page.summaries import FeatureSummaries, summarize_features
from xmodel.report.page.word_index import MOST_TYPES, write_word_index
from xmodel.report.page.word_table import WordTable, read_word_table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """What the explorer is written from."""

    run: Run
    pairs: "pa.Table"
    """The content of pairs.parquet."""
    words: WordTable
    columns: Mapping[str, Columns]
    """Activations by side."""
    summaries: Mapping[str, FeatureSummaries]
    """Of all features, by side."""
    partners: Mapping[str, PartnerLists]
    """Of all features, by side."""

    def list_top_words(self, side: str) -> list[list[str]]:
        """[F] the different words on which each feature fires most strongly, as they are written."""
        return [self.words.list_texts(own) for own in self.summaries[side].top]


@dataclass(frozen=True)
class ExplorerFacts:
    """What was written."""

    pairs: int
    """Rows of the table."""
    features: tuple[int, int]
    """Features of A and of B that fire."""
    words: int
    """Word types in the index."""
    chunks: int
    bytes: int
    """Of all chunks."""
    seconds: float


@contextmanager
def gather_explorer(
    run: Run,
    scratch: Path,
    *,
    contexts: int = 20,
    most: int = MOST_ENTRIES,
    report: Report = lambda stage, done, total: None,
) -> Iterator[ExplorerData]:
    """Read what the explorer is written from.

    Args:
        run: the run.
        scratch: a folder that is not there yet, for what does not fit in memory; removed at the end.
        contexts: per pair, half of them where A's feature fires most, half where B's does.
        most: activations that are held in memory at a time.
        report: told of progress.

    Raises:
        InputError: if the run is not finished, or damaged.
    """
    try:
        shards, pairs, words = run.shards, run.pairs, read_word_table(run)
        columns = {side: read_columns(shards, side, scratch, most=most, report=report) for side in "ab"}
        yield ExplorerData(
            run=run,
            pairs=pairs,
            words=words,
            columns=columns,
            summaries={
                side: summarize_features(columns[side], words, side, peaks=contexts // 2, report=report)
                for side in "ab"
            },
            partners={side: list_all_partners(pairs, side, len(columns[side])) for side in "ab"},
        )
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def write_explorer(
    data: ExplorerData,
    writer: ChunkWriter,
    *,
    concepts: Mapping[str, Sequence[str | None] | None] | None = None,
    labels: Mapping[str, Sequence[str | None] | None] | None = None,
    carried: Mapping[str, Mapping[str, Any] | None] | None = None,
    most: int = MOST_ENTRIES,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = lambda text: None,
) -> ExplorerFacts:
    """Write the table of pairs, features, pairs, texts and the index of words.

    Args:
        data: as `gather_explorer` gives it.
        writer: of the chunks.
        concepts: by side: [F] the concept that each feature stands for.
        labels: by side: [F] given names.
        carried: by side: columns of the labels carried over from the other side.
        most: activations that are held in memory at a time.
        report: told of progress.
        warn: told what is not shown.

    Raises:
        InputError: if a file of the run is missing or damaged.
    """
    begin = perf_counter()
    manifest, words = data.run.manifest, data.words
    needed = Needed.of(len(words))
    windows: dict[str, Sequence[Windows]] = {}
    written: list[tuple[int, int]] = []
    for side in "ab":
        windows[side] = [cut_windows(words, peaks) for peaks in data.summaries[side].peaks]
        for own in windows[side]:
            needed.add(own)
        size = write_feature_words(
            writer,
            side,
            data.summaries[side],
            words,
            concepts=(concepts or {}).get(side),
            labels=(labels or {}).get(side),
            carried=(carried or {}).get(side),
        )
        written.append((1, size))
    for side in "ab":
        of_side = data.columns[side], data.summaries[side], words, windows[side], data.partners[side]
        written.append(write_features(writer, side, *of_side, data.pairs, manifest["pairing"], report=report))
    shown = list_shown_pairs(data.pairs)
    written.append((1, write_pair_table(writer, shown)))
    written.append(write_pairs(writer, shown, data.columns, windows, needed, report=report))
    written.append(write_texts(data.run, writer, needed.list_needed(), report=report))
    written.append(write_word_index(writer, data.run.shards, words, data.summaries, most=most, report=report))
    if len(words.types) > MOST_TYPES:
        warn(f"The search for words has the {MOST_TYPES:,} most frequent of {len(words.types):,} words.")
    return ExplorerFacts(
        pairs=len(shown),
        features=(data.summaries["a"].count_live(), data.summaries["b"].count_live()),
        words=min(len(words.types), MOST_TYPES),
        chunks=sum(chunks for chunks, _ in written),
        bytes=sum(size for _, size in written),
        seconds=perf_counter() - begin,
    )
