"""How blocks were called in a pass, so that they can be called again with other residuals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class BlockCall:
    """One block and what it was called with, but for the residual that it read."""

    block: "nn.Module"
    """What is called."""
    args: tuple[Any, ...]
    """The positional arguments after the residual: masks, positions and flags."""
    kwargs: dict[str, Any]
    """The named arguments, without the residual."""
    by_name: bool
    """Whether the residual is given by name, as ``hidden_states``, and not first of all."""
    rows: int
    """P: passages of the batch."""

    def run(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """The residual [rows, T, d] after the block, from the residual [rows, T, d] that it reads."""
        import torch

        if self.by_name:
            output = self.block(*self.args, hidden_states=hidden, **self.kwargs)
        else:
            output = self.block(hidden, *self.args, **self.kwargs)
        return output if isinstance(output, torch.Tensor) else output[0]


def note_call(
    block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]
) -> "tuple[torch.Tensor, BlockCall]":
    """The residual that a block was called with, and the call without it."""
    if args:
        return args[0], BlockCall(block, args[1:], dict(kwargs), False, len(args[0]))
    rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
    hidden = kwargs["hidden_states"]
    return hidden, BlockCall(block, (), rest, True, len(hidden))


def repeat_calls(calls: Sequence[BlockCall], times: int) -> list[BlockCall]:
    """The calls for a batch `times` as large: its first P rows are the passages, and so are the next P.

    Tensors with as many rows as there are passages, and two dimensions or more, are repeated; what several
    blocks share is repeated once.
    """
    done: dict[int, Any] = {}
    return [
        replace(
            call,
            args=_repeat(call.args, call.rows, times, done),
            kwargs=_repeat(call.kwargs, call.rows, times, done),
            rows=call.rows * times,
        )
        for call in calls
    ]


def run_calls(
    calls: Sequence[BlockCall], hidden: "torch.Tensor", start: int, reads: Sequence[int]
) -> "dict[int, torch.Tensor]":
    """The residuals [n, T, d] after the blocks in `reads`, from the residual [n, T, d] that block `start`
    reads, which the first of the calls is of."""
    found = {}
    for block, call in enumerate(calls, start):
        hidden = call.run(hidden)
        if block in reads:
            found[block] = hidden
    return found


def measure_calls(calls: Iterable[BlockCall]) -> int:
    """Bytes that the calls' arguments need for every repetition."""
    import torch

    tensors: dict[int, torch.Tensor] = {}
    for call in calls:
        _collect((call.args, call.kwargs), call.rows, tensors)
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())


def _repeat(value: Any, rows: int, times: int, done: dict[int, Any]) -> Any:
    if times == 1:
        return value
    if isinstance(value, dict):
        return {name: _repeat(inner, rows, times, done) for name, inner in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_repeat(inner, rows, times, done) for inner in value)
    if not _belongs_to_rows(value, rows):
        return value
    if id(value) not in done:
        done[id(value)] = value.repeat(times, *[1] * (value.ndim - 1))
    return done[id(value)]


def _collect(value: Any, rows: int, found: "dict[int, torch.Tensor]") -> None:
    if isinstance(value, dict):
        value = tuple(value.values())
    if type(value) in (tuple, list):
        for inner in value:
            _collect(inner, rows, found)
    elif _belongs_to_rows(value, rows):
        found[id(value)] = value


def _belongs_to_rows(value: Any, rows: int) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.ndim >= 2 and len(value) == rows
