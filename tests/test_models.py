"""Activations: every site of every architecture, against hooks placed by hand and against TransformerLens."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.model_helpers import EVERY_KIND, PLACES, list_all, load, make_batch, read_by_hand
from xmodel.models.capture import capture
from xmodel.models.sites import parse_site, site_width


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
