"""What an intervention does to activations: functions from tensors to tensors."""

from typing import TYPE_CHECKING

from xmodel.models.saes import FeatureDictionary

if TYPE_CHECKING:
    from torch import Tensor

SLICE_BYTES = 1 << 28
"""Most bytes of features that are held at one time."""


def add_vector(x: "Tensor", vector: "Tensor", where: "Tensor | None" = None) -> "Tensor":
    """Activations [..., d] with a vector [d] added, in the same dtype.

    `where` [...] bool says at which tokens; None for all. The others stay as they are, bit for bit.
    """
    return _choose(x, x + vector, where)


def project_out_direction(x: "Tensor", direction: "Tensor", where: "Tensor | None" = None) -> "Tensor":
    """Activations [..., d] without what they have along a unit direction [d]: x - (x . u) u.

    `where` as for `add_vector`.
    """
    return _choose(x, x - (x @ direction).unsqueeze(-1) * direction, where)


def silence_feature(
    x: "Tensor", dictionary: FeatureDictionary, feature: int, encoded: "Tensor | None" = None
) -> "Tensor":
    """Activations without a feature: what its dictionary decodes is exchanged for what it decodes when the
    feature is 0, and its reconstruction error is left in place.

    Args:
        x: [n, d] activations.
        dictionary: the dictionary that the feature is of.
        feature: its number.
        encoded: [n, F] what the dictionary encodes of `x`, if that is known.

    Returns:
        [n, d] in the dtype of `x`: rows on which the feature is 0 are as they were, bit for bit.
    """
    return set_feature(x, dictionary, feature, 0.0, encoded)


def set_feature(
    x: "Tensor",
    dictionary: FeatureDictionary,
    feature: int,
    value: float,
    encoded: "Tensor | None" = None,
) -> "Tensor":
    """Activations on which a feature has a value, in the dictionary's own units: x + decode(f with the value)
    - decode(f), so that the reconstruction error is left in place.

    Arguments as for `silence_feature`. Rows on which the feature has that value already are as they were, bit
    for bit.
    """
    changed = x.clone()
    step = max(1, SLICE_BYTES // (3 * dictionary.info.features * dictionary.dtype.itemsize))
    for low in range(0, len(x), step):
        own = slice(low, low + step)
        f = dictionary.encode(x[own].to(dictionary.dtype)) if encoded is None else encoded[own]
        rows = (f[:, feature] != value).nonzero()[:, 0]
        if len(rows):
            changed[low + rows] += _decode_step(x[own][rows], dictionary, f[rows], feature, value)
    return changed


def _decode_step(
    x: "Tensor", dictionary: FeatureDictionary, f: "Tensor", feature: int, value: float
) -> "Tensor":
    """[n, d] decode(f with the value) - decode(f), in the dtype of x."""
    like = x.to(dictionary.dtype)
    edited = f.clone()
    edited[:, feature] = value
    return (dictionary.decode(edited, like=like) - dictionary.decode(f, like=like)).to(x.dtype)


def _choose(x: "Tensor", changed: "Tensor", where: "Tensor | None") -> "Tensor":
    import torch

    return changed if where is None else torch.where(where.unsqueeze(-1), changed, x)
