"""Pages under watch: whatever a browser complains about, and every request, is written down."""

import contextlib
from dataclasses import dataclass, field

DESKTOP = (1280, 900)
PHONE = (390, 844)
NOISE = ("GL Driver Message",)
"""What the browser says of this machine's graphics, and not of the page."""


@dataclass
class Pages:
    """The windows of one test."""

    browser: object
    faults: list[str] = field(default_factory=list)
    """What went wrong, of all windows."""
    expected: list[str] = field(default_factory=list)
    """Parts of complaints that the test is about."""
    contexts: list[object] = field(default_factory=list)

    def open(self, path, address="", *, size=DESKTOP, expect=(), **options):
        """Open a file from disk in a fresh window.

        Args:
            path: of the page.
            address: what stands behind it, with its ``#``.
            size: width and height of the window, in CSS pixels.
            expect: parts of complaints that are no fault here.
            options: of playwright's contexts: ``color_scheme``, ``java_script_enabled``, ``reduced_motion``.
        """
        self.expected += expect
        context = self.browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        page = context.new_page()
        folder = path.resolve().parent.as_uri() + "/"
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("dialog", lambda dialog: (self._note(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._check(request.url, folder))
        page.on("requestfailed", lambda request: self._note(f"not loaded: {request.url} {request.failure}"))
        page.on("popup", lambda popup: self._note(f"window opened: {popup.url}"))
        page.goto(path.resolve().as_uri() + address, wait_until="load")
        return page

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self._note(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _check(self, url, folder):
        if not url.startswith((folder, "data:", "blob:")):
            self._note(f"request: {url}")

    def _note(self, fault):
        if not any(part in fault for part in (*NOISE, *self.expected)):
            self.faults.append(fault)

    def close(self):
        """Close every window."""
        for context in self.contexts:
            context.close()


@contextlib.contextmanager
def open_pages(browser):
    """Windows to open pages in; at the end there must have been no fault.

    Raises:
        AssertionError: with all faults.
    """
    pages = Pages(browser)
    try:
        yield pages
    finally:
        pages.close()
    assert not pages.faults, "\n".join(pages.faults)
