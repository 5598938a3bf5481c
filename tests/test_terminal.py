"""The picture of an alignment: exact small pictures from hand-made records, and hostile texts."""

import io
import re
import time

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from xmodel.records import Alignment, Certificate, Groups, Members, TokenFlag, TokenSpans, Words
from xmodel.report.terminal import LEGEND, render_alignment
from xmodel.report.visible import shorten, show_bytes, show_text


def integers(values):
    return np.array(list(values), dtype=np.int64)


def make_members(rows, weights=None):
    tokens = [token for row in rows for token in row]
    shares = [share for row in weights for share in row] if weights else [1.0] * len(tokens)
    indptr = integers(np.cumsum([0, *map(len, rows)]))
    return Members(indptr, integers(tokens), np.array(shares, dtype=np.float64))


def make_spans(spans, flags=None, certificate=None):
    count = len(spans)
    return TokenSpans(
        ids=integers(range(count)),
        starts=integers(start for start, _ in spans),
        ends=integers(end for _, end in spans),
        flags=np.array(flags or [0] * count, dtype=np.uint8),
        certificate=certificate or Certificate("exact"),
    )


def make_alignment(text, words, tokenizers, groups=None, straddle="merge"):
    """Groups are (first word, last word, one row of tokens per tokenizer), with weights under split."""
    starts, ends = integers(start for start, _ in words), integers(end for _, end in words)
    if groups is None:
        groups = [
            (
                number,
                number,
                [
                    [token for token, (a, b) in enumerate(spans) if max(a, start) < min(b, end)]
                    for spans in ([*zip(s.starts, s.ends, strict=True)] for s in tokenizers.values())
                ],
            )
            for number, (start, end) in enumerate(words)
        ]
    first, last = integers(group[0] for group in groups), integers(group[1] for group in groups)
    members = tuple(
        make_members(
            [group[2][model] for group in groups],
            [group[3][model] for group in groups] if straddle == "split" else None,
        )
        for model in range(len(tokenizers))
    )
    return Alignment(
        text=text,
        words=Words(starts, ends, "default"),
        tokenizers=tuple(tokenizers),
        spans=tuple(tokenizers.values()),
        groups=Groups(starts[first], ends[last], first, last, members, straddle),
    )


def draw(alignment, width=80, words=200, color=False, names=None):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, color_system="truecolor" if color else None
    )
    vocabularies = [(names or (lambda id: f"<{id}>"))] * len(alignment.spans)
    console.print(render_alignment(alignment, vocabularies, width=width, words=words), crop=False)
    return console.file.getvalue()


def picture(*args, **kwargs):
    """What is drawn, without trailing blanks and without the table."""
    lines = [line.rstrip() for line in draw(*args, **kwargs).splitlines()]
    table = next(number for number, line in enumerate(lines) if line.startswith("tokenizer "))
    return "\n".join(lines[:table]).strip("\n")


def night():
    spans = [(0, 1), (1, 2), (2, 4), (4, 5), (5, 8)]
    return make_alignment(
        "CO₂ is",
        [(0, 5), (6, 8)],
        {
            "bytes": make_spans(spans, [0, 0, TokenFlag.PARTIAL, TokenFlag.PARTIAL, 0]),
            "whole": make_spans([(0, 0), (0, 5), (5, 6), (6, 8)], [TokenFlag.TEMPLATE, 0, 0, 0]),
        },
    )


def test_exact_picture():
    assert picture(night()) == (
        "8 bytes, 2 words\n"
        "\n"
        "            CO₂                is\n"
        "bytes       C│O│‹E2 82│82›     ·is\n"
        "whole  <0>  CO₂             ·  is\n\n"
        "‹› bytes of a character that several tokens share"
    )


def test_tokens_of_no_word_stand_in_gaps_also_at_the_end():
    spans = make_spans([(0, 0), (0, 1), (1, 2), (2, 2)], [TokenFlag.TEMPLATE, 0, 0, TokenFlag.TEMPLATE])
    alignment = make_alignment("a\n", [(0, 1)], {"t": spans, "u": make_spans([(0, 1), (1, 2)])})
    assert picture(alignment) == ("2 bytes, 1 word\n\n        a\nt  <0>  a  ↵│<3>\nu       a  ↵")


def test_table_of_the_exact_picture():
    lines = [line.split() for line in draw(night()).splitlines()[-3:]]
    assert lines[-2] == ["bytes", "5", "2.50", "exact"]
    assert lines[-1] == ["whole", "3", "+", "1", "1.50", "exact"]


def straddling(straddle):
    text = "a ): b"
    words = [(0, 1), (2, 3), (3, 4), (5, 6)]
    own = {"one": make_spans([(0, 1), (1, 4), (4, 6)]), "two": make_spans([(0, 1), (1, 3), (3, 4), (4, 6)])}
    groups = {
        "merge": [(0, 0, [[0], [0]]), (1, 2, [[1], [1, 2]]), (3, 3, [[2], [3]])],
        "drop": [(0, 0, [[0], [0]]), (3, 3, [[2], [3]])],
        "split": [
            (0, 0, [[0], [0]], [[1], [1]]),
            (1, 1, [[1], [1]], [[0.5], [1]]),
            (2, 2, [[1], [2]], [[0.5], [1]]),
            (3, 3, [[2], [3]], [[1], [1]]),
        ],
    }
    return make_alignment(text, words, own, groups[straddle], straddle)


def test_merged_words_are_joined_and_the_straddler_marked():
    assert picture(straddling("merge")) == (
        "6 bytes, 4 words, 3 groups\n"
        "\n"
        "     a  )⁀:   b\n"
        "one  a  ·):   ·b\n"
        "        ^^^\n"
        "two  a  ·)│:  ·b\n"
        "\n"
        f"^ {LEGEND['^']}\n"
        "⁀ words joined, because a token covers parts of both"
    )


def test_split_shows_the_share_of_every_word():
    assert picture(straddling("split")) == (
        "6 bytes, 4 words\n"
        "\n"
        "     a  )         :         b\n"
        "one  a  ·):×0.50  ·):×0.50  ·b\n"
        "        ^^^^^^^^  ^^^^^^^^\n"
        "two  a  ·)        :         ·b\n"
        "\n"
        f"^ {LEGEND['^']}\n"
        "× the share of the token's bytes that is the word's"
    )


def test_dropped_words_stay_visible():
    assert picture(straddling("drop")) == (
        "6 bytes, 4 words, 2 groups\n"
        "\n"
        "     a  )⁀:   b\n"
        "        ---\n"
        "one  a  ·):   ·b\n"
        "        ^^^\n"
        "two  a  ·)│:  ·b\n"
        "\n"
        f"^ {LEGEND['^']}\n"
        f"- {LEGEND['-']}\n"
        "⁀ words joined, because a token covers parts of both"
    )


def test_what_is_not_exact_is_marked_and_listed():
    text = "cafe\u0301 \x07x ☃ </s>"
    rewritten, unknown, literal = TokenFlag.REWRITTEN, TokenFlag.UNKNOWN, TokenFlag.LITERAL_SPECIAL
    spans = make_spans(
        [(0, 3), (3, 6), (8, 9), (9, 13), (14, 18)],
        [0, rewritten, 0, unknown, literal],
        Certificate("ambiguous", ((3, 6), (7, 8), (10, 13)), ("rewritten", "deleted", "unknown")),
    )
    groups = [(0, 0, [[0, 1]]), (1, 1, [[2]]), (2, 2, [[3]]), (3, 3, [[4]])]
    alignment = make_alignment(text, [(0, 6), (7, 9), (10, 13), (14, 18)], {"t": spans}, groups)
    names = ["caf", "é", "x", "[UNK]", "</s>"]
    shown = draw(alignment, names=lambda id: names[id])
    assert "   cafe‹U+0301›  ‹U+0007›x   ☃      </s>" in shown
    assert "t  caf│é         ‹U+0007›│x  [UNK]  </s>" in shown
    assert "       ~         xxxxxxxx    ?????  !!!!" in shown
    assert "t: rewritten bytes 3-6 e‹U+0301›\n" in shown
    assert "t: deleted bytes 7-8 ‹U+0007›\n" in shown
    assert "t: unknown bytes 10-13 ☃\n" in shown
    for mark in "~x?!":
        assert f"{mark} {LEGEND[mark]}\n" in shown
    assert LEGEND["^"] not in shown


def test_only_the_first_few_ranges_are_listed():
    spans = [(place, place + 1) for place in range(18)]
    certificate = Certificate("normalized", tuple(spans[::2]), ("rewritten",) * 9)
    alignment = make_alignment(
        "abcdefghijklmnopqr", [(0, 18)], {"t": make_spans(spans, [8, 0] * 9, certificate)}
    )
    shown = draw(alignment)
    assert shown.count("t: rewritten") == 5
    assert "t: and 4 more" in shown


def test_ranges_that_touch_are_listed_as_one():
    certificate = Certificate("normalized", ((0, 1), (1, 2), (2, 3)), ("rewritten", "rewritten", "deleted"))
    shown = draw(make_alignment("ABc", [(0, 3)], {"t": make_spans([(0, 2)], [8], certificate)}))
    assert "t: rewritten bytes 0-2 AB\nt: deleted bytes 2-3 c\n" in shown


def test_limit_draws_the_first_words_and_says_so():
    words = [(2 * place, 2 * place + 1) for place in range(26)]
    text = " ".join("abcdefghijklmnopqrstuvwxyz")
    tokens = make_spans([(0, 1), *((start - 1, end) for start, end in words[1:])])
    alignment = make_alignment(text, words, {"t": tokens})
    assert picture(alignment, words=3) == (
        "51 bytes, 26 words, the first 3 words shown\n\n   a  b   c\nt  a  ·b  ·c"
    )
    assert "z" in picture(alignment, words=None)
    assert "z" in picture(alignment, words=26)


def test_failed_tokenizer_shows_the_reason():
    failed = TokenSpans(
        integers([5]),
        integers([0]),
        integers([0]),
        np.zeros(1, np.uint8),
        Certificate("failed", reason="id 5 at 0"),
    )
    alignment = make_alignment("ab", [(0, 2)], {"good": make_spans([(0, 2)]), "bad": failed}, groups=[])
    shown = draw(alignment)
    assert "bad: id 5 at 0\n" in shown
    assert "excluded" in shown
    assert re.search(r"^bad +1 +1\.00 +failed *$", shown, re.MULTILINE)


def one_word(text):
    size = len(text.encode())
    return make_alignment(text, [(0, size)], {"t": make_spans([(0, size)])})


HOSTILE = {
    "escape": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "csi": "\x9b2J",
    "markup": "[bold red]no[/] :smile: [link=x]",
    "bidi": "abc\u202edef\u2066ghi\u200f",
    "controls": "a\x00b\x08c\x0dd\x7fe",
    "joiners": "👩\u200d🚀\ufe0f",
    "tag": "\U000e0041x",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_in_a_text_acts_on_the_terminal(text):
    shown = draw(one_word(text), names=lambda id: text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufe0f]", shown)


def test_markup_is_shown_as_it_is():
    assert "[bold·red]no[/]·:smile:·[link=x]" in draw(one_word(HOSTILE["markup"]))


def test_a_name_cannot_act_on_the_terminal_either():
    alignment = make_alignment("a", [(0, 1)], {"\x1b[2J[red]": make_spans([(0, 1)])})
    assert "\x1b" not in draw(alignment)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("text", ["w" * 10_000, "漢" * 5_000, "👩" * 2_000, "\u200d" * 3_000, "नमस्ते" * 900])
def test_no_line_is_wider_than_the_terminal(text, width):
    size = len(text.encode())
    spans = [(place, min(place + 2, size)) for place in range(0, size, 2)]
    alignment = make_alignment(text, [(0, size)], {"a-rather-long-tokenizer/name": make_spans(spans)})
    shown = draw(alignment, width)
    assert max(cell_len(line) for line in shown.splitlines()) <= width
    assert "…" in shown
    assert len(shown.splitlines()) < 30
    hidden = int(re.search(r"…\+([\d,]+)", shown)[1].replace(",", ""))
    assert 0 < len(spans) - hidden < 4 * width


def test_a_long_text_is_drawn_quickly():
    count = 300_000
    words = [(2 * place, 2 * place + 1) for place in range(count)]
    tokens = make_spans([(0, 1), *((start - 1, end) for start, end in words[1:])])
    groups = [(word, word, [[word]]) for word in range(count)]
    alignment = make_alignment("a " * count, words, {"t": tokens}, groups)
    started = time.perf_counter()
    draw(alignment)
    assert time.perf_counter() - started < 3


def test_colour_changes_nothing_but_colour():
    coloured = draw(straddling("drop"), color=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == draw(straddling("drop"))


def test_right_to_left_runs_are_isolated():
    shown = show_text("אב cd").plain
    assert shown == "\u2068אב\u2069·cd"
    assert cell_len(shown) == 5
    assert shorten(show_text("אבגד"), 3).plain == "\u2068אב\u2069…"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 1, "a"),
        (1, 4, "₂"),
        (1, 3, "‹E2 82›"),
        (3, 4, "‹82›"),
        (2, 3, "‹82›"),
        (0, 2, "a‹E2›"),
        (3, 5, "‹82›b"),
    ],
)
def test_parts_of_characters_are_shown_as_bytes(start, end, expected):
    assert show_bytes("a₂b".encode(), start, end).plain == expected


def test_signs_of_the_picture_in_the_text_are_spelled_out():
    assert show_text("·│").plain == "‹U+00B7›‹U+2502›"


def test_marks_stay_on_their_letter_but_not_alone():
    assert show_text("ते").plain == "ते"
    assert show_text("ते"[1:]).plain == "‹U+0947›"


def test_empty_text():
    shown = draw(make_alignment("", [], {"t": make_spans([])}))
    assert shown.startswith("0 bytes, 0 words\n")
