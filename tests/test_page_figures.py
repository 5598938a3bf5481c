"""Figures as data for the page, as tables, and drawn for print."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodel.report.page import drawing_bars
from xmodel.report.page.drawing import draw_figures
from xmodel.report.page.drawing_histogram import choose_limits
from xmodel.report.page.figures_json import MOST_ROWS, figure_as_json, list_columns
from xmodel.report.page.records import Draws, Flow, Heatmap, Histogram, Lines, Scatter, Series, Stage
from xmodel.report.page.spans import choose_span, starts_at_zero

HEAD = {"name": "one", "title": "A title", "caption": "What is seen."}
HOSTILE = '<script>$x_$ & "q" \u05d0\u05d1 🐋 =1+1'
NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=64)


def make_flow(label="at least 10 firings"):
    stages = (
        Stage(group="words", label="kept", entered=0, passed=0),
        Stage(group="features a", label=label, entered=2048, passed=1831),
        Stage(group="features a", label="alive", entered=1831, passed=1831),
    )
    return Flow(**HEAD, stages=stages)


def make_histogram(values=(0.1, 0.2, 0.2, 0.4), label="draws", marks=(("observed", 0.9), ("ceiling", 1.2))):
    draws = (Draws(label=label, values=np.array(values)), Draws(label="more", values=np.array([0.5, 0.6])))
    return Histogram(**HEAD, x_label="r", draws=draws, marks=marks, bins=5)


def make_lines(label="pair 1", pick=False):
    x, y = np.array([0.25, 0.5, 1.0]), np.array([0.1, np.nan, 0.3])
    series = (
        Series(label=label, x=x, y=y, low=y - 0.1, high=y + 0.1),
        Series(label="damage", x=x, y=2 * y, dashed=True),
    )
    return Lines(**HEAD, x_label="dose", y_label="effect", series=series, logarithmic=True, pick=pick)


def make_heatmap(label="layer 1", diverging=False):
    return Heatmap(
        **HEAD,
        x_label="B",
        y_label="A",
        x=("l0", label),
        y=("k0", "k1", "k2"),
        values=np.array([[0.1, -0.2], [np.nan, 0.5], [0.3, 0.4]]),
        value_label="CKA",
        marked=np.array([[True, False], [False, True], [False, False]]),
        marked_label="significant",
        diverging=diverging,
        links=(("#a=0&b=0", None), (None, "#a=1&b=1"), (None, None)),
    )


def make_scatter(count=3, hover="a 1 – b 2", **more):
    points = np.linspace(-1, 1, count)
    return Scatter(
        **HEAD,
        x_label="r",
        y_label="r",
        x=points,
        y=points**2,
        hover=(hover,) * count,
        links=tuple(f"#a={number}" for number in range(count)),
        diagonal=True,
        **more,
    )


def make_all(label="plain"):
    colored = make_scatter(color=np.array([0.1, np.nan, 0.3]), color_label=label)
    return [
        make_flow(label),
        make_histogram(label=label, marks=((label, 0.9), ("b", -0.1))),
        make_lines(label),
        make_heatmap(label),
        make_scatter(hover=label),
        make_scatter(groups=(label, "other", label)),
        colored,
    ]


@pytest.mark.parametrize("figure", make_all())
def test_a_chunk_is_json_whose_table_is_the_csv_and_whose_fields_are_the_record(figure):
    chunk = figure_as_json(figure)
    assert json.loads(json.dumps(chunk, allow_nan=False)) == chunk
    assert chunk["kind"] == type(figure).__name__.lower()
    assert (chunk["name"], chunk["title"], chunk["caption"]) == (figure.name, figure.title, figure.caption)
    columns, rows = list_columns(figure)
    assert chunk["table"]["columns"] == columns and len(set(columns)) == len(columns)
    assert len(chunk["table"]["rows"]) == len(rows) and "cut" not in chunk["table"]
    for shown, row in zip(chunk["table"]["rows"], rows, strict=True):
        assert len(row) == len(columns) == len(shown)
        for cell, value in zip(shown, row, strict=True):
            assert cell == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)


def test_tables_hold_every_value_once_in_full():
    columns, rows = list_columns(make_flow())
    assert rows[1] == ("features a", "at least 10 firings", 2048, 1831, 217)
    columns, rows = list_columns(make_histogram((1 / 3, np.nan)))
    assert rows[:2] == [("observed", "observed", 0.9), ("observed", "ceiling", 1.2)]
    drawn = [("draws", 1 / 3), ("draws", None), ("more", 0.5), ("more", 0.6)]
    assert rows[2:] == [("drawn", *one) for one in drawn]
    columns, rows = list_columns(make_lines())
    assert rows[:2] == [("pair 1", 0.25, 0.1, 0.1 - 0.1, 0.1 + 0.1), ("pair 1", 0.5, None, None, None)]
    assert rows[3] == ("damage", 0.25, 0.2, None, None)
    columns, rows = list_columns(make_heatmap())
    assert columns == ["A", "B", "CKA", "significant"]
    assert rows[:3] == [("k0", "l0", 0.1, True), ("k0", "layer 1", -0.2, False), ("k1", "l0", None, False)]
    columns, rows = list_columns(make_scatter(groups=("u", "v", "u")))
    assert columns == ["what", "r", "r (2)", "group"]
    assert rows[0] == ("a 1 – b 2", -1.0, 1.0, "u")


@given(st.lists(NUMBERS, max_size=20))
def test_whatever_is_not_finite_is_null_and_the_rest_keeps_six_digits(values):
    chunk = figure_as_json(make_histogram(values, marks=(("observed", float("nan")),)))
    json.dumps(chunk, allow_nan=False)
    assert chunk["marks"] == [["observed", None]]
    for shown, value in zip(chunk["draws"][0]["values"], values, strict=True):
        assert shown == pytest.approx(value, rel=1e-5) if np.isfinite(value) else shown is None


def test_links_stand_beside_their_rows_and_long_tables_say_what_they_lack():
    chunk = figure_as_json(make_heatmap())
    linked = dict(zip(chunk["table"]["links"], chunk["table"]["rows"], strict=True))
    assert linked["#a=1&b=1"][:2] == ["k1", "layer 1"] and chunk["links"][1][1] == "#a=1&b=1"
    table = figure_as_json(make_scatter(MOST_ROWS + 5))["table"]
    assert len(table["rows"]) == len(table["links"]) == MOST_ROWS and table["cut"] == MOST_ROWS + 5
    assert table["links"][-1] == f"#a={MOST_ROWS - 1}"
    assert "links" not in figure_as_json(make_lines())["table"]


def test_print_gives_three_files_per_figure_and_equal_bytes_for_equal_figures(tmp_path):
    figures = [replace(one, name=f"figure-{number}") for number, one in enumerate(make_all())]
    first, again = (draw_figures(figures, tmp_path / name) for name in ("first", "again"))
    assert [place.name for place in first[:3]] == ["figure-0.svg", "figure-0.pdf", "figure-0.csv"]
    assert len(first) == 3 * len(figures) + 1 and {place.parent.name for place in first} == {"first"}
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    other = draw_figures([replace(figures[0], stages=figures[0].stages[1:])], tmp_path / "other")
    assert all(one.read_bytes() != own.read_bytes() for one, own in zip(first[:3], other[:3], strict=True))


def test_hostile_labels_are_text_in_every_file(tmp_path):
    made = enumerate(make_all(HOSTILE))
    figures = [replace(one, name=f"figure-{number}", caption=HOSTILE) for number, one in made]
    *drawn, readme = draw_figures(figures, tmp_path)
    told = readme.read_text("utf-8")
    assert "<script>" not in told.replace("\\<", "") and told.count("\n- ") == len(figures)
    for place in drawn:
        if place.suffix == ".svg":
            root = ElementTree.fromstring(place.read_text("utf-8"))
            texts = "".join(root.itertext())
            assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
            assert texts.count("<script>") >= (1 if place.stem == "figure-4" else 2), place.name
            assert "$x_$" in texts and "A title" in texts
        elif place.suffix == ".pdf":
            assert place.read_bytes().startswith(b"%PDF")
            assert b"CreationDate" not in place.read_bytes()
        else:
            rows = list(csv.reader(place.read_text("utf-8").splitlines()))
            columns, expected = list_columns(figures[int(place.stem[-1])])
            assert rows[0] == columns and len(rows) == 1 + len(expected)


def test_numbers_in_the_csv_are_exact_and_formulas_are_disarmed(tmp_path):
    values = (1 / 3, np.nan, 1e-300)
    _, _, place, _ = draw_figures([make_histogram(values, label="=HYPERLINK()")], tmp_path)
    rows = list(csv.reader(place.read_text("utf-8").splitlines()))[3:6]
    assert [own for _, _, own in rows] == [repr(1 / 3), "", repr(1e-300)]
    assert {label for _, label, _ in rows} == {"'=HYPERLINK()"}


def test_drawing_neither_depends_on_nor_changes_the_callers_style(tmp_path):
    import matplotlib as mpl

    (svg, *_) = draw_figures([make_lines()], tmp_path / "plain")
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        (other, *_) = draw_figures([make_lines()], tmp_path / "styled")
        assert mpl.rcParams["font.size"] == 30 and mpl.rcParams["svg.fonttype"] == "path"
    assert svg.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "figure",
    [
        Flow(**HEAD, stages=()),
        Histogram(**HEAD, x_label="x", draws=()),
        make_histogram((), marks=()),
        make_histogram((0.5, 0.5), marks=(("observed", 0.5), ("the same", 0.5))),
        Lines(**HEAD, x_label="x", y_label="y", series=()),
        make_lines(pick=True),
        make_heatmap(diverging=True),
        Heatmap(
            **HEAD, x_label="x", y_label="y", x=("1",), y=("1",), values=np.array([[np.nan]]), value_label="v"
        ),
        make_scatter(2_500),
    ],
    ids=lambda figure: type(figure).__name__,
)
def test_what_has_little_or_much_to_show_is_drawn_all_the_same(figure, tmp_path):
    json.dumps(figure_as_json(figure), allow_nan=False)
    svg, pdf, *_ = draw_figures([figure], tmp_path)
    assert svg.stat().st_size < 400_000 and pdf.stat().st_size < 400_000
    width, height = map(float, re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg.read_text()).groups())
    assert 72 < width < 8 * 72 and 36 < height < 10 * 72


def test_colours_are_those_of_the_page():
    script = (Path(drawing_bars.__file__).parent / "assets" / "plots.js").read_text("utf-8")
    light = re.search(r"const LIGHT = (\[[^\]]*\])", script)
    assert light is not None and tuple(json.loads(light[1])) == drawing_bars.SERIES


def read_fills(place):
    return set(re.findall(r"fill: (#[0-9a-f]{6})", place.read_text("utf-8")))


def test_a_group_has_its_colour_whichever_others_are_there_and_the_rest_is_grey(tmp_path):
    order = ("sea", "war", "time")
    for groups, own in [(("war", "none", "war"), 1), (("time", "none", "sea"), 2)]:
        figure = make_scatter(groups=groups, group_order=order, bare=True)
        (svg, *_) = draw_figures([figure], tmp_path)
        fills = read_fills(svg)
        assert drawing_bars.SERIES[own] in fills and "#8d96a0" in fills
        assert (drawing_bars.SERIES[0] in fills) == ("sea" in groups)
        # Without numbers there is nothing but the axes' names and the legend.
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text("utf-8"))
        assert texts.count("r") == 2
        assert not [text for text in texts if re.search(r"\d", text)]


@given(
    st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=30),
    st.lists(st.floats(-1, 1), min_size=1, max_size=4),
)
def test_the_axis_holds_what_is_drawn_and_ends_where_values_must(values, marks):
    pooled = np.array(values)
    first, last = choose_limits(pooled, marks, 1.0)
    assert first <= min(values) and max(values) <= last <= 1 and first <= marks[0] <= last
    spread = float(np.ptp(pooled))
    inside = [value for value in marks[1:] if not first <= value <= last]
    if not inside:
        assert last - first <= 1.1 * (max([*values, *marks]) - min([*values, *marks])) + 1.0
    for value in inside:
        # Only what would have made a needle of the draws is left at the edge.
        reach = max([*values, *marks]) - min([*values, *marks])
        assert spread < reach / 3 and value not in values


@pytest.mark.parametrize(
    ("values", "diverging", "limit", "span"),
    [
        ([[0.5, 0.52]], False, None, (0, 0.52)),
        ([[0.0, 0.0]], False, None, (0, 1)),
        ([[-0.01, 0.01]], False, None, (-0.05, 0.05)),
        ([[-0.5, 0.5]], False, None, (-0.5, 0.5)),
        ([[-0.2, 0.1]], True, None, (-0.2, 0.2)),
        ([[0.2, 0.1]], False, 0.8, (0, 0.8)),
        ([[np.nan, np.nan]], False, None, (0, 1)),
    ],
)
def test_colours_do_not_make_small_differences_large(values, diverging, limit, span):
    figure = Heatmap(
        **HEAD,
        x_label="x",
        y_label="y",
        x=("1", "2"),
        y=("1",),
        values=np.array(values),
        value_label="v",
        diverging=diverging,
        limit=limit,
    )
    assert choose_span(figure) == pytest.approx(span)


def test_axes_of_few_points_begin_at_zero_unless_a_value_is_negative():
    def make(y):
        return Lines(
            **HEAD, x_label="x", y_label="y", series=(Series(label="s", x=np.arange(len(y)), y=np.array(y)),)
        )

    assert starts_at_zero(make([0.5, np.nan])) and not starts_at_zero(make([0.5, -0.1]))
    assert not starts_at_zero(make([0.5] * 9)) and not starts_at_zero(replace(make([0.5]), series=()))
