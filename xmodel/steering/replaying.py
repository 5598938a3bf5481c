"""Run the layers after a site again and again, with other residuals, from one clean pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from xmodel.errors import InputError
from xmodel.models.capture import find_model_decoder
from xmodel.models.sites import locate_site, parse_site
from xmodel.steering.block_calls import BlockCall, repeat_calls, run_calls
from xmodel.steering.memory import is_out_of_memory, measure_change
from xmodel.steering.recording import check_changed, check_clean, record_calls

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from xmodel.models.language import LanguageModel

CPU_BYTES = 1 << 25
"""What a tile takes at most on a CPU: larger ones leave its caches and were measured to be slower."""

_STREAM = {"hook_resid_pre": -1, "hook_resid_post": 0, "hook_mlp_out": 0}


@dataclass(frozen=True, eq=False)
class Tile:
    """The residuals of some changes, which ran together."""

    first: int
    """The first of the changes."""
    stop: int
    """The one after the last; k = stop - first."""
    pushed: "Tensor"
    """[k, P, T, d] changed residual that the first replayed block read."""
    reads: "dict[int, Tensor]"
    """For every block that is read, [k, P, T, d] residual after it."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A clean pass over some passages, from which the layers after a site can be run again.

    All tensors are on the model's device, in its dtype, and inference tensors; rows where `mask` is False
    mean nothing.
    """

    model: "LanguageModel"
    """The model, which is left as it is."""
    site: str
    """Where residuals are changed."""
    start: int
    """The first block that is run again: the one after the site."""
    last: int
    """The last block that is run again: the last that is read."""
    hidden: "Tensor"
    """[P, T, d] clean residual that block `start` reads."""
    activation: "Tensor"
    """[P, T, d] clean activation at the site: `hidden` for residual sites, else what the MLP adds."""
    clean: "dict[int, Tensor]"
    """For every block that is read, [P, T, d] clean residual after it."""
    mask: "Tensor"
    """[P, T] bool, False for padding."""
    budget: int
    """Bytes that a tile may take, with all that is alive while it runs."""
    calls: tuple[BlockCall, ...]
    """Blocks `start` to `last` as they were called."""

    def run(self, make: "Callable[[int, int], Tensor]", count: int) -> Iterator[Tile]:
        """Run the later blocks on changed residuals, as many changes at a time as the budget allows.

        A tile whose memory runs out is halved and made again, and no later one is larger.

        Args:
            make: gives the changed residuals [k, P, T, d] that block `start` reads, for changes first to
                stop (not included), on the model's device and in its dtype. It may be asked for the same
                change more than once, and must then give the same.
            count: how many changes there are.

        Raises:
            InputError: if a single change needs more than the budget, or more than there is.
        """
        size = self.plan_tile()
        repeated: dict[int, list[BlockCall]] = {}
        first = 0
        while first < count:
            stop = min(first + size, count)
            tile = self._try(make, first, stop, repeated)
            if tile is not None:
                yield tile
                first = stop
                continue
            if stop - first == 1:
                raise InputError(self._explain_memory())
            size = (stop - first) // 2
            repeated.clear()
            _free(self.hidden.device)

    @property
    def needed(self) -> int:
        """Bytes that a single change takes, with all that is alive while it runs."""
        passages, tokens, _ = self.hidden.shape
        return measure_change(self.model, self.calls, passages=passages, tokens=tokens, reads=len(self.clean))

    def plan_tile(self) -> int:
        """How many changes run together, at least 1.

        Raises:
            InputError: if the budget is not enough for one.
        """
        needed = self.needed
        if needed > self.budget:
            passages, tokens, _ = self.hidden.shape
            raise InputError(
                f"running the later layers of {self.model.name} on {passages} passages of {tokens} tokens "
                f"takes about {needed:,} bytes for a single change, and the budget is {self.budget:,}: raise "
                "the budget, or use fewer words."
            )
        useful = self.budget if self.hidden.device.type != "cpu" else min(self.budget, CPU_BYTES)
        return max(1, useful // needed)

    def _try(
        self,
        make: "Callable[[int, int], Tensor]",
        first: int,
        stop: int,
        repeated: dict[int, list[BlockCall]],
    ) -> Tile | None:
        """One tile, or None where memory ran out; `repeated` keeps the calls for this size of it."""
        import torch

        count = stop - first
        try:
            with torch.inference_mode():
                if count not in repeated:
                    repeated.clear()  # Frees the old arguments before new ones are made.
                    repeated[count] = repeat_calls(self.calls, count)
                pushed = make(first, stop)
                self._check_pushed(pushed, count)
                reads = run_calls(repeated[count], pushed.flatten(0, 1), self.start, tuple(self.clean))
                return Tile(first, stop, pushed, {r: x.view(pushed.shape) for r, x in reads.items()})
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _check_pushed(self, pushed: "Tensor", count: int) -> None:
        wanted = (count, *self.hidden.shape)
        if tuple(pushed.shape) != wanted or pushed.dtype != self.hidden.dtype:
            raise InputError(
                f"changed residuals of shape {tuple(pushed.shape)} and {pushed.dtype} came: expected "
                f"{wanted} and {self.hidden.dtype}."
            )

    def _explain_memory(self) -> str:
        passages, tokens, _ = self.hidden.shape
        return (
            f"memory ran out on {self.hidden.device} while the later layers of {self.model.name} ran on a "
            f"single change of {passages} passages of {tokens} tokens: use fewer words, another --device, or "
            "--dtype bfloat16."
        )


def record_pass(
    model: "LanguageModel",
    ids: "Tensor",
    mask: "Tensor",
    site: str,
    reads: Sequence[int],
    *,
    budget: int = 1 << 30,
    blocks: "nn.ModuleList | None" = None,
) -> Replay:
    """Run a clean pass up to the last read-out, and keep what is needed to run the blocks after a site again.

    Before anything is returned, the blocks are run again and compared with the pass: once with the clean
    residual, and once on one passage with another residual against a pass of the whole model that is changed
    by a hook. A model whose blocks pass anything but the residual on to each other is so refused.

    Args:
        model: the model. Its language model's head does not run.
        ids: [P, T] int64 token ids; padding may have any id of the vocabulary.
        mask: [P, T] bool, False for padding, which may stand left or right of the tokens.
        site: a site of the residual stream; see `find_stream_block`.
        reads: the blocks after which the residual is read, each above the site; they may repeat.
        budget: bytes that running the blocks again may take.
        blocks: other modules to run in the place of the model's blocks from the first after the site on, at
            least to the last read-out: called with the same arguments, they give the `clean` residuals too.

    Raises:
        InputError: if the site is none of the residual stream, a read-out is not above it or not in the
            model, the batch does not fit the model (as `capture`), residuals are not finite, memory runs out,
            or the blocks cannot be run by themselves.
    """
    start = find_stream_block(model, site) + 1
    wanted = sorted(set(reads))
    if not wanted or wanted[0] < start or wanted[-1] >= model.layers:
        raise InputError(
            f"read-outs after the blocks {list(reads)} came: expected at least one, none before block "
            f"{start}, the first after {site}, and none after block {model.layers - 1}, the last of "
            f"{model.name}."
        )
    own = find_model_decoder(model).blocks[start : wanted[-1] + 1]
    if blocks is not None and len(blocks) < len(own):
        raise InputError(
            f"{len(blocks)} blocks came to stand for those of {model.name} from block {start} to block "
            f"{wanted[-1]}: expected at least {len(own)}."
        )
    import torch

    try:
        with torch.inference_mode():
            hidden, activation, calls, clean = record_calls(model, ids, mask, site, start, wanted)
            check_clean(model, mask, calls, hidden, clean, start)
            check_changed(model, ids, mask, site, start, wanted)
            if blocks is not None:
                calls = [replace(call, block=block) for call, block in zip(calls, blocks, strict=False)]
                clean = run_calls(calls, hidden, start, wanted)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"memory ran out on {model.device} in a pass of {model.name} over {len(ids)} passages of "
            f"{ids.shape[1]} tokens: use fewer words, another --device, or --dtype bfloat16."
        ) from error
    mask = mask.to(model.device)
    return Replay(model, site, start, wanted[-1], hidden, activation, clean, mask, budget, tuple(calls))


def find_stream_block(model: "LanguageModel", site: str) -> int:
    """The block l whose output is changed by a change at a site: the block before it for hook_resid_pre (-1
    for that of block 0), else its own, since what the MLP adds goes straight into the block's output.

    Raises:
        InputError: if the model has no such site, or the site is none of these three.
    """
    locate_site(model, site)
    place = parse_site(site)
    if place.kind not in _STREAM:
        raise InputError(
            f"{site} cannot be steered: expected a site whose change goes straight into the residual stream "
            f"between two blocks, {', '.join(f'blocks.{{i}}.{kind}' for kind in _STREAM)}."
        )
    return place.block + _STREAM[place.kind]


def choose_reads(model: "LanguageModel", site: str, depths: Sequence[float]) -> tuple[int, ...]:
    """The blocks after which residuals are read, at fractions of the depth that remains after a site.

    With l as `find_stream_block` gives it and L blocks, a fraction x is block l + round(x (L - 1 - l)),
    halves upwards, and at least l + 1.

    Returns:
        one block per depth, in their order; in a model with few layers the same may come more than once.

    Raises:
        InputError: if a depth is not above 0 and at most 1, there is none, or no block comes after the site.
    """
    block = find_stream_block(model, site)
    rest = model.layers - 1 - block
    if rest < 1:
        raise InputError(
            f"{site} cannot be steered: no block of {model.name} comes after it, and what a push does is "
            f"read after later blocks. The last site that can be steered is "
            f"blocks.{model.layers - 1}.hook_resid_pre."
        )
    wrong = [depth for depth in depths if not 0 < depth <= 1]
    if wrong or not depths:
        raise InputError(
            f"the depths {', '.join(map(str, depths)) or '(none)'} came: expected fractions of the layers "
            "that remain after the site, above 0 and at most 1, for instance 0.25,0.5,0.75."
        )
    return tuple(block + max(1, int(np.floor(depth * rest + 0.5))) for depth in depths)


def _free(device: "torch.device") -> None:
    """Give a GPU's cached memory back, which may be in pieces too small for what failed."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
