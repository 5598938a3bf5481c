"""The chunks of the pair explorer equal what dense matrices and plain loops give."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests import page_reference as slow
from tests import tiny_runs
from tests.report_helpers import HOSTILE, build_hostile
from tests.tiny_runs import DEAD, FEATURES, build_run, make_texts
from xmodel.datasets.word_kinds import fold_word
from xmodel.datasets.words import split_words
from xmodel.pairing.firings import survey_features
from xmodel.pairing.pair_table import RULES
from xmodel.pairing.settings import PairSettings
from xmodel.report.page import pairs as pairs_module
from xmodel.report.page.texts import show_plain


def plant_signed(spelled):
    """Signed activations with words between them, ties, and a feature that fires once."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=(len(spelled), 4)) * (rng.random((len(spelled), 4)) < 0.2)
    values = {}
    for side, width in zip("ab", FEATURES, strict=True):
        own = np.zeros((len(spelled), width), np.float32)
        own[:, :4] = np.round(common + 0.3 * rng.normal(size=common.shape) * (common != 0), 1)
        own[:, 4] = rng.choice([-1, 0, 1], size=len(spelled), p=[0.1, 0.8, 0.1])
        own[len(spelled) // 3, 5] = -2
        values[side] = own
    return values


def build_short(path):
    """Documents of few words, some of one: windows end where they do."""
    texts = [" ".join(text.split()[: 1 + 5 * (number % 6)]) for number, text in enumerate(make_texts())]
    return build_run(path, texts, shards=4, pairing=PairSettings(min_firings=2, workers=1))


def build_filtered(path):
    """Every fifth word is not in the run, be it the first of a document: it is part of the gap."""

    def drop_words(text):
        words = split_words(text)
        kept = np.arange(len(words)) % 5 > 0
        return replace(words, starts=words.starts[kept], ends=words.ends[kept])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_runs, "split_words", drop_words)
        return build_run(path, make_texts(22, 8))


BUILDERS = {
    "plain": lambda path: build_run(path, make_texts(22, 8)),
    "signed": lambda path: build_run(path, make_texts(22, 8), values=plant_signed, shards=4),
    "short": build_short,
    "filtered": build_filtered,
    "one shard": lambda path: build_run(path, make_texts(4, 12), shards=1),
    "hostile": build_hostile,
}


@pytest.fixture(scope="module", params=BUILDERS)
def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    made = BUILDERS[request.param](folder / "run")
    facts = slow.write_data(made, folder / "out", contexts=8)
    return made, slow.read_data(folder / "out"), facts


def test_features_equal_the_slow_reference(world):
    made, data, facts = world
    for side, width in zip("ab", FEATURES, strict=True):
        found = data[f"features/{side}-0000"]
        assert len(found) == width
        for feature, entry in enumerate(found):
            expected = slow.describe_feature(made, side, feature, 8)
            slow.same(entry and {name: entry[name] for name in entry if name != "unpaired"}, expected)
            assert entry is None or (entry["unpaired"] is None) == bool(entry["partners"])
        assert sum(entry is not None for entry in found) == facts.features["ab".index(side)]


def test_top_words_are_those_of_the_survey_of_single_features(world):
    made, data, _ = world
    for side, width in zip("ab", FEATURES, strict=True):
        columns = data[f"features/words_{side}"]
        for feature, survey in survey_features(made.run, side, range(width)).items():
            top = [columns["words"][number] for number in columns["top"][feature]]
            assert top == [show_plain(word) for word in survey.words]
            assert columns["firings"][feature] == survey.firings
            slow.same(columns["maximum"][feature], float(survey.maximum))
            slow.same(columns["mean"][feature], float(survey.mean))
        assert len(set(columns["words"])) == len(columns["words"])


def test_the_table_has_the_pairs_of_all_rules_best_first(world):
    made, data, facts = world
    table, expected = data["pairs/table"], slow.list_shown(made)
    assert facts.pairs == len(expected) > 0
    strength = [abs(row["r"]) for row in expected]
    assert strength == sorted(strength, reverse=True)
    names = {"a": "feature_a", "b": "feature_b"}
    firings = ("n_a", "n_b", "n_ab", "n_a_heldout", "n_b_heldout", "n_ab_heldout")
    for name in ("a", "b", "r", "r_heldout", *firings, "jaccard", "margin"):
        slow.same(table[name], [row[names.get(name, name)] for row in expected])
    masks = [sum(2**bit for bit, rule in enumerate(RULES) if row[rule]) for row in expected]
    assert table["rules"] == masks


def test_pairs_have_both_features_on_the_same_words(world):
    made, data, _ = world
    entries = data["pairs/0000"]
    expected = slow.list_shown(made)
    assert len(entries) == len(expected) <= pairs_module.PAIR_CHUNK
    for entry, row in zip(entries, expected, strict=True):
        slow.same(
            {name: entry[name] for name in entry if name != "scatter"}, slow.describe_pair(made, row, 8)
        )
        check_scatter(made, row, entry["scatter"])


def check_scatter(made, row, scatter):
    a, b = made.values["a"][:, row["feature_a"]], made.values["b"][:, row["feature_b"]]
    fires = {"both": (a != 0) & (b != 0), "only_a": (a != 0) & (b == 0), "only_b": (a == 0) & (b != 0)}
    listed = scatter["words"]
    union = np.flatnonzero((a != 0) | (b != 0))
    for name, words in fires.items():
        assert scatter[name] == words.sum()
        assert scatter["of"][name] == words[listed].sum()
    assert scatter["shown"] == len(listed) == sum(scatter["of"].values()) == min(len(union), 120)
    assert listed == sorted(set(listed))
    assert set(listed) <= set(union.tolist())
    steps = np.diff(np.searchsorted(union, listed))
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    slow.same(scatter["a"], a[listed].astype(float).tolist())
    slow.same(scatter["b"], b[listed].astype(float).tolist())


def test_every_word_that_is_shown_has_its_text(world):
    made, data, _ = world
    words, gaps, begins = {}, {}, {}
    for name in (name for name in data if name.startswith("text/")):
        first = 2048 * int(name.removeprefix("text/"))
        words.update(enumerate(data[name]["words"], first))
        gaps.update({first + int(place): gap for place, gap in data[name]["gaps"].items()})
        begins.update({entry[0]: entry[1:] for entry in data[name]["documents"]})
    shown = {word for entry in data["pairs/0000"] for word in entry["scatter"]["words"]}
    for side in "ab":
        for entry in filter(None, data[f"features/{side}-0000"]):
            for context in entry["contexts"]:
                shown.update(range(context["start"], context["stop"]))
    assert {word for word, text in words.items() if text is not None} == shown
    halves = slow.find_halves(made)
    names = made.run.documents["name"].to_pylist()
    for word in sorted(shown):
        number, start, _ = made.words[word]
        assert words[word] == show_plain(made.word(word))
        data_of = made.texts[number].encode()
        before = made.words[word - 1] if word else (-1, 0, 0)
        gap = data_of[before[2] : start].decode() if before[0] == number else ""
        assert gaps.get(word, " ") == ("" if not gap else show_plain(gap, 80))
        begin = max(place for place in begins if place <= word)
        half = "discovery" if halves[word] else "heldout"
        assert begins[begin] == [number, show_plain(names[number]), half]


def test_the_index_of_words_lists_all_features_that_fire(world):
    made, data, facts = world
    index = data["words/index"]
    counts: dict[str, int] = {}
    for row in range(len(made.words)):
        folded = fold_word(made.word(row))
        counts[folded] = counts.get(folded, 0) + 1
    order = sorted(counts, key=lambda word: (-counts[word], word))
    assert index["words"] == [show_plain(word) for word in order]
    assert index["count"] == [counts[word] for word in order]
    assert facts.words == len(order)
    for place in range(0, len(order), 1 + len(order) // 40):
        entry = data[f"words/{place // index['chunk']:04d}"][place % index["chunk"]]
        for side in "ab":
            listed, shares = slow.rank_word(made, side, order[place])
            assert sorted(entry[side]) == sorted(listed)
            found = [shares[feature] for feature in entry[side]]
            np.testing.assert_allclose(found, sorted(found, reverse=True), rtol=1e-6)
            expected = [min(99, math.floor(100 * share)) for share in found]
            np.testing.assert_allclose(entry["s"][side], expected, atol=1)
        assert "more" not in entry


def test_nothing_hostile_is_left(tmp_path):
    made = build_hostile(tmp_path / "run")
    slow.write_data(made, tmp_path / "out")
    for file in (tmp_path / "out").rglob("*.js"):
        content = file.read_text("ascii")
        assert not set("<>&\x00\x1b") & set(content)
        assert not any(sign in content for sign in ("\\u202e", "\\u0000", "\\u001b", "\\u2028", "\\u2066"))
    assert any("\x1b" in word for word in HOSTILE)


def test_a_feature_that_never_fires_is_null(tmp_path):
    made = build_run(tmp_path / "run", make_texts(22, 8))
    slow.write_data(made, tmp_path / "out")
    data = slow.read_data(tmp_path / "out")
    assert data["features/a-0000"][DEAD] is None
    assert data["features/words_a"]["top"][DEAD] == []
    assert data["features/words_a"]["firings"][DEAD] == 0
