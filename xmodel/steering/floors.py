"""What rounding alone makes of a response."""

import numpy as np
from numpy.typing import NDArray

from xmodel.steering.measuring import SteeredSide
from xmodel.steering.responses import measure_norms
from xmodel.steering.transfers import collect_responses

DIRECTIONS = 8
"""Directions that are pushed by next to nothing."""


def measure_floor(side: SteeredSide, vectors: NDArray[np.float32], doses: int) -> NDArray[np.float64]:
    """[C] the largest odd response to pushes so small that all they do is to make numbers round otherwise.

    A push of exactly 0 would show nothing: both of its signs are the same numbers.

    Args:
        side: the model over its passages.
        vectors: [n, d] unit directions, of which the first `DIRECTIONS` are pushed.
        doses: how many doses the cells have.
    """
    found = collect_responses(side, vectors[:DIRECTIONS], [find_floor_dose(side)] * doses)
    return measure_norms(found.odd).max(axis=0)


def find_floor_dose(side: SteeredSide) -> float:
    """An eighth of the rounding of the model's number format: the push itself does far less than that."""
    import torch

    return torch.finfo(side.replay.hidden.dtype).eps / 8
