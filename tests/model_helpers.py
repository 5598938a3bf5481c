"""What the tests of models share: where sites are, written by hand, and batches."""

from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import KINDS, tiny_model

from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.models.sites import list_sites

# Where the sites are, written by hand for every architecture: path inside a block and side.
LLAMA = {
    "hook_resid_pre": ("", "input"),
    "hook_resid_mid": ("post_attention_layernorm", "input"),
    "hook_resid_post": ("", "output"),
    "hook_attn_out": ("self_attn", "output"),
    "hook_mlp_out": ("mlp", "output"),
    "attn.hook_z": ("self_attn.o_proj", "input"),
    "mlp.hook_post": ("mlp.down_proj", "input"),
}


GEMMA2 = {
    **LLAMA,
    "hook_resid_mid": ("pre_feedforward_layernorm", "input"),
    "hook_attn_out": ("post_attention_layernorm", "output"),
    "hook_mlp_out": ("post_feedforward_layernorm", "output"),
}


NEOX_SERIAL = {
    **LLAMA,
    "hook_attn_out": ("attention", "output"),
    "attn.hook_z": ("attention.dense", "input"),
    "mlp.hook_post": ("mlp.dense_4h_to_h", "input"),
}


NEOX = {kind: place for kind, place in NEOX_SERIAL.items() if kind != "hook_resid_mid"}


GPT2 = {
    **LLAMA,
    "hook_resid_mid": ("ln_2", "input"),
    "hook_attn_out": ("attn", "output"),
    "attn.hook_z": ("attn.c_proj", "input"),
    "mlp.hook_post": ("mlp.c_proj", "input"),
}


GPT_NEO = {**GPT2, "attn.hook_z": ("attn.attention.out_proj", "input")}


PLACES: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "neox": ("gpt_neox.layers", NEOX),
    "neox-serial": ("gpt_neox.layers", NEOX_SERIAL),
    "gpt2": ("transformer.h", GPT2),
    "gpt-neo": ("transformer.h", GPT_NEO),
    "gemma": ("model.layers", LLAMA),
    "gemma2": ("model.layers", GEMMA2),
    "gemma3": ("model.layers", GEMMA2),
    "gemma3-multimodal": ("model.language_model.layers", GEMMA2),
    "llama2": ("model.layers", LLAMA),
    "llama3": ("model.layers", LLAMA),
    "mistral": ("model.layers", LLAMA),
    "qwen2": ("model.layers", LLAMA),
    "qwen3": ("model.layers", LLAMA),
}


GATED = {"gemma", "gemma2", "gemma3", "gemma3-multimodal", "llama2", "llama3", "mistral", "qwen2", "qwen3"}


EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@cache
def load(kind: str) -> LanguageModel:
    return wrap_language_model(tiny_model(kind), name=kind, digest="none")


def make_batch(rows: int = 2, width: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 90, (rows, width), generator=torch.Generator().manual_seed(seed))
    return ids, torch.ones_like(ids, dtype=torch.bool)


def list_all(model: LanguageModel) -> list[str]:
    return [name for block in range(model.layers) for name in list_sites(model, block)]


def read_by_hand(module: Any, path: str, side: str, ids: torch.Tensor) -> torch.Tensor:
    """One activation, by a hook on a submodule named by its path, in a pass of the whole model."""
    found = []

    def read_input(_: Any, args: Any, kwargs: Any) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    def read_output(_: Any, __: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    target = module.get_submodule(path)
    if side == "input":
        handle = target.register_forward_pre_hook(read_input, with_kwargs=True)
    else:
        handle = target.register_forward_hook(read_output)
    with torch.no_grad():
        module(ids)
    handle.remove()
    (activation,) = found
    return activation


def count_hooks(module: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def pad(ids: torch.Tensor, left: int, right: int, filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    padded = torch.nn.functional.pad(ids, (left, right), value=filler)
    mask = torch.nn.functional.pad(torch.ones_like(ids, dtype=torch.bool), (left, right), value=False)
    return padded, mask
