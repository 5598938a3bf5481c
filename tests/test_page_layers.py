"""The page's layers: what stands in the heatmaps is what the sweep found, and splits are kept and drawn."""

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report_helpers import HOSTILE
from tests.run_helpers import one_thread  # noqa: F401
from xmodel.alignment.settings import PassSettings
from xmodel.cli import main
from xmodel.errors import InputError
from xmodel.pairing.settings import PairSettings
from xmodel.report.page import layers
from xmodel.report.page.figures_json import figure_as_json
from xmodel.report.page.layers import build_layers, sort_by_depth
from xmodel.report.sweep import describe_sweep
from xmodel.similarity.grid_folder import _write_rows
from xmodel.similarity.grids import LEVEL, GridRow, SweepSettings, correct_grid, list_widths
from xmodel.similarity.kept_splits import SPLITS, keep_split, read_splits
from xmodel.similarity.sweep import Sweep, open_sweep, sweep_models

METRICS = ("svcca:20", "mean_r_heldout")
SITE = "blocks.{}.hook_resid_post"


def make_sweep(
    folder, values, *, blocks_a, blocks_b, widths=None, chance=0.1, p=None, missing=(), models="ab"
):
    """A finished sweep on disk whose numbers are known: `values` [metric, a, b]."""
    from xmodel.run import RunFolder

    folder.mkdir(parents=True, exist_ok=True)
    widths = widths or [64] * len(blocks_b)
    names = {"a": [f"sae-a{n}" for n in blocks_a]}
    names["b"] = [f"sae-b{n}-{width}" for n, width in zip(blocks_b, widths, strict=True)]
    sizes = {"a": [64] * len(blocks_a), "b": widths}
    rows = []
    for m, metric in enumerate(METRICS):
        for i, a in enumerate(blocks_a):
            for j, b in enumerate(blocks_b):
                own = None if (m, i, j) in missing else float(values[m, i, j])
                found = {"value": own, "null_mean": chance, "p": p[m, i, j] if p is not None else 0.001}
                if own is None:
                    found = {"value": None, "p": None, "warning": "too few pairs"}
                rows.append(
                    GridRow(
                        site_a=SITE.format(a), site_b=SITE.format(b), metric=metric, null="shuffle",
                        sae_a=names["a"][i], sae_b=names["b"][j], features_a=64, features_b=widths[j],
                        rule="mutual", n=20 + i, permutations=999, **found,
                    )
                )  # fmt: skip
    rows = correct_grid(rows)
    run = RunFolder(folder)
    digest = run.write("grid.parquet", lambda place: _write_rows(rows, place))
    letters = {side: [f"{side}{n or ''}" for n in range(len(names[side]))] for side in "ab"}
    sites = {"a": blocks_a, "b": blocks_b}
    dictionaries = {
        letter: {
            "name": names[side][n], "site": SITE.format(sites[side][n]), "features": sizes[side][n],
            "model": f"model-{model}", "fvu": 0.1,
        }
        for side, model in zip("ab", models, strict=True)
        for n, letter in enumerate(letters[side])
    }  # fmt: skip
    summary = {
        "sweep": SweepSettings().as_json(), "pairing": {}, "letters": letters, "dictionaries": dictionaries,
        "words": 100, "discovery_words": 50, "heldout_words": 50, "widths": list_widths(rows),
        "seconds": {}, "grid_sha256": digest,
    }  # fmt: skip
    sides = {side: {"model": {"name": f"model-{one}"}} for side, one in zip("ab", models, strict=True)}
    run.write_json("manifest.json", {"format": 1, "complete": True, "shards": [], "sides": sides})
    run.write_json("sweep.json", summary)
    return folder


def draw(seed=0, shape=(2, 3, 3)):
    return np.random.default_rng(seed).uniform(0.2, 0.9, shape)


@given(seed=st.integers(0, 2**32 - 1))
def test_every_cell_is_that_of_its_layers_whatever_order_they_were_named_in(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    blocks_a, blocks_b = rng.permutation(9)[:3].tolist(), rng.permutation(9)[:4].tolist()
    p = rng.choice([0.001, 0.2, 0.9], (2, 3, 4))
    gone = {(int(rng.integers(2)), int(rng.integers(3)), int(rng.integers(4)))}
    place = tmp_path_factory.mktemp("sweep") / "grid"
    make_sweep(place, draw(seed, (2, 3, 4)), blocks_a=blocks_a, blocks_b=blocks_b, p=p, missing=gone)
    rows = {(row["metric"], row["site_a"], row["site_b"]): row for row in open_sweep(place).grid.to_pylist()}
    figures = build_layers(place).figures
    assert [figure.name for figure in figures] == ["layers-svcca-20-shuffle", "layers-mean-r-heldout-shuffle"]
    for metric, figure in zip(METRICS, figures, strict=True):
        assert figure.y == tuple(f"block {n}" for n in sorted(blocks_a))
        assert figure.x == tuple(f"block {n}" for n in sorted(blocks_b))
        for i, a in enumerate(sorted(blocks_a)):
            for j, b in enumerate(sorted(blocks_b)):
                row = rows[metric, SITE.format(a), SITE.format(b)]
                if row["value"] is None:
                    assert np.isnan(figure.values[i, j]) and not figure.marked[i, j]
                    assert figure.hover[i][j] == "too few pairs"
                else:
                    assert figure.values[i, j] == row["value"]
                    assert figure.marked[i, j] == (row["p_adjusted"] <= LEVEL)
                    assert f"{row['n']} pairs" in figure.hover[i][j]


def test_values_of_nothing_are_values(tmp_path):
    values = np.zeros((2, 2, 2))
    part = build_layers(make_sweep(tmp_path / "g", values, blocks_a=[0, 1], blocks_b=[0, 1], chance=0.25))
    assert all("From 0.000, by chance 0.250." in figure.caption for figure in part.figures)
    values[0, 0, 0] = 0.5
    part = build_layers(make_sweep(tmp_path / "h", values, blocks_a=[0, 1], blocks_b=[0, 1], chance=0.0))
    assert "From 0.000 to 0.500, by chance 0.000." in part.figures[0].caption


def test_what_was_measured_without_chance_is_shown_and_not_compared(tmp_path, monkeypatch):
    place = make_sweep(tmp_path / "g", draw(0, (2, 2, 2)), blocks_a=[0, 1], blocks_b=[0, 1])
    found = describe_sweep(open_sweep(place))
    found["grid"][0] |= {"null_mean": None, "p": None, "p_adjusted": None}
    monkeypatch.setattr(layers, "describe_sweep", lambda opened: found)
    figure = build_layers(place).figures[0]
    assert figure.values[0, 0] == found["grid"][0]["value"] and not figure.marked[0, 0]
    assert figure.hover[0][0] == "20 pairs; not tested"


def test_the_headline_counts_what_is_beyond_chance(tmp_path):
    p = np.full((2, 2, 2), 0.001)
    p[0, 0, 0], p[:, 1, 1] = 0.9, 0.8

    def read(name, **changes):
        place = make_sweep(
            tmp_path / name, draw(0, (2, 2, 2)), blocks_a=[0, 1], blocks_b=[0, 1], p=p, **changes
        )
        return build_layers(place)

    part = read("g")
    assert part.sentences[0].startswith("2 of 4 pairs of layers are more alike than chance by every one of 2")
    assert "3 of 4 by at least one; p is corrected for the cells of a metric, not for" in part.sentences[0]
    assert sum("2 of 4 cells beyond chance" in sentence for sentence in part.sentences) == 1
    # Where a metric could not be measured, no cell passes by every metric, and none is counted among those.
    told = read("h", missing={(0, 0, 1)}).sentences[0]
    assert told.startswith("1 of 3 pairs of layers that could be tested by all 2 metrics is more alike")
    assert "3 of 4 by at least one" in told


@pytest.mark.parametrize("nulls", [("shuffle",), ("shift",), ("shuffle", "shift")])
def test_exchanged_partners_have_their_caveat(tmp_path, monkeypatch, nulls):
    place = make_sweep(tmp_path / "g", draw(), blocks_a=[0, 1, 2], blocks_b=[0, 1, 2])
    found = describe_sweep(open_sweep(place))
    found["sweep"]["nulls"] = list(nulls)
    found["grid"] = [row | {"null": null} for null in nulls for row in found["grid"]]
    monkeypatch.setattr(layers, "describe_sweep", lambda opened: found)
    told = [one for one in build_layers(place).sentences if one.startswith("Against")]
    assert len(told) == len(nulls)
    for sentence, null in zip(told, nulls, strict=True):
        assert ("up to twice too often" in sentence) == (null == "shuffle")
        assert ("--null shift" in sentence) == (nulls == ("shuffle",))


def test_widths_are_drawn_less_chance(tmp_path):
    values = draw(3, (2, 1, 2))
    place = make_sweep(tmp_path / "g", values, blocks_a=[2], blocks_b=[3, 3], widths=[128, 32], chance=0.15)
    figures = {figure.name: figure for figure in build_layers(place).figures}
    own = figures["widths-b-block-3-svcca-20"].series
    assert len(own) == 1 and own[0].x.tolist() == [32, 128]
    np.testing.assert_allclose(own[0].y, values[0, 0, ::-1] - 0.15)
    assert figures["layers-svcca-20-shuffle"].x == ("block 3 (32)", "block 3 (128)")


def test_without_a_sweep_the_page_says_how_to_add_one(tmp_path):
    part = build_layers(tmp_path, name="my run")
    assert not part.figures and part.missing is not None
    assert part.missing.command.startswith("xmodel sweep --sae-a")
    assert part.missing.command.endswith("xmodel report 'my run' --sweep SWEEP")


def test_another_sweep_goes_before_the_runs_own_and_other_models_are_told(tmp_path):
    own = make_sweep(tmp_path / "own", draw(), blocks_a=[0, 1, 2], blocks_b=[0, 1, 2])
    same = make_sweep(tmp_path / "same", draw(1), blocks_a=[0, 1, 2], blocks_b=[0, 1, 2])
    other = make_sweep(tmp_path / "other", draw(2), blocks_a=[0, 1, 2], blocks_b=[0, 1, 2], models="xy")
    assert build_layers(own).figures[0].values[0, 0] == draw()[0, 0, 0]
    part = build_layers(own, sweep=same)
    assert part.figures[0].values[0, 0] == draw(1)[0, 0, 0]
    assert not any("other models" in sentence for sentence in part.sentences)
    assert any("other models" in sentence for sentence in build_layers(own, sweep=other).sentences)


def test_unfinished_and_changed_sweeps_are_refused(tmp_path):
    own = make_sweep(tmp_path / "own", draw(), blocks_a=[0, 1, 2], blocks_b=[0, 1, 2])
    with pytest.raises(InputError, match="no finished sweep"):
        build_layers(own, sweep=tmp_path / "nowhere")
    (own / "grid.parquet").write_bytes(b"other")
    with pytest.raises(InputError, match="not what the sweep"):
        build_layers(own)


def make_split(feature=3, **changes):
    children = [
        {"feature": n, "r": 0.9 - n / 100, "r_heldout": 0.5, "cosine": None, "firings": 9, "covers": n / 50,
         "top_words": [HOSTILE[n % len(HOSTILE)], "whale"]}
        for n in (10, 11, 12)
    ]  # fmt: skip
    partners = [
        {"child": n, "feature": 50 + n, "r": 0.6, "r_heldout": r, "same": False}
        for n, r in ((10, 0.4), (12, 0.7))
    ]
    split = {
        "run": "x", "side": "b", "feature": feature, "narrow": "sae-b3-32", "wide": "sae-b3-128",
        "floor": 0.3, "firings": 40, "covered": 0.5, "children": children, "top_words": ["sea"],
        "verdict": "It splits.",
        "partner": {"sae": "sae-a2", "feature": 7, "r": 0.9, "r_heldout": 0.8, "mutual": True,
                    "top_words": []},
        "children_partners": {"partners": partners, "null_mean": 0.02, "different": 2},
    }  # fmt: skip
    return split | changes


@pytest.fixture
def grid(tmp_path):
    return make_sweep(tmp_path / "g", draw(3, (2, 1, 2)), blocks_a=[2], blocks_b=[3, 3], widths=[128, 32])


def test_splits_accumulate_and_the_same_one_is_replaced(grid):
    sweep = Sweep(grid)
    assert read_splits(sweep) == []
    for split in (make_split(3), make_split(4, floor=float("nan")), make_split(3, firings=41)):
        keep_split(sweep, split)
    kept = read_splits(sweep)
    assert [(one["feature"], one["firings"]) for one in kept] == [(4, 40), (3, 41)]
    assert kept[0]["floor"] is None and "run" not in kept[0]


def test_splits_of_other_features_are_dropped_and_damage_is_told(grid):
    sweep = Sweep(grid)
    keep_split(sweep, make_split())
    manifest = json.loads((grid / "manifest.json").read_text())
    (grid / "manifest.json").write_text(json.dumps(manifest | {"shards": [{"files": {"x": "y"}}]}))
    assert read_splits(sweep) == []
    (grid / "manifest.json").write_text(json.dumps(manifest))
    (grid / SPLITS).write_text((grid / SPLITS).read_text().replace("It splits", "It does"))
    with pytest.raises(InputError, match="damaged"):
        read_splits(sweep)
    (grid / SPLITS).write_text("{")
    with pytest.raises(InputError, match="xmodel split"):
        build_layers(grid)


def test_a_split_is_drawn_from_the_feature_to_its_children(grid):
    assert any("xmodel split" in note for note in build_layers(grid).notes)
    keep_split(Sweep(grid), make_split())
    part = build_layers(grid)
    figures = {figure.name: figure for figure in part.figures}
    fan = figures["split-b-3"]
    assert [(one.x.tolist(), one.y.tolist()) for one in fan.series] == [
        ([32, 128], [0.8, 0.4]), ([32, 128], [0.8, 0.7]), ([32, 128], [0.02, 0.02])
    ]  # fmt: skip
    assert figures["splits"].x.tolist() == [0.2, 0.24] and figures["splits"].y.tolist() == [0.4, 0.7]
    table = next(table for table in part.tables if table.title.startswith("Children"))
    assert [row[0] for row in table.rows] == ["10", "11", "12"] and table.rows[1][-2:] == (None, None)
    for figure in part.figures:
        json.dumps(figure_as_json(figure), allow_nan=False)
    shown = json.dumps([asdict(table) for table in part.tables], ensure_ascii=False)
    assert not any(sign in shown for sign in ("\x1b", "\x00", "\u202e"))


def test_a_partner_without_held_out_words_has_no_number(grid):
    partner = make_split()["partner"] | {"r_heldout": None}
    keep_split(Sweep(grid), make_split(partner=partner))
    fan = next(figure for figure in build_layers(grid).figures if figure.name == "split-b-3")
    assert "Its own partner is 7 (no r on held-out words)." in fan.caption and "nan" not in fan.caption
    assert np.isnan(fan.series[0].y[0]) and figure_as_json(fan)["series"][0]["y"][0] is None


def test_a_feature_without_partner_or_children_is_told_only(grid):
    keep_split(Sweep(grid), make_split(children=[], partner=None, children_partners={"partners": []}))
    part = build_layers(grid)
    assert "B: It splits." in part.sentences
    assert not any(figure.name.startswith("split") for figure in part.figures)


def test_sites_are_sorted_by_block_place_and_width():
    sites = ["blocks.10.hook_resid_pre", "blocks.2.hook_resid_post", "blocks.2.hook_resid_pre"]
    found = {
        "letters": {"a": ["a", "a1", "a2", "a3"]},
        "dictionaries": {
            letter: {"site": site, "features": features}
            for letter, site, features in zip(
                ("a", "a1", "a2", "a3"), [*sites, sites[1]], (8, 16, 8, 4), strict=True
            )
        },
    }
    assert sort_by_depth(found, "a") == ["a2", "a3", "a1", "a"]


def test_what_the_command_finds_is_kept_and_drawn(tmp_path, monkeypatch, capsys):
    out = tmp_path / "real"
    saes_b = ("builtin:gemma-demo-l3-1k", "builtin:gemma-demo-l3")
    sweep = sweep_models(
        ("builtin:neox-demo-l2",), saes_b, "builtin:demo-corpus", out, pairing=PairSettings(workers=1),
        settings=PassSettings(words_limit=2000, shard_words=2000),
        sweep=SweepSettings(metrics=("cka",), permutations=19),
    )  # fmt: skip
    best = sweep.run.shards.load("b", 0)
    often = int(np.argmax(np.bincount(best.indices, minlength=best.features)))

    def call(*more):
        monkeypatch.setattr(sys, "argv", ["xmodel", "split", str(out), "--b", str(often), "--json", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        captured = capsys.readouterr()
        return json.loads(captured.out), captured.err

    found = call("--permutations", "19")[0]
    kept = read_splits(open_sweep(out))
    assert [one["feature"] for one in kept] == [often] and kept[0]["verdict"] == found["verdict"]
    part = build_layers(out)
    names = [figure.name for figure in part.figures]
    assert {"layers-cka-shuffle", "widths-b-block-3-cka"} <= set(names) and len(set(names)) == len(names)
    with sweep.run.folder.lock():
        assert "not kept" in call("--permutations", "19")[1]
