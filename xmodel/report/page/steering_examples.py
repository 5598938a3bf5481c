"""What both models say next with and without a push, as the page's data."""

from collections.abc import Mapping, Sequence
from typing import Any

from xmodel.report.page.texts import show_plain
from xmodel.report.visible import show_text

NEXT = 6
"""Next tokens that are shown per dose."""
_WORD = 40
_CONTEXT = 1200


def list_examples(found: Mapping[str, Any]) -> dict[str, Any]:
    """The chunk ``steering``.

    Args:
        found: what `xmodel.report.steer.describe_steering` gives.

    Returns:
        ``note``, how these were chosen; ``examples``: ``a``, ``b`` (numbers of the features), ``odd``, ``p``,
        ``q``, ``top_a``, ``top_b`` (words), ``text`` (what the models had read), ``doses``, ``next_a`` and
        ``next_b`` (per dose the likeliest tokens: text, whether it goes on with the word before, and
        probability), ``raised_a``, ``raised_b`` (words that a push raises most).
    """
    note = (
        f"Of all {len(found['pairs']):,} pairs these were chosen for their p, so they are no sample. dose: "
        "share of the residual stream's length. A hyphen in front: the token goes on with the word before."
    )
    return {"note": note, "examples": [_describe(one) for one in found["examples"]]}


def _describe(example: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {side: example[f"feature_{side}"] for side in "ab"}
    described |= {"odd": example["odd"], "p": example["p"], "q": example["p_adjusted"]}
    described |= {"text": show_plain(" ".join(example["text"].split()), _CONTEXT)}
    described |= {"doses": list(example["doses"])}
    for side in "ab":
        described[f"top_{side}"] = _show_words(example[f"top_words_{side}"])
        described[f"raised_{side}"] = _show_words(example.get(f"raised_{side}") or ())
        described[f"next_{side}"] = [
            [_show_token(one) for one in own[:NEXT]] for own in example[f"next_{side}"]
        ]
    return described


def _show_words(words: Sequence[str]) -> list[str]:
    return [show_plain(word, _WORD) for word in words]


def _show_token(token: Mapping[str, Any]) -> list[str | bool | float]:
    """Text, whether it goes on with the word before, probability with three digits."""
    text = token["text"]
    plain = text.strip(" ")
    # Of nothing but whitespace, it has to be seen which.
    shown = show_plain(plain, _WORD) if plain.strip() else show_text(text).plain[:_WORD]
    return [shown, text[:1].isalnum(), float(f"{token['probability']:.3g}")]
