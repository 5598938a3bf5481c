"""A small finished run on disk, made without any model: planted features on a made-up text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import issparse

from xmodel.alignment.shards import write_features
from xmodel.alignment.tables import TABLES, Splitter, count_words, merge_tables, write_table
from xmodel.datasets.words import split_words
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.results import Run, open_run
from xmodel.pairing.settings import PairSettings
from xmodel.records import WordFeatures
from xmodel.run import FORMAT, RunFolder

CONCEPTS = (
    ("whale", "whales", "Whale", "leviathan"),
    ("ship", "boat", "ships", "vessel"),
    ("sea", "ocean", "water"),
    ("captain", "sailor", "mate"),
    ("red", "green", "blue"),
    ("one", "two", "three"),
)
"""What each of A's first features fires on, the strongest word first."""
PARTNER = (3, 5, 0, 6, 1, 2)
"""B's feature for each of A's first features."""
FEATURES = (10, 8)
RARE, DENSE, DEAD = 7, 8, 9
"""A's features that fire three times, on nearly every word, and never."""
FILLERS = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "he",
    "it",
    "was",
    "that",
    "for",
    "on",
    "as",
    "with",
    "his",
    "but",
    "at",
    "is",
    "not",
    "they",
]


@dataclass(frozen=True, eq=False)
class TinyRun:
    """The run, and the truth it was made from."""

    run: Run
    texts: list[str]
    words: list[tuple[int, int, int]]
    """Document, first byte, one past the last byte of each word."""
    values: dict[str, np.ndarray]
    """[W, F] activations by side."""

    def word(self, number):
        document, start, end = self.words[number]
        return self.texts[document].encode()[start:end].decode()


def make_texts(documents=24, sentences=25, seed=0):
    rng = np.random.default_rng(seed)
    concepts = [word for group in CONCEPTS for word in group]
    texts = []
    for _ in range(documents):
        lines = []
        for _ in range(sentences):
            length = int(rng.integers(4, 9))
            words = [str(rng.choice(concepts if rng.random() < 0.4 else FILLERS)) for _ in range(length)]
            lines.append(" ".join(words) + str(rng.choice([".", ".\n\n", "?\n"])))
        texts.append(" ".join(lines))
    return texts


def plant_features(texts, seed=0, noise=0.1):
    """[W, 10] and [W, 8] activations on the words of some documents."""
    rng = np.random.default_rng(seed)
    groups = [{word.casefold(): place for place, word in reversed(list(enumerate(g)))} for g in CONCEPTS]
    a, b = (np.zeros((len(texts), width), dtype=np.float32) for width in FEATURES)
    for row, text in enumerate(texts):
        for feature, places in enumerate(groups):
            place = places.get(text.casefold())
            if place is not None:
                strength = 4.0 - 0.5 * place
                a[row, feature] = strength + noise * rng.random()
                if rng.random() < 0.95:
                    b[row, PARTNER[feature]] = 50 * (strength + noise * rng.random())
    a[[5, len(texts) // 2, len(texts) - 5], RARE] = 1.5
    fires = rng.random(len(texts)) < 0.9
    a[fires, DENSE] = 0.2 + rng.random(int(fires.sum())).astype(np.float32)
    b[rng.random(len(texts)) < 0.3, 7] = 1.0
    return {"a": a, "b": b}


def make_rows(dense):
    if issparse(dense):
        return WordFeatures(dense.indptr.astype(np.int64), dense.indices, dense.data, dense.shape[1])
    rows, columns = np.nonzero(dense)
    counts = np.bincount(rows, minlength=len(dense))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return WordFeatures(indptr, columns.astype(np.int32), dense[rows, columns], dense.shape[1])


def build_run(path, texts=None, *, shards=3, values=None, pairing=None, names=None, unit="word"):
    """Write a run folder.

    Args:
        path: of the folder.
        texts: documents; made up if left out.
        shards: how many.
        values: [W, F] by side, dense or scipy's rows, or what makes them from the words' texts; planted if
            left out.
        pairing: filters and rules; None for no pairing at all.
        names: of the documents.
        unit: as the manifest has it.
    """
    folder = RunFolder(Path(path))
    texts = make_texts() if texts is None else texts
    spans = [split_words(text) for text in texts]
    words = [
        (document, int(start), int(end))
        for document, own in enumerate(spans)
        for start, end in zip(own.starts, own.ends, strict=True)
    ]
    spelled = [texts[document].encode()[start:end].decode() for document, start, end in words]
    values = plant_features(spelled) if values is None else values(spelled) if callable(values) else values
    names = names or [f"text.txt#{number}" for number in range(len(texts))]
    of = np.array([document for document, _, _ in words])
    parts = {table: [] for table in TABLES}
    listed, first = [], 0
    for number, own in enumerate(np.array_split(np.arange(len(texts)), shards)):
        rows = np.flatnonzero(np.isin(of, own))
        files = {}
        for side in "ab":
            name = f"features_{side}/shard-{number:05d}.safetensors"
            content = write_features(make_rows(values[side][rows]), np.arange(len(rows)), first)
            files[name] = folder.write_bytes(name, content)
        for table, columns in _tabulate(own, rows, texts, names, words, spelled).items():
            parts[table].append(f"parts/{table}-{number:05d}.parquet")
            write_table(folder, parts[table][-1], table, columns)
        listed.append({"number": number, "words": len(rows), "files": files})
        first += len(rows)
    splitter = Splitter(len(texts), len(words), 0)
    bounds = count_words(folder, parts["words"], len(texts))
    makers = {
        "words": splitter.name_words,
        "documents": lambda table: splitter.name_documents(table, bounds),
    }
    tables = {f"{t}.parquet": merge_tables(folder, t, parts[t], makers.get(t)) for t in TABLES}
    folder.write_json("manifest.json", _make_manifest(listed, tables, len(texts), values, unit))
    settings = PairSettings(min_firings=5, workers=1) if pairing is None else pairing
    if settings:
        pair_features(folder, settings)
    return TinyRun(open_run(folder.path), texts, words, values)


def _tabulate(documents, rows, texts, names, words, spelled):
    own = [words[row] for row in rows]
    tokens = {
        "document": [word[0] for word in own],
        "position": np.arange(len(own)),
        "id": rows,
        "start": [word[1] for word in own],
        "end": [word[2] for word in own],
        "flags": np.zeros(len(own), np.uint8),
        "window": np.zeros(len(own), np.int32),
        "excluded": np.zeros(len(own), np.uint8),
    }
    return {
        "documents": {
            "document": documents,
            "name": [names[number] for number in documents],
            "text": [texts[number] for number in documents],
        },
        "words": {
            "word_id": rows,
            "document": [word[0] for word in own],
            "start": [word[1] for word in own],
            "end": [word[2] for word in own],
            "text": [spelled[row] for row in rows],
            "group": np.arange(len(own)),
        },
        "tokens_a": tokens,
        "tokens_b": tokens,
    }


def _make_manifest(listed, tables, documents, values, unit):
    words = sum(shard["words"] for shard in listed)
    sides = {
        side: {
            "model": {"name": f"maker/model-{side}"},
            "dictionary": {
                "name": f"release/sae-{side}",
                "architecture": "standard",
                "features": values[side].shape[1],
                "signed": bool(values[side].min() < 0),
            },
            "site": "blocks.3.hook_resid_post",
            "calibration": {"fvu": 0.25, "tokens": 700, "misfit": None},
            "certificates": {"exact": documents - 1, "normalized": 1},
        }
        for side in "ab"
    }
    settings = {"unit": unit, "words": "default", "pool": "max", "pool_before_encoding": False}
    return {
        "format": FORMAT,
        "complete": True,
        "packages": {"xmodel": "0"},
        "arguments": {"settings": settings},
        "sides": sides,
        "corpus": {"name": "made up", "sha256": "0", "documents": documents, "words": words},
        "split": "documents",
        "attrition": [
            {"filter": "documents: ids and text fit in both models", "in": documents, "out": documents}
        ],
        "shards": listed,
        "files": tables,
        "seconds": {"align": 0.1},
    }
