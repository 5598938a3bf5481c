"""Find the parts of a language model by structure: the decoder, its blocks, and what a block is made of.

The names below are names of submodules, as the Hugging Face implementations of GPT-NeoX, GPT-2, GPT-Neo,
Gemma, Llama, Qwen and Mistral use them. A block whose parts are others is refused where they matter: the same
site read at the wrong place would give numbers that look right.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xmodel.errors import InputError

if TYPE_CHECKING:
    from torch import nn

_ATTENTIONS = ("self_attn", "attention", "attn")
_ATTENTION_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense")
_MLP_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h")

# The norms of a block in the order in which it applies them.
_PRE_NORMS = (("input_layernorm", "post_attention_layernorm"), ("ln_1", "ln_2"))
_SANDWICH_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


@dataclass(frozen=True, eq=False)
class Decoder:
    """The part of a language model that maps token ids to the residual stream: no head, no vision tower."""

    module: "nn.Module"
    """What is called with ``input_ids``; it owns the token embedding and the blocks."""
    embedding: "nn.Module"
    """The token embedding."""
    blocks: "nn.ModuleList"
    """The transformer blocks, first to last."""


@dataclass(frozen=True, eq=False)
class BlockParts:
    """What a transformer block is made of; None for what it has not or what is not known."""

    attention: "nn.Module | None"
    """Attention, its output projection included."""
    attention_projection: "nn.Module | None"
    """The attention's output projection."""
    mlp: "nn.Module | None"
    """The MLP."""
    mlp_projection: "nn.Module | None"
    """The MLP's last projection."""
    norms: Literal["pre", "sandwich", "unknown"]
    """``pre``: one norm before attention and one before the MLP. ``sandwich``: before and after each."""
    attention_norm: "nn.Module | None"
    """The norm after attention; only in ``sandwich``."""
    mlp_pre_norm: "nn.Module | None"
    """The norm before the MLP."""
    mlp_post_norm: "nn.Module | None"
    """The norm after the MLP; only in ``sandwich``."""
    parallel: bool
    """Whether attention and MLP both read the block's input (GPT-NeoX's parallel residual)."""


def find_decoder(module: "nn.Module") -> Decoder:
    """The decoder: the submodule that owns both the token embedding and the one list of blocks.

    Raises:
        InputError: if there is no such submodule, or more than one list of blocks in it.
    """
    from torch import nn

    kind = type(module).__name__
    asked: Any = module
    if not hasattr(module, "get_input_embeddings"):
        raise InputError(
            f"a {kind} came where a language model was expected: give a Hugging Face causal language model."
        )
    embedding = asked.get_input_embeddings()
    found = []
    for owner in module.modules():
        children = list(owner.children())
        if any(child is embedding for child in children):
            lists = [child for child in children if isinstance(child, nn.ModuleList) and _holds_blocks(child)]
            found += [(owner, blocks) for blocks in lists]
    if len(found) != 1:
        raise InputError(
            f"the structure of a {kind} is not known: expected one list of transformer blocks (each with "
            f"attention under one of the names {', '.join(_ATTENTIONS)}) beside the token embedding, and "
            f"there are {len(found)}. Known are GPT-NeoX, GPT-2, GPT-Neo, Gemma 1-3, Llama, Qwen 2 and 3 and "
            "Mistral, as transformers implements them."
        )
    owner, blocks = found[0]
    return Decoder(owner, embedding, blocks)


def _holds_blocks(modules: "nn.ModuleList") -> bool:
    return len(modules) > 0 and all(_find_child(block, _ATTENTIONS) is not None for block in modules)


def _find_child(module: "nn.Module", names: tuple[str, ...]) -> "nn.Module | None":
    """The child under the first of the names that is there."""
    children = dict(module.named_children())
    return next((children[name] for name in names if name in children), None)


def find_parts(block: "nn.Module") -> BlockParts:
    """Tell the parts of a block by the names of its submodules."""
    attention = _find_child(block, _ATTENTIONS)
    # GPT-Neo puts one more module around its attention.
    inner = attention and (_find_child(attention, _ATTENTIONS) or attention)
    mlp = _find_child(block, ("mlp",))
    children = dict(block.named_children())
    names = list_norms(block)
    pre = next((known for known in _PRE_NORMS if set(known) == set(names)), None)
    sandwich = set(names) == set(_SANDWICH_NORMS)
    return BlockParts(
        attention=attention,
        attention_projection=inner and _find_child(inner, _ATTENTION_PROJECTIONS),
        mlp=mlp,
        mlp_projection=mlp and _find_child(mlp, _MLP_PROJECTIONS),
        norms="pre" if pre else "sandwich" if sandwich else "unknown",
        attention_norm=children[_SANDWICH_NORMS[1]] if sandwich else None,
        mlp_pre_norm=children[pre[1]] if pre else children[_SANDWICH_NORMS[2]] if sandwich else None,
        mlp_post_norm=children[_SANDWICH_NORMS[3]] if sandwich else None,
        parallel=bool(getattr(block, "use_parallel_residual", False)),
    )


def list_norms(block: "nn.Module") -> list[str]:
    """Names of a block's children other than attention, MLP and dropout: its norms, or what is not known."""
    from torch import nn

    known = {*_ATTENTIONS, "mlp"}
    return [
        name
        for name, child in block.named_children()
        if name not in known and not isinstance(child, nn.Dropout | nn.Identity)
    ]


def measure_input(projection: "nn.Module") -> int:
    """The width of what a linear projection reads."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(projection, nn.Linear):
        return projection.in_features
    if isinstance(projection, Conv1D):
        return projection.nx
    raise InputError(
        f"the width of a {type(projection).__name__} is not known: expected a Linear or GPT-2's Conv1D."
    )
