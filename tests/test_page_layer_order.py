"""The page says that deeper layers go with deeper ones only where a test over enough depths says so."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tests.test_page_layers import make_sweep
from xmodel.report.page import layer_order
from xmodel.report.page.layer_order import find_depth, measure_order, tell_order
from xmodel.report.page.layers import build_layers

VALUES = st.lists(st.integers(0, 4), min_size=2, max_size=6).filter(lambda own: len(set(own)) > 1)
SITE = "blocks.{}.hook_resid_post"


def count_rises(values):
    return sum((b > a) - (b < a) for a, b in itertools.combinations(values, 2))


@given(VALUES)
def test_an_order_is_held_against_all_orders(values):
    found = measure_order(values)
    orders = list(itertools.permutations(values))
    assert found.exact and found.orders == len(orders) == math.factorial(len(values))
    reached = sum(count_rises(order) >= count_rises(values) for order in orders)
    assert found.p == pytest.approx(reached / len(orders))
    assert found.tau == pytest.approx(kendalltau(np.arange(len(values)), values).statistic)


@given(VALUES)
def test_turning_values_round_turns_tau_round(values):
    there, back = measure_order(values), measure_order(values[::-1])
    assert there.tau == pytest.approx(-back.tau)
    # Of the two one-sided p the observed order belongs to both.
    assert there.p + back.p > 1 or math.isclose(there.p + back.p, 1)


def test_drawn_orders_come_close_to_all(monkeypatch):
    values = [0, 2, 1, 3, 3, 5, 4]
    whole = measure_order(values)
    monkeypatch.setattr(layer_order, "MOST_EXACT", 3)
    drawn = measure_order(values)
    assert not drawn.exact and drawn.orders == 9_999 and drawn.tau == whole.tau
    # Five standard errors of a share among the orders that were drawn.
    assert abs(drawn.p - whole.p) < 5 * math.sqrt(whole.p / drawn.orders) + 1 / drawn.orders
    assert measure_order(list(range(12))).p == 1 / 10_000


def tell(cells, sites_a=None, sites_b=None):
    """What is told of cells (place of A, place of B): how far above chance."""
    own = {f"a{n}": site for n, site in enumerate(sites_a or [SITE.format(n) for n in range(9)])}
    own |= {f"b{n}": site for n, site in enumerate(sites_b or [SITE.format(n) for n in range(9)])}
    above = {(f"a{a}", f"b{b}"): value for (a, b), value in cells.items()}
    return tell_order(above, own, {letter: letter for letter in own})


@pytest.mark.parametrize(
    ("best", "said"),
    [
        ([0, 1, 2, 3], "Deeper goes with deeper: Kendall's tau 1.00, one-sided p 0.042 over all 24 orders"),
        ([0, 0, 1, 2, 2], "Deeper goes with deeper: Kendall's tau 0.89, one-sided p 0.033 over all 120"),
        ([0, 2, 1, 3], "That deeper goes with deeper is not shown: Kendall's tau 0.67, one-sided p 0.167"),
        ([3, 2, 1, 0], "is not shown: Kendall's tau -1.00, one-sided p 1.000"),
        ([0, 1, 2], None),
        ([1, 1, 1, 1], None),
    ],
)
def test_an_order_is_told_only_where_enough_depths_can_tell(best, said):
    told = tell({(a, b): 0.5 for a, b in enumerate(best)})
    assert f"{', '.join(f'a{a} – b{b}' for a, b in enumerate(best))}." in told
    assert "tau" not in told if said is None else said in told
    assert ("Deeper goes" in told) == (said is not None and said.startswith("Deeper"))


def test_a_depth_counts_once_whatever_its_widths_are():
    # Three depths of A with two widths each, although named one after the other, are three depths.
    sites = [SITE.format(n // 2) for n in range(6)]
    cells = {(n, n // 2): 0.1 + (n % 2) / 10 for n in range(6)}
    assert tell(cells, sites) == (
        " Of the cells beyond chance, farthest above it for each layer of A: a1 – b0, a3 – b1, a5 – b2."
    )
    cells = {(n, b): 0.5 - abs(n - b) / 10 for n in range(4) for b in range(4)}
    assert "a0 – b0, a1 – b1, a2 – b2, a3 – b3" in tell(cells)


def test_places_within_a_block_are_depths_too():
    kinds = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
    sites = [f"blocks.2.{kind}" for kind in kinds] + ["blocks.3.hook_resid_post"]
    assert sorted(sites, key=find_depth) == sites
    cells = {(n, n): 0.5 for n in range(4)}
    assert "tau 1.00" in tell(cells, sites, sites)
    assert "tau -1.00" in tell(cells, sites, sites[::-1])


def test_fewer_than_two_depths_are_not_listed():
    assert tell({}) == tell({(3, 4): 0.2}) == ""


@pytest.mark.parametrize("clear", [4, 3, 1])
def test_only_cells_beyond_chance_count_and_are_sorted_by_depth(tmp_path, clear):
    blocks_a, blocks_b = [4, 0, 2, 6], [5, 1, 3, 7]
    # Layers were named out of order; what is planted is planted by depth.
    own_a, own_b = np.argsort(blocks_a), np.argsort(blocks_b)
    values, p = np.full((2, 4, 4), 0.3), np.full((2, 4, 4), 0.9)
    values[:, own_a, own_b] = 0.8
    p[:, own_a[:clear], own_b[:clear]] = 0.0001
    # Farther above chance than all others, and yet not beyond it.
    values[:, own_a[0], own_b[3]] = 0.95
    part = build_layers(make_sweep(tmp_path / "g", values, blocks_a=blocks_a, blocks_b=blocks_b, p=p))
    for figure in part.figures:
        assert ("tau 1.00, one-sided p 0.042" in figure.caption) == (clear == 4)
        pairs = ", ".join(f"block {2 * n} – block {2 * n + 1}" for n in range(clear))
        assert (f"each layer of A: {pairs}." in figure.caption) == (clear > 1)
