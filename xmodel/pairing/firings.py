"""What a run's files say about single features, read shard by shard: never more than one is in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.word_kinds import fold_word
from xmodel.pairing.chunks import number_slots
from xmodel.pairing.results import Run

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(eq=False)
class Survey:
    """One feature over all words of a run, both halves; filled while shards pass by."""

    feature: int
    most_words: int = 8
    """Different top words kept."""
    most_places: int = 0
    """Strongest firings kept."""
    discovery: int = 0
    """Words of the discovery half that it fires on."""
    heldout: int = 0
    """Words of the held-out half that it fires on."""
    total: float = 0.0
    """Sum of its activations."""
    maximum: float = 0.0
    """Its strongest activation; for signed features the one of greatest magnitude."""
    places: list[tuple[int, float]] = field(default_factory=list)
    """Word ids and activations of its strongest firings, strongest first; the earlier word at a tie."""
    words: list[str] = field(default_factory=list)
    """The different words that it fires on most strongly, strongest first, compared without case."""
    _best: list[tuple[float, int, str]] = field(default_factory=list)

    @property
    def firings(self) -> int:
        """Words that it fires on."""
        return self.discovery + self.heldout

    @property
    def mean(self) -> float:
        """Its mean activation where it fires; 0 if it never does."""
        return self.total / self.firings if self.firings else 0.0

    def add(self, ids: NDArray[np.int64], values: NDArray[np.float32], texts: "pa.Array", first: int) -> None:
        """Take in its firings on one shard, strongest first; `texts` begins with word `first`."""
        self.total += float(values.sum(dtype=np.float64))
        if abs(values[0]) > abs(self.maximum):
            self.maximum = float(values[0])
        self._best = _merge_words(self._best, ids, values, texts, first, self.most_words)
        self.words = [text for _, _, text in self._best]
        own = zip(ids[: self.most_places].tolist(), values[: self.most_places].tolist(), strict=True)
        self.places = sorted([*self.places, *own], key=lambda one: (-abs(one[1]), one[0]))[: self.most_places]


def survey_features(
    run: Run, side: str, features: Sequence[int], *, words: int = 8, places: int = 0
) -> dict[int, Survey]:
    """Go through one model's shards once and sum up some of its features.

    Args:
        run: the run.
        side: ``a`` or ``b``.
        features: their numbers.
        words: how many different top words to keep per feature.
        places: how many of the strongest firings to keep per feature.

    Raises:
        InputError: if a file is missing or damaged.
    """
    found = {one: Survey(one, words, places) for one in features}
    chosen = np.array(sorted(found), dtype=np.int32)
    shards = run.shards
    slots = number_slots(shards.features["ab".index(side)], chosen)
    for number in range(len(shards) if found else 0):
        first, stop = (int(bound) for bound in shards.bounds[number : number + 2])
        own = shards.load(side, number)
        entries = np.flatnonzero(slots[own.indices] >= 0)
        if not len(entries):
            continue
        ids = first + np.searchsorted(own.indptr, entries, side="right") - 1
        of, values = own.indices[entries], own.values[entries]
        order = np.lexsort((ids, -np.abs(values), of))
        ids, of, values = ids[order], of[order], values[order]
        table = read_rows(run, "words", first, stop, ["text", "split"])
        texts, discovery = join_chunks(table["text"]), is_discovery(table)
        for part in np.split(np.arange(len(of)), np.flatnonzero(np.diff(of)) + 1):
            survey = found[int(of[part[0]])]
            survey.add(ids[part], values[part], texts, first)
            in_discovery = int(discovery[ids[part] - first].sum())
            survey.discovery += in_discovery
            survey.heldout += len(part) - in_discovery
    return found


def look_up_activations(run: Run, side: str, feature: int, word_ids: Sequence[int]) -> list[float]:
    """[n] the activations of one feature on some words, 0 where it does not fire.

    Raises:
        InputError: if a file is missing or damaged.
    """
    ids = np.asarray(word_ids, dtype=np.int64)
    numbers = np.searchsorted(run.shards.bounds, ids, side="right") - 1
    found = np.zeros(len(ids))
    for number in np.unique(numbers).tolist():
        own = run.shards.load(side, number)
        for place in np.flatnonzero(numbers == number).tolist():
            row = int(ids[place] - run.shards.bounds[number])
            low, high = int(own.indptr[row]), int(own.indptr[row + 1])
            entry = low + int(np.searchsorted(own.indices[low:high], feature))
            if entry < high and own.indices[entry] == feature:
                found[place] = own.values[entry]
    return found.tolist()


def read_rows(run: Run, table: str, first: int, stop: int, columns: Sequence[str]) -> "pa.Table":
    """Rows ``[first, stop)`` of a table, read from only those row groups that hold them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, begin = [], 0
    with pq.ParquetFile(run.folder / f"{table}.parquet") as file:
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if begin < stop and end > first:
                low, high = max(first, begin) - begin, min(stop, end) - begin
                parts.append(file.read_row_group(group, columns=list(columns)).slice(low, high - low))
            begin = end
        schema = file.schema_arrow
    if not parts:
        return schema.empty_table().select(list(columns))
    return pa.concat_tables(parts)


def is_discovery(words: "pa.Table") -> NDArray[np.bool_]:
    """[W] whether words belong to the discovery half, from the column ``split``."""
    return np.asarray(words["split"].cast("string").to_numpy() == "discovery", dtype=np.bool_)


def join_chunks(column: "pa.ChunkedArray") -> "pa.Array":
    """A column as one array."""
    import pyarrow as pa

    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _merge_words(
    best: list[tuple[float, int, str]],
    ids: NDArray[np.int64],
    values: NDArray[np.float32],
    texts: "pa.Array",
    first: int,
    most: int,
) -> list[tuple[float, int, str]]:
    """The strongest different words so far: exact, since a word that is dropped has `most` better ones."""
    own: list[tuple[float, int, str]] = []
    seen: set[str] = set()
    for word, value in zip(ids.tolist(), values.tolist(), strict=True):
        text = texts[word - first].as_py()
        if fold_word(text) not in seen:
            seen.add(fold_word(text))
            own.append((-abs(value), word, text))
            if len(own) == most:
                break
    merged: dict[str, tuple[float, int, str]] = {}
    for one in sorted([*best, *own]):
        merged.setdefault(fold_word(one[2]), one)
    return list(merged.values())[:most]
