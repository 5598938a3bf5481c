"""A run as a page, as a whole: the folder, its replacement, the command, and what is said of it."""

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from tests.report_helpers import draw
from tests.tiny_runs import build_run
from xmodel import ReportSettings, write_report
from xmodel.cli import app
from xmodel.errors import InputError
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.results import open_run
from xmodel.pairing.settings import PairSettings
from xmodel.report.page import facts
from xmodel.report.page import report as page_report
from xmodel.report.page.facts import describe_frame
from xmodel.report.page.folder import replace_report
from xmodel.report.page.telling import render_report
from xmodel.report.runs import describe_side
from xmodel.run import RunFolder

QUICK = ReportSettings(maps=False, passages=3, shifts=3, contexts=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = build_run(tmp_path_factory.mktemp("page") / "a run", pairing=PairSettings(min_firings=5)).run
    return run, write_report(run, QUICK)


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made[0].path, tmp_path / "run")
    return open_run(tmp_path / "run")


def read_chunk(folder, name):
    text = (folder / "data" / f"{name}.js").read_text("ascii")
    return json.loads(re.fullmatch(r'xmodel\.take\("[^"]*",\s*(.*)\);\s*', text, re.DOTALL)[1])


def list_files(folder):
    return {place.relative_to(folder): place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def test_the_folder_has_all_that_the_page_names(made):
    run, written = made
    folder = run.path / "report"
    index = written.path.read_text("utf-8")
    assert written.path == folder / "index.html"
    for name in re.findall(r'(?:src|href)="((?:assets|data)/[^"]+|[a-z_]+\.(?:csv|jsonl))"', index):
        assert (folder / name).is_file(), name
    for name in re.findall(r'data-figure="([^"]+)"', index):
        assert read_chunk(folder, f"figures/{name}")["name"] == name
    for part in written.parts:
        assert f'data-part="{part.name}"' in index
    assert not (folder / "scratch").exists()
    assert written.bytes == sum(len(data) for data in list_files(folder).values())


def test_what_scripts_read_first_is_the_runs(made):
    run, written = made
    found = read_chunk(run.path / "report", "run")
    assert found["pairs"] == written.pairs == len(read_chunk(run.path / "report", "pairs/table")["a"]) > 0
    assert found["words"] == len(run.words)
    assert [found["sides"][side]["features"] for side in "ab"] == list(run.shards.features)
    assert set(found["missing"]) == {"maps", "steering", "layers"}
    there = {one["name"] for one in found["parts"]}
    assert there == {"overview", "pairs", "only", "alignment"}
    assert found["least_firings"] == 5
    assert found["labels"] == {"a": False, "b": False}


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("builtin:neox-demo", "neox-demo"),
        ("EleutherAI/pythia-70m", "EleutherAI/pythia-70m"),
        ("/home/me/models/gemma", "gemma"),
        ("../models/gemma/", "gemma"),
    ],
)
def test_the_title_names_models_and_no_places(made, monkeypatch, model, shown):
    run, _ = made
    described = describe_side(run, "a") | {"model": model}
    monkeypatch.setattr(facts, "describe_side", lambda run, side: described)
    assert describe_frame(run, {})["title"] == f"{shown} ↔ {shown}"


def test_missing_parts_name_commands_that_work(made):
    run, written = made
    missing = {part.name: part.missing for part in written.parts if part.missing is not None}
    assert missing["steering"].command == f"xmodel steer '{run.path}'"
    assert missing["maps"].command == f"xmodel report '{run.path}'"
    index = written.path.read_text("utf-8")
    assert "xmodel steer" in index and "xmodel sweep" in index
    assert f"xmodel score &#39;{run.path}&#39;" in index


def test_equal_runs_give_equal_pages(copied):
    first = list_files(write_report(copied, QUICK).path.parent)
    again = list_files(write_report(copied, QUICK).path.parent)
    assert first == again


def test_what_goes_with_the_page_before_is_told(copied, tmp_path):
    place = tmp_path / "names.csv"
    place.write_text(f"feature,label\n{copied.pairs['feature_a'][0].as_py()},sea\n")
    quick = {"maps": False, "passages": 3, "shifts": 3, "contexts": 4}
    written = write_report(copied, ReportSettings(figures=True, labels_a=place, **quick))
    (carried,) = written.carried
    assert carried.startswith("1 name of a went to ")
    told = []
    write_report(copied, QUICK, warn=told.append)
    assert [("--figures" in one, "--labels-a" in one) for one in told] == [(True, False), (False, True)]
    told = []
    write_report(copied, QUICK, warn=told.append)
    assert not told


def test_a_failed_call_leaves_the_page_as_it_was(copied, monkeypatch):
    before = list_files(copied.path / "report")

    def fail(*arguments):
        raise RuntimeError("here")

    monkeypatch.setattr(page_report, "render_index", fail)
    with pytest.raises(RuntimeError, match="here"):
        write_report(copied, QUICK)
    assert list_files(copied.path / "report") == before
    assert not list(copied.path.glob("report.*"))


def test_what_a_kill_leaves_is_put_in_order(copied):
    # As if it came between moving the old page away and the new one in.
    (copied.path / "report").rename(copied.path / "report.old")
    (copied.path / "report.new").mkdir()
    (copied.path / "report.new" / "half").write_text("x")
    with replace_report(copied.folder) as folder:
        assert list(folder.iterdir()) == []
        assert (copied.path / "report" / "index.html").is_file()
        (folder / "index.html").write_text("new")
    assert (copied.path / "report" / "index.html").read_text() == "new"
    assert not list(copied.path.glob("report.*"))


def test_somebody_elses_folder_is_not_replaced(copied):
    shutil.rmtree(copied.path / "report")
    (copied.path / "report").mkdir()
    (copied.path / "report" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is no page that xmodel wrote"):
        write_report(copied, QUICK)
    assert (copied.path / "report" / "thesis.tex").read_text() == "x"


def test_two_calls_at_once_are_refused(copied):
    with copied.folder.lock(), pytest.raises(InputError, match="another process"):
        write_report(copied, QUICK)


def test_a_page_of_other_pairs_is_told_of(copied):
    told = []
    pair_features(copied.folder, PairSettings(top_k=1), warn=told.append)
    assert any("shows the run as it was before" in one and "xmodel report" in one for one in told)


def test_a_fresh_run_takes_the_page_with_it(copied):
    (copied.path / "report.new").mkdir()
    RunFolder(copied.path).clear()
    assert [place.name for place in copied.path.iterdir() if place.name != ".lock"] == []


@pytest.mark.parametrize(
    "wrong",
    [{"contexts": 0}, {"contexts": 7}, {"passages": 0}, {"shifts": 0}, {"seed": -1}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=f"^{next(iter(wrong))} is {next(iter(wrong.values()))}"):
        ReportSettings(**wrong)


def test_names_are_carried_to_the_partners(copied, tmp_path):
    best = next(row for row in copied.pairs.to_pylist() if row["rank_b"] == 1)
    place = tmp_path / "names.csv"
    place.write_text(f"feature,label\n{best['feature_a']},<b>whales & sea</b>\n")
    settings = ReportSettings(maps=False, passages=3, shifts=3, contexts=4, labels_a=place)
    written = write_report(copied, settings)
    folder = written.path.parent
    assert {"report/labels_b.csv", "report/labels_b.jsonl"} <= set(written.files)
    rows = [json.loads(line) for line in (folder / "labels_b.jsonl").read_text().splitlines()]
    (own,) = [row for row in rows if row["feature_b"] == best["feature_b"]]
    assert own["label"] == "<b>whales & sea</b>" and own["feature_a"] == best["feature_a"]
    assert own["r"] == pytest.approx(best["r"], abs=1e-6)
    carried = read_chunk(folder, "features/words_b")["carried"]
    assert carried["label"][best["feature_b"]] == "<b>whales & sea</b>"
    assert read_chunk(folder, "run")["labels"] == {"a": True, "b": True}


def test_figures_for_print_are_of_the_same_numbers(copied):
    settings = ReportSettings(figures=True, maps=False, passages=3, shifts=3, contexts=4)
    written = write_report(copied, settings)
    folder = written.path.parent
    names = [figure.name for part in written.parts for figure in part.figures]
    assert names
    for name in names:
        assert (folder / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        header, *rows = (folder / "figures" / f"{name}.csv").read_text("utf-8").splitlines()
        table = read_chunk(folder, f"figures/{name}")["table"]
        assert header.split(",")[0].strip('"') == table["columns"][0]
        assert len(rows) >= table.get("cut", len(table["rows"]))


def test_the_command_says_where_the_page_is(copied):
    options = ["--no-maps", "--passages", "3", "--shifts", "3", "--contexts", "4"]
    shown = CliRunner().invoke(app, ["report", str(copied.path), *options])
    assert shown.exit_code == 0
    flat = " ".join(shown.stdout.split())
    assert f"Open in a browser: {copied.path}/report/index.html" in shown.stdout.replace("\n", "")
    assert "It shows overview, pairs, what only one model has and alignment:" in flat
    assert "Not in it: scores." in flat and "xmodel score " in flat
    assert "Not in it: steering." in flat and "Not in it: maps. Maps were left out" in flat
    shown = CliRunner().invoke(app, ["report", str(copied.path), *options, "--json"])
    found = json.loads(shown.stdout)
    assert found["parts"]["only"] == "What only one model has"
    assert found["missing"]["layers"]["command"].startswith("xmodel sweep ")
    assert found["bytes"] > 4e6 and found["files"] == ["report/only_a.csv", "report/only_b.csv"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--contexts", "3"], "must be even"),
        (["--labels-a", "nowhere.csv"], "nowhere.csv"),
        (["--sweep", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_told_before_the_page_is_touched(copied, options, told):
    before = list_files(copied.path / "report")
    with pytest.raises(InputError, match=re.escape(told)):
        CliRunner().invoke(app, ["report", str(copied.path), *options], catch_exceptions=False)
    assert list_files(copied.path / "report") == before


def test_parts_that_lack_the_same_are_named_together():
    lacking = {"reason": "There are no pairs.", "command": "xmodel pair run"}
    found = {
        "page": "run/report/index.html",
        "parts": {"overview": "Overview"},
        "missing": {"pairs": {"title": "Pairs", **lacking}, "maps": {"title": "Maps", **lacking}},
        "pairs": 0,
        "bytes": 6_200_000,
        "files": [],
        "carried": [],
    }
    lines = draw(render_report(found, 60), 60)
    assert "It shows overview: 6 MB." in lines
    assert "Not in it: pairs and maps. There are no pairs." in lines and lines.count("xmodel pair run") == 1
