"""Documents that are rows: of JSON Lines, of Parquet, of datasets of the Hugging Face hub.

Every reader is a generator that holds a few rows at a time, and says in its errors which line or row of
which source is meant.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from xmodel.datasets.connection import is_offline, reaches_hub
from xmodel.datasets.text_files import open_bytes
from xmodel.errors import InputError
from xmodel.records import Document

if TYPE_CHECKING:
    import datasets
    import pyarrow.parquet

_ROWS = 64


def read_jsonl(path: Path, name: str, column: str) -> Iterator[Document]:
    """The documents of a JSON Lines file, perhaps packed with gzip: one object a line, its text in `column`.

    Empty lines, and rows whose text is null or has no word, give no document. The others are called
    ``name:LINE``, counted from 1.

    Raises:
        InputError: naming the line, where it is not UTF-8, not a JSON object, or has no such text.
    """
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                row = _parse_row(line, f"line {number} of {name}")
                yield from _take_text(row, column, f"{name}:{number}")


def read_parquet(path: Path, name: str, column: str) -> Iterator[Document]:
    """The documents of a Parquet file: one a row, called ``name:ROW``, counted from 1.

    Rows whose text is null or has no word give no document.

    Raises:
        InputError: if the file is not Parquet or has no such column of strings.
    """
    import pyarrow as pa

    number = 0
    with _open_parquet(path, name) as file:
        _check_parquet_column(file, name, column)
        try:
            for batch in file.iter_batches(batch_size=_ROWS, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield from _take_text({column: text}, column, f"{name}:{number}")
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{name} cannot be read behind row {number}: {_first_line(error)}. Write it again, or "
                "fetch it again if it was cut short."
            ) from error


def check_parquet(path: Path, name: str, column: str) -> None:
    """Say at once, from the file's footer, whether `read_parquet` can begin.

    Raises:
        InputError: as `read_parquet`.
    """
    with _open_parquet(path, name) as file:
        _check_parquet_column(file, name, column)


def read_rows(rows: "datasets.IterableDataset", name: str, column: str) -> Iterator[Document]:
    """The documents of a streamed dataset: one a row, called ``name:ROW``, counted from 1.

    Raises:
        InputError: for a row without such text, and where the connection breaks off.
    """
    numbered = enumerate(rows, 1)
    while True:
        try:
            number, row = next(numbered)
        except StopIteration:
            return
        except Exception as error:  # whatever the dataset's format and its connection raise
            raise InputError(
                f"{name} could not be read any further: {_first_line(error)}. Expected a dataset that can be "
                "streamed; try again, or download it and give the file."
            ) from error
        yield from _take_text(cast(dict[str, Any], row), column, f"{name}:{number}")


def open_hub(source: str, column: str) -> "datasets.IterableDataset":
    """A split of a dataset of the Hugging Face hub, or of a local folder laid out like one, as a stream.

    Args:
        source: ``DATASET[:CONFIG[:SPLIT]]``; without SPLIT it is ``train``.
        column: the column that holds the text.

    Returns:
        The split's rows; with that column alone where the dataset says beforehand which ones it has.

    Raises:
        InputError: where it is not found or reached, or has no such configuration, split or column.
    """
    dataset, config, split = [*source.split(":", 2), "", ""][:3]
    name = f"hf:{source}"
    if not dataset:
        raise InputError("hf: came without a dataset; write hf:DATASET, hf:DATASET:CONFIG:SPLIT if need be.")
    if not (Path(dataset).exists() or is_offline() or reaches_hub()):
        raise InputError(
            f"{name} cannot be read: {dataset!r} is no folder here, and there is no connection to the "
            "Hugging Face hub. Give a folder or a file (.jsonl, .parquet, text), or connect this machine."
        )
    import datasets

    try:
        splits = datasets.load_dataset(dataset, config or None, streaming=True)
    except Exception as error:  # the library raises ValueError, OSError and many of its own
        raise InputError(
            f"{name} cannot be read: {_one_line(error)} Expected hf:DATASET[:CONFIG[:SPLIT]]: a dataset "
            "of the Hugging Face hub (set HF_TOKEN if it is gated) or a folder that holds one."
        ) from error
    known = cast(dict[str, "datasets.IterableDataset"], splits)
    if (split or "train") not in known:
        raise InputError(
            f"{name} has no split {split or 'train'!r}. Its splits are {', '.join(map(str, known))}: write "
            f"hf:{dataset}:{config}:{next(iter(map(str, known)), 'SPLIT')} for instance."
        )
    rows = known[split or "train"]
    if rows.column_names is None:
        return rows
    if column not in rows.column_names:
        raise InputError(_describe_missing(name, column, rows.column_names))
    return rows.select_columns([column])


def _parse_row(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8: byte {error.start:,} of the line (0x{line[error.start]:02X}, "
            f"{error.reason}) cannot be decoded. Expected JSON Lines in UTF-8."
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{place} is not JSON: {error}. Expected JSON Lines: one whole object on every line."
        ) from None
    if not isinstance(row, dict):
        raise InputError(
            f"{place} is JSON, but no object: {type(row).__name__} came. Expected JSON Lines: one object on "
            'every line, such as {"text": "..."}.'
        )
    return row


def _take_text(row: dict[str, Any], column: str, name: str) -> Iterator[Document]:
    """The document of a row; none if its text is null or has no word."""
    if column not in row:
        raise InputError(_describe_missing(f"row {name}", column, row))
    text = row[column]
    if text is None:
        return
    if not isinstance(text, str):
        raise InputError(
            f"column {column!r} of row {name} holds {type(text).__name__}, not a string. Name the column "
            "that holds the text (--text-column)."
        )
    if text and not text.isspace():
        yield Document(name, text)


def _describe_missing(place: str, column: str, known: Iterable[str]) -> str:
    columns = ", ".join(map(repr, known)) or "none"
    return f"{place} has no column {column!r}. There are {columns}: name one of them (--text-column)."


@contextmanager
def _open_parquet(path: Path, name: str) -> Iterator["pyarrow.parquet.ParquetFile"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} is not a Parquet file that can be read: {_first_line(error)}.") from error
    with file:
        yield file


def _check_parquet_column(file: "pyarrow.parquet.ParquetFile", name: str, column: str) -> None:
    import pyarrow.types as types

    schema = file.schema_arrow
    if column not in schema.names:
        raise InputError(_describe_missing(name, column, schema.names))
    found = schema.field(column).type
    inner = found.value_type if types.is_dictionary(found) else found
    if not (types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)):
        raise InputError(
            f"column {column!r} of {name} holds {found}, not strings. Name the column that holds the text "
            "(--text-column)."
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith((".", "]", ")", "`")) else f"{text}."
