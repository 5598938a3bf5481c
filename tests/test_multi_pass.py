"""One pass for several dictionaries of a model: the same as a run for each, but for what they share."""

import itertools
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.run_helpers import Stop, one_thread  # noqa: F401
from tests.tiny_pair import (
    read_rows,
    read_run,
    read_texts,
    write_corpus,
    write_fitting_sae,
    write_gemma,
    write_neox,
)
from xmodel.alignment import extract
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.errors import InputError
from xmodel.pairing.comparing import align_models
from xmodel.pairing.results import open_shards
from xmodel.run import RunFolder
from xmodel.similarity.grids import SweepSettings
from xmodel.similarity.sweep import sweep_models

QUICK = SweepSettings(metrics=("cka",), permutations=9)
MISFIT = LoadOptions(accept_misfit=True)
SITES = ("blocks.1.hook_resid_post", "blocks.0.hook_resid_post")


class World:
    """Two tiny models with two SAEs each, at two sites."""

    def __init__(self, folder):
        self.models = {"model_a": str(write_neox(folder / "a")), "model_b": str(write_gemma(folder / "b"))}
        self.saes = {"a": [], "b": []}
        for side, prefix in (("a", ()), ("b", (2,))):
            for number, site in enumerate(SITES):
                rows = read_rows(folder / side, site, prefix)
                sae = write_fitting_sae(
                    folder / f"sae_{side}{number}", rows, site, features=24 + 4 * number, bos=side == "b"
                )
                self.saes[side].append(str(sae))
        self.corpus = str(write_corpus(folder / "corpus.jsonl", read_texts()[:24]))

    def align(self, a, b, out, **settings):
        chosen = PassSettings(shard_words=200, **settings)
        pair = self.saes["a"][a], self.saes["b"][b]
        return align_models(*pair, self.corpus, out, settings=chosen, options=MISFIT, **self.models)

    def sweep(self, out, a=(0, 1), b=(0, 1), settings=None, **options):
        chosen = PassSettings(shard_words=200, **(settings or {}))
        saes = [[self.saes[side][number] for number in own] for side, own in (("a", a), ("b", b))]
        options = {"sweep": QUICK, "options": MISFIT, "warn": lambda _: None, **self.models, **options}
        return sweep_models(*saes, self.corpus, out, settings=chosen, **options)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def swept(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "run"
    world.sweep(out)
    return out


def list_features(out, letter):
    return [load_file(place) for place in sorted((out / f"features_{letter}").iterdir())]


def test_every_dictionary_has_the_bits_of_a_run_of_its_own(world, tmp_path):
    out = tmp_path / "together"
    world.sweep(out, settings={"massive": 0})
    for a, b in itertools.product((0, 1), (0, 1)):
        alone = tmp_path / f"alone{a}{b}"
        world.align(a, b, alone, massive=0)
        for letter, number in (("a", a), ("b", b)):
            together = list_features(out, f"{letter}{number or ''}")
            expected = list_features(alone, letter)
            assert len(together) == len(expected) > 3
            for own, other in zip(together, expected, strict=True):
                assert own.keys() == other.keys()
                assert all(own[name].tobytes() == other[name].tobytes() for name in own)


def test_a_token_massive_under_one_dictionary_is_so_under_all(world, tmp_path):
    out = tmp_path / "together"
    sweep = world.sweep(out, settings={"massive": 1.3})
    runs = [world.align(n, n, tmp_path / f"alone{n}", massive=1.3) for n in (0, 1)]
    for side in "ab":
        alone = [run.tokens(side)["excluded"].to_numpy() for run in runs]
        assert any((own != alone[0]).any() for own in alone)  # Else this test would prove nothing.
        massive = np.any([own == extract.EXCLUDED_MASSIVE for own in alone], axis=0)
        together = sweep.run.tokens(side)["excluded"].to_numpy()
        first = alone[0] == extract.EXCLUDED_FIRST
        np.testing.assert_array_equal(together == extract.EXCLUDED_MASSIVE, massive & ~first)
    spans = [
        set(zip(*(run.words[name].to_pylist() for name in ("document", "start", "end")), strict=True))
        for run in (sweep.run, *runs)
    ]
    assert spans[0] < spans[1] and spans[0] < spans[2]
    rows = {
        len(features["indptr"])
        for letter in ("a", "a1", "b", "b1")
        for features in list_features(out, letter)[:1]
    }
    assert len(rows) == 1


def test_each_model_runs_once(world, tmp_path, monkeypatch):
    calls = []
    original = extract.capture

    def count(model, ids, mask, sites):
        calls.append((model.name, tuple(sites)))
        return original(model, ids, mask, sites)

    monkeypatch.setattr(extract, "capture", count)
    world.align(0, 0, tmp_path / "alone", massive=0)
    alone = [name for name, sites in calls if sites == SITES[:1]]
    calls.clear()
    world.sweep(tmp_path / "together", settings={"massive": 0})
    together = [name for name, sites in calls if sites == SITES]
    assert together == alone and len(alone) > 6
    assert not [sites for _, sites in calls if len(sites) == 1]


def test_a_further_dictionary_that_fits_another_site_stops_the_sweep(world, tmp_path):
    with pytest.raises(InputError, match=r"sae_a1 does not belong to blocks\.0\.hook_resid_post"):
        world.sweep(tmp_path / "run", options=LoadOptions())


def test_the_manifest_describes_and_checks_every_dictionary(swept):
    manifest = json.loads((swept / "manifest.json").read_text())
    for letter in "ab":
        side = manifest["sides"][letter]
        assert side["site"] == SITES[0] and list(side["others"]) == [f"{letter}1"]
        other = side["others"][f"{letter}1"]
        assert other["site"] == SITES[1] and other["dictionary"]["features"] == 28
        assert other["dictionary"]["digest"] != side["dictionary"]["digest"]
        assert 0 < other["calibration"]["fvu"] < 0.9
        assert other["calibration"]["median_norm"] != side["calibration"]["median_norm"]
    assert open_shards(RunFolder(swept), manifest, ("a1", "b")).features == (28, 24)


def test_one_dictionary_a_side_leaves_the_manifest_as_it_was(world, tmp_path):
    out = tmp_path / "run"
    world.sweep(out, a=(0,), b=(0,))
    assert '"others"' not in (out / "manifest.json").read_text()
    assert '"other_firings"' not in (out / "parts" / "shard-00000.json").read_text()
    before = read_run(out)
    run = world.align(0, 0, out)  # The same pass serves both commands.
    after = read_run(out)
    assert all(after[name] == before[name] for name in before if name != "manifest.json")
    assert len(run.pairs)


def test_an_interrupted_sweep_goes_on_and_ends_as_an_unbroken_one(world, swept, tmp_path):
    for stage, after in (("words", 3), ("cells", 2)):
        out, calls = tmp_path / stage, itertools.count(1)

        def report(told, done, total, stage=stage, after=after, calls=calls):
            if told == stage and done and next(calls) == after:
                raise Stop

        with pytest.raises(Stop):
            world.sweep(out, report=report)
        assert not (out / "grid.parquet").exists()
        kept = {place: place.stat().st_mtime_ns for place in (out / "parts").glob("*.json")}
        assert len(kept) >= after - 1
        world.sweep(out)
        assert {place: place.stat().st_mtime_ns for place in kept} == kept
        own, expected = read_run(out), read_run(swept)
        assert own.keys() == expected.keys()
        for name in own:
            if not name.startswith("parts/") and name not in ("sweep.json",):
                assert own[name] == expected[name], name


def test_damaged_features_of_a_further_dictionary_are_computed_again(world, swept, tmp_path):
    out = shutil.copytree(swept, tmp_path / "run")
    place = out / "features_b1" / "shard-00001.safetensors"
    whole = place.read_bytes()
    place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    world.sweep(out)
    assert place.read_bytes() == whole


def test_fresh_leaves_nothing_of_more_dictionaries(world, swept, tmp_path):
    out = shutil.copytree(swept, tmp_path / "run")
    (out / "features_a1" / "shard-00009.safetensors.partial").write_bytes(b"half")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds a run with other arguments: a\.others"):
        world.sweep(out, a=(0,))
    world.sweep(out, a=(0,), fresh=True)
    assert not (out / "features_a1").exists() and (out / "features_b1").is_dir()
    assert (out / "notes.txt").read_text() == "mine"


def test_features_of_nobodys_run_are_spared(world, tmp_path):
    place = tmp_path / "run" / "features_a1" / "shard-00000.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    for fresh in (False, True):
        with pytest.raises(InputError, match="is not empty and holds no run"):
            world.sweep(tmp_path / "run", fresh=fresh)
    assert place.read_bytes() == b"mine"


def prepare(world, first, others, **options):
    request = SideRequest(first, world.models["model_a"], None, tuple(SideRequest(one) for one in others))
    second = SideRequest(world.saes["b"][0], world.models["model_b"])
    return prepare_sides(request, second, PassSettings(), LoadOptions(**options))[0]


def test_windows_fit_the_dictionary_with_the_shortest_context(world, tmp_path):
    rows = np.random.default_rng(0).normal(size=(99, 16))
    short = write_fitting_sae(tmp_path / "short", rows, SITES[0], context=12)
    side = prepare(world, world.saes["a"][0], [str(short)])
    assert side.limit == 12 and side.others[0].limit == 12
    assert [one.letter for one in side.dictionaries] == ["a", "a1"]
    assert side.others[0].model is side.model


def test_dictionaries_that_contradict_each_other_are_refused(world, tmp_path):
    rows = np.random.default_rng(0).normal(size=(99, 16))
    first = world.saes["a"][0]
    with_bos = str(write_fitting_sae(tmp_path / "bos", rows, SITES[0], bos=True))
    with pytest.raises(InputError, match=r"bos was trained with BOS before every text, and .*sae_a0 without"):
        prepare(world, first, [with_bos])
    other = str(write_fitting_sae(tmp_path / "other", rows, SITES[0], model="somebody/else"))
    with pytest.raises(InputError, match=r"sae_a0 is of somebody/tiny, and --sae-a .*other of somebody/else"):
        prepare(world, first, [other])
    assert len(prepare(world, first, [other], accept_misfit=True).others) == 1
    twin = str(shutil.copytree(first, tmp_path / "twin"))
    with pytest.raises(InputError, match=r"the same SAE at blocks.1.hook_resid_post: .*sae_a0 and .*twin"):
        prepare(world, first, [twin])


def test_components_and_dimensions_stand_beside_saes(world, tmp_path):
    site = SITES[1]
    sweep = sweep_models(
        [world.saes["a"][0], f"pca:{site}:5", f"neurons:{site.replace('hook_resid_post', 'mlp.hook_post')}"],
        [world.saes["b"][0]],
        world.corpus,
        tmp_path / "run",
        sweep=QUICK,
        settings=PassSettings(shard_words=200),
        warn=lambda _: None,
        **world.models,
    )
    assert (tmp_path / "run" / "components_a1.npz").is_file()
    rows = sweep.grid.to_pylist()
    assert {row["features_a"] for row in rows} == {24, 5, 32}
    neurons = {row["metric"]: row for row in rows if row["features_a"] == 32}
    assert neurons["cka"]["value"] is None and "no decoder" in neurons["cka"]["warning"]
    assert neurons["mean_r_heldout"]["value"] is not None or "too few" in neurons["mean_r_heldout"]["warning"]
    again = sweep.summary["dictionaries"]["a1"]["digest"]
    assert again and again == sweep.run.manifest["sides"]["a"]["others"]["a1"]["dictionary"]["digest"]
