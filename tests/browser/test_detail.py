"""Both features side by side: what the page shows of them is what the run says."""

import pytest

from tests.browser.driving import open_pair, read_chunk, settle
from xmodel.pairing.firings import look_up_activations, survey_features
from xmodel.pairing.results import open_run

SHOWN = """side => [...document.querySelectorAll('#detail .context')].map(context =>
  [...context.querySelectorAll(`[data-side="${side}"] .word`)].map(word => ({
    text: word.textContent, on: word.classList.contains('on'), peak: word.classList.contains('peak'),
    level: parseFloat(word.style.getPropertyValue('--level')) || 0 })))"""


@pytest.fixture(scope="module")
def run(full):
    return open_run(full.parent.parent)


@pytest.fixture
def pair(full, run, open_page):
    """The page with a pair open, not the very best, and the numbers of its features."""
    mutual = run.pairs.to_pandas().query("mutual and n_a > 20").iloc[5]
    a, b = int(mutual.feature_a), int(mutual.feature_b)
    page = open_page(full, f"#a={a}&b={b}")
    open_pair(page, f"#a={a}&b={b}")
    return page, {"a": a, "b": b}, mutual


def find_windows(run, shown):
    """For every context the ids of its words: the place in the run's words where its words stand."""
    words = run.words.to_pandas()
    texts, places = words.text.tolist(), {}
    for number, text in enumerate(texts):
        places.setdefault(text, []).append(number)
    windows = []
    for context in shown:
        own = [word["text"] for word in context]
        starts = [at for at in places.get(own[0], []) if texts[at : at + len(own)] == own]
        windows.append([list(range(at, at + len(own))) for at in starts])
    return windows


def test_every_word_of_every_context_is_shaded_by_its_activation(pair, run):
    page, features, _ = pair
    for side, feature in features.items():
        shown = page.evaluate(SHOWN, side)
        assert len(shown) >= 5
        maximum = abs(survey_features(run, side, [feature])[feature].maximum)
        checked = 0
        for context, candidates in zip(shown, find_windows(run, shown), strict=True):
            assert candidates, [word["text"] for word in context]
            levels = [[word["on"] for word in context]]
            values = [look_up_activations(run, side, feature, ids) for ids in candidates]
            fitting = [own for own in values if [value != 0 for value in own] == levels[0]]
            assert fitting
            expected = [0.12 + 0.88 * min(1, abs(value) / maximum) if value else 0 for value in fitting[0]]
            assert [word["level"] for word in context] == pytest.approx(expected, abs=0.006)
            checked += sum(word["on"] for word in context)
        assert checked > 5


def test_the_contexts_of_a_feature_begin_where_it_fires_most(pair, run):
    page, features, _ = pair
    strongest = survey_features(run, "a", [features["a"]], places=1)[features["a"]].places[0]
    peak = next(word for word in page.evaluate(SHOWN, "a")[0] if word["peak"])
    assert peak["text"] == run.words["text"][strongest[0]].as_py()
    assert peak["level"] == pytest.approx(1, abs=0.006)


def test_both_sides_show_the_same_words(pair):
    page, _, _ = pair
    first, second = page.evaluate(SHOWN, "a"), page.evaluate(SHOWN, "b")
    assert [[word["text"] for word in one] for one in first] == [
        [word["text"] for word in one] for one in second
    ]
    assert len(first) <= 20
    assert all(sum(word["peak"] for word in one) == 1 for one in first)


def test_the_numbers_of_the_pair_are_those_of_the_run(pair, run):
    page, features, row = pair
    text = page.locator("#detail").inner_text()
    assert f"{row.r:.3f}" in text and f"{row.r_heldout:.3f}" in text
    assert f"{row.n_ab:,}" in text
    for side, feature in features.items():
        survey = survey_features(run, side, [feature])[feature]
        card = page.locator(f'#detail .card[data-side="{side}"]').inner_text()
        assert f"{survey.firings:,}" in card
        assert all(word in card for word in survey.words if word.isalpha())


def test_a_word_tells_both_activations_by_pointer_and_by_key(pair):
    page, features, _ = pair
    word = page.locator('#detail .context [data-side="a"] .word.peak').first
    word.scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    word.hover()
    tooltip = page.locator("#tooltip")
    tooltip.wait_for()
    told = tooltip.inner_text()
    assert f"a {features['a']}" in told and f"b {features['b']}" in told
    page.mouse.move(5, 5)
    tooltip.wait_for(state="hidden")
    word.focus()
    tooltip.wait_for()
    assert tooltip.inner_text() == told
    page.keyboard.press("Escape")
    tooltip.wait_for(state="hidden")


def test_runners_up_lead_to_their_own_pages(pair):
    page, features, _ = pair
    links = page.locator('#detail a[href^="#a="], #detail a[href^="#b="]')
    assert links.count() > 2
    target = next(
        link
        for link in links.evaluate_all("all => all.map(one => one.getAttribute('href'))")
        if link != f"#a={features['a']}&b={features['b']}"
    )
    page.locator(f'#detail a[href="{target}"]').first.click()
    settle(page, "pairs")
    page.wait_for_function("hash => location.hash === hash", arg=target)
    page.locator("#detail .context").first.wait_for()
    assert page.locator(".failure").count() == 0


def test_the_scatter_says_how_many_words_it_shows(pair, full):
    page, features, _ = pair
    listed = read_chunk(full, "pairs/table")
    number = next(
        place
        for place, own in enumerate(zip(listed["a"], listed["b"], strict=True))
        if own == (features["a"], features["b"])
    )
    sample = read_chunk(full, f"pairs/{number // 64:04d}")[number % 64]["scatter"]
    figure = page.locator("#activations")
    figure.scroll_into_view_if_needed()
    figure.locator(".main-svg").first.wait_for(state="attached")
    text = page.locator("#detail").inner_text()
    assert f"{sample['both'] + sample['only_a'] + sample['only_b']:,}" in text
