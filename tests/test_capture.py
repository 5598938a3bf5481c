"""One pass for all sites: padding, masks, hooks, dtypes, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from tests.model_helpers import EVERY_KIND, PLACES, count_hooks, list_all, load, make_batch, pad
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import wrap_language_model
from xmodel.models.sites import Site, list_sites, locate_site, parse_site


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
