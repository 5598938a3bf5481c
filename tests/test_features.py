"""The pass against the slow, obvious one, exactly; and what its files promise."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests import slow_features
from tests.tiny_pair import TEXT, write_exact_sae, write_gemma, write_neox
from xmodel.alignment.features import run_pass
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.records import Document
from xmodel.run import RunFolder

SITE = "blocks.0.hook_resid_pre"
POOLINGS = ("last", "first", "mean", "sum", "max", "bytes")
POLICIES = ("merge", "split", "drop")
HARD = 'CO₂ is night.CNN hi 👩‍🚀! नमस्ते cafe\u0301 no."\n\nThen `a_b` isn’t x):y 12,345.6 \u3000 end…'


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For tensors as small as these, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two models whose embeddings are exact in float32, with exact SAEs on them."""
    folder = tmp_path_factory.mktemp("pair")
    a, b = write_neox(folder / "a", exact=True), write_gemma(folder / "b", exact=True)
    sae_a = write_exact_sae(folder / "sae_a", 16, 24, SITE, 0, bos=False)
    sae_b = write_exact_sae(folder / "sae_b", 16, 32, SITE, 1, bos=True)
    return SideRequest(str(sae_a), str(a)), SideRequest(str(sae_b), str(b))


@pytest.fixture(scope="module")
def texts():
    paragraphs = TEXT.read_text("utf-8").split("\n\n")
    return [HARD, *paragraphs[:4], "One.", "\n".join(paragraphs[4:6])]


@cache
def load_sides(pair, context=None):
    return prepare_sides(*pair, PassSettings(context=context), LoadOptions(accept_misfit=True))


def run(pair, texts, folder, settings, **options):
    sides = load_sides(pair, settings.context)
    documents = (Document(f"text {n}", text) for n, text in enumerate(texts))
    folder = RunFolder(folder)
    return sides, run_pass(documents, sides, folder, settings, accept_misfit=True, **options), folder


def read_rows(folder, result):
    """(document, start, end, dense features of a and of b) of all words of a run."""
    import pyarrow.parquet as pq

    words = pq.read_table(folder / "words.parquet").to_pylist()
    dense = []
    for letter, features in (("a", 24), ("b", 32)):
        blocks = []
        for receipt in result.receipts:
            own = load_file(folder / f"features_{letter}/shard-{receipt.number:05d}.safetensors")
            block = np.zeros((len(own["indptr"]) - 1, features), np.float32)
            for row in range(len(block)):
                entries = slice(own["indptr"][row], own["indptr"][row + 1])
                assert (np.diff(own["indices"][entries]) > 0).all()
                block[row, own["indices"][entries]] = own["values"][entries]
            assert (own["values"] != 0).all()
            blocks.append(block)
        dense.append(np.concatenate(blocks))
    return [(w["document"], w["start"], w["end"], x, y) for w, x, y in zip(words, *dense, strict=True)]


def extract_slowly(sides, texts, settings, result):
    slow = []
    for side in sides:
        weights = load_file(f"{side.dictionary.info.name}/sae_weights.safetensors")
        arrays = {name: np.float64(weights[name]) for name in ("W_enc", "b_enc", "b_dec")}
        slow.append((side.model.module, side.tokenizer, arrays, side.prefix, side.limit))
    ceilings = [c.ceiling if c.ceiling is not None else np.inf for c in result.calibrations]
    return slow_features.extract_slowly(texts, slow, settings, ceilings)


def assert_same(fast, slow):
    assert len(fast) == len(slow) > 100
    for one, other in zip(fast, slow, strict=True):
        assert one[:3] == other[:3]
        np.testing.assert_array_equal(one[3], other[3])
        np.testing.assert_array_equal(one[4], other[4])


@pytest.mark.parametrize(("pooling", "straddle"), list(itertools.product(POOLINGS, POLICIES)))
def test_word_features_are_those_of_plain_loops(pair, texts, tmp_path, pooling, straddle):
    settings = PassSettings(pool=pooling, straddle=straddle, shard_words=150, batch_tokens=100)
    sides, result, folder = run(pair, texts, tmp_path / "run", settings)
    assert len(result.receipts) > 2
    assert_same(read_rows(folder, result), extract_slowly(sides, texts, settings, result))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_before_encoding_too(pair, texts, tmp_path, pooling):
    settings = PassSettings(pool=pooling, pool_before_encoding=True, shard_words=400)
    sides, result, folder = run(pair, texts, tmp_path / "run", settings)
    fast, slow = read_rows(folder, result), extract_slowly(sides, texts, settings, result)
    if pooling in ("mean", "bytes"):
        # A mean of three is not exact, and the order of its sums in the encoder is BLAS' own.
        assert [row[:3] for row in fast] == [row[:3] for row in slow]
        for side in (3, 4):
            np.testing.assert_allclose(
                [row[side] for row in fast], [row[side] for row in slow], rtol=1e-5, atol=1e-5
            )
    else:
        assert_same(fast, slow)


@pytest.mark.parametrize(
    "changes",
    [{"skip_positions": 3}, {"massive": 1.2}, {"window_words": 5}, {"context": 9}, {"words": "uax29"}],
    ids=str,
)
def test_exclusion_and_windows_are_those_of_plain_loops(pair, texts, tmp_path, changes):
    settings = PassSettings(shard_words=300, **changes)
    sides, result, folder = run(pair, texts, tmp_path / "run", settings)
    assert_same(read_rows(folder, result), extract_slowly(sides, texts, settings, result))


def test_another_row_is_noticed(pair, texts, tmp_path):
    """A case that must fail: the reference reads one position further."""
    settings = PassSettings()
    sides, result, folder = run(pair, texts, tmp_path / "run", settings)
    original = slow_features.read_embedding
    slow_features.read_embedding = lambda module, ids: np.roll(original(module, ids), 1, axis=0)
    try:
        slow = extract_slowly(sides, texts, settings, result)
    finally:
        slow_features.read_embedding = original
    with pytest.raises(AssertionError):
        assert_same(read_rows(folder, result), slow)


def test_shards_and_batches_change_nothing_but_bits(pair, texts, tmp_path):
    """At a deeper site BLAS may differ in the last bits; words and rows are the same."""
    rows = []
    for number, changes in enumerate(({}, {"shard_words": 100}, {"batch_tokens": 64}, {"batch_tokens": 7})):
        settings = PassSettings(**changes)
        _, result, folder = run(pair, texts, tmp_path / str(number), settings)
        rows.append(read_rows(folder, result))
    for other in rows[1:]:
        assert_same(rows[0], other)


def test_tables_say_what_was_read(pair, texts, tmp_path):
    settings = PassSettings(shard_words=200)
    sides, result, _ = run(pair, texts, tmp_path / "run", settings)
    opened = Run(tmp_path / "run")
    documents = opened.documents.to_pylist()
    assert [one["text"] for one in documents] == texts
    for word in opened.words.to_pylist():
        data = texts[word["document"]].encode()
        assert data[word["start"] : word["end"]].decode() == word["text"]
        assert word["text"].strip() == word["text"] != ""
    for letter, side in zip("ab", sides, strict=True):
        table = opened.tokens(letter).to_pandas()
        for number, text in enumerate(texts):
            own = table[table.document == number]
            assert own.id.tolist() == side.tokenizer.encode([text])[0].tolist()
            assert own.position.tolist() == list(range(len(own)))
    assert result.attrition[-1].left == len(opened.words)
    assert {one["split"] for one in documents} <= {"discovery", "heldout", "mixed"}


def test_a_words_limit_cuts_after_the_last_word(pair, texts, tmp_path):
    settings = PassSettings(words_limit=100, shard_words=30, straddle="split", skip_positions=0, massive=0)
    _, result, _ = run(pair, texts, tmp_path / "run", settings)
    assert sum(receipt.facts["rule_words"] for receipt in result.receipts) == 100
    documents = Run(tmp_path / "run").documents.to_pylist()
    assert [texts[one["document"]].startswith(one["text"]) for one in documents] == [True] * len(documents)


def test_activations_that_are_not_finite_name_site_and_document(pair, texts, tmp_path):
    settings = PassSettings()
    sides = prepare_sides(*pair, settings, LoadOptions(accept_misfit=True))
    bad = int(sides[0].tokenizer.encode(["\n".join(texts[3:4])])[0][5])
    with torch.no_grad():
        sides[0].model.module.get_input_embeddings().weight[bad] = float("nan")
    documents = (Document(f"text {n}", text) for n, text in enumerate(texts))
    with pytest.raises(InputError, match=r"not finite at blocks\.0\.hook_resid_pre"):
        run_pass(documents, sides, RunFolder(tmp_path), settings, accept_misfit=True)


@pytest.mark.parametrize("texts", [[], ["", "  \n"]], ids=str)
def test_a_corpus_without_words_is_refused(pair, tmp_path, texts):
    with pytest.raises(InputError, match="no word in it"):
        run(pair, texts, tmp_path, PassSettings())
