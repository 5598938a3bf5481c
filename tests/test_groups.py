"""Groups, windows and last tokens on invented words and spans: equal to slow loops, whatever the spans.

The spans here come from no tokenizer, so they are worse than any: empty, overlapping, cutting characters,
beginning inside of one word and ending inside of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from unittest.mock import patch

import laws
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_aligner import WHITESPACE, Span, characters_to_bytes, mark_whitespace

from xmodel.alignment import groups as groups_module
from xmodel.alignment.align import AlignedTexts, flatten_texts
from xmodel.alignment.groups import check_policy, group_flat, map_words
from xmodel.alignment.matching import PAD
from xmodel.alignment.pooling import choose_last_tokens
from xmodel.alignment.spans import FlatSpans
from xmodel.alignment.windows import cut_windows, merge_groups
from xmodel.errors import InputError
from xmodel.records import Alignment, Certificate, Groups, Members, Straddle, TokenFlag

POLICIES = laws.POLICIES
CHARACTERS = "ab.é漢👩 \n\u3000\xa0"
EXACT = Certificate("exact")


@dataclass(frozen=True)
class Layout:
    """Texts with their words, and tokens of several models: all byte spans within their text."""

    texts: tuple[str, ...]
    words: tuple[tuple[Span, ...], ...]
    """[T]"""
    models: tuple[tuple[tuple[Span, ...], ...], ...]
    """[M][T]"""
    inner: bool
    """Whether words may have whitespace inside."""


def divide_text(text: str, cuts: Sequence[bool], *, inner: bool) -> tuple[Span, ...]:
    """Words between cuts, without whitespace at either end; a word ends at whitespace unless `inner`."""
    places = characters_to_bytes(text)
    words: list[Span] = []
    open_word: list[int] = []
    for number, (character, cut) in enumerate(zip(text, cuts, strict=True)):
        blank = character in WHITESPACE
        if open_word and (cut or (blank and not inner)):
            words.append((places[open_word[0]], places[open_word[-1] + 1]))
            open_word = []
        if not blank:
            open_word.append(number)
    if open_word:
        words.append((places[open_word[0]], places[open_word[-1] + 1]))
    return tuple(words)


@st.composite
def token_rows(draw: st.DrawFn, size: int) -> tuple[Span, ...]:
    """Neither starts nor ends decrease; half of all rows tile, the others have gaps and overlaps."""
    places = st.lists(st.integers(0, size), max_size=10).map(sorted)
    if draw(st.booleans()):
        return tuple(pairwise([0, *draw(places), size]))
    starts, ends = draw(places), draw(places)
    return tuple((start, max(start, end)) for start, end in zip(starts, ends, strict=False))


@st.composite
def layouts(draw: st.DrawFn, most_texts: int = 3) -> Layout:
    texts = draw(st.lists(st.text(CHARACTERS, max_size=14), min_size=1, max_size=most_texts))
    inner = draw(st.booleans())
    cuts = [draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text))) for text in texts]
    models = draw(st.integers(1, 4))
    return Layout(
        tuple(texts),
        tuple(divide_text(text, own, inner=inner) for text, own in zip(texts, cuts, strict=True)),
        tuple(tuple(draw(token_rows(len(text.encode()))) for text in texts) for _ in range(models)),
        inner,
    )


def place_spans(rows: Sequence[Sequence[Span]], origins: Sequence[int]) -> np.ndarray:
    """[2, n] starts and ends of all texts in the buffer."""
    placed = [
        (origin + a, origin + b) for row, origin in zip(rows, origins, strict=True) for a, b in sorted(row)
    ]
    return np.array(placed, dtype=np.int64).reshape(-1, 2).T.copy()


def align_layout(
    layout: Layout, straddle: Straddle, *, excluded: Sequence[bool] | None = None, chunks: bool = False
) -> AlignedTexts:
    """What `align_ids` makes, from words and spans that no rule and no tokenizer made.

    With `chunks`, whitespace is looked for inside of words even where there cannot be any.
    """
    flat = flatten_texts(layout.texts)
    origins = flat.starts.tolist()
    word_starts, word_ends = place_spans(layout.words, origins)
    blank = np.array([True, *(mark for text in layout.texts for mark in (*mark_whitespace(text), True))])
    size = len(flat.buffer) - PAD
    assert len(blank) in (size, size - 1)
    blank = np.concatenate([blank, np.ones(size - len(blank), dtype=np.bool_)])
    words = map_words(word_starts, word_ends, blank if layout.inner or chunks else None, size)
    spans = []
    for rows in layout.models:
        starts, ends = place_spans(rows, origins)
        ids, flags = np.zeros(len(starts), dtype=np.int64), np.zeros(len(starts), dtype=np.uint8)
        bounds = np.cumsum([0, *map(len, rows)])
        spans.append(FlatSpans(ids, starts, ends, flags, bounds, [EXACT] * len(rows)))
    left_out = None if excluded is None else np.repeat(excluded, list(map(len, layout.words)))
    if left_out is not None:
        left_out = left_out.astype(np.bool_)
    groups = group_flat(words, [(span.starts, span.ends) for span in spans], straddle, left_out)
    names = tuple(f"model {number}" for number in range(len(spans)))
    return AlignedTexts(flat, "invented", straddle, names, tuple(spans), word_starts, word_ends, groups)


def list_runs(groups: Groups) -> list[Span]:
    return list(zip(groups.first_word.tolist(), groups.last_word.tolist(), strict=True))


def list_members(members: Members) -> list[dict[int, float]]:
    rows = members.indptr.tolist()
    return [
        dict(zip(members.tokens[a:b].tolist(), members.weights[a:b].tolist(), strict=True))
        for a, b in pairwise(rows)
    ]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("straddle", POLICIES)
@given(layout=layouts(), chunks=st.booleans())
def test_groups_are_those_of_the_slow_reference(
    straddle: Straddle, compiled: bool, layout: Layout, chunks: bool
) -> None:
    kernels = groups_module.kernels if compiled else None
    with patch.object(groups_module, "kernels", kernels):
        aligned = align_layout(layout, straddle, chunks=chunks)
    assert sum(len(alignment.groups) for alignment in aligned) == len(aligned.groups.starts)
    for alignment, words in zip(aligned, layout.words, strict=True):
        assert tuple(laws.list_words(alignment)) == words
        laws.check_groups(alignment)
        laws.check_last_tokens(alignment)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("straddle", POLICIES)
@given(layout=layouts(), data=st.data())
def test_excluded_texts_have_no_groups_and_change_no_others(
    straddle: Straddle, compiled: bool, layout: Layout, data: st.DataObject
) -> None:
    count = len(layout.texts)
    excluded = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    kernels = groups_module.kernels if compiled else None
    with patch.object(groups_module, "kernels", kernels):
        aligned = align_layout(layout, straddle, excluded=excluded)
    for alignment, left_out in zip(aligned, excluded, strict=True):
        if left_out:
            assert len(alignment.groups) == 0
            assert all(len(members.tokens) == 0 for members in alignment.groups.members)
            assert all(members.indptr.tolist() == [0] for members in alignment.groups.members)
        else:
            laws.check_groups(alignment)
    for members in aligned.groups.members:
        assert len(members.indptr) == len(aligned.groups.starts) + 1
        assert members.indptr[-1] == len(members.tokens) == len(members.weights)


@pytest.mark.parametrize("straddle", POLICIES)
@given(layout=layouts(most_texts=1), data=st.data())
def test_the_order_of_tokenizers_does_not_matter(
    straddle: Straddle, layout: Layout, data: st.DataObject
) -> None:
    order = data.draw(st.sampled_from(list(permutations(range(len(layout.models))))))
    (plain,) = align_layout(layout, straddle)
    (mixed,) = align_layout(replace(layout, models=tuple(layout.models[n] for n in order)), straddle)
    assert list_runs(plain.groups) == list_runs(mixed.groups)
    for place, model in enumerate(order):
        laws.assert_same_members(mixed.groups.members[place], plain.groups.members[model])


@given(layout=layouts(most_texts=1), data=st.data())
def test_one_more_tokenizer_only_coarsens(layout: Layout, data: st.DataObject) -> None:
    fewer = replace(layout, models=layout.models[: data.draw(st.integers(1, len(layout.models)))])
    few, many = (align_layout(one, "merge")[0].groups for one in (fewer, layout))
    assert {first for first, _ in list_runs(many)} <= {first for first, _ in list_runs(few)}
    assert {last for _, last in list_runs(many)} <= {last for _, last in list_runs(few)}
    few, many = (align_layout(one, "drop")[0].groups for one in (fewer, layout))
    assert set(list_runs(many)) <= set(list_runs(few))
    few, many = (align_layout(one, "split")[0].groups for one in (fewer, layout))
    assert list_runs(many) == list_runs(few)
    for left, right in zip(few.members, many.members, strict=False):
        laws.assert_same_members(left, right)


def make_alignment(
    text: str, words: Sequence[Span], models: Sequence[Sequence[Span]], straddle: Straddle = "merge"
) -> Alignment:
    inner = any(True in mark_whitespace(text)[a:b] for a, b in words)
    layout = Layout((text,), (tuple(words),), tuple((tuple(row),) for row in models), inner)
    return align_layout(layout, straddle)[0]


# "no" "." then a quotation mark and two newlines, and "Then": the second model has one token for ."\n\n,
# the third joins the whitespace to the next word and has one token for no.
QUOTE = 'no."\n\nThen'
QUOTE_WORDS = [(0, 2), (2, 4), (6, 10)]
QUOTE_MODELS = [
    [(0, 2), (2, 3), (3, 4), (4, 6), (6, 10)],
    [(0, 2), (2, 6), (6, 10)],
    [(0, 3), (3, 5), (5, 10)],
]


def test_whitespace_joins_nothing() -> None:
    groups = make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS[:2]).groups
    assert list_runs(groups) == [(0, 0), (1, 1), (2, 2)]
    assert list_members(groups.members[1]) == [{0: 1}, {1: 1}, {2: 1}]


def test_the_three_policies_on_one_straddling_token() -> None:
    merged, shared, dropped = (
        make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS, straddle).groups for straddle in POLICIES
    )
    assert list_runs(merged) == [(0, 1), (2, 2)]
    assert merged.starts.tolist() == [0, 6] and merged.ends.tolist() == [4, 10]
    assert list_members(merged.members[0]) == [{0: 1, 1: 1, 2: 1}, {4: 1}]
    assert list_members(merged.members[2]) == [{0: 1, 1: 1}, {2: 1}]
    assert list_runs(shared) == [(0, 0), (1, 1), (2, 2)]
    assert list_members(shared.members[1]) == [{0: 1}, {1: 1}, {2: 1}]
    assert list_members(shared.members[2]) == [{0: 2 / 3}, {0: 1 / 3, 1: 1}, {2: 1}]
    assert list_runs(dropped) == [(2, 2)]
    assert list_members(dropped.members[0]) == [{4: 1}]
    assert list_members(dropped.members[1]) == [{2: 1}]


def test_whitespace_inside_of_a_word_has_no_weight() -> None:
    # "a  bc" is one word and "d" the next: of one token over all of it, three bytes to one.
    groups = make_alignment("a  bcd", [(0, 5), (5, 6)], [[(0, 6)], [(1, 3), (3, 5), (5, 6)]], "split").groups
    assert list_members(groups.members[0]) == [{0: 0.75}, {0: 0.25}]
    assert list_members(groups.members[1]) == [{1: 1}, {2: 1}]


@pytest.mark.parametrize("straddle", POLICIES)
def test_words_without_tokens_and_tokens_without_words(straddle: Straddle) -> None:
    groups = make_alignment("a b", [(0, 1), (2, 3)], [[], [(1, 1), (1, 2), (3, 3)]], straddle).groups
    assert list_runs(groups) == [(0, 0), (1, 1)]
    for members in groups.members:
        assert members.indptr.tolist() == [0, 0, 0] and len(members.tokens) == len(members.weights) == 0
    empty = make_alignment("  ", [], [[(0, 2)], []], straddle).groups
    assert len(empty) == 0 and all(members.indptr.tolist() == [0] for members in empty.members)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InputError, match=r"'join'.*merge, split, drop"):
        check_policy("join")


def tamper(groups: Groups, change: str) -> Groups:
    """A grouping that is wrong in one respect."""
    own = groups.members[0]
    rows, tokens, weights = own.indptr.copy(), own.tokens.copy(), np.array(own.weights)
    if change == "not merged":
        # The first group as if its token joined nothing.
        rows = np.concatenate([[0, 1], rows[1:]])
        first, last = np.array([0, 1, 2]), np.array([0, 1, 2])
        others = [Members(np.insert(m.indptr, 1, 1), m.tokens, m.weights) for m in groups.members[1:]]
        starts, ends = np.array([0, 2, 6]), np.array([2, 4, 10])
        members = (Members(rows, tokens, weights), *others)
        return Groups(starts, ends, first, last, members, groups.straddle)
    if change == "one group":
        rows, members = (
            rows[[0, -1]],
            [Members(m.indptr[[0, -1]], m.tokens, m.weights) for m in groups.members],
        )
        first, last = groups.first_word[:1], groups.last_word[-1:]
        return Groups(groups.starts[:1], groups.ends[-1:], first, last, tuple(members), groups.straddle)
    if change == "a token less":
        rows, tokens, weights = np.array([0, *rows[1:] - 1]), tokens[1:], weights[1:]
    if change == "another token":
        tokens[-1] -= 1
    if change == "another row":
        rows[1] += 1
    if change == "a weight":
        weights[0] = 0.5
    members = (Members(rows, tokens, weights), *groups.members[1:])
    return replace(groups, members=members, ends=groups.ends + (change == "a longer group"))


@pytest.mark.parametrize(
    "change",
    [
        "not merged",
        "one group",
        "a token less",
        "another token",
        "another row",
        "a weight",
        "a longer group",
    ],
)
def test_the_comparison_notices_a_wrong_grouping(change: str) -> None:
    alignment = make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS)
    laws.check_groups(alignment)
    with pytest.raises(AssertionError):
        laws.check_groups(replace(alignment, groups=tamper(alignment.groups, change)))


def cut_slowly(alignment: Alignment, limits: Sequence[int], most: int | None) -> tuple[list[Span], list[int]]:
    """Windows by adding one group after the other until one model has no more room; and those too long."""
    groups = merge_groups(alignment)
    reads: list[list[int]] = []  # one past the last token that a model reads for a group, or nothing new
    for model, tokens in enumerate(alignment.spans):
        reached = 0
        while reached < len(tokens) and laws.has_flag(tokens.flags[reached], TokenFlag.TEMPLATE):
            reached += 1
        own = [reached]
        for row in list_members(groups.members[model]):
            own.append(max([own[-1], *(token + 1 for token in row)]))
        reads.append(own)

    def fits(first: int, stop: int) -> bool:
        return all(own[stop] - own[first] <= limit for own, limit in zip(reads, limits, strict=True))

    windows: list[Span] = []
    oversized: list[int] = []
    begin = 0
    for group in range(len(groups)):
        alone = fits(group, group + 1)
        full = most is not None and group - begin >= most
        if begin < group and (full or not alone or not fits(begin, group + 1)):
            windows.append((begin, group))
            begin = group
        if not alone:
            oversized.append(group)
            begin = group + 1
    if begin < len(groups):
        windows.append((begin, len(groups)))
    return windows, oversized


def add_template(alignment: Alignment, before: int, after: int) -> Alignment:
    """The same with tokens without bytes put around every model's own."""
    size = len(alignment.text.encode())
    spans = []
    for tokens in alignment.spans:
        own = np.array([TokenFlag.TEMPLATE] * before + [0] * len(tokens) + [TokenFlag.TEMPLATE] * after)
        spans.append(
            replace(
                tokens,
                ids=np.zeros(len(own), dtype=np.int64),
                starts=np.concatenate([[0] * before, tokens.starts, [size] * after]).astype(np.int64),
                ends=np.concatenate([[0] * before, tokens.ends, [size] * after]).astype(np.int64),
                flags=own.astype(np.uint8),
            )
        )
    shifted = tuple(Members(m.indptr, m.tokens + before, m.weights) for m in alignment.groups.members)
    return replace(alignment, spans=tuple(spans), groups=replace(alignment.groups, members=shifted))


@given(
    layout=layouts(most_texts=1),
    straddle=st.sampled_from(POLICIES),
    limits=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    most=st.none() | st.integers(1, 4),
    template=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_windows_are_those_of_slow_greed(
    layout: Layout, straddle: Straddle, limits: list[int], most: int | None, template: tuple[int, int]
) -> None:
    alignment = add_template(align_layout(layout, straddle)[0], *template)
    limits = limits[: len(layout.models)]
    windows, groups = cut_windows(alignment, limits, most_groups=most)
    assert groups.straddle == "merge"
    laws.check_groups(replace(alignment, groups=groups))
    laws.check_windows(alignment, limits, most)
    expected, oversized = cut_slowly(alignment, limits, most)
    found = zip(windows.first_group.tolist(), windows.stop_group.tolist(), strict=True)
    assert list(found) == expected
    assert windows.oversized.tolist() == oversized
    assert windows.first_token.shape == windows.stop_token.shape == (len(expected), len(limits))


def test_windows_by_hand() -> None:
    words = [(0, 1), (2, 3), (4, 7), (8, 9)]
    models = [[(0, 1), (1, 3), (3, 5), (5, 6), (6, 7), (7, 9)], [(0, 1), (1, 3), (3, 7), (7, 9)]]
    alignment = add_template(make_alignment("a b cde f", words, models), 1, 1)
    windows, _ = cut_windows(alignment, [3, 3])
    assert windows.first_group.tolist() == [0, 2, 3] and windows.stop_group.tolist() == [2, 3, 4]
    assert windows.first_token.tolist() == [[1, 1], [3, 3], [6, 4]]
    assert windows.stop_token.tolist() == [[3, 3], [6, 4], [7, 5]]
    assert windows.oversized.tolist() == []
    windows, _ = cut_windows(alignment, [2, 2])
    assert windows.first_group.tolist() == [0, 3] and windows.stop_group.tolist() == [2, 4]
    assert windows.oversized.tolist() == [2]
    windows, _ = cut_windows(alignment, [9, 9], most_groups=3)
    assert windows.stop_group.tolist() == [3, 4]
    windows, _ = cut_windows(alignment, [6, 4])
    assert windows.stop_group.tolist() == [4], "the template takes no room"


@pytest.mark.parametrize(
    ("limits", "most", "reason"),
    [([2], None, "1 window limits came for 2"), ([2, 0], None, "of 0 came"), ([2, 2], -1, "of -1 came")],
)
def test_impossible_windows_are_refused(limits: list[int], most: int | None, reason: str) -> None:
    alignment = make_alignment("a", [(0, 1)], [[(0, 1)], [(0, 1)]])
    with pytest.raises(InputError, match=reason):
        cut_windows(alignment, limits, most_groups=most)


@pytest.mark.parametrize("straddle", POLICIES)
def test_a_failed_text_has_no_windows(straddle: Straddle) -> None:
    layout = Layout(("a b",), (((0, 1), (2, 3)),), ((((0, 1), (1, 3)),), (((0, 0),),)), inner=False)
    (alignment,) = align_layout(layout, straddle, excluded=[True])
    broken = replace(alignment.spans[1], certificate=Certificate("failed", ((0, 3),), ("unknown",), "why"))
    alignment = replace(alignment, spans=(alignment.spans[0], broken))
    windows, groups = cut_windows(alignment, [9, 9])
    assert len(windows) == len(groups) == len(windows.oversized) == 0
    assert windows.first_token.shape == windows.stop_token.shape == (0, 2)


def choose(alignment: Alignment, model: int) -> list[tuple[int, bool]]:
    tokens, past = choose_last_tokens(alignment, model)
    assert past.dtype == np.bool_
    return list(zip(tokens.tolist(), past.tolist(), strict=True))


def test_last_tokens_by_hand() -> None:
    merged = make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS[:2])
    assert choose(merged, 0) == [(0, False), (2, False), (4, False)]
    assert choose(merged, 1) == [(0, False), (1, True), (2, False)], "newlines are past the quotation mark"
    merged = make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS)
    assert choose(merged, 0) == [(2, False), (4, False)]
    assert choose(merged, 2) == [(1, True), (2, False)]
    shared = make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS, "split")
    assert choose(shared, 2) == [(0, True), (1, True), (2, False)], "the token has read the full stop, too"
    dropped = make_alignment(QUOTE, QUOTE_WORDS, QUOTE_MODELS, "drop")
    assert choose(dropped, 2) == [(2, False)]


def test_a_group_without_tokens_has_no_last_one() -> None:
    alignment = make_alignment("a b c", [(0, 1), (2, 3), (4, 5)], [[(0, 2), (4, 4), (4, 5)], [(2, 3)]])
    assert choose(alignment, 0) == [(0, True), (-1, False), (2, False)]
    assert choose(alignment, 1) == [(-1, False), (0, False), (-1, False)]
    assert choose(make_alignment("", [], [[]]), 0) == []


def test_tokens_that_share_a_segment_end_with_the_last() -> None:
    # A rewritten segment: three tokens carry all of it.
    alignment = make_alignment("½ x", [(0, 2), (3, 4)], [[(0, 2), (0, 2), (0, 2), (2, 4)]])
    assert choose(alignment, 0) == [(2, False), (3, False)]
