"""Windows of words around the strongest firings, with the activations in them, and the text they are of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tables import iterate_table
from xmodel.pairing.firings import is_discovery
from xmodel.pairing.results import Run
from xmodel.report.page.chunks import ChunkWriter, name_part, round_significant
from xmodel.report.page.columns import Columns, Report
from xmodel.report.page.summaries import AROUND
from xmodel.report.page.texts import show_plain
from xmodel.report.page.word_table import WordTable, iterate_documents

TEXT_CHUNK = 2048
"""Words per chunk of text."""
_LONGEST_GAP = 80


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one feature."""

    peaks: NDArray[np.int64]
    """[n] the words in their middle."""
    starts: NDArray[np.int64]
    """[n] first word."""
    stops: NDArray[np.int64]
    """[n] one past the last word."""


def cut_windows(words: WordTable, peaks: Sequence[int]) -> Windows:
    """The windows around a feature's peaks, each within one document."""
    places = np.asarray(peaks, dtype=np.int64)
    return Windows(places, *words.cut_windows(places, AROUND))


def find_activations(
    columns: Columns, wanted: Sequence[tuple[int, Windows]]
) -> list[list[list[list[int | float]]]]:
    """What features do in windows.

    Args:
        columns: the activations of the features' model.
        wanted: features, each with windows, be they its own or those of another.

    Returns:
        For each of them, per window, the words that the feature fires on: how many words after the window's
        start, and the activation to three digits.
    """
    found = [_find_entries(columns, feature, windows) for feature, windows in wanted]
    # Numbers are rounded all at once: one by one that is most of the time.
    shown = iter(round_significant(np.concatenate([values for _, values in found] or [np.zeros(0)])))
    return [[[[offset, next(shown)] for offset in own] for own in offsets] for offsets, _ in found]


def _find_entries(
    columns: Columns, feature: int, windows: Windows
) -> tuple[list[list[int]], NDArray[np.float32]]:
    """Per window the offsets of a feature's firings; and their activations, window after window."""
    ids, values = columns.get(feature)
    low = np.searchsorted(ids, windows.starts.astype(ids.dtype))
    high = np.searchsorted(ids, windows.stops.astype(ids.dtype))
    bounds = list(zip(low.tolist(), high.tolist(), windows.starts.tolist(), strict=True))
    offsets = [[word - start for word in ids[first:stop].tolist()] for first, stop, start in bounds]
    if not bounds:
        return [], values[:0]
    return offsets, np.concatenate([values[first:stop] for first, stop, _ in bounds])


@dataclass(frozen=True, eq=False)
class Needed:
    """The words whose text the page shows."""

    marks: NDArray[np.int32]
    """[W + 1] how many more windows begin than end at each word."""

    @classmethod
    def of(cls, words: int) -> "Needed":
        """None of so many words."""
        return cls(np.zeros(words + 1, dtype=np.int32))

    def add(self, windows: Windows) -> None:
        """All words of some windows."""
        np.add.at(self.marks, windows.starts, 1)
        np.add.at(self.marks, windows.stops, -1)

    def add_words(self, word_ids: NDArray[np.integer[Any]]) -> None:
        """Single words."""
        np.add.at(self.marks, word_ids, 1)
        np.add.at(self.marks, word_ids + 1, -1)

    def list_needed(self) -> NDArray[np.bool_]:
        """[W] whether each word is."""
        return np.cumsum(self.marks[:-1]) > 0


def write_texts(
    run: Run,
    writer: ChunkWriter,
    needed: NDArray[np.bool_],
    *,
    report: Report = lambda stage, done, total: None,
) -> tuple[int, int]:
    """Write the text of some words: ``text/0000`` and so on; a chunk without any such word is left out.

    Args:
        run: the run.
        writer: of the chunks.
        needed: [W] which words.
        report: told of progress.

    Returns:
        Chunks and bytes.

    Raises:
        InputError: if a file is missing or damaged.
    """
    size = written = 0
    chunks = -(-len(needed) // TEXT_CHUNK)
    chunk = _empty_chunk()
    for word, text, gap, document in _iterate_words(run, needed):
        if text is None and gap is None and document is None:
            chunk["words"].append(None)
        else:
            own = len(chunk["words"])
            chunk["words"].append(text)
            if gap is not None:
                chunk["gaps"][own] = gap
            if document is not None:
                chunk["documents"].append([word, *document])
        if (word + 1) % TEXT_CHUNK == 0 or word + 1 == len(needed):
            number = word // TEXT_CHUNK
            if any(one is not None for one in chunk["words"]):
                size += writer.write(name_part("text", number), chunk)
                written += 1
            report("text", number + 1, chunks)
            chunk = _empty_chunk()
    return written, size


def _empty_chunk() -> dict[str, Any]:
    return {"words": [], "gaps": {}, "documents": []}


def _iterate_words(
    run: Run, needed: NDArray[np.bool_]
) -> Iterator[tuple[int, str | None, str | None, tuple[int, str, str] | None]]:
    """Every word: its id, text if needed, the gap before it if it is not one space, and what begins with it.

    Where a document, a half or a chunk begins, that is the document's number, its name and the half.
    """
    documents = iterate_documents(run)
    at, name, data = -1, "", b""
    last, word = (-1, -1, False), 0
    columns = ["text", "document", "start", "end", "split"]
    for table in iterate_table(run.folder, "words", columns):
        own = needed[word : word + len(table)]
        texts = iter(table["text"].filter(own).to_pylist())
        numbers, starts, ends = (table[column].to_numpy().tolist() for column in columns[1:4])
        halves = is_discovery(table).tolist()
        rows = zip(numbers, starts, ends, halves, own.tolist(), strict=True)
        for number, start, end, half, wanted in rows:
            while at != number:
                at, name, data = next(documents)
            text = gap = begins = None
            if wanted:
                text = show_plain(next(texts))
                gap = _show_gap(data[last[1] : start]) if last[0] == number else ""
                gap = None if gap == " " else gap
            if (number, half) != (last[0], last[2]) or word % TEXT_CHUNK == 0:
                begins = number, show_plain(name), "discovery" if half else "heldout"
            yield word, text, gap, begins
            last = number, end, half
            word += 1


def _show_gap(data: bytes) -> str:
    if not data or data == b" ":
        return data.decode()
    return show_plain(data.decode("utf-8", "replace"), _LONGEST_GAP)
