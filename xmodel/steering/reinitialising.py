"""Other weights for the layers after the steering site: the null that decides, and damage of known size.

Blocks are copied and the copies are changed, so that the model stays as it is; blocks before the site are
never copied. Every draw is made on the CPU in float32 from the seed and the block's own number: equal for
every device, number format and first block.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from xmodel.errors import InputError
from xmodel.models.structure import find_decoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from xmodel.models.language import LanguageModel

How = Literal["initial", "shuffled"]
"""How weights are made: as the architecture draws them before training, or the trained ones reordered."""


def reinitialise_blocks(
    model: "LanguageModel", start: int, seed: int, how: How = "initial"
) -> "nn.ModuleList":
    """Copies of a model's later blocks that have learned nothing.

    Give the two models of a comparison different seeds: two models of one shape would otherwise get the same
    random layers, and then agree for that reason.

    Args:
        model: the model; it is not changed.
        start: number of the first block that is copied, from 0.
        seed: of all draws; 0 or more.
        how: ``initial`` draws the weights as the architecture itself does before training: its own standard
            deviations, norms that do nothing, biases of zero. ``shuffled`` puts the entries of every tensor
            (norms and biases too) into a random order, so that scales stay those of training.

    Returns:
        blocks `start` to the last, in their order, on the model's device and in its number format. Buffers
        have the model's own values.

    Raises:
        InputError: no such block, a negative seed, an unknown `how`, a model with processed weights or with
            weights that are no floating-point numbers, or an architecture that does not say how it draws some
            weight.
    """
    if how not in get_args(How):
        raise InputError(
            f"layers re-initialised {how!r} were asked for: expected {' or '.join(get_args(How))}."
        )
    if how == "shuffled":
        return _change_blocks(model, start, seed, _shuffle_entries)
    return _change_blocks(model, start, seed, _make_drawing(model))


def add_noise(model: "LanguageModel", start: int, level: float, seed: int) -> "nn.ModuleList":
    """Copies of a model's later blocks with damage of known size: a second model whose truth is known.

    Args:
        model: the model; it is not changed.
        start: number of the first block that is copied, from 0.
        level: standard deviation of the Gaussian noise that is added to each tensor (weights, biases and
            norms), in units of the tensor's own standard deviation; 0 gives equal blocks. A tensor whose
            entries are all equal gets none.
        seed: of all draws; 0 or more.

    Returns:
        blocks `start` to the last, in their order, on the model's device and in its number format.

    Raises:
        InputError: no such block, a negative seed, a level that is negative or not finite, a model with
            processed weights or with weights that are no floating-point numbers.
    """
    if not (math.isfinite(level) and level >= 0):
        raise InputError(f"noise of level {level} was asked for: expected a finite number, 0 or more.")

    def disturb(block: "nn.Module", generator: "torch.Generator") -> None:
        for parameter in block.parameters():
            noise = _draw_normal(parameter, generator)
            exact = parameter.float()
            parameter.copy_(exact + noise * (level * exact.std(correction=0)))

    return _change_blocks(model, start, seed, disturb)


def _change_blocks(
    model: "LanguageModel", start: int, seed: int, change: "Callable[[nn.Module, torch.Generator], None]"
) -> "nn.ModuleList":
    """Copies of blocks `start` to the last, each changed in place with a generator of its own."""
    import torch
    from torch import nn

    if model.processing:
        raise InputError(
            f"{model.name} runs with weights processed by TransformerLens, and its layers cannot be copied "
            "with other weights: use an SAE that was trained on the model as it is stored."
        )
    if not 0 <= start < model.layers:
        raise InputError(
            f"blocks from {start} on were asked for, and {model.name} has {model.layers} blocks, 0 to "
            f"{model.layers - 1}."
        )
    if seed < 0:
        raise InputError(f"the seed {seed} came: expected a whole number, 0 or more.")
    copies = []
    for number, block in enumerate(find_decoder(model.module).blocks):
        if number < start:
            continue
        _check_numbers(model, block)
        copied = deepcopy(block).requires_grad_(False)
        (state,) = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64).tolist()
        generator = torch.Generator().manual_seed(state)
        with torch.no_grad():
            change(copied, generator)
        copies.append(copied)
    return nn.ModuleList(copies).eval()


def _check_numbers(model: "LanguageModel", block: "nn.Module") -> None:
    kinds = {str(one.dtype) for one in block.parameters() if not one.dtype.is_floating_point}
    if kinds:
        raise InputError(
            f"{model.name} has weights of {', '.join(sorted(kinds))}, which is a quantised format: its "
            "layers cannot get other weights. Load it in float32, bfloat16 or float16."
        )


def _shuffle_entries(block: "nn.Module", generator: "torch.Generator") -> None:
    import torch

    for parameter in block.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _draw_normal(like: "Tensor", generator: "torch.Generator") -> "Tensor":
    """Standard normal draws, float32, of a tensor's shape and on its device."""
    import torch

    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.device)


def _make_drawing(model: "LanguageModel") -> "Callable[[nn.Module, torch.Generator], None]":
    """What draws a block's weights as the architecture itself does."""
    decoder: Any = find_decoder(model.module).module
    if not callable(getattr(decoder, "_init_weights", None)):
        raise InputError(
            f"{model.name} is no transformers model that says how its weights are drawn before training: use "
            'layers of which the weights are "shuffled".'
        )

    def draw(block: "nn.Module", generator: "torch.Generator") -> None:
        import torch

        # Drawn on the CPU in float32, whatever the model's own device and format.
        fresh = deepcopy(block).to("cpu", torch.float32)
        for part in fresh.modules():
            _forget_loading(part)
        before = {name: parameter.clone() for name, parameter in fresh.named_parameters()}
        # The architecture draws from the process's own generator, which is lent to it and put back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(generator.get_state())
            fresh.apply(decoder._init_weights)
        drawn = dict(fresh.named_parameters())
        kept = [name for name, old in before.items() if old.ndim > 1 and bool((drawn[name] == old).all())]
        if kept:
            raise InputError(
                f"{model.name} does not say how its weights {', '.join(kept[:3])} are drawn before training: "
                'use layers of which the weights are "shuffled".'
            )
        for name, parameter in block.named_parameters():
            parameter.copy_(drawn[name])

    return draw


def _forget_loading(part: "nn.Module") -> None:
    """Drop the marks by which transformers takes loaded weights for final, and would not draw them again."""
    for marked in (part, *part.parameters(recurse=False), *part.buffers(recurse=False)):
        vars(marked).pop("_is_hf_initialized", None)
