"""Responses to ablation: a feature is decoded to zero wherever it fires."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.models.saes import FeatureDictionary
from xmodel.steering.changes import silence_feature
from xmodel.steering.measuring import Responses, SteeredSide, read_changes
from xmodel.steering.responses import center_gram, normalise_gram, pack_gram

if TYPE_CHECKING:
    import torch

CHUNK = 16
"""Features that are ablated at one time."""


def collect_ablations(
    side: SteeredSide,
    dictionary: FeatureDictionary,
    features: Sequence[int] | NDArray[np.integer[Any]],
    *,
    tick: Callable[[int], None] = lambda count: None,
) -> Responses:
    """How the words' Gram matrix changes when features are decoded to zero where they fire.

    The change of the residual itself is taken away before reading, as that of a push is: layers that do
    nothing give exactly 0. An ablation has no other sign, so its whole response stands for the odd one.

    Args:
        side: the model over its passages.
        dictionary: whose features.
        features: their numbers; of one that fires on no pushed token the response is 0.
        tick: called with the number of features that are done.

    Returns:
        one cell per depth.
    """
    found = []
    places = [side.blocks.index(block) for block in side.reads]
    clean = _read_clean(side)
    for low in range(0, len(features), CHUNK):
        own = [int(feature) for feature in features[low : low + CHUNK]]

        touched = np.zeros(len(own), dtype=np.bool_)

        def make(
            first: int, stop: int, own: list[int] = own, touched: NDArray[np.bool_] = touched
        ) -> "torch.Tensor":
            changed = _silence(side, dictionary, own[first:stop])
            moved = (changed != side.replay.hidden).flatten(1).any(1)
            touched[first:stop] = moved.numpy(force=True)
            return changed

        read = read_changes(side, make, len(own))
        packed = []
        for block in side.blocks:
            response = pack_gram(center_gram(normalise_gram(read[block]) - clean[block]))
            # Layers round otherwise in a larger batch, and what they make of no change is no response.
            packed.append(np.where(touched[:, None], response.float().numpy(force=True), np.float32(0)))
        found.append(np.stack([packed[place] for place in places], axis=1))
        tick(len(own))
    odd = np.concatenate(found)
    return Responses(odd, np.zeros_like(odd))


def _read_clean(side: SteeredSide) -> "dict[int, torch.Tensor]":
    return {block: normalise_gram(side.take(side.replay.clean[block])) for block in side.blocks}


def _silence(side: SteeredSide, dictionary: FeatureDictionary, features: list[int]) -> "torch.Tensor":
    """[k, P, T, d] residuals without each feature."""
    import torch

    hidden = side.replay.hidden
    own = side.replay.activation[side.where].to(dictionary.dtype)
    encoded = dictionary.encode(own)
    changed = hidden.unsqueeze(0).repeat(len(features), 1, 1, 1)
    for number, feature in enumerate(features):
        step = silence_feature(own, dictionary, feature, encoded).to(torch.float64) - own.to(torch.float64)
        changed[number][side.where] = (hidden[side.where].to(torch.float64) + step).to(hidden.dtype)
    return changed
