"""Parts on disk: taken where they are whole and of the same measurement, computed anew where not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from xmodel.run import RunFolder
from xmodel.steering.parts import keep_part, read_arrays, remove_parts, write_arrays

ARRAYS = {"odd": np.arange(6, dtype=np.float32).reshape(2, 3), "pairs": np.array([4, 1])}


def keep(folder, fingerprint="one", name="push_a-00000", arrays=None):
    """What comes back, and whether it was computed."""
    calls = []

    def compute():
        calls.append(name)
        return ARRAYS if arrays is None else arrays

    return keep_part(RunFolder(folder), name, fingerprint, compute), bool(calls)


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype and np.array_equal(array, expected[name])


def test_a_part_is_computed_once(tmp_path):
    for computed in (True, False, False):
        found, done = keep(tmp_path)
        assert done is computed
        assert_same(found, ARRAYS)


def test_a_part_of_another_measurement_is_not_taken(tmp_path):
    keep(tmp_path)
    assert keep(tmp_path, "two")[1] and not keep(tmp_path, "two")[1] and keep(tmp_path, "one")[1]
    assert keep(tmp_path, "one", "push_a-00001")[1]


@given(
    drawn.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
        drawn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.data(),
)
def test_whatever_its_layout_an_array_comes_back_as_it_was(tmp_path_factory, array, data):
    """Turned round, cut and repeated views as well, whose bytes do not lie in order."""
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    array = array[tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in range(array.ndim))]
    folder = RunFolder(tmp_path_factory.mktemp("part"))
    write_arrays(folder, "matrices", "one", {"x": array, "y": np.broadcast_to(array, (2, *array.shape))})
    arrays, metadata = read_arrays(folder, "matrices")
    assert metadata["fingerprint"] == "one"
    assert arrays["x"].dtype == array.dtype and arrays["x"].shape == array.shape
    assert arrays["x"].tobytes() == array.tobytes() and arrays["y"].tobytes() == 2 * array.tobytes()


def test_damage_of_any_byte_is_noticed(tmp_path):
    """Every byte of the file changed in turn: nothing else is ever returned, and nothing else raised."""
    folder = RunFolder(tmp_path)
    write_arrays(folder, "matrices", "one", ARRAYS)
    place = tmp_path / "steering" / "matrices.safetensors"
    whole, harmless = place.read_bytes(), 0
    for number in range(len(whole)):
        for flip in (0x01, 0x20, 0xFF):
            place.write_bytes(whole[:number] + bytes([whole[number] ^ flip]) + whole[number + 1 :])
            found = read_arrays(folder, "matrices")
            if found is not None:
                # Spaces of the header, and the fingerprint, which is compared by whoever reads.
                assert_same(found[0], ARRAYS)
                harmless += 1
    assert harmless < len(whole)


@pytest.mark.parametrize("cut", [0, 4, 60, -1])
def test_a_file_that_was_cut_off_is_computed_anew(tmp_path, cut):
    keep(tmp_path)
    place = tmp_path / "steering" / "push_a-00000.safetensors"
    place.write_bytes(place.read_bytes()[:cut])
    found, computed = keep(tmp_path)
    assert computed and not keep(tmp_path)[1]
    assert_same(found, ARRAYS)


def test_a_computation_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        keep_part(RunFolder(tmp_path), "push_a-00000", "one", fail)
    assert not list(tmp_path.rglob("*.safetensors*")) and keep(tmp_path)[1]


def test_all_but_one_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    for name in ("push_a-00000", "reinit-00001", "matrices"):
        write_arrays(folder, name, "one", ARRAYS)
    (tmp_path / "steering" / "notes.txt").write_text("a person's")
    remove_parts(folder, keep="matrices")
    assert sorted(path.name for path in (tmp_path / "steering").iterdir()) == [
        "matrices.safetensors",
        "notes.txt",
    ]
    remove_parts(RunFolder(tmp_path / "no such"), keep="matrices")
    assert read_arrays(folder, "push_a-00000") is None
