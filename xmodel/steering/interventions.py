"""Interventions on a live model: context managers that change an activation wherever it is computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.capture import hook_place
from xmodel.models.saes import FeatureDictionary
from xmodel.models.sites import locate_site, site_width
from xmodel.steering.changes import add_vector, project_out_direction, set_feature
from xmodel.steering.vectors import SteeringVector

if TYPE_CHECKING:
    from torch import Tensor

    from xmodel.models.language import LanguageModel


@contextmanager
def add(
    model: "LanguageModel",
    site: str,
    vector: "Tensor | NDArray[np.floating[Any]] | SteeringVector",
    *,
    where: "Tensor | None" = None,
) -> Iterator[None]:
    """Add a vector to the activations at a site, while the context lasts.

    It holds for every pass of the model: the user's own, `capture` and text generation. Nothing is left
    behind afterwards, also after an exception. Contexts may be nested; the outer one acts first.

    Args:
        model: the model, whose weights stay as they are.
        site: any site that the model has; see `xmodel.models.sites`.
        vector: [d] what is added.
        where: [B, T] bool, the tokens that are changed; None for all tokens, padding too.

    Raises:
        InputError: if the model has no such site or the vector is not d finite numbers; and from inside the
            pass, if `where` is not of the batch's shape.
    """
    moved = _check_vector(model, site, vector).to(model.dtype).to(model.device)
    with _change(model, site, where, lambda x, where: add_vector(x, moved, where)):
        yield


@contextmanager
def project_out(
    model: "LanguageModel",
    site: str,
    vector: "Tensor | NDArray[np.floating[Any]] | SteeringVector",
    *,
    where: "Tensor | None" = None,
) -> Iterator[None]:
    """Take what activations have along a vector [d] out of them, while the context lasts; the vector's length
    means nothing. Otherwise as `add`.

    Raises:
        InputError: as `add`, and if the vector is 0.
    """
    direction = _check_vector(model, site, vector)
    length = direction.norm()
    if not float(length) > 0:
        raise InputError(f"a vector of zeros came to be projected out at {site}: it has no direction.")
    unit = (direction / length).to(model.dtype).to(model.device)
    with _change(model, site, where, lambda x, where: project_out_direction(x, unit, where)):
        yield


@contextmanager
def ablate_feature(
    model: "LanguageModel",
    dictionary: FeatureDictionary,
    feature: int,
    *,
    site: str | None = None,
    where: "Tensor | None" = None,
) -> Iterator[None]:
    """Set a feature to 0 wherever it fires, while the context lasts.

    What the dictionary decodes is exchanged for what it decodes without the feature, so that its
    reconstruction error is left in place; tokens on which the feature is 0 are left as they are.

    Args:
        model: the model, whose weights stay as they are.
        dictionary: an SAE or a baseline.
        feature: the feature's number.
        site: where; None for the site that the dictionary names.
        where: [B, T] bool, the tokens that may be changed; None for all.

    Raises:
        InputError: if there is no such site or feature, the dictionary is of another width or on another
            device; and from inside the pass, if `where` is not of the batch's shape.
    """
    with clamp_feature(model, dictionary, feature, 0.0, site=site, where=where):
        yield


@contextmanager
def clamp_feature(
    model: "LanguageModel",
    dictionary: FeatureDictionary,
    feature: int,
    value: float,
    *,
    site: str | None = None,
    where: "Tensor | None" = None,
) -> Iterator[None]:
    """Set a feature to a value, in the dictionary's own units, on all tokens, while the context lasts.

    Otherwise as `ablate_feature`.

    Raises:
        InputError: as `ablate_feature`, and if the value is not finite.
    """
    place = _check_feature(model, dictionary, feature, site)
    if not np.isfinite(value):
        raise InputError(f"the value {value} came for feature {feature}: expected a finite number.")

    def clamp(x: "Tensor", where: "Tensor | None") -> "Tensor":
        if where is None:
            return set_feature(x.flatten(0, -2), dictionary, feature, value).view_as(x)
        changed = x.clone()
        changed[where] = set_feature(x[where], dictionary, feature, value)
        return changed

    with _change(model, place, where, clamp):
        yield


@contextmanager
def _change(
    model: "LanguageModel",
    site: str,
    where: "Tensor | None",
    act: "Callable[[Tensor, Tensor | None], Tensor]",
) -> Iterator[None]:
    """Exchange the activation [B, T, d] at a site, in every pass, for what `act` makes of it and `where`."""
    import torch

    chosen = None if where is None else where.to(model.device)

    def check_and_act(x: "Tensor") -> "Tensor":
        if chosen is not None and (chosen.shape != x.shape[:-1] or chosen.dtype != torch.bool):
            raise InputError(
                f"where of shape {tuple(chosen.shape)} and {chosen.dtype} came for a batch of "
                f"{tuple(x.shape[:-1])} tokens at {site}: expected one truth value (bool) per token."
            )
        return act(x, chosen)

    handle = hook_place(locate_site(model, site), check_and_act)
    try:
        yield
    finally:
        handle.remove()


def _check_vector(
    model: "LanguageModel", site: str, vector: "Tensor | NDArray[np.floating[Any]] | SteeringVector"
) -> "Tensor":
    """A vector [d] in float64 on the host: not every device has float64."""
    import torch

    width = site_width(model, site)
    given = vector.values.copy() if isinstance(vector, SteeringVector) else vector
    tensor = torch.as_tensor(given).to("cpu", torch.float64)
    if tuple(tensor.shape) != (width,) or not bool(tensor.isfinite().all()):
        raise InputError(
            f"a vector of shape {tuple(tensor.shape)} came for {site} of {model.name}: expected {width} "
            "finite numbers."
        )
    return tensor


def _check_feature(
    model: "LanguageModel", dictionary: FeatureDictionary, feature: int, site: str | None
) -> str:
    """The site at which a feature is changed."""
    info = dictionary.info
    place = site or info.site
    if place is None:
        raise InputError(f"{info.name} does not say at which site it reads: name one (site=...).")
    width = site_width(model, place)
    if info.width != width:
        raise InputError(
            f"{info.name} reads {info.width} dimensions, and {place} of {model.name} has {width}: the "
            "dictionary is of another site or model."
        )
    if not 0 <= feature < info.features:
        raise InputError(
            f"feature {feature} came, and {info.name} has the features 0 to {info.features - 1}."
        )
    if dictionary.decoder.device != model.device:
        raise InputError(
            f"{info.name} is on {dictionary.decoder.device} and {model.name} on {model.device}: load both on "
            "the same device."
        )
    return place
