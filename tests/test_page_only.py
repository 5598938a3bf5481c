"""The part of what only one model has: planted pairs are not listed, files and texts say what was found."""

import csv
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.score_worlds import FEATURES, plant_values
from tests.tiny_runs import build_run, make_texts
from xmodel.pairing.settings import PairSettings
from xmodel.report.page.chunks import ChunkWriter
from xmodel.report.page.credible import Credible, SideCredible, find_best, judge_partners
from xmodel.report.page.csv_files import guard_formula, strip_guard, write_csv
from xmodel.report.page.only import COLUMNS, find_heldout, measure_activity, rank_alone, write_only
from xmodel.report.page.only_texts import describe_alone, list_notes
from xmodel.similarity.material import Material

PAIRING = PairSettings(min_firings=5, workers=1)


def make_unrelated(spelled, seed=0, width=150):
    """Two models whose features fire at random, from rarely to often."""
    rng = np.random.default_rng(seed)
    rates = np.geomspace(0.006, 0.2, width)
    sides = {}
    for side in "ab":
        fires = rng.random((len(spelled), width)) < rates
        sides[side] = np.where(fires, rng.lognormal(0, 1, fires.shape), 0).astype(np.float32)
    return sides


def make_half(spelled, seed=0):
    """The first features are planted pairs, the others of either side have nothing to do with each other."""
    planted, free = plant_values(spelled, seed=seed), make_unrelated(spelled, seed=seed)
    return {side: np.concatenate([planted[side], free[side]], axis=1) for side in "ab"}


def test_planted_pairs_are_credible_and_others_mostly_not(tmp_path):
    run = build_run(tmp_path / "run", make_texts(documents=40), values=make_half, pairing=PAIRING).run
    found = judge_partners(run, shifts=10)
    for own in (found.a, found.b):
        planted = np.arange(len(own.judged)) < FEATURES
        assert own.credible[planted & own.judged].all()
        assert planted[own.judged].sum() > FEATURES / 2
        free = own.judged & ~planted
        assert own.credible[free].mean() < 0.15
        assert not (own.credible & own.alone).any()
        assert np.array_equal(own.credible | own.alone, own.judged)


def test_the_best_partners_are_those_of_the_run(tmp_path):
    run = build_run(tmp_path / "run", pairing=PAIRING).run
    table = run.pairs.to_pandas()
    for side, other, (partner, r) in zip("ab", "ba", find_best(Material(run).discovery, None), strict=True):
        best = table[table[f"best_of_{side}"]].set_index(f"feature_{side}")
        assert set(np.flatnonzero(partner >= 0)) == set(best.index)
        assert (partner[best.index] == best[f"feature_{other}"]).all()
        np.testing.assert_allclose(r[best.index], best.r)


def test_signed_features_go_by_the_magnitude_of_r(tmp_path):
    def turn(spelled):
        values = plant_values(spelled)
        return {"a": values["a"], "b": -values["b"]}

    run = build_run(tmp_path / "run", values=turn, pairing=PAIRING).run
    found = judge_partners(run, shifts=5)
    assert found.signed
    assert (found.a.r[found.a.credible] < 0).all()
    assert found.a.credible.sum() > FEATURES / 2
    assert (measure_activity(run, "b").maximum <= 0).all()


def test_activity_and_ranking_are_those_of_the_dense_matrix(tmp_path):
    tiny = build_run(tmp_path / "run", values=make_half, pairing=PAIRING)
    found = judge_partners(tiny.run, shifts=3)
    for side in "ab":
        own, dense = measure_activity(tiny.run, side), tiny.values[side]
        np.testing.assert_array_equal(own.firings, (dense != 0).sum(axis=0))
        np.testing.assert_allclose(own.total, dense.sum(axis=0, dtype=np.float64), rtol=1e-6)
        np.testing.assert_array_equal(own.maximum, dense.max(axis=0))
        ranked = rank_alone(found.side(side), own)
        assert set(ranked) == set(np.flatnonzero(found.side(side).alone))
        assert all(own.total[one] >= own.total[two] for one, two in pairwise(ranked))


def test_the_files_hold_all_features_and_the_sentences_their_number(tmp_path):
    run = build_run(tmp_path / "run", values=make_half, pairing=PAIRING).run
    found = judge_partners(run, shifts=5)
    part = write_only(run, ChunkWriter(tmp_path), found)
    for side, sentence, figure in zip("ab", part.sentences, part.figures, strict=False):
        own = found.side(side)
        with (tmp_path / f"only_{side}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == COLUMNS
        assert {int(row["feature"]) for row in rows} == set(np.flatnonzero(own.alone))
        chunk = (tmp_path / "data/only" / f"{side}.js").read_text()
        payload = json.loads(chunk[chunk.index("{") : chunk.rindex("}") + 1])
        assert payload["f"] == [int(row["feature"]) for row in rows]
        assert f"Of {own.judged.sum():,} features of {side} " in sentence
        assert f" {own.alone.sum():,} (" in sentence
        drawn = own.judged & np.isfinite(own.reach)
        assert len(figure.x) == drawn.sum()
        assert ((figure.y > figure.x + 1e-8) == own.credible[drawn]).all()
        for row, reach in zip(rows, payload["reach"], strict=True):
            feature = int(row["feature"])
            assert float(row["null_mean"]) == pytest.approx(own.null_mean[feature], abs=1e-6)
            assert float(row["null_sd"]) == pytest.approx(own.null_sd[feature], abs=1e-6)
            assert float(row["null_reach"]) == pytest.approx(reach, abs=1e-4)
            assert int(row["shifts"]) == own.draws[feature]
            assert float(row["best_r"] or 0) <= float(row["null_reach"]) + 1e-6


def test_heldout_r_is_that_of_the_best_partner(tmp_path):
    run = build_run(tmp_path / "run", values=make_half, pairing=PAIRING).run
    found, table = judge_partners(run, shifts=5), run.pairs.to_pandas()
    for side, other in ("ab", "ba"):
        own = found.side(side)
        known = table.set_index([f"feature_{side}", f"feature_{other}"])["r_heldout"]
        expected = [known.get((feature, int(own.partner[feature])), np.nan) for feature in range(len(own.r))]
        np.testing.assert_array_equal(find_heldout(run, side, own), np.array(expected, dtype=np.float64))
        assert np.isfinite(find_heldout(run, side, own)).any()


def make_side(*, alone=3, judged=10, firings=20, reach=0.2):
    """Features of which the first have no more than chance reaches."""
    every, r = np.ones(judged, np.bool_), np.where(np.arange(judged) < alone, 0.1, 0.9)
    return SideCredible(
        judged=every,
        firings=np.full(judged, firings),
        partner=np.zeros(judged, np.int32),
        r=r,
        p=np.where(r > reach, 0.01, 0.3),
        null_mean=np.full(judged, 0.1),
        null_sd=np.full(judged, 0.02),
        reach=np.full(judged, reach),
        draws=np.full(judged, 200, np.int32),
        refined=every,
    )


def test_the_sentence_holds_its_own_caveat():
    said = describe_alone("a", make_side(), 10)
    assert "Of 10 features of a" in said and "3 (30%) are not shown to have a partner in b (p > 0.05)" in said
    assert "no proof" in said and "10 to 64 of these words have little power" in said
    assert "3 of the 3 fire on fewer than 65" in said
    assert "0 of the 3 fire on fewer than 65" in describe_alone("a", make_side(firings=65), 10)
    assert "power" not in describe_alone("a", make_side(firings=80), 65)
    assert "no proof" not in describe_alone("b", make_side(alone=0), 10)
    assert describe_alone("b", make_side(judged=0, alone=0), 10).startswith("No feature of b was judged")


@pytest.mark.parametrize(
    ("own_shifts", "within", "documents", "said", "unsaid"),
    [
        (200, True, 9, ("every kind of feature", "shifted within it", "20 features for which"), ("short",)),
        (200, False, 9, ("every kind", "fewer than 50 words"), ("within it",)),
        (200, False, 1, ("single document",), ("within it", "fewer than 50 words")),
        (0, True, 9, ("on average", "were not drawn"), ("every kind", "further shifts;")),
    ],
)
def test_notes_say_only_what_was_done(own_shifts, within, documents, said, unsaid):
    side = make_side()
    if not own_shifts:
        side = replace(side, refined=np.zeros_like(side.refined))
    notes = " ".join(list_notes(Credible(side, side, 20, 20, own_shifts, within, documents, False)))
    assert all(one in notes for one in said)
    assert not any(one in notes for one in unsaid)
    assert "asked for" not in notes
    assert "not the 20 asked for" in " ".join(
        list_notes(Credible(side, side, 7, 20, own_shifts, within, documents, False))
    )


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\t=1", "'=1", "plain", "", "'"])
def test_no_cell_is_a_formula_and_labels_come_back(tmp_path, text):
    write_csv(tmp_path / "x.csv", ("text", "number"), [(text, -1.5)])
    with (tmp_path / "x.csv").open(newline="") as file:
        cell, number = list(csv.reader(file))[1]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert float(number) == -1.5
    assert strip_guard(guard_formula(text)) == text or text == "'=1"
