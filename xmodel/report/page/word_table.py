"""The words of a run as numbers: what each is, without regard to case, and in which document it stands."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tables import iterate_table
from xmodel.datasets.word_kinds import fold_word
from xmodel.pairing.firings import is_discovery, join_chunks
from xmodel.pairing.results import Run


@dataclass(frozen=True, eq=False)
class WordTable:
    """What the words of a run are."""

    spelled: NDArray[np.int32]
    """[W] number of each word's spelling."""
    spellings: list[str]
    """Different spellings, in order of first occurrence."""
    folded: NDArray[np.int32]
    """[spellings] number of each spelling's type."""
    types: list[str]
    """Word types: spellings as `fold_word` has them, in order of first occurrence."""
    documents: NDArray[np.int32]
    """[W] number of the document, ascending."""
    discovery: NDArray[np.bool_]
    """[W] whether it belongs to the discovery half."""
    firsts: NDArray[np.int64]
    """[W'] first word of every document that has words, ascending, and W at the end."""

    def __len__(self) -> int:
        return len(self.spelled)

    def list_texts(self, word_ids: Iterable[int]) -> list[str]:
        """The words as they are written."""
        return [self.spellings[number] for number in self.spelled[np.asarray(word_ids, np.int64)].tolist()]

    def type_words(self) -> NDArray[np.int32]:
        """[W] number of each word's type."""
        return self.folded[self.spelled]

    def cut_windows(
        self, peaks: NDArray[np.int64], around: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The words around some words, no further than their documents go.

        Args:
            peaks: [n] word ids.
            around: how many words before and after.

        Returns:
            [n] first word of each window, [n] one past the last.
        """
        of = np.searchsorted(self.firsts, peaks, side="right") - 1
        return (
            np.maximum(peaks - around, self.firsts[of]),
            np.minimum(peaks + around + 1, self.firsts[of + 1]),
        )


def read_word_table(run: Run) -> WordTable:
    """Go through the words of a run once.

    Raises:
        InputError: if a file is missing or damaged.
    """
    numbers: dict[str, int] = {}
    parts: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]] = []
    for table in iterate_table(run.folder, "words", ["text", "document", "split"]):
        encoded = join_chunks(table["text"]).dictionary_encode()
        own = [numbers.setdefault(text, len(numbers)) for text in encoded.dictionary.to_pylist()]
        spelled = np.array(own, dtype=np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        parts.append((spelled, table["document"].to_numpy().astype(np.int32), is_discovery(table)))
    types: dict[str, int] = {}
    folded = [types.setdefault(fold_word(text), len(types)) for text in numbers]
    spelled, documents, discovery = (np.concatenate(column) for column in zip(*parts, strict=True))
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(documents)) + 1, [len(documents)]])
    return WordTable(
        spelled=spelled,
        spellings=list(numbers),
        folded=np.array(folded, dtype=np.int32),
        types=list(types),
        documents=documents,
        discovery=discovery,
        firsts=firsts.astype(np.int64),
    )


def iterate_documents(run: Run) -> Iterator[tuple[int, str, bytes]]:
    """Number, name and bytes of every document, one row group in memory at a time."""
    for table in iterate_table(run.folder, "documents", ["document", "name", "text"]):
        columns = (table[name] for name in ("document", "name", "text"))
        for number, name, text in zip(*columns, strict=True):
            yield number.as_py(), name.as_py(), text.as_py().encode()
