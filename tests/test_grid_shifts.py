"""Cells against shifts: features that share partners, a floor that chance does not reach, signed features."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from tests.grid_worlds import densify, make_twins
from xmodel.pairing.settings import PairSettings
from xmodel.records import WordFeatures
from xmodel.similarity.grid_cells import draw_grid_shifts, pair_cell, score_cell, shift_cell
from xmodel.similarity.grids import SweepSettings, correct_shifted
from xmodel.similarity.metrics import parse_metric

PAIRING = PairSettings(min_firings=5, workers=1)
SETTINGS = SweepSettings(metrics=("cka_debiased", "rsa"), rule="best_of_a", permutations=19)
LENGTHS = np.full(8, 75)
SIGNS = np.array([-1, 1], np.float32)


def correlate(first, second, order=None):
    """[F_A, F_B] r on the discovery half by the textbook, B's words in another order; -1 where left out."""
    x, y = (densify(side.discovery) for side in (first, second))
    y = y if order is None else y[order]
    x, y = x - x.mean(0), y - y.mean(0)
    lengths = np.linalg.norm(x, axis=0)[:, None] * np.linalg.norm(y, axis=0)
    r = np.divide(x.T @ y, lengths, out=np.zeros(lengths.shape), where=lengths > 0)
    r[~first.kept], r[:, ~second.kept] = -1, -1
    return r


def pair_plainly(r, floor=0.0):
    """The best partner of each A, of the A's with one partner only the best; best r first."""
    best = sorted((-r[a].max(), a, int(r[a].argmax())) for a in range(len(r)) if r[a].max() > floor)
    taken, pairs = set(), []
    for _, a, b in best:
        if b not in taken:
            taken.add(b)
            pairs.append((a, b))
    return pairs


def measure(first, second, pairs):
    a, b = np.array(pairs).T
    return parse_metric("cka_debiased").prepare(first.decoder[a], second.decoder[b]).value


def turn_features(layer, sign):
    """The same dictionary, some of whose features point the other way and fire with the other sign."""
    halves = {
        half: WordFeatures(own.indptr, own.indices, own.values * sign[own.indices], own.features)
        for half, own in (("discovery", layer.discovery), ("heldout", layer.heldout))
    }
    return replace(layer, **halves, decoder=layer.decoder * sign[:, None], signed=True)


def test_one_pair_of_each_shared_feature_is_measured_and_chance_gets_no_more():
    first, second = make_twins(related=True)
    picky = replace(PAIRING, floor=0.65)
    shared = pair_cell(first, second, SETTINGS, picky)
    pairs = pair_plainly(correlate(first, second), picky.floor)
    assert 10 < len(pairs) < len(shared)
    shifts = draw_grid_shifts(LENGTHS, LENGTHS, 5, 1)
    cell = shift_cell(first, second, SETTINGS, picky, shifts)
    assert {row.n for row in cell.rows} == {len(pairs)}
    assert cell.rows[0].value == pytest.approx(measure(first, second, pairs), abs=1e-9)
    for number in range(len(shifts)):
        chance = pair_plainly(correlate(first, second, shifts.order(number)[0]))
        assert len(chance) > len(pairs)
        value = measure(first, second, chance[: len(pairs)])
        assert cell.nulls[0][number] == pytest.approx(value, abs=1e-9)


def test_shared_partners_alone_are_not_similarity():
    """Twins of A resemble each other and share a partner; with B's vectors unrelated this must not count."""
    worlds, found = 60, []
    for seed in range(worlds):
        shifts = draw_grid_shifts(LENGTHS, LENGTHS, 19, seed)
        rows = correct_shifted([shift_cell(*make_twins(seed), SETTINGS, PAIRING, shifts)])
        found.append([row.p for row in rows])
    rejected = (np.array(found) <= 0.05).sum(axis=0)
    # The last is the mean held-out r: the features do fire together.
    assert (rejected[:-1] <= binom.isf(1e-4, worlds, 0.05)).all()
    assert rejected[-1] == worlds


def test_related_vectors_are_still_found_beside_twins():
    first, second = make_twins(related=True)
    cell = shift_cell(first, second, SETTINGS, PAIRING, draw_grid_shifts(LENGTHS, LENGTHS, 39, 0))
    assert all(row.p == 1 / 40 for row in correct_shifted([cell]))


@pytest.mark.parametrize("rule", ["best_of_a", "mutual", "one_to_one", "optimal"])
def test_a_floor_above_all_chance_leaves_chance_its_pairs(rule):
    first, second = make_twins(related=True, miss=0.1)
    settings, picky = replace(SETTINGS, rule=rule), replace(PAIRING, floor=0.7)
    shifts = draw_grid_shifts(LENGTHS, LENGTHS, 19, 0)
    order, _ = shifts.order(0)
    assert correlate(first, second, order).max() < picky.floor
    for row in correct_shifted([shift_cell(first, second, settings, picky, shifts)]):
        assert row.warning is None and row.p == 0.05
        assert row.n == len(pair_plainly(correlate(first, second), picky.floor))


@pytest.mark.parametrize("rule", ["mutual", "best_of_a", "best_of_b"])
def test_vectors_of_signed_features_are_compared_with_the_sign_of_r(rule):
    settings = replace(SETTINGS, rule=rule)
    rng = np.random.default_rng(0)
    first, second = (
        turn_features(own, rng.choice(SIGNS, own.features)) for own in make_twins(related=True, miss=0.1)
    )
    matches = pair_cell(first, second, settings, PAIRING)
    assert 10 < (matches.r < 0).sum() < len(matches) - 10
    sign = np.sign(matches.r)[:, None]
    plain = x, y = first.decoder[matches.a], second.decoder[matches.b]
    x, y = (x * sign, y) if len(set(matches.b.tolist())) < len(matches) else (x, y * sign)
    for row in score_cell(first, second, settings, PAIRING)[:-1]:
        value = parse_metric(row.metric).prepare(x, y).value
        assert row.value == pytest.approx(value, abs=1e-6)
        assert abs(row.value - parse_metric(row.metric).prepare(*plain).value) > 0.01


@pytest.mark.parametrize("rule", ["mutual", "best_of_a", "best_of_b", "one_to_one"])
def test_which_way_a_signed_feature_points_changes_nothing(rule):
    settings = replace(SETTINGS, rule=rule)
    first, second = (
        turn_features(own, np.ones(own.features, np.float32)) for own in make_twins(related=True)
    )
    turned = turn_features(second, np.random.default_rng(1).choice(SIGNS, second.features))
    shifts = draw_grid_shifts(LENGTHS, LENGTHS, 9, 0)
    plain, other = (shift_cell(first, own, settings, PAIRING, shifts) for own in (second, turned))
    assert [row.value for row in plain.rows] == pytest.approx([row.value for row in other.rows], abs=1e-9)
    np.testing.assert_allclose(plain.nulls, other.nulls, atol=1e-9)
    rows = [score_cell(first, own, replace(settings, rule="mutual"), PAIRING) for own in (second, turned)]
    assert [row.value for row in rows[0]] == pytest.approx([row.value for row in rows[1]], abs=1e-9)
    assert [row.p for row in rows[0]] == [row.p for row in rows[1]]
