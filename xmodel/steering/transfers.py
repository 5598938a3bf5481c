"""Transfer: how alike the responses of A's and of B's directions are, over words that both models read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.steering.measuring import Responses, SteeredSide, measure_responses
from xmodel.steering.responses import correlate_responses, measure_norms

Visit = Callable[[int, Responses], None]
"""Called with the number of a chunk's first direction and its responses, which are then let go."""


@dataclass(frozen=True, eq=False)
class Transfers:
    """T of every direction of A with every direction of B."""

    odd: NDArray[np.float32]
    """[C, n_A, n_B] of the odd responses: the statistic."""
    even: NDArray[np.float32]
    """[C, n_A, n_B] of the even responses: how far damage agrees."""
    norms_odd: NDArray[np.float32]
    """[n_B, C] size of B's odd responses."""
    norms_even: NDArray[np.float32]
    """[n_B, C] size of B's even responses."""


def collect_responses(
    side: SteeredSide,
    directions: NDArray[np.float32],
    doses: NDArray[np.floating] | Sequence[float],
    *,
    keep_copy: bool = False,
    tick: Callable[[int], None] = lambda count: None,
) -> Responses:
    """All responses of some directions at once; see `measure_responses`."""
    parts = list(measure_responses(side, directions, doses, keep_copy=keep_copy, tick=tick))
    return Responses(np.concatenate([one.odd for one in parts]), np.concatenate([one.even for one in parts]))


def measure_transfers(
    first: Responses,
    side: SteeredSide,
    directions: NDArray[np.float32],
    doses: NDArray[np.floating] | Sequence[float],
    *,
    keep_copy: bool = False,
    visit: Visit = lambda first, responses: None,
    tick: Callable[[int], None] = lambda count: None,
) -> Transfers:
    """Push B's directions and compare each response with all of A's; B's are not kept.

    Args:
        first: A's responses.
        side: B over the same words.
        directions: [n_B, d_B] unit rows.
        doses: [J], or [n_B, J], as many as A's responses have.
        keep_copy: see `measure_responses`.
        visit: sees every chunk of B's responses.
        tick: called with the number of directions that are done.
    """
    found, begin = [], 0
    for own in measure_responses(side, directions, doses, keep_copy=keep_copy, tick=tick):
        found.append(compare_responses(first, own))
        visit(begin, own)
        begin += len(own)
    return join_transfers(found)


def compare_responses(first: Responses, second: Responses) -> Transfers:
    """T of all of A's responses with all of B's, cell by cell."""
    cells = range(first.odd.shape[1])
    odd, even = (
        np.stack([correlate_responses(x[:, c], y[:, c]) for c in cells]).astype(np.float32)
        for x, y in ((first.odd, second.odd), (first.even, second.even))
    )
    return Transfers(odd, even, *(measure_norms(own).astype(np.float32) for own in (second.odd, second.even)))


def join_transfers(parts: Sequence[Transfers]) -> Transfers:
    """Transfers to further directions of B, one after another."""
    return Transfers(
        np.concatenate([one.odd for one in parts], axis=2),
        np.concatenate([one.even for one in parts], axis=2),
        np.concatenate([one.norms_odd for one in parts]),
        np.concatenate([one.norms_even for one in parts]),
    )
