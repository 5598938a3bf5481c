"""The draws of nulls that a scored run keeps."""

import json

import numpy as np
import pytest

from tests.score_worlds import make_world
from xmodel.errors import InputError
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.null_draws import NULLS, read_score_nulls
from xmodel.similarity.scoring import score_run
from xmodel.similarity.settings import ScoreSettings

SETTINGS = ScoreSettings(
    permutations=49, bootstrap=0, parts=("rule", "concept"), metrics=("cka_debiased",), rules=("mutual",)
)


def test_kept_draws_are_those_that_the_scores_were_made_from(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    assert read_score_nulls(run) is None
    scores = score_run(run, SETTINGS)
    nulls = read_score_nulls(run)
    assert nulls is not None and len(nulls) == len(scores)
    assert any(null is None for null in nulls) and any(null is not None for null in nulls)
    for score, null in zip(scores, nulls, strict=True):
        assert (null is None) == (score.value is None)
        if null is None:
            continue
        assert len(null) == score.permutations and null.dtype == np.float64
        assert null.mean() == score.null_mean and null.std(ddof=1) == score.null_sd
        assert (1 + np.sum(null >= score.value)) / (1 + len(null)) == pytest.approx(score.p)


def test_draws_of_other_scores_are_not_taken_for_these(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    score_run(run, SETTINGS)
    place = run.path / "scores.json"
    scores = json.loads(place.read_text("utf-8"))
    place.write_text(json.dumps(scores[:1]), "utf-8")
    assert read_score_nulls(run) is None
    place.unlink()
    assert read_score_nulls(run) is None


def test_damaged_draws_are_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    score_run(run, SETTINGS)
    place = run.path / NULLS
    place.write_bytes(place.read_bytes()[:100])
    with pytest.raises(InputError, match=r"damaged.*xmodel score"):
        read_score_nulls(run)


def test_draws_go_with_the_scores_when_pairs_change(tmp_path, monkeypatch):
    run, _ = make_world(tmp_path / "run", monkeypatch)
    score_run(run, SETTINGS)
    pair_features(run.folder, PairSettings(min_firings=5, workers=1), warn=[].append)
    assert (run.path / NULLS).is_file()
    pair_features(run.folder, PairSettings(min_firings=80, workers=1), warn=[].append)
    assert not (run.path / NULLS).exists()
