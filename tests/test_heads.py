"""Heads of language models: from residuals after the last block to the model's own logits."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from tests.model_helpers import EVERY_KIND, count_hooks, load, make_batch, pad
from tests.test_processed import load_processed
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.steering.heads import find_head


def read_last(model: LanguageModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    name = f"blocks.{model.layers - 1}.hook_resid_post"
    return capture(model, ids, mask, [name])[name]


@EVERY_KIND
def test_logits_equal_the_models_own(kind: str) -> None:
    model = load(kind)
    hooks = count_hooks(model.module)
    head = find_head(model, *make_batch(1, 5))
    assert count_hooks(model.module) == hooks
    ids, mask = make_batch(3, 9, seed=4)
    with torch.no_grad():
        expected = model.module(ids).logits.flatten(0, 1)
    rows = read_last(model, ids, mask).flatten(0, 1)
    found = head.logits(rows)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    columns = torch.tensor([90, 3, 3, 0])
    torch.testing.assert_close(head.logits_of(rows, columns), found[:, columns], atol=1e-5, rtol=1e-5)


@EVERY_KIND
def test_the_norm_matters(kind: str) -> None:
    """Without the norm the logits would be others: it is found, not left out."""
    model = load(kind)
    ids, mask = make_batch()
    head = find_head(model, ids, mask)
    rows = read_last(model, ids, mask).flatten(0, 1)
    with torch.no_grad():
        assert not torch.allclose(head.unembedding(rows), model.module(ids).logits.flatten(0, 1), atol=0.1)


def test_capping_is_read_from_the_config() -> None:
    module = tiny_model("gemma2")
    module.lm_head.weight.mul_(30)
    model = wrap_language_model(module, name="capped", digest="none")
    ids, mask = make_batch()
    head = find_head(model, ids, mask)
    logits = head.logits(read_last(model, ids, mask)[mask])
    assert head.cap == 30
    assert 25 < float(logits.abs().max()) <= 30
    with torch.no_grad():
        torch.testing.assert_close(logits, module(ids).logits.flatten(0, 1), atol=1e-3, rtol=1e-4)


def test_scaling_is_read_from_the_config() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    config = GraniteConfig(
        vocab_size=101,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=4.0,
    )
    model = wrap_language_model(GraniteForCausalLM(config).eval(), name="scaled", digest="none")
    ids, mask = make_batch()
    head = find_head(model, ids, mask)
    assert head.scale == 0.25
    with torch.no_grad():
        expected = model.module(ids).logits.flatten(0, 1)
    torch.testing.assert_close(head.logits(read_last(model, ids, mask)[mask]), expected)


def test_padding_is_not_compared_and_bfloat16_is_within_tolerance() -> None:
    model = wrap_language_model(tiny_model("llama3").bfloat16(), name="llama3", digest="none")
    ids, mask = pad(make_batch(2, 7)[0], 3, 1, filler=5)
    head = find_head(model, ids, mask)
    rows = read_last(model, ids, mask)[mask]
    assert head.logits(rows).dtype == torch.bfloat16


def test_a_processed_model_has_a_head_too() -> None:
    model = load_processed("fold_ln", "center_writing_weights")
    ids, mask = make_batch()
    head = find_head(model, ids, mask)
    with torch.no_grad():
        expected = torch.log_softmax(tiny_model("gpt2")(ids).logits.flatten(0, 1), -1)
    logits = head.logits(read_last(model, ids, mask)[mask])
    torch.testing.assert_close(torch.log_softmax(logits, -1), expected, atol=1e-4, rtol=1e-4)
    columns = torch.arange(0, 101, 7)
    torch.testing.assert_close(
        head.logits_of(read_last(model, ids, mask)[mask], columns), logits[:, columns], atol=1e-4, rtol=1e-4
    )


def test_a_head_that_does_more_is_refused() -> None:
    module = tiny_model("gpt2")
    model = wrap_language_model(module, name="odd", digest="none")

    def double(_: Any, __: Any, output: Any) -> Any:
        output["logits"] = output["logits"] * 2
        return output

    handle = module.register_forward_hook(double)
    with pytest.raises(InputError, match="the head of odd is not known"):
        find_head(model, *make_batch())
    handle.remove()
    with pytest.raises(InputError, match="knows 0 to 100"):
        find_head(model, make_batch()[0] + 90, make_batch()[1])
