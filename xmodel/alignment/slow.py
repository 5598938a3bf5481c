"""Transformers tokenizers written in Python, which come without a configuration file to read.

What they are is told from the attributes they carry: a byte decoder, a SentencePiece model, a WordPiece
tokenizer, merges with ``@@`` or ``</w>``. Their ids are their own; only the bytes behind the ids, and
what they do to a text first, are worked out here. A class that rewrites texts in a way that cannot be
replayed gets certificates that say so, never wrong spans.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xmodel.alignment.added import AddedTokenFinder
from xmodel.alignment.preprocessing import Preprocessing, plan_preprocessing
from xmodel.alignment.rewriting import LocalStep, Rewriting, Step, delete_characters, one_segment
from xmodel.alignment.sentencepieces import find_marked_pieces, replay_normalization
from xmodel.alignment.spelling import AddedToken, Notation, byte_characters, spell_vocabulary
from xmodel.alignment.tokenizer import Tokenizer, UnknownRule

_MARK = "▁"


@dataclass(frozen=True, eq=False)
class _Kind:
    """What a class of slow tokenizers does, as far as it can be replayed."""

    vocabulary: dict[str, int]
    notation: Notation = field(default_factory=Notation)
    normalize: list[Step] = field(default_factory=list)
    split: Step = Rewriting
    split_pieces: Callable[[str], list[tuple[int, int]]] = lambda text: [(0, len(text))]
    unknown_rule: UnknownRule = "run"


def wrap_slow(source: Any, name: str) -> Tokenizer:
    """A transformers tokenizer in pure Python.

    Args:
        source: the live object.
        name: what to call it in output.
    """
    kind = _describe(source)
    added = [
        AddedToken(
            token,
            entry.content,
            entry.content,
            special=entry.special or token in source.all_special_ids,
            left_strip=entry.lstrip,
            right_strip=entry.rstrip,
            single_word=entry.single_word,
        )
        for token, entry in source.added_tokens_decoder.items()
    ]
    for token in added:
        kind.vocabulary.pop(token.content, None)
    preprocessing = Preprocessing(
        raw_finder=AddedTokenFinder(added, normalized=False, python_spaces=True),
        normalized_finder=AddedTokenFinder((), normalized=True),
        normalize=kind.normalize,
        split_first=kind.split,
        split_later=kind.split,
        split_pieces=kind.split_pieces,
        space_mark=kind.notation.space_mark,
        prefix="always" if _adds_dummy_prefix(source) else "never",
    )

    def encode(texts: Sequence[str]) -> Iterable[Sequence[int]]:
        return (source(text, add_special_tokens=False)["input_ids"] for text in texts)

    around = source.build_inputs_with_special_tokens([-1])
    place = around.index(-1)
    unknown = getattr(source, "unk_token_id", None)
    return Tokenizer(
        name=name,
        spelling=spell_vocabulary(kind.vocabulary, added, kind.notation, unknown_id=unknown),
        replay=preprocessing.replay,
        encode_texts=encode,
        prefix=preprocessing.prefix,
        template=(tuple(around[:place]), tuple(around[place + 1 :])),
        unknown_rule=kind.unknown_rule,
    )


def _describe(source: Any) -> _Kind:
    """Tell what a tokenizer is from the attributes it carries."""
    if hasattr(source, "_utf_vocab_size"):  # ByT5, Perceiver: an id is a byte
        vocabulary = {
            character: source.convert_tokens_to_ids(chr(byte))
            for character, byte in byte_characters().items()
        }
        return _Kind(vocabulary, Notation(byte_level=True))
    if hasattr(source, "_unicode_vocab_size"):  # CANINE: an id is a code point
        points = (point for point in range(source._unicode_vocab_size) if not 0xD800 <= point < 0xE000)
        return _Kind({chr(point): point for point in points})
    vocabulary = dict(source.get_vocab())
    if hasattr(source, "sp_model"):
        notation = Notation(space_mark=_MARK, byte_tokens=True)
        return _Kind(vocabulary, notation, _sentencepiece_steps(source), split_pieces=find_marked_pieces)
    if hasattr(source, "byte_decoder"):
        if "[SPACE]" in vocabulary:  # CLVP's name for a space that stands alone
            vocabulary["Ġ"] = vocabulary.pop("[SPACE]")
        normalizer = getattr(source, "normalizer", None)
        steps = [_opaque_step(normalizer)] if normalizer else []
        return _Kind(vocabulary, Notation(byte_level=True), steps)
    if hasattr(source, "wordpiece_tokenizer"):
        bert = plan_preprocessing(None, {"type": "BertPreTokenizer"}, (), None, byte_level=False)
        notation = Notation(continuation_prefix="##")
        steps = _basic_steps(getattr(source, "basic_tokenizer", None))
        return _Kind(vocabulary, notation, steps, bert.split_first, bert.split_pieces, "piece")
    joined = sum(string.endswith("@@") for string in vocabulary)
    ended = sum(string.endswith("</w>") for string in vocabulary)
    suffix = "@@" if joined > ended else "</w>" if ended else None
    notation = Notation(word_suffix=suffix)
    return _Kind(
        vocabulary, notation, split=_keep_chunks, split_pieces=_find_chunks, unknown_rule="character"
    )


def _basic_steps(basic: Any) -> list[Step]:
    """BERT's basic tokenizer in Python, whose notion of control characters is wider than the library's."""
    if basic is None:
        return []

    def fold(text: str) -> str:
        if basic.do_lower_case:
            text = text.lower()
        strips = basic.strip_accents or (basic.do_lower_case and basic.strip_accents is not False)
        return basic._run_strip_accents(text) if strips else text

    def rewrite(text: str) -> str:
        text = basic._clean_text(text)
        if basic.tokenize_chinese_chars:
            text = basic._tokenize_chinese_chars(text)
        return fold(unicodedata.normalize("NFC", text))

    return [LocalStep(rewrite)]


def _find_chunks(text: str) -> list[tuple[int, int]]:
    """How CTRL and its kin cut a text into words: a newline right after a word belongs to it."""
    import regex

    return [match.span() for match in regex.finditer(r"\S+\n?", text)]


def _keep_chunks(text: str) -> Rewriting:
    dropped = np.ones(len(text), dtype=np.bool_)
    for start, stop in _find_chunks(text):
        dropped[start:stop] = False
    return delete_characters(text, dropped)


def _adds_dummy_prefix(source: Any) -> bool:
    if not hasattr(source, "sp_model"):
        return False
    return bool(source.sp_model.encode("a", out_type=str)[0].startswith(_MARK))


def _sentencepiece_steps(source: Any) -> list[Step]:
    steps: list[Step] = []
    if hasattr(source, "preprocess_text"):
        steps.append(LocalStep(source.preprocess_text))
    adds_prefix = _adds_dummy_prefix(source)
    steps.append(lambda text: replay_normalization(source.sp_model, text, adds_prefix))
    return steps


def _opaque_step(rewrite: Callable[[str], str]) -> Step:
    """A rewriting of unknown reach: everything from its first to its last difference is one segment."""

    def step(text: str) -> Rewriting:
        rewritten = rewrite(text)
        return Rewriting(text) if rewritten == text else one_segment(text, rewritten)

    return step
