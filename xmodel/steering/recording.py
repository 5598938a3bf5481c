"""Record how a clean pass calls the blocks after a site, and check that they can be run by themselves."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.capture import PassEnd, find_model_decoder, hook_place, run_pass
from xmodel.models.sites import Place, locate_site, parse_site
from xmodel.steering.block_calls import BlockCall, note_call, repeat_calls, run_calls

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xmodel.models.language import LanguageModel

# Equal shapes give equal bits, but where a device adds up in an order of its own.
_TOLERANCE = 16
_CHECKED = 16
# How much longer than a residual an input is beside which what a block adds should come to nothing.
_LONG = 1e5
_MOST_ADDED = 0.005


def record_calls(
    model: "LanguageModel", ids: "Tensor", mask: "Tensor", site: str, start: int, reads: Sequence[int]
) -> "tuple[Tensor, Tensor, list[BlockCall], dict[int, Tensor]]":
    """Run a clean pass, up to the last of the blocks in `reads` (ascending, none before `start`).

    Returns:
        the residual [P, T, d] that block `start` reads; the activation [P, T, d] at the site; how each block
        from `start` on was called; and the residual [P, T, d] after each block in `reads`.
    """
    hidden: list[Tensor] = []
    activation: list[Tensor] = []
    calls: list[BlockCall] = []
    clean: dict[int, Tensor] = {}

    def note(block: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        residual, call = note_call(block, args, kwargs)
        calls.append(call)
        hidden[:] = hidden or [residual]

    with ExitStack() as hooks:
        if parse_site(site).kind == "hook_mlp_out":
            hooks.callback(hook_place(locate_site(model, site), activation.append).remove)
        for block in find_model_decoder(model).blocks[start : reads[-1] + 1]:
            hooks.callback(block.register_forward_pre_hook(note, with_kwargs=True).remove)
        _hook_outputs(model, reads, clean, hooks)
        run_pass(model, ids, mask)
    return hidden[0], (activation or hidden)[0], calls, clean


def _hook_outputs(
    model: "LanguageModel", reads: Sequence[int], found: "dict[int, Tensor]", hooks: ExitStack
) -> None:
    """Keep the residuals after some blocks, and end the pass after the last of them."""
    blocks = find_model_decoder(model).blocks

    def hook(number: int) -> None:
        def keep(_: Any, __: Any, output: Any) -> None:
            found[number] = output[0] if isinstance(output, tuple) else output
            if number == reads[-1]:
                raise PassEnd

        hooks.callback(blocks[number].register_forward_hook(keep).remove)

    for number in reads:
        hook(number)


def check_clean(
    model: "LanguageModel",
    mask: "Tensor",
    calls: Sequence[BlockCall],
    hidden: "Tensor",
    clean: "dict[int, Tensor]",
    start: int,
) -> None:
    """Compare the residuals of a clean pass with those of the blocks run by themselves.

    Raises:
        InputError: if they differ, or are not finite.
    """
    _compare(model, mask.to(hidden.device), run_calls(calls, hidden, start, tuple(clean)), clean)


def check_changed(
    model: "LanguageModel", ids: "Tensor", mask: "Tensor", site: str, start: int, reads: Sequence[int]
) -> None:
    """Compare blocks run by themselves on two versions of a few tokens with a pass of the whole model whose
    residual a hook changes: what the blocks hand on to each other beside the residual is seen so.

    Raises:
        InputError: if they differ, or are not finite.
    """
    longest = int(mask.sum(1).argmax())
    ids = ids[longest][mask[longest]][None, :_CHECKED]
    mask = ids >= 0
    hidden, _, calls, _ = record_calls(model, ids, mask, site, start, reads)
    # Another direction too: norms take out a change of length alone.
    pushed = hidden.repeat(2, 1, 1)
    pushed[1] += hidden[0].roll(1, -1) / 2
    twice = mask.repeat(2, 1)
    expected: dict[int, Tensor] = {}

    blocks = find_model_decoder(model).blocks
    # Where a block gives the residual out, so that all who read it, not the next block alone, see it changed.
    place = (
        Place(blocks[start - 1], "output", 0, model.width)
        if start
        else Place(blocks[0], "input", 0, model.width)
    )
    with ExitStack() as hooks:
        hooks.callback(hook_place(place, lambda _: pushed).remove)
        _hook_outputs(model, reads, expected, hooks)
        run_pass(model, ids.repeat(2, 1), twice)
    # Whatever blocks have kept is of other tokens now.
    run_pass(model, ids.roll(1, 1).repeat(2, 1), twice)
    found = run_calls(repeat_calls(calls, 2), pushed, start, reads)
    _compare(model, twice.to(hidden.device), found, expected)
    _check_skip(model, calls, hidden, start)


def _check_skip(model: "LanguageModel", calls: Sequence[BlockCall], hidden: "Tensor", start: int) -> None:
    """See that blocks carry their input on as it is and add to it: else a push's own copy is not the push.

    What a block with a norm before each part adds does not grow with its input, so that for a very long input
    it comes to nothing beside it. A block that scales or normalises the stream itself is told by that.

    Raises:
        InputError: for such a block.
    """
    import torch

    limit = torch.finfo(model.dtype)
    factor = min(_LONG, limit.max / 64 / float(hidden.abs().max().clamp(min=1)))
    if factor < _LONG / 100:
        return  # float16 reaches no further; float32 and bfloat16 of the same model tell.
    long = hidden * factor
    for number, call in enumerate(calls, start):
        after = run_calls([call], long, number, (number,))[number]
        away = (after - long).float().norm(dim=-1) / long.float().norm(dim=-1).clamp(min=1e-30)
        if not bool((away <= _MOST_ADDED + 4 * limit.eps).all()):
            raise InputError(
                f"block {number} of {model.name} does not carry its input on unchanged (it scales or "
                "normalises the residual stream, or what it adds grows with it), so that a push's own copy "
                "cannot be taken out of what comes after it: models with norms before attention and MLP, "
                "such as GPT-2, GPT-NeoX, Llama, Qwen, Mistral and Gemma 1 to 3, can be steered."
            )


def _compare(
    model: "LanguageModel", mask: "Tensor", found: "dict[int, Tensor]", expected: "dict[int, Tensor]"
) -> None:
    """Refuse a model whose blocks, run by themselves, give other residuals at real tokens."""
    import torch

    exact = torch.promote_types(model.dtype, torch.float32)
    for block, residual in expected.items():
        first, second = found[block][mask].to(exact), residual[mask].to(exact)
        if not bool(second.isfinite().all()):
            raise InputError(
                f"the residuals of {model.name} after block {block} are not finite: use --dtype float32 or "
                "bfloat16, which reach further than float16."
            )
        allowed = _TOLERANCE * torch.finfo(model.dtype).eps * second.norm(dim=-1)
        if not bool(((first - second).norm(dim=-1) <= allowed).all()):
            raise InputError(
                f"the blocks of {model.name} give other residuals when they are run by themselves (first "
                f"seen after block {block}): they hand on more than the residual to each other, or keep a "
                "state, so that its later layers cannot be replayed."
            )
