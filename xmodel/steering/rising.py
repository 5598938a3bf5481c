"""Which features of a dictionary rise when the activation that it reads is pushed.

A push along a feature's decoder row should make that feature fire, but how much it does, and what else rises
with it, depends on the encoder: on thresholds, on features that lie near, on how many may fire at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.alignment.extract import SLICE_BYTES
from xmodel.errors import InputError
from xmodel.models.saes import FeatureDictionary

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rise:
    """What one push did to the features that were looked at, in the dictionary's own units."""

    feature: int
    """The feature that was meant: the one along whose decoder row the push went."""
    own: float
    """Its mean change over rows."""
    others_mean: float
    """Mean of the other features' changes; 0 where there are none."""
    rank: int
    """Its place by change, from 1; features that rise as much come before it, so that a feature that never
    fires is last."""
    of: int
    """How many features were ranked."""
    top: tuple[tuple[int, float], ...]
    """The features that rise most and their changes, the largest first."""


def measure_rises(
    dictionary: FeatureDictionary,
    clean: "Tensor",
    pushed: "Tensor",
    features: Sequence[int] | NDArray[np.integer],
) -> NDArray[np.float64]:
    """Mean changes of features over rows when their activations are pushed.

    All features are encoded, since in some dictionaries (top k) they compete, in slices of bounded memory;
    those asked for are kept.

    Args:
        dictionary: reads activations; its features may be signed.
        clean: [R, d] activations at its site without a push.
        pushed: [..., R, d] the same rows under pushes.
        features: [F] which features are wanted, as the dictionary numbers them.

    Returns:
        [..., F] float64, in the dictionary's own units.

    Raises:
        InputError: rows that do not fit each other or the dictionary, no rows, or features that do not exist.
    """
    import torch

    if clean.ndim != 2 or pushed.ndim < 2 or pushed.shape[-2:] != clean.shape or not clean.numel():
        raise InputError(
            f"Activations came with shape {tuple(pushed.shape)} under pushes and {tuple(clean.shape)} "
            "without; expected were the same rows, [..., R, d] and [R, d], at least one."
        )
    chosen = _check_features(dictionary, features)
    columns = torch.from_numpy(chosen).to(clean.device)
    flat = pushed.reshape(-1, *clean.shape)
    with torch.inference_mode():
        before = _sum_features(dictionary, clean, columns)
        after = [_sum_features(dictionary, one, columns) for one in flat]
        rises = (torch.stack(after) - before) / len(clean) if after else before.new_empty(0, len(chosen))
    return rises.reshape(*pushed.shape[:-2], len(chosen)).numpy(force=True)


def rank_rise(
    rises: NDArray[np.floating],
    features: Sequence[int] | NDArray[np.integer],
    feature: int,
    *,
    scales: ArrayLike | None = None,
    most: int = 5,
) -> Rise:
    """Where the feature that was meant stands among those that rise.

    Args:
        rises: [F] mean changes, a row of `measure_rises`.
        features: [F] the features they belong to, each once.
        feature: the one that was meant, one of them. Where the push went against its decoder row, give the
            changes with their signs turned.
        scales: [F] what a unit of each feature's activation is worth when features are ranked, for instance
            the norms of their decoder rows; by default all the same.
        most: how many of the features that rise most are listed.

    Raises:
        InputError: shapes that do not fit, changes that are not finite, scales that are not above 0, or a
            feature that is not among them exactly once.
    """
    rises, numbers = np.asarray(rises, np.float64), np.asarray(features)
    weights = np.ones(len(numbers)) if scales is None else np.asarray(scales, np.float64)
    if rises.ndim != 1 or not rises.shape == numbers.shape == weights.shape:
        raise InputError(
            f"Rises came with shape {rises.shape} for {numbers.shape} features and {weights.shape} scales; "
            "expected was one number per feature."
        )
    if not np.isfinite(rises).all() or not (weights > 0).all() or not np.isfinite(weights).all():
        raise InputError("Rises or scales of features are not finite, or a scale is not above 0.")
    if len(np.unique(numbers)) < len(numbers) or not (numbers == feature).any():
        raise InputError(
            f"Feature {feature} was to be ranked among {len(numbers)} features; expected was that it is "
            "among them, and that each comes once."
        )
    place = int(np.flatnonzero(numbers == feature)[0])
    worth = rises * weights
    others = np.delete(rises, place)
    order = np.argsort(-worth, kind="stable")[:most]
    return Rise(
        feature=int(feature),
        own=float(rises[place]),
        others_mean=float(others.mean()) if len(others) else 0.0,
        rank=int((worth >= worth[place]).sum()),
        of=len(numbers),
        top=tuple((int(numbers[one]), float(rises[one])) for one in order),
    )


def _check_features(
    dictionary: FeatureDictionary, features: Sequence[int] | NDArray[np.integer]
) -> NDArray[np.int64]:
    chosen, total = np.asarray(features), dictionary.info.features
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise InputError(f"Features came as {features!r}; expected were one or more whole numbers.")
    if chosen.min() < 0 or chosen.max() >= total:
        raise InputError(
            f"Features {chosen.min()} to {chosen.max()} were asked for; {dictionary.info.name} has 0 to "
            f"{total - 1}."
        )
    return chosen.astype(np.int64)


def _sum_features(dictionary: FeatureDictionary, x: "Tensor", columns: "Tensor") -> "Tensor":
    """[F] float64 sums over rows [R, d] of some features."""
    import torch

    step = max(1, SLICE_BYTES // (4 * dictionary.info.features))
    total = torch.zeros(len(columns), dtype=torch.float64, device=x.device)
    for low in range(0, len(x), step):
        encoded = dictionary.encode(x[low : low + step].to(dictionary.dtype))
        total += encoded[:, columns].sum(0, dtype=torch.float64)
    return total
