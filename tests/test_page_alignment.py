"""Passages with both models' tokens: every token and every word stands where its bytes are."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_runs import build_run, make_texts
from xmodel.alignment.extract import EXCLUDED_FIRST, EXCLUDED_MASSIVE
from xmodel.records import TokenFlag
from xmodel.report.page.alignment import WORDS, cut_passages, spread, write_alignment
from xmodel.report.page.chunks import ChunkWriter
from xmodel.report.page.passage_text import MOST_TOKENS, Tokens, build_columns, count_inexact


def make_tokens(spans, flags=None, excluded=None):
    starts, ends = (np.array([span[side] for span in spans], np.int64) for side in (0, 1))
    none = np.zeros(len(spans), np.uint8)
    return Tokens(
        np.arange(len(spans), dtype=np.int32),
        starts,
        ends,
        none if flags is None else np.array(flags, np.uint8),
        none if excluded is None else np.array(excluded, np.uint8),
    )


def lay_out(text, words, a, b, ends=None):
    data = text.encode()
    rule = np.array(ends or [end for _, end, _ in words], np.int64)
    return build_columns(data, (0, len(data)), words, rule, (a, b))


def test_a_passage_column_by_column():
    text = "The whale's ©\n"
    words = [(0, 3, 0), (4, 11, 1), (12, 14, 2)]
    a = make_tokens(
        [(0, 3), (3, 9), (9, 11), (11, 13), (13, 14), (14, 15)], [0, 0, 0, 16, 16, 0], [1, 0, 0, 0, 0, 0]
    )
    b = make_tokens([(0, 0), (0, 3), (4, 11), (12, 14)], [1, 0, 8, 4], [0, 0, 2, 0])
    gap, the, whale, sign, end = lay_out(text, words, a, b, [3, 9, 11, 14])
    assert (gap.kind, gap.tokens[1][0].text, gap.tokens[1][0].marks) == ("gap", "∅", ("inserted",))
    assert [one.text for one in the.tokens[0]] == ["The"]
    assert the.tokens[0][0].marks == ("first",)
    assert [one.text for one in whale.tokens[0]] == ["·whale", "'s"]
    assert whale.marks == ("joined",)
    assert whale.tokens[1][0].marks == ("rewritten", "massive")
    assert [one.text for one in sign.tokens[0]] == ["·‹C2›", "‹A9›"]
    assert sign.tokens[1][0].marks == ("unknown",)
    assert (end.kind, end.tokens[0][0].text) == ("gap", "↵")
    assert count_inexact([gap, the, whale, sign, end]) == 2


def test_deleted_bytes_left_out_words_and_shared_tokens():
    text = "one two three"
    words = [(0, 3, 0), (8, 13, 1)]
    a = make_tokens([(0, 2), (3, 13)])
    b = make_tokens([(0, 3), (4, 7), (8, 13)])
    one, two, three = lay_out(text, words, a, b)
    assert one.marks == ("deleted",)
    assert (two.kind, two.marks) == ("out", ("out",))
    assert two.tokens[0] == three.tokens[0]
    assert two.tokens[0][0].marks == ("shared",)
    assert three.marks == ()


@st.composite
def passages(draw):
    text = draw(st.text(st.sampled_from("ab é\n漢'"), min_size=1, max_size=30))
    data = text.encode()
    cuts = [sorted(draw(st.sets(st.integers(1, len(data))))) for _ in range(2)]
    sides = [make_tokens(list(zip([0, *own], [*own, len(data)], strict=True))) for own in cuts]
    solid = [part for part in text.split() if draw(st.booleans())]
    words, at = [], 0
    for number, part in enumerate(solid):
        start = data.find(part.encode(), at)
        if start >= 0:
            at = start + len(part.encode())
            words.append((start, at, number))
    return text, words, sides


@given(passages())
def test_every_word_and_token_is_there_and_lies_over_its_column(passage):
    text, words, (a, b) = passage
    columns = lay_out(text, words, a, b)
    assert [(one.start, one.end, one.group) for one in columns if one.kind == "word"] == words
    solid = sum(len(one.encode()) for one in text.split())
    assert sum(one.end - one.start for one in columns if one.kind != "gap") == solid
    for side, own in enumerate((a, b)):
        listed = [token for one in columns for token in one.tokens[side]]
        assert {token.id for token in listed} == set(own.ids.tolist())
        assert [token.id for token in listed] == sorted(token.id for token in listed)
        for one in columns:
            covered = set()
            for token in one.tokens[side]:
                assert one.kind == "gap" or (token.start < one.end and token.end > one.start)
                covered |= set(range(token.start, token.end))
            assert one.kind == "gap" or set(range(one.start, one.end)) <= covered
        repeated = [token for token in listed if sum(other.id == token.id for other in listed) > 1]
        assert all("shared" in token.marks for token in repeated)
    assert not any("deleted" in one.marks for one in columns)


def test_of_a_word_with_thousands_of_tokens_some_are_shown():
    text = "x" * 5000
    tokens = make_tokens([(place, place + 1) for place in range(5000)])
    (column,) = lay_out(text, [(0, 5000, 0)], tokens, make_tokens([(0, 5000)]))
    assert len(column.tokens[0]) == MOST_TOKENS
    assert column.hidden == (5000 - MOST_TOKENS, 0)
    assert len(column.text) <= 60


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8))
def test_passages_are_all_words_once_and_none_is_over_two_documents(lengths):
    documents = np.repeat(np.arange(len(lengths)), lengths)
    cut = cut_passages(documents)
    assert [word for one in cut for word in range(one.first, one.stop)] == list(range(len(documents)))
    assert all((documents[one.first : one.stop] == one.document).all() for one in cut)
    assert all(one.stop - one.first <= 1.5 * WORDS for one in cut)


@given(st.integers(0, 500), st.integers(0, 50))
def test_spread_places_are_different_and_within(total, count):
    found = spread(total, count)
    assert len(set(found)) == len(found) == min(total, count)
    assert all(0 <= one < total for one in found)


def read_chunk(folder, name):
    content = (folder / "data" / f"{name}.js").read_text()
    return json.loads(content[content.index("{") : content.rindex("}") + 1])


@pytest.mark.parametrize("passages", [1, 5, 40])
def test_passages_of_a_run(tmp_path, passages):
    run = build_run(tmp_path / "run", make_texts(documents=30), pairing=None).run
    part = write_alignment(run, ChunkWriter(tmp_path / "page"), passages=passages)
    index = read_chunk(tmp_path / "page", "alignment/index")
    assert len(index["passages"]) == min(passages, 30)
    assert f"{len(index['passages'])} passages" in part.sentences[1]
    for number, one in enumerate(index["passages"]):
        chunk = read_chunk(tmp_path / "page", f"alignment/{number // index['chunk']:04d}")
        columns = chunk["passages"][number % index["chunk"]]["columns"]
        words = [own["t"] for own in columns if own["k"] == "word"]
        table = run.words.slice(one["first"], one["words"])
        assert words == table["text"].to_pylist()
        assert set(table["document"].to_pylist()) == {one["document"]}
        assert [own["a"][0][1] for own in columns if own["k"] == "word"] == table["word_id"].to_pylist()


def test_passages_with_strange_tokens_are_picked(tmp_path):
    """One document of a hundred has a token that the normaliser rewrote, and it is shown."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = build_run(tmp_path / "run", make_texts(documents=60), pairing=None).run
    place = tmp_path / "run" / "tokens_b.parquet"
    table = pq.read_table(place)
    flags = np.zeros(len(table), np.uint8)
    row = int(np.flatnonzero(table["document"].to_numpy() == 41)[30])
    flags[row] = TokenFlag.REWRITTEN
    excluded = np.where(np.arange(len(table)) == row + 1, EXCLUDED_MASSIVE, 0).astype(np.uint8)
    for name, column in (("flags", flags), ("excluded", excluded)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(column))
    pq.write_table(table, place)
    write_alignment(run, ChunkWriter(tmp_path / "page"), passages=4)
    listed = read_chunk(tmp_path / "page", "alignment/index")["passages"]
    picked = [one for one in listed if one["picked"]]
    assert [one["document"] for one in picked] == [41]
    assert picked[0]["inexact"] == 1
    assert not any(one["inexact"] for one in listed if not one["picked"])
    assert EXCLUDED_FIRST != EXCLUDED_MASSIVE
