"""Random directions: what a push does that means nothing."""

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError


def draw_directions(count: int, width: int, seed: int) -> NDArray[np.float32]:
    """Draw unit vectors that are equally likely to point anywhere.

    Each is a vector of standard normal numbers, divided by its length (Muller 1959, "A note on a method for
    generating points uniformly on n-dimensional spheres"). The first of many are those of fewer.

    Args:
        count: how many.
        width: d, dimensions.
        seed: of the draw.

    Returns:
        [count, d] rows of length 1.

    Raises:
        InputError: for a negative count, or a width below 1.
    """
    if count < 0 or width < 1:
        raise InputError(
            f"{count} random directions of {width} dimensions were asked for; expected were 0 or more, of at "
            "least 1 dimension."
        )
    rows = np.random.default_rng(seed).standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
