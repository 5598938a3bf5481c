"""Chromium, and the reports that it opens.

Without a browser these tests are left out with a reason; with XMODEL_REQUIRE_BROWSER=1 that is a failure.
"""

import os
from pathlib import Path

import pytest

from tests.browser.chromium import NAMES, find_browser, start_browser
from tests.browser.driving import settle
from tests.browser.watching import open_pages

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    """The browser, started once per session."""
    program = find_browser()
    if program is None:
        missing = f"no browser: none of {', '.join(NAMES)} is on the path (or set XMODEL_CHROMIUM)"
        if os.environ.get("XMODEL_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with start_browser(program) as browser:
        yield browser


@pytest.fixture
def open_page(chromium):
    """Opens a file in a fresh window, see `Pages.open`; whatever goes wrong there fails the test."""
    with open_pages(chromium) as pages:
        yield pages.open


@pytest.fixture(scope="session")
def full(chromium, tmp_path_factory):
    """The page of a run with every stage, made once for all workers: the path of its index.html."""
    from tests.browser.reports import make_once, write_full_report

    return make_once(tmp_path_factory, "full", write_full_report)


@pytest.fixture(scope="session")
def hostile(chromium, tmp_path_factory):
    """The page of a run on hostile texts, in a folder with a hostile name; it lacks every later stage."""
    from tests.browser.reports import make_once, write_hostile_report

    return make_once(tmp_path_factory, "hostile", write_hostile_report)


@pytest.fixture
def pairs(full, open_page):
    """The table of that page's pairs."""
    page = open_page(full, "#pairs")
    settle(page, "pairs")
    return page
