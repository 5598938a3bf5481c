"""Other weights for later layers: drawn as the architecture does, shuffled, or with noise of known size."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import KINDS, tiny_model
from xmodel.errors import InputError
from xmodel.models.language import LanguageModel, load_language_model, wrap_language_model
from xmodel.models.structure import find_decoder
from xmodel.steering.reinitialising import add_noise, reinitialise_blocks

IDS = torch.arange(20).view(2, 10)


def wrap(kind: str) -> LanguageModel:
    return wrap_language_model(tiny_model(kind), digest="")


def get_blocks(model):
    return find_decoder(model.module).blocks


def list_weights(blocks) -> list[tuple[str, torch.Tensor]]:
    return list(blocks.named_parameters())


def run_with(model, start, blocks):
    """Logits of the model with other blocks from `start` on."""
    changed = deepcopy(model.module)
    mine = find_decoder(changed).blocks
    for number, block in enumerate(blocks):
        mine[start + number] = block
    with torch.no_grad():
        return changed(IDS, use_cache=False).logits


@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights_are_as_the_architecture_draws_them(kind):
    """As a new model of that configuration: constants equal, spreads equal but for chance."""
    model = wrap(kind)
    copies = reinitialise_blocks(model, 1, 3)
    fresh = find_decoder(KINDS[kind]()).blocks[1:]
    assert len(copies) == model.layers - 1
    trained = dict(list_weights(get_blocks(model)[1:]))
    for (name, drawn), (other, expected) in zip(list_weights(copies), list_weights(fresh), strict=True):
        assert name == other and drawn.shape == expected.shape and drawn.dtype == torch.float32
        assert not torch.equal(drawn, trained[name])
        if expected.unique().numel() == 1:
            assert torch.equal(drawn, expected), name
            continue
        # The standard deviation of n normal draws has a relative error of 1 / sqrt(2 n): six of them, twice.
        slack = 12 / (2 * drawn.numel()) ** 0.5
        assert abs(drawn.std() / expected.std() - 1) < slack, name
        assert abs(float(drawn.mean())) < 6 * float(drawn.std()) / drawn.numel() ** 0.5
        assert (
            abs(float(torch.corrcoef(torch.stack([drawn.flatten(), trained[name].flatten()]))[0, 1])) < 0.35
        )


@pytest.mark.parametrize("how", ["initial", "shuffled"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_copies_run_and_the_model_is_untouched(kind, how):
    model = wrap(kind)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    with torch.no_grad():
        clean = model.module(IDS, use_cache=False).logits
    copies = reinitialise_blocks(model, 1, 0, how)
    changed = run_with(model, 1, copies)
    assert changed.isfinite().all() and not torch.allclose(changed, clean, atol=1e-2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model.module(IDS, use_cache=False).logits, clean)
    own = {tensor.data_ptr() for tensor in model.module.parameters()}
    assert not own & {tensor.data_ptr() for tensor in copies.parameters()}
    assert not copies.training and not any(tensor.requires_grad for tensor in copies.parameters())
    for copied, block in zip(copies, get_blocks(model)[1:], strict=True):
        buffers = dict(block.named_buffers())
        assert all(torch.equal(tensor, buffers[name]) for name, tensor in copied.named_buffers())


@pytest.mark.parametrize("kind", ["gpt2", "gpt-neo", "gemma3", "neox"])
def test_shuffled_weights_are_the_same_entries_elsewhere(kind):
    model = wrap(kind)
    for copied, block in zip(reinitialise_blocks(model, 0, 1, "shuffled"), get_blocks(model), strict=True):
        for (name, new), (_, old) in zip(list_weights(copied), list_weights(block), strict=True):
            assert torch.equal(new.flatten().sort().values, old.flatten().sort().values), name
            # Of n entries about one stays where it was.
            assert int((new == old).sum()) <= 10, name


@pytest.mark.parametrize(
    "make", [reinitialise_blocks, lambda *given: reinitialise_blocks(*given, "shuffled"), None]
)
def test_draws_depend_on_the_seed_and_the_block_and_on_nothing_else(make):
    make = make or (lambda model, start, seed: add_noise(model, start, 0.5, seed))
    model = wrap("llama3")
    state = torch.random.get_rng_state()
    first = [tensor for _, tensor in list_weights(make(model, 1, 7))]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)  # What else draws random numbers does not matter.
    again = [tensor for _, tensor in list_weights(make(model, 1, 7))]
    later = [tensor for _, tensor in list_weights(make(model, 2, 7))]
    other = [tensor for _, tensor in list_weights(make(model, 1, 8))]
    assert all(map(torch.equal, first, again))
    assert all(map(torch.equal, first[len(first) // 2 :], later))
    matrices = [pair for pair in zip(first, other, strict=True) if pair[0].ndim > 1]
    assert matrices and not any(torch.equal(*pair) for pair in matrices)
    # Two blocks do not get the same draws.
    half = len(first) // 2
    same = [torch.equal(*pair) for pair in zip(first[:half], first[half:], strict=True) if pair[0].ndim > 1]
    assert not any(same)


def test_other_number_formats_get_the_same_draws_rounded():
    model = wrap("gemma2")
    halved = wrap_language_model(deepcopy(model.module).to(torch.bfloat16), digest="")
    exact, rounded = (list_weights(reinitialise_blocks(one, 1, 2)) for one in (model, halved))
    for (name, wide), (_, narrow) in zip(exact, rounded, strict=True):
        assert narrow.dtype == torch.bfloat16 and torch.equal(wide.to(torch.bfloat16), narrow), name


def test_weights_that_were_loaded_from_a_file_are_drawn_again(tmp_path):
    """transformers marks loaded weights, so that its own initialisation passes over them."""
    tiny_model("qwen3").save_pretrained(tmp_path)
    model = load_language_model(tmp_path)
    trained = get_blocks(model)[1:]
    assert any(getattr(one, "_is_hf_initialized", False) for one in trained.modules())
    for (name, new), (_, old) in zip(
        list_weights(reinitialise_blocks(model, 1, 0)), list_weights(trained), strict=True
    ):
        assert not torch.equal(new, old), name


@settings(max_examples=15, deadline=None)
@given(level=st.floats(0.01, 8.0), seed=st.integers(0, 2**31))
def test_noise_has_the_size_that_was_asked_for(level, seed):
    model = NOISED
    for (name, new), (_, old) in zip(
        list_weights(add_noise(model, 2, level, seed)), list_weights(get_blocks(model)[2:]), strict=True
    ):
        if old.ndim < 2:
            continue
        noise = (new - old) / (level * old.std(correction=0))
        assert abs(float(noise.std()) - 1) < 6 / (2 * noise.numel()) ** 0.5, name
        assert abs(float(noise.mean())) < 6 / noise.numel() ** 0.5


NOISED = wrap("mistral")


def test_noise_of_nothing_changes_nothing_and_more_noise_is_more_of_the_same():
    model = wrap("neox")
    clean = [tensor for _, tensor in list_weights(get_blocks(model)[1:])]
    none, one, two = (
        [tensor for _, tensor in list_weights(add_noise(model, 1, level, 5))] for level in (0, 1, 2)
    )
    assert all(map(torch.equal, none, clean))
    for before, less, more in zip(clean, one, two, strict=True):
        assert torch.allclose(more - before, 2 * (less - before), atol=1e-5)
    blank = wrap_language_model(KINDS["neox"]().eval(), digest="")
    for name, tensor in list_weights(add_noise(blank, 1, 1.0, 5)):
        if tensor.ndim < 2:  # Norms of ones and biases of zeros have no spread.
            assert tensor.unique().numel() == 1, name


@pytest.mark.parametrize("start", [-1, 3, 99])
def test_blocks_that_are_not_there_are_refused(start):
    model = wrap("gpt2")
    with pytest.raises(InputError, match=r"3 blocks, 0 to 2"):
        reinitialise_blocks(model, start, 0)
    with pytest.raises(InputError, match=r"3 blocks, 0 to 2"):
        add_noise(model, start, 0.1, 0)


def test_what_cannot_be_drawn_is_refused():
    model = wrap("gpt2")
    with pytest.raises(InputError, match="seed"):
        reinitialise_blocks(model, 1, -1)
    with pytest.raises(InputError, match="initial or shuffled"):
        reinitialise_blocks(model, 1, 0, "zero")  # type: ignore[arg-type]
    for level in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="level"):
            add_noise(model, 1, level, 0)


def test_an_architecture_that_does_not_draw_some_weight_is_refused(monkeypatch):
    """Else the null would keep what was learned, and look like a result."""
    model = wrap("gpt2")
    kind = type(find_decoder(model.module).module)
    original = kind._init_weights

    def forget(self, module):
        if type(module).__name__ != "Conv1D":
            original(self, module)

    monkeypatch.setattr(kind, "_init_weights", forget)
    with pytest.raises(InputError, match=r"c_attn.*shuffled"):
        reinitialise_blocks(model, 1, 0)
    assert len(reinitialise_blocks(model, 1, 0, "shuffled")) == 2


def test_quantised_weights_are_refused():
    module = tiny_model("llama2")
    block = find_decoder(module).blocks[2]
    block.mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(40, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(InputError, match="quantised"):
        reinitialise_blocks(wrap_language_model(module, digest=""), 1, 0)
