"""Loading models: exactly what is stored, from safetensors alone, and every way in which that can fail."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import KINDS, tiny_model

from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.hub import hash_tokenizer
from xmodel.models.language import LanguageModel, load_language_model, wrap_language_model
from xmodel.models.sites import list_sites

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save(kind: str, folder: Path) -> Any:
    module = tiny_model(kind)
    module.save_pretrained(folder)
    return module


def read_all(model: LanguageModel) -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 27).reshape(2, 12)
    names = [name for block in range(model.layers) for name in list_sites(model, block)]
    return capture(model, ids, torch.ones_like(ids, dtype=torch.bool), names)


def fill_cache(root: Path, identity: str, folder: Path, revision: str = "main") -> None:
    """A hub cache that holds a folder's files, as the hub's client lays it out."""
    place = root / f"models--{identity.replace('/', '--')}"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / revision).write_text(COMMIT)
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    for file in folder.iterdir():
        blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, blob)
        (place / "snapshots" / COMMIT / file.name).symlink_to(Path("../../blobs") / blob.name)


def refuse_lookup(*_: Any, **__: Any) -> None:
    raise AssertionError("the network was asked although the user said offline")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No connection, and an empty hub cache, which is returned."""
    cache = tmp_path / "hub-cache"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.getaddrinfo", refuse_lookup)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return cache


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_loads_as_it_was(kind: str, tmp_path: Path) -> None:
    live = wrap_language_model(save(kind, tmp_path), digest="none")
    model = load_language_model(tmp_path)
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    facts = (model.layers, model.width, model.context, model.bos, model.dtype, model.device, model.revision)
    assert facts == (live.layers, live.width, 64, live.bos, torch.float32, torch.device("cpu"), None)
    assert model.name == model.folder == str(tmp_path)
    expected = read_all(live)
    found = read_all(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_weights_are_converted_to_the_dtype_asked_for(dtype: str, tmp_path: Path) -> None:
    module = tiny_model("qwen3").to(torch.bfloat16)
    module.save_pretrained(tmp_path)
    model = load_language_model(tmp_path, dtype=dtype)
    assert {str(parameter.dtype) for parameter in model.module.parameters()} == {f"torch.{dtype}"}
    assert str(model.dtype) == f"torch.{dtype}"
    weight = model.module.get_input_embeddings().weight
    assert torch.equal(weight, module.get_input_embeddings().weight.to(weight.dtype))


def test_weights_in_several_files_load_and_a_lost_one_is_noticed(tmp_path: Path) -> None:
    module = tiny_model("gemma2")
    module.save_pretrained(tmp_path, max_shard_size="20KB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 1
    model = load_language_model(tmp_path)
    expected = read_all(wrap_language_model(module, digest="none"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read_all(model).items())
    files[-1].unlink()
    with pytest.raises(InputError, match="could not be loaded"):
        load_language_model(tmp_path)


def test_the_digest_is_that_of_the_weight_files_and_the_configuration(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    lines = ""
    for name in ("model.safetensors", "config.json"):
        lines += f"{name} {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}\n"
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert load_language_model(tmp_path).digest == expected
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{}")
    assert load_language_model(tmp_path).digest == expected
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": 1e-3}))
    changed = load_language_model(tmp_path).digest
    assert changed != expected
    tiny_model("gpt2", seed=1).save_pretrained(tmp_path)
    assert load_language_model(tmp_path).digest not in (expected, changed)


def test_the_digest_of_a_live_model_follows_its_weights_and_configuration(tmp_path: Path) -> None:
    module = tiny_model("gpt2")
    first = wrap_language_model(module).digest
    assert first == wrap_language_model(tiny_model("gpt2")).digest
    module.save_pretrained(tmp_path)
    assert wrap_language_model(module).digest == first
    assert wrap_language_model(load_language_model(tmp_path).module).digest == first
    module.config.layer_norm_epsilon *= 2
    assert wrap_language_model(module).digest != first
    module.config.layer_norm_epsilon /= 2
    assert wrap_language_model(module).digest == first
    with torch.no_grad():
        module.transformer.h[1].mlp.c_fc.bias[3] += 1e-3
    assert wrap_language_model(module).digest != first
    assert len(wrap_language_model(tiny_model("gpt2").to(torch.bfloat16)).digest) == 64


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"])
def test_the_digest_of_a_tokenizer_follows_its_files(tmp_path: Path, name: str) -> None:
    save("gpt2", tmp_path)
    assert hash_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("one")
    first = hash_tokenizer(tmp_path)
    (tmp_path / "notes.txt").write_text("no tokenizer")
    assert hash_tokenizer(tmp_path) == first
    (tmp_path / name).write_text("another")
    assert hash_tokenizer(tmp_path) not in (first, None)


def test_a_hub_id_is_found_in_the_cache_without_a_connection(offline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save("llama3", folder)
    fill_cache(offline, "someone/tiny", folder)
    fill_cache(offline, "someone/other", folder, revision="step1000")
    model = load_language_model("someone/tiny")
    assert (model.name, model.revision) == ("someone/tiny", COMMIT)
    assert Path(model.folder).name == COMMIT
    assert model.digest == load_language_model(folder).digest
    assert load_language_model("someone/other@step1000").revision == COMMIT
    with pytest.raises(InputError, match="no connection to the hub"):
        load_language_model("someone/other@step2000")


def test_a_cache_with_only_the_tokenizer_is_no_model(offline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    fill_cache(offline, "someone/tiny", folder)
    with pytest.raises(InputError, match=r"'someone/tiny' has no config\.json"):
        load_language_model("someone/tiny")


@pytest.mark.usefixtures("offline")
def test_an_id_without_a_connection_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"no connection to the hub.*HF_HOME"):
        load_language_model("nobody/nothing-at-all")


@pytest.mark.usefixtures("offline")
def test_a_machine_without_a_connection_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("name resolution failed")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    with pytest.raises(InputError, match=r"no connection to the hub.*HF_HOME"):
        load_language_model("nobody/nothing-at-all")


def test_offline_by_environment_is_respected_by_a_new_process(tmp_path: Path) -> None:
    program = (
        "from xmodel.models.language import load_language_model\n"
        "from xmodel.errors import InputError\n"
        "try:\n"
        "    load_language_model('nobody/nothing-at-all')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=100
    )
    assert "there is no connection to the hub, and it is not in the local cache" in done.stdout


@pytest.mark.usefixtures("offline")
def test_a_badly_spelt_id_is_refused() -> None:
    with pytest.raises(InputError, match="could not be fetched"):
        load_language_model("bad id with spaces")


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "~/no-such-folder", "a/b/c"])
def test_a_missing_folder_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=r"there is no model at .*ID@REVISION"):
        load_language_model(source)


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    with pytest.raises(InputError, match="a file where a model's folder was expected"):
        load_language_model(tmp_path / "model.safetensors")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_language_model(tmp_path)


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    trap = tmp_path / "opened"
    # A pickle that leaves a trace when it is loaded.
    (tmp_path / "pytorch_model.bin").write_bytes(f"cbuiltins\nopen\n(V{trap}\nVw\ntR.".encode())
    with pytest.raises(InputError, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        load_language_model(tmp_path)
    assert not trap.exists()


def test_a_pickle_never_stands_in_for_safetensors_without_an_index(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    torch.save(tiny_model("gpt2").state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="could not be loaded"):
        load_language_model(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="there are none"):
        load_language_model(tmp_path)


def test_a_missing_weight_is_never_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save("gpt2", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its weights, for instance transformer\.h\.1\.mlp"):
        load_language_model(tmp_path)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "n_inner": 41}))
    with pytest.raises(InputError, match="could not be loaded"):
        load_language_model(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_weights_are_refused(damage: str, tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "text": b"version https://git-lfs", "empty": b""}
    file.write_bytes(contents[damage])
    with pytest.raises(InputError, match="could not be loaded"):
        load_language_model(tmp_path)


@pytest.mark.parametrize("config", ["{", '{"model_type": "nothing-known"}', '{"model_type": "bert"}'])
def test_a_config_of_no_causal_language_model_is_refused(config: str, tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError):
        load_language_model(tmp_path)


def test_code_from_the_models_folder_is_not_run_unasked(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["model_type"] = "made-up"
    settings["auto_map"] = {"AutoConfig": "own.Settings", "AutoModelForCausalLM": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    trap = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(trap)!r}, 'w')\n")
    with pytest.raises(InputError, match="could not be loaded"):
        load_language_model(tmp_path)
    assert not trap.exists()


def test_an_unknown_dtype_or_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'int8' is not a dtype .* expected float32"):
        load_language_model(tmp_path, dtype="int8")
    with pytest.raises(InputError, match="'gpu' is not a device"):
        load_language_model(tmp_path, device="gpu")
    with pytest.raises(InputError, match="'meta' is not supported"):
        load_language_model(tmp_path, device="meta")


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"PyTorch sees \d+ CUDA devices"):
        load_language_model(tmp_path, device="cuda:99")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="PyTorch sees 0 CUDA devices"):
        load_language_model(tmp_path, device="cuda")


@pytest.mark.parametrize(
    ("settings", "bos"),
    [
        ({"bos_token": "<s>", "added_tokens_decoder": {"7": {"content": "<s>"}}}, 7),
        ({"bos_token": {"content": "<b>", "lstrip": False}}, 8),
        ({"bos_token": None}, 100),
        ({"bos_token": "<unlisted>"}, 100),
        (None, 100),
    ],
)
def test_bos_is_the_tokenizers_or_else_the_configs(
    settings: dict[str, Any] | None, bos: int, tmp_path: Path
) -> None:
    save("gpt2", tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 8, "content": "<b>"}]}))
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_language_model(tmp_path).bos == bos


def test_a_model_without_bos_has_none(tmp_path: Path) -> None:
    module = tiny_model("qwen2")
    module.config.bos_token_id = None
    module.save_pretrained(tmp_path)
    assert load_language_model(tmp_path).bos is None


def test_a_processed_model_loads_and_keeps_the_digest_of_its_files(tmp_path: Path) -> None:
    save("gpt2", tmp_path)
    plain = load_language_model(tmp_path)
    centred = load_language_model(tmp_path, processing={"center_writing_weights": True, "fold_ln": False})
    assert centred.processing == {"center_writing_weights": True}
    assert centred.digest == plain.digest
    name = "blocks.1.hook_resid_post"
    before = read_all(plain)[name]
    torch.testing.assert_close(
        read_all(centred)[name], before - before.mean(-1, keepdim=True), atol=1e-5, rtol=1e-4
    )
