"""Words: byte spans that depend on a text and a rule alone, never on a tokenizer.

Under every rule the words of a text are ascending, disjoint and non-empty, neither begin nor end with
whitespace, and together hold every byte that is not whitespace. Whitespace is Unicode's White_Space.

Rules:

``default``
    Runs of word characters (letters, numbers, connector punctuation, and an apostrophe, U+0027 or U+2019,
    between two letters) and runs of anything else but whitespace. Combining marks, variation selectors,
    emoji modifiers, ZWJ and ZWNJ extend the run they follow. A Chinese or Japanese clause is one word:
    use ``uax29`` there.
``whitespace``
    Runs of anything but whitespace.
``uax29``
    Unicode word boundaries (UAX #29, section 4.1).
``characters``
    Extended grapheme clusters (UAX #29, section 3.1), and cut at whitespace, so that no word contains any.
``sentences``
    Unicode sentence boundaries (UAX #29, section 5.1).
``spacy:LANG``
    The tokens of spaCy's blank pipeline for a language, which downloads nothing.
``regex:PATTERN``
    The matches of a pattern of the `regex` module. Whatever lies between two matches is not lost: each run
    of it without whitespace is a word too.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.characters import (
    APOSTROPHE,
    EXTEND,
    LETTER,
    OTHER,
    SPACE,
    WORD,
    classify_bytes,
    find_cluster_breaks,
    find_sentence_breaks,
    find_word_breaks,
)
from xmodel.errors import InputError
from xmodel.records import Words

if TYPE_CHECKING:
    import regex
    from spacy.language import Language

Spans = tuple[NDArray[np.int64], NDArray[np.int64]]
_Splitter = Callable[[str], Spans]
"""Text to the first and one past the last character of segments: ascending, disjoint, perhaps with gaps."""

_KNOWN_RULES = "default, whitespace, uax29, characters, sentences, spacy:LANG and regex:PATTERN"


def split_words(text: str, rule: str = "default") -> Words:
    """Split one text into words.

    Args:
        text: the text. The spans are bytes of its UTF-8.
        rule: see the top of this module.

    Raises:
        InputError: for a lone surrogate in the text, and as `check_rule`.
    """
    buffer = np.frombuffer(encode_text(text), dtype=np.uint8)
    starts, ends = split_joined(buffer, np.zeros(1, dtype=np.int64), np.array([len(buffer)]), rule)
    return Words(starts, ends, rule)


def split_joined(
    buffer: NDArray[np.uint8], text_starts: NDArray[np.int64], text_ends: NDArray[np.int64], rule: str
) -> Spans:
    """Split several texts that lie in one buffer; no word crosses from one text into another.

    Args:
        buffer: [B] uint8, valid UTF-8: the texts, and ASCII whitespace (one newline, say) between two of
            them and wherever else no text lies.
        text_starts: [T] first byte of each text, ascending.
        text_ends: [T] one past its last byte.
        rule: see the top of this module. ``default`` and ``whitespace`` run over the whole buffer at once,
            the others text by text.

    Returns:
        starts and ends of the words, [W] int64 each, as bytes of the buffer.

    Raises:
        InputError: as `check_rule`.
    """
    if rule in _BUFFER_RULES:
        return _BUFFER_RULES[rule](buffer)
    splitter = _find_splitter(rule)
    found: list[Spans] = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for start, end in zip(text_starts.tolist(), text_ends.tolist(), strict=True):
        starts, ends = _split_text(buffer[start:end], splitter)
        found.append((starts + start, ends + start))
    starts, ends = zip(*found, strict=True)
    return np.concatenate(starts), np.concatenate(ends)


def find_whitespace(buffer: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes belong to a Unicode White_Space character: [B] uint8 valid UTF-8 -> [B] bool."""
    return classify_bytes(buffer) == SPACE


def encode_text(text: str) -> bytes:
    """The UTF-8 of a text.

    Raises:
        InputError: where it has none, with the position of the first lone surrogate; and for no text at all.
    """
    if not isinstance(text, str):
        raise InputError(f"a text must be a string; {type(text).__name__} came.")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start} of the text is U+{ord(text[error.start]):04X}, a lone surrogate, which "
            "has no UTF-8: the text was probably decoded with errors='surrogateescape' or cut inside a "
            "UTF-16 pair. Decode it again, or replace such characters with U+FFFD."
        ) from None


def check_rule(rule: str) -> None:
    """Say at once whether a rule can be used, before any text is read.

    Raises:
        InputError: for an unknown rule, a pattern that does not compile, a language that spaCy does not know
            or whose tokenizer needs a package that is not installed.
    """
    if not isinstance(rule, str) or rule not in _BUFFER_RULES:
        _find_splitter(rule)


# Rules that look at bytes and work on many texts at once.


def _split_default(buffer: NDArray[np.uint8]) -> Spans:
    classes = classify_bytes(buffer)
    _fill_extending(classes)
    _join_apostrophes(buffer, classes)
    # Without the last bit, a class is the kind of run.
    classes >>= 1
    return _find_runs(classes)


def _split_whitespace(buffer: NDArray[np.uint8]) -> Spans:
    return _find_runs((classify_bytes(buffer) != SPACE).view(np.uint8))


_BUFFER_RULES: dict[str, Callable[[NDArray[np.uint8]], Spans]] = {
    "default": _split_default,
    "whitespace": _split_whitespace,
}


def _fill_extending(classes: NDArray[np.uint8]) -> None:
    """Give extending characters the class of the character they follow."""
    at = np.flatnonzero(classes == EXTEND)
    if not len(at):
        return
    heads = np.flatnonzero(np.diff(at, prepend=-2) > 1)
    values = classes[at[heads] - 1]
    if at[0] == 0:
        values[0] = SPACE
    values[values == SPACE] = OTHER
    classes[at] = np.repeat(values, np.diff(heads, append=len(at)))


def _join_apostrophes(buffer: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
    """Make word characters of apostrophes between letters; marks already have the class of their letter."""
    at = np.flatnonzero(classes == APOSTROPHE)
    # Later bytes of U+2019, and marks with its class, are here too; they follow no letter, so they drop out.
    after = at + np.where(buffer[at] < 0x80, 1, 3)
    inside = (at > 0) & (after < len(buffer))
    at, after = at[inside], after[inside]
    joins = (classes[at - 1] == LETTER) & (classes[after] == LETTER)
    at = at[joins]
    classes[at] = WORD
    long = at[buffer[at] >= 0x80]
    classes[long + 1] = WORD
    classes[long + 2] = WORD


def _find_runs(kinds: NDArray[np.uint8]) -> Spans:
    """Starts and ends of the maximal runs of one kind other than 0."""
    changes = kinds[1:] != kinds[:-1]
    begins = kinds != 0
    stops = begins.copy()
    begins[1:] &= changes
    stops[:-1] &= changes
    ends = np.flatnonzero(stops)
    ends += 1
    return np.flatnonzero(begins), ends


# Rules that look at characters, one text at a time.


def _split_text(buffer: NDArray[np.uint8], splitter: _Splitter) -> Spans:
    """Words of one text in bytes: a splitter's segments, trimmed, and runs of what lies in none of them."""
    starts, ends = splitter(buffer.tobytes().decode())
    offsets = np.append(np.flatnonzero((buffer & 0xC0) != 0x80), len(buffer))
    starts, ends = offsets[starts], offsets[ends]
    solid = find_whitespace(buffer)
    np.logical_not(solid, out=solid)
    places = np.flatnonzero(solid)
    first, stop = np.searchsorted(places, starts), np.searchsorted(places, ends)
    filled = first < stop
    starts, ends = places[first[filled]], places[stop[filled] - 1] + 1
    gap_starts, gap_ends = _find_runs((solid & ~_cover(starts, ends, len(buffer))).view(np.uint8))
    if not len(gap_starts):
        return starts, ends
    starts, ends = np.concatenate([starts, gap_starts]), np.concatenate([ends, gap_ends])
    order = np.argsort(starts)
    return starts[order], ends[order]


def _cover(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """[size] whether a place lies in one of the disjoint spans."""
    steps = np.zeros(size + 1, dtype=np.int8)
    steps[starts] += 1
    steps[ends] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)


def _from_breaks(find_breaks: Callable[[str], NDArray[np.intp]], text: str) -> Spans:
    starts = find_breaks(text)
    return starts, np.append(starts[1:], len(text))[: len(starts)]


def _from_pairs(pairs: list[tuple[int, int]]) -> Spans:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


_TEXT_RULES: dict[str, _Splitter] = {
    "uax29": partial(_from_breaks, find_word_breaks),
    "characters": partial(_from_breaks, find_cluster_breaks),
    "sentences": partial(_from_breaks, find_sentence_breaks),
}


def _make_spacy_splitter(language: str) -> _Splitter:
    return partial(_split_with_spacy, _load_spacy(language))


def _split_with_spacy(pipeline: "Language", text: str) -> Spans:
    # The tokenizer alone: calling the pipeline would refuse texts of more than a million characters.
    document = pipeline.tokenizer(text)
    if document.text != text:
        raise InputError(
            f"spaCy's tokenizer for {pipeline.lang!r} changed the text, so its tokens have no place in it: "
            "use another rule, uax29 for instance."
        )
    return _from_pairs([(token.idx, token.idx + len(token)) for token in document])


@cache
def _load_spacy(language: str) -> "Language":
    import spacy

    try:
        # A path such as `en.stop_words` would import something that is no language.
        if not language.isidentifier():
            raise ImportError(language)
        spacy.util.get_lang_class(language)
    except (ImportError, AttributeError):
        known = ", ".join(_list_spacy_languages())
        raise InputError(
            f"spaCy has no language {language!r}; use spacy:LANG with one of {known} (xx is for many "
            "languages). Trained pipelines such as en_core_web_sm are not needed and not used."
        ) from None
    try:
        return spacy.blank(language)
    except Exception as error:  # each language checks for its packages in its own way
        reason = " ".join(str(error).split())
        raise InputError(
            f"the rule spacy:{language} needs a package that is not installed or does not work. spaCy says: "
            f"{reason}"
        ) from error


def _list_spacy_languages() -> list[str]:
    import pkgutil

    import spacy.lang

    return sorted(module.name for module in pkgutil.iter_modules(spacy.lang.__path__) if module.ispkg)


def _make_pattern_splitter(pattern: str) -> _Splitter:
    import regex

    if not pattern:
        raise InputError(
            r"regex: came without a pattern; write one behind the colon: regex:\w+ for instance."
        )
    try:
        compiled = regex.compile(pattern)
    except (regex.error, ValueError, RecursionError) as error:
        # The error names the position, counted in characters of the pattern.
        raise InputError(
            f"the pattern {pattern!r} of the rule regex:PATTERN does not compile: {error}. It must be a "
            "pattern of the Python module regex."
        ) from None
    return partial(_split_with_pattern, compiled)


def _split_with_pattern(pattern: "regex.Pattern[str]", text: str) -> Spans:
    # With `\K` in a look-around, matches can overlap, end before they start, or come again for ever; there
    # can be one match a character, and an empty one at each place, of those that are usable.
    most = 2 * len(text) + 1
    spans = [match.span() for match in islice(pattern.finditer(text), most + 1)]
    # Sorted, because a pattern with (?r) finds its matches from the end.
    starts, ends = _from_pairs(sorted(span for span in spans if span[0] != span[1]))
    if len(spans) > most or (starts > ends).any() or (starts[1:] < ends[:-1]).any():
        raise InputError(
            f"matches of the pattern {pattern.pattern!r} overlap, so they are no words: take \\K out of it."
        )
    return starts, ends


_RULES_WITH_ARGUMENT: dict[str, Callable[[str], _Splitter]] = {
    "spacy": _make_spacy_splitter,
    "regex": _make_pattern_splitter,
}


def _find_splitter(rule: str) -> _Splitter:
    """The function behind a rule that is not in `_BUFFER_RULES`; checks the rule."""
    if isinstance(rule, str):
        if rule in _TEXT_RULES:
            return _TEXT_RULES[rule]
        name, colon, argument = rule.partition(":")
        if colon and name in _RULES_WITH_ARGUMENT:
            return _RULES_WITH_ARGUMENT[name](argument)
    raise InputError(f"unknown word rule {rule!r}; the known ones are {_KNOWN_RULES}.")
