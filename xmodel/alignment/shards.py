"""Documents become shards; a shard becomes its files.

A shard depends on its documents and the settings alone, never on what ran before it, so that a shard that
is computed again is the same to the last bit.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.align import AlignedTexts, align_texts
from xmodel.alignment.batches import WindowPlan, count_solid, find_windows, list_units, plan_windows
from xmodel.alignment.extract import EXCLUDED_FIRST, EXCLUDED_MASSIVE, Clock, Side, SideWords, extract_words
from xmodel.alignment.rows import take_rows
from xmodel.alignment.settings import PassSettings
from xmodel.datasets.words import split_words
from xmodel.errors import InputError
from xmodel.records import Document, Members, WordFeatures, Words

LONGEST_DOCUMENT = 50_000
"""Words after which a document is cut, so that shards, and with them memory, are bounded for any corpus."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Some consecutive documents of the corpus."""

    number: int
    first_document: int
    documents: list[Document]
    words: int
    """Words by the rule, before any are joined or left out."""
    digest: str
    """SHA-256 over all documents of the corpus up to the end of this shard."""

    @property
    def names(self) -> list[str]:
        """The documents' names."""
        return [document.name for document in self.documents]


@dataclass(frozen=True, eq=False)
class AlignedShard:
    """A shard with its units and windows: all that is known before a model runs."""

    shard: Shard
    aligned: AlignedTexts
    starts: NDArray[np.int64]
    """[G] first byte of every unit in the shared buffer."""
    ends: NDArray[np.int64]
    """[G] one past its last byte."""
    owner: NDArray[np.int64]
    """[G] for ``--unit token`` the number of the word that the token belongs to, else the unit's own."""
    members: tuple[Members, Members]
    plan: WindowPlan
    solid: NDArray[np.int64]
    """[B + 1] non-whitespace bytes before each byte of the shared buffer."""


def cut_shards(documents: Iterable[Document], settings: PassSettings) -> Iterator[Shard]:
    """Group a stream of documents into shards of at least `settings.shard_words` words.

    Documents of more than `LONGEST_DOCUMENT` words are cut, see `cut_document`, so that a shard has fewer
    than `settings.shard_words` + `LONGEST_DOCUMENT` words; the pieces are documents from here on, each with
    its own number. Stops after `settings.words_limit` words; the last document is then cut after its last
    word. Documents without a word are kept.
    """
    own: list[Document] = []
    number = first = words = total = 0
    digest = hashlib.sha256()
    for document, spans in _cut_documents(documents, settings.words):
        count = len(spans)
        if settings.words_limit is not None and total + count >= settings.words_limit:
            count = settings.words_limit - total
            stop = int(spans.ends[count - 1]) if count else 0
            document = Document(document.name, document.text.encode()[:stop].decode())
        own.append(document)
        words += count
        total += count
        digest.update(hashlib.sha256(document.text.encode()).digest())
        full = settings.words_limit is not None and total >= settings.words_limit
        if words >= settings.shard_words or full:
            yield Shard(number, first, own, words, digest.hexdigest())
            number, first, own, words = number + 1, first + len(own), [], 0
        if full:
            return
    if own:
        yield Shard(number, first, own, words, digest.hexdigest())


def _cut_documents(documents: Iterable[Document], rule: str) -> Iterator[tuple[Document, Words]]:
    """The documents, long ones in pieces, with their words."""
    for document in documents:
        spans = split_words(document.text, rule)
        if len(spans) <= LONGEST_DOCUMENT:
            yield document, spans
            continue
        for piece in cut_document(document, spans, LONGEST_DOCUMENT):
            yield piece, split_words(piece.text, rule)


def cut_document(document: Document, words: Words, most: int) -> Iterator[Document]:
    """Cut a document before words that follow whitespace, so that no piece has more than `most` words.

    Each piece ends at the last such place that it can reach, with at least half of `most` words before it;
    where there is none, as in a text written without spaces, between two words. Joined, the pieces are the
    document; they are named ``NAME (part 1)``, ``NAME (part 2)``, ...

    Args:
        document: the document.
        words: its words, by whatever rule.
        most: 1 or more.
    """
    data = document.text.encode()
    spaced = np.flatnonzero(words.starts[1:] > words.ends[:-1]) + 1
    word = begin = number = 0
    while begin < len(data):
        following, number = word + most, number + 1
        if following < len(words):
            place = int(np.searchsorted(spaced, following, side="right")) - 1
            if place >= 0 and int(spaced[place]) - word >= max(1, most // 2):
                following = int(spaced[place])
            stop = int(words.starts[following])
        else:
            stop = len(data)
        yield Document(f"{document.name} (part {number})", data[begin:stop].decode())
        word, begin = following, stop


def align_shard(shard: Shard, sides: tuple[Side, Side], settings: PassSettings) -> AlignedShard:
    """Tokenize a shard with both tokenizers, and find its units and windows.

    Raises:
        InputError: for ``unit="token"`` where the tokenizers give different ids.
    """
    texts = [document.text for document in shard.documents]
    tokenizers = [side.tokenizer for side in sides]
    aligned = align_texts(texts, tokenizers, words=settings.words, straddle=settings.straddle)
    plan = plan_windows(aligned, [side.limit for side in sides], settings.window_words)
    solid = count_solid(aligned)
    groups = aligned.groups
    if settings.unit == "word":
        owner = np.arange(len(groups.starts))
        members = (groups.members[0], groups.members[1])
        return AlignedShard(shard, aligned, groups.starts, groups.ends, owner, members, plan, solid)
    if not np.array_equal(aligned.spans[0].ids, aligned.spans[1].ids):
        raise InputError(
            f"--unit token needs equal tokenizers, and those of {sides[0].model.name} and "
            f"{sides[1].model.name} "
            "give different ids for this corpus: leave --unit out, and words are compared."
        )
    starts, ends, units = list_units(aligned)
    owner = np.searchsorted(groups.starts, starts, side="right") - 1
    return AlignedShard(shard, aligned, starts, ends, owner, (units, units), plan, solid)


def compute_shard(
    own: AlignedShard, sides: tuple[Side, Side], settings: PassSettings, clock: Clock
) -> tuple[SideWords, SideWords]:
    """Run both models over a shard."""
    first, second = (
        extract_words(
            side,
            own.plan,
            number,
            span.ids,
            own.members[number],
            own.solid[span.ends] - own.solid[span.starts],
            settings,
            clock,
            own.shard.names,
        )
        for number, (side, span) in enumerate(zip(sides, own.aligned.spans, strict=True))
    )
    return first, second


def write_features(features: WordFeatures, kept: NDArray[np.int64], first_word: int) -> bytes:
    """The safetensors file of some rows: indptr, indices, values, first_word."""
    from safetensors.numpy import save

    own = take_rows(features, kept)
    return save(
        {
            "indptr": own.indptr,
            "indices": own.indices,
            "values": own.values,
            "first_word": np.array([first_word], dtype=np.int64),
        }
    )


def tabulate_shard(
    own: AlignedShard, kept: NDArray[np.int64], first_word: int, words: tuple[SideWords, SideWords]
) -> dict[str, dict[str, Any]]:
    """The columns of documents, words, tokens_a and tokens_b for one shard."""
    shard, flat = own.shard, own.aligned.flat
    document = np.searchsorted(flat.starts, own.starts[kept], side="right") - 1
    low, high = own.starts[kept], own.ends[kept]
    origin = flat.starts[document]
    data = flat.buffer.tobytes()
    texts = [data[a:b].decode("utf-8", "replace") for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    tables: dict[str, dict[str, Any]] = {
        "documents": {
            "document": np.arange(shard.first_document, shard.first_document + len(shard.documents)),
            "name": shard.names,
            "text": [one.text for one in shard.documents],
        },
        "words": {
            "word_id": np.arange(first_word, first_word + len(kept)),
            "document": document + shard.first_document,
            "start": low - origin,
            "end": high - origin,
            "text": texts,
            "group": own.owner[kept] - np.searchsorted(own.aligned.groups.starts, origin),
        },
    }
    for number, letter in enumerate("ab"):
        span = own.aligned.spans[number]
        text_of = np.repeat(np.arange(len(shard.documents)), np.diff(span.bounds))
        tables[f"tokens_{letter}"] = {
            "document": text_of + shard.first_document,
            "position": np.arange(len(span.ids)) - span.bounds[text_of],
            "id": span.ids,
            "start": span.starts - flat.starts[text_of],
            "end": span.ends - flat.starts[text_of],
            "flags": span.flags,
            "window": find_windows(own.plan, number, len(span.ids)),
            "excluded": words[number].excluded,
        }
    return tables


def _count_fitting(aligned: AlignedTexts) -> int:
    """Words of the documents whose ids and text fit in both models."""
    fits = [
        all(c.status != "failed" for c in own)
        for own in zip(*map(aligned.certificates, range(2)), strict=True)
    ]
    document = np.searchsorted(aligned.flat.starts, aligned.word_starts, side="right") - 1
    return int(np.array(fits, dtype=np.bool_)[document].sum())


def count_facts(
    own: AlignedShard, kept: NDArray[np.int64], words: tuple[SideWords, SideWords]
) -> dict[str, Any]:
    """What the receipt of a shard says besides checksums."""
    aligned = own.aligned
    in_windows = np.ones(len(own.starts), dtype=np.bool_)
    for number in range(2):
        windows = find_windows(own.plan, number, len(aligned.spans[number].ids))
        members = own.members[number]
        filled = members.indptr[1:] > members.indptr[:-1]
        lost = np.flatnonzero(filled)[windows[members.tokens[members.indptr[:-1][filled]]] < 0]
        in_windows[lost] = False
    return {
        "documents": len(own.shard.documents),
        "first_document": own.shard.first_document,
        "corpus_sha256": own.shard.digest,
        "failed_documents": aligned.failed,
        "rule_words": own.shard.words,
        "fitting_words": _count_fitting(aligned),
        "units": len(own.starts),
        "in_windows": int(in_windows.sum()),
        "words": len(kept),
        "windows": len(own.plan.document),
        "certificates": [
            dict(Counter(c.status for c in aligned.certificates(number))) for number in range(2)
        ],
        "tokens": [len(span.ids) for span in aligned.spans],
        "excluded_first": [int((side.excluded == EXCLUDED_FIRST).sum()) for side in words],
        "excluded_massive": [int((side.excluded == EXCLUDED_MASSIVE).sum()) for side in words],
        "firings": [len(side.features.values) for side in words],
        **_count_others(words),
    }


def _count_others(words: tuple[SideWords, SideWords]) -> dict[str, Any]:
    """Firings of the dictionaries beside either side's first, where there are any."""
    if not any(side.others for side in words):
        return {}
    return {"other_firings": [[len(own.values) for own in side.others] for side in words]}
