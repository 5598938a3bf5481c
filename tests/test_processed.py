"""Models whose weights were processed as TransformerLens does it, against TransformerLens."""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from tests.model_helpers import GATED, PLACES, count_hooks, list_all, load, make_batch, pad, read_by_hand
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.models.processed import FLAGS
from xmodel.models.sites import site_width


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def load_processed(*flags: str) -> LanguageModel:
    return wrap_language_model(tiny_model("gpt2"), processing=dict.fromkeys(flags, True), digest="none")


def run_hooked_transformer(module: Any, flags: tuple[str, ...], ids: torch.Tensor) -> Any:
    """The activations of the older `HookedTransformer`, an implementation of its own."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    settings = module.config
    config = HookedTransformerConfig(
        n_layers=settings.n_layer,
        d_model=settings.n_embd,
        n_ctx=settings.n_positions,
        d_head=settings.n_embd // settings.n_head,
        n_heads=settings.n_head,
        d_mlp=settings.n_inner,
        d_vocab=settings.vocab_size,
        act_fn="gelu_new",
        normalization_type="LNPre" if "fold_ln" in flags else "LN",
        eps=settings.layer_norm_epsilon,
        device="cpu",
    )
    hooked = HookedTransformer(config)
    state = convert_gpt2_weights(copy.deepcopy(module), config)
    hooked.load_and_process_state_dict(state, **{flag: flag in flags for flag in FLAGS})
    with torch.no_grad():
        return hooked.eval().run_with_cache(ids)[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("flags", [*((flag,) for flag in FLAGS), FLAGS[:4], FLAGS], ids="+".join)
def test_processed_weights_equal_hooked_transformer(flags: tuple[str, ...]) -> None:
    model = load_processed(*flags)
    ids, mask = make_batch()
    expected = run_hooked_transformer(tiny_model("gpt2"), flags, ids)
    names = list_all(model)
    assert len(names) == 21
    for name, activation in capture(model, ids, mask, names).items():
        torch.testing.assert_close(activation, expected[name].flatten(2), atol=1e-5, rtol=1e-4, msg=name)
        assert activation.shape == (*ids.shape, site_width(model, name))


def test_centred_weights_subtract_the_mean_from_the_residual_stream() -> None:
    ids, mask = make_batch()
    names = [f"blocks.{block}.hook_resid_post" for block in range(3)]
    centred = capture(load_processed("center_writing_weights"), ids, mask, names)
    for name, plain in capture(load("gpt2"), ids, mask, names).items():
        assert plain.mean(-1).abs().max() > 0.05
        expected = plain - plain.mean(-1, keepdim=True)
        torch.testing.assert_close(centred[name], expected, atol=1e-5, rtol=1e-4)


def test_a_processed_model_stops_and_pads_like_any_other() -> None:
    model = load_processed("center_writing_weights")
    ran: list[int] = []
    blocks = model.module.original_model.transformer.h
    handles = [
        block.register_forward_pre_hook(lambda _, __, number=number: ran.append(number))
        for number, block in enumerate(blocks)
    ]
    text, mask = make_batch(1, 9)
    alone = capture(model, text, mask, ["blocks.1.attn.hook_z"])["blocks.1.attn.hook_z"]
    assert ran == [0, 1]
    for handle in handles:
        handle.remove()
    padded, mask = pad(text, 3, 2, filler=7)
    hooks = count_hooks(model.module)
    found = capture(model, padded, mask, ["blocks.1.attn.hook_z"])["blocks.1.attn.hook_z"]
    torch.testing.assert_close(found[mask], alone[0], atol=2e-5, rtol=1e-4)
    assert count_hooks(model.module) == hooks


def test_processing_leaves_the_users_model_alone() -> None:
    module = tiny_model("gpt2")
    ids, _ = make_batch()
    before, weights = module(ids).logits, copy.deepcopy(module.state_dict())
    wrap_language_model(module, processing={"center_writing_weights": True, "fold_ln": True})
    assert torch.equal(module(ids).logits, before)
    assert all(torch.equal(weights[name], tensor) for name, tensor in module.state_dict().items())


def test_flags_that_are_off_are_no_processing() -> None:
    model = wrap_language_model(tiny_model("gpt2"), processing={"fold_ln": False, "center_unembed": None})
    assert model.processing == {}


@pytest.mark.parametrize(("flags", "message"), [({"fold": True}, "fold_ln"), ({"fold_ln": "yes"}, "'yes'")])
def test_bad_flags_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrap_language_model(tiny_model("gpt2"), processing=flags)


def test_an_architecture_that_cannot_be_processed_is_refused() -> None:
    class OddModel(type(tiny_model("llama2"))):
        pass

    module = tiny_model("llama2")
    module.__class__ = OddModel
    with pytest.raises(InputError, match="TransformerLens says"):
        wrap_language_model(module, processing={"fold_ln": True})


def test_gated_kinds_have_a_gated_hook_post() -> None:
    """In a gated MLP, hook_post is the product of gate and up: what the last projection reads."""
    for kind in sorted(GATED):
        model = load(kind)
        ids, mask = make_batch()
        blocks, _ = PLACES[kind]
        mlp = model.module.get_submodule(f"{blocks}.1.mlp")
        read = read_by_hand(model.module, f"{blocks}.1.mlp", "input", ids)
        expected = mlp.act_fn(mlp.gate_proj(read)) * mlp.up_proj(read)
        found = capture(model, ids, mask, ["blocks.1.mlp.hook_post"])["blocks.1.mlp.hook_post"]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
