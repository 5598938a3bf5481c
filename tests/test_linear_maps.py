"""The linear map between models: planted maps, scikit-learn's ridge, a slow cross-validation, refusals."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from xmodel.errors import InputError
from xmodel.steering.linear_maps import PENALTIES, LinearMap, fit_linear_map
from xmodel.steering.vectors import SteeringVector

SITE = "blocks.5.hook_resid_post"


def fit(x, y, **options) -> LinearMap:
    return fit_linear_map(x, y, site=SITE, model="B", architecture="llama", **options)


def make_rows(rows, width, outputs, noise, seed=0):
    """Activations of A with a few strong directions and an offset; of B a linear map of them, and noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)) * np.geomspace(10, 0.1, width) @ turn(width, rng) + 3
    y = x @ rng.normal(size=(width, outputs)) + noise * rng.normal(size=(rows, outputs)) - 7
    return x.astype(np.float32), y.astype(np.float32)


def turn(width, rng):
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


def test_a_turned_copy_of_a_model_is_found():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 20)) + 2
    rotation = turn(20, rng)
    found = fit(x[:300], x[:300] @ rotation, heldout=(x[300:], x[300:] @ rotation))
    np.testing.assert_allclose(found.matrix, rotation, atol=1e-5)
    assert found.r2 > 1 - 1e-9 and found.r2_heldout is not None and found.r2_heldout > 1 - 1e-9
    vector = SteeringVector(rng.normal(size=20), "blocks.3.hook_resid_post", "A", "planted")
    carried = found.carry(vector)
    np.testing.assert_allclose(carried.values, vector.values @ rotation, atol=1e-4)
    assert (carried.site, carried.model, carried.name, carried.architecture) == (
        SITE,
        "B",
        "planted",
        "llama",
    )
    with pytest.raises(InputError, match="has 3 dimensions, and the activations of the linear map have 20"):
        found.carry(SteeringVector(np.ones(3), SITE))


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (60, 59), (60, 60), (25, 60)])
@pytest.mark.parametrize("penalty", [1e-4, 0.3, 20.0])
def test_the_ridge_is_that_of_scikit_learn(rows, width, penalty):
    x, y = make_rows(rows, width, 5, noise=2.0)
    ours = fit(x, y, penalties=[penalty], heldout=(x[:20] * 1.5, y[:20]))
    exact = x.astype(np.float64)
    theirs = Ridge(alpha=penalty * rows * exact.var(0).mean(), solver="svd").fit(exact, y.astype(np.float64))
    np.testing.assert_allclose(ours.matrix, theirs.coef_.T, atol=1e-5 * np.abs(theirs.coef_).max())
    for inputs, outputs, r2 in ((exact, y, ours.r2), (exact[:20] * 1.5, y[:20], ours.r2_heldout)):
        score = r2_score(outputs, theirs.predict(inputs), multioutput="variance_weighted")
        assert r2 == pytest.approx(score, abs=1e-6)
    assert ours.words == rows and ours.penalty == penalty


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (40, 39), (30, 50)])
@pytest.mark.parametrize("noise", [0.1, 3.0, 60.0])
def test_the_penalty_is_that_of_the_least_error_by_explicit_hat_matrices(rows, width, noise):
    x, y = make_rows(rows, width, 4, noise, seed=rows + width)
    exact, outputs = (part.astype(np.float64) - part.mean(0, dtype=np.float64) for part in (x, y))
    errors = {}
    for penalty in PENALTIES:
        ridge = penalty * rows * exact.var(0).mean()
        hat = exact @ np.linalg.solve(exact.T @ exact + ridge * np.eye(width), exact.T) + 1 / rows
        left = outputs - hat @ outputs
        errors[penalty] = np.square(left).sum() / (rows - np.trace(hat)) ** 2
    assert fit(x, y).penalty == min(errors, key=lambda one: errors[one])


def test_the_penalty_grows_with_noise_and_an_unrelated_model_is_not_explained():
    chosen = []
    for noise in (0.01, 5, 50, 500):
        x, y = make_rows(150, 60, 6, noise, seed=2)
        chosen.append(fit(x, y).penalty)
    assert chosen == sorted(chosen) and chosen[-1] > 100 * chosen[0]
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=(300, 40)), rng.normal(size=(300, 30))
    unrelated = fit(x[:200], other[:200], heldout=(x[200:], other[200:]))
    assert unrelated.r2_heldout is not None and -0.05 < unrelated.r2_heldout < 0.02
    # Least squares without a penalty would seem to explain a fifth of it.
    assert fit(x[:200], other[:200], penalties=[1e-9]).r2 > 0.15


def test_turning_and_shifting_the_models_changes_nothing_else():
    x, y = make_rows(80, 12, 9, noise=4.0, seed=3)
    rng = np.random.default_rng(4)
    turn_x, turn_y = turn(12, rng), turn(9, rng)
    plain = fit(x, y)
    turned = fit(x.astype(np.float64) @ turn_x + 5, y.astype(np.float64) @ turn_y - 11)
    assert turned.penalty == plain.penalty and turned.r2 == pytest.approx(plain.r2, abs=1e-9)
    np.testing.assert_allclose(turned.matrix, turn_x.T @ plain.matrix @ turn_y, atol=1e-4)
    assert plain.r2_heldout is None


@pytest.mark.parametrize(
    ("x", "y", "options", "told"),
    [
        (np.ones(4), np.ones((4, 2)), {}, "expected two matrices"),
        (np.ones((4, 2)), np.ones((5, 2)), {}, "the same at least three words"),
        (np.ones((2, 2)), np.ones((2, 2)), {}, "at least three words"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), {}, "NaN or infinite"),
        (np.ones((4, 2)), np.eye(4), {}, "the same at all words"),
        (np.eye(4), np.ones((4, 2)), {}, "the same at all words"),
        (np.eye(4), np.eye(4), {"penalties": []}, "expected positive numbers"),
        (np.eye(4), np.eye(4), {"penalties": [1.0, 0.0]}, "expected positive numbers"),
        (np.eye(4), np.eye(4), {"penalties": [float("nan")]}, "expected positive numbers"),
        (
            np.eye(4),
            np.eye(4),
            {"heldout": (np.eye(3), np.eye(3))},
            "held-out activations of 3 and 3 dimensions",
        ),
        (np.eye(4), np.eye(4), {"heldout": (np.eye(4)[:2], np.eye(4)[:2])}, "at least three words"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, options, told):
    with pytest.raises(InputError, match=told):
        fit(x, y, **options)
