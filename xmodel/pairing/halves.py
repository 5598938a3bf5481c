"""Reading a run's word features back: half by half, shard by shard, each file checked once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import take_rows
from xmodel.alignment.tables import iterate_table
from xmodel.pairing.chunks import Chunks
from xmodel.records import WordFeatures
from xmodel.run import RunFolder


@dataclass(frozen=True, eq=False)
class Shards:
    """The feature shards of a run."""

    folder: RunFolder
    files: Mapping[str, str]
    """SHA-256 by file name."""
    bounds: NDArray[np.int64]
    """[S + 1] first word of every shard."""
    features: tuple[int, int]
    """Number of features of A and of B."""
    verified: set[str] = field(default_factory=set)
    """Files whose checksum has been compared by this process."""
    letters: tuple[str, str] = ("a", "b")
    """Which dictionaries are A's and B's, where a side has several: ``a1`` is A's second."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def load(self, letter: str, number: int) -> WordFeatures:
        """One shard of one model.

        Raises:
            InputError: if the file is missing or damaged.
        """
        from safetensors.numpy import load, load_file

        side = "ab".index(letter)
        name = f"features_{self.letters[side]}/shard-{number:05d}.safetensors"
        if name in self.verified:
            tensors = load_file(self.folder / name)
        else:
            tensors = load(self.folder.read_checked(name, self.files[name]))
            self.verified.add(name)
        return WordFeatures(tensors["indptr"], tensors["indices"], tensors["values"], self.features[side])

    def select(self, chosen: NDArray[np.bool_]) -> Chunks:
        """The chunks of some words only.

        Args:
            chosen: [W] which words of the run.
        """

        def read() -> Iterator[tuple[WordFeatures, WordFeatures]]:
            for number in range(len(self)):
                rows = np.flatnonzero(chosen[self.bounds[number] : self.bounds[number + 1]])
                if len(rows):
                    yield take_rows(self.load("a", number), rows), take_rows(self.load("b", number), rows)

        return read

    def number_rows(
        self, letter: str, chosen: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.int64], WordFeatures]]:
        """The words of one model's chunks with their word ids.

        Args:
            letter: ``a`` or ``b``.
            chosen: [W] which words of the run.
        """
        for number in range(len(self)):
            rows = np.flatnonzero(chosen[self.bounds[number] : self.bounds[number + 1]])
            if len(rows):
                yield rows + self.bounds[number], take_rows(self.load(letter, number), rows)


def read_split(folder: RunFolder) -> NDArray[np.bool_]:
    """[W] whether each word of a run belongs to the discovery half."""
    parts = [
        table["split"].cast("string").to_numpy() == "discovery"
        for table in iterate_table(folder, "words", ["split"])
    ]
    return np.concatenate(parts).astype(np.bool_) if parts else np.zeros(0, dtype=np.bool_)


def read_word_texts(folder: RunFolder, word_ids: Sequence[int] | NDArray[np.int64]) -> dict[int, str]:
    """The texts of some words, by word id, read without holding all words."""
    wanted = np.unique(np.asarray(word_ids, dtype=np.int64))
    texts: dict[int, str] = {}
    first = 0
    for table in iterate_table(folder, "words", ["text"]):
        low, high = np.searchsorted(wanted, [first, first + len(table)])
        own = wanted[low:high]
        if len(own):
            texts.update(zip(own.tolist(), table["text"].take(own - first).to_pylist(), strict=True))
        first += len(table)
    return texts
