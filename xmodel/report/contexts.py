"""Words in context: where they stand in their documents, and how that is drawn line under line."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from xmodel.pairing.firings import is_discovery, read_rows
from xmodel.pairing.results import Run
from xmodel.report.layout import draw_bar, fit, fit_end, format_value, pad, show_prose
from xmodel.report.visible import FAINT

AROUND = 240
"""Bytes of context kept on either side of a word."""
BAR = 5
"""Cells of the bar beside an activation."""
VALUE = 6
"""Cells of an activation."""
NARROW = 60
"""Below this width activations go on a line of their own."""
UNITS_NOTE = "Activations are in each dictionary's own units; a full bar is the feature's greatest."
"""What stands under activations."""


def read_contexts(run: Run, word_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Some words with the text around them.

    Args:
        run: the run.
        word_ids: rows of ``words``.

    Returns:
        For each word ``word_id``, ``word``, ``document`` (its number), ``name`` (of the document), ``split``,
        ``start`` and ``end`` (bytes in the document), ``before`` and ``after`` (the text on either side).
    """
    found = []
    documents: dict[int, tuple[str, bytes]] = {}
    for word_id in word_ids:
        row = read_rows(run, "words", word_id, word_id + 1, ["document", "start", "end", "text", "split"])
        word = {name: row[name][0].as_py() for name in ("document", "start", "end", "text")}
        number = word["document"]
        if number not in documents:
            page = read_rows(run, "documents", number, number + 1, ["name", "text"])
            documents[number] = page["name"][0].as_py(), page["text"][0].as_py().encode()
        name, data = documents[number]
        found.append(
            {
                "word_id": int(word_id),
                "word": word["text"],
                "document": number,
                "name": name,
                "split": "discovery" if is_discovery(row)[0] else "heldout",
                "start": word["start"],
                "end": word["end"],
                "before": _decode(data, max(0, word["start"] - AROUND), word["start"]),
                "after": _decode(data, word["end"], min(len(data), word["end"] + AROUND)),
            }
        )
    return found


def _decode(data: bytes, start: int, end: int) -> str:
    """Bytes as text; what the outer edge cuts of a character is left out, what the word has of one is not."""
    if start > 0 and end - start == AROUND:
        while start < end and data[start] & 0xC0 == 0x80:
            start += 1
    if end < len(data) and end - start == AROUND and data[end] & 0xC0 == 0x80:
        while end > start and data[end - 1] & 0xC0 == 0x80:
            end -= 1
        end = max(start, end - 1)
    return data[start:end].decode("utf-8", "replace")


def draw_contexts(
    contexts: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, float]], width: int
) -> list[Text]:
    """Draw words under each other with their contexts and activations.

    Args:
        contexts: as `read_contexts` gives them, with an activation under each key of `columns`.
        columns: by side, in order: a heading, and the feature's greatest activation, which fills the bar.
        width: cells per line.
    """
    if width < NARROW:
        return [line for one in contexts for line in _draw_two_lines(one, columns, width)]
    indent = len(columns) * (VALUE + 1 + BAR + 2)
    heading = Text(no_wrap=True)
    for title, _ in columns.values():
        heading.append_text(pad(fit(Text(title, "cyan"), VALUE + 1 + BAR), VALUE + 1 + BAR + 2))
    heading.rstrip()
    lines = [heading]
    for one in contexts:
        line = Text(no_wrap=True, overflow="ignore")
        for side, (_, maximum) in columns.items():
            line.append_text(_draw_activation(one[side], maximum)).append("  ")
        lines.append(line.append_text(draw_context(one, width - indent)))
    return lines


def draw_context(context: Mapping[str, Any], room: int) -> Text:
    """One word in context, the word at two fifths of the room whatever stands before it.

    The word is in brackets, which show where it is also where there is no bold print.
    """
    left = room * 2 // 5
    before = fit_end(show_prose(context["before"]), left - 1)
    word = fit(show_prose(context["word"], "bold"), room - left - 1)
    after = fit(show_prose(context["after"]), room - left - 1 - cell_len(word.plain))
    line = Text(" " * (left - 1 - cell_len(before.plain)), no_wrap=True, overflow="ignore")
    line.append_text(before).append("[", FAINT).append_text(word).append("]", FAINT).append_text(after)
    return fit(line, room)


def _draw_activation(value: float, maximum: float) -> Text:
    """A number and a bar; a faint dot where the feature does not fire."""
    shown = Text(format_value(value)) if value else Text("·", "dim")
    return pad(shown, VALUE, right=True).append(" ").append_text(draw_bar(value, maximum, BAR))


def _draw_two_lines(
    context: Mapping[str, Any], columns: Mapping[str, tuple[str, float]], width: int
) -> list[Text]:
    line = Text("  ", no_wrap=True, overflow="ignore")
    for side, (_, maximum) in columns.items():
        line.append(f"{side} ", "cyan").append_text(_draw_activation(context[side], maximum)).append("  ")
    return [draw_context(context, width), fit(line, width)]
