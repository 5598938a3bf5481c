"""A session: which words, blocks and directions are measured; other sites, and half precision."""

import shutil

import numpy as np
import pytest
import torch

from tests.steered_runs import FEW, align_deep, choose, deep, one_thread, run  # noqa: F401 (fixtures)
from tests.tiny_pair import TinyPair, read_rows, write_fitting_sae
from xmodel.models.capture import capture
from xmodel.pairing.reloading import load_sides
from xmodel.pairing.results import open_run
from xmodel.steering import collecting
from xmodel.steering.passages import choose_passages
from xmodel.steering.session import open_session
from xmodel.steering.steering import steer_run

NOTHING = {"random": 0, "live": 0, "reinit": 0, "curve_pairs": 0}


@pytest.fixture(scope="module")
def session(run):
    return open_session(run, choose())


def steer(given, folder, **changes):
    copy = open_run(shutil.copytree(given.path, folder))
    return steer_run(copy, choose(**changes), warn=lambda _: None)


def test_models_and_dictionaries_are_those_of_the_run(run, session):
    sides = run.manifest["sides"]
    for letter, side in zip("ab", load_sides(run), strict=True):
        assert side.model.digest == sides[letter]["model"]["sha256"]
        assert side.dictionary.info.digest == sides[letter]["dictionary"]["digest"]
        assert side.site == sides[letter]["site"]
        assert side.model.dtype == torch.float32
    halves = load_sides(run, dtype="bfloat16")
    assert all(side.model.dtype == torch.bfloat16 for side in halves)


def test_a_dose_of_1_is_the_median_norm_over_the_words(session):
    """In a pass of the whole model over the passages."""
    for number, side in enumerate(session.loaded):
        own = (session.passages.a, session.passages.b)[number]
        ids, mask = torch.from_numpy(own.ids), torch.from_numpy(own.mask)
        rows = capture(side.model, ids, mask, [side.site])[side.site]
        rows = rows[own.rows[session.kept], own.columns[session.kept]]
        norms = np.sort(torch.linalg.vector_norm(rows, dim=1).numpy())
        middle = norms[(len(norms) - 1) // 2 : len(norms) // 2 + 1]
        assert middle[0] * (1 - 1e-5) <= session.sides[number].scale <= middle[-1] * (1 + 1e-5)


def test_directions_are_unit_decoder_rows_each_once_with_pairs_first(session):
    pairs, hard = session.pairs, session.hard
    wanted = (
        {*pairs.a.tolist(), *hard.a.tolist()},
        {*pairs.b.tolist(), *hard.b.tolist(), *hard.next_best.tolist(), *session.live.tolist()} - {-1},
    )
    for number, (own, features) in enumerate(zip(session.directions, wanted, strict=True)):
        assert set(own.features.tolist()) == features and len(own.features) == len(features)
        assert own.features[: len(pairs)].tolist() == (pairs.a, pairs.b)[number].tolist()
        rows = session.loaded[number].dictionary.decoder[own.features.tolist()].double().numpy()
        assert own.vectors == pytest.approx(rows / np.linalg.norm(rows, axis=1, keepdims=True), abs=1e-6)
    assert not set(session.live.tolist()) & set(pairs.b.tolist())
    assert np.array_equal(session.directions[0].features[session.rows[0]], pairs.a)
    assert np.array_equal(session.directions[1].features[session.rows[1]], pairs.b)


def test_words_are_heldout_and_stand_in_their_passages(run, session):
    words = run.words.to_pandas().iloc[session.passages.word_ids[session.kept]]
    assert (words.split == "heldout").all() and len(words) == session.words == FEW["words"]
    assert len(session.strata) == session.words and (np.diff(session.strata) >= 0).all()
    assert words.document.tolist() == session.passages.documents[session.strata].tolist()


CHANGES = [
    {"seed": 1},
    {"doses": (0.1, 0.3)},
    {"depths": (0.25, 0.5)},
    {"words": 41},
    {"pairs": 5},
    {"live": 4},
    {"mode": "ablate"},
    {"dtype": "bfloat16"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_what_measurements_depend_on_is_in_the_fingerprint(run, session, changes):
    assert open_session(run, choose(**changes)).fingerprint != session.fingerprint


def test_what_they_do_not_depend_on_is_not(run, session):
    settings = choose(alpha=0.01, permutations=9, curve_pairs=1, budget=1 << 29, reinit=5, random=3)
    assert open_session(run, settings).fingerprint == session.fingerprint


def test_other_passages_and_layers_keep_the_dose(session):
    for number in range(2):
        there = session.place(number, reads=(3,))
        assert there.reads == (3,) and there.scale == session.sides[number].scale
        assert np.array_equal(there.columns, session.sides[number].columns)
    options = {"passage_words": FEW["passage_words"], "seed": session.settings.seed, "lead": 10}
    other = session.place(0, passages=choose_passages(session.run, FEW["words"], **options))
    assert other.scale == session.sides[0].scale
    own = torch.linalg.vector_norm(other.take(other.replay.hidden), dim=-1).median()
    assert abs(float(own) - other.scale) > 1e-4


@pytest.mark.parametrize("part", [1, 32])
def test_pairs_may_share_features(part, run, tmp_path, monkeypatch):
    """Also where partners of several features stand in different parts."""
    monkeypatch.setattr(collecting, "PART", part)
    named = ((0, 1), (3, 1), (5, 7), (0, 2), (4, 7))
    found = steer(run, tmp_path / "run", features=named, **NOTHING)
    s, halves = found.matrices["odd"], found.matrices["halves"]
    assert np.array_equal(s[:, :, 0], s[:, :, 1]) and np.array_equal(s[:, :, 2], s[:, :, 4])
    assert np.array_equal(s[:, 0], s[:, 3]) and np.array_equal(halves[:, :, :, 0], halves[:, :, :, 1])
    # What a pair is does not depend on those beside it.
    for place, pair in ((1, (3, 1)), (4, (4, 7))):
        rest = tuple(other for other in ((8, 8), (9, 9)) if other != pair)
        alone = steer(run, tmp_path / f"alone{place}", features=(pair, *rest), **NOTHING)
        one, other = (table.to_pandas() for table in (found.table, alone.table))
        for name in ("odd", "p_words", "mean_words", "effect_b"):
            own = one[one.pair == place][name].tolist()
            assert own == pytest.approx(other[other.pair == 0][name].tolist(), abs=1e-4), name
    assert found.summary["pairs_sharing_no_feature"] == 2


def test_other_sites_and_the_residual_stream_itself_are_steered(deep, tmp_path):
    """What an MLP adds in one model, and what a block reads in the other, dimension by dimension."""
    site = "blocks.2.hook_mlp_out"
    sae = write_fitting_sae(tmp_path / "sae", read_rows(deep.model_a, site), site)
    pair = TinyPair(deep.model_a, deep.model_b, sae, "residual:blocks.2.hook_resid_pre")
    found = steer_run(align_deep(pair, tmp_path / "run"), choose(), warn=lambda _: None)
    table = found.table.to_pandas()
    assert set(table.block_a) == {3, 4, 5} and set(table.block_b) == {2, 3, 4}
    assert (table.effect_a > 0).all() and table.above_floor.all()
    # Axes of the residual stream: a push along one raises that one alone.
    assert found.summary["rises"]["b"]["first"] == 1
    assert max(abs(one["others_mean"]) for one in found.summary["rises"]["b"]["pairs"]) < 1e-4


def test_half_precision_says_nearly_the_same(run, tmp_path):
    exact, rounded = (
        steer(run, tmp_path / dtype, dtype=dtype, **NOTHING).table.to_pandas()
        for dtype in ("float32", "bfloat16")
    )
    for name in ("effect_a", "effect_b"):
        assert rounded[name].to_numpy() == pytest.approx(exact[name].to_numpy(), rel=0.15)
    assert np.corrcoef(exact.odd, rounded.odd)[0, 1] > 0.9
