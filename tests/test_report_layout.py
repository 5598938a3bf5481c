"""How every page is drawn: harmless, never wider than the terminal, and nothing lost on the way."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from tests.report_helpers import build_hostile, draw, plant_hostile
from tests.tiny_runs import (
    build_run,
    make_texts,
)
from xmodel.report.contexts import draw_context
from xmodel.report.features import describe_feature, describe_word, render_feature, render_word
from xmodel.report.layout import (
    Field,
    draw_bar,
    draw_table,
    fit,
    fit_end,
    fit_words,
    format_share,
    format_value,
    pad,
    show_prose,
    wrap,
)
from xmodel.report.runs import describe_run, render_run

FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066\u2067\ufe0f\ufeff\U000e0041]"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return build_hostile(tmp_path_factory.mktemp("runs") / "hostile")


def describe_all(run, word="whale"):
    return [
        (describe_run(run, 20), render_run),
        (describe_feature(run, "a", 0, partners=3, contexts=6), render_feature),
        (describe_feature(run, "b", 0, partners=3, contexts=6), render_feature),
        (describe_word(run, word, count=3, contexts=6), render_word),
    ]


# ---- pages


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(tiny, hostile, width):
    for made in (tiny, hostile):
        for found, render in describe_all(made.run):
            page = draw(render(found, width), width)
            assert max(cell_len(line) for line in page.splitlines()) <= width


def test_nothing_of_a_corpus_acts_on_the_terminal(hostile):
    words = {word for found, _ in describe_all(hostile.run) for word in found.get("top_words", [])}
    assert any("\x1b" in word for word in words)
    for width in (40, 120):
        for found, render in describe_all(hostile.run):
            page = draw(render(found, width), width)
            assert not FORBIDDEN.search(page)
            for line in page.splitlines():
                assert line.count("\u2068") == line.count("\u2069")
            plain = re.sub(r"\x1b\[[\d;]*m", "", draw(render(found, width), width, color=True))
            assert plain == page


def test_of_a_long_name_the_end_is_kept_on_one_line(hostile):
    page = draw(render_run(describe_run(hostile.run, 1), 40), 40).splitlines()
    names = [line.strip() for line in page if "sae" in line]
    assert len(names) == 2
    assert "it fits another site" in " ".join(page)
    assert all(name.startswith("…") and name.endswith("‹U+009B›sae") for name in names)


def test_markup_of_a_corpus_is_shown_as_it_is(tmp_path):
    texts = [f"[bold] {text} :smile:" for text in make_texts(documents=20, sentences=3)]
    made = build_run(tmp_path, texts, values=plant_hostile)
    page = draw(render_feature(describe_feature(made.run, "a", 0, partners=1, contexts=50), 120), 120)
    assert "[bold]" in page
    assert ":smile:" in page


# ---- their parts


def test_a_table_drops_whole_columns_and_moves_words_below():
    fields = [Field("a"), Field("held out"), Field("both")]
    rows = [[Text("12"), Text("0.500"), Text("7")]]
    lists = [[lambda room: fit_words(["whale", "whales"], room)]]

    def lines(width):
        return [line.plain for line in draw_table(fields, rows, ["top words"], lists, width)]

    assert lines(40) == [" a  held out  both  top words", "12     0.500     7  whale whales"]
    assert lines(20) == [" a  held out  both", "12     0.500     7", "    whale whales"]
    assert lines(17) == [" a  held out", "12     0.500", "    whale whales"]
    assert lines(10) == [" a", "12", "    whale"]
    assert max(map(cell_len, lines(1))) == 1


TEXT = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("a \n漢é\u0301\u202eא🚀ते")), max_size=60
)


@given(TEXT, st.integers(1, 40))
def test_texts_are_cut_to_any_width_and_stay_harmless(text, most):
    shown = show_prose(text)
    for cut in (fit(shown, most), fit_end(shown, most)):
        assert cell_len(cut.plain) <= most
        assert not FORBIDDEN.search(cut.plain)
        assert cut.plain.count("\u2068") == cut.plain.count("\u2069")
        assert cell_len(pad(cut, most).plain) == cell_len(pad(cut, most, right=True).plain) == most
        if cell_len(shown.plain) <= most:
            assert cut.plain == shown.plain
        else:
            assert "…" in cut.plain
    if cell_len(shown.plain) > most and "\u2068" not in shown.plain:
        assert shown.plain.startswith(fit(shown, most).plain.removesuffix("…"))
        assert shown.plain.endswith(fit_end(shown, most).plain.removeprefix("…"))


@given(TEXT, st.integers(2, 40))
def test_wrapping_loses_nothing(text, most):
    shown = show_prose(text)
    lines = wrap(shown, most)
    for line in lines:
        assert cell_len(line.plain) <= most
        assert line.plain.count("\u2068") == line.plain.count("\u2069")

    def bare(plain):
        return re.sub("[ \u2068\u2069]", "", plain)

    assert bare("".join(line.plain for line in lines)) == bare(shown.plain)
    for line, following in itertools.pairwise(lines):
        first = following.plain.removeprefix("\u2068").split(" ")[0]
        if " " in line.plain.strip():
            assert cell_len(line.plain) + 1 + cell_len(first) > most


@pytest.mark.parametrize("room", [1, 2, 3, 5, 12, 40])
def test_a_word_in_context_is_in_brackets_at_its_place(room):
    for word in ("sea", "漢字", "w" * 90):
        line = draw_context({"word": word, "before": "b" * 99, "after": "c" * 99}, room).plain
        assert cell_len(line) <= room
        if room >= 12:
            assert line[room * 2 // 5 - 1] == "["
            assert line[room * 2 // 5] == word[0]
            assert "]" in line


@given(st.lists(TEXT.filter(bool), max_size=6), st.integers(1, 30))
def test_words_are_shown_whole_from_the_first(words, most):
    line = fit_words(words, most)
    assert cell_len(line.plain) <= most
    whole = [fit_words([word], 10_000).plain for word in words]
    if whole and cell_len(whole[0]) <= most:
        assert line.plain in {" ".join(whole[:count]) for count in range(1, len(whole) + 1)}


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_activations_fit_their_column(value):
    shown = format_value(value)
    assert len(shown) <= 6
    assert value == 0 or float(shown) == pytest.approx(value, rel=0.5)


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(1, 10))
def test_bars_have_their_width_and_never_vanish(value, maximum, cells):
    bar = draw_bar(value, maximum, cells).plain
    assert cell_len(bar) == cells
    assert (bar.strip() == "") == (value == 0)
    assert maximum == 0 or abs(value) < abs(maximum) or bar == "█" * cells or value == 0


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "0.0%"), (0, 5, "0.0%"), (1, 5000, "<0.1%"), (5, 100, "5.0%"), (39, 100, "39%"),
        (999, 1000, "99.9%"), (99999, 100000, "99.9%"), (7, 7, "100%"),
    ],
)  # fmt: skip
def test_shares(part, whole, expected):
    assert format_share(part, whole) == expected


def test_paragraphs_are_marked_and_line_breaks_are_spaces():
    assert show_prose("a  b\nc\n\nd\te").plain == "a b c ↵ d e"
    assert isinstance(show_prose(""), Text)
