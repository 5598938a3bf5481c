"""The pass against the slow, obvious one, exactly; and what its files promise."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests import slow_features
from tests.tiny_pair import TEXT, write_exact_sae, write_gemma, write_neox
from xmodel.alignment import shards
from xmodel.alignment.features import run_pass
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.alignment.tables import TABLES, Splitter, iterate_table, make_schema, merge_tables, write_table
from xmodel.datasets.words import split_words
from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.records import Document
from xmodel.run import RunFolder

SITE = "blocks.0.hook_resid_pre"
POOLINGS = ("last", "first", "mean", "sum", "max", "bytes")
POLICIES = ("merge", "split", "drop")
HARD = 'CO₂ is night.CNN hi 👩‍🚀! नमस्ते cafe\u0301 no."\n\nThen `a_b` isn’t x):y 12,345.6 \u3000 end…'


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


# Documents of any length: what is cut, and how halves are drawn.


@given(
    st.text(st.sampled_from("ab. \n\u3000é🚀"), max_size=80),
    st.integers(1, 9),
    st.sampled_from(["default", "whitespace", "characters"]),
)
def test_pieces_of_a_document_are_all_of_it_and_short(text, most, rule):
    words = split_words(text, rule)
    pieces = list(shards.cut_document(Document("long", text), words, most))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.name for piece in pieces] == [f"long (part {n})" for n in range(1, len(pieces) + 1)]
    own = [split_words(piece.text, rule) for piece in pieces]
    assert all(len(one) <= most for one in own)
    assert sum(len(one) for one in own) == len(words)
    first = 0
    for piece, one in list(zip(pieces, own, strict=True))[:-1]:
        reachable = range(first + max(1, most // 2), first + most + 1)
        spaced = [word for word in reachable if words.starts[word] > words.ends[word - 1]]
        first += len(one)
        assert first == (spaced[-1] if spaced else reachable[-1])
        assert piece.text[-1].isspace() == bool(spaced)


def test_a_document_is_cut_behind_whitespace_where_there_is_some():
    text = "one.two three.four five.six seven.eight nine.ten"
    cut = [one.text for one in shards.cut_document(Document("", text), split_words(text), 8)]
    assert cut == ["one.two three.four ", "five.six seven.eight ", "nine.ten"]
    solid = "a.b.c.d.e.f.g"
    cut = [one.text for one in shards.cut_document(Document("", solid), split_words(solid), 5)]
    assert cut == ["a.b.c", ".d.e.", "f.g"]
    early = "a b.c.d.e.f"
    cut = [one.text for one in shards.cut_document(Document("", early), split_words(early), 8)]
    assert cut == ["a b.c.d.e", ".f"]


def test_one_long_document_makes_shards_of_bounded_size(pair, texts, tmp_path, monkeypatch):
    long = "\n\n".join(texts)
    settings = PassSettings(shard_words=30, skip_positions=0, massive=0)
    _, whole, _ = run(pair, [long], tmp_path / "whole", settings)
    assert len(whole.receipts) == 1
    monkeypatch.setattr(shards, "LONGEST_DOCUMENT", 50)
    _, result, _ = run(pair, [long], tmp_path / "cut", settings)
    sizes = [receipt.facts["rule_words"] for receipt in result.receipts]
    assert len(sizes) > 5 and max(sizes) < 80
    assert sum(sizes) == whole.receipts[0].facts["rule_words"]
    cut = Run(tmp_path / "cut").documents.to_pylist()
    assert "".join(one["text"] for one in cut) == long
    assert [one["name"] for one in cut] == [f"text 0 (part {n + 1})" for n in range(len(cut))]
    _, again, _ = run(pair, [long], tmp_path / "cut", settings)
    assert [one.files for one in again.receipts] == [one.files for one in result.receipts]


def test_the_limit_of_words_counts_over_pieces(monkeypatch):
    monkeypatch.setattr(shards, "LONGEST_DOCUMENT", 10)
    documents = [Document("x", "word " * 35)]
    found = list(shards.cut_shards(documents, PassSettings(words_limit=25, shard_words=5)))
    assert [shard.words for shard in found] == [10, 10, 5]
    assert [len(split_words(shard.documents[0].text)) for shard in found] == [10, 10, 5]


def test_units_of_a_token_do_not_straddle():
    for straddle in ("drop", "split"):
        with pytest.raises(InputError, match=f"--straddle {straddle} came with --unit token"):
            PassSettings(unit="token", straddle=straddle)
    assert PassSettings(unit="token").straddle == "merge"


@pytest.mark.parametrize("rows", [0, 1, 1_100_000])
def test_a_part_of_a_table_is_one_row_group(tmp_path, rows):
    import pyarrow as pa

    folder = RunFolder(tmp_path)
    assert "tokens_a" in TABLES
    parts = []
    for number, count in enumerate((3, rows, 2)):
        columns = {
            field.name: pa.array(np.full(count, number), field.type) for field in make_schema("tokens_a")
        }
        parts.append(f"parts/{number}.parquet")
        write_table(folder, parts[-1], "tokens_a", columns)
    merge_tables(folder, "tokens_a", parts, None)
    found = [one["id"].to_numpy() for one in iterate_table(folder, "tokens_a", ["id"])]
    assert [len(one) for one in found] == [3, rows, 2]
    assert all((one == number).all() for number, one in enumerate(found))


COUNTS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 5000)), min_size=20, max_size=70)


def split_all(counts, seed):
    """A splitter that knows the documents' lengths, and the half of every word."""
    counts = np.array(counts)
    splitter = Splitter(len(counts), int(counts.sum()), seed, counts)
    return splitter, splitter.split_words(np.arange(counts.sum()), np.repeat(np.arange(len(counts)), counts))


@given(COUNTS, st.integers(0, 99))
def test_halves_differ_by_no_more_than_a_document(counts, seed):
    splitter, chosen = split_all(counts, seed)
    assert splitter.by_blocks == (np.count_nonzero(counts) < 20)
    assert splitter.share == pytest.approx(chosen.mean() if len(chosen) else 0)
    if not splitter.by_blocks:
        assert abs(2 * int(chosen.sum()) - len(chosen)) <= max(counts)
        ranks = sorted(np.flatnonzero(counts), key=lambda document: (-counts[document], document))
        for one, other in zip(ranks[::2], ranks[1::2], strict=False):
            assert splitter.discovery[one] != splitter.discovery[other]
    again, _ = split_all(counts, seed)
    assert np.array_equal(splitter.discovery, again.discovery)


def test_documents_of_very_unequal_length():
    """Neighbours of the corpus are as unequal as can be; without their lengths the halves are too."""
    counts = [5000, 10] * 10
    shares = [split_all(counts, seed)[0].share for seed in range(50)]
    assert shares == [0.5] * 50
    blind = [np.dot(Splitter(20, sum(counts), seed).discovery, counts) / sum(counts) for seed in range(50)]
    assert min(blind) < 0.25 and max(blind) > 0.75
    assert {Splitter(20, sum(counts), seed).share for seed in range(50)} == {0.5}


def test_documents_of_equal_length_are_drawn_as_before():
    for seed in range(20):
        assert np.array_equal(split_all([7] * 33, seed)[0].discovery, Splitter(33, 7 * 33, seed).discovery)


@given(COUNTS, st.integers(0, 99))
def test_a_document_is_named_by_its_words(counts, seed):
    import pyarrow as pa

    splitter, chosen = split_all(counts, seed)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    names = splitter.name_documents(pa.table({"document": np.arange(len(counts))}), bounds)
    for document, name in enumerate(names):
        own = set(chosen[bounds[document] : bounds[document + 1]].tolist())
        assert name == {0: None, 2: "mixed"}.get(len(own), "discovery" if True in own else "heldout")


def test_documents_without_words_have_no_half_in_the_table(pair, texts, tmp_path):
    _, result, _ = run(pair, [*texts, "", " \n"], tmp_path, PassSettings())
    halves = [one["split"] for one in Run(tmp_path).documents.to_pylist()]
    assert halves[-2:] == [None, None] and None not in halves[:-2]
    assert result.splitter.by_blocks
