"""The page of a word: its features, measured as NumPy does; what is said when it does not occur."""

import json

import numpy as np
import pytest

from tests.report_helpers import check_place, draw
from tests.tiny_runs import (
    DENSE,
    PARTNER,
    RARE,
    build_run,
    plant_features,
)
from xmodel.errors import InputError
from xmodel.report.features import describe_word, render_word
from xmodel.report.word_features import suggest_words


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_a_word_leads_to_its_features_and_they_to_their_partners(tiny):
    found = describe_word(tiny.run, "OCEAN", count=2, contexts=4)
    json.dumps(found, allow_nan=False)
    assert found["spellings"] == ["ocean"]
    assert found["a"][0]["feature"] == 2
    assert found["b"][0]["feature"] == PARTNER[2]
    assert found["a"][0]["partner"]["feature"] == PARTNER[2]
    assert found["b"][0]["partner"]["feature"] == 2
    assert len(found["contexts"]) == 4
    for one in found["contexts"]:
        check_place(tiny, one)
        assert one["word"] == "ocean"
        assert one["a"] == pytest.approx(float(tiny.values["a"][one["word_id"], 2]))
        assert one["b"] == pytest.approx(float(tiny.values["b"][one["word_id"], PARTNER[2]]))


@pytest.mark.parametrize("side", ["a", "b"])
def test_the_measure_of_a_word_equals_numpy(tiny, side):
    found = describe_word(tiny.run, "sea", count=100, contexts=1)
    hits = np.array([tiny.word(row).casefold() == "sea" for row in range(len(tiny.words))])
    dense = tiny.values[side].astype(np.float64)
    usable = [
        f for f in range(dense.shape[1]) if (dense[hits, f] != 0).any() and (dense[:, f] != 0).sum() >= 5
    ]
    r = {f: np.corrcoef(dense[:, f], hits)[0, 1] for f in usable}
    assert [one["feature"] for one in found[side]] == sorted(usable, key=lambda f: -abs(r[f]))
    for one in found[side]:
        own = dense[:, one["feature"]]
        assert one["r_word"] == pytest.approx(r[one["feature"]], abs=1e-9)
        assert one["mean_on_word"] == pytest.approx(own[hits].mean())
        assert one["share_of_maximum"] == pytest.approx(own[hits].mean() / own.max())
        assert one["fires_on"] == (own[hits] != 0).sum()


def test_occurrences_are_counted_by_half_and_spelling(tiny):
    found = describe_word(tiny.run, "whale", count=1, contexts=500)
    own = [row for row in tiny.run.words.to_pylist() if row["text"].casefold() == "whale"]
    assert found["occurrences"] == {
        half: sum(row["split"] == half for row in own) for half in ("discovery", "heldout")
    }
    assert [one["word_id"] for one in found["contexts"]] == [row["word_id"] for row in own]
    assert sorted(found["spellings"]) == ["Whale", "whale"]
    page = draw(render_word(found, 80), 80)
    assert f"Occurs {len(own)} times in 4,228 words" in page


def test_an_always_firing_feature_does_not_lead_however_strong(tmp_path):
    def plant(spelled):
        values = plant_features(spelled)
        values["a"][:, DENSE] *= 100
        return values

    made = build_run(tmp_path, values=plant)
    found = describe_word(made.run, "water", count=2, contexts=1)
    assert [one["feature"] for one in found["a"]] == [2, DENSE]
    assert found["a"][0]["mean_on_word"] < found["a"][1]["mean_on_word"]


def test_features_that_fire_too_rarely_are_left_out(tiny):
    rare = tiny.word(5)
    assert tiny.values["a"][5, RARE] > 0
    features = [one["feature"] for one in describe_word(tiny.run, rare, count=20, contexts=1)["a"]]
    assert features
    assert RARE not in features


def test_a_word_that_does_not_occur_suggests_near_ones(tiny):
    with pytest.raises(InputError, match=r"'whals' does not occur .*near it are 'whal.*'whale'"):
        describe_word(tiny.run, "whals", count=1, contexts=1)
    with pytest.raises(InputError, match="nothing in it is near"):
        describe_word(tiny.run, "zzzzzzzz", count=1, contexts=1)


def test_suggestions():
    known = {"whale", "whales", "ship", '."whale', "captain"}
    assert suggest_words("Whael", known) == ["whale", "whales"]
    assert suggest_words("whal", known) == ["whale", "whales", '."whale']
    assert suggest_words("", known) == []
