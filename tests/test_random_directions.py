"""Random directions: of length 1, and pointing anywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodel.errors import InputError
from xmodel.steering.random_directions import draw_directions


@given(count=st.integers(0, 20), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_rows_are_unit_vectors_and_the_first_of_many_are_those_of_fewer(count, width, seed):
    rows = draw_directions(count, width, seed)
    assert rows.shape == (count, width) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.array_equal(draw_directions(count + 3, width, seed)[:count], rows)


def test_directions_point_anywhere_alike():
    count, width = 40_000, 6
    rows = draw_directions(count, width, 0).astype(np.float64)
    # The mean of n unit vectors has d components of variance 1 / (n d) each.
    assert np.abs(rows.mean(axis=0)).max() < 5 / np.sqrt(count * width)
    np.testing.assert_allclose(rows.T @ rows / count, np.eye(width) / width, atol=5 / np.sqrt(count * width))
    # On a sphere the fourth moment of a coordinate is 3 / (d (d + 2)); of normed uniform numbers it is less.
    moment = (rows**4).mean()
    assert abs(moment - 3 / (width * (width + 2))) < 1e-3
    cube = np.random.default_rng(0).uniform(-1, 1, rows.shape)
    cube /= np.linalg.norm(cube, axis=1, keepdims=True)
    assert abs((cube**4).mean() - 3 / (width * (width + 2))) > 2e-3


def test_other_seeds_give_others():
    assert np.abs(draw_directions(5, 30, 0) - draw_directions(5, 30, 1)).max() > 0.1


@pytest.mark.parametrize(("count", "width"), [(-1, 4), (3, 0)])
def test_numbers_that_make_no_sense_are_refused(count, width):
    with pytest.raises(InputError, match="random directions"):
        draw_directions(count, width, 0)
