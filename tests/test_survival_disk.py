"""Full disks, half-written files, Ctrl-C and two processes: nothing is lost, and it is said why."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.run_contents import read_run
from tests.survival_helpers import (  # noqa: F401
    FORKING,
    FULL,
    ROOT,
    check_whole,
    corpus,
    forks,
    go_on,
    of_shards,
    pair,
    start,
    unbroken,
)
from tests.tiny_pair import align_pair, read_texts, write_corpus
from xmodel.errors import InputError
from xmodel.run import RunFolder, explain_disk


@contextmanager
def small_disk(place: Path, size: str):
    """A file system of a few kilobytes, which `resize` makes larger."""
    place.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield lambda wanted: subprocess.run(("mount", "-o", f"remount,size={wanted}", place), check=True)
    finally:
        subprocess.run(("umount", place), check=True)


def can_mount(place: Path) -> bool:
    try:
        with small_disk(place, "64k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system in memory")
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(pair, corpus, unbroken, tmp_path):
    if not can_mount(tmp_path / "probe"):
        repeat_in_a_namespace()
        return
    with small_disk(tmp_path / "disk", "8k") as resize:
        out, receipts = tmp_path / "disk" / "run", []
        pages = sum(-(-path.stat().st_size // 4096) for path in unbroken[0].rglob("*"))
        for size in (2, 10, pages // 3, pages * 2 // 3, pages * 9 // 10, pages - 1):
            resize(f"{4 * size}k")
            attempt = start(pair, corpus, out)
            attempt.join()
            assert attempt.exitcode == FULL, size
            assert list(out.rglob("*.partial")) == []
            receipts.append(check_whole(out))
        assert receipts == sorted(receipts)
        assert receipts[1] == 0 < receipts[2] < receipts[-1]
        resize("64m")
        attempt = start(pair, corpus, out)
        attempt.join()
        assert attempt.exitcode == 0
        assert read_run(out) == read_run(unbroken[0])


def repeat_in_a_namespace():
    """Who may not mount may do so in a namespace of their own, where the system lets them have one."""
    if "XMODEL_IN_NAMESPACE" in os.environ:
        pytest.fail("mounting failed in a namespace of its own")
    if subprocess.run(("unshare", "-rm", "true"), capture_output=True).returncode:
        pytest.skip("this user may neither mount a small file system nor make a namespace to do so")
    test = f"{__file__}::test_a_full_disk_stops_the_run_and_room_lets_it_go_on"
    done = subprocess.run(
        ("unshare", "-rm", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test),
        cwd=ROOT, env={**os.environ, "XMODEL_IN_NAMESPACE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def write_parquet(place):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": list(range(100_000))}), place)


def write_safetensors(place):
    import numpy as np
    from safetensors.numpy import save

    place.write_bytes(save({"x": np.zeros(100_000)}))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("write", [write_parquet, write_safetensors])
def test_a_writer_that_finds_no_room_leaves_nothing_behind(tmp_path, write):
    """The temporary name leads to a device that is always full."""
    (tmp_path / "file.partial").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"the disk is full: .*file could not be written.*make room"):
        RunFolder(tmp_path).write("file", write)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_half_written_under_its_own_name(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_bytes("file", b"whole")

    def write_half(place):
        place.write_bytes(b"ha")
        assert (tmp_path / "file").read_bytes() == b"whole"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="disk is full"):
        folder.write("file", write_half)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"whole")]


def test_only_what_a_run_was_writing_is_removed(tmp_path):
    own = ["manifest.json", "components_a.npz", "parts/words-00003.parquet", "parts/shard-00003.json"]
    own += ["features_a/shard-00003.safetensors", "parts/tokens_a-123456.parquet"]
    others = ["download", "thesis/download", "thesis/words-00003.parquet", "features_a/deep/shard-00003.json"]
    others += ["parts/download", "report/figure"]
    for name in (*own, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.partial").write_text("begun")
    RunFolder(tmp_path).remove_partials()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.partial")}
    assert left == {f"{name}.partial" for name in others}


def test_an_error_of_the_file_system_is_told_from_a_full_disk(tmp_path):
    full = explain_disk(OSError("arrow: IOError: No space left on device"), tmp_path)
    assert "disk is full" in str(full)
    assert "disk is full" in str(explain_disk(OSError(errno.EDQUOT, "Quota exceeded"), tmp_path))
    assert "cannot be written: Read-only" in str(
        explain_disk(OSError(errno.EROFS, "Read-only file system"), tmp_path)
    )
    (tmp_path / "parts").write_text("a file where a folder is needed")
    with pytest.raises(InputError, match="cannot be written"):
        RunFolder(tmp_path).write_bytes("parts/x", b"x")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupted_from_the_keyboard(pair, tmp_path):
    texts = [f"{n}. {text}" for n in range(3) for text in read_texts()]
    corpus, out = write_corpus(tmp_path / "long.jsonl", texts), tmp_path / "run"
    command = [sys.executable, "-m", "xmodel.cli", "align", "--corpus", str(corpus), "--out", str(out)]
    command += ["--sae-a", str(pair.sae_a), "--sae-b", str(pair.sae_b), "--shard-words", "200"]
    command += ["--model-a", str(pair.model_a), "--model-b", str(pair.model_b)]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        # What a shell starts in the background ignores Ctrl-C, and so would the command under test.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    limit = time.monotonic() + 60
    while not (out / "parts" / "shard-00002.json").exists():
        assert running.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    printed, told = running.communicate(timeout=60)
    assert running.returncode == 130, told.decode()
    assert printed == b""
    assert b"Traceback" not in told
    assert f"goes on with whatever is finished in {out}" in told.decode()
    assert "The same command goes on" in told.decode()
    done = check_whole(out)
    written = of_shards(go_on(pair, corpus, out))
    assert f"parts/shard-{done - 1:05d}.json" not in written
    assert f"parts/shard-{done:05d}.json" in written
    align_pair(pair, corpus, tmp_path / "unbroken")
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_two_processes_never_write_to_one_folder(pair, corpus, tmp_path):
    out = tmp_path / "run"
    first = start(pair, corpus, out)
    while not (out / ".lock").exists():
        time.sleep(0.005)
    time.sleep(0.05)
    with pytest.raises(InputError, match=r"another process is writing to .*run: wait for it"):
        align_pair(pair, corpus, out)
    assert first.is_alive()
    first.kill()
    first.join()
    align_pair(pair, corpus, out)  # What a killed process held is free again.
