"""Read a model's activations: one forward pass for all sites, stopped after the last of them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.sites import Place, locate_site
from xmodel.models.structure import Decoder, find_decoder

if TYPE_CHECKING:
    import torch

    from xmodel.models.language import LanguageModel


class PassEnd(Exception):
    """What a hook raises when the rest of a pass is not needed."""


def capture(
    model: "LanguageModel",
    ids: "torch.Tensor",
    mask: "torch.Tensor",
    sites: Sequence[str],
    *,
    positions: "torch.Tensor | None" = None,
) -> "dict[str, torch.Tensor]":
    """Read the activations at some sites in one forward pass.

    The language model's head never runs, nor do blocks after the last site. Hooks are gone afterwards, also
    after an exception. What is not finite is not looked for.

    Args:
        model: the model.
        ids: [B, T] int64 token ids, on any device; padding may have any id of the vocabulary.
        mask: [B, T] bool, False for padding, which may stand left or right (or both) of the tokens.
        sites: names of sites; see `xmodel.models.sites`.
        positions: [B, T] int64 position of every token; None for the number of real tokens before it, which
            places padding where the last real token is.

    Returns:
        one [B, T, d] tensor per site, in the order given, on the model's device and in its dtype, as the
        model computed it and without a copy. Rows where `mask` is False mean nothing. They are inference
        tensors: clone them before using them with autograd, and do not change them in place.

    Raises:
        InputError: if a site is unknown or not in this model, if ids and mask do not fit each other, or if
            the batch is wider than the model's context or has ids beyond its vocabulary.
    """
    import torch

    places = {name: locate_site(model, name) for name in sites}
    check_batch(model, ids, mask)
    if not places or not ids.numel():
        return {
            name: torch.empty((*ids.shape, place.width), dtype=model.dtype, device=model.device)
            for name, place in places.items()
        }
    found: dict[str, torch.Tensor] = {}
    with ExitStack() as hooks:
        for name, place in places.items():
            hooks.callback(hook_place(place, _make_keeper(name, found, len(places))).remove)
        run_pass(model, ids, mask, positions)
    unread = [name for name in places if name not in found]
    if unread:
        raise InputError(
            f"{model.name} did not come past {unread[0]} in its forward pass, so its activations cannot be "
            "read there; hook_resid_pre and hook_resid_post are always passed."
        )
    return {name: found[name] for name in places}


def run_pass(
    model: "LanguageModel",
    ids: "torch.Tensor",
    mask: "torch.Tensor",
    positions: "torch.Tensor | None" = None,
) -> None:
    """Run a model's decoder, without its head, until it ends or a hook raises `PassEnd`.

    Args:
        model: the model; what is to be read or changed is for the caller's hooks.
        ids: [B, T] int64, as `capture`.
        mask: [B, T] bool, as `capture`.
        positions: [B, T] int64, as `capture`.

    Raises:
        InputError: as `check_batch`.
    """
    import torch

    check_batch(model, ids, mask)
    # The bridge has put its hook points into the Hugging Face model, which still runs by itself.
    run: Any = model.module.original_model if model.processing else find_model_decoder(model).module
    try:
        with torch.inference_mode():
            run(**make_inputs(model, ids, mask, positions))
    except PassEnd:
        pass


def find_model_decoder(model: "LanguageModel") -> Decoder:
    """The decoder that runs in a pass: of the Hugging Face model, which with `processing` is in the bridge.

    Raises:
        InputError: as `find_decoder`.
    """
    module: Any = model.module
    return find_decoder(module.original_model if model.processing else module)


def check_batch(model: "LanguageModel", ids: "torch.Tensor", mask: "torch.Tensor") -> None:
    """Refuse ids and a mask that do not fit each other or the model.

    Raises:
        InputError: if they are not [B, T] int64 and bool, wider than the model's context, or if there are ids
            beyond its vocabulary.
    """
    import torch

    embedding: Any = None if model.processing else find_decoder(model.module).embedding
    bridge: Any = model.module
    vocabulary = int(bridge.cfg.d_vocab if embedding is None else embedding.num_embeddings)
    if ids.ndim != 2 or ids.dtype != torch.int64 or mask.dtype != torch.bool or mask.shape != ids.shape:
        raise InputError(
            f"ids of shape {tuple(ids.shape)} and {ids.dtype} with a mask of shape {tuple(mask.shape)} and "
            f"{mask.dtype} came: expected int64 ids [B, T] and a bool mask of the same shape."
        )
    if model.context is not None and ids.shape[1] > model.context:
        raise InputError(
            f"a batch {ids.shape[1]} tokens wide came, and {model.name} takes at most {model.context}: cut "
            "the texts into windows that fit."
        )
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocabulary):
        raise InputError(
            f"token ids from {int(ids.min())} to {int(ids.max())} came, and {model.name} knows 0 to "
            f"{vocabulary - 1}: the tokenizer is not this model's."
        )


def make_inputs(
    model: "LanguageModel",
    ids: "torch.Tensor",
    mask: "torch.Tensor",
    positions: "torch.Tensor | None" = None,
) -> dict[str, Any]:
    """The arguments of a forward pass, on the model's device, for ids, mask and positions as in `capture`.

    Without padding there is no mask, so that attention may take its fastest way.
    """
    whole = bool(mask.all())
    mask = mask.to(model.device)
    if positions is None:
        positions = (mask.cumsum(1) - 1).clamp_(min=0)
    return {
        "input_ids": ids.to(model.device),
        "attention_mask": None if whole else mask,
        "position_ids": positions.to(model.device),
        "use_cache": False,
    }


def _make_keeper(
    name: str, found: "dict[str, torch.Tensor]", wanted: int
) -> "Callable[[torch.Tensor], None]":
    """What a hook calls with an activation: keep it, and stop once there is nothing more to read."""

    def keep(activation: "torch.Tensor") -> None:
        found[name] = activation
        if len(found) == wanted:
            raise PassEnd

    return keep


def hook_place(place: Place, act: "Callable[[torch.Tensor], torch.Tensor | None]") -> Any:
    """Register a hook that passes on the activation at a place, and may change it.

    Args:
        place: where, as `locate_site` gives it.
        act: is called with the activation [B, T, d]. What it returns, if not None, takes its place; what else
            the submodule was given or returned beside it stays.

    Returns:
        the handle, whose ``remove()`` ends it.
    """
    import torch

    def act_on_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        changed = act(args[place.index] if args else kwargs["hidden_states"])
        if changed is None:
            return None
        if args:
            return _exchange(args, place.index, changed), kwargs
        return args, {**kwargs, "hidden_states": changed}

    def act_on_output(_: Any, __: Any, output: Any) -> Any:
        # Blocks and attention return a tensor or a tuple, depending on the version of transformers.
        if isinstance(output, torch.Tensor):
            return act(output)
        changed = act(output[place.index])
        return None if changed is None else _exchange(output, place.index, changed)

    if place.side == "input":
        return place.module.register_forward_pre_hook(act_on_input, with_kwargs=True)
    return place.module.register_forward_hook(act_on_output)


def _exchange(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])
