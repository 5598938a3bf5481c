"""The Parquet tables of a run: written in parts, one per shard, and put together at the end."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.run import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("documents", "words", "tokens_a", "tokens_b")


def make_schema(table: str) -> "pa.Schema":
    """The columns and types of a table, as in its parts; the final tables have ``split`` too."""
    import pyarrow as pa

    tokens = {
        "document": pa.int32(),
        "position": pa.int32(),
        "id": pa.int32(),
        "start": pa.int64(),
        "end": pa.int64(),
        "flags": pa.uint8(),
        "window": pa.int32(),
        "excluded": pa.uint8(),
    }
    columns = {
        "documents": {"document": pa.int32(), "name": pa.string(), "text": pa.large_string()},
        "words": {
            "word_id": pa.int64(),
            "document": pa.int32(),
            "start": pa.int64(),
            "end": pa.int64(),
            "text": pa.string(),
            "group": pa.int32(),
        },
        "tokens_a": tokens,
        "tokens_b": tokens,
    }
    return pa.schema(list(columns[table].items()))


def write_table(folder: RunFolder, name: str, table: str, columns: dict[str, Any]) -> str:
    """Write one part.

    Returns:
        Its SHA-256.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.table(columns, schema=make_schema(table))
    return folder.write(name, lambda place: pq.write_table(content, place, compression="zstd"))


def merge_tables(
    folder: RunFolder,
    table: str,
    parts: Sequence[str],
    split: Callable[["pa.Table"], Sequence[str | None]] | None,
) -> str:
    """Put a table's parts together, one row group per part, without holding more than one.

    Args:
        folder: the run.
        table: its name.
        parts: files relative to the folder, in order.
        split: makes the ``split`` column of a part, where the table has one.

    Returns:
        The SHA-256 of the table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = make_schema(table)
    if split is not None:
        schema = schema.append(pa.field("split", pa.dictionary(pa.int8(), pa.string())))

    def write_all(place: Path) -> None:
        with pq.ParquetWriter(place, schema, compression="zstd") as writer:
            for part in parts:
                content = pq.read_table(folder / part)
                if split is not None:
                    column = pa.array(split(content), type=pa.string()).dictionary_encode()
                    column = column.cast(schema.field("split").type)
                    content = content.append_column(schema.field("split"), column)
                # Left to itself, pyarrow begins another row group after 1,048,576 rows.
                writer.write_table(content, row_group_size=max(1, len(content)))

    return folder.write(f"{table}.parquet", write_all)


def split_documents(count: int, seed: int) -> NDArray[np.bool_]:
    """[D] whether each document belongs to the discovery half.

    Of every two neighbouring documents one is drawn for either half, so that the halves are equal in
    number and spread over the whole corpus.
    """
    first = np.random.default_rng(seed).random((count + 1) // 2) < 0.5
    return np.stack([first, ~first], axis=1).reshape(-1)[:count]


class Splitter:
    """Which half every word belongs to: by document, or by contiguous blocks where documents are few.

    Documents are drawn in pairs of similar length: in order of their words, most first, and at equal numbers
    in order of the corpus, one of every two neighbours goes to either half. So the halves differ by no more
    words than the longest document has. Documents without words belong to neither.

    With fewer than 20 documents that have words a half could be one topic; then the words are cut into 20
    blocks of equal length, and of every two neighbouring blocks one is drawn for either half.

    Args:
        documents: D, the number of documents.
        words: W, the number of their words.
        seed: of the draw.
        counts: [D] words of every document; None takes them as equal, and no document as empty.
    """

    FEW = 20

    def __init__(
        self, documents: int, words: int, seed: int, counts: NDArray[np.int64] | None = None
    ) -> None:
        self._counts = np.ones(documents, dtype=np.int64) if counts is None else counts
        filled = np.flatnonzero(self._counts)
        self.filled = len(filled)
        self.by_blocks = self.filled < self.FEW
        self.block = max(1, -(-words // self.FEW))
        self._words = words
        if self.by_blocks:
            self.discovery = split_documents(self.FEW, seed)
        else:
            order = filled[np.argsort(-self._counts[filled], kind="stable")]
            self.discovery = np.zeros(documents, dtype=np.bool_)
            self.discovery[order] = split_documents(len(order), seed)

    @property
    def share(self) -> float:
        """The share of words in the discovery half, from 0 to 1; 0 where there is no word.

        Without the documents' word counts it is the share of documents, unless halves are blocks of words.
        """
        sizes = self._counts
        if self.by_blocks:
            sizes = np.diff(np.minimum(np.arange(self.FEW + 1) * self.block, self._words))
        return float(sizes[self.discovery].sum() / max(1, sizes.sum()))

    def split_words(self, word_ids: NDArray[np.int64], documents: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[W] whether words belong to the discovery half."""
        return self.discovery[word_ids // self.block if self.by_blocks else documents]

    def name_words(self, table: "pa.Table") -> list[str]:
        """The ``split`` column of words."""
        chosen = self.split_words(table["word_id"].to_numpy(), table["document"].to_numpy())
        return np.where(chosen, "discovery", "heldout").tolist()

    def name_documents(self, table: "pa.Table", bounds: NDArray[np.int64]) -> list[str | None]:
        """The ``split`` column of documents: ``mixed`` where blocks cut one in two, None without words.

        Args:
            table: some documents.
            bounds: [D + 1] first word of every document of the run.
        """
        names: list[str | None] = []
        for document in table["document"].to_pylist():
            first, stop = int(bounds[document]), int(bounds[document + 1])
            blocks = slice(first // self.block, -(-stop // self.block))
            halves = set(self.discovery[blocks if self.by_blocks else [document]].tolist())
            if first == stop:
                names.append(None)
            else:
                names.append("mixed" if len(halves) == 2 else "discovery" if True in halves else "heldout")
        return names


def count_words(folder: RunFolder, parts: Sequence[str], documents: int) -> NDArray[np.int64]:
    """[D + 1] first word of every document, read from the parts of ``words``."""
    import pyarrow.parquet as pq

    counts = np.zeros(documents, dtype=np.int64)
    for part in parts:
        counts += np.bincount(
            pq.read_table(folder / part, columns=["document"])["document"].to_numpy(), minlength=documents
        )
    return np.concatenate([[0], np.cumsum(counts)])


def iterate_table(folder: RunFolder, table: str, columns: Sequence[str]) -> Iterator["pa.Table"]:
    """The row groups of a finished table, one per shard."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / f"{table}.parquet") as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=list(columns))
