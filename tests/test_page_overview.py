"""The overview of a run's page: what it says agrees with the run's files, and what is missing is named."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.score_worlds import make_world
from tests.tiny_runs import build_run
from xmodel.errors import InputError
from xmodel.pairing.results import open_run
from xmodel.pairing.settings import PairSettings
from xmodel.report.page.figures_json import figure_as_json
from xmodel.report.page.overview import MOST_POINTS, build_overview
from xmodel.report.page.records import Flow, Histogram, Scatter
from xmodel.report.page.score_parts import MOST_HISTOGRAMS, tell_score
from xmodel.report.runs import RULE_NAMES
from xmodel.similarity.null_draws import NULLS
from xmodel.similarity.scoring import score_run
from xmodel.similarity.settings import ScoreSettings

SETTINGS = ScoreSettings(
    permutations=49, bootstrap=2, parts=("rule", "concept"), metrics=("cka_debiased", "rsa")
)


def find(part, kind, name=""):
    return [one for one in part.figures if isinstance(one, kind) and one.name.startswith(name)]


def find_table(part, title):
    (table,) = [one for one in part.tables if one.title.startswith(title)]
    return table


def edit_json(place, change):
    content = json.loads(place.read_text("utf-8"))
    change(content)
    place.write_text(json.dumps(content), "utf-8")


def test_a_run_without_scores_is_told_in_full_and_names_the_command(tmp_path):
    run = build_run(tmp_path / "a run", pairing=PairSettings()).run
    part = build_overview(run)
    assert part.name == "overview" and part.missing is None
    summary = run.summary
    best = summary["pairs"]["best_of_a"]
    told = " ".join(part.sentences)
    assert part.sentences[0].startswith(f"Of A's {summary['features']['a']['total']:,} features")
    assert f"{best['count']} have a partner in B: mean r {best['mean_r']:.3f}" in told
    assert f"{summary['words']:,} words" in told and f"judged on {summary['heldout_words']:,}" in told
    assert f"`xmodel score '{tmp_path / 'a run'}'` adds scores" in told
    assert "`xmodel score 'my run'` adds" in " ".join(build_overview(run, "my run").sentences)
    assert not find(part, Histogram, "score-") and not any("Scores" in one.title for one in part.tables)


def test_the_ledger_the_pairs_and_the_rules_are_those_of_the_files(tmp_path):
    run = build_run(tmp_path / "run", pairing=PairSettings()).run
    part = build_overview(run)
    (flow,) = find(part, Flow)
    listed = sorted((f"{one.group}: {one.label}", one.entered, one.passed) for one in flow.stages)
    assert listed == sorted((one["filter"], one["in"], one["out"]) for one in run.summary["attrition"])
    groups = [one.group for one in flow.stages]
    assert len(set(groups)) == 1 + sum(one != other for one, other in pairwise(groups))
    table = run.pairs.to_pandas()
    (histogram,) = find(part, Histogram, "r-of-pairs")
    drawn = {one.label: one.values for one in histogram.draws}
    for rule in ("mutual", "best_of_a"):
        assert sorted(drawn[RULE_NAMES[rule]]) == sorted(table[table[rule]].r)
    rows = {row[0]: row[1:] for row in find_table(part, "Pairs by rule").rows}
    for rule, own in run.summary["pairs"].items():
        values = (own["count"], own["mean_r"], own["mean_r_heldout"], own["mean_r_heldout_shuffled"])
        assert rows[RULE_NAMES[rule]] == values
    (scatter,) = find(part, Scatter)
    own = table[table.mutual & table.r_heldout.notna()]
    assert list(scatter.x) == list(own.r) and list(scatter.y) == list(own.r_heldout)
    assert list(scatter.links) == [f"#a={a}&b={b}" for a, b in zip(own.feature_a, own.feature_b, strict=True)]


def test_of_many_pairs_an_even_sample_is_shown_and_said(tmp_path, monkeypatch):
    from xmodel.report.page import overview

    run = build_run(tmp_path / "run", pairing=PairSettings()).run
    (whole,) = find(build_overview(run), Scatter)
    monkeypatch.setattr(overview, "MOST_POINTS", 3)
    (few,) = find(build_overview(run), Scatter)
    assert len(whole.x) > 3 == len(few.x) and set(few.links) < set(whole.links)
    assert (few.x[0], few.x[-1]) == (whole.x[0], whole.x[-1])
    assert f"3 of {len(whole.x)} pairs are shown" in few.caption and "are shown" not in whole.caption
    assert len(whole.x) <= MOST_POINTS


def test_every_score_has_its_sentence_its_row_and_its_draws(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    scores = score_run(run, SETTINGS)
    part = build_overview(run)
    measured = [one for one in scores if one.value is not None]
    drawn = find(part, Histogram, "score-")
    assert 0 < len(drawn) == min(len(measured), MOST_HISTOGRAMS)
    assert len({one.name for one in part.figures}) == len(part.figures)
    assert drawn[0].name.startswith("score-") and "mutual" in drawn[0].name
    for one in drawn:
        (score,) = [own for own in measured if tell_score(own.as_json()) == one.caption]
        assert one.marks[0] == ("observed", score.value)
        assert one.draws[0].values.mean() == score.null_mean
        assert one.caption == tell_score(score.as_json())
    table = find_table(part, "Scores by rule")
    assert sorted(row[4] for row in table.rows) == sorted(one.value for one in scores if one.part == "rule")
    lost = [one for one in scores if one.value is None]
    rows = [row for row in find_table(part, "Scores by concept").rows if row[4] is None]
    assert len(rows) == len(lost) > 0 and all("not measured" in row[-1] for row in rows)
    for one in part.figures:
        json.dumps(figure_as_json(one), allow_nan=False)
        assert re.fullmatch("[a-z0-9-]+", one.name) and one.title and one.caption


def test_the_verdict_follows_the_corrected_p(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    score = next(one for one in score_run(run, SETTINGS) if one.rule == "mutual")
    above = tell_score(replace(score, p_adjusted=0.05).as_json())
    below = tell_score(replace(score, p_adjusted=0.051).as_json())
    assert "are more alike than chance" in above and "are not clearly more alike than chance" in below
    assert f"{score.value:.3f}, by chance (exchanged partners, by frequency) " in above


def test_a_run_scored_by_an_early_version_says_how_to_get_the_histograms(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    score_run(run, SETTINGS)
    (run.path / NULLS).unlink()
    part = build_overview(run, "my-run")
    assert not find(part, Histogram, "score-") and find_table(part, "Scores by rule").rows
    assert any("not kept" in note and "`xmodel score my-run`" in note for note in part.notes)
    assert "by chance" in part.sentences[1]


def test_neighbouring_sites_and_warnings_of_the_run_are_told(tmp_path):
    run = build_run(tmp_path / "run", pairing=PairSettings()).run

    def change(manifest):
        manifest["sides"]["a"]["calibration"] = {
            "tokens": 100,
            "fvu": 0.3,
            "neighbours": {"blocks.1": 0.2, "blocks.9": 1.5},
            "misfit": "the SAE does not fit \u202e here",
            "note": None,
        }
        manifest["sides"]["b"]["certificates"] = {"exact": 3, "failed": 2}
        manifest["corpus"]["failed_documents"] = 2

    before = " ".join(build_overview(run).sentences)
    assert "Warning" not in before
    edit_json(run.path / "manifest.json", change)
    part = build_overview(open_run(run.path))
    told = " ".join(part.sentences)
    assert told.count("Warning") == 3 and "‹U+202E›" in told.replace("‹RLO›", "‹U+202E›")
    assert "\u202e" not in told and "failed in 2" in told and "2 documents were left out" in told
    table = find_table(part, "Does each SAE belong")
    assert [row[3] for row in table.rows] == [0.2, 0.3, 1.5] and [row[2] for row in table.rows][
        1
    ] == "its own"
    assert "A's own site is not rebuilt best" in table.caption


def test_the_published_recipe_is_shown_where_it_was_run(tmp_path):
    run = build_run(tmp_path / "run", pairing=PairSettings()).run
    assert not any("Lan et al." in one.title for one in build_overview(run).tables)
    switches = dict.fromkeys(
        (
            "one_component",
            "hook_off_by_one",
            "unmasked_padding",
            "noop_filter",
            "dead_in_mean",
            "p_without_one",
        ),
        False,
    )
    row = {
        "switches": switches, "mean_actv_corr": 0.4, "pairs": 10, "svcca": 0.5, "k": [3, 2], "n_per_k": 3.3,
        "null_mean": 0.1, "p": 0.01, "warnings": ["few rows"], "not_run": None, "part": "intended",
    }  # fmt: skip
    lost = {
        **row, "switches": {**switches, "noop_filter": True}, "part": "alone", "not_run": "no words",
        "svcca": None,
    }  # fmt: skip
    place = run.path / "lan2024.json"
    place.write_text(json.dumps({"shuffles": 100, "seed": 0, "rows": [row, lost]}), "utf-8")
    table = find_table(build_overview(run), "The recipe of Lan et al.")
    assert table.rows[0] == ("as intended", 0.4, 10, 0.5, "3 / 2", 3.3, 0.1, 0.01, "few rows")
    assert table.rows[1][0] == "alone: filter undone" and "not run: no words" in table.rows[1][-1]
    place.write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"lan2024\.json is damaged"):
        build_overview(run)


def test_damaged_scores_are_an_error_that_names_the_file(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    (run.path / "scores.json").write_text('[{"part": "unknown"}]', "utf-8")
    with pytest.raises(InputError, match=r"scores\.json is damaged"):
        build_overview(run)


def test_a_run_without_pairs_is_told_without_pictures_of_them(tmp_path):
    run = build_run(tmp_path / "run", pairing=PairSettings(min_firings=10_000)).run
    part = build_overview(run)
    assert "none of them has a partner" in part.sentences[0]
    assert [type(one) for one in part.figures] == [Flow]
    assert "nan" not in " ".join(part.sentences)
