"""What the published recipe reads of the models, one block early and padding, against Hugging Face's pass."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from tests.lan2024_reference import publish
from tests.tiny_pair import align_pair, read_run, read_texts, write_pair, write_sae
from xmodel.errors import InputError
from xmodel.pairing.reloading import load_sides
from xmodel.pairing.results import open_run
from xmodel.similarity.lan2024 import INTENDED, Lan2024, score_lan2024, tabulate_lan2024
from xmodel.similarity.lan2024_pass import (
    FOLDER,
    find_padding_id,
    read_early,
    read_padded,
    read_padding,
    shift_site,
)
from xmodel.similarity.orders import draw_orders

BLOCK = 1
"""Both SAEs are of the output of this block."""
TEXTS = 12
"""Paragraphs of the tiny corpus."""
PREFIX = {"a": (), "b": (2,)}
END = {"a": 0, "b": 1}
"""End-of-text ids."""


def be_silent(*_):
    """Progress and warnings are not of interest."""


def refuse_to_load():
    raise AssertionError("the models were loaded again")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Features of different size, since principal components of equally long vectors would be arbitrary."""
    written = write_pair(tmp_path_factory.mktemp("pair"))
    for side in "ab":
        folder = getattr(written, f"sae_{side}")
        own = load_file(folder / "sae_weights.safetensors")
        size = np.random.default_rng(ord(side)).uniform(0.5, 2, len(own["b_enc"])).astype(np.float32)
        weights = own["W_enc"] / size, own["b_enc"] / size, own["W_dec"] * size[:, None], own["b_dec"]
        write_sae(folder, *weights, f"blocks.{BLOCK}.hook_resid_post", bos=bool(PREFIX[side]))
    return written


@pytest.fixture(scope="module")
def run(pair, tmp_path_factory):
    return align_pair(pair, read_texts()[:TEXTS], tmp_path_factory.mktemp("runs") / "run", warn=be_silent)


@pytest.fixture(scope="module")
def sides(run):
    return load_sides(run)


@pytest.fixture(scope="module")
def windows(run):
    return {side: list_windows(run, side) for side in "ab"}


def list_windows(run, side):
    """Ids and token rows of every window, in order; window numbers begin anew with every shard."""
    table = run.tokens(side).to_pandas()
    table["row"] = np.arange(len(table))
    # A shard's documents follow each other, so a window number that falls begins a shard.
    inside = table[table.window >= 0]
    begins = (inside.window.diff() != 0) | (inside.document.diff() != 0)
    return [(own["id"].tolist(), own["row"].tolist()) for _, own in inside.groupby(begins.cumsum())]


@cache
def load_model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def run_model(pair, side, ids, mask=None):
    """[layers + 1] hidden states of one window, as Hugging Face gives them."""
    model = load_model(getattr(pair, f"model_{side}"))
    mask = None if mask is None else torch.tensor([mask])
    with torch.inference_mode():
        return model(torch.tensor([ids]), attention_mask=mask, output_hidden_states=True).hidden_states


def encode(pair, side, rows):
    """[n, F] what a standard SAE makes of rows, by its formula."""
    own = load_file(getattr(pair, f"sae_{side}") / "sae_weights.safetensors")
    return np.maximum((rows - own["b_dec"]) @ own["W_enc"] + own["b_enc"], 0)


def encode_words(run, pair, side, windows, layer):
    """[W, F] features of every word's last token that is not left out, from ``hidden_states[layer]``."""
    tokens = run.tokens(side).to_pandas()
    states = np.zeros((len(tokens), 16), dtype=np.float32)
    for ids, rows in windows:
        hidden = run_model(pair, side, [*PREFIX[side], *ids])[layer][0]
        states[rows] = hidden[len(PREFIX[side]) :].numpy()
    ends = {
        "document": tokens.document.to_numpy(),
        "start": tokens.start.to_numpy(),
        "end": tokens.end.to_numpy(),
    }
    kept = (tokens.excluded == 0).to_numpy()
    last = []
    for word in run.words.select(["document", "start", "end"]).to_pylist():
        own = kept & (ends["document"] == word["document"])
        own &= (ends["start"] < word["end"]) & (ends["end"] > word["start"])
        last.append(np.flatnonzero(own)[-1])
    return encode(pair, side, states[last])


def encode_padding(pair, windows, layer):
    """[P, F] of both sides: the i-th padding of A's window with the i-th of B's, as many as both have."""
    longest = {side: max(len(ids) for ids, _ in windows[side]) for side in "ab"}
    found = {"a": [], "b": []}
    for (ids_a, _), (ids_b, _) in zip(windows["a"], windows["b"], strict=True):
        pads = min(longest["a"] - len(ids_a), longest["b"] - len(ids_b))
        for side, ids in (("a", ids_a), ("b", ids_b)):
            padded = [*PREFIX[side], *ids, *[END[side]] * (longest[side] - len(ids))]
            real = len(PREFIX[side]) + len(ids)
            mask = [1] * real + [0] * (len(padded) - real)
            hidden = run_model(pair, side, padded, mask)[layer][0]
            found[side].append(hidden[real : real + pads].numpy())
    return {side: encode(pair, side, np.concatenate(rows)) for side, rows in found.items()}


def read_dense(shards, side):
    parts = [shards.load(side, number) for number in range(len(shards))]
    dense = [np.zeros((len(part), part.features), np.float32) for part in parts]
    for rows, part in zip(dense, parts, strict=True):
        rows[np.repeat(np.arange(len(part)), np.diff(part.indptr)), part.indices] = part.values
    return np.concatenate(dense)


def read_features(run):
    """Every file of features that was read besides the run's own, by its name."""
    return {path: path.read_bytes() for path in (run.path / FOLDER).rglob("*.safetensors")}


def test_only_outputs_of_blocks_are_read_elsewhere():
    assert shift_site("blocks.9.hook_resid_post") == "blocks.8.hook_resid_post"
    assert shift_site("blocks.0.hook_resid_post") == "blocks.0.hook_resid_pre"
    for site in ("blocks.4.hook_resid_pre", "blocks.4.hook_mlp_out", "blocks.4.attn.hook_z"):
        assert shift_site(site) == site


@pytest.mark.parametrize("side", ["a", "b"])
def test_one_block_early_is_the_hidden_state_of_that_number(run, pair, sides, windows, side):
    early = read_early(run, lambda: sides, be_silent)
    expected = encode_words(run, pair, side, windows[side], BLOCK)
    assert early.words.column("text") == run.words.column("text")
    np.testing.assert_allclose(read_dense(early.shards, side), expected, atol=2e-4)
    own = encode_words(run, pair, side, windows[side], BLOCK + 1)
    np.testing.assert_allclose(read_dense(run.shards, side), own, atol=2e-4)
    assert np.abs(own - expected).max() > 0.1


@pytest.mark.parametrize("early", [False, True])
def test_padding_is_that_of_a_padded_text_in_hugging_face(run, pair, sides, windows, early):
    shards = read_padding(run, lambda: sides, be_silent, early=early)
    expected = encode_padding(pair, windows, BLOCK if early else BLOCK + 1)
    assert shards.bounds[-1] == len(expected["a"]) > 50
    for side in "ab":
        np.testing.assert_allclose(read_dense(shards, side), expected[side], atol=2e-4)


def test_padding_leaves_the_words_before_it_as_they_are(sides, windows):
    for side in sides:
        ids = np.array([[*side.prefix, *windows[side.letter][0][0]]])
        padded = np.pad(ids, ((0, 0), (0, 9)), constant_values=find_padding_id(side.model))
        plain = read_padded(side, ids, np.array([ids.shape[1]]))
        with_padding = read_padded(side, padded, np.array([ids.shape[1]]))
        torch.testing.assert_close(with_padding[:, : ids.shape[1]], plain, atol=1e-5, rtol=1e-5)


def test_all_switches_on_equal_the_literal_recipe(run, pair, sides, windows):
    padding = encode_padding(pair, windows, BLOCK)
    arrays = {
        side: np.concatenate([encode_words(run, pair, side, windows[side], BLOCK), padding[side]])
        for side in "ab"
    }
    labels = [*run.words["text"].to_pylist(), *["<|endoftext|>"] * len(padding["a"])]
    expected = publish(
        *(arrays[side].astype(float) for side in "ab"),
        labels,
        labels,
        *(side.dictionary.decoder.numpy() for side in sides),
        lambda n: draw_orders(n, 100, np.random.default_rng(5)),
    )
    found = score_lan2024(run, Lan2024(), seed=5, warn=be_silent)
    assert (found.words, found.padding) == (len(run.words), len(padding["a"]))
    assert (found.pairs, found.k) == (expected["pairs"], expected["k"])
    for name in ("mean_actv_corr", "mean_r", "svcca", "null_mean"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-4), name
    assert found.p == pytest.approx(expected["p"])
    working = score_lan2024(run, Lan2024(noop_filter=False), warn=be_silent)
    assert working.pairs == expected["intended_pairs"] < expected["pairs"]


def test_switches_of_the_pass_change_the_correlation_and_leave_the_run_alone(run, sides):
    before = {name: data for name, data in read_run(run.path).items() if not name.startswith(FOLDER)}
    plain = score_lan2024(run, INTENDED, warn=be_silent)
    early = score_lan2024(run, replace(INTENDED, hook_off_by_one=True), warn=be_silent)
    padded = score_lan2024(run, replace(INTENDED, unmasked_padding=True), warn=be_silent)
    assert (early.words, early.padding) == (plain.words, 0)
    assert padded.words == plain.words and padded.padding is not None and padded.padding > 0
    assert len({plain.mean_actv_corr, early.mean_actv_corr, padded.mean_actv_corr}) == 3
    after = {name: data for name, data in read_run(run.path).items() if not name.startswith(FOLDER)}
    assert after == before


def test_what_was_read_is_not_read_again_unless_damaged(run, sides):
    early = read_early(run, lambda: sides, be_silent)
    shards = read_padding(run, lambda: sides, be_silent)
    assert read_early(run, refuse_to_load, be_silent).path == early.path
    assert read_padding(run, refuse_to_load, be_silent).files == shards.files
    before = read_features(run)
    for folder in (early.path, shards.folder.path):
        (folder / "features_a" / "shard-00000.safetensors").write_bytes(b"damaged")
    read_early(run, lambda: sides, be_silent)
    read_padding(run, lambda: sides, be_silent)
    assert read_features(run) == before


def test_an_interrupted_reading_goes_on(pair, sides, tmp_path):
    run = align_pair(pair, read_texts(), tmp_path / "run", warn=be_silent)

    def stop(stage, done, total):
        if stage == "padding" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_padding(run, lambda: sides, stop)
    first = run.path / FOLDER / "padding" / "features_a" / "shard-00000.safetensors"
    written = first.stat().st_mtime_ns
    found = read_padding(run, lambda: sides, be_silent)
    assert first.stat().st_mtime_ns == written and len(found) == len(run.shards) > 1


def test_readings_belong_to_the_run_and_to_no_other(pair, sides, tmp_path):
    run = align_pair(pair, read_texts(), tmp_path / "run", warn=be_silent)
    rows = read_padding(run, lambda: sides, be_silent).bounds[-1]
    run.folder.check_place(False)
    shorter = align_pair(pair, read_texts()[:4], run.path, warn=be_silent, fresh=True)
    assert not (shorter.path / FOLDER).exists()
    assert read_padding(shorter, lambda: sides, be_silent).bounds[-1] < rows


def test_other_weights_than_the_runs_are_refused(run, tmp_path):
    manifest = run.manifest
    manifest["sides"]["b"]["model"]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has changed since"):
        load_sides(open_run(tmp_path))


def test_table_ends_with_the_published_recipe(run):
    table = tabulate_lan2024(run, warn=be_silent)
    assert all(one.not_run is None for one in table)
    assert replace(table[-1], part="intended") == score_lan2024(run, warn=be_silent)
    assert table[-1].p is not None and table[-2].p is not None and table[-1].p < table[-2].p
