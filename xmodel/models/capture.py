"""Read a model's activations: one forward pass for all sites, stopped after the last of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.sites import Place, locate_site
from xmodel.models.structure import find_decoder

if TYPE_CHECKING:
    import torch

    from xmodel.models.language import LanguageModel


class _AllRead(Exception):
    """Every site has been read, so the rest of the pass is not needed."""


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
    entry, vocabulary = _find_entry(model)
    _check_batch(model, ids, mask, vocabulary)
    if not places or not ids.numel():
        return {
            name: torch.empty((*ids.shape, place.width), dtype=model.dtype, device=model.device)
            for name, place in places.items()
        }
    found: dict[str, torch.Tensor] = {}
    handles = []
    try:
        for name, place in places.items():
            handles.append(_hook(place, _make_keeper(name, found, len(places))))
        with torch.inference_mode():
            entry(**_make_inputs(model, ids, mask, positions))
    except _AllRead:
        pass
    finally:
        for handle in handles:
            handle.remove()
    unread = [name for name in places if name not in found]
    if unread:
        raise InputError(
            f"{model.name} did not come past {unread[0]} in its forward pass, so its activations cannot be "
            "read there; hook_resid_pre and hook_resid_post are always passed."
        )
    return {name: found[name] for name in places}


def _find_entry(model: "LanguageModel") -> tuple[Callable[..., Any], int]:
    """What to call with ids, and how many different ids it knows."""
    module: Any = model.module
    if model.processing:
        # The bridge has put its hook points into the Hugging Face model, which still runs by itself.
        return module.original_model, module.cfg.d_vocab
    decoder = find_decoder(module)
    embedding: Any = decoder.embedding
    return decoder.module, embedding.num_embeddings


def _check_batch(model: "LanguageModel", ids: "torch.Tensor", mask: "torch.Tensor", vocabulary: int) -> None:
    import torch

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


def _make_inputs(
    model: "LanguageModel", ids: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor | None"
) -> dict[str, Any]:
    """The arguments of the forward pass.

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
            raise _AllRead

    return keep


def _hook(place: Place, keep: "Callable[[torch.Tensor], None]") -> Any:
    """Register a hook that passes on the activation at a place; returns its handle."""
    import torch

    def read_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[place.index] if args else kwargs["hidden_states"])

    def read_output(_: Any, __: Any, output: Any) -> None:
        # Blocks and attention return a tensor or a tuple, depending on the version of transformers.
        keep(output if isinstance(output, torch.Tensor) else output[place.index])

    if place.side == "input":
        return place.module.register_forward_pre_hook(read_input, with_kwargs=True)
    return place.module.register_forward_hook(read_output)
