"""The folder as a whole: moved, with odd names, with files missing, without scripts, without stages."""

import shutil

import pytest

from tests.browser.driving import follow, open_pair, settle, visit
from tests.browser.reports import ODD

LATER = {"steering": "xmodel steer", "layers": "xmodel sweep"}


@pytest.fixture
def copied(full, tmp_path):
    return shutil.copytree(full.parent, tmp_path / "report") / "index.html"


@pytest.mark.parametrize("name", [ODD, "C:\\reports? (1)", "عربي ‏ and \u00a0"])
def test_the_folder_works_wherever_it_is_moved(full, open_page, tmp_path, name):
    place = shutil.copytree(full.parent, tmp_path / name / "report")
    page = open_page(place / "index.html", "#pairs")
    settle(page, "pairs")
    page.locator("#pairs-table .tabulator-row").first.click()
    page.locator("#detail .context").first.wait_for()
    page.reload()
    page.locator("#detail .context").first.wait_for()


@pytest.mark.parametrize("missing", ["pairs", "features", "text"])
def test_a_chunk_that_is_missing_is_told_in_the_page(copied, open_page, missing):
    for place in (copied.parent / "data" / missing).glob("*.js"):
        if place.stem not in ("table", "words_a", "words_b"):
            place.unlink()
    page = open_page(copied, "#pairs", expect=("not loaded", "ERR_FILE_NOT_FOUND", "cannot be read"))
    settle(page, "pairs")
    page.locator("#pairs-table .tabulator-row").first.click()
    page.locator("#detail .failure").first.wait_for()
    assert f"data/{missing}" in page.locator("#detail .failure").first.inner_text()


def test_a_missing_table_of_pairs_leaves_the_other_parts(copied, open_page):
    (copied.parent / "data" / "pairs" / "table.js").unlink()
    page = open_page(copied, "#pairs", expect=("not loaded", "ERR_FILE_NOT_FOUND", "cannot be read"))
    page.locator('section[data-part="pairs"] .failure').first.wait_for()
    visit(page, "overview")
    assert page.locator("section.current .sentence").count() > 2


def test_without_its_first_chunk_the_page_says_so(copied, open_page):
    (copied.parent / "data" / "run.js").unlink()
    page = open_page(copied, expect=("not loaded", "ERR_FILE_NOT_FOUND"))
    assert "data/run.js" in page.locator(".failure").inner_text()
    assert page.locator("#overview .sentence").first.is_visible()


def test_a_chunk_that_is_damaged_is_told(copied, open_page):
    for place in (copied.parent / "data" / "pairs").glob("0*.js"):
        place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    page = open_page(copied, "#pairs", expect=("Unexpected end", "unexpected token", "damaged"))
    settle(page, "pairs")
    page.locator("#pairs-table .tabulator-row").first.click()
    page.locator("#detail .failure").first.wait_for()


def test_without_scripts_sentences_and_tables_are_readable(full, open_page):
    page = open_page(full, java_script_enabled=False)
    assert page.locator("noscript").inner_text()
    for part in ("overview", "steering"):
        assert page.locator(f"#{part} .sentence").first.is_visible()
    assert page.locator("#overview table").first.is_visible()
    # Every part stands on the page, and its link leads there.
    page.locator('nav a[href="#steering"]').click()
    assert page.locator("#steering h2").evaluate("one => one.getBoundingClientRect().top") < 900


def test_what_a_run_lacks_is_named_with_its_command(hostile, open_page):
    page = open_page(hostile)
    for part, command in LATER.items():
        visit(page, part)
        missing = page.locator("section.current .missing")
        assert command in missing.locator("code").inner_text()
        assert len(missing.locator("p").first.inner_text()) > 20
    visit(page, "overview")
    assert "xmodel score" in page.locator("section.current").inner_text()


def test_pairs_that_are_looked_at_one_after_another_do_not_pile_up(full, open_page):
    page = open_page(full, "#pairs")
    settle(page, "pairs")
    before = page.locator("script").count()
    for number in range(0, 1500, 64):
        follow(page, f"#a={number}")
    open_pair(page, "#a=1")
    # Those of chunks that are still on their way go too.
    page.wait_for_function("most => document.scripts.length <= most", arg=before + 3)
