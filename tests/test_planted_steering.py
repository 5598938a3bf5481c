"""Steering where the truth is known: found where planted, and the selfcheck fails on broken statistics."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from xmodel.errors import InputError
from xmodel.models.structure import find_decoder
from xmodel.report.selfcheck import render_selfcheck
from xmodel.similarity import selfcheck as scoring
from xmodel.similarity.checks import bound_count
from xmodel.steering import measuring, planted_transfers, responses, selfcheck
from xmodel.steering.planted import PlantedSize, load_material, plant_comparison
from xmodel.steering.planted_transfers import LEVELS, make_identity, measure_comparison, respond
from xmodel.steering.selfcheck import Scope, check_steering, judge_steering

SIZE = PlantedSize(features=12, words=40, passages=3, draws=2)
SCOPE = Scope(comparisons=2, size=SIZE)
CHECKS = {
    f"steer/{name}"
    for name in (
        "identity",
        "retrieval",
        "auroc",
        "falling",
        "damaged",
        "reinitialised",
        "excess",
        "no_excess",
        "wrong_excess",
        "unpaired",
        "power",
        "type_1",
        "words_alone",
        "copy_kept",
        "raw",
        "odd",
    )
}


@pytest.fixture(scope="module")
def material():
    return load_material()


@pytest.fixture(scope="module")
def found():
    told = []
    result = check_steering(3, SCOPE, lambda *one: told.append(one))
    assert told == [("steering", done, 2) for done in range(3)]
    return result


@pytest.fixture
def compare(material, monkeypatch):
    """Measure and judge one comparison, by a program that the test has broken; tells which checks fail."""

    def measure() -> set[str]:
        measured = [measure_comparison(plant_comparison(material, 11, SIZE))]
        return {
            one["name"].removeprefix("steer/") for one in judge_steering(measured, SIZE) if not one["passed"]
        }

    return measure


def test_a_sound_program_finds_what_is_planted_and_nothing_else(found):
    assert {one["name"] for one in found["checks"]} == CHECKS
    assert [one["name"] for one in found["checks"] if not one["passed"]] == []
    for check in found["checks"]:
        assert check["value"] == check["count"] / check["of"]
        assert ("at_least" in check) != ("at_most" in check)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    noise = [one["noise"] for one in found["levels"]]
    assert noise == [*LEVELS, None]
    least, half, one, *nothing = (level["transfer"] for level in found["levels"])
    assert 1 > least > 0.8 > half > 0.4 > one > 0.1 > max(map(abs, nothing))
    many = judge_steering(found["comparisons"] * 4, SIZE)
    assert {one["name"] for one in many} == {*CHECKS, "steer/mean_alone"}
    assert all(one["passed"] for one in many)
    with pytest.raises(InputError, match="seed"):
        selfcheck.run_selfcheck(-1)


def test_a_copy_without_damage_transfers_perfectly_and_layers_that_do_nothing_give_exactly_nothing(material):
    world = plant_comparison(material, 5, SIZE)
    first = respond(world, None, world.paired)
    start = 3
    copies = find_decoder(world.model.module).blocks[start:]
    again = respond(world, torch.nn.ModuleList(copies), world.paired)
    assert np.array_equal(first.odd, again.odd) and np.array_equal(first.even, again.even)
    assert np.abs(first.odd).max() > 0
    nothing = respond(world, make_identity(world), world.paired)
    assert not nothing.odd.any() and not nothing.even.any()
    kept = respond(world, make_identity(world), world.paired, keep_copy=True)
    assert (np.abs(kept.odd).max(axis=-1) > 0).all()


def test_words_end_where_the_next_begins_and_features_are_all_different(material):
    world = plant_comparison(material, 2, SIZE)
    assert world.ids.shape == (3, 32) and len(world.rows) == len(world.columns) == 40
    assert len({*zip(world.rows.tolist(), world.columns.tolist(), strict=True)}) == 40
    assert world.columns.min() >= 1
    assert material.spaced[world.ids[world.rows, world.columns + 1]].all()
    assert material.spaced[world.ids[:, 0]].all()
    directions = np.concatenate([world.paired, world.wrong, world.live])
    assert directions.shape == (12 + 12 + 19, 160)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    assert len(np.unique(directions, axis=0)) == len(directions)
    again = plant_comparison(material, 2, SIZE)
    assert np.array_equal(again.ids, world.ids) and np.array_equal(again.paired, world.paired)
    assert not np.array_equal(plant_comparison(material, 3, SIZE).ids, world.ids)
    with pytest.raises(InputError, match=r"334 words each"):
        plant_comparison(material, 2, replace(SIZE, words=1000))
    with pytest.raises(InputError, match=r"features were asked for"):
        plant_comparison(material, 2, replace(SIZE, features=2000))
    # Some stretches have too few words for it; they are never drawn.
    drawn = (plant_comparison(material, seed, replace(SIZE, words=60)) for seed in range(8))
    assert all(len(own.rows) == 60 for own in drawn)


def test_leaving_the_copy_in_fails(compare, monkeypatch):
    """The statistic that finds partners without any network behind the site."""

    def read(side, make, count, keep_copy=False):
        return original(side, make, count, True)

    original = measuring.read_changes
    monkeypatch.setattr(measuring, "read_changes", read)
    assert {"identity", "reinitialised", "excess"} <= compare()


def test_raw_changes_in_place_of_odd_ones_fail(compare, monkeypatch):
    """The statistic by which damage looks like agreement."""

    def split(plus, minus, zero):
        odd, even = original(plus, minus, zero)
        return odd + even, even

    original = responses.split_response
    monkeypatch.setattr(measuring, "split_response", split)
    assert "odd" in compare()


def test_partners_mixed_up_fail(compare, monkeypatch):
    """B's responses come back in another order."""
    original = planted_transfers.compare_responses
    monkeypatch.setattr(
        planted_transfers,
        "compare_responses",
        lambda first, second: original(first, second.take(np.roll(np.arange(len(second)), 1))),
    )
    assert {"retrieval", "auroc", "power", "excess"} <= compare()


def test_layers_that_are_not_made_anew_fail(compare, monkeypatch):
    """A null that is the data themselves."""
    monkeypatch.setattr(
        planted_transfers,
        "reinitialise_blocks",
        lambda model, start, seed: find_decoder(model.module).blocks[start:],
    )
    assert {"reinitialised", "excess"} <= compare()


def test_permuted_words_as_the_only_null_fail(compare, monkeypatch):
    original = planted_transfers.test_pairs
    monkeypatch.setattr(
        planted_transfers, "test_pairs", lambda values, nulls: original(values, {"words": nulls["words"]})
    )
    assert "type_1" in compare()


def test_shared_draws_are_worth_fewer_tests():
    assert selfcheck._count_tests(10, PlantedSize(features=20, others=20)) == 100
    assert selfcheck._count_tests(1, PlantedSize(features=10**6, others=19)) == 18
    # The share of tests with p <= 1 / 20, simulated with draws that the tests of a comparison share.
    rng = np.random.default_rng(0)
    values, draws = rng.normal(size=(4000, 20)), rng.normal(size=(4000, 19))
    shares = (values > draws.max(axis=1)[:, None]).mean(axis=1)
    assert abs(shares.mean() - 0.05) < 0.005
    tests = 0.05 * 0.95 / shares.var()
    assert 0.7 < tests / selfcheck._count_tests(1, PlantedSize(features=20, others=19)) < 1.5
    assert bound_count(97, 0.001) / 97 < 0.15


def test_the_whole_selfcheck_joins_both_and_its_screen_tells_it(found, monkeypatch):
    before = {
        "passed": True,
        "checks": [{"name": "nothing_shared", "passed": True}],
        "seconds": 1.0,
        "quick": True,
    }
    monkeypatch.setattr(selfcheck.selfcheck, "run_selfcheck", lambda seed, **options: dict(before))
    monkeypatch.setattr(selfcheck, "check_steering", lambda seed, scope, report: dict(found))
    both = selfcheck.run_selfcheck(0, quick=True)
    assert both["passed"] and len(both["checks"]) == 1 + len(CHECKS) and "levels" in both["steering"]
    broken = [{**one, "passed": False} for one in found["checks"]]
    monkeypatch.setattr(selfcheck, "check_steering", lambda *given: {**found, "checks": broken})
    assert not selfcheck.run_selfcheck(0, quick=True)["passed"]


def test_the_screen_fits_its_width_and_tells_of_every_level(found, monkeypatch):
    monkeypatch.setattr(scoring, "QUICK", scoring.Scope(seeds=1, worlds=1, permutations=19))
    monkeypatch.setattr(scoring, "WORLD", replace(scoring.WORLD, words=4000, documents=40))
    rest = scoring.run_selfcheck(0, quick=True)
    whole = {**rest, "checks": rest["checks"] + found["checks"], "steering": found}
    for width in (80, 60):
        page = io.StringIO()
        Console(file=page, width=width).print(render_selfcheck(whole, width))
        assert max(map(len, page.getvalue().splitlines())) <= width
        shown = " ".join(page.getvalue().split())
        assert all(f"noise of {level:g}" in shown for level in LEVELS)
        for wanted in ("do nothing", "re-initialised", "AUROC", "permuted words", "random directions"):
            assert wanted in shown
    page = io.StringIO()
    Console(file=page, width=80).print(render_selfcheck(rest, 80))
    assert "AUROC" not in page.getvalue()
