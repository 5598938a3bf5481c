"""Activations: every site of every architecture, against hooks placed by hand and against TransformerLens."""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import KINDS, tiny_model

from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.models.processed import FLAGS
from xmodel.models.sites import Site, list_sites, locate_site, parse_site, site_width

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


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@EVERY_KIND
def test_every_site_equals_a_hook_placed_by_hand(kind: str) -> None:
    model = load(kind)
    ids, mask = make_batch()
    blocks, places = PLACES[kind]
    expected_names = [f"blocks.{block}.{site}" for block in range(model.layers) for site in places]
    assert sorted(list_all(model)) == sorted(expected_names)
    found = capture(model, ids, mask, expected_names)
    assert list(found) == expected_names
    for name in expected_names:
        site = parse_site(name)
        path, side = places[site.kind]
        expected = read_by_hand(model.module, f"{blocks}.{site.block}.{path}".rstrip("."), side, ids)
        assert torch.equal(found[name], expected), name
        assert found[name].shape == (*ids.shape, site_width(model, name))


@EVERY_KIND
def test_the_places_differ_so_a_mistaken_one_would_be_seen(kind: str) -> None:
    model = load(kind)
    found = capture(model, *make_batch(), list_all(model))
    names = list(found)
    for a, first in enumerate(names):
        for second in names[a + 1 :]:
            same = found[first].shape == found[second].shape and torch.allclose(
                found[first], found[second], atol=1e-3
            )
            neighbours = first.endswith("resid_post") and second.endswith("resid_pre")
            assert same == (neighbours and parse_site(second).block == parse_site(first).block + 1)


@EVERY_KIND
def test_the_residual_stream_equals_hidden_states(kind: str) -> None:
    model = load(kind)
    ids, mask = make_batch()
    with torch.no_grad():
        hidden = model.module(ids, output_hidden_states=True).hidden_states
    found = capture(model, ids, mask, list_all(model))
    for block in range(model.layers):
        assert torch.equal(found[f"blocks.{block}.hook_resid_pre"], hidden[block])
        if block < model.layers - 1:
            assert torch.equal(found[f"blocks.{block}.hook_resid_post"], hidden[block + 1])
    # The last entry is after the final norm: it must not be taken for the last block's output.
    assert not torch.allclose(found[f"blocks.{model.layers - 1}.hook_resid_post"], hidden[-1], atol=1e-2)


@EVERY_KIND
def test_what_is_added_to_the_residual_stream_adds_up(kind: str) -> None:
    model = load(kind)
    found = capture(model, *make_batch(), list_all(model))
    for block in range(model.layers):
        pre, post, attention, mlp = (
            found[f"blocks.{block}.hook_{site}"]
            for site in ("resid_pre", "resid_post", "attn_out", "mlp_out")
        )
        torch.testing.assert_close(pre + attention + mlp, post, atol=1e-5, rtol=1e-5)
        if kind != "neox":
            middle = found[f"blocks.{block}.hook_resid_mid"]
            torch.testing.assert_close(pre + attention, middle, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(middle + mlp, post, atol=1e-5, rtol=1e-5)


@EVERY_KIND
def test_every_site_equals_transformer_lens(kind: str) -> None:
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    model = load(kind)
    ids, mask = make_batch()
    source: Any = copy.deepcopy(model.module)
    bridge = build_bridge_from_module(source, type(source).__name__, hf_config=copy.deepcopy(source.config))
    bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    with torch.no_grad():
        _, expected = bridge.run_with_cache(ids)
    found = capture(model, ids, mask, list_all(model))
    for name, activation in found.items():
        torch.testing.assert_close(activation, expected[name].flatten(2), atol=1e-5, rtol=1e-4, msg=name)
    if kind == "neox":
        assert "blocks.0.hook_resid_mid" not in expected


@EVERY_KIND
def test_one_pass_for_all_sites_equals_a_pass_for_each(kind: str) -> None:
    model = load(kind)
    batch = make_batch()
    names = list_all(model)
    together = capture(model, *batch, names)
    for name in names:
        assert torch.equal(together[name], capture(model, *batch, [name])[name]), name


@EVERY_KIND
def test_nothing_after_the_last_site_runs(kind: str) -> None:
    model = load(kind)
    blocks = model.module.get_submodule(PLACES[kind][0])
    ran: list[str] = []
    handles = [
        block.register_forward_pre_hook(lambda _, __, number=number: ran.append(f"block {number}"))
        for number, block in enumerate(blocks.children())
    ]
    handles.append(model.module.lm_head.register_forward_pre_hook(lambda _, __: ran.append("head")))
    try:
        capture(model, *make_batch(), ["blocks.1.hook_resid_post", "blocks.0.attn.hook_z"])
        assert ran == ["block 0", "block 1"]
        ran.clear()
        capture(model, *make_batch(), [f"blocks.{model.layers - 1}.hook_resid_post"])
        assert ran == [f"block {number}" for number in range(model.layers)]
    finally:
        for handle in handles:
            handle.remove()


def pad(ids: torch.Tensor, left: int, right: int, filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    padded = torch.nn.functional.pad(ids, (left, right), value=filler)
    mask = torch.nn.functional.pad(torch.ones_like(ids, dtype=torch.bool), (left, right), value=False)
    return padded, mask


@EVERY_KIND
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_padding_and_batch_size_change_nothing(kind: str, side: str) -> None:
    model = load(kind)
    names = list_all(model)
    lengths = [12, 1, 7, 11, 3, 12, 2, 9]
    texts = [make_batch(1, length, seed=seed)[0] for seed, length in enumerate(lengths)]
    rows = []
    for number, text in enumerate(texts):
        rest = 14 - text.shape[1]
        left = {"left": rest, "right": 0, "both": rest // 2}[side]
        rows.append(pad(text, left, rest - left, filler=50 + number))
    ids, mask = (torch.cat(parts) for parts in zip(*rows, strict=True))
    together = capture(model, ids, mask, names)
    for number, text in enumerate(texts):
        alone = capture(model, text, torch.ones_like(text, dtype=torch.bool), names)
        for name in names:
            torch.testing.assert_close(
                together[name][number][mask[number]], alone[name][0], atol=2e-5, rtol=1e-4, msg=name
            )


# Rotary positions are relative, so that a constant shift changes nothing: only absolute ones can show it.
@pytest.mark.parametrize("kind", ["gpt2", "gpt-neo"])
def test_positions_counted_from_the_padding_would_be_seen(kind: str) -> None:
    model = load(kind)
    text, _ = make_batch(1, 9)
    padded, mask = pad(text, 4, 0, filler=5)
    name = "blocks.1.hook_resid_post"
    alone = capture(model, text, torch.ones_like(text, dtype=torch.bool), [name])[name][0]
    right = capture(model, padded, mask, [name])[name][mask]
    torch.testing.assert_close(right, alone, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        hidden = model.module(padded, attention_mask=mask, output_hidden_states=True).hidden_states
    assert not torch.allclose(hidden[2][mask], alone, atol=1e-2)


@EVERY_KIND
def test_padding_without_a_mask_would_be_seen(kind: str) -> None:
    model = load(kind)
    text, _ = make_batch(1, 9)
    padded, mask = pad(text, 2, 0, filler=5)
    name = "blocks.1.hook_resid_post"
    alone = capture(model, text, torch.ones_like(text, dtype=torch.bool), [name])[name][0]
    unmasked = capture(model, padded, torch.ones_like(mask), [name])[name][mask]
    assert not torch.allclose(unmasked, alone, atol=1e-2)


@EVERY_KIND
def test_a_mask_of_ones_is_the_same_as_none(kind: str) -> None:
    model = load(kind)
    ids, mask = make_batch()
    with torch.no_grad():
        hidden = model.module(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    assert torch.equal(
        capture(model, ids, mask, ["blocks.1.hook_resid_pre"])["blocks.1.hook_resid_pre"], hidden[1]
    )


@EVERY_KIND
def test_hooks_are_gone_afterwards_and_the_model_is_as_before(kind: str) -> None:
    model = load(kind)
    ids, mask = make_batch()
    with torch.no_grad():
        before = model.module(ids).logits
    hooks = count_hooks(model.module)
    capture(model, ids, mask, list_all(model))
    assert count_hooks(model.module) == hooks

    def fail(_: Any, __: Any) -> None:
        raise ArithmeticError("a failure inside the model")

    failing = model.module.get_submodule(PLACES[kind][0])[1].register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        capture(model, ids, mask, list_all(model))
    failing.remove()
    assert count_hooks(model.module) == hooks
    with torch.no_grad():
        assert torch.equal(model.module(ids).logits, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_activations_have_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    model = wrap_language_model(tiny_model("llama3").to(dtype), digest="none")
    ids, mask = make_batch()
    name = "blocks.1.hook_resid_post"
    found = capture(model, ids, mask, [name])[name]
    assert model.dtype == found.dtype == dtype
    expected = capture(load("llama3"), ids, mask, [name])[name]
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


# Left out, the mask would be guessed from the jumps in the positions by some versions of transformers.
@EVERY_KIND
def test_the_mask_is_given_exactly_where_there_is_padding(kind: str) -> None:
    model = load(kind)
    given: list[dict[str, Any]] = []
    decoder = model.module.get_submodule(PLACES[kind][0].rpartition(".")[0])
    handle = decoder.register_forward_pre_hook(lambda _, __, kwargs: given.append(kwargs), with_kwargs=True)
    text, _ = make_batch(2, 9)
    for left, right in [(0, 0), (2, 0), (0, 2)]:
        capture(model, *pad(text, left, right, filler=5), ["blocks.0.hook_resid_pre"])
    handle.remove()
    none, left, right = (kwargs["attention_mask"] for kwargs in given)
    assert none is None
    assert torch.equal(left, pad(text, 2, 0, filler=5)[1])
    assert torch.equal(right, pad(text, 0, 2, filler=5)[1])
    assert given[1]["position_ids"][0].tolist() == [0, 0, *range(9)]
    assert not any(kwargs["use_cache"] for kwargs in given)


def test_no_gradient_is_kept_of_a_model_that_has_some() -> None:
    module = tiny_model("gpt2").requires_grad_(True)
    name = "blocks.1.hook_resid_post"
    found = capture(wrap_language_model(module, digest="none"), *make_batch(), [name])[name]
    assert found.is_inference()
    assert not found.requires_grad
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_sites_are_returned_without_a_copy() -> None:
    model = load("llama3")
    found = capture(model, *make_batch(), ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"])
    first, second = found.values()
    assert first.data_ptr() == second.data_ptr()


def test_no_sites_and_no_tokens_are_fine() -> None:
    model = load("gemma")
    ids, mask = make_batch()
    assert capture(model, ids, mask, []) == {}
    found = capture(model, ids[:, :0], mask[:, :0], ["blocks.0.attn.hook_z"])
    assert found["blocks.0.attn.hook_z"].shape == (2, 0, 32)


def test_a_site_named_twice_is_read_once() -> None:
    model = load("gpt2")
    name = "blocks.1.hook_mlp_out"
    assert list(capture(model, *make_batch(), [name, name])) == [name]


def test_parse_site_reads_what_it_writes() -> None:
    assert parse_site("blocks.12.attn.hook_z") == Site("blocks.12.attn.hook_z", 12, "attn.hook_z")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("blocks.3.hook_resid_pots", "blocks.3.hook_resid_post"),
        ("blocks.3.hook_z", "blocks.3.attn.hook_z"),
        ("block.7.hook_mlp_out", "blocks.7.hook_mlp_out"),
        ("blocks.03.hook_resid_pre", "blocks.3.hook_resid_pre"),
        ("blocks.-1.hook_resid_pre", "blocks.1.hook_resid_pre"),
        ("", ""),
        ("blocks.٣.hook_resid_pre", ""),
    ],
)
def test_an_unknown_site_is_refused_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(InputError, match=r"blocks\.\{i\}\.hook_resid_post") as caught:
        parse_site(text)
    assert repr(text) in str(caught.value)
    assert nearest in str(caught.value)


@EVERY_KIND
def test_a_block_out_of_range_is_refused(kind: str) -> None:
    model = load(kind)
    with pytest.raises(InputError, match=f"has {model.layers} blocks, 0 to {model.layers - 1}"):
        locate_site(model, f"blocks.{model.layers}.hook_resid_post")
    with pytest.raises(InputError, match="out of range"):
        list_sites(model, model.layers)


def test_parallel_blocks_have_no_residual_stream_in_the_middle() -> None:
    with pytest.raises(InputError, match="parallel residual"):
        locate_site(load("neox"), "blocks.0.hook_resid_mid")


def test_a_block_of_unknown_parts_has_only_what_is_certain() -> None:
    """An OLMo 2 block has the names of a Llama block and two norms that sit elsewhere."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    config = Olmo2Config(
        vocab_size=60, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2
    )
    model = wrap_language_model(Olmo2ForCausalLM(config).eval())
    kinds = [parse_site(name).kind for name in list_sites(model, 1)]
    assert kinds == ["hook_resid_pre", "hook_resid_post", "attn.hook_z", "mlp.hook_post"]
    with pytest.raises(InputError, match="post_feedforward_layernorm"):
        locate_site(model, "blocks.0.hook_mlp_out")


def test_a_module_that_is_no_language_model_is_refused() -> None:
    with pytest.raises(InputError, match="Linear came where a language model was expected"):
        wrap_language_model(torch.nn.Linear(2, 2).eval())


def test_an_unknown_architecture_is_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(InputError, match="the structure of a MambaForCausalLM is not known"):
        wrap_language_model(MambaForCausalLM(config).eval())


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"\.eval\(\)"):
        wrap_language_model(tiny_model("gpt2").train())


def test_a_bad_batch_is_refused() -> None:
    model = load("gpt2")
    ids, mask = make_batch()
    name = ["blocks.0.hook_resid_pre"]
    with pytest.raises(InputError, match="a bool mask of the same shape"):
        capture(model, ids, mask[:1], name)
    with pytest.raises(InputError, match="a bool mask of the same shape"):
        capture(model, ids, mask.long(), name)
    with pytest.raises(InputError, match="a bool mask of the same shape"):
        capture(model, ids.int(), mask, name)
    with pytest.raises(InputError, match="knows 0 to 100"):
        capture(model, ids + 90, mask, name)
    with pytest.raises(InputError, match="takes at most 64"):
        capture(model, *make_batch(1, 65), name)


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
