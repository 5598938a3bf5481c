"""What single pairs do under steering: what both models say next, and the pairs that agree most."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from xmodel.report.layout import (
    GAP,
    Field,
    draw_heading,
    draw_table,
    find_shared,
    fit_words,
    format_r,
    format_share,
    show_prose,
    wrap,
)
from xmodel.report.runs import TOP_WORDS_NOTE
from xmodel.report.scores import format_p
from xmodel.report.visible import ELLIPSIS, FAINT, show_text
from xmodel.steering.results import SUMMARY, TABLE

_NEXT = 3


def draw_examples(found: Mapping[str, Any], width: int) -> list[Text]:
    """The pairs that transfer most clearly, and what both models say next with and without them."""
    examples = found["examples"]
    if not examples:
        return []
    many = "pair that transfers" if len(examples) == 1 else f"{len(examples)} pairs that transfer"
    title = f"What the models say next, pushed along the {many} most clearly"
    lines = [line for heading in draw_heading(title) for line in wrap(heading, width)]
    told = (
        f"Of all {len(found['pairs']):,} pairs these were chosen for their p, so they are no sample. dose: "
        "share of the residual stream's length."
    )
    lines += wrap(Text(told, FAINT), width)
    before = None
    for example in examples:
        if example["text"] != before:
            text = Text(f"after: {ELLIPSIS}", FAINT).append_text(
                show_prose(" ".join(example["text"].split()))
            )
            lines += [] if before is None else [Text()]
            lines += wrap(text, width)
            before = example["text"]
        lines += [Text(), *_draw_example(example, width)]
    return lines


def _draw_example(example: Mapping[str, Any], width: int) -> list[Text]:
    numbers = (
        f"agreement {format_r(example['odd'])}, p {format_p(example['p'])}, "
        f"q {format_p(example['p_adjusted'])}"
    )
    lines = [Text(numbers, FAINT)]
    tops = [example[f"top_words_{side}"] for side in "ab"]
    shared = find_shared(*tops)
    for side, words in zip("ab", tops, strict=True):
        line = (
            Text().append(f"{side} {example[f'feature_{side}']}", "bold cyan").append("  fires on  ", FAINT)
        )
        lines.append(line.append_text(fit_words(words, width - cell_len(line.plain), shared)))
    rows = [[Text(f"{dose:+g}" if dose else "0")] for dose in example["doses"]]
    lists = [
        [partial(_fit_next, example[f"next_{side}"][place][:_NEXT]) for side in "ab"]
        for place in range(len(rows))
    ]
    lines += draw_table([Field("dose")], rows, ["next in a", "next in b"], lists, width)
    for side in "ab":
        if raised := example.get(f"raised_{side}"):
            line = Text(f"raised most in {side}  ", FAINT)
            others = (
                raised
                if not example.get("raised_b")
                else find_shared(example["raised_a"], example["raised_b"])
            )
            lines.append(line.append_text(fit_words(raised, width - cell_len(line.plain), others)))
    return lines


def _fit_next(words: Sequence[Mapping[str, Any]], most: int) -> Text:
    """As many of the likeliest next tokens as fit, with their probabilities."""
    line = Text(no_wrap=True, overflow="ignore")
    for word in words:
        text = word["text"]
        # A token that goes on with the word before is not a word of its own.
        shown = show_text(text.strip(" ") if text.startswith(" ") and text.strip(" ") else text)
        if text[:1].isalnum():
            shown = Text("-", FAINT).append_text(shown)
        shown.append(f" {format_share(word['probability'], 1)}", FAINT)
        gap = GAP if line.plain else 0
        if cell_len(line.plain) + gap + cell_len(shown.plain) > most:
            break
        line.append(" " * gap).append_text(shown)
    return line


def draw_best(found: Mapping[str, Any], width: int) -> list[Text]:
    """The pairs whose pushes agree most."""
    pairs = found["best_pairs"]
    if not pairs:
        return []
    fields = [Field("a"), Field("b"), Field("r"), Field("agree"), Field("p"), Field("q")]
    rows, lists = [], []
    for pair in pairs:
        shared = find_shared(pair["top_words_a"], pair["top_words_b"])
        numbers = [Text(format_r(pair["r"])), Text(format_r(pair["odd"]), "bold")]
        numbers += [Text(format_p(pair[name])) for name in ("p", "p_adjusted")]
        rows.append([Text(str(pair["feature_a"]), "cyan"), Text(str(pair["feature_b"]), "cyan"), *numbers])
        lists.append([partial(fit_words, pair[f"top_words_{side}"], shared=shared) for side in "ab"])
    title = f"The {len(pairs)} pairs that agree most" if len(pairs) > 1 else "The pair"
    lines = draw_heading(title)
    lines += draw_table(fields, rows, ["top words of a", "top words of b"], lists, width)
    note = (
        "r: correlation over words, discovery half. p: the largest over all nulls, corrected for doses and "
        f"depths; q: also for all {len(found['pairs']):,} pairs (Benjamini-Hochberg); p and p_adjusted in "
        f"{SUMMARY}. In {TABLE} p is that of one dose and depth, not corrected, and p_adjusted is corrected "
        f"over all pairs, doses and depths. {TOP_WORDS_NOTE}"
    )
    return [*lines, *wrap(Text(note, FAINT), width)]
