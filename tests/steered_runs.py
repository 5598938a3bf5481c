"""What the tests of steering share: runs of tiny models with layers after the site, and few of everything."""

import dataclasses
import shutil
from typing import Any

import pytest
import torch

from tests.tiny_pair import (
    TinyPair,
    align_pair,
    read_rows,
    read_texts,
    write_fitting_sae,
    write_gemma,
    write_neox,
)
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions
from xmodel.pairing.results import Run, open_run
from xmodel.pairing.settings import PairSettings
from xmodel.steering import mapping
from xmodel.steering.settings import SteerSettings

MAP_WORDS = (300, 100)
SITE = "blocks.1.hook_resid_post"
FEW: dict[str, Any] = {
    "pairs": 6,
    "doses": (0.1, 0.25),
    "depths": (0.25, 0.5, 1.0),
    "words": 40,
    "passage_words": 10,
    "random": 12,
    "live": 5,
    "permutations": 39,
    "reinit": 2,
    "curve_pairs": 3,
    "curve_doses": (0.1, 0.25, 0.5),
}
"""Settings with which a run is steered in about a second."""


def choose(**changes: Any) -> SteerSettings:
    return SteerSettings(**{**FEW, **changes})


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For tensors as small as these, threads only wait for each other; and a map of 16 dimensions needs few
    words."""
    threads, words = torch.get_num_threads(), (mapping.WORDS, mapping.HELDOUT_WORDS)
    torch.set_num_threads(1)
    mapping.WORDS, mapping.HELDOUT_WORDS = MAP_WORDS
    yield
    torch.set_num_threads(threads)
    mapping.WORDS, mapping.HELDOUT_WORDS = words


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Two models with four layers after the site in one and three in the other."""
    folder = tmp_path_factory.mktemp("deep")
    a, b = write_neox(folder / "a", layers=6), write_gemma(folder / "b", layers=5)
    sae_a = write_fitting_sae(folder / "sae_a", read_rows(a, SITE), SITE)
    sae_b = write_fitting_sae(folder / "sae_b", read_rows(b, SITE, prefix=(2,)), SITE, bos=True)
    return TinyPair(a, b, sae_a, sae_b)


def align_deep(pair: TinyPair, out: Any, texts: list[str] | None = None, **changes: Any) -> Run:
    """A run of two such models; their dictionaries fit the layer after the site nearly as well."""
    chosen = {
        "settings": PassSettings(shard_words=1000),
        "options": LoadOptions(accept_misfit=True),
        "pairing": PairSettings(min_firings=3, workers=1),
        **changes,
    }
    align_pair(pair, texts or read_texts(), out, **chosen)
    return open_run(out)


@pytest.fixture(scope="module")
def run(deep, tmp_path_factory):
    return align_deep(deep, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def twins(deep, tmp_path_factory):
    """A run of a model with itself."""
    same = dataclasses.replace(deep, model_b=deep.model_a, sae_b=deep.sae_a)
    return align_deep(same, tmp_path_factory.mktemp("runs") / "twins")


@pytest.fixture
def copied(run, tmp_path):
    return open_run(shutil.copytree(run.path, tmp_path / "run"))
