import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.lan2024_reference import publish, published_svcca
from tests.tiny_pair import write_sae
from tests.tiny_runs import PARTNER, build_run, plant_features
from xmodel.errors import InputError
from xmodel.models.saes import load_dictionary
from xmodel.report.lan2024 import describe_lan2024, render_lan2024
from xmodel.similarity import lan2024_pairs
from xmodel.similarity.lan2024 import INTENDED, SWITCHES, Lan2024, score_lan2024, tabulate_lan2024
from xmodel.similarity.lan2024_pairs import pair_best_of_b
from xmodel.similarity.lan2024_score import (
    average_best,
    count_components,
    find_concept_pairs,
    judge_shuffled,
    prepare_svcca,
    svcca_lan2024,
)
from xmodel.similarity.orders import draw_orders

SCORING = Lan2024(hook_off_by_one=False, unmasked_padding=False)
"""All switches but those that need models."""
DOTS = 7
"""The feature of either side that fires on full stops."""


def plant_dots(texts):
    values = plant_features(texts)
    for side in "ab":
        values[side][:, DOTS] = [3.0 if text.startswith(".") else 0.0 for text in texts]
    return values


def build_scored_run(folder, values=plant_dots):
    """A run without models, whose dictionaries are there."""
    built = build_run(folder / "run", values=values)
    manifest = built.run.manifest
    for side, width, seed in (("a", 3, 1), ("b", 2, 2)):
        features = built.values[side].shape[1]
        w = np.random.default_rng(seed).normal(size=(features, width))
        sae = write_sae(
            folder / f"sae_{side}", w.T, np.zeros(features), w, np.zeros(width), "blocks.3.hook_resid_post"
        )
        manifest["arguments"][side] = {"dictionary": str(sae), "model": "/nowhere/model", "site": None}
        manifest["sides"][side]["dictionary"]["digest"] = load_dictionary(str(sae)).info.digest
    manifest["arguments"]["options"] = {"allow_pt": False}
    built.run.folder.write_json("manifest.json", manifest)
    return built


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_scored_run(tmp_path_factory.mktemp("lan2024"))


def find_decoders(built):
    arguments = built.run.manifest["arguments"]
    return [load_dictionary(arguments[side]["dictionary"]).decoder.numpy() for side in "ab"]


def make_rows(n, width, seed):
    rows = np.random.default_rng(seed).normal(size=(n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def list_changes(before, after):
    return {name for name, value in before.as_json().items() if after.as_json()[name] != value}


# SVCCA


@pytest.mark.parametrize("one_component", [True, False])
@pytest.mark.parametrize(("n", "d_x", "d_y"), [(40, 8, 12), (24, 40, 30), (10, 3, 30)])
@pytest.mark.parametrize("size", [1.0, 0.1])
def test_svcca_equals_the_formula_of_cca_core(n, d_x, d_y, size, one_component):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, d_x)) * 0.7 ** np.arange(d_x)
    y = x @ rng.normal(size=(d_x, d_y)) + rng.normal(size=(n, d_y))
    x, y = (size * rows / np.linalg.norm(rows) for rows in (x, y))
    value, k = svcca_lan2024(x, y, one_component)
    expected, expected_k = published_svcca(x, y, one_component)
    assert k == expected_k
    assert value == pytest.approx(expected, abs=1e-6)


def test_one_component_is_the_correlation_of_the_first_principal_components():
    from sklearn.decomposition import PCA

    x, y = make_rows(60, 9, 0), make_rows(60, 7, 1)
    first = [PCA(1).fit_transform(rows)[:, 0] for rows in (x, y)]
    value, k = svcca_lan2024(x, y, True)
    assert k == (1, 1)
    assert value == pytest.approx(abs(np.corrcoef(*first)[0, 1]))


@given(st.integers(2, 30), st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_one_component_is_kept_whenever_the_total_variance_is_above_its_share(count, total, seed):
    singular = np.sort(np.random.default_rng(seed).random(count) + 0.01)[::-1]
    singular *= math.sqrt(total / (singular**2).sum())
    k, meant = count_components(singular), count_components(singular, one_component=False)
    shares = np.cumsum(singular**2) / (singular**2).sum()
    assert shares[meant - 1] >= 0.99 and (meant == 1 or shares[meant - 2] < 0.99)
    if total > 1 / 0.99 + 1e-9:
        assert k == 1
    elif total < 1 / 0.99 - 1e-9:
        # Enough for 0.99 times the total, which is less than was meant below a total of 1, and more above.
        assert shares[k - 1] >= 0.99 * total - 1e-9 and (k == 1 or shares[k - 2] < 0.99 * total + 1e-9)
        assert (k <= meant) if total <= 1 else (k >= meant)


def test_the_published_svcca_depends_on_the_unit_of_measurement_and_the_intended_one_does_not():
    x, y = make_rows(40, 20, 0), make_rows(40, 20, 1)
    assert svcca_lan2024(x, y, True)[1] == (1, 1)
    small = svcca_lan2024(0.1 * x, 0.1 * y, True)[1]
    assert min(small) > 1
    (value, k), (scaled, scaled_k) = svcca_lan2024(x, y, False), svcca_lan2024(0.1 * x, 0.1 * y, False)
    assert k == scaled_k and value == pytest.approx(scaled)


@pytest.mark.parametrize(("n", "published"), [(24, 0.169), (126, 0.071), (228, 0.056)])
def test_null_of_one_component_follows_the_law_and_the_published_figures(n, published):
    prepared = prepare_svcca(make_rows(n, 512, n), make_rows(n, 768, n + 1), True)
    null = prepared.permute(draw_orders(n, 4000, np.random.default_rng(0))).mean()
    # The mean of |r| of two random directions in n - 1 dimensions.
    law = math.exp(math.lgamma((n - 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)
    assert null == pytest.approx(law, rel=0.04)
    assert null == pytest.approx(math.sqrt(2 / (math.pi * n)), rel=0.1)
    assert null == pytest.approx(published, rel=0.1)


@pytest.mark.parametrize(("n", "expected"), [(50, 1.0), (200, 0.97), (1200, 0.72)])
def test_intended_svcca_is_high_for_unrelated_rows(n, expected):
    value, k = svcca_lan2024(make_rows(n, 512, 3), make_rows(n, 768, 4), False)
    assert value == pytest.approx(expected, abs=0.02)
    assert n / max(k) < 5


@pytest.mark.parametrize("one_component", [True, False])
def test_permuting_equals_comparing_permuted_rows(one_component):
    x, y = make_rows(30, 6, 0), make_rows(30, 9, 1)
    orders = draw_orders(30, 5, np.random.default_rng(0))
    null = prepare_svcca(x, y, one_component).permute(orders)
    assert null == pytest.approx([svcca_lan2024(x, y[order], one_component)[0] for order in orders])


@pytest.mark.parametrize("one_component", [True, False])
def test_too_few_or_equal_vectors_are_refused(one_component):
    for x in (np.zeros((0, 4)), np.eye(2, 4), np.ones((9, 4)), np.full((9, 4), np.nan)):
        with pytest.raises(InputError):
            svcca_lan2024(x, x, one_component)


# The other choices


@given(st.integers(1, 50), st.integers(0, 10**6))
def test_p_is_0_only_without_one(shuffles, seed):
    null = np.random.default_rng(seed).random(shuffles)
    for value in (2.0, float(null[0]), 0.0):
        without, with_one = judge_shuffled(value, null, True), judge_shuffled(value, null, False)
        assert without == np.mean(null >= value)
        assert with_one == pytest.approx((without * shuffles + 1) / (shuffles + 1))
        assert 0 < with_one <= 1
    assert judge_shuffled(2.0, null, True) == 0


def test_filter_wants_a_common_word_and_none_of_the_list():
    tops_a = [["sea", "ship"], ["sea"], ["sea", "."], ["sea"], [], ["Sea"]]
    tops_b = [["ship"], ["whale"], ["sea"], ["sea", "<|endoftext|>"], [], ["sea"]]
    assert find_concept_pairs(tops_a, tops_b).tolist() == [True, False, False, False, False, False]


def test_dead_features_are_zeros_in_the_mean():
    r, varies = np.array([0.5, 0.0, 0.3, 0.0]), np.array([True, False, True, True])
    assert average_best(r, varies, True) == pytest.approx(0.2)
    assert average_best(r, varies, False) == pytest.approx(0.8 / 3)
    assert average_best(r, np.zeros(4, bool), False) is None


# Runs


def test_scoring_equals_the_literal_recipe(built):
    labels = [built.word(row) for row in range(len(built.words))]
    expected = publish(
        built.values["a"].astype(float),
        built.values["b"].astype(float),
        labels,
        labels,
        *find_decoders(built),
        lambda n: draw_orders(n, 100, np.random.default_rng(7)),
    )
    found = score_lan2024(built.run, SCORING, seed=7)
    assert (found.pairs, found.k, found.shuffles) == (expected["pairs"], expected["k"], 100)
    for name in ("mean_actv_corr", "mean_r", "svcca", "null_mean", "p"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-6), name
    assert found.words == len(labels) and found.padding == 0
    working = score_lan2024(built.run, replace(SCORING, noop_filter=False), warn=lambda _: None)
    assert working.pairs == expected["intended_pairs"] < expected["pairs"]


def test_each_switch_changes_what_it_says_and_nothing_else(built):
    before = score_lan2024(built.run, INTENDED, warn=lambda _: None)
    score = {"svcca", "k", "n_per_k", "null_mean", "p", "warnings"}
    allowed = {
        "one_component": score,
        "noop_filter": {*score, "pairs", "features_a", "mean_r"},
        "dead_in_mean": {"mean_actv_corr"},
        "p_without_one": {"p"},
    }
    for name, parts in allowed.items():
        after = score_lan2024(built.run, replace(INTENDED, **{name: True}), warn=lambda _: None)
        changed = list_changes(before, after) - {"switches"}
        assert changed and changed <= parts, name


def test_one_component_and_dead_features_do_what_they_say(built):
    before = score_lan2024(built.run, INTENDED, warn=lambda _: None)
    one = score_lan2024(built.run, replace(INTENDED, one_component=True))
    assert before.k is not None and min(before.k) > 1 and one.k == (1, 1)
    dead = score_lan2024(built.run, replace(INTENDED, dead_in_mean=True), warn=lambda _: None)
    alive = (built.values["b"] != 0).any(0)
    assert not alive.all()
    assert dead.mean_actv_corr == pytest.approx(before.mean_actv_corr * alive.mean())


def test_filter_without_effect_has_none_whatever_it_finds(built, monkeypatch):
    before = score_lan2024(built.run, SCORING)
    monkeypatch.setattr(lan2024_pairs, "find_concept_pairs", lambda a, b: np.zeros(len(a), bool))
    assert score_lan2024(built.run, SCORING) == before
    nothing = score_lan2024(built.run, replace(SCORING, noop_filter=False), warn=lambda _: None)
    assert nothing.pairs == 0 and nothing.svcca is None and nothing.p is None
    assert "no score" in nothing.warnings[0]


def test_pairs_that_fire_most_on_padding_are_no_concepts(built, tmp_path):
    a, b = 0, PARTNER[0]
    rows = {side: np.zeros((9, built.values[side].shape[1]), np.float32) for side in "ab"}
    rows["a"][:, a], rows["b"][:, b] = 1000, 50_000
    padding = build_run(tmp_path / "padding", ["nine words that stand here for rows of padding"], shards=1,
                        values=rows, pairing=False)  # fmt: skip
    without = pair_best_of_b(built.run, None)
    found = pair_best_of_b(built.run, padding.run.shards)
    assert (without.a[b], found.a[b], found.padding) == (a, a, 9)
    assert without.concept[b] and not found.concept[b]
    others = np.arange(len(found.concept)) != b
    assert (without.concept == found.concept)[others].all() and without.concept[others].any()


def test_equal_seeds_give_equal_scores_and_others_do_not(built):
    first, again, other = (score_lan2024(built.run, SCORING, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.null_mean != other.null_mean


def test_few_pairs_for_their_components_are_warned_about(built):
    told = []
    found = score_lan2024(built.run, INTENDED, warn=told.append)
    assert found.n_per_k is not None and found.n_per_k < 5
    assert told == list(found.warnings) and "high for unrelated vectors" in told[0]


def test_table_marks_rows_whose_models_are_not_there(built):
    told = []
    table = tabulate_lan2024(built.run, warn=told.append)
    parts = [one.part for one in table]
    assert parts == ["intended", *["alone"] * len(SWITCHES), *["together"] * len(SWITCHES)]
    assert table[-1].switches == Lan2024() and table[0].switches == INTENDED
    for one in table:
        needs = one.switches.hook_off_by_one or one.switches.unmasked_padding
        assert (one.not_run is not None) == needs
        assert (one.svcca is None) == needs
    assert len(told) == 1 and "/nowhere/model" in told[0]
    by_switches = {one.switches: one for one in table}
    alone = by_switches[replace(INTENDED, p_without_one=True)]
    assert replace(alone, part="intended") == score_lan2024(built.run, alone.switches, warn=lambda _: None)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_fits_the_width_and_says_what_was_not_run(built, width):
    table = tabulate_lan2024(built.run, warn=lambda _: None)
    big = replace(table[1], pairs=131_072, n_per_k=131_072.0, k=(508, 511), p=0.0)
    found = describe_lan2024(built.run, [table[0], big, *table[2:]])
    json.dumps(found, allow_nan=False)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_lan2024(found, width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "as intended" in text and "not run" in text and "/nowhere/model" in text
    if width >= 80:
        row = next(line for line in lines if "one component" in line)
        assert "508/511" in row and row.rstrip().endswith(" 0")


def test_signed_features_and_no_shuffles_are_refused(tmp_path):
    signed = build_scored_run(tmp_path, lambda texts: {s: v - 0.5 for s, v in plant_dots(texts).items()})
    with pytest.raises(InputError, match="signed features"):
        score_lan2024(signed.run, SCORING)
    with pytest.raises(InputError, match="0 shuffles"):
        score_lan2024(signed.run, SCORING, shuffles=0)
