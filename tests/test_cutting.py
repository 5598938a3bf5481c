"""Where a text is cut into documents, against a slow reference, and that nothing is lost."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodel.datasets.cutting import DEFAULT_RULE, CutRule, cut_text

SMALL = CutRule(minimum=3, maximum=7, characters=40)
# No rule 3: only blank lines and the number of words.
WORDY = CutRule(minimum=3, maximum=7, characters=10_000)


# Cutting, against a slow reference that sees the whole text at once.


def line_ends(text: str) -> list[int]:
    """Behind every line end; CR LF is one."""
    return [match.end() for match in re.finditer(r"\r\n|\n|\r", text)]


def cut_slowly(text: str, rule: CutRule) -> list[str]:
    found = []
    while text:
        found.append(text[: find_cut_slowly(text, rule)])
        text = text[len(found[-1]) :]
    if len(found) > 1 and len(found[-1].split()) < rule.minimum:
        found[-2:] = [found[-2] + found[-1]]
    return found


def find_cut_slowly(text: str, rule: CutRule) -> int:
    window = text[: rule.characters]
    if text[: rule.characters + 1].endswith("\r\n") and len(text) > rule.characters:
        window = window[:-1]
    whole = len(text) <= rule.characters
    ends = line_ends(window)
    blank = [
        end
        for before, end in itertools.pairwise(ends)
        # Behind the last line end before something else.
        if not window[before:end].strip() and not any(not window[end:e].strip() for e in ends if e > end)
    ]
    for end in blank:
        if rule.minimum <= len(window[:end].split()) <= rule.maximum:
            return end
        if len(window[:end].split()) > rule.maximum:
            break
    words = list(re.finditer(r"\S+", window))
    if len(words) > rule.maximum:
        window = window[: words[rule.maximum].start()]
    elif whole:
        return len(text)
    lines = [end for end in ends if end <= len(window)]
    if lines and (len(window[: lines[-1]].split()) >= rule.minimum or len(window.split()) < rule.minimum):
        return lines[-1]
    spaces = [place for place, character in enumerate(window, 1) if character.isspace()]
    return spaces[-1] if spaces else len(window)


characters = st.sampled_from(["a", "bc ", "d e ", " ", "\t", "\n", "\n\n", "\r\n", "\r", "é", "\u2028", "𝄞 "])
prose = st.lists(characters, max_size=120).map("".join)


def split_into(text: str, places: list[int]) -> list[str]:
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[low:high] for low, high in itertools.pairwise(at)]


@given(text=prose, rule=st.sampled_from([SMALL, WORDY, CutRule(1, 1, 2), CutRule(4, 30, 25)]))
def test_cutting_equals_the_slow_reference(text: str, rule: CutRule) -> None:
    assert list(cut_text([text], rule)) == cut_slowly(text, rule)


@given(text=prose, places=st.lists(st.integers(0, 500), max_size=40), rule=st.sampled_from([SMALL, WORDY]))
def test_the_pieces_in_which_a_text_arrives_do_not_matter(
    text: str, places: list[int], rule: CutRule
) -> None:
    assert list(cut_text(split_into(text, places), rule)) == list(cut_text([text], rule))
    assert list(cut_text(text, rule)) == list(cut_text([text], rule))


@pytest.mark.parametrize("pieces", [["a b c\n\n", "\nd e f"], ["a b c\r", "\n\r", "\n", " ", "\r\nd e f"]])
def test_blank_lines_go_on_in_the_next_piece(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert list(cut_text(pieces, WORDY)) == list(cut_text(text, WORDY)) == [text[:-5], "d e f"]


@given(text=prose)
def test_nothing_is_lost_and_no_word_is_cut(text: str) -> None:
    found = list(cut_text([text], WORDY))
    assert "".join(found) == text
    assert all(found)
    assert [word for piece in found for word in piece.split()] == text.split()


@given(text=prose)
def test_documents_have_the_minimum_and_not_much_more_than_the_maximum(text: str) -> None:
    counts = [len(piece.split()) for piece in cut_text([text], WORDY)]
    assert all(count >= WORDY.minimum for count in counts) or len(counts) == 1
    assert all(count <= WORDY.maximum for count in counts[:-1])
    # The remainder joins the last one.
    assert not counts or counts[-1] < WORDY.maximum + WORDY.minimum


@given(text=prose)
def test_a_piece_is_never_larger_than_the_memory_that_it_may_take(text: str) -> None:
    sizes = [len(piece) for piece in cut_text([text], SMALL)]
    assert all(size <= SMALL.characters for size in sizes[:-1])
    assert not sizes or sizes[-1] <= 2 * SMALL.characters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c\n\nd e f\n\ng", ["a b c\n\n", "d e f\n\ng"]),
        ("a b\n\nc\n\nd e f", ["a b\n\nc\n\n", "d e f"]),
        ("a b c\r\n\r\nd e f", ["a b c\r\n\r\n", "d e f"]),
        ("a b c\r\rd e f", ["a b c\r\r", "d e f"]),
        ("a b c\n \t\n\n  d e f", ["a b c\n \t\n\n", "  d e f"]),
        ("a b c\r\nd e f", ["a b c\r\nd e f"]),
        ("a b c\nd e f g\nh i j", ["a b c\nd e f g\n", "h i j"]),
        ("a b\nc d e f g h i j", ["a b\nc d e f g ", "h i j"]),
        ("a b\n" + "c" * 60, ["a b\n", "c" * 60]),
        ("", []),
        ("\n\n", ["\n\n"]),
    ],
)
def test_where_a_text_is_cut(text: str, expected: list[str]) -> None:
    assert list(cut_text([text], SMALL)) == expected


def test_the_default_rule_is_the_documented_one() -> None:
    assert (DEFAULT_RULE.minimum, DEFAULT_RULE.maximum, DEFAULT_RULE.characters) == (500, 20_000, 500_000)
