"""How often is a group of words and tokens wrong? xmodel and other aligners against the conformance suite.

    python benchmarks/alignment_accuracy.py

Texts: those of `conformance/`, and, if the folder with real texts is there (`shared` beside the checkout, or
$XMODEL_SHARED), every second of its naughty strings, every third short string of tokenizerbench, and
paragraphs 2, 4 and 8 of the Declaration of Human Rights in 40 languages; each cut at 300 characters. No
chance is involved, so every run sees the same texts.

Reference: spans from `conformance/derive.py`, which shares no code with xmodel; words by its slow rule;
groups by labelling bytes. Every method is asked one thing only: of which words does each token have a
part? The words are given to it, and its answers are made into groups in one and the same way. A text is
*wrong* for a pair of tokenizers if any group has another extent or other members than the reference,
*refused* if the method raised an error. Words are the default ones, under ``merge``.

Aligners that are not installed are named and left out:
pip install spacy-alignments "trl>=1.16"
"""

import argparse
import gzip
import importlib
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer as Backend

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "conformance")]

from derive import (  # noqa: E402
    CASES,
    SHIPPED,
    Derivation,
    Group,
    Span,
    derive_groups,
    derive_touched,
    derive_words,
    read_tokenizer,
)

from xmodel.alignment.align import align_texts  # noqa: E402
from xmodel.alignment.loading import load_tokenizer  # noqa: E402

REAL_PAIRS = (
    ("gpt-neox", "gemma3"),
    ("gpt2", "llama2"),
    ("gpt2", "gpt-neox"),
    ("gemma3", "bert-base-uncased-minilm"),
    ("llama2", "nepali-unigram"),
)
TINY_PAIRS = (
    ("tiny-bytelevel-bpe-nfc", "tiny-gemma"),
    ("tiny-llama3", "tiny-qwen3"),
    ("tiny-llama2", "tiny-wordpiece-uncased"),
)
LONGEST = 300

Held = list[list[int]]
"""Per token, the words of which it has a part."""


@dataclass(frozen=True)
class Text:
    """A text with its words, as the reference sees them."""

    text: str
    words: list[Span]

    @property
    def strings(self) -> list[str]:
        content = self.text.encode()
        return [content[start:stop].decode() for start, stop in self.words]


@dataclass
class Tally:
    """What became of the texts of one method under one pair."""

    texts: int = 0
    wrong: int = 0
    refused: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.wrong}" + (f" ({self.refused})" if self.refused else "")


class RefusedError(Exception):
    """A method that cannot do this text or this tokenizer."""


@dataclass(frozen=True, eq=False)
class Aligner:
    """One way to tell the words of every token. Raises RefusedError, or whatever it raises."""

    name: str
    hold: Callable[["Candidate", Text, list[int]], Held]
    spans: Callable[["Candidate", Text], list[Span]] | None = None
    """Byte spans, if the method knows any."""


class Candidate:
    """A tokenizer in all the forms that the methods want."""

    def __init__(self, name: str, content: str) -> None:
        self.name = name
        self.derivation = Derivation(content)
        self.backend: Any = Backend.from_str(content)
        self.backend.no_padding()
        self.backend.no_truncation()
        self.ours = load_tokenizer(self.backend, name=name)
        self.ids: dict[str, list[int]] = {}
        self.reference: dict[str, list[Span]] = {}

    def prepare(self, texts: list[Text]) -> list[str]:
        """Derive the reference; the texts for which that is not possible."""
        unknown = []
        for text in texts:
            try:
                self.ids[text.text], self.reference[text.text] = self.derivation.derive(text.text)
            except ValueError as error:
                unknown.append(f"{self.name}, {text.text[:40]!r}: {error}"[:300])
        return unknown


def hold_spans(text: Text, spans: list[Span]) -> Held:
    return derive_touched(text.text, text.words, spans)


def read_hf_offsets(candidate: Candidate, text: Text) -> list[Span]:
    """Character offsets as the tokenizer gives them, in bytes."""
    bounds = [0]
    for character in text.text:
        bounds.append(bounds[-1] + len(character.encode()))
    offsets = candidate.backend.encode(text.text, add_special_tokens=False).offsets
    return [(bounds[start], bounds[stop]) for start, stop in offsets]


def hold_by_words_given(candidate: Candidate, text: Text, ids: list[int]) -> Held:
    """``word_ids`` after ``is_split_into_words=True``."""
    return _read_pretokenized(candidate, text.strings, ids)


def hold_by_words_with_spaces(candidate: Candidate, text: Text, ids: list[int]) -> Held:
    """The same, kinder: every word comes with the whitespace before it."""
    content = text.text.encode()
    starts = [0, *(stop for _, stop in text.words[:-1])]
    pieces = (
        [content[a:b].decode() for a, (_, b) in zip(starts, text.words, strict=True)] if text.words else []
    )
    return _read_pretokenized(candidate, pieces, ids)


def _read_pretokenized(candidate: Candidate, pieces: list[str], ids: list[int]) -> Held:
    encoding = candidate.backend.encode(pieces, is_pretokenized=True, add_special_tokens=False)
    if encoding.ids != ids:
        # Other ids than those of the text: the model reads something else. No token has its words.
        return [[] for _ in ids]
    return [[word] for word in encoding.word_ids]


def _make_spacy(get_alignments: Any, decode: bool) -> Callable[[Candidate, Text, list[int]], Held]:
    def clean(candidate: Candidate, token: int) -> str:
        if decode:
            return candidate.backend.decode([token], skip_special_tokens=False)
        string = candidate.backend.id_to_token(token)
        return string.removeprefix("##").replace("Ġ", "").replace("▁", "").replace("Ċ", "\n")

    def hold(candidate: Candidate, text: Text, ids: list[int]) -> Held:
        tokens = [clean(candidate, token) for token in ids]
        return get_alignments(text.strings, tokens)[1]

    return hold


def _make_trl(encode_with_byte_offsets: Any) -> Callable[[Candidate, Text], list[Span]]:
    def spans(candidate: Candidate, text: Text) -> list[Span]:
        return encode_with_byte_offsets(candidate.backend, [text.text], add_special_tokens=False)[0][1]

    return spans


def find_aligners(console: Console) -> list[Aligner]:
    """All methods but xmodel and the tokenizers' own words; says which are not installed."""
    found = []
    for module in ("spacy_alignments", "tokenizations"):
        aligner = _import(console, module, "get_alignments")
        if aligner:
            name = module.replace("_", "-").replace("tokenizations", "pytokenizations")
            found.append(Aligner(f"{name}, marks removed", _make_spacy(aligner, decode=False)))
            found.append(Aligner(f"{name}, tokens decoded", _make_spacy(aligner, decode=True)))
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    encode = _import(console, "trl.experimental.utils", "encode_with_byte_offsets")
    if encode:
        spans = _make_trl(encode)
        found.append(Aligner("TRL's byte offsets (GOLD)", lambda c, t, _: hold_spans(t, spans(c, t)), spans))
    found.append(Aligner("HF offsets", lambda c, t, _: hold_spans(t, read_hf_offsets(c, t)), read_hf_offsets))
    found.append(Aligner("HF word_ids, words given", hold_by_words_given))
    found.append(Aligner("HF word_ids, words with their spaces", hold_by_words_with_spaces))
    return found


def _import(console: Console, module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, RuntimeError) as error:
        console.print(f"{module.split('.')[0]}: not installed ({str(error).splitlines()[0]})", style="yellow")
        return None


def read_texts(shared: Path | None) -> list[str]:
    """The texts of the suite, then those of the shared folder, without repetition."""
    texts = [case["text"] for case in json.loads(CASES.read_text("utf-8"))["cases"]]
    if shared:
        folder = shared / "data" / "texts"
        texts += json.loads((folder / "blns" / "blns.json").read_text("utf-8"))[::2]
        strings: list[str] = []
        for file in sorted((folder / "tokenizerbench").glob("*.py")):
            if file.name != "__init__.py":
                values = {k: v for k, v in sorted(runpy.run_path(str(file)).items()) if not k.startswith("_")}
                strings += [string for string in _find_strings(values) if len(string) <= LONGEST]
        texts += list(dict.fromkeys(strings))[::3]
        for file in sorted((folder / "udhr").glob("*.txt")):
            lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
            texts += [lines[place] for place in (1, 3, 7)]
    kept = dict.fromkeys(text[:LONGEST] for text in texts)
    return [text for text in kept if not any("\ud800" <= character < "\ue000" for character in text)]


def _find_strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for own in value.values():
            yield from _find_strings(own)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _find_strings(own)


def measure_pair(
    pair: tuple[Candidate, Candidate], texts: list[Text], aligners: list[Aligner]
) -> dict[str, Tally]:
    """Run every method on every text of one pair."""
    a, b = pair
    usable = [text for text in texts if text.text in a.reference and text.text in b.reference]
    expected = [
        derive_groups(text.words, [hold_spans(text, own.reference[text.text]) for own in pair])
        for text in usable
    ]
    tallies = {"xmodel": _measure_ours(pair, usable, expected)}
    for aligner in aligners:
        tally = tallies[aligner.name] = Tally(len(usable))
        for text, groups in zip(usable, expected, strict=True):
            try:
                held = [aligner.hold(own, text, own.ids[text.text]) for own in pair]
            except Exception as error:  # whatever a foreign library raises is its refusal
                tally.refused += 1
                if not tally.examples:
                    tally.examples.append(f"refuses: {type(error).__name__}: {str(error)[:120]}")
                continue
            _compare(tally, text, groups, derive_groups(text.words, held))
    tallies["HF word_ids, the tokenizers' own words"] = _measure_own_words(pair, usable, expected)
    return tallies


def _measure_ours(pair: tuple[Candidate, Candidate], texts: list[Text], expected: list[list[Group]]) -> Tally:
    tally = Tally(len(texts))
    aligned = align_texts([text.text for text in texts], [own.ours for own in pair])
    for text, groups, alignment in zip(texts, expected, aligned, strict=True):
        if any(spans.certificate.status == "failed" for spans in alignment.spans):
            tally.refused += 1
            tally.examples.append(f"{text.text[:60]!r}: certificate failed")
            continue
        own = alignment.groups
        found: list[Group] = [
            (
                int(own.starts[g]),
                int(own.ends[g]),
                [m.tokens[m.indptr[g] : m.indptr[g + 1]].tolist() for m in own.members],
            )
            for g in range(len(own))
        ]
        _compare(tally, text, groups, found)
    return tally


def _measure_own_words(
    pair: tuple[Candidate, Candidate], texts: list[Text], expected: list[list[Group]]
) -> Tally:
    """Word k of one tokenizer is word k of the other; only members are compared, as there are no extents."""
    tally = Tally(len(texts))
    for text, groups in zip(texts, expected, strict=True):
        rows = [own.backend.encode(text.text, add_special_tokens=False).word_ids for own in pair]
        count = 1 + max((word for row in rows for word in row if word is not None), default=-1)
        found = [
            (0, 0, [[i for i, word in enumerate(row) if word == k] for row in rows]) for k in range(count)
        ]
        _compare(tally, text, [(0, 0, members) for _, _, members in groups], found)
    return tally


def _compare(tally: Tally, text: Text, expected: list[Group], found: list[Group]) -> None:
    if found == expected:
        return
    tally.wrong += 1
    differing = [group for group in expected if group not in found]
    if differing and 0 < len(text.text) <= 40:
        start, stop, members = differing[0]
        word = text.text.encode()[start:stop].decode()
        other = next((own for own in found if own[1] > start and own[0] < stop), None)
        got = "nothing" if other is None else f"tokens {other[2]}"
        tally.examples.append(f"{text.text!r}: {word!r} has tokens {members}, got {got}")


def count_wrong_spans(candidates: list[Candidate], texts: list[Text], aligners: list[Aligner]) -> Table:
    """Texts with any wrong byte span, for methods that give spans; surrounding whitespace does not count."""
    table = Table(
        title="Texts with any wrong byte span (in brackets: refused); whitespace at the ends does not count"
    )
    table.add_column("method", no_wrap=True)
    for candidate in candidates:
        table.add_column(_shorten(candidate.name), justify="right")
    ours = {
        own.name: [
            list(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True))
            for spans in (a.spans[0] for a in align_texts([text.text for text in texts], [own.ours]))
        ]
        for own in candidates
    }
    row = []
    for own in candidates:
        pairs = zip(texts, ours[own.name], strict=True)
        row.append(_count(own, [(text, spans) for text, spans in pairs]))
    table.add_row("xmodel", *row, style="bold")
    for aligner in aligners:
        if aligner.spans:
            row = []
            for own in candidates:
                answers: list[tuple[Text, list[Span] | None]] = []
                for text in texts:
                    try:
                        answers.append((text, aligner.spans(own, text)))
                    except Exception:  # refused
                        answers.append((text, None))
                row.append(_count(own, answers))
            table.add_row(aligner.name, *row)
    return table


def _count(candidate: Candidate, answers: list[tuple[Text, list[Span] | None]]) -> str:
    known = [(text, spans) for text, spans in answers if text.text in candidate.reference]
    wrong = sum(
        [_trim(text, span) for span in spans]
        != [_trim(text, span) for span in candidate.reference[text.text]]
        for text, spans in known
        if spans is not None
    )
    refused = sum(spans is None for _, spans in known)
    return f"{wrong}" + (f" ({refused})" if refused else "")


def _trim(text: Text, span: Span) -> Span | None:
    start, stop = span
    content = text.text.encode()
    while start < stop and content[start : start + 1].isspace():
        start += 1
    while start < stop and content[stop - 1 : stop].isspace():
        stop -= 1
    return (start, stop) if start < stop else None


def _shorten(name: str) -> str:
    return {"bert-base-uncased-minilm": "bert", "tiny-bytelevel-bpe-nfc": "tiny-neox"}.get(
        name, name.replace("wordpiece-uncased", "bert").replace("-unigram", "")
    )


def load_candidates(shared: Path | None) -> tuple[dict[str, Candidate], list[tuple[str, str]]]:
    """The tokenizers of all pairs: published ones if their files are there, small ones in any case."""
    pairs = [*(REAL_PAIRS if shared else ()), *TINY_PAIRS]
    contents = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        if name.startswith("tiny-"):
            contents[name] = read_tokenizer(SHIPPED / f"{name.removeprefix('tiny-')}.json.gz")
        else:
            assert shared is not None
            path = shared / "data" / "tokenizers" / name / "tokenizer.json.gz"
            contents[name] = gzip.decompress(path.read_bytes()).decode()
    return {name: Candidate(name, content) for name, content in contents.items()}, list(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(os.environ.get("XMODEL_SHARED") or ROOT.parent / "shared")
    parser.add_argument("--shared", type=Path, default=beside, help="folder with real tokenizers and texts")
    parser.add_argument("--examples", type=int, default=2, help="examples of what goes wrong, per method")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)
    began = time.perf_counter()
    shared = options.shared if (options.shared / "data").is_dir() else None
    if shared is None:
        console.print(
            f"no folder with real tokenizers and texts at {options.shared}: only the suite and its small "
            "tokenizers are used",
            style="yellow",
        )
    aligners = find_aligners(console)
    texts = [Text(text, derive_words(text)) for text in read_texts(shared)]
    candidates, pairs = load_candidates(shared)
    unknown = [line for own in candidates.values() for line in own.prepare(texts)]
    for line in unknown:
        console.print(f"no reference, left out: {line}", style="yellow", markup=False)

    results = {
        pair: measure_pair((candidates[pair[0]], candidates[pair[1]]), texts, aligners) for pair in pairs
    }
    methods = list(next(iter(results.values())))
    table = Table(
        title=f"Texts with any wrong group (in brackets: refused), of {len(texts)} per pair of tokenizers"
    )
    table.add_column("method", no_wrap=True)
    for a, b in pairs:
        table.add_column(f"{_shorten(a)}\n{_shorten(b)}", justify="right", no_wrap=True)
    for head in ("texts", "wrong", "refused", "exact"):
        table.add_column(head, justify="right", style="bold")
    for method in methods:
        own = [results[pair][method] for pair in pairs]
        count, wrong, refused = (sum(getattr(t, key) for t in own) for key in ("texts", "wrong", "refused"))
        share = f"{(count - wrong - refused) / count:.1%}"
        table.add_row(
            method,
            *map(str, own),
            str(count),
            str(wrong),
            str(refused),
            share,
            style="green" if wrong + refused == 0 else None,
        )
    console.print(table)
    console.print(count_wrong_spans(list(candidates.values()), texts, aligners))
    for method in methods:
        lines = [(pair, line) for pair in pairs for line in results[pair][method].examples[:1]]
        for (a, b), line in lines[: options.examples]:
            console.print(f"{method}, {a} and {b}: {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
