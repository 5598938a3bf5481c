"""The words on which every feature fires most strongly."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xmodel.records import WordFeatures


def find_top_words(
    chunks: Iterable[tuple[NDArray[np.int64], WordFeatures]], features: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The strongest words of all features, strongest first; the earlier word first where they tie.

    Args:
        chunks: word ids [W] and word features, chunk by chunk; only `count` entries per feature are kept.
        features: F.
        count: how many words per feature.

    Returns:
        [F, count] word ids, -1 where a feature fires on fewer; [F, count] activations, 0 there. Signed
        features (neurons, components) are ranked by magnitude.
    """
    ids = np.zeros(0, dtype=np.int64)
    of = np.zeros(0, dtype=np.int32)
    values = np.zeros(0, dtype=np.float32)
    for word_ids, own in chunks:
        ids = np.concatenate([ids, np.repeat(word_ids, np.diff(own.indptr))])
        of = np.concatenate([of, own.indices])
        values = np.concatenate([values, own.values])
        order = np.lexsort((ids, -np.abs(values), of))
        ids, of, values = ids[order], of[order], values[order]
        kept = _rank(of, features) < count
        ids, of, values = ids[kept], of[kept], values[kept]
    top = np.full((features, count), -1, dtype=np.int64)
    strength = np.zeros((features, count), dtype=np.float32)
    rank = _rank(of, features)
    top[of, rank] = ids
    strength[of, rank] = values
    return top, strength


def _rank(of: NDArray[np.int32], features: int) -> NDArray[np.int64]:
    """[n] the place of every entry among those of its feature, entries being sorted by feature."""
    counts = np.bincount(of, minlength=features)
    return np.arange(len(of)) - (np.cumsum(counts) - counts)[of]


def list_distinct(texts: Iterable[str], count: int) -> list[str]:
    """The first different texts, compared without case."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(text.casefold(), text)
        if len(found) == count:
            break
    return list(found.values())
