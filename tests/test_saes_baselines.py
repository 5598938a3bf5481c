"""Neurons, residual dimensions and principal components as dictionaries."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_saes import WIDTH, rows

from xmodel.errors import InputError
from xmodel.models.saes import compute_fvu, fit_pca, load_dictionary, needs_fitting, restore_pca

SITE = "blocks.2.hook_resid_post"


@pytest.mark.parametrize("kind", ["neurons", "residual"])
def test_dimensions_are_their_own_features(kind: str) -> None:
    ours, x = load_dictionary(f"{kind}:{SITE}", width=WIDTH), rows()
    assert torch.equal(ours.encode(x), x)
    assert torch.equal(ours.decode(x), x)
    assert torch.equal(ours.decoder, torch.eye(WIDTH))
    assert compute_fvu(*ours.reconstruct(x)) == 0
    info = ours.info
    assert (info.architecture, info.site, info.width, info.features) == (kind, SITE, WIDTH, WIDTH)
    assert info.signed
    assert info.dense
    assert info.digest != load_dictionary(f"{kind}:{SITE}", width=WIDTH + 1).info.digest


@pytest.mark.parametrize(
    ("source", "width"), [("neurons:", 4), (f"residual:{SITE}", None), ("residual:x", 0)]
)
def test_a_baseline_needs_a_site_and_a_width(source: str, width: int | None) -> None:
    with pytest.raises(InputError, match="expected"):
        load_dictionary(source, width=width)


@given(seed=st.integers(0, 1000), count=st.integers(14, 60), k=st.integers(1, WIDTH))
def test_components_are_those_of_scikit_learn_up_to_sign(seed: int, count: int, k: int) -> None:
    from sklearn.decomposition import PCA

    x = rows(count, seed=seed) * torch.arange(1, WIDTH + 1) ** 2  # well separated variances
    ours = fit_pca(f"pca:{SITE}:{k}", x, dtype="float64")
    theirs = PCA(n_components=k, svd_solver="full").fit(x.double().numpy())
    signs = np.sign((ours.decoder.numpy() * theirs.components_).sum(1))
    np.testing.assert_allclose(ours.decoder.numpy(), theirs.components_ * signs[:, None], atol=1e-6)
    np.testing.assert_allclose(ours.pca_arrays()["variances"], theirs.explained_variance_, rtol=1e-8)
    scores = theirs.transform(x.double().numpy()) * signs
    np.testing.assert_allclose(ours.encode(x).numpy(), scores, atol=1e-5 * np.abs(scores).max())
    np.testing.assert_allclose(
        ours.decode(ours.encode(x)).numpy(), theirs.inverse_transform(scores * signs), atol=1e-3
    )


def test_a_sign_does_not_hang_on_the_data() -> None:
    ours, other = fit_pca(f"pca:{SITE}:5", rows(50)), fit_pca(f"pca:{SITE}:5", rows(50).flip(0))
    torch.testing.assert_close(ours.decoder, other.decoder, atol=1e-5, rtol=0)
    assert (ours.decoder.gather(1, ours.decoder.abs().argmax(1, keepdim=True)) > 0).all()


def test_all_components_lose_nothing_and_fewer_lose_the_rest() -> None:
    x = rows(50)
    assert compute_fvu(*fit_pca(f"pca:{SITE}:{WIDTH}", x).reconstruct(x)) < 1e-10
    ours = fit_pca(f"pca:{SITE}:3", x)
    variances = np.linalg.eigvalsh(np.cov(x.double().numpy().T))
    assert compute_fvu(*ours.reconstruct(x)) == pytest.approx(
        variances[:-3].sum() / variances.sum(), rel=1e-4
    )


def test_components_come_back_from_their_arrays() -> None:
    x = rows(50)
    ours = fit_pca(f"pca:{SITE}:3", x)
    again = restore_pca(f"pca:{SITE}:3", ours.pca_arrays())
    assert torch.equal(again.encode(x), ours.encode(x))
    assert again.info == ours.info
    assert (ours.info.features, ours.info.site, ours.info.signed, ours.info.dense) == (3, SITE, True, True)
    assert fit_pca(f"pca:{SITE}:3", x + 1).info.digest != ours.info.digest


def test_only_components_are_fitted() -> None:
    assert needs_fitting(f"pca:{SITE}:3")
    assert not needs_fitting(f"neurons:{SITE}")
    assert not needs_fitting("gpt2-small-res-jb/blocks.0.hook_resid_pre")
    with pytest.raises(InputError, match="fit_pca"):
        load_dictionary(f"pca:{SITE}:3")


@pytest.mark.parametrize(
    "source", ["pca:", f"pca:{SITE}", f"pca:{SITE}:0", f"pca:{SITE}:-1", "pca::4", "pca:a:b:4"]
)
def test_a_malformed_source_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="pca:SITE:K"):
        fit_pca(source, rows(50))


@pytest.mark.parametrize(
    "x", [rows(50, 3), rows(4), rows(50).masked_fill(rows(50) > 4, float("nan")), rows(50)[0]], ids=range(4)
)
def test_activations_that_cannot_be_fitted_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"[Ee]xpected"):
        fit_pca(f"pca:{SITE}:4", x)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": None},
        {"components": np.zeros((2, WIDTH))},
        {"variances": np.zeros(2)},
        {"mean": np.full(WIDTH, np.nan)},
    ],
    ids=str,
)
def test_damaged_arrays_are_refused(change: dict[str, Any]) -> None:
    arrays = {**fit_pca(f"pca:{SITE}:3", rows(50)).pca_arrays(), **change}
    with pytest.raises(InputError, match="again"):
        restore_pca(f"pca:{SITE}:3", {key: array for key, array in arrays.items() if array is not None})
