"""Maps: neighbours against a slow search, turns, seeds, what is kept, and why maps may be missing."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run_helpers import finished, one_thread, pair, texts  # noqa: F401
from tests.tiny_runs import build_run
from xmodel.datasets.concept_sets import Concept
from xmodel.errors import InputError
from xmodel.pairing.results import open_run
from xmodel.report.page import maps as maps_module
from xmodel.report.page.chunks import dump_script
from xmodel.report.page.feature_concepts import find_concepts, name_concepts
from xmodel.report.page.layouts import find_neighbours, lay_out, turn_onto
from xmodel.report.page.maps import BestPartners, build_maps, count_firings, find_best_partners
from xmodel.similarity.concepts import find_members


def draw_units(count, width, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def draw_clusters(groups=3, each=30, width=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, width))
    rows = np.repeat(centres, each, axis=0) + 0.1 * rng.standard_normal((groups * each, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Warnings(list):
    def __call__(self, text):
        self.append(text)


@pytest.fixture(scope="module")
def mapped(finished, tmp_path_factory):
    """A real run with its maps."""
    run = open_run(shutil.copytree(finished, tmp_path_factory.mktemp("mapped") / "run"))
    return run, build_maps(run, seed=3)


@pytest.fixture
def copied(mapped, tmp_path):
    return open_run(shutil.copytree(mapped[0].path, tmp_path / "run"))


@settings(deadline=None, max_examples=30)
@given(count=st.integers(3, 40), seed=st.integers(0, 99), tile=st.sampled_from([1, 7, 1024]))
def test_neighbours_are_those_of_a_slow_search(count, seed, tile):
    rows = draw_units(count, 5, seed)
    most = min(6, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xmodel.report.page.layouts._TILE", tile)
        numbers, distances = find_neighbours(rows, most)
    for row in range(count):
        every = 1 - rows.astype(np.float64) @ rows[row].astype(np.float64)
        others = sorted((one for one in range(count) if one != row), key=lambda one: every[one])
        assert numbers[row].tolist() == [row, *others[: most - 1]]
        np.testing.assert_allclose(distances[row, 1:], every[others[: most - 1]], atol=1e-5)
        assert distances[row, 0] == 0


@settings(deadline=None, max_examples=40)
@given(
    angle=st.floats(0, 6.28),
    mirrored=st.booleans(),
    scale=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_a_turned_copy_is_turned_back(angle, mirrored, scale, seed):
    rng = np.random.default_rng(seed)
    fixed = rng.standard_normal((30, 2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        rotation = rotation @ np.diag([1.0, -1.0])
    order = rng.permutation(30)
    moving = (fixed @ rotation * scale + rng.standard_normal(2))[order]
    tied = np.arange(20)
    turn = turn_onto(moving, fixed, (tied, order[tied]), draws=5)
    np.testing.assert_allclose(turn.positions, fixed[order], atol=1e-8)
    assert turn.agreement == pytest.approx(1) and turn.chance < turn.agreement and turn.ties == 20
    assert turn.p == pytest.approx(1 / 6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 200))
def test_turning_keeps_shapes_and_brings_ties_nearer_than_no_turn_does(seed):
    rng = np.random.default_rng(seed)
    moving, fixed = rng.standard_normal((25, 2)), rng.standard_normal((30, 2)) * 4
    ties = np.arange(15), rng.permutation(30)[:15]
    turn = turn_onto(moving, fixed, ties, draws=1)
    far = np.linalg.norm(moving[:, None] - moving[None], axis=2)
    turned = np.linalg.norm(turn.positions[:, None] - turn.positions[None], axis=2)
    ratio = turned[far > 0] / far[far > 0]
    np.testing.assert_allclose(ratio, ratio[0])
    other = fixed[ties[1]]
    shifted = (moving - moving[ties[0]].mean(0)) * ratio[0] + other.mean(0)
    assert ((turn.positions[ties[0]] - other) ** 2).sum() <= ((shifted[ties[0]] - other) ** 2).sum() + 1e-9


def test_without_ties_nothing_is_turned():
    moving = np.random.default_rng(0).standard_normal((9, 2))
    none = np.zeros(0, dtype=np.int64)
    turn = turn_onto(moving, moving, (none, none))
    np.testing.assert_array_equal(turn.positions, moving)
    assert np.isnan(turn.agreement) and turn.ties == 0


def test_clusters_stay_together_and_equal_seeds_give_equal_maps(recwarn, capfd):
    rows = draw_clusters()
    found = lay_out(rows, 1)
    np.testing.assert_array_equal(found, lay_out(rows, 1))
    assert not np.array_equal(found, lay_out(rows, 2))
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 30 == np.arange(90) // 30).all()
    assert not recwarn.list and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [10, 11, 16])
def test_few_directions_can_be_laid_out(count):
    assert np.isfinite(lay_out(draw_units(count, 4), 0)).all()


def test_neighbours_that_umap_finds_itself_keep_clusters_together_too(monkeypatch):
    monkeypatch.setattr("xmodel.report.page.layouts._MOST_EXACT", 0)
    found = lay_out(draw_clusters(), 1)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 30 == np.arange(90) // 30).all()


def test_a_map_has_the_features_that_fire_with_their_partners(mapped):
    run, found = mapped
    best = find_best_partners(run)
    pairs = run.pairs.to_pandas()
    for side, other in ("ab", "ba"):
        dense = run.features(side)
        own = found.payload[side]
        firings = np.diff(dense.tocsc().indptr)
        np.testing.assert_array_equal(count_firings(run, side), firings)
        assert own["feature"] == np.flatnonzero(firings).tolist()
        for place, feature in enumerate(own["feature"]):
            rows = pairs[pairs[f"feature_{side}"] == feature]
            partner = None if rows.empty else int(rows.loc[rows.r.abs().idxmax(), f"feature_{other}"])
            assert own["partner"][place] == partner
            assert best[side].partner[feature] == (-1 if partner is None else partner)
            assert own["rate"][place] == pytest.approx(firings[feature] / dense.shape[0], rel=0.01)
            if partner is not None:
                assert own["r"][place] == pytest.approx(rows.r.abs().max(), abs=1e-4)
        held = run.words["split"].to_pandas().to_numpy() == "discovery"
        assert (
            own["discovery"] == np.diff(dense[np.flatnonzero(held)].tocsc().indptr)[own["feature"]].tolist()
        )
        assert len({len(column) for column in own.values()}) == 1
    assert found.payload["floor"] == run.manifest["pairing"]["floor"] and not found.payload["filtered"]
    dump_script(found.payload)
    assert [figure.name for figure in found.figures] == ["map-a", "map-b"]


def test_figures_hold_what_the_chunk_holds(mapped):
    _, found = mapped
    for figure, side in zip(found.figures, "ab", strict=True):
        own = found.payload[side]
        shown = dict(zip(figure.hover, zip(figure.x, figure.y, figure.groups, strict=True), strict=True))
        for feature, x, y, concept in zip(own["feature"], own["x"], own["y"], own["concept"], strict=True):
            named = maps_module.NO_CONCEPT if concept < 0 else found.payload["concepts"][concept]
            assert shown[f"{side} {feature}"] == (
                pytest.approx(x, abs=1e-3),
                pytest.approx(y, abs=1e-3),
                named,
            )
        assert figure.group_order == tuple(found.payload["concepts"]) and figure.bare


def test_kept_layouts_are_used_until_the_seed_is_another(copied, mapped, monkeypatch):
    calls = []

    def lay_out_again(rows, seed):
        calls.append(seed)
        return lay_out(rows, seed)

    monkeypatch.setattr(maps_module, "lay_out", lay_out_again)
    assert build_maps(copied, seed=3).payload == mapped[1].payload and calls == []
    assert build_maps(copied, seed=4).payload != mapped[1].payload and calls == [4, 4]


@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.99])
def test_damaged_layouts_are_made_anew_with_a_warning(copied, mapped, keep):
    place = copied.folder / "maps.npz"
    content = place.read_bytes()
    place.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    warned = Warnings()
    assert build_maps(copied, seed=3, warn=warned).payload == mapped[1].payload
    assert len(warned) == 1 and "damaged" in warned[0]
    build_maps(copied, seed=3, warn=warned)
    assert len(warned) == 1


def test_changed_bytes_of_layouts_are_noticed(copied, mapped):
    place = copied.folder / "maps.npz"
    content = bytearray(place.read_bytes())
    at = content.index(b"positions_b.npy") + 300
    content[at] ^= 0xFF
    place.write_bytes(bytes(content))
    warned = Warnings()
    assert build_maps(copied, seed=3, warn=warned).payload == mapped[1].payload
    assert len(warned) == 1


def test_partners_and_concepts_can_be_given(copied):
    a, b = copied.shards.features
    partners = {
        "a": BestPartners(np.arange(a) % b, np.full(a, 0.5)),
        "b": BestPartners(np.full(b, -1), np.full(b, np.nan)),
    }
    concepts = {"a": ["sea_and_ships"] * a, "b": [None] * b}
    found = build_maps(copied, seed=3, partners=partners, concepts=concepts)
    assert found.payload["a"]["partner"] == [one % b for one in found.payload["a"]["feature"]]
    assert set(found.payload["b"]["partner"]) == {None} and set(found.payload["b"]["r"]) == {None}
    assert found.payload["concepts"] == ["sea and ships"] and set(found.payload["b"]["concept"]) == {-1}
    assert "too few" in found.part.sentences[0]


@pytest.mark.parametrize("source", ["neurons:blocks.1.hook_resid_post", "pca:blocks.1.hook_resid_post:8"])
def test_features_without_geometry_have_no_map(copied, source):
    manifest = copied.manifest
    manifest["arguments"]["b"]["dictionary"] = source
    (copied.path / "manifest.json").write_text(json.dumps(manifest))
    found = build_maps(copied, seed=3)
    assert found.payload is None and not found.figures and source in found.part.missing.reason


def test_dictionaries_that_moved_are_named(copied, monkeypatch):
    def fail(run, manifest, letter, **options):
        raise InputError("the folder is gone.")

    monkeypatch.setattr(maps_module, "load_decoder", fail)
    found = build_maps(copied, seed=5)
    assert found.payload is None and "the folder is gone." in found.part.missing.reason
    # What is kept needs no dictionary.
    assert build_maps(copied, seed=3).payload is not None


def test_a_handful_of_features_is_no_map(copied, monkeypatch):
    monkeypatch.setattr(maps_module, "count_firings", lambda run, side: np.arange(20) < 9)
    assert "9 features" in build_maps(copied).part.missing.reason


def test_features_that_write_nothing_are_left_out(copied, monkeypatch):
    load = maps_module.load_decoder
    live = np.flatnonzero(count_firings(copied, "a")).tolist()

    def silence(run, manifest, letter, **options):
        decoder = load(run, manifest, letter, **options)
        if letter == "a":
            decoder[live[:2]] = 0
        return decoder

    monkeypatch.setattr(maps_module, "load_decoder", silence)
    assert build_maps(copied, seed=6).payload["a"]["feature"] == live[2:]


CONCEPTS = [
    Concept("sea", frozenset({"whale", "sea", "ship"})),
    Concept("colour", frozenset({"red", "green", "whale"})),
]


def test_a_concept_needs_two_top_words_and_most_decide():
    top = [["whale", "the"], ["whale", "sea"], ["red", "green", "whale"], ["whale", "x", "red", "sea"], []]
    assert name_concepts(top, CONCEPTS) == [None, "sea", "colour", "sea", None]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from(["whale", "sea", "red", "green", "the", "x"]), unique=True)))
def test_concepts_are_those_of_scoring(top):
    features = np.arange(len(top), dtype=np.int32)
    members = find_members(top, features, CONCEPTS)
    for feature, name in enumerate(name_concepts(top, CONCEPTS)):
        belongs = {concept for concept, own in members.items() if feature in own}
        assert (name in belongs) if belongs else name is None


def test_planted_concepts_are_found(tmp_path):
    run = build_run(tmp_path / "run").run
    found = find_concepts(run, "a")
    assert found[1] == "sea_and_ships" and found[5] == "numbers" and len(found) == run.shards.features[0]
