"""Light and dark: by the system, by the switch, after opening again; and less motion for who asks for it."""

import pytest

from tests.browser.driving import draw_figures, settle, visit

BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"


def measure_light(page):
    """Lightness of the page's ground, from 0 to 255."""
    text = page.evaluate(BACKGROUND)
    return sum(float(part) for part in text[text.index("(") + 1 : -1].split(",")[:3]) / 3


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_system_decides_until_the_switch_does(full, open_page, system):
    page = open_page(full, color_scheme=system)
    assert (measure_light(page) > 128) == (system == "light")
    page.locator("#theme").click()
    assert (measure_light(page) > 128) == (system == "dark")
    page.emulate_media(color_scheme="dark" if system == "light" else "light")
    assert (measure_light(page) > 128) == (system == "dark")
    page.locator("#theme").click()
    assert (measure_light(page) > 128) == (system == "light")


def test_the_page_follows_the_system_while_it_is_open(full, open_page):
    page = open_page(full, color_scheme="light")
    page.emulate_media(color_scheme="dark")
    assert measure_light(page) < 128


def test_figures_are_drawn_again_in_the_colours_of_the_theme(full, open_page):
    page = open_page(full, color_scheme="light")
    settle(page, "overview")
    draw_figures(page)
    text = page.locator("section.current figure .plot-canvas text").first
    before = text.evaluate("one => getComputedStyle(one).fill")
    page.locator("#theme").click()
    page.wait_for_function(
        """before => {
          const one = document.querySelector('section.current figure .plot-canvas text');
          return one && getComputedStyle(one).fill !== before;
        }""",
        arg=before,
    )


def test_the_choice_is_kept(full, open_page):
    page = open_page(full, color_scheme="light")
    settle(page, "overview")
    draw_figures(page)
    page.locator("#theme").click()
    page.reload()
    assert measure_light(page) < 128


def test_nothing_moves_for_who_wants_no_motion(full, open_page):
    page = open_page(full, reduced_motion="reduce")
    for part in ("pairs", "maps"):
        visit(page, part)
        assert (
            page.evaluate("document.getAnimations().filter(one => one.playState === 'running').length") == 0
        )
        moving = page.locator("body *").evaluate_all(
            """all => all.filter(one => {
              const style = getComputedStyle(one);
              return [style.transitionDuration, style.animationDuration].some(
                text => text.split(',').some(part => parseFloat(part) > 0.01));
            }).map(one => one.className)"""
        )
        assert not moving
