"""Runs of baselines, of a model with itself and by token, and the two halves."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file as load_arrays

from tests.run_contents import read_run
from tests.run_helpers import SITE, finished, list_shards, one_thread, pair, stop_before_a_shard, texts  # noqa: F401
from tests.tiny_pair import align_pair, read_texts, write_neox
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.tables import Splitter, split_documents
from xmodel.pairing.comparing import align_models
from xmodel.pairing.results import open_run

# Dictionaries that are no SAEs, and a model with itself.


@pytest.mark.parametrize(
    "source",
    [
        "neurons:blocks.1.mlp.hook_post",
        f"residual:{SITE}",
        f"pca:{SITE}:8",
        "residual:blocks.0.hook_resid_pre",
    ],
)
def test_baselines_run_from_end_to_end(pair, texts, tmp_path, source):
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    run = align_models(source, source, texts, tmp_path / "run", **models)
    expected = {"neurons": 32, "residual": 16, "pca": 8}[source.partition(":")[0]]
    assert run.summary["features"]["a"] == {"total": expected, "alive": expected, "kept": expected}
    magnitudes = np.abs(run.pairs["r"].to_numpy())
    assert (np.diff(magnitudes) <= 0).all() and (run.pairs["r"].to_numpy() < 0).any()
    side = run.manifest["sides"]["a"]
    assert side["dictionary"]["signed"] and side["calibration"]["fvu"] is None
    again = align_models(source, source, texts, tmp_path / "again", **models)
    assert read_run(again.path) == read_run(run.path)


@pytest.mark.parametrize("damage", ["none", "truncated", "flipped", "missing"])
def test_components_are_those_of_the_first_attempt(pair, texts, tmp_path, damage, monkeypatch):
    source, out = f"pca:{SITE}:8", tmp_path / "run"
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    stop_before_a_shard(pair, source, texts, out, models)
    stored = out / "components_a.npz"
    data = stored.read_bytes()
    with np.load(stored) as arrays:
        assert arrays["components"].shape == (8, 16)
    if damage == "truncated":
        stored.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        stored.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "missing":
        stored.unlink()
    else:
        from xmodel.alignment import calibration

        monkeypatch.setattr(calibration, "fit_pca", None)  # It is not called again.
    settings = PassSettings(shard_words=200)
    align_models(source, str(pair.sae_b), texts, out, **models, settings=settings)
    monkeypatch.undo()
    align_models(source, str(pair.sae_b), texts, tmp_path / "unbroken", **models, settings=settings)
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_components_without_a_manifest_are_not_trusted(pair, texts, tmp_path):
    """They may be another model's: a process was killed before it wrote down whose they are."""
    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    align_models(f"pca:{SITE}:8", str(pair.sae_b), texts, tmp_path / "unbroken", **models)
    align_models("pca:blocks.0.hook_resid_post:8", str(pair.sae_b), texts, tmp_path / "other", **models)
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(tmp_path / "other" / "components_a.npz", out)
    align_models(f"pca:{SITE}:8", str(pair.sae_b), texts, out, **models)
    assert read_run(out) == read_run(tmp_path / "unbroken")


def test_a_model_with_itself(pair, texts, tmp_path):
    both = {"model_a": str(pair.model_a), "model_b": str(pair.model_a)}
    run = align_models(str(pair.sae_a), str(pair.sae_a), texts, tmp_path / "run", **both)
    pairs = run.pairs.to_pandas()
    for rule in ("best_of_a", "best_of_b", "mutual", "one_to_one", "optimal"):
        own = pairs[pairs[rule]]
        assert len(own) == run.summary["features"]["a"]["kept"] > 10
        assert (own.feature_a == own.feature_b).all()
        assert np.allclose(own.r, 1, atol=1e-12) and np.allclose(own.r_heldout.dropna(), 1, atol=1e-12)
        assert (own.n_a == own.n_ab).all() and (own.jaccard == 1).all()
    again = run.summary["reproduced"]
    assert again["same_best_partner"] == again["frequent_in_both_halves"] > 0


# Tokens as units.


@pytest.fixture(scope="module")
def twins(pair, tmp_path_factory):
    """Two models of one tokenizer."""
    return str(pair.model_a), str(write_neox(tmp_path_factory.mktemp("twin") / "b", seed=5))


@pytest.fixture(scope="module")
def plain(pair):
    """Texts all of whose words are single tokens."""
    tokenizer = load_tokenizer(str(pair.model_a))
    words = sorted(
        {word for text in read_texts() for word in text.split() if word.isascii() and word.isalpha()}
    )
    single = [word for word in words if len(tokenizer.encode([" " + word])[0]) == 1]
    assert len(single) > 200
    rng = np.random.default_rng(0)
    return [" " + " ".join(rng.choice(single, 60)) for _ in range(24)]


def test_where_every_word_is_one_token_units_make_no_difference(twins, plain, tmp_path):
    runs = {}
    for unit in ("word", "token"):
        settings = PassSettings(unit=unit, shard_words=300, context=32)
        sources = f"residual:{SITE}", "neurons:blocks.1.mlp.hook_post"
        runs[unit] = align_models(
            *sources, plain, tmp_path / unit, model_a=twins[0], model_b=twins[1], settings=settings
        )
    word, token = read_run(tmp_path / "word"), read_run(tmp_path / "token")
    assert len(runs["word"].words) == 24 * 60 - runs["word"].manifest["sides"]["a"]["excluded_first"]
    assert len(list_shards(tmp_path / "word")) > 2
    for name in word:
        if name.endswith((".safetensors", ".parquet")):
            assert word[name] == token[name], name


def test_where_words_are_several_tokens_units_do(twins, texts, tmp_path):
    """A case that must differ; each unit of a token is a part of its word."""
    settings = PassSettings(unit="token", skip_positions=0, massive=0)
    run = align_models(
        f"residual:{SITE}", f"residual:{SITE}", texts, tmp_path / "run", model_a=twins[0], model_b=twins[1],
        settings=settings,
    )  # fmt: skip
    table, documents = run.words.to_pandas(), run.documents["text"].to_pylist()
    for number, text in enumerate(documents):
        own = table[table.document == number]
        data = text.encode()
        assert [
            data[s:e].decode("utf-8", "replace") for s, e in zip(own.start, own.end, strict=True)
        ] == own.text.tolist()
        joined = own.groupby("group").agg({"start": "min", "end": "max"})
        assert (joined.start.to_numpy()[1:] >= joined.end.to_numpy()[:-1]).all()
    words = align_models(
        f"residual:{SITE}", f"residual:{SITE}", texts, tmp_path / "words", model_a=twins[0], model_b=twins[1],
        settings=PassSettings(skip_positions=0, massive=0),
    )  # fmt: skip
    assert len(table) > len(words.words) > 0
    assert table.groupby(["document", "group"]).ngroups == len(words.words)


# The two halves.


@given(documents=st.integers(20, 200), seed=st.integers(0, 2**32 - 1))
def test_halves_by_document_are_balanced_and_complete(documents, seed):
    words = np.repeat(np.arange(documents), 1 + np.arange(documents) % 7)
    splitter = Splitter(documents, len(words), seed)
    assert not splitter.by_blocks
    chosen = splitter.split_words(np.arange(len(words)), words)
    for number in range(documents):
        assert len(set(chosen[words == number])) == 1
    by_document = chosen[np.searchsorted(words, np.arange(documents))]
    assert abs(2 * by_document.sum() - documents) <= 1
    pairs = by_document[: documents // 2 * 2].reshape(-1, 2)
    assert (pairs.sum(axis=1) == 1).all()


@given(documents=st.integers(1, 19), words=st.integers(1, 5000), seed=st.integers(0, 2**32 - 1))
def test_halves_of_few_documents_are_blocks_of_words(documents, words, seed):
    splitter = Splitter(documents, words, seed)
    assert splitter.by_blocks
    chosen = splitter.split_words(np.arange(words), np.zeros(words, np.int64))
    assert len(np.flatnonzero(np.diff(chosen.astype(int)))) < Splitter.FEW
    assert abs(2 * int(chosen.sum()) - words) <= Splitter.FEW + 2 * splitter.block
    if words >= 400:
        assert 0.4 <= chosen.mean() <= 0.6


def test_seeds_give_other_halves():
    assert not np.array_equal(split_documents(40, 0), split_documents(40, 1))
    assert np.array_equal(split_documents(40, 7), split_documents(40, 7))


def test_a_run_of_many_documents_is_split_by_document(finished):
    run = open_run(finished)
    assert run.manifest["split"] == "documents"
    documents, words = run.documents.to_pandas(), run.words.to_pandas()
    assert set(documents.split) == {"discovery", "heldout"}
    assert abs((documents.split == "discovery").sum() - len(documents) / 2) <= 0.5
    assert (words.split.to_numpy() == documents.split.to_numpy()[words.document]).all()
    assert run.summary["discovery_words"] + run.summary["heldout_words"] == len(words)


def test_a_run_of_few_documents_is_split_by_blocks_and_says_so(pair, texts, tmp_path):
    told = []
    run = align_pair(pair, texts[:5], tmp_path / "run", warn=told.append)
    assert any("only 5 documents" in message and "blocks of words" in message for message in told)
    assert run.manifest["split"] == "blocks of words"
    words, documents = run.words.to_pandas(), run.documents.to_pandas()
    names = words.split.to_numpy()
    assert 8 <= 1 + (names[1:] != names[:-1]).sum() <= 20
    for number, name in enumerate(documents.split):
        halves = set(words.split[words.document == number])
        assert {name} == halves or (name == "mixed" and len(halves) == 2)
    again = []
    align_pair(pair, texts, tmp_path / "many", warn=again.append)
    assert not any("documents" in message for message in again)


def test_the_shards_hold_what_the_cli_page_promises(finished):
    words = 0
    for path in sorted((finished / "features_a").iterdir()):
        own = load_arrays(path)
        assert {name: array.dtype.name for name, array in own.items()} == {
            "indptr": "int64", "indices": "int32", "values": "float32", "first_word": "int64"
        }  # fmt: skip
        assert own["first_word"].tolist() == [words]
        words += len(own["indptr"]) - 1
    assert words == len(open_run(finished).words)
