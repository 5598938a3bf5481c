"""A fast tokenizer's own preprocessing, as steps that can be replayed on a text.

The tokenizers library works in this order: added tokens are cut out of the raw text; every section in
between goes through the normaliser on its own (which is why Llama 2 prepends ``▁`` again after a special
token); added tokens of the other kind are cut out of the normalised sections; the pre-tokenizer splits
what is left, and may delete whitespace or put a space in front; the model sees the pieces.
"""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from xmodel.alignment import rewriting
from xmodel.alignment.added import AddedTokenFinder, find_whitespace_characters
from xmodel.alignment.rewriting import LocalStep, Rewriting, Step
from xmodel.alignment.spelling import AddedToken, byte_characters

Prefix = Literal["never", "always", "unless_space"]

_KEEPS_TEXT = {"Digits", "Punctuation", "Split", "UnicodeScripts", "ByteLevel", "FixedLength"}
_DROPS_WHITESPACE = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}


@dataclass(frozen=True)
class FoundToken:
    """An added token that stands in the text: where, in characters of the original and rewritten text."""

    id: int
    start: int
    stop: int
    native_start: int
    native_stop: int


@dataclass(frozen=True, eq=False)
class Replayed:
    """A whole text as the model receives it."""

    rewriting: Rewriting
    literals: tuple[FoundToken, ...]
    """Added tokens found in the text, ascending."""
    space_mark: str | None
    """What stands for a space in the rewritten text, if not a space."""
    find_pieces: Callable[[], list[tuple[int, int]]]
    """Computes the pre-tokenizer's pieces, as character spans of the rewritten text."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Everything between a text and the model, for one tokenizer."""

    raw_finder: AddedTokenFinder
    normalized_finder: AddedTokenFinder
    normalize: list[Step]
    split_first: Step
    """The pre-tokenizer's effect on the section at the very beginning of a text."""
    split_later: Step
    """Its effect on every other section."""
    split_pieces: Callable[[str], list[tuple[int, int]]]
    space_mark: str | None
    """What stands for a space in the rewritten text, if not a space."""
    prefix: Prefix
    """Whether a space is put before a text: ``unless_space`` leaves texts alone that begin with one."""

    def replay(self, text: str) -> Replayed:
        """Rewrite a text as the tokenizer does, keeping track of every character."""
        parts: list[tuple[int, Rewriting]] = []
        literals: list[FoundToken] = []
        sections: list[tuple[int, Rewriting, str]] = []
        length = done = 0

        def add_section(stop: int) -> None:
            nonlocal length, done
            if stop > done:
                part, found, inner = self._rewrite_section(text[done:stop], done, length)
                parts.append((done, part))
                literals.extend(found)
                sections.extend(inner)
                length += len(part.text)
            done = stop

        for start, stop, inner_start, inner_stop, token in self.raw_finder.find(text):
            add_section(start)
            part = _keep_content(text[start:stop], inner_start - start, inner_stop - start, token.content)
            literals.append(FoundToken(token.id, inner_start, inner_stop, length, length + len(part.text)))
            parts.append((start, part))
            length += len(part.text)
            done = stop
        add_section(len(text))
        whole = rewriting.join(parts, len(text))
        return Replayed(whole, tuple(literals), self.space_mark, lambda: self._find_pieces(sections))

    def _rewrite_section(
        self, section: str, start: int, length: int
    ) -> tuple[Rewriting, list[FoundToken], list[tuple[int, Rewriting, str]]]:
        """Normalise one section, cut out normalised added tokens, apply the pre-tokenizer in between."""
        normalized = rewriting.run_steps(self.normalize, section)
        parts: list[tuple[int, Rewriting]] = []
        literals: list[tuple[AddedToken, int, int, int, int]] = []
        inner: list[tuple[int, Rewriting, str]] = []
        size = done = 0

        def add(stop: int) -> None:
            nonlocal size, done
            if stop > done:
                piece = normalized.text[done:stop]
                before, after = normalized.cuts()
                origin = start + int(before[np.searchsorted(after, done, side="right") - 1])
                step = self.split_first if origin == 0 else self.split_later
                part = step(piece)
                parts.append((done, part))
                inner.append((length + size, part, piece))
                size += len(part.text)
            done = stop

        for outer_start, outer_stop, inner_start, inner_stop, token in self.normalized_finder.find(
            normalized.text
        ):
            add(outer_start)
            kept = normalized.text[inner_start:inner_stop]
            part = _keep_content(
                normalized.text[outer_start:outer_stop],
                inner_start - outer_start,
                inner_stop - outer_start,
                kept,
            )
            literals.append((token, inner_start, inner_stop, size, size + len(part.text)))
            parts.append((outer_start, part))
            size += len(part.text)
            done = outer_stop
        add(len(normalized.text))
        result = rewriting.chain(normalized, rewriting.join(parts, len(normalized.text)))
        before, after = normalized.cuts()
        placed = [
            FoundToken(
                token.id,
                start + int(before[np.searchsorted(after, a, side="right") - 1]),
                start + int(before[np.searchsorted(after, b, side="left")]),
                length + c,
                length + d,
            )
            for token, a, b, c, d in literals
        ]
        return result, placed, inner

    def _find_pieces(self, sections: list[tuple[int, Rewriting, str]]) -> list[tuple[int, int]]:
        pieces = []
        for offset, part, text in sections:
            before, after = part.cuts()
            for start, stop in self.split_pieces(text):
                low = int(after[np.searchsorted(before, start, side="left")])
                high = int(after[np.searchsorted(before, stop, side="right") - 1])
                if high > low:
                    pieces.append((offset + low, offset + high))
        return pieces


def plan_preprocessing(
    normalizer: dict[str, Any] | None,
    pre_tokenizer: dict[str, Any] | None,
    added: Sequence[AddedToken],
    space_mark: str | None,
    *,
    byte_level: bool,
) -> Preprocessing:
    """Turn the JSON of a tokenizer's normaliser and pre-tokenizer into replayable steps."""
    split_first = _plan_split(pre_tokenizer, space_mark, byte_level=byte_level)
    split_later = split_first
    if any(part.get("prepend_scheme") == "first" for part in list_components(pre_tokenizer)):
        later = copy.deepcopy(pre_tokenizer)
        for part in list_components(later):
            if part.get("prepend_scheme") == "first":
                part["prepend_scheme"] = "never"
        split_later = _plan_split(later, space_mark, byte_level=byte_level)
    return Preprocessing(
        raw_finder=AddedTokenFinder(added, normalized=False),
        normalized_finder=AddedTokenFinder(added, normalized=True),
        normalize=plan_normalizer(normalizer),
        split_first=split_first,
        split_later=split_later,
        split_pieces=_piece_finder(pre_tokenizer),
        space_mark=space_mark,
        prefix=_find_prefix(normalizer, pre_tokenizer),
    )


def build_components(normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None) -> Any:
    """A tokenizers.Tokenizer with these components and an empty model."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(
        json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": normalizer,
                "pre_tokenizer": pre_tokenizer,
                "post_processor": None,
                "decoder": None,
                "model": {"type": "BPE", "vocab": {}, "merges": []},
            }
        )
    )


def plan_normalizer(state: dict[str, Any] | None) -> list[Step]:
    """The steps of a normaliser; ``state`` is its entry in tokenizer.json."""
    if state is None or state["type"] == "ByteLevel":  # byte notation is undone in the spelling instead
        return []
    kind = state["type"]
    if kind == "Sequence":
        return _join_local([step for part in state["normalizers"] for step in plan_normalizer(part)])
    if kind == "Prepend":
        return [lambda text: rewriting.prepend(text, state["prepend"])]
    rewrite = build_components(state, None).normalizer.normalize_str
    if kind == "Replace":
        pattern = state["pattern"]
        if "String" in pattern:
            return [rewriting.replace_string_step(pattern["String"], state["content"])]
        if "Regex" in pattern:
            return [_replace_regex_step(pattern["Regex"], state["content"])]
    if kind == "Strip":
        only_left = build_components({**state, "strip_right": False}, None).normalizer.normalize_str
        return [rewriting.strip_step(rewrite, only_left)]
    return [LocalStep(rewrite)]


def _join_local(steps: list[Step]) -> list[Step]:
    """Neighbouring local steps become one: what they do together is more local than either alone."""
    joined: list[Step] = []
    for step in steps:
        last = joined[-1] if joined else None
        if isinstance(last, LocalStep) and isinstance(step, LocalStep):
            first, second = last.rewrite, step.rewrite
            joined[-1] = LocalStep(lambda text, first=first, second=second: second(first(text)))
        else:
            joined.append(step)
    return joined


def _replace_regex_step(pattern: str, content: str) -> Step:
    """Matches are found by the library's own regex engine, through its Split pre-tokenizer."""
    from tokenizers import Regex, pre_tokenizers

    isolated = pre_tokenizers.Split(Regex(pattern), "isolated")
    removed = pre_tokenizers.Split(Regex(pattern), "removed")

    def replace(text: str) -> Rewriting:
        kept = {span for _, span in removed.pre_tokenize_str(text)}
        spans = [span for _, span in isolated.pre_tokenize_str(text) if span not in kept]
        return rewriting.replace_spans(text, spans, content)

    return replace


def _plan_split(state: dict[str, Any] | None, mark: str | None, *, byte_level: bool) -> Step:
    """What the pre-tokenizer changes in a section, as one step."""
    steps: list[Step] = []
    split_before = False
    for part in list_components(state):
        kind = part["type"]
        adds_prefix = part.get("add_prefix_space") or part.get("prepend_scheme", "never") != "never"
        drops_matches = kind == "CharDelimiterSplit" or str(part.get("behavior")).lower() == "removed"
        if (
            (adds_prefix and split_before)
            or drops_matches
            or kind not in _KEEPS_TEXT | _DROPS_WHITESPACE | {"Metaspace"}
        ):
            return _black_box_step(state, mark, byte_level=byte_level)
        if kind in _DROPS_WHITESPACE:
            steps.append(_drop_whitespace)
        if kind == "Metaspace":
            replacement = part["replacement"]
            steps += plan_normalizer({"type": "Replace", "pattern": {"String": " "}, "content": replacement})
            if adds_prefix:
                steps.append(_prefix_step(replacement))
        if kind == "ByteLevel" and adds_prefix:
            steps.append(_prefix_step(" "))
        split_before = True
    return lambda text: rewriting.run_steps(steps, text)


def _black_box_step(state: dict[str, Any] | None, mark: str | None, *, byte_level: bool) -> Step:
    """Run the pre-tokenizer itself and compare each of its pieces with the text it came from."""
    splitter = build_components(None, state).pre_tokenizer

    def split(text: str) -> Rewriting:
        parts: list[tuple[int, Rewriting]] = []
        done = 0
        for piece, (start, stop) in splitter.pre_tokenize_str(text):
            content = _read_byte_characters(piece) if byte_level else piece
            source = text[start:stop]
            shown = source.replace(" ", mark) if mark else source
            inserted = content[: len(content) - len(shown)] if content.endswith(shown) else ""
            gap = text[done:start]
            if inserted and gap and find_whitespace_characters(rewriting.code_points(gap)).all():
                # WhitespaceSplit, then Metaspace: the space that was dropped comes back as a mark.
                parts.append(
                    (done, Rewriting(inserted, np.array([0, len(gap)]), np.array([0, len(inserted)])))
                )
                inserted = ""
            elif gap:
                parts.append((done, rewriting.delete_characters(gap, np.ones(len(gap), dtype=np.bool_))))
            if inserted:
                parts.append((start, Rewriting(inserted, np.array([0, 0]), np.array([0, len(inserted)]))))
            if content.endswith(shown):
                every = np.arange(len(source) + 1)
                same = Rewriting(shown, every, every) if len(shown) == len(source) else None
                parts.append((start, same or rewriting.one_segment(source, shown)))
            else:
                parts.append((start, rewriting.one_segment(source, content)))
            done = stop
        if done < len(text):
            parts.append(
                (done, rewriting.delete_characters(text[done:], np.ones(len(text) - done, np.bool_)))
            )
        return rewriting.join(parts, len(text))

    return split


def _drop_whitespace(text: str) -> Rewriting:
    return rewriting.delete_characters(text, find_whitespace_characters(rewriting.code_points(text)))


def _prefix_step(prefix: str) -> Step:
    return lambda text: Rewriting(text) if text.startswith(prefix) else rewriting.prepend(text, prefix)


def _piece_finder(state: dict[str, Any] | None) -> Callable[[str], list[tuple[int, int]]]:
    if state is None:
        return lambda text: [(0, len(text))]
    splitter = build_components(None, state).pre_tokenizer
    return lambda text: [span for _, span in splitter.pre_tokenize_str(text)]


def list_components(state: Any) -> list[dict[str, Any]]:
    """The components of a normaliser, pre-tokenizer or decoder, in order, sequences taken apart."""
    if state is None:
        return []
    for inner in ("normalizers", "pretokenizers", "decoders"):
        if inner in state:
            return [leaf for part in state[inner] for leaf in list_components(part)]
    return [state]


def _find_prefix(normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None) -> Prefix:
    if any(part["type"] == "Prepend" for part in list_components(normalizer)):
        return "always"
    first = next(iter(list_components(pre_tokenizer)), {})
    if first.get("add_prefix_space") or first.get("prepend_scheme", "never") != "never":
        return "unless_space"
    return "never"


def _keep_content(outer: str, start: int, stop: int, content: str) -> Rewriting:
    """An added token with the whitespace it swallowed: the whitespace is deleted, the content kept."""
    if (start, stop) == (0, len(outer)) and outer == content:
        return Rewriting(content)
    before = np.concatenate(
        [np.arange(start), np.arange(start, stop + 1), np.arange(stop + 1, len(outer) + 1)]
    )
    after = np.clip(before - start, 0, stop - start)
    return Rewriting(content, before, after)


def _read_byte_characters(piece: str) -> str:
    table = byte_characters()
    return bytes(table[character] for character in piece).decode("utf-8", "surrogateescape")
