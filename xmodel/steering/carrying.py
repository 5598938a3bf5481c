"""Carry a steering vector from one model to another through the pairs of features."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.errors import InputError
from xmodel.steering.vectors import SteeringVector

_NOTHING_LEFT = 1e-6
"""Share of the vector's norm below which what is left is the rounding of float32."""
_UNRELATED = 1e-5
"""Cosine with what is left below which a decoder row has nothing to do with it."""


@dataclass(frozen=True, eq=False)
class Carried:
    """A vector of model A as features of A, and the same features' partners as a vector of model B."""

    vector: SteeringVector
    """B's vector."""
    expressed: SteeringVector
    """What A's chosen features express of A's vector: its projection onto their decoder rows."""
    features_a: NDArray[np.int32]
    """[k] features of A in the order in which they were chosen, each once."""
    features_b: NDArray[np.int32]
    """[k] their partners."""
    coefficients: NDArray[np.float64]
    """[k] of A's unit decoder rows; negative where the vector pushes against the feature."""
    share: float
    """Norm of what is expressed over the norm of A's vector, 0 to 1. A random vector of d dimensions reaches
    sqrt(k / d) and more, since the best k of many features are chosen."""
    cosine: float
    """Between A's vector and what is expressed; equal to `share` but for rounding, it being a projection."""
    stretch: float
    """Norm of B's vector over `scale` times the norm of what is expressed: 1 where B's rows stand at the same
    angles to each other as A's, near 0 where the partners cancel."""


def carry_by_pairs(
    vector: SteeringVector,
    decoder_a: NDArray[np.floating[Any]],
    decoder_b: NDArray[np.floating[Any]],
    a: ArrayLike,
    b: ArrayLike,
    sign: ArrayLike | None = None,
    *,
    site: str,
    model: str | None = None,
    architecture: str | None = None,
    most: int = 32,
    scale: float = 1.0,
) -> Carried:
    """Express a vector of A sparsely in its paired features, and put their partners in their place.

    The features are chosen by orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad, 1993) over unit
    decoder rows: in turn the one whose row has the largest absolute cosine with what is left, after which all
    coefficients are fitted anew by least squares. It ends after `most` features, or when nothing is left, or
    when no row has anything to do with what is left. Each feature becomes its partner's unit decoder row,
    times its coefficient, the sign of the pair and `scale`.

    Args:
        vector: of A.
        decoder_a: [F_A, d_A] decoder rows of A's dictionary.
        decoder_b: [F_B, d_B] those of B's.
        a: [n] features of A in pairs, the best pair first: of a feature in several pairs the first counts.
            Pairs with a decoder row of zeros are passed over.
        b: [n] their partners.
        sign: [n] the sign of each pair's correlation, 1 or -1; None for 1.
        site: where B's dictionary reads and writes.
        model: B's name.
        architecture: B's kind; see `xmodel.steering.vectors.name_architecture`.
        most: features at most, at least 1.
        scale: units of B per unit of A, positive.

    Returns:
        B's vector and what it is made of.

    Raises:
        InputError: if widths do not fit, a feature is not in its decoder, there is no pair, the vector is
            zero, or no paired feature has anything to do with it.
    """
    check_width(vector, decoder_a.shape[1], "the decoder rows of A's dictionary")
    if not (math.isfinite(scale) and scale > 0) or most < 1:
        raise InputError(f"scale {scale} and most {most} came: expected a positive scale, and at least 1.")
    first, second, signs = _check_pairs(a, b, sign, len(decoder_a), len(decoder_b))
    if not vector.norm:
        raise InputError(f"the steering vector {vector.name!r} is zero: there is nothing to carry over.")
    kept = _find_usable(decoder_a, decoder_b, first, second)
    rows_a, rows_b = _take_units(decoder_a, first[kept]), _take_units(decoder_b, second[kept])
    chosen, coefficients = _pursue(rows_a, vector.values.astype(np.float64), most)
    if not len(chosen):
        raise InputError(
            f"the steering vector {vector.name!r} has nothing to do with the decoder rows of the {len(kept)} "
            "paired features of A: expected a vector of the same model and site as the dictionary, and pairs."
        )
    kept = kept[chosen]
    expressed = SteeringVector(
        coefficients @ rows_a[chosen].astype(np.float64),
        vector.site,
        vector.model,
        f"what features express of {vector.name}",
        vector.architecture,
    )
    carried = scale * (coefficients * signs[kept]) @ rows_b[chosen].astype(np.float64)
    return Carried(
        vector=SteeringVector(carried, site, model, vector.name, architecture),
        expressed=expressed,
        features_a=first[kept].astype(np.int32),
        features_b=second[kept].astype(np.int32),
        coefficients=coefficients,
        share=min(expressed.norm / vector.norm, 1.0),
        cosine=float(vector.unit().values.astype(np.float64) @ expressed.unit().values),
        stretch=float(np.linalg.norm(carried)) / (scale * expressed.norm),
    )


def check_width(vector: SteeringVector, width: int, what: str) -> None:
    """Raise `InputError` where a vector has another width than what it is taken apart by."""
    if vector.width != width:
        raise InputError(
            f"the steering vector {vector.name!r} has {vector.width} dimensions, and {what} have {width}: "
            "expected a vector of that model and site."
        )


def _check_pairs(
    a: ArrayLike, b: ArrayLike, sign: ArrayLike | None, count_a: int, count_b: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    first, second = np.asarray(a), np.asarray(b)
    signs = np.ones(first.shape) if sign is None else np.asarray(sign, dtype=np.float64)
    shapes = {first.shape, second.shape, signs.shape}
    if len(shapes) > 1 or first.ndim != 1 or not first.size or not (np.abs(signs) == 1).all():
        raise InputError(
            f"pairs came as features of shapes {list(first.shape)} and {list(second.shape)} with signs of "
            f"shape {list(signs.shape)}: expected as many of each, at least one, and signs that are 1 or -1."
        )
    for features, count, letter in ((first, count_a, "A"), (second, count_b, "B")):
        unknown = features[(features < 0) | (features >= count)]
        if features.dtype.kind not in "iu" or unknown.size:
            raise InputError(
                f"the feature {unknown[0] if unknown.size else features[0]} of {letter} came in a pair: "
                f"expected 0 to {count - 1}. The pairs may be those of another run."
            )
    return first.astype(np.int64), second.astype(np.int64), signs


def _find_usable(
    decoder_a: NDArray[Any], decoder_b: NDArray[Any], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of the pairs whose rows both have a direction, the first pair of each feature of A."""
    usable = np.flatnonzero(decoder_a[first].any(1) & decoder_b[second].any(1))
    _, places = np.unique(first[usable], return_index=True)
    return usable[np.sort(places)]


def _take_units(decoder: NDArray[Any], features: NDArray[np.int64]) -> NDArray[np.float32]:
    """[n, d] decoder rows of norm 1."""
    rows = decoder[features].astype(np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _pursue(
    rows: NDArray[np.float32], target: NDArray[np.float64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Orthogonal matching pursuit over unit rows [m, d]: which rows, and their coefficients."""
    chosen: list[int] = []
    coefficients = np.zeros(0)
    norm = float(np.linalg.norm(target))
    left = target
    while len(chosen) < min(most, len(rows)):
        size = float(np.linalg.norm(left))
        if size <= _NOTHING_LEFT * norm:
            break
        cosines = np.abs(rows @ (left / size).astype(np.float32))
        # Rows already taken are orthogonal to what is left but for rounding, which must not take them again.
        cosines[chosen] = 0
        best = int(cosines.argmax())
        if cosines[best] < _UNRELATED:
            break
        chosen.append(best)
        atoms = rows[chosen].astype(np.float64)
        coefficients = np.asarray(np.linalg.lstsq(atoms.T, target, rcond=None)[0], dtype=np.float64)
        left = target - coefficients @ atoms
    return np.array(chosen, dtype=np.int64), coefficients
