"""Interventions on the live model, next to hooks written by hand and to SAELens' spliced SAEs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import KINDS, tiny_model
from tiny_saes import ARCHITECTURES, make_sae

from tests.model_helpers import EVERY_KIND, PLACES, count_hooks, list_all, load, make_batch
from tests.test_processed import load_processed
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel, wrap_language_model
from xmodel.models.saes import FeatureDictionary, load_dictionary
from xmodel.models.sites import site_width
from xmodel.steering.changes import set_feature, silence_feature
from xmodel.steering.interventions import ablate_feature, add, clamp_feature, project_out

SITE = "blocks.1.hook_resid_post"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*was trained on:UserWarning")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(module: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(ids).logits


def run_by_hand(
    model: LanguageModel, site: str, ids: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Logits of a pass with a hook on the submodule whose path is written by hand."""
    blocks, paths = PLACES[model.name]
    _, number, kind = site.split(".", 2)
    path, side = paths[kind]
    target: Any = model.module.get_submodule(f"{blocks}.{number}{'.' if path else ''}{path}")

    def on_input(_: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def on_output(_: Any, __: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if side == "input":
        handle = target.register_forward_pre_hook(on_input, with_kwargs=True)
    else:
        handle = target.register_forward_hook(on_output)
    logits = run(model.module, ids)
    handle.remove()
    return logits


def make_where(ids: torch.Tensor) -> torch.Tensor:
    return torch.rand(ids.shape, generator=torch.Generator().manual_seed(3)) < 0.4


def make_vector(width: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed)) * 3


def load_sae(folder: Path, width: int, architecture: str = "standard", **config: Any) -> FeatureDictionary:
    make_sae(architecture, d_in=width, **config).save_model(folder)
    return load_dictionary(str(folder))


@EVERY_KIND
def test_adding_and_projecting_equal_hooks_written_by_hand_at_every_site(kind: str) -> None:
    model = load(kind)
    ids, _ = make_batch()
    clean = run(model.module, ids)
    where = make_where(ids)
    chosen = where[..., None]
    for site in list_all(model):
        vector = make_vector(site_width(model, site))
        seven = (7 * vector).double()
        unit = (seven / seven.norm()).float()
        expected = [
            run_by_hand(model, site, ids, lambda x, v=vector: x + v),
            run_by_hand(model, site, ids, lambda x, v=vector: torch.where(chosen, x + v, x)),
            run_by_hand(model, site, ids, lambda x, u=unit: x - (x @ u)[..., None] * u),
        ]
        contexts = [
            add(model, site, vector),
            add(model, site, vector.numpy(), where=where),
            project_out(model, site, 7 * vector),
        ]
        for context, logits in zip(contexts, expected, strict=True):
            with context:
                found = run(model.module, ids)
            assert not torch.equal(found, clean), site
            assert torch.equal(found, logits), site
    assert torch.equal(run(model.module, ids), clean)


@EVERY_KIND
def test_clamping_and_ablating_equal_hooks_written_by_hand(tmp_path: Path, kind: str) -> None:
    model = load(kind)
    ids, mask = make_batch()
    dictionary = load_sae(tmp_path, model.width)
    clean = run(model.module, ids)

    def change(x: torch.Tensor, feature: int, value: float) -> torch.Tensor:
        changed = x.flatten(0, 1).clone()
        f = dictionary.encode(changed)
        other = f[:, feature] != value
        edited = f[other]
        edited[:, feature] = value
        changed[other] += dictionary.decode(edited) - dictionary.decode(f[other])
        return changed.view_as(x)

    for site in [SITE, "blocks.0.hook_resid_pre"]:
        activation = capture(model, ids, mask, [site])[site].flatten(0, 1)
        firing = (dictionary.encode(activation) != 0).float().mean(0)
        feature = int((firing - 0.5).abs().argmin())
        for value in [0.0, 4.5]:
            expected = run_by_hand(model, site, ids, lambda x, f=feature, v=value: change(x, f, v))
            context = (
                clamp_feature(model, dictionary, feature, value, site=site)
                if value
                else ablate_feature(model, dictionary, feature, site=site)
            )
            with context:
                found = run(model.module, ids)
            assert torch.equal(found, expected)
            assert not torch.allclose(found, clean, atol=1e-2)


def splice(module: Any, sae: Any, ids: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The residual after every block when SAELens splices its SAE in, with error term, and a hook of its own
    changes features."""
    from sae_lens.analysis.hooked_sae_transformer import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    own = module.config
    config = HookedTransformerConfig(
        n_layers=own.n_layer,
        d_model=own.n_embd,
        n_ctx=own.n_positions,
        d_head=own.n_embd // own.n_head,
        n_heads=own.n_head,
        d_mlp=own.n_inner,
        d_vocab=own.vocab_size,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=own.layer_norm_epsilon,
        device="cpu",
    )
    hooked = HookedSAETransformer(config)
    hooked.load_and_process_state_dict(
        convert_gpt2_weights(module, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    sae.use_error_term = True
    hooked.add_sae(sae)
    seen = {}

    def keep(x: torch.Tensor, hook: Any) -> None:
        seen[hook.name] = x

    names = [f"blocks.{block}.hook_resid_post" for block in (1, 2)]
    hooks = [(f"{SITE}.hook_sae_acts_post", lambda f, hook: change(f)), (f"{names[1]}", keep)]
    with torch.no_grad():
        logits = hooked.eval().run_with_hooks(ids, fwd_hooks=hooks)
    return seen[names[1]], logits


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"matching_pursuit"}))
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_features_are_set_as_in_saelens_spliced_saes_with_error_term(
    tmp_path: Path, architecture: str, value: float
) -> None:
    from sae_lens import SAE

    module = tiny_model("gpt2")
    model = wrap_language_model(module, name="gpt2", digest="none")
    ids, mask = make_batch(3, 10)
    sae = make_sae(architecture, d_in=24)
    sae.cfg.metadata.hook_name = SITE
    sae.save_model(tmp_path)
    dictionary = load_dictionary(str(tmp_path))
    clean = capture(model, ids, mask, [SITE])[SITE]
    firing = (dictionary.encode(clean.flatten(0, 1)) != 0).float().mean(0)
    feature = int((firing - 0.5).abs().argmin())
    assert 0 < float(firing[feature]) < 1

    def change(f: torch.Tensor) -> torch.Tensor:
        edited = f.clone()
        edited[..., feature] = value
        return edited

    residual, logits = splice(module, SAE.load_from_disk(tmp_path), ids, change)
    name = "blocks.2.hook_resid_post"
    with clamp_feature(model, dictionary, feature, value):
        found = capture(model, ids, mask, [name])[name]
        own_logits = run(module, ids)
    torch.testing.assert_close(found, residual, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own_logits, logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, capture(model, ids, mask, [name])[name], atol=1e-3)


@pytest.mark.parametrize("normalization", ["none", "layer_norm", "constant_norm_rescale"])
def test_only_tokens_on_which_the_feature_fires_are_changed(tmp_path: Path, normalization: str) -> None:
    model = load("llama3")
    ids, mask = make_batch(4)
    dictionary = load_sae(tmp_path, model.width, "topk", normalize_activations=normalization)
    clean = capture(model, ids, mask, [SITE])[SITE]
    f = dictionary.encode(clean.flatten(0, 1)).view(*ids.shape, -1)
    feature = int((f != 0).float().mean((0, 1)).sub(0.4).abs().argmin())
    fires, where = f[..., feature] != 0, make_where(ids)
    with ablate_feature(model, dictionary, feature, site=SITE, where=where):
        found = capture(model, ids, mask, [SITE])[SITE]
    changed = (found != clean).any(-1)
    assert torch.equal(changed, fires & where)
    assert 0 < int(changed.sum()) < int(fires.sum())


def test_a_linear_dictionary_has_the_value_afterwards() -> None:
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    dictionary = load_dictionary("residual:blocks.0.hook_resid_post", width=8)
    for value in (0.0, -1.25):
        found = set_feature(x, dictionary, 2, value)
        assert torch.allclose(dictionary.encode(found)[:, 2], torch.full((6,), value), atol=1e-6)
        others = [0, 1, 3, 4, 5, 6, 7]
        assert torch.equal(found[:, others], x[:, others])
    assert torch.equal(
        silence_feature(x, dictionary, 2, dictionary.encode(x)), set_feature(x, dictionary, 2, 0)
    )


def test_slices_of_rows_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 24, generator=torch.Generator().manual_seed(1))
    dictionary = load_sae(tmp_path, 24)
    whole = set_feature(x, dictionary, 5, 1.5)
    monkeypatch.setattr("xmodel.steering.changes.SLICE_BYTES", 3 * 4 * 32 * 7)
    torch.testing.assert_close(set_feature(x, dictionary, 5, 1.5), whole, atol=1e-5, rtol=1e-5)


def make_contexts(
    model: LanguageModel, dictionary: FeatureDictionary
) -> list[Callable[[], AbstractContextManager[None]]]:
    vector = make_vector(model.width)
    return [
        lambda: add(model, SITE, vector),
        lambda: project_out(model, SITE, vector),
        lambda: ablate_feature(model, dictionary, 0, site=SITE),
        lambda: clamp_feature(model, dictionary, 0, 1.0, site=SITE),
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_is_left_behind_after_an_exception(tmp_path: Path, kind: str) -> None:
    model = load(kind)
    ids, _ = make_batch()
    clean, hooks = run(model.module, ids), count_hooks(model.module)
    weights = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    for make in make_contexts(model, load_sae(tmp_path, model.width)):
        with pytest.raises(ArithmeticError), make():
            assert count_hooks(model.module) == hooks + 1
            raise ArithmeticError("a failure of the user's code")
        assert count_hooks(model.module) == hooks
    assert torch.equal(run(model.module, ids), clean)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.module.state_dict().items())


def test_contexts_nest_and_the_outer_one_acts_first() -> None:
    model = load("gemma3")
    ids, mask = make_batch()
    vector = make_vector(model.width)
    clean = capture(model, ids, mask, [SITE])[SITE]
    with add(model, SITE, vector), project_out(model, SITE, vector):
        gone = capture(model, ids, mask, [SITE])[SITE]
    with project_out(model, SITE, vector), add(model, SITE, vector):
        kept = capture(model, ids, mask, [SITE])[SITE]
    torch.testing.assert_close(gone @ vector, torch.zeros(ids.shape), atol=1e-3, rtol=0)
    torch.testing.assert_close(kept, gone + vector, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(clean, gone, atol=1e-2)


def test_a_processed_model_is_changed_like_any_other() -> None:
    model = load_processed("center_writing_weights")
    ids, mask = make_batch()
    vector = make_vector(model.width)
    vector -= vector.mean()
    name = "blocks.2.hook_resid_post"
    for site in [SITE, "blocks.1.hook_resid_pre", "blocks.0.hook_mlp_out"]:
        with add(load("gpt2"), site, vector):
            expected = capture(load("gpt2"), ids, mask, [name])[name]
        with add(model, site, vector):
            found = capture(model, ids, mask, [name])[name]
        torch.testing.assert_close(found, expected - expected.mean(-1, keepdim=True), atol=1e-4, rtol=1e-4)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    model = load("gpt2")
    ids, mask = make_batch()
    dictionary = load_sae(tmp_path, model.width)
    narrow = load_dictionary("residual:blocks.0.hook_resid_post", width=8)
    bad: list[tuple[AbstractContextManager[None], str]] = [
        (add(model, SITE, torch.zeros(23)), "expected 24 finite numbers"),
        (add(model, SITE, torch.full((24,), float("nan"))), "expected 24 finite numbers"),
        (add(model, "blocks.9.hook_resid_post", torch.zeros(24)), "out of range"),
        (project_out(model, SITE, torch.zeros(24)), "no direction"),
        (ablate_feature(model, dictionary, 0), "does not say at which site"),
        (ablate_feature(model, dictionary, 32, site=SITE), "features 0 to 31"),
        (ablate_feature(model, dictionary, -1, site=SITE), "features 0 to 31"),
        (clamp_feature(model, dictionary, 0, float("inf"), site=SITE), "expected a finite number"),
        (ablate_feature(model, narrow, 0), "reads 8 dimensions"),
    ]
    hooks = count_hooks(model.module)
    for context, message in bad:
        with pytest.raises(InputError, match=message), context:
            pass
    for where in [mask[:1], mask.long()]:
        with (
            pytest.raises(InputError, match="one truth value"),
            add(model, SITE, torch.ones(24), where=where),
        ):
            run(model.module, ids)
    assert count_hooks(model.module) == hooks
