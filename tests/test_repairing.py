"""Pairing again: the same pairs as the run's own, and those of words in another arrangement."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.score_worlds import plant_values
from tests.tiny_runs import build_run, make_rows, make_texts
from xmodel.errors import InputError
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.material import Material, take_columns
from xmodel.similarity.repairing import RULES, Matches, Repairer, has_repeats, join_rows, keep_one_per_feature
from xmodel.similarity.views import resample_documents

SETTINGS = PairSettings(min_firings=5, workers=1)


def list_pairs(run, rule):
    own = run.pairs.to_pandas()
    own = own[own[rule]]
    return dict(zip(zip(own.feature_a, own.feature_b, strict=True), own.r, strict=True))


@pytest.mark.parametrize("values", [None, plant_values])
def test_without_another_arrangement_the_pairs_are_those_of_the_run(tmp_path, values):
    run = build_run(tmp_path / "run", values=values, pairing=SETTINGS).run
    found = Material(run).discovery.pair()
    for rule in RULES:
        own = found[rule]
        assert dict(zip(zip(own.a, own.b, strict=True), own.r, strict=True)) == list_pairs(run, rule)
        assert (np.diff(np.abs(own.r)) <= 0).all()


def test_shifted_words_are_paired_as_a_run_in_which_b_had_them_in_that_order(tmp_path):
    texts = make_texts()
    values = {}

    def keep(spelled):
        values.update(plant_values(spelled))
        return values

    material = Material(build_run(tmp_path / "run", texts, values=keep, pairing=SETTINGS).run)
    chosen = np.flatnonzero(material.choice.discovery)
    order = np.roll(np.arange(len(chosen)), 100)
    shifted = {"a": values["a"], "b": values["b"].copy()}
    shifted["b"][chosen] = values["b"][chosen[order]]
    other = build_run(tmp_path / "other", texts, values=shifted, pairing=SETTINGS).run
    found = material.discovery.pair(order)
    for rule in RULES:
        own = found[rule]
        expected = list_pairs(other, rule)
        assert set(zip(own.a, own.b, strict=True)) == set(expected)
    assert set(zip(found["mutual"].a, found["mutual"].b, strict=True)) != set(
        list_pairs(material.run, "mutual")
    )


def test_words_that_come_twice_count_twice():
    rng = np.random.default_rng(0)
    dense = (rng.random((60, 8)) < 0.3) * rng.random((60, 8)).astype(np.float32)
    other = (rng.random((60, 6)) < 0.3) * rng.random((60, 6)).astype(np.float32)
    rows = rng.integers(0, 60, 60)
    everything = np.ones(8, np.bool_), np.ones(6, np.bool_)
    settings = replace(SETTINGS, min_firings=1)
    drawn = Repairer(make_rows(dense), make_rows(other), *everything, settings).pair(rows=rows)
    written = Repairer(make_rows(dense[rows]), make_rows(other[rows]), *everything, settings).pair()
    r = np.corrcoef(dense[rows].T, other[rows].T)[:8, 8:]
    for rule in RULES:
        assert np.array_equal(drawn[rule].a, written[rule].a) and np.array_equal(
            drawn[rule].b, written[rule].b
        )
        assert drawn[rule].r == pytest.approx(r[drawn[rule].a, drawn[rule].b], abs=1e-6)


def test_chance_is_asked_for_no_floor_and_pairs_no_feature_twice(tmp_path):
    material = Material(build_run(tmp_path / "run", values=plant_values, pairing=SETTINGS).run)
    order = np.roll(np.arange(len(material.discovery.a)), 100)
    picky = replace(material.discovery, settings=replace(SETTINGS, floor=0.9, price=0.95))
    assert all(len(own) == 0 for own in picky.pair(order).values())
    plain, found = material.discovery.pair(order), picky.pair_by_chance(order)
    for rule in RULES:
        pairs, taken = [], (set(), set())
        for a, b in zip(plain[rule].a.tolist(), plain[rule].b.tolist(), strict=True):
            first = a not in taken[0] and b not in taken[1]
            taken[0].add(a)
            taken[1].add(b)
            if first:
                pairs.append((a, b))
        assert len(pairs) > 10
        assert list(zip(found[rule].a.tolist(), found[rule].b.tolist(), strict=True)) == pairs
    assert has_repeats(plain["best_of_a"].b) and has_repeats(plain["best_of_b"].a)


def test_some_of_the_pairs_are_taken_with_their_r():
    matches = Matches(
        np.array([4, 2, 9], np.int32), np.array([1, 1, 0], np.int32), np.array([0.9, -0.5, 0.2])
    )
    for chosen, places in ((slice(2), [0, 1]), (slice(7), [0, 1, 2]), (np.array([2, 0]), [2, 0])):
        own = matches.take(chosen)
        assert len(own) == len(places)
        for name in ("a", "b", "r"):
            assert getattr(own, name).tolist() == [getattr(matches, name)[place] for place in places]
            assert getattr(own, name).dtype == getattr(matches, name).dtype
    assert keep_one_per_feature(matches).a.tolist() == [4, 9]


@given(st.lists(st.integers(0, 20)))
def test_repeats_are_features_of_several_pairs(features):
    assert has_repeats(np.array(features, np.int32)) == any(features.count(own) > 1 for own in features)


def test_resampled_documents_are_whole():
    lengths = np.array([3, 1, 4])
    starts = {0: [0, 1, 2], 3: [3], 4: [4, 5, 6, 7]}
    seen = set()
    for seed in range(20):
        rows = resample_documents(lengths, np.random.default_rng(seed)).tolist()
        documents = []
        while rows:
            whole = starts[rows[0]]
            assert rows[: len(whole)] == whole
            documents.append(whole[0])
            rows = rows[len(whole) :]
        assert len(documents) == 3
        seen.add(tuple(documents))
    assert len(seen) > 5


def test_columns_are_taken_as_often_as_they_are_named():
    rng = np.random.default_rng(1)
    dense = ((rng.random((20, 9)) < 0.4) * rng.standard_normal((20, 9))).astype(np.float32)
    chosen = np.array([4, 0, 4, 8], np.int32)
    assert np.array_equal(take_columns(make_rows(dense), chosen), dense[:, chosen])


def test_chunks_are_joined_in_order():
    rng = np.random.default_rng(2)
    dense = ((rng.random((20, 5)) < 0.4) * rng.random((20, 5))).astype(np.float32)
    joined = join_rows([make_rows(dense[:7]), make_rows(dense[7:7]), make_rows(dense[7:])], 5)
    whole = make_rows(dense)
    for name in ("indptr", "indices", "values"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name))
    assert len(join_rows([], 5)) == 0


def test_an_unknown_rule_is_named(tmp_path):
    run = build_run(tmp_path / "run", pairing=SETTINGS).run
    with pytest.raises(InputError, match="many_to_one"):
        Material(run).discovery.pair(rules=["many_to_one"])
