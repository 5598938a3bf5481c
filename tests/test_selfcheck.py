"""The selfcheck: it passes on a sound program and fails on a broken one; what it counts is what it says."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binom
from typer.testing import CliRunner

from tests.test_synthetic import to_dense
from xmodel.alignment.rows import take_rows
from xmodel.cli import app
from xmodel.datasets.synthetic import PlantedSettings, plant_models
from xmodel.datasets.synthetic_training import identify_latents
from xmodel.errors import InputError
from xmodel.report.selfcheck import render_selfcheck
from xmodel.similarity import chance, recovering, selfcheck
from xmodel.similarity.chance import HARD, compare_nulls, measure_chance
from xmodel.similarity.checks import bound_count, judge
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.recovering import LEAST_R, LEAST_SNR, RULES, recover_pairs, split_planted
from xmodel.similarity.selfcheck import Scope, run_selfcheck
from xmodel.steering import selfcheck as steering

CHECKS = {
    *(f"{kind}/perfect/{rule}" for kind in ("recall", "precision", "unshared") for rule in RULES),
    "misaligned",
    "power/shuffled",
    "power/repaired",
    "nothing_shared",
    "type_1/one_to_one/repaired",
    "type_1/best_of_a/repaired",
    "type_1/one_to_one/shuffled",
    "type_1/best_of_a/grouped",
}
TINY = PlantedSettings(features_a=80, features_b=100, words=5000, documents=40, noise=0.2)


@pytest.fixture(autouse=True, scope="module")
def small():
    """Fewer and smaller simulations: enough for what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selfcheck, "QUICK", Scope(seeds=1, worlds=4, permutations=19))
        patch.setattr(selfcheck, "WORLD", TINY)
        yield


@pytest.fixture(scope="module")
def found(small):
    told = []
    result = run_selfcheck(0, quick=True, report=lambda *one: told.append(one))
    assert ("planted", 3, 3) in told and ("chance", 12, 12) in told
    return result


@pytest.fixture
def least(monkeypatch):
    """As little as shows a gross fault."""
    monkeypatch.setattr(selfcheck, "QUICK", Scope(seeds=1, worlds=1, permutations=19))


def get_check(found, name):
    (check,) = [one for one in found["checks"] if one["name"] == name]
    return check


def draw(found, width=80):
    page = io.StringIO()
    Console(file=page, width=width).print(render_selfcheck(found, width))
    return page.getvalue()


def misalign(planted):
    rows = np.roll(np.arange(len(planted.b.features)), 1)
    return replace(planted, b=replace(planted.b, features=take_rows(planted.b.features, rows)))


def test_a_sound_program_passes_and_says_of_what(found):
    assert {one["name"] for one in found["checks"]} == CHECKS
    assert found["passed"] and all(one["passed"] for one in found["checks"])
    for check in found["checks"]:
        assert check["value"] == check["count"] / check["of"]
        assert check["interval"][0] <= max(check["value"], 0) <= check["interval"][1]
        assert ("at_least" in check) != ("at_most" in check)
    for key in ("seed", "quick", "trained", "pairing", "power", "chance", "settings", "seconds"):
        assert key in found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {one["arrangement"] for one in found["pairing"]} == {"isotropic", "clustered", "circular"}
    assert len(found["power"]) == 3 * 2 * 4 and all(0 < one["p"] <= 1 for one in found["power"])


def test_equal_seeds_give_equal_results(least):
    first, again, other = (run_selfcheck(seed, quick=True) for seed in (2, 2, 3))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert other["pairing"] != first["pairing"]


def test_misaligned_words_fail(least, monkeypatch):
    """A fault in alignment that gives every word its neighbour's features."""
    monkeypatch.setattr(selfcheck, "plant_models", lambda settings: misalign(plant_models(settings)))
    broken = run_selfcheck(0, quick=True)
    assert not broken["passed"]
    check = get_check(broken, "recall/perfect/one_to_one")
    assert not check["passed"] and check["value"] < 0.05
    assert not get_check(broken, "power/repaired")["passed"]
    assert "FAILED" in draw(broken)


def test_pairing_that_trusts_anything_fails(least, monkeypatch):
    monkeypatch.setattr(recovering, "LEAST_R", -1.0)
    monkeypatch.setattr(recovering, "LEVEL", math.inf)
    broken = run_selfcheck(0, quick=True)
    for name in ("precision/perfect/one_to_one", "unshared/perfect/optimal", "misaligned", "nothing_shared"):
        assert not get_check(broken, name)["passed"], name


def test_partners_mixed_up_fail(least, monkeypatch):
    """Right features, wrong partners."""

    def pair(self, order_b=None, *, rows=None, rules=selfcheck.RULES):
        found = original(self, order_b, rows=rows, rules=rules)
        return {rule: replace(one, b=np.roll(one.b, 1)) for rule, one in found.items()}

    original = recovering.Repairer.pair
    monkeypatch.setattr(recovering.Repairer, "pair", pair)
    broken = run_selfcheck(0, quick=True)
    assert not get_check(broken, "recall/perfect/one_to_one")["passed"]


def test_a_null_that_is_too_weak_fails(monkeypatch):
    """Tests that find every space similar to every other."""

    def compare(*arguments):
        return dict.fromkeys(original(*arguments), 0.05)

    original = chance.compare_nulls
    monkeypatch.setattr(chance, "compare_nulls", compare)
    broken = run_selfcheck(0, quick=True)
    failed = {one["name"] for one in broken["checks"] if not one["passed"]}
    assert {"type_1/one_to_one/repaired", "type_1/best_of_a/repaired"} <= failed


def test_shifts_that_do_not_shift_fail(least, monkeypatch):
    """A null that is the data themselves: nothing is ever more similar than it."""
    monkeypatch.setattr(
        chance,
        "draw_shifts",
        lambda lengths, count, rng: np.tile(np.arange(lengths.sum()), (count, 1)),
    )
    broken = run_selfcheck(0, quick=True)
    assert not get_check(broken, "power/repaired")["passed"]
    assert get_check(broken, "power/shuffled")["passed"]


def correlate(x, y):
    return float(np.corrcoef(x, y)[0, 1]) if x.std() and y.std() else 0.0


def test_pairs_are_judged_as_plain_arithmetic_judges_them():
    planted = plant_models(replace(TINY, words=3000, noise=0.35))
    halves = split_planted(planted)
    held = [to_dense(side) for side in halves.heldout]
    found_a = to_dense(halves.discovery.a)
    assert len(held[0]) + len(found_a) == 3000 and len(held[0]) == len(held[1])
    assert halves.lengths.sum() == len(found_a)
    frequent = [(to_dense(side) != 0).sum(axis=0) >= 10 for side in (halves.discovery.a, halves.discovery.b)]
    true = {tuple(pair) for pair in planted.pairs.tolist()}
    for judged in recover_pairs(halves).values():
        pairs = list(zip(judged.matches.a.tolist(), judged.matches.b.tolist(), strict=True))
        r = [correlate(held[0][:, a], held[1][:, b]) for a, b in pairs]
        assert np.allclose(judged.r, r, atol=1e-9)
        assert judged.true.tolist() == [pair in true for pair in pairs] and judged.known.all()
        assert (judged.r[judged.confident] >= LEAST_R).all()
        findable = [
            tuple(pair)
            for pair, snr in zip(planted.pairs.tolist(), planted.snr, strict=True)
            if snr >= LEAST_SNR and frequent[0][pair[0]] and frequent[1][pair[1]]
        ]
        confident = {pair for pair, own in zip(pairs, judged.confident, strict=True) if own}
        assert judged.findable == len(findable) and judged.found == len(confident & set(findable))
        unshared = [
            [f for f in np.flatnonzero(own).tolist() if f not in planted.pairs[:, side]]
            for side, own in enumerate(frequent)
        ]
        assert judged.unshared == sum(map(len, unshared))
        mixed = sum(pair[side] in unshared[side] for pair in confident for side in (0, 1))
        assert judged.unshared_confident == mixed


@pytest.mark.parametrize("arrangement", ["isotropic", "clustered", "circular"])
def test_planted_pairs_are_found_and_nothing_is_found_where_nothing_is(arrangement):
    planted = plant_models(PlantedSettings(arrangement=arrangement, words=12000, noise=0.2, seed=5))
    for rule, own in recover_pairs(split_planted(planted)).items():
        assert own.found >= 0.95 * own.findable >= 0.95 * 120, rule
        assert own.true[own.confident].mean() >= 0.95 and own.unshared_confident <= 2
    nothing = plant_models(PlantedSettings(arrangement=arrangement, words=12000, shared=0.0, seed=5))
    (own,) = recover_pairs(split_planted(nothing), ("one_to_one",)).values()
    assert len(own.r) > 200 and own.confident.sum() <= 1
    assert own.findable == own.found == 0


def test_repaired_nulls_see_what_is_shared_and_all_five_are_there():
    halves = split_planted(plant_models(PlantedSettings(**{**HARD, "shared": 0.5}, arrangement="circular")))
    found = halves.discovery.pair(rules=("one_to_one", "best_of_a"))
    metrics = [parse_metric("cka_debiased"), parse_metric("rsa")]
    p = compare_nulls(halves, found, metrics, 19, 0)
    assert len(p) == 2 * len(chance.NULLS) and max(p.values()) == 0.05
    counted = measure_chance("clustered", 2, 3)
    assert counted.worlds == 2 and counted.pairs > 150
    assert all(0 <= count <= 2 for count in counted.rejected.values())


def test_naive_shuffles_of_many_to_one_pairs_inflate_and_pairing_again_does_not():
    counted = measure_chance("clustered", 24, 11)
    naive, grouped, ours = (
        counted.rejected["best_of_a", null, "cka_debiased"] for null in ("shuffled", "grouped", "repaired")
    )
    # At a true 5 % of 24, more than 5 come in one of 200 cases.
    assert naive >= 7 and ours <= 5 and grouped < naive
    (check,) = selfcheck._judge_naive([counted], ["cka_debiased"])
    assert check["name"] == "inflation_seen" and check["passed"]
    fooled = replace(counted, rejected={key: naive for key in counted.rejected})
    (check,) = selfcheck._judge_naive([fooled], ["cka_debiased"])
    assert not check["passed"]


@pytest.mark.parametrize("worlds", [5, 27, 96])
@pytest.mark.parametrize("level", [0.05, 1e-3, 6e-5])
def test_the_most_rejections_are_those_of_the_binomial_law(worlds, level):
    assert bound_count(worlds, level) == binom.isf(level, worlds, 0.05)


def test_nothing_to_judge_by_is_no_pass():
    check = judge("recall", [], "found", "findable", at_least=0.0)
    assert not check["passed"] and check["value"] is None


def test_latents_are_told_apart_by_their_directions():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(12, 20))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    order = rng.permutation(12)
    decoder = directions[order]
    decoder[3] = -decoder[3]
    expected = np.arange(100, 112)[order]
    expected[3] = -1
    assert np.array_equal(identify_latents(decoder, directions, np.arange(100, 112)), expected)


def test_trained_saes_learn_what_is_planted_and_pairs_of_it_are_found():
    small = {"features_a": 40, "features_b": 48, "width_a": 32, "width_b": 40, "highest": 0.15}
    settings = replace(selfcheck.TRAINED, **small, exponent=0.6, words=5000)
    planted = plant_models(settings)
    assert len(planted.pairs) >= 0.6 * settings.shared_features
    for side in (planted.a, planted.b):
        assert (side.concepts >= 0).mean() > 0.7
        assert np.isnan(side.snr[side.concepts < 0]).all() and np.nanmedian(side.snr) > 1
        assert np.allclose(np.linalg.norm(side.decoder, axis=1), 1, atol=1e-5)
    (own,) = recover_pairs(split_planted(planted), ("one_to_one",)).values()
    assert own.found >= 0.9 * own.findable > 0
    known = own.confident & own.known
    assert own.true[known].mean() >= 0.8
    brief = replace(settings, training_tokens=5000)
    first, again = (plant_models(brief).b for _ in range(2))
    assert np.array_equal(first.decoder, again.decoder)
    assert np.array_equal(first.features.values, again.features.values)


def test_the_screen_fits_its_width_and_tells_all(found):
    for width in (80, 60):
        lines = draw(found, width).splitlines()
        assert max(map(len, lines)) <= width
    shown = draw(found)
    for wanted in ("truth from chance", "one to one", "scattered", "clusters", "rings", "naively", "ok"):
        assert wanted in shown
    assert (
        draw(
            {**found, "passed": False, "checks": [{**one, "passed": False} for one in found["checks"]]}
        ).count("FAILED")
        > 8
    )


def test_the_command_prints_a_screen_or_json_and_its_code_says_whether_it_passed(found, monkeypatch):
    monkeypatch.setattr(steering, "run_selfcheck", lambda *arguments, **options: {**found, "passed": True})
    shown = CliRunner().invoke(app, ["selfcheck", "--quick"])
    assert shown.exit_code == 0 and "truth from chance" in shown.stdout
    shown = CliRunner().invoke(app, ["selfcheck", "--quick", "--json"])
    assert json.loads(shown.stdout)["checks"] == found["checks"]
    monkeypatch.setattr(steering, "run_selfcheck", lambda *arguments, **options: {**found, "passed": False})
    assert CliRunner().invoke(app, ["selfcheck"]).exit_code == 1


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed"):
        run_selfcheck(-1)
