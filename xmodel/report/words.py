"""An alignment as plain Python objects, and as JSON."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from xmodel.records import Alignment, TokenFlag, TokenSpans

_FLAG_NAMES = [[flag.name.lower() for flag in TokenFlag if flag & bits and flag.name] for bits in range(256)]
"""Names of the flags for every value of the uint8; rows are shared by all tokens, so treat as read-only."""
_CHUNK = 10_000


def describe_alignment(alignment: Alignment) -> dict[str, Any]:
    """Describe words, groups and tokens in the format of ``xmodel words --json``.

    All positions are byte offsets into the UTF-8 text. The whitespace between words is in no group.

    Returns:
        A dictionary of what JSON can hold, pairs as tuples: ``bytes``; ``rule``; ``straddle``; ``words``,
        a list of ``(start, end)``; ``groups``, each with ``start``, ``end``, ``text``, ``words`` (first and
        last, inclusive), ``tokens`` (per tokenizer, indices into its ids) and under ``split`` also
        ``weights``, shaped like ``tokens``; ``tokenizers``, each with ``name``, ``ids``, ``spans``,
        ``special`` (inserted by the template, or spelled out in the text), ``flags`` and ``certificate``.
    """
    data = alignment.text.encode()
    return {
        **dict(_describe_text(alignment, data)),
        "groups": _describe_groups(alignment, data, 0, len(alignment.groups)),
        "tokenizers": [
            dict(_describe_spans(name, spans))
            for name, spans in zip(alignment.tokenizers, alignment.spans, strict=True)
        ],
    }


def encode_alignment(alignment: Alignment, *, ascii_only: bool = False) -> Iterator[str]:
    """Encode what `describe_alignment` returns as JSON, in parts, so that a long text fits in memory.

    Args:
        alignment: one text and its tokens.
        ascii_only: escape everything else, for an output that has no other characters.

    Yields:
        Consecutive parts of one JSON document.
    """
    encoder = json.JSONEncoder(ensure_ascii=ascii_only, separators=(",", ":"))
    data = alignment.text.encode()
    yield "{"
    for key, value in _describe_text(alignment, data):
        yield f'"{key}":{encoder.encode(value)},'
    yield '"groups":['
    for first in range(0, len(alignment.groups), _CHUNK):
        part = _describe_groups(alignment, data, first, min(len(alignment.groups), first + _CHUNK))
        yield ("," if first else "") + encoder.encode(part)[1:-1]
    yield '],"tokenizers":['
    for number, spans in enumerate(alignment.spans):
        yield ",{" if number else "{"
        for place, (key, value) in enumerate(_describe_spans(alignment.tokenizers[number], spans)):
            yield f'{"," if place else ""}"{key}":{encoder.encode(value)}'
        yield "}"
    yield "]}"


def _describe_text(alignment: Alignment, data: bytes) -> Iterator[tuple[str, Any]]:
    words = alignment.words
    yield "bytes", len(data)
    yield "rule", words.rule
    yield "straddle", alignment.groups.straddle
    yield "words", list(zip(words.starts.tolist(), words.ends.tolist(), strict=True))


def _describe_groups(alignment: Alignment, data: bytes, first: int, stop: int) -> list[dict[str, Any]]:
    groups = alignment.groups
    described: list[dict[str, Any]] = [
        {"start": start, "end": end, "text": data[start:end].decode(), "words": (low, high), "tokens": []}
        for start, end, low, high in zip(
            groups.starts[first:stop].tolist(),
            groups.ends[first:stop].tolist(),
            groups.first_word[first:stop].tolist(),
            groups.last_word[first:stop].tolist(),
            strict=True,
        )
    ]
    for members in groups.members:
        bounds = (members.indptr[first : stop + 1] - members.indptr[first]).tolist()
        entries = slice(int(members.indptr[first]), int(members.indptr[stop]))
        tokens, weights = members.tokens[entries].tolist(), members.weights[entries].tolist()
        for group, (low, high) in zip(described, pairwise(bounds), strict=True):
            group["tokens"].append(tokens[low:high])
            if groups.straddle == "split":
                group.setdefault("weights", []).append(weights[low:high])
    return described


def _describe_spans(name: str, spans: TokenSpans) -> Iterator[tuple[str, Any]]:
    certificate = spans.certificate
    yield "name", name
    yield "ids", spans.ids.tolist()
    yield "spans", list(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True))
    yield "special", ((spans.flags & (TokenFlag.TEMPLATE | TokenFlag.LITERAL_SPECIAL)) != 0).tolist()
    yield "flags", [_FLAG_NAMES[bits] for bits in spans.flags.tolist()]
    yield (
        "certificate",
        {
            "status": certificate.status,
            "ranges": list(certificate.ranges),
            "kinds": list(certificate.kinds),
            "reason": certificate.reason,
        },
    )
