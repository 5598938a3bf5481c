"""What a reader does in the page, and how a test knows that the page has done its part."""

import json

PARTS = ("overview", "pairs", "maps", "only", "steering", "layers", "alignment")


def settle(page, part):
    """Wait until a part is the one that is shown, and has nothing left to load."""
    page.wait_for_function(
        """part => {
          const section = document.querySelector(`section[data-part="${part}"].current`);
          const pending = '[aria-busy="true"]:not(.plot-canvas), .loading';
          return section && ![...section.querySelectorAll(pending)].some(one => one.checkVisibility());
        }""",
        arg=part,
    )


def visit(page, part):
    """Go to a part by its link."""
    page.locator(f'nav a[href="#{part}"]').click()
    settle(page, part)


def follow(page, address):
    """Go to an address in the page, as if it were typed."""
    page.evaluate("address => { location.hash = address; }", address)


def draw_figures(page):
    """Scroll through the part that is shown, until every figure is drawn; returns how many there are."""
    figures = page.locator("section.current figure[data-figure]")
    for place in range(figures.count()):
        figure = figures.nth(place)
        figure.scroll_into_view_if_needed()
        figure.locator(".plot-canvas .main-svg, .failure").first.wait_for(state="attached")
    page.evaluate("scrollTo(0, 0)")
    return figures.count()


def measure_overflow(page):
    """Pixels by which the page is wider than its window, and what sticks out."""
    return page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          const over = document.documentElement.scrollWidth - width;
          if (over <= 0) return [];
          const wide = [...document.querySelectorAll('body *')].filter(one =>
            one.checkVisibility() && one.getBoundingClientRect().right > width + 1);
          return [over, ...wide.slice(0, 5).map(one => `${one.tagName}.${one.className}#${one.id}`)];
        }"""
    )


def open_pair(page, address="#pairs"):
    """Go to a pair and wait for its contexts."""
    follow(page, address)
    settle(page, "pairs")
    page.locator("#detail .context").first.wait_for()


def read_chunk(index, name):
    """The payload of a chunk, read from its file."""
    text = (index.parent / "data" / f"{name}.js").read_text("ascii")
    return json.loads(text[text.index("(") + 1 : text.rindex(")")].split(",", 1)[1])
