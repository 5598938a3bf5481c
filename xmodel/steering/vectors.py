"""Steering vectors: values with arithmetic, which say where in which model they are meant to be added."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.sites import parse_site

if TYPE_CHECKING:
    from xmodel.models.language import LanguageModel


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction to push activations along.

    A value: ``a + b``, ``a - b``, ``-a``, ``2 * a`` and ``a / 2`` are new vectors, and ``==`` compares
    numbers, site and model, not what they are called. Vectors are added only where they are of one site,
    width and model; a model that is not known (None) agrees with any.

    Raises:
        InputError: if values are not numbers [d], d >= 1, if one is NaN or infinite in float32, or if the
            site is not the name of one.
    """

    values: NDArray[np.floating[Any]]
    """[d] float32, in the units of the model's activations: a rounded copy of the numbers that were given,
    which cannot be written to."""
    site: str
    """Where it is added: ``blocks.9.hook_resid_post``."""
    model: str | None = None
    """The model that it is made for, as the user writes it; None where that is not known."""
    name: str = ""
    """What it is called in output."""
    architecture: str | None = None
    """The kind of that model, as ``llama`` or ``gpt_neox`` (``model_type`` of its configuration). Written to
    files, never compared."""

    # NumPy would otherwise multiply `np.float32(2) * vector` element by element, into an array of vectors.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        parse_site(self.site)
        object.__setattr__(self, "values", _check_values(self.values, self.name))

    @property
    def width(self) -> int:
        """Dimensions."""
        return len(self.values)

    @property
    def norm(self) -> float:
        """Euclidean norm."""
        return float(np.linalg.norm(self.values.astype(np.float64)))

    def unit(self) -> "SteeringVector":
        """The vector of the same direction and norm 1.

        Raises:
            InputError: if it is zero, and so has no direction.
        """
        norm = self.norm
        if not norm:
            raise InputError(
                f"the steering vector {self.name!r} is zero and has no direction: expected one that is not."
            )
        return replace(self, values=(self.values / norm).astype(np.float32))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SteeringVector):
            return NotImplemented
        same = (self.site, self.model) == (other.site, other.model)
        return same and np.array_equal(self.values, other.values)

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        return self._join(other, "+") if isinstance(other, SteeringVector) else NotImplemented

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        return self._join(other, "-") if isinstance(other, SteeringVector) else NotImplemented

    def __neg__(self) -> "SteeringVector":
        return replace(self, values=-self.values, name=f"-{_enclose(self.name)}")

    def __mul__(self, factor: float) -> "SteeringVector":
        if not isinstance(factor, Real):
            return NotImplemented
        number = self._check_scalar(float(factor), "*")
        return self._scale(self.values.astype(np.float64) * number, f"{number:g} * {_enclose(self.name)}")

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "SteeringVector":
        if not isinstance(divisor, Real):
            return NotImplemented
        number = self._check_scalar(float(divisor), "/")
        if not number:
            raise InputError(f"the steering vector {self.name!r} was divided by 0: expected another number.")
        return self._scale(self.values.astype(np.float64) / number, f"{_enclose(self.name)} / {number:g}")

    def _scale(self, values: NDArray[np.float64], name: str) -> "SteeringVector":
        return replace(self, values=_round(values), name=name)

    def _check_scalar(self, number: float, sign: str) -> float:
        if not math.isfinite(number):
            raise InputError(
                f"{number} came in {self.name!r} {sign} {number}: expected a number that is finite."
            )
        return number

    def _join(self, other: "SteeringVector", sign: str) -> "SteeringVector":
        """The sum or the difference of two vectors, of which the second has something else than the first."""
        both = {
            "site": (self.site, other.site),
            "width": (self.width, other.width),
            "model": (self.model, other.model),
        }
        for what, (mine, its) in both.items():
            if mine is not None and its is not None and mine != its:
                raise InputError(
                    f"{self.name!r} {sign} {other.name!r} cannot be taken: the {what} of the first is {mine}"
                    f", of the second {its}. Expected vectors of one model at one site: carry one of them "
                    "over first."
                )
        first, second = self.values.astype(np.float64), other.values.astype(np.float64)
        name = f"{self.name} {sign} {other.name if sign == '+' else _enclose(other.name)}"
        return replace(
            self,
            values=_round(first + second if sign == "+" else first - second),
            model=self.model if self.model is not None else other.model,
            name=name,
            architecture=self.architecture if self.architecture is not None else other.architecture,
        )


def take_feature(
    decoder: NDArray[np.floating[Any]],
    feature: int,
    site: str,
    model: str | None = None,
    *,
    architecture: str | None = None,
) -> SteeringVector:
    """The vector that a feature writes: its row of the decoder as the dictionary has it, not scaled.

    Args:
        decoder: [F, d] decoder rows; see `xmodel.similarity.decoders.load_decoders`.
        feature: number of the feature, from 0.
        site: where the dictionary reads and writes.
        model: the model that it belongs to.
        architecture: the kind of model; see `name_architecture`.

    Raises:
        InputError: if there is no such feature, or its row is zero.
    """
    vector = sum_features(decoder, [feature], site=site, model=model, architecture=architecture)
    return replace(vector, name=f"feature {feature}")


def sum_features(
    decoder: NDArray[np.floating[Any]],
    features: Sequence[int],
    coefficients: Sequence[float] | None = None,
    *,
    site: str,
    model: str | None = None,
    architecture: str | None = None,
) -> SteeringVector:
    """The sum of some features' decoder rows, each times its coefficient.

    Args:
        decoder: [F, d] decoder rows, taken as they are: a coefficient is an activation of the feature.
        features: numbers of the features, from 0, at least one.
        coefficients: one per feature; None for 1 each.
        site: where the dictionary reads and writes.
        model: the model that it belongs to.
        architecture: the kind of model; see `name_architecture`.

    Raises:
        InputError: if there is no feature, one that is not in the decoder, a number of coefficients other
            than that of the features, or if the sum is zero.
    """
    count = len(decoder)
    unknown = [one for one in features if not 0 <= one < count]
    if unknown or not features:
        raise InputError(
            f"{f'the feature {unknown[0]}' if unknown else 'no feature'} came: expected one or more, from "
            f"0 to {count - 1}."
        )
    weights = np.ones(len(features)) if coefficients is None else np.array(coefficients, dtype=np.float64)
    if weights.shape != (len(features),):
        raise InputError(
            f"{len(features)} features and coefficients of shape {weights.shape} came: expected one "
            "coefficient per feature."
        )
    values = _round(weights @ np.asarray(decoder)[list(features)].astype(np.float64))
    name = " + ".join(
        f"{_spell_factor(weight)}feature {one}" for one, weight in zip(features, weights, strict=True)
    )
    if not values.any():
        raise InputError(
            f"{name} is zero, and pushes nowhere: expected features whose decoder rows are not zero and do "
            "not cancel. A zero row is that of a feature which training never used."
        )
    return SteeringVector(values, site, model, name, architecture)


def find_output_block(site: str) -> int | None:
    """The block at whose output a push at a site arrives unchanged in the residual stream.

    Returns:
        the number of the block, from 0; -1 for what the first block reads; None for a site that is not in the
        residual stream or is changed on its way to the block's output. What is added to ``hook_mlp_out`` goes
        into the stream as it is.

    Raises:
        InputError: if it is not the name of a site.
    """
    place = parse_site(site)
    return {
        "hook_resid_pre": place.block - 1,
        "hook_resid_post": place.block,
        "hook_mlp_out": place.block,
    }.get(place.kind)


def name_architecture(model: "LanguageModel") -> str:
    """The kind of a model as its configuration has it, for instance ``gpt_neox``, as repeng writes it."""
    module: Any = model.module
    # TransformerLens' bridge has the Hugging Face model inside, whose configuration says what it is.
    return str((module.original_model if model.processing else module).config.model_type)


def _check_values(given: Any, name: str) -> NDArray[np.float32]:
    """A copy in float32 that cannot be written to."""
    array = np.asarray(given)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        raise InputError(
            f"the steering vector {name!r} came as {array.dtype} of shape {list(array.shape)}: expected real "
            "numbers of shape [d], one per dimension of the model's activations."
        )
    values = _round(array)
    if not np.isfinite(values).all():
        raise InputError(
            f"the steering vector {name!r} has {int((~np.isfinite(values)).sum())} numbers that are NaN, "
            "infinite or too large for float32: expected finite ones."
        )
    values.flags.writeable = False
    return values


def _round(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _enclose(name: str) -> str:
    return f"({name})" if re.search(r" [-+*/] ", name) or name.startswith("-") else name


def _spell_factor(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} * "
