"""Corpora: every local source, what documents it gives, and every input that must be refused."""

import gzip
import io
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus_helpers import names, paragraphs, texts, write, write_rows
from xmodel.datasets.corpus import open_corpus
from xmodel.datasets.demo.texts import DEMO_TEXTS
from xmodel.errors import InputError

# Text files.


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.TXT", "no-suffix", "a.md", "a.log"])
def test_a_text_file_is_cut_into_documents_of_500_words(tmp_path: Path, name: str) -> None:
    text = paragraphs(12)
    corpus = open_corpus(str(write(tmp_path / name, text)))
    assert "".join(texts(corpus)) == text
    assert [len(part.split()) for part in texts(corpus)] == [600, 840]
    assert names(corpus) == [f"{name}#1", f"{name}#2"]
    assert corpus.repeatable and corpus.name == str(tmp_path / name)


def test_a_file_can_be_one_document(tmp_path: Path) -> None:
    text = "\ufeffone\r\n\r\ntwo\u2028" + paragraphs(12)
    corpus = open_corpus(str(write(tmp_path / "a.txt", text)), document="file")
    assert texts(corpus) == [text[1:]]
    assert names(corpus) == ["a.txt"]


def test_characters_are_kept_and_one_bom_is_dropped(tmp_path: Path) -> None:
    text = "\ufeff\ufeffone\r\ntwo\rthree\x00\x85 cafe\u0301 👩‍🚀\n"
    assert texts(open_corpus(str(write(tmp_path / "a.txt", text)))) == [text[1:]]


@pytest.mark.parametrize("before", range(65_533, 65_537))
def test_a_bom_inside_a_text_is_kept(tmp_path: Path, before: int) -> None:
    text = "x" * before + "\ufeffy"
    assert texts(open_corpus(str(write(tmp_path / "a.txt", text)))) == [text]


def test_characters_across_blocks_are_whole(tmp_path: Path) -> None:
    text = "x" + "𝄞é " * 50_000
    assert "".join(texts(open_corpus(str(write(tmp_path / "a.txt", text))))) == text


def test_a_real_novel_is_the_same_when_put_together(shared: Path) -> None:
    path = shared / "data/texts/moby-dick/moby-dick.txt"
    parts = texts(open_corpus(str(path)))
    assert "".join(parts).encode() == path.read_bytes()
    assert len(parts) > 100 and all(500 <= len(part.split()) <= 20_000 for part in parts)


def peak_of(documents: Iterator[object]) -> tuple[int, int]:
    tracemalloc.start()
    try:
        count = sum(1 for _ in documents)
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# The smaller ones because tracemalloc takes its time; measured: 2.6 MB at most, whatever the size.
@pytest.mark.parametrize(
    ("line", "megabytes", "documents"),
    [
        (b"word " * 50 + b"\n\n", 30, 11_904),
        (b"word " * 50 + b"\n", 10, 100),
        (b"word " * 50, 10, 100),
        (b"w" * 250, 30, 60),
    ],
    ids=["paragraphs", "lines", "one line", "one word"],
)
def test_memory_does_not_grow_with_a_text(
    tmp_path: Path, line: bytes, megabytes: int, documents: int
) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(line * (1_000_000 // len(line)))
    count, peak = peak_of(open_corpus(str(path)).documents())
    assert documents * 0.98 < count < documents * 1.02
    assert peak < 5_000_000


def test_memory_does_not_grow_with_a_jsonl_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((json.dumps({"text": "word " * 2_000}).encode() + b"\n") * 1_500)
    count, peak = peak_of(open_corpus(str(path)).documents())
    assert count == 1_500
    assert peak < 2_000_000


# Rows.


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson"])
def test_a_row_of_jsonl_is_a_document(tmp_path: Path, name: str) -> None:
    first = '\ufeff{"text": "one\\n\\ntwo", "n": 1}\n\n'
    rest = '{"text": ""}\n{"text": " \\n"}\n{"text": null}\n{"text": "three \u2028 \\u00e9"}'
    corpus = open_corpus(str(write(tmp_path / name, first + rest)))
    assert texts(corpus) == ["one\n\ntwo", "three \u2028 é"]
    assert names(corpus) == [f"{name}:1", f"{name}:6"]
    assert texts(corpus) == texts(corpus)


def test_the_text_column_can_have_another_name(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": "no", "content": "yes"}])
    assert texts(open_corpus(str(path), text_column="content")) == ["yes"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "a"}\n{"text": "b"\n', ["line 2 of a.jsonl", "not JSON"]),
        (b'{"text": "a"}\n[1]\n', ["line 2 of a.jsonl", "list", "object"]),
        (b'{"text": "a"}\n\n{"body": "b", "id": 1}\n', ["a.jsonl:3", "'text'", "'body', 'id'"]),
        (b"{}\n", ["'text'", "none"]),
        (b'{"text": ["a"]}\n', ["a.jsonl:1", "list", "--text-column"]),
        (b'{"text": 3}\n', ["a.jsonl:1", "int"]),
        (b'{"text": "\xff"}\n', ["line 1 of a.jsonl", "byte 10", "0xFF"]),
        (b'{"text": "ok"}\n{"text": "a \\ud800 b"}\n', ["a.jsonl:2", "U+D800", "character 2"]),
        (b"[" * 200_000 + b"\n", ["line 1 of a.jsonl", "not JSON"]),
        (b'{"text": ""}\n', ["no document"]),
        (b"", ["no document"]),
    ],
)
def test_bad_jsonl_is_refused_with_its_place(tmp_path: Path, content: bytes, words: list[str]) -> None:
    corpus = open_corpus(str(write(tmp_path / "a.jsonl", content)))
    with pytest.raises(InputError) as caught:
        texts(corpus)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def write_parquet(path: Path, columns: dict[str, object], **options: object) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, **options)
    return path


def test_a_row_of_parquet_is_a_document(tmp_path: Path) -> None:
    rows = [f"text {n}" for n in range(500)]
    rows[3] = ""
    path = write_parquet(
        tmp_path / "a.parquet", {"id": list(range(501)), "text": [*rows, None]}, row_group_size=100
    )
    corpus = open_corpus(str(path))
    assert texts(corpus) == [row for row in rows if row]
    assert names(corpus)[2:4] == ["a.parquet:3", "a.parquet:5"]


def test_every_kind_of_string_column_is_read(tmp_path: Path) -> None:
    import pyarrow as pa

    array = pa.array(["one", "two", "one"])
    columns = {
        "plain": array,
        "large": array.cast(pa.large_string()),
        "coded": array.dictionary_encode(),
        "dotted.name": array,
    }
    path = write_parquet(tmp_path / "a.parquet", columns)
    for column in columns:
        assert texts(open_corpus(str(path), text_column=column)) == ["one", "two", "one"]


def test_bad_parquet_is_refused_at_once(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"id": [1], "body": ["x"]})
    with pytest.raises(InputError, match=r"no column 'text'.*'id', 'body'"):
        open_corpus(str(path))
    with pytest.raises(InputError, match=r"'id' of a\.parquet holds int64"):
        open_corpus(str(path), text_column="id")
    with pytest.raises(InputError, match="not a Parquet file"):
        open_corpus(str(write(tmp_path / "b.parquet", "text")))


def test_damaged_parquet_is_refused_when_it_is_reached(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": [f"{n:09}" for n in range(1000)]})
    raw = bytearray(path.read_bytes())
    raw[4:2000] = bytes(1996)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.parquet cannot be read behind row 0"):
        texts(open_corpus(str(path)))


# Folders.


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a.txt.gz", "c/d/e.text", ".hidden.txt", ".git/x.txt", "c/data.csv"):
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "long.txt", paragraphs(12))
    corpus = open_corpus(str(tmp_path))
    assert names(corpus) == [
        *("a.txt.gz#1", "a/z.md#1", "b.txt#1", "c/d/e.text#1"),
        *("long.txt#1", "long.txt#2"),
    ]
    assert texts(corpus)[:2] == ["text of a.txt.gz", "text of a/z.md"]
    assert names(open_corpus(str(tmp_path), document="file"))[-1] == "long.txt"


def test_an_empty_file_in_a_folder_is_no_document(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "")
    write(tmp_path / "b.txt", "word")
    assert names(open_corpus(str(tmp_path))) == ["b.txt#1"]


def test_a_real_folder(shared: Path) -> None:
    folder = shared / "data/texts/udhr"
    found = names(open_corpus(str(folder), document="file"))
    assert found == sorted(path.name for path in folder.iterdir())


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x")
    with pytest.raises(InputError, match=rf"no text file.*hf:{re.escape(str(tmp_path))}"):
        open_corpus(str(tmp_path))


# Other sources.


def test_demo_texts_come_with_xmodel() -> None:
    corpus = open_corpus("builtin:demo-texts")
    assert texts(corpus) == [demo.text for demo in DEMO_TEXTS]
    assert names(corpus)[0] == "demo-texts#1"
    with pytest.raises(InputError, match=r"'nope'.*builtin:demo-texts"):
        open_corpus("builtin:nope")


def test_standard_input_is_read_once() -> None:
    corpus = open_corpus("-", stream=io.BytesIO("\ufeffhello 👩‍🚀".encode()))
    assert not corpus.repeatable
    assert [(d.name, d.text) for d in corpus.documents()] == [("standard input#1", "hello 👩‍🚀")]
    with pytest.raises(InputError, match="second time"):
        texts(corpus)


def test_standard_input_is_the_default_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert texts(open_corpus("-")) == ["hello"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_cannot_be_repeated(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not open_corpus(str(tmp_path / "pipe")).repeatable


# What must be refused.


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"x" * 70_000 + b"\xff tail", ["byte 70,000", "0xFF", "iconv"]),
        ("a.txt", b"x" * 65_535 + b"\xe2\x28\xa1", ["byte 65,535", "0xE2"]),
        ("a.txt", b"ends \xf0\x9f", ["byte 5", "0xF0"]),
        ("a.txt", "text".encode("utf-16"), ["byte 0", "UTF-16"]),
        ("a.txt", gzip.compress(b"text"), ["byte 1", "gzip", ".gz"]),
        ("a.txt.gz", b"\xff\xfe", ["byte 0"]),
        ("a.txt", b"", ["no document with a word"]),
        ("a.txt", b" \n\n\t\n", ["no document with a word"]),
    ],
)
def test_a_bad_text_is_refused_with_the_byte(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    corpus = open_corpus(str(write(tmp_path / name, content)))
    with pytest.raises(InputError) as caught:
        texts(corpus)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-9], lambda _: b"no gzip", lambda raw: raw[:10] + b"\0" * 50]
)
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(paragraphs(3).encode())))
    with pytest.raises(InputError, match="not a whole gzip file"):
        texts(open_corpus(str(path)))


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.tsv", "a.JSON", "a.csv.gz"])
def test_files_of_other_kinds_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"not read\. Expected a text file, \.jsonl, \.parquet"):
        open_corpus(str(write(tmp_path / name, "{}")))


@pytest.mark.parametrize("source", ["", "nowhere.txt", "hf:", "gs:bucket"])
def test_what_does_not_exist_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=r"Expected|write hf:DATASET"):
        open_corpus(source)


def test_a_file_that_goes_away_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "word")
    corpus = open_corpus(str(path))
    path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        texts(corpus)


def test_an_unknown_way_of_cutting_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "word")
    with pytest.raises(InputError, match="paragraphs or file"):
        open_corpus(str(path), document="lines")  # type: ignore[arg-type]
