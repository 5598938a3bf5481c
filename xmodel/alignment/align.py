"""The call: texts and tokenizers in, words and every tokenizer's tokens on one byte axis out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.alignment.groups import FlatGroups, check_policy, group_flat, map_words
from xmodel.alignment.matching import PAD
from xmodel.alignment.spans import FlatSpans, FlatTexts, locate_flat
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.datasets.words import check_rule, encode_text, find_whitespace, split_joined
from xmodel.errors import InputError
from xmodel.records import Alignment, Certificate, Groups, Members, Straddle, TokenSpans, Words

_PLAIN_RULES = ("default", "whitespace", "characters")
"""Rules whose words never contain whitespace."""


@dataclass(frozen=True, eq=False, repr=False)
class AlignedTexts(Sequence[Alignment]):
    """The alignments of several texts, kept flat; indexing makes one text's records, without copying tokens.

    ``failed`` counts texts for which some tokenizer's certificate is ``failed``; they have no groups.
    """

    flat: FlatTexts
    rule: str
    straddle: Straddle
    names: tuple[str, ...]
    spans: tuple[FlatSpans, ...]
    word_starts: NDArray[np.int64]
    word_ends: NDArray[np.int64]
    groups: FlatGroups

    def __len__(self) -> int:
        return len(self.flat.texts)

    @property
    def failed(self) -> int:
        """Number of texts that are excluded because ids and text do not fit."""
        return int(_find_failed(self.spans, len(self)).sum())

    def certificates(self, model: int) -> list[Certificate]:
        """One certificate per text, for the tokenizer with this number."""
        return self.spans[model].certificates

    def __iter__(self) -> Iterator[Alignment]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Alignment:  # type: ignore[override]
        if not -len(self) <= number < len(self):
            raise IndexError(f"text {number} of {len(self)}")
        number %= len(self)
        origin, stop = int(self.flat.starts[number]), int(self.flat.ends[number])
        low, high = np.searchsorted(self.word_starts, [origin, stop])
        groups = self.groups
        first, last = np.searchsorted(groups.starts, [origin, stop])
        bounds = [span.bounds[number : number + 2].tolist() for span in self.spans]
        return Alignment(
            text=self.flat.texts[number],
            words=Words(self.word_starts[low:high] - origin, self.word_ends[low:high] - origin, self.rule),
            tokenizers=self.names,
            spans=tuple(
                TokenSpans(
                    span.ids[a:b],
                    span.starts[a:b] - origin,
                    span.ends[a:b] - origin,
                    span.flags[a:b],
                    span.certificates[number],
                )
                for span, (a, b) in zip(self.spans, bounds, strict=True)
            ),
            groups=Groups(
                groups.starts[first:last] - origin,
                groups.ends[first:last] - origin,
                groups.first_word[first:last] - low,
                groups.last_word[first:last] - low,
                tuple(
                    _slice_members(own, int(first), int(last), a)
                    for own, (a, _) in zip(groups.members, bounds, strict=True)
                ),
                self.straddle,
            ),
        )


def align_text(
    text: str,
    tokenizers: Sequence[Tokenizer],
    *,
    words: str = "default",
    straddle: Straddle = "merge",
    special: bool = False,
) -> Alignment:
    """Tokenize one text with every tokenizer and align all tokens with its words.

    Args:
        text: any text without lone surrogates.
        tokenizers: one or more, from `load_tokenizer`.
        words: the word rule, see `xmodel.datasets.words`.
        straddle: what becomes of words that one token touches together, see `xmodel.alignment.groups`.
        special: whether to add each tokenizer's own BOS and EOS.

    Raises:
        InputError: for an unknown rule or policy, a lone surrogate, or a text too long for the memory.
    """
    return align_texts([text], tokenizers, words=words, straddle=straddle, special=special)[0]


def align_texts(
    texts: Sequence[str],
    tokenizers: Sequence[Tokenizer],
    *,
    words: str = "default",
    straddle: Straddle = "merge",
    special: bool = False,
) -> AlignedTexts:
    """Tokenize and align many texts at once; see `align_text` for the arguments.

    Every text is treated as if it were alone; a batch is only faster.
    """
    _check_arguments(tokenizers, words, straddle)
    flat = flatten_texts(texts)
    encoded = []
    for tokenizer in tokenizers:
        ids, counts = tokenizer.encode(texts)
        template = np.zeros(len(ids), dtype=np.bool_)
        if special:
            ids, counts, template = _add_template(tokenizer, ids, counts)
        encoded.append((ids, counts, template))
    return _align_flat(flat, tokenizers, encoded, words, straddle)


def align_ids(
    texts: Sequence[str],
    tokenizers: Sequence[Tokenizer],
    ids: Sequence[Sequence[ArrayLike]],
    *,
    words: str = "default",
    straddle: Straddle = "merge",
) -> AlignedTexts:
    """Align ids that were made elsewhere: cached, generated, or by a slow tokenizer.

    Special ids that the text does not spell (BOS, EOS, padding on either side, chat formats) are
    recognised and get zero bytes. Ids need not be what the tokenizer itself would produce for the text;
    they must spell it, else the certificate is ``failed`` and says where.

    Args:
        texts: T texts.
        tokenizers: M tokenizers.
        ids: [M][T] one row of integer ids per tokenizer and text.

    Raises:
        InputError: if counts differ, or an id is outside of the vocabulary.
    """
    _check_arguments(tokenizers, words, straddle)
    flat = flatten_texts(texts)
    if len(ids) != len(tokenizers):
        raise InputError(f"{len(ids)} lists of ids came for {len(tokenizers)} tokenizers: give one for each.")
    encoded = []
    for tokenizer, rows in zip(tokenizers, ids, strict=True):
        if len(rows) != len(texts):
            raise InputError(
                f"{len(rows)} rows of ids came for {len(texts)} texts under {tokenizer.name}: give one row "
                "for each text."
            )
        arrays = [_check_ids(tokenizer, row) for row in rows]
        counts = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        own = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
        encoded.append((own, counts, None))
    return _align_flat(flat, tokenizers, encoded, words, straddle)


def flatten_texts(texts: Sequence[str]) -> FlatTexts:
    """Put texts into one byte buffer, with a space before, between and after them."""
    if isinstance(texts, str):
        raise InputError("one string came where a list of texts was expected: use align_text, or [text].")
    encoded = [encode_text(text) for text in texts]
    sizes = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    ends = np.cumsum(sizes + 1)
    starts = ends - sizes
    buffer = np.frombuffer(b" " + b" ".join(encoded) + b" " + bytes(PAD), dtype=np.uint8)
    return FlatTexts(texts, buffer, starts, ends)


def _align_flat(
    flat: FlatTexts,
    tokenizers: Sequence[Tokenizer],
    encoded: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_] | None]],
    rule: str,
    straddle: Straddle,
) -> AlignedTexts:
    size = len(flat.buffer) - PAD
    spans = tuple(
        locate_flat(tokenizer, flat, ids, counts, template)
        for tokenizer, (ids, counts, template) in zip(tokenizers, encoded, strict=True)
    )
    word_starts, word_ends = split_joined(flat.buffer[:size], flat.starts, flat.ends, rule)
    whitespace = None if rule in _PLAIN_RULES else find_whitespace(flat.buffer[:size])
    word_map = map_words(word_starts, word_ends, whitespace, size)
    failed = _find_failed(spans, len(flat.texts))
    excluded = None
    if failed.any():
        excluded = failed[np.searchsorted(flat.starts, word_starts, side="right") - 1]
    groups = group_flat(word_map, [(span.starts, span.ends) for span in spans], straddle, excluded)
    names = tuple(tokenizer.name for tokenizer in tokenizers)
    return AlignedTexts(flat, rule, straddle, names, spans, word_starts, word_ends, groups)


def _find_failed(spans: Sequence[FlatSpans], count: int) -> NDArray[np.bool_]:
    failed = np.zeros(count, dtype=np.bool_)
    for span in spans:
        failed |= np.fromiter((c.status == "failed" for c in span.certificates), np.bool_, count)
    return failed


def _check_arguments(tokenizers: Sequence[Tokenizer], rule: str, straddle: str) -> None:
    check_rule(rule)
    check_policy(straddle)
    if isinstance(tokenizers, Tokenizer) or not all(isinstance(one, Tokenizer) for one in tokenizers):
        raise InputError("tokenizers must be a list of what load_tokenizer returns, one per model.")
    if not tokenizers:
        raise InputError("no tokenizer came: give at least one, from load_tokenizer.")


def _check_ids(tokenizer: Tokenizer, row: ArrayLike) -> NDArray[np.int64]:
    ids = np.asarray(row)
    if ids.size == 0:
        return np.zeros(0, dtype=np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(
            f"ids for {tokenizer.name} must be one row of integers; {ids.dtype} of shape {ids.shape} came."
        )
    ids = ids.astype(np.int64)
    bad = (ids < 0) | (ids >= len(tokenizer.spelling))
    if not bad.any():
        bad = ~tokenizer.spelling.known[ids]
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"id {ids[place]} at position {place} is not in the vocabulary of {tokenizer.name}, which has "
            f"{int(tokenizer.spelling.known.sum())} ids below {len(tokenizer.spelling)}: are these the ids "
            "of another tokenizer?"
        )
    return ids


def _add_template(
    tokenizer: Tokenizer, ids: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Put the template's ids around every text's own."""
    before, after = tokenizer.template
    stops = np.cumsum(counts)
    places = np.concatenate([np.repeat(stops - counts, len(before)), np.repeat(stops, len(after))])
    values = np.concatenate([np.tile(before, len(counts)), np.tile(after, len(counts))]).astype(np.int64)
    # An empty text's EOS goes to the same place as its BOS and the next text's: keep the order of texts.
    owner = np.concatenate(
        [np.repeat(np.arange(len(counts)), len(before)), np.repeat(np.arange(len(counts)), len(after))]
    )
    order = np.argsort(owner, kind="stable")
    places, values = places[order], values[order]
    return (
        np.insert(ids, places, values),
        counts + len(before) + len(after),
        np.insert(np.zeros(len(ids), dtype=np.bool_), places, True),
    )


def _slice_members(members: Members, first: int, last: int, origin: int) -> Members:
    low, high = int(members.indptr[first]), int(members.indptr[last])
    return Members(
        members.indptr[first : last + 1] - low, members.tokens[low:high] - origin, members.weights[low:high]
    )
