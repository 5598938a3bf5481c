"""The main job on two real models of different families, shortened: what a run says must be plausible."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from xmodel import (
    LoadOptions,
    PairSettings,
    PassSettings,
    ScoreSettings,
    SteerSettings,
    align_models,
    open_run,
    score_run,
    steer_run,
)
from xmodel.errors import InputError

WORDS = 6_000
NAMES = {"a": "smollm2-135m-instruct", "b": "gemma-3-270m"}
LAYERS = {"a": 15, "b": 9}


@pytest.fixture(scope="module")
def corpus(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("moby-dick/moby-dick.txt", "kjv/kjv.txt"):
        text = (shared / "data/texts" / name).read_text("utf-8")[20_000:]
        (folder / name.split("/")[1]).write_text(text[: 6 * WORDS // 2], "utf-8")
    return folder


@pytest.fixture(scope="module")
def arguments(shared, pair):
    return {
        "sae_a": str(shared / "data/saes" / f"{NAMES['a']}-l{LAYERS['a']}"),
        "sae_b": str(shared / "data/saes" / f"{NAMES['b']}-l{LAYERS['b']}"),
        "model_a": str(pair / NAMES["a"]),
        "model_b": str(pair / NAMES["b"]),
    }


@pytest.fixture(scope="module")
def run(arguments, corpus, tmp_path_factory):
    """Through the command line, as a user would."""
    out = tmp_path_factory.mktemp("real") / "run"
    command = [
        sys.executable,
        "-m",
        "xmodel.cli",
        "align",
        "--corpus",
        str(corpus),
        "--out",
        str(out),
        "--json",
    ]
    for name, value in arguments.items():
        command += ["--" + name.replace("_", "-"), value]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["words"] == open_run(out).summary["words"] > 4_000
    return open_run(out)


def test_the_saes_fit_their_sites_and_no_neighbour(run):
    for letter, most in (("a", 0.4), ("b", 0.3)):
        found = run.manifest["sides"][letter]["calibration"]
        assert run.manifest["sides"][letter]["site"] == f"blocks.{LAYERS[letter]}.hook_resid_post"
        assert 0.05 < found["fvu"] < most
        assert len(found["neighbours"]) > 8
        assert min(found["neighbours"].values()) > found["fvu"] + 0.02
        assert found["misfit"] is None


def test_bos_and_windows_are_those_of_training(run):
    sides = run.manifest["sides"]
    assert sides["a"]["prefix"] == []
    assert sides["b"]["prefix"] == [2]
    assert sides["a"]["window_tokens"] == sides["b"]["window_tokens"] == 256
    assert sides["a"]["certificates"].keys() == sides["b"]["certificates"].keys() == {"exact"}


def test_words_have_about_32_features(run):
    """Both SAEs keep 32 features a token, and a word has at least one token."""
    for letter in "ab":
        counts = np.diff(run.features(letter).indptr)
        assert counts.min() >= 20
        assert 32 <= np.median(counts) <= 40


def test_pairs_hold_on_words_they_were_not_found_on(run):
    pairs = run.pairs.to_pandas()
    best = pairs[pairs.best_of_a]
    assert 0.25 < best.r.mean() < 0.55
    assert best.r_heldout.mean() > 0.15
    features = run.features("a").tocsc(), run.features("b").tocsc()
    shuffled = np.random.default_rng(0).permutation(best.feature_b.to_numpy())
    chance = [
        np.corrcoef(features[0][:, a].toarray()[:, 0], features[1][:, b].toarray()[:, 0])[0, 1]
        for a, b in zip(best.feature_a[:300], shuffled[:300], strict=True)
    ]
    assert abs(np.nanmean(chance)) < 0.03
    again = run.summary["reproduced"]
    assert again["same_best_partner"] > 0.25 * again["frequent_in_both_halves"]


def test_the_best_pairs_fire_on_the_same_words(run):
    """For most of the best pairs, the strongest word of A's feature is among the strongest of B's."""
    words = run.words["text"].to_pylist()
    features = run.features("a").tocsc(), run.features("b").tocsc()

    def find_top(matrix, feature):
        column = matrix[:, feature]
        order = np.argsort(-column.data, kind="stable")[:20]
        return [words[row].casefold() for row in column.indices[order]]

    pairs = run.pairs.to_pandas()
    best = pairs[pairs.mutual].head(40)
    shared = sum(
        find_top(features[0], a)[0] in find_top(features[1], b)
        for a, b in zip(best.feature_a, best.feature_b, strict=True)
    )
    assert shared >= 25


def test_the_feature_spaces_are_alike_under_the_strictest_null(run):
    settings = ScoreSettings(
        rules=("mutual",), parts=("rule",), metrics=("cka_debiased",), nulls=("stratified", "shift"),
        permutations=99, bootstrap=5,
    )  # fmt: skip
    for one in score_run(run, settings, warn=lambda told: None):
        assert one.p == 0.01 and one.z > 5, one
        low, high = one.interval
        assert one.null_mean < low < one.value < high < one.ceiling


def test_a_small_steering_run_is_plausible(run, tmp_path):
    """Too few pairs and words to tell what transfers: that is in docs/measurements.md."""
    steered = open_run(shutil.copytree(run.path, tmp_path / "run"))
    settings = SteerSettings(
        pairs=8,
        words=60,
        doses=(0.25,),
        depths=(0.5,),
        random=0,
        live=0,
        reinit=1,
        curve_pairs=1,
        curve_doses=(0.1, 0.25),
    )
    summary = steer_run(steered, settings).summary
    assert [summary["sides"][letter]["reads"] for letter in "ab"] == [[22], [13]]
    # Rounding is far from what even random layers do, and permuted words have nothing in common.
    assert max(summary["floor"]["reinitialised"].values()) < 0.01
    # Either model agrees with itself where the same words stand in another context.
    assert abs(summary["cells"][0]["means"]["words"]) < 0.1
    assert summary["ceiling"]["transfer"] > 0.5
    for kl in summary["dose_response"]["kl"].values():
        assert 0 < kl[0][0] < kl[0][1] < 15
    assert summary["rises"]["a"]["first"] >= 0.5 and summary["rises"]["b"]["first"] >= 0.5


def test_r_is_that_of_numpy_on_the_dense_columns(run):
    discovery = np.array(run.words["split"].to_pylist()) == "discovery"
    features = run.features("a").tocsc(), run.features("b").tocsc()
    table = run.pairs.to_pandas()
    for pair in table.iloc[:: max(1, len(table) // 50)].itertuples():
        x, y = features[0][:, pair.feature_a].toarray()[:, 0], features[1][:, pair.feature_b].toarray()[:, 0]
        assert np.corrcoef(x[discovery], y[discovery])[0, 1] == pytest.approx(pair.r, abs=1e-9)
        assert ((x != 0) & (y != 0))[discovery].sum() == pair.n_ab
        if pair.r_heldout == pair.r_heldout:
            assert np.corrcoef(x[~discovery], y[~discovery])[0, 1] == pytest.approx(pair.r_heldout, abs=1e-9)


@pytest.mark.parametrize(("declared", "fits"), [(14, 15), (16, 15)])
def test_an_sae_one_layer_off_is_refused_and_told_where_it_fits(arguments, corpus, tmp_path, declared, fits):
    """The notebooks' own mistake: `hidden_states[i]` for the output of block i."""
    folder = tmp_path / "sae"
    shutil.copytree(arguments["sae_a"], folder)
    (folder / "cfg.json").chmod(0o644)
    folder.chmod(0o755)
    config = json.loads((folder / "cfg.json").read_text("utf-8"))
    config["metadata"]["hook_name"] = f"blocks.{declared}.hook_resid_post"
    (folder / "cfg.json").unlink()
    (folder / "cfg.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(InputError, match=rf"fits blocks\.{fits}\.hook_resid_post best"):
        align_models(
            **{**arguments, "sae_a": str(folder)}, corpus=str(corpus), out=tmp_path / "run",
            settings=PassSettings(words_limit=1_500),
        )  # fmt: skip


def test_the_sae_of_another_model_is_refused(arguments, corpus, tmp_path):
    swapped = {**arguments, "sae_a": arguments["sae_b"], "model_a": arguments["model_a"]}
    with pytest.raises(InputError, match=r"reads 640 dimensions, and .* has 576"):
        align_models(**swapped, corpus=str(corpus), out=tmp_path / "run")


def test_a_model_is_itself(arguments, corpus, tmp_path):
    """The same model and SAE on both sides: every feature's best partner is itself, r = 1."""
    twice = {**arguments, "sae_b": arguments["sae_a"], "model_b": arguments["model_a"]}
    run = align_models(
        **twice, corpus=str(corpus), out=tmp_path / "run", settings=PassSettings(words_limit=1_500),
        pairing=PairSettings(min_firings=5), options=LoadOptions(),
    )  # fmt: skip
    best = run.pairs.to_pandas()
    best = best[best.best_of_a]
    same = best.feature_a == best.feature_b
    assert (best.r[same] > 1 - 1e-9).all()
    # Two features that fire on just the same words with the same strength would tie; there are next to none.
    assert same.mean() > 0.99
