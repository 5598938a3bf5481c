"""One record for a tokenizer of any kind: its ids for a text, and how to replay what it does.

`loading.py` makes this record from files, folders, hub ids and live objects. What
a tokenizer is (byte-level, SentencePiece-like, WordPiece, ...) is read from its configuration, never
from its name.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.preprocessing import (
    Prefix,
    Replayed,
    build_components,
    list_components,
    plan_preprocessing,
)
from xmodel.alignment.spelling import AddedToken, Notation, Spelling, spell_vocabulary
from xmodel.errors import InputError

UnknownRule = Literal["piece", "character", "run"]
"""What one unknown token stands for: a pre-tokenizer piece, a character, or a run of unknown characters."""


@dataclass(frozen=True, eq=False, repr=False)
class Tokenizer:
    """A tokenizer as the alignment sees it."""

    name: str
    spelling: Spelling
    replay: Callable[[str], Replayed]
    """Rewrites a text as the tokenizer does before its model runs."""
    encode_texts: Callable[[Sequence[str]], Iterable[Sequence[int]]] | None
    """The tokenizer's own ids per text, without template; None where only ids are at hand."""
    prefix: Prefix = "never"
    """Whether the tokenizer puts a space before a text."""
    template: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """Ids that the tokenizer's template puts before and after a text."""
    unknown_rule: UnknownRule = "run"
    memory_per_byte: float = 0.0
    """Bytes of memory that tokenizing one byte of a long text takes, at worst; 0 where not known."""
    notices: tuple[str, ...] = ()
    """What the user should be told once, such as a setting of the file that is switched off."""

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, {int(self.spelling.known.sum())} ids)"

    @cached_property
    def alphabet(self) -> frozenset[bytes]:
        """Characters that the vocabulary has as tokens of their own."""
        table = self.spelling.native
        short = np.flatnonzero(table.lengths <= 4).tolist()
        return frozenset(spelled for token in short if len(_decode(spelled := table[token])) == 1)

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokenizer's own ids, without its template.

        Returns:
            ids of all texts one after another, and the number of ids per text.

        Raises:
            InputError: if this tokenizer was built for given ids only, or the text needs more memory
                than there is.
        """
        if self.encode_texts is None:
            raise InputError(
                f"{self.name} can only read ids, not make them: give the ids of each text (align_ids)."
            )
        _check_memory(self, texts)
        rows = [np.array(row, dtype=np.int64) for row in self.encode_texts(texts)]
        counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        return ids, counts

    def describe_id(self, token: int) -> bytes:
        """The exact bytes that an id stands for in a text."""
        return self.spelling.text[token]

    def token_name(self, token: int) -> str:
        """The vocabulary's own string for an id, for instance ``Ġnight``."""
        return self.spelling.strings[token]


def _decode(spelled: bytes) -> str:
    return spelled.decode("utf-8", "ignore")


def _check_memory(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Refuse a text whose tokenization would need more memory than there is."""
    longest = max(map(len, texts), default=0)
    if longest < 1 << 20 or not tokenizer.memory_per_byte:
        return
    size = max(len(text.encode("utf-8", "surrogatepass")) for text in texts if len(text) == longest)
    needed = size * tokenizer.memory_per_byte
    free = _free_memory()
    if needed > free:
        raise InputError(
            f"a text of {size / 1e6:.0f} MB is too long for {tokenizer.name}: tokenizing it in one piece "
            f"takes up to {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free. Cut it into "
            "documents first, for instance at blank lines."
        )


def _free_memory() -> float:
    """Bytes of memory that can be had without swapping."""
    import psutil

    return float(psutil.virtual_memory().available)


def wrap_fast(backend: Any, name: str) -> Tokenizer:
    """A `tokenizers.Tokenizer`, with padding and truncation switched off.

    Args:
        backend: the live object; it is copied, not changed.
        name: what to call it in output.

    Raises:
        InputError: if its configuration cannot be read.
    """
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(backend.to_str()) if backend.padding or backend.truncation else backend
    notices = _switch_off_limits(backend, name)
    normalizer, pre_tokenizer, decoder = (
        _read_state(part) for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder)
    )
    model = backend.model
    kind = type(model).__name__
    state = json.loads(model.__getstate__()) if kind in ("Unigram", "WordLevel") else {}
    notation = _read_notation(model, state, normalizer, pre_tokenizer, decoder)
    vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=False)
    added = _read_added(backend, normalizer)
    unknown = _find_unknown(model, state, vocabulary, backend)
    spelling = spell_vocabulary(vocabulary, added, notation, unknown_id=unknown)
    template = _find_template(backend)
    spelling.special[np.array([*template[0], *template[1]], dtype=np.int64)] = True
    looked_for = [token for token in added if not (token.special and backend.encode_special_tokens)]
    preprocessing = plan_preprocessing(
        normalizer, pre_tokenizer, looked_for, notation.space_mark, byte_level=notation.byte_level
    )

    def encode(texts: Sequence[str]) -> Iterable[Sequence[int]]:
        encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return (encoding.ids for encoding in encodings)

    return Tokenizer(
        name=name,
        spelling=spelling,
        replay=preprocessing.replay,
        encode_texts=encode,
        prefix=preprocessing.prefix,
        template=template,
        unknown_rule=_find_unknown_rule(kind, model),
        memory_per_byte=_MEMORY_PER_BYTE,
        notices=notices,
    )


_MEMORY_PER_BYTE = 260.0
"""The most seen was 205, for texts of 1 to 10 MB on one line: prose, one letter, random letters."""


def _switch_off_limits(backend: Any, name: str) -> tuple[str, ...]:
    found = []
    if backend.truncation:
        found.append(f"truncation at {backend.truncation['max_length']} tokens")
        backend.no_truncation()
    if backend.padding:
        length = backend.padding["length"]
        found.append(f"padding to {length or 'the longest text'}{' tokens' if length else ''}")
        backend.no_padding()
    if not found:
        return ()
    return (f"{name}: its file switches on {' and '.join(found)}; xmodel switches that off.",)


def _read_state(component: Any) -> dict[str, Any] | None:
    return None if component is None else json.loads(component.__getstate__())


def _read_notation(
    model: Any, state: dict[str, Any], normalizer: Any, pre_tokenizer: Any, decoder: Any
) -> Notation:
    kind = type(model).__name__
    parts = [*list_components(normalizer), *list_components(pre_tokenizer)]
    mark = None
    for part in parts:
        if part["type"] == "Metaspace":
            mark = part["replacement"]
        if part["type"] == "Replace" and part["pattern"].get("String") == " " and part["content"].strip():
            mark = part["content"]
    falls_back = getattr(model, "byte_fallback", False) or state.get("byte_fallback", False)
    return Notation(
        byte_level=any(part["type"] == "ByteLevel" for part in parts),
        space_mark=mark,
        byte_tokens=bool(falls_back)
        or any(part["type"] == "ByteFallback" for part in list_components(decoder)),
        continuation_prefix=getattr(model, "continuing_subword_prefix", None) or None,
        word_suffix=getattr(model, "end_of_word_suffix", None) if kind == "BPE" else None,
    )


def _read_added(backend: Any, normalizer: dict[str, Any] | None) -> list[AddedToken]:
    rewrite = build_components(normalizer, None).normalizer
    added = []
    for token, entry in backend.get_added_tokens_decoder().items():
        native = entry.content
        if entry.normalized and rewrite is not None:
            native = rewrite.normalize_str(native)
            if normalizer is not None and normalizer["type"] == "ByteLevel":
                native = entry.content
        added.append(
            AddedToken(
                id=token,
                content=entry.content,
                native=native,
                special=entry.special,
                normalized=entry.normalized,
                left_strip=entry.lstrip,
                right_strip=entry.rstrip,
                single_word=entry.single_word,
            )
        )
    return added


def _find_unknown(model: Any, state: dict[str, Any], vocabulary: dict[str, int], backend: Any) -> int | None:
    if type(model).__name__ == "Unigram":
        return state.get("unk_id")
    token = state.get("unk_token") or getattr(model, "unk_token", None)
    return None if token is None else vocabulary.get(token, backend.token_to_id(token))


def _find_unknown_rule(kind: str, model: Any) -> UnknownRule:
    if kind in ("WordPiece", "WordLevel"):
        return "piece"
    return "character" if kind == "BPE" and not model.fuse_unk else "run"


def _find_template(backend: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which ids the template puts around a text, found by asking the tokenizer itself."""
    for probe in ("a", "the", "1", "."):
        bare = backend.encode(probe, add_special_tokens=False).ids
        full = backend.encode(probe, add_special_tokens=True).ids
        if not bare:
            continue
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return tuple(full[:start]), tuple(full[start + len(bare) :])
    return tuple(backend.encode("", add_special_tokens=True).ids), ()
