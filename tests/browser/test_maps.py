"""The maps: what lights up on one side is the partner on the other, and the features of a word."""

import re
from xml.etree import ElementTree

import pytest

from tests.browser.driving import follow, read_chunk, settle
from xmodel.datasets.word_kinds import fold_word
from xmodel.pairing.results import open_run

LIT = "side => document.querySelector(`#map-${side}`).dataset.lit"


@pytest.fixture
def maps(full, open_page):
    page = open_page(full, "#maps")
    settle(page, "maps")
    for side in "ab":
        page.locator(f"#map-{side} .main-svg").first.wait_for(state="attached")
    return page


@pytest.fixture(scope="module")
def partners(full):
    """The best partner of every feature, by side."""
    frame = open_run(full.parent.parent).pairs.to_pandas()
    best_a, best_b = frame[frame.best_of_a], frame[frame.best_of_b]
    return {
        "a": dict(zip(best_a.feature_a.tolist(), best_a.feature_b.tolist(), strict=True)),
        "b": dict(zip(best_b.feature_b.tolist(), best_b.feature_a.tolist(), strict=True)),
    }


def find_points(page, side):
    """Where the points of a map are on the screen: feature, x, y; by plotly's own axes."""
    return page.evaluate(
        """async side => {
          const plot = document.querySelector(`#map-${side}`);
          const drawn = plot.querySelector('.js-plotly-plot') ?? plot;
          const { xaxis, yaxis } = drawn._fullLayout;
          const box = drawn.getBoundingClientRect();
          const data = (await xmodel.load('maps'))[side];
          return data.feature.map((feature, i) => [feature,
            box.left + xaxis._offset + xaxis.l2p(data.x[i]), box.top + yaxis._offset + yaxis.l2p(data.y[i])]);
        }""",
        side,
    )


def wait_for_lit(page, side):
    page.wait_for_function(
        "side => (document.querySelector(`#map-${side}`).dataset.lit ?? '') !== ''", arg=side
    )
    return [int(one) for one in page.evaluate(LIT, side).split(",")]


def pick_lone_point(page, side, chosen):
    """A feature whose point has no neighbour within a few pixels and is within the window."""
    page.locator(f"#map-{side}").scroll_into_view_if_needed()
    points = find_points(page, side)
    height = page.viewport_size["height"]
    for feature, x, y in points:
        if feature not in chosen or not 10 < y < height - 10:
            continue
        near = [one for one in points if abs(one[1] - x) < 14 and abs(one[2] - y) < 14]
        if len(near) == 1:
            return feature, x, y
    raise AssertionError("every point has neighbours")


@pytest.mark.parametrize(("side", "other"), ["ab", "ba"])
def test_pointing_at_a_feature_lights_its_partner(maps, partners, side, other):
    feature, x, y = pick_lone_point(maps, side, partners[side])
    maps.mouse.move(x - 2, y)
    maps.mouse.move(x, y, steps=4)
    assert wait_for_lit(maps, other) == [partners[side][feature]]
    assert str(feature) in maps.locator("#map-status").inner_text()


def test_a_click_selects_and_gives_the_address(maps, partners):
    feature, x, y = pick_lone_point(maps, "a", partners["a"])
    maps.mouse.move(x - 2, y)
    maps.mouse.click(x, y)
    maps.wait_for_function("hash => location.hash === hash", arg=f"#maps&a={feature}")
    assert partners["a"][feature] in wait_for_lit(maps, "b")


def test_the_address_selects(full, open_page, partners):
    feature = next(iter(partners["a"]))
    page = open_page(full, f"#maps&a={feature}")
    assert partners["a"][feature] in wait_for_lit(page, "b")


@pytest.mark.parametrize("how", ["select", "lasso"])
def test_dragging_lights_the_partners_of_all_inside(maps, partners, how):
    maps.locator("#map-drag").select_option(value=how)
    maps.locator("#map-a").scroll_into_view_if_needed()
    points = find_points(maps, "a")
    xs, ys = sorted(one[1] for one in points), sorted(one[2] for one in points)
    left, right = xs[len(xs) // 4], xs[3 * len(xs) // 4]
    top, bottom = ys[len(ys) // 4], ys[3 * len(ys) // 4]
    corners = (
        [(right, bottom)] if how == "select" else [(right, top), (right, bottom), (left, bottom), (left, top)]
    )
    maps.mouse.move(left, top)
    maps.mouse.down()
    for corner in corners:
        maps.mouse.move(*corner, steps=8)
    maps.mouse.up()
    lit = wait_for_lit(maps, "b")
    inside = {one[0] for one in points if left <= one[1] <= right and top <= one[2] <= bottom}
    expected = {partners["a"][one] for one in inside if one in partners["a"]}
    # Whether a point on the very edge is inside is plotly's business.
    assert len(expected) > 60 and len(lit) == 50 and len(set(lit) - expected) <= 2


def test_a_word_lights_every_feature_that_fires_on_it(full, maps):
    run = open_run(full.parent.parent)
    texts = [text.casefold() for text in run.words["text"].to_pylist()]
    word = next(text for text in texts if text.isalpha() and len(text) > 4 and 3 < texts.count(text) < 12)
    rows = [number for number, text in enumerate(texts) if text == word]
    field = maps.locator("#map-word")
    field.fill(word)
    field.press("Enter")
    maps.wait_for_function("word => document.querySelector('#map-status').innerText.includes(word)", arg=word)
    told = [
        int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", maps.locator("#map-status").inner_text())
    ]
    for side in "ab":
        firing = set(run.features(side)[rows].indices.tolist())
        assert len(firing) in told
        lit = wait_for_lit(maps, side)
        assert set(lit) <= firing and len(lit) == min(50, len(firing))
    assert f"word={word}" in maps.evaluate("decodeURIComponent(location.hash)")
    assert maps.locator("#map-list a").count() > 0


def test_an_unknown_word_is_told(maps):
    maps.locator("#map-word").fill("qqzzxxyy")
    maps.locator("#map-word").press("Enter")
    maps.wait_for_function("document.querySelector('#map-status').innerText.includes('qqzzxxyy')")
    assert not maps.evaluate(LIT, "a")


def test_colours_can_be_chosen(maps):
    choices = maps.locator("#map-color option").evaluate_all("all => all.map(one => one.value)")
    assert len(choices) >= 3
    for choice in choices:
        maps.locator("#map-color").select_option(value=choice)
        maps.wait_for_timeout(100)


def test_the_map_has_as_many_points_as_features_fire(full, maps):
    run = open_run(full.parent.parent)
    payload = read_chunk(full, "maps")
    for side in "ab":
        live = sorted(set(run.features(side).indices.tolist()))
        assert payload[side]["feature"] == live
    follow(maps, "#pairs")
    settle(maps, "pairs")


@pytest.mark.parametrize("how", ["concept", "r", "rate"])
def test_other_colours_keep_what_is_selected(maps, how):
    maps.locator("#map-a").scroll_into_view_if_needed()
    box = maps.locator("#map-a").bounding_box()
    maps.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    maps.mouse.down()
    maps.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.7 * box["height"], steps=6)
    maps.mouse.up()
    wait_for_lit(maps, "b")
    maps.mouse.move(1, 1, steps=5)
    # Plotly tells of what was pointed at a moment later.
    maps.wait_for_timeout(300)
    maps.mouse.move(2, 2)
    maps.wait_for_function("document.querySelector('#map-status').innerText.includes('selected')")
    told = maps.locator("#map-status").inner_text()
    for choice in ("rate", how):
        maps.locator("#map-color").select_option(value=choice)
        maps.wait_for_timeout(300)
    assert maps.locator("#map-status").inner_text() == told and not told.startswith("0 ")
    assert maps.locator("#map-clear").is_enabled() and maps.locator("#map-list a").count() > 0


def test_a_feature_without_a_partner_says_why(full, maps):
    payload = read_chunk(full, "maps")
    least = read_chunk(full, "run")["least_firings"]
    for side in "ab":
        own = payload[side]
        alone = [row for row, partner in enumerate(own["partner"]) if partner is None]
        for row in alone[:2]:
            follow(maps, f"#maps&{side}={own['feature'][row]}")
            few = own["discovery"][row] < least
            told = f"fires on {own['discovery'][row]} word" if few else "correlates with it above"
            maps.wait_for_function(
                "told => document.querySelector('#map-status').innerText.includes(told)", arg=told
            )


def test_words_are_folded_as_in_python(maps):
    words = [
        "Straße",
        "ΛΌΓΟΣ",
        "λόγος",
        "ſea",
        "ﬁn",
        "ﬆ",
        "ŉ",
        "İstanbul",
        "ısı",
        "Ǆ",
        "ΐ",
        "ᾳ",
        "ԵՒ",
        "և",
        "Whale’s",
    ]
    words += [chr(one) for one in range(0xC0, 0x590) if chr(one).isalpha()]
    folded = maps.evaluate("words => words.map(xmodel.foldWord)", words)
    assert folded == [fold_word(word) for word in words]


def test_a_map_is_saved_without_a_black_background(maps):
    with maps.expect_download() as download:
        maps.locator("[data-save=a]").click()
    assert download.value.suggested_filename == "map-a.svg"
    root = ElementTree.fromstring(download.value.path().read_text("utf-8"))
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert "fill-opacity: 0;" not in shape.get("style", "")
