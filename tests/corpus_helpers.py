"""What the tests of corpora share: files to read, and the names and texts of what was read."""

import gzip
import json
from pathlib import Path

from xmodel.datasets.corpus import Corpus


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents()]


def names(corpus: Corpus) -> list[str]:
    return [document.name for document in corpus.documents()]


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_rows(path: Path, rows: list[object]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def paragraphs(count: int, words: int = 120) -> str:
    return "\n\n".join(" ".join(f"w{n}x{k}" for k in range(words)) for n in range(count)) + "\n"
