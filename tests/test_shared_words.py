"""Words that are one token in two vocabularies, against the spans of the alignment and on real tokenizers."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
from tiny_tokenizers import TEXT, TINY
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from xmodel import InputError, load_tokenizer
from xmodel.alignment.align import align_texts
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.steering.shared_words import BEFORE, find_shared_words

KINDS = [kind for kind in TINY if kind != "slow-canine"]  # The whole of Unicode is its vocabulary.
WORD = regex.compile(r"\p{L}[\p{L}\p{M}]+")


def load(kind: str) -> Tokenizer:
    return load_tokenizer(TINY[kind]())


def list_one_token(tokenizer: Tokenizer, words: Sequence[str]) -> set[str]:
    """Words that are one token by the spans of the alignment, which know nothing of how words are spelled."""
    found = set()
    first = len(BEFORE)
    for word, aligned in zip(
        words, align_texts([f"{BEFORE} {word}" for word in words], [tokenizer]), strict=True
    ):
        spans = aligned.spans[0]
        inside = np.flatnonzero(spans.ends > first)
        exact = spans.certificate.status == "exact" and len(inside) == 1
        if exact and spans.starts[inside[0]] >= first:
            found.add(word)
    return found


def list_candidates(*tokenizers: Tokenizer) -> set[str]:
    pieces = [piece for one in tokenizers for piece in one.spelling.strings]
    found = {word for text in (*TEXT, *pieces) for word in WORD.findall(text)}
    return {word for word in found if len(regex.findall(r"\p{L}", word)) >= 2}


@pytest.mark.parametrize(("one", "two"), [*zip(KINDS, KINDS, strict=True), *list(pairwise(KINDS))[::4]])
def test_they_are_those_that_the_alignment_says_are_one_token(one: str, two: str) -> None:
    first, second = load(one), load(two)
    found = find_shared_words(first, second)
    for word, a, b in zip(found.texts, found.ids_a, found.ids_b, strict=True):
        assert first.describe_id(a).decode() in (word, f" {word}")
        assert second.describe_id(b).decode() in (word, f" {word}")
    candidates = sorted(list_candidates(first, second))
    expected = list_one_token(first, candidates) & list_one_token(second, candidates)
    assert set(found.texts) & set(candidates) == expected


def test_something_is_found_where_it_can_be() -> None:
    """Most kinds of tokenizers share words with byte-level BPE; those of bytes have none."""
    counts = {kind: len(find_shared_words(load("bytelevel-bpe"), load(kind))) for kind in KINDS}
    assert counts["slow-byt5"] == 0
    many = ("bytelevel-bpe", "llama3", "llama2", "gemma", "unigram-bytes", "wordpiece-cased", "sp-bpe")
    assert min(counts[kind] for kind in many) >= 30


@pytest.mark.parametrize(("one", "two"), [("llama2", "gemma"), ("llama3", "sp-bpe")])
def test_the_sides_can_be_exchanged(one: str, two: str) -> None:
    there = find_shared_words(load(one), load(two))
    back = find_shared_words(load(two), load(one))
    assert dict(zip(there.texts, zip(there.ids_a, there.ids_b, strict=True), strict=True)) == dict(
        zip(back.texts, zip(back.ids_b, back.ids_a, strict=True), strict=True)
    )


def test_the_most_frequent_come_first_and_can_be_chosen() -> None:
    first, second = load_tokenizer("builtin:neox-demo"), load_tokenizer("builtin:gemma-demo")
    found = find_shared_words(first, second)
    assert found.texts[0] == "the" and len(found) > 1_000
    assert len(set(found.texts)) == len(np.unique(found.ids_a)) == len(np.unique(found.ids_b)) == len(found)
    some = find_shared_words(first, second, most=10)
    assert some.texts == found.texts[:10] == found.take(10).texts
    assert some.ids_b.tolist() == found.ids_b[:10].tolist()


def test_only_words_of_a_list_are_kept() -> None:
    first, second = load_tokenizer("builtin:neox-demo"), load_tokenizer("builtin:gemma-demo")
    everything = find_shared_words(first, second)
    assert "th" in everything.texts
    some = find_shared_words(first, second, among=["night", "the", "nightt"])
    assert some.texts == tuple(word for word in everything.texts if word in ("night", "the"))
    assert len(some) == 2


def test_the_unknown_token_is_no_word_though_it_is_spelled_like_one() -> None:
    vocabulary = {"unknown": 0, ".": 1, "night": 2}
    backend = Backend(models.WordLevel(vocabulary, unk_token="unknown"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = load_tokenizer(backend)
    assert find_shared_words(tokenizer, tokenizer).texts == ("night",)


@pytest.mark.parametrize("most", [0, -3])
def test_none_cannot_be_asked_for(most: int) -> None:
    with pytest.raises(InputError, match="1 or more"):
        find_shared_words(load("llama2"), load("gemma"), most=most)


REAL = {
    "gpt-neox/tokenizer.json.gz": "Ġ",
    "gpt2/tokenizer.json.gz": "Ġ",
    "llama2/tokenizer.json.gz": "▁",
    "mistral-v1/tokenizer.model": "▁",
    "bert-base-uncased-minilm/tokenizer.json.gz": "",
}


@pytest.mark.parametrize("other", REAL)
def test_real_vocabularies(shared: Path, other: str) -> None:
    folder = shared / "data" / "tokenizers"
    first, second = load_tokenizer(folder / "gpt-neox/tokenizer.json.gz"), load_tokenizer(folder / other)
    found = find_shared_words(first, second)
    assert len(found) > 10_000
    named = [second.token_name(token) for token in found.ids_b]
    for name, word in zip(named, found.texts, strict=True):
        assert name == REAL[other] + word or not word.isascii()
    assert {"night", "the", "water", "king"} <= set(found.texts)


def test_a_word_at_the_beginning_of_a_text_would_be_missed(shared: Path) -> None:
    """Why words are looked for within a text: SentencePiece puts a space of its own before it."""
    tokenizer = load_tokenizer(shared / "data" / "tokenizers" / "mistral-v1" / "tokenizer.model")
    assert tokenizer.encode([" night"])[1].tolist() == [2]
    assert "night" in find_shared_words(tokenizer, tokenizer).texts
