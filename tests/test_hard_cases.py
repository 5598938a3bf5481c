"""The cases that break aligners, with the tokens actually seen and the bytes that each must get.

A row's tokens are written `NAME START-END`, with the vocabulary's own string and these letters for flags:
T template, S literal special, U unknown, R rewritten, P partial, `_` a space put there by the tokenizer.
"""

import gzip
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from laws import assert_same_tokens, list_spans, list_words
from tiny_tokenizers import TINY, write_files
from tokenizers import Tokenizer as Backend

from xmodel import InputError, align_ids, align_text, load_tokenizer
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.records import Certificate, Straddle, TokenFlag, TokenSpans

REAL = {
    "bert": "bert-base-uncased-minilm/tokenizer.json.gz",
    "gemma3": "gemma3/tokenizer.json.gz",
    "neox": "gpt-neox/tokenizer.json.gz",
    "gpt2": "gpt2/tokenizer.json.gz",
    "llama2": "llama2/tokenizer.json.gz",
    "mistral": "mistral-v1/tokenizer.model",
    "nepali": "nepali-unigram/tokenizer.json.gz",
}
LETTERS = {
    "T": TokenFlag.TEMPLATE,
    "S": TokenFlag.LITERAL_SPECIAL,
    "U": TokenFlag.UNKNOWN,
    "R": TokenFlag.REWRITTEN,
    "P": TokenFlag.PARTIAL,
    "_": TokenFlag.PREFIX,
}
ROW = re.compile(r"(.+?) (\d+)-(\d+)([TSURP_]*)(?:, |$)", re.DOTALL)
ASTRONAUT = "hi 👩\u200d🚀!"

Token = tuple[str, int, int, int]
Load = Callable[[str], Tokenizer]


@cache
def load_once(path: Path) -> Tokenizer:
    return load_tokenizer(path)


@cache
def load_tiny(kind: str) -> Tokenizer:
    return load_tokenizer(TINY[kind]())


@pytest.fixture(scope="module")
def real(shared: Path) -> Load:
    return lambda name: load_once(shared / "data/tokenizers" / REAL[name])


def read_tokens(row: str) -> list[Token]:
    found = list(ROW.finditer(row))
    assert "".join(match[0] for match in found) == row, f"cannot read {row!r}"
    return [(m[1], int(m[2]), int(m[3]), sum(LETTERS[letter] for letter in m[4])) for m in found]


def list_tokens(tokenizer: Tokenizer, tokens: TokenSpans) -> list[Token]:
    names = [tokenizer.token_name(token) for token in tokens.ids.tolist()]
    return list(zip(names, tokens.starts.tolist(), tokens.ends.tolist(), tokens.flags.tolist(), strict=True))


def read_certificate(line: str) -> Certificate:
    """`status`, then `kind start-end` per range."""
    status, *rest = line.split()
    ranges = tuple(tuple(map(int, bounds.split("-"))) for bounds in rest[1::2])
    return Certificate(status, ranges, tuple(rest[::2]))  # type: ignore[arg-type]


def check_case(tokenizer: Tokenizer, text: str, row: str) -> None:
    expected, _, certificate = row.partition(" => ")
    (tokens,) = align_text(text, [tokenizer]).spans
    assert list_tokens(tokenizer, tokens) == read_tokens(expected)
    assert tokens.certificate == read_certificate(certificate or "exact")


def list_members(tokens: Sequence[int], bounds: Sequence[int]) -> list[list[int]]:
    return [list(tokens[low:high]) for low, high in pairwise(bounds)]


def check_groups(
    tokenizers: Sequence[Tokenizer],
    text: str,
    straddle: Straddle,
    spans: list[tuple[int, int]],
    members: list[list[list[int]]],
    weights: list[list[list[float]]] | None = None,
    words: str = "default",
) -> None:
    """`members` and `weights` are per tokenizer and group; without `weights` all are 1."""
    groups = align_text(text, tokenizers, words=words, straddle=straddle).groups
    assert list(zip(groups.starts.tolist(), groups.ends.tolist(), strict=True)) == spans
    for number, own in enumerate(groups.members):
        rows = own.indptr.tolist()
        assert list_members(own.tokens.tolist(), rows) == members[number]
        shares = [[1.0] * len(row) for row in members[number]] if weights is None else weights[number]
        found = list_members(own.weights.tolist(), rows)
        assert found == [pytest.approx(row, abs=1e-15) for row in shares]


LLAMAS = "llama2 mistral"
GPTS = "neox gpt2"
JAMO = "\u1112\u1161\u11ab"
JAMO_BYTES = (
    "▁ 0-0_, <0xE1> 0-1P, <0x84> 1-2P, <0x92> 2-3P, <0xE1> 3-4P, <0x85> 4-5P, <0xA1> 5-6P, <0xE1> 6-7P, "
    "<0x86> 7-8P, <0xAB> 8-9P"
)

# The text; then per tokenizer its tokens and, after `=>`, the certificate where it is not `exact`.
CASES: dict[str, dict[str, str]] = {
    "CO₂ is": {
        "neox": "CO 0-2, âĤ 2-4P, Ĥ 4-5P, Ġis 5-8",
        "gpt2": "CO 0-2, â 2-3P, Ĥ 3-4P, Ĥ 4-5P, Ġis 5-8",
        "gemma3": "CO 0-2, ₂ 2-5, ▁is 5-8",
        LLAMAS: "▁CO 0-2_, ₂ 2-5, ▁is 5-8",
        "nepali": "▁C 0-1_, O 1-2, <unk> 2-5U, ▁is 5-8 => ambiguous unknown 2-5",
        "bert": "co₂ 0-5R, is 6-8 => normalized rewritten 0-1 rewritten 1-2",
    },
    "cafe\u0301 au": {
        "neox": "c 0-1, af 1-3, Ã© 3-6R, Ġau 6-9 => normalized rewritten 3-6",
        "gpt2": "c 0-1, afe 1-4, Ì 4-5P, ģ 5-6P, Ġau 6-9",
        "gemma3": "cafe 0-4, \u0301 4-6, ▁au 6-9",
        LLAMAS: "▁ca 0-2_, fe 2-4, \u0301 4-6, ▁au 6-9",
        "bert": "cafe 0-4, au 7-9 => normalized deleted 4-6",
        "nepali": "▁ca 0-2_, fe 2-4, \u0301 4-6, ▁ 6-7, au 7-9",
    },
    JAMO: {
        "neox": "íķľ 0-9R => normalized rewritten 0-9",
        "gpt2": "á 0-1P, Ħ 1-2P, Ĵ 2-3P, á 3-4P, ħ 4-5P, ¡ 5-6P, á 6-7P, Ĩ 7-8P, « 8-9P",
        "gemma3": "\u1112 0-3, \u1161 3-6, \u11ab 6-9",
        LLAMAS: JAMO_BYTES,
        "bert": "\u1112 0-3, ##\u1161 3-6, ##\u11ab 6-9",
        "nepali": "▁ 0-0_, <unk> 0-9U => ambiguous unknown 0-9",
    },
    "  two  spaces ": {
        "neox": "   0-2, two 2-5,    5-7, spaces 7-13, Ġ 13-14",
        "gpt2": "Ġ 0-1, Ġtwo 1-5, Ġ 5-6, Ġspaces 6-13, Ġ 13-14",
        "gemma3": "▁▁ 0-2, two 2-5, ▁▁ 5-7, spaces 7-13, ▁ 13-14",
        LLAMAS: "▁▁ 0-1_, ▁two 1-5, ▁ 5-6, ▁spaces 6-13, ▁ 13-14",
    },
    "</s> a </s>b": {
        "llama2": "</s> 0-4S, ▁ 4-4_, ▁a 4-6, ▁ 6-7, </s> 7-11S, ▁b 11-12_",
        # SentencePiece itself does not look for control symbols in a text.
        "mistral": "▁</ 0-2_, s 2-3, > 3-4, ▁a 4-6, ▁</ 6-9, s 9-10, > 10-11, b 11-12",
        # An added token, but not a special one.
        "gemma3": "</s> 0-4, ▁a 4-6, ▁ 6-7, </s> 7-11, b 11-12",
    },
    "a▁b": {
        "gemma3": "a 0-1, ▁b 1-5 => ambiguous ambiguous 1-4",
        LLAMAS: "▁a 0-1_, ▁b 1-5 => ambiguous ambiguous 1-4",
        GPTS: "a 0-1, âĸ 1-3P, ģ 3-4P, b 4-5",
        "bert": "[UNK] 0-5U => ambiguous unknown 0-5",
    },
    "Ġhello Ċ": {
        GPTS: "Ä 0-1P, ł 1-2P, hello 2-7, ĠÄ 7-9P, Ĭ 9-10P",
        "gemma3": "Ġ 0-2, hello 2-7, ▁ 7-8, Ċ 8-10",
        LLAMAS: "▁ 0-0_, <0xC4> 0-1P, <0xA0> 1-2P, hello 2-7, ▁ 7-8, <0xC4> 8-9P, <0x8A> 9-10P",
        "bert": "g 0-2R, ##hell 2-6, ##o 6-7, c 8-10R => normalized rewritten 0-2 rewritten 8-10",
    },
    'no."\n\nThen': {
        GPTS: 'no 0-2, ." 2-4, Ċ 4-5, Ċ 5-6, Then 6-10',
        "gemma3": 'no 0-2, ." 2-4, \n\n 4-6, Then 6-10',
        LLAMAS: '▁no 0-2_, ." 2-4, <0x0A> 4-5, <0x0A> 5-6, Then 6-10',
    },
    "year 1990": {
        GPTS: "year 0-4, Ġ1990 4-9",
        "gemma3": "year 0-4, ▁ 4-5, 1 5-6, 9 6-7, 9 7-8, 0 8-9",
        LLAMAS: "▁year 0-4_, ▁ 4-5, 1 5-6, 9 6-7, 9 7-8, 0 8-9",
    },
    "a\xa0b": {
        "gemma3": "a 0-1, <0xC2> 1-2P, <0xA0> 2-3P, b 3-4",
        LLAMAS: "▁a 0-1_, \xa0 1-3, b 3-4",
        GPTS: "a 0-1, Âł 1-3, b 3-4",
    },
    "a\u3000b": {
        "gemma3": "a 0-1, <0xE3> 1-2P, <0x80> 2-3P, <0x80> 3-4P, b 4-5",
        LLAMAS: "▁a 0-1_, \u3000 1-4, b 4-5",
        "gpt2": "a 0-1, ãĢ 1-3P, Ģ 3-4P, b 4-5",
    },
    "a <|endoftext|>b": {
        GPTS: "a 0-1, Ġ 1-2, <|endoftext|> 2-15S, b 15-16",
        LLAMAS: "▁a 0-1_, ▁< 1-3, | 3-4, end 4-7, of 7-9, text 9-13, | 13-14, > 14-15, b 15-16",
    },
    "a</s> b": {
        "llama2": "▁a 0-1_, </s> 1-5S, ▁ 5-5_, ▁b 5-7",
    },
    "a  b": {
        "gemma3": "a 0-1, ▁▁ 1-3, b 3-4",
    },
    "a▁▁b": {
        "gemma3": "a 0-1, ▁▁ 1-7, b 7-8 => ambiguous ambiguous 1-4 ambiguous 4-7",
        LLAMAS: "▁a 0-1_, ▁ 1-4, ▁b 4-8 => ambiguous ambiguous 1-4 ambiguous 4-7",
    },
    "\ufeff": {
        "neox": "ï»¿ 0-3",
        "gpt2": "ï 0-1P, » 1-2P, ¿ 2-3P",
        "gemma3": "\ufeff 0-3",
        LLAMAS: "▁ 0-0_, \ufeff 0-3",
        "bert": " => normalized deleted 0-3",
    },
    "a\x00b": {
        GPTS: "a 0-1, Ā 1-2, b 2-3",
        "gemma3": "a 0-1, <0x00> 1-2, b 2-3",
        LLAMAS: "▁a 0-1_, <0x00> 1-2, b 2-3",
        "bert": "ab 0-3 => normalized deleted 1-2",
    },
    "\x00": {
        "bert": " => normalized deleted 0-1",
        LLAMAS: "▁ 0-0_, <0x00> 0-1",
    },
    ASTRONAUT: {
        "neox": "hi 0-2, ĠðŁ 2-5P, ĳ 5-6P, © 6-7P, âĢ 7-9P, į 9-10P, ðŁ 10-12P, ļ 12-13P, Ģ 13-14P, ! 14-15",
        "gpt2": "hi 0-2, ĠðŁĳ 2-6P, © 6-7P, âĢ 7-9P, į 9-10P, ðŁ 10-12P, ļ 12-13P, Ģ 13-14P, ! 14-15",
        "gemma3": "hi 0-2, ▁ 2-3, 👩 3-7, \u200d 7-10, 🚀 10-14, ! 14-15",
        LLAMAS: (
            "▁hi 0-2_, ▁ 2-3, <0xF0> 3-4P, <0x9F> 4-5P, <0x91> 5-6P, <0xA9> 6-7P, \u200d 7-10, 🚀 10-14, "
            "! 14-15"
        ),
        "nepali": (
            "▁ 0-0_, hi 0-2, ▁ 2-3, <unk> 3-7U, \u200d 7-10, <unk> 10-14U, ! 14-15"
            " => ambiguous unknown 3-7 unknown 10-14"
        ),
    },
    "hello ☃ 𐍈 x": {
        "bert": "hello 0-5, [UNK] 6-9U, [UNK] 10-14U, x 15-16 => ambiguous unknown 6-9 unknown 10-14",
        "nepali": (
            "▁he 0-2_, l 2-3, lo 3-5, ▁ 5-6, <unk> 6-9U, ▁ 9-10, <unk> 10-14U, ▁ 14-15, x 15-16"
            " => ambiguous unknown 6-9 unknown 10-14"
        ),
    },
}
FLAT = [
    (name, text, row) for text, rows in CASES.items() for names, row in rows.items() for name in names.split()
]


@pytest.mark.parametrize(("name", "text", "row"), FLAT, ids=[f"{name} {text!a}" for name, text, _ in FLAT])
def test_a_real_tokenizer(real: Load, name: str, text: str, row: str) -> None:
    check_case(real(name), text, row)


HINDI = "à¤¨ 0-3, à 3-4P, ¤®à 4-7P, ¤ 7-8P, ¸ 8-9P, à¥įà¤¤ 9-15, à¥ĩ 15-18"
# The kind; the text; tokens and certificate.
TINY_CASES = [
    ("llama3", 'no."\n\nThen', 'n 0-1, o 1-2, ."ĊĊ 2-6, Then 6-10'),
    ("llama3", ASTRONAUT, "h 0-1, i 1-2, ĠðŁĳ 2-6P, ©âĢįðŁļĢ 6-14P, ! 14-15"),
    ("llama3", "<|eot_id|>a", "<|eot_id|> 0-10S, a 10-11"),
    ("qwen3", "नमस्ते", HINDI),
    ("qwen3", "cafe\u0301", "c 0-1, afÃ© 1-6R => normalized rewritten 3-6"),
    (
        "bytelevel-bpe-nfkc",
        "a½b",
        "a 0-1, 1 1-3R, â 1-3RP, ģ 1-3RP, Ħ 1-3RP, 2 1-3R, b 3-4 => normalized rewritten 1-3",
    ),
    (
        "bytelevel-bpe-nfkc",
        "a ½ b",
        "a 0-1, Ġ1 1-4R, â 2-4RP, ģ 2-4RP, Ħ 2-4RP, 2 2-4R, Ġb 4-6 => normalized rewritten 2-4",
    ),
    ("clip", "the night", "the</w> 0-3, night</w> 4-9"),
    ("clip", "The night", "the</w> 0-3R, night</w> 4-9 => normalized rewritten 0-1"),
    ("char-bpe", '"No."\n\nThe road', '" 0-1, N 1-2, o 2-3, ."\n\nThe 3-10,  r 10-12, o 12-13, ad 13-15'),
    ("bytelevel-bpe-prefix", "The night", "Ġ 0-0_, The 0-3, Ġn 3-5, ight 5-9"),
    ("bytelevel-bpe-prefix", "the night", "Ġthe 0-3_, Ġn 3-5, ight 5-9"),
    ("sp-bpe", "The night", "▁The 0-3_, ▁n 3-5, ight 5-9"),
    ("sp-bpe", "CO₂ 中ж😀", "▁C 0-1_, O 1-2, ₂ 2-5, ▁ 5-6, 中 6-9, ж 9-11, 😀 11-15"),
    ("sp-bpe", "a▁b", "▁a 0-1_, ▁b 1-5 => ambiguous ambiguous 1-4"),
    ("llama2", "</s> a </s>b", "</s> 0-4S, ▁ 4-4_, ▁a 4-6, ▁ 6-7, </s> 7-11S, ▁b 11-12_"),
    ("word-level", "The zebra night", "The 0-3, [UNK] 4-9U, night 10-15 => ambiguous unknown 4-9"),
    ("char-bpe-fused", "a กขค b", "a 0-1,   1-2, <unk> 2-11U,  b 11-13 => ambiguous unknown 2-11"),
    ("wordpiece-uncased", "cafe\u0301", "cafe 0-4 => normalized deleted 4-6"),
]


@pytest.mark.parametrize(
    ("kind", "text", "row"), TINY_CASES, ids=[f"{kind} {text!a}" for kind, text, _ in TINY_CASES]
)
def test_a_tiny_tokenizer(kind: str, text: str, row: str) -> None:
    check_case(load_tiny(kind), text, row)


def test_an_expansion_gives_the_whole_segment_to_all_its_tokens() -> None:
    # U+FDFA becomes four words of 3, 4, 4 and 4 letters. The vocabulary has no Arabic: each is two bytes.
    (tokens,) = align_text("aﷺb", [load_tiny("bytelevel-bpe-nfkc")]).spans
    assert list_spans(tokens) == [(0, 1), *[(1, 4)] * 33, (4, 5)]
    space, half = [int(TokenFlag.REWRITTEN)], [int(TokenFlag.REWRITTEN | TokenFlag.PARTIAL)]
    rewritten = half * 6 + space + half * 8 + space + half * 8 + space + half * 8
    assert tokens.flags.tolist() == [0, *rewritten, 0]
    assert tokens.certificate == Certificate("normalized", ((1, 4),), ("rewritten",))


# The kind; the text; first byte of the space that the mask strips, and of the mask itself; tokens after it.
MASKS = [
    ("bytelevel-bpe-prefix", "the <mask> of", 3, 4, "Ġof 10-13"),
    ("bytelevel-bpe-prefix", "a   <mask> b", 1, 4, "Ġb 10-12"),
    ("bytelevel-bpe-prefix", "a <mask>b", 1, 2, "Ġb 8-9_"),
    ("unigram-nfkc-words", "the <mask> of", 3, 4, "▁of 10-13"),
]


@pytest.mark.parametrize(("kind", "text", "stripped", "start", "rest"), MASKS)
def test_a_mask_strips_spaces(kind: str, text: str, stripped: int, start: int, rest: str) -> None:
    tokenizer = load_tiny(kind)
    (tokens,) = align_text(text, [tokenizer]).spans
    _, (name, first, end, flags), *after = list_tokens(tokenizer, tokens)
    # What is stripped is whitespace that no token has; the mask covers its own spelling, so it is exact.
    assert (name, first, end, flags) == ("<mask>", start, start + 6, TokenFlag.LITERAL_SPECIAL)
    assert text[stripped:start].isspace()
    assert after == read_tokens(rest)
    assert tokens.certificate == Certificate("exact")


def test_tiktoken_spells_bytes() -> None:
    tokenizer = load_tiny("tiktoken")
    for text, spans in (
        ('no."\n\nThen', [(0, 1), (1, 2), (2, 6), (6, 10)]),
        (ASTRONAUT, [(0, 1), (1, 2), (2, 6), (6, 14), (14, 15)]),
    ):
        (tokens,) = align_text(text, [tokenizer]).spans
        assert list_spans(tokens) == spans
        assert [tokenizer.describe_id(token) for token in tokens.ids] == [
            text.encode()[start:end] for start, end in spans
        ]
        assert tokens.certificate == Certificate("exact")


def test_slow_tokenizers_of_bytes_and_of_characters() -> None:
    text = "hé 👩\u200d🚀"  # 1 + 2 + 1 + 4 + 3 + 4 bytes
    (by_bytes,) = align_text(text, [load_tiny("slow-byt5")]).spans
    assert list_spans(by_bytes) == [(n, n + 1) for n in range(15)]
    assert by_bytes.flags.tolist() == [0, *[TokenFlag.PARTIAL] * 2, 0, *[TokenFlag.PARTIAL] * 11]
    (by_characters,) = align_text(text, [load_tiny("slow-canine")]).spans
    assert list_spans(by_characters) == [(0, 1), (1, 3), (3, 4), (4, 8), (8, 11), (11, 15)]
    assert by_characters.flags.tolist() == [0] * 6
    assert by_bytes.certificate == by_characters.certificate == Certificate("exact")


def test_bert_reads_an_unknown_emoji_as_one_token(real: Load) -> None:
    (tokens,) = align_text(ASTRONAUT, [real("bert")]).spans
    assert list_tokens(real("bert"), tokens) == read_tokens("hi 0-2, [UNK] 3-14U, ! 14-15")
    assert tokens.certificate.status == "ambiguous"
    # The joiner between the two is deleted by the normalizer, or counts to the stretch of [UNK].
    assert {place for low, high in tokens.certificate.ranges for place in range(low, high)} == {*range(3, 14)}


def test_berts_file_truncates_and_pads(real: Load) -> None:
    bert = real("bert")
    (notice,) = bert.notices
    assert "truncation at 128 tokens" in notice and "padding to 128 tokens" in notice
    (long,) = align_text("whale " * 300, [bert]).spans
    assert list_spans(long) == [(6 * n, 6 * n + 5) for n in range(300)]
    assert {bert.token_name(token) for token in long.ids.tolist()} == {"whale"}
    short = align_text("a whale", [bert], special=True).spans[0]
    assert list_tokens(bert, short) == read_tokens("[CLS] 0-0T, a 0-1, whale 2-7, [SEP] 7-7T")


@pytest.mark.parametrize("kind", sorted(TINY))
def test_a_lone_surrogate_is_a_clear_error(kind: str) -> None:
    with pytest.raises(InputError, match="surrogate"):
        align_text("a\ud800b", [load_tiny(kind)])


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_lone_surrogate_is_a_clear_error_in_real_tokenizers(real: Load, name: str) -> None:
    with pytest.raises(InputError, match="surrogate"):
        align_text("a\ud800b", [real(name)])


def test_a_lone_mark_is_a_word_without_tokens(real: Load) -> None:
    check_groups([real("bert"), real("gemma3")], "\ufeff", "merge", [(0, 3)], [[[]], [[0]]])


COUNTS = dict(
    bert=[1, 2], gemma3=[1, 4], neox=[1, 9], gpt2=[1, 8], llama2=[1, 7], mistral=[1, 7], nepali=[1, 4]
)


def test_all_tokenizers_share_the_emoji_group(real: Load) -> None:
    alignment = align_text(ASTRONAUT, [real(name) for name in REAL])
    assert list_words(alignment) == [(0, 2), (3, 15)]
    assert list(zip(alignment.groups.starts, alignment.groups.ends, strict=True)) == [(0, 2), (3, 15)]
    counts = [np.diff(own.indptr).tolist() for own in alignment.groups.members]
    assert dict(zip(REAL, counts, strict=True)) == COUNTS


def test_trailing_newlines_join_nothing() -> None:
    spans = [(0, 2), (2, 4), (6, 10)]
    for straddle in ("merge", "split", "drop"):
        check_groups([load_tiny("llama3")], 'no."\n\nThen', straddle, spans, [[[0, 1], [2], [3]]])


def test_an_orphan_space_is_in_no_group(real: Load) -> None:
    members = [[[0], [2, 3, 4, 5]], [[0], [1]]]
    check_groups([real("gemma3"), real("gpt2")], "year 1990", "merge", [(0, 4), (5, 9)], members)


def test_a_token_that_joins_words() -> None:
    tokenizers, text = [load_tiny("char-bpe")], '"No."\n\nThe road'
    merged = [(0, 1), (1, 3), (3, 10), (11, 15)]
    check_groups(tokenizers, text, "merge", merged, [[[0], [1, 2], [3], [4, 5, 6]]])
    words = [(0, 1), (1, 3), (3, 5), (7, 10), (11, 15)]
    # Of the token's seven bytes two are whitespace: 2 and 3 of 5 are left.
    weights = [[[1.0], [1.0, 1.0], [2 / 5], [3 / 5], [1.0, 1.0, 1.0]]]
    check_groups(tokenizers, text, "split", words, [[[0], [1, 2], [3], [3], [4, 5, 6]]], weights)
    check_groups(tokenizers, text, "drop", [(0, 1), (1, 3), (11, 15)], [[[0], [1, 2], [4, 5, 6]]])


@pytest.mark.parametrize("name", ["gpt2", "neox", "gemma3"])
def test_a_bracket_and_colon_in_one_token(real: Load, name: str) -> None:
    # Under the default rule `):` is one word; under uax29 it is two, which the token joins.
    tokenizers, text = [real(name), real("bert")], "f(x): y"
    one = [[[0], [1], [2], [3], [4]], [[0], [1], [2], [3, 4], [5]]]
    joined = [(0, 1), (1, 2), (2, 3), (3, 5), (6, 7)]
    check_groups(tokenizers, text, "merge", joined, one)
    check_groups(tokenizers, text, "merge", joined, one, words="uax29")
    words = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7)]
    members = [[[0], [1], [2], [3], [3], [4]], [[0], [1], [2], [3], [4], [5]]]
    weights = [[[1.0], [1.0], [1.0], [0.5], [0.5], [1.0]], [[1.0]] * 6]
    check_groups(tokenizers, text, "split", words, members, weights, words="uax29")
    left = [(0, 1), (1, 2), (2, 3), (6, 7)]
    kept = [[[0], [1], [2], [4]], [[0], [1], [2], [5]]]
    check_groups(tokenizers, text, "drop", left, kept, words="uax29")


def test_gemmas_tag_joins_words_of_the_default_rule(real: Load) -> None:
    gemma = real("gemma3")
    check_case(gemma, "a<b>c", "a 0-1, <b> 1-4, c 4-5")
    check_groups([gemma], "a<b>c", "merge", [(0, 1), (1, 4), (4, 5)], [[[0], [1], [2]]])
    words = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    third = [1 / 3]
    weights = [[[1.0], third, third, third, [1.0]]]
    check_groups([gemma], "a<b>c", "split", words, [[[0], [1], [1], [1], [2]]], weights)
    check_groups([gemma], "a<b>c", "drop", [(0, 1), (4, 5)], [[[0], [2]]])


MIXED = 'CO₂ cafe\u0301 नमस्ते \ufeff a▁b  "No."\n\nThen 👩\u200d🚀!</s> <mask> ½'


@pytest.mark.parametrize("kind", ["bytelevel-bpe-prefix", "llama2", "unigram-nfkc", "wordpiece-uncased"])
def test_a_transformers_tokenizer_is_its_backend(kind: str) -> None:
    from transformers import PreTrainedTokenizerFast

    backend = TINY[kind]()
    assert isinstance(backend, Backend)
    wrapped = load_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
    for special in (False, True):
        left, right = align_text(MIXED, [wrapped, load_tiny(kind)], special=special).spans
        assert_same_tokens(left, right)


def test_given_ids_are_aligned_as_the_tokenizers_own() -> None:
    tokenizer = load_tiny("qwen3")
    ids = [tokenizer.encode(["नमस्ते"])[0].tolist()]
    (given,) = align_ids(["नमस्ते"], [tokenizer], [ids])[0].spans
    assert list_tokens(tokenizer, given) == read_tokens(HINDI)


def test_exactly_the_file_is_loaded(tmp_path: Path) -> None:
    checked = 0
    for path in write_files(tmp_path).values():
        if path.suffix == ".json":
            backend = Backend.from_file(str(path))
            backend.no_truncation()
            backend.no_padding()
            expected = backend.encode(MIXED, add_special_tokens=False).ids
            assert load_tokenizer(path).encode([MIXED])[0].tolist() == expected, path
            checked += 1
    assert checked >= 20


@pytest.mark.parametrize("name", ["bert", "gemma3", "neox", "gpt2", "llama2", "nepali"])
def test_exactly_the_real_file_is_loaded(real: Load, shared: Path, tmp_path: Path, name: str) -> None:
    plain = tmp_path / "tokenizer.json"
    plain.write_bytes(gzip.decompress((shared / "data/tokenizers" / REAL[name]).read_bytes()))
    backend = Backend.from_file(str(plain))
    backend.no_truncation()
    backend.no_padding()
    expected = backend.encode(MIXED, add_special_tokens=False).ids
    assert real(name).encode([MIXED])[0].tolist() == expected
