"""What goes into a page's data files: JSON within a script, short numbers, and texts that only show."""

import json
import math
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodel.report.page.chunks import ChunkWriter, dump_script, round_decimals, round_significant
from xmodel.report.page.texts import show_plain

TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    [
        "</script><script>alert(1)//",
        "<!--",
        "]]>",
        "\u2028\u2029",
        "a\x00b",
        "\ud800",
        "שלום\u202e",
        '"\\',
        "&lt;",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
PAYLOADS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


def read_chunk(folder, name):
    """The payload of a chunk, and that the script is nothing but the call with it."""
    content = (folder / "data" / f"{name}.js").read_text("ascii")
    found = re.fullmatch(r'xmodel\.take\("([^"]+)", (.*)\);\n', content)
    assert found
    assert found[1] == name
    assert not set("<>&\n") & set(found[2])
    return json.loads(found[2])


@given(PAYLOADS)
def test_any_payload_comes_back_from_the_script(tmp_path_factory, payload):
    folder = tmp_path_factory.getbasetemp() / "any"
    size = ChunkWriter(folder).write("pairs/0001", payload)
    assert read_chunk(folder, "pairs/0001") == payload
    assert (folder / "data" / "pairs" / "0001.js").stat().st_size == size


@pytest.mark.parametrize("payload", [math.nan, [math.inf], {"a": -math.inf}, {"x": {"__proto__": 1}}])
def test_what_a_script_cannot_say_is_refused(payload):
    with pytest.raises(ValueError):
        dump_script(payload)


@pytest.mark.parametrize("text", ["__proto__", '"__proto__":', '\\"__proto__":'])
def test_a_text_that_speaks_of_prototypes_is_no_key(text):
    assert json.loads(dump_script({"words": [text]})) == {"words": [text]}


@pytest.mark.parametrize("name", ["", "/x", "x/", "a/b/c", "../run", "Run", "a b", "a.js", "a\n", 'a"'])
def test_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(ValueError):
        ChunkWriter(tmp_path).write(name, 1)
    assert not list(tmp_path.rglob("*"))


@given(st.lists(st.floats(-1e300, 1e300)), st.integers(1, 6))
def test_significant_digits_are_those_of_the_format(values, digits):
    for value, short in zip(values, round_significant(values, digits), strict=True):
        assert abs(short - value) <= 0.5000001 * 10.0 ** (
            math.floor(math.log10(abs(value) or 1)) - digits + 1
        )
        assert float(f"{short:.{digits}g}") == short
        assert isinstance(short, int) == (float(short).is_integer() and abs(short) < 2**53)


@given(st.lists(st.floats(-1e6, 1e6)), st.integers(0, 6))
def test_decimals_are_few_and_close(values, decimals):
    for value, short in zip(values, round_decimals(values, decimals), strict=True):
        assert abs(short - value) <= 0.5000001 * 10.0**-decimals
        assert len(repr(short).partition("e")[0].partition(".")[2]) <= decimals or "e" in repr(short)


def test_nan_is_null_and_infinity_is_refused():
    assert round_significant([1.0, np.nan]) == [1, None]
    assert round_decimals([np.nan]) == [None]
    with pytest.raises(ValueError):
        dump_script(round_significant([np.inf]))


# ---- texts


@given(TEXTS, st.integers(1, 60))
def test_shown_texts_have_no_power(text, most):
    shown = show_plain(text, most)
    assert len(shown) <= most
    for character in shown:
        assert unicodedata.category(character) not in {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert unicodedata.category(character) != "Cf" or character in "\u200c\u200d"
        assert unicodedata.bidirectional(character) not in {
            "RLO",
            "LRO",
            "RLE",
            "LRE",
            "PDF",
            "RLI",
            "LRI",
            "FSI",
        }
    towers = re.split(r"[^\u0300-\u036f]", shown)
    assert max(map(len, towers)) <= 3


@given(st.text("abcdefgh<>/&'\"=", min_size=1, max_size=300))
def test_plain_texts_are_shown_as_they_are(text):
    assert show_plain(text) == text


@given(TEXTS, st.integers(1, 20))
def test_a_text_is_cut_only_where_it_is_too_long(text, most):
    whole = show_plain(text, 10**6)
    cut = show_plain(text, most)
    assert cut == whole if len(whole) <= most else cut.endswith("…")
    assert len(whole) <= most or whole.startswith(cut[:-1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a‹U+0000›b"),
        ("\x1b[31m", "‹ESC›[31m"),
        ("\u202eabc", "‹U+202E›abc"),
        ("a\u200bb\ufeff", "a‹ZWSP›b‹BOM›"),
        ("‹ESC›", "‹U+2039›ESC‹U+203A›"),
        ("שלום عليكم", "שלום عليكم"),
        ("👩\u200d🚀 ❤\ufe0f 🇩🇪 cafe\u0301", "👩\u200d🚀 ❤\ufe0f 🇩🇪 cafe\u0301"),
        ("a \t b\r\nc\n\nd", "a b c ↵ d"),
        ("\ue000\U000e0041", "‹U+E000›‹U+E0041›"),
        ("", ""),
    ],
)
def test_what_is_spelled_out(text, shown):
    assert show_plain(text) == shown


def test_long_words_are_cut_between_what_is_spelled():
    assert show_plain("w" * 10_000) == "w" * 299 + "…"
    assert show_plain("\x00" * 1_000_000, 20) == "‹U+0000›‹U+0000›…"
