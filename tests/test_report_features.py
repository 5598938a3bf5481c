"""The page of a feature, and what is read for it: its own values, its strongest firings, its partners."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report_helpers import build_hostile, check_place, draw, list_distinct_slowly, list_slowly
from tests.tiny_runs import (
    CONCEPTS,
    DEAD,
    DENSE,
    FEATURES,
    RARE,
    build_run,
    make_texts,
)
from xmodel.datasets.word_kinds import fold_word
from xmodel.errors import InputError
from xmodel.pairing.firings import look_up_activations, read_rows
from xmodel.pairing.settings import PairSettings
from xmodel.report.contexts import read_contexts
from xmodel.report.features import describe_feature, describe_word, render_feature
from xmodel.report.runs import describe_run, list_best_pairs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return build_hostile(tmp_path_factory.mktemp("runs") / "hostile")


# ---- what is read


@settings(max_examples=20)
@given(st.integers(0, 4227), st.integers(0, 4227))
def test_rows_are_read_from_the_row_groups_that_hold_them(tiny, first, stop):
    found = read_rows(tiny.run, "words", first, stop, ["word_id", "split"])
    assert found["word_id"].to_pylist() == list(range(first, stop))


@pytest.mark.parametrize(("side", "feature"), [("a", 0), ("a", DENSE), ("a", DEAD), ("b", 2), ("b", 7)])
def test_activations_are_looked_up_where_a_feature_fires_and_where_not(tiny, side, feature):
    rows = list(range(len(tiny.words) - 1, -1, -7))
    assert look_up_activations(tiny.run, side, feature, rows) == tiny.values[side][rows, feature].tolist()


def test_contexts_are_cut_between_characters(tmp_path):
    texts = [f"{'a' * k} {'漢' * 120} whale{'é' * k}. {'字' * 120}" for k in range(20)]
    made = build_run(tmp_path, texts, pairing=False)
    rows = [row for row in range(len(made.words)) if made.word(row).startswith("whale")]
    found = read_contexts(made.run, rows)
    assert len(found) == 20
    for one in found:
        check_place(made, one)
        assert "�" not in one["before"] + one["after"]


# ---- a feature


@pytest.mark.parametrize(("side", "feature"), [("a", 0), ("a", DENSE), ("b", 3), ("b", 7)])
def test_a_feature_is_described_by_its_own_values(tiny, side, feature):
    found = describe_feature(tiny.run, side, feature, partners=3, contexts=5)
    json.dumps(found, allow_nan=False)
    values = tiny.values[side][:, feature].astype(np.float64)
    discovery = np.array(tiny.run.words["split"].to_pylist()) == "discovery"
    assert found["firings"] == {
        "discovery": int((values[discovery] != 0).sum()),
        "heldout": int((values[~discovery] != 0).sum()),
    }
    assert found["maximum"] == values.max()
    assert found["mean"] == pytest.approx(values[values > 0].mean())
    assert found["top_words"] == list_distinct_slowly(tiny, side, feature, 8)


@pytest.mark.parametrize(
    ("side", "feature", "count"), [("a", 0, 5), ("a", 0, 200), ("a", DENSE, 5), ("b", 3, 5)]
)
def test_contexts_are_the_strongest_firings_with_both_activations(tiny, side, feature, count):
    other = {"a": "b", "b": "a"}[side]
    found = describe_feature(tiny.run, side, feature, partners=1, contexts=count)
    partner = found["partners"][0]["feature"]
    expected = {
        side: list_slowly(tiny, side, feature)[:count],
        other: list_slowly(tiny, other, partner)[:count],
    }
    for letter, rows in expected.items():
        own = {one["word_id"] for one in found["contexts"] if letter in one["strongest_of"]}
        assert own == set(rows)
    assert [one["word_id"] for one in found["contexts"]][:count] == expected[side]
    for one in found["contexts"]:
        assert one[side] == pytest.approx(float(tiny.values[side][one["word_id"], feature]))
        assert one[other] == pytest.approx(float(tiny.values[other][one["word_id"], partner]))


def test_contexts_hold_the_word_at_its_bytes(tiny, hostile):
    for made in (tiny, hostile):
        for side in "ab":
            contexts = describe_feature(made.run, side, 0, partners=1, contexts=40)["contexts"]
            assert len(contexts) >= 40
            assert len({one["document"] for one in contexts}) > 3
            for one in contexts:
                check_place(made, one)


@pytest.mark.parametrize("side", ["a", "b"])
def test_partners_are_those_of_the_table_seen_from_the_feature(tmp_path, side):
    rng = np.random.default_rng(3)

    def plant(spelled):
        common = rng.random((len(spelled), 3)) * (rng.random((len(spelled), 3)) < 0.2)
        mixed = {
            letter: common @ rng.random((3, width)) * (rng.random((len(spelled), width)) < 0.8)
            for letter, width in zip("ab", FEATURES, strict=True)
        }
        return {letter: own.astype(np.float32) for letter, own in mixed.items()}

    made = build_run(tmp_path, values=plant, pairing=PairSettings(min_firings=5, top_k=3, workers=1))
    table = made.run.pairs.to_pylist()
    best = {(pair["feature_a"], pair["feature_b"]) for pair in list_best_pairs(made.run, 1000)}
    assert best == {
        (row["feature_a"], row["feature_b"]) for row in table if row["mutual"] or row["one_to_one"]
    }
    assert best != {(row["feature_a"], row["feature_b"]) for row in table if row["best_of_a"]}
    other = {"a": "b", "b": "a"}[side]
    for feature in range(FEATURES["ab".index(side)]):
        rows = [row for row in table if row[f"feature_{side}"] == feature]
        ranked = {row[f"rank_{side}"]: row for row in rows if row[f"rank_{side}"]}
        found = describe_feature(made.run, side, feature, partners=100, contexts=1)["partners"]
        assert len(found) == len(rows)
        assert [one[f"rank_{side}"] for one in found[:3]] == [1, 2, 3]
        for one in found:
            row = next(row for row in rows if row[f"feature_{other}"] == one["feature"])
            assert (one["r"], one["r_heldout"], one["rank_a"]) == (row["r"], row["r_heldout"], row["rank_a"])
            rival = ranked[2 if one[f"rank_{side}"] == 1 else 1]
            assert one["margin"] == pytest.approx(row["r"] - rival["r"])
            if side == "a":
                assert one["margin"] == pytest.approx(row["margin"])


def test_a_feature_that_was_set_aside_says_why(tiny):
    found = describe_feature(tiny.run, "a", RARE, partners=2, contexts=5)
    assert found["partners"] == []
    assert re.search(r"^It fires on \d words? of the discovery half; .* at least 5 ", found["unpaired"])
    assert len(found["contexts"]) == 3
    assert all(one["b"] is None for one in found["contexts"])
    page = draw(render_feature(found, 80), 80)
    assert "(--min-firings)" in page


def test_a_feature_that_nothing_correlates_with_says_why(tmp_path):
    made = build_run(tmp_path, pairing=PairSettings(min_firings=5, floor=0.5, workers=1))
    found = describe_feature(made.run, "a", DENSE, partners=2, contexts=1)
    assert found["unpaired"] == "No feature of the other model correlates with it by more than 0.5."


def test_the_page_of_a_feature(tiny):
    page = draw(render_feature(describe_feature(tiny.run, "a", 0, partners=2, contexts=3), 80), 80)
    values = tiny.values["a"][:, 0]
    for expected in (
        "Feature 0 of a, one of 10",
        f"Fires on {np.count_nonzero(values)} of 4,228 words",
        "Top words: whale whales leviathan".replace("whale ", "Whale ", 1),
        "Partners in b",
        "Where a 0 fires most",
        "Where b 3 fires most, not shown above",
    ):
        assert expected in page
    lines = page.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("a 0 ")) + 1
    rows = [line for line in lines[first : first + 3]]
    assert all(re.match(r" +4\.\d\d [█▏▎▍▌▋▊▉]+ +\d+ [█▏▎▍▌▋▊▉]+", row) for row in rows)
    # The words stand in one column.
    starts = {re.search(r"(?i)(whale|leviathan)", row[28 + 18 :]).start() for row in rows}
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("side", "number", "message"),
    [
        ("a", 10, r"there is no feature 10 of a: release/sae-a has 10 features, 0 to 9\."),
        ("b", -1, r"there is no feature -1 of b: release/sae-b has 8 features, 0 to 7\."),
        ("a", DEAD, r"feature 9 of a fires on none of the 4,228 words"),
        ("c", 0, "it is 'a' or 'b'"),
    ],
)
def test_a_feature_that_cannot_be_shown(tiny, side, number, message):
    with pytest.raises(InputError, match=message):
        describe_feature(tiny.run, side, number, partners=1, contexts=1)


def test_nothing_cannot_be_asked_for(tiny):
    with pytest.raises(InputError, match="partners is 0"):
        describe_feature(tiny.run, "a", 0, partners=0, contexts=1)
    with pytest.raises(InputError, match="contexts is 0"):
        describe_word(tiny.run, "sea", count=1, contexts=0)


def test_signed_features_are_ranked_by_magnitude(tmp_path):
    rng = np.random.default_rng(5)

    def plant(spelled):
        shape = len(spelled), FEATURES[0]
        a = rng.normal(size=shape).astype(np.float32)
        return {"a": a, "b": -a[:, : FEATURES[1]] * 3}

    made = build_run(tmp_path, make_texts(documents=20, sentences=4), values=plant)
    found = describe_feature(made.run, "a", 0, partners=1, contexts=5)
    values = made.values["a"][:, 0]
    assert found["maximum"] == values[np.argmax(np.abs(values))]
    assert found["partners"][0]["r"] == pytest.approx(-1)
    assert found["partners"][0]["feature"] == 0
    own = [one["word_id"] for one in found["contexts"] if "a" in one["strongest_of"]]
    assert own == list_slowly(made, "a", 0)[:5]
    assert describe_run(made.run, 3)["best_pairs"][0]["r"] == pytest.approx(-1)


def test_concepts_differ_between_features():
    words = [fold_word(word) for group in CONCEPTS for word in set(map(fold_word, group))]
    assert len(words) == len(set(words))
