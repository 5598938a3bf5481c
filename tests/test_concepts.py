"""Words and features that name no concept: kinds on hard cases, word lists, and what is skipped."""

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from xmodel.datasets.concepts import (
    NON_CONCEPTS,
    SkipWords,
    find_non_concepts,
    find_skipped,
    parse_skip_words,
    read_word_list,
)
from xmodel.datasets.word_kinds import WordKind, classify_words, list_stop_words
from xmodel.errors import InputError

CONCEPT = WordKind(0)
PUNCTUATION, DIGITS, STOP, SPACE, SPECIAL, LISTED = WordKind
EVERY_KIND = "punctuation,digits,stop,space,special"


def kind(text: str, **options) -> WordKind:
    return WordKind(int(classify_words([text], **options)[0]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[
            (text, PUNCTUATION)
            for text in (",", ',"', "—", "’", "...", "$", "€", "+=", "`", "^", "__", "|>", "�")
        ],
        *[(text, PUNCTUATION) for text in ("\u0301", " -- ")],
        *[(text, SPACE) for text in ("", " ", "\n\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x00")],
        *[
            (text, DIGITS)
            for text in ("7", "1990", "3rd", "20th", "1,000", "3.5", "7:30", "1990–91", "$5", "5%")
        ],
        *[(text, DIGITS) for text in ("½", "²", "Ⅳ", "१२", "(12).", "1990's", "1️⃣")],
        *[
            (text, STOP)
            for text in ("the", "The", "THE", "don't", "Don’t", "can't", "won’t", "it's", "I'll", "US")
        ],
        *[(text, STOP) for text in ("’s", "'s", "'s.", "n't", '"No,', "and.The", "three", "'The")],
        *[(text, SPECIAL) for text in ("<|endoftext|>", "</s>", "<s>", "<bos>", "<end_of_turn>", "[CLS]")],
        *[(text, SPECIAL) for text in (".</s>", "<｜end▁of▁sentence｜>", "<s></s>", "[/INST]", "<unused12>")],
        *[
            (text, CONCEPT)
            for text in ("whale", "Whale's", "night.CNN", "U.S.", "A.I.", "million", "o'clock")
        ],
        *[
            (text, CONCEPT)
            for text in ("CO₂", "x²", "cafe\u0301", "नमस्ते", "鲸鱼", "👩‍🚀!", "©", "snake_case", "__init__")
        ],
        *[
            (text, CONCEPT)
            for text in ("the whale", "night<|endoftext|>", "<div>", "the-whale", "GPT-4", "1990s")
        ],
        ("the 1990's", STOP | DIGITS),
        ("the</s>", STOP | SPECIAL),
    ],
)
def test_the_kind_of_a_word(text: str, expected: WordKind) -> None:
    assert kind(text) == expected


def test_another_language_has_other_stop_words() -> None:
    assert kind("und", language="de") == STOP and kind("und") == CONCEPT
    assert kind("l'homme", language="fr") == CONCEPT and kind("qu'il", language="fr") == STOP
    assert kind("the", language="xx") == CONCEPT and kind("3", language="xx") == DIGITS
    with pytest.raises(InputError, match="no language 'qq'"):
        kind("the", language="qq")
    with pytest.raises(InputError, match="no language"):
        kind("the", language="en.stop_words")


def test_every_stop_word_of_spacy_is_one() -> None:
    import spacy

    lexemes = spacy.blank("en").vocab
    words = [word for word in lexemes.strings if lexemes[word].is_stop]
    words += sorted(spacy.blank("en").Defaults.stop_words)
    assert len(words) > 300
    assert all(kinds == STOP for kinds in classify_words(words))
    assert all(kinds == STOP for kinds in classify_words([f"“{word.upper()},”" for word in words]))


def test_single_words_agree_with_the_lexical_attributes_of_spacy() -> None:
    import spacy

    vocab = spacy.blank("en").vocab
    words = ["whale", "the", "Not", "42", "1,000", "!", "?!", "«", "—", "21st", "Ahab", " ", "ten", "harpoon"]
    for word, kinds in zip(words, classify_words(words), strict=True):
        lexeme = vocab[word]
        expected = [
            (PUNCTUATION, lexeme.is_punct),
            (DIGITS, lexeme.is_digit or (lexeme.like_num and not lexeme.is_alpha)),
            (STOP, lexeme.is_stop),
            (SPACE, lexeme.is_space),
        ]
        assert [kind for kind, holds in expected if holds] == list(WordKind(int(kinds))), word


anything = st.text(max_size=12)
word_like = st.lists(st.sampled_from(["the", "whale", "1990", "'s", "</s>", "don't", "U.S", "é"]), max_size=3)
joined = st.builds(
    lambda words, mark: mark.join(words), word_like, st.sampled_from([".", " ", "—", ", ", '"'])
)


@given(text=anything)
def test_letters_are_needed_for_a_concept_and_some_kind_always_holds(text: str) -> None:
    kinds = kind(text)
    if not regex.search(r"[\p{L}\p{So}]", text):
        assert kinds
    if kinds & PUNCTUATION:
        assert not regex.search(r"[\p{L}\p{N}]", text)
    if kinds & SPACE:
        assert not regex.search(r"[\p{L}\p{N}\p{P}\p{S}]", text)


@given(
    text=joined,
    before=st.sampled_from(["", '"', "(", "¿", " "]),
    after=st.sampled_from(["", ".", "?!", '."\n']),
)
def test_punctuation_at_the_ends_changes_nothing(text: str, before: str, after: str) -> None:
    if kind(text) not in (SPACE, PUNCTUATION):
        assert kind(before + text + after) == kind(text)


@given(texts=st.lists(st.one_of(anything, joined), max_size=20))
def test_many_words_at_once_are_as_one_by_one(texts: list[str]) -> None:
    found = classify_words(texts)
    assert found.dtype == np.uint8 and found.shape == (len(texts),)
    assert found.tolist() == [int(kind(text)) for text in texts]
    assert find_skipped(texts, NON_CONCEPTS).tolist() == [bool(kinds) for kinds in found]


@given(text=joined)
def test_a_word_is_skipped_only_when_all_its_kinds_are(text: str) -> None:
    kinds = kind(text)
    for chosen in itertools.chain.from_iterable(itertools.combinations(WordKind, n) for n in range(3)):
        skip = SkipWords(WordKind(sum(chosen)))
        expected = kinds != 0 and all(part in chosen for part in kinds)
        assert find_skipped([text], skip).tolist() == [expected]


def test_a_million_words_take_seconds() -> None:
    vocabulary = [f"{word}{end}" for word in ("whale", "the", "1990", "night.CNN") for end in range(5_000)]
    texts = vocabulary * 50
    begun = time.perf_counter()
    classify_words(texts)
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    "text", ["a" + "-" * 50_000 + "b", "'" * 50_000 + "s", "a'" * 25_000, "<|" * 25_000, ". " * 25_000 + "a"]
)
def test_no_word_takes_quadratic_time(text: str) -> None:
    begun = time.perf_counter()
    kind(text)
    assert time.perf_counter() - begun < 2


# Lists of the user's own.


def test_a_word_list_has_comments_and_no_case(tmp_path: Path) -> None:
    path = tmp_path / "skip.txt"
    path.write_text("\ufeff# names\nAhab\n\n  Straße  # a street\nC#\nmoby dick\nlet’s\n", encoding="utf-8")
    assert read_word_list(path) == {"ahab", "strasse", "c#", "moby dick", "let's"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no word"),
        (b"# only\n \n", "no word"),
        (b"ok\n\xff", "not UTF-8: byte 3"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_word_list_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "skip.txt"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_word_list(path)


def test_listed_words_are_skipped_whatever_is_around_them() -> None:
    skip = SkipWords(words=frozenset({"whale", "u.s.", "—", "let's"}))
    texts = [
        "Whale",
        '"whale,"',
        "whales",
        "the whale",
        "U.S.",
        "u.s",
        "—",
        "–",
        "Let’s",
        "whale.WHALE",
        "whale-ship",
    ]
    expected = [True, True, False, False, True, False, True, False, True, True, False]
    assert find_skipped(texts, skip).tolist() == expected
    assert find_skipped(["the whale", "The"], SkipWords(STOP, frozenset({"whale"}))).tolist() == [True, True]
    assert find_skipped(["</s>", "<s>"], SkipWords(words=frozenset({"</s>"}))).tolist() == [True, False]
    # A word on the list is skipped even if its kind is not.
    assert find_skipped(["the", "a"], SkipWords(words=frozenset({"the"}))).tolist() == [True, False]


def test_nothing_is_skipped_unless_asked() -> None:
    assert not find_skipped(["the", ",", "1", "", "</s>"], SkipWords()).any()
    assert SkipWords().describe() == "nothing"


def test_skip_words_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("names.txt", "stop", "a,b.txt"):
        Path(name).write_text("Ahab\nQueequeg\n")
    assert parse_skip_words("punctuation,digits,stop") == SkipWords(PUNCTUATION | DIGITS | STOP)
    mixed = parse_skip_words(" Digits , names.txt ")
    assert mixed == SkipWords(DIGITS, frozenset({"ahab", "queequeg"}), ("names.txt",))
    assert mixed.describe() == "digits, 2 words of names.txt"
    assert parse_skip_words("stop,digits").kinds == STOP | DIGITS
    assert parse_skip_words("./stop").files == ("./stop",)
    assert parse_skip_words("a,b.txt").files == ("a,b.txt",)
    assert parse_skip_words(EVERY_KIND).kinds == NON_CONCEPTS.kinds
    assert parse_skip_words("stop", language="de").language == "de"


@pytest.mark.parametrize("text", ["", "punctuation,", "stopp", "nowhere.txt", ",digits"])
def test_bad_skip_words_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"no kind of word and no file\. Expected punctuation, digits, stop"):
        parse_skip_words(text)


def test_an_unknown_language_is_refused_when_parsed() -> None:
    with pytest.raises(InputError, match="'qq'"):
        parse_skip_words("digits", language="qq")


def test_the_manifest_has_every_word_that_decides(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("Queequeg\nAhab\n")
    skip = parse_skip_words(f"stop,{path}")
    written = json.loads(json.dumps(skip.as_json()))
    assert written["kinds"] == ["stop"] and written["words"] == ["ahab", "queequeg"]
    assert written["files"] == [str(path)] and written["language"] == "en"
    assert written["stop_words"] == sorted(list_stop_words("en")) and "the" in written["stop_words"]
    assert parse_skip_words("digits").as_json()["stop_words"] == []
    assert "stop (" in skip.describe() and "spaCy en" in skip.describe()


# Features.


def test_a_feature_is_a_non_concept_one_by_its_share_of_top_words() -> None:
    top_words = [
        ["the", ",", "of", "whale", "ship", "sea"],
        ["the", ",", "of", "whale"],
        ["the", ",", "of", "whale", "sea"],
        [],
        ["whale"],
        ["."],
    ]
    assert find_non_concepts(top_words).tolist() == [False, True, True, False, False, True]
    assert find_non_concepts(top_words, share=1.0).tolist() == [False] * 5 + [True]
    assert find_non_concepts(top_words, share=0.5).tolist() == [True, True, True, False, False, True]
    only_stop = find_non_concepts(top_words, SkipWords(STOP), share=0.5)
    assert only_stop.tolist() == [False, True, False, False, False, False]
    assert find_non_concepts([]).shape == (0,)


@example(counts=[], hundredths=55)
@given(
    counts=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=8),
    hundredths=st.integers(1, 100),
)
def test_the_share_is_exact(counts: list[tuple[int, int]], hundredths: int) -> None:
    counts.append((11, 9))
    top_words = [["the"] * function + ["whale"] * concept for function, concept in counts]
    expected = [a + b > 0 and 100 * a >= hundredths * (a + b) for a, b in counts]
    assert find_non_concepts(top_words, share=hundredths / 100).tolist() == expected


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        find_non_concepts([["the"]], share=share)
