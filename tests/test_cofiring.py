"""The hypergeometric tail against whole-number arithmetic and against SciPy."""

from fractions import Fraction
from math import comb, log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from xmodel.errors import InputError
from xmodel.pairing.cofiring import cofiring_log10_p


def measure(words: int, n_a: int, n_b: int, n_ab: int) -> float:
    return float(cofiring_log10_p(words, *(np.array([n]) for n in (n_a, n_b, n_ab)))[0])


def count_exactly(words: int, n_a: int, n_b: int, n_ab: int) -> float:
    """log10 of the tail as a fraction of whole numbers."""
    ways = sum(comb(n_a, both) * comb(words - n_a, n_b - both) for both in range(n_ab, min(n_a, n_b) + 1))
    tail = Fraction(ways, comb(words, n_b))
    return log10(tail.numerator) - log10(tail.denominator)


@st.composite
def tables(draw: st.DrawFn, most: int = 60) -> tuple[int, int, int, int]:
    words = draw(st.integers(0, most))
    n_a, n_b = draw(st.integers(0, words)), draw(st.integers(0, words))
    return words, n_a, n_b, draw(st.integers(max(0, n_a + n_b - words), min(n_a, n_b)))


@given(tables())
def test_it_is_the_fraction(table: tuple[int, int, int, int]) -> None:
    assert abs(measure(*table) - count_exactly(*table)) < 1e-11


@pytest.mark.parametrize(
    "table",
    [
        (1_000_000, 500, 600, 500),
        (1_000_000, 500, 600, 1),
        (1_000_000, 500, 600, 0),
        (10_000, 900, 800, 72),
        (10_000, 900, 800, 71),
        (100_000, 3000, 2000, 1900),
        (2000, 1000, 1000, 500),
        (2000, 1000, 1000, 420),
        (2000, 1900, 1800, 1750),
        (1_000_000, 1, 1, 1),
    ],
)
def test_extreme_tables_are_the_fraction(table: tuple[int, int, int, int]) -> None:
    expected = count_exactly(*table)
    assert abs(measure(*table) - expected) < 1e-8 + 1e-10 * abs(expected)
    assert np.isfinite(measure(*table))


def test_it_is_scipys_where_that_is_finite() -> None:
    rng = np.random.default_rng(0)
    for words in (10, 1000, 100_000):
        n_a, n_b = rng.integers(0, words + 1, (2, 300))
        fewest, most = np.maximum(0, n_a + n_b - words), np.minimum(n_a, n_b)
        n_ab = fewest + (rng.random(300) * (most - fewest + 1)).astype(np.int64)
        found = cofiring_log10_p(words, n_a, n_b, n_ab)
        expected = hypergeom.logsf(n_ab - 1, words, n_a, n_b) / np.log(10)
        finite = np.isfinite(expected)
        assert finite.mean() > 0.4
        assert np.allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-9)
        assert np.isfinite(found).all()
        assert (found <= 0).all()


def test_a_p_that_underflows_is_still_told() -> None:
    one, two = measure(10**8, 3000, 2000, 1500), measure(10**8, 3000, 2000, 1501)
    assert -7000 < two < one < -6000


@given(tables(), st.integers(1, 5))
def test_more_joint_firings_are_less_likely(table: tuple[int, int, int, int], more: int) -> None:
    words, n_a, n_b, n_ab = table
    assert measure(words, n_a, n_b, n_ab) == pytest.approx(measure(words, n_b, n_a, n_ab), abs=1e-11)
    if n_ab + more <= min(n_a, n_b):
        assert measure(words, n_a, n_b, n_ab + more) < measure(words, n_a, n_b, n_ab) + 1e-12


def test_no_pairs() -> None:
    assert cofiring_log10_p(5, *[np.zeros(0, np.int64)] * 3).shape == (0,)


@pytest.mark.parametrize("table", [(5, 6, 1, 1), (5, 2, 2, 3), (5, 4, 4, 2), (5, -1, 1, 0), (5, 2, 2, -1)])
def test_counts_that_cannot_be_are_refused(table: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="cannot be"):
        measure(*table)


def test_counts_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="as many"):
        cofiring_log10_p(5, np.ones(2, np.int64), np.ones(2, np.int64), np.ones(3, np.int64))
