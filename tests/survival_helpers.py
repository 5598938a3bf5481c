"""What the tests of survival share: attempts that are killed in a process of their own."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.tiny_pair import TinyPair, align_pair, read_texts, write_corpus, write_pair
from xmodel.alignment.settings import PassSettings
from xmodel.errors import InputError
from xmodel.run import RunFolder

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
            ["sae_lens", "transformers.models.gpt_neox.modeling_gpt_neox", "tests.survival_helpers",
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


def without_parts(contents):
    return {name: content for name, content in contents.items() if not name.startswith("parts/")}


SUM = PassSettings(shard_words=200, pool="sum")


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


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
