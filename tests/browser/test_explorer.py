"""The table of pairs: searching, choosing, sorting, arrows, and addresses that lead to a pair."""

import re

import numpy as np
import pytest

from tests.browser.driving import follow, open_pair, read_chunk, settle, visit
from xmodel.pairing.results import open_run

RULES = ("best_of_a", "best_of_b", "mutual", "one_to_one", "many_to_one", "optimal")


@pytest.fixture(scope="module")
def table(full):
    """The rows of pairs.parquet that belong to a rule, as a data frame, best r first."""
    frame = open_run(full.parent.parent).pairs.to_pandas()
    frame = frame[frame[list(RULES)].any(axis=1)]
    return frame.sort_values("r", ascending=False, kind="stable", ignore_index=True)


def read_rows(page):
    """The texts of the rows that are drawn, by column title."""
    return page.locator("#pairs-table").evaluate(
        """table => [...table.querySelectorAll('.tabulator-row')].map(row => Object.fromEntries(
          [...row.querySelectorAll('.tabulator-cell')].map(cell =>
            [cell.getAttribute('tabulator-field'),
            (cell.querySelector('.id')?.innerText ?? cell.innerText).replace(/^[ab] /, '').trim()])))"""
    )


def count_shown(page):
    """The two numbers of "1,829 of 4,210 pairs"."""
    numbers = re.findall(r"[\d,]+", page.locator("#pair-count").inner_text())
    return [int(one.replace(",", "")) for one in numbers][:2]


def wait_for_count(page, number):
    page.wait_for_function(
        """number => {
          const found = document.querySelector('#pair-count').innerText.match(/[\\d,]+/);
          return found && Number(found[0].replaceAll(',', '')) === number;
        }""",
        arg=number,
    )


def read_hash(page):
    return page.evaluate("location.hash")


def test_every_pair_of_a_rule_is_in_the_table(pairs, table):
    for rule in RULES:
        pairs.locator("#rule").select_option(value=rule)
        wait_for_count(pairs, int(table[rule].sum()))


def test_only_some_rows_are_in_the_document(pairs, table):
    assert len(table) > 1000
    assert 5 < len(read_rows(pairs)) < 200


def test_a_number_finds_its_feature(pairs, table):
    one = table.iloc[200]
    pairs.locator("#rule").select_option(value="best_of_a")
    pairs.locator("#search").fill(f"a {one.feature_a}")
    own = table[table.best_of_a & (table.feature_a == one.feature_a)]
    wait_for_count(pairs, len(own))
    assert [row["a"] for row in read_rows(pairs)] == [str(one.feature_a)] * len(own)


def test_a_word_finds_the_features_that_it_is_a_top_word_of(full, pairs):
    words = {side: read_chunk(full, f"features/words_{side}") for side in "ab"}
    listed = read_chunk(full, "pairs/table")
    rules = read_chunk(full, "run")["rules"]
    word = next(text for text in words["a"]["words"] if len(text) > 5 and text.isalpha()).casefold()

    def has(side, feature):
        own = words[side]
        texts = [own["words"][one] for one in own["top"][feature]]
        begins = re.compile(rf"(?<!\w){word}")
        return any(begins.search(text.casefold()) for text in [*texts, own["concept"][feature] or ""])

    bit = 1 << rules.index("mutual")
    expected = sum(
        bool(mask & bit) and (has("a", a) or has("b", b))
        for a, b, mask in zip(listed["a"], listed["b"], listed["rules"], strict=True)
    )
    assert expected > 0
    pairs.locator("#rule").select_option(value="mutual")
    pairs.locator("#search").fill(word)
    wait_for_count(pairs, expected)


def test_a_search_without_result_says_so_and_escape_clears_it(pairs):
    before = count_shown(pairs)[0]
    pairs.locator("#search").fill("no such word anywhere")
    wait_for_count(pairs, 0)
    assert not read_rows(pairs)
    pairs.locator("#search").press("Escape")
    wait_for_count(pairs, before)


def test_sorting_by_a_column_both_ways(pairs, table):
    heading = pairs.locator("#pairs-table .tabulator-col[tabulator-field=n_ab]")
    pairs.locator("#rule").select_option(value="mutual")
    counts = np.sort(table[table.mutual].n_ab.to_numpy())
    seen = set()
    for _ in range(2):
        heading.click()
        pairs.wait_for_timeout(200)
        direction = heading.get_attribute("aria-sort")
        shown = [int(row["n_ab"].replace(",", "")) for row in read_rows(pairs)]
        ordered = counts if direction == "ascending" else counts[::-1]
        assert shown == ordered[: len(shown)].tolist()
        seen.add(direction)
    assert seen == {"ascending", "descending"}


def test_the_least_held_out_r(pairs, table):
    pairs.locator("#rule").select_option(value="mutual")
    pairs.locator("#least-r").fill("0.5")
    wait_for_count(pairs, int((table[table.mutual].r_heldout.round(4) >= 0.5).sum()))


def test_a_click_shows_the_pair_and_its_address(pairs):
    row = pairs.locator("#pairs-table .tabulator-row").nth(3)
    own = read_rows(pairs)[3]
    row.click()
    pairs.locator("#detail .context").first.wait_for()
    assert read_hash(pairs) == f"#a={own['a']}&b={own['b']}"
    assert row.get_attribute("aria-selected") == "true"
    for side in "ab":
        assert own[side] in pairs.locator(f'#detail .card[data-side="{side}"]').inner_text()


def test_arrows_go_from_pair_to_pair(pairs):
    rows = read_rows(pairs)
    pairs.locator("#pairs-table .tabulator-row").first.click()
    for place, key in ((1, "ArrowDown"), (2, "ArrowDown"), (3, "ArrowDown"), (2, "ArrowUp")):
        pairs.keyboard.press(key)
        own = rows[place]
        pairs.wait_for_function("hash => location.hash === hash", arg=f"#a={own['a']}&b={own['b']}")
        pairs.wait_for_function(
            "text => document.querySelector('#detail').innerText.includes(text)", arg=f"b {own['b']}"
        )


def test_keys_reach_the_search_and_the_pair(pairs):
    pairs.keyboard.press("/")
    assert pairs.evaluate("document.activeElement.id") == "search"
    pairs.keyboard.press("ArrowDown")
    pairs.locator("#detail .context").first.wait_for()
    pairs.keyboard.press("Enter")
    pairs.wait_for_function("document.querySelector('#detail').contains(document.activeElement)")


def test_the_address_of_a_feature_opens_its_best_pair(full, open_page, table):
    own = table[table.best_of_b].iloc[40]
    page = open_page(full, f"#b={own.feature_b}")
    page.locator("#detail .context").first.wait_for()
    for side in "ab":
        text = page.locator(f'#detail .card[data-side="{side}"]').inner_text()
        assert str(own[f"feature_{side}"]) in text


def test_the_address_of_a_pair_that_is_in_no_rule_shows_both(full, open_page, table):
    a, b = int(table.feature_a[0]), int(table.feature_b[len(table) // 2])
    assert not ((table.feature_a == a) & (table.feature_b == b)).any()
    page = open_page(full, f"#a={a}&b={b}")
    page.locator("#detail .context").first.wait_for()
    text = page.locator("#detail").inner_text()
    assert f"a {a}" in text and f"b {b}" in text


@pytest.mark.parametrize(
    "address", ["#a=999999", "#b=-1", "#a=x", "#a=1.5&b=2", "#a=%", "#nowhere", "#=&=&&"]
)
def test_an_address_that_means_nothing_gives_a_message_or_the_first_part(full, open_page, address):
    page = open_page(full, address)
    if address[1] in "ab" and "=" in address:
        page.wait_for_function("document.querySelector('#detail').innerText.length > 10")
        assert page.locator("#detail .context").count() == 0
    else:
        settle(page, "overview")


def test_back_and_forward(pairs):
    first, second = read_rows(pairs)[1], read_rows(pairs)[4]
    for own in (first, second):
        open_pair(pairs, f"#a={own['a']}&b={own['b']}")
    visit(pairs, "steering")
    pairs.go_back()
    for own, go in ((second, pairs.go_back), (first, pairs.go_forward), (second, pairs.go_forward)):
        settle(pairs, "pairs")
        pairs.wait_for_function(
            "text => document.querySelector('#detail').innerText.includes(text)", arg=f"a {own['a']}"
        )
        go()
    settle(pairs, "steering")


def test_the_search_is_in_the_address(full, open_page, pairs):
    pairs.locator("#search").fill("king")
    pairs.wait_for_function("location.hash.includes('q=king')")
    shown = count_shown(pairs)[0]
    again = open_page(full, read_hash(pairs))
    settle(again, "pairs")
    assert again.locator("#search").input_value() == "king"
    wait_for_count(again, shown)


def test_another_search_goes_on_from_any_pair(pairs):
    follow(pairs, f"#a={read_rows(pairs)[0]['a']}")
    settle(pairs, "pairs")
    pairs.locator("#search").fill("zzzzqq")
    wait_for_count(pairs, 0)


def test_a_link_is_followed_although_an_address_was_about_to_be_written(pairs):
    pairs.locator("#pairs-table .tabulator-row").nth(2).click()
    # Until its event comes, whoever wrote the address would undo the link.
    pairs.evaluate(
        """() => {
          document.querySelector('nav a[href="#steering"]').click();
          xmodel.go({ part: 'pairs', q: 'late' }, { replace: true, quiet: true });
        }"""
    )
    settle(pairs, "steering")
