"""Every real text under every real tokenizer, and every pair of tokenizers on every text.

All texts lie in one buffer of bytes, so the checks look at whole arrays. What they compare with comes from
the tokenizer's own library, from the vocabulary, or from `reference_aligner`, never from the alignment.
"""

import gzip
import json
import runpy
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import laws
import numpy as np
import pytest
from numpy.typing import NDArray
from reference_aligner import WHITESPACE, walk_byte_level, walk_pieces

from xmodel.alignment.align import AlignedTexts, align_ids, align_texts
from xmodel.alignment.groups import FlatGroups, group_flat, map_words
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.matching import PAD
from xmodel.alignment.spans import FlatSpans
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.records import Straddle, TokenFlag

REAL = {
    "bert": "bert-base-uncased-minilm/tokenizer.json.gz",
    "gemma3": "gemma3/tokenizer.json.gz",
    "gpt-neox": "gpt-neox/tokenizer.json.gz",
    "gpt2": "gpt2/tokenizer.json.gz",
    "llama2": "llama2/tokenizer.json.gz",
    "mistral": "mistral-v1/tokenizer.model",
    "nepali": "nepali-unigram/tokenizer.json.gz",
}
PAIRS = list(combinations(REAL, 2))
NEVER_REWRITES = ("gemma3", "gpt2", "llama2", "mistral")
BENCH = ("human_languages", "programming_languages", "scientific_formulas", "edge_cases")
KINDS = ("rewritten", "deleted", "unknown", "ambiguous")
SHORT, MIDDLE = 300, 20_000
"""Bytes: texts below SHORT meet the slow reference; those below MIDDLE are encoded a second time."""


def list_strings(tree: object) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from list_strings(part)


@cache
def read_texts(shared: Path) -> list[str]:
    folder = shared / "data" / "texts"
    names = ("udhr/*.txt", "code/*.py", "unicode/*.txt", "moby-dick/*.txt", "kjv/*.txt", "sotu/*.txt")
    texts = []
    for path in (path for name in names for path in sorted(folder.glob(name))):
        with path.open(encoding="utf-8", newline="") as file:
            texts.append(file.read())
    texts += json.loads((folder / "blns" / "blns.json").read_text("utf-8"))
    for name in BENCH:
        content = runpy.run_path(str(folder / "tokenizerbench" / f"{name}.py"))
        trees = [value for key, value in content.items() if not key.startswith("__")]
        texts += [text for tree in trees for text in list_strings(tree)]
    assert len(texts) > 2900
    return texts


@cache
def load_real(shared: Path, name: str) -> Tokenizer:
    return load_tokenizer(shared / "data" / "tokenizers" / REAL[name], name=name)


@cache
def load_library(shared: Path, name: str) -> Any:
    """The tokenizer as its own library has it, with nothing of xmodel in between."""
    path = shared / "data" / "tokenizers" / REAL[name]
    if path.suffix == ".model":
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_file=str(path))
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(gzip.decompress(path.read_bytes()).decode())
    backend.no_padding()
    backend.no_truncation()
    return backend


@cache
def align_all(shared: Path, name: str) -> AlignedTexts:
    """All texts under one tokenizer; this tokenizes them."""
    return align_texts(read_texts(shared), [load_real(shared, name)])


def choose_texts(shared: Path, limit: int) -> list[str]:
    return [text for text in read_texts(shared) if len(text.encode()) < limit]


@dataclass(frozen=True, eq=False)
class Bytes:
    """What is known of every byte of the buffer that holds all texts."""

    blank: NDArray[np.bool_]
    """Whether it belongs to whitespace, or lies between texts."""
    inside: NDArray[np.bool_]
    """Whether it continues a character."""
    word: NDArray[np.int64]
    """The word that it belongs to; -1 for whitespace."""
    next_solid: NDArray[np.int64]
    """The first place from here on that is not blank."""
    last_solid: NDArray[np.int64]
    """The last place before this one that is not blank; -1 if there is none."""


@cache
def describe_bytes(shared: Path) -> Bytes:
    aligned = align_all(shared, "gpt2")
    size = len(aligned.flat.buffer) - PAD
    text = f" {' '.join(read_texts(shared))} "
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    blank = np.repeat(
        np.isin(points, [ord(character) for character in WHITESPACE]),
        1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF),
    )
    assert len(blank) == size and aligned.flat.buffer[:size].tobytes() == text.encode()
    inside = (aligned.flat.buffer & 0xC0) == 0x80
    labels = np.zeros(size + 1, dtype=np.int64)
    np.add.at(labels, aligned.word_starts, 1)
    counted = np.cumsum(labels[:-1]) - 1
    covered = count_cover(size, aligned.word_starts, aligned.word_ends)
    assert covered.max() == 1 and np.all(covered[~blank] == 1), "words hold every byte once"
    places = np.arange(size)
    following = np.minimum.accumulate(np.where(blank, size, places)[::-1])[::-1]
    before = np.maximum.accumulate(np.where(blank, -1, places))
    return Bytes(
        blank,
        inside,
        np.where(blank, -1, counted),
        np.append(following, size),
        np.concatenate([[-1], before]),
    )


def count_cover(size: int, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many spans cover each byte."""
    steps = np.bincount(starts, minlength=size + 1) - np.bincount(ends, minlength=size + 1)
    return np.cumsum(steps)[:size]


@dataclass(frozen=True, eq=False)
class Ranges:
    """What all certificates of one tokenizer say, in coordinates of the buffer."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    kinds: NDArray[np.str_]

    def mark(self, size: int, *kinds: str) -> NDArray[np.bool_]:
        """Bytes that lie in ranges of some kinds, or of any."""
        chosen = np.isin(self.kinds, kinds or KINDS)
        return count_cover(size, self.starts[chosen], self.ends[chosen]) > 0


@cache
def list_ranges(shared: Path, name: str) -> Ranges:
    aligned = align_all(shared, name)
    origins = aligned.flat.starts.tolist()
    rows, kinds = [], []
    for origin, certificate in zip(origins, aligned.certificates(0), strict=True):
        rows += [(origin + low, origin + high) for low, high in certificate.ranges]
        kinds += certificate.kinds
    bounds = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return Ranges(bounds[:, 0], bounds[:, 1], np.array(kinds, dtype="U9"))


def overlap_marked(marks: NDArray[np.bool_], spans: FlatSpans) -> NDArray[np.bool_]:
    """[N] which tokens cover a marked byte."""
    before = np.concatenate([[0], np.cumsum(marks)])
    return before[spans.ends] > before[spans.starts]


def official_rows(shared: Path, name: str, texts: list[str], *, special: bool) -> Iterator[list[int]]:
    library = load_library(shared, name)
    if REAL[name].endswith(".model"):
        yield from library.encode(texts, add_bos=special)
        return
    for first in range(0, len(texts), 500):
        for encoding in library.encode_batch(texts[first : first + 500], add_special_tokens=special):
            yield encoding.ids


def check_ids(shared: Path, name: str, texts: list[str], spans: FlatSpans, *, special: bool) -> None:
    bounds = spans.bounds.tolist()
    rows = official_rows(shared, name, texts, special=special)
    for text, row, (low, high) in zip(texts, rows, pairwise(bounds), strict=True):
        assert spans.ids[low:high].tolist() == row, text[:100]


@pytest.mark.parametrize("name", REAL)
def test_ids_are_the_librarys_own(shared: Path, name: str) -> None:
    check_ids(shared, name, read_texts(shared), align_all(shared, name).spans[0], special=False)


@pytest.mark.parametrize("name", REAL)
def test_special_ids_are_the_librarys_own_and_have_no_bytes(shared: Path, name: str) -> None:
    texts = choose_texts(shared, MIDDLE)
    spans = align_texts(texts, [load_real(shared, name)], special=True).spans[0]
    check_ids(shared, name, texts, spans, special=True)
    template = (spans.flags & TokenFlag.TEMPLATE) > 0
    assert np.array_equal(spans.starts[template], spans.ends[template])
    if name in ("gpt2", "gpt-neox"):
        assert not template.any()
    else:
        assert template.sum() == len(texts) * (1 if name in ("gemma3", "llama2", "mistral") else 2)
    plain = align_texts(texts, [load_real(shared, name)]).spans[0]
    for part in ("ids", "starts", "ends", "flags"):
        assert np.array_equal(getattr(spans, part)[~template], getattr(plain, part)), part
    assert spans.certificates == plain.certificates


@pytest.mark.parametrize("name", REAL)
def test_certificates_are_in_form(shared: Path, name: str) -> None:
    aligned = align_all(shared, name)
    assert aligned.failed == 0
    for text, certificate in zip(aligned.flat.texts, aligned.certificates(0), strict=True):
        kinds = set(certificate.kinds)
        expected = "exact" if not kinds else "ambiguous" if kinds & {"unknown", "ambiguous"} else "normalized"
        assert (certificate.status, certificate.reason) == (expected, None), text[:100]
    ranges, data = list_ranges(shared, name), describe_bytes(shared)
    assert len(ranges.starts) == len(ranges.ends) == len(ranges.kinds)
    assert np.all(ranges.starts < ranges.ends) and np.all(ranges.ends[:-1] <= ranges.starts[1:])
    assert not data.inside[ranges.starts].any() and not data.inside[ranges.ends].any()
    owner = np.searchsorted(aligned.flat.starts, ranges.starts, side="right") - 1
    assert np.all(ranges.ends <= aligned.flat.ends[owner])
    if name in NEVER_REWRITES:
        assert not np.isin(ranges.kinds, ("rewritten", "deleted")).any()


@pytest.mark.parametrize("name", REAL)
def test_every_byte_is_accounted_for(shared: Path, name: str) -> None:
    aligned, data, ranges = align_all(shared, name), describe_bytes(shared), list_ranges(shared, name)
    spans, size = aligned.spans[0], len(data.blank)
    counts = np.diff(spans.bounds)
    assert np.all(spans.starts >= np.repeat(aligned.flat.starts, counts))
    assert np.all(spans.starts <= spans.ends) and np.all(spans.ends <= np.repeat(aligned.flat.ends, counts))
    assert np.all(np.diff(spans.starts) >= 0), "starts decrease"
    assert np.all(np.diff(spans.ends) >= 0), "ends decrease"
    cover = count_cover(size, spans.starts, spans.ends)
    marked, deleted = ranges.mark(size), ranges.mark(size, "deleted")
    bare = (cover == 0) & ~data.blank & ~deleted
    assert not bare.any(), f"byte {np.flatnonzero(bare)[:5]} of the buffer is in no token"
    assert cover[~marked].max() == 1, "a byte without reason is in two tokens"
    if name not in ("bert", "nepali"):
        tiled = count_cover(size, aligned.flat.starts, aligned.flat.ends) > 0
        assert np.all(cover[tiled & ~deleted] >= 1), "whitespace is in no token"

    # Outside of all ranges every token spells its span; the concatenation shows it for all at once.
    clean = np.flatnonzero(~overlap_marked(marked, spans))
    numbers, place = np.unique(spans.ids, return_inverse=True)
    spelled = [load_real(shared, name).describe_id(number) for number in numbers.tolist()]
    prefix = (spans.flags[clean] & TokenFlag.PREFIX) > 0
    pieces = [spelled[n] for n in place[clean].tolist()]
    for number in np.flatnonzero(prefix).tolist():
        assert pieces[number][:1] == b" ", "what is before the text is a space"
        pieces[number] = pieces[number][1:]
    lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    starts, ends = spans.starts[clean], spans.ends[clean]
    assert np.array_equal(lengths, ends - starts)
    covered = count_cover(size, starts, ends) > 0
    assert b"".join(pieces) == aligned.flat.buffer[:size][covered].tobytes()
    assert np.all((starts < ends) | prefix), "a token has no bytes"

    hard = overlap_marked(ranges.mark(size, "rewritten", "unknown"), spans)
    said = (spans.flags & (TokenFlag.REWRITTEN | TokenFlag.UNKNOWN)) > 0
    assert np.array_equal(hard, said)
    partial = (data.inside[starts] | data.inside[ends]) & (starts < ends)
    assert np.array_equal((spans.flags[clean] & TokenFlag.PARTIAL) > 0, partial)
    assert not (spans.flags & TokenFlag.TEMPLATE).any()


def list_pieces(shared: Path, name: str, kind: str) -> list[tuple[str, str, str]]:
    """The different ranges of one kind, each with the character before and the one after."""
    aligned, ranges = align_all(shared, name), list_ranges(shared, name)
    data, inside = aligned.flat.buffer.tobytes(), describe_bytes(shared).inside
    found = set()
    chosen = ranges.kinds == kind
    for low, high in zip(ranges.starts[chosen].tolist(), ranges.ends[chosen].tolist(), strict=True):
        before, after = low - 1, high + 1
        while inside[before]:
            before -= 1
        while inside[after]:
            after += 1
        found.add((data[before:low].decode(), data[low:high].decode(), data[high:after].decode()))
    return sorted(found)


def replays(shared: Path, name: str, text: str) -> str:
    normalizer = load_library(shared, name).normalizer
    return text if normalizer is None else normalizer.normalize_str(text)


@pytest.mark.parametrize("name", [name for name in REAL if name != "mistral"])
def test_what_is_called_rewritten_is_rewritten_and_minimal(shared: Path, name: str) -> None:
    for _, piece, _ in list_pieces(shared, name, "rewritten"):
        whole = replays(shared, name, piece)
        assert whole != piece, f"{piece!a} is not rewritten"
        assert whole, f"{piece!a} is deleted"
        for cut in range(1, len(piece)):
            parts = [replays(shared, name, part) for part in (piece[:cut], piece[cut:])]
            assert "".join(parts) != whole, f"{piece!a} falls apart at {cut}"
    for before, piece, after in list_pieces(shared, name, "deleted"):
        around = replays(shared, name, before + piece + after)
        assert not replays(shared, name, piece).strip(), f"{piece!a} is not deleted"
        assert piece not in around, f"{piece!a} is not deleted"


@pytest.mark.parametrize("name", ["gpt2", "gpt-neox"])
def test_byte_level_spans_follow_from_the_vocabulary(shared: Path, name: str) -> None:
    spans, library = align_all(shared, name).spans[0], load_library(shared, name)
    added = {entry.content for entry in library.get_added_tokens_decoder().values()}
    aligned, strings = (
        align_all(shared, name),
        list(map(library.id_to_token, range(library.get_vocab_size()))),
    )
    skipped = 0
    for text, origin, (low, high) in zip(
        aligned.flat.texts, aligned.flat.starts, pairwise(spans.bounds.tolist()), strict=True
    ):
        if name == "gpt-neox" and not unicodedata.is_normalized("NFC", text):
            skipped += 1
            continue
        walked = walk_byte_level([strings[n] for n in spans.ids[low:high].tolist()], added.__contains__)
        expected = np.array(walked, dtype=np.int64).reshape(-1, 2) + origin
        assert np.array_equal(spans.starts[low:high], expected[:, 0]), text[:100]
        assert np.array_equal(spans.ends[low:high], expected[:, 1]), text[:100]
    assert skipped <= 12


@pytest.mark.parametrize("name", ["gemma3", "llama2", "mistral"])
def test_spans_of_pieces_follow_from_the_vocabulary(shared: Path, name: str) -> None:
    aligned, tokenizer = align_all(shared, name), load_real(shared, name)
    spans, skipped = aligned.spans[0], []
    for text, origin, (low, high) in zip(
        aligned.flat.texts, aligned.flat.starts, pairwise(spans.bounds.tolist()), strict=True
    ):
        walked = walk_pieces([tokenizer.token_name(n) for n in spans.ids[low:high].tolist()], text)
        if walked is None or "▁" in text:
            skipped.append(text)
            continue
        expected = np.array(walked, dtype=np.int64).reshape(-1, 2) + origin
        assert np.array_equal(spans.starts[low:high], expected[:, 0]), text[:100]
        assert np.array_equal(spans.ends[low:high], expected[:, 1]), text[:100]
    # What the walk cannot read: a literal mark, or added tokens in the text, after which llama2 puts a space.
    assert all("▁" in text or "<" in text for text in skipped), skipped
    assert len(skipped) <= 12


@pytest.mark.parametrize("name", REAL)
def test_ids_alone_give_the_same(shared: Path, name: str) -> None:
    aligned = align_all(shared, name)
    spans = aligned.spans[0]
    rows = np.split(spans.ids, spans.bounds[1:-1])
    again = align_ids(aligned.flat.texts, [load_real(shared, name)], [rows]).spans[0]
    for part in ("ids", "starts", "ends", "flags", "bounds"):
        assert np.array_equal(getattr(spans, part), getattr(again, part)), part
    assert spans.certificates == again.certificates


def test_the_share_of_bytes_that_are_not_exact(shared: Path) -> None:
    """Prints a table: `pytest -rP`."""
    texts = read_texts(shared)
    flat, blank = align_all(shared, "gpt2").flat, describe_bytes(shared).blank
    languages = len(list((shared / "data" / "texts" / "udhr").glob("*.txt")))
    parts = {"all texts": slice(0, int(flat.ends[-1])), "udhr": slice(0, int(flat.ends[languages - 1]))}
    for label, part in parts.items():
        solid = ~blank[part]
        print(f"\n% of {solid.sum()} non-whitespace bytes, {label}")
        print(f"{'':10}{'exact texts':>14}" + "".join(f"{kind:>12}" for kind in ("exact", *KINDS)))
        for name in REAL:
            ranges = list_ranges(shared, name)
            marks = [ranges.mark(len(blank), kind)[part] & solid for kind in KINDS]
            shares = [float(mark.sum() / solid.sum()) for mark in marks]
            assert sum(marks).max() <= 1  # type: ignore[attr-defined]
            count = len(texts) if label == "all texts" else languages
            exact = sum(c.status == "exact" for c in align_all(shared, name).certificates(0)[:count])
            row = "".join(f"{100 * share:12.4f}" for share in (1 - sum(shares), *shares))
            print(f"{name:10}{exact:>7} /{count:>5}{row}")
            if name in NEVER_REWRITES:
                assert shares[:3] == [0, 0, 0]
            if name == "gpt-neox":
                assert sum(shares) < 0.02


@dataclass(frozen=True, eq=False)
class Touch:
    """[N] the first and last word of which a token has non-whitespace bytes, and whether there is one."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    some: NDArray[np.bool_]


@cache
def find_touched(shared: Path, name: str) -> Touch:
    data, spans = describe_bytes(shared), align_all(shared, name).spans[0]
    low, high = data.next_solid[spans.starts], data.last_solid[spans.ends]
    some = low < spans.ends
    words = np.append(data.word, -1)
    return Touch(np.where(some, words[low], 0), np.where(some, words[high], 0), some)


def check_flat_groups(shared: Path, names: tuple[str, ...], groups: FlatGroups) -> None:
    """Runs of words that hold all words, which no token crosses, none longer than the tokens demand."""
    aligned = align_all(shared, names[0])
    count = len(aligned.word_starts)
    first, last = groups.first_word, groups.last_word
    assert np.all(first <= last) and first[0] == 0 and last[-1] == count - 1
    assert np.array_equal(first[1:], last[:-1] + 1), "a word is in no group or in two"
    assert np.array_equal(groups.starts, aligned.word_starts[first])
    assert np.array_equal(groups.ends, aligned.word_ends[last])
    group_of = np.repeat(np.arange(len(first)), last - first + 1)
    touches = [find_touched(shared, name) for name in names]
    steps = np.zeros(count + 1, dtype=np.int64)
    for touch, members in zip(touches, groups.members, strict=True):
        rows = group_of[touch.first]
        assert np.array_equal(rows[touch.some], group_of[touch.last][touch.some]), "a token is in two groups"
        np.add.at(steps, touch.first[touch.some], 1)
        np.subtract.at(steps, touch.last[touch.some], 1)
        own = np.flatnonzero(touch.some)
        assert np.array_equal(members.tokens, own)
        assert np.array_equal(np.repeat(np.arange(len(first)), np.diff(members.indptr)), rows[own])
        assert members.indptr[0] == 0 and np.all(members.weights == 1) and len(members.weights) == len(own)
    bridged = np.cumsum(steps)[: count - 1] > 0
    assert np.array_equal(group_of[1:] == group_of[:-1], bridged), "words are joined without a reason"


def group_all(shared: Path, names: tuple[str, ...]) -> FlatGroups:
    """The groups of all texts, from spans that were found once per tokenizer."""
    aligned = [align_all(shared, name) for name in names]
    for other in aligned[1:]:
        assert np.array_equal(other.word_starts, aligned[0].word_starts)
        assert np.array_equal(other.word_ends, aligned[0].word_ends)
    spans = [(own.spans[0].starts, own.spans[0].ends) for own in aligned]
    size = len(aligned[0].flat.buffer) - PAD
    return group_flat(map_words(aligned[0].word_starts, aligned[0].word_ends, None, size), spans, "merge")


@pytest.mark.parametrize("names", [*PAIRS, tuple(REAL)], ids="-".join)
def test_groups_are_the_finest_that_no_token_crosses(shared: Path, names: tuple[str, ...]) -> None:
    check_flat_groups(shared, names, group_all(shared, names))


def test_ids_of_two_tokenizers_give_these_groups(shared: Path) -> None:
    names = ("gpt2", "gemma3")
    spans = [align_all(shared, name).spans[0] for name in names]
    rows = [np.split(own.ids, own.bounds[1:-1]) for own in spans]
    found = align_ids(read_texts(shared), [load_real(shared, name) for name in names], rows)
    check_flat_groups(shared, names, found.groups)


def check_with_reference(shared: Path, names: tuple[str, ...], straddle: Straddle) -> None:
    texts = list(dict.fromkeys(choose_texts(shared, SHORT)))
    tokenizers = [load_real(shared, name) for name in names]
    aligned = align_texts(texts, tokenizers, straddle=straddle)
    assert len(texts) > 2000 and aligned.failed == 0
    for alignment in aligned:
        laws.check_groups(alignment)


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_groups_are_those_of_the_slow_reference(shared: Path, names: tuple[str, ...]) -> None:
    check_with_reference(shared, names, "merge")


@pytest.mark.parametrize("straddle", ["split", "drop"])
@pytest.mark.parametrize("names", [("gemma3", "gpt2"), ("bert", "llama2")], ids="-".join)
def test_other_policies_are_those_of_the_slow_reference(
    shared: Path, names: tuple[str, ...], straddle: Straddle
) -> None:
    check_with_reference(shared, names, straddle)
