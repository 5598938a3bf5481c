"""The watch itself: what must never pass unnoticed is noticed."""

import pytest

from tests.browser.watching import open_pages

POLICY = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'self'\">"
FAULTS = {
    "an inline script against the policy": (f"{POLICY}<script>1</script>", "Content Security Policy"),
    "a handler against the policy": (f"{POLICY}<img src=x onerror=1>", "Content Security Policy"),
    "an error": ("<script>nothing.there</script>", "nothing is not defined"),
    "a rejected promise": ("<script>Promise.reject(new Error('late'))</script>", "late"),
    "a warning": ("<script>console.warn('beware')</script>", "beware"),
    "an address elsewhere": ("<img src='http://127.0.0.1:9/x.png'>", "request: http://127.0.0.1:9"),
    "a file elsewhere": ("<script src='../elsewhere.js'></script>", "elsewhere.js"),
    "a missing file": ("<script src='missing.js'></script>", "missing.js"),
    "a dialog": ("<script>alert('hello')</script>", "dialog: hello"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_noticed(chromium, tmp_path, name):
    content, expected = FAULTS[name]
    page = tmp_path / "page" / "index.html"
    page.parent.mkdir()
    page.write_text(f"<!doctype html><title>x</title>{content}")
    with pytest.raises(AssertionError, match=expected), open_pages(chromium) as pages:
        pages.open(page).wait_for_timeout(100)


def test_a_page_without_fault_passes(open_page, tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<!doctype html><title>fine</title><link rel=icon href=data:,><p>Nothing here.")
    assert open_page(page).title() == "fine"
