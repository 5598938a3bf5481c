"""``xmodel sweep`` and ``split`` on the bundled pair: numbers by hand, screens, what is kept and refused."""

import json
import shutil
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.run_helpers import one_thread  # noqa: F401
from xmodel.alignment.settings import PassSettings
from xmodel.cli import main
from xmodel.errors import InputError
from xmodel.pairing.comparing import align_models
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.settings import PairSettings
from xmodel.run import digest_file
from xmodel.similarity import grid_folder
from xmodel.similarity.decoders import load_decoders
from xmodel.similarity.grids import SweepSettings
from xmodel.similarity.metrics import parse_metric
from xmodel.similarity.nulls import Plan
from xmodel.similarity.nulls import test_orders as compare_orders
from xmodel.similarity.orders import draw_orders
from xmodel.similarity.split_sweep import split_feature
from xmodel.similarity.sweep import open_sweep, sweep_models

A = ("builtin:neox-demo-l2",)
B = ("builtin:gemma-demo-l3-1k", "builtin:gemma-demo-l3")
CORPUS = "builtin:demo-corpus"
PASS = PassSettings(words_limit=3000, shard_words=1500)
SETTINGS = SweepSettings(metrics=("cka", "svcca:5"), permutations=99)
PAIRING = PairSettings(workers=1)
OPTIONS = [
    "--corpus", CORPUS, "--words-limit", "3000", "--shard-words", "1500", "--metric", "cka",
    "--metric", "svcca:5", "--permutations", "99",
]  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "run"
    return sweep_models(A, B, CORPUS, out, settings=PASS, sweep=SETTINGS, pairing=PAIRING)


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xmodel", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "80")
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def command(out, *more, a=A, b=B):
    saes = [
        *(part for one in a for part in ("--sae-a", one)),
        *(part for one in b for part in ("--sae-b", one)),
    ]
    return ["sweep", *saes, "--out", out, *OPTIONS, *more]


def test_a_cell_is_what_align_and_the_metrics_give(swept, tmp_path):
    run = align_models(A[0], B[1], CORPUS, tmp_path / "run", settings=PASS, pairing=PAIRING)
    mutual = run.pairs.filter(run.pairs["mutual"])
    a, b = (mutual[f"feature_{side}"].to_numpy() for side in "ab")
    decoders = load_decoders(run)
    x, y = decoders[0][a], decoders[1][b]
    rows = {row["metric"]: row for row in swept.grid.to_pylist() if row["sae_b"] == B[1]}
    plan = Plan(permutations=99, seed=0)
    for name in ("cka", "svcca:5"):
        tested = compare_orders(
            [parse_metric(name)], x, y, lambda count, rng: draw_orders(len(x), count, rng), plan
        )[0]
        assert rows[name]["value"] == pytest.approx(tested.value, abs=1e-6)
        assert (rows[name]["n"], rows[name]["p"]) == (len(a), tested.p)
        assert rows[name]["z"] == pytest.approx(tested.z, abs=1e-3)
    held = np.nan_to_num(np.array(mutual["r_heldout"].to_pylist(), np.float64))
    assert rows["mean_r_heldout"]["value"] == pytest.approx(held.mean(), abs=1e-12)


def test_the_files_keep_their_contract(swept):
    table = pq.read_table(swept.path / "grid.parquet")
    assert table.column_names[:7] == ["site_a", "site_b", "metric", "value", "p", "p_adjusted", "n"]
    rows = table.to_pylist()
    assert len(rows) == 2 * 3
    assert {row["site_b"] for row in rows} == {"blocks.3.hook_resid_post"}
    assert all(row["p_adjusted"] == row["p_holm"] >= row["p"] > 0 for row in rows)
    assert all(row["k_a"] == row["k_b"] == 5 for row in rows if row["metric"] == "svcca:5")
    summary = swept.summary
    assert summary["dictionaries"]["b1"]["name"] == B[1] and summary["dictionaries"]["b"]["features"] == 1024
    assert all(len(one["digest"]) == 64 for one in summary["dictionaries"].values())
    assert summary["grid_sha256"] == digest_file(swept.path / "grid.parquet")
    assert summary["packages"]["torch"] and summary["sweep"]["permutations"] == 99
    assert [point["features"] for point in summary["widths"][0]["points"]] == [1024, 2048]
    assert {one["metric"] for one in summary["widths"]} == {"cka", "svcca:5", "mean_r_heldout"}


def test_the_first_dictionaries_are_an_ordinary_run(swept, tmp_path):
    out = shutil.copytree(swept.path, tmp_path / "run")
    pair_features(open_sweep(out).run.folder, PAIRING)
    assert len(open_sweep(out).run.pairs) > 100


def test_other_metrics_and_nulls_need_no_pass_and_the_same_ones_no_cell(swept, tmp_path, monkeypatch):
    out = shutil.copytree(swept.path, tmp_path / "run")
    monkeypatch.setattr("xmodel.pairing.comparing.run_pass", None)
    told = []
    monkeypatch.setattr(grid_folder, "score_cell", None)
    arguments = {"settings": PASS, "pairing": PAIRING, "warn": told.append}
    again = sweep_models(A, B, CORPUS, out, sweep=SETTINGS, **arguments)
    assert again.grid.equals(swept.grid)
    monkeypatch.undo()
    monkeypatch.setattr("xmodel.pairing.comparing.run_pass", None)
    shifted = SweepSettings(metrics=("cka",), nulls=("shift",), shifts=9)
    sweep = sweep_models(A, B, CORPUS, out, sweep=shifted, **arguments)
    (estimate,) = [line for line in told if "re-pairing null takes about" in line]
    assert "2 cells are paired again under 9 shifts each" in estimate
    rows = sweep.grid.to_pylist()
    assert {row["null"] for row in rows} == {"shift"} and {row["permutations"] for row in rows} == {9}
    assert all(row["p_adjusted"] == row["p_max"] == 0.1 for row in rows if row["metric"] != "cka")
    assert sweep.summary["shift_estimate"]["seconds"] >= 0
    again = sweep_models(A, B, CORPUS, out, sweep=shifted, **arguments)
    assert again.grid.equals(sweep.grid) and "shift_estimate" not in again.summary


def test_a_damaged_cell_is_computed_again(swept, tmp_path):
    out = shutil.copytree(swept.path, tmp_path / "run")
    place = out / "parts" / "cells-00001.json"
    for content in (place.read_text().replace("0.", "1.", 1), "{", "[]", ""):
        place.write_text(content)
        again = sweep_models(A, B, CORPUS, out, settings=PASS, sweep=SETTINGS, pairing=PAIRING)
        assert again.grid.equals(swept.grid)
    (out / "grid.parquet").write_bytes((out / "grid.parquet").read_bytes() + b"x")
    with pytest.raises(InputError, match="is not what the sweep in"):
        _ = open_sweep(out).grid


def test_too_few_permutations_for_holm_are_told(swept, tmp_path):
    out, told = shutil.copytree(swept.path, tmp_path / "run"), []
    few = SweepSettings(metrics=("cka",), permutations=19)
    sweep_models(A, B, CORPUS, out, settings=PASS, sweep=few, pairing=PAIRING, warn=told.append)
    assert any("--permutations 39 lets it" in line for line in told)


def test_the_screen(swept, call, tmp_path):
    out = shutil.copytree(swept.path, tmp_path / "run")
    code, shown, _ = call(*command(out))
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    assert "block 3 2,048" in shown and "block 3 1,024" in shown and "FVU 0." in shown
    assert "Holm's correction" in shown.replace("\n", " ").replace("  ", " ")
    assert "SVCCA, 5 components  by chance" in shown and ", k 5, n/k" in shown
    value = next(row["value"] for row in swept.grid.to_pylist() if row["metric"] == "cka")
    assert f"{value:.3f}*" in shown and "Similarity by width" in shown


def test_json_is_one_document(swept, call, tmp_path):
    out = shutil.copytree(swept.path, tmp_path / "run")
    code, shown, _ = call(*command(out, "--json"))
    found = json.loads(shown)
    assert code == 0 and found["grid"] == swept.grid.to_pylist()
    assert found["letters"] == {"a": ["a"], "b": ["b", "b1"]}


def test_one_dictionary_a_side_is_a_sweep_too(swept, call, tmp_path):
    code, shown, _ = call(*command(tmp_path / "run", "--json", b=B[1:]))
    (row,) = [row for row in json.loads(shown)["grid"] if row["metric"] == "cka"]
    before = next(row for row in swept.grid.to_pylist() if row["metric"] == "cka" and row["sae_b"] == B[1])
    assert code == 0 and row["value"] == pytest.approx(before["value"], abs=1e-9)
    assert row["p_adjusted"] == row["p"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"saes_a": ()}, r"--sae-a came as \(\)"),
        ({"saes_a": A[0]}, r"--sae-a came as 'builtin:neox-demo-l2': give a list"),
        ({"saes_b": (B[0], B[0])}, r"--sae-b builtin:gemma-demo-l3-1k came twice"),
        ({"saes_b": (B[0], A[0])}, r"builtin:gemma-demo-l3-1k is of builtin:gemma-demo, and --sae-b "
         r"builtin:neox-demo-l2 of builtin:neox-demo"),
        ({"sites_b": ("x", "y", "z")}, r"--site-b came 3 times for 2 SAEs"),
        ({"sites_b": ("blocks.1.hook_resid_post",)}, r"--site-b is blocks\.1\.hook_resid_post, and "),
    ],
)  # fmt: skip
def test_bad_input_names_what_is_wrong(tmp_path, arguments, message):
    asked = {"saes_a": A, "saes_b": B, **arguments}
    with pytest.raises(InputError, match=message):
        sweep_models(corpus=CORPUS, out=tmp_path / "run", settings=PASS, **asked)


def test_a_folder_without_a_sweep(call, tmp_path):
    for name in ("nothing", "run"):
        code, _, told = call("split", tmp_path / name, "--a", "1")
        assert code == 2 and "holds no finished sweep" in told.replace("\n", " ")


def test_split_on_the_screen_and_in_json(swept, call):
    widths = [split_feature(swept, "b", feature, draws=49) for feature in range(0, 60)
              if _is_kept(swept, feature)]  # fmt: skip
    found = next(one for one in widths if len(one["children"]) > 1)
    feature = found["feature"]
    assert found["narrow"] == B[0] and found["wide"] == B[1]
    assert found["partner"]["sae"] == A[0] and all(child["top_words"] for child in found["children"])
    code, shown, _ = call("split", swept.path, "--b", feature, "--permutations", 49)
    assert code == 0 and max(map(len, shown.splitlines())) <= 80
    assert f"Feature {feature} splits into {len(found['children'])}" in shown
    code, shown, _ = call("split", swept.path, "--b", feature, "--permutations", 49, "--json")
    assert code == 0 and json.loads(shown) == found
    code, shown, _ = call("split", swept.path, "--b", feature, "--narrow", B[0], "--wide", B[1], "--json")
    assert code == 0 and json.loads(shown)["children"] == found["children"]


def _is_kept(swept, feature):
    try:
        split_feature(swept, "b", feature, draws=1)
    except InputError:
        return False
    return True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--a", "1"], "side a of the sweep has no site"),
        ([], "give one of --a N and --b N"),
        (["--a", "1", "--b", "1"], "give one of --a N and --b N"),
        (["--b", "5000"], "there is no feature 5000"),
        (["--b", "1", "--narrow", "x"], "--narrow and --wide come together"),
        (["--b", "1", "--narrow", "x", "--wide", B[1]], "there is no x on side b"),
        (["--b", "1", "--narrow", B[1], "--wide", B[0]], "--narrow is the one with fewer"),
        (["--b", "1", "--partner", "x"], "there is no x on side a"),
    ],
)
def test_splits_that_cannot_be(swept, call, arguments, message):
    code, shown, told = call("split", swept.path, *arguments)
    assert code == 2 and message in told.replace("\n", " ") and not shown
