"""A run that is killed, interrupted, damaged or out of space goes on, and ends as if nothing had happened.

Attempts are forked from one process that has imported everything, so that one costs a second, not ten.
"""

import errno
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.run_contents import read_run
from tests.tiny_pair import TinyPair, align_pair, read_texts, write_corpus, write_pair
from xmodel.alignment.settings import PassSettings
from xmodel.cli import main
from xmodel.errors import InputError
from xmodel.run import RunFolder, explain_disk

ROOT = Path(__file__).resolve().parent.parent
KILLS = 20
FORKING = multiprocessing.get_context("forkserver")
FULL = 3
"""Exit code of an attempt that found the disk full; 2 is for any other refusal."""


@pytest.fixture(scope="module", autouse=True)
def forks():
    """The process that attempts are forked from has its libraries loaded, and none of their threads."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("OMP_NUM_THREADS", "1"), ("TOKENIZERS_PARALLELISM", "false")):
            patch.setenv(name, value)
        FORKING.set_forkserver_preload(
            ["sae_lens", "transformers.models.gpt_neox.modeling_gpt_neox", "tests.test_survival",
             "transformers.models.gemma3.modeling_gemma3", "xmodel.pairing.comparing", "pyarrow.parquet"]
        )  # fmt: skip
        first = FORKING.Process(target=os.getpid)
        first.start()
        first.join()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # What is compared with a forked run has its bits.
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", read_texts())


@pytest.fixture(scope="module")
def unbroken(pair, corpus, tmp_path_factory):
    """The folder of a run that nothing happened to, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    begin = time.monotonic()
    attempt = start(pair, corpus, folder)
    attempt.join()
    assert attempt.exitcode == 0
    return folder, time.monotonic() - begin


def start(pair: TinyPair, corpus: Path, out: Path, die_at=None):
    process = FORKING.Process(target=run_attempt, args=(pair, corpus, out, die_at))
    process.start()
    return process


def run_attempt(pair, corpus, out, die_at):
    """One attempt in its own process. `die_at`: a file, before or after it gets its name, which time."""
    torch.set_num_threads(1)
    if die_at is not None:
        die_on_rename(*die_at)
    try:
        align_pair(pair, corpus, out)
    except InputError as error:
        sys.exit(FULL if "the disk is full" in str(error) else 2)


def start_over(pair: TinyPair, corpus: Path, out: Path, settings: PassSettings, removals: int):
    """A ``--fresh`` attempt that is killed after it has removed so many files and folders of the old run."""
    process = FORKING.Process(target=run_over, args=(pair, corpus, out, settings, removals))
    process.start()
    return process


def run_over(pair, corpus, out, settings, removals):
    torch.set_num_threads(1)
    seen = []

    def watch(remove):
        def remove_and_count(*args, **options):
            remove(*args, **options)
            seen.append(args)
            if len(seen) == removals:
                os.kill(os.getpid(), signal.SIGKILL)

        return remove_and_count

    os.unlink, os.rmdir = watch(os.unlink), watch(os.rmdir)
    align_pair(pair, corpus, out, settings=settings, fresh=True)


def die_on_rename(name, moment, time_of_it):
    rename, seen = os.replace, []

    def watch(source, target):
        hit = str(target).endswith(name)
        seen.extend([name] * hit)
        if hit and len(seen) == time_of_it and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if hit and len(seen) == time_of_it:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = watch


def check_whole(folder: Path) -> int:
    """What a killed run has under final names is whole; the number of its receipts."""
    run = RunFolder(folder)
    numbers = [int(path.stem[-5:]) for path in (folder / "parts").glob("shard-*.json")]
    for number in numbers:
        receipt = run.receipt(number)
        assert receipt is not None
        assert run.find_damage(receipt.files) == []
    manifest = run.manifest
    if numbers:
        assert manifest is not None
    if manifest is not None and manifest["complete"]:
        assert run.find_damage(manifest["files"]) == []
    return len(numbers)


def test_a_run_killed_at_any_moment_ends_as_an_unbroken_one(pair, corpus, unbroken, tmp_path):
    expected, length = read_run(unbroken[0]), unbroken[1]
    shards = len([name for name in expected if re.fullmatch(r"parts/shard-\d+\.json", name)])
    out, chance = tmp_path / "run", random.Random(3)
    receipts, completed = [], 0
    while len(receipts) < KILLS or out.exists():
        attempt = start(pair, corpus, out)
        attempt.join(chance.uniform(0.02, 0.7) * length if len(receipts) < KILLS else None)
        if attempt.is_alive():
            attempt.kill()
            attempt.join()
            receipts.append(check_whole(out))
            continue
        # A kill may have come too late by a hair: then the run was done all the same.
        assert attempt.exitcode == 0
        assert read_run(out) == expected
        shutil.rmtree(out)
        completed += 1
    assert completed > 1
    assert sum(0 < count < shards for count in receipts) >= 5, receipts
    assert 0 in receipts, receipts


def test_killed_before_and_after_every_late_file_gets_its_name(pair, corpus, unbroken, tmp_path):
    out = tmp_path / "run"
    moments = [("manifest.json", 1), ("features_b/shard-00003.safetensors", 1), ("parts/shard-00003.json", 1)]
    moments += [(f"{table}.parquet", 1) for table in ("documents", "words", "tokens_b")]
    moments += [("manifest.json", 2), ("pairs.parquet", 1), ("summary.json", 1), ("manifest.json", 1)]
    for name, time_of_it in moments:
        for moment in ("before", "after"):
            attempt = start(pair, corpus, out, (name, moment, time_of_it))
            attempt.join()
            assert attempt.exitcode == -signal.SIGKILL, (name, moment)
            check_whole(out)
            assert list(out.rglob("*.partial")) or moment == "after"
    (out / "parts" / "words-00099.parquet.partial").write_bytes(b"of a longer corpus, or other shards")
    attempt = start(pair, corpus, out)
    attempt.join()
    assert attempt.exitcode == 0
    assert read_run(out) == read_run(unbroken[0])


def without_parts(contents):
    return {name: content for name, content in contents.items() if not name.startswith("parts/")}


SUM = PassSettings(shard_words=200, pool="sum")


@pytest.fixture(scope="module")
def summed(pair, corpus, tmp_path_factory):
    """The same corpus with words' tokens summed, not joined by their largest or last."""
    out = tmp_path_factory.mktemp("summed") / "run"
    align_pair(pair, corpus, out, settings=SUM)
    return read_run(out)


@pytest.mark.parametrize("has_manifest", [True, False], ids=["whole", "without its manifest"])
@pytest.mark.parametrize("removals", [1, 20, 75, 107, 108])
def test_killed_while_starting_over_the_old_run_is_never_taken_for_the_new(
    pair, corpus, finished, unbroken, summed, removals, has_manifest
):
    assert (
        read_run(unbroken[0])["features_a/shard-00001.safetensors"]
        != (summed["features_a/shard-00001.safetensors"])
    )
    if not has_manifest:
        (finished / "manifest.json").unlink()
    attempt = start_over(pair, corpus, finished, SUM, removals)
    attempt.join()
    assert attempt.exitcode == -signal.SIGKILL
    if has_manifest and not (finished / "manifest.json").exists():
        assert {path.name for path in finished.iterdir()} <= {".lock", "manifest.json.partial"}
    try:
        align_pair(pair, corpus, finished, settings=SUM)
    except InputError as error:
        assert "settings.pool was" in str(error) and "--fresh" in str(error)
        again = Path(shutil.copytree(finished, finished.with_name("again")))
        align_pair(pair, corpus, again, settings=SUM, fresh=True)
        assert read_run(again) == summed
        # As long as the manifest is there, the old run can be mended; its results may still be whole.
        align_pair(pair, corpus, finished)
        assert without_parts(read_run(finished)) == without_parts(read_run(unbroken[0]))
    else:
        assert read_run(finished) == summed


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


@pytest.fixture
def finished(unbroken, tmp_path):
    return Path(shutil.copytree(unbroken[0], tmp_path / "run"))


@pytest.fixture(scope="module")
def begun(pair, corpus, tmp_path_factory):
    """A run that was killed when half of its shards were done."""
    out = tmp_path_factory.mktemp("begun") / "run"
    attempt = start(pair, corpus, out, ("parts/shard-00006.json", "after", 1))
    attempt.join()
    assert check_whole(out) == 7
    return out


def go_on(pair, corpus, out):
    """Run in this process, and tell which files got a new content or were written again."""
    before = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()
    }
    align_pair(pair, corpus, out)
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    return {path.relative_to(out).as_posix() for path in after if before.get(path) != after[path]}


def of_shards(names):
    return {name for name in names if name.partition("/")[0] in ("parts", "features_a", "features_b")}


@pytest.mark.parametrize(
    "name",
    ["features_a/shard-00002.safetensors", "features_b/shard-00013.safetensors"],
)
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "missing"])
def test_a_damaged_shard_of_a_finished_run_is_made_again_and_no_other(
    pair, corpus, finished, unbroken, name, damage
):
    damage(finished / name)
    written = go_on(pair, corpus, finished)
    number = re.search(r"\d+", name)[0]
    assert name in written
    assert all(number in one for one in of_shards(written)), written
    assert read_run(finished) == read_run(unbroken[0])


@pytest.mark.parametrize(
    "name",
    ["features_a/shard-00002.safetensors", "parts/words-00002.parquet", "parts/shard-00002.json"],
)
@pytest.mark.parametrize("place", [0.02, 0.5, 0.9])
def test_a_damaged_shard_of_an_interrupted_run_is_made_again_and_no_other(
    pair, corpus, begun, unbroken, tmp_path, name, place
):
    out = Path(shutil.copytree(begun, tmp_path / "run"))
    flip(out / name, place)
    written = of_shards(go_on(pair, corpus, out))
    numbers = {int(re.search(r"\d+", one)[0]) for one in written}
    assert numbers == {2, *range(7, max(numbers) + 1)}
    assert read_run(out) == read_run(unbroken[0])


@pytest.mark.parametrize("name", ["words.parquet", "documents.parquet", "tokens_a.parquet"])
def test_a_damaged_table_is_put_together_again(pair, corpus, finished, unbroken, name):
    flip(finished / name)
    assert of_shards(go_on(pair, corpus, finished)) == set()
    assert read_run(finished) == read_run(unbroken[0])


def test_whatever_is_missing_of_a_finished_run_comes_back(pair, corpus, finished, unbroken):
    shutil.rmtree(finished / "parts")
    for name in ("words.parquet", "pairs.parquet", "summary.json"):
        (finished / name).unlink()
    go_on(pair, corpus, finished)
    assert read_run(finished) == read_run(unbroken[0])


def test_a_receipt_that_another_count_was_written_into_is_not_believed(begun, tmp_path):
    """Still valid JSON: only the receipt's own checksum tells."""
    out = Path(shutil.copytree(begun, tmp_path / "run"))
    place = out / "parts" / "shard-00002.json"
    text = place.read_text()
    place.write_text(re.sub(r'"words": (\d)', lambda match: f'"words": {9 - int(match[1])}', text))
    assert place.read_text() != text
    assert RunFolder(out).receipt(2) is None
    place.write_text(text)
    assert RunFolder(out).receipt(2) is not None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_manifest_is_named_and_fresh_starts_over(pair, corpus, finished, unbroken, share):
    place = finished / "manifest.json"
    data = place.read_bytes()
    place.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"manifest\.json is not valid JSON.*--fresh"):
        align_pair(pair, corpus, finished)
    assert (finished / "pairs.parquet").exists()
    align_pair(pair, corpus, finished, fresh=True)
    assert read_run(finished) == read_run(unbroken[0])


@pytest.mark.parametrize("name", ["features_b/shard-00003.safetensors", "words.parquet"])
def test_pairing_a_damaged_run_again_names_the_file(finished, name, monkeypatch, capsys):
    flip(finished / name)
    monkeypatch.setattr(sys, "argv", ["xmodel", "pair", str(finished)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert f"{finished / name} is damaged" in told.err
    assert "the same `xmodel align` command" in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


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
