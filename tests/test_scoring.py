"""Scores of a run: what is scored, that related spaces are told from unrelated ones, and what is written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.score_worlds import FEATURES, find_order, make_world
from xmodel.errors import InputError
from xmodel.similarity.material import Material
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.scoring import score_run
from xmodel.similarity.settings import LEAST_PAIRS, NULLS, RULES, ScoreSettings

ROWS = np.random.default_rng(0).standard_normal((5000, 40)).astype(np.float32)
QUICK = ScoreSettings(permutations=99, bootstrap=0, parts=("rule",), metrics=("cka_debiased", "rsa"))
CONTRACT = {
    "metric", "on", "rule", "concept", "null", "value", "p", "p_interval", "p_adjusted", "z", "n", "k",
    "permutations", "ceiling", "interval", "seed", "warnings",
}  # fmt: skip


def test_related_spaces_are_found_under_every_rule_and_unrelated_ones_under_none(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "related", monkeypatch)
    for one in score_run(run, QUICK):
        assert one.p == 0.01 and one.p_adjusted <= 0.1 and one.z > 5, one
        assert one.value > one.null_mean + 0.2
    run, _ = make_world(tmp_path / "unrelated", monkeypatch, related=False)
    assert min(one.p_adjusted for one in score_run(run, QUICK)) > 0.05


def test_every_line_of_the_file_has_the_keys_that_users_script_against(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    settings = ScoreSettings(permutations=19, bootstrap=2)
    scores = score_run(run, settings)
    stored = json.loads((run.path / "scores.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps([one.as_json() for one in scores]))
    assert all(set(one) >= CONTRACT for one in stored)
    keys = [
        (one["part"], one["rule"], one["concept"], one["subset"], one["metric"], one["null"])
        for one in stored
    ]
    assert len(set(keys)) == len(keys)
    assert {one["rule"] for one in stored if one["part"] == "rule"} == set(RULES)
    assert {one["part"] for one in stored} == {"rule", "coverage", "stratum", "concept"}
    for one in stored:
        assert (one["value"] is None) == (one["p"] is None)
        assert one["value"] is not None or one["warnings"]


def test_values_are_the_metrics_of_the_decoder_vectors_of_the_pairs(tmp_path, monkeypatch):
    run, (a, b) = make_world(tmp_path / "run", monkeypatch)
    table = run.pairs.to_pandas()
    for one in score_run(run, QUICK):
        own = table[table[one.rule]]
        x, y = a[own.feature_a], b[own.feature_b]
        assert one.pairs == one.n == len(own)
        assert one.value == pytest.approx(parse_metric(one.metric).prepare(x, y).value)
    assert (table[table.mutual].feature_b == find_order()[table[table.mutual].feature_a]).mean() > 0.95


@pytest.mark.parametrize("null", NULLS)
def test_every_null_gives_a_test_on_both_kinds_of_rows(tmp_path, monkeypatch, null):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    # All features together have no others to be compared with.
    part = "rule" if null in ("shuffle", "stratified", "shift") else "coverage"
    for on in ("decoder", "activations"):
        settings = replace(QUICK, on=on, nulls=(null,), parts=(part,), permutations=19, most_words=600)
        scores = score_run(run, replace(settings, rules=("one_to_one",), metrics=("cka_debiased",)))
        scores = [one for one in scores if one.pairs >= LEAST_PAIRS]
        assert scores and all(one.permutations == 19 for one in scores), scores
        # Among the pairs of these worlds no choice is special; every other null relates nothing.
        assert null == "pairs" or scores[0].p == 0.05


@pytest.mark.parametrize("null", ["shuffle", "stratified", "subsets", "subsets_stratified", "shift"])
def test_features_that_share_a_partner_do_not_make_unrelated_spaces_alike(tmp_path, monkeypatch, null):
    """Many of A's features are near copies of others, and both copies have the same partner."""
    settings = replace(QUICK, rules=("best_of_a",), metrics=("cka_debiased",), nulls=(null,), permutations=39)
    p, naive = [], []
    for seed in range(8):
        run, (a, b) = make_world(tmp_path / str(seed), monkeypatch, related=False, split=25, seed=seed)
        ours = score_run(run, settings)[0]
        assert (ours.pairs == FEATURES) is (null in ("shuffle", "stratified"))
        p.append(ours.p)
        own = run.pairs.to_pandas().query("best_of_a")
        ready = parse_metric("cka_debiased").prepare(a[own.feature_a], b[own.feature_b])
        orders = np.argsort(np.random.default_rng(0).random((39, FEATURES)), axis=1)
        naive.append((ready.permute(orders) >= ready.value).mean())
    # Two of eight at 0.05 come in one of twenty such tests; nearly all shuffled naively do.
    assert np.sum(np.array(p) <= 0.05) <= 2, p
    assert np.sum(np.array(naive) <= 0.05) >= 6, naive


def test_other_pairs_are_not_less_alike_because_they_share_no_partner(tmp_path, monkeypatch):
    """A concept of twins, under a rule that pairs both with one partner, in spaces that share nothing."""
    p = []
    for seed in range(8):
        run, _ = make_world(tmp_path / str(seed), monkeypatch, related=False, split=25, seed=seed)
        settings = replace(
            QUICK, rules=("best_of_a",), nulls=("pairs",), parts=("coverage",), permutations=39
        )
        p += [
            one.p for one in score_run(run, replace(settings, metrics=("cka_debiased",))) if one.p is not None
        ]
    assert len(p) >= 8 and np.mean(np.array(p) <= 0.05) <= 0.25, p


def test_too_few_permutations_for_the_number_of_tests_are_told(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    told = []
    scores = score_run(run, replace(QUICK, permutations=19), warn=told.append)
    assert len(scores) == 10 and "--permutations 200" in told[0] and len(told) == 1
    replaced = f"the scores that were in {run.path / 'scores.json'} are replaced."
    told.clear()
    scores = score_run(run, replace(QUICK, permutations=None), warn=told.append)
    assert told == [replaced] and max(one.p_adjusted for one in scores) <= 0.05
    # Draws that all tests share are corrected by their maximum, which has no such limit.
    scores = score_run(run, replace(QUICK, permutations=19, nulls=("shift",)), warn=told.append)
    assert told == [replaced] * 2 and {one.correction for one in scores} == {"max"}


def test_equal_seeds_give_equal_scores_and_other_seeds_other_nulls(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    settings = replace(QUICK, bootstrap=3, rules=("mutual",))
    first, again = (score_run(run, settings) for _ in range(2))
    assert [one.as_json() for one in first] == [one.as_json() for one in again]
    other = score_run(run, replace(settings, seed=1))
    assert [one.value for one in other] == [one.value for one in first]
    assert [one.null_mean for one in other] != [one.null_mean for one in first]


def test_a_metrics_result_does_not_depend_on_its_company(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    alone = score_run(run, replace(QUICK, metrics=("rsa",)))
    beside = [one for one in score_run(run, QUICK) if one.metric.startswith("rsa")]
    assert [(one.value, one.p, one.null_mean) for one in alone] == [
        (one.value, one.p, one.null_mean) for one in beside
    ]


def test_a_metric_that_cannot_be_measured_is_marked_and_costs_no_other_score(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    scores = score_run(run, replace(QUICK, metrics=("svcca:50", "cka"), rules=("mutual",)))
    lost, found = scores
    assert lost.value is None and lost.p is None and "50" in lost.warnings[0]
    assert found.value is not None


def test_the_shift_null_scores_the_pairs_that_shifted_words_give(tmp_path, monkeypatch):
    run, (a, b) = make_world(tmp_path / "run", monkeypatch)
    settings = replace(QUICK, nulls=("shift",), rules=("mutual",), metrics=("cka",), permutations=9)
    one = score_run(run, settings)[0]
    from xmodel.similarity.orders import draw_shifts

    material = Material(run)
    lengths = material.list_lengths(material.choice.discovery)
    values = []
    for order in draw_shifts(lengths, 9, np.random.default_rng(0)):
        own = material.discovery.pair(order, rules=["mutual"])["mutual"]
        values.append(parse_metric("cka").prepare(a[own.a[: one.n]], b[own.b[: one.n]]).value)
    assert one.null_mean == pytest.approx(np.mean(values))
    assert one.p_max == one.p_adjusted and one.correction == "max"


def test_activations_are_those_of_held_out_words(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    settings = replace(QUICK, on="activations", rules=("mutual",), metrics=("cka",), most_words=10**6)
    one = score_run(run, settings)[0]
    held = run.words["split"].cast("string").to_numpy() == "heldout"
    own = run.pairs.to_pandas().query("mutual")
    x = run.features("a")[held][:, own.feature_a].toarray()
    y = run.features("b")[held][:, own.feature_b].toarray()
    assert one.n == held.sum() and one.null == "shift"
    assert one.value == pytest.approx(parse_metric("cka").prepare(x, y).value)


def test_no_more_words_are_compared_than_asked_for(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    settings = replace(QUICK, on="activations", rules=("mutual",), metrics=("cka",), most_words=300)
    assert {one.n for one in score_run(run, settings)} == {300}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"permutations": 0}, "permutations is 0"),
        ({"metrics": ("svca",)}, "svca"),
        ({"rules": ("best",)}, "best_of_a"),
        ({"nulls": ("shuffled",)}, "shuffle"),
        ({"concepts": ("colours",), "parts": ("concept",)}, "nature/water"),
        ({"concept_file": "nowhere.yaml"}, "nowhere.yaml"),
        ({"alpha": 1.0}, "alpha"),
        ({"bootstrap": 1}, "bootstrap"),
        ({"correction": "bonferroni"}, "holm"),
        ({"on": "neurons"}, "decoder"),
        ({"nulls": ("pairs",), "parts": ("rule", "stratum")}, "no choice"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_choices_are_named_with_the_right_ones(tmp_path, monkeypatch, wrong, told):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    with pytest.raises(InputError, match=told):
        score_run(run, replace(QUICK, **wrong))


def test_a_run_without_pairs_cannot_be_scored(tmp_path, monkeypatch):
    from xmodel.pairing.pairs import pair_features
    from xmodel.pairing.settings import PairSettings

    run, _ = make_world(tmp_path / "run", monkeypatch)
    pair_features(run.folder, PairSettings(min_firings=10**6), warn=lambda told: None)
    with pytest.raises(InputError, match="0 pairs under the rule"):
        score_run(run, QUICK)


def test_scores_of_other_pairs_do_not_stay(tmp_path, monkeypatch):
    from xmodel.pairing.pairs import pair_features
    from xmodel.pairing.settings import PairSettings

    run, _ = make_world(tmp_path / "run", monkeypatch)
    score_run(run, QUICK)
    told = []
    pair_features(run.folder, PairSettings(min_firings=5, workers=1), warn=told.append)
    assert (run.path / "scores.json").is_file() and not told
    pair_features(run.folder, PairSettings(min_firings=80, workers=1), warn=told.append)
    assert not (run.path / "scores.json").exists() and "xmodel score" in told[0]


def test_a_floor_that_chance_never_reaches_does_not_lose_the_test(tmp_path, monkeypatch):
    from xmodel.pairing.pairs import pair_features
    from xmodel.pairing.settings import PairSettings

    run, _ = make_world(tmp_path / "run", monkeypatch)
    pair_features(run.folder, PairSettings(min_firings=5, workers=1, floor=0.5), warn=lambda told: None)
    settings = replace(QUICK, nulls=("shift",), rules=("best_of_a",), permutations=19)
    assert all(one.p == 0.05 for one in score_run(run, settings))


def test_words_come_from_all_documents(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    material = Material(run)
    chosen = material.choose_rows(100, 0)
    held = np.unique(material.documents[material.choice.heldout])
    assert chosen.sum() == 100 and not (chosen & ~material.choice.heldout).any()
    assert np.array_equal(np.unique(material.documents[chosen]), held)
    for document in held:
        assert (np.diff(np.flatnonzero(chosen & (material.documents == document))) == 1).all()
    assert np.array_equal(material.choose_rows(10**6, 0), material.choice.heldout)


def test_neighbours_among_shifted_words_carry_a_warning(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    monkeypatch.setattr(
        "xmodel.similarity.views.take_columns", lambda features, chosen: ROWS[: len(features)]
    )
    settings = replace(QUICK, on="activations", rules=("mutual",), metrics=("mutual_knn", "cka"))
    near, cka = score_run(run, settings)
    assert "7 %" in near.warnings[-1] and not cka.warnings
