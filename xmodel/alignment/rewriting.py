"""What a tokenizer does to a text before its model runs, replayed with every character accounted for.

A `Rewriting` is the rewritten text plus cut points: pairs of positions, one in the original and one in
the rewritten text, between which nothing crosses. Between two neighbouring cuts lies a minimal segment:
one kept character, a run that a normaliser rewrote as a whole, a deletion or an insertion. Rewritings
compose, so a chain of normalisers stays as local as its parts.

The tokenizers library does the rewriting itself (its own normaliser objects, so its own Unicode tables);
this file only finds out where. Positions here are characters; `spans.py` turns them into bytes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Step = Callable[[str], "Rewriting"]
_CODE_POINTS = 0x110000
_MOST_REMEMBERED = 1 << 16
_LONGEST_SPLIT = 32
"""Clusters of more characters (text stacked with accents) are not taken apart."""
_CHUNK = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, eq=False)
class Rewriting:
    """A text as rewritten, and where its pieces came from."""

    text: str
    before: NDArray[np.int64] | None = None
    """[C] cut points in the original, never decreasing; None where character n became character n."""
    after: NDArray[np.int64] | None = None
    """[C] the same cut points in `text`."""

    def cuts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both cut arrays, also where every character stayed in its place."""
        if self.before is None or self.after is None:
            every = np.arange(len(self.text) + 1)
            return every, every
        return self.before, self.after


def chain(first: Rewriting, second: Rewriting) -> Rewriting:
    """`second` applied to the text of `first`: cuts survive where both have one."""
    if second.before is None or second.after is None:
        return Rewriting(second.text, first.before, first.after)
    if first.before is None or first.after is None:
        return second
    size = len(first.text) + 1
    low = np.full(size, -1)
    low[second.before[::-1]] = np.arange(len(second.before))[::-1]
    high = np.full(size, -1)
    high[first.after] = np.arange(len(first.after))
    kept = low[first.after] >= 0
    before, after = first.before[kept], second.after[low[first.after[kept]]]
    # Where `second` inserts text, several of its cuts share one position of the middle text.
    repeated = np.flatnonzero(second.before[1:] == second.before[:-1]) + 1
    repeated = repeated[high[second.before[repeated]] >= 0]
    if len(repeated):
        before = np.concatenate([before, first.before[high[second.before[repeated]]]])
        after = np.concatenate([after, second.after[repeated]])
        order = np.lexsort((after, before))
        before, after = before[order], after[order]
    return Rewriting(second.text, before, after)


def run_steps(steps: list[Step], text: str) -> Rewriting:
    """Apply steps one after the other."""
    result = Rewriting(text)
    for step in steps:
        result = chain(result, step(result.text))
    return result


def join(parts: list[tuple[int, Rewriting]], size: int) -> Rewriting:
    """Put rewritten sections side by side; each comes with its start in the original of `size` characters."""
    befores, afters, texts, length = [], [], [], 0
    for start, part in parts:
        before, after = part.cuts()
        befores.append(before + start)
        afters.append(after + length)
        texts.append(part.text)
        length += len(part.text)
    if not parts:
        return Rewriting("", np.array([0, size]), np.array([0, 0]))
    return Rewriting("".join(texts), np.concatenate(befores), np.concatenate(afters))


class LocalStep:
    """A rewriting that acts on single characters, or on a character with what combines with it.

    Holds for lowercasing, accent stripping, the Unicode normal forms, precompiled SentencePiece maps and
    control character removal. The claim is checked on every text: the pieces, rewritten alone, must
    concatenate to the whole rewritten at once. Where they do not, the same is tried with words, and at last
    the segment from the first to the last difference counts as rewritten.
    """

    def __init__(self, rewrite: Callable[[str], str]) -> None:
        self.rewrite = rewrite
        self.lengths = np.ones(_CODE_POINTS, dtype=np.uint8)
        self.seen = np.zeros(_CODE_POINTS, dtype=np.bool_)
        self.changed: dict[int, str] = {}
        self.clusters: dict[str, str] = {}
        self.pieces: dict[str, list[tuple[int, int, str]]] = {}

    def __call__(self, text: str) -> Rewriting:
        """Rewrite a text and say where its pieces came from."""
        whole = self.rewrite(text)
        if whole == text:
            return Rewriting(text)
        points = code_points(text)
        self._learn(points)
        lengths = self.lengths[points].astype(np.int64)
        kept = np.ones(len(points) + 1, dtype=np.bool_)
        if not _same_but_sigma(text.translate(self.changed), whole) and not self._join_clusters(
            text, points, whole, lengths, kept
        ):
            return self._rewrite_chunks(text, whole)
        if (lengths == 1).all():
            return Rewriting(whole)
        after = np.zeros(len(points) + 1, dtype=np.int64)
        np.cumsum(lengths, out=after[1:])
        return Rewriting(whole, np.flatnonzero(kept), after[kept])

    def _join_clusters(
        self,
        text: str,
        points: NDArray[np.uint32],
        whole: str,
        lengths: NDArray[np.int64],
        kept: NDArray[np.bool_],
    ) -> bool:
        """Make one segment of characters that are only rewritten together (in place); False if that fails."""
        parts, done = [], 0
        for start, stop in find_clusters(text, points, self._acts_on_characters):
            for low, high, rewritten in self._split_cluster(text[start:stop]):
                first, last = start + low, start + high
                piece = text[first:last]
                if rewritten == piece.translate(self.changed):
                    continue
                head, tail = common_ends(piece, rewritten)
                if head + tail == len(piece):  # a pure insertion
                    return False
                parts += [text[done:first].translate(self.changed), rewritten]
                done = last
                lengths[first:last] = 1
                lengths[first + head] = len(rewritten) - head - tail
                lengths[first + head + 1 : last - tail] = 0
                kept[first + head + 1 : last - tail] = False
        parts.append(text[done:].translate(self.changed))
        return _same_but_sigma("".join(parts), whole)

    def _acts_on_characters(self, piece: str) -> bool:
        """Whether a piece is rewritten character by character, so that its clusters need no look."""
        return self._rewrite_cluster(piece) == piece.translate(self.changed)

    def _split_cluster(self, cluster: str) -> list[tuple[int, int, str]]:
        """The smallest pieces of a cluster that make it up when each is rewritten alone."""
        if cluster not in self.pieces:
            if len(self.pieces) > _MOST_REMEMBERED:
                self.pieces.clear()
            found, start = [], 0
            while start < len(cluster):
                rest = self._rewrite_cluster(cluster[start:])
                stop = len(cluster)
                if stop - start <= _LONGEST_SPLIT:
                    ends = range(start + 1, len(cluster))
                    rewrite = self._rewrite_cluster
                    fits = (e for e in ends if rewrite(cluster[start:e]) + rewrite(cluster[e:]) == rest)
                    stop = next(fits, stop)
                found.append((start, stop, self._rewrite_cluster(cluster[start:stop])))
                start = stop
            self.pieces[cluster] = found
        return self.pieces[cluster]

    def _rewrite_chunks(self, text: str, whole: str) -> Rewriting:
        """Where characters do not stand alone, words with the whitespace before them may."""
        chunks = list(_CHUNK.finditer(text))
        rewritten = [self._rewrite_cluster(chunk[0]) for chunk in chunks]
        if "".join(rewritten) != whole:
            return one_segment(text, whole)
        parts = [
            (chunk.start(), one_segment(chunk[0], now)) for chunk, now in zip(chunks, rewritten, strict=True)
        ]
        return join(parts, len(text))

    def _learn(self, points: NDArray[np.uint32]) -> None:
        """Find out once per character what becomes of it alone."""
        for point in np.unique(points[~self.seen[points]]).tolist():
            character = chr(point)
            rewritten = self.rewrite(character)
            self.seen[point] = True
            if rewritten != character:
                self.changed[point] = rewritten
                self.lengths[point] = len(rewritten)

    def _rewrite_cluster(self, cluster: str) -> str:
        if cluster not in self.clusters:
            if len(self.clusters) > _MOST_REMEMBERED:
                self.clusters.clear()
            self.clusters[cluster] = self.rewrite(cluster)
        return self.clusters[cluster]


def _same_but_sigma(left: str, right: str) -> bool:
    """Equal, except that Python lowers a sigma by what follows it: the one case map that looks around."""
    return left == right or left.replace("ς", "σ") == right.replace("ς", "σ")


def code_points(text: str) -> NDArray[np.uint32]:
    """[characters] the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def byte_offsets(points: NDArray[np.uint32]) -> NDArray[np.int64]:
    """[characters + 1] where each character begins in UTF-8."""
    sizes = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    return np.concatenate([[0], np.cumsum(sizes)])


@cache
def _cluster_pattern() -> Any:
    import regex

    return regex.compile(r"\X")


def find_clusters(
    text: str, points: NDArray[np.uint32], is_plain: Callable[[str], bool]
) -> list[tuple[int, int]]:
    """Extended grapheme clusters (UAX #29) of more than one character; in ASCII that is CR LF alone.

    Runs of other characters, with the one before them, for which `is_plain` holds are passed over.
    """
    found = [match.span() for match in re.finditer("\r\n", text)]
    wide = points > 0x7F
    if not wide.any():
        return found
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wide, [False]]).astype(np.int8)))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        begin = max(start - 1, 0)
        if is_plain(text[begin:stop]):
            continue
        for match in _cluster_pattern().finditer(text, begin, stop):
            if match.end() - match.start() > 1:
                found.append(match.span())
    return sorted(set(found))


def common_ends(left: str, right: str) -> tuple[int, int]:
    """How many characters two strings share at their beginning and, beyond those, at their end."""
    most = min(len(left), len(right))
    head = next((i for i in range(most) if left[i] != right[i]), most)
    tail = next((i for i in range(most - head) if left[-1 - i] != right[-1 - i]), most - head)
    return head, tail


def one_segment(text: str, rewritten: str) -> Rewriting:
    """Everything between the first and the last difference is one rewritten segment."""
    head, tail = common_ends(text, rewritten)
    before = np.concatenate([np.arange(head + 1), np.arange(len(text) - tail, len(text) + 1)])
    after = np.concatenate([np.arange(head + 1), np.arange(len(rewritten) - tail, len(rewritten) + 1)])
    return Rewriting(rewritten, before, after)


def replace_spans(text: str, spans: list[tuple[int, int]], content: str) -> Rewriting:
    """Each span of characters becomes `content`; the rest is kept."""
    if not spans:
        return Rewriting(text)
    kept = np.ones(len(text) + 1, dtype=np.bool_)
    lengths = np.ones(len(text), dtype=np.int64)
    parts, done = [], 0
    for start, stop in spans:
        parts += [text[done:start], content]
        done = stop
        lengths[start] = len(content)
        lengths[start + 1 : stop] = 0
        kept[start + 1 : stop] = False
    parts.append(text[done:])
    after = np.zeros(len(text) + 1, dtype=np.int64)
    np.cumsum(lengths, out=after[1:])
    return Rewriting("".join(parts), np.flatnonzero(kept), after[kept])


def delete_characters(text: str, deleted: NDArray[np.bool_]) -> Rewriting:
    """Drop the marked characters, each a deletion of its own."""
    if not deleted.any():
        return Rewriting(text)
    points = code_points(text)
    after = np.zeros(len(text) + 1, dtype=np.int64)
    np.cumsum(~deleted, out=after[1:])
    return Rewriting(
        points[~deleted].tobytes().decode("utf-32-le", "surrogatepass"), np.arange(len(text) + 1), after
    )


def prepend(text: str, prefix: str) -> Rewriting:
    """Insert `prefix` before a text."""
    if not text or not prefix:
        return Rewriting(text)
    every = np.arange(len(text) + 1)
    return Rewriting(prefix + text, np.concatenate([[0], every]), np.concatenate([[0], every + len(prefix)]))


def strip_step(rewrite: Callable[[str], str], strip_left: Callable[[str], str]) -> Step:
    """A step that removes characters from both ends; `strip_left` removes those of the beginning alone."""

    def strip(text: str) -> Rewriting:
        stripped = rewrite(text)
        start = len(text) - len(strip_left(text))
        deleted = np.ones(len(text), dtype=np.bool_)
        deleted[start : start + len(stripped)] = False
        return delete_characters(text, deleted)

    return strip


def replace_string_step(pattern: str, content: str) -> Step:
    """A step that replaces every occurrence of a string."""
    finder = re.compile(re.escape(pattern))

    def replace(text: str) -> Rewriting:
        if pattern not in text:
            return Rewriting(text)
        if len(pattern) == len(content) == 1:
            return Rewriting(text.replace(pattern, content))
        return replace_spans(text, [match.span() for match in finder.finditer(text)], content)

    return replace
