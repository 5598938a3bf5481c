"""Where the words of a run stand in both models' tokens, and where a text may be cut for both alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.extract import EXCLUDED_MASSIVE
from xmodel.datasets.words import find_whitespace
from xmodel.pairing.results import Run
from xmodel.records import TokenFlag

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = ("words", "tokens_a", "tokens_b")


@dataclass(frozen=True, eq=False)
class WordPlaces:
    """Words of some documents, in order, and their tokens, as rows of ``tokens_a`` and ``tokens_b``."""

    word_ids: NDArray[np.int64]
    """[n] rows of the run's words."""
    documents: NDArray[np.int64]
    """[n] their documents."""
    windows: NDArray[np.int64]
    """[n] the window that holds the word in both models; -1 where there is none."""
    begin: NDArray[np.int64]
    """[n, 2] row of the first token of a text that begins with this word: its own first, or tokens of mere
    whitespace before it where with these both models begin at the same byte."""
    last: NDArray[np.int64]
    """[n, 2] row of the word's last token."""
    opens: NDArray[np.bool_]
    """[n] whether a text may begin here: no token of either model has bytes of the word and of what is
    before it."""
    closes: NDArray[np.bool_]
    """[n] whether a text may end here, and the word be read: in neither model has its last token bytes of
    what follows, had a massive activation in the run, or is a special token that the text spells out."""


@dataclass(frozen=True, eq=False)
class _SideTokens:
    """The tokens of one model that stand in windows; bytes are those of some documents' buffer."""

    rows: NDArray[np.int64]
    windows: NDArray[np.int64]
    starts: NDArray[np.int64]
    """First byte."""
    solid_starts: NDArray[np.int64]
    """Bytes before it that are no whitespace."""
    solid_ends: NDArray[np.int64]
    """Such bytes up to its end."""
    strange: NDArray[np.bool_]
    """Whether its activation was massive, or it is a special token that the text spells out."""


@dataclass(frozen=True, eq=False)
class _Found:
    """Where words stand among the tokens of one model."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    windows: NDArray[np.int64]
    opens: NDArray[np.bool_]
    closes: NDArray[np.bool_]


def locate_words(run: Run, wanted: NDArray[np.bool_]) -> Iterator[WordPlaces]:
    """Find the tokens of words, some documents at a time.

    Whitespace does not count: a token that carries the space before a word has no byte of what is before.

    Args:
        run: a finished run.
        wanted: [D] whose words.

    Raises:
        InputError: if a table is missing or damaged.
    """
    import pyarrow.parquet as pq

    files = run.manifest["files"]
    for name in ("documents", *_TABLES):
        run.folder.check(f"{name}.parquet", files[f"{name}.parquet"])
    passed = [0, 0, 0]
    with pq.ParquetFile(run.folder / "documents.parquet") as file:
        for group in range(file.num_row_groups):
            documents = file.read_row_group(group, columns=["document", "text"])
            if not len(documents):
                continue
            numbers = documents["document"].to_numpy()
            tables = [_read_documents(run, name, numbers) for name in _TABLES]
            if wanted[numbers].any():
                yield _locate(documents, tables, passed, wanted)
            passed = [before + len(table) for before, table in zip(passed, tables, strict=True)]


def _read_documents(run: Run, name: str, numbers: NDArray[np.int64]) -> "pa.Table":
    """The rows of consecutive documents, read from only those row groups that hold them."""
    import pyarrow.parquet as pq

    columns = ["group"] if name == "words" else ["window", "excluded", "flags"]
    bounds = [("document", ">=", int(numbers[0])), ("document", "<=", int(numbers[-1]))]
    return pq.read_table(
        run.folder / f"{name}.parquet", columns=["document", "start", "end", *columns], filters=bounds
    )


def _locate(
    documents: "pa.Table", tables: "list[pa.Table]", passed: list[int], wanted: NDArray[np.bool_]
) -> WordPlaces:
    texts = [text.encode() for text in documents["text"].to_pylist()]
    origins = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    solid = ~find_whitespace(np.frombuffer(b"".join(texts), dtype=np.uint8))
    before = np.concatenate([[0], np.cumsum(solid)])
    lowest = int(documents["document"][0].as_py())

    def place(table: "pa.Table") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        origin = origins[table["document"].to_numpy() - lowest]
        return origin + table["start"].to_numpy(), origin + table["end"].to_numpy()

    words = tables[0]
    starts, ends = place(words)
    low, high = before[starts], before[ends]
    sides = [
        _read_side(table, offset, place(table), before)
        for table, offset in zip(tables[1:], passed[1:], strict=True)
    ]
    found = [_find_tokens(side, low, high) for side in sides]
    begin = _find_begins(sides, found, low, before)
    number, group = (words[name].to_numpy().astype(np.int64) for name in ("document", "group"))
    # Where tokens are the units, a text begins with the first one of a word.
    fresh = np.concatenate([[True], (np.diff(number) != 0) | (np.diff(group) != 0)])[: len(words)]
    same = found[0].windows == found[1].windows
    chosen = wanted[number]
    rows = {
        name: np.stack([side.rows[places] for side, places in zip(sides, own, strict=True)], axis=1)[chosen]
        for name, own in (("begin", begin), ("last", [one.last for one in found]))
    }
    return WordPlaces(
        word_ids=passed[0] + np.flatnonzero(chosen),
        documents=number[chosen],
        windows=np.where(same, found[0].windows, -1)[chosen],
        begin=rows["begin"],
        last=rows["last"],
        opens=(fresh & found[0].opens & found[1].opens)[chosen],
        closes=(found[0].closes & found[1].closes)[chosen],
    )


def _read_side(
    table: "pa.Table",
    offset: int,
    spans: tuple[NDArray[np.int64], NDArray[np.int64]],
    before: NDArray[np.int64],
) -> _SideTokens:
    """The tokens of some documents that stand in windows.

    Args:
        table: their rows.
        offset: rows of the run's table before them.
        spans: first byte of every token in the documents' buffer, and one past its last.
        before: [bytes + 1] bytes that are no whitespace before every byte of the buffer.
    """
    windows = table["window"].to_numpy().astype(np.int64)
    excluded, flags = table["excluded"].to_numpy(), table["flags"].to_numpy()
    inside = np.flatnonzero(windows >= 0)
    starts, ends = (own[inside] for own in spans)
    # All tokens of a segment that a normaliser rewrote have its whole span: order must hold nonetheless.
    starts = np.minimum.accumulate(starts[::-1])[::-1]
    return _SideTokens(
        rows=offset + inside,
        windows=windows[inside],
        starts=starts,
        solid_starts=before[starts],
        solid_ends=np.maximum.accumulate(before[ends]),
        strange=((excluded == EXCLUDED_MASSIVE) | ((flags & TokenFlag.LITERAL_SPECIAL) > 0))[inside],
    )


def _find_tokens(side: _SideTokens, low: NDArray[np.int64], high: NDArray[np.int64]) -> _Found:
    """The tokens of words.

    Args:
        side: one model's tokens.
        low: [n] bytes that are no whitespace before every word.
        high: [n] such bytes up to its end.
    """
    first = np.searchsorted(side.solid_ends, low, side="right")
    last = np.searchsorted(side.solid_starts, high, side="left") - 1
    there = first <= last
    # What stands there for words without a token is not looked at: they are in no window.
    first, last = np.where(there, first, 0), np.where(there, last, 0)
    one_window = there & (side.windows[first] == side.windows[last])
    return _Found(
        first,
        last,
        np.where(one_window, side.windows[first], -1),
        one_window & (side.solid_starts[first] >= low),
        one_window & (side.solid_ends[last] <= high) & ~side.strange[last],
    )


def _find_begins(
    sides: list[_SideTokens], found: list[_Found], low: NDArray[np.int64], before: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """The tokens with which a text begins that begins with a word: where it can be, at the same byte.

    A model that has the space before a word in a token of its own must read it if the other does.
    """
    shared = np.intersect1d(sides[0].starts, sides[1].starts)
    if not len(shared):
        return [own.first for own in found]
    earlier = np.minimum(*(side.starts[own.first] for side, own in zip(sides, found, strict=True)))
    place = np.searchsorted(shared, earlier, side="right") - 1
    byte = shared[np.maximum(place, 0)]
    begins = [
        np.minimum(np.searchsorted(side.starts, byte, side="right") - 1, own.first)
        for side, own in zip(sides, found, strict=True)
    ]
    good = (place >= 0) & (before[byte] == low)
    for side, own, begin in zip(sides, found, begins, strict=True):
        good &= side.windows[np.maximum(begin, 0)] == own.windows
    return [np.where(good, begin, own.first) for begin, own in zip(begins, found, strict=True)]
