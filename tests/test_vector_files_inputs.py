"""Files that hold no steering vectors, damaged ones, and vectors that cannot be written."""

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.test_vector_files import POST, make_vectors
from xmodel.errors import InputError
from xmodel.steering.vector_files import read_vectors, write_vectors
from xmodel.steering.vectors import SteeringVector


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"direction.4": torch.ones(2, 3)}, r"shape \[2, 3\]"),
        ({"direction.4": torch.ones(0)}, r"shape \[0\]"),
        ({"direction.4": torch.tensor([1.0, torch.nan])}, "NaN"),
        ({"direction.4": torch.tensor([1e300], dtype=torch.float64)}, "too large"),
        ({"direction.4": torch.ones(3, dtype=torch.int32)}, r"torch\.int32: expected floating-point"),
        ({"direction.4": torch.ones(3), "direction.5": torch.ones(4)}, "all of one width"),
        ({"direction.4": torch.ones(3), POST.format(4): torch.ones(3)}, "expected one per site"),
        ({"blocks.4.resid": torch.ones(3)}, "is not a site"),
        ({"direction.-1": torch.ones(3)}, "does not say where"),
        ({"a": torch.ones(3), "b": torch.ones(3)}, "does not say where"),
        ({}, "has no steering vector"),
    ],
)
def test_safetensors_without_vectors_are_refused(tmp_path, tensors, told):
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path)
    with pytest.raises(InputError, match=told):
        read_vectors(path)


def write_gguf(path: Path, architecture: str, **tensors: np.ndarray) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("general.tags", [True, False, True])
    for name, values in tensors.items():
        writer.add_tensor(name.replace("_", "."), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("architecture", "tensors", "told"),
    [
        ("llama", {"direction_4": np.ones(3, np.float32)}, "architecture 'llama': expected 'controlvector'"),
        ("controlvector", {}, "has no steering vector"),
        ("controlvector", {"direction_4": np.ones((2, 3), np.float32)}, r"shape \[2, 3\]"),
        ("controlvector", {"direction_4": np.full(3, np.nan, np.float32)}, "3 numbers that are NaN"),
        ("controlvector", {"direction_4": np.ones(3, np.int32)}, "'direction.4' of int32"),
        ("controlvector", {"direction_x": np.ones(3, np.float32)}, "'direction.x' of float32"),
        ("controlvector", {"other_4": np.ones(3, np.float32)}, "'other.4' of float32"),
        (
            "controlvector",
            {"direction_4": np.ones(3, np.float32), "direction_5": np.ones(4, np.float32)},
            "all of one width",
        ),
    ],
)
def test_gguf_files_without_vectors_are_refused(tmp_path, architecture, tensors, told):
    path = tmp_path / "bad.gguf"
    write_gguf(path, architecture, **tensors)
    with pytest.raises(InputError, match=told):
        read_vectors(path)


def test_an_array_that_claims_to_be_endless_is_refused_at_once(tmp_path):
    path = tmp_path / "bad.gguf"
    write_gguf(path, "controlvector", direction_4=np.ones(3, np.float32))
    whole = path.read_bytes()
    content = b"\x01\x00\x01"
    assert whole.count(struct.pack("<Q", 3) + content) == 1
    path.write_bytes(whole.replace(struct.pack("<Q", 3) + content, struct.pack("<Q", 1 << 40) + content))
    with pytest.raises(InputError, match="it ends too early"):
        read_vectors(path)


@pytest.fixture(scope="module", params=[".safetensors", ".gguf"])
def sound(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / f"sound{request.param}"
    write_vectors(path, make_vectors([1, 2], width=8))
    return path.read_bytes(), path.with_name(f"damaged{request.param}")


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40)
def test_a_file_that_is_cut_off_is_refused(sound, share):
    whole, path = sound
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError):
        read_vectors(path)


@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(max_examples=150)
def test_a_damaged_file_is_refused_or_read_but_fails_in_no_other_way(sound, place, change):
    whole, path = sound
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= change
    path.write_bytes(damaged)
    try:
        vectors = read_vectors(path)
    except InputError:
        return
    assert all(np.isfinite(one.values).all() for one in vectors)


@pytest.mark.parametrize("name", ["v.pt", "v.bin", "v.npz", "v", "v.safetensors.pkl"])
def test_pickles_and_other_files_are_not_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(InputError, match=r"Pickles .* are never read"):
        read_vectors(tmp_path / name)
    with pytest.raises(InputError, match=r"ends in \.safetensors or \.gguf"):
        write_vectors(tmp_path / name, make_vectors())


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_a_pickle_by_another_name_and_a_file_that_is_not_there_are_refused(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    torch.save({"direction.4": torch.ones(3)}, path)
    with pytest.raises(InputError, match="cannot be read"):
        read_vectors(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        read_vectors(path)
    with pytest.raises(InputError, match="there is no steering vector at"):
        read_vectors(tmp_path / f"other{suffix}")


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_vectors_that_do_not_go_together_are_not_written(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    (one,) = make_vectors([3])
    for vectors, told in (
        ([], "no steering vector came"),
        ([one, one], "two steering vectors for blocks.3"),
        ([one, SteeringVector([1.0], POST.format(4), one.model)], "of one model"),
        ([one, SteeringVector(one.values, POST.format(4), "another")], "of one model"),
    ):
        with pytest.raises(InputError, match=told):
            write_vectors(path, vectors)
    with pytest.raises(InputError, match="cannot be written to"):
        write_vectors(tmp_path / "no folder" / path.name, [one])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        write_vectors(tmp_path / "file" / path.name, [one])
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "sites",
    [
        ["blocks.0.hook_resid_post"],
        ["blocks.1.hook_resid_pre"],
        ["blocks.4.hook_attn_out"],
        ["blocks.4.mlp.hook_post"],
        ["blocks.4.hook_resid_post", "blocks.5.hook_resid_pre"],
    ],
)
def test_gguf_has_no_place_for_some_vectors_and_what_was_there_stays(tmp_path, sites):
    path = tmp_path / "v.gguf"
    path.write_bytes(b"before")
    with pytest.raises(InputError, match="has no place in a GGUF control vector"):
        write_vectors(path, [SteeringVector([1.0, 2.0], site) for site in sites])
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_strange_metadata_are_no_names(tmp_path):
    path = tmp_path / "v.safetensors"
    for names in ("no JSON", "[1]", json.dumps({"direction.4": ["a"]})):
        save_file({"direction.4": torch.ones(2)}, path, metadata={"names": names})
        assert len(read_vectors(path)) == 1
