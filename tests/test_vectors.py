"""Steering vectors as values: the laws of their arithmetic, features, and what is refused."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_models import tiny_model

from xmodel.errors import InputError
from xmodel.models.language import wrap_language_model
from xmodel.steering.vectors import (
    SteeringVector,
    find_output_block,
    name_architecture,
    sum_features,
    take_feature,
)

SITE = "blocks.9.hook_resid_post"
# Small whole numbers: sums and products of them are exact in float32, so that laws hold bit for bit.
WHOLE = arrays(np.float32, 5, elements=st.integers(-1000, 1000).map(float))
VECTORS = WHOLE.map(lambda values: SteeringVector(values, SITE, "model", "v"))
FACTORS = st.integers(-50, 50)


@given(VECTORS, VECTORS, VECTORS, FACTORS, FACTORS)
def test_the_laws_of_a_vector_space_hold(a, b, c, s, t):
    zero = SteeringVector(np.zeros(5), SITE, "model")
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + zero == a and a - a == zero and -a == zero - a and a - b == a + -b
    assert s * (a + b) == s * a + s * b and (s + t) * a == s * a + t * a
    assert a * s == s * a == np.float64(s) * a == np.int32(s) * a
    assert (a / 4) * 4 == a


@given(arrays(np.float32, 7, elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_norms_are_those_of_exact_arithmetic(values):
    vector = SteeringVector(values, SITE)
    exact = float(np.sqrt(sum(float(one) ** 2 for one in values)))
    assert vector.norm == pytest.approx(exact, rel=1e-12)
    if exact > 1e-30:
        assert vector.unit().norm == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(vector.unit().values * exact, values, rtol=1e-5, atol=exact * 1e-6)


def test_operations_change_no_operand_and_no_array_of_the_caller():
    given_values = np.arange(3.0)
    a = SteeringVector(given_values, SITE, "model", "a")
    given_values[:] = 7
    _ = (a + a, a - a, -a, 2 * a, a / 2, a.unit())
    assert a.values.tolist() == [0, 1, 2] and a.values.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        a.values[0] = 1
    with pytest.raises(FrozenInstanceError):
        a.name = "b"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_names_say_how_a_vector_came_about():
    a, b = (SteeringVector([1.0, 2.0], SITE, "model", name) for name in ("a", "b"))
    assert (a + b).name == "a + b" and (2 * (a - b)).name == "2 * (a - b)"
    assert (a - (b + a) / 4).name == "a - ((b + a) / 4)" and (-(a + b)).name == "-(a + b)"


def test_equality_is_by_numbers_site_and_model():
    a = SteeringVector([1.0, 2.0], SITE, "model", "a")
    assert a == replace(a, name="another", architecture="llama")
    others = [{"values": np.array([1.0, 3.0])}, {"site": "blocks.8.hook_resid_post"}, {"model": "another"}]
    for other in [*({"values": np.ones(3)},), *others]:
        assert a != replace(a, **other)
    assert a != [1.0, 2.0]


def test_an_unknown_model_agrees_with_any_and_the_known_one_is_kept():
    known, unknown = SteeringVector([1.0], SITE, "model"), SteeringVector([1.0], SITE)
    assert (known + unknown).model == (unknown + known).model == "model"
    assert (unknown - unknown).model is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"site": "blocks.8.hook_resid_post"}, "the site of the first is blocks.9.*of the second blocks.8"),
        ({"values": np.ones(3)}, "the width of the first is 2, of the second 3"),
        ({"model": "another"}, "the model of the first is model, of the second another"),
    ],
)
def test_vectors_of_other_places_are_not_added(change, told):
    a = SteeringVector([1.0, 2.0], SITE, "model", "a")
    for combine in (lambda x, y: x + y, lambda x, y: x - y):
        with pytest.raises(InputError, match=told):
            combine(a, replace(a, **change))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([[1.0, 2.0]], r"shape \[1, 2\]"),
        ([], r"shape \[0\]"),
        (3.0, r"shape \[\]"),
        ([1.0, float("nan")], "1 numbers that are NaN"),
        ([float("inf"), 1e39], "2 numbers that are NaN, infinite or too large"),
        (["a", "b"], "expected real numbers"),
        ([1j], "expected real numbers"),
    ],
)
def test_what_is_no_vector_is_refused(values, told):
    with pytest.raises(InputError, match=told):
        SteeringVector(values, SITE)


def test_what_is_no_site_or_no_number_is_refused():
    a = SteeringVector([3e38, 1.0], SITE, "model", "a")
    with pytest.raises(InputError, match="not a site"):
        replace(a, site="layer 9")
    for factor in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="expected a number that is finite"):
            _ = a * factor
    with pytest.raises(InputError, match="divided by 0"):
        _ = a / 0
    with pytest.raises(InputError, match="too large for float32"):
        _ = a + a
    with pytest.raises(InputError, match="is zero and has no direction"):
        (a - a).unit()
    for wrong in ("2", a, np.ones(2), None):
        with pytest.raises(TypeError):
            _ = a * wrong  # pyright: ignore[reportOperatorIssue]
    with pytest.raises(TypeError):
        _ = a + 1  # pyright: ignore[reportOperatorIssue]


def test_a_feature_is_its_decoder_row_and_sums_are_sums():
    decoder = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    one = take_feature(decoder, 4, SITE, "model", architecture="llama")
    assert np.array_equal(one.values, decoder[4])
    assert (one.site, one.model, one.name, one.architecture) == (SITE, "model", "feature 4", "llama")
    total = sum_features(decoder, [4, 1, 4], [2, -0.5, 1], site=SITE, model="model")
    parts = 3 * one - take_feature(decoder, 1, SITE, "model") / 2
    np.testing.assert_allclose(total.values, parts.values, rtol=1e-6, atol=1e-6)
    assert total.name == "2 * feature 4 + -0.5 * feature 1 + feature 4"
    assert sum_features(decoder, [1, 2], site=SITE) == sum_features(decoder, [2, 1], [1, 1], site=SITE)


@pytest.mark.parametrize(
    ("features", "coefficients", "told"),
    [
        ([6], None, "the feature 6 came: expected one or more, from 0 to 5"),
        ([-1], None, "the feature -1 came"),
        ([], None, "no feature came"),
        ([1, 2], [1.0], "one coefficient per feature"),
        ([0], None, "feature 0 is zero"),
        ([1, 1], [1, -1], "do not cancel"),
    ],
)
def test_features_that_make_no_vector_are_refused(features, coefficients, told):
    decoder = np.ones((6, 4))
    decoder[0] = 0
    with pytest.raises(InputError, match=told):
        sum_features(decoder, features, coefficients, site=SITE)


def test_a_push_arrives_at_the_output_of_its_block():
    """Adding to the output of block 1, to the input of block 2 or to the MLP of block 1 is the same push."""
    module = tiny_model("gemma2")
    layers = module.model.layers
    ids = torch.arange(12).reshape(2, 6) + 3
    push = torch.linspace(-1, 1, 24)

    def run(place: torch.nn.Module, before: bool) -> torch.Tensor:
        def change(*parts: object) -> object:
            if before:
                hidden, *rest = parts[1]  # pyright: ignore[reportGeneralTypeIssues]
                return (hidden + push, *rest)
            output = parts[2]
            return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push

        register = place.register_forward_pre_hook if before else place.register_forward_hook
        handle = register(change)
        try:
            with torch.no_grad():
                return module(ids).logits
        finally:
            handle.remove()

    after = run(layers[1], before=False)
    torch.testing.assert_close(run(layers[2], before=True), after)
    torch.testing.assert_close(run(layers[1].post_feedforward_layernorm, before=False), after)
    assert not torch.allclose(run(layers[1].self_attn.o_proj, before=False), after, atol=1e-2)
    sites = {"hook_resid_post": 1, "hook_mlp_out": 1, "hook_resid_pre": 0, "hook_attn_out": None}
    assert {kind: find_output_block(f"blocks.1.{kind}") for kind in sites} == sites
    assert find_output_block("blocks.2.hook_resid_pre") == find_output_block("blocks.1.hook_resid_post")


def test_the_kind_of_a_model_is_that_of_its_configuration():
    module = tiny_model("neox")
    assert name_architecture(wrap_language_model(module, digest="")) == "gpt_neox"
    processed = wrap_language_model(module, digest="", processing={"fold_ln": True})
    assert name_architecture(processed) == "gpt_neox"
