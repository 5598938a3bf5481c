"""Every part in both themes at both widths: it loads, fits, and has no serious fault of accessibility."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.driving import PARTS, draw_figures, measure_overflow, settle, visit
from tests.browser.watching import DESKTOP, PHONE

SIZES = {"desktop": DESKTOP, "phone": PHONE}


def find_violations(page):
    """What axe-core calls serious or critical, as short lines."""
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]} | {node['failureSummary'][:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_part_loads_fits_and_is_accessible(full, open_page, size, theme):
    page = open_page(full, size=SIZES[size], color_scheme=theme)
    settle(page, "overview")
    faults = {}
    for part in PARTS:
        visit(page, part)
        if part == "pairs":
            page.locator("#pairs-table [role=row]").nth(2).click()
            page.locator("#detail .context").first.wait_for()
        draw_figures(page)
        assert page.locator(f'section[data-part="{part}"] .missing').count() == 0
        assert page.locator(".failure").count() == 0
        faults[part] = measure_overflow(page) + find_violations(page)
    assert not any(faults.values()), faults


def test_the_rules_of_accessibility_are_applied(chromium, tmp_path):
    place = tmp_path / "index.html"
    place.write_text("<!doctype html><title>x</title><html lang=en><main><img src=data:,><input></main>")
    page = chromium.new_page()
    page.goto(place.as_uri())
    assert {one.split()[0] for one in find_violations(page)} >= {"image-alt", "label"}
    page.close()


def test_there_is_one_link_to_every_part_and_the_shown_one_is_marked(full, open_page):
    page = open_page(full)
    links = page.locator("nav#parts a").evaluate_all("links => links.map(one => one.hash)")
    assert links == [f"#{part}" for part in PARTS]
    for part in reversed(PARTS):
        visit(page, part)
        assert page.locator("nav [aria-current=page]").get_attribute("href") == f"#{part}"
        assert page.locator("main > section").evaluate_all(
            "all => all.filter(one => one.checkVisibility()).map(one => one.dataset.part)"
        ) == [part]


def test_figures_have_a_text_and_their_numbers(full, open_page):
    page = open_page(full)
    seen = 0
    for part in PARTS:
        visit(page, part)
        seen += draw_figures(page)
        for figure in page.locator("section.current figure[data-figure]").all():
            picture = figure.locator("[role=img]")
            caption = figure.locator("figcaption").inner_text()
            label = picture.get_attribute("aria-label")
            assert len(label) > 20 and label.split(".")[0] in caption
            figure.locator("summary").click()
            figure.locator("details table tbody tr").first.wait_for(state="attached")
            assert figure.locator("details table thead th").count() > 1
    assert seen >= 8
