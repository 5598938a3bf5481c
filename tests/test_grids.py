"""Grids of simulated layers: values by slow formulas, corrections, and truth found where it was planted."""

from dataclasses import replace

import numpy as np
import pytest

from tests.grid_worlds import densify, make_firing, make_grid, make_layer
from xmodel.errors import InputError
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.families import adjust_bh, adjust_by, adjust_holm, adjust_max
from xmodel.similarity.grid_cells import draw_grid_shifts, pair_cell, score_cell, shift_cell
from xmodel.similarity.grids import GridRow, SweepSettings, correct_grid, correct_shifted, list_widths
from xmodel.similarity.heldout import MEAN_R, make_mean_r
from xmodel.similarity.metrics import parse_metric

PAIRING = PairSettings(min_firings=5, workers=1)
SETTINGS = SweepSettings(metrics=("cka_debiased", "rsa"), permutations=199)


def correlate(x, y):
    """[n, m] r of all columns, by the textbook; 0 where one does not vary."""
    x, y = x - x.mean(0), y - y.mean(0)
    lengths = np.linalg.norm(x, axis=0)[:, None] * np.linalg.norm(y, axis=0)
    return np.divide(x.T @ y, lengths, out=np.zeros(lengths.shape), where=lengths > 0)


def score_grid(grid, settings=SETTINGS):
    first, second = grid
    cells = [(a, b) for a in first for b in second]
    return correct_grid([row for a, b in cells for row in score_cell(a, b, settings, PAIRING, len(cells))])


def test_a_cell_is_what_plain_loops_make_of_it():
    first, second = (side[0] for side in make_grid())
    rows = {row.metric: row for row in score_cell(first, second, SETTINGS, PAIRING)}
    r = correlate(densify(first.discovery), densify(second.discovery))
    r[~first.kept], r[:, ~second.kept] = -1, -1
    pairs = [(a, b) for a, b in enumerate(r.argmax(1)) if r[a, b] > 0 and r[:, b].argmax() == a]
    held = correlate(densify(first.heldout), densify(second.heldout))
    a, b = np.array(pairs).T
    assert {row.n for row in rows.values()} == {len(pairs)}
    assert rows[MEAN_R].value == pytest.approx(np.mean([held[pair] for pair in pairs]), abs=1e-12)
    for name in ("cka_debiased", "rsa:cosine:pearson"):
        ready = parse_metric(name).prepare(first.decoder[a], second.decoder[b])
        assert rows[name].value == pytest.approx(ready.value, abs=1e-6)
    assert all(row.p == 1 / 200 and row.permutations == 199 for row in rows.values())
    assert all(row.null_mean < row.value and row.z > 3 for row in rows.values())


@pytest.mark.parametrize("signed", [False, True])
def test_the_mean_r_of_shuffled_pairs_is_that_of_loops(signed, monkeypatch):
    rng = np.random.default_rng(3)
    sign = rng.choice([-1, 1], (2, 1, 20)) if signed else 1
    firing = make_firing(300, 20, rng)
    x = make_layer("x", firing * (sign[0] if signed else 1), None, signed=signed)
    y = make_layer("y", firing * rng.uniform(0.5, 1.5, firing.shape) * (sign[1] if signed else 1), None)
    a, b = np.array([3, 5, 5, 9, 0], np.int32), np.array([2, 5, 1, 9, 9], np.int32)
    orders = np.stack([rng.permutation(5) for _ in range(7)])
    own = make_mean_r((x.heldout, y.heldout), a, b, (x.discovery, y.discovery) if signed else None)
    held = correlate(densify(x.heldout), densify(y.heldout))
    if signed:
        held *= np.sign(correlate(densify(x.discovery), densify(y.discovery)))
    expected = [np.mean([held[a[i], b[order[i]]] for i in range(5)]) for order in orders]
    np.testing.assert_allclose(own.prepare(x.decoder, y.decoder).permute(orders), expected, atol=1e-12)
    assert own.prepare(x.decoder, y.decoder).value == pytest.approx(np.mean(held[a, b]), abs=1e-12)
    monkeypatch.setattr("xmodel.similarity.heldout.HELD", 8)  # Tiles of one row, computed anew every time.
    again = make_mean_r((x.heldout, y.heldout), a, b, (x.discovery, y.discovery) if signed else None)
    np.testing.assert_allclose(again.prepare(x.decoder, y.decoder).permute(orders), expected, atol=1e-12)
    monkeypatch.setattr("xmodel.pairing.chunks.kernels", None)
    slow = make_mean_r((x.heldout, y.heldout), a, b, (x.discovery, y.discovery) if signed else None)
    np.testing.assert_allclose(slow.prepare(x.decoder, y.decoder).permute(orders), expected, atol=1e-12)


def test_the_planted_diagonal_is_found_and_nothing_else():
    for row in score_grid(make_grid()):
        planted = row.site_a == row.site_b
        assert (row.p_adjusted < 0.05) == planted, row


def test_unrelated_layers_reject_nothing():
    rows = score_grid(make_grid(3, 4, related=False))
    assert len(rows) == 3 * 4 * 3
    assert all(row.p_adjusted >= 0.05 for row in rows)
    shifts = draw_grid_shifts(np.full(8, 75), np.full(8, 75), 39, 0)
    grid = make_grid(2, 2, related=False)
    cells = [shift_cell(a, b, SETTINGS, PAIRING, shifts) for a in grid[0] for b in grid[1]]
    assert all(row.p_adjusted >= 0.05 for row in correct_shifted(cells))


def test_corrections_are_those_of_the_families_by_hand():
    rows = score_grid(make_grid())
    for metric in ("cka_debiased", "rsa:cosine:pearson", MEAN_R):
        own = [row for row in rows if row.metric == metric]
        p = np.array([row.p for row in own])
        assert len(own) == 6
        for name, adjust in (("holm", adjust_holm), ("bh", adjust_bh), ("by", adjust_by)):
            np.testing.assert_array_equal([getattr(row, f"p_{name}") for row in own], adjust(p))
        assert [row.p_adjusted for row in own] == [row.p_holm for row in own]


def test_shifts_are_shared_by_all_cells_and_corrected_by_the_largest_statistic():
    grid = make_grid(2, 2)
    shifts = draw_grid_shifts(np.full(8, 75), np.full(8, 75), 39, 1)
    ticks = []
    cells = [
        shift_cell(a, b, SETTINGS, PAIRING, shifts, lambda: ticks.append(0)) for a in grid[0] for b in grid[1]
    ]
    assert len(ticks) == 4 * 39
    rows = correct_shifted(cells)
    for place, metric in enumerate(("cka_debiased", "rsa:cosine:pearson", MEAN_R)):
        own = [row for row in rows if row.metric == metric]
        null = np.array([cell.nulls[place] for cell in cells])
        values = np.array([row.value for row in own])
        np.testing.assert_array_equal([row.p_adjusted for row in own], adjust_max(values, null))
        raw = (1 + (null >= values[:, None] - 1e-12).sum(1)) / 40
        np.testing.assert_allclose([row.p for row in own], raw)
        assert {row.correction for row in own} == {"max"}
        assert [row.p_adjusted < 0.05 for row in own] == [row.site_a == row.site_b for row in own]
    # One shift by hand: B's words moved, the pairs found anew, their vectors compared.
    first, second = grid[0][1], grid[1][1]
    order, _ = shifts.order(4)
    r = correlate(densify(first.discovery), densify(second.discovery)[order])
    pairs = [(a, b) for a, b in enumerate(r.argmax(1)) if r[a, b] > 0 and r[:, b].argmax() == a]
    a, b = np.array(pairs).T
    value = parse_metric("cka_debiased").prepare(first.decoder[a], second.decoder[b]).value
    assert cells[3].nulls[0][4] == pytest.approx(value, abs=1e-9)


def test_shared_partners_move_together():
    first, second = (side[0] for side in make_grid())
    settings = replace(SETTINGS, rule="best_of_a")
    matches = pair_cell(first, second, settings, PAIRING)
    assert len(set(matches.b.tolist())) <= len(matches)
    rows = score_cell(first, second, settings, PAIRING)
    assert {row.n for row in rows} == {len(matches)} and all(row.rule == "best_of_a" for row in rows)


def test_cells_without_enough_pairs_are_marked():
    rng = np.random.default_rng(0)
    few = make_layer("few", make_firing(600, 6, rng), rng.normal(size=(6, 4)).astype(np.float32))
    many = make_layer("many", make_firing(600, 40, rng), rng.normal(size=(40, 4)).astype(np.float32))
    for row in correct_grid(score_cell(few, many, SETTINGS, PAIRING)):
        assert row.value is None and row.p is None and row.p_adjusted is None
        assert "pairs: too few" in row.warning
    shifts = draw_grid_shifts(np.full(4, 75), np.full(4, 75), 5, 0)
    for row in correct_shifted([shift_cell(few, many, SETTINGS, PAIRING, shifts)]):
        assert row.value is None and row.p is None and "pairs: too few" in row.warning


def test_a_metric_that_cannot_be_measured_leaves_the_others():
    first, second = (side[0] for side in make_grid(features=30))
    settings = SweepSettings(metrics=("svcca:20", "cka"), permutations=19)
    rows = {row.metric: row for row in score_cell(first, second, settings, PAIRING)}
    # 12 dimensions have no 20 components.
    assert rows["svcca:20"].value is None and "20" in rows["svcca:20"].warning
    assert rows["cka"].p == 0.05 and rows[MEAN_R].p == 0.05


def test_dictionaries_without_vectors_still_have_a_mean_r():
    first, second = (side[0] for side in make_grid())
    plain = replace(first, decoder=None, missing="neurons have none")
    rows = {row.metric: row for row in score_cell(plain, second, SETTINGS, PAIRING)}
    assert rows["cka_debiased"].value is None and rows["cka_debiased"].warning == "neurons have none"
    assert rows[MEAN_R].value == score_cell(first, second, SETTINGS, PAIRING)[-1].value


def test_as_many_shuffles_as_holm_needs():
    assert SweepSettings().count_permutations(9) == 999
    assert SweepSettings().count_permutations(72) == 1439
    assert 72 / (1439 + 1) <= 0.05 < 72 / 1439
    assert SweepSettings(permutations=10).count_permutations(72) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("nonsense",)}, "nonsense"),
        ({"metrics": ("svcca", "svcca:20")}, "twice"),
        ({"rule": "best"}, "the rule of pairing came as best"),
        ({"nulls": ()}, "the null came as nothing"),
        ({"nulls": ("bootstrap",)}, "the null came as bootstrap"),
        ({"permutations": 0}, "permutations came as 0"),
        ({"shifts": 0}, "shifts came as 0"),
        ({"seed": -1}, "seed came as -1"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        SweepSettings(**options)


def test_layers_of_other_words_are_refused():
    (first, *_), _ = make_grid(words=1200)
    _, (second, *_) = make_grid(words=1000)
    with pytest.raises(InputError, match=r"a0 has 600 words in its discovery half and b0 500"):
        score_cell(first, second, SETTINGS, PAIRING)


def test_widths_are_ordered_and_only_of_one_site():
    def row(site_b, sae_b, features_b, value):
        return GridRow("s", site_b, "cka", "shuffle", "a", sae_b, 10, features_b, "mutual", 20, value=value)

    rows = [row("t", "wide", 64, 0.2), row("u", "alone", 16, 0.9), row("t", "narrow", 16, 0.4)]
    (found,) = list_widths(rows)
    assert (found["side"], found["site"], found["partner"]) == ("b", "t", "a")
    assert [(point["features"], point["value"]) for point in found["points"]] == [(16, 0.4), (64, 0.2)]
