"""What a language model has to beat: trigram models and gzip, on the text that the bundled models never saw.

The trigram model is interpolated Kneser-Ney (Chen and Goodman, 1998, with one discount per order, estimated
as n1 / (n1 + 2 n2)), trained on the same tokens as the language model, and once more on bytes.
"""

import gzip
from collections.abc import Sequence

import numpy as np


class Trigrams:
    """An interpolated Kneser-Ney model of order 3 over ids below `ids`."""

    def __init__(self, documents: Sequence[np.ndarray], ids: int, start: int) -> None:
        self.ids, self.start = ids, start
        a, b, c = self._join(documents)
        seen, counts = np.unique(self._key(a, b, c), return_counts=True)
        self.of_three = _Order(seen, counts, ids)
        # Below the highest order a gram counts once for every different id before it.
        seen, counts = np.unique(seen % (ids * ids), return_counts=True)
        self.of_two = _Order(seen, counts, ids)
        counts = np.bincount(seen % ids, minlength=ids)
        discount = _estimate_discount(counts[counts > 0])
        kept = np.maximum(counts - discount, 0) / counts.sum()
        self.of_one = kept + discount * (counts > 0).sum() / counts.sum() / ids

    def probability(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """[n] of id c after a and b."""
        two = self.of_two.interpolate(b * self.ids + c, b, self.of_one[c])
        return self.of_three.interpolate(self._key(a, b, c), a * self.ids + b, two)

    def measure(self, documents: Sequence[np.ndarray]) -> float:
        """Bits of all ids of some documents."""
        return float(-np.log2(self.probability(*self._join(documents))).sum())

    def _key(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (a * self.ids + b) * self.ids + c

    def _join(self, documents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every id of the documents with the two before it; `start` stands before a document, twice."""
        padded = [np.concatenate([[self.start, self.start], document]) for document in documents]
        before, last, own = (
            np.concatenate([document[place : len(document) - 2 + place] for document in padded])
            for place in range(3)
        )
        return before, last, own


class _Order:
    """The grams of one order, their counts, and what their contexts keep for lower orders."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, ids: int) -> None:
        self.grams, self.counts, self.discount = grams, counts, _estimate_discount(counts)
        self.contexts, places, self.kinds = np.unique(grams // ids, return_inverse=True, return_counts=True)
        self.totals = np.bincount(places, weights=counts)

    def interpolate(self, grams: np.ndarray, contexts: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The discounted share of every gram in its context, and the lower order for what is left."""
        counts = _look_up(self.grams, self.counts, grams)
        totals = _look_up(self.contexts, self.totals, contexts)
        kinds = _look_up(self.contexts, self.kinds, contexts)
        known = totals > 0
        totals = np.where(known, totals, 1)
        own = (np.maximum(counts - self.discount, 0) + self.discount * kinds * lower) / totals
        return np.where(known, own, lower)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


def _estimate_discount(counts: np.ndarray) -> float:
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    return float(once / (once + 2 * twice)) if once else 0.0


def measure_gzip(texts: Sequence[str]) -> float:
    """Bits per byte of all texts together under gzip -9."""
    content = "\n\n".join(texts).encode()
    return 8 * len(gzip.compress(content, compresslevel=9, mtime=0)) / len(content)


def measure_byte_trigrams(training: Sequence[str], unseen: Sequence[str]) -> float:
    """Bits per byte of a trigram model over bytes."""
    documents, held = (
        [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) for text in texts]
        for texts in (training, unseen)
    )
    return Trigrams(documents, 257, 256).measure(held) / sum(map(len, held))


def measure_token_trigrams(
    training: Sequence[np.ndarray], unseen: Sequence[np.ndarray], ids: int, start: int, size: int
) -> float:
    """Bits per byte of a trigram model over a model's own tokens; `size` is the unseen texts' bytes."""
    return Trigrams(training, ids, start).measure(unseen) / size
