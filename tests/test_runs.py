"""Runs as a library makes them: what goes on, what is refused, baselines, tokens as units, the two halves."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.run_contents import read_run
from tests.run_helpers import (  # noqa: F401
    SITE,
    copied,
    finished,
    interrupt,
    list_shards,
    one_thread,
    pair,
    stop_before_a_shard,
    texts,
)
from tests.tiny_pair import TinyPair, align_pair, read_texts, write_corpus
from xmodel.alignment.settings import PassSettings
from xmodel.errors import InputError
from xmodel.pairing import comparing
from xmodel.pairing.results import open_run
from xmodel.pairing.settings import PairSettings

# The library.


def test_a_list_of_texts_gives_tables(pair, texts, finished):
    run = open_run(finished)
    assert run.documents["text"].to_pylist() == texts
    words = run.words.to_pandas()
    assert run.summary["words"] == len(words) > 1000
    for side in "ab":
        features = run.features(side)
        assert features.shape == (len(words), 24)
        assert (features.getnnz(axis=0) > 0).sum() == run.summary["features"][side]["alive"]
    pairs = run.pairs.to_pandas()
    assert {"feature_a", "feature_b", "r", "r_heldout", "n_ab", "jaccard", "mutual", "optimal"} <= {
        *pairs.columns
    }
    assert pairs.r.between(-1, 1).all() and (pairs.r.diff().dropna() <= 0).all()
    half = (words.split == "discovery").to_numpy()
    best = pairs.iloc[0]
    dense = [run.features(side)[half].toarray().astype(float)[:, best[f"feature_{side}"]] for side in "ab"]
    assert np.corrcoef(*dense)[0, 1] == pytest.approx(best.r, abs=1e-12)


def test_a_generator_of_texts_is_a_corpus_too(pair, texts, finished, tmp_path):
    align_pair(pair, (text for text in texts), tmp_path / "run")
    assert read_run(tmp_path / "run") == read_run(finished)


def test_another_seed_gives_other_halves_and_the_same_features(pair, texts, finished, tmp_path):
    align_pair(pair, texts, tmp_path / "run", seed=1)
    own, other = read_run(tmp_path / "run"), read_run(finished)
    assert own["words.parquet"] != other["words.parquet"]
    assert own["features_a/shard-00001.safetensors"] == other["features_a/shard-00001.safetensors"]


def test_a_finished_run_is_not_computed_again(pair, texts, copied):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.safetensors")}
    seen = []
    align_pair(pair, texts, copied, report=lambda stage, done, total: seen.append(stage))
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*.safetensors")} == before
    assert set(seen) == {"pair"}


def test_other_rules_of_pairing_need_no_other_run(pair, texts, finished, copied):
    run = align_pair(pair, texts, copied, pairing=PairSettings(min_firings=40, top_k=2))
    assert max(run.pairs["rank_a"].drop_null().to_pylist()) == 2
    with pytest.warns(UserWarning, match=r"made with min_firings 40, top_k 2, are replaced"):
        align_pair(pair, texts, copied)
    assert read_run(copied) == read_run(finished)


# The same, and not the same.


def test_an_interrupted_run_goes_on(pair, texts, finished, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    assert list_shards(out) == ["shard-00000.json", "shard-00001.json", "shard-00002.json"]
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    with pytest.raises(InputError, match="was interrupted"):
        open_run(out)
    align_pair(pair, texts, out)
    assert read_run(out) == read_run(finished)


def test_fresh_starts_over_and_spares_what_is_not_its_own(pair, texts, finished, tmp_path):
    out = interrupt(pair, read_texts()[24:], tmp_path / "run", after=2)
    (out / "notes.txt").write_text("kept")
    with pytest.raises(InputError, match="--fresh"):
        align_pair(pair, texts, out)
    align_pair(pair, texts, out, fresh=True)
    assert (out / "notes.txt").read_text() == "kept"
    (out / "notes.txt").unlink()
    assert read_run(out) == read_run(finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed was 0 and is now 1"),
        (
            {"settings": PassSettings(shard_words=200, pool="mean")},
            r"settings\.pool was '\w+' and is now 'mean'",
        ),
        ({"settings": PassSettings(shard_words=300)}, r"settings\.shard_words was 200 and is now 300"),
        ({"model_a": "elsewhere"}, r"a\.model was '.*' and is now 'elsewhere'"),
        ({"document": "file"}, r"document was 'paragraphs' and is now 'file'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_arguments_are_named(pair, texts, copied, changes, message, complete):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "complete": complete}))
    before = read_run(copied)
    with pytest.raises(InputError, match=message + r".*another folder, or start over with --fresh"):
        align_pair(pair, texts, copied, **changes)
    assert read_run(copied) == before


@pytest.mark.parametrize(("place", "used"), [(0, True), (2, True), (20, False)])
def test_a_changed_corpus_is_noticed_where_it_was_used(pair, texts, tmp_path, place, used):
    """Shards that are not done yet may still change: the result is that of the corpus as it is at last."""
    corpus, out = write_corpus(tmp_path / "corpus.jsonl", texts), tmp_path / "run"
    interrupt(pair, corpus, out)
    receipt = json.loads((out / "parts" / "shard-00002.json").read_text())
    assert used == (place < receipt["facts"]["first_document"] + receipt["facts"]["documents"])
    write_corpus(corpus, [*texts[:place], texts[place] + "!", *texts[place + 1 :]])
    if used:
        with pytest.raises(InputError, match=r"the corpus has changed since .*Give the same corpus"):
            align_pair(pair, corpus, out)
        write_corpus(corpus, texts)
    align_pair(pair, corpus, out)
    align_pair(pair, corpus, tmp_path / "unbroken")
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_a_corpus_that_became_shorter_is_noticed(pair, texts, tmp_path):
    out = interrupt(pair, texts, tmp_path / "run")
    first = json.loads((out / "parts" / "shard-00001.json").read_text())["facts"]
    with pytest.raises(InputError, match="now ends after 2 shards"):
        align_pair(pair, texts[: first["first_document"] + first["documents"]], out)


def test_another_corpus_of_the_same_name_is_not_shown_the_old_results(pair, texts, copied):
    with pytest.raises(InputError, match="the corpus has changed since the run"):
        align_pair(pair, [*texts[:-1], "Something else."], copied)
    with pytest.raises(InputError, match="the corpus has changed since the run"):
        align_pair(pair, texts[:-1], copied)


@pytest.fixture
def own_folders(pair, tmp_path):
    """Copies of the models' and the SAEs' folders, to be changed."""
    folders = {name: tmp_path / name for name in ("model_a", "model_b", "sae_a", "sae_b")}
    return {name: shutil.copytree(getattr(pair, name), folder) for name, folder in folders.items()}


@pytest.mark.parametrize("file", ["model_a", "sae_b"])
def test_changed_weights_between_two_attempts(own_folders, texts, tmp_path, file):
    folders, own, out = own_folders, TinyPair(**own_folders), tmp_path / "run"
    interrupt(own, texts, out)
    weights = folders[file] / ("model.safetensors" if file == "model_a" else "sae_weights.safetensors")
    state, original = load_file(weights), weights.read_bytes()
    key = min(name for name, value in state.items() if value.dtype == torch.float32)
    state[key].view(-1)[0] += 1e-3
    save_file(state, weights, {"format": "pt"})
    name = r"a\.model\.sha256" if file == "model_a" else r"b\.dictionary\.digest"
    with pytest.raises(InputError, match=f"was begun with {name}"):
        align_pair(own, texts, out)
    weights.write_bytes(original)
    align_pair(own, texts, out)
    assert open_run(out).manifest["complete"]


def flip_entry(name):
    def change(content):
        content[name] = not content[name]

    return change


def cut_merges(content):
    content["model"]["merges"] = content["model"]["merges"][:-500]


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("sae_a/cfg.json", flip_entry("apply_b_dec_to_input"), r"a\.dictionary\.digest .*configuration"),
        ("model_a/tokenizer.json", cut_merges, r"a\.tokenizer_sha256 .*tokenizer files"),
        ("model_a/config.json", flip_entry("use_parallel_residual"), r"a\.model\.sha256 .*config\.json"),
    ],
    ids=["SAE", "tokenizer", "model"],
)
@pytest.mark.parametrize("after", [1, 3])
def test_changed_descriptions_between_two_attempts(
    own_folders, texts, tmp_path, monkeypatch, place, change, message, after
):
    """The weights are the same, and what is computed from them is not."""
    own, out = TinyPair(**own_folders), tmp_path / "run"
    interrupt(own, texts, out, after=after)
    file = tmp_path / place
    original = file.read_bytes()
    content = json.loads(original)
    change(content)
    file.write_text(json.dumps(content))
    before = read_run(out)
    with monkeypatch.context() as patch:
        patch.setattr(comparing, "run_pass", None)  # Told before its consequences are, such as a high FVU.
        with pytest.raises(InputError, match=f"was begun with {message}.*--fresh, or restore"):
            align_pair(own, texts, out)
    assert read_run(out) == before
    file.write_bytes(original)
    align_pair(own, texts, out)
    assert open_run(out).manifest["complete"]


def test_components_of_another_fit_are_told_when_they_are_fitted(pair, texts, tmp_path):
    source, out = f"pca:{SITE}:8", tmp_path / "run"
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    stop_before_a_shard(pair, source, texts, out, models)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["sides"]["a"]["dictionary"]["digest"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"was begun with a\.dictionary\.digest"):
        stop_before_a_shard(pair, source, texts, out, models)
