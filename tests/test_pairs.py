"""The table of pairs, its filters and its summary, against plain arithmetic on dense columns."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import hypergeom

from tests.tiny_runs import DEAD, DENSE, PARTNER, RARE, build_run
from xmodel.datasets.concepts import list_stop_words
from xmodel.errors import InputError
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.settings import PairSettings
from xmodel.pairing.top_words import find_top_words, list_distinct
from xmodel.records import WordFeatures


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("pairs") / "run", pairing=PairSettings())


def correlate(x, y):
    if x.std() == 0 or y.std() == 0:
        return math.nan
    return float(np.corrcoef(x.astype(float), y.astype(float))[0, 1])


def describe_slowly(tiny, *, min_firings=10, floor=0.0, skipped=None):
    """Halves, kept features, and r of all pairs on both halves, one pair after another."""
    half = np.array(tiny.run.words["split"].to_pylist()) == "discovery"
    used = np.ones(len(half), bool) if skipped is None else ~skipped
    a, b = tiny.values["a"], tiny.values["b"]
    found, held = half & used, ~half & used
    kept = [[f for f in range(v.shape[1]) if (v[found, f] != 0).sum() >= min_firings] for v in (a, b)]
    r = {(f, g): correlate(a[found, f], b[found, g]) for f, g in itertools.product(*kept)}
    r = {pair: value for pair, value in r.items() if value > floor}
    return found, held, kept, r


def check_table(tiny, pairing, skipped=None):
    summary = pair_features(tiny.run.folder, pairing)
    found, held, kept, r = describe_slowly(
        tiny, min_firings=pairing.min_firings, floor=pairing.floor, skipped=skipped
    )
    a, b = tiny.values["a"], tiny.values["b"]
    of_a = {f: sorted((g for h, g in r if h == f), key=lambda g: (-r[f, g], g)) for f in kept[0]}
    of_b = {g: sorted((f for f, h in r if h == g), key=lambda f: (-r[f, g], f)) for g in kept[1]}
    rows = {(row["feature_a"], row["feature_b"]): row for row in tiny.run.pairs.to_pylist()}
    top = pairing.top_k
    listed = {(f, g) for f, own in of_a.items() for g in own[:top]}
    listed |= {(f, g) for g, own in of_b.items() for f in own[:top]}
    chosen = {pair for pair, row in rows.items() if row["one_to_one"] or row["many_to_one"] or row["optimal"]}
    assert listed | chosen == set(rows)
    for (f, g), row in rows.items():
        x, y = a[:, f], b[:, g]
        n_a, n_b = int((x[found] != 0).sum()), int((y[found] != 0).sum())
        n_ab = int(((x != 0) & (y != 0))[found].sum())
        assert (row["n_a"], row["n_b"], row["n_ab"]) == (n_a, n_b, n_ab)
        assert row["n_ab_heldout"] == ((x != 0) & (y != 0))[held].sum()
        assert (row["n_a_heldout"], row["n_b_heldout"]) == ((x[held] != 0).sum(), (y[held] != 0).sum())
        assert row["r"] == pytest.approx(r[f, g], abs=1e-12)
        expected = correlate(x[held], y[held])
        assert row["r_heldout"] == (None if math.isnan(expected) else pytest.approx(expected, abs=1e-12))
        assert row["jaccard"] == pytest.approx(n_ab / (n_a + n_b - n_ab))
        exact = hypergeom.logsf(n_ab - 1, int(found.sum()), n_a, n_b) / math.log(10)
        if math.isfinite(exact):
            assert row["log10_p_cofiring"] == pytest.approx(exact, abs=1e-6, rel=1e-6)
        others = [r[f, h] for h in of_a[f] if h != g]
        assert row["runner_up_r"] == (pytest.approx(max(others), abs=1e-12) if others else None)
        assert row["margin"] == (pytest.approx(r[f, g] - max(others), abs=1e-12) if others else None)
        rank_a, rank_b = of_a[f].index(g) + 1, of_b[g].index(f) + 1
        assert row["rank_a"] == (rank_a if rank_a <= top else None)
        assert row["rank_b"] == (rank_b if rank_b <= top else None)
        assert row["best_of_a"] == (rank_a == 1) and row["best_of_b"] == (rank_b == 1)
        assert row["mutual"] == (rank_a == rank_b == 1)
    ordered = [row["r"] for row in tiny.run.pairs.to_pylist()]
    assert ordered == sorted(ordered, reverse=True)
    check_rules(rows, r, pairing)
    for rule, facts in summary["pairs"].items():
        own = [row for row in rows.values() if row[rule]]
        assert facts["count"] == len(own)
        if own:
            assert facts["mean_r"] == pytest.approx(np.mean([row["r"] for row in own]), abs=1e-6)
            judged = np.mean([row["r_heldout"] or 0.0 for row in own])
            assert facts["mean_r_heldout"] == pytest.approx(judged, abs=1e-6)
        expected = shuffle_slowly(own, a[held], b[held])
        shuffled = facts["mean_r_heldout_shuffled"]
        assert shuffled == (None if expected is None else pytest.approx(expected, abs=1e-6))
    return summary


def shuffle_slowly(rows, a, b, found=None):
    """The mean held-out r of A's features with the B feature of another row, in the order of the table.

    `found` are the discovery half's values of signed features: r there says which sign counts as positive.
    """
    order = np.random.default_rng(0).permutation(len(rows))
    pairs = [(row["feature_a"], rows[other]["feature_b"]) for row, other in zip(rows, order, strict=True)]
    real = {(row["feature_a"], row["feature_b"]) for row in rows}
    pairs = [pair for pair in pairs if pair not in real]
    judged = [np.nan_to_num(correlate(a[:, f], b[:, g])) for f, g in pairs]
    if found is not None:
        signs = [np.sign(correlate(found[0][:, f], found[1][:, g])) for f, g in pairs]
        judged = [sign * r for sign, r in zip(signs, judged, strict=True)]
    return float(np.mean(judged)) if judged else None


def test_shuffled_pairs_of_signed_features_are_judged_as_the_pairs_are(tmp_path):
    """All features share a latent, so that even exchanged partners correlate, with arbitrary signs."""
    rng = np.random.default_rng(5)

    def plant(spelled):
        latent = rng.normal(size=(len(spelled), 1))
        weights = {side: rng.choice([-1.0, 1.0], width) for side, width in (("a", 6), ("b", 8))}
        return {
            side: (latent * own + rng.normal(size=(len(spelled), len(own)))).astype(np.float32)
            for side, own in weights.items()
        }

    tiny = build_run(tmp_path / "run", values=plant, pairing=PairSettings())
    half = np.array(tiny.run.words["split"].to_pylist()) == "discovery"
    rows = tiny.run.pairs.to_pylist()
    a, b = tiny.values["a"], tiny.values["b"]
    for rule, facts in tiny.run.summary["pairs"].items():
        own = [row for row in rows if row[rule]]
        expected = shuffle_slowly(own, a[~half], b[~half], found=(a[half], b[half]))
        if expected is None:
            assert facts["mean_r_heldout_shuffled"] is None
        else:
            assert facts["mean_r_heldout_shuffled"] == pytest.approx(expected, abs=1e-6)
            assert expected > 0.3


def check_rules(rows, r, pairing):
    for rule, capacity in (("one_to_one", 1), ("many_to_one", pairing.at_most)):
        taken_a, taken_b, expected = set(), {}, set()
        for (f, g), _ in sorted(r.items(), key=lambda item: (-item[1], item[0])):
            if f not in taken_a and taken_b.get(g, 0) < capacity:
                expected.add((f, g))
                taken_a.add(f)
                taken_b[g] = taken_b.get(g, 0) + 1
        assert {pair for pair, row in rows.items() if row[rule]} == expected
    worth = np.zeros((10, 8))
    for (f, g), value in r.items():
        worth[f, g] = max(0.0, value - pairing.least_worth)
    best = worth[linear_sum_assignment(worth, maximize=True)].sum()
    own = [row for row in rows.values() if row["optimal"]]
    assert sum(row["r"] - pairing.least_worth for row in own) == pytest.approx(best, abs=1e-9)
    assert len({row["feature_a"] for row in own}) == len({row["feature_b"] for row in own}) == len(own)


@pytest.mark.parametrize(
    "changes",
    [{}, {"top_k": 1}, {"top_k": 2, "at_most": 2}, {"floor": 0.2}, {"price": 0.3}, {"min_firings": 1}],
    ids=str,
)
def test_every_column_is_plain_arithmetic(tiny, changes):
    check_table(tiny, PairSettings(**changes))


def test_the_planted_pairs_are_found(tiny):
    pair_features(tiny.run.folder, PairSettings())
    pairs = tiny.run.pairs.to_pandas()
    mutual = pairs[pairs.mutual]
    found = dict(zip(mutual.feature_a, mutual.feature_b, strict=True))
    assert {feature: found.get(feature) for feature in range(6)} == dict(enumerate(PARTNER))


def test_words_are_skipped_before_correlation(tiny):
    stop = list_stop_words("en")
    skipped = np.array([tiny.word(n).casefold() in stop for n in range(len(tiny.words))])
    assert 100 < skipped.sum() < len(skipped)
    summary = check_table(tiny, PairSettings(skip_words="stop"), skipped)
    line = next(line for line in summary["attrition"] if "skipped" in line["filter"])
    assert (line["in"], line["out"]) == (len(skipped), int((~skipped).sum()))
    assert tiny.run.manifest["pairing"]["skipped_words"]["stop_words"] == sorted(stop)


def test_the_ledger_names_every_filter(tiny):
    summary = pair_features(tiny.run.folder, PairSettings(floor=0.3, drop_non_concepts=True))
    lines = {line["filter"]: (line["in"], line["out"]) for line in summary["attrition"]}
    found, _, kept, _ = describe_slowly(tiny, floor=0.3)
    alive = int((tiny.values["a"][found] != 0).any(0).sum())
    assert lines["features a: fire at all (discovery half)"] == (10, alive)
    assert lines["features a: at least 10 firings"] == (alive, len(kept[0]))
    assert RARE not in kept[0] and DEAD not in kept[0]
    entered, left = lines["features a: concepts by their top 10 words"]
    # The dense feature fires on anything, and one, two and three are stop words.
    assert (entered, left) == (len(kept[0]), len(kept[0]) - 2)
    assert lines["features a: a partner with r above 0.3"][0] == left
    for before, after in itertools.pairwise(
        [line for line in summary["attrition"] if line["filter"].startswith("features a")]
    ):
        assert before["out"] == after["in"]
    described = tiny.run.manifest["pairing"]["non_concepts"]
    assert described["share"] == 0.6 and "the" in described["stop_words"]
    assert DENSE not in set(tiny.run.pairs["feature_a"].to_pylist())


def test_one_common_firing_is_why_rare_features_are_set_aside(tmp_path):
    """Two features that each fire once, on the same word, have r = 1."""

    def plant(words):
        rng = np.random.default_rng(0)
        a, b = (rng.random((len(words), 4)).astype(np.float32) for _ in "ab")
        a[:, 0] = b[:, 0] = 0
        return {"a": a, "b": b}

    tiny = build_run(tmp_path / "run", values=plant, pairing=PairSettings())
    first = int(np.flatnonzero(np.array(tiny.run.words["split"].to_pylist()) == "discovery")[0])

    def plant_once(words):
        values = plant(words)
        values["a"][first, 0] = values["b"][first, 0] = 1
        return values

    tiny = build_run(tmp_path / "again", values=plant_once, pairing=PairSettings(min_firings=1))
    best = tiny.run.pairs.to_pylist()[0]
    assert (best["feature_a"], best["feature_b"], best["n_ab"]) == (0, 0, 1)
    assert best["r"] == pytest.approx(1) and best["r_heldout"] is None
    assert tiny.run.summary["pairs"]["mutual"]["heldout_count"] < tiny.run.summary["pairs"]["mutual"]["count"]
    pair_features(tiny.run.folder, PairSettings(min_firings=2))
    assert all((row["feature_a"], row["feature_b"]) != (0, 0) for row in tiny.run.pairs.to_pylist())


def test_pairs_and_summary_of_different_pairings_are_refused(tmp_path):
    tiny = build_run(tmp_path / "run", pairing=PairSettings())
    before = (tmp_path / "run/pairs.parquet").read_bytes()
    pair_features(tiny.run.folder, PairSettings(floor=0.5))
    (tmp_path / "run/pairs.parquet").write_bytes(before)
    with pytest.raises(InputError, match="pairing was interrupted"):
        _ = tiny.run.pairs


@pytest.mark.parametrize(
    "changes",
    [{"min_firings": 0}, {"floor": 1.0}, {"floor": 0.4, "price": 0.2}, {"top_k": 0}, {"at_most": 0}],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        PairSettings(**changes)


@settings(max_examples=50)
@given(
    cells=st.lists(st.sampled_from([0, 0, 1, 2, -3]), min_size=24, max_size=24),
    cut=st.integers(0, 6),
    count=st.integers(1, 7),
)
def test_top_words_are_those_of_sorting(cells, cut, count):
    dense = np.array(cells, np.float32).reshape(6, 4)
    chunks = []
    for rows in (range(cut), range(cut, 6)):
        part = dense[list(rows)]
        places = np.nonzero(part)
        indptr = np.searchsorted(places[0], np.arange(len(part) + 1)).astype(np.int64)
        features = WordFeatures(indptr, places[1].astype(np.int32), part[places], 4)
        chunks.append((100 + np.array(rows, dtype=np.int64), features))
    top, strength = find_top_words(chunks, 4, count)
    for feature in range(4):
        rows = sorted(
            (row for row in range(6) if dense[row, feature]), key=lambda row: (-abs(dense[row, feature]), row)
        )[:count]
        assert top[feature].tolist() == [100 + row for row in rows] + [-1] * (count - len(rows))
        assert strength[feature, : len(rows)].tolist() == [dense[row, feature] for row in rows]


def test_distinct_words_are_compared_without_case():
    assert list_distinct(["Whale", "whale", "sea", "WHALE", "ship"], 2) == ["Whale", "sea"]


def test_pairing_again_begins_from_how_a_run_was_paired(tmp_path, monkeypatch, capsys):
    from xmodel.cli import main

    tiny = build_run(tmp_path / "run", pairing=PairSettings(min_firings=5, floor=0.1))
    assert PairSettings.of_manifest(tiny.run.manifest) == PairSettings(min_firings=5, floor=0.1)
    assert PairSettings.of_manifest({}) == PairSettings()

    def pair_again(*options):
        monkeypatch.setattr("sys.argv", ["xmodel", "pair", str(tmp_path / "run"), "--json", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code in (0, None), told.err
        assert f"the pairs in {tmp_path / 'run'} are replaced" in told.err
        return PairSettings.of_manifest(tiny.run.manifest)

    assert pair_again("--skip-words", "digits") == PairSettings(5, 0.1, skip_words="digits")
    assert pair_again("--floor", "0.3", "--concepts-only") == PairSettings(
        5, 0.3, skip_words="digits", drop_non_concepts=True
    )
    assert pair_again("--price", "0.5").least_worth == 0.5
    assert pair_again("--defaults", "--top-k", "3") == PairSettings(top_k=3)


def test_what_other_results_say_of_the_pairs_before_is_told(tmp_path):
    """Scores of other pairs go; what steering found may have taken hours, and stays with a warning."""
    tiny = build_run(tmp_path / "run", pairing=PairSettings())
    left = {name: tmp_path / "run" / name for name in ("scores.json", "steering.json", "transfer.parquet")}
    for place in left.values():
        place.write_text("{}")
    told = []
    pair_features(tiny.run.folder, PairSettings(), warn=told.append)
    assert told == [] and all(place.is_file() for place in left.values())
    pair_features(tiny.run.folder, PairSettings(floor=0.5), warn=told.append)
    assert len(told) == 2 and not left["scores.json"].exists()
    assert left["steering.json"].read_text() == "{}" and left["transfer.parquet"].is_file()
    assert str(left["scores.json"]) in told[0] and "xmodel score" in told[0]
    assert f"{left['steering.json']} says is of the pairs that were there before" in told[1]
    assert f"xmodel steer {tmp_path / 'run'}" in told[1]
