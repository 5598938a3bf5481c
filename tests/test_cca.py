"""Canonical correlations against other people's programs, and how many components are kept."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA
from statsmodels.multivariate.cancorr import CanCorr

from tests.slow_metrics import canonical, centre, draw_rows, pwcca, shorten
from xmodel.errors import InputError
from xmodel.similarity.cca import prepare_svcca
from xmodel.similarity.metrics import parse_metric


def prepare(name, x, y):
    return parse_metric(name).prepare(x, y)


def test_mean_cca_is_that_of_scikit_learn():
    x, y = draw_rows(200, 4, 6, seed=1)
    model = CCA(n_components=4, scale=False, max_iter=5000, tol=1e-12).fit(x, y)
    pairs = zip(*(scores.T for scores in model.transform(x, y)), strict=True)
    r = np.array([np.corrcoef(one, two)[0, 1] for one, two in pairs])
    assert prepare("cca", x, y).value == pytest.approx(r.mean(), abs=1e-6)
    assert prepare("cca_squared", x, y).value == pytest.approx((r**2).mean(), abs=1e-6)


@pytest.mark.parametrize("shape", [(50, 7, 12), (50, 12, 7), (300, 140, 150)], ids=str)
def test_mean_cca_is_that_of_statsmodels(shape):
    x, y = draw_rows(*shape, seed=2)
    r = CanCorr(centre(x), centre(y)).cancorr
    assert prepare("cca", x, y).value == pytest.approx(r.mean(), abs=1e-9)
    assert prepare("cca_squared", x, y).value == pytest.approx((r**2).mean(), abs=1e-9)
    assert prepare("svcca:1.0", x, y).value == pytest.approx(r.mean(), abs=1e-9)


def whiten(x):
    """x's covariance to the power of -1/2."""
    values, vectors = np.linalg.eigh(np.cov(x.T))
    return vectors @ np.diag(values**-0.5) @ vectors.T


def canonical_of_covariances(x, y):
    """As in the published program: singular values of S_xx^-1/2 S_xy S_yy^-1/2."""
    covariance = np.cov(x.T, y.T)[: x.shape[1], x.shape[1] :]
    return np.linalg.svd(whiten(x) @ covariance @ whiten(y), full_matrices=False)


@pytest.mark.parametrize("kept", [1, 5, 0.9, 0.99])
def test_svcca_is_that_of_raghu(kept):
    x, y = draw_rows(80, 12, 9, seed=3)
    one, two = shorten(x, kept), shorten(y, kept)
    found = prepare(f"svcca:{kept}", x, y)
    assert found.kept == (one.shape[1], two.shape[1])
    r = abs(np.corrcoef(one.T, two.T)[:1, 1:]) if kept == 1 else canonical_of_covariances(one, two)[1]
    assert found.value == pytest.approx(r.mean(), abs=1e-9)


@pytest.mark.parametrize("widths", [(9, 14), (14, 9), (10, 10), (140, 150), (150, 140)])
def test_pwcca_is_that_of_morcos(widths):
    x, y = draw_rows(40 if max(widths) < 20 else 400, *widths, seed=4)
    u, correlations, _ = canonical_of_covariances(x, y)
    directions = centre(x) @ whiten(x) @ u[:, : min(widths)]
    directions /= np.linalg.norm(directions, axis=0)
    weights = np.abs(directions.T @ centre(x)).sum(axis=1)
    expected = (weights * correlations).sum() / weights.sum()
    assert prepare("pwcca", x, y).value == pytest.approx(expected, abs=1e-9)


def test_pwcca_is_weighted_by_the_first_side():
    x, y = draw_rows(60, 8, 8, seed=5)
    x = x * np.array([30.0, *np.ones(7)])
    assert abs(prepare("pwcca", x, y).value - prepare("pwcca", y, x).value) > 0.01


@pytest.mark.parametrize("shape", [(60, 40, 41), (200, 150, 140)], ids=str)
def test_where_rows_are_few_pwcca_does_not_depend_on_rounding(shape):
    """Several correlations are 1; any directions would do for them, and would weigh differently."""
    x, y = draw_rows(*shape, seed=6)
    order = np.random.default_rng(7).permutation(len(x))
    found = prepare("pwcca", x, y)
    assert found.value == pytest.approx(pwcca(x, y), abs=1e-6)
    assert found.permute(order[None])[0] == pytest.approx(prepare("pwcca", x, y[order]).value, abs=1e-6)
    # And it is another value than with the directions that a singular value decomposition happens to give.
    correlations, directions = canonical(x, y)
    weights = np.abs(directions.T @ centre(x)).sum(axis=1)
    assert abs(found.value - correlations @ weights / weights.sum()) > 1e-4


def test_kept_is_the_rank():
    x, y = draw_rows(40, 5, 8, seed=6)
    repeated = np.hstack([x, x @ np.ones((5, 3)), x])
    found = prepare("cca", repeated, y)
    assert found.kept == (5, 8)
    assert found.value == pytest.approx(prepare("cca", x, y).value, abs=1e-9)
    assert prepare("pwcca", repeated, y).kept == (5, 8)
    # Rounded to float32 the repeated directions differ by rounding, which is no direction of its own.
    rounded = (repeated + 100).astype(np.float32)
    assert prepare("cca", rounded, y).kept == (5, 8)
    assert prepare("cca", rounded, y).value == pytest.approx(found.value, abs=1e-4)


def test_weak_directions_are_kept_as_long_as_they_are_not_rounding():
    x, y = draw_rows(40, 5, 8, seed=7)
    assert prepare("cca", x * 10.0 ** -np.arange(5), y).kept == (5, 8)
    assert prepare("cca", (x * 10.0 ** -np.arange(5)).astype(np.float32), y).kept == (5, 8)


def test_with_as_many_directions_as_rows_cca_is_1_for_anything():
    rng = np.random.default_rng(8)
    found = prepare("cca", rng.normal(size=(20, 30)), rng.normal(size=(20, 5)))
    assert found.kept == (19, 5)
    assert found.value == pytest.approx(1, abs=1e-12)
    assert found.permute(np.array([rng.permutation(20) for _ in range(5)])) == pytest.approx(1, abs=1e-12)


def test_a_share_of_variance_keeps_the_fewest_components_that_hold_it():
    rng = np.random.default_rng(9)
    x = np.linalg.qr(centre(rng.normal(size=(50, 4))))[0] * np.sqrt([8.0, 1.0, 0.9, 0.1])
    for share, count in ((0.5, 1), (0.79, 1), (0.81, 2), (0.91, 3), (0.98, 3), (0.995, 4), (1.0, 4)):
        assert prepare(f"svcca:{share}", x, x).kept == (count, count)


@pytest.mark.parametrize(
    ("rows", "width", "asked", "said"),
    [
        (10, 30, 10, "10 rows have at most 9 components"),
        (30, 6, 7, "columns have at most 6"),
        (30, 6, 6, "rank 5"),
    ],
)
def test_svcca_never_keeps_fewer_components_than_asked(rows, width, asked, said):
    x, y = draw_rows(rows, width, 40, seed=10)
    x[:, -1] = x[:, 0]
    with pytest.raises(InputError, match=said):
        prepare(f"svcca:{asked}", x, y)
    with pytest.raises(InputError, match="of y" if rows > asked else said):
        prepare(f"svcca:{asked}", y, x)
    assert prepare(f"svcca:{min(rows - 1, width - 1)}", x, y).kept == (min(rows - 1, width - 1),) * 2


def test_rows_that_differ_by_rounding_only_are_refused():
    rng = np.random.default_rng(11)
    x = (1e9 + rng.normal(size=(20, 3))).astype(np.float32)
    x[0] = np.nextafter(x[0], np.float32(np.inf))
    with pytest.raises(InputError, match="rounding"):
        prepare("cca", x, rng.normal(size=(20, 4)))


@pytest.mark.parametrize("shape", [(700, 300), (300, 700)])
def test_a_few_components_of_many_are_those_of_the_whole_decomposition(shape):
    rng = np.random.default_rng(0)
    decay = np.linspace(1, 0.05, shape[1])
    x, y = rng.standard_normal(shape) * decay, rng.standard_normal((shape[0], 290)) + 3
    quick = prepare_svcca(x, y, components=12)
    u, v = (np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[0][:, :12] for rows in (x, y))
    assert quick.kept == (12, 12)
    assert quick.value == pytest.approx(np.linalg.svd(u.T @ v, compute_uv=False).mean(), abs=1e-9)
    order = rng.permutation(shape[0])
    assert quick.permute(order[None])[0] == pytest.approx(
        np.linalg.svd(u.T @ v[order], compute_uv=False).mean(), abs=1e-9
    )


def test_components_that_are_rounding_are_not_found_by_the_quick_way():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 5)) @ rng.standard_normal((5, 400))
    with pytest.raises(InputError, match="components"):
        prepare_svcca(x, x, components=12)
    offset = np.float32(1e8) + rng.standard_normal((600, 400)).astype(np.float32)
    with pytest.raises(InputError):
        prepare_svcca(offset, offset, components=12)
