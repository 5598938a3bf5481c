"""A steering run that was killed goes on where it stopped, and ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from tests.run_helpers import Stop
from tests.steered_runs import FEW, MAP_WORDS, choose, deep, one_thread, run  # noqa: F401 (fixtures)
from xmodel.errors import InputError
from xmodel.pairing.results import open_run
from xmodel.steering import collecting
from xmodel.steering.collecting import Collector
from xmodel.steering.results import Steering
from xmodel.steering.steering import steer_run


@pytest.fixture(scope="module")
def small_parts():
    """As a module's fixture, so that the unbroken run has the same parts."""
    before, collecting.PART = collecting.PART, 4
    yield
    collecting.PART = before


@pytest.fixture
def fresh(run, tmp_path):
    return open_run(shutil.copytree(run.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def unbroken(run, small_parts, tmp_path_factory):
    return steer(open_run(shutil.copytree(run.path, tmp_path_factory.mktemp("unbroken") / "run")))


def steer(run, report=lambda *_: None, **changes):
    return steer_run(run, choose(**changes), report=report, warn=lambda _: None)


def stop_at(stage, times=1):
    """A report that stops the run when a stage was told of so many times."""
    calls = Counter()

    def report(name, done, total):
        calls[name] += 1
        if name == stage and calls[name] == times:
            raise Stop

    return report


def interrupt(run, stage, times=1, **changes):
    with pytest.raises(Stop):
        steer(run, stop_at(stage, times), **changes)


def count_parts(monkeypatch):
    """Names of the parts that are computed from now on."""
    computed, keep = [], Collector.keep

    def note(self, name, compute, *more):
        def computing():
            computed.append(name)
            return compute()

        return keep(self, name, computing, *more)

    monkeypatch.setattr(Collector, "keep", note)
    return computed


def spoil(place):
    content = bytearray(place.read_bytes())
    content[-5] ^= 1
    place.write_bytes(bytes(content))


def list_parts(run):
    return sorted(path.stem for path in (run.path / "steering").glob("*.safetensors"))


def assert_same(found, expected):
    assert {**found.summary, "seconds": 0} == {**expected.summary, "seconds": 0}
    assert found.table.equals(expected.table)
    assert (found.run.path / "transfer.parquet").read_bytes() == (
        expected.run.path / "transfer.parquet"
    ).read_bytes()
    for name, array in found.matrices.items():
        assert array.tobytes() == expected.matrices[name].tobytes()
    assert list_parts(found.run) == ["matrices"]


@pytest.mark.parametrize("stage, times", [("push_b", 2), ("reinit_2", 1), ("next_token_b", 2)])
def test_an_interrupted_run_goes_on_and_ends_the_same(stage, times, fresh, unbroken, monkeypatch):
    interrupt(fresh, stage, times)
    kept = list_parts(fresh)
    assert kept and not (fresh.path / "steering.json").exists()
    computed = count_parts(monkeypatch)
    assert_same(steer(fresh), unbroken)
    assert computed and not set(computed) & set(kept)


def test_a_finished_run_can_be_measured_again(fresh, unbroken):
    steer(fresh, seed=3, curve_pairs=0, words=50)
    assert_same(steer(fresh), unbroken)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"doses": (0.2,)}])
def test_parts_of_other_settings_are_not_taken(changes, fresh, monkeypatch):
    interrupt(fresh, "tests")
    kept = list_parts(fresh)
    computed = count_parts(monkeypatch)
    steer(fresh, reinit=1, curve_pairs=0, **changes)
    assert {name for name in kept if name.startswith(("push", "random"))} & set(computed)
    assert all(one in computed for one in ("push_a-00000", "push_b-00000", "random-00000", "reinit-00000"))


@pytest.mark.parametrize("changes", [{"permutations": 19}, {"curve_doses": (0.1, 0.4), "reinit": 3}])
def test_what_other_settings_do_not_touch_is_taken(changes, fresh, monkeypatch):
    interrupt(fresh, "next_token_b", 2)
    computed = count_parts(monkeypatch)
    steer(fresh, **changes)
    assert ("push_b-00000" in computed) is ("permutations" in changes)
    assert "curves-00000" in computed and ("reinit-00002" in computed) is ("reinit" in changes)


def test_the_same_features_in_other_pairs_are_measured_anew(fresh, monkeypatch):
    few = {"reinit": 1, "curve_pairs": 0, "random": 0, "live": 0}
    interrupt(fresh, "tests", features=((0, 1), (3, 2), (5, 7)), **few)
    computed = count_parts(monkeypatch)
    steer(fresh, features=((0, 2), (3, 1), (5, 7)), **few)
    assert {"push_a-00000", "push_b-00000", "reinit-00000"} <= set(computed)


def test_a_damaged_part_is_computed_anew(fresh, unbroken, monkeypatch):
    interrupt(fresh, "tests")
    damaged = {"push_a-00000", "random-00001", "reinit-00001"}
    for name in damaged:
        spoil(fresh.path / "steering" / f"{name}.safetensors")
    computed = count_parts(monkeypatch)
    assert_same(steer(fresh), unbroken)
    assert {one for one in computed if one.startswith(("push", "random", "reinit"))} == damaged


def test_damaged_matrices_are_refused(unbroken, tmp_path):
    copy = open_run(shutil.copytree(unbroken.run.path, tmp_path / "run"))
    place = copy.path / "steering" / "matrices.safetensors"
    spoil(place)
    with pytest.raises(InputError, match="missing or damaged"):
        _ = Steering(copy, {}).matrices
    place.unlink()
    with pytest.raises(InputError, match="xmodel steer"):
        _ = Steering(copy, {}).matrices


def test_a_killed_process_loses_no_part(fresh, unbroken, monkeypatch):
    """SIGKILL in the middle of B's pushes, then the same call."""
    script = f"""
        import torch; torch.set_num_threads(1)
        from xmodel.pairing.results import open_run
        from xmodel.steering import collecting, mapping
        from xmodel.steering.settings import SteerSettings
        from xmodel.steering.steering import steer_run
        import time
        collecting.PART = 4
        mapping.WORDS, mapping.HELDOUT_WORDS = {MAP_WORDS}
        def report(stage, done, total):
            print(stage, flush=True)
            if stage == "random":
                time.sleep(600)
        steer_run(open_run({str(fresh.path)!r}), SteerSettings(**{FEW!r}), report=report)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    begin = time.monotonic()
    for line in process.stdout:
        if line.strip() == "random" or time.monotonic() - begin > 240:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = list_parts(fresh)
    assert any(name.startswith("push_b") for name in kept)
    computed = count_parts(monkeypatch)
    assert_same(steer(fresh), unbroken)
    assert not set(computed) & set(kept)


def test_two_processes_do_not_write_at_once(fresh):
    with fresh.folder.lock(), pytest.raises(InputError, match="another process"):
        steer(fresh)


def test_a_fresh_pass_removes_what_steering_left(unbroken, tmp_path):
    copy = open_run(shutil.copytree(unbroken.run.path, tmp_path / "run"))
    assert json.loads((copy.path / "steering.json").read_text())["mode"] == "push"
    copy.folder.clear()
    assert [path.name for path in copy.path.iterdir() if path.name != ".lock"] == []
