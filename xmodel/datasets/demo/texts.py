"""Short texts on which aligners are known to break, each with what it shows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoText:
    """A text and one line about what to look at."""

    text: str
    shows: str


DEMO_TEXTS = (
    DemoText(
        "CO₂ is night.CNN",
        "The three bytes of ₂ are shared out over several tokens, and still CO₂ is one word.",
    ),
    DemoText(
        "hi 👩‍🚀!",
        "Two emoji with a joiner between them: up to eleven tokens, none of which is a whole character.",
    ),
    DemoText(
        "नमस्ते दुनिया",
        "Vowel signs stay with their word, and the bytes of every letter are accounted for.",
    ),
    DemoText(
        "我们在海上。鲸鱼来了!",
        "Under the default rule a clause without spaces is one word: try --words uax29.",
    ),
    DemoText(
        'He said no."\n\nThen he left.',
        "Punctuation and line breaks: whitespace belongs to no word, whichever token carries it.",
    ),
    DemoText(
        "In the year 1990", "A space can be a token of its own; it belongs to no word and moves nothing."
    ),
    DemoText("the 1990's", "Where one token covers parts of two words, the words are joined."),
    DemoText(
        "cafe\u0301 on shore",
        "Written as e and U+0301. A normaliser may rewrite that; the damage stays inside these three bytes.",
    ),
    DemoText("  two  spaces ", "Spaces in front, between and at the end shift nothing."),
    DemoText(
        "a literal <eos> or <|endoftext|> or a▁b",
        "Special tokens spelled out in the text cover their bytes; a real ▁ is not mistaken for a space.",
    ),
)
