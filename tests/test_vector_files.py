"""Files of steering vectors, against readers and writers of the same formats that are made here by hand."""

import struct
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from xmodel.errors import InputError
from xmodel.steering.vector_files import read_vectors, write_vectors
from xmodel.steering.vectors import SteeringVector

POST = "blocks.{}.hook_resid_post"


def make_vectors(blocks: Sequence[int] = (3, 1, 12), width: int = 6) -> list[SteeringVector]:
    rng = np.random.default_rng(7)
    return [
        SteeringVector(
            rng.normal(size=width), POST.format(block), "owner/model", f"täuschung {block}", "llama"
        )
        for block in blocks
    ]


def write_as_repeng(path: Path, directions: dict[int, np.ndarray], hint: str = "mistral") -> None:
    """The calls that repeng's ControlVector.export_gguf makes of the gguf package."""
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(directions))
    for layer, values in directions.items():
        writer.add_tensor(f"direction.{layer}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_as_repeng(path: Path) -> tuple[str, dict[int, np.ndarray]]:
    """What repeng's ControlVector.import_gguf takes from a file, and what it warns of or refuses."""
    reader = gguf.GGUFReader(path)
    fields = [reader.get_field(key) for key in ("general.architecture", "controlvector.model_hint")]
    assert all(field is not None and len(field.parts) for field in fields)
    architecture, hint = (str(bytes(field.parts[-1]), "utf-8") for field in fields if field is not None)
    assert architecture == "controlvector"
    directions = {}
    for tensor in reader.tensors:
        if tensor.name.startswith("direction."):
            directions[int(tensor.name.split(".")[1])] = np.array(tensor.data)
    return hint, directions


def read_as_llama_cpp(path: Path) -> np.ndarray:
    """[layers, d]: what llama.cpp's loader puts into its buffer, of which row 0 belongs to block 1."""
    data, place = path.read_bytes(), 0

    def take(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return value

    def take_text() -> str:
        nonlocal place
        size = take("Q")
        place += size
        return data[place - size : place].decode()

    assert data[:4] == b"GGUF"
    place = 4
    assert take("I") in (2, 3)
    tensors, pairs = take("Q"), take("Q")
    for _ in range(pairs):
        take_text()
        kind = take("I")
        assert kind in (4, 8), "only uint32 and strings are expected here"
        take("I") if kind == 4 else take_text()
    found = []
    for _ in range(tensors):
        name = take_text()
        shape = [take("Q") for _ in range(take("I"))]
        assert len(shape) == 1 and take("I") == 0, "llama.cpp refuses what is not F32 and one-dimensional"
        found.append((int(name.removeprefix("direction.")), shape[0], take("Q")))
    start = -(-place // 32) * 32
    widths = {width for _, width, _ in found}
    assert len(widths) == 1 and min(block for block, _, _ in found) >= 1
    buffer = np.zeros((max(block for block, _, _ in found), *widths), np.float32)
    for block, width, offset in found:
        buffer[block - 1] += np.frombuffer(data, "<f4", width, start + offset)
    return buffer


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / f"vectors{suffix}"
    vectors = make_vectors()
    write_vectors(path, vectors)
    back = read_vectors(path)
    ordered = [vectors[1], vectors[0], vectors[2]]
    assert back == ordered
    for one, other in zip(back, ordered, strict=True):
        assert (one.name, one.model, one.architecture) == (other.name, other.model, other.architecture)
    assert [path] == list(tmp_path.iterdir())
    write_vectors(path, vectors[:1])
    assert read_vectors(path) == vectors[:1]


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_a_model_that_is_not_known_stays_so(tmp_path, suffix):
    path = tmp_path / f"vector{suffix}"
    write_vectors(path, [SteeringVector([1.0, 2.0], POST.format(4))])
    (back,) = read_vectors(path)
    assert back.model is None and back.values.tolist() == [1, 2]


def test_safetensors_keep_every_site(tmp_path):
    path = tmp_path / "vectors.safetensors"
    sites = ["blocks.0.hook_resid_pre", "blocks.0.hook_attn_out", "blocks.0.hook_resid_post"]
    vectors = [SteeringVector([1.0 + n, 2.0], site, "model", "") for n, site in enumerate(sites)]
    write_vectors(path, vectors)
    assert sorted(one.site for one in read_vectors(path)) == sorted(sites)
    for one in vectors:
        assert read_vectors(path, site=one.site) == [one]
    with safe_open(path, "np") as file:
        assert set(file.keys()) == set(sites) and file.get_tensor(sites[0]).tolist() == [1, 2]


def test_a_gguf_file_is_what_repeng_and_llama_cpp_read(tmp_path):
    path = tmp_path / "vectors.gguf"
    vectors = make_vectors()
    write_vectors(path, vectors)
    hint, directions = read_as_repeng(path)
    assert hint == "llama" and list(directions) == [1, 3, 12]
    buffer = read_as_llama_cpp(path)
    assert buffer.shape == (12, 6)
    for one, block in zip(vectors, (3, 1, 12), strict=True):
        assert np.array_equal(directions[block], one.values)
        # llama.cpp adds row N - 1 of its buffer to the output of block N.
        assert np.array_equal(buffer[block - 1], one.values)
    assert not buffer[[1, 3]].any()
    reader = gguf.GGUFReader(path)
    count = reader.get_field("controlvector.layer_count")
    assert count is not None and count.types == [gguf.GGUFValueType.UINT32] and count.parts[-1][0] == 3


def test_control_vectors_of_repeng_are_read(tmp_path):
    path = tmp_path / "theirs.gguf"
    directions = {
        layer: np.random.default_rng(layer).normal(size=8).astype(np.float32) for layer in (31, 0, 5)
    }
    write_as_repeng(path, directions)
    vectors = read_vectors(path)
    assert [one.site for one in vectors] == [POST.format(layer) for layer in (0, 5, 31)]
    assert [one.name for one in vectors] == ["direction.0", "direction.5", "direction.31"]
    for one, layer in zip(vectors, (0, 5, 31), strict=True):
        assert np.array_equal(one.values, directions[layer])
        assert one.model is None and one.architecture == "mistral"


def test_one_place_of_the_stream_has_several_names(tmp_path):
    path = tmp_path / "v.gguf"
    (vector,) = make_vectors([8])
    for site in (POST.format(8), "blocks.9.hook_resid_pre", "blocks.8.hook_mlp_out"):
        write_vectors(path, [SteeringVector(vector.values, site, vector.model)])
        assert read_vectors(path) == [vector]
        (asked,) = read_vectors(path, site=site)
        assert asked.site == site and np.array_equal(asked.values, vector.values)
    with pytest.raises(InputError, match=r"no vector for blocks\.9\.hook_resid_post: it has blocks\.8\."):
        read_vectors(path, site=POST.format(9))
    two = [
        SteeringVector([float(n)], site) for n, site in enumerate(("blocks.9.hook_resid_pre", POST.format(8)))
    ]
    write_vectors(tmp_path / "v.safetensors", two)
    assert read_vectors(tmp_path / "v.safetensors", site=POST.format(8)) == two[1:]
    with pytest.raises(InputError, match=r"2 vectors for blocks\.8\.hook_mlp_out"):
        read_vectors(tmp_path / "v.safetensors", site="blocks.8.hook_mlp_out")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_programs_safetensors_are_read(tmp_path, dtype):
    path = tmp_path / "theirs.safetensors"
    values = torch.tensor([1.5, -2.0, 0.25], dtype=dtype)
    save_file({"direction.4": values, "blocks.2.hook_resid_pre": 2 * values}, path)
    first, second = read_vectors(path)
    assert (first.site, first.values.tolist()) == ("blocks.2.hook_resid_pre", [3, -4, 0.5])
    assert (second.site, second.values.tolist()) == (POST.format(4), [1.5, -2, 0.25])
    save_file({"vector": values}, path, metadata={"site": POST.format(6), "model": "m", "name": "calm"})
    (one,) = read_vectors(path)
    assert (one.site, one.model, one.name) == (POST.format(6), "m", "calm")
    save_file({"vector": values}, path)
    assert read_vectors(path, site=POST.format(7))[0].site == POST.format(7)
    with pytest.raises(InputError, match="does not say where its tensor 'vector' is to be added"):
        read_vectors(path)
