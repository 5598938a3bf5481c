"""What kind a character is, and where Unicode (UAX #29) sees the boundaries of words and sentences.

Every property comes from the `regex` module, never from `unicodedata`: the latter's Unicode version changes
with Python, so the same text would have other words on another machine. Properties are looked up in tables,
one a plane, that a single regex pass over the plane's characters builds on first use (milliseconds).
"""

import re
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Classes of the default rule. All but the last bit says to which kind of run a character belongs, so an
# apostrophe that joins nothing is already "anything else", and letters and numbers are alike.
SPACE = 0
OTHER = 2
APOSTROPHE = 3
WORD = 4
LETTER = 5
EXTEND = 6

# (value, set of characters): where sets overlap, the first one counts.
_RUN_CLASSES = (
    (SPACE, r"\p{White_Space}"),
    (APOSTROPHE, r"['\u2019]"),
    # Variation selectors are marks; emoji modifiers and the two joiners are not.
    (EXTEND, r"[\p{M}\u200C\u200D\U0001F3FB-\U0001F3FF]"),
    (LETTER, r"\p{L}"),
    (WORD, r"[\p{N}\p{Pc}]"),
)
_WORD_BREAKS = (
    *("CR", "LF", "Newline", "Extend", "Format", "ZWJ", "WSegSpace", "Regional_Indicator"),
    *("Katakana", "Hebrew_Letter", "ALetter", "Single_Quote", "Double_Quote"),
    *("MidNumLet", "MidLetter", "MidNum", "Numeric", "ExtendNumLet"),
)
# One letter for each value, so that a text's values are a byte string on which a pattern can run.
_SENTENCE_BREAKS = {
    "CR": "r",
    "LF": "n",
    "Sep": "s",
    "Extend": "e",
    "Format": "f",
    "Sp": "p",
    "Lower": "l",
    "Upper": "u",
    "OLetter": "o",
    "Numeric": "d",
    "ATerm": "a",
    "STerm": "t",
    "Close": "c",
    "SContinue": "k",
}
# name of the property -> (value of all other characters, sets)
_PROPERTIES: dict[str, tuple[int, tuple[tuple[int, str], ...]]] = {
    "run": (OTHER, _RUN_CLASSES),
    "word break": (0, tuple((i, rf"\p{{WB={name}}}") for i, name in enumerate(_WORD_BREAKS, 1))),
    "sentence break": (
        ord("x"),
        tuple((ord(letter), rf"\p{{SB={name}}}") for name, letter in _SENTENCE_BREAKS.items()),
    ),
}

# Characters that are decoded at a time: the temporary arrays stay in the processor's cache.
_CHUNK = 1 << 15


@cache
def load_plane(name: str, plane: int) -> NDArray[np.uint8]:
    """The values of one property (``run``, ``word break``, ``sentence break``) in one plane.

    Returns:
        [65536] uint8, read-only; index by the low 16 bits of the code point. For ``run`` the values are
        this module's constants.
    """
    import regex  # costs 13 ms, which `--help` should not pay

    other, sets = _PROPERTIES[name]
    table = np.full(0x10000, other, dtype=np.uint8)
    values = [other, *(value for value, _ in sets)]
    pattern = "|".join(f"({characters}+)" for _, characters in sets)
    text = "".join(map(chr, range(plane << 16, (plane + 1) << 16)))
    for match in regex.finditer(pattern, text):
        table[match.start() : match.end()] = values[match.lastindex or 0]
    table.flags.writeable = False
    return table


def look_up(name: str, codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The value of one property, see `load_plane`, for every code point: [C] uint32 -> [C] uint8."""
    planes = codes >> 16
    if not planes.any():
        return load_plane(name, 0)[codes]
    values = np.empty(len(codes), dtype=np.uint8)
    for plane in np.flatnonzero(np.bincount(planes)).tolist():
        here = planes == plane
        values[here] = load_plane(name, plane)[codes[here] & 0xFFFF]
    return values


def classify_bytes(buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class of the character that each byte belongs to: [B] uint8 valid UTF-8 -> [B] uint8.

    The classes are this module's constants, still without regard to neighbours.
    """
    flat = bytearray(buffer)
    # `translate` takes a third of the time of an indexed look-up.
    classes = np.frombuffer(flat.translate(_ascii_classes()), dtype=np.uint8)
    if flat.isascii():
        return classes
    leads = np.flatnonzero(buffer >= 0xC0)
    for low in range(0, len(leads), _CHUNK):
        _classify_leads(buffer, leads[low : low + _CHUNK], classes)
    return classes


@cache
def _ascii_classes() -> bytes:
    return load_plane("run", 0)[:0x80].tobytes() + bytes([OTHER]) * 0x80


def _classify_leads(buffer: NDArray[np.uint8], leads: NDArray[np.intp], classes: NDArray[np.uint8]) -> None:
    """Write the classes of the characters that begin at these bytes >= 0xC0, on all of their bytes."""
    first = buffer[leads]
    for width, low, high in ((2, 0xC0, 0xDF), (3, 0xE0, 0xEF), (4, 0xF0, 0xFF)):
        chosen = (first >= low) & (first <= high)
        if not chosen.any():
            continue
        at = leads[chosen]
        codes = (first[chosen] & (0x7F >> width)).astype(np.uint32)
        for step in range(1, width):
            codes <<= 6
            codes |= buffer[at + step] & 0x3F
        values = look_up("run", codes)
        for step in range(width):
            classes[at + step] = values


def find_cluster_breaks(text: str) -> NDArray[np.intp]:
    """Where extended grapheme clusters begin (UAX #29, section 3.1), and where whitespace begins and ends.

    The latter because a cluster may hold both: a mark that follows a space, a prefix that precedes one.

    Args:
        text: without lone surrogates.

    Returns:
        [S] the first character (not byte) of every segment; begins with 0 unless the text is empty.
    """
    import regex

    space = look_up("run", _code_points(text)) == SPACE
    begins = np.zeros(len(text), dtype=np.bool_)
    # Flags first: in a row of them `\X` counts back to the row's start, which takes quadratic time.
    pattern = r"\p{GCB=Regional_Indicator}{2}[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]*+|\X"
    begins[[match.start() for match in regex.finditer(pattern, text)]] = True
    begins[1:] |= space[1:] != space[:-1]
    return np.flatnonzero(begins)


def find_word_breaks(text: str) -> NDArray[np.intp]:
    """Where Unicode words begin (UAX #29, section 4.1, rules WB1 to WB999; default, not tailored).

    Args:
        text: without lone surrogates.

    Returns:
        [S] the first character (not byte) of every segment, whitespace segments included; begins with 0
        unless the text is empty.
    """
    import regex

    values = look_up("word break", _code_points(text))
    code = {name: number for number, name in enumerate(_WORD_BREAKS, 1)}

    def mask(*names: str) -> int:
        return sum(1 << code[name] for name in names)

    kept = _skip_ignorable(values, mask("Extend", "Format", "ZWJ"), mask("CR", "LF", "Newline"))
    # Bit sets with two empty neighbours on each side, so that every rule is one line on shifted views.
    bits = np.zeros(len(kept) + 4, dtype=np.int32)
    bits[2:-2] = 1 << values[kept].astype(np.int32)
    before2, before, here, after = bits[:-4], bits[1:-3], bits[2:-2], bits[3:-1]
    letter, hebrew = mask("ALetter", "Hebrew_Letter"), mask("Hebrew_Letter")
    in_letters, in_numbers = (
        mask("MidLetter", "MidNumLet", "Single_Quote"),
        mask("MidNum", "MidNumLet", "Single_Quote"),
    )
    number, katakana, low_line = mask("Numeric"), mask("Katakana"), mask("ExtendNumLet")
    single, double = mask("Single_Quote"), mask("Double_Quote")

    def follows(*pairs: tuple[NDArray[np.int32], int]) -> NDArray[np.bool_]:
        result = np.ones(len(kept), dtype=np.bool_)
        for view, wanted in pairs:
            result &= (view & wanted) != 0
        return result

    joined = follows((before, mask("CR")), (here, mask("LF")))  # WB3
    joined |= follows((before, letter | number), (here, letter | number))  # WB5, WB8, WB9, WB10
    joined |= follows((before, letter), (here, in_letters), (after, letter))  # WB6
    joined |= follows((before2, letter), (before, in_letters), (here, letter))  # WB7
    joined |= follows((before, hebrew), (here, single))  # WB7a
    joined |= follows((before, hebrew), (here, double), (after, hebrew))  # WB7b
    joined |= follows((before2, hebrew), (before, double), (here, hebrew))  # WB7c
    joined |= follows((before2, number), (before, in_numbers), (here, number))  # WB11
    joined |= follows((before, number), (here, in_numbers), (after, number))  # WB12
    joined |= follows((before, katakana), (here, katakana))  # WB13
    joined |= follows((before, letter | number | katakana | low_line), (here, low_line))  # WB13a
    joined |= follows((before, low_line), (here, letter | number | katakana))  # WB13b
    # WB15, WB16: flags are pairs of regional indicators, counted from the start of their run.
    order = np.arange(len(kept))
    flag = values[kept] == code["Regional_Indicator"]
    last_other = np.maximum.accumulate(np.where(flag, -1, order)) if len(kept) else order
    joined |= flag & ((order - last_other) % 2 == 0)

    begins = np.zeros(len(values), dtype=np.bool_)
    begins[kept[~joined]] = True
    # WB3c and WB3d look at direct neighbours, ignorable ones included.
    space = values == code["WSegSpace"]
    begins[1:] &= ~(space[1:] & space[:-1])
    pictograph = regex.compile(r"\p{Extended_Pictographic}")
    for place in (np.flatnonzero(values[:-1] == code["ZWJ"]) + 1).tolist():
        if pictograph.match(text, place):
            begins[place] = False
    return np.flatnonzero(begins)


# A sentence ends behind each match, on the values of _SENTENCE_BREAKS without the ignorable ones. Possessive
# repeats, and a look-ahead that stops at the next terminator, keep the time linear.
_SENTENCE_END = re.compile(
    rb"""
      rn | [rns]                                        # SB3, SB4
    | (?: t                                             # a terminator that is final, or
        | (?: (?<![lu])a | a(?!u) ) (?!d)               # a full stop: SB6, SB7
          (?! c*+ p*+ [^olurnsat]*+ l ) )               # SB8
      c*+ p*+ (?: rn | [rns] | (?![kat]) )              # SB8a, SB9, SB10, SB11
    """,
    re.VERBOSE,
)


def find_sentence_breaks(text: str) -> NDArray[np.intp]:
    """Where Unicode sentences begin (UAX #29, section 5.1, rules SB1 to SB998; default, not tailored).

    Args:
        text: without lone surrogates.

    Returns:
        [S] the first character (not byte) of every sentence; begins with 0 unless the text is empty.
    """
    values = look_up("sentence break", _code_points(text))
    code = {name: ord(letter) - 96 for name, letter in _SENTENCE_BREAKS.items()}
    ignorable = 1 << code["Extend"] | 1 << code["Format"]
    separators = 1 << code["CR"] | 1 << code["LF"] | 1 << code["Sep"]
    kept = _skip_ignorable(values - 96, ignorable, separators)
    ends = [match.end() for match in _SENTENCE_END.finditer(values[kept].tobytes())]
    if not len(kept):
        return kept
    begins = np.array([0, *ends], dtype=np.intp)
    return kept[begins[begins < len(kept)]]


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint32, copy=False)


def _skip_ignorable(values: NDArray[np.uint8], ignorable: int, separators: int) -> NDArray[np.intp]:
    """WB4 and SB5: marks belong to what they follow, except at the start and after a separator.

    `ignorable` and `separators` are bit sets of values. Returns the indices of the characters that count.
    """
    bits = np.int32(1) << values.astype(np.int32)
    counts = (bits & ignorable) == 0
    counts[1:] |= (bits[:-1] & separators) != 0
    counts[:1] = True
    return np.flatnonzero(counts)
