"""Texts, names of documents, labels and folders that could be taken for something else: shown, never run."""

import pytest

from tests.browser.driving import draw_figures, measure_overflow, open_pair, read_chunk, settle, visit
from tests.browser.watching import DESKTOP, PHONE
from tests.hostile_runs import HOSTILE, LABELS
from xmodel.pairing.results import open_run
from xmodel.report.page.texts import show_plain

PARTS = ("overview", "pairs", "only", "alignment")
"""Those that such a run has, which is aligned and no more."""


@pytest.fixture(scope="module")
def run(hostile):
    return open_run(hostile.parent.parent)


def find_pair(run, condition):
    """The best pair of which a feature fires on a word that meets a condition: its two numbers."""
    texts = run.words["text"].to_pylist()
    frame = run.pairs.to_pandas().query("best_of_a")
    wanted = {number for number, text in enumerate(texts) if condition(text)}
    assert wanted
    features = run.features("a")
    own = features[sorted(wanted)].max(axis=0).toarray().ravel()
    best = frame.assign(there=own[frame.feature_a]).sort_values("there", ascending=False).iloc[0]
    return int(best.feature_a), int(best.feature_b)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_part_holds_and_nothing_runs(hostile, open_page, size):
    page = open_page(hostile, size=size)
    for part in PARTS:
        visit(page, part)
        draw_figures(page)
        assert measure_overflow(page) == [], part
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script, main img, main iframe, main object, main [onerror]").count() == 0


@pytest.mark.parametrize(
    "condition",
    [
        lambda text: len(text) > 5000,
        lambda text: "\u0351" in text,
        lambda text: text in ("script", "onerror", "svg", "img"),
        lambda text: "\u200d" in text,
        lambda text: any("\u0590" <= character <= "\u06ff" for character in text),
        lambda text: any("\u4e00" <= character <= "\u9fff" for character in text),
        lambda text: "\x00" in text or "\x1b" in text or "\u202e" in text,
    ],
    ids=["long", "tower", "markup", "emoji", "rtl", "chinese", "control"],
)
def test_a_pair_on_such_words_is_shown_and_fits(hostile, run, open_page, condition):
    try:
        a, b = find_pair(run, condition)
    except AssertionError:
        # Characters that are no words stand in the gaps between them; then the markup's neighbours do.
        a, b = find_pair(run, lambda text: text in ("NUL", "Over", "red"))
    for size in (DESKTOP, PHONE):
        page = open_page(hostile, f"#a={a}&b={b}", size=size)
        open_pair(page, f"#a={a}&b={b}")
        assert measure_overflow(page) == []
        heights = page.locator("#detail .context").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert max(heights) < 3000
        assert page.evaluate("window.pwned") is None


def test_contexts_hold_the_texts_literally(hostile, run, open_page):
    a, b = find_pair(run, lambda text: text == "script")
    page = open_page(hostile, f"#a={a}&b={b}")
    open_pair(page, f"#a={a}&b={b}")
    shown = page.locator("#detail .context").all_inner_texts()
    assert any("<script>window" in one or "</script>" in one for one in shown), shown[:3]


def test_no_control_character_reaches_the_page(hostile, run, open_page):
    page = open_page(hostile, "#pairs")
    a, b = find_pair(run, lambda text: text in ("NUL", "Over", "red", "eedirrevo"))
    open_pair(page, f"#a={a}&b={b}")
    for part in PARTS:
        visit(page, part)
        text = page.evaluate("document.body.textContent")
        found = {
            hex(ord(one)) for one in text if one in "\x00\x1b\x07\x08\x7f\u202a\u202b\u202d\u202e\u2066\u2067"
        }
        assert not found, part


def test_names_of_documents_are_shown_as_they_are(hostile, open_page):
    page = open_page(hostile, "#alignment")
    settle(page, "alignment")
    options = page.locator('section[data-part="alignment"] select option').all_text_contents()
    names = [show_plain(name, most=40).rstrip("…")[:20] for name in HOSTILE]
    assert sum(any(name in option for option in options) for name in names) >= len(names) // 2, options[:30]


def test_labels_are_shown_as_they_are(hostile, open_page):
    words = read_chunk(hostile, "features/words_a")
    number = next(
        f for f, label in enumerate(words["labels"]) if label == LABELS[0] and words["firings"][f] > 9
    )
    page = open_page(hostile, f"#a={number}")
    page.locator("#detail .context").first.wait_for()
    assert LABELS[0] in page.locator("#detail").inner_text()
    page.locator("#search").fill("<img src=x onerror")
    page.locator("#pairs-table .tabulator-row").first.wait_for()
    assert LABELS[1] in page.locator("#pairs-table").inner_text()
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize(
    "address",
    [
        "#pairs&q=<img src=x onerror=window.pwned=1>",
        "#pairs&q=%3Cscript%3Ewindow.pwned=1%3C/script%3E",
        "#<img src=x onerror=window.pwned=1>",
        "#a=<img src=x onerror=window.pwned=1>&b='\"",
        "#alignment&passage=<img src=x onerror=window.pwned=1>",
        "#__proto__=1&constructor=2",
    ],
)
def test_what_stands_in_an_address_is_text(hostile, open_page, address):
    page = open_page(hostile, address)
    page.wait_for_timeout(400)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script").count() == 0
