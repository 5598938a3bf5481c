"""How long does alignment take, next to tokenization and to other aligners? And does memory stay linear?

    python benchmarks/alignment_speed.py [TEXT ...] [--tokenizers A B]

Texts: the files given; else, from the folder with real texts (`shared` beside the checkout, or
$XMODEL_SHARED), the King James Bible, Moby Dick, speeches, the Declaration of Human Rights in 40
languages and two Python files: 12 MB. They are cut into documents of about 500 words, at blank lines
where there are any.

Everything runs in one process on one core (TOKENIZERS_PARALLELISM=false), in batches of 1 MB. Each figure
is the median of several repeats, in seconds of processor time, which other work on the machine disturbs
less than the clock on the wall; only tokenization on all cores is wall time. *Alignment* is everything
between the ids and the groups: text to bytes, words, spans of both tokenizers, groups.

The offsets route is the best that can be written with the tokenizers library's own offsets: encode_batch
instead of encode_batch_fast, offsets into one array, then the same words and the same grouping as
xmodel's, in characters. spacy-alignments gets words and token strings that were made before the clock
starts; it runs on a part of the documents (no longer than 200 kB) and is scaled by tokens. Its time per
token grows with the length of a document.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer as Backend

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe_machine, read_peak  # noqa: E402
from xmodel.alignment.align import _align_flat, flatten_texts  # noqa: E402
from xmodel.alignment.groups import group_flat, map_words  # noqa: E402
from xmodel.alignment.loading import load_tokenizer  # noqa: E402
from xmodel.alignment.matching import PAD  # noqa: E402
from xmodel.alignment.spans import locate_flat  # noqa: E402
from xmodel.alignment.tokenizer import Tokenizer  # noqa: E402
from xmodel.datasets.words import split_joined  # noqa: E402

WORDS_PER_DOCUMENT = 500
SPACY_DOCUMENTS = 80
SPACY_LONGEST = 200_000
NORMALIZED_BYTES = 2_000_000
BYTES_PER_BATCH = 1_000_000


@dataclass(frozen=True, eq=False)
class Encoded:
    """One tokenizer's ids of all documents."""

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    template: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Side:
    """A tokenizer as the library's object and as xmodel's."""

    backend: Any
    ours: Tokenizer

    def tokenize(self, texts: Sequence[str]) -> list[Any]:
        return self.backend.encode_batch_fast(texts, add_special_tokens=False)


def load_side(path: Path) -> Side:
    ours = load_tokenizer(path)
    content = path / "tokenizer.json.gz" if path.is_dir() else path
    if content.is_dir() or not content.exists():
        content = path / "tokenizer.json"
    if content.suffix == ".gz":
        import gzip

        backend = Backend.from_str(gzip.decompress(content.read_bytes()).decode())
    else:
        backend = Backend.from_file(str(content))
    backend.no_padding()
    backend.no_truncation()
    return Side(backend, ours)


def time_median(
    work: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Median seconds of some repeats, by default of processor time."""
    seconds = []
    for _ in range(repeats):
        began = clock()
        work()
        seconds.append(clock() - began)
    return statistics.median(seconds)


def cut_documents(texts: Sequence[str]) -> list[str]:
    """Cut at the first blank line after enough words, or, where there is none for long, at a line's end."""
    documents = []
    for text in texts:
        lines: list[str] = []
        words = 0
        for line in text.splitlines(keepends=True):
            lines.append(line)
            words += len(line.split())
            if words >= WORDS_PER_DOCUMENT and (not line.strip() or words >= 1.5 * WORDS_PER_DOCUMENT):
                documents.append("".join(lines))
                lines, words = [], 0
        if words:
            documents.append("".join(lines))
    return documents


def read_default_texts(shared: Path) -> list[str]:
    folder = shared / "data" / "texts"
    files = [
        folder / "kjv" / "kjv.txt",
        folder / "moby-dick" / "moby-dick.txt",
        *sorted((folder / "sotu").glob("*.txt")),
        *sorted((folder / "udhr").glob("*.txt")),
        *sorted((folder / "code").glob("*.py")),
    ]
    return [file.read_text("utf-8") for file in files]


def make_batches(texts: Sequence[str], bytes_per_batch: int) -> list[list[str]]:
    """Neighbouring texts, together of about a given size; a longer text is a batch of its own."""
    batches: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if batches[-1] and size >= bytes_per_batch:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text.encode())
    return batches


def make_arrays(encodings: list[Any]) -> Encoded:
    rows = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    return Encoded(np.concatenate(rows), counts, np.zeros(int(counts.sum()), np.bool_))


def align(texts: Sequence[str], sides: Sequence[Side], encoded: Sequence[Encoded]) -> Any:
    """From ids to groups, as `align_texts` does it."""
    flat = flatten_texts(texts)
    rows = [(own.ids, own.counts, own.template) for own in encoded]
    return _align_flat(flat, [side.ours for side in sides], rows, "default", "merge")


def time_parts(
    batch: Sequence[str], sides: Sequence[Side], encoded: Sequence[Encoded], repeats: int
) -> dict[str, float]:
    """The steps of an alignment, each alone."""
    flat = flatten_texts(batch)
    size = len(flat.buffer) - PAD
    parts = {"text to bytes": time_median(lambda: flatten_texts(batch), repeats)}
    buffer = flat.buffer[:size]
    parts["words"] = time_median(lambda: split_joined(buffer, flat.starts, flat.ends, "default"), repeats)
    spans = []
    for side, own in zip(sides, encoded, strict=True):

        def locate(side: Side = side, own: Encoded = own) -> Any:
            return locate_flat(side.ours, flat, own.ids, own.counts, own.template)

        parts[f"spans, {side.ours.name}"] = time_median(locate, repeats)
        found = locate()
        spans.append((found.starts, found.ends))
    starts, ends = split_joined(buffer, flat.starts, flat.ends, "default")
    parts["groups"] = time_median(
        lambda: group_flat(map_words(starts, ends, None, size), spans, "merge"), repeats
    )
    return parts


def time_offsets_route(batch: Sequence[str], sides: Sequence[Side], repeats: int) -> dict[str, float]:
    """Seconds to get from encodings to groups by the library's own offsets."""
    parts = {"tokenizing": 0.0, "extracting": 0.0}
    spans: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    lengths = np.fromiter(map(len, batch), np.int64, len(batch))
    begins = 1 + np.cumsum(lengths + 1) - (lengths + 1)
    for side in sides:
        parts["tokenizing"] += time_median(
            lambda side=side: side.backend.encode_batch(batch, add_special_tokens=False), 1
        )
        encodings = side.backend.encode_batch(batch, add_special_tokens=False)

        def extract(encodings: list[Any] = encodings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            rows = [encoding.offsets for encoding in encodings]
            counts = np.fromiter(map(len, rows), np.int64, len(rows))
            flat = chain.from_iterable(chain.from_iterable(rows))
            pairs = np.fromiter(flat, np.int64, 2 * int(counts.sum())).reshape(-1, 2)
            pairs += np.repeat(begins, counts)[:, None]
            return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])

        parts["extracting"] += time_median(extract, repeats)
        spans.append(extract())

    def group() -> Any:
        flat = flatten_texts(batch)
        buffer = flat.buffer[: len(flat.buffer) - PAD]
        starts, ends = split_joined(buffer, flat.starts, flat.ends, "default")
        characters = np.zeros(len(buffer) + 1, np.int64)
        np.cumsum((buffer & 0xC0) != 0x80, out=characters[1:])
        words = map_words(characters[starts], characters[ends], None, int(characters[-1]))
        return group_flat(words, spans, "merge")

    parts["grouping"] = time_median(group, repeats)
    return parts


def time_spacy(texts: Sequence[str], sides: Sequence[Side], repeats: int) -> float | None:
    """Seconds per token of spacy-alignments, words to tokens; None if it is not installed."""
    try:
        from spacy_alignments import get_alignments
    except ImportError:
        return None
    texts = [text for text in texts if len(text) < SPACY_LONGEST]
    step = max(1, len(texts) // SPACY_DOCUMENTS)
    jobs = []
    tokens = 0
    for text in texts[::step][:SPACY_DOCUMENTS]:
        flat = flatten_texts([text])
        starts, ends = split_joined(flat.buffer[:-PAD], flat.starts, flat.ends, "default")
        content = flat.buffer.tobytes()
        words = [content[a:b].decode() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        for side in sides:
            strings = side.backend.encode(text, add_special_tokens=False).tokens
            jobs.append((words, [s.replace("Ġ", "").replace("▁", "").replace("Ċ", "\n") for s in strings]))
            tokens += len(strings)

    def run() -> None:
        for words, strings in jobs:
            get_alignments(words, strings)

    return time_median(run, max(1, repeats // 2)) / tokens if tokens else None


def measure_memory(text: str, side_paths: Sequence[Path], console: Console) -> None:
    """One document of 1, 2, 4 and 8 MB: what aligning allocates, and the whole process's peak."""
    sides = [load_side(path) for path in side_paths]
    table = Table(title="Memory for one document, words to groups of both tokenizers")
    for head in ("document", "aligning, peak", "per byte", "process with tokenizing, peak"):
        table.add_column(head, justify="right")
    content = text.encode()
    while len(content) < 8_000_000:
        content += b"\n\n" + content
    for megabytes in (1, 2, 4, 8):
        document = content[: megabytes * 1_000_000].decode("utf-8", "ignore")
        encoded = [make_arrays(side.tokenize([document])) for side in sides]
        align([document], sides, encoded)
        tracemalloc.start()
        align([document], sides, encoded)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        command = [
            sys.executable,
            __file__,
            "--peak-of",
            str(megabytes),
            "--tokenizers",
            *map(str, side_paths),
        ]
        child = subprocess.run(command, input=document.encode(), capture_output=True, check=True)
        process = int(child.stdout)
        table.add_row(
            f"{megabytes} MB",
            f"{peak / 1e6:.0f} MB",
            f"{peak / len(document.encode()):.1f}",
            f"{process / 1e6:.0f} MB",
        )
    console.print(table)


def print_peak(paths: Sequence[Path]) -> None:
    """The child process of `measure_memory`: aligns what comes in and prints its peak memory in bytes."""
    text = sys.stdin.buffer.read().decode()
    sides = [load_side(path) for path in paths]
    align([text], sides, [make_arrays(side.tokenize([text])) for side in sides])
    print(read_peak())


@dataclass(frozen=True)
class Figures:
    """Seconds of one run, all batches together."""

    tokens: int
    tokenizing: float
    arrays: float
    aligning: float
    offsets: float = 0.0
    with_offsets: float = 0.0
    spacy: float | None = None


def report_run(
    title: str, texts: Sequence[str], sides: Sequence[Side], repeats: int, console: Console, *, rivals: bool
) -> None:
    """One table: tokenization, our steps, and what others take."""
    size = sum(len(text.encode()) for text in texts)
    tokenizing = [time_median(lambda side=side: side.tokenize(texts), 3) for side in sides]
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    parallel = sum(
        time_median(lambda side=side: side.tokenize(texts), 3, time.perf_counter) for side in sides
    )
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    arrays = aligning = 0.0
    parts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    tokens = groups = 0
    batches = make_batches(texts, BYTES_PER_BATCH)
    for batch in batches:
        encodings = [side.tokenize(batch) for side in sides]
        arrays += time_median(lambda own=encodings: [make_arrays(encoding) for encoding in own], repeats)
        encoded = [make_arrays(own) for own in encodings]
        result = align(batch, sides, encoded)
        aligning += time_median(lambda batch=batch, own=encoded: align(batch, sides, own), repeats)
        parts.update(time_parts(batch, sides, encoded, repeats))
        if rivals:
            others.update(time_offsets_route(batch, sides, repeats))
        tokens += sum(len(own.ids) for own in encoded)
        groups += len(result.groups.starts)
        statuses.update(c.status for model in range(len(sides)) for c in result.certificates(model))
    spacy = time_spacy(texts, sides, repeats)
    total = sum(tokenizing)
    figures = Figures(
        tokens, total, arrays, aligning, others["extracting"] + others["grouping"], others["tokenizing"],
        None if spacy is None else spacy * tokens,
    )  # fmt: skip

    table = Table(
        title=f"{title}: {len(texts)} documents, {size / 1e6:.1f} MB, {tokens / 1e6:.2f} M tokens of "
        f"{len(sides)} tokenizers, {len(batches)} batches"
    )
    for head in ("step", "seconds", "M tokens/s", "of tokenization"):
        table.add_column(head, justify="left" if head == "step" else "right")

    def add(step: str, seconds: float, style: str | None = None) -> None:
        speed = f"{tokens / seconds / 1e6:.2f}" if seconds > 0 else ""
        table.add_row(step, f"{seconds:.3f}", speed, f"{seconds / total:.2%}", style=style)

    for side, seconds in zip(sides, tokenizing, strict=True):
        add(f"tokenizing, {side.ours.name}, one core", seconds)
    add("tokenizing, both, one core", total)
    add(f"tokenizing, both, {os.cpu_count()} cores (wall time)", parallel)
    add("ids out of the library into arrays", arrays)
    add("aligning: ids to groups", aligning, "bold")
    for step, seconds in parts.items():
        add(f"  {step}", seconds, "dim")
    if rivals:
        add("offsets route: offsets to groups", figures.offsets)
        add("  of that, getting the offsets out", others["extracting"], "dim")
    if figures.spacy is None:
        console.print("spacy-alignments: not installed (pip install spacy-alignments)", style="yellow")
    else:
        add("spacy-alignments, words to tokens (scaled)", figures.spacy)
    console.print(table)
    console.print(f"certificates: {dict(statuses)}; groups: {groups}", highlight=False)
    if rivals:
        print_aims(figures, console)


def print_aims(figures: Figures, console: Console) -> None:
    """The project's aims and whether this run meets them."""
    speed = figures.tokens / figures.aligning / 1e6
    share = figures.aligning / figures.tokenizing
    route = figures.offsets / figures.aligning
    aims = [
        (f"alignment takes {share:.2%} of the time of tokenization (aim: below 2 %)", share < 0.02),
        (f"{speed:.1f} M tokens a second on one core from ids to groups (aim: 15)", speed >= 15),
        (f"{route:.1f} times as fast as the offsets route (aim: 4)", route >= 4),
    ]
    if figures.spacy is not None:
        ratio = figures.spacy / figures.aligning
        aims.append((f"{ratio:.0f} times as fast as spacy-alignments (aim: 50)", ratio >= 50))
    for line, met in aims:
        style = "green" if met else "red"
        console.print(f"{'met   ' if met else 'MISSED'} {line}", style=style, highlight=False)
    extra = max(figures.with_offsets - figures.tokenizing, 0)
    fair = (figures.offsets + extra) / (figures.aligning + figures.arrays)
    console.print(
        f"       {fair:.1f} times if ids into arrays count for xmodel, and for the offsets route the "
        f"{extra:.2f} s that encode_batch takes beyond encode_batch_fast",
        highlight=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(os.environ.get("XMODEL_SHARED") or ROOT.parent / "shared")
    parser.add_argument("texts", nargs="*", type=Path, help="text files to use instead of the default ones")
    parser.add_argument(
        "--tokenizers", nargs=2, type=Path, metavar=("A", "B"), help="two tokenizer.json or folders"
    )
    parser.add_argument("--shared", type=Path, default=beside, help="folder with real tokenizers and texts")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    real = options.shared / "data"
    paths = options.tokenizers
    if paths is None:
        small = ROOT / "conformance" / "tokenizers"
        paths = [small / "gemma.json.gz", small / "bytelevel-bpe-nfc.json.gz"]
        if real.is_dir():
            paths = [real / "tokenizers" / "gemma3", real / "tokenizers" / "gpt-neox"]
    if options.peak_of:
        print_peak(paths)
        return
    if options.texts:
        texts = [file.read_text("utf-8") for file in options.texts]
    elif real.is_dir():
        texts = read_default_texts(options.shared)
    else:
        parser.error(
            f"there is no folder with real texts at {options.shared}: give one or more text files, 8 MB or "
            "more in all"
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(describe_machine(), highlight=False)
    sides = [load_side(path) for path in paths]
    documents = cut_documents(texts)
    report_run("Documents of 500 words", documents, sides, options.repeats, console, rivals=True)
    report_run("Whole files", texts, sides, options.repeats, console, rivals=False)
    bert = real / "tokenizers" / "bert-base-uncased-minilm"
    normalizing = bert if bert.is_dir() else ROOT / "conformance" / "tokenizers" / "wordpiece-uncased.json.gz"
    step = max(1, sum(len(text) for text in documents) // NORMALIZED_BYTES)
    console.print("Every text is rewritten by the second tokenizer, so its spans need the slower tier:")
    pair = [sides[0], load_side(normalizing)]
    report_run("A normalising tokenizer", documents[::step], pair, options.repeats, console, rivals=False)
    measure_memory("\n\n".join(texts), paths, console)


if __name__ == "__main__":
    main()
