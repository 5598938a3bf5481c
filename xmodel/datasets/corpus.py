"""A corpus: what the user named, as a stream of documents.

=================================  =====================================================================
source                             documents
=================================  =====================================================================
a text file, perhaps ``.gz``       cut at blank lines (`xmodel.datasets.cutting`), or the whole file
``.jsonl``/``.ndjson`` (``.gz``)   one a line
``.parquet``                       one a row
a folder                           its text files, sorted by path, each cut as above
``hf:DATASET[:CONFIG[:SPLIT]]``    one a row, streamed from the Hugging Face hub or a local dataset folder
``builtin:NAME``                   what comes with xmodel
``-``                              standard input, as a text file
=================================  =====================================================================

Memory does not grow with the corpus, except with the longest document.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from xmodel.datasets.demo import find_builtin, is_builtin, refuse_bare_name
from xmodel.datasets.rows import check_parquet, open_hub, read_jsonl, read_parquet, read_rows
from xmodel.datasets.text_files import Cut, read_text, read_text_file
from xmodel.datasets.words import encode_text
from xmodel.errors import InputError
from xmodel.records import Document

Reader = Callable[[], Iterator[Document]]
"""Begins to read documents from the first one."""

_ACCEPTED = (
    "a text file, .jsonl, .parquet, a folder of text files (.txt, .text, .md, also with .gz), "
    "hf:DATASET[:CONFIG[:SPLIT]], builtin:NAME or - for standard input"
)
_FOLDER_SUFFIXES = (".txt", ".text", ".md")
_ROW_SUFFIXES = (".jsonl", ".ndjson")
# Any other file is taken for text, which fails at the first byte that is not UTF-8. These would not fail.
_REFUSED = (".json", ".csv", ".tsv")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents that can be gone through, from the first to the last."""

    name: str
    """As the user wrote it."""
    repeatable: bool
    """Whether `documents` can be called again; False for standard input and pipes."""
    read: Reader = field(repr=False)
    """Begins to read, without the checks of `documents`."""

    def documents(self) -> Iterator[Document]:
        """Go through the documents in their fixed order; those without a word are left out.

        Raises:
            InputError: where a source cannot be read, a document has lone surrogates, or there is no document
                with a word; all but what `open_corpus` checks comes up only when it is reached.
        """
        found = False
        for document in self.read():
            if document.text.isspace() or not document.text:
                continue
            _check_text(document)
            found = True
            yield document
        if not found:
            raise InputError(
                f"the corpus {self.name!r} has no document with a word in it. Expected "
                f"{_ACCEPTED}, with text."
            )


def open_corpus(
    source: str, *, text_column: str = "text", document: Cut = "paragraphs", stream: BinaryIO | None = None
) -> Corpus:
    """Find out what a source is and open it, see the top of this module.

    Args:
        source: as on the command line; a path, or one of the forms with a colon.
        text_column: the column of ``.jsonl``, ``.parquet`` and ``hf:`` that holds the text.
        document: whether a text is cut at blank lines or a file is one document.
        stream: read instead of standard input where `source` is ``-``; bytes.

    Raises:
        InputError: for what does not exist or is of no known kind, and for a column that is known to be
            missing.
    """
    if not source:
        raise InputError(f"a corpus came without a name. Expected {_ACCEPTED}.")
    if document not in ("paragraphs", "file"):
        raise InputError(f"--document is {document!r}. Expected paragraphs or file.")
    if source == "-":
        return Corpus(source, False, _read_once(stream or sys.stdin.buffer, document))
    kind, colon, rest = source.partition(":")
    if colon and kind == "hf":
        return Corpus(source, True, partial(read_rows, open_hub(rest, text_column), source, text_column))
    if is_builtin(source):
        return Corpus(source, True, _open_builtin(find_builtin(source, "corpus")))
    path = Path(source)
    # A pipe such as /dev/stdin or <(command) is a path too.
    repeatable = path.is_dir() or path.is_file()
    return Corpus(source, repeatable, _open_path(path, text_column, document))


def _check_text(document: Document) -> None:
    try:
        encode_text(document.text)
    except InputError as error:
        raise InputError(f"document {document.name} cannot be used: {error}") from None


def _read_once(stream: BinaryIO, cut: Cut) -> Reader:
    streams = [stream]

    def read() -> Iterator[Document]:
        if not streams:
            raise InputError(
                "standard input was to be read a second time, which is impossible. Save it to a file and "
                "give its path."
            )
        return read_text(streams.pop(), "standard input", cut)

    return read


def _read_demo_texts() -> Iterator[Document]:
    from xmodel.datasets.demo.texts import DEMO_TEXTS

    for number, demo in enumerate(DEMO_TEXTS, 1):
        yield Document(f"demo-texts#{number}", demo.text)


def _open_builtin(path: Path) -> Reader:
    if path.suffix == ".py":
        return _read_demo_texts
    return partial(read_jsonl, path, path.name, "text")


def _open_path(path: Path, column: str, cut: Cut) -> Reader:
    if path.is_dir():
        return _open_folder(path, cut)
    if not path.exists():
        refuse_bare_name(path, "corpus")
        raise InputError(f"{str(path)!r} does not exist. Expected {_ACCEPTED}.")
    suffix = _kind_of(path)
    if suffix == ".parquet":
        check_parquet(path, path.name, column)
        return partial(read_parquet, path, path.name, column)
    if suffix in _ROW_SUFFIXES:
        return partial(read_jsonl, path, path.name, column)
    if suffix in _REFUSED:
        raise InputError(
            f"{str(path)!r} is a {suffix} file, which is not read. Expected {_ACCEPTED}: write its texts "
            'into a .jsonl file, one {"text": "..."} on every line.'
        )
    return partial(read_text_file, path, path.name, cut)


def _kind_of(path: Path) -> str:
    """The suffix that says what a file holds, in small letters: without ``.gz``."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower()


def _open_folder(folder: Path, cut: Cut) -> Reader:
    """The text files of a folder and those below it; hidden ones and other kinds are passed over."""
    files = sorted(_list_texts(folder), key=lambda path: path.relative_to(folder).as_posix())
    if not files:
        raise InputError(
            f"the folder {str(folder)!r} has no text file (.txt, .text, .md, also with .gz). Expected "
            f"{_ACCEPTED}; for a folder that holds a dataset write hf:{folder}."
        )

    def read() -> Iterator[Document]:
        return chain.from_iterable(
            read_text_file(path, path.relative_to(folder).as_posix(), cut) for path in files
        )

    return read


def _list_texts(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, onerror=_report_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and _kind_of(Path(name)) in _FOLDER_SUFFIXES:
                yield Path(parent, name)


def _report_unreadable(error: OSError) -> None:
    raise InputError(f"the folder {error.filename!r} cannot be read: {error.strerror}.") from error
