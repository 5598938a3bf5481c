"""What comes with the package: it is what its cards say, is loaded like a user's own, and runs offline."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from tests.recipes import demo_models, demo_saes
from tests.report_helpers import draw
from tests.steer_pages import make_cell, make_excess
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.settings import PassSettings
from xmodel.cli import app
from xmodel.datasets import demo
from xmodel.datasets.corpus import open_corpus
from xmodel.errors import InputError
from xmodel.models.language import load_language_model
from xmodel.models.saes import load_dictionary
from xmodel.pairing.comparing import align_models
from xmodel.pairing.results import open_run
from xmodel.report.demo import DEMO_SCORES, DEMO_STEERING, describe_demo, render_demo
from xmodel.similarity.scoring import score_run
from xmodel.steering.steering import steer_run

FOLDER = Path(demo.__file__).parent
MODELS = pytest.mark.parametrize("name", demo.BUILTIN_MODELS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return align_models(*demo.DEMO_SAES, demo.DEMO_CORPUS, tmp_path_factory.mktemp("demo") / "run")


@pytest.fixture(scope="module")
def steering(run):
    return steer_run(run, DEMO_STEERING, warn=lambda told: None)


@pytest.fixture(scope="module")
def written(run):
    return {"page": str(run.path / "report" / "index.html")}


@pytest.fixture(scope="module")
def scores(run):
    return score_run(run, DEMO_SCORES)


def read_figure(card, name):
    """The number after a row's name in a model's card."""
    found = re.search(rf"^\| {re.escape(name)}.*?\| \**([\d.]+) bits per byte", card, re.MULTILINE)
    assert found, name
    return float(found[1])


def read_passages():
    lines = (FOLDER / "corpus.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_all_together_take_at_most_20_megabytes():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert 10_000_000 < sum(path.stat().st_size for path in files) <= 20_000_000


def test_every_name_is_there_and_no_other():
    names = {*demo.BUILTIN_MODELS, *demo.BUILTIN_SAES}
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"} == names
    for kind, known in demo._KINDS.items():
        for name in known:
            assert demo.find_builtin(f"builtin:{name}", kind).exists()
    with pytest.raises(InputError, match="Known are: builtin:neox-demo-l0"):
        load_dictionary("builtin:neox-demo-l1")
    with pytest.raises(InputError, match="builtin:neox-demo-l0 is an SAE"):
        load_language_model("builtin:neox-demo-l0")
    with pytest.raises(InputError, match="builtin:demo-corpus"):
        open_corpus("builtin:demo")
    loaders = (load_tokenizer, load_language_model, load_dictionary, open_corpus)
    for load, name in zip(loaders, ("neox-demo", "gemma-demo", "neox-demo-l2", "demo-corpus"), strict=True):
        with pytest.raises(InputError, match=f"comes with xmodel is builtin:{name}"):
            load(name)


@MODELS
def test_a_model_is_one_of_hugging_face(name):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoModelForCausalLM.from_pretrained(FOLDER / name, dtype=torch.float32)
    ours = load_language_model(f"builtin:{name}")
    for key, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.module.state_dict()[key]), key
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    text = read_passages()[1]["text"]
    own = load_tokenizer(f"builtin:{name}")
    template = list(own.template[0])
    assert tokenizer(text)["input_ids"] == [*template, *own.encode([text])[0]]
    assert template == ([] if name == "neox-demo" else [2])
    assert ours.bos == {"neox-demo": 0, "gemma-demo": 2}[name]


@MODELS
def test_a_model_beats_trigrams_and_gzip_as_its_card_says(name):
    card = (FOLDER / name / "README.md").read_text("utf-8")
    said = read_figure(card, "Loss on the corpus it never saw")
    bits = demo_models.measure_model(name, FOLDER / name, [row["text"] for row in read_passages()])
    assert bits == pytest.approx(said, abs=0.005)
    for rival in ("The same text, trigrams", "Trigrams of bytes", "gzip"):
        assert bits < read_figure(card, rival) - 0.1


@MODELS
def test_saes_rebuild_what_their_cards_say(name):
    card = (FOLDER / name / "README.md").read_text("utf-8")
    plans = demo_saes.PLANS[name]
    sites = sorted({plan.site for plan in plans})
    texts = [row["text"] for row in read_passages()]
    activations = demo_saes.read_unseen(name, load_language_model(f"builtin:{name}"), texts, sites)
    for plan in plans:
        found = demo_saes.measure_sae(FOLDER / plan.name, activations[plan.site])
        assert found["fvu"] <= 0.2 and 16 <= found["l0"] <= 32 and found["dead"] < 0.2
        row = next(line for line in card.splitlines() if f"`builtin:{plan.name}`" in line)
        fvu, l0, dead = (cell.strip(" %") for cell in row.split("|")[5:8])
        assert found["fvu"] == pytest.approx(float(fvu), abs=0.002)
        assert found["l0"] == pytest.approx(float(l0), abs=0.1)
        assert found["dead"] * 100 == pytest.approx(float(dead), abs=0.5)


@pytest.mark.parametrize("name", demo.BUILTIN_SAES)
def test_an_sae_is_one_of_saelens(name):
    from sae_lens import SAE

    theirs = SAE.load_from_disk(str(FOLDER / name)).eval()
    ours = load_dictionary(f"builtin:{name}")
    assert ours.info.model == f"builtin:{name.rpartition('-l')[0]}"
    (block,) = re.findall(r"-l(\d)", name)
    assert ours.info.site == f"blocks.{block}.hook_resid_post"
    torch.manual_seed(0)
    x = torch.randn(64, ours.info.width) * 3
    with torch.inference_mode():
        assert torch.equal(ours.encode(x), theirs.encode(x))


def test_pairs_hold_up_where_they_were_not_found(run):
    for rule in ("best_of_a", "mutual", "one_to_one"):
        found = run.summary["pairs"][rule]
        assert found["count"] > 100
        assert found["mean_r_heldout"] > 0.3
        assert abs(found["mean_r_heldout_shuffled"]) < 0.02
    assert run.summary["words"] > 20_000
    for side in "ab":
        assert run.manifest["sides"][side]["certificates"] == {"exact": len(read_passages())}


def test_every_sae_fits_its_own_site_best(tmp_path):
    """The check would stop the run with an error otherwise; every layer and width is taken once."""
    for place, name in enumerate(demo.BUILTIN_SAES):
        other = demo.DEMO_SAES[1] if name.startswith("neox") else demo.DEMO_SAES[0]
        short = PassSettings(words_limit=2_000)
        folder = tmp_path / str(place)
        run = align_models(f"builtin:{name}", other, demo.DEMO_CORPUS, folder, settings=short)
        assert run.manifest["sides"]["a"]["calibration"]["misfit"] is None


def test_top_words_are_those_of_the_strongest_firings(run):
    own, words = run.features("a").tocsc(), run.words["text"].to_pylist()
    features = run.pairs["feature_a"].to_pylist()[:20]
    for feature, found in zip(features, run.top_words("a", features, 3), strict=True):
        column = own[:, feature].tocoo()
        order = sorted(zip(-column.data, column.row, strict=True))
        expected = []
        for _, word in order:
            if words[word].casefold() not in (text.casefold() for text in expected):
                expected.append(words[word])
        assert found == expected[:3]
    with pytest.raises(InputError, match="there are 0 to 2,047"):
        run.top_words("a", [2048])
    with pytest.raises(InputError, match="'a' or 'b'"):
        run.top_words("c", [1])


# Looked up before anything else of xmodel: whatever wants to leave the machine fails.
NO_NETWORK = """
import socket
def refuse(*arguments, **rest):
    raise AssertionError(f"the network was asked for: {arguments}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
"""


def run_demo(folder, *options, **more):
    (folder / "offline").mkdir(exist_ok=True)
    (folder / "offline" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"PYTHONPATH": str(folder / "offline"), "HOME": str(folder / "home"), "COLUMNS": "80"}
    environment |= {"PYTHONUTF8": "1", "NO_COLOR": "1"} | more
    command = [sys.executable, "-m", "xmodel.cli", "demo", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_a_new_user_without_a_network_sees_one_screen(tmp_path):
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 80
    for wanted in ("neox-demo", "gemma-demo", "GPT-NeoX", "Gemma 3", "xmodel features xmodel-demo --a"):
        assert wanted in done.stdout
    assert all(line.startswith("xmodel: ") for line in done.stderr.splitlines())
    run = open_run(tmp_path / "xmodel-demo")
    assert f"{run.summary['words']:,}, each" in done.stdout
    assert "what changes further down agrees by" in " ".join(done.stdout.split())
    assert "Now open xmodel-demo/report/index.html in a browser" in done.stdout
    assert (tmp_path / "xmodel-demo/report/index.html").is_file()
    # What it says to type next works, and the same command shows the same again.
    (feature,) = re.findall(r"xmodel features xmodel-demo --a (\d+)", done.stdout)
    shown = CliRunner().invoke(app, ["features", str(tmp_path / "xmodel-demo"), "--a", feature])
    assert shown.exit_code == 0 and f"{feature}" in shown.stdout
    shown = CliRunner().invoke(app, ["features", str(tmp_path / "xmodel-demo"), "--word", "Lord"])
    assert shown.exit_code == 0
    again = run_demo(tmp_path)
    assert again.stdout == done.stdout


def test_a_narrow_terminal_is_filled_but_not_exceeded(run, scores, steering, written):
    lines = draw(render_demo(describe_demo(run, scores, steering, written), 50), 50).splitlines()
    assert max(len(line) for line in lines[:-4]) <= 50
    assert any("steered" in line for line in lines)


def test_json_is_one_document(tmp_path, run):
    shown = CliRunner().invoke(app, ["demo", "--out", str(run.path), "--json"])
    found = json.loads(shown.stdout)
    assert found["words"] == run.summary["words"]
    assert found["sides"]["a"]["blocks"] == 6 and found["sides"]["b"]["ids"] == 6144
    assert len(found["best_pairs"]) == 4 and len(found["concept_pairs"]) == 5
    assert [one["rule"] for one in found["scores"]] == ["mutual", "mutual", "one_to_one", "one_to_one"]
    assert all(one["p"] <= 0.01 and one["interval"] and one["ceiling"] for one in found["scores"])
    steered = found["steering"]
    assert (
        len(steered["pairs"]) == 30
        and steered["mean_diagonal"] > steered["excess"]["difference"]["value"] / 2 > 0
    )
    assert set(found["report"]["missing"]) == {"layers"} and Path(found["report"]["page"]).is_file()
    assert steered["p_max"] <= 0.05 and steered["retrieval"]["candidates"] == 30
    listed = {(row["feature_a"], row["feature_b"]) for row in run.pairs.slice(0, 400).to_pylist()}
    for pair in [*found["best_pairs"], *found["concept_pairs"]]:
        assert (pair["feature_a"], pair["feature_b"]) in listed
    grammar = {"the", "of", "and", ",", "his", "unto", "thou"}
    for pair in found["concept_pairs"]:
        for side in "ab":
            assert pair[f"top_words_{side}"][0].lower() not in grammar


def test_no_pair_is_shown_twice(run, scores, steering, written, monkeypatch):
    """With more best pairs some of them are of concepts too."""
    monkeypatch.setattr("xmodel.report.demo.BEST", 60)
    found = describe_demo(run, scores, steering, written)
    best, concepts = (
        {(pair["feature_a"], pair["feature_b"]) for pair in found[name]}
        for name in ("best_pairs", "concept_pairs")
    )
    assert len(best) == 60 and len(concepts) == 5 and not best & concepts


def test_another_run_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError):
        CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "mine")], catch_exceptions=False)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_only_headings_and_names_are_bold(run, scores, steering, written):
    """A style that runs on to the end of a sentence would be seen only on a terminal."""
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, color_system="standard", width=90)
    console.print(render_demo(describe_demo(run, scores, steering, written), 90))
    lines = page.getvalue().splitlines()
    (pairs,) = [line for line in lines if "features of a have a partner" in line]
    assert re.match(r"\x1b\[1mpairs     \x1b\[0m[\d,]+ features", pairs)
    (model,) = [line for line in lines if "GPT-NeoX" in line]
    assert "\x1b[0m  GPT-NeoX" in model


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"low": -0.1}, "but also for features that merely fire alike (0.213)."),
        ({"low": 0.1}, "and more than for features that merely fire alike (0.213)."),
        ({"draws": [0.001]}, "with random layers there 0.015). One draw of these is too few"),
        ({"p_max": 0.2}, "which is not clearly more than chance."),
    ],
)
def test_what_is_said_of_steering_follows_its_tests(run, scores, steering, written, changes, said):
    cell = make_cell(0.25, 0.5) | {name: own for name, own in changes.items() if name == "p_max"}
    cell["over_hard"] = make_excess(0.1, changes.get("low", -0.1), 0.3)
    cell["excess"]["difference"]["reinitialised"] = changes.get("draws", [0.001, 0.003])
    found = describe_demo(run, scores, steering, written)
    found["steering"] = {**found["steering"], "cells": [cell], "primary": 0}
    assert said in " ".join(draw(render_demo(found, 80), 80).split())
