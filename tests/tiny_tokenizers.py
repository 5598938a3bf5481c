"""Tiny tokenizers of every kind, trained in memory from the text below.

``TINY`` maps the name of a kind to the function that builds it. What is built is one of
``tokenizers.Tokenizer``, ``sentencepiece.SentencePieceProcessor``, ``tiktoken.Encoding`` or a
transformers tokenizer in pure Python. Builders are cached, so every caller of one process sees the
same object: copy before changing it (``Tokenizer.from_str(tokenizer.to_str())``). Nothing here reads
a file or the network, and the result is the same in every process.

Thai, Arabic and Hangul are left out of the training text on purpose, so that they are unknown to
every kind without byte fallback.
"""

import base64
import io
import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

TEXT = (
    "The night train was late, and nobody on the platform knew why. She had read every poster twice, "
    "counted the tiles, and bought a second cup of coffee that she didn't want. When the lights of the "
    "engine finally came round the bend, the crowd moved as one. The doors opened; the doors closed; and "
    "the station was as empty as it had been in the winter of 1990.",
    '"Is it far?" he asked. "Not very far," she said, "but the road is bad."\n\nThen they walked on. '
    '"No."\n\n"Yes."\n\n"There is nothing there."\n\n"There was something there in 1987."\n\n'
    '"What did you see?"\n\n"Nothing (at all): only snow."\n\nThey\'re not what we\'d expected, I\'m afraid; '
    "it's late, you'll see, I've been told.\n",
    "A café in São Paulo, a naïve façade in Zürich, the crème brûlée of Besançon, an Ångström and a piñata. "
    "El niño comió jamón y después bebió un café. Où est la bibliothèque? Übergrößenträger, schön, süß.",
    "In 2023 the price rose by 3.14 % to $1,299.99 (about €1.200), and CO₂ fell by ½ of 10² tonnes. "
    "Call 0800 123 4567 before 09:30 on 2024-01-15, or write to info@example.org; see https://example.org/a?b=1.",
    "नमस्ते दुनिया। यह एक छोटा सा वाक्य है। भारत में कई भाषाएँ बोली जाती हैं। नमस्ते, आप कैसे हैं? "
    "मैं ठीक हूँ, धन्यवाद। विद्यार्थी विद्यालय में पढ़ते हैं। नमस्ते नमस्ते।",
    "今天天气很好，我们去公园散步吧。他说：“你好，世界！” 中文没有空格。東京は日本の首都です。"
    "私は学生です。今日はとても寒いですね。猫が好きです。",
    "Привет, мир! Сегодня хорошая погода, и мы идём гулять в парк. Он сказал, что поезд опоздал. "
    "Ёлка стояла у окна. Каждый день она читала новую книгу.",
    "Well done 👍🏽! 🎉🎉 See you soon 👩‍🚀🚀 ❤️ 😀😀 🇫🇷 — “quoted”, ‘single’, an ellipsis… "
    "and a dash – here.",
    "def add(a: int, b: int) -> int:\n    # return the sum\n    if a is None:\n"
    "        raise ValueError('a')\n"
    "    return a + b\n\n\nfor i in range(10):\n\tprint(i, add(i, 1))  # tab\n\nx = {'key': [1, 2, 3]}\n",
    "The CNN reported on Monday that the number of words in the text was larger than the number of tokens; "
    "the tokens of the words, and the bytes of the tokens, were counted again by the reader in the library.",
)

GPT4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN_PATTERN = GPT4_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]

Pieces = tuple[list[str], list[tuple[str, str]]]


@cache
def _byte_characters() -> list[str]:
    """GPT-2's printable character for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = {byte: 256 + rank for rank, byte in enumerate(b for b in range(256) if b not in set(printable))}
    return [chr(shifted.get(byte, byte)) for byte in range(256)]


def _words(pre_tokenizer: Any, normalizer: Any = None) -> Counter[str]:
    """How often the training text has each pre-token."""
    normalize = normalizer.normalize_str if normalizer is not None else str
    return Counter(word for text in TEXT for word, _ in pre_tokenizer.pre_tokenize_str(normalize(text)))


def _learn_bpe(
    words: Counter[str],
    merges: int,
    spell: Callable[[str], Iterable[str]] = tuple,
    continuation: str = "",
    letters: int | None = None,
) -> tuple[Counter[str], list[tuple[str, str]]]:
    """Byte-pair encoding: the letters with their counts, and the merges in order.

    Not the trainer of ``tokenizers``, which breaks ties in the order of a hash map where the pieces
    carry a prefix or a suffix or the alphabet is limited. ``spell`` cuts a word into letters;
    ``continuation`` is what a piece inside a word begins with (`##`); only the ``letters`` most
    frequent letters are kept, and words with others are left out.
    """
    spelt = [(list(spell(word)), count) for word, count in sorted(words.items())]
    frequency: Counter[str] = Counter()
    for word, count in spelt:
        frequency.update({letter: word.count(letter) * count for letter in set(word)})
    kept = dict(sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:letters])
    spelt = [(word, count) for word, count in spelt if kept.keys() >= set(word)]

    counts: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, (word, count) in enumerate(spelt):
        for pair in pairwise(word):
            counts[pair] += count
            places[pair].add(i)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    learnt: list[tuple[str, str]] = []
    while heap and len(learnt) < merges:
        count, pair = heappop(heap)
        if -count != counts[pair] or not counts[pair]:
            continue
        learnt.append(pair)
        joined = pair[0] + pair[1].removeprefix(continuation)
        touched = set()
        for i in places.pop(pair):
            word, times = spelt[i]
            touched.update(pairwise(word))
            for old in pairwise(word):
                counts[old] -= times
            merged: list[str] = []
            for letter in word:
                if merged and (merged[-1], letter) == pair:
                    merged[-1] = joined
                else:
                    merged.append(letter)
            spelt[i] = (merged, times)
            for new in pairwise(merged):
                counts[new] += times
                places[new].add(i)
            touched.update(pairwise(merged))
        for changed in touched:
            if counts[changed] > 0:
                heappush(heap, (-counts[changed], changed))
    return Counter(dict(sorted(kept.items()))), learnt


def _bpe_model(specials: Sequence[str], pieces: Pieces, **options: Any) -> models.BPE:
    """The BPE model of learnt pieces: specials first, then the alphabet, then the merges."""
    alphabet, merges = pieces
    names = dict.fromkeys([*specials, *alphabet, *(left + right for left, right in merges)])
    return models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges, **options)


def _assemble(
    model: Any,
    *,
    normalizer: Any = None,
    pre_tokenizer: Any = None,
    post_processor: Any = None,
    decoder: Any = None,
    specials: Sequence[str | AddedToken] = (),
    added: Sequence[AddedToken] = (),
) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens(list(specials))
    tokenizer.add_tokens(list(added))
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


def _template(model: Any, before: Sequence[str], after: Sequence[str] = ()) -> Any:
    names = [*before, *after]
    return processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]),
        special_tokens=[(name, model.token_to_id(name)) for name in dict.fromkeys(names)],
    )


# Byte-level BPE


@cache
def _byte_level_pieces() -> Pieces:
    _, merges = _learn_bpe(_words(pre_tokenizers.ByteLevel(add_prefix_space=False)), 650)
    return _byte_characters(), merges


@cache
def build_bytelevel_bpe() -> Tokenizer:
    """GPT-2."""
    return _assemble(
        _bpe_model(["<|endoftext|>"], _byte_level_pieces()),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        post_processor=processors.ByteLevel(add_prefix_space=True, trim_offsets=False),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>"],
    )


@cache
def build_bytelevel_bpe_prefix() -> Tokenizer:
    """RoBERTa: a space before the text and before whatever follows an added token."""
    model = _bpe_model(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], _byte_level_pieces())
    return _assemble(
        model,
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True),
        post_processor=processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True),
        decoder=decoders.ByteLevel(),
        specials=["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)],
    )


@cache
def build_bytelevel_bpe_nfc() -> Tokenizer:
    """GPT-NeoX: NFC, and runs of spaces that are added tokens matched on the normalized text."""
    return _assemble(
        _bpe_model(["<|endoftext|>", "<|padding|>"], _byte_level_pieces()),
        normalizer=normalizers.NFC(),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        post_processor=processors.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>", "<|padding|>"],
        added=[AddedToken(" " * n, normalized=True) for n in range(16, 1, -1)],
    )


@cache
def build_bytelevel_bpe_nfkc() -> Tokenizer:
    return _assemble(
        _bpe_model(["<|endoftext|>"], _byte_level_pieces()),
        normalizer=normalizers.NFKC(),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>"],
    )


def _spell_with_end(word: str) -> list[str]:
    return [*word[:-1], word[-1] + "</w>"]


def _split_then_bytes(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@cache
def _gpt4_pieces() -> Pieces:
    return _byte_characters(), _learn_bpe(_words(_split_then_bytes(GPT4_PATTERN)), 750)[1]


@cache
def build_llama3() -> Tokenizer:
    """Llama 3: ``ignore_merges``, and `."` with the two newlines after it is one token."""
    model = _bpe_model([], _gpt4_pieces(), ignore_merges=True)
    tokenizer = _assemble(
        model,
        pre_tokenizer=_split_then_bytes(GPT4_PATTERN),
        decoder=decoders.ByteLevel(),
        specials=["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
    )
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _template(tokenizer, ["<|begin_of_text|>"])]
    )
    return tokenizer


@cache
def build_qwen3() -> Tokenizer:
    """Qwen 3: one token of `नमस्ते` ends in the middle of a character and begins in another."""
    _, merges = _learn_bpe(_words(_split_then_bytes(QWEN_PATTERN)), 750)
    # The last two bytes of म (E0 A4 AE), then the first of the next letter.
    middle, last, lead = (_byte_characters()[byte] for byte in (0xA4, 0xAE, 0xE0))
    merges = [(middle, last), (middle + last, lead), *merges]
    return _assemble(
        _bpe_model([], (_byte_characters(), list(dict.fromkeys(merges)))),
        normalizer=normalizers.NFC(),
        pre_tokenizer=_split_then_bytes(QWEN_PATTERN),
        post_processor=processors.ByteLevel(add_prefix_space=False, trim_offsets=False),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        added=[AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)],
    )


@cache
def build_clip() -> Tokenizer:
    """CLIP: lower-cased, whitespace dropped, ``</w>`` on the last piece of a word."""
    pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    alphabet = [*_byte_characters(), *(letter + "</w>" for letter in _byte_characters())]
    _, merges = _learn_bpe(_words(pre_tokenizer, normalizer), 650, _spell_with_end)
    model = _bpe_model(
        [],
        (alphabet, merges),
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        unk_token="<|endoftext|>",
    )
    tokenizer = _assemble(
        model,
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        decoder=decoders.ByteLevel(),
        specials=["<|startoftext|>", AddedToken("<|endoftext|>", special=True, normalized=True)],
    )
    start, end = (tokenizer.token_to_id(name) for name in ("<|startoftext|>", "<|endoftext|>"))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end), ("<|startoftext|>", start), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


@cache
def build_normalizer_bytelevel() -> Tokenizer:
    """The byte map as a normalizer, so that the pre-tokenizer sees `Ġ` and added tokens are mapped too."""
    return _assemble(
        _bpe_model(["<|endoftext|>"], _byte_level_pieces()),
        normalizer=normalizers.ByteLevel(),
        pre_tokenizer=pre_tokenizers.Split("Ġ", "merged_with_next"),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>"],
        added=[AddedToken("naïve façade", normalized=True)],
    )


@cache
def build_normalizer_sequence() -> Tokenizer:
    """Strip, Nmt (deletes controls, maps odd spaces), Lowercase and replacements that change lengths."""
    return _assemble(
        _bpe_model(["<|endoftext|>"], _byte_level_pieces()),
        normalizer=normalizers.Sequence(
            [
                normalizers.Strip(),
                normalizers.Nmt(),
                normalizers.Lowercase(),
                normalizers.Replace("…", "..."),
                normalizers.Replace(Regex("[“”]"), '"'),
                normalizers.Replace(Regex(r"\d+"), "0"),
                normalizers.Replace("--", ""),
            ]
        ),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>"],
        added=[AddedToken("Mixed CASE", normalized=True)],
    )


@cache
def build_normalizer_strip_accents() -> Tokenizer:
    """NFKD, then the accents dropped: one character becomes several and several become one."""
    return _assemble(
        _bpe_model(["<|endoftext|>"], _byte_level_pieces()),
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True),
        post_processor=processors.ByteLevel(add_prefix_space=True),
        decoder=decoders.ByteLevel(),
        specials=["<|endoftext|>"],
    )


# BPE on characters, with byte fallback


def _metaspace_without_newlines() -> Any:
    """For training: no SentencePiece vocabulary joins a newline to anything else."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split("\n", "removed")]
    )


@cache
def _metaspace_pieces() -> Pieces:
    letters, merges = _learn_bpe(_words(_metaspace_without_newlines()), 450, letters=260)
    return list(letters), merges


def _sentencepiece_decoder() -> Any:
    return decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


def _fallback_model(*specials: str) -> models.BPE:
    return _bpe_model(
        [*specials, *BYTE_PIECES], _metaspace_pieces(), unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )


@cache
def build_llama2() -> Tokenizer:
    """Llama 2: a normalizer prepends `▁` to every stretch between special tokens."""
    model = _fallback_model("<unk>", "<s>", "</s>")
    return _assemble(
        model,
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        post_processor=_template(model, ["<s>"]),
        decoder=_sentencepiece_decoder(),
        specials=[AddedToken(name, normalized=False, special=True) for name in ("<unk>", "<s>", "</s>")],
    )


@cache
def build_metaspace_bpe(scheme: str) -> Tokenizer:
    """Byte fallback with the Metaspace pre-tokenizer; ``scheme`` is first, always or never."""
    model = _fallback_model("<unk>", "<s>", "</s>")
    return _assemble(
        model,
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=scheme != "first"),
        post_processor=_template(model, ["<s>"]),
        decoder=_sentencepiece_decoder(),
        specials=[AddedToken(name, normalized=False, special=True) for name in ("<unk>", "<s>", "</s>")],
    )


@cache
def build_gemma() -> Tokenizer:
    """Gemma: no prefix, runs of `▁` and of newlines are added tokens that are not special.

    The added tokens hold `▁`, are not normalized, and are also pieces of the model, as in Gemma.
    """
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    runs = [*("\n" * n for n in range(2, 9)), *("▁" * n for n in range(2, 17))]
    model = _bpe_model(
        [*specials, *runs, *BYTE_PIECES],
        _with_space_runs(_metaspace_pieces(), 16),
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    return _assemble(
        model,
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous"),
        post_processor=_template(model, ["<bos>"]),
        decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        specials=specials,
        added=[AddedToken(run, normalized=False) for run in runs],
    )


def _with_space_runs(pieces: Pieces, longest: int) -> Pieces:
    """The pieces with merges that build runs of `▁`, which is how Gemma reads two or more spaces."""
    alphabet, merges = pieces
    runs = [("▁" * left, "▁" * (n - left)) for n in range(2, longest + 1) for left in range(1, n)]
    return alphabet, [*merges, *runs]


# BPE on characters, with an unknown token


@cache
def build_char_bpe(fuse_unk: bool) -> Tokenizer:
    """No byte fallback: a letter outside the alphabet is ``<unk>``, one for each or one for the run."""
    pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    letters, merges = _learn_bpe(_words(pre_tokenizer), 450, letters=200)
    return _assemble(
        _bpe_model(["<unk>"], (list(letters), merges), unk_token="<unk>", fuse_unk=fuse_unk),
        pre_tokenizer=pre_tokenizer,
        decoder=decoders.Fuse(),
        specials=["<unk>"],
    )


# Unigram


@cache
def _unigram_vocabulary() -> list[tuple[str, float]]:
    """Pieces and scores, the unknown token first: the pieces of BPE, scored by their counts in the text."""
    letters, merges = _learn_bpe(_words(_metaspace_without_newlines()), 400)
    text = "".join("▁" + text.replace(" ", "▁") for text in TEXT)
    pieces = [*letters, *(left + right for left, right in merges)]
    counts = {piece: max(1, text.count(piece)) for piece in pieces}
    total = sum(counts.values())
    return [("<unk>", 0.0), *((piece, round(math.log(n / total), 4)) for piece, n in counts.items())]


@cache
def build_unigram_bytes() -> Tokenizer:
    pieces = _unigram_vocabulary()
    floor = min(score for _, score in pieces) - 10
    vocabulary = [
        pieces[0],
        ("<s>", 0.0),
        ("</s>", 0.0),
        *((name, floor) for name in BYTE_PIECES),
        *pieces[1:],
    ]
    model = models.Unigram(vocabulary, unk_id=0, byte_fallback=True)
    tokenizer = _assemble(
        model,
        pre_tokenizer=pre_tokenizers.Metaspace(),
        decoder=decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
        specials=["<unk>", "<s>", "</s>"],
    )
    tokenizer.post_processor = _template(tokenizer, [], ["</s>"])
    return tokenizer


@cache
def build_unigram_nfkc(split_whitespace: bool) -> Tokenizer:
    """T5 and XLM-R: the compiled map of ``nmt_nfkc`` and no byte fallback.

    With ``split_whitespace`` (XLM-R) whitespace is cut away before `▁` is put before each word.
    """
    normalizer = normalizers.Sequence(
        [normalizers.Precompiled(_nmt_nfkc_map()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    pre_tokenizer = metaspace
    if split_whitespace:
        pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    specials = [AddedToken(name, special=True) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    specials.append(AddedToken("<mask>", lstrip=True, special=True))
    before = [(name, 0.0) for name in ("<s>", "<pad>", "</s>")]
    vocabulary = [*before, *_unigram_vocabulary(), ("<mask>", 0.0)]
    model = models.Unigram(vocabulary, unk_id=3)
    tokenizer = _assemble(
        model,
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        decoder=decoders.Metaspace(),
        specials=specials,
    )
    tokenizer.post_processor = _template(tokenizer, ["<s>"] if split_whitespace else [], ["</s>"])
    return tokenizer


# WordPiece and words


@cache
def _wordpiece_vocabulary(lowercase: bool) -> dict[str, int]:
    normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    words = _words(pre_tokenizers.BertPreTokenizer(), normalizer)
    letters, merges = _learn_bpe(words, 350, lambda word: [word[0], *("##" + c for c in word[1:])], "##")
    pieces = [*letters, *(left + right.removeprefix("##") for left, right in merges)]
    names = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
    return {name: i for i, name in enumerate(names)}


@cache
def build_wordpiece(lowercase: bool, pads_and_truncates: bool = False) -> Tokenizer:
    """BERT; the variant pads to and truncates at 16 tokens, as some published files do at 128."""
    vocabulary = _wordpiece_vocabulary(lowercase)
    model = models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    tokenizer = _assemble(
        model,
        normalizer=normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
        ),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        post_processor=_template(model, ["[CLS]"], ["[SEP]"]),
        decoder=decoders.WordPiece(),
        specials=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    )
    if pads_and_truncates:
        tokenizer.enable_truncation(max_length=16)
        tokenizer.enable_padding(length=16, pad_id=vocabulary["[PAD]"], pad_token="[PAD]")
    return tokenizer


@cache
def build_word_level() -> Tokenizer:
    """Whole words, ``[UNK]`` for every other."""
    whitespace = pre_tokenizers.Whitespace()
    words = sorted({word for text in TEXT for word, _ in whitespace.pre_tokenize_str(text)})
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *words])}
    model = models.WordLevel(vocab=vocabulary, unk_token="[UNK]")
    return _assemble(model, pre_tokenizer=whitespace, specials=["[UNK]"])


# tiktoken


def _ranks(pieces: Pieces) -> dict[bytes, int]:
    values = {character: byte for byte, character in enumerate(_byte_characters())}
    alphabet, merges = pieces
    names = dict.fromkeys([*alphabet, *(left + right for left, right in merges)])
    return {bytes(values[character] for character in name): rank for rank, name in enumerate(names)}


@cache
def build_tiktoken() -> Any:
    """A ``tiktoken.Encoding`` with GPT-4's pattern, on the vocabulary of ``llama3``."""
    import tiktoken

    ranks = _ranks(_gpt4_pieces())
    return tiktoken.Encoding(
        "tiny",
        pat_str=GPT4_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": len(ranks), "<|fim_prefix|>": len(ranks) + 1},
    )


# SentencePiece


@cache
def _nmt_nfkc_map() -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(_sentencepiece_model("sp-unigram"))
    return proto.normalizer_spec.precompiled_charsmap


SENTENCEPIECE_OPTIONS: dict[str, dict[str, Any]] = {
    "sp-unigram": {
        "model_type": "unigram",
        "vocab_size": 700,
        "normalization_rule_name": "nmt_nfkc",
        "byte_fallback": True,
    },
    # Llama, Mistral
    "sp-bpe": {
        "model_type": "bpe",
        "vocab_size": 800,
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "split_digits": True,
    },
    "sp-unigram-cf": {
        "model_type": "unigram",
        "vocab_size": 500,
        "normalization_rule_name": "nmt_nfkc_cf",
        "user_defined_symbols": ["<sep>", "CO₂", "ABC"],
        "control_symbols": ["<ctrl>"],
    },
    # Gemma
    "sp-bpe-symbols": {
        "model_type": "bpe",
        "vocab_size": 800,
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<start_of_turn>", "\n", "\n\n", "▁▁", "▁▁▁", "▁▁▁▁"],
    },
    # The two switches that none of the above has
    "sp-unigram-suffix": {
        "model_type": "unigram",
        "vocab_size": 500,
        "normalization_rule_name": "nfkc",
        "treat_whitespace_as_suffix": True,
    },
}


@cache
def _sentencepiece_model(kind: str) -> bytes:
    """The bytes of a trained ``.model`` file."""
    import sentencepiece

    lines = [line for text in TEXT for line in text.split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        **SENTENCEPIECE_OPTIONS[kind],
    )
    return model.getvalue()


@cache
def build_sentencepiece(kind: str) -> Any:
    """A ``sentencepiece.SentencePieceProcessor`` of one of ``SENTENCEPIECE_OPTIONS``."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=_sentencepiece_model(kind))


# transformers, pure Python


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    """A folder for the classes that read their vocabulary from files; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="tiny-tokenizers-")


def _write_bpe_files(kind: str, specials: Sequence[str], pieces: Pieces) -> dict[str, str]:
    alphabet, merges = pieces
    folder = Path(_scratch().name) / kind
    folder.mkdir(exist_ok=True)
    names = dict.fromkeys([*specials, *alphabet, *(left + right for left, right in merges)])
    (folder / "vocab.json").write_text(
        json.dumps({name: i for i, name in enumerate(names)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return {"vocab_file": str(folder / "vocab.json"), "merges_file": str(folder / "merges.txt")}


@cache
def build_slow_byte_level() -> Any:
    """CLVP, the one byte-level BPE in pure Python; its English normalizer rewrites numbers and case."""
    from transformers import ClvpTokenizer

    specials = ["[STOP]", "[UNK]", "[SPACE]", "<|endoftext|>"]
    return ClvpTokenizer(**_write_bpe_files("clvp", specials, _byte_level_pieces()))


@cache
def build_slow_byt5() -> Any:
    """ByT5: a token is a byte."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=5)


@cache
def build_slow_canine() -> Any:
    """CANINE: a token is a code point."""
    from transformers import CanineTokenizer

    return CanineTokenizer()


@cache
def build_slow_ctrl() -> Any:
    """CTRL: ``@@`` after every piece but the last of a word; merges are learnt with ``</w>``."""
    from transformers import CTRLTokenizer

    letters, merges = _learn_bpe(_words(pre_tokenizers.WhitespaceSplit()), 450, _spell_with_end)
    # The vocabulary file of CTRL names a piece `x@@` inside a word and `x` at its end.
    units = [*letters, *(left + right for left, right in merges)]
    names = [unit[:-4] if unit.endswith("</w>") else unit + "@@" for unit in units]
    files = _write_bpe_files("ctrl", ["<unk>"], (list(letters), merges))
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(["<unk>", *names]))}
    Path(files["vocab_file"]).write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    return CTRLTokenizer(**files)


@cache
def build_slow_bert() -> Any:
    """The old BERT tokenizer: basic tokenization in Python, then WordPiece."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    path = Path(_scratch().name) / "vocab.txt"
    path.write_text("\n".join(_wordpiece_vocabulary(True)) + "\n", encoding="utf-8")
    return BertTokenizerLegacy(str(path))


@cache
def build_slow_sentencepiece(normalizes: bool) -> Any:
    """A SentencePiece model behind a Python class.

    GPT-SW3 (``normalizes``) deletes controls, maps odd spaces and applies NFC before the model sees
    the text; BertGeneration does not.
    """
    from transformers import BertGenerationTokenizer, GPTSw3Tokenizer

    path = Path(_scratch().name) / "spiece.model"
    path.write_bytes(_sentencepiece_model("sp-bpe"))
    if normalizes:
        return GPTSw3Tokenizer(str(path), name_or_path="tiny", eos_token="</s>", pad_token="<unk>")
    return BertGenerationTokenizer(str(path), pad_token="<unk>", sep_token="</s>")


TINY: dict[str, Callable[[], object]] = {
    "bytelevel-bpe": build_bytelevel_bpe,
    "bytelevel-bpe-prefix": build_bytelevel_bpe_prefix,
    "bytelevel-bpe-nfc": build_bytelevel_bpe_nfc,
    "bytelevel-bpe-nfkc": build_bytelevel_bpe_nfkc,
    "llama3": build_llama3,
    "qwen3": build_qwen3,
    "llama2": build_llama2,
    "metaspace-bpe-first": partial(build_metaspace_bpe, "first"),
    "metaspace-bpe-always": partial(build_metaspace_bpe, "always"),
    "metaspace-bpe-never": partial(build_metaspace_bpe, "never"),
    "gemma": build_gemma,
    "unigram-bytes": build_unigram_bytes,
    "unigram-nfkc": partial(build_unigram_nfkc, False),
    "unigram-nfkc-words": partial(build_unigram_nfkc, True),
    "wordpiece-uncased": partial(build_wordpiece, True),
    "wordpiece-uncased-truncates": partial(build_wordpiece, True, True),
    "wordpiece-cased": partial(build_wordpiece, False),
    "clip": build_clip,
    "char-bpe": partial(build_char_bpe, False),
    "char-bpe-fused": partial(build_char_bpe, True),
    "word-level": build_word_level,
    "normalizer-sequence": build_normalizer_sequence,
    "normalizer-strip-accents": build_normalizer_strip_accents,
    "normalizer-bytelevel": build_normalizer_bytelevel,
    "tiktoken": build_tiktoken,
    **{kind: partial(build_sentencepiece, kind) for kind in SENTENCEPIECE_OPTIONS},
    "slow-bytelevel": build_slow_byte_level,
    "slow-byt5": build_slow_byt5,
    "slow-canine": build_slow_canine,
    "slow-ctrl": build_slow_ctrl,
    "slow-bert": build_slow_bert,
    "slow-sentencepiece": partial(build_slow_sentencepiece, False),
    "slow-gpt-sw3": partial(build_slow_sentencepiece, True),
}


def write_files(folder: str | Path) -> dict[str, Path]:
    """Write every kind that has a file form, one folder each; the file of each kind.

    ``tokenizer.json``, ``tokenizer.model`` or ``tokenizer.tiktoken`` (whose format holds the ranks
    only, neither the pattern nor the special tokens). The slow kinds have no file of their own.
    """
    paths = {}
    for kind, build in TINY.items():
        if kind.startswith("slow-"):
            continue
        place = Path(folder) / kind
        place.mkdir(parents=True, exist_ok=True)
        if kind in SENTENCEPIECE_OPTIONS:
            paths[kind] = place / "tokenizer.model"
            paths[kind].write_bytes(_sentencepiece_model(kind))
        elif kind == "tiktoken":
            paths[kind] = place / "tokenizer.tiktoken"
            lines = [b"%b %d\n" % (base64.b64encode(k), rank) for k, rank in _ranks(_gpt4_pieces()).items()]
            paths[kind].write_bytes(b"".join(lines))
        else:
            tokenizer = build()
            assert isinstance(tokenizer, Tokenizer)
            paths[kind] = place / "tokenizer.json"
            paths[kind].write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    return paths
