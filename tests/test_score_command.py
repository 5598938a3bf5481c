"""`xmodel score` as a user meets it, on the pair that comes with the package."""

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from xmodel.alignment.settings import PassSettings
from xmodel.cli import app, main
from xmodel.datasets.demo import DEMO_CORPUS, DEMO_SAES
from xmodel.pairing.comparing import align_models
from xmodel.report.scores import format_p, shorten_metric
from xmodel.similarity.metrics import list_metrics

QUICK = ["--permutations", "19", "--bootstrap", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundled") / "run"
    align_models(
        *DEMO_SAES, DEMO_CORPUS, out, settings=PassSettings(words_limit=8000), warn=lambda told: None
    )
    return out


def call(*arguments, width=80):
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": str(width)})


def test_the_page_shows_every_part_with_p_raw_and_corrected(run):
    done = call("score", run, *QUICK)
    assert done.exit_code == 0, done.output
    for told in (
        "By rule of pairing",
        "By coverage",
        "By the number of words",
        "By concept",
        "corr.",
        "chance",
    ):
        assert told in done.stdout
    for rule in ("a to b", "b to a", "mutual", "one to one", "optimal"):
        assert rule in done.stdout
    assert "SVCCA k20" in done.stdout and "scores.json" in done.stdout
    assert "pairs (mutual best) by debiased CKA: 0.0" in done.stdout


def test_a_narrow_terminal_keeps_what_a_value_must_not_be_without(run):
    narrow = call("score", run, *QUICK, "--part", "rule", width=50).stdout
    assert all(title in narrow for title in ("value", "chance", "corr.")) and "no room here for:" in narrow
    assert "no room here for:" not in call("score", run, *QUICK, "--part", "rule", width=80).stdout


@pytest.mark.parametrize("width", [50, 80, 120])
def test_no_line_is_longer_than_the_terminal_is_wide(run, width):
    done = call("score", run, *QUICK, "--part", "concept", "--part", "rule", width=width)
    assert max(map(len, done.stdout.splitlines()[:-1])) <= width


def test_json_is_one_document_and_agrees_with_the_file(run):
    done = call("score", run, *QUICK, "--json", "--part", "rule", "--metric", "cka", "--metric", "svcca:5")
    found = json.loads(done.stdout)
    assert found["scores"] == json.loads((run / "scores.json").read_text("utf-8"))
    assert {one["metric"] for one in found["scores"]} == {"cka", "svcca:5"}
    assert {one["k"] for one in found["scores"]} == {None, 5}
    assert all(one["p"] >= 0.05 and one["p_adjusted"] >= one["p"] for one in found["scores"])


def test_concepts_can_be_named_and_brought_along(run, tmp_path):
    done = call("score", run, *QUICK, "--concept", "nature/water", "--json")
    assert {one["concept"] for one in json.loads(done.stdout)["scores"]} == {"nature/water"}
    mine = tmp_path / "mine.yaml"
    mine.write_text("commands: [shall, must, will, may]\nnothing: [xylophone]\n")
    done = call("score", run, *QUICK, "--part", "concept", "--concepts", mine, "--json")
    scores = json.loads(done.stdout)["scores"]
    assert {one["concept"] for one in scores} == {"commands", "nothing"}
    empty = [one for one in scores if one["concept"] == "nothing"]
    assert all(one["value"] is None and one["pairs"] == 0 and one["warnings"] for one in empty)


def refuse(monkeypatch, capsys, *arguments):
    """The one paragraph with which the program ends, with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["xmodel", *(str(one) for one in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 2 and shown.out == "" and "Traceback" not in shown.err
    return shown.err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--permutations", "0"], "permutations is 0"),
        (["--metric", "svca"], "svcca:K"),
        (["--concept", "colours"], "nature/water"),
        (["--concepts", "nowhere.yaml"], "nowhere.yaml"),
        (["--rule", "best"], "best_of_a"),
        (["--alpha", "2"], "alpha is 2"),
        (["--correction", "max"], "null shift"),
        (["--part", "rule", "--concept", "nature"], "part concept"),
        (["--compat", "lan2024", "--metric", "cka"], "--metric"),
    ],
)
def test_wrong_choices_end_with_code_2_and_the_right_ones(run, wrong, told, monkeypatch, capsys):
    assert told in refuse(monkeypatch, capsys, "score", run, *wrong)


def test_an_interrupted_score_says_that_nothing_was_written(run, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("xmodel.similarity.scoring.test_cells", interrupt)
    monkeypatch.setattr(sys, "argv", ["xmodel", "score", str(run), *QUICK])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130 and "Nothing was written" in capsys.readouterr().err


def test_a_sweep_is_told_from_a_run(run, tmp_path, monkeypatch, capsys):
    other = tmp_path / "sweep"
    shutil.copytree(run, other)
    (other / "pairs.parquet").unlink()
    (other / "sweep.json").write_text("{}")
    assert "holds a sweep" in refuse(monkeypatch, capsys, "score", other, *QUICK)


def test_a_folder_without_a_run_is_refused(tmp_path, monkeypatch, capsys):
    assert str(tmp_path) in refuse(monkeypatch, capsys, "score", tmp_path)


def test_dictionaries_that_have_changed_are_refused(run, tmp_path, monkeypatch, capsys):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    manifest = json.loads((other / "manifest.json").read_text("utf-8"))
    manifest["sides"]["b"]["dictionary"]["digest"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "has changed since" in refuse(monkeypatch, capsys, "score", other, *QUICK)


def test_neurons_have_no_vectors_but_have_activations(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    align_models(
        "neurons:blocks.2.mlp.hook_post", "residual:blocks.3.hook_resid_post", DEMO_CORPUS, out,
        model_a="builtin:neox-demo", model_b="builtin:gemma-demo",
        settings=PassSettings(words_limit=2000), warn=lambda told: None,
    )  # fmt: skip
    assert "--on activations" in refuse(monkeypatch, capsys, "score", out, *QUICK)
    done = call("score", out, *QUICK, "--on", "activations", "--part", "rule", "--rule", "mutual", "--json")
    scores = json.loads(done.stdout)["scores"]
    assert [one["metric"] for one in scores] == ["svcca:20", "cka_debiased"]
    assert all(one["null"] == "shift" and one["p"] == 0.05 for one in scores)


def test_p_is_never_printed_as_0():
    assert format_p(None) == "–"
    assert [format_p(p) for p in (1.0, 0.05, 0.001, 0.0004, 1e-7)] == [
        "1.000",
        "0.050",
        "0.001",
        "4e-04",
        "1e-07",
    ]


def test_metrics_have_short_names_that_differ():
    names = [
        "cka",
        "cka_debiased",
        "cca",
        "pwcca",
        "svcca:20",
        "mutual_knn:10",
        "jaccard:10",
        "rsa:cosine:pearson",
    ]
    short = [shorten_metric(name) for name in names]
    assert len(set(short)) == len(names) and max(map(len, short)) <= 14
    assert shorten_metric("rsa:euclidean:spearman") == "rsa:euclidean:spearman"
    assert {"cka", "svcca:K"} <= {name.replace("svcca:k", "svcca:K") for name in list_metrics()}
