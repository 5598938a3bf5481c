"""A whole steering run: what it writes is what its matrices say, and it tells truth from chance."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

from tests.steered_runs import FEW, align_deep, choose, deep, one_thread, run, twins  # noqa: F401 (fixtures)
from xmodel.pairing.results import open_run
from xmodel.run import RunFolder
from xmodel.steering.collecting import Collector
from xmodel.steering.session import open_session
from xmodel.steering.steering import steer_run

CELLS = 6
PAIRS = FEW["pairs"]


def steer(given, folder, **changes):
    """A run is copied first, so that nothing is found there."""
    copy = open_run(shutil.copytree(given.path, folder / "run"))
    return steer_run(copy, choose(**changes), warn=lambda _: None)


@pytest.fixture(scope="module")
def steering(run, tmp_path_factory):
    return steer(run, tmp_path_factory.mktemp("steered"))


@pytest.fixture(scope="module")
def session(run):
    return open_session(run, choose())


@pytest.fixture(scope="module")
def table(steering):
    return steering.table.to_pandas()


@pytest.fixture(scope="module")
def collected(session, tmp_path_factory):
    copy = open_run(shutil.copytree(session.run.path, tmp_path_factory.mktemp("again") / "run"))
    return Collector(replace(session, run=copy), lambda *_: None).collect()


def place(values):
    """[F, C] as the table has them."""
    return np.asarray(values).reshape(-1)


def test_there_is_a_row_for_every_pair_dose_and_depth(steering, table, session):
    assert len(table) == PAIRS * CELLS
    assert table.pair.tolist() == np.repeat(np.arange(PAIRS), CELLS).tolist()
    assert table.feature_a.tolist() == np.repeat(session.pairs.a, CELLS).tolist()
    assert table.feature_b.tolist() == np.repeat(session.pairs.b, CELLS).tolist()
    assert table.r.tolist() == np.repeat(session.pairs.r, CELLS).tolist()
    assert table.r_heldout.tolist() == np.repeat(session.pairs.r_heldout, CELLS).tolist()
    cells = [(dose, depth) for dose in FEW["doses"] for depth in FEW["depths"]]
    assert list(zip(table.dose, table.depth, strict=True)) == cells * PAIRS
    # Four blocks are left in A and three in B: a quarter, a half (upwards) and all of the way.
    assert table.block_a.tolist() == [2, 3, 5] * 2 * PAIRS
    assert table.block_b.tolist() == [2, 3, 4] * 2 * PAIRS


def test_every_column_is_what_the_matrices_say(steering, table, session, collected):
    matrices = steering.matrices
    odd, even, draws = (matrices[name].astype(np.float64) for name in ("odd", "even", "reinitialised"))
    assert odd.shape == even.shape == (CELLS, PAIRS, PAIRS) and draws.shape == (2, CELLS, PAIRS, PAIRS)
    own = np.einsum("cff->fc", odd)
    assert np.abs(own).max() > 0.01
    assert table.odd.to_numpy() == pytest.approx(place(own), abs=1e-6)
    assert table.even.to_numpy() == pytest.approx(place(np.einsum("cff->fc", even)), abs=1e-6)
    assert table.mean_reinitialised.to_numpy() == pytest.approx(
        place(np.einsum("rcff->fc", draws) / 2), abs=1e-6
    )
    others = [[[odd[c, f, g] for g in range(PAIRS) if g != f] for c in range(CELLS)] for f in range(PAIRS)]
    assert table.mean_shuffled.to_numpy() == pytest.approx(place(np.mean(others, axis=2)), abs=1e-6)
    ranks = [[1 + sum(odd[c, f] > own[f, c]) for c in range(CELLS)] for f in range(PAIRS)]
    assert table["rank"].tolist() == place(ranks).tolist()
    hard = np.full((PAIRS, CELLS), np.nan)
    for number, pair in enumerate(session.hard.pair):
        hard[pair] = matrices["hard"][:, number]
        rows = (
            own.find(np.array([feature]))[0]
            for own, feature in zip(
                session.directions, (session.hard.a[number], session.hard.b[number]), strict=True
            )
        )
        assert hard[pair] == pytest.approx(collected.odd[(slice(None), *rows)], abs=1e-4)
    assert table.hard.to_numpy() == pytest.approx(place(hard), abs=1e-6, nan_ok=True)
    best = session.directions[1].find(session.hard.next_best)
    next_best = np.where(best[:, None] >= 0, collected.odd[:, session.rows[0], best].T, np.nan)
    assert table.next_best.to_numpy() == pytest.approx(place(next_best), abs=1e-4, nan_ok=True)
    assert table.effect_a.to_numpy() == pytest.approx(place(collected.norms_a[0][session.rows[0]]), rel=1e-3)
    assert table.effect_b.to_numpy() == pytest.approx(place(collected.norms_b[0][session.rows[1]]), rel=1e-3)
    assert table.damage_a.to_numpy() == pytest.approx(place(collected.norms_a[1][session.rows[0]]), rel=0.05)
    assert table.damage_b.to_numpy() == pytest.approx(place(collected.norms_b[1][session.rows[1]]), rel=0.05)


def test_p_values_are_places_among_the_nulls(table, session, collected, steering):
    own = np.einsum("cff->fc", steering.matrices["odd"].astype(np.float64))
    live = session.directions[1].find(session.live)
    nulls = {
        "words": collected.permuted,
        "random": np.moveaxis(collected.random[:, session.rows[0]], 0, 1),
        "live": np.moveaxis(collected.odd[:, session.rows[0]][:, :, live], 0, 1),
    }
    assert steering.matrices["random"] == pytest.approx(nulls["random"], abs=1e-4)
    for name, null in nulls.items():
        assert null.shape == (PAIRS, CELLS, {"words": 39, "random": 12, "live": 5}[name])
        p = ((null >= own[..., None]).sum(axis=2) + 1) / (null.shape[2] + 1)
        assert table[f"p_{name}"].to_numpy() == pytest.approx(place(p)), name
        assert table[f"mean_{name}"].to_numpy() == pytest.approx(place(null.mean(axis=2)), abs=1e-4), name
    largest = table[["p_words", "p_random", "p_live"]].max(axis=1)
    assert table.p.tolist() == largest.tolist()
    assert table.p_adjusted.to_numpy() == pytest.approx(false_discovery_control(largest, method="bh"))


def test_pairs_are_corrected_over_cells_and_over_pairs(steering, table):
    listed = steering.summary["pairs"]
    raw = table.p.to_numpy().reshape(PAIRS, CELLS).min(axis=1)
    p = np.array([one["p"] for one in listed])
    assert (p >= raw - 1e-12).all() and (p > raw).any()
    assert [one["p_adjusted"] for one in listed] == pytest.approx(false_discovery_control(p, method="bh"))
    assert [(one["feature_a"], one["feature_b"]) for one in listed] == list(
        zip(table.feature_a[::CELLS], table.feature_b[::CELLS], strict=True)
    )
    assert steering.summary["pairs_significant"] == sum(one["p_adjusted"] <= 0.05 for one in listed)


def test_kl_and_floor_stand_where_they_were_measured(steering, table):
    curves = steering.summary["dose_response"]
    kl = {letter: np.full((PAIRS, CELLS), np.nan) for letter in "ab"}
    for cell, dose in enumerate(np.repeat(FEW["doses"], 3)):
        for letter, own in kl.items():
            own[curves["pairs"], cell] = np.array(curves["kl"][letter])[:, curves["doses"].index(dose)]
    for letter, own in kl.items():
        assert table[f"kl_{letter}"].to_numpy() == pytest.approx(place(own), nan_ok=True)
        assert np.isfinite(own[:3]).all() and (own[:3, 3] > own[:3, 0]).all()
    floor = steering.summary["floor"]
    clear = [table[f"effect_{x}"] > 10 * np.tile(floor[x], PAIRS) for x in "ab"]
    assert (table.above_floor == (clear[0] & clear[1])).all() and table.above_floor.all()
    assert floor["dose"] == np.finfo(np.float32).eps / 8 and min(floor["a"] + floor["b"]) > 0
    assert all(0 < share < 0.05 for share in floor["reinitialised"].values())


def test_missing_values_are_nulls_and_nothing_is_nan(steering, run, tmp_path):
    """Of named pairs some have no hard pair; without curves there is no KL."""
    named = tuple((a, b) for a, b in ((0, 1), (3, 2), (5, 7)))
    other = steer(run, tmp_path, features=named, curve_pairs=0, random=0, live=0, reinit=0)
    for one in (steering, other):
        for name, column in zip(one.table.column_names, one.table.columns, strict=True):
            if str(column.type) == "double":
                assert not pc.any(pc.is_nan(column)).as_py(), name
    assert other.table["kl_a"].null_count == len(other.table) == 3 * CELLS
    assert other.table["mean_reinitialised"].null_count == 3 * CELLS
    assert "p_random" not in other.table.column_names
    assert other.summary["excess"] is None and other.summary["cells"][0]["reinitialised"] is None
    assert [(one["feature_a"], one["feature_b"]) for one in other.summary["pairs"]] == list(named)


def refuse(text):
    raise AssertionError(f"{text} is not JSON")


def test_the_summary_is_plain_json_with_all_that_is_promised(steering):
    text = (steering.run.path / "steering.json").read_text("utf-8")
    summary = json.loads(text, parse_constant=refuse)
    assert summary == json.loads(json.dumps(steering.summary, allow_nan=False))
    assert {"top1", "top5", "chance1", "chance5", "candidates", "p_top1"} <= set(summary["retrieval"])
    promised = {"auroc", "mean_diagonal", "mean_off_diagonal", "p", "p_max", "excess", "ceiling", "floor"}
    promised |= {"cells", "pairs", "hard_pairs", "settings", "sides", "packages", "words", "dose_response"}
    promised |= {
        "pairs_sha256",
        "ablation",
        "next_words",
        "rises",
        "examples",
        "reliability",
        "carried",
        "contrasts",
        "seconds",
    }
    assert promised <= set(summary)
    assert summary["pairs_sha256"] == steering.run.manifest["pairing"]["pairs_sha256"]
    assert summary["ablation"] is None
    assert summary["retrieval"]["chance1"] == pytest.approx(1 / PAIRS)
    assert summary["retrieval"]["candidates"] == PAIRS
    assert {"a", "b", "transfer"} == set(summary["ceiling"])
    assert {"value", "interval", "p", "p_draws"} <= set(summary["excess"]["mean_diagonal"])
    primary = summary["cells"][summary["primary"]]
    assert (primary["dose"], primary["depth"]) == (0.25, 0.5)
    assert summary["mean_diagonal"] == primary["mean_diagonal"]
    assert not [path.name for path in steering.run.path.rglob("*.partial")]
    assert [path.name for path in (steering.run.path / "steering").iterdir()] == ["matrices.safetensors"]


def test_cells_are_what_the_matrices_say(steering, session):
    matrices, matched = steering.matrices, session.hard.pair
    off = ~np.eye(PAIRS, dtype=bool)
    for number, cell in enumerate(steering.summary["cells"]):
        s = matrices["odd"][number].astype(np.float64)
        own, rest, hard = np.diag(s), s[off], matrices["hard"][number]
        assert cell["mean_diagonal"] == pytest.approx(own.mean(), abs=1e-6)
        assert cell["mean_off_diagonal"] == pytest.approx(rest.mean(), abs=1e-6)
        assert cell["difference"] == pytest.approx(own.mean() - rest.mean(), abs=1e-6)
        assert cell["retrieval"]["top1"] == pytest.approx((s.argmax(axis=1) == np.arange(PAIRS)).mean())
        assert cell["retrieval"]["top1_back"] == pytest.approx((s.argmax(axis=0) == np.arange(PAIRS)).mean())
        for name, pairs, others in (("off_diagonal", own, rest), ("hard", own[matched], hard)):
            truth = np.repeat([1, 0], [len(pairs), len(others)])
            area = roc_auc_score(truth, np.concatenate([pairs, others]))
            assert cell["auroc"][name] == pytest.approx(area)
        assert cell["means"]["partners_matched"] == pytest.approx(own[matched].mean(), abs=1e-6)
        assert cell["over_hard"]["value"] == pytest.approx((own[matched] - hard).mean(), abs=1e-6)
        assert cell["over_hard"]["pairs"] == len(matched) == steering.summary["hard_pairs"]["count"]
        draws = matrices["reinitialised"][:, number].astype(np.float64)
        means = [np.diag(one).mean() for one in draws]
        assert cell["reinitialised"]["mean_diagonal"] == pytest.approx(np.mean(means), abs=1e-6)
        excess = cell["excess"]["mean_diagonal"]
        assert excess["value"] == pytest.approx(own.mean() - np.mean(means), abs=1e-6)
        low, high = excess["interval"]
        assert low < excess["value"] < high
        assert cell["p_max"] >= cell["p"] > 0
        assert cell["means"]["even"] == pytest.approx(np.diag(matrices["even"][number]).mean(), abs=1e-6)


def test_equal_seeds_give_equal_results_and_others_do_not(steering, run, tmp_path):
    again = steer(run, tmp_path)
    assert {**again.summary, "seconds": 0} == {**steering.summary, "seconds": 0}
    assert again.table.equals(steering.table)
    other = steer(run, tmp_path / "other", seed=1, curve_pairs=0)
    assert other.table["odd"] != again.table["odd"]


def test_a_model_with_itself_transfers_wholly(twins, tmp_path):
    found = steer(twins, tmp_path, reinit=1, contrasts=("past-present",))
    table = found.table.to_pandas()
    assert (table.feature_a == table.feature_b).all()
    assert table.odd.to_numpy() == pytest.approx(np.ones(PAIRS * CELLS), abs=1e-4)
    assert (table["rank"] == 1).all() and (table.p_words == 1 / 40).all() and (table.p_random == 1 / 13).all()
    for cell in found.summary["cells"]:
        assert cell["retrieval"]["top1"] == cell["retrieval"]["top1_back"] == 1
        assert cell["auroc"]["off_diagonal"] == cell["auroc"]["next_best"] == 1
    assert found.summary["dose_response"]["exchange"]["rate"] == pytest.approx(1, rel=1e-3)
    assert found.summary["next_words"]["top1"] == 1
    assert found.summary["rises"]["a"] == found.summary["rises"]["b"]
    (contrast,) = found.summary["contrasts"]
    assert contrast["own"]["odd"] == pytest.approx(1, abs=1e-4)
    assert contrast["features_a"] == contrast["features_b"]
    assert contrast["pairs"]["cosine_with_own"] == pytest.approx(contrast["share"], abs=1e-4)


def test_ablation_has_no_doses_and_the_middle_depth_comes_first(run, tmp_path):
    found = steer(run, tmp_path, mode="ablate", words=60)
    table = found.table.to_pandas()
    assert len(table) == PAIRS * 3 and table.dose.isna().all() and not table.even.any()
    assert found.summary["cells"][found.summary["primary"]]["depth"] == 0.5
    assert found.summary["mean_diagonal"] == pytest.approx(table.odd[table.depth == 0.5].mean())
    assert "p_random" not in table and {"p_words", "p_live"} <= set(table)
    assert table.effect_a.to_numpy().any() and "dose_response" not in found.summary
    json.loads((found.run.path / "steering.json").read_text("utf-8"), parse_constant=refuse)
    rest = found.summary["ablation"]
    assert rest["pairs"] == table.odd.notna().sum() / 3 == found.summary["retrieval"]["candidates"]
    assert found.summary["floor"] == {"dose": None, "a": [0.0] * 3, "b": [0.0] * 3, "reinitialised": None}


def test_ablated_pairs_that_fire_nowhere_have_no_value(run, session, tmp_path, monkeypatch):
    """As if one pair's A feature and another's B feature fired on no token of the passages."""
    silent = {("a", int(session.pairs.a[1])), ("b", int(session.pairs.b[4]))}
    encode = type(session.loaded[0].dictionary).encode

    def encode_less(self, x):
        found = encode(self, x).clone()
        for letter, feature in silent:
            if self.info.digest == session.loaded["ab".index(letter)].dictionary.info.digest:
                found[:, feature] = 0
        return found

    monkeypatch.setattr(type(session.loaded[0].dictionary), "encode", encode_less)
    copy, told = open_run(shutil.copytree(run.path, tmp_path / "run")), []
    found = steer_run(copy, choose(mode="ablate"), warn=told.append)
    table, summary = found.table.to_pandas(), found.summary
    missing = table.pair.isin([1, 4])
    valued = [name for name in table if name in ("odd", "p", "p_adjusted", "rank", "hard", "next_best")]
    valued += [name for name in table if name.startswith(("p_", "mean_"))]
    assert len(valued) > 10 and table.loc[missing, valued].isna().all(axis=None)
    assert table.loc[~missing, ["odd", "p", "p_adjusted", "rank", "mean_shuffled"]].notna().all(axis=None)
    assert not table.above_floor[missing].any()
    assert summary["ablation"]["pairs"] == summary["pairs_sharing_no_feature"] == PAIRS - 2
    assert [one["p"] is None for one in summary["pairs"]] == [pair in (1, 4) for pair in range(PAIRS)]
    assert any("fire on no token" in one and f"a:{session.pairs.a[1]}" in one for one in told)
    left = [0, 2, 3, 5]
    s = found.matrices["odd"].astype(np.float64)[:, left][:, :, left]
    own = np.einsum("cff->fc", s)
    assert table.odd[~missing].to_numpy() == pytest.approx(place(own).ravel(), abs=1e-6)
    shuffled = (s.sum(axis=2).T - own) / 3
    assert table.mean_shuffled[~missing].to_numpy() == pytest.approx(shuffled.ravel(), abs=1e-6)
    ranks = (s >= own.T[:, :, None]).sum(axis=2).T
    assert table["rank"][~missing].tolist() == ranks.ravel().tolist()
    halves = found.matrices["halves"][:, summary["primary"]][:, left][:, :, left]
    told = np.corrcoef(halves[0].ravel(), halves[1].ravel())[0, 1]
    assert summary["reliability"]["correlation"] == pytest.approx(told, abs=1e-6)


def test_results_are_replaced_with_a_warning_and_never_mixed(steering, tmp_path, monkeypatch):
    """The summary goes before a new table comes, and comes back last."""
    copy = open_run(shutil.copytree(steering.run.path, tmp_path / "run"))
    seen, told, few = [], [], {"random": 0, "live": 0, "reinit": 0, "curve_pairs": 0, "seed": 2}
    write = RunFolder.write

    def note(self, name, make):
        seen.append((name, (self.path / "steering.json").exists()))
        return write(self, name, make)

    monkeypatch.setattr(RunFolder, "write", note)
    found = steer_run(copy, choose(**few), warn=told.append)
    assert sum("is replaced" in one and str(copy.path) in one for one in told) == 1
    # Until then the old results stand, for one who breaks off.
    assert seen[0] == ("steering/push_a-00000.safetensors", True)
    last = ("transfer.parquet", "steering/matrices.safetensors", "steering.json")
    assert seen[-3:] == [(name, False) for name in last]
    assert found.summary["settings"]["seed"] == 2
    fresh, told = open_run(shutil.copytree(steering.run.path, tmp_path / "fresh")), []
    (fresh.path / "steering.json").unlink()
    steer_run(fresh, choose(**few), warn=told.append)
    assert not any("is replaced" in one for one in told)


def test_the_very_same_call_is_not_measured_again(steering, run, tmp_path):
    copy, told = open_run(shutil.copytree(steering.run.path, tmp_path / "run")), []
    before = (copy.path / "steering.json").read_bytes()

    def refuse_work(stage, done, total):
        raise AssertionError(stage)

    again = steer_run(copy, choose(), report=refuse_work, warn=told.append)
    assert again.summary == json.loads(before) and (copy.path / "steering.json").read_bytes() == before
    assert len(told) == 1 and "stays as it is" in told[0]
    for changes in ({"seed": 4}, {"alpha": 0.01}, {"contrasts": ("past-present",)}):
        with pytest.raises(AssertionError, match="load"):
            steer_run(copy, choose(**changes), report=refuse_work, warn=lambda _: None)
    # What is damaged is measured again, as those who read it are told to.
    (copy.path / "steering" / "matrices.safetensors").write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="load"):
        steer_run(copy, choose(), report=refuse_work, warn=lambda _: None)


def test_a_file_of_contrasts_that_says_something_else_is_another_call(run, tmp_path):
    place, copy = tmp_path / "own.yaml", open_run(shutil.copytree(run.path, tmp_path / "run"))
    few = choose(random=0, live=0, reinit=0, curve_pairs=0, contrast_file=str(place))
    found = []
    for prompts in ("It is hot", "It was cold", "It was cold"):
        place.write_text(f"warm:\n  positive: [{prompts}]\n  negative: [It snows]\n")
        found.append(steer_run(copy, few, warn=lambda _: None).summary)
    norms = [one["contrasts"][0]["norm"] for one in found]
    assert norms[0] != norms[1] == norms[2] and found[1] == found[2]
