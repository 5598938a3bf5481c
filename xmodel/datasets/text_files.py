"""Texts in UTF-8, as streams of bytes that become streams of documents."""

import codecs
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from xmodel.datasets.cutting import cut_text
from xmodel.errors import InputError
from xmodel.records import Document

Cut = Literal["paragraphs", "file"]
"""Whether a text is cut at blank lines, see `xmodel.datasets.cutting`, or is one document."""

_BLOCK = 1 << 16


def read_text(stream: BinaryIO, name: str, cut: Cut) -> Iterator[Document]:
    """The documents of a UTF-8 text: characters as they are, line ends too, but without a leading BOM.

    Args:
        stream: the text's bytes.
        name: what to call it; its documents are ``name#1``, ``name#2``, ...
        cut: with ``"file"`` the text is one document, called `name`, and all of it is held in memory.

    Raises:
        InputError: for bytes that are not UTF-8, with their position.
    """
    pieces = _decode(stream, name)
    if cut == "file":
        yield Document(name, "".join(pieces))
        return
    for number, text in enumerate(cut_text(pieces), 1):
        yield Document(f"{name}#{number}", text)


def read_text_file(path: Path, name: str, cut: Cut) -> Iterator[Document]:
    """As `read_text`, from a file, unpacked if its name ends in ``.gz``."""
    with open_bytes(path) as stream:
        yield from read_text(stream, name, cut)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked if its name ends in ``.gz``.

    Raises:
        InputError: if it cannot be opened or is not what its name says.
    """
    import gzip

    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{str(path)!r} is not a whole gzip file ({error}), as its name says. Fetch or pack it again."
        ) from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error


def _decode(stream: BinaryIO, name: str) -> Iterator[str]:
    """A stream's characters in pieces, without a leading BOM."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    consumed = 0
    begun = False
    while True:
        block = stream.read(_BLOCK)
        pending = len(decoder.getstate()[0])
        try:
            piece = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            position = consumed - pending + error.start
            raise InputError(_describe_bad_bytes(name, position, error)) from None
        consumed += len(block)
        if piece and not begun:
            begun = True
            piece = piece.removeprefix("\ufeff")
        if piece:
            yield piece
        if not block:
            return


def _describe_bad_bytes(name: str, position: int, error: UnicodeDecodeError) -> str:
    value = error.object[error.start]
    message = f"{name} is not UTF-8: byte {position:,} (0x{value:02X}, {error.reason}) cannot be decoded."
    if position == 0 and value in (0xFE, 0xFF):
        return f"{message} It begins like UTF-16: convert it, with iconv -f UTF-16 -t UTF-8 for instance."
    if position == 1 and bytes(error.object[:2]) == b"\x1f\x8b":
        return f"{message} It begins like a gzip file: then its name must end in .gz."
    return f"{message} Expected text in UTF-8: convert it, with iconv for instance, or mend that place."
