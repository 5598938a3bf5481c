"""Models with processed weights: run through TransformerLens, for dictionaries that were trained on them."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from xmodel.models.language import LanguageModel
    from xmodel.models.sites import Place, Site

FLAGS = (
    "fold_ln",
    "center_writing_weights",
    "center_unembed",
    "fold_value_biases",
    "refactor_factored_attn_matrices",
)
"""The flags of TransformerLens that change weights."""


def check_processing(processing: Mapping[str, Any] | None) -> dict[str, bool]:
    """The flags that are set, in the order of `FLAGS`; those that are False or None are left out.

    Raises:
        InputError: if there is an unknown flag, or a value that is neither a truth value nor None.
    """
    given = dict(processing or {})
    unknown = sorted(set(given) - set(FLAGS))
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is not a way of processing weights that is known: expected some of "
            f"{', '.join(FLAGS)}."
        )
    wrong = [name for name, value in given.items() if value not in (True, False, None)]
    if wrong:
        raise InputError(f"{wrong[0]}={given[wrong[0]]!r} came where true or false was expected.")
    return {name: True for name in FLAGS if given.get(name)}


def process_weights(module: "nn.Module", flags: Mapping[str, bool], *, name: str, keep: bool) -> "nn.Module":
    """Wrap a Hugging Face model in a `TransformerBridge` whose weights are processed as `flags` say.

    What is not in `flags` is off, as in `HookedTransformer.from_pretrained_no_processing`, which SAELens
    calls with the same flags. The processing itself is TransformerLens' `ProcessWeights`.

    Args:
        module: a Hugging Face causal language model.
        flags: as `check_processing` returns them.
        name: what to call the model in errors.
        keep: whether `module` must stay as it is; the bridge takes apart what it is given, so it then gets
            a copy.

    Raises:
        InputError: if TransformerLens does not know the architecture or cannot process its weights.
    """
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    try:
        # boot_transformers does the same, but insists on a tokenizer, which nothing here needs.
        bridge = build_bridge_from_module(
            copy.deepcopy(module) if keep else module,
            type(module).__name__,
            hf_config=copy.deepcopy(module.config),
            model_name=name,
        )
        bridge.enable_compatibility_mode(
            disable_warnings=True, **{flag: flags.get(flag, False) for flag in FLAGS}
        )
    except (ValueError, KeyError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise InputError(
            f"the weights of {name} cannot be processed as the dictionary wants them "
            f"({', '.join(flags)}): TransformerLens says: {str(error).strip().splitlines()[0][:300]} Use a "
            "dictionary that was trained on the model as it is."
        ) from error
    return bridge.eval().requires_grad_(False)


def locate_hook_point(model: "LanguageModel", site: "Site") -> "Place":
    """Find a site of a processed model: the output of TransformerLens' hook point of that name.

    Hook points pass on the tensor as the Hugging Face module has it, so heads are flattened already.

    Raises:
        InputError: if the architecture has no such hook point.
    """
    from xmodel.models.sites import Place

    bridge: Any = model.module
    hook_point = bridge.get_hook_point(site.name)
    if hook_point is None:
        raise InputError(
            f"{model.name}, processed with {', '.join(model.processing)}, has no {site.name}: "
            "TransformerLens has no hook of that name there. hook_resid_pre and hook_resid_post are always "
            "there."
        )
    widths = {"attn.hook_z": bridge.cfg.n_heads * bridge.cfg.d_head, "mlp.hook_post": bridge.cfg.d_mlp}
    return Place(hook_point, "output", 0, int(widths.get(site.kind, model.width)))
