"""By token and by word: the by-word pairs that a by-token run implies are those of a by-word run."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_pair import TEXT, write_exact_sae, write_neox
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions
from xmodel.pairing.comparing import align_models
from xmodel.pairing.settings import PairSettings
from xmodel.pairing.units import pool_chunks, pool_sparse
from xmodel.records import WordFeatures

SITE = "blocks.0.hook_resid_pre"
POOLINGS = ("last", "first", "mean", "sum", "max", "bytes")
OPTIONS = LoadOptions(accept_misfit=True)
PAIRING = PairSettings(min_firings=3)


def to_sparse(dense):
    rows, columns = np.nonzero(dense)
    indptr = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int64)
    return WordFeatures(indptr, columns.astype(np.int32), dense[rows, columns], dense.shape[1])


def to_dense(rows):
    dense = np.zeros((len(rows), rows.features), np.float32)
    dense[np.repeat(np.arange(len(rows)), np.diff(rows.indptr)), rows.indices] = rows.values
    return dense


@pytest.mark.parametrize("pooling", POOLINGS)
@given(data=st.data())
def test_sparse_pooling_is_dense_pooling(pooling, data):
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    tokens = sum(counts)
    cells = data.draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3]), min_size=tokens * 5, max_size=tokens * 5))
    sizes = np.array(data.draw(st.lists(st.integers(1, 9), min_size=tokens, max_size=tokens)))
    dense = np.array(cells, np.float32).reshape(tokens, 5)
    owners = np.repeat(np.arange(len(counts)) * 3, counts)
    expected = []
    for word in np.unique(owners):
        own, weights = dense[owners == word], sizes[owners == word]
        expected.append(
            {
                "last": lambda own=own: own[-1],
                "first": lambda own=own: own[0],
                "mean": lambda own=own: own.mean(0),
                "sum": lambda own=own: own.sum(0),
                "max": lambda own=own: own.max(0),
                "bytes": lambda own=own, weights=weights: (own * weights[:, None]).sum(0) / weights.sum(),
            }[pooling]()
        )
    found = pool_sparse(to_sparse(dense), owners, sizes, pooling)
    assert all(
        (np.diff(found.indices[a:b]) > 0).all() for a, b in zip(found.indptr, found.indptr[1:], strict=False)
    )
    np.testing.assert_allclose(to_dense(found), np.array(expected), rtol=1e-6)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two models with the same tokenizer, and exact SAEs on their embeddings."""
    folder = tmp_path_factory.mktemp("twins")
    models = [write_neox(folder / f"m{seed}", seed=seed, exact=True) for seed in (0, 1)]
    saes = [write_exact_sae(folder / f"s{seed}", 16, 24, SITE, seed) for seed in (0, 1)]
    return models, saes


def compare(twins, out, corpus, **changes):
    (model_a, model_b), (sae_a, sae_b) = twins
    return align_models(
        str(sae_a), str(sae_b), corpus, out, model_a=str(model_a), model_b=str(model_b),
        settings=PassSettings(shard_words=700, **changes), pairing=PAIRING, options=OPTIONS,
    )  # fmt: skip


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_run_by_token_implies_the_run_by_word(twins, tmp_path, pooling):
    text = TEXT.read_text("utf-8")[:9000]
    by_token = compare(twins, tmp_path / "token", [text], unit="token", pool=pooling)
    by_word = compare(twins, tmp_path / "word", [text], pool=pooling)
    chunks = pool_chunks(by_token.shards, np.ones(int(by_token.shards.bounds[-1]), bool), pooling)
    pooled = [np.concatenate([to_dense(pair[side]) for pair in chunks()]) for side in (0, 1)]
    for side, letter in enumerate("ab"):
        np.testing.assert_allclose(pooled[side], by_word.features(letter).toarray(), rtol=1e-6)
    summary = by_token.summary["by_word"]
    assert 0 < summary["one_token_words"] < summary["words"]
    assert summary["features_a"] > 0
    assert 0 <= summary["same_best_partner"] <= summary["features_a"]
    assert "by_word" not in by_word.summary


def test_where_every_word_is_one_token_both_are_the_same(twins, tmp_path):
    from xmodel.alignment.loading import load_tokenizer

    tokenizer = load_tokenizer(str(twins[0][0]))
    words = sorted(set(TEXT.read_text("utf-8").split()))
    single = [word for word in words if word.isalpha() and len(tokenizer.encode([" " + word])[0]) == 1]
    rng = np.random.default_rng(0)
    documents = [" " + " ".join(rng.choice(single, 60)) for _ in range(40)]
    by_token = compare(twins, tmp_path / "token", documents, unit="token")
    by_word = compare(twins, tmp_path / "word", documents)
    assert by_token.words.num_rows == by_word.words.num_rows > 2000
    for name in [f"features_{letter}/shard-{n:05d}.safetensors" for letter in "ab" for n in range(3)]:
        assert (by_token.path / name).read_bytes() == (by_word.path / name).read_bytes()
    assert pq.read_table(by_token.path / "pairs.parquet").equals(
        pq.read_table(by_word.path / "pairs.parquet")
    )
    summary = by_token.summary["by_word"]
    assert summary["one_token_words"] == summary["words"]
    assert summary["same_best_partner"] == summary["features_a"] > 0
    assert summary["correlation_of_r"] == pytest.approx(1)
