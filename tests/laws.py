"""The laws of the alignment, as plain functions that raise AssertionError; test_laws.py tries them."""

from collections.abc import Sequence

import numpy as np
from reference_aligner import Span, characters_to_bytes, group_words, label_bytes, mark_whitespace

from xmodel.alignment.align import AlignedTexts, align_ids, align_text, align_texts
from xmodel.alignment.pooling import choose_last_tokens
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.alignment.windows import cut_windows
from xmodel.datasets.words import split_words
from xmodel.records import Alignment, Members, Straddle, TokenFlag, TokenSpans

POLICIES: tuple[Straddle, ...] = ("merge", "split", "drop")


def list_spans(tokens: TokenSpans) -> list[Span]:
    return list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True))


def list_words(alignment: Alignment) -> list[Span]:
    return list(zip(alignment.words.starts.tolist(), alignment.words.ends.tolist(), strict=True))


def has_flag(flags: int, flag: TokenFlag) -> bool:
    return int(flags) & int(flag) != 0


def overlaps(span: Span, ranges: Sequence[Span]) -> bool:
    return any(low < span[1] and span[0] < high for low, high in ranges)


def assert_same_tokens(left: TokenSpans, right: TokenSpans, note: object = "") -> None:
    """Ids, spans, flags and certificate are all equal."""
    assert left.ids.tolist() == right.ids.tolist(), note
    assert list_spans(left) == list_spans(right), note
    assert left.flags.tolist() == right.flags.tolist(), note
    assert left.certificate == right.certificate, note


def assert_same_members(left: Members, right: Members, note: object = "") -> None:
    assert left.indptr.tolist() == right.indptr.tolist(), note
    assert left.tokens.tolist() == right.tokens.tolist(), note
    assert left.weights.tolist() == right.weights.tolist(), note


def check_form(text: str, tokens: TokenSpans) -> None:
    """Spans and ranges are what the records promise, and a tokenizer's own ids never fail."""
    size = len(text.encode())
    certificate = tokens.certificate
    assert certificate.status != "failed", certificate.reason
    assert len(tokens.ids) == len(tokens.starts) == len(tokens.ends) == len(tokens.flags)
    spans = list_spans(tokens)
    assert all(0 <= start <= end <= size for start, end in spans), spans
    assert np.all(np.diff(tokens.starts) >= 0), spans
    edges = [edge for bounds in certificate.ranges for edge in bounds]
    assert edges == sorted(edges) and all(low < high <= size for low, high in certificate.ranges)
    kinds = set(certificate.kinds)
    assert len(certificate.kinds) == len(certificate.ranges)
    expected = "exact" if not kinds else "ambiguous" if kinds & {"unknown", "ambiguous"} else "normalized"
    assert certificate.status == expected, certificate
    boundaries = set(characters_to_bytes(text))
    assert boundaries.issuperset(edges), "a range cuts a character"


def check_spelling(text: str, tokens: TokenSpans, tokenizer: Tokenizer) -> None:
    """1. Outside of what was rewritten or is unknown, a token's bytes are the text's bytes of its span."""
    data = text.encode()
    boundaries = set(characters_to_bytes(text))
    ranges = tokens.certificate.ranges
    hard = [
        span
        for span, kind in zip(ranges, tokens.certificate.kinds, strict=True)
        if kind in ("rewritten", "unknown")
    ]
    for token, (start, end), flags in zip(tokens.ids, list_spans(tokens), tokens.flags, strict=True):
        note = (text, tokenizer.token_name(int(token)), (start, end))
        if has_flag(flags, TokenFlag.TEMPLATE):
            assert start == end, note
            continue
        assert has_flag(flags, TokenFlag.REWRITTEN | TokenFlag.UNKNOWN) == overlaps((start, end), hard), note
        if overlaps((start, end), ranges):
            continue
        spelled = tokenizer.describe_id(int(token))
        if has_flag(flags, TokenFlag.PREFIX):
            # SentencePiece's treat_whitespace_as_suffix puts that space after the text.
            assert spelled[:1] == b" " or (spelled[-1:] == b" " and end == len(data)), note
            spelled = spelled[1:] if spelled[:1] == b" " else spelled[:-1]
        else:
            assert start < end, note
        assert spelled == data[start:end], (note, spelled, data[start:end])
        partial = not {start, end} <= boundaries
        assert has_flag(flags, TokenFlag.PARTIAL) == partial, note


def check_words(alignment: Alignment) -> None:
    """2, 4. Words hold every non-whitespace byte once, and come from the text; groups hold all words."""
    data = alignment.text.encode()
    blank = mark_whitespace(alignment.text)
    words = list_words(alignment)
    labels = label_bytes(alignment.text, words)
    assert [label is None for label in labels] == blank, "a non-whitespace byte is in no word"
    assert all(start < end and not blank[start] and not blank[end - 1] for start, end in words)
    assert words == sorted(words)
    assert words == list_words_of_text(alignment.text)
    groups = alignment.groups
    runs = list(zip(groups.first_word.tolist(), groups.last_word.tolist(), strict=True))
    if groups.straddle != "drop":
        assert [word for first, last in runs for word in range(first, last + 1)] == list(range(len(words)))
    for (first, last), start, end in zip(runs, groups.starts.tolist(), groups.ends.tolist(), strict=True):
        assert (start, end) == (words[first][0], words[last][1])
    assert len(data) == len(blank)


def list_words_of_text(text: str) -> list[Span]:
    words = split_words(text)
    return list(zip(words.starts.tolist(), words.ends.tolist(), strict=True))


def check_accounting(text: str, tokens: TokenSpans, *, tiles: bool) -> None:
    """3. Every non-whitespace byte is in exactly one: own span, rewritten segment, deleted, unknown."""
    blank = mark_whitespace(text)
    cover: list[list[int]] = [[] for _ in blank]
    spans = list_spans(tokens)
    for number, (start, end) in enumerate(spans):
        for place in range(start, end):
            cover[place].append(number)
    kinds: list[str] = ["own"] * len(blank)
    bounds: list[Span] = [(0, 0)] * len(blank)
    for (low, high), kind in zip(tokens.certificate.ranges, tokens.certificate.kinds, strict=True):
        for place in range(low, high):
            kinds[place], bounds[place] = kind, (low, high)
    for place, owners in enumerate(cover):
        note = (place, kinds[place], bounds[place], [spans[owner] for owner in owners])
        if kinds[place] in ("own", "ambiguous"):
            assert len(owners) <= 1, note
            assert owners or (blank[place] and not tiles), note
            assert not any(has_flag(tokens.flags[owner], TokenFlag.UNKNOWN) for owner in owners), note
        elif kinds[place] == "rewritten":
            assert owners or blank[place], note
            for owner in owners:
                assert spans[owner][0] <= bounds[place][0] and bounds[place][1] <= spans[owner][1], note
                assert has_flag(tokens.flags[owner], TokenFlag.REWRITTEN | TokenFlag.UNKNOWN), note
        elif kinds[place] == "unknown":
            known = [owner for owner in owners if not has_flag(tokens.flags[owner], TokenFlag.UNKNOWN)]
            assert len(owners) > len(known), note
            assert all(has_flag(tokens.flags[owner], TokenFlag.REWRITTEN) for owner in known), note
        else:
            assert len(owners) <= 1 or all(
                has_flag(tokens.flags[owner], TokenFlag.REWRITTEN) for owner in owners
            ), note
    for number, (start, end) in enumerate(spans):
        if start < end:
            assert kinds[start] != "deleted" and kinds[end - 1] != "deleted", (number, start, end)


def check_groups(alignment: Alignment) -> None:
    """5, 7. Groups, members and weights are the reference's; weights of one token sum to 1."""
    models = [list_spans(tokens) for tokens in alignment.spans]
    groups = alignment.groups
    expected = group_words(alignment.text, list_words(alignment), models, groups.straddle)
    found = list(zip(groups.first_word, groups.last_word, groups.starts, groups.ends, strict=True))
    assert found == [(g.first_word, g.last_word, g.start, g.end) for g in expected]
    blank = mark_whitespace(alignment.text)
    for model, members in enumerate(groups.members):
        rows = members.indptr.tolist()
        assert rows[0] == 0 and rows[-1] == len(members.tokens) == len(members.weights)
        sums: dict[int, float] = {}
        for number, group in enumerate(expected):
            low, high = rows[number : number + 2]
            own = dict(
                zip(members.tokens[low:high].tolist(), members.weights[low:high].tolist(), strict=True)
            )
            assert list(own) == sorted(group.members[model]), (model, number)
            for token, weight in own.items():
                assert abs(weight - float(group.members[model][token])) < 1e-12, (model, number, token)
                sums[token] = sums.get(token, 0.0) + weight
        solid = {n for n, (start, end) in enumerate(models[model]) if not all(blank[start:end])}
        if groups.straddle == "drop":
            assert set(sums) <= solid
        else:
            assert set(sums) == solid
        assert all(abs(total - 1) < 1e-12 for total in sums.values())


def check_symmetry(texts: Sequence[str], tokenizers: Sequence[Tokenizer], straddle: Straddle) -> None:
    """7. The order of the tokenizers does not matter."""
    forth = align_texts(texts, tokenizers, straddle=straddle)
    back = align_texts(texts, tokenizers[::-1], straddle=straddle)
    for name in ("starts", "ends", "first_word", "last_word"):
        assert np.array_equal(getattr(forth.groups, name), getattr(back.groups, name)), name
    for left, right in zip(forth.groups.members, back.groups.members[::-1], strict=True):
        assert_same_members(left, right)


def check_locality(old: Alignment, new: Alignment, place: int) -> None:
    """6. An inserted character moves the tokens after it, and nothing else, where ids are the same."""
    left, right = old.spans[0], new.spans[0]
    cut = len(old.text[:place].encode())
    shift = len(new.text.encode()) - len(old.text.encode())
    most = min(len(left), len(right))
    head = next((n for n in range(most) if left.ids[n] != right.ids[n]), most)
    tail = next((n for n in range(most) if left.ids[-1 - n] != right.ids[-1 - n]), most)
    before, after = list_spans(left), list_spans(right)
    # A space at the beginning may become the tokenizer's own, and the other way round.
    fuzzy = TokenFlag.REWRITTEN | TokenFlag.UNKNOWN | TokenFlag.PREFIX
    for n in [*range(head), *range(-tail, 0)]:
        start, end = before[n]
        if has_flag(left.flags[n] | right.flags[n], fuzzy):
            continue
        # Of a run of spaces that a tokenizer shortens, its one token may be said to be any.
        if not old.text.encode()[start:end].strip():
            continue
        if n >= 0 and end < cut:
            assert after[n] == (start, end), (new.text, n, before[n], after[n])
        if n < 0 and start > cut:
            assert after[n] == (start + shift, end + shift), (new.text, n, before[n], after[n])


def check_batch(texts: Sequence[str], tokenizer: Tokenizer, aligned: AlignedTexts) -> None:
    """8. A text in a batch is treated as if alone."""
    for number in {0, len(texts) // 2, len(texts) - 1}:
        alone = align_text(texts[number], [tokenizer])
        assert_same_tokens(alone.spans[0], aligned[number].spans[0], texts[number])
        assert list_words(alone) == list_words(aligned[number])


def check_special(texts: Sequence[str], tokenizer: Tokenizer, aligned: AlignedTexts) -> None:
    """8. BOS and EOS only add tokens without bytes."""
    template = np.uint8(TokenFlag.TEMPLATE)
    for plain, special in zip(aligned, align_texts(texts, [tokenizer], special=True), strict=True):
        tokens = special.spans[0]
        own = (tokens.flags & template) == 0
        assert len(tokens) - own.sum() == sum(map(len, tokenizer.template))
        assert np.array_equal(tokens.starts[~own], tokens.ends[~own])
        stripped = TokenSpans(
            tokens.ids[own], tokens.starts[own], tokens.ends[own], tokens.flags[own], tokens.certificate
        )
        assert_same_tokens(stripped, plain.spans[0], plain.text)
        renumber = np.flatnonzero(own)
        members, before = special.groups.members[0], plain.groups.members[0]
        assert members.tokens.tolist() == renumber[before.tokens].tolist()


def check_given_ids(texts: Sequence[str], tokenizer: Tokenizer, aligned: AlignedTexts) -> None:
    """8, 10. Ids alone give the same, and so do ids with padding on either side."""
    rows = [alignment.spans[0].ids for alignment in aligned]
    for plain, given in zip(aligned, align_ids(texts, [tokenizer], [rows]), strict=True):
        assert_same_tokens(given.spans[0], plain.spans[0], plain.text)
    special = np.flatnonzero(tokenizer.spelling.special)
    for pad in special[:2].tolist() + special[-1:].tolist():
        chosen = [number for number, row in enumerate(rows) if pad not in row]
        some = [texts[number] for number in chosen]
        for front, back in ((0, 3), (2, 0), (1, 1)):
            padded = [np.array([pad] * front + rows[number].tolist() + [pad] * back) for number in chosen]
            for number, given in zip(chosen, align_ids(some, [tokenizer], [padded]), strict=True):
                tokens, stop = given.spans[0], front + len(rows[number])
                own = slice(front, stop)
                outer = [*range(front), *range(stop, stop + back)]
                assert all(tokens.starts[n] == tokens.ends[n] for n in outer), (given.text, pad)
                assert all(tokens.flags[n] == TokenFlag.TEMPLATE for n in outer), (given.text, pad)
                inner = TokenSpans(
                    tokens.ids[own],
                    tokens.starts[own],
                    tokens.ends[own],
                    tokens.flags[own],
                    tokens.certificate,
                )
                assert_same_tokens(inner, aligned[number].spans[0], (given.text, pad, front, back))


def check_windows(alignment: Alignment, limits: Sequence[int], most_groups: int | None) -> None:
    """9. Windows fit, never cut a word or a token, and hold every group that fits alone."""
    windows, groups = cut_windows(alignment, limits, most_groups=most_groups)
    count, models = len(groups), range(len(limits))
    first_own = [
        next((n for n, f in enumerate(tokens.flags) if not has_flag(f, TokenFlag.TEMPLATE)), 0)
        for tokens in alignment.spans
    ]
    reached = [list(first_own)]  # one past the last token read, before each group
    for group in range(count):
        row = []
        for model in models:
            members = groups.members[model]
            own = members.tokens[members.indptr[group] : members.indptr[group + 1]].tolist()
            row.append(max([reached[-1][model], *(token + 1 for token in own)]))
        reached.append(row)
    too_long = {
        group
        for group in range(count)
        if any(reached[group + 1][m] - reached[group][m] > limits[m] for m in models)
    }
    assert set(windows.oversized.tolist()) == too_long
    held = [
        group
        for first, stop in zip(windows.first_group, windows.stop_group, strict=True)
        for group in range(first, stop)
    ]
    assert held == [group for group in range(count) if group not in too_long]
    assert len(windows) == len(windows.first_token) == len(windows.stop_token)
    for number in range(len(windows)):
        first, stop = int(windows.first_group[number]), int(windows.stop_group[number])
        assert first < stop <= first + (most_groups or count)
        assert windows.first_token[number].tolist() == reached[first]
        assert windows.stop_token[number].tolist() == reached[stop]
        assert all(reached[stop][m] - reached[first][m] <= limits[m] for m in models)
        longer = stop < count and stop not in too_long and stop - first < (most_groups or count)
        assert not longer or any(reached[stop + 1][m] - reached[first][m] > limits[m] for m in models)
        for model in models:
            spans, (low, high) = (
                list_spans(alignment.spans[model]),
                (groups.starts[first], groups.ends[stop - 1]),
            )
            blank = mark_whitespace(alignment.text)
            for token, (start, end) in enumerate(spans):
                solid = [place for place in range(start, end) if not blank[place]]
                if solid and reached[first][model] <= token < reached[stop][model]:
                    assert low <= solid[0] and solid[-1] < high, (model, token)
                elif solid:
                    assert solid[-1] < low or high <= solid[0], (model, token)


def check_self(texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """11. A tokenizer aligned with itself gives the same members twice."""
    for straddle in POLICIES:
        left, right = align_texts(texts, [tokenizer, tokenizer], straddle=straddle).groups.members
        assert_same_members(left, right)


def check_last_tokens(alignment: Alignment) -> None:
    """12. The last token of a group never reads past it unnoticed, and nothing of the group comes later."""
    for model, tokens in enumerate(alignment.spans):
        chosen, past = choose_last_tokens(alignment, model)
        members = alignment.groups.members[model]
        for group, end in enumerate(alignment.groups.ends.tolist()):
            own = members.tokens[members.indptr[group] : members.indptr[group + 1]].tolist()
            assert chosen[group] == max(own, default=-1)
            if own:
                assert past[group] == (tokens.ends[chosen[group]] > end)
            else:
                assert not past[group]
