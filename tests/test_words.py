"""Words: equal to a slow reference, covering all text under every rule, and the examples of the design."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from tests.reference_words import WHITE_SPACE, find_broken_law, split_slowly
from xmodel.datasets import characters
from xmodel.datasets.words import check_rule, encode_text, find_whitespace, split_joined, split_words
from xmodel.errors import InputError

# What rules stumble over: joiners, marks, selectors, apostrophes, whitespace of 1, 2 and 3 bytes, digits,
# connector punctuation, emoji and their modifiers, flags, prefixes, Devanagari, Jamo, scripts without spaces.
HARD = list(
    "aZß .,!?-'\u2019\"_\u203f\uff3f019٣²₂Ⅷ½"
    "\u200d\u200c\u0301\u20e3\ufe0f\ufe0e\U000e0101\u0488"
    "\t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
    "\u200b\u2060\ufeff\xad\u0600\ufffd\x00\x1c\x1f"
    "👩🚀❤\U0001f3fb\U0001f3ff🇨🇭ℹⓂ"
    "नमस्तेि्\u1112\u1161\u11ab한漢カあ。ไทยאب𝒳𐍈ǅ"
)
characters_of_every_plane = st.characters(exclude_categories=["Cs"])
texts = st.one_of(
    st.text(characters_of_every_plane),
    st.text(st.sampled_from(HARD), max_size=30),
    st.text(st.one_of(st.sampled_from(HARD), characters_of_every_plane), max_size=30),
    st.text(st.sampled_from("ab1'\u2019\u0301\u200d .")),
)
RULES = [
    "default",
    "whitespace",
    "uax29",
    "characters",
    "sentences",
    "spacy:en",
    "spacy:xx",
    "spacy:zh",
    r"regex:\w+",
    r"regex:\s*[ab]*\s*",
    r"regex:(?r).?.",
    r"regex:(?s)..\K.",
    "regex:x*",
]


def spans_of(text: str, rule: str = "default") -> list[tuple[int, int]]:
    words = split_words(text, rule)
    assert words.rule == rule
    assert words.starts.dtype == words.ends.dtype == np.int64
    return list(zip(words.starts.tolist(), words.ends.tolist(), strict=True))


def spell(text: str, rule: str = "default") -> list[str]:
    data = text.encode()
    return [data[start:end].decode() for start, end in spans_of(text, rule)]


@pytest.mark.parametrize("rule", ["default", "whitespace"])
@given(texts)
@example("\u0301a")
@example(" \u0301'a")
@example("a\u0301'b\u0301\u2019c")
@example("a'\u0301b")
@example("'a'b''c'")
@example("a\u2019")
@example("\u2019")
def test_a_rule_equals_its_slow_reference(rule: str, text: str) -> None:
    assert spans_of(text, rule) == split_slowly(text, rule)


@pytest.mark.parametrize("rule", RULES)
@given(texts)
@example("")
@example(" \u0301\u0600 \u0301 a")
@example("\u0600 ")
@example("a\u202fb\u202f")
def test_words_are_disjoint_trimmed_and_cover_everything_but_whitespace(rule: str, text: str) -> None:
    assert find_broken_law(text, spans_of(text, rule)) == ""


@pytest.mark.parametrize(
    ("spans", "broken"),
    [
        ([(0, 1), (2, 4)], ""),
        ([(0, 1)], "in no word"),
        ([(0, 2), (2, 4)], "whitespace"),
        ([(0, 4), (2, 4)], "overlaps"),
        ([(2, 4), (0, 1)], "overlaps"),
        ([(0, 1), (2, 5)], "overlaps"),
        ([(0, 1), (1, 1), (2, 4)], "empty"),
        ([(0, 1), (2, 3), (3, 4)], "cuts"),
    ],
)
def test_the_law_can_be_broken(spans: list[tuple[int, int]], broken: str) -> None:
    found = find_broken_law("a é", spans)
    assert broken in found and bool(broken) == bool(found)


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(texts, max_size=5))
def test_joined_texts_split_like_single_ones(rule: str, several: list[str]) -> None:
    encoded = [encode_text(text) for text in several]
    sizes = np.array([len(data) for data in encoded], dtype=np.int64)
    ends = np.cumsum(sizes + 1) - 1
    starts = ends - sizes
    buffer = np.frombuffer(b"\n".join(encoded), dtype=np.uint8)
    word_starts, word_ends = split_joined(buffer, starts, ends, rule)
    expected = [
        (start + first, start + last)
        for start, text in zip(starts.tolist(), several, strict=True)
        for first, last in spans_of(text, rule)
    ]
    assert list(zip(word_starts.tolist(), word_ends.tolist(), strict=True)) == expected
    assert word_starts.dtype == word_ends.dtype == np.int64


def test_texts_may_lie_anywhere_in_a_buffer_of_spaces() -> None:
    buffer = np.frombuffer("  ab c  é'f ".encode(), dtype=np.uint8)
    for rule in ("default", "uax29", "spacy:en"):
        starts, ends = split_joined(buffer, np.array([2, 8]), np.array([6, 12]), rule)
        assert starts.tolist() == [2, 5, 8], rule
        assert ends.tolist() == [4, 6, 12], rule


@given(texts)
def test_whitespace_is_found_on_all_bytes_of_a_character(text: str) -> None:
    expected = [ord(c) in WHITE_SPACE for c in text for _ in c.encode()]
    assert find_whitespace(np.frombuffer(text.encode(), dtype=np.uint8)).tolist() == expected


@pytest.mark.parametrize("plane", [0, 1, 2, 14, 16])
def test_the_class_table_knows_every_character_of_a_plane(plane: int) -> None:
    table = characters.load_plane("run", plane)
    everything = [chr((plane << 16) + low) for low in range(0x10000)]
    text = "".join(everything)

    def of_class(*classes: int) -> set[str]:
        return {
            character for character, value in zip(everything, table.tolist(), strict=True) if value in classes
        }

    joiners = {c for c in "\u200c\u200d\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff" if c in text}
    assert of_class(characters.SPACE) == {c for c in everything if ord(c) in WHITE_SPACE}
    assert of_class(characters.LETTER) == set(regex.findall(r"\p{L}", text))
    assert of_class(characters.WORD) == set(regex.findall(r"\p{N}|\p{Pc}", text))
    assert of_class(characters.EXTEND) == set(regex.findall(r"\p{M}", text)) | joiners
    assert of_class(characters.APOSTROPHE) == ({"'", "\u2019"} if plane == 0 else set())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("night.CNN", ["night", ".", "CNN"]),
        ("CO₂ is", ["CO₂", "is"]),
        ("hi 👩‍🚀!", ["hi", "👩‍🚀!"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("cafe\u0301s", ["cafe\u0301s"]),
        ("don't don\u2019t 'tis rock'n'roll", ["don't", "don\u2019t", "'", "tis", "rock'n'roll"]),
        ("dogs' 5'10 a''b", ["dogs", "'", "5", "'", "10", "a", "''", "b"]),
        ("snake_case x-ray", ["snake_case", "x", "-", "ray"]),
        ("a\xa0b\u3000c\x85d\u2028e", ["a", "b", "c", "d", "e"]),
        ("一、二。", ["一", "、", "二", "。"]),
        ("1\ufe0f\u20e3👍🏽", ["1\ufe0f\u20e3", "👍🏽"]),
        ('no."\n\nThen', ["no", '."', "Then"]),
        ("ﷺ ½ \u1112\u1161\u11ab", ["ﷺ", "½", "\u1112\u1161\u11ab"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("a▁b </s>", ["a", "▁", "b", "</", "s", ">"]),
        ("\ufeff", ["\ufeff"]),
        ("", []),
        (" \u3000\n", []),
    ],
)
def test_default_examples(text: str, words: list[str]) -> None:
    assert spell(text) == words


# Hand-written after the rules of UAX #29 named on the right.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The quick (“brown”) fox", ["The", "quick", "(", "“", "brown", "”", ")", "fox"]),
        ("can't can\u2019t a.b a:b", ["can't", "can\u2019t", "a.b", "a:b"]),  # WB6, WB7
        ("a..b a.' .b", ["a", ".", ".", "b", "a", ".", "'", ".", "b"]),  # WB6 needs a letter on both sides
        ("32.3 1,000 3a a3", ["32.3", "1,000", "3a", "a3"]),  # WB8 to WB12
        ("1, 2", ["1", ",", "2"]),  # WB12
        ('א\' א"א א"', ["א'", 'א"א', "א", '"']),  # WB7a to WB7c
        ("カタカナ漢字", ["カタカナ", "漢", "字"]),  # WB13, WB999
        ("a_1 _ カ_カ", ["a_1", "_", "カ_カ"]),  # WB13a, WB13b
        ("🇨🇭🇩🇪🇫", ["🇨🇭", "🇩🇪", "🇫"]),  # WB15, WB16
        ("a🇨🇭🇩b", ["a", "🇨🇭", "🇩", "b"]),
        ("🇨\u200d🇭🇩", ["🇨\u200d🇭", "🇩"]),  # WB4 before WB15
        ("👩‍🚀!a\u200dℹ", ["👩‍🚀", "!", "a\u200dℹ"]),  # WB3c
        ("a\u0301b a\xadb", ["a\u0301b", "a\xadb"]),  # WB4
        ("a\r\n\u0301b", ["a", "\u0301", "b"]),  # WB3a: a mark after a newline stands alone
        ("a \u0301 b", ["a", "\u0301", "b"]),  # trimmed
        ("a\u202fb \u202f", ["a\u202fb"]),  # U+202F is ExtendNumLet and White_Space at once
    ],
)
def test_unicode_word_boundaries(text: str, words: list[str]) -> None:
    assert spell(text, "uax29") == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He came. She left!  Why? ", ["He came.", "She left!", "Why?"]),  # SB11
        ("One\nline\r\nmore\u2029end", ["One", "line", "more", "end"]),  # SB3, SB4
        ("It cost 3.50 here.", ["It cost 3.50 here."]),  # SB6
        ("The U.S.A. is. Mr.Smith", ["The U.S.A. is.", "Mr.Smith"]),  # SB7, SB8
        ("etc. and so on. 5 more. 5 More", ["etc. and so on. 5 more.", "5 More"]),  # SB8
        ("end.) 👩 then", ["end.) 👩 then"]),  # SB8 looks past what is no letter
        ("What?! No... Yes", ["What?!", "No...", "Yes"]),  # SB8a
        ("(He said “go.”) Then", ["(He said “go.”)", "Then"]),  # SB9, SB10
        ("a.\u0301 B", ["a.\u0301", "B"]),  # SB5
        ("\u0301b. C\n\u0301d", ["\u0301b.", "C", "\u0301d"]),  # SB4 before SB5
        ("ends here.\u3000次。次", ["ends here.", "次。", "次"]),
    ],
)
def test_unicode_sentences(text: str, sentences: list[str]) -> None:
    assert spell(text, "sentences") == sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("e\u0301 🇨🇭🇩🇪🇫", ["e\u0301", "🇨🇭", "🇩🇪", "🇫"]),
        ("🇨\u0301🇭🇩\u0301", ["🇨\u0301", "🇭🇩\u0301"]),
        ("👩‍🚀👍🏽", ["👩‍🚀", "👍🏽"]),
        ("\u1112\u1161\u11ab한", ["\u1112\u1161\u11ab", "한"]),
        ("क्षि", ["क्षि"]),
        (" \u0301a\u0600 b", ["\u0301", "a", "\u0600", "b"]),
        ("\u0600 \u0301b", ["\u0600", "\u0301", "b"]),  # no word contains whitespace
    ],
)
def test_grapheme_clusters(text: str, words: list[str]) -> None:
    assert spell(text, "characters") == words


@given(texts)
def test_without_whitespace_grapheme_clusters_are_those_of_the_regex_module(text: str) -> None:
    solid = "".join(c for c in text if ord(c) not in WHITE_SPACE)
    assert spell(solid, "characters") == regex.findall(r"\X", solid)


def test_spacy_tokens() -> None:
    assert spell("Don't stop, U.K.  é ok", "spacy:en") == ["Do", "n't", "stop", ",", "U.K.", "é", "ok"]
    assert spell("l'été", "spacy:fr") == ["l'", "été"]


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (r"\d+", "a1 b22c", ["a", "1", "b", "22", "c"]),
        ("x", "ab cd", ["ab", "cd"]),
        ("x*", "axxb", ["a", "xx", "b"]),
        (r"\s*,\s*", "é , b", ["é", ",", "b"]),
        (r"\s+", "a b", ["a", "b"]),
        ("a b", "a b c", ["a b", "c"]),
        ("(?r)aa", "aaa", ["a", "aa"]),
        ("[^:]+", "a:b", ["a", ":", "b"]),
    ],
)
def test_matches_and_what_lies_between_them(pattern: str, text: str, words: list[str]) -> None:
    assert spell(text, f"regex:{pattern}") == words


@pytest.mark.parametrize("rule", ["", "Default", "spacy", "regex", "uax29:", "nltk:en", None])
def test_an_unknown_rule_lists_the_known_ones(rule: str) -> None:
    names = ("default", "whitespace", "uax29", "characters", "sentences", "spacy:LANG", "regex:PATTERN")
    for call in (lambda: check_rule(rule), lambda: split_words("a", rule)):
        with pytest.raises(InputError) as caught:
            call()
        assert all(name in str(caught.value) for name in (repr(rule), *names))


@pytest.mark.parametrize("rule", RULES)
def test_a_known_rule_is_accepted(rule: str) -> None:
    check_rule(rule)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a(b", "missing ) at position 3"),
        ("ab**", "multiple repeat at position 3"),
        ("(?a)(?u)x", "incompatible"),
        ("(" * 3000, "recursion"),
        ("", "without a pattern"),
    ],
)
def test_a_bad_pattern_is_named_with_its_position(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=regex.escape(message)) as caught:
        check_rule(f"regex:{pattern}")
    assert pattern in str(caught.value)


@pytest.mark.parametrize("pattern", [r"(?=ab\K)", r"(?=ab\K)a", r"b(?<=\Ka.)|a"])
def test_matches_that_overlap_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="overlap"):
        split_words("aabaabab", f"regex:{pattern}")


@pytest.mark.parametrize("language", ["", "zz", "en_core_web_sm", "en.stop_words", "punctuation", "../en"])
def test_an_unknown_language_lists_known_ones(language: str) -> None:
    with pytest.raises(InputError, match="no language") as caught:
        check_rule(f"spacy:{language}")
    assert repr(language) in str(caught.value) and "en, es" in str(caught.value)


@pytest.mark.parametrize(
    ("language", "module", "package"),
    [
        ("ja", "sudachipy", "sudachipy"),
        ("ko", "natto", "natto-py"),
        ("th", "pythainlp", "pythainlp"),
        ("vi", "pyvi", "pyvi"),
    ],
)
def test_a_language_that_lacks_a_package_names_it(language: str, module: str, package: str) -> None:
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    with pytest.raises(InputError) as caught:
        check_rule(f"spacy:{language}")
    assert package in str(caught.value).lower()


@pytest.mark.parametrize("rule", RULES)
def test_a_lone_surrogate_is_refused_with_its_position(rule: str) -> None:
    with pytest.raises(InputError, match=r"character 2 .*U\+DC80"):
        split_words("é \udc80 b", rule)


def test_something_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="bytes"):
        encode_text(b"abc")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "piece", ["🇨", "\u0301", ". ", "a.)", "A. 👩", "a'", "\u200d", " ", "\r\n", "🇨\u0301"]
)
def test_long_repeats_are_split(piece: str) -> None:
    # A rule that takes quadratic time does not come to an end here.
    text = piece * (1_200_000 // len(piece))
    for rule in ("default", "whitespace", "uax29", "characters", "sentences"):
        starts, ends = split_words(text, rule).starts, split_words(text, rule).ends
        assert (starts < ends).all() and (starts[1:] >= ends[:-1]).all()


# Letters of several scripts, digits, punctuation and marks; pictographs are left out, since the two packages
# hold different versions of Unicode.
STABLE = st.text(
    alphabet="ab Z1.,:;'\"_-\n\r\t!?)("
    "\u00e9\u0301\u05d0\u05d1\u30ab\u30cd\u4e2d\uac00\u1100\u1161\u0e01\u200d\u00ad"
)


def trim_pieces(pieces: Iterable[str]) -> list[tuple[int, int]]:
    spans, place = [], 0
    for piece in pieces:
        if piece.strip():
            start = place + len(piece.encode()) - len(piece.lstrip().encode())
            spans.append((start, start + len(piece.strip().encode())))
        place += len(piece.encode())
    return spans


@given(STABLE)
def test_uax29_equals_an_independent_implementation(text: str) -> None:
    from uniseg.wordbreak import words

    assert spans_of(text, "uax29") == trim_pieces(words(text))


@given(STABLE)
def test_sentences_equal_an_independent_implementation(text: str) -> None:
    from uniseg.sentencebreak import sentences

    text = text.replace(".", "!")  # uniseg 0.10.1 gets rule SB8, on what follows a full stop, wrong ("._a")
    assert spans_of(text, "sentences") == trim_pieces(sentences(text))


def test_real_texts_equal_the_slow_reference(shared: Path) -> None:
    paths = sorted((shared / "data" / "texts").rglob("*.txt"))
    assert paths
    for path in paths:
        text = path.read_text("utf-8")[:4000]
        for rule in ("default", "whitespace"):
            assert spans_of(text, rule) == split_slowly(text, rule), path.name
        for rule in ("uax29", "characters", "sentences", "spacy:xx"):
            assert find_broken_law(text, spans_of(text, rule)) == "", f"{path.name}, {rule}"
