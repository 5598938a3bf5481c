"""The page of a run: true to the planted features, and says what was found, what was not, and what to do."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.report_helpers import draw, list_distinct_slowly, list_slowly
from tests.tiny_runs import (
    DENSE,
    FEATURES,
    PARTNER,
    build_run,
    make_texts,
)
from xmodel.errors import InputError
from xmodel.pairing.firings import survey_features
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.report.contexts import draw_context
from xmodel.report.features import describe_feature, describe_word, render_feature, render_word
from xmodel.report.runs import describe_run, render_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "tiny")


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
