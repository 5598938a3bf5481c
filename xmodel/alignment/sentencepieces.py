"""SentencePiece models and tiktoken encodings: tokenizers that come without a tokenizer.json."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xmodel.alignment import rewriting
from xmodel.alignment.preprocessing import Replayed, plan_preprocessing
from xmodel.alignment.rewriting import Rewriting
from xmodel.alignment.spelling import AddedToken, Notation, spell_vocabulary
from xmodel.alignment.tokenizer import Tokenizer

_MARK = "▁"
_UNKNOWN, _CONTROL, _BYTE, _UNUSED = 2, 3, 6, 5
"""Piece types of sentencepiece_model.proto."""


def wrap_sentencepiece(processor: Any, name: str) -> Tokenizer:
    """A `sentencepiece.SentencePieceProcessor`.

    The library's own ``normalize`` does the rewriting and says which character came from where. Control
    symbols are never found in a text; its template is one BOS, if the model has one.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto = getattr(sentencepiece_model_pb2, "ModelProto")()  # noqa: B009 (the module fills itself at run time)
    proto.ParseFromString(processor.serialized_model_proto())
    escapes = proto.normalizer_spec.escape_whitespaces
    pieces = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    types = [piece.type for piece in proto.pieces]
    spelling = spell_vocabulary(
        pieces,
        (),
        Notation(space_mark=_MARK if escapes else None, byte_tokens=True),
        unknown_id=types.index(_UNKNOWN) if _UNKNOWN in types else None,
        control_ids=[number for number, kind in enumerate(types) if kind == _CONTROL],
    )
    bos = processor.bos_id()
    adds_prefix = proto.normalizer_spec.add_dummy_prefix
    suffix = proto.trainer_spec.treat_whitespace_as_suffix

    def replay(text: str) -> Replayed:
        found = replay_normalization(processor, text, adds_prefix, suffix=suffix)
        return Replayed(found, (), _MARK if escapes else None, lambda: find_marked_pieces(found.text))

    def encode(texts: Sequence[str]) -> Iterable[Sequence[int]]:
        return (processor.encode(text) for text in texts)

    return Tokenizer(
        name=name,
        spelling=spelling,
        replay=replay,
        encode_texts=encode,
        prefix="always" if adds_prefix and escapes and not suffix else "never",
        template=((bos,) if bos >= 0 else (), ()),
    )


def replay_normalization(processor: Any, text: str, adds_prefix: bool, *, suffix: bool = False) -> Rewriting:
    """SentencePiece's own normalisation of a text, with cut points from the offsets that it returns.

    It gives, for every character of the normalised text, the first original character that it came
    from: several characters with one origin came out of one segment together.
    """
    rewritten, origins = processor.normalize(text, with_offsets=True)
    origin = np.append(np.asarray(origins[: len(rewritten)], dtype=np.int64), len(text))
    parts: list[tuple[int, Rewriting]] = []
    lead = 0
    if adds_prefix and len(rewritten) > 1 and rewritten[0] in (_MARK, " ") and origin[0] == origin[1]:
        # The dummy prefix shares its origin with the first character, but has no bytes.
        parts.append((0, rewriting.delete_characters(text[: origin[0]], np.ones(int(origin[0]), np.bool_))))
        parts.append((int(origin[0]), Rewriting(rewritten[0], np.array([0, 0]), np.array([0, 1]))))
        lead = 1
    heads = lead + np.flatnonzero(np.diff(origin[lead:-1], prepend=-1))
    befores = np.append(origin[heads], len(text)) if len(heads) else np.array([0, len(text)])
    afters = np.append(heads, len(rewritten)) if len(heads) else np.array([len(rewritten)] * 2)
    if len(heads) and befores[0] > 0 and not lead:
        befores, afters = np.append(0, befores), np.append(0, afters)
    if parts:
        start = int(origin[0])
        before, after = refine_segments(text, rewritten, befores, afters, suffix=suffix)
        parts.append((start, Rewriting(rewritten[lead:], before - start, after - lead)))
        return rewriting.join(parts, len(text))
    return Rewriting(rewritten, *refine_segments(text, rewritten, befores, afters, suffix=suffix))


def refine_segments(
    text: str, rewritten: str, befores: np.ndarray, afters: np.ndarray, *, suffix: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Shrink every segment of several characters to what differs: the rest is kept character by character."""
    extra: list[tuple[int, int]] = []
    sizes = np.maximum(np.diff(befores), np.diff(afters))
    for number in np.flatnonzero(sizes > 1).tolist():
        a, b = befores[number : number + 2].tolist()
        c, d = afters[number : number + 2].tolist()
        left, right = text[a:b].replace(" ", _MARK), rewritten[c:d]
        if suffix:
            head, tail = rewriting.common_ends(left, right)
        else:  # of several spaces that become one, the last is kept: the one before the next piece
            tail, head = rewriting.common_ends(left[::-1], right[::-1])
        extra += [(a + i, c + i) for i in range(1, head + 1)]
        extra += [(b - i, d - i) for i in range(1, tail + 1)]
    if not extra:
        return befores, afters
    pairs = np.unique(np.concatenate([np.stack([befores, afters], axis=1), np.array(extra)]), axis=0)
    return pairs[:, 0], pairs[:, 1]


def find_marked_pieces(text: str) -> list[tuple[int, int]]:
    """Runs that begin with a space mark: the pieces of models that never merge across one."""
    starts = [0, *(place for place in range(1, len(text)) if text[place] == _MARK), len(text)]
    return [(a, b) for a, b in pairwise(starts) if b > a]


def wrap_tiktoken(encoding: Any, name: str) -> Tokenizer:
    """A `tiktoken.Encoding`: byte-level ranks; text is encoded as ordinary, never as special tokens."""
    known = set(encoding.token_byte_values())
    special = {token: encoding.encode_single_token(token) for token in encoding.special_tokens_set}
    values = {encoding.encode_single_token(value): value for value in known}
    added = [AddedToken(number, token, token, special=True) for token, number in special.items()]
    notation = Notation(byte_level=True)
    from xmodel.alignment.spelling import byte_characters

    characters = {byte: character for character, byte in byte_characters().items()}
    vocabulary = {
        "".join(characters[byte] for byte in value): number
        for number, value in values.items()
        if number not in special.values()
    }
    preprocessing = plan_preprocessing(None, None, added, None, byte_level=True)
    return Tokenizer(
        name=name,
        spelling=spell_vocabulary(vocabulary, added, notation),
        replay=preprocessing.replay,
        encode_texts=encoding.encode_ordinary_batch,
    )
