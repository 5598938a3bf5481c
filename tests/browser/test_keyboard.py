"""The page without a pointer: everything is reached in a sensible order, and what has the focus is seen."""

from tests.browser.driving import PARTS, settle, visit

FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const style = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  const inside = ['pairs-table', 'detail'].find(id => document.getElementById(id)?.contains(one)) ?? '';
  return {
    id: one.id, tag: one.tagName, kind: one.className, hash: one.hash ?? '', inside,
    part: one.closest('section')?.dataset.part ?? '', footer: Boolean(one.closest('footer')),
    ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none',
    seen: one.checkVisibility() && box.bottom > 0 && box.top < innerHeight,
  };
}"""


def walk(page, steps):
    """What has the focus after every press of the tabulator key."""
    found = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        now = page.evaluate(FOCUSED)
        if now is None:
            break
        found.append(now)
    return found


def test_the_way_through_the_explorer(full, open_page):
    page = open_page(full, "#pairs")
    settle(page, "pairs")
    page.locator("#pairs-table .tabulator-row").first.wait_for()
    found = walk(page, 40)
    ids = [one["id"] for one in found]
    order = [ids.index(name) for name in ("skip", "theme", "search", "rule", "least-r")]
    table = next(place for place, one in enumerate(found) if one["inside"] == "pairs-table")
    assert order == sorted(order) and order[-1] < table
    assert [one["hash"] for one in found if one["hash"]][1 : 1 + len(PARTS)] == [f"#{part}" for part in PARTS]
    assert all(one["ring"] for one in found), [one for one in found if not one["ring"]]
    assert all(one["seen"] for one in found), [one for one in found if not one["seen"]]


def test_a_pair_is_opened_and_read_without_a_pointer(full, open_page):
    page = open_page(full, "#pairs")
    settle(page, "pairs")
    page.keyboard.press("/")
    page.keyboard.type("the")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        """() => {
          const chosen = document.querySelector('#pairs-table [aria-selected=true] .id')?.innerText;
          const title = document.querySelector('#detail h3')?.innerText ?? '';
          return chosen && title.startsWith(`${chosen} `) && document.querySelector('#detail .context');
        }"""
    )
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#detail').contains(document.activeElement)")
    words = 0
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('word')"):
            words += 1
            # Also where the word had to be scrolled to.
            page.wait_for_timeout(150)
            page.locator("#tooltip").wait_for()
    assert words > 5
    page.locator("#detail .word.peak").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.classList.contains('word')")
    assert page.locator("#tooltip").is_visible()


def test_the_skip_link_leads_past_the_menu(full, open_page):
    page = open_page(full)
    settle(page, "overview")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'main' || document.activeElement.closest('main')")


def test_no_part_is_a_trap(full, open_page):
    page = open_page(full)
    for part in PARTS:
        visit(page, part)
        page.locator("#theme").focus()
        found = walk(page, 400)
        assert any(one["part"] == part for one in found) or part == "overview"
        assert any(one["footer"] for one in found), (part, found[-2:])
