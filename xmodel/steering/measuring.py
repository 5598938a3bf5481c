"""Responses: how the words' Gram matrix after later layers changes when a direction is pushed at the site."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.language import LanguageModel
from xmodel.steering.replaying import Replay, record_pass
from xmodel.steering.responses import remove_copy, split_response

if TYPE_CHECKING:
    import torch
    from torch import nn

CHUNK_BYTES = 1 << 28
"""Most bytes of pushed rows and Gram matrices that are held at one time."""


@dataclass(frozen=True, eq=False)
class SteeredSide:
    """One model over the passages, ready to be pushed."""

    replay: Replay
    """Its clean pass."""
    rows: NDArray[np.int64]
    """[N] passage of every word."""
    columns: NDArray[np.int64]
    """[N] column of its last token."""
    where: "torch.Tensor"
    """[P, T] bool: the tokens that are pushed."""
    reads: tuple[int, ...]
    """The block after which each depth is read; depths of a small model may share one."""
    scale: float
    """Median norm of the clean residual at the site over the words' last tokens: a dose of 1."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks that are read, each once, ascending."""
        return tuple(sorted(set(self.reads)))

    def take(self, activation: "torch.Tensor") -> "torch.Tensor":
        """[..., N, d] the words' rows of [..., P, T, d] activations."""
        import torch

        rows, columns = (torch.from_numpy(one).to(activation.device) for one in (self.rows, self.columns))
        return activation[..., rows, columns, :]


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of some directions, over N words in C cells; M = N (N - 1) / 2."""

    odd: NDArray[np.float32]
    """[n, C, M] what changes sign with the push: the direction's own effect."""
    even: NDArray[np.float32]
    """[n, C, M] what does not: damage."""

    def __len__(self) -> int:
        return len(self.odd)

    def take(self, chosen: NDArray[np.int64] | slice) -> "Responses":
        """Those of some directions."""
        return Responses(self.odd[chosen], self.even[chosen])

    @property
    def raw(self) -> NDArray[np.float32]:
        """[n, C, M] the uncorrected change under the positive push, mostly damage."""
        return self.odd + self.even


def prepare_side(
    model: LanguageModel,
    site: str,
    ids: NDArray[np.int64],
    mask: NDArray[np.bool_],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    reads: Sequence[int],
    *,
    budget: int = 1 << 30,
    blocks: "nn.ModuleList | None" = None,
    special: NDArray[np.bool_] | None = None,
) -> SteeredSide:
    """Run a model over passages once, so that its later layers can be run again under a push.

    Every token after a passage's first is pushed but special ones: the first is BOS, or stands where BOS
    would, and carries a massive activation in most models.

    Args:
        model: the model.
        site: where it is steered.
        ids: [P, T] the passages' tokens.
        mask: [P, T] False for padding.
        rows: [N] passage of every word.
        columns: [N] column of its last token.
        reads: the block after which each depth is read.
        budget: most bytes of the replayed layers' activations.
        blocks: other layers after the site in place of the model's own.
        special: [P, T] tokens that are not pushed, besides padding and the first.

    Raises:
        InputError: as `record_pass`, and for activations that are not finite.
    """
    import torch

    replay = record_pass(
        model,
        torch.from_numpy(ids).to(model.device),
        torch.from_numpy(mask).to(model.device),
        site,
        reads,
        budget=budget,
        blocks=blocks,
    )
    where = replay.mask.clone()
    where[:, 0] = False
    if special is not None:
        where &= ~torch.from_numpy(special).to(model.device)
    side = SteeredSide(replay, rows, columns, where, tuple(reads), 1.0)
    norms = torch.linalg.vector_norm(side.take(replay.hidden), dim=-1, dtype=torch.float32)
    if not bool(torch.isfinite(norms).all()):
        raise InputError(
            f"{model.name} has activations that are not finite at {site}: with --dtype float32 (or bfloat16 "
            "in place of float16) they may be finite; else the weights are damaged."
        )
    return SteeredSide(replay, rows, columns, where, tuple(reads), float(norms.median()))


def measure_responses(
    side: SteeredSide,
    directions: NDArray[np.float32],
    doses: NDArray[np.floating] | Sequence[float],
    *,
    keep_copy: bool = False,
    tick: Callable[[int], None] = lambda count: None,
) -> Iterator[Responses]:
    """Push directions, both ways and at all doses, and compare the words' Gram matrices after later layers.

    The push's own copy on the skip connection is taken away before rows are normalised, as it was realised in
    the model's number format: layers that do nothing give a response of exactly 0.

    Args:
        side: the model over its passages.
        directions: [n, d] unit rows.
        doses: [J], or [n, J] of each direction's own, as shares of `SteeredSide.scale`.
        keep_copy: leave the copy where it is. Only to show what this does: partners are then found by what
            paired them in the first place, with no network behind the site.
        tick: called with the number of directions that are done.

    Returns:
        Some directions at a time, in order; cells are dose by dose, each with all depths.
    """
    strengths = np.broadcast_to(np.asarray(doses, np.float64), (len(directions), np.shape(doses)[-1]))
    width, words, count = directions.shape[1], len(side.rows), strengths.shape[1]
    each = 2 * count * len(side.blocks) * (8 * words * width + 4 * 8 * words * words)
    step = max(1, CHUNK_BYTES // each)
    for low in range(0, len(directions), step):
        own = slice(low, low + step)
        yield _push(side, directions[own], strengths[own], keep_copy)
        tick(len(directions[own]))


def _push(
    side: SteeredSide, directions: NDArray[np.float32], strengths: NDArray[np.float64], keep_copy: bool
) -> Responses:
    import torch

    hidden, count = side.replay.hidden, strengths.shape[1]
    signed = np.stack([strengths, -strengths], axis=2).reshape(-1) * side.scale
    steps = np.repeat(directions, 2 * count, axis=0) * signed[:, None].astype(np.float32)
    pushes = torch.from_numpy(steps).to(hidden.device)

    def make(first: int, stop: int) -> torch.Tensor:
        step = pushes[first:stop, None, None, :] * side.where[..., None]
        return hidden + step.to(hidden.dtype)

    shape = len(directions), count, 2
    read = read_changes(side, make, len(pushes), keep_copy)
    odd, even = [], []
    for block in side.blocks:
        rows = read[block].unflatten(0, shape)
        clean = side.take(side.replay.clean[block])
        first, second = split_response(rows[:, :, 0], rows[:, :, 1], clean)
        odd.append(first.float().numpy(force=True))
        even.append(second.float().numpy(force=True))
    places = [side.blocks.index(block) for block in side.reads]
    return Responses(_order(odd, places), _order(even, places))


def read_changes(
    side: SteeredSide,
    make: "Callable[[int, int], torch.Tensor]",
    count: int,
    keep_copy: bool = False,
) -> "dict[int, torch.Tensor]":
    """Run the later layers under changes of the residual, and read the words without the change's own copy.

    Args:
        side: the model over its passages.
        make: gives the changed residuals [k, P, T, d] of changes ``first`` to ``stop``.
        count: how many changes there are.
        keep_copy: leave the copy where it is.

    Returns:
        by block, [count, N, d] float64 rows.
    """
    import torch

    with torch.inference_mode():
        clean = side.take(side.replay.hidden)
        found: dict[int, list[torch.Tensor]] = {block: [] for block in side.blocks}
        for tile in side.replay.run(make, count):
            pushed = clean if keep_copy else side.take(tile.pushed)
            for block, rows in found.items():
                rows.append(remove_copy(side.take(tile.reads[block]), pushed, clean))
        return {block: torch.cat(rows) for block, rows in found.items()}


def _order(parts: list[NDArray[np.float32]], places: Sequence[int]) -> NDArray[np.float32]:
    """[n, J, M] per block as [n, J * depths, M], each depth with the block that it is read after."""
    stacked = np.stack([parts[place] for place in places], axis=2)
    return stacked.reshape(len(stacked), -1, stacked.shape[-1])
