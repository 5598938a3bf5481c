"""What the tests of whole runs share: being interrupted, and the files that matter."""

import itertools

import pytest

from tests.tiny_pair import align_pair
from xmodel.alignment.settings import PassSettings
from xmodel.pairing.comparing import align_models

SITE = "blocks.1.hook_resid_post"


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
