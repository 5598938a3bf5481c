"""Corpora: what is cut where, that nothing is lost, every source, and every input that must be refused."""

import gzip
import io
import itertools
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodel.datasets.corpus import Corpus, open_corpus
from xmodel.datasets.cutting import DEFAULT_RULE, CutRule, cut_text
from xmodel.datasets.demo.texts import DEMO_TEXTS
from xmodel.errors import InputError

SMALL = CutRule(minimum=3, maximum=7, characters=40)
# No rule 3: only blank lines and the number of words.
WORDY = CutRule(minimum=3, maximum=7, characters=10_000)


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents()]


def names(corpus: Corpus) -> list[str]:
    return [document.name for document in corpus.documents()]


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_rows(path: Path, rows: list[object]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def paragraphs(count: int, words: int = 120) -> str:
    return "\n\n".join(" ".join(f"w{n}x{k}" for k in range(words)) for n in range(count)) + "\n"


# Cutting, against a slow reference that sees the whole text at once.


def line_ends(text: str) -> list[int]:
    """Behind every line end; CR LF is one."""
    return [match.end() for match in re.finditer(r"\r\n|\n|\r", text)]


def cut_slowly(text: str, rule: CutRule) -> list[str]:
    found = []
    while text:
        found.append(text[: find_cut_slowly(text, rule)])
        text = text[len(found[-1]) :]
    if len(found) > 1 and len(found[-1].split()) < rule.minimum:
        found[-2:] = [found[-2] + found[-1]]
    return found


def find_cut_slowly(text: str, rule: CutRule) -> int:
    window = text[: rule.characters]
    if text[: rule.characters + 1].endswith("\r\n") and len(text) > rule.characters:
        window = window[:-1]
    whole = len(text) <= rule.characters
    ends = line_ends(window)
    blank = [
        end
        for before, end in itertools.pairwise(ends)
        # Behind the last line end before something else.
        if not window[before:end].strip() and not any(not window[end:e].strip() for e in ends if e > end)
    ]
    for end in blank:
        if rule.minimum <= len(window[:end].split()) <= rule.maximum:
            return end
        if len(window[:end].split()) > rule.maximum:
            break
    words = list(re.finditer(r"\S+", window))
    if len(words) > rule.maximum:
        window = window[: words[rule.maximum].start()]
    elif whole:
        return len(text)
    lines = [end for end in ends if end <= len(window)]
    if lines and (len(window[: lines[-1]].split()) >= rule.minimum or len(window.split()) < rule.minimum):
        return lines[-1]
    spaces = [place for place, character in enumerate(window, 1) if character.isspace()]
    return spaces[-1] if spaces else len(window)


characters = st.sampled_from(["a", "bc ", "d e ", " ", "\t", "\n", "\n\n", "\r\n", "\r", "é", "\u2028", "𝄞 "])
prose = st.lists(characters, max_size=120).map("".join)


def split_into(text: str, places: list[int]) -> list[str]:
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[low:high] for low, high in itertools.pairwise(at)]


@given(text=prose, rule=st.sampled_from([SMALL, WORDY, CutRule(1, 1, 2), CutRule(4, 30, 25)]))
def test_cutting_equals_the_slow_reference(text: str, rule: CutRule) -> None:
    assert list(cut_text([text], rule)) == cut_slowly(text, rule)


@given(text=prose, places=st.lists(st.integers(0, 500), max_size=40), rule=st.sampled_from([SMALL, WORDY]))
def test_the_pieces_in_which_a_text_arrives_do_not_matter(
    text: str, places: list[int], rule: CutRule
) -> None:
    assert list(cut_text(split_into(text, places), rule)) == list(cut_text([text], rule))
    assert list(cut_text(text, rule)) == list(cut_text([text], rule))


@pytest.mark.parametrize("pieces", [["a b c\n\n", "\nd e f"], ["a b c\r", "\n\r", "\n", " ", "\r\nd e f"]])
def test_blank_lines_go_on_in_the_next_piece(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert list(cut_text(pieces, WORDY)) == list(cut_text(text, WORDY)) == [text[:-5], "d e f"]


@given(text=prose)
def test_nothing_is_lost_and_no_word_is_cut(text: str) -> None:
    found = list(cut_text([text], WORDY))
    assert "".join(found) == text
    assert all(found)
    assert [word for piece in found for word in piece.split()] == text.split()


@given(text=prose)
def test_documents_have_the_minimum_and_not_much_more_than_the_maximum(text: str) -> None:
    counts = [len(piece.split()) for piece in cut_text([text], WORDY)]
    assert all(count >= WORDY.minimum for count in counts) or len(counts) == 1
    assert all(count <= WORDY.maximum for count in counts[:-1])
    # The remainder joins the last one.
    assert not counts or counts[-1] < WORDY.maximum + WORDY.minimum


@given(text=prose)
def test_a_piece_is_never_larger_than_the_memory_that_it_may_take(text: str) -> None:
    sizes = [len(piece) for piece in cut_text([text], SMALL)]
    assert all(size <= SMALL.characters for size in sizes[:-1])
    assert not sizes or sizes[-1] <= 2 * SMALL.characters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c\n\nd e f\n\ng", ["a b c\n\n", "d e f\n\ng"]),
        ("a b\n\nc\n\nd e f", ["a b\n\nc\n\n", "d e f"]),
        ("a b c\r\n\r\nd e f", ["a b c\r\n\r\n", "d e f"]),
        ("a b c\r\rd e f", ["a b c\r\r", "d e f"]),
        ("a b c\n \t\n\n  d e f", ["a b c\n \t\n\n", "  d e f"]),
        ("a b c\r\nd e f", ["a b c\r\nd e f"]),
        ("a b c\nd e f g\nh i j", ["a b c\nd e f g\n", "h i j"]),
        ("a b\nc d e f g h i j", ["a b\nc d e f g ", "h i j"]),
        ("a b\n" + "c" * 60, ["a b\n", "c" * 60]),
        ("", []),
        ("\n\n", ["\n\n"]),
    ],
)
def test_where_a_text_is_cut(text: str, expected: list[str]) -> None:
    assert list(cut_text([text], SMALL)) == expected


def test_the_default_rule_is_the_documented_one() -> None:
    assert (DEFAULT_RULE.minimum, DEFAULT_RULE.maximum, DEFAULT_RULE.characters) == (500, 20_000, 500_000)


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


@pytest.fixture
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library leaves lock files in its cache; these tests leave none in the user's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like a dataset of the hub: two configurations, one of them without `train`."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: first\n  data_files: a.jsonl\n- config_name: second\n"
        "  data_files:\n  - split: validation\n    path: b.jsonl\n---\n"
    )
    write_rows(folder / "a.jsonl", [{"text": "one", "body": "1"}, {"text": "", "body": ""}, {"text": "two"}])
    write_rows(folder / "b.jsonl", [{"text": "three"}])
    return folder


@pytest.mark.usefixtures("private_cache")
def test_a_dataset_is_streamed(dataset: Path) -> None:
    corpus = open_corpus(f"hf:{dataset}:first")
    assert texts(corpus) == texts(corpus) == ["one", "two"]
    assert names(corpus) == [f"hf:{dataset}:first:1", f"hf:{dataset}:first:3"]
    assert texts(open_corpus(f"hf:{dataset}:second:validation")) == ["three"]
    assert texts(open_corpus(f"hf:{dataset}:first:train", text_column="body")) == ["1"]


@pytest.mark.usefixtures("private_cache")
@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", ["Config name is missing", "first", "second"]),
        (":third", ["third", "first", "second"]),
        (":second", ["no split 'train'", "validation"]),
        (":second:test", ["no split 'test'", "validation", ":second:validation"]),
    ],
)
def test_an_unknown_configuration_or_split_names_the_known(
    dataset: Path, rest: str, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        open_corpus(f"hf:{dataset}{rest}")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.usefixtures("private_cache")
def test_a_dataset_without_the_column_is_refused(dataset: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'nope'.*'text'"):
        texts(open_corpus(f"hf:{dataset}:first", text_column="nope"))


@pytest.mark.usefixtures("private_cache")
def test_a_dataset_that_breaks_off_is_refused(dataset: Path, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", b'{"text": "one"}\n{"text": \n')
    with pytest.raises(InputError, match=r"could not be read any further"):
        texts(open_corpus(f"hf:{tmp_path}"))


def test_no_connection_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match="no connection"):
        open_corpus("hf:some/dataset")


def test_an_unusable_dataset_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hf:a b c cannot be read"):
        open_corpus("hf:a b c")


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
