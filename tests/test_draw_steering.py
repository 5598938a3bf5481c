"""The pictures of docs/steering.md: drawn from a tiny steered run, and those that are there."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.recipes import draw_steering, steering_material
from tests.steered_runs import choose, copied, deep, one_thread, run  # noqa: F401
from xmodel.steering.responses import correlate_responses
from xmodel.steering.results import Steering
from xmodel.steering.settings import SteerSettings
from xmodel.steering.steering import steer_run

DOCS = Path(__file__).resolve().parent.parent / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 60_000


@pytest.fixture(scope="module")
def material(run):
    steer_run(run, choose(), warn=lambda text: None)
    return steering_material.gather_material(run.path)


@pytest.fixture(scope="module")
def pictures(material, tmp_path_factory):
    return draw_steering.draw_all(material, tmp_path_factory.mktemp("pictures"))


def read_texts(picture):
    return ["".join(one.itertext()) for one in ElementTree.parse(picture).iter(f"{SVG}text")]


def test_every_picture_is_an_svg_of_the_same_width_whose_text_is_text(pictures):
    assert [one.name for one in pictures] == [f"steering-{name}.svg" for name in draw_steering.PICTURES]
    for picture in pictures:
        root = ElementTree.parse(picture).getroot()
        assert root.tag == f"{SVG}svg" and root.get("width") == "540pt"
        assert len(read_texts(picture)) > 5
        for image in root.iter(f"{SVG}image"):
            data = image.get("{http://www.w3.org/1999/xlink}href").split(",")[1]
            assert Image.open(BytesIO(b64decode(data))).mode == "P"


def test_pictures_say_what_was_measured(material, pictures):
    idea, copy, pairs, nulls, doses = map(read_texts, pictures)
    example = material.example
    assert set(example.words) <= set(idea)
    assert f"T = {example.transfer:.2f}" in idea and f"model A, f = feature {example.features[0]:,}" in idea
    assert "all T exactly 0" in copy and f"chance {1 / 6:.0%}" in copy
    odd = material.matrices["odd"][material.settings.primary]
    assert f"partners {np.diag(odd).mean():.3f}" in pairs and "Layers after the site re-initialised" in pairs
    assert {"pairs", "random layers", "live features", "of 30", "of 72"} <= set(nulls)
    assert {"odd part: the effect", "even part: damage", "KL divergence (nats)"} <= set(doses)


def test_the_same_material_gives_the_same_bytes(material, pictures, tmp_path):
    again = draw_steering.draw_all(material, tmp_path)
    assert [one.read_bytes() for one in again] == [one.read_bytes() for one in pictures]
    other = replace(material, example=replace(material.example, transfer=0.123))
    changed = draw_steering.draw_all(other, tmp_path)
    assert changed[0].read_bytes() != pictures[0].read_bytes()


def test_the_example_is_what_it_says(material):
    """T of its changes, which are what its Gram matrices differ by."""
    example = material.example
    count = len(example.words)
    odd = [correlate_responses(example.odd[:1], example.odd[1:])[0, 0]]
    assert odd == pytest.approx([example.transfer])
    for grams, change in zip(example.grams, example.odd, strict=True):
        assert grams.shape == (2, count, count)
        difference = (grams[0] - grams[1]) / 2
        centred = center_slowly(difference)
        assert centred[np.triu_indices(count, 1)] == pytest.approx(change, abs=1e-9)


def center_slowly(k):
    n = len(k)
    rows, total = k.sum(axis=1), k.sum()
    found = np.zeros_like(k)
    for i in range(n):
        for j in range(n):
            if i != j:
                found[i, j] = k[i, j] - (rows[i] + rows[j]) / (n - 2) + total / ((n - 1) * (n - 2))
    return found


def test_without_layers_only_the_copy_finds_partners(material):
    own = material.copy
    assert own.mean["none", False] == 0 and own.top1["none", False] == pytest.approx(1 / 6)
    assert own.mean["none", True] != 0 != own.mean["trained", True]
    assert own.mean["trained", False] == pytest.approx(material.cell["mean_diagonal"], abs=1e-6)
    assert own.random["raw"].shape == (3, 30, 30)


def test_live_features_are_those_of_the_run(material, run):
    table = Steering(run, material.summary).table
    means = np.array(table["mean_live"]).reshape(6, -1)[:, material.settings.primary]
    assert material.live.mean(axis=1) == pytest.approx(means, abs=1e-6)


def test_settings_come_back_as_they_were():
    own = SteerSettings(features=((1, 2), (3, 4)), contrasts=("tense",))
    assert steering_material.restore_settings(json.loads(json.dumps(own.as_json()))) == own


def test_a_run_that_lacks_what_is_drawn_is_refused(material, copied):
    summary = copied.path / "steering.json"
    changes = {"mode": "ablate", "reinit": 0, "random": 0, "curve_pairs": 0}
    for name, value in changes.items():
        settings = material.summary["settings"] | {name: value}
        summary.write_text(json.dumps(material.summary | {"settings": settings}), "utf-8")
        with pytest.raises(SystemExit, match="steer it with the defaults"):
            steering_material.gather_material(copied.path)
    summary.write_text(json.dumps(material.summary | {"pairs": material.summary["pairs"][:-1]}), "utf-8")
    with pytest.raises(SystemExit, match="chose other pairs"):
        steering_material.gather_material(copied.path)
    summary.unlink()
    with pytest.raises(SystemExit, match="not steered yet"):
        steering_material.gather_material(copied.path)


@pytest.mark.parametrize("name", draw_steering.PICTURES)
def test_the_pictures_of_the_documentation_are_small(name):
    content = (DOCS / f"steering-{name}.svg").read_text("utf-8")
    assert len(content.encode()) < MOST_BYTES
    assert ElementTree.fromstring(content.encode()).get("width") == "540pt"
    assert set(re.findall(r"font-family: ([^;}\"]*)", content)) == {draw_steering.FONT}
