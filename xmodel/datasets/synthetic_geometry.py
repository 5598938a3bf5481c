"""Where the features of a simulated model lie: independent of each other, in clusters, or on rings."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arrangement = Literal["isotropic", "clustered", "circular"]


def draw_directions(
    groups: NDArray[np.int64],
    angles: NDArray[np.float64],
    arrangement: Arrangement,
    strength: float,
    width: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Unit vectors in an arrangement.

    A direction is sqrt(strength) times its group's part and sqrt(1 - strength) times a random direction of
    its own: so two of a cluster have a cosine of about `strength`, two of a ring that times the cosine of the
    angle between them, and all others about 0.

    Args:
        groups: [F] cluster or ring of each.
        angles: [F] place on the ring, in radians.
        arrangement: which.
        strength: 0 to 1.
        width: d.
        rng: the random numbers.

    Returns:
        [F, d]
    """
    own = make_unit(rng.normal(size=(len(groups), width)))
    if arrangement == "isotropic" or not len(groups):
        return own
    count = int(groups.max()) + 1
    first = make_unit(rng.normal(size=(count, width)))
    second = rng.normal(size=(count, width))
    second = make_unit(second - (second * first).sum(axis=1, keepdims=True) * first)
    # In a cluster all angles are 0, which leaves the first of the two.
    common = np.cos(angles)[:, None] * first[groups] + np.sin(angles)[:, None] * second[groups]
    return make_unit(np.sqrt(strength) * common + np.sqrt(1 - strength) * own)


def draw_embedding(common: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[common, d] a random rotation of the shared space into a model's width; rows are orthonormal."""
    q, r = np.linalg.qr(rng.normal(size=(width, common)))
    # Without the signs the rotation would not be uniform (Mezzadri 2007, section 5).
    return (q * np.sign(np.diag(r))).T


def blur(directions: NDArray[np.float64], noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add a random vector of about the length `noise` to each direction, and bring it back to length 1."""
    added = rng.normal(size=directions.shape) * (noise / np.sqrt(directions.shape[1]))
    return make_unit(directions + added).astype(np.float32)


def make_unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same directions with length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
