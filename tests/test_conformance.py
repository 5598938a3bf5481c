"""The conformance suite, run on xmodel: texts, ids, spans and groups that were derived without it."""

import json
import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from xmodel.alignment.align import align_ids, align_texts
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.records import Alignment

FOLDER = Path(__file__).resolve().parent.parent / "conformance"
sys.path.insert(0, str(FOLDER))

from derive import hash_tokenizer, read_groups, read_tokenizer  # noqa: E402

SUITE: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text("utf-8"))
CASES: list[dict[str, Any]] = SUITE["cases"]
TEXTS: list[str] = [case["text"] for case in CASES]
SHIPPED = [name for name, entry in SUITE["tokenizers"].items() if "file" in entry]
PUBLISHED = [name for name in SUITE["tokenizers"] if name not in SHIPPED]


def load_shipped(name: str) -> Tokenizer:
    return load_tokenizer(FOLDER / SUITE["tokenizers"][name]["file"], name=name)


@cache
def align_shipped() -> list[Alignment]:
    return list(align_texts(TEXTS, [load_shipped(name) for name in SHIPPED]))


def spell_groups(alignment: Alignment) -> list[tuple[int, int, list[list[int]]]]:
    groups = alignment.groups
    return [
        (
            int(groups.starts[g]),
            int(groups.ends[g]),
            [own.tokens[own.indptr[g] : own.indptr[g + 1]].tolist() for own in groups.members],
        )
        for g in range(len(groups))
    ]


def check_tokens(name: str, alignments: list[Alignment], model: int) -> None:
    wrong = []
    for case, alignment in zip(CASES, alignments, strict=True):
        spans, expected = alignment.spans[model], case["tokens"][name]
        found = [list(span) for span in zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)]
        if spans.ids.tolist() != expected["ids"]:
            wrong.append(f"{case['name']}: ids {spans.ids.tolist()}, expected {expected['ids']}")
        elif found != expected["spans"]:
            wrong.append(f"{case['name']} {case['text']!r}: spans {found}, expected {expected['spans']}")
    assert not wrong, "\n".join(wrong)


def check_pair(a: str, b: str, alignments: list[Alignment]) -> None:
    wrong = []
    for case, alignment in zip(CASES, alignments, strict=True):
        found, expected = spell_groups(alignment), read_groups(case, a, b)
        if found != expected:
            wrong.append(f"{case['name']} {case['text']!r}: groups {found}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_the_words() -> None:
    for case, alignment in zip(CASES, align_shipped(), strict=True):
        words = alignment.words
        found = [list(word) for word in zip(words.starts.tolist(), words.ends.tolist(), strict=True)]
        assert found == case["words"], case["name"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_files_are_those_of_the_suite(name: str) -> None:
    entry = SUITE["tokenizers"][name]
    assert hash_tokenizer(read_tokenizer(FOLDER / entry["file"])) == entry["sha256"]


@pytest.mark.parametrize("name", SHIPPED)
def test_spans(name: str) -> None:
    check_tokens(name, align_shipped(), SHIPPED.index(name))


@pytest.mark.parametrize("name", SHIPPED)
def test_spans_from_ids_alone(name: str) -> None:
    rows = [case["tokens"][name]["ids"] for case in CASES]
    check_tokens(name, list(align_ids(TEXTS, [load_shipped(name)], [rows])), 0)


@pytest.mark.parametrize(("a", "b"), list(combinations(SHIPPED, 2)))
def test_groups(a: str, b: str) -> None:
    rows = [[case["tokens"][name]["ids"] for case in CASES] for name in (a, b)]
    check_pair(a, b, list(align_ids(TEXTS, [load_shipped(a), load_shipped(b)], rows)))


def test_published_tokenizers(shared: Path) -> None:
    found, tokenizers = [], []
    for name in PUBLISHED:
        file = shared / "data" / "tokenizers" / name / "tokenizer.json.gz"
        if file.exists() and hash_tokenizer(read_tokenizer(file)) == SUITE["tokenizers"][name]["sha256"]:
            found.append(name)
            tokenizers.append(load_tokenizer(file, name=name))
    if not found:
        pytest.skip("none of the published tokenizers of the suite is there")
    alignments = list(align_texts(TEXTS, tokenizers))
    for model, name in enumerate(found):
        check_tokens(name, alignments, model)
    rows = [[case["tokens"][name]["ids"] for case in CASES] for name in found]
    for (i, a), (j, b) in combinations(enumerate(found), 2):
        pair = align_ids(TEXTS, [tokenizers[i], tokenizers[j]], [rows[i], rows[j]])
        check_pair(a, b, list(pair))


def test_a_wrong_span_is_found() -> None:
    """The suite can fail: spans of another tokenizer do not pass for these."""
    with pytest.raises(AssertionError, match="ids"):
        check_tokens(SHIPPED[1], align_shipped(), 0)
