"""Sites: the places in a language model where activations are read, under the field's names."""

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from xmodel.errors import InputError
from xmodel.models.structure import BlockParts, Decoder, find_decoder, find_parts, list_norms, measure_input

if TYPE_CHECKING:
    from torch import nn

    from xmodel.models.language import LanguageModel

KINDS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_z",
    "mlp.hook_post",
)
"""What can stand after ``blocks.{i}.``, named as in TransformerLens, in the order in which a block has them
but for the last two, which are inside attention and MLP."""

_SITE = re.compile(r"blocks\.(0|[1-9][0-9]{0,5})\.(.+)", re.ASCII)


@dataclass(frozen=True)
class Site:
    """One site of one block."""

    name: str
    """As TransformerLens writes it: ``blocks.9.hook_resid_post``."""
    block: int
    """Number of the block, from 0."""
    kind: str
    """One of `KINDS`."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a site is in a model: the input or the output of a submodule."""

    module: "nn.Module"
    """The submodule."""
    side: Literal["input", "output"]
    """Which side of it."""
    index: int
    """Which of the positional inputs, or which of the outputs where it returns a tuple."""
    width: int
    """Dimensions of an activation there; attention heads are flattened."""


def parse_site(text: str) -> Site:
    """Read a site's name.

    Raises:
        InputError: if it is none of the known forms, which are then listed, the nearest first.
    """
    match = _SITE.fullmatch(text)
    if match and match[2] in KINDS:
        return Site(text, int(match[1]), match[2])
    block = re.search("[0-9]+", text)
    known = [f"blocks.{int(block[0]) if block else '{i}'}.{kind}" for kind in KINDS]
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(
        f"{text!r} is not a site that can be read.{hint} Expected one of "
        f"{', '.join(f'blocks.{{i}}.{kind}' for kind in KINDS)}, with the number of the block, from 0, for "
        "{i}."
    )


def locate_site(model: "LanguageModel", site: Site | str) -> Place:
    """Find a site in a model.

    For GPT-NeoX (serial or parallel), GPT-2, GPT-Neo, Gemma 1-3, Llama, Qwen 2 and 3 and Mistral this follows
    TransformerLens' `HookedTransformer`: ``hook_resid_post`` is the output of the block, ``hook_attn_out``
    and ``hook_mlp_out`` are what is added to the residual stream (after Gemma 2's and 3's post-norms),
    ``hook_resid_mid`` is what the norm before the MLP reads, ``attn.hook_z`` is what attention's output
    projection reads and ``mlp.hook_post`` what the MLP's last projection reads.

    Raises:
        InputError: if the block is out of range or the architecture has no such site.
    """
    site = parse_site(site) if isinstance(site, str) else site
    if site.block >= model.layers:
        raise InputError(
            f"the site {site.name} is out of range: {model.name} has {model.layers} blocks, 0 to "
            f"{model.layers - 1}."
        )
    if model.processing:
        from xmodel.models.processed import locate_hook_point

        return locate_hook_point(model, site)
    return _find_place(model, find_decoder(model.module), site)


def _find_place(model: "LanguageModel", decoder: Decoder, site: Site) -> Place:
    block = decoder.blocks[site.block]
    parts = find_parts(block)
    places: dict[str, tuple[nn.Module | None, Literal["input", "output"]]] = {
        "hook_resid_pre": (block, "input"),
        "hook_resid_mid": (None if parts.parallel else parts.mlp_pre_norm, "input"),
        "hook_resid_post": (block, "output"),
        "hook_attn_out": (_choose_output(parts, parts.attention, parts.attention_norm), "output"),
        "hook_mlp_out": (_choose_output(parts, parts.mlp, parts.mlp_post_norm), "output"),
        "attn.hook_z": (parts.attention_projection, "input"),
        "mlp.hook_post": (parts.mlp_projection, "input"),
    }
    module, side = places[site.kind]
    if module is None:
        raise InputError(_explain_lack(model, block, parts, site))
    inside = site.kind in ("attn.hook_z", "mlp.hook_post")
    return Place(module, side, 0, measure_input(module) if inside else model.width)


def _choose_output(
    parts: BlockParts, branch: "nn.Module | None", norm: "nn.Module | None"
) -> "nn.Module | None":
    """What is added to the residual stream: a branch of the block, after its own norm where it has one."""
    return {"pre": branch, "sandwich": norm, "unknown": None}[parts.norms]


def _explain_lack(model: "LanguageModel", block: "nn.Module", parts: BlockParts, site: Site) -> str:
    if parts.parallel and site.kind == "hook_resid_mid":
        return (
            f"{model.name} has no {site.name}: its attention and MLP both read the block's input (parallel "
            "residual), so there is no residual stream between them. Use hook_resid_pre or hook_resid_post."
        )
    return (
        f"{model.name} has no {site.name} that is known: its blocks ({type(block).__name__}) consist of "
        f"{', '.join(name for name, _ in block.named_children())}, and what the norms "
        f"{', '.join(list_norms(block)) or '(none)'} or the projections do there is not known to xmodel. "
        "hook_resid_pre and hook_resid_post are always there."
    )


def site_width(model: "LanguageModel", site: Site | str) -> int:
    """Dimensions of an activation at a site; for ``attn.hook_z`` all heads together.

    Raises:
        InputError: as `locate_site`.
    """
    return locate_site(model, site).width


def list_sites(model: "LanguageModel", block: int) -> list[str]:
    """The names of all sites that a block of the model has, in the order of `KINDS`.

    Raises:
        InputError: if the block is out of range.
    """
    locate_site(model, f"blocks.{block}.hook_resid_pre")
    names = [f"blocks.{block}.{kind}" for kind in KINDS]
    return [name for name in names if _has_site(model, name)]


def _has_site(model: "LanguageModel", site: str) -> bool:
    try:
        locate_site(model, site)
    except InputError:
        return False
    return True
