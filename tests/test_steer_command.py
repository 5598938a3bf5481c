"""``xmodel steer`` as a user types it: a run is steered, a vector carried over, and nonsense is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from xmodel.alignment.settings import PassSettings
from xmodel.cli import app, main
from xmodel.cli.progress import name_stage
from xmodel.cli.steer import parse_features, parse_numbers, parse_size
from xmodel.datasets.demo import DEMO_CORPUS, DEMO_SAES
from xmodel.errors import InputError
from xmodel.models.saes import load_dictionary
from xmodel.pairing.comparing import align_models
from xmodel.run import RunFolder
from xmodel.steering.settings import SteerSettings
from xmodel.steering.vector_files import read_vectors, write_vectors
from xmodel.steering.vectors import take_feature

QUICK = ["--pairs", "6", "--words", "40", "--random", "10", "--live", "4", "--permutations", "19"]
QUICK += ["--reinit", "1", "--curve-pairs", "2", "--doses", "0.25", "--depths", "0.5,1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundled") / "run"
    align_models(
        *DEMO_SAES, DEMO_CORPUS, out, settings=PassSettings(words_limit=6000), warn=lambda told: None
    )
    return out


@pytest.fixture(scope="module")
def shown(run):
    """The page of a steered run."""
    done = call("steer", run, *QUICK)
    assert done.exit_code == 0, done.output
    return done.stdout


def call(*arguments, width=80):
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": str(width)})


def test_a_run_is_steered_and_told_of(run, shown):
    told = " ".join(shown.split())
    assert "Pushed the 6 pairs of features" in told and "40 held-out words" in told
    for part in ("Verdict:", "By dose and depth", "What chance gives", "What the models say next"):
        assert part in told
    assert max(map(len, shown.splitlines()[:-2])) <= 80
    assert pq.read_table(run / "transfer.parquet").num_rows == 12
    stored = json.loads((run / "steering.json").read_text("utf-8"))
    assert f"among 6 candidates in {stored['retrieval']['top1']:.0%}" in told
    assert stored["settings"]["doses"] == [0.25] and stored["settings"]["depths"] == [0.5, 1.0]
    assert [one.name for one in (run / "steering").iterdir()] == ["matrices.safetensors"]


def test_json_is_one_document_that_agrees_with_the_files(run):
    asked = ["--features", "1272:1046", "--features", "1346:447, 51:1891", "--reinit-how", "shuffled"]
    options = [one for one in QUICK if one not in ("--pairs", "6")]
    done = call("steer", run, *options, *asked, "--rule", "one_to_one", "--budget", "64MiB", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    stored = json.loads((run / "steering.json").read_text("utf-8"))
    assert {name: found[name] for name in stored if name != "examples"} == {
        name: own for name, own in stored.items() if name != "examples"
    }
    named = [(one["feature_a"], one["feature_b"]) for one in found["pairs"]]
    assert named == [(1272, 1046), (1346, 447), (51, 1891)]
    settings = found["settings"]
    assert settings["budget"] == 64 << 20 and settings["reinit_how"] == "shuffled"
    table = pq.read_table(run / "transfer.parquet").to_pylist()
    odd = {
        row["pair"]: row["odd"] for row in table if row["depth"] == found["cells"][found["primary"]]["depth"]
    }
    assert [one["odd"] for one in found["best_pairs"]] == sorted(odd.values(), reverse=True)
    assert [one["odd"] for one in found["examples"]] == [odd[one["pair"]] for one in found["examples"]]
    assert all(one["top_words_a"] and one["top_words_b"] for one in found["best_pairs"])


def test_features_are_switched_off(run):
    done = call("steer", run, "--ablate", "--pairs", 20, "--words", 100, "--live", 4, "--reinit", 0, width=50)
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "Switched off, wherever they fire, the 20 pairs" in told and "dose:" not in told
    # Pairs that never fire in these passages have no T, and stand in no list.
    stored = json.loads((run / "steering.json").read_text("utf-8"))
    odd = [row["odd"] for row in pq.read_table(run / "transfer.parquet").to_pylist()]
    counted = stored["ablation"]["pairs"]
    assert 3 <= counted < 20 and odd.count(None) == 3 * (20 - counted)
    assert f"{counted} of the 20 pairs count" in told and f"The {min(counted, 10)} pairs that agree" in told
    assert max(map(len, done.stdout.splitlines()[:-2])) <= 50


def test_a_vector_is_carried_over(run, tmp_path):
    dictionary = load_dictionary(DEMO_SAES[0])
    decoder = dictionary.decoder.detach().numpy(force=True)
    own = take_feature(decoder, 1272, dictionary.info.site, "builtin:neox-demo")
    write_vectors(tmp_path / "a.safetensors", [replace(own, name="mine")])
    out = tmp_path / "b.gguf"
    options = ["--words", 40, "--random", 30, "--doses", "0.25", "--depths", "0.5"]
    done = call("steer", run, "--port", tmp_path / "a.safetensors", "--out", out, *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["share"] == pytest.approx(1, abs=1e-5) and found["verdict"] in ("trust", "care", "distrust")
    assert [(one["feature_a"], one["feature_b"]) for one in found["features"]] == [(1272, 1046)]
    (written,) = read_vectors(out)
    assert written.norm == pytest.approx(found["norm_b"], rel=1e-5)
    partner = load_dictionary(DEMO_SAES[1]).decoder.detach().numpy(force=True)[1046]
    cosine = written.unit().values @ (partner / np.linalg.norm(partner))
    assert cosine == pytest.approx(1, abs=1e-5)
    # Nothing is overwritten.
    again = call("steer", run, "--port", tmp_path / "a.safetensors", "--out", out, *options)
    assert isinstance(again.exception, InputError) and "is there already" in str(again.exception)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--doses", "much"], "--doses is 'much'"),
        (["--doses", "0"], "doses are 0"),
        (["--doses", "0.1,-0.1"], "doses are 0.1, -0.1"),
        (["--doses", "nan"], "doses are nan"),
        (["--doses", "inf"], "doses are inf"),
        (["--doses", ""], "--doses is ''"),
        (["--depths", "1.5"], "depths are 1.5"),
        (["--depths", "half"], "--depths is 'half'"),
        (["--features", "1-2"], "--features has '1-2'"),
        (["--features", "1:2,"], "--features has ''"),
        (["--features", "-1:2"], "--features has '-1:2'"),
        (["--features", "1:2", "--pairs", "3"], "--features and --pairs"),
        (["--port", "a.gguf"], "--port VECTOR needs --out FILE"),
        (["--out", "b.gguf"], "--out FILE is for a vector"),
        (["--port", "a.gguf", "--out", "b.gguf", "--live", "3"], "--port and --live"),
        (["--ablate", "--doses", "0.1"], "--ablate and --doses"),
        (["--ablate", "--random", "5"], "--ablate and --random"),
        (["--ablate", "--contrast-set", "sea-land"], "--ablate and --contrast-set"),
        (["--ablate", "--port", "a.gguf", "--out", "b.gguf"], "--ablate and --port"),
        (["--budget", "some"], "--budget is 'some'"),
        (["--budget", "1KB"], "budget is 1000"),
        (["--words", "5"], "words is 5"),
        (["--alpha", "0"], "alpha is 0"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(
    options, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["xmodel", "steer", str(tmp_path / "nothing"), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xmodel: ") and told in line


def test_texts_become_numbers():
    assert parse_features(["12:5,40:7", " 1 : 2 "]) == ((12, 5), (40, 7), (1, 2))
    assert parse_numbers("--doses", "0.1, 1e-2") == (0.1, 0.01)
    assert parse_size("512MB") == 512_000_000 and parse_size("1.5 GiB") == 3 << 29
    assert parse_size("800000000") == 800_000_000 and parse_size("2g") == 2_000_000_000
    assert parse_size("3KiB") == 3072 and parse_size("7 b") == 7


def test_an_option_that_is_left_out_is_the_librarys_default(monkeypatch, run):
    seen = []

    def watch(opened, settings, **rest):
        seen.append(settings)
        raise InputError("far enough")

    monkeypatch.setattr("xmodel.steering.steering.steer_run", watch)
    call("steer", run)
    call("steer", run, "--contrast", "mine.yaml", "--contrast-set", "x", "--contrast-set", "x", "--ablate")
    call("steer", run, "--contrast", "mine.yaml", "--contrast-set", "x", "--contrast-set", "x", "--seed", 4)
    assert seen == [
        SteerSettings(),
        SteerSettings(contrast_file="mine.yaml", contrasts=("x",), seed=4),
    ]


def test_stages_have_names_with_their_number():
    assert name_stage("reinit_12").endswith("random layers after the site, draw 12")
    assert name_stage("push_a") == "pushes of model A" and name_stage("load").startswith("loading")
    assert name_stage("something_3") == "something_3"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_says_that_it_goes_on_and_leaves_the_finished_parts(run):
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "xmodel.cli",
            "steer",
            str(run),
            "--pairs",
            "6",
            "--words",
            "40",
            "--random",
            "20000",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in running.stderr:
        if "random directions" in line:
            break
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in message
    assert f"The same command goes on with whatever is finished in {run}." in message
    kept = [one.name for one in (run / "steering").glob("push_*")]
    assert "push_a-00000.safetensors" in kept and "push_b-00000.safetensors" in kept


def test_what_steering_leaves_is_the_runs_own(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("manifest.json", {"format": 1})
    for name in ("steering.json", "transfer.parquet", "steering/matrices.safetensors"):
        folder.write_bytes(name, b"x")
    for name in ("push_a-00000.safetensors.partial", "matrices.safetensors.partial", "notes.partial"):
        (tmp_path / "steering" / name).write_bytes(b"x")
    folder.remove_partials()
    assert [one.name for one in (tmp_path / "steering").glob("*.partial")] == ["notes.partial"]
    folder.clear()
    assert not list(tmp_path.iterdir())
