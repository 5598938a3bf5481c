"""The laws of the alignment, tried on random texts under every kind of tokenizer.

One generated text feeds all laws. Texts come in batches of `BATCH`, so that the number of texts per
tokenizer is what $XMODEL_LAW_EXAMPLES says.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import laws
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from text_strategies import odd_characters, texts
from tiny_tokenizers import TINY

from xmodel.alignment.align import align_ids, align_texts
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.errors import InputError

BATCH = 20
# Shrinking a batch takes minutes; `shrink` below finds the one text instead.
RUNS = settings(
    max_examples=max(1, settings.default.max_examples // BATCH),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
# The laws themselves compare given ids with fresh ones; these tests compare whole implementations besides.
FEWER_RUNS = settings(RUNS, max_examples=max(1, settings.default.max_examples // BATCH // 10))

REAL = {
    "bert": "bert-base-uncased-minilm/tokenizer.json.gz",
    "gemma3": "gemma3/tokenizer.json.gz",
    "gpt-neox": "gpt-neox/tokenizer.json.gz",
    "gpt2": "gpt2/tokenizer.json.gz",
    "llama2": "llama2/tokenizer.json.gz",
    "mistral": "mistral-v1/tokenizer.model",
    "nepali": "nepali-unigram/tokenizer.json.gz",
}

LEAVES_SPACES = {
    *(
        "clip",
        "normalizer-sequence",
        "unigram-nfkc",
        "unigram-nfkc-words",
        "bytelevel-bpe-prefix",
        "word-level",
    ),
    *("wordpiece-uncased", "wordpiece-uncased-truncates", "wordpiece-cased"),
    *("sp-unigram", "sp-unigram-cf", "sp-unigram-suffix"),
    *(
        "slow-bert",
        "slow-ctrl",
        "slow-bytelevel",
        "slow-gpt-sw3",
        "slow-byt5",
        "slow-sentencepiece",
        "slow-canine",
    ),
    *("bert", "nepali"),
}
"""Kinds that delete some whitespace, so that it is in no token: all others tile the text."""

SAME_VOCABULARY = {
    "slow-bert": "wordpiece-uncased",
    "wordpiece-uncased-truncates": "wordpiece-uncased",
    "slow-sentencepiece": "sp-bpe",
    "tiktoken": "llama3",
    "char-bpe": "char-bpe-fused",
    "metaspace-bpe-first": "metaspace-bpe-always",
}


@cache
def load_tiny(kind: str) -> Tokenizer:
    return load_tokenizer(TINY[kind](), name=kind)


@cache
def load_through_transformers(kind: str) -> Tokenizer | None:
    """The same tokenizer as a transformers object, if it is one of the tokenizers library."""
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    backend = TINY[kind]()
    if not isinstance(backend, Backend):
        return None
    return load_tokenizer(PreTrainedTokenizerFast(tokenizer_object=Backend.from_str(backend.to_str())))


@cache
def load_real(folder: Path, name: str) -> Tokenizer:
    return load_tokenizer(folder / REAL[name], name=name)


@dataclass(frozen=True)
class Sample:
    """What one try of the laws gets."""

    texts: list[str]
    odd: str
    place: float
    limits: tuple[int, int, int]
    most_groups: int | None


def samples() -> st.SearchStrategy[Sample]:
    return st.builds(
        Sample,
        texts=st.lists(texts(), min_size=BATCH, max_size=BATCH),
        odd=odd_characters(),
        place=st.sampled_from([0.0, 0.5, 1.0]),
        limits=st.tuples(*[st.integers(1, 12)] * 3),
        most_groups=st.none() | st.integers(1, 4),
    )


def check_batch(tokenizer: Tokenizer, partners: list[Tokenizer], sample: Sample, *, tiles: bool) -> None:
    """Every law, for one tokenizer and one batch of texts."""
    aligned = align_texts(sample.texts, [tokenizer])
    for alignment in aligned:
        tokens = alignment.spans[0]
        laws.check_form(alignment.text, tokens)
        laws.check_spelling(alignment.text, tokens, tokenizer)
        laws.check_accounting(alignment.text, tokens, tiles=tiles)
    laws.check_batch(sample.texts, tokenizer, aligned)
    laws.check_special(sample.texts, tokenizer, aligned)
    laws.check_given_ids(sample.texts, tokenizer, aligned)
    laws.check_self(sample.texts, tokenizer)

    places = [round(sample.place * len(text)) for text in sample.texts]
    edited = [text[:n] + sample.odd + text[n:] for text, n in zip(sample.texts, places, strict=True)]
    for old, new, place in zip(aligned, align_texts(edited, [tokenizer]), places, strict=True):
        laws.check_locality(old, new, place)

    together = [tokenizer, *partners]
    for straddle in laws.POLICIES:
        for alignment in align_texts(sample.texts, together, straddle=straddle):
            laws.check_words(alignment)
            laws.check_groups(alignment)
            laws.check_last_tokens(alignment)
        laws.check_symmetry(sample.texts, together, straddle)
    for alignment in align_texts(sample.texts, together, special=True):
        laws.check_windows(alignment, sample.limits, sample.most_groups)


def check_all_laws(tokenizer: Tokenizer, partners: list[Tokenizer], sample: Sample, *, tiles: bool) -> None:
    """Every law; where one fails, the failure of the shortest text that was found is raised."""
    try:
        check_batch(tokenizer, partners, sample, tiles=tiles)
    except AssertionError:
        shrink(sample, lambda smaller: check_batch(tokenizer, partners, smaller, tiles=tiles))
        raise


def shrink(sample: Sample, check: Callable[[Sample], None]) -> None:
    """Raise what `check` raises for a single text made as short as possible, if one fails alone."""

    def find_error(text: str) -> AssertionError | None:
        try:
            check(replace(sample, texts=[text]))
        except AssertionError as error:
            return error
        return None

    text = next((text for text in sample.texts if find_error(text)), None)
    if text is None:
        return
    place = 0
    while place < len(text):
        shorter = text[:place] + text[place + 1 :]
        if find_error(shorter):
            text = shorter
        else:
            place += 1
    error = find_error(text)
    assert error is not None
    error.add_note(f"the text is {text!a}, inserted was {sample.odd!a}, limits were {sample.limits}")
    raise error


@pytest.mark.parametrize("kind", TINY)
@RUNS
@given(sample=samples())
def test_the_laws_hold(kind: str, sample: Sample) -> None:
    kinds = list(TINY)
    partners = [load_tiny(kinds[(kinds.index(kind) + step) % len(kinds)]) for step in (7, 13)]
    check_all_laws(load_tiny(kind), partners, sample, tiles=kind not in LEAVES_SPACES)


@pytest.mark.parametrize("name", REAL)
@RUNS
@given(sample=samples())
def test_the_laws_hold_for_real_tokenizers(shared: Path, name: str, sample: Sample) -> None:
    names = list(REAL)
    folder = shared / "data" / "tokenizers"
    partners = [load_real(folder, names[(names.index(name) + step) % len(names)]) for step in (2, 3)]
    check_all_laws(load_real(folder, name), partners, sample, tiles=name not in LEAVES_SPACES)


@pytest.mark.parametrize("kind", [kind for kind in TINY if not kind.startswith(("slow-", "sp-", "tiktoken"))])
@FEWER_RUNS
@given(sample=samples())
def test_a_transformers_object_gives_the_same(kind: str, sample: Sample) -> None:
    wrapped = load_through_transformers(kind)
    assert wrapped is not None
    tokenizer = load_tiny(kind)
    assert wrapped.template == tokenizer.template
    both = align_texts(sample.texts, [tokenizer, wrapped])
    for alignment in both:
        laws.assert_same_tokens(*alignment.spans, alignment.text)


@pytest.mark.parametrize(("one", "other"), SAME_VOCABULARY.items())
@FEWER_RUNS
@given(sample=samples())
def test_equal_ids_give_equal_spans(one: str, other: str, sample: Sample) -> None:
    """Two implementations with one vocabulary: where they agree on the ids, they agree on the bytes."""
    left, right = load_tiny(one), load_tiny(other)
    for alignment in align_texts(sample.texts, [left, right]):
        first, second = alignment.spans
        if any(unicodedata.category(character) in ("Cn", "Co") for character in alignment.text):
            continue  # the tokenizer in Python deletes these, the other keeps them
        if [left.token_name(n) for n in first.ids] == [right.token_name(n) for n in second.ids]:
            assert laws.list_spans(first) == laws.list_spans(second), alignment.text


@pytest.mark.parametrize("kind", TINY)
def test_ids_alone_need_no_encoder(kind: str) -> None:
    tokenizer = load_tiny(kind)
    bare = replace(tokenizer, encode_texts=None)
    sample = "The night\n\n train, CO₂ (नमस्ते) cafe\u0301 </s> 1990."
    with pytest.raises(InputError, match="can only read ids"):
        align_texts([sample], [bare])
    tokens = align_texts([sample], [tokenizer])[0].spans[0]
    laws.assert_same_tokens(align_ids([sample], [bare], [[tokens.ids]])[0].spans[0], tokens)
