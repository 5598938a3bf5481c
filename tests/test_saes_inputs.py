"""SAEs that are refused or read with care: pickles, releases, other formats, damaged files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_saes import FEATURES, WIDTH, edit_config, make_sae, plain_weights, rows

from xmodel.errors import InputError
from xmodel.models.saes import load_dictionary

RELEASE, SAE_ID = "gpt2-small-res-jb", "blocks.8.hook_resid_pre"
REPOSITORY = "jbloom/GPT2-Small-SAEs-Reformatted"


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the Hugging Face hub: OWNER/REPOSITORY/FILE."""
    from huggingface_hub.errors import EntryNotFoundError

    def serve(repo_id: str, filename: str, force_download: bool = False, subfolder: str = "") -> str:
        path = tmp_path / "hub" / repo_id / subfolder / filename
        if not path.is_file():
            raise EntryNotFoundError(f"no {filename}")
        return str(path)

    monkeypatch.setattr("sae_lens.loading.pretrained_sae_loaders.hf_hub_download", serve)
    return tmp_path / "hub"


def test_a_release_is_loaded_with_what_the_registry_knows(hub: Path) -> None:
    sae = make_sae("standard")
    sae.save_model(hub / REPOSITORY / SAE_ID)
    edit_config(
        hub / REPOSITORY / SAE_ID,
        metadata=None,
        hook_point=SAE_ID,
        model_name="gpt2-small",
        prepend_bos=True,
        context_size=128,
    )
    ours, x = load_dictionary(f"{RELEASE}/{SAE_ID}"), rows()
    assert torch.equal(ours.encode(x), sae.encode(x))
    info = ours.info
    assert (info.site, info.model, info.prepend_bos, info.context_size) == (SAE_ID, "gpt2", True, 128)
    assert info.processing == {"center_writing_weights": True}
    assert len(info.digest) == 64


def test_the_scale_of_the_registry_is_folded_in(hub: Path) -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    lookup = get_pretrained_saes_directory()["gemma-2b-res-jb"]
    (sae_id, factor), *_ = lookup.norm_scaling_factor.items()
    sae = make_sae("standard", normalize_activations="expected_average_only_in")
    sae.save_model(hub / lookup.repo_id / lookup.saes_map[sae_id])
    ours, x = load_dictionary(f"gemma-2b-res-jb/{sae_id}"), rows()
    torch.testing.assert_close(ours.encode(x), make_sae("standard").encode(x * factor).detach())


def test_gemma_scope_is_read_from_the_hub_and_from_a_file_alike(hub: Path) -> None:
    folder = hub / "google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"
    folder.mkdir(parents=True)
    state = plain_weights(threshold=True)
    np.savez(folder / "params.npz", **{key: tensor.numpy() for key, tensor in state.items()})
    x = rows()
    pre = x @ state["W_enc"] + state["b_enc"]
    expected = pre * (pre > state["threshold"]) * (pre > 0)
    for source in (str(folder), str(folder / "params.npz")):
        ours = load_dictionary(source)
        torch.testing.assert_close(ours.encode(x), expected)
        torch.testing.assert_close(ours.decode(expected), expected @ state["W_dec"] + state["b_dec"])
        assert (ours.info.architecture, ours.info.site, ours.info.prepend_bos) == ("jumprelu", None, True)


def save_pickled_release(hub: Path, content: object) -> str:
    """A release that its authors published as a .pt file (attention heads of GPT-2)."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    lookup = get_pretrained_saes_directory()["gpt2-small-hook-z-kk"]
    sae_id, file = next(iter(lookup.saes_map.items()))
    path = hub / lookup.repo_id / file
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    config = f'{{"act_size": {WIDTH}, "dict_size": {FEATURES}, "act_name": "blocks.0.attn.hook_z"}}'
    (hub / lookup.repo_id / (file.split(".pt")[0] + "_cfg.json")).write_text(config)
    return f"gpt2-small-hook-z-kk/{sae_id}"


def test_a_pickled_release_is_read_only_when_allowed(hub: Path) -> None:
    state, load = plain_weights(), torch.load
    source = save_pickled_release(hub, state)
    with pytest.raises(InputError, match="--allow-pt"):
        load_dictionary(source)
    ours, x = load_dictionary(source, allow_pt=True), rows()
    expected = ((x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]).relu()
    torch.testing.assert_close(ours.encode(x), expected)
    assert ours.info.site == "blocks.0.attn.hook_z"
    assert torch.load is load


def test_code_in_a_pickled_release_never_runs(hub: Path, tmp_path: Path) -> None:
    load = torch.load
    source = save_pickled_release(hub, {"W_enc": Bomb(tmp_path / "ran")})
    for allowed in (False, True):
        with pytest.raises(InputError, match=r"allow-pt|weights_only=True: "):
            load_dictionary(source, allow_pt=allowed)
        assert not (tmp_path / "ran").exists()
        assert torch.load is load


def test_the_guard_itself_refuses_a_pickle_that_is_already_here(tmp_path: Path) -> None:
    from xmodel.models.weights import guard_saelens

    load = torch.load
    torch.save(plain_weights(), tmp_path / "sae.pt")
    with guard_saelens("an SAE", allow_pt=True):
        assert set(torch.load(tmp_path / "sae.pt", weights_only=True)) == set(plain_weights())
    with pytest.raises(InputError, match="--allow-pt"), guard_saelens("an SAE", allow_pt=False):
        torch.load(tmp_path / "sae.pt", weights_only=True)
    assert torch.load is load


def test_a_pickle_is_not_even_downloaded(hub: Path) -> None:
    from sae_lens.loading import pretrained_sae_loaders

    serve, source = pretrained_sae_loaders.hf_hub_download, "goodfire-llama-3.3-70b-instruct/layer_50"
    with pytest.raises(InputError, match=r"Llama-3\.3-70B-Instruct-SAE-l50\.pt.*--allow-pt"):
        load_dictionary(source)
    assert pretrained_sae_loaders.hf_hub_download is serve
    with pytest.raises(InputError, match="cannot be downloaded"):
        load_dictionary(source, allow_pt=True)


@pytest.mark.parametrize("threshold", [False, True])
def test_a_local_pt_file_needs_leave(tmp_path: Path, threshold: bool) -> None:
    state, path = plain_weights(threshold=threshold), tmp_path / "sae.pt"
    torch.save({**state, "cfg": {"hook_name": "blocks.1.hook_resid_post", "model_name": "gpt2-small"}}, path)
    with pytest.raises(InputError, match="--allow-pt"):
        load_dictionary(str(path))
    ours, x = load_dictionary(str(path), allow_pt=True), rows()
    pre = (x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]
    expected = pre.relu() * (pre > state["threshold"]) if threshold else pre.relu()
    torch.testing.assert_close(ours.encode(x), expected)
    assert (ours.info.site, ours.info.model) == ("blocks.1.hook_resid_post", "gpt2")
    assert ours.info.architecture == ("jumprelu" if threshold else "standard")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl"])
def test_code_in_a_local_file_never_runs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sae{suffix}"
    torch.save({"W_enc": Bomb(tmp_path / "ran")}, path)
    for allowed in (False, True):
        with pytest.raises(InputError, match=r"pickle|weights_only"):
            load_dictionary(str(path), allow_pt=allowed)
    assert not (tmp_path / "ran").exists()


def test_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", W_enc=np.array([Bomb(tmp_path / "ran")], dtype=object))
    with pytest.raises(InputError, match="npz"):
        load_dictionary(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"not an archive"], ids=range(3))
def test_a_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.npz").write_bytes(content)
    with pytest.raises(InputError, match="npz"):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize("missing", ["threshold", "W_dec", "b_enc"])
def test_an_npz_without_all_weights_is_refused(tmp_path: Path, missing: str) -> None:
    state = {key: tensor.numpy() for key, tensor in plain_weights(threshold=True).items() if key != missing}
    np.savez(tmp_path / "params.npz", **state)
    with pytest.raises(InputError, match=missing):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "near"),
    [
        ("gpt2-small-res-jp/blocks.8.hook_resid_pre", "gpt2-small-res-jb"),
        ("gpt2-small-res-jb/blocks.8.hook_resid_prex", r"blocks\.8\.hook_resid_pre\b"),
        ("gpt2-small-res-jb", "ids are"),
        ("gpt2-small-res-jb/", "ids are"),
        ("zzzz/qqqq", "Some releases are"),
        ("no-such-folder", "no folder of that name"),
        ("./no-such-folder", "neither a folder nor a file"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(source: str, near: str) -> None:
    with pytest.raises(InputError, match=near):
        load_dictionary(source)


def test_without_a_connection_the_error_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", "/nonexistent")
    with pytest.raises(InputError, match=rf"{REPOSITORY}.*give its path.*HF_HOME"):
        load_dictionary(f"{RELEASE}/{SAE_ID}")


def test_a_transcoder_of_a_release_is_refused_before_it_is_fetched(hub: Path) -> None:
    source = "gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76"
    with pytest.raises(InputError, match="reads one site"):
        load_dictionary(source)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "transcoder", "d_out": WIDTH},
        {"architecture": "skip_transcoder"},
        {"architecture": "jumprelu_skip_transcoder"},
        {"architecture": "crosscoder"},
        {"hook_name_out": "blocks.1.hook_mlp_out"},
        {"metadata": {"hook_name_out": "blocks.1.hook_mlp_out"}},
    ],
    ids=str,
)
def test_a_local_transcoder_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    make_sae("standard").save_model(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(InputError, match="transcoder"):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "temporal"}, "tokens before"),
        ({"architecture": "made-up"}, "standard, temporal, topk|jumprelu"),
        ({"d_sae": FEATURES + 1}, "size mismatch"),
        ({"d_in": WIDTH + 1}, "size mismatch"),
        ({"d_in": None}, "cannot be loaded"),
        ({"architecture": "gated"}, "cannot be loaded"),
        ({"normalize_activations": "made-up"}, "normalize_activations"),
        ({"architecture": "topk", "k": FEATURES + 1}, "of at most"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    make_sae("standard").save_model(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(InputError, match=reason):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize("config", ["", "{", "[1]", '"text"'])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, config: str) -> None:
    make_sae("standard").save_model(tmp_path)
    (tmp_path / "cfg.json").write_text(config)
    with pytest.raises(InputError, match="configuration"):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize("size", [0, 7, 600])
def test_damaged_weights_are_refused(tmp_path: Path, size: int) -> None:
    make_sae("standard").save_model(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_dictionary(str(tmp_path))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["W_enc", "b_dec"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, key: str, number: float) -> None:
    make_sae("jumprelu").save_model(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    state = load_file(file)
    state[key].view(-1)[0] = number
    save_file(state, file)
    with pytest.raises(InputError, match=f"1 numbers in {key}"):
        load_dictionary(str(tmp_path))


def test_an_infinite_threshold_is_a_feature_that_never_fires(tmp_path: Path) -> None:
    make_sae("jumprelu").save_model(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    state = load_file(file)
    state["threshold"][3] = float("inf")
    save_file(state, file)
    features = load_dictionary(str(tmp_path)).encode(rows(200))
    assert not features[:, 3].any()
    assert features.any()


def test_a_folder_without_an_sae_says_what_was_looked_for(tmp_path: Path) -> None:
    make_sae("standard").save_model(tmp_path / "inner")
    with pytest.raises(InputError, match=r"sae_weights\.safetensors.*sae\.safetensors.*params\.npz.*inner"):
        load_dictionary(str(tmp_path))
    with pytest.raises(InputError, match="give the folder"):
        load_dictionary(str(tmp_path / "inner" / "sae_weights.safetensors"))


@pytest.mark.parametrize("x", [rows(3, WIDTH + 1), rows(3)[0], rows(4).view(2, 2, WIDTH)], ids=range(3))
def test_activations_of_another_shape_are_refused(tmp_path: Path, x: torch.Tensor) -> None:
    make_sae("topk").save_model(tmp_path)
    with pytest.raises(InputError, match=r"expected \[n, 12\]"):
        load_dictionary(str(tmp_path)).encode(x)


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    make_sae("topk").save_model(tmp_path)
    with pytest.raises(InputError, match="float32"):
        load_dictionary(str(tmp_path), dtype="int8")
