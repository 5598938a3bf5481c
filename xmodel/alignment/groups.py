"""Words and the tokens of any number of tokenizers become shared groups.

A token straddles words if it has non-whitespace bytes of more than one of them. The three policies
differ in what becomes of the words it touches; all are symmetric in the tokenizers and take linear time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.matching import kernels
from xmodel.errors import InputError
from xmodel.records import Members, Straddle

POLICIES: tuple[Straddle, ...] = ("merge", "split", "drop")

Bytes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WordMap:
    """Where words lie on the byte axis, prepared so that a span finds its words by look-up.

    A chunk is a maximal run of non-whitespace bytes within one word. Whitespace never counts as overlap,
    so spans are compared with chunks; under most rules a word is one chunk.
    """

    starts: Bytes
    """[W] first byte of every word."""
    ends: Bytes
    """[W]"""
    chunk_starts: Bytes
    """[C]"""
    chunk_ends: Bytes
    """[C]"""
    chunk_words: Bytes | None
    """[C] the word of every chunk; None where chunks are words."""


@dataclass(frozen=True, eq=False)
class FlatGroups:
    """The groups of several texts, in coordinates of their shared buffer."""

    starts: Bytes
    ends: Bytes
    first_word: Bytes
    last_word: Bytes
    members: tuple[Members, ...]


def check_policy(straddle: str) -> None:
    """Refuse a straddle policy that does not exist."""
    if straddle not in POLICIES:
        raise InputError(f"unknown straddle policy {straddle!r}: choose one of {', '.join(POLICIES)}.")


def map_words(starts: Bytes, ends: Bytes, whitespace: NDArray[np.bool_] | None, size: int) -> WordMap:
    """Prepare words for look-up.

    Args:
        starts, ends: [W] the words, ascending.
        whitespace: [B] which bytes are whitespace; None if no word contains any.
        size: B.
    """
    chunk_starts, chunk_ends, chunk_words = starts, ends, None
    if whitespace is not None and len(starts):
        inside = np.zeros(size + 1, dtype=np.int8)
        inside[starts] += 1
        np.subtract.at(inside, ends, 1)
        filled = (np.cumsum(inside[:-1]) > 0) & ~whitespace[:size]
        # A byte begins a chunk if it follows whitespace or begins a word.
        begins = filled & ~np.concatenate([[False], filled[:-1]])
        begins[starts] = True
        finishes = filled & ~np.concatenate([filled[1:], [False]])
        finishes[ends - 1] = True
        chunk_starts, chunk_ends = np.flatnonzero(begins), np.flatnonzero(finishes) + 1
        chunk_words = np.searchsorted(starts, chunk_starts, side="right") - 1
    return WordMap(starts, ends, chunk_starts, chunk_ends, chunk_words)


def find_chunks(words: WordMap, starts: Bytes, ends: Bytes) -> tuple[Bytes, Bytes]:
    """The first and last chunk that each span overlaps; first > last where none, and for empty spans."""
    first = np.searchsorted(words.chunk_ends, starts, side="right")
    last = np.searchsorted(words.chunk_starts, ends, side="left") - 1
    return first, np.where(starts == ends, first - 1, last)


def find_words(words: WordMap, starts: Bytes, ends: Bytes) -> tuple[Bytes, Bytes]:
    """The first and last word of which each span has non-whitespace bytes; first > last where none."""
    first, last = find_chunks(words, starts, ends)
    if words.chunk_words is None:
        return first, last
    empty = first > last
    table = np.append(words.chunk_words, len(words.starts))
    first, last = table[first], table[last]
    last[empty] = first[empty] - 1
    return first, last


def find_bridges(words: WordMap, starts: Bytes, ends: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    """The spans with non-whitespace bytes of several words: their numbers, first and last words."""
    if kernels is None or words.chunk_words is not None:
        first, last = find_words(words, starts, ends)
        tokens = np.flatnonzero(last > first)
        return tokens, first[tokens], last[tokens]
    found = np.empty((0, 3), dtype=np.int64)
    count = kernels.bridges(words.starts, words.ends, starts, ends, found)
    if count:
        found = np.empty((count, 3), dtype=np.int64)
        kernels.bridges(words.starts, words.ends, starts, ends, found)
    return found[:, 0], found[:, 1], found[:, 2]


def group_flat(
    words: WordMap,
    spans: Sequence[tuple[Bytes, Bytes]],
    straddle: Straddle,
    excluded: NDArray[np.bool_] | None = None,
) -> FlatGroups:
    """Group words by the tokens of all tokenizers.

    Args:
        words: the words of all texts.
        spans: [M] token starts and ends per tokenizer, contiguous, never decreasing.
        straddle: ``merge`` joins neighbouring words if and only if some token has non-whitespace bytes
            of both; ``split`` keeps every word and shares the token; ``drop`` leaves touched words out.
        excluded: [W] words to leave out in every model, such as those of failed texts.
    """
    found = [find_bridges(words, starts, ends) for starts, ends in spans]
    bridged = any(len(tokens) for tokens, _, _ in found)
    if excluded is None and (straddle == "split" or not bridged):
        every = np.arange(len(words.starts))
        firsts = lasts = group_of = every
        starts, ends = words.starts, words.ends
    else:
        to_next = _find_joints(len(words.starts), found if straddle != "split" else ())
        from_last = np.concatenate([[False], to_next[:-1]])
        kept = np.ones(len(words.starts), dtype=np.bool_) if excluded is None else ~excluded
        if straddle == "drop":
            kept &= ~(to_next | from_last)
        heads = kept & ~from_last
        group_of = np.cumsum(heads) - 1
        group_of[~kept] = -1
        firsts, lasts = np.flatnonzero(heads), np.flatnonzero(kept & ~to_next)
        starts, ends = words.starts[firsts], words.ends[lasts]
    members = tuple(
        _share_out(words, *span, tokens, group_of, len(firsts))
        if straddle == "split" and len(tokens)
        else _list_members(words, *span, group_of, len(firsts))
        for span, (tokens, _, _) in zip(spans, found, strict=True)
    )
    return FlatGroups(starts, ends, firsts, lasts, members)


def _find_joints(count: int, found: Sequence[tuple[Bytes, Bytes, Bytes]]) -> NDArray[np.bool_]:
    """[W] whether some token bridges this word and the next."""
    joined = np.zeros(count, dtype=np.int32)
    for _, first, last in found:
        np.add.at(joined, first, 1)
        np.subtract.at(joined, last, 1)
    return np.cumsum(joined, dtype=np.int32) > 0


def _list_members(words: WordMap, starts: Bytes, ends: Bytes, group_of: Bytes, groups: int) -> Members:
    """Tokens that belong to one group each."""
    if kernels is None or words.chunk_words is not None:
        first, last = find_words(words, starts, ends)
        tokens = np.flatnonzero(first <= last)
        rows = group_of[first[tokens]]
        return _pack(rows[rows >= 0], tokens[rows >= 0], np.ones(int((rows >= 0).sum())), groups)
    indptr = np.zeros(groups + 1, dtype=np.int64)
    tokens = np.empty(len(starts), dtype=np.int64)
    entries = kernels.collect(words.starts, words.ends, starts, ends, group_of, indptr, tokens)
    return Members(indptr, tokens[:entries], np.broadcast_to(np.float64(1), entries))


def _share_out(
    words: WordMap,
    starts: Bytes,
    ends: Bytes,
    bridges: Bytes,
    group_of: Bytes,
    groups: int,
) -> Members:
    """Tokens of several words contribute to each in proportion to their non-whitespace bytes in it."""
    first, last = find_words(words, starts, ends)
    single = np.flatnonzero(first == last)
    low, high = find_chunks(words, starts[bridges], ends[bridges])
    counts = high - low + 1
    owner = np.repeat(np.arange(len(bridges)), counts)
    chunk = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    size = np.minimum(words.chunk_ends[chunk], ends[bridges][owner]) - np.maximum(
        words.chunk_starts[chunk], starts[bridges][owner]
    )
    word = chunk if words.chunk_words is None else words.chunk_words[chunk]
    share = size / np.bincount(owner, weights=size)[owner]
    rows = group_of[np.concatenate([first[single], word])]
    tokens = np.concatenate([single, bridges[owner]])
    weights = np.concatenate([np.ones(len(single)), share])
    order = np.lexsort((tokens, rows))
    rows, tokens, weights = rows[order], tokens[order], weights[order]
    kept = rows >= 0
    rows, tokens, weights = rows[kept], tokens[kept], weights[kept]
    if not len(rows):
        return _pack(rows, tokens, weights, groups)
    # Several chunks of one word under one token are one entry.
    heads = np.flatnonzero(np.concatenate([[True], (np.diff(rows) != 0) | (np.diff(tokens) != 0)]))
    return _pack(rows[heads], tokens[heads], np.add.reduceat(weights, heads), groups)


def _pack(rows: Bytes, tokens: Bytes, weights: NDArray[np.float64], groups: int) -> Members:
    indptr = np.zeros(groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=groups), out=indptr[1:])
    return Members(indptr, tokens, weights)
