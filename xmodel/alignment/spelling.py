"""The exact bytes that every token id stands for, computed once per tokenizer.

A tokenizer writes its vocabulary in a notation of its own: byte-level BPE maps bytes to printable
characters, SentencePiece writes a space as ``▁`` and a lone byte as ``<0x41>``, WordPiece marks
continuations with ``##``, CLIP marks word ends with ``</w>``. A `Notation` says which of these a
tokenizer uses (read from its configuration, see `tokenizer.py`), and `spell_vocabulary` undoes them.

Two byte strings are kept per id. `text` is what the id stands for in a user's text, with a space where
the vocabulary has ``▁``. `native` is what it stands for in the text as the tokenizer has rewritten it,
with ``▁`` kept: only there can a literal ``▁`` of the text be told from a space.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.records import TokenFlag

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_HEAD = 8


@dataclass(frozen=True)
class Notation:
    """How a vocabulary's strings are to be read."""

    byte_level: bool = False
    """Every character stands for one byte, by GPT-2's byte-to-unicode map."""
    space_mark: str | None = None
    """The string that stands for a space (``▁``)."""
    byte_tokens: bool = False
    """``<0x41>`` stands for one byte."""
    continuation_prefix: str | None = None
    """Marks a token that does not begin a word (``##``)."""
    word_suffix: str | None = None
    """Marks a token that ends a word (``</w>``)."""


@dataclass(frozen=True)
class AddedToken:
    """A token that the tokenizer looks for in the text before its model runs."""

    id: int
    content: str
    """As written in the tokenizer's file; matched in the raw text unless `normalized`."""
    native: str
    """As it stands in the rewritten text."""
    special: bool = False
    normalized: bool = False
    """Matched after the normaliser instead of before it."""
    left_strip: bool = False
    """Swallows whitespace before it."""
    right_strip: bool = False
    single_word: bool = False
    """Matches only where no word character is adjacent."""


@dataclass(frozen=True, eq=False)
class Table:
    """One byte string per id, as a flat array: V ids, B bytes in all."""

    blob: NDArray[np.uint8]
    """[B + 8] all strings one after another, padded so that eight bytes can be read anywhere."""
    offsets: NDArray[np.int64]
    """[V + 1] where each id's bytes begin."""
    lengths: NDArray[np.int32]
    """[V] bytes per id."""

    @cached_property
    def head(self) -> NDArray[np.uint64]:
        """[V] the first eight bytes of every id as one little-endian number, zeros beyond its end."""
        rows = np.lib.stride_tricks.as_strided(self.blob, (len(self.blob) - _HEAD + 1, _HEAD), (1, 1))
        words = np.ascontiguousarray(rows[self.offsets[:-1]]).view("<u8").ravel()
        return words & low_byte_masks()[np.minimum(self.lengths, _HEAD)]

    def __getitem__(self, token: int) -> bytes:
        return self.blob[self.offsets[token] : self.offsets[token + 1]].tobytes()


@dataclass(frozen=True, eq=False)
class Spelling:
    """What every id of one tokenizer stands for."""

    text: Table
    """Bytes in the user's text: what spans are made of."""
    native: Table
    """Bytes in the text as rewritten by the tokenizer."""
    flags: NDArray[np.uint8]
    """[V] ``UNKNOWN``, ``PARTIAL`` and ``LITERAL_SPECIAL`` of `TokenFlag`, where the id implies them."""
    special: NDArray[np.bool_]
    """[V] special ids, which a template may insert with zero bytes; the unknown token is not among them."""
    known: NDArray[np.bool_]
    """[V] False for the gaps of the numbering, which no token uses."""
    strings: tuple[str, ...]
    """[V] the vocabulary's own strings, for display."""
    space_mark: str | None
    """The string that stands for a space (``▁``), if any."""

    def __len__(self) -> int:
        return len(self.strings)


@cache
def low_byte_masks() -> NDArray[np.uint64]:
    """[9] masks that keep the lowest 0 to 8 bytes of a little-endian number."""
    return np.array([(1 << (8 * n)) - 1 for n in range(_HEAD + 1)], dtype=np.uint64)


@cache
def byte_characters() -> dict[str, int]:
    """GPT-2's printable character for every byte, inverted: character -> byte.

    Source: Radford et al. 2019, `bytes_to_unicode` of the published encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


def spell_vocabulary(
    vocabulary: Mapping[str, int],
    added: Sequence[AddedToken],
    notation: Notation,
    *,
    unknown_id: int | None = None,
    control_ids: Sequence[int] = (),
) -> Spelling:
    """Compute the bytes of every id.

    Args:
        vocabulary: the model's own strings and ids (without tokens that were only added).
        added: tokens that are looked for in the text itself, spelled by their content.
        notation: how the strings are to be read.
        unknown_id: the id that stands for anything the vocabulary cannot spell.
        control_ids: ids that stand for no bytes at all (SentencePiece's control symbols).

    Raises:
        InputError: if two ids are out of any sensible range, which means a damaged file.
    """
    size = 1 + max([-1, *vocabulary.values(), *(token.id for token in added)])
    if min([0, *vocabulary.values()]) < 0 or size > 1 << 28:
        raise InputError(
            f"the vocabulary's ids run up to {size - 1}, which no tokenizer uses: the file is damaged."
        )
    strings = [""] * size
    text: list[bytes] = [b""] * size
    native: list[bytes] = [b""] * size
    known = np.zeros(size, dtype=np.bool_)
    special = np.zeros(size, dtype=np.bool_)
    mark = notation.space_mark
    for string, token in vocabulary.items():
        spelled = read_token(string, notation)
        strings[token] = string
        native[token] = spelled
        text[token] = spelled.replace(mark.encode(), b" ") if mark and mark in string else spelled
        known[token] = True
    own = set(vocabulary.values())
    for token in added:
        strings[token.id] = token.content
        native[token.id] = token.native.encode()
        if token.id not in own or token.special:
            text[token.id] = _in_text(token, mark)
        known[token.id] = True
        special[token.id] = token.special
    for token in control_ids:
        text[token] = native[token] = b""
        special[token] = True
    flags = _flag_ids(text, unknown_id, special)
    if unknown_id is not None:
        special[unknown_id] = False
    return Spelling(
        text=build_table(text),
        native=build_table(native),
        flags=flags,
        special=special,
        known=known,
        strings=tuple(strings),
        space_mark=mark,
    )


def read_token(string: str, notation: Notation) -> bytes:
    """The bytes that one vocabulary string stands for in the rewritten text."""
    if notation.byte_tokens and (found := _BYTE_TOKEN.fullmatch(string)):
        return bytes([int(found[1], 16)])
    prefix, suffix = notation.continuation_prefix, notation.word_suffix
    if prefix and len(string) > len(prefix):
        string = string.removeprefix(prefix)
    if suffix and len(string) > len(suffix):
        string = string.removesuffix(suffix)
    if notation.byte_level:
        table = byte_characters()
        try:
            return bytes([table[character] for character in string])
        except KeyError:
            # A vocabulary entry that is not in byte notation is never produced by the model itself.
            return string.encode()
    return string.encode("utf-8", "surrogatepass")


def build_table(strings: Sequence[bytes]) -> Table:
    """Pack one byte string per id into flat arrays."""
    lengths = np.fromiter(map(len, strings), dtype=np.int32, count=len(strings))
    offsets = np.zeros(len(strings) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    blob = np.frombuffer(b"".join(strings) + bytes(_HEAD), dtype=np.uint8)
    return Table(blob, offsets, lengths)


def _in_text(token: AddedToken, mark: str | None) -> bytes:
    """An added token's bytes in the user's text: those that it matches."""
    if not token.normalized:
        return token.content.encode("utf-8", "surrogatepass")
    marked = mark and mark not in token.content
    return (token.native.replace(mark, " ") if mark and marked else token.native).encode()


def _flag_ids(text: Sequence[bytes], unknown_id: int | None, special: NDArray[np.bool_]) -> NDArray[np.uint8]:
    flags = np.zeros(len(text), dtype=np.uint8)
    for token, spelled in enumerate(text):
        if not spelled.isascii():
            try:
                spelled.decode()
            except UnicodeDecodeError:
                flags[token] |= np.uint8(TokenFlag.PARTIAL)
    flags[special] |= np.uint8(TokenFlag.LITERAL_SPECIAL)
    if unknown_id is not None:
        flags[unknown_id] |= np.uint8(TokenFlag.UNKNOWN)
    return flags
