"""The browser that is on this machine, for the tests, the benchmark and the pictures."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser() -> str | None:
    """The browser's program: $XMODEL_CHROMIUM, or the first that is on the path; None where there is none."""
    return os.environ.get("XMODEL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def start_browser(program: str, *flags: str) -> "Iterator[Browser]":
    """The browser without a window, driven by playwright; closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()
