"""Pairs to steer, and the features that they are compared with: live ones and hard pairs."""

import json

import numpy as np
import pytest

from tests.score_worlds import plant_values
from tests.tiny_runs import build_run, make_texts
from xmodel.errors import InputError
from xmodel.pairing.pair_table import RULES
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.material import Material
from xmodel.steering.candidates import NAMED, Pairs, choose_hard_pairs, choose_live, choose_pairs
from xmodel.steering.correlated import correlate_with_all, find_neighbours

SETTINGS = PairSettings(min_firings=5, workers=1, top_k=4)
FEATURES = 36
DEAD = FEATURES - 1


def plant_families(spelled, signed=False):
    """[W, 36] by side: families of features that fire on the same words more or less, so that r is graded."""
    rng = np.random.default_rng(1)
    families = rng.random((len(spelled), 6)) < np.linspace(0.03, 0.2, 6)
    found = {}
    for side in "ab":
        values = np.zeros((len(spelled), FEATURES), dtype=np.float32)
        for feature in range(DEAD):
            keeps = rng.random(len(spelled)) < 0.4 + 0.6 * rng.random()
            fires = (families[:, feature % 6] & keeps) | (rng.random(len(spelled)) < 0.01)
            values[fires, feature] = 1 + 0.3 * rng.random(int(fires.sum()))
        if signed:
            values[:, ::2] *= -1 if side == "b" else 1
        found[side] = values
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "signed"])
def world(request, tmp_path_factory):
    """A run, and whether its features are signed."""

    def plant(spelled):
        return plant_families(spelled, request.param)

    folder = tmp_path_factory.mktemp("world") / "run"
    return build_run(folder, make_texts(), values=plant, pairing=SETTINGS)


def split_values(tiny):
    """Both sides' values on the discovery words, then on the held-out ones."""
    choice = Material(tiny.run).choice
    return [[tiny.values[side][half] for side in "ab"] for half in (choice.discovery, choice.heldout)]


def correlate(values, a, b):
    return float(np.corrcoef(values[0][:, a], values[1][:, b])[0, 1])


def list_partners(run, rule):
    table = run.pairs.to_pandas()
    return set(zip(table.feature_a[table[rule]], table.feature_b[table[rule]], strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_pairs_are_the_best_of_their_rule_and_share_no_feature(world, rule):
    found = choose_pairs(world.run, rule=rule, count=8)
    assert found.rule == rule and 3 <= len(found) <= 8
    assert len(set(found.a)) == len(set(found.b)) == len(found)
    strengths = np.abs(found.r)
    assert (np.diff(strengths) <= 0).all()
    assert set(zip(found.a, found.b, strict=True)) <= list_partners(world.run, rule)
    table = world.run.pairs.to_pandas()
    best = table[table[rule]].iloc[0]
    assert (found.a[0], found.b[0]) == (best.feature_a, best.feature_b)
    discovery, heldout = split_values(world)
    for a, b, r, again in zip(found.a, found.b, found.r, found.r_heldout, strict=True):
        assert r == pytest.approx(correlate(discovery, a, b), abs=1e-6)
        assert again == pytest.approx(correlate(heldout, a, b), abs=1e-6)


def test_signs_are_those_of_r_where_features_are_signed(world):
    found = choose_pairs(world.run, count=12)
    signed = bool((world.values["b"] < 0).any())
    assert found.sign.tolist() == np.where((found.r < 0) & signed, -1, 1).tolist()
    assert (found.sign < 0).any() == signed


def test_named_pairs_come_as_they_are_named_and_need_be_no_pairs(world):
    named = [(5, 4), (2, 30), (5, 11)]
    assert not set(named) & list_partners(world.run, "mutual")
    found = choose_pairs(world.run, features=named, count=1)
    assert found.rule == NAMED and list(zip(found.a, found.b, strict=True)) == named
    discovery, _ = split_values(world)
    for (a, b), r in zip(named, found.r, strict=True):
        assert r == pytest.approx(correlate(discovery, a, b), abs=1e-6)


def test_a_weak_negative_r_turns_no_unsigned_feature(tmp_path):
    tiny = build_run(tmp_path / "run", values=plant_families, pairing=SETTINGS)
    discovery, _ = split_values(tiny)
    r = [[correlate(discovery, a, b) for b in range(10)] for a in range(10)]
    named = [(int(a), int(b)) for a, b in np.argwhere(np.array(r) < -0.02)[:3]]
    found = choose_pairs(tiny.run, features=named)
    assert (found.r < 0).all() and (found.sign == 1).all()


def test_all_correlations_are_those_of_numpy(world):
    discovery, _ = split_values(world)
    material = Material(world.run)
    for letter, own, other in (("a", *discovery), ("b", *discovery[::-1])):
        features = np.array([3, 0, 3, DEAD], dtype=np.int32)
        found = correlate_with_all(material, letter, features)
        assert np.isneginf(found[3]).all() and np.isneginf(found[:, DEAD]).all()
        for row, feature in zip(found, features[:3], strict=False):
            expected = [np.corrcoef(own[:, feature], other[:, one])[0, 1] for one in range(DEAD)]
            np.testing.assert_allclose(row[:DEAD], expected, atol=1e-6)


def test_neighbours_do_not_depend_on_the_blocks(world, monkeypatch):
    material, pairs = Material(world.run), choose_pairs(world.run, count=10)
    whole = find_neighbours(material, "a", pairs.a, pairs.b, pairs.r, 0.2)
    monkeypatch.setattr("xmodel.steering.correlated.BLOCK_BYTES", 1)
    parts = find_neighbours(material, "a", pairs.a, pairs.b, pairs.r, 0.2)
    assert np.array_equal(whole.features, parts.features) and np.array_equal(whole.best, parts.best)
    assert (whole.features >= 0).any()


def find_slowly(tiny, pairs, number, tolerance):
    """The choices of one pair alone, each list with the nearest r first."""
    discovery, _ = split_values(tiny)
    signed = bool((tiny.values["b"] < 0).any())
    a, b = int(pairs.a[number]), int(pairs.b[number])
    partnered = list_partners(tiny.run, pairs.rule) | list_partners(tiny.run, "mutual")
    partnered |= set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    kept = Material(tiny.run).kept

    def distance(pair):
        r = correlate(discovery, *pair)
        return abs(abs(r) - abs(pairs.r[number])) if signed else abs(r - pairs.r[number])

    def choose(choices):
        good = [one for one in choices if one not in partnered and kept[0][one[0]] and kept[1][one[1]]]
        near = [(distance(one), one) for one in good]
        return sorted(one for one in near if one[0] <= tolerance)

    width = range(FEATURES - 1)
    return choose([(a, one) for one in width]), choose([(one, b) for one in width])


@pytest.mark.parametrize("rule", ["mutual", "best_of_a", "optimal"])
@pytest.mark.parametrize("tolerance", [0.02, 0.05, 0.3])
def test_hard_pairs_are_no_partners_and_have_the_r_of_their_pairs(world, rule, tolerance):
    pairs = choose_pairs(world.run, rule=rule, count=30)
    hard = choose_hard_pairs(world.run, pairs, tolerance=tolerance, seed=3)
    discovery, _ = split_values(world)
    signed = bool((world.values["b"] < 0).any())
    partners = list_partners(world.run, rule) | list_partners(world.run, "mutual")
    every = set().union(*(list_partners(world.run, one) for one in RULES))
    chosen = list(zip(hard.a.tolist(), hard.b.tolist(), strict=True))
    assert len(set(chosen)) == len(chosen) and not set(chosen) & partners
    assert not set(chosen) & set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    assert (np.diff(hard.pair) > 0).all() and hard.matched == len(hard) / len(pairs)
    for number, one, r, sign, kind in zip(hard.pair, chosen, hard.r, hard.sign, hard.kind, strict=True):
        assert r == pytest.approx(correlate(discovery, *one), abs=1e-6)
        strength, target = (abs(r), abs(pairs.r[number])) if signed else (r, pairs.r[number])
        assert abs(strength - target) <= tolerance + 1e-9
        assert sign == (-1 if signed and r < 0 else 1)
        same = one[0] == pairs.a[number], one[1] == pairs.b[number]
        assert kind == {(True, False): "same a", (False, True): "same b", (False, False): "other"}[same]
        assert kind != "other" or one not in every
    taken = set(chosen)
    for number in set(range(len(pairs))) - set(hard.pair.tolist()):
        of_a, of_b = find_slowly(world, pairs, number, tolerance - 1e-6)
        assert {one for _, one in of_a + of_b} <= taken


@pytest.mark.parametrize("number", range(6))
def test_a_pair_alone_gets_the_nearest_with_its_own_feature(world, number):
    every = choose_pairs(world.run, count=30)
    one = np.array([number])
    pairs = Pairs(every.a[one], every.b[one], every.r[one], every.r_heldout[one], every.sign[one], every.rule)
    hard = choose_hard_pairs(world.run, pairs, tolerance=0.25)
    of_a, of_b = find_slowly(world, pairs, 0, 0.25)
    expected = (of_a or of_b)[0][1] if of_a or of_b else None
    if expected:
        assert (hard.a[0], hard.b[0]) == expected and hard.kind == ("same a" if of_a else "same b",)
    else:
        assert not len(hard) or hard.kind == ("other",)


def test_the_next_best_has_the_greatest_r_but_for_the_partner(world):
    pairs = choose_pairs(world.run, count=12)
    hard = choose_hard_pairs(world.run, pairs)
    discovery, _ = split_values(world)
    signed = bool((world.values["b"] < 0).any())
    kept = Material(world.run).kept[1]
    for a, b, found, sign in zip(pairs.a, pairs.b, hard.next_best, hard.next_best_sign, strict=True):
        r = {one: correlate(discovery, a, one) for one in np.flatnonzero(kept) if one != b}
        strengths = {one: abs(value) if signed else value for one, value in r.items()}
        assert found == max(strengths, key=strengths.__getitem__)
        assert sign == (-1 if signed and r[found] < 0 else 1)


def test_pairs_that_nothing_resembles_have_no_hard_pair(tmp_path):
    run = build_run(tmp_path / "run", values=plant_values, pairing=SETTINGS).run
    pairs = choose_pairs(run, count=10)
    hard = choose_hard_pairs(run, pairs, tolerance=0.05)
    assert pairs.r.min() > 0.8 and hard.matched == len(hard) == 0 and hard.kind == ()
    assert choose_hard_pairs(run, pairs, tolerance=1.0).matched == 1


def test_a_named_pair_that_is_constant_on_the_discovery_half_has_no_hard_pair(tmp_path):
    texts = make_texts()
    discovery = Material(build_run(tmp_path / "first", texts, pairing=SETTINGS).run).choice.discovery

    def plant(spelled):
        values = plant_families(spelled)
        values["a"][:, DEAD] = np.where(discovery, 0, 1)
        return values

    run = build_run(tmp_path / "run", texts, values=plant, pairing=SETTINGS).run
    pairs = choose_pairs(run, features=[(DEAD, 3), (1, 2)])
    hard = choose_hard_pairs(run, pairs, tolerance=0.5)
    assert np.isnan(pairs.r[0]) and np.isfinite(pairs.r[1]) and pairs.sign.tolist() == [1, 1]
    assert hard.pair.tolist() == [1] and hard.next_best[0] == -1


def test_live_features_resemble_those_of_the_pairs(world):
    run, firings = world.run, (world.values["b"] != 0).sum(axis=0)
    norms = np.ones(FEATURES)
    paired = np.argsort(firings)[-8:].astype(np.int32)
    live = choose_live(run, paired[:4], 4, 0, norms=norms)
    assert len(set(live.tolist())) == 4 and not set(live.tolist()) & set(paired[:4].tolist())
    logs = np.log(np.maximum(firings, 1))
    others = np.setdiff1d(np.arange(DEAD), paired[:4])
    assert logs[live].mean() > logs[others].mean() + 0.3
    rare = np.argsort(np.where(firings > 0, firings, 10**9))[:3].astype(np.int32)
    assert logs[choose_live(run, rare, 3, 0, norms=norms)].mean() < logs[others].mean()


def test_live_features_are_those_of_a_slow_search_and_norms_count(world):
    firings = (world.values["b"] != 0).sum(axis=0)
    norms = np.random.default_rng(0).uniform(0.1, 3, FEATURES)
    paired = np.array([4, 9, 17], dtype=np.int32)
    found = choose_live(world.run, paired, 9, 5, norms=norms)
    alive = [one for one in range(FEATURES) if firings[one]]
    traits = {one: (np.log(firings[one]), np.log(norms[one])) for one in alive}
    spread = np.std([traits[one] for one in alive], axis=0)
    order, free, expected = np.random.default_rng(5).permutation(3), set(alive) - set(paired.tolist()), []
    for turn in range(9):
        own = np.array(traits[int(paired[order[turn % 3]])])
        expected.append(min(free, key=lambda one: (((np.array(traits[one]) - own) / spread) ** 2).sum()))
        free.remove(expected[-1])
    assert found.tolist() == expected
    assert found.tolist() != choose_live(world.run, paired, 9, 5, norms=np.ones(FEATURES)).tolist()


def test_no_more_live_features_come_than_there_are(world):
    found = choose_live(world.run, np.array([1, 2], dtype=np.int32), 500, 0, norms=np.ones(FEATURES))
    assert sorted(found.tolist()) == [0, *range(3, DEAD)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "nearest"}, "rule of pairing 'nearest' is not known"),
        ({"count": 2}, "2 pairs were asked for"),
        ({"features": [(0, FEATURES)]}, f"feature {FEATURES} of b was asked for: there are 0 to 35"),
        ({"features": [(-1, 0)]}, "feature -1 of a was asked for"),
        ({"features": [(DEAD, 0)]}, f"feature {DEAD} of a never fires"),
        ({"features": [(0, DEAD)]}, f"feature {DEAD} of b never fires"),
        ({"features": [(1, 2), (3, 4), (1, 2)]}, "pair 1:2 was named twice"),
    ],
)
def test_pairs_that_cannot_be_are_refused(world, changes, message):
    with pytest.raises(InputError, match=message):
        choose_pairs(world.run, **changes)


def test_too_few_pairs_are_refused(tmp_path):
    def plant(spelled):
        values = plant_families(spelled)
        for side in "ab":
            values[side][:, 2:] = 0
        return values

    run = build_run(tmp_path / "run", values=plant, pairing=SETTINGS).run
    with pytest.raises(InputError, match=r"has [12] pairs under the rule optimal .* at least 3"):
        choose_pairs(run, rule="optimal")


def test_a_sweep_is_refused(tmp_path):
    run = build_run(tmp_path / "run", pairing=SETTINGS).run
    (run.path / "pairs.parquet").unlink()
    (run.path / "sweep.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match="holds a sweep, which has no pairs to steer"):
        choose_pairs(run)


@pytest.mark.parametrize(("features", "count"), [([], 3), ([1], -1), ([FEATURES], 2)])
def test_live_features_that_cannot_be_are_refused(world, features, count):
    with pytest.raises(InputError, match="asked for"):
        choose_live(world.run, np.array(features, dtype=np.int32), count, 0, norms=np.ones(FEATURES))


@pytest.mark.parametrize("tolerance", [-0.1, 1.5, float("nan")])
def test_a_tolerance_that_is_none_is_refused(world, tolerance):
    with pytest.raises(InputError, match="tolerance of r"):
        choose_hard_pairs(world.run, choose_pairs(world.run), tolerance=tolerance)
