"""The page's frame: every string is shown as text, every part is there, and tables say what records hold."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodel.report.page.assets import ASSETS, copy_assets, list_scripts, list_styles
from xmodel.report.page.records import Column, Flow, Missing, Part, Stage, Table
from xmodel.report.page.rendering import PageFacts, find_link, format_cell, mark_code, render_index

NAMES = ("overview", "pairs", "maps", "only", "steering", "layers", "alignment")
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror='x'>\"{{7*7}}&amp;"


class Page(HTMLParser):
    """What a browser would make of the page: elements, their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [own for name, own in self.elements if name == tag]


def _facts(text: str = "A ↔ B") -> PageFacts:
    return PageFacts(
        title=text, lines=[text], version="1.2.3", date="2026-01-02", downloads=[("a.csv", text)]
    )


def _parts(text: str) -> list[Part]:
    columns = (Column(text), Column("n", "count", text))
    table = Table(text, columns, ((text, 1234), (None, None)), text)
    figure = Flow(
        name="flow", title=text, caption=text, stages=(Stage(group="g", label="l", entered=2, passed=1),)
    )
    return [
        Part(
            name="overview", title=text, sentences=(text,), figures=(figure,), tables=(table,), notes=(text,)
        ),
        *(Part(name=name, title=text, missing=Missing(text, text)) for name in NAMES[1:]),
    ]


def test_every_string_is_text() -> None:
    plain, hostile = (Page(render_index(_parts(text), _facts(text))) for text in ("plain", HOSTILE))
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]
    assert not any(name.startswith("on") for _, own in hostile.elements for name in own)
    assert hostile.text.count(HOSTILE) == plain.text.count("plain") > 10


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_marked_code_says_the_same(sentence: str) -> None:
    shown = Page(str(mark_code(sentence)))
    whole = sentence.count("`") % 2 == 0
    assert shown.text == (sentence.replace("`", "") if whole else sentence)
    assert [tag for tag, _ in shown.elements] == ["code"] * (sentence.count("`") // 2 if whole else 0)


def test_every_part_has_its_entry_and_its_section() -> None:
    page = Page(render_index(_parts("x"), _facts()))
    addresses = [own["href"] for own in page.find("a")]
    assert [address for address in addresses if address in {f"#{name}" for name in NAMES}] == [
        f"#{name}" for name in NAMES
    ]
    assert [own["data-part"] for own in page.find("section")] == list(NAMES)
    absent = [own["href"] for own in page.find("a") if own.get("class") == "absent"]
    assert absent == [f"#{name}" for name in NAMES[1:]]


def test_the_explorer_has_its_hooks() -> None:
    page = Page(render_index([Part(name="pairs", title="Pairs")], _facts()))
    ids = {own.get("id") for _, own in page.elements}
    assert {"search", "rule", "least-r", "pair-count", "pairs-table", "detail", "theme", "live"} <= ids


def test_nothing_is_inline_and_nothing_is_from_elsewhere() -> None:
    page = Page(render_index(_parts("x"), _facts()))
    assert all(set(own) <= {"src", "defer"} and own["src"] for own in page.find("script"))
    sources = [own["src"] for own in page.find("script")] + [own["href"] for own in page.find("link")]
    assert all(re.match(r"(assets|data)/[\w.-]+$|data:,$", str(source)) for source in sources)
    assert not page.find("style")
    policies = [own["content"] for own in page.find("meta") if own.get("http-equiv")]
    assert len(policies) == 1 and "default-src 'none'" in str(policies[0])


def test_scripts_run_in_an_order_that_works() -> None:
    scripts = list_scripts()
    assert scripts[:2] == ["core.js", "route.js"] and scripts[-1] == "start.js"
    assert scripts.index("plots.js") < min(
        scripts.index(name) for name in scripts if name.startswith("plots_")
    )
    assert {*scripts, "theme.js"} == {place.name for place in ASSETS.glob("*.js")}
    assert len(set(scripts)) == len(scripts)
    page = Page(render_index([], _facts()))
    sources = [str(own["src"]) for own in page.find("script")]
    assert sources.index("assets/core.js") < sources.index("data/run.js") < sources.index("assets/start.js")


def test_all_that_the_page_names_is_copied(tmp_path) -> None:
    size = copy_assets(tmp_path / "assets")
    there = {place.name: place.stat().st_size for place in (tmp_path / "assets").iterdir()}
    page = Page(render_index([], _facts()))
    named = [str(own["src"]) for own in page.find("script")]
    named += [str(own["href"]) for own in page.find("link") if own["rel"] == "stylesheet"]
    wanted = {name.removeprefix("assets/") for name in named} - {"data/run.js"}
    assert wanted | {"plotly.min.js", "tabulator.min.js"} <= set(there)
    assert size == sum(there.values())
    assert list_styles()[0] == "page.css"


def test_cells_are_formatted_by_their_column() -> None:
    assert format_cell(1234567, "count") == "1,234,567"
    assert format_cell(-0.5, "r") == "\u22120.500"
    assert format_cell(1e-9, "p") == "< 0.0001"
    assert format_cell(0.05, "share") == "5.0%" and format_cell(0.5, "share") == "50%"
    assert format_cell(100.0, "value") == "100" and format_cell(0.001234, "value") == "0.00123"
    assert format_cell(None, "r") == format_cell(float("nan"), "count") == "–"
    assert format_cell("-x", "r") == "-x" and format_cell(True, "text") == "yes"


@given(st.floats(-1e300, 1e300))
def test_a_value_keeps_three_digits(value: float) -> None:
    shown = format_cell(value, "value").replace("\u2212", "-").replace(",", "")
    assert float(shown) == pytest.approx(value, rel=0.0051, abs=0)


@pytest.mark.parametrize("text", ["#a=1&b=2", "#a=1", "#b=2"])
def test_addresses_of_pairs_become_links(text: str) -> None:
    name = find_link(text)
    assert name is not None and all(digit in name for digit in re.findall(r"\d", text))


@pytest.mark.parametrize(
    "text", ["#a=1&b=2&c=3", "#a=x", "x#a=1", "#", "javascript:#a=1", "#b=1&a=2", 7, None]
)
def test_nothing_else_does(text: str | int | None) -> None:
    assert find_link(text) is None


def test_the_dark_theme_is_the_same_whether_chosen_or_the_systems():
    """The colours stand twice, since a page without scripts has only the system's choice."""
    text = (ASSETS / "page.css").read_text("utf-8")
    system, chosen = (
        dict(re.findall(r"(--[\w-]+): ([^;]+);", re.search(pattern, text, re.DOTALL)[1]))
        for pattern in (r'not\(\[data-theme="light"\]\) \{(.*?)\}', r':root\[data-theme="dark"\] \{(.*?)\}')
    )
    assert system == chosen and len(system) > 10
