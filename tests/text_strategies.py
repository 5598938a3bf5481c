"""The one hypothesis strategy that feeds every law: all of Unicode, and the strings that break tokenizers."""

from functools import cache

from hypothesis import strategies as st

PLAIN = ["a", "The", " the", "night", " train", "ing", " word", "words", "I'm", " it's", "x", "CNN", "CO₂"]

SPACES = [
    " ", "  ", "   ", "                ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n ", "\x0b",
    "\x0c", "\xa0", "\u1680", "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f",
    "\u3000", "\x85",
]  # fmt: skip

INVISIBLE = [
    "\ufeff", "\u200b", "\u200c", "\u200d", "\u2060", "\u00ad", "\u200e", "\u202e", "\u2066",
    "\u061c", "\u180e", "\x00", "\x01", "\x1c", "\x1f", "\x7f", "\x80", "\x9f", "\ufffc", "\ufffd",
    "\ufff9", "\u034f", "\u115f", "\ufe0e", "\ufe0f", "\U000e0100", "\U000e0041",
    "\U000e0067\U000e0062\U000e007f",
]  # fmt: skip

PUNCTUATION = [
    '."\n\n', '."', "):", "!", "?!", "...", "…", "—", "--", "“", "”", "’", "'", "'s", "_", "/",
    "//", "@", "#", ",", "(", "[", "]", "{}", "<", ">", "|", "`", "\\", "&amp;", "$1,299.99", "%",
    "10²", "½", "3.14", "1990", "0", "007", "²", "₂", "Ⅷ", "①", "٣", "९", "\U0001d7d8",
]  # fmt: skip

LITERALS = [
    "▁", "▁▁", "▁a", "Ġ", "Ġhello", "Ċ", "Â", "â", "</s>", "<s>", "<unk>", "<pad>", "<mask>",
    "<bos>", "<eos>", "[UNK]", "[MASK]", "[CLS]", "[SEP]", "[PAD]", "<|endoftext|>", "<|padding|>",
    "<|begin_of_text|>", "<|im_end|>", "<think>", "<start_of_turn>", "<sep>", "<ctrl>", "<0x41>",
    "<0x0A>", "<0xE0>", "##ing", "##", "</w>", "@@", "naïve façade", "Mixed CASE", "mixed case",
    "<|startoftext|>", "<|ENDOFTEXT|>", "</S>",
]  # fmt: skip

SYMBOLS = [
    "👩‍🚀", "👩‍👩‍👧‍👦", "👍🏽", "🏽", "🇫🇷", "🇫", "🇩🇪🇫🇷", "❤️", "❤", "☎︎", "1️⃣", "😀", "🎉🎉",
    "🏴\U000e0067\U000e0062\U000e007f", "♀", "🫠", "\U0001fae8", "€", "™", "©", "℃", "№", "㎏",
    "㍿",
]  # fmt: skip

MARKS = [
    "\u0301", "e\u0301", "cafe\u0301", "é", "a\u0301\u0323", "a\u0323\u0301", "q\u0307\u0323",
    "\u0301\u0301", " \u0301", "n\u0303", "Å", "A\u030a", "\u212b", "K", "ﷺ", "ﬁ", "ﬃ", "½", "ｱﾞ",
    "ﾊﾟ", "Ａ", "ǆ", "ſ", "ß", "ẞ", "İ", "ı", "I\u0307", "Σ", "ς", "ΟΔΟΣ", "\u0344", "\u0340",
    "\u0343", "\u0958", "\u09cb", "\u0f73", "\u0f75", "\U0001d15e", "\u2adc", "\u1100\u1161",
    "\u1112\u1161\u11ab", "한", "한\u11ab", "\u1161", "각\u11a8", "\u03d3", "\u1e9b\u0323", "豈",
    "\U0002f800",
]  # fmt: skip

SCRIPTS = [
    "नमस्ते", "हिन्दी", "क्ष", "क्\u200dष", "भारत", "\u094d", "สวัสดี", "น้ำ", "ကျွန်ုပ်", "ខ្មែរ",
    "བོད་", "தமிழ்", "\u0bcd", "今天天气", "中文。", "東京", "カタカナ", "ひらがな", "々", "、",
    "「", "\U00020000", "안녕", "مَرْحَبًا", "لا", "شَدَّة", "\u0651", "שָׁלוֹם", "Привет", "Ёлка",
    "Й", "Й", "Ελληνικά", "ά", "Ա", "ქარ", "አማርኛ", "ᏣᎳᎩ", "ᎣᏏᏲ", "ꭰ", "ﺁ", "ﻼ",
]  # fmt: skip

UNUSUAL = [
    "\ue000", "\uf8ff", "\U000f0000", "\U0010fffd", "\ufdd0", "\ufffe", "\uffff", "\U0001ffff",
    "\U0010ffff", "\u0378", "\u05ff", "\U0001f1ff", "\U000e01ef", "\U00012000", "\U0001d400", "𝒜",
    "𝟙", "🅰", "Ⓐ", "⒈", "︙", "﹐", "￥",
]  # fmt: skip

FAMILIES = [PLAIN, SPACES, INVISIBLE, PUNCTUATION, LITERALS, SYMBOLS, MARKS, SCRIPTS, UNUSUAL]
FRAGMENTS = [fragment for family in FAMILIES for fragment in family]


@cache
def parts() -> st.SearchStrategy[str]:
    """One fragment, or one character of any plane but no lone surrogate."""
    families = st.one_of(*(st.sampled_from(family) for family in FAMILIES))
    return st.one_of(
        families, families, st.characters(exclude_categories=["Cs"]), st.sampled_from(PLAIN + SPACES)
    )


@cache
def texts(most: int = 14) -> st.SearchStrategy[str]:
    """Texts of up to `most` fragments and characters."""
    return st.lists(parts(), max_size=most).map("".join)


def odd_characters() -> st.SearchStrategy[str]:
    """Single characters that are likely to change what stands next to them."""
    singles = sorted({character for fragment in FRAGMENTS for character in fragment})
    return st.one_of(st.sampled_from(singles), st.characters(exclude_categories=["Cs"]))
