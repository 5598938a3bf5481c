"""SAEs of SAELens: the same numbers as SAELens' own objects, and what their metadata says."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_saes import ARCHITECTURES, FEATURES, WIDTH, edit_config, make_sae, randomize, rows

from xmodel.models.saes import compute_fvu, load_dictionary
from xmodel.models.weights import hash_files

NORMALIZATIONS = ["none", "constant_norm_rescale", "layer_norm", "expected_average_only_in"]

pytestmark = pytest.mark.filterwarnings("ignore:.*was trained on activations normalised by:UserWarning")


def normalize(x: torch.Tensor, how: str) -> torch.Tensor:
    """The formulas of SAELens' documentation, written out."""
    if how == "constant_norm_rescale":
        return torch.stack([row * len(row) ** 0.5 / row.pow(2).sum().sqrt() for row in x])
    if how == "layer_norm":
        return torch.stack([(row - row.mean()) / ((row - row.mean()).std() + 1e-5) for row in x])
    return x


@pytest.mark.parametrize("subtracts", [True, False], ids=["b_dec", "no-b_dec"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_what_saelens_gives(
    tmp_path: Path, architecture: str, normalization: str, subtracts: bool
) -> None:
    from sae_lens import SAE

    make_sae(architecture, normalize_activations=normalization, apply_b_dec_to_input=subtracts).save_model(
        tmp_path
    )
    theirs, ours, x = SAE.load_from_disk(tmp_path), load_dictionary(str(tmp_path)), rows()
    with torch.no_grad():
        features = theirs.encode(x)
        decoded = theirs.decode(features)
    assert torch.equal(ours.encode(x), features)
    assert torch.equal(ours.decode(features, like=x), decoded)
    assert torch.equal(ours.decoder, theirs.W_dec)
    assert 0 < int((features != 0).sum()) < features.numel()
    assert ours.info.architecture == architecture.removesuffix("-rescaled")
    assert ours.info.signed == (architecture == "abstopk")
    assert (ours.info.width, ours.info.features) == (WIDTH, FEATURES)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_reconstruction_is_in_the_space_of_the_saes_own_normalisation(
    tmp_path: Path, normalization: str
) -> None:
    sae = make_sae("standard", normalize_activations=normalization)
    sae.save_model(tmp_path)
    ours, x = load_dictionary(str(tmp_path)), rows()
    own, reconstruction = ours.reconstruct(x)
    expected = normalize(x, normalization)
    torch.testing.assert_close(own, expected)
    features = ((expected - sae.b_dec) @ sae.W_enc + sae.b_enc).relu().detach()
    torch.testing.assert_close(ours.encode(x), features)
    torch.testing.assert_close(reconstruction, (features @ sae.W_dec + sae.b_dec).detach())


@given(seed=st.integers(0, 10_000), architecture=st.sampled_from(["topk", "topk-rescaled", "jumprelu"]))
def test_the_quick_encoders_equal_saelens_on_any_weights(seed: int, architecture: str) -> None:
    from xmodel.models.saelens import wrap_sae

    sae = make_sae(architecture, seed)
    x = rows(seed=seed)
    with torch.no_grad():
        expected = sae.encode(x)
    found = wrap_sae(sae, "tiny", "").encode(x)
    assert torch.equal(found, expected)
    assert not torch.signbit(found[found == 0]).any()


def test_the_quick_encoders_equal_saelens_at_the_edges() -> None:
    from xmodel.models.saelens import wrap_sae

    x = rows()
    wide = make_sae("topk", k=FEATURES - 1)  # so many are kept that some are negative
    tied = make_sae("jumprelu")
    with torch.no_grad():
        tied.threshold[:] = (x[:1] - tied.b_dec) @ tied.W_enc + tied.b_enc  # equal is not above
    for sae in (wide, tied):
        with torch.no_grad():
            expected = sae.encode(x[:1])
        found = wrap_sae(sae, "tiny", "").encode(x[:1])
        assert torch.equal(found, expected)
        assert (found >= 0).all()
    assert not found.any()


def test_a_per_row_scale_is_asked_for_and_never_taken_from_other_rows(tmp_path: Path) -> None:
    make_sae("standard", normalize_activations="layer_norm").save_model(tmp_path)
    ours, x, other = load_dictionary(str(tmp_path)), rows(), rows(seed=8)
    features = ours.encode(x)
    expected = ours.decode(features, like=x)
    ours.encode(other)
    assert torch.equal(ours.decode(features, like=x), expected)
    with pytest.raises(ValueError, match="like=x"):
        ours.decode(features)


def test_a_scaling_factor_beside_the_weights_is_folded_in(tmp_path: Path) -> None:
    sae = make_sae("topk-rescaled", normalize_activations="expected_average_only_in")
    sae.save_model(tmp_path)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 2.5}')
    ours, x = load_dictionary(str(tmp_path)), rows()
    sae.fold_activation_norm_scaling_factor(2.5)
    assert torch.equal(ours.encode(x), sae.encode(x))
    assert torch.equal(ours.decode(ours.encode(x)), sae(x))
    plain = make_sae("topk-rescaled").encode(x * 2.5) / 2.5  # selection and scale by the decoder's norms
    torch.testing.assert_close(ours.encode(x), plain)
    assert ours.info.digest != load_without_scaler(tmp_path).info.digest


def load_without_scaler(folder: Path) -> Any:
    (folder / "activation_scaler.json").unlink()
    with pytest.warns(UserWarning, match=r"no activation_scaler\.json"):
        return load_dictionary(str(folder))


def test_a_whitening_beside_the_weights_is_folded_in(tmp_path: Path) -> None:
    from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening

    sae = make_sae("standard", normalize_activations="covariance_whitening")
    sae.save_model(tmp_path)
    matrix = rows(WIDTH, seed=3) + 4 * torch.eye(WIDTH)
    white = ActivationWhitening(rows(1)[0], matrix, torch.linalg.inv(matrix))
    ActivationScaler(whitening=white).save(str(tmp_path / "activation_scaler.json"))
    ours, x = load_dictionary(str(tmp_path)), rows()
    expected = make_sae("standard").encode((x - white.mean) @ matrix)
    torch.testing.assert_close(ours.encode(x), expected.detach(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_a_checkpoint_of_training_becomes_the_sae_of_inference(
    tmp_path: Path, architecture: str, rescaled: bool
) -> None:
    from sae_lens import SAE, TrainingSAE
    from sae_lens.registry import get_sae_training_class

    config: dict[str, Any] = {
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "k": 4.0,
        "rescale_acts_by_decoder_norm": rescaled,
    }
    if architecture.startswith("matryoshka"):
        config["matryoshka_widths"] = [8, FEATURES]
    sae_class, config_class = get_sae_training_class(architecture)
    sae: TrainingSAE[Any] = sae_class(config_class(**config))
    randomize(sae)
    sae.topk_threshold = torch.tensor(0.75, dtype=torch.double)
    sae.save_model(tmp_path / "training")
    sae.save_inference_model(tmp_path / "inference")
    assert json.loads((tmp_path / "training" / "cfg.json").read_text())["architecture"] == architecture
    ours, x = load_dictionary(str(tmp_path / "training")), rows()
    theirs = SAE.load_from_disk(tmp_path / "inference")
    assert torch.equal(ours.encode(x), theirs.encode(x))
    assert torch.equal(ours.decode(ours.encode(x)), theirs(x))
    assert ours.info.architecture == "jumprelu"


def test_activations_of_heads_stay_flat(tmp_path: Path) -> None:
    metadata = {"hook_name": "blocks.3.attn.hook_z", "model_name": "gpt2-small", "sae_lens_version": "6.0.0"}
    make_sae("standard").save_model(tmp_path)
    edit_config(tmp_path, reshape_activations="hook_z", metadata=metadata)
    ours, x = load_dictionary(str(tmp_path)), rows()
    assert torch.equal(ours.encode(x), make_sae("standard").encode(x))
    assert ours.decode(ours.encode(x)).shape == x.shape
    assert ours.info.site == "blocks.3.attn.hook_z"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"hook_name": "blocks.8.hook_resid_pre"}, "blocks.8.hook_resid_pre"),
        ({"hook_name": "blocks.8.attn.hook_z", "hook_head_index": 3}, None),
        (
            {"hook_name": "model.layers.5.mlp", "model_class_name": "AutoModelForCausalLM"},
            "blocks.5.hook_mlp_out",
        ),
        ({"hook_name": "model.norm"}, "model.norm"),
        ({}, None),
    ],
)
def test_the_site_is_what_the_metadata_says(
    tmp_path: Path, metadata: dict[str, Any], expected: str | None
) -> None:
    make_sae("standard").save_model(tmp_path)
    edit_config(tmp_path, metadata={**metadata, "sae_lens_version": "6.0.0"})
    assert load_dictionary(str(tmp_path)).info.site == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2-small", "gpt2"),
        ("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"),
        ("gemma-2-2b", "google/gemma-2-2b"),
        ("someone/new-model", "someone/new-model"),
        (None, None),
    ],
)
def test_the_model_is_a_hub_id(tmp_path: Path, name: str | None, expected: str | None) -> None:
    make_sae("standard").save_model(tmp_path)
    edit_config(tmp_path, metadata={"model_name": name, "sae_lens_version": "6.0.0"})
    info = load_dictionary(str(tmp_path)).info
    assert info.model == expected
    assert (info.prepend_bos, info.context_size, info.processing) == (None, None, {})


def test_only_flags_that_change_weights_are_processing(tmp_path: Path) -> None:
    flags = {
        "center_writing_weights": True,
        "fold_ln": False,
        "center_unembed": None,
        "n_devices": 2,
        "dtype": "float16",
    }
    metadata = {"model_from_pretrained_kwargs": flags, "sae_lens_version": "6.0.0", "prepend_bos": False}
    make_sae("standard").save_model(tmp_path)
    edit_config(tmp_path, metadata=metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = load_dictionary(str(tmp_path)).info
    assert info.processing == {"center_writing_weights": True}
    assert info.prepend_bos is False
    edit_config(tmp_path, metadata={**metadata, "model_class_name": "AutoModelForCausalLM"})
    assert load_dictionary(str(tmp_path)).info.processing == {}


def test_a_folder_from_before_version_6_is_read(tmp_path: Path) -> None:
    make_sae("topk").save_model(tmp_path)
    old = {
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "dtype": "torch.float32",
        "hook_point": "blocks.8.hook_resid_pre",
        "model_name": "gpt2-small",
        "prepend_bos": True,
        "context_size": 128,
        "normalize_activations": False,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 5},
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    ours, x = load_dictionary(str(tmp_path)), rows()
    assert torch.equal(ours.encode(x), make_sae("topk").encode(x))
    info = ours.info
    assert (info.site, info.model, info.architecture) == ("blocks.8.hook_resid_pre", "gpt2", "topk")
    assert (info.prepend_bos, info.context_size) == (True, 128)
    assert info.processing == {"center_writing_weights": True}


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_dtype_is_the_callers(tmp_path: Path, dtype: str) -> None:
    make_sae("topk").save_model(tmp_path)
    ours = load_dictionary(str(tmp_path), dtype=dtype)
    assert ours.dtype == ours.decoder.dtype == ours.encode(rows()).dtype == getattr(torch, dtype)


def test_nothing_is_trained_and_the_input_is_left_alone(tmp_path: Path) -> None:
    make_sae("topk").save_model(tmp_path)
    ours, x = load_dictionary(str(tmp_path)), rows()
    before = x.clone()
    features = ours.encode(x)
    assert not features.requires_grad
    ours.decode(features)
    assert torch.equal(x, before)
    assert torch.equal(ours.encode(x), features)


@pytest.mark.parametrize(
    ("folder", "width", "site", "model", "bos"),
    [
        ("gemma-3-270m-l9", 640, "blocks.9.hook_resid_post", "google/gemma-3-270m", True),
        (
            "smollm2-135m-instruct-l15",
            576,
            "blocks.15.hook_resid_post",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            False,
        ),
    ],
)
def test_real_saes_load(shared: Path, folder: str, width: int, site: str, model: str, bos: bool) -> None:
    from sae_lens import SAE

    path = shared / "data" / "saes" / folder
    ours, theirs = load_dictionary(str(path)), SAE.load_from_disk(path)
    info = ours.info
    assert (info.width, info.features, info.architecture) == (width, 4096, "topk")
    assert (info.site, info.model, info.prepend_bos, info.context_size) == (site, model, bos, 256)
    assert (info.processing, info.signed, info.dense) == ({}, False, False)
    assert info.digest == hash_files([path / "cfg.json", path / "sae_weights.safetensors"])
    x = rows(40, width)
    assert torch.equal(ours.encode(x), theirs.encode(x))
    assert torch.equal(ours.decode(ours.encode(x)), theirs(x))
    assert int((ours.encode(x) != 0).sum(1).max()) <= 32


@given(seed=st.integers(0, 10_000), count=st.integers(2, 20), offset=st.sampled_from([0.0, 1e3]))
def test_fvu_is_the_plain_formula(seed: int, count: int, offset: float) -> None:
    x = rows(count, seed=seed) + offset
    x_hat = x + rows(count, seed=seed + 1) / 10
    mean = [sum(float(row[j]) for row in x) / count for j in range(WIDTH)]
    error = sum((float(x[i, j]) - float(x_hat[i, j])) ** 2 for i in range(count) for j in range(WIDTH))
    variance = sum((float(x[i, j]) - mean[j]) ** 2 for i in range(count) for j in range(WIDTH))
    assert compute_fvu(x, x_hat) == pytest.approx(error / variance, rel=1e-9)


def test_fvu_of_the_extremes() -> None:
    x = rows()
    assert compute_fvu(x, x) == 0
    assert compute_fvu(x, x.mean(0).expand_as(x)) == pytest.approx(1, rel=1e-6)
    still = torch.ones(3, 2)
    assert compute_fvu(still, still) == 0
    assert compute_fvu(still, still * 2) == float("inf")
