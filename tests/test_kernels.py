"""The compiled loops and their twins in NumPy give the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodel.alignment import groups as groups_module
from xmodel.alignment import matching
from xmodel.alignment.groups import find_bridges, group_flat, map_words
from xmodel.alignment.matching import PAD, match_flat, match_with_numpy
from xmodel.alignment.spelling import build_table

needs_kernels = pytest.mark.skipif(
    matching.kernels is None, reason="the package was built without a C compiler"
)

VOCABULARY = [
    b"",
    b"a",
    b"b",
    b"ab",
    b"abcdefg",
    b"abcdefgh",
    b"abcdefghi",
    b"\x00" * 8,
    b"x" * 16,
    b"x" * 17,
]


@needs_kernels
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, len(VOCABULARY) - 1), max_size=8), st.booleans(), st.integers(-1, 1)
        ),
        max_size=6,
    )
)
def test_matching_is_the_same(rows: list[tuple[list[int], bool, int]]) -> None:
    texts = []
    for ids, spoil, longer in rows:
        spelled = bytearray(b"".join(VOCABULARY[token] for token in ids))
        if spoil and spelled:
            spelled[len(spelled) // 2] ^= 1
        texts.append(bytes(spelled[: len(spelled) + min(longer, 0)]) + b"a" * max(longer, 0))
    table = build_table(VOCABULARY)
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    begins = np.cumsum(sizes + 1) - sizes
    buffer = np.frombuffer(b" " + b" ".join(texts) + b" " + bytes(PAD), dtype=np.uint8)
    ids = np.array([token for row, _, _ in rows for token in row], dtype=np.int64)
    counts = np.array([len(row) for row, _, _ in rows], dtype=np.int64)
    arguments = (table, ids, counts, buffer, begins, sizes)
    compiled, plain = match_flat(*arguments), match_with_numpy(*arguments)
    expected = [
        b"".join(VOCABULARY[t] for t in row) == text for (row, _, _), text in zip(rows, texts, strict=True)
    ]
    assert compiled[2].tolist() == plain[2].tolist() == expected
    kept = np.repeat(compiled[2], counts)
    assert np.array_equal(compiled[0][kept], plain[0][kept])
    assert np.array_equal(compiled[1][kept], plain[1][kept])


@st.composite
def words_and_spans(
    draw: st.DrawFn,
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]], int]:
    size = draw(st.integers(1, 40))
    edges = sorted(draw(st.sets(st.integers(0, size), max_size=20)))
    starts, ends = np.array(edges[:-1], dtype=np.int64), np.array(edges[1:], dtype=np.int64)
    kept = np.array([draw(st.booleans()) for _ in starts], dtype=np.bool_)
    spans = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted(draw(st.lists(st.integers(0, size), max_size=20)))
        spans.append((np.array(cuts[:-1], dtype=np.int64), np.array(cuts[1:], dtype=np.int64)))
    return starts[kept], ends[kept], spans, size


@needs_kernels
@given(words_and_spans(), st.sampled_from(["merge", "split", "drop"]))
def test_grouping_is_the_same(case: tuple, straddle: str) -> None:
    starts, ends, spans, size = case
    words = map_words(starts, ends, None, size)
    compiled = group_flat(words, spans, straddle)  # type: ignore[arg-type]
    bridges = [find_bridges(words, *span) for span in spans]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups_module, "kernels", None)
        plain = group_flat(words, spans, straddle)  # type: ignore[arg-type]
        for left, right in zip(bridges, [find_bridges(words, *span) for span in spans], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    for name in ("starts", "ends", "first_word", "last_word"):
        assert np.array_equal(getattr(compiled, name), getattr(plain, name))
    for left, right in zip(compiled.members, plain.members, strict=True):
        assert np.array_equal(left.indptr, right.indptr)
        assert np.array_equal(left.tokens, right.tokens)
        assert np.allclose(left.weights, right.weights, rtol=0, atol=1e-15)
