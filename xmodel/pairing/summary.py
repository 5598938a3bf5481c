"""What summary.json says of the words, the features and the pairs of a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.filters import WordChoice
from xmodel.pairing.halves import Shards
from xmodel.pairing.pair_table import RULES
from xmodel.records import Moments

if TYPE_CHECKING:
    import pyarrow as pa


def summarise_words(
    manifest: dict[str, Any],
    shards: Shards,
    words: WordChoice,
    moments: tuple[Moments, Moments],
    kept: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> dict[str, Any]:
    """``words``, ``discovery_words``, ``heldout_words``, ``documents`` and ``features``."""
    return {
        "words": int(shards.bounds[-1]),
        "discovery_words": int(words.discovery.sum()),
        "heldout_words": int(words.heldout.sum()),
        "documents": manifest["corpus"]["documents"],
        "features": {
            letter: {"total": len(own.sums), "alive": int((own.firings > 0).sum()), "kept": int(chosen.sum())}
            for letter, own, chosen in zip("ab", moments, kept, strict=True)
        },
    }


def summarise_rules(
    table: "pa.Table", signed: bool, gap: float, shuffled: Mapping[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """Per rule: ``count``, ``mean_r``, ``mean_r_heldout``, ``heldout_count``, ``mean_r_heldout_shuffled``.

    A pair with a feature that never fires on the held-out half has no r there. It counts as 0 in
    ``mean_r_heldout``, since it did not hold up; ``heldout_count`` says how many have one. For signed
    features the means are those of |r|, and of the held-out r with the sign turned as r's.

    Args:
        table: the pairs.
        signed: whether the sign of r is arbitrary.
        gap: of the optimal assignment.
        shuffled: per rule, the held-out r of shuffled pairs: see `correlate_shuffled`.
    """
    r, held = (table[name].to_numpy(zero_copy_only=False) for name in ("r", "r_heldout"))
    if signed:
        r, held = np.abs(r), held * np.sign(r)
    rules: dict[str, dict[str, Any]] = {}
    for rule in RULES:
        own = table[rule].to_numpy(zero_copy_only=False).astype(bool)
        rules[rule] = {
            "count": int(own.sum()),
            "mean_r": _average(r[own]),
            "mean_r_heldout": _average(np.nan_to_num(held[own])),
            "heldout_count": int(np.isfinite(held[own]).sum()),
            "mean_r_heldout_shuffled": _average(shuffled[rule]),
        }
    rules["optimal"]["gap"] = float(gap)
    return rules


def _average(values: NDArray[np.float64]) -> float | None:
    """The mean, rounded for reading; None of nothing."""
    return round(float(values.mean()), 6) if len(values) else None
