"""The page's steering: figures and tables are what steering measured, whatever of it was measured."""

import itertools
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report_helpers import HOSTILE
from tests.steer_pages import make_found
from tests.steered_runs import choose, copied, deep, one_thread, run  # noqa: F401
from xmodel.pairing.results import open_run
from xmodel.report.page import steering_figures
from xmodel.report.page.figures_json import figure_as_json
from xmodel.report.page.rendering import find_link
from xmodel.report.page.steering import build_steering, fill_absent
from xmodel.report.page.steering_examples import list_examples
from xmodel.report.page.steering_figures import draw_exchanges, list_counted, thin_shares
from xmodel.report.page.steering_tables import list_tables, name_resampled
from xmodel.report.steer import describe_steering, judge_transfer
from xmodel.steering.readouts import TIE
from xmodel.steering.results import SUMMARY, read_steering
from xmodel.steering.steering import steer_run


@pytest.fixture(scope="module")
def pushed(run, tmp_path_factory):
    place = shutil.copytree(run.path, tmp_path_factory.mktemp("pushed") / "run")
    return steer_run(open_run(place), choose(pairs=8))


@pytest.fixture(scope="module")
def built(pushed):
    return build_steering(pushed.run, "my run")


def take(part):
    figures = {figure.name: figure for figure in part.figures}
    assert len(figures) == len(part.figures)
    for figure in part.figures:
        json.dumps(figure_as_json(figure), allow_nan=False)
    for table in part.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    return figures, {table.title: table for table in part.tables}


def rewrite(run, change):
    place = run.path / SUMMARY
    summary = json.loads(place.read_text())
    change(summary)
    place.write_text(json.dumps(summary))


def test_the_matrices_are_those_that_were_measured(pushed, built):
    figures, _ = take(built[0])
    summary, matrices = pushed.summary, pushed.matrices
    place, pairs = summary["primary"], summary["pairs"]
    own, random = figures["steering-matrix"], figures["steering-random"]
    np.testing.assert_array_equal(own.values, matrices["odd"][place].astype(np.float64))
    np.testing.assert_allclose(random.values, matrices["reinitialised"][:, place].mean(axis=0), atol=1e-7)
    assert own.limit == random.limit and own.limit <= np.abs(own.values).max()
    assert own.y == tuple(str(one["feature_a"]) for one in pairs)
    assert own.x == tuple(str(one["feature_b"]) for one in pairs)
    assert own.links[1][2] == f"#a={pairs[1]['feature_a']}&b={pairs[2]['feature_b']}"


def test_the_null_is_the_one_that_steering_tested_with(pushed, built):
    figure = take(built[0])[0]["steering-null"]
    null, cell = figure.draws[0].values, pushed.summary["cells"][pushed.summary["primary"]]
    observed = dict(figure.marks)["partners"]
    assert observed == pytest.approx(cell["mean_diagonal"], abs=1e-6)
    assert dict(figure.marks)["random layers"] == pytest.approx(cell["reinitialised"]["mean_diagonal"])
    # The matrix on disk has fewer digits than the one that was tested.
    p = (1 + (null >= observed - max(TIE, 1e-7)).sum()) / (1 + len(null))
    assert len(null) == 39 and p == pytest.approx(cell["p"])


def test_curves_over_depths_are_those_of_the_cells(pushed, built):
    figures, _ = take(built[0])
    for dose in (0.1, 0.25):
        cells = [cell for cell in pushed.summary["cells"] if cell["dose"] == dose]
        series = {one.label: one for one in figures["steering-retrieval"].series}
        own = series[f"partners, dose {dose:g}"]
        assert own.x.tolist() == [cell["depth"] for cell in cells]
        assert own.y.tolist() == [cell["retrieval"]["top1"] for cell in cells]
        random = series[f"random layers, dose {dose:g}"]
        assert random.dashed and random.y[0] == pytest.approx(np.mean(cells[0]["reinitialised"]["top1"]))
    primary = pushed.summary["cells"][pushed.summary["primary"]]
    against = next(one for one in figures["steering-auroc"].series if one.label.startswith("against other"))
    assert primary["auroc"]["off_diagonal"] in against.y


def test_dose_curves_are_those_of_the_study(pushed, built):
    figures, tables = take(built[0])
    study = pushed.summary["dose_response"]
    assert [one.y.tolist() for one in figures["steering-doses"].series] == study["transfer"]
    pairs = figures["steering-pairs"].series
    assert len(pairs) == 4 * len(study["pairs"]) and figures["steering-pairs"].pick
    assert pairs[1].y.tolist() == study["odd_norms"]["b"][0] and not pairs[1].dashed
    assert pairs[2].y.tolist() == study["even_norms"]["a"][0] and pairs[2].dashed
    middle = figures["steering-next-token"].series[0]
    np.testing.assert_allclose(middle.y, np.median(study["kl"]["a"], axis=0))
    assert (middle.low <= middle.y).all() and (middle.y <= middle.high).all()
    assert len(tables["Doses, pair by pair"].rows) == len(study["pairs"])


def test_the_verdict_comes_first_and_is_the_terminals(pushed, built):
    verdict = judge_transfer(describe_steering(pushed))[0].removeprefix("Verdict: ")
    assert built[0].sentences[0].lower() == verdict.lower()
    assert any("95% interval over pairs and draws" in sentence for sentence in built[0].sentences)


def test_best_pairs_are_links_with_hard_pairs_beside(pushed, built):
    table = take(built[0])[1]["The pairs that agree most"]
    rows = pushed.table.to_pylist()[pushed.summary["primary"] :: len(pushed.summary["cells"])]
    titles = [column.title for column in table.columns]
    for row in table.rows:
        own = dict(zip(titles, row, strict=True))
        assert find_link(own["pair"]) is not None
        same = [r for r in rows if own["pair"] == f"#a={r['feature_a']}&b={r['feature_b']}"]
        assert len(same) == 1 and same[0]["odd"] == own["agreement"] and same[0]["hard"] == own["hard pair"]


def test_examples_hold_what_both_models_say(pushed, built):
    examples = built[1]["examples"]
    assert len(examples) == len(pushed.summary["examples"]) > 0
    for own, whole in zip(examples, pushed.summary["examples"], strict=True):
        assert own["a"] == whole["feature_a"] and own["doses"] == whole["doses"]
        assert len(own["next_b"]) == len(own["doses"])
        for shown, tokens in zip(own["next_a"], whole["next_a"], strict=True):
            assert [one[2] for one in shown] == pytest.approx(
                [one["probability"] for one in tokens[: len(shown)]], rel=0.01
            )


def test_an_ablation_leaves_out_what_has_no_value(copied):
    steered = steer_run(copied, choose(mode="ablate", pairs=40, curve_pairs=0))
    part, _ = build_steering(copied)
    figures, tables = take(part)
    there = [row["odd"] is not None for row in steered.table.to_pylist()][:: len(steered.summary["cells"])]
    counted = steered.summary["ablation"]["pairs"]
    own = figures["steering-matrix"]
    assert own.values.shape == (counted, counted) and np.isfinite(own.values).all()
    assert counted <= sum(there) and ("left out" in own.caption) == (counted < len(there))
    assert "steering-doses" not in figures and "By depth" in tables
    assert len(figures["steering-agreement"].series[0].x) == counted


def test_without_random_layers_curves_or_hard_pairs(copied):
    steer_run(copied, choose(reinit=0, curve_pairs=0, random=0))
    part, _ = build_steering(copied)
    figures, tables = take(part)
    assert "steering-random" not in figures and "Doses, pair by pair" not in tables
    assert not any("random" in one.label for one in figures["steering-retrieval"].series)
    doses = figures["steering-doses"]
    steering = read_steering(copied)
    assert steering is not None
    rows, place = steering.table.to_pydict(), steering.summary["primary"]
    cells = len(steering.summary["cells"])
    depth = steering.summary["cells"][place]["depth"]
    own = [at for at, cell in enumerate(steering.summary["cells"]) if cell["depth"] == depth]
    names = [f"a {a} – b {b}" for a, b in zip(rows["feature_a"], rows["feature_b"], strict=True)][::cells]
    for one in doses.series:
        pair = names.index(one.label)
        assert one.y.tolist() == [rows["odd"][pair * cells + at] for at in own]


def test_what_an_older_version_did_not_measure_is_left_out(copied):
    steer_run(copied, choose(pairs=8))

    def strip(summary):
        for name in (
            "reliability",
            "rises",
            "carried",
            "contrasts",
            "dose_response",
            "next_words",
            "ceiling",
        ):
            summary.pop(name, None)
        for cell in summary["cells"]:
            for name in ("over_hard", "excess", "reinitialised", "damage"):
                cell.pop(name, None)

    rewrite(copied, strip)
    figures, tables = take(build_steering(copied)[0])
    assert "steering-matrix" in figures and "How far beyond" not in tables
    rewrite(copied, lambda summary: summary.pop("hard_pairs"))
    part, payload = build_steering(copied)
    assert part.missing is not None and "hard_pairs" in part.missing.reason and payload is None


def test_runs_that_were_not_steered_or_have_new_pairs_say_what_to_do(copied):
    part, payload = build_steering(copied, "my run")
    assert part.missing is not None and payload is None
    assert part.missing.command == "xmodel steer 'my run'"
    steer_run(copied, choose())
    assert build_steering(copied)[0].missing is None
    rewrite(copied, lambda summary: summary.update(pairs_sha256="0" * 64))
    part, _ = build_steering(copied, "r")
    assert part.missing is not None and "anew" in part.missing.reason


def test_matrices_that_are_lost_are_told(copied):
    steer_run(copied, choose())
    (copied.path / "steering/matrices.safetensors").write_bytes(b"damaged")
    part, _ = build_steering(copied)
    figures, tables = take(part)
    assert "steering-doses" in figures and "steering-matrix" not in figures
    assert tables and any("missing or damaged" in note for note in part.notes)


def test_of_many_pairs_the_first_are_shown(pushed, monkeypatch):
    monkeypatch.setattr(steering_figures, "MOST_PAIRS", 3)
    figure = take(build_steering(pushed.run)[0])[0]["steering-matrix"]
    assert figure.values.shape == (3, 3) and "the first 3 of 8 pairs" in figure.caption


def test_hostile_words_are_spelled_out():
    found = fill_absent(make_found())
    rows = {name: [0.5] * 400 for name in ("hard", "next_best", "damage_a", "damage_b")}
    found["dose_response"] = None
    tables = list_tables(found, rows)
    shown = json.dumps([asdict(table) for table in tables] + [list_examples(found)], ensure_ascii=False)
    assert any(ord(sign) < 32 for sign in "".join(HOSTILE))
    assert not any(sign in shown for sign in ("\\u001b", "\\u0000", "\x1b", "\u202e", "\n"))


@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(2, 20))
def test_thinned_values_keep_both_ends_the_order_and_their_shares(values, most):
    thin, shares = thin_shares(np.array(values), most)
    assert len(thin) == len(shares) == min(len(values), most) and (np.diff(thin) >= 0).all()
    whole = [(value, (len(values) - i) / len(values)) for i, value in enumerate(sorted(values))]
    assert set(zip(thin.tolist(), shares.tolist(), strict=True)) <= set(whole)
    if values:
        assert thin[0] == min(values) and thin[-1] == max(values)
        # All agree at least as much as the least does, and the greatest alone as much as itself.
        assert shares[0] == 1 and shares[-1] == 1 / len(values)


def draw_values(hard, odd, *, shared=()):
    """The distributions of one cell; `hard` with None where a pair has no hard pair."""
    rows = {"odd": odd, "hard": hard, "next_best": [None] * len(odd)}
    rows |= {f"feature_{side}": list(range(len(odd))) for side in "ab"}
    for pair in shared:
        rows["feature_a"][pair] = 0
    s = np.full((1, len(odd), len(odd)), -0.5)
    s[0, np.arange(len(odd)), np.arange(len(odd))] = odd
    there = [value for value in hard if value is not None]
    matrices = {"odd": s, "reinitialised": np.empty((0, *s.shape)), "hard": np.array([there])}
    found = fill_absent(make_found())
    found |= {"primary": 0, "cells": found["cells"][:1], "pairs": found["pairs"][: len(odd)]}
    found["settings"] = found["settings"] | {"seed": 0}
    figures = {one.name: one for one in steering_figures.draw_transfers(found, rows, matrices)}
    return figures["steering-agreement"]


def test_hard_pairs_stand_beside_the_partners_they_are_matched_to():
    figure = draw_values([0.3, None, 0.1, 0.9], [0.4, 0.8, 0.2, 0.6], shared=[3])
    series = {one.label: one for one in figure.series}
    assert series["partners"].x.tolist() == [0.2, 0.4, 0.8]
    # The last pair shares a feature with the first: neither it nor its hard pair counts.
    assert series["hard pairs"].x.tolist() == [0.1, 0.3]
    assert series["partners that have a hard pair"].x.tolist() == [0.2, 0.4]
    assert series["partners"].y.tolist() == [1, 2 / 3, 1 / 3]
    assert not series["partners that have a hard pair"].dashed and series["hard pairs"].dashed
    assert "found for 2 of 3 pairs, whose own curve is the one to compare them with" in figure.caption
    assert "partners that have a hard pair 0.300" in figure.caption


def test_where_all_or_none_have_a_hard_pair_there_is_no_second_curve():
    figure = draw_values([0.3, 0.2, 0.1], [0.4, 0.8, 0.2])
    assert "partners that have a hard pair" not in {one.label for one in figure.series}
    assert "found for every pair" in figure.caption
    figure = draw_values([None] * 3, [0.4, 0.8, 0.2])
    assert not any("hard" in one.label for one in figure.series) and "ard pairs" not in figure.caption


def test_the_excess_has_both_kinds_of_p_and_says_what_its_interval_is_over():
    found = fill_absent(make_found())
    found["dose_response"] = None
    rows = {name: [0.5] * 400 for name in ("hard", "next_best", "damage_a", "damage_b")}

    def take_excess():
        return next(table for table in list_tables(found, rows) if table.title == "How far beyond")

    table = take_excess()
    titles = [column.title for column in table.columns]
    assert titles[-2:] == ["p over pairs", "p over draws of layers"]
    cell = found["cells"][found["primary"]]
    for row, name in zip(table.rows, ("mean_diagonal", "difference", "top1", "auroc_hard"), strict=False):
        assert row[-2:] == (cell["excess"][name]["p"], cell["excess"][name]["p_draws"])
    assert table.rows[-1][1] == "hard pairs" and table.rows[-1][-1] is None
    # Two draws: one place in three.
    assert "the least possible is 0.33" in table.columns[-1].note
    assert "95% interval over pairs and draws (of hard pairs, over pairs)" in table.caption
    for own in cell["excess"].values():
        own["reinitialised"] = own["reinitialised"][:1]
        del own["p_draws"]
    cell["reinitialised"]["draws"] = 1
    table = take_excess()
    assert name_resampled(found) == "pairs" and "95% interval over pairs. Random" in table.caption
    assert all(row[-1] is None for row in table.rows) and "is 0.5" in table.columns[-1].note


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.one_of(st.none(), st.floats(-1, 1))), min_size=1
    ),
    st.integers(1, 3),
)
def test_pairs_count_once_per_feature_and_with_a_value(pairs, cells):
    rows = {
        name: [pair[place] for pair in pairs for _ in range(cells)]
        for place, name in enumerate(("feature_a", "feature_b", "odd"))
    }
    expected, seen_a, seen_b = [], set(), set()
    for number, (a, b, odd) in enumerate(pairs):
        if odd is not None and a not in seen_a and b not in seen_b:
            expected.append(number)
            seen_a.add(a)
            seen_b.add(b)
    assert list_counted(rows, cells).tolist() == expected


@given(st.integers(2, 5), st.integers(0, 99))
def test_exchanges_are_means_over_permutations(pairs, seed):
    s = np.random.default_rng(seed).normal(size=(pairs, pairs))
    null = draw_exchanges(s, 50, seed)
    assert len(null) == 50
    np.testing.assert_array_equal(null, draw_exchanges(s, 50, seed))
    possible = [
        np.mean([s[row, column] for row, column in enumerate(order)])
        for order in itertools.permutations(range(pairs))
    ]
    assert np.abs(null[:, None] - np.array(possible)).min(axis=1).max() < 1e-12
    np.testing.assert_allclose(draw_exchanges(np.full((pairs, pairs), 0.25), 9, seed), 0.25)
