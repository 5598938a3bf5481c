"""What the tests of whole runs share: being interrupted, and the files that matter."""

import itertools
import shutil

import pytest
import torch

from tests.tiny_pair import align_pair, read_texts, write_pair
from xmodel.alignment.settings import PassSettings
from xmodel.pairing.comparing import align_models

SITE = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For tensors as small as these, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"), SITE)


@pytest.fixture(scope="module")
def texts():
    return read_texts()[:24]


@pytest.fixture(scope="module")
def finished(pair, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    align_pair(pair, texts, out)
    return out


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


class Stop(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


def interrupt(pair, corpus, out, after=3, **options):
    """Run until some shards are done."""
    calls = itertools.count(1)

    def report(stage, done, total):
        if stage == "words" and done and next(calls) == after:
            raise Stop

    with pytest.raises(Stop):
        align_pair(pair, corpus, out, report=report, **options)
    return out


def list_shards(out):
    return sorted(path.name for path in (out / "parts").glob("shard-*"))


def stop_before_a_shard(pair, source, texts, out, models):
    def report(stage, done, total):
        if stage == "words":
            raise Stop

    with pytest.raises(Stop):
        align_models(
            source,
            str(pair.sae_b),
            texts,
            out,
            **models,
            settings=PassSettings(shard_words=200),
            report=report,
        )
