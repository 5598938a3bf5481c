"""What does not change what the explorer is: how much memory there is, and what others add to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import page_reference as slow
from tests.tiny_runs import FEATURES, build_run, make_texts
from xmodel.errors import InputError
from xmodel.report.page import contexts as contexts_module
from xmodel.report.page import word_index
from xmodel.report.page.columns import cut_tiles, read_columns
from xmodel.report.page.pairs import sample_scatter


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "run", make_texts(22, 8), shards=5)


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    slow.write_data(made, folder)
    return read_bytes(folder)


def read_bytes(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("most", [1, 100, 1500, 5000])
def test_any_memory_gives_the_same_bytes(made, whole, tmp_path, most):
    slow.write_data(made, tmp_path, most=most)
    assert read_bytes(tmp_path) == whole


@settings(max_examples=25)
@given(most=st.integers(1, 6000), side=st.sampled_from("ab"))
def test_columns_are_the_features_whatever_the_tiles(made, tmp_path_factory, most, side):
    scratch = tmp_path_factory.mktemp("scratch")
    columns = read_columns(made.run.shards, side, scratch, most=most)
    assert any(scratch.iterdir()) == (most < len(columns.words))
    for feature in range(len(columns)):
        ids, values = columns.get(feature)
        dense = made.values[side][:, feature]
        assert ids.tolist() == np.flatnonzero(dense).tolist()
        assert values.tolist() == dense[ids].tolist()


@given(st.lists(st.integers(0, 50)), st.integers(1, 100))
def test_tiles_are_all_features_in_turn_and_bounded(counts, most):
    tiles = cut_tiles(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]), most)
    assert [feature for first, stop in tiles for feature in range(first, stop)] == list(range(len(counts)))
    assert all(sum(counts[first:stop]) <= most or stop == first + 1 for first, stop in tiles)


def test_the_scratch_folder_goes_also_after_an_error(made, tmp_path):
    with pytest.raises(KeyError), slow.gather_explorer(made.run, tmp_path / "scratch", most=10):
        assert (tmp_path / "scratch").is_dir()
        raise KeyError
    assert not (tmp_path / "scratch").exists()


def test_a_damaged_shard_is_refused(tmp_path):
    made = build_run(tmp_path / "run", make_texts(22, 8))
    place = tmp_path / "run" / "features_b" / "shard-00001.safetensors"
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    with pytest.raises(InputError):
        slow.write_data(made, tmp_path / "out")


def test_columns_of_others_are_written_as_they_are(made, tmp_path):
    concepts = {"a": ["whale", *[None] * 9], "b": None}
    labels = {"a": None, "b": ["\x1b<b>", *[None] * 7]}
    carried = {"a": {"label": ["x"] * FEATURES[0]}, "b": None}
    slow.write_data(made, tmp_path, concepts=concepts, labels=labels, carried=carried)
    data = slow.read_data(tmp_path)
    a, b = (data[f"features/words_{side}"] for side in "ab")
    assert (a["concept"], b["concept"]) == (concepts["a"], [None] * 8)
    assert (a["labels"], b["labels"]) == (None, ["‹ESC›<b>", *[None] * 7])
    assert (a["carried"], b["carried"]) == (carried["a"], None)


@pytest.mark.parametrize("contexts", [2, 6, 40])
def test_half_of_the_contexts_are_of_each_side(made, tmp_path, contexts):
    slow.write_data(made, tmp_path, contexts=contexts)
    data = slow.read_data(tmp_path)
    most = [max(len(one["contexts"]) for one in data[f"features/{s}-0000"] if one) for s in "ab"]
    assert max(most) == contexts // 2
    table = data["pairs/table"]
    for a, b, entry in zip(table["a"], table["b"], data["pairs/0000"], strict=True):
        assert len(entry["b_on_a"]) == len(data["features/a-0000"][a]["contexts"])
        assert len(entry["a_on_b"]) == len(data["features/b-0000"][b]["contexts"])


def test_what_is_cut_from_the_index_is_counted(made, tmp_path, monkeypatch):
    slow.write_data(made, tmp_path / "full")
    monkeypatch.setattr(word_index, "MOST_FEATURES", 2)
    slow.write_data(made, tmp_path / "cut")
    cut, full = (slow.read_data(tmp_path / name)["words/0000"] for name in ("cut", "full"))
    assert any("more" in entry for entry in cut)
    for short, entry in zip(cut, full, strict=True):
        for side in "ab":
            assert short[side] == entry[side][:2] and short["s"][side] == entry["s"][side][:2]
            assert short.get("more", {}).get(side, 0) == max(0, len(entry[side]) - 2)


def test_text_chunks_that_nothing_needs_are_left_out(made, tmp_path, monkeypatch):
    monkeypatch.setattr(contexts_module, "TEXT_CHUNK", 16)
    needed = np.zeros(len(made.words), dtype=np.bool_)
    needed[[0, 40, 41, 100]] = True
    chunks, size = contexts_module.write_texts(made.run, slow.ChunkWriter(tmp_path), needed)
    data = slow.read_data(tmp_path)
    assert sorted(data) == ["text/0000", "text/0002", "text/0006"]
    assert (chunks, size) == (3, sum(map(len, read_bytes(tmp_path).values())))
    assert data["text/0002"]["words"] == [None] * 8 + [made.word(40), made.word(41)] + [None] * 6
    assert data["text/0002"]["documents"][0][:2] == [32, made.words[32][0]]


FIRES = st.dictionaries(st.integers(0, 400), st.integers(1, 9), max_size=300)


@given(FIRES, FIRES)
def test_scatters_add_up(a, b):
    sides = [
        (np.array(sorted(own), np.int32), np.array([own[word] for word in sorted(own)], np.float32))
        for own in (a, b)
    ]
    found = sample_scatter(*sides)
    assert found.all == (len(a.keys() & b.keys()), len(a.keys() - b.keys()), len(b.keys() - a.keys()))
    assert len(found.words) == min(120, len(a.keys() | b.keys()))
    assert set(found.words.tolist()) <= a.keys() | b.keys()
    assert found.a.tolist() == [a.get(word, 0) for word in found.words.tolist()]
    assert found.b.tolist() == [b.get(word, 0) for word in found.words.tolist()]
