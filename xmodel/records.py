"""The frozen records that pass between stages. Reading this page is reading the program.

The canonical axis is the UTF-8 byte of the original text: every word and every token is a half-open
byte span ``[start, end)`` on it, and nothing is ever compared by decoded strings.

Shapes are written with these letters: W words, N tokens of one tokenizer, G groups, M models
(tokenizers), E entries of a membership list, K windows, F features of one dictionary, P pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["exact", "normalized", "ambiguous", "failed"]
RangeKind = Literal["rewritten", "deleted", "unknown", "ambiguous"]
Straddle = Literal["merge", "split", "drop"]


class TokenFlag(IntFlag):
    """What is particular about one token; stored as uint8, combined with ``|``."""

    TEMPLATE = 1
    """Inserted by the tokenizer's template, padding or a chat format: zero bytes of the text."""
    LITERAL_SPECIAL = 2
    """A special token because the text contains its spelling (a literal ``</s>``): covers just those bytes,
    not the whitespace that it may swallow beside them."""
    UNKNOWN = 4
    """The model's unknown token: its bytes are known from its neighbours, not from its id."""
    REWRITTEN = 8
    """Touches bytes that a normaliser rewrote; carries the whole rewritten segment as its span."""
    PARTIAL = 16
    """Spells part of a character: its bytes begin or end in the middle of one."""
    PREFIX = 32
    """Carries a space that the tokenizer put before the text; that space has zero bytes."""


@dataclass(frozen=True, eq=False)
class Words:
    """The words of one text: ascending, disjoint, together all non-whitespace bytes.

    Words depend on the text and the rule alone, never on a tokenizer. No word begins or ends with
    whitespace; only rules such as ``sentences`` have whitespace inside a word.
    """

    starts: NDArray[np.int64]
    """[W] first byte."""
    ends: NDArray[np.int64]
    """[W] one past the last byte."""
    rule: str
    """The rule as the user wrote it, for instance ``default`` or ``spacy:en``."""

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Certificate:
    """How far the spans of one text under one tokenizer are proven.

    ``exact``: outside zero-byte tokens, the bytes that every id stands for are the text's own bytes.
    ``normalized``: the same outside `ranges`, which the tokenizer's normaliser rewrote or deleted.
    ``ambiguous``: some of `ranges` are covered by unknown tokens, or by tokens with two readings.
    ``failed``: ids and text do not fit; there are no spans, and `reason` says where and why.
    """

    status: Status
    ranges: tuple[tuple[int, int], ...] = ()
    """Byte ranges that are not exact: ascending and disjoint."""
    kinds: tuple[RangeKind, ...] = ()
    """One kind per range."""
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class TokenSpans:
    """The tokens of one text under one tokenizer, each with the bytes it stands for."""

    ids: NDArray[np.int64]
    """[N] the tokenizer's own ids, unchanged."""
    starts: NDArray[np.int64]
    """[N] first byte; never decreasing."""
    ends: NDArray[np.int64]
    """[N] one past the last byte; equal to the start where a token has no bytes."""
    flags: NDArray[np.uint8]
    """[N] `TokenFlag` bits."""
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Members:
    """Which tokens of one tokenizer belong to which group, as compressed rows."""

    indptr: NDArray[np.int64]
    """[G + 1] row pointer: group g owns entries ``indptr[g]:indptr[g + 1]``."""
    tokens: NDArray[np.int64]
    """[E] token indices, ascending within a group."""
    weights: NDArray[np.float64]
    """[E] the share of the token's non-whitespace bytes that lies in the group; 1 except under ``split``."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The units that all tokenizers share: runs of neighbouring words.

    Under ``merge`` these are the finest runs that no token of any tokenizer crosses; under ``split``
    every word is a group; under ``drop`` words touched by a straddling token are left out.
    Whitespace before a word belongs to no group.
    """

    starts: NDArray[np.int64]
    """[G] first byte."""
    ends: NDArray[np.int64]
    """[G] one past the last byte."""
    first_word: NDArray[np.int64]
    """[G] index of the first word."""
    last_word: NDArray[np.int64]
    """[G] index of the last word, inclusive."""
    members: tuple[Members, ...]
    """[M] one per tokenizer, in the order given."""
    straddle: Straddle

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, eq=False)
class Alignment:
    """One text, its words, and every tokenizer's tokens on the same byte axis."""

    text: str
    words: Words
    tokenizers: tuple[str, ...]
    """[M] names, in the order given."""
    spans: tuple[TokenSpans, ...]
    """[M] one per tokenizer."""
    groups: Groups


@dataclass(frozen=True, eq=False)
class Windows:
    """A document cut at group boundaries so that every window fits every model's context.

    Token ranges slice the document's own ids, so nothing is tokenized again and the alignment of the
    document holds in every window.
    """

    first_group: NDArray[np.int64]
    """[K] first group of the window."""
    stop_group: NDArray[np.int64]
    """[K] one past its last group."""
    first_token: NDArray[np.int64]
    """[K, M] first token per tokenizer; whitespace before a group travels with it."""
    stop_token: NDArray[np.int64]
    """[K, M] one past the last token per tokenizer."""
    oversized: NDArray[np.int64]
    """Groups that alone exceed some context: they are in no window of any model."""

    def __len__(self) -> int:
        return len(self.first_group)


@dataclass(frozen=True)
class Document:
    """One document of a corpus: the unit of splitting, shifting and resampling."""

    name: str
    """Where it comes from, for a person: ``moby-dick.txt#3``, ``data.jsonl:17``."""
    text: str
    """Its text, unchanged."""


@dataclass(frozen=True)
class DictionaryInfo:
    """What a dictionary of features (an SAE, neurons, principal components) says about itself."""

    name: str
    """As the user wrote it."""
    architecture: str
    """``standard``, ``gated``, ``jumprelu``, ``topk``, ... as SAELens calls it; ``neurons``, ``residual``
    or ``pca`` for baselines."""
    width: int
    """Dimensions of the activations it reads (d_in)."""
    features: int
    """Number of features (d_sae)."""
    site: str | None
    """Where it reads, for instance ``blocks.9.hook_resid_post``; None where it does not say."""
    model: str | None = None
    """The model it was trained on: a Hugging Face id, or None where it does not say."""
    prepend_bos: bool | None = None
    """Whether its training texts began with BOS; None where it does not say."""
    context_size: int | None = None
    """Tokens of its training windows, BOS included; None where it does not say."""
    processing: Mapping[str, Any] = field(default_factory=dict)
    """TransformerLens flags that the model's weights were processed with (``center_writing_weights``,
    ``fold_ln``, ...); empty for the model as it is."""
    signed: bool = False
    """Whether a feature's sign is arbitrary or its activations negative: then pairs go by |r|."""
    dense: bool = False
    """Whether most features are non-zero on most words."""
    digest: str = ""
    """SHA-256 of its weights and configuration, hexadecimal; of its definition for baselines."""


@dataclass(frozen=True, eq=False)
class WordFeatures:
    """The features of a run of words under one dictionary, as compressed sparse rows."""

    indptr: NDArray[np.int64]
    """[W + 1] row pointer."""
    indices: NDArray[np.int32]
    """[nnz] feature numbers, ascending within a word."""
    values: NDArray[np.float32]
    """[nnz] activations in the dictionary's own units, never 0."""
    features: int
    """F, the number of features."""

    def __len__(self) -> int:
        return len(self.indptr) - 1


@dataclass(frozen=True, eq=False)
class Moments:
    """What Pearson's r needs of each feature alone, over one set of words."""

    words: int
    """Number of words, those where nothing fires included."""
    firings: NDArray[np.int64]
    """[F] words on which the feature is not 0."""
    sums: NDArray[np.float64]
    """[F] sum of x."""
    squares: NDArray[np.float64]
    """[F] sum of x squared."""


@dataclass(frozen=True, eq=False)
class Partners:
    """The best partners of every feature, best first."""

    features: NDArray[np.int32]
    """[F, k] partner's number; -1 where there are fewer than k."""
    r: NDArray[np.float64]
    """[F, k] Pearson's r; NaN where there is no partner."""


@dataclass(frozen=True)
class Attrition:
    """One line of the ledger: what a filter let through."""

    filter: str
    """What was filtered and why, for instance ``features a: fewer than 10 firings``."""
    entered: int
    """How many came in; written as ``in``."""
    left: int
    """How many remained; written as ``out``."""
