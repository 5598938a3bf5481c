"""Searching the pairs: where words begin, words in quotes, features by number, and what is said of it."""

import re

import pytest

from tests.browser.driving import open_pair, read_chunk, settle
from tests.browser.test_explorer import count_shown, read_rows, wait_for_count
from tests.browser.watching import PHONE


@pytest.fixture(scope="module")
def listed(full):
    return read_chunk(full, "pairs/table")


@pytest.fixture(scope="module")
def words(full):
    return {side: read_chunk(full, f"features/words_{side}") for side in "ab"}


def find_rows(listed, words, fits):
    """Rows of the table of which either feature has a top word, or a concept, that fits."""
    holds = {
        side: [
            any(fits(own["words"][one].lower()) for one in top)
            or fits((own["concept"][feature] or "").lower())
            for feature, top in enumerate(own["top"])
        ]
        for side, own in words.items()
    }
    return sum(holds["a"][a] or holds["b"][b] for a, b in zip(listed["a"], listed["b"], strict=True))


def test_a_term_is_the_beginning_of_a_word_and_in_quotes_all_of_it(pairs, listed, words):
    common = {text.lower() for own in words.values() for text in own["words"]}
    tried = 0
    for text in sorted(one for one in common if one.isascii() and one.isalpha() and 1 < len(one) < 5):
        begins = re.compile(rf"(?<!\w){text}")
        inside = find_rows(listed, words, lambda own, text=text: text in own)
        prefix = find_rows(listed, words, lambda own, begins=begins: bool(begins.search(own)))
        whole = re.compile(rf"(.* )?{text}( .*)?")  # top words have no spaces, concepts may
        exact = find_rows(listed, words, lambda own, whole=whole: bool(whole.fullmatch(own)))
        if not inside > prefix > exact > 0:
            continue
        pairs.locator("#search").fill(text)
        wait_for_count(pairs, prefix)
        pairs.locator("#search").fill(f'"{text}"')
        wait_for_count(pairs, exact)
        tried += 1
        if tried == 4:
            break
    assert tried == 4


def test_what_was_found_is_marked_and_in_sight(pairs):
    pairs.locator("#search").fill("whale")
    pairs.locator("#pairs-table mark").first.wait_for()
    rows = pairs.locator("#pairs-table .tabulator-row").evaluate_all(
        """all => all.map(row => [...row.querySelectorAll('mark')].map(mark => {
          const box = mark.getBoundingClientRect();
          const around = mark.closest('.words').getBoundingClientRect();
          return [mark.textContent.toLowerCase().startsWith('whale'), box.left < around.right];
        }))"""
    )
    assert len(rows) > 3
    assert all(row and row[0] == [True, True] for row in rows)
    pairs.locator("#search").fill("")
    pairs.wait_for_function("!document.querySelector('#pairs-table mark')")


@pytest.mark.parametrize("form", ["a {a} b {b}", "a{a} b{b}", "#a={a}&b={b}", "b {b}, a {a}"])
def test_both_numbers_find_their_pair(pairs, listed, form):
    a, b = listed["a"][7], listed["b"][7]
    pairs.locator("#search").fill(form.format(a=a, b=b))
    wait_for_count(pairs, 1)
    assert [(row["a"], row["b"]) for row in read_rows(pairs)] == [(str(a), str(b))]


def test_what_takes_all_pairs_away_is_named_and_taken_back(pairs, listed):
    pairs.locator("#rule").select_option(value="optimal")
    pairs.locator("#least-r").fill("0.25")
    pairs.locator("#search").fill("zzzzqq")
    wait_for_count(pairs, 0)
    text = pairs.locator("#pairs-none").inner_text()
    assert all(part in text for part in ("zzzzqq", "optimal", "0.25"))
    pairs.locator("#clear-filters").click()
    wait_for_count(pairs, len(listed["a"]))
    assert not pairs.locator("#pairs-none").is_visible()
    assert pairs.locator("#search").input_value() == ""


def test_a_pair_that_is_filtered_out_is_said_to_be(pairs):
    open_pair(pairs, f"#a={read_rows(pairs)[2]['a']}")
    assert not pairs.locator("#outside").is_visible()
    pairs.locator("#search").fill("zzzzqq")
    pairs.locator("#outside").wait_for()
    pairs.locator("#search").press("Escape")
    pairs.locator("#outside").wait_for(state="hidden")


def test_a_pair_that_never_fires_together_on_held_out_words_is_said_to(full, open_page, listed):
    row = next(
        place
        for place, (both, n_a, n_b) in enumerate(
            zip(listed["n_ab_heldout"], listed["n_a_heldout"], listed["n_b_heldout"], strict=True)
        )
        if both == 0 and n_a and n_b
    )
    address = f"#a={listed['a'][row]}&b={listed['b'][row]}"
    page = open_page(full, address)
    open_pair(page, address)
    text = page.locator("#detail > header").inner_text()
    assert f"On held-out words a fires on {listed['n_a_heldout'][row]:,} words" in text
    assert "never fire together on held-out words" in text


def test_an_unknown_part_is_named(full, open_page):
    page = open_page(full, "#nonsense")
    settle(page, "overview")
    assert "nonsense" in page.locator("#lost").inner_text()
    page.locator('nav a[href="#pairs"]').click()
    settle(page, "pairs")
    assert not page.locator("#lost").is_visible()


@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_the_table_ends_with_a_whole_row_and_no_head_is_cut(full, open_page, size):
    page = open_page(full, "#pairs", **({"size": size} if size else {}))
    settle(page, "pairs")
    assert count_shown(page)[0] > 100
    cut, rest, held = page.locator("#pairs-table").evaluate(
        """table => {
          const titles = [...table.querySelectorAll('.tabulator-col-title')];
          const holder = table.querySelector('.tabulator-tableholder');
          const high = holder.querySelector('.tabulator-row').offsetHeight;
          const held = table.querySelector('[tabulator-field=heldout]').getBoundingClientRect();
          return [titles.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent),
            holder.clientHeight % high, held.right];
        }"""
    )
    assert not cut
    assert rest == 0
    assert held < page.viewport_size["width"]
    titles = page.locator("#pairs-table .tabulator-col").evaluate_all("all => all.map(one => one.title)")
    assert len(titles) == 9 and all(len(title) > 20 for title in titles)
