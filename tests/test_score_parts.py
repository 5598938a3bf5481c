"""The parts of a score: which pairs belong to a cell, the interval, the ceiling, and the other nulls."""

from dataclasses import replace

import numpy as np
import pytest

from tests.score_worlds import FEATURES, make_world
from xmodel.similarity.ceilings import measure_ceiling
from xmodel.similarity.cells import list_concept_cells, list_coverage_cells, list_stratum_cells
from xmodel.similarity.families import adjust_bh, adjust_holm, adjust_max
from xmodel.similarity.intervals import _resamples_well
from xmodel.similarity.material import Material
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.repairing import Matches, keep_one_per_feature, turn_signs
from xmodel.similarity.scores import Score, Scored, correct_families
from xmodel.similarity.scoring import score_run
from xmodel.similarity.settings import ScoreSettings
from xmodel.similarity.views import ActivationView, DecoderView, draw_other_pairs, draw_random_features

CKA = parse_metric("cka_debiased")


def make_matches(count, seed=0):
    rng = np.random.default_rng(seed)
    r = np.sort(rng.random(count))[::-1]
    return Matches(rng.permutation(count).astype(np.int32), rng.permutation(count).astype(np.int32), r)


def test_coverage_takes_the_best_pairs_first():
    matches = make_matches(100)
    cells = list_coverage_cells("one_to_one", 120, 100)
    assert [len(cell.choose(matches)) for cell in cells] == [12, 30, 60, 90]
    assert [cell.share for cell in cells] == [0.1, 0.25, 0.5, 0.75]
    for cell in cells:
        assert cell.choose(matches).tolist() == list(range(len(cell.choose(matches))))
    # What the rule has no pairs for is left out.
    assert [cell.share for cell in list_coverage_cells("mutual", 120, 40)] == [0.1, 0.25]


def test_strata_part_the_pairs_by_how_often_the_feature_fires():
    matches = make_matches(100)
    firings = np.random.default_rng(1).integers(10, 300, 100)
    cells = list_stratum_cells("mutual", firings, matches)
    parts = [cell.choose(matches) for cell in cells]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert all(15 <= len(part) <= 25 for part in parts)
    tops = [firings[matches.a[part]].max() for part in parts]
    bottoms = [firings[matches.a[part]].min() for part in parts]
    assert all(top < bottom for top, bottom in zip(tops, bottoms[1:], strict=False))
    assert cells[0].name.startswith(f"{bottoms[0]}-")


def test_equal_frequencies_share_a_stratum():
    matches = make_matches(40)
    cells = list_stratum_cells("mutual", np.full(40, 12), matches)
    assert sum(len(cell.choose(matches)) for cell in cells) == 40 or not cells
    assert list_stratum_cells("mutual", np.zeros(0, np.int64), make_matches(0)) == []


def test_concepts_take_the_pairs_of_their_features():
    matches = make_matches(30)
    cell = list_concept_cells("mutual", {"sea": np.array([3, 7], np.int32)})[0]
    assert sorted(matches.a[cell.choose(matches)]) == [3, 7]


def test_the_ceiling_is_1_where_both_halves_find_the_same_partners_and_low_where_they_do_not():
    rng = np.random.default_rng(0)
    decoders = {
        "a": rng.standard_normal((60, 9)).astype(np.float32),
        "b": rng.standard_normal((60, 7)).astype(np.float32),
    }

    def take(side, features):
        return decoders[side][features]

    matches = make_matches(60)
    same, features = measure_ceiling(CKA, "mutual", matches, matches, take)
    assert same == pytest.approx(1) and features == 60
    other = replace(matches, b=rng.permutation(matches.b))
    low, _ = measure_ceiling(CKA, "mutual", matches, other, take)
    assert low < 0.2
    # A rule that chooses for one side is judged on the other side's vectors.
    for rule, own in (("best_of_a", "b"), ("best_of_b", "a")):
        shuffled = replace(matches, **{own: rng.permutation(getattr(matches, own))})
        value, _ = measure_ceiling(CKA, rule, matches, shuffled, take)
        first, second = getattr(matches, own), getattr(shuffled, own)
        assert value == pytest.approx(CKA.prepare(decoders[own][first], decoders[own][second]).value)
    few = Matches(matches.a[:19], matches.b[:19], matches.r[:19])
    assert measure_ceiling(CKA, "mutual", few, matches, take) == (None, 19)


@pytest.mark.parametrize("on", ["decoder", "activations"])
def test_no_value_of_related_spaces_is_far_above_its_ceiling(tmp_path, monkeypatch, on):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    settings = ScoreSettings(on=on, parts=("rule",), metrics=("cka_debiased",), permutations=9, bootstrap=0)
    for one in score_run(run, settings):
        assert one.value <= one.ceiling + 0.02 < 1.03 and one.ceiling_n > 30
    assert all(one.ceiling is None for one in score_run(run, replace(settings, ceiling=False)))


def test_intervals_hold_the_value_and_shrink_with_more_text(tmp_path, monkeypatch):
    settings = ScoreSettings(
        parts=("rule",), metrics=("cka_debiased",), rules=("mutual",), permutations=9, bootstrap=10
    )
    reach = []
    for documents in (20, 80):
        run, _ = make_world(tmp_path / str(documents), monkeypatch, documents=documents)
        for on in ("decoder", "activations"):
            one = score_run(run, replace(settings, on=on))[0]
            low, high = one.interval
            assert low <= one.value <= high and one.resamplings == 10
            reach.append(high - low)
    assert reach[3] < reach[1]
    assert score_run(run, replace(settings, bootstrap=0))[0].interval is None


def test_there_is_no_interval_where_documents_are_too_few_or_neighbours_repeat(tmp_path, monkeypatch):
    settings = ScoreSettings(parts=("rule",), metrics=("cka_debiased",), rules=("mutual",), permutations=9)
    for documents in (1, 2):
        run, _ = make_world(tmp_path / str(documents), monkeypatch, documents=documents)
        for on in ("decoder", "activations"):
            told = []
            assert score_run(run, replace(settings, on=on), warn=told.append)[0].interval is None
            assert any("too few to resample" in one for one in told)


def test_neighbours_have_no_interval_where_documents_repeat_as_rows():
    decoders, words = DecoderView(None), ActivationView(None, np.ones(1, np.bool_))
    for name in ("mutual_knn", "jaccard:5"):
        assert _resamples_well(parse_metric(name), decoders)
        assert not _resamples_well(parse_metric(name), words)
    assert _resamples_well(CKA, words)


def test_other_pairs_have_the_same_frequencies(tmp_path, monkeypatch):
    run, (a, _) = make_world(tmp_path / "run", monkeypatch)
    material = Material(run)
    matches = material.read_matches(["mutual"])["mutual"]
    firings = np.arange(FEATURES) // 10
    chosen = np.flatnonzero(firings[matches.a] == 2)[:4]
    monkeypatch.setattr("xmodel.similarity.views.ROWS_PER_STRATUM", 10)
    draw = draw_other_pairs(DecoderView(material), matches, chosen, firings)
    rows, seen = {tuple(row): number for number, row in enumerate(a)}, set()
    for seed in range(20):
        x, _ = draw(np.random.default_rng(seed))
        features = [rows[tuple(row)] for row in x]
        assert [firings[feature] for feature in features] == [2] * 4
        seen |= set(features)
    assert len(seen) > 6


@pytest.mark.parametrize("stratified", [False, True])
def test_random_features_are_as_many_and_of_the_same_frequencies(tmp_path, monkeypatch, stratified):
    run, (a, b) = make_world(tmp_path / "run", monkeypatch)
    material = Material(run)
    matches = material.read_matches(["mutual"])["mutual"]
    rare = np.argsort(material.moments[0].firings[matches.a], kind="stable")[:6]
    draw = draw_random_features(DecoderView(material), material, matches, rare, stratified)
    rows = [{tuple(row): number for number, row in enumerate(side)} for side in (a, b)]
    counts = []
    for seed in range(30):
        sides = draw(np.random.default_rng(seed))
        features = [[own[tuple(row)] for row in side] for own, side in zip(rows, sides, strict=True)]
        assert [len(set(own)) for own in features] == [6, 6]
        counts.append(material.moments[0].firings[features[0]].mean())
    everyone = material.moments[0].firings[material.kept[0]].mean()
    observed = material.moments[0].firings[matches.a[rare]].mean()
    expected = observed if stratified else everyone
    assert abs(np.mean(counts) - expected) < abs(np.mean(counts) - (everyone if stratified else observed))


def test_a_family_is_one_part_against_one_null():
    rng = np.random.default_rng(0)
    blank = Score("rule", "cka", "decoder", "mutual", "shuffle")
    scored, null = [], rng.standard_normal((4, 99))
    for part, kind in (("rule", "shuffle"), ("rule", "shift"), ("concept", "shift")):
        for number in range(4):
            one = replace(blank, part=part, null=kind, p=0.01 * (number + 1), value=float(number))
            scored.append(Scored(one, null[number], kind == "shift"))
    scored.append(Scored(blank, None))
    found = correct_families(scored, "max")
    p = np.array([0.01, 0.02, 0.03, 0.04])
    for start in (0, 4, 8):
        own = found[start : start + 4]
        assert [one.p_holm for one in own] == pytest.approx(adjust_holm(p))
        assert [one.p_bh for one in own] == pytest.approx(adjust_bh(p))
    assert [one.p_max for one in found[4:8]] == pytest.approx(adjust_max(np.arange(4.0), null))
    assert [one.p_adjusted for one in found[4:8]] == [one.p_max for one in found[4:8]]
    # Orders that differ from cell to cell have no common maximum.
    assert found[0].p_max is None and found[0].correction == "holm"
    assert found[-1].p_adjusted is None


def test_signs_go_to_the_side_that_does_not_repeat():
    x, y = np.ones((4, 2), np.float32), np.ones((4, 3), np.float32)
    r = np.array([0.9, -0.8, 0.7, -0.6])
    turned = np.array([1, -1, 1, -1], np.float32)
    for a, b, side in (
        ([0, 1, 2, 3], [5, 5, 6, 6], 0),
        ([0, 0, 1, 1], [5, 6, 7, 8], 1),
        ([0, 1, 2, 3], [5, 6, 7, 8], 1),
    ):
        found = turn_signs(x, y, Matches(np.array(a, np.int32), np.array(b, np.int32), r))
        assert np.array_equal(found[side][:, 0], turned) and (found[1 - side] == 1).all()


def test_of_pairs_that_share_a_feature_the_best_stays():
    matches = Matches(
        np.array([4, 7, 7, 2, 9], np.int32),
        np.array([1, 3, 5, 3, 8], np.int32),
        np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
    )
    found = keep_one_per_feature(matches)
    assert found.a.tolist() == [4, 7, 9] and found.b.tolist() == [1, 3, 8]
    single = make_matches(20)
    assert len(keep_one_per_feature(single)) == 20


@pytest.mark.parametrize("on", ["decoder", "activations"])
def test_the_interval_is_that_of_the_resampled_values(tmp_path, monkeypatch, on):
    # So few words that resampled ones give other pairs.
    run, decoders = make_world(tmp_path / "run", monkeypatch, documents=20, firing=0.01, miss=0.4)
    settings = ScoreSettings(
        on=on,
        parts=("rule",),
        metrics=("cka",),
        rules=("mutual",),
        permutations=9,
        bootstrap=8,
        seed=3,
        most_words=10**6,
    )
    one = score_run(run, settings, warn=lambda told: None)[0]
    material, metric = Material(run), parse_metric("cka")
    half = material.choice.discovery if on == "decoder" else material.choice.heldout
    lengths = material.list_lengths(half)
    starts, rng, values = np.cumsum(lengths) - lengths, np.random.default_rng([3, 1]), []
    own = run.pairs.to_pandas().query("mutual")
    held = [run.features(side)[half].toarray()[:, own[f"feature_{side}"]] for side in "ab"]
    for _ in range(8):
        drawn = rng.integers(0, len(lengths), len(lengths))
        rows = np.concatenate([starts[number] + np.arange(lengths[number]) for number in drawn])
        if on == "decoder":
            again = material.discovery.pair(rows=rows, rules=["mutual"])["mutual"]
            x, y = decoders[0][again.a], decoders[1][again.b]
        else:
            x, y = (side[rows] for side in held)
        values.append(metric.prepare(x, y).value)
    reach = 2.364624 * np.std(values, ddof=1)  # Student's t for 8 resamplings.
    assert reach > 0.001 and one.interval[1] - one.value == pytest.approx(reach, rel=1e-4)
    assert one.value - one.interval[0] == pytest.approx(reach, rel=1e-4)


def test_coverage_is_of_the_side_that_the_rule_chooses_for(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch, split=20)
    kept = [int(own.sum()) for own in Material(run).kept]
    assert kept[0] > kept[1] + 10
    for rule, features in (("best_of_a", kept[0]), ("best_of_b", kept[1])):
        settings = ScoreSettings(
            rules=(rule,), parts=("coverage",), permutations=9, bootstrap=0, ceiling=False
        )
        for one in score_run(run, settings, warn=lambda told: None):
            assert one.pairs == round(one.share * features)
