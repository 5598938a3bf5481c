"""The first sanity check of a run by token: does it agree with the same run by word?

A by-token run holds all that a by-word run needs, so nothing is computed again but the pairs: tokens are
pooled to words here as the pass would have pooled them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.pooling import Pooling
from xmodel.alignment.rows import take_rows
from xmodel.alignment.tables import iterate_table
from xmodel.pairing.chunks import Chunks
from xmodel.pairing.correlation import correlate_pairs, find_partners
from xmodel.pairing.halves import Shards
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.settings import PairSettings
from xmodel.records import Partners, WordFeatures


def compare_units(
    shards: Shards,
    chosen: NDArray[np.bool_],
    partners: Partners,
    pooling: Pooling,
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    settings: PairSettings,
) -> dict[str, Any]:
    """Pair a by-token run by word, and say how far both agree.

    Args:
        shards: of a run by token.
        chosen: [W] the tokens on which it was paired.
        partners: of A's features, by token.
        pooling: how the run would have pooled tokens to words.
        kept: the features that were paired by token; of these, those that fire often enough by word too.
        settings: filters, as for pairing by token.

    Returns:
        ``words``: number of words; ``one_token_words``: how many of them are one token; ``features_a``: how
        many of A's features have a partner by both units; ``same_best_partner``: for how many it is the same;
        ``correlation_of_r``: Pearson's r between the r of these by-token pairs by token and by word, None for
        fewer than two pairs.
    """
    words = _count_words(shards, chosen)
    chunks = pool_chunks(shards, chosen, pooling)
    moments = measure_moments(chunks, *shards.features)
    kept_a, kept_b = (
        own & (half.firings >= settings.min_firings) for own, half in zip(kept, moments, strict=True)
    )
    by_word, _ = find_partners(chunks, *moments, kept_a=kept_a, kept_b=kept_b, top_k=1, floor=settings.floor)
    token_best, word_best = partners.features[:, 0], by_word.features[:, 0]
    both = np.flatnonzero((token_best >= 0) & (word_best >= 0))
    r, _ = correlate_pairs(chunks, *moments, both.astype(np.int32), token_best[both])
    known = np.isfinite(r)
    agreement = None
    if known.sum() > 1:
        agreement = float(np.corrcoef(r[known], partners.r[both, 0][known])[0, 1])
    return {
        **words,
        "features_a": len(both),
        "same_best_partner": int((token_best[both] == word_best[both]).sum()),
        "correlation_of_r": agreement if agreement is None or np.isfinite(agreement) else None,
    }


def pool_chunks(shards: Shards, chosen: NDArray[np.bool_], pooling: Pooling) -> Chunks:
    """The chunks of a by-token run, pooled to words."""

    def read() -> Iterator[tuple[WordFeatures, WordFeatures]]:
        for number, owners, sizes in _read_owners(shards):
            rows = np.flatnonzero(chosen[shards.bounds[number] : shards.bounds[number + 1]])
            if len(rows):
                first, second = (
                    pool_sparse(
                        take_rows(shards.load(side, number), rows), owners[rows], sizes[rows], pooling
                    )
                    for side in "ab"
                )
                yield first, second

    return read


def pool_sparse(
    tokens: WordFeatures, owners: NDArray[np.int64], sizes: NDArray[np.int64], pooling: Pooling
) -> WordFeatures:
    """Sparse rows of tokens become rows of words.

    Args:
        tokens: [T] rows.
        owners: [T] the word of every token, never falling.
        sizes: [T] bytes of every token.
        pooling: see `xmodel.alignment.pooling.pool_rows`.
    """
    heads = np.flatnonzero(np.diff(owners, prepend=owners[0] - 1))
    if pooling in ("first", "last"):
        return take_rows(tokens, heads if pooling == "first" else np.append(heads[1:], len(owners)) - 1)
    counts = np.diff(np.append(heads, len(owners)))
    word = np.repeat(np.arange(len(heads)), counts)
    row = np.repeat(np.arange(len(tokens)), np.diff(tokens.indptr))
    weights = sizes.astype(np.float32) if pooling == "bytes" else np.ones(len(tokens), np.float32)
    values = tokens.values if pooling == "max" else tokens.values * weights[row]
    order = np.lexsort((row, tokens.indices, word[row]))
    words, features, values = word[row][order], tokens.indices[order], values[order]
    starts = np.flatnonzero((np.diff(words, prepend=-1) != 0) | (np.diff(features, prepend=-1) != 0))
    if not len(starts):
        return WordFeatures(
            np.zeros(len(heads) + 1, np.int64), tokens.indices[:0], tokens.values[:0], tokens.features
        )
    pooled = (np.maximum if pooling == "max" else np.add).reduceat(values, starts)
    if pooling in ("mean", "bytes"):
        pooled = pooled / np.add.reduceat(weights, heads)[words[starts]]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(words[starts], minlength=len(heads)))]).astype(
        np.int64
    )
    return WordFeatures(indptr, features[starts], pooled.astype(np.float32), tokens.features)


def _read_owners(shards: Shards) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Per shard, the word of every token, numbered over the shard, and its bytes."""
    tables = iterate_table(shards.folder, "words", ["document", "group", "start", "end"])
    for number, table in enumerate(tables):
        document, group, start, end = (
            table[name].to_numpy() for name in ("document", "group", "start", "end")
        )
        begins = (np.diff(document, prepend=-1) != 0) | (np.diff(group, prepend=-1) != 0)
        yield number, np.cumsum(begins), end - start


def _count_words(shards: Shards, chosen: NDArray[np.bool_]) -> dict[str, int]:
    words = single = 0
    for number, owners, _ in _read_owners(shards):
        own = owners[chosen[shards.bounds[number] : shards.bounds[number + 1]]]
        counts = np.unique(own, return_counts=True)[1]
        words += len(counts)
        single += int((counts == 1).sum())
    return {"words": words, "one_token_words": single}
