"""Every metric against its definition, against other people's implementations, and by its name."""

import warnings

import numpy as np
import ot
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr
from sklearn.neighbors import NearestNeighbors

from tests.slow_metrics import SLOW, centre, draw_rows
from xmodel.errors import InputError
from xmodel.similarity.metrics import DEFAULT_METRICS, list_metrics, parse_metric
from xmodel.similarity.units import mean_max_cosine_rows

SHAPES = [(30, 6, 9), (31, 9, 6), (25, 7, 7), (12, 30, 5), (12, 20, 40)]
CORRELATIONS = {"pearson": pearsonr, "spearman": spearmanr}


def measure(name, x, y):
    return parse_metric(name).prepare(x, y).value


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_metric_is_its_definition(name, shape):
    x, y = draw_rows(*shape, seed=3)
    assert measure(name, x, y) == pytest.approx(SLOW[name](x, y), abs=1e-9)


@pytest.mark.parametrize("name", SLOW)
def test_float32_rows_give_the_same(name):
    x, y = (rows.astype(np.float32) for rows in draw_rows(40, 6, 9, seed=4))
    assert measure(name, x, y) == pytest.approx(SLOW[name](x.astype(float), y.astype(float)), abs=1e-9)


@pytest.mark.parametrize("name", SLOW)
def test_large_offsets_and_scales_do_not_hurt(name):
    x, y = draw_rows(30, 6, 9, seed=5)
    if not any(part in name for part in ("cosine", "knn", "jaccard")):
        assert measure(name, x + 1e7, y - 1e5) == pytest.approx(SLOW[name](x, y), abs=1e-6)
    else:
        assert measure(name, x + 1e3, y) == pytest.approx(SLOW[name](x + 1e3, y), abs=1e-6)
    for scale in (1e-200, 1e150):
        assert measure(name, scale * x, y) == pytest.approx(SLOW[name](x, y), abs=1e-9)


def test_the_slow_formulas_cover_every_metric_that_is_listed():
    listed = {name.split(":")[0] for name in list_metrics()}
    assert {name.split(":")[0] for name in SLOW} == listed


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("comparison", ["pearson", "spearman"])
def test_rsa_is_the_correlation_of_scipys_distances(distance, comparison):
    x, y = draw_rows(60, 20, 30, seed=6)
    expected = CORRELATIONS[comparison](pdist(x, distance), pdist(y, distance)).statistic
    assert measure(f"rsa:{distance}:{comparison}", x, y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("method", "comparison"), [("corr", "pearson"), ("spearman", "spearman")])
def test_rsa_is_that_of_rsatoolbox(method, comparison):
    import rsatoolbox

    x, y = draw_rows(20, 12, 15, seed=7)
    data = [rsatoolbox.data.Dataset(rows) for rows in (x, y)]
    # It calls the mean squared difference Euclidean, and 1 - r of rows a correlation distance.
    for kind, distance, change in (
        ("euclidean", "sqeuclidean", lambda rows: rows),
        ("correlation", "cosine", lambda rows: rows - rows.mean(axis=1, keepdims=True)),
    ):
        rdms = [rsatoolbox.rdm.calc_rdm(side, method=kind) for side in data]
        expected = float(rsatoolbox.rdm.compare(*rdms, method=method)[0, 0])
        assert measure(f"rsa:{distance}:{comparison}", change(x), change(y)) == pytest.approx(
            expected, abs=1e-9
        )


@pytest.mark.parametrize(("method", "name"), [("cosine_cov", "cka"), ("bures", "procrustes")])
def test_cka_and_procrustes_are_the_whitened_cosine_and_bures_similarity_of_rsatoolbox(method, name):
    import rsatoolbox

    x, y = draw_rows(18, 10, 7, seed=8)
    rdms = [rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(rows), method="euclidean") for rows in (x, y)]
    expected = float(rsatoolbox.rdm.compare(*rdms, method=method)[0, 0])
    assert measure(name, x, y) == pytest.approx(expected, abs=1e-6)


def debiased_dot_product(xty, rows_x, rows_y, norm_x, norm_y, n):
    """As in the program that came with Kornblith et al. 2019."""
    return xty - n / (n - 2.0) * rows_x.dot(rows_y) + norm_x * norm_y / ((n - 1) * (n - 2))


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_kornbliths_in_features(debiased):
    x, y = (centre(rows) for rows in draw_rows(25, 40, 8, seed=9))
    n = len(x)
    similarity = np.linalg.norm(x.T @ y) ** 2
    norm_x, norm_y = np.linalg.norm(x.T @ x), np.linalg.norm(y.T @ y)
    if debiased:
        rows_x, rows_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
        sums = rows_x.sum(), rows_y.sum()
        similarity = debiased_dot_product(similarity, rows_x, rows_y, *sums, n)
        norm_x = np.sqrt(debiased_dot_product(norm_x**2, rows_x, rows_x, sums[0], sums[0], n))
        norm_y = np.sqrt(debiased_dot_product(norm_y**2, rows_y, rows_y, sums[1], sums[1], n))
    name = "cka_debiased" if debiased else "cka"
    assert measure(name, x, y) == pytest.approx(similarity / (norm_x * norm_y), abs=1e-12)


def test_debiased_cka_is_the_correlation_of_double_centred_distances():
    """Bias-corrected distance correlation of squared distances: U-centring, of Székely & Rizzo 2014."""
    x, y = draw_rows(20, 30, 12, seed=10)
    centred = []
    for rows in (x, y):
        d = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
        n = len(d)
        u = d - d.sum(0) / (n - 2) - d.sum(1)[:, None] / (n - 2) + d.sum() / ((n - 1) * (n - 2))
        centred.append(u[~np.eye(n, dtype=bool)])
    one, two = centred
    expected = one @ two / np.sqrt((one @ one) * (two @ two))
    assert measure("cka_debiased", x, y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("widths", [(8, 8), (11, 6)])
def test_procrustes_is_scipys(widths):
    x, y = draw_rows(30, *widths, seed=11)
    value = measure("procrustes", x, y)
    width = max(widths)
    x, y = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (centre(x), centre(y)))
    assert scipy_procrustes(x, y)[2] == pytest.approx(1 - value**2, abs=1e-9)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    rotation, total = orthogonal_procrustes(x, y)
    assert value == pytest.approx(total, abs=1e-9)
    assert np.linalg.norm(x @ rotation - y) ** 2 == pytest.approx(2 - 2 * value, abs=1e-9)


@pytest.mark.parametrize("k", [1, 4, 10, 49])
def test_neighbours_are_those_of_scikit_learn(k):
    x, y = draw_rows(50, 12, 20, seed=12)
    near = []
    for rows in (x, y):
        search = NearestNeighbors(n_neighbors=k + 1, metric="cosine", algorithm="brute").fit(rows)
        near.append([set(own) - {i} for i, own in enumerate(search.kneighbors(rows)[1].tolist())])
    common = np.array([len(one & two) for one, two in zip(*near, strict=True)])
    assert measure(f"mutual_knn:{k}", x, y) == pytest.approx((common / k).mean(), abs=1e-12)
    assert measure(f"jaccard:{k}", x, y) == pytest.approx((common / (2 * k - common)).mean(), abs=1e-12)


@pytest.mark.parametrize("widths", [(9, 9), (12, 7), (7, 12)])
def test_soft_matching_is_the_optimal_transport_of_pot(widths):
    x, y = draw_rows(40, *widths, seed=13)
    r = np.corrcoef(x.T, y.T)[: widths[0], widths[0] :]
    weights = [np.full(width, 1 / width) for width in widths]
    value = measure("soft_matching", x, y)
    assert value == pytest.approx(1 - ot.emd2(*weights, 1 - r), abs=1e-9)
    if widths[0] == widths[1]:
        assert value == pytest.approx(r[linear_sum_assignment(-r)].sum() / widths[0], abs=1e-12)


def test_mean_max_cosine_of_two_dictionaries_needs_no_matched_rows():
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=(7, 5)), rng.normal(size=(11, 5))
    assert mean_max_cosine_rows(x, y) == pytest.approx(SLOW["mean_max_cosine"](x.T, y.T), abs=1e-12)
    assert mean_max_cosine_rows(x, y[::-1]) == mean_max_cosine_rows(x, y)
    assert mean_max_cosine_rows(y[[3, 1]], y) == pytest.approx(1)
    with pytest.raises(InputError, match="row 2"):
        mean_max_cosine_rows(np.vstack([x[:2], np.zeros(5)]), y)
    with pytest.raises(InputError, match="one space"):
        mean_max_cosine_rows(x[:, :4], y)


@pytest.mark.parametrize(
    ("text", "name", "label"),
    [
        ("svcca", "svcca:20", "SVCCA, 20 components"),
        ("svcca:1", "svcca:1", "SVCCA, 1 component"),
        ("svcca:1.0", "svcca:1.0", "SVCCA, 100 % of variance"),
        ("svcca:0.990", "svcca:0.99", "SVCCA, 99 % of variance"),
        ("rsa", "rsa:cosine:pearson", "RSA, cosine distance, Pearson"),
        ("rsa:euclidean", "rsa:euclidean:pearson", "RSA, Euclidean distance, Pearson"),
        ("mutual_knn", "mutual_knn:10", "mutual k-NN, 10 neighbours"),
        (" jaccard:1 ", "jaccard:1", "Jaccard of neighbours, 1 neighbour"),
        ("cka_debiased", "cka_debiased", "debiased CKA"),
    ],
)
def test_names_are_written_in_full(text, name, label):
    metric = parse_metric(text)
    assert (metric.name, metric.label, metric.ceiling, metric.paired) == (name, label, 1.0, True)
    assert parse_metric(name).name == name


@pytest.mark.parametrize(
    "text",
    ["", "ccka", "CKA", "cka:3", "rsa:", "rsa:manhattan", "rsa:cosine:kendall", "rsa:pearson"]
    + [f"svcca:{setting}" for setting in ("", "0", "-3", "0.0", "1.5", "nan", "1e-3", "20:3", "a.b", "²")]
    + ["rsa:cosine:pearson:x", "mutual_knn:0", "mutual_knn:2.5", "jaccard:5:5"],
)
def test_unknown_names_are_refused_with_the_known(text):
    with pytest.raises(InputError) as refused:
        parse_metric(text)
    for name in list_metrics():
        assert name in str(refused.value)


def test_listed_names_and_defaults_can_be_asked_for():
    filled = {"K": "3", "SHARE": "0.9", "DISTANCE": "cosine", "COMPARISON": "spearman"}
    for pattern, line in list_metrics().items():
        text = ":".join(filled.get(part, part) for part in pattern.split(":"))
        assert parse_metric(text).name.startswith(text) and line
    assert [parse_metric(text).name.split(":")[0] for text in DEFAULT_METRICS] == list(DEFAULT_METRICS)


@pytest.mark.parametrize("name", [*SLOW, "svcca:1", "mutual_knn:1", "jaccard:2"])
def test_no_metric_warns(name):
    x, y = draw_rows(15, 4, 6, seed=15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_metric(name).prepare(x, y).permute(np.arange(15)[None])
