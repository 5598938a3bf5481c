"""SAEs of sparsify against its published formula in plain loops, and what their folders say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_saes import FEATURES, WIDTH, rows, save_sparsify

from xmodel.errors import InputError
from xmodel.models.saes import compute_fvu, load_dictionary
from xmodel.models.sparsify import name_site


def encode_slowly(x: torch.Tensor, state: dict[str, torch.Tensor], k: int, activation: str) -> torch.Tensor:
    """relu(encoder (x - b_dec) + bias), then the k largest of a row, or the largest of each of k groups."""
    latents = len(state["encoder.bias"])
    features = torch.zeros(len(x), latents)
    for i, row in enumerate(x):
        centred = row - state["b_dec"]
        pre = [
            max(float(state["encoder.weight"][j] @ centred + state["encoder.bias"][j]), 0.0)
            for j in range(latents)
        ]
        if activation == "topk":
            kept = sorted(range(latents), key=lambda j: -pre[j])[:k]
        else:
            size = latents // k
            kept = [max(range(g * size, (g + 1) * size), key=lambda j: pre[j]) for g in range(k)]
        for j in kept:
            features[i, j] = pre[j]
    return features


def decode_slowly(features: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(
        [
            sum(
                (f * state["W_dec"][j] for j, f in enumerate(row) if f != 0),
                torch.zeros(state["b_dec"].shape),
            )
            + state["b_dec"]
            for row in features
        ]
    )


# A square decoder would load either way round.
@pytest.mark.parametrize("latents", [FEATURES, WIDTH])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_numbers_are_those_of_the_published_formula(
    tmp_path: Path, activation: str, normalized: bool, latents: int
) -> None:
    state = save_sparsify(tmp_path, latents=latents, activation=activation, normalize_decoder=normalized)
    ours, x = load_dictionary(str(tmp_path)), rows()
    expected = encode_slowly(x, state, 4, activation)
    assert torch.equal(ours.encode(x) != 0, expected != 0)
    torch.testing.assert_close(ours.encode(x), expected)
    torch.testing.assert_close(ours.decode(expected), decode_slowly(expected, state))
    assert torch.equal(ours.decoder, state["W_dec"])
    own, reconstruction = ours.reconstruct(x)
    assert torch.equal(own, x)
    torch.testing.assert_close(reconstruction, decode_slowly(expected, state))
    assert compute_fvu(own, reconstruction) > 0
    assert (ours.info.architecture, ours.info.features) == (activation, latents)
    assert not ours.info.signed


def test_latents_may_be_a_multiple_of_the_width(tmp_path: Path) -> None:
    save_sparsify(tmp_path, latents=3 * WIDTH, num_latents=0, expansion_factor=3)
    assert load_dictionary(str(tmp_path)).info.features == 3 * WIDTH


@pytest.mark.parametrize(
    ("module", "site"),
    [
        ("layers.5", "blocks.5.hook_resid_post"),
        ("layers_5", "blocks.5.hook_resid_post"),
        ("gpt_neox.layers.11", "blocks.11.hook_resid_post"),
        ("model.layers.0.mlp", "blocks.0.hook_mlp_out"),
        ("transformer.h.5.mlp", "blocks.5.hook_mlp_out"),
        ("h.5.attn", "blocks.5.hook_attn_out"),
        ("layers.5.attention", "blocks.5.hook_attn_out"),
        ("layers.5.self_attn", "blocks.5.hook_attn_out"),
        ("layers.5.mlp.down_proj", None),
        ("layers.5.input_layernorm", None),
        ("embed_tokens", None),
        ("layers", None),
        ("players.5", None),
    ],
)
def test_modules_have_the_names_of_sites(module: str, site: str | None) -> None:
    assert name_site(module) == site


@pytest.mark.parametrize("seed", ["", "seed1"])
def test_the_folder_says_the_site_and_the_run_the_model(tmp_path: Path, seed: str) -> None:
    folder = tmp_path / "layers.5.mlp" / seed
    save_sparsify(folder)
    (tmp_path / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-160m", "ctx_len": 2049}))
    info = load_dictionary(str(folder)).info
    assert (info.site, info.model) == ("blocks.5.hook_mlp_out", "EleutherAI/pythia-160m")
    assert (info.context_size, info.prepend_bos) == (2049, None)
    assert load_dictionary(f"sparsify:{folder}").info.digest == info.digest


@pytest.mark.parametrize("options", ["transcode", "skip_connection", "embed_skip", "gram_lookup", "signed"])
def test_what_is_no_sae_of_one_site_is_refused(tmp_path: Path, options: str) -> None:
    save_sparsify(tmp_path, **{options: True})
    with pytest.raises(InputError, match=options):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize(
    "config",
    [
        {"num_latents": FEATURES + 1},
        {"d_in": WIDTH + 1},
        {"d_in": None},
        {"k": 0},
        {"k": FEATURES + 1},
        {"k": "4"},
        {"activation": "relu"},
        {"activation": "groupmax", "k": 5},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    save_sparsify(tmp_path, **config)
    with pytest.raises(InputError, match="expected"):
        load_dictionary(str(tmp_path))


def test_a_transposed_decoder_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = save_sparsify(tmp_path)
    save_file({**state, "W_dec": state["W_dec"].T.contiguous()}, tmp_path / "sae.safetensors")
    with pytest.raises(InputError, match=r"W_dec of shape \[12, 32\]: expected \[32, 12\]"):
        load_dictionary(str(tmp_path))


def test_an_sae_of_the_hub_is_found_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_sparsify(tmp_path / "owner/repository/layers.3")
    asked = []

    def serve(repository: str, filename: str) -> str:
        asked.append(f"{repository}/{filename}")
        if filename == "config.json":
            raise FileNotFoundError(filename)
        return str(tmp_path / repository / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", serve)
    info = load_dictionary("sparsify:owner/repository/layers.3").info
    assert info.site == "blocks.3.hook_resid_post"
    assert asked[:2] == ["owner/repository/layers.3/cfg.json", "owner/repository/layers.3/sae.safetensors"]


@pytest.mark.parametrize("source", ["sparsify:", "sparsify:name", "sparsify:/layers.3"])
def test_a_source_without_a_repository_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="OWNER/REPOSITORY"):
        load_dictionary(source)


def test_without_a_connection_the_error_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"'layers\.3' of the repository 'owner/no-such'.*HF_HOME"):
        load_dictionary("sparsify:owner/no-such/layers.3")
