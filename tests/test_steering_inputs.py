"""What a user may get wrong about steering: each is refused at once, and told what to do."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.run_helpers import Stop
from tests.steered_runs import align_deep, choose, copied, deep, one_thread, run  # noqa: F401 (fixtures)
from tests.tiny_pair import read_rows, read_texts, write_fitting_sae
from xmodel.errors import InputError
from xmodel.pairing.reloading import load_sides
from xmodel.pairing.results import open_run
from xmodel.pairing.settings import PairSettings
from xmodel.steering import collecting, steering
from xmodel.steering.session import open_session, take_units
from xmodel.steering.settings import SteerSettings
from xmodel.steering.steering import steer_run


def get_refusal(call):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) > 25
    return message


def refuse(given, **changes):
    return get_refusal(lambda: steer_run(given, choose(**changes), warn=lambda _: None))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"doses": ()}, "doses are none"),
        ({"doses": (0.0, 0.1)}, "one of 0 changes nothing"),
        ({"doses": (0.1, 11)}, "up to 10"),
        ({"doses": (-0.1,)}, "above 0"),
        ({"doses": (float("nan"),)}, "doses are nan"),
        ({"doses": (float("inf"),)}, "doses are inf"),
        ({"curve_doses": (0.1, 0.0)}, "above 0"),
        ({"depths": ()}, "depths are none"),
        ({"depths": (0.0,)}, "between 0 and 1"),
        ({"depths": (1.5,)}, "0.25,0.5,0.75"),
        ({"depths": (float("nan"),)}, "depths are nan"),
        ({"words": 19}, "20 or more"),
        ({"pairs": 0}, "pairs is 0"),
        ({"passage_words": 1}, "5 or more"),
        ({"permutations": 0}, "1 or more"),
        ({"random": -1}, "0 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"budget": 1000}, "1,048,576 or more"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"mode": "pull"}, "push or ablate"),
        ({"rule": "best"}, "mutual"),
        ({"reinit_how": "twice"}, "initial or shuffled"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, told):
    assert told in get_refusal(lambda: SteerSettings(**changes))


def test_settings_are_put_in_order():
    chosen = SteerSettings(doses=(0.5, 0.1, 0.5), depths=(0.75, 0.25))
    assert chosen.doses == (0.1, 0.5) and chosen.depths == (0.25, 0.75)
    assert chosen.cells == [(0.1, 0.25), (0.1, 0.75), (0.5, 0.25), (0.5, 0.75)]
    assert json.loads(json.dumps(chosen.as_json()))["doses"] == [0.1, 0.5]


@pytest.mark.parametrize(
    "doses, depths, cell",
    [
        ((0.1, 0.25), (0.25, 0.5, 0.75), (0.25, 0.5)),
        ((0.5,), (0.3,), (0.5, 0.3)),
        ((0.2, 1), (0.1, 0.9), (0.2, 0.9)),
    ],
)
def test_the_primary_cell_is_chosen_before_anything_is_measured(doses, depths, cell):
    chosen = SteerSettings(doses=doses, depths=depths)
    assert chosen.cells[chosen.primary] == cell
    ablated = SteerSettings(doses=doses, depths=depths, mode="ablate")
    assert ablated.cells[ablated.primary] == (None, cell[1])


def test_a_feature_that_does_not_exist_is_refused(run):
    assert "there are 0 to 23" in refuse(run, features=((0, 24), (1, 1), (2, 2)))
    assert "named twice" in refuse(run, features=((0, 1), (0, 1), (2, 2)))


def test_a_feature_that_never_fires_is_refused(deep, tmp_path):
    sae = shutil.copytree(deep.sae_a, tmp_path / "sae")
    (weights,) = sae.glob("*.safetensors")
    tensors = load_file(weights)
    tensors["b_enc"][7] = -1e6
    save_file(tensors, weights)
    found = align_deep(dataclasses.replace(deep, sae_a=sae), tmp_path / "run")
    message = refuse(found, features=((6, 1), (7, 2), (8, 3)))
    assert "feature 7 of a never fires" in message and "xmodel features" in message
    assert 7 not in open_session(found, choose()).pairs.a


@pytest.mark.parametrize(
    "changes", [{"dtype": "float31"}, {"device": "abacus"}, {"contrasts": ("weather",)}], ids=str
)
def test_what_can_be_seen_to_be_wrong_is_told_before_models_are_loaded(changes, run, monkeypatch):
    monkeypatch.setattr(steering, "open_session", lambda *_: pytest.fail("models are loaded"))
    assert next(iter(changes.values()))[0] in refuse(run, **changes)


def test_a_decoder_row_of_zeros_is_no_direction(run):
    side = load_sides(run)[0]
    with torch.no_grad():
        side.dictionary.decoder[3] = 0
    assert "feature 3" in get_refusal(lambda: take_units(side, np.array([1, 3])))
    assert np.linalg.norm(take_units(side, np.array([1, 2])), axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    "site, told",
    [
        ("blocks.5.hook_resid_post", "no block of .* comes after it.*hook_resid_pre"),
        ("blocks.1.attn.hook_z", "cannot be steered: expected a site"),
        ("blocks.1.mlp.hook_post", "cannot be steered: expected a site"),
    ],
)
def test_a_site_with_nothing_after_it_or_outside_of_the_stream_is_refused(site, told, deep, tmp_path):
    """The same model on both sides, each with its dictionary there."""
    folder = deep.model_a
    sae = write_fitting_sae(tmp_path / "sae", read_rows(folder, site), site, features=16)
    pair = dataclasses.replace(deep, model_b=folder, sae_a=sae, sae_b=sae)
    assert re.search(told, refuse(align_deep(pair, tmp_path / "run")))


@pytest.mark.parametrize("what", ["model", "dictionary"])
def test_a_model_or_dictionary_that_changed_since_is_refused(what, deep, tmp_path):
    own = {name: shutil.copytree(getattr(deep, name), tmp_path / name) for name in ("model_a", "sae_a")}
    pair = dataclasses.replace(deep, **own)
    found = align_deep(pair, tmp_path / "run")
    (weights,) = own["model_a" if what == "model" else "sae_a"].glob("*.safetensors")
    tensors = load_file(weights)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name][0, 0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "has changed since" in refuse(found)


def test_a_model_that_is_gone_is_refused(deep, tmp_path):
    moved = shutil.copytree(deep.model_a, tmp_path / "model")
    found = align_deep(dataclasses.replace(deep, model_a=moved), tmp_path / "run")
    shutil.rmtree(moved)
    assert str(moved) in refuse(found)


def test_pairs_of_another_run_are_refused(copied, deep, tmp_path):
    other = align_deep(deep, tmp_path / "other", read_texts()[:20])
    shutil.copy(other.path / "pairs.parquet", copied.path / "pairs.parquet")
    assert "xmodel pair" in refuse(copied)


def cut_texts(documents, words):
    """Documents of a few words each."""
    page = " ".join(read_texts()).split()
    return [" ".join(page[words * number : words * (number + 1)]) for number in range(documents)]


def test_too_few_heldout_words_are_refused(deep, tmp_path):
    found = align_deep(
        deep, tmp_path / "run", cut_texts(12, 3), pairing=PairSettings(min_firings=1, workers=1)
    )
    assert re.search("held-out words.*(longer|more)", refuse(found))


def test_fewer_words_than_asked_for_are_told(deep, tmp_path):
    told = []
    few = {"random": 0, "live": 0, "reinit": 0, "curve_pairs": 0, "doses": (0.1,), "depths": (0.5,)}
    found = align_deep(deep, tmp_path / "run", cut_texts(20, 10))
    found = steer_run(found, choose(words=5000, **few), warn=told.append)
    assert 20 <= found.summary["words"] < 500
    assert any("where 5000 were asked for" in one for one in told)


def test_words_with_massive_activations_are_not_read(copied):
    manifest = json.loads((copied.path / "manifest.json").read_text())
    before = open_session(copied, choose())
    manifest["arguments"]["settings"]["massive"] = 1.1
    (copied.path / "manifest.json").write_text(json.dumps(manifest))
    after = open_session(copied, choose(words=60))
    assert before.words == 40 and 20 <= after.words < 60
    for side in after.sides:
        norms = torch.linalg.vector_norm(side.take(side.replay.hidden), dim=-1)
        assert float(norms.median()) == pytest.approx(side.scale)
        assert len(side.rows) == after.words
    manifest["arguments"]["settings"]["massive"] = 1.0001
    (copied.path / "manifest.json").write_text(json.dumps(manifest))
    assert "massive activations" in refuse(copied)


def test_a_run_that_was_interrupted_is_refused(deep, tmp_path):
    def stop(stage, done, total):
        if stage == "words" and done:
            raise Stop

    with pytest.raises(Stop):
        align_deep(deep, tmp_path / "run", report=stop)
    message = get_refusal(lambda: steer_run(open_run(tmp_path / "run"), choose()))
    assert "again" in message


def test_memory_for_responses_is_asked_for_before_anything_is_pushed(run, monkeypatch):
    monkeypatch.setattr(collecting, "MOST_BYTES", 1 << 16)
    assert "fewer --words" in refuse(run)


def test_a_budget_too_small_for_a_single_push_is_refused(run):
    assert "budget" in refuse(run, budget=1 << 20, words=400, passage_words=50)


def test_a_contrast_set_that_is_not_there_is_refused(run, tmp_path):
    assert "past-present" in refuse(run, contrasts=("weather",))
    assert "cannot be read" in refuse(run, contrast_file=str(tmp_path / "none.yaml"))
    (tmp_path / "own.yaml").write_text("warm:\n  positive: [It is hot]\n  negative: []\n")
    assert "warm" in refuse(run, contrast_file=str(tmp_path / "own.yaml"))


def test_too_few_pairs_are_told_and_not_tested(copied):
    told = []
    few = {"random": 4, "live": 0, "reinit": 1, "curve_pairs": 1}
    found = steer_run(copied, choose(features=((0, 1), (0, 2)), **few), warn=told.append)
    assert any("share a feature" in one for one in told) and any("no test over pairs" in one for one in told)
    assert found.summary["p"] is None and found.summary["pairs_sharing_no_feature"] == 1
    assert len(found.table) == 2 * 6 and all(one["p"] is not None for one in found.summary["pairs"])
