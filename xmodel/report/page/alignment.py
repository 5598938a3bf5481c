"""The alignment viewer: passages of the corpus with both models' tokens, and what is not exact in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.words import split_words
from xmodel.pairing.results import Run
from xmodel.records import TokenFlag
from xmodel.report.page.chunks import ChunkWriter, name_part
from xmodel.report.page.passage_text import MARKS, Column, Tokens, build_columns, count_inexact
from xmodel.report.page.records import Part
from xmodel.report.page.texts import show_plain

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = 150
"""Words of the run in a passage, at most."""
PER_CHUNK = 4
"""Passages per chunk."""
LOOKED_AT = 250
"""Passages, evenly spread, that are searched for what is particular; the whole of a small corpus."""
_FLAGGED = 50
# Further passages that are looked at because tokens in them are flagged.
_MOST_COLUMNS = 600
# Of a passage: a document may have few words of the run, and much else.
_WORDS = ("start", "end", "group", "split")
_TOKENS = ("id", "start", "end", "flags", "excluded")

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Passage:
    """Some words of a document in a row."""

    document: int
    """Number of the document."""
    first: int
    """Its first word's id."""
    stop: int
    """One past its last word's id."""


@dataclass(frozen=True)
class _Found:
    passage: Passage
    name: str
    split: str
    columns: list[Column]
    inexact: int
    joined: int
    out: int

    @property
    def strangeness(self) -> int:
        # What is not exact is what a reader comes for; first positions are left out in every window.
        return 10 * self.inexact + 3 * self.joined + self.out


def write_alignment(
    run: Run,
    writer: ChunkWriter,
    *,
    passages: int = 40,
    report: Report = lambda stage, done, total: None,
) -> Part:
    """Write passages with both tokenisations: ``alignment/index`` and ``alignment/0000``, ...

    Half of them, or more, are spread evenly over the corpus. The others, at most half, are those of the
    passages looked at that hold most of what is not exact, joined or left out: all passages of a small
    corpus; of a large one `LOOKED_AT`, and others that hold flagged tokens.

    Args:
        run: the run.
        writer: of the page's chunks.
        passages: how many.
        report: told of progress.

    Raises:
        InputError: if a table is missing.
    """
    documents = run.words["document"].to_numpy()
    cut = cut_passages(documents)
    looked, flagged = _choose_looked_at(run, cut)
    even = [cut[place] for place in spread(len(cut), passages)]
    wanted = sorted({*even, *looked, *flagged}, key=lambda one: one.first)
    found: list[_Found] = []
    for number, one in enumerate(_read(run, wanted)):
        found.append(one)
        report("alignment", number + 1, len(wanted))
    strange = sorted(
        (one for one in found if one.strangeness), key=lambda one: (-one.strangeness, one.passage.first)
    )[: passages // 2]
    chosen = {one.passage for one in strange}
    rest = [one for one in found if one.passage in set(even) - chosen]
    rest = [rest[place] for place in spread(len(rest), passages - len(strange))]
    shown = sorted([*strange, *rest], key=lambda one: one.passage.first)
    _write_chunks(writer, shown, chosen)
    return Part(
        name="alignment",
        title="Alignment",
        sentences=_describe(run, shown, found, len(strange), len(cut)),
        notes=_note(run),
    )


def cut_passages(documents: NDArray[np.integer[Any]]) -> list[Passage]:
    """Cut all words into passages of about `WORDS`, none over two documents.

    Args:
        documents: [W] the document of every word, ascending.
    """
    starts = np.flatnonzero(np.diff(documents, prepend=-1)) if len(documents) else np.zeros(0, np.int64)
    stops = np.append(starts[1:], len(documents))
    passages = []
    for start, stop in zip(starts.tolist(), stops[: len(starts)].tolist(), strict=True):
        count = max(1, round((stop - start) / WORDS))
        edges = np.linspace(start, stop, count + 1).astype(np.int64).tolist()
        passages += [Passage(int(documents[start]), low, high) for low, high in pairwise(edges)]
    return passages


def spread(total: int, count: int) -> list[int]:
    """Up to `count` of `total` places, evenly spread."""
    if count >= total:
        return list(range(total))
    return ((np.arange(count) + 0.5) * total / max(1, count)).astype(np.int64).tolist()


def _choose_looked_at(run: Run, cut: Sequence[Passage]) -> tuple[list[Passage], list[Passage]]:
    looked = [cut[place] for place in spread(len(cut), LOOKED_AT)]
    if len(looked) == len(cut) or not cut:
        return looked, []
    from xmodel.alignment.tables import iterate_table

    firsts = np.array([(one.document, one.first) for one in cut], dtype=np.int64)
    # Words' starts, to find the passage of a flagged token.
    words = run.words.select(["document", "start"])
    size = 1 << 40
    keys = words["document"].to_numpy().astype(np.int64) * size + words["start"].to_numpy()
    wanted = np.uint8(TokenFlag.REWRITTEN | TokenFlag.UNKNOWN)
    hits: set[int] = set()
    for side in "ab":
        for table in iterate_table(run.folder, f"tokens_{side}", ["document", "start", "flags"]):
            own = np.flatnonzero(table["flags"].to_numpy() & wanted)
            at = table["document"].to_numpy()[own].astype(np.int64) * size + table["start"].to_numpy()[own]
            word = np.clip(np.searchsorted(keys, at, side="right") - 1, 0, len(keys) - 1)
            hits |= set((np.searchsorted(firsts[:, 1], word, side="right") - 1).tolist())
    ordered = sorted(hits)
    return looked, [cut[ordered[place]] for place in spread(len(ordered), _FLAGGED)]


def _read(run: Run, wanted: Sequence[Passage]) -> Iterator[_Found]:
    """Passages in order of the corpus, each document read once."""
    from xmodel.pairing.firings import read_rows

    rule = run.manifest["arguments"]["settings"].get("words", "default")
    bounds = {name: _find_bounds(run, name, len(run.documents)) for name in ("words", "tokens_a", "tokens_b")}
    for document, own in groupby(wanted, key=lambda one: one.document):
        rows = {}
        for name, columns in (("words", _WORDS), ("tokens_a", _TOKENS), ("tokens_b", _TOKENS)):
            first, stop = bounds[name][document : document + 2].tolist()
            rows[name] = read_rows(run, name, first, stop, columns)
        text = read_rows(run, "documents", document, document + 1, ["name", "text"]).to_pylist()[0]
        ends = split_words(text["text"], rule).ends
        for passage in own:
            first = int(bounds["words"][document])
            yield _lay_out(passage, first, text["name"], text["text"].encode(), ends, rows)


def _find_bounds(run: Run, table: str, documents: int) -> NDArray[np.int64]:
    """[D + 1] the first row of every document in a table."""
    import pyarrow.parquet as pq

    column = pq.read_table(run.folder / f"{table}.parquet", columns=["document"])["document"].to_numpy()
    return np.searchsorted(column, np.arange(documents + 1)).astype(np.int64)


def _lay_out(
    passage: Passage, first: int, name: str, data: bytes, ends: NDArray[np.int64], rows: dict[str, "pa.Table"]
) -> _Found:
    words = rows["words"]
    low, high = passage.first - first, passage.stop - first
    starts, stops = words["start"].to_numpy(), words["end"].to_numpy()
    begin = int(stops[low - 1]) if low else 0
    end = len(data) if high == len(words) else int(stops[high - 1])
    own = list(
        zip(
            starts[low:high].tolist(),
            stops[low:high].tolist(),
            words["group"].to_numpy()[low:high].tolist(),
            strict=True,
        )
    )
    a, b = (Tokens(*(rows[f"tokens_{side}"][column].to_numpy() for column in _TOKENS)) for side in "ab")
    columns = build_columns(data, (begin, end), own, ends, (a, b))
    halves = set(words["split"].slice(low, high - low).to_pylist())
    return _Found(
        passage,
        name,
        halves.pop() if len(halves) == 1 else "mixed",
        columns,
        count_inexact(columns),
        sum("joined" in one.marks for one in columns),
        sum(one.kind == "out" for one in columns),
    )


def _write_chunks(writer: ChunkWriter, shown: Sequence[_Found], chosen: set[Passage]) -> None:
    listed = [
        {
            "document": one.passage.document,
            "name": show_plain(one.name, 120),
            "split": one.split,
            "first": one.passage.first,
            "words": one.passage.stop - one.passage.first,
            "inexact": one.inexact,
            "joined": one.joined,
            "out": one.out,
            "picked": one.passage in chosen,
        }
        for one in shown
    ]
    writer.write("alignment/index", {"passages": listed, "chunk": PER_CHUNK, "marks": MARKS})
    for number in range(0, len(shown), PER_CHUNK):
        passages = [_encode_passage(one.columns) for one in shown[number : number + PER_CHUNK]]
        writer.write(name_part("alignment", number // PER_CHUNK), {"passages": passages})


def _encode_passage(columns: Sequence[Column]) -> dict[str, Any]:
    encoded: dict[str, Any] = {"columns": [_encode(one) for one in columns[:_MOST_COLUMNS]]}
    if len(columns) > _MOST_COLUMNS:
        encoded["more"] = len(columns) - _MOST_COLUMNS
    return encoded


def _encode(column: Column) -> dict[str, Any]:
    """A column as JSON: k kind, t text, s and e bytes, g group, m marks; tokens as lists."""
    encoded: dict[str, Any] = {"k": column.kind, "t": column.text, "s": column.start, "e": column.end}
    if column.group is not None:
        encoded["g"] = column.group
    if column.marks:
        encoded["m"] = column.marks
    for side, tokens, hidden in zip("ab", column.tokens, column.hidden, strict=True):
        encoded[side] = [
            [one.text, one.id, one.start, one.end, *([one.marks] if one.marks else [])] for one in tokens
        ]
        if hidden:
            encoded[f"more_{side}"] = hidden
    return encoded


def _describe(
    run: Run, shown: Sequence[_Found], looked: Sequence[_Found], strange: int, total: int
) -> tuple[str, ...]:
    sides = run.manifest["sides"]
    counts = []
    for side in "ab":
        found = sides[side].get("certificates", {})
        listed = ", ".join(f"{status} in {number:,}" for status, number in sorted(found.items()) if number)
        if listed:
            counts.append(f"{side}'s token spans are {listed} documents")
    words = sum(one.passage.stop - one.passage.first for one in shown)
    inexact, joined, out = (
        sum(getattr(one, name) for one in looked) for name in ("inexact", "joined", "out")
    )
    certain = f"{'; '.join(counts)}. " if counts else ""
    every = len(looked) == total
    corpus = "the corpus" if every else f"{len(looked):,} passages that were looked at"
    pool = "all" if every else f"{len(looked):,}"
    return (
        f"{certain}In {corpus}, {inexact:,} stretches are not exact for one of the models, {joined:,} words "
        f"of the run are several words joined because one token touches them, and {out:,} stretches of "
        "text are not among the run's words.",
        f"{len(shown)} passages ({words:,} words) of {total:,} can be read here: {len(shown) - strange} "
        f"spread evenly over the corpus, and {strange} because they hold most of what is not exact, joined "
        f"or left out among {pool}.",
    )


def _note(run: Run) -> tuple[str, ...]:
    rule = run.manifest["arguments"]["settings"].get("words", "default")
    return (
        f"Words are cut by the rule `{rule}`, from the text alone. A column is a word of the run, or what "
        "lies between; under it stand the tokens of a and of b that cover its bytes. A space before a word "
        "belongs to no word, and is shown as · in the token that has it.",
        "The text in a token's box is that of the bytes that it covers. Where a normaliser rewrote them, "
        "or the token is the model's unknown token, the token itself spells something else. Tokens with two "
        "readings are not told apart here: `xmodel words` shows them.",
    )
