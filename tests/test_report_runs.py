"""What a person sees of a run: true to the planted features, harmless, and never wider than the terminal."""

import io
import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tests.tiny_runs import (
    CONCEPTS,
    DEAD,
    DENSE,
    FEATURES,
    PARTNER,
    RARE,
    build_run,
    make_texts,
    plant_features,
)
from xmodel.datasets.word_kinds import fold_word
from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.report.contexts import AROUND, draw_context, read_contexts
from xmodel.report.features import describe_feature, describe_word, render_feature, render_word
from xmodel.report.firings import look_up_activations, read_rows, survey_features
from xmodel.report.layout import (
    Field,
    draw_bar,
    draw_table,
    fit,
    fit_end,
    fit_words,
    format_share,
    format_value,
    pad,
    show_prose,
    wrap,
)
from xmodel.report.runs import describe_run, list_best_pairs, render_run
from xmodel.report.word_features import suggest_words

FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066\u2067\ufe0f\ufeff\U000e0041]"
)
HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "[bold]no[/]",
    ":smile:",
    "abc\u202edef\u2066g\u200f",
    "a\x00b\x08c\x7f",
    "👩\u200d🚀\ufe0f",
    "\U000e0041x",
    "漢字かな",
    "cafe\u0301",
    "नमस्ते",
    "עברית",
    "x\u2028y",
    "w" * 300,
    "漢" * 200,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "tiny")


def make_hostile_texts():
    texts = make_texts(documents=22, sentences=8)
    return [
        f"{HOSTILE[n % len(HOSTILE)]} {text} {HOSTILE[(n + 5) % len(HOSTILE)]}"
        for n, text in enumerate(texts)
    ]


def plant_hostile(spelled):
    """Features that fire most on exactly the hostile words."""
    rng = np.random.default_rng(1)
    strange = np.array([not word.isascii() or not word.isalpha() or len(word) > 20 for word in spelled])
    values = {}
    for side, width in zip("ab", FEATURES, strict=True):
        own = np.zeros((len(spelled), width), np.float32)
        acting = np.array([not word.isprintable() for word in spelled])
        own[:, 0] = strange * (2 + acting + rng.random(len(spelled)))
        own[:, 1] = (rng.random(len(spelled)) < 0.3) * (1 + rng.random(len(spelled)))
        values[side] = own.astype(np.float32)
    return values


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    texts = make_hostile_texts()
    names = [f"\x1b[2J\u202e{number}" for number in range(len(texts))]
    made = build_run(tmp_path_factory.mktemp("runs") / "hostile", texts, values=plant_hostile, names=names)
    manifest = made.run.manifest
    for side in manifest["sides"].values():
        side["model"]["name"] = "\x1b[5m[red]maker\u202e/model"
        side["dictionary"]["name"] = "\x9bsae" * 30
        side["calibration"]["misfit"] = "\x1b[31mit fits another site"
    made.run.folder.write_json("manifest.json", manifest)
    return made


def draw(picture, width, color=False):
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(picture, crop=False)
    return console.file.getvalue()


def describe_all(run, word="whale"):
    return [
        (describe_run(run, 20), render_run),
        (describe_feature(run, "a", 0, partners=3, contexts=6), render_feature),
        (describe_feature(run, "b", 0, partners=3, contexts=6), render_feature),
        (describe_word(run, word, count=3, contexts=6), render_word),
    ]


def list_slowly(made, side, feature):
    """Word ids of a feature's firings, strongest first, then earlier."""
    values = made.values[side][:, feature]
    return sorted(np.flatnonzero(values).tolist(), key=lambda row: (-abs(float(values[row])), row))


def list_distinct_slowly(made, side, feature, count):
    found = {}
    for row in list_slowly(made, side, feature):
        found.setdefault(fold_word(made.word(row)), made.word(row))
    return list(found.values())[:count]


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


# ---- a run


def test_a_run_is_described_with_what_was_planted(tiny):
    found = json.loads(json.dumps(describe_run(tiny.run, 20), allow_nan=False))
    assert found["run"] == str(tiny.run.path)
    assert found["words"] == len(tiny.words)
    assert found["documents"] == len(tiny.texts)
    partners = {pair["feature_a"]: pair["feature_b"] for pair in found["best_pairs"]}
    assert {a: partners[a] for a in range(len(PARTNER))} == dict(enumerate(PARTNER))
    assert found["sides"]["b"] == {
        "model": "maker/model-b",
        "dictionary": "release/sae-b",
        "architecture": "standard",
        "signed": False,
        "site": "blocks.3.hook_resid_post",
        "fvu": 0.25,
        "fvu_tokens": 700,
        "misfit": None,
        "certificates": {"exact": 23, "normalized": 1},
    }
    summary = json.loads((tiny.run.path / "summary.json").read_text("utf-8"))
    assert {name: found[name] for name in summary} == summary


def test_the_best_pairs_are_the_mutual_and_one_to_one_ones_by_r(tiny):
    table = tiny.run.pairs.to_pylist()
    expected = sorted(
        (row for row in table if row["mutual"] or row["one_to_one"]), key=lambda row: -abs(row["r"])
    )
    found = describe_run(tiny.run, 4)["best_pairs"]
    assert len(found) == 4
    for pair, row in zip(found, expected, strict=False):
        for name in (
            "feature_a",
            "feature_b",
            "r",
            "r_heldout",
            "n_a",
            "n_b",
            "n_ab",
            "n_ab_heldout",
            "mutual",
            "one_to_one",
        ):
            assert pair[name] == row[name]


def test_top_words_equal_the_slow_reference(tiny):
    for pair in describe_run(tiny.run, 20)["best_pairs"]:
        for side in "ab":
            assert pair[f"top_words_{side}"] == list_distinct_slowly(tiny, side, pair[f"feature_{side}"], 8)
    assert pair["feature_a"] == DENSE  # a feature with more different words than are kept


@settings(max_examples=8)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_top_words_do_not_depend_on_the_shards(tmp_path_factory, shards, seed):
    rng = np.random.default_rng(seed)

    def plant(spelled):
        # Few levels, so that ties are many.
        return {
            side: rng.integers(0, 4, (len(spelled), width)).astype(np.float32)
            for side, width in zip("ab", FEATURES, strict=True)
        }

    texts = make_texts(documents=6, sentences=3, seed=seed)
    path = tmp_path_factory.mktemp("shards")
    made = build_run(path, texts, shards=shards, values=plant, pairing=False)
    found = survey_features(made.run, "a", range(FEATURES[0]), words=5, places=4)
    for feature, own in found.items():
        assert own.words == list_distinct_slowly(made, "a", feature, 5)
        assert [word for word, _ in own.places] == list_slowly(made, "a", feature)[:4]
        assert own.firings == np.count_nonzero(made.values["a"][:, feature])


def test_the_page_says_what_was_found(tiny):
    page = draw(render_run(describe_run(tiny.run, 20), 100), 100)
    for expected in (
        "maker/model-a at blocks.3.hook_resid_post",
        "10 features, 7 fire, 7 kept, FVU 0.250",
        "4,228 words of 24 documents",
        "token spans exact in 23, normalized in 1 documents.",
        "mutual best",
        "Paired afresh on the held-out half, 86% of a's 7 features",
        "features a: fire at all (discovery half)",
        "filters took nothing.",
        "red green blue",
        f"xmodel features {tiny.run.path} --a 4",
        "best pairs (mutual or one to one)",
        "both: words on which both fire, discovery half / held-out half. top words: the distinct words",
        "on the first word tokens of the corpus only: 700 of a, 700 of b.",
    ):
        assert expected in " ".join(page.split()) or expected in page
    assert "|r|" not in page
    row = next(line for line in page.splitlines() if line.startswith("4  1 "))
    assert re.fullmatch(r"4  1  0\.\d{3}     0\.\d{3}  100/\d+ +red green blue +red green blue", row)


def test_shared_words_are_set_off(tiny):
    found = describe_run(tiny.run, 1)
    found["best_pairs"][0] |= {"top_words_a": ["Sea", "alone"], "top_words_b": ["sea", "other"]}
    for width in (40, 100):
        page = draw(render_run(found, width), width, color=True)
        assert "\x1b[1;32mSea\x1b[0m alone" in page
        assert "\x1b[1;32msea\x1b[0m other" in page


def test_colours_do_not_run_over_into_the_text(tiny):
    context = {"word": "sea", "before": "b" * 99, "after": "c" * 99}
    assert re.fullmatch(
        r"\x1b\[2m…\x1b\[0mb{14}\x1b\[2m\[\x1b\[0m\x1b\[1msea\x1b\[0m\x1b\[2m\]\x1b\[0mc{19}\x1b\[2m…\x1b\[0m\n",
        draw(draw_context(context, 40), 40, True),
    )
    page = draw(render_feature(describe_feature(tiny.run, "a", 0, partners=1, contexts=1), 80), 80, True)
    assert "\x1b[1mFeature 0 of a\x1b[0m\x1b[2m, one of 10\x1b[0m\n\x1b[1;36ma  \x1b[0mmaker/model-a" in page


def test_a_run_without_any_pair_says_so(tmp_path):
    made = build_run(tmp_path, pairing=PairSettings(min_firings=1000, workers=1))
    found = describe_run(made.run, 5)
    assert found["best_pairs"] == []
    page = " ".join(draw(render_run(found, 80), 80).split())
    assert "No two features are each other's best partner." in page
    assert " --a " not in page
    assert " --word WORD" in page


def test_a_held_out_r_that_rests_on_nothing_is_seen(tiny):
    discovery = np.array(tiny.run.words["split"].to_pylist()) == "discovery"
    found = describe_run(tiny.run, 20)
    for pair in found["best_pairs"]:
        both = (tiny.values["a"][:, pair["feature_a"]] != 0) & (tiny.values["b"][:, pair["feature_b"]] != 0)
        assert (pair["n_ab"], pair["n_ab_heldout"]) == (both[discovery].sum(), both[~discovery].sum())
    found["best_pairs"][0] |= {"n_ab": 49, "n_ab_heldout": 0}
    found["best_pairs"][1] |= {"n_ab": 1200, "n_ab_heldout": 1030}
    page = draw(render_run(found, 100), 100)
    assert re.search(r"^4  1  .* {3}49/0 {6}red", page, re.MULTILINE)
    assert "  1,200/1,030  " in page
    partner = describe_feature(tiny.run, "a", 4, partners=1, contexts=1)
    row = partner["partners"][0]
    assert f" {row['n_ab']}/{row['n_ab_heldout']}  " in draw(render_feature(partner, 100), 100)


def test_signed_features_are_said_to_go_by_magnitude(tiny):
    found = describe_run(tiny.run, 5)
    word = describe_word(tiny.run, "sea", count=1, contexts=1)
    for side in "ab":
        signed = {**found["sides"], side: found["sides"][side] | {"signed": True}}
        page = draw(render_run(found | {"sides": signed}, 80), 80)
        assert "pairs  mean |r|  held out" in page
        assert "pairs go by |r|, and the sign of r is arbitrary." in page
        assert "the sign of r is arbitrary" in " ".join(
            draw(render_word(word | {"sides": signed}, 80), 80).split()
        )
    feature = describe_feature(tiny.run, "a", 0, partners=1, contexts=1)
    for value in (False, True):
        page = " ".join(draw(render_feature(feature | {"signed": value}, 80), 80).split())
        assert ("the sign of r is arbitrary" in page) == value


@pytest.mark.parametrize("missing", ["a", "b"])
def test_fvu_is_explained_for_the_sides_that_have_one(tiny, missing):
    found = describe_run(tiny.run, 1)
    found["sides"][missing] |= {"fvu": None}
    page = " ".join(draw(render_run(found, 80), 80).split())
    assert f"corpus only: 700 of {'b' if missing == 'a' else 'a'}." in page


@pytest.mark.parametrize("width", [60, 80, 81, 100])
def test_long_filters_are_shown_whole(tiny, width):
    found = describe_run(tiny.run, 1)
    label = (
        "words: with a token in both models that is no first position and not massive, 漢字 and " + "w" * 70
    )
    found["attrition"] = [{"filter": label, "in": 27_203, "out": 27_088}]
    page = draw(render_run(found, width), width)
    shown = page.partition("What the filters left\n")[2].partition("\n\n")[0]
    assert "…" not in shown
    assert max(map(cell_len, shown.splitlines())) == width
    assert shown.splitlines()[0].endswith("  27,203 → 27,088  99.6%")
    without = shown.replace("27,203 → 27,088  99.6%", "")
    assert "".join(without.split()) == "".join(label.split())


def test_a_run_that_is_not_paired_says_what_to_do(tmp_path):
    made = build_run(tmp_path, pairing=False)
    for describe in (
        lambda: describe_run(made.run, 5),
        lambda: describe_feature(made.run, "a", 0, partners=1, contexts=1),
        lambda: describe_word(made.run, "whale", count=1, contexts=1),
    ):
        with pytest.raises(InputError, match=r"is not there: the run is not finished"):
            describe()


def test_damaged_features_are_refused(tmp_path):
    made = build_run(tmp_path)
    place = tmp_path / "features_a" / "shard-00001.safetensors"
    place.write_bytes(place.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="is damaged"):
        describe_run(Run(made.run.path), 5)


def test_by_token_the_page_compares_with_words(tmp_path):
    made = build_run(tmp_path, unit="token")
    page = draw(render_run(describe_run(made.run, 5), 100), 100)
    assert "4,228 tokens of 24 documents" in page
    assert "Paired by word instead, 100% of 7 features have the same best partner" in page


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


def check_place(made, one):
    document, start, end = made.words[one["word_id"]]
    text = made.texts[document]
    data = text.encode()
    assert (one["document"], one["start"], one["end"]) == (document, start, end)
    assert data[start:end].decode() == one["word"]
    joined = one["before"] + one["word"] + one["after"]
    assert joined in text
    begin = start - len(one["before"].encode())
    assert data[begin : begin + len(joined.encode())].decode() == joined
    for kept, rest in ((one["before"], begin), (one["after"], len(data) - begin - len(joined.encode()))):
        assert rest == 0 or AROUND - 4 < len(kept.encode()) <= AROUND


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


# ---- a word


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


# ---- pages


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(tiny, hostile, width):
    for made in (tiny, hostile):
        for found, render in describe_all(made.run):
            page = draw(render(found, width), width)
            assert max(cell_len(line) for line in page.splitlines()) <= width


def test_nothing_of_a_corpus_acts_on_the_terminal(hostile):
    words = {word for found, _ in describe_all(hostile.run) for word in found.get("top_words", [])}
    assert any("\x1b" in word for word in words)
    for width in (40, 120):
        for found, render in describe_all(hostile.run):
            page = draw(render(found, width), width)
            assert not FORBIDDEN.search(page)
            for line in page.splitlines():
                assert line.count("\u2068") == line.count("\u2069")
            plain = re.sub(r"\x1b\[[\d;]*m", "", draw(render(found, width), width, color=True))
            assert plain == page


def test_of_a_long_name_the_end_is_kept_on_one_line(hostile):
    page = draw(render_run(describe_run(hostile.run, 1), 40), 40).splitlines()
    names = [line.strip() for line in page if "sae" in line]
    assert len(names) == 2
    assert "it fits another site" in " ".join(page)
    assert all(name.startswith("…") and name.endswith("‹U+009B›sae") for name in names)


def test_markup_of_a_corpus_is_shown_as_it_is(tmp_path):
    texts = [f"[bold] {text} :smile:" for text in make_texts(documents=20, sentences=3)]
    made = build_run(tmp_path, texts, values=plant_hostile)
    page = draw(render_feature(describe_feature(made.run, "a", 0, partners=1, contexts=50), 120), 120)
    assert "[bold]" in page
    assert ":smile:" in page


def test_a_table_drops_whole_columns_and_moves_words_below():
    fields = [Field("a"), Field("held out"), Field("both")]
    rows = [[Text("12"), Text("0.500"), Text("7")]]
    lists = [[lambda room: fit_words(["whale", "whales"], room)]]

    def lines(width):
        return [line.plain for line in draw_table(fields, rows, ["top words"], lists, width)]

    assert lines(40) == [" a  held out  both  top words", "12     0.500     7  whale whales"]
    assert lines(20) == [" a  held out  both", "12     0.500     7", "    whale whales"]
    assert lines(17) == [" a  held out", "12     0.500", "    whale whales"]
    assert lines(10) == [" a", "12", "    whale"]
    assert max(map(cell_len, lines(1))) == 1


TEXT = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("a \n漢é\u0301\u202eא🚀ते")), max_size=60
)


@given(TEXT, st.integers(1, 40))
def test_texts_are_cut_to_any_width_and_stay_harmless(text, most):
    shown = show_prose(text)
    for cut in (fit(shown, most), fit_end(shown, most)):
        assert cell_len(cut.plain) <= most
        assert not FORBIDDEN.search(cut.plain)
        assert cut.plain.count("\u2068") == cut.plain.count("\u2069")
        assert cell_len(pad(cut, most).plain) == cell_len(pad(cut, most, right=True).plain) == most
        if cell_len(shown.plain) <= most:
            assert cut.plain == shown.plain
        else:
            assert "…" in cut.plain
    if cell_len(shown.plain) > most and "\u2068" not in shown.plain:
        assert shown.plain.startswith(fit(shown, most).plain.removesuffix("…"))
        assert shown.plain.endswith(fit_end(shown, most).plain.removeprefix("…"))


@given(TEXT, st.integers(2, 40))
def test_wrapping_loses_nothing(text, most):
    shown = show_prose(text)
    lines = wrap(shown, most)
    for line in lines:
        assert cell_len(line.plain) <= most
        assert line.plain.count("\u2068") == line.plain.count("\u2069")

    def bare(plain):
        return re.sub("[ \u2068\u2069]", "", plain)

    assert bare("".join(line.plain for line in lines)) == bare(shown.plain)
    for line, following in itertools.pairwise(lines):
        first = following.plain.removeprefix("\u2068").split(" ")[0]
        if " " in line.plain.strip():
            assert cell_len(line.plain) + 1 + cell_len(first) > most


@pytest.mark.parametrize("room", [1, 2, 3, 5, 12, 40])
def test_a_word_in_context_is_in_brackets_at_its_place(room):
    for word in ("sea", "漢字", "w" * 90):
        line = draw_context({"word": word, "before": "b" * 99, "after": "c" * 99}, room).plain
        assert cell_len(line) <= room
        if room >= 12:
            assert line[room * 2 // 5 - 1] == "["
            assert line[room * 2 // 5] == word[0]
            assert "]" in line


@given(st.lists(TEXT.filter(bool), max_size=6), st.integers(1, 30))
def test_words_are_shown_whole_from_the_first(words, most):
    line = fit_words(words, most)
    assert cell_len(line.plain) <= most
    whole = [fit_words([word], 10_000).plain for word in words]
    if whole and cell_len(whole[0]) <= most:
        assert line.plain in {" ".join(whole[:count]) for count in range(1, len(whole) + 1)}


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_activations_fit_their_column(value):
    shown = format_value(value)
    assert len(shown) <= 6
    assert value == 0 or float(shown) == pytest.approx(value, rel=0.5)


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(1, 10))
def test_bars_have_their_width_and_never_vanish(value, maximum, cells):
    bar = draw_bar(value, maximum, cells).plain
    assert cell_len(bar) == cells
    assert (bar.strip() == "") == (value == 0)
    assert maximum == 0 or abs(value) < abs(maximum) or bar == "█" * cells or value == 0


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "0.0%"), (0, 5, "0.0%"), (1, 5000, "<0.1%"), (5, 100, "5.0%"), (39, 100, "39%"),
        (999, 1000, "99.9%"), (99999, 100000, "99.9%"), (7, 7, "100%"),
    ],
)  # fmt: skip
def test_shares(part, whole, expected):
    assert format_share(part, whole) == expected


def test_paragraphs_are_marked_and_line_breaks_are_spaces():
    assert show_prose("a  b\nc\n\nd\te").plain == "a b c ↵ d e"
    assert isinstance(show_prose(""), Text)


def test_concepts_differ_between_features():
    words = [fold_word(word) for group in CONCEPTS for word in set(map(fold_word, group))]
    assert len(words) == len(set(words))
