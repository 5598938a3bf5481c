"""Signed features, such as principal components: which way they point is arbitrary, and changes nothing."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.steered_runs import SITE, align_deep, choose, deep, one_thread  # noqa: F401 (fixtures)
from xmodel.alignment import calibration
from xmodel.models.baselines import fit_pca, restore_pca
from xmodel.pairing.results import open_run
from xmodel.steering.session import open_session
from xmodel.steering.steering import steer_run

TURNED = (0, 2, 5, 6, 7, 10)
"""Components that point the other way in the second run."""


@pytest.fixture(scope="module")
def runs(deep, tmp_path_factory):
    """The same two models with an SAE in one and components in the other, some of them turned round."""
    folder = tmp_path_factory.mktemp("signed")
    same = dataclasses.replace(deep, sae_b=f"pca:{SITE}:12")

    def turn(source, x, **given):
        arrays = fit_pca(source, x, **given).pca_arrays()
        arrays["components"][list(TURNED)] *= -1
        return restore_pca(source, arrays, **given)

    plain = align_deep(same, folder / "plain")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(calibration, "fit_pca", turn)
        return plain, align_deep(same, folder / "turned")


def steer(runs, folder, **changes):
    copies = [open_run(shutil.copytree(run.path, folder / str(number))) for number, run in enumerate(runs)]
    return [steer_run(run, choose(**changes), warn=lambda _: None) for run in copies]


def assert_same_columns(found, names):
    one, other = (steering.table.to_pandas() for steering in found)
    assert (one.feature_b == other.feature_b).all()
    turned = one.feature_b.isin(TURNED)
    assert turned.any() and not turned.all()
    assert one.r[turned].tolist() == pytest.approx((-other.r[turned]).tolist(), abs=1e-5)
    assert (one.r < 0).any() and (other.r < 0).any()
    for name in names:
        first, second = (table[name].to_numpy() for table in (one, other))
        assert first == pytest.approx(second, abs=1e-3, nan_ok=True), name
    for name in ("retrieval", "auroc"):
        first, second = (steering.summary[name] for steering in found)
        assert first == pytest.approx(second, abs=1e-3)


def test_pushing_turned_components_finds_the_same(runs, tmp_path):
    """Pairs of signed features go by |r|, and where r is negative B is pushed the other way."""
    found = steer(runs, tmp_path, pairs=5, live=4, contrasts=("past-present",))
    names = ["odd", "even", "mean_shuffled", "mean_words", "mean_random", "mean_live", "mean_reinitialised"]
    assert_same_columns(found, [*names, "hard", "next_best", "p_words", "p_random", "p_live", "p"])
    assert found[0].table.to_pandas().mean_live.to_numpy() == pytest.approx(0, abs=1e-6)
    first, second = (steering.summary for steering in found)
    assert first["next_words"]["pairs"] == pytest.approx(second["next_words"]["pairs"], abs=1e-3)
    curves = [np.array(one["dose_response"]["transfer"]) for one in (first, second)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)
    told = [one["contrasts"][0] for one in (first, second)]
    assert told[0]["pairs"]["odd"] == pytest.approx(told[1]["pairs"]["odd"], abs=1e-3)
    assert told[0]["share"] == pytest.approx(told[1]["share"], abs=1e-4)


def test_ablating_turned_components_finds_the_same(runs, tmp_path):
    """A component is taken out by the same change, whichever way it points: T keeps its sign."""
    found = steer(runs, tmp_path, pairs=5, live=4, mode="ablate", words=60)
    names = ["odd", "mean_shuffled", "mean_words", "mean_live", "mean_reinitialised", "hard", "next_best"]
    assert_same_columns(found, [*names, "p_words", "p_live", "p", "effect_a", "effect_b"])
    table = found[0].table.to_pandas()
    assert table.mean_live.abs().max() > 0.01


@pytest.mark.parametrize("mode", ["push", "ablate"])
def test_signs_are_of_pushes_alone(mode, runs):
    for run in runs:
        session = open_session(run, choose(pairs=5, mode=mode))
        signs = [session.pairs.sign, session.hard.sign, session.hard.next_best_sign]
        assert session.signed and session.sign.tolist() == session.pairs.sign.tolist()
        assert [len(one) for one in signs] == [len(session.pairs), len(session.hard), len(session.pairs)]
        if mode == "push":
            assert session.sign.tolist() == np.sign(session.pairs.r).tolist() and (session.sign < 0).any()
        else:
            assert (session.pairs.r < 0).any() and all((one == 1).all() for one in signs)
