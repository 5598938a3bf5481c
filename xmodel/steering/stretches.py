"""Stretches of held-out text that both models read alike, in the order in which they are taken."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tables import iterate_table
from xmodel.errors import InputError
from xmodel.pairing.filters import choose_words
from xmodel.pairing.halves import read_split
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.steering.places import WordPlaces, locate_words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Half = Literal["heldout", "discovery"]
"""Which half of a run's words."""
POOL_WORDS = 200_000
"""Held-out words among which passages are chosen. Of a longer corpus, documents are drawn."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive words of one window of one document."""

    document: int
    grade: int
    """0 if it is as long as was asked for, 1 if at least half as long, 2 if it is shorter."""
    word_ids: NDArray[np.int64]
    """[k] the words of it that are read, ascending, at least one."""
    last: NDArray[np.int64]
    """[k, 2] rows of their last tokens in ``tokens_a`` and ``tokens_b``."""
    begin: NDArray[np.int64]
    """[2] rows of its first tokens."""
    earlier: NDArray[np.int64]
    """[2] rows of the first tokens with the lead before it; `begin` where there is none."""

    def take_first(self, words: int) -> "Stretch":
        """The stretch up to its word number `words`."""
        return replace(self, word_ids=self.word_ids[:words], last=self.last[:words])


def list_stretches(
    run: Run, words: int, passage_words: int, lead: int, rng: np.random.Generator, half: Half = "heldout"
) -> list[Stretch]:
    """Cut one half of the text into stretches, from a random place of every window on.

    Args:
        run: a finished run.
        words: how many are to be read; decides how many documents are drawn of a long corpus.
        passage_words: words of a stretch.
        lead: words before it that are to be context.
        rng: draws documents, places and the order; in the same way whatever the lead.
        half: which half of the text.

    Returns:
        The stretches in the order in which to take them: the first of every document, then the second of
        every document that has two, and so on; among these, full ones first, and otherwise at random.
    """
    manifest = run.manifest
    least = max(1, int(manifest["arguments"]["settings"]["skip_positions"]))
    prefixes = np.array([len(manifest["sides"][letter]["prefix"]) for letter in "ab"])
    choice, discovery = choose_words(run.shards, PairSettings.of_manifest(manifest)), read_split(run.folder)
    readable = choice.heldout if half == "heldout" else choice.discovery
    inside = ~discovery if half == "heldout" else discovery
    found: list[Stretch] = []
    for places in locate_words(run, _draw_documents(run, inside, words, rng)):
        for first, stop in _find_runs(places, inside):
            for begin, end in _cut_run(first, stop, passage_words, rng):
                # Words are read up to the stretch's end; its beginning moves to where a text may begin.
                opening = begin + np.flatnonzero(places.opens[begin:end])
                if not len(opening):
                    continue
                start = int(opening[0])
                columns = prefixes + places.last[start:end] - places.begin[start]
                read = places.closes[start:end] & (columns >= least).all(axis=1)
                own = start + np.flatnonzero(read & readable[places.word_ids[start:end]])
                if not len(own):
                    continue
                low = max(first, start - lead)
                before = low + int(np.flatnonzero(places.opens[low : start + 1])[0])
                found.append(
                    Stretch(
                        document=int(places.documents[start]),
                        grade=_grade(end - begin, passage_words),
                        word_ids=places.word_ids[own],
                        last=places.last[own],
                        begin=places.begin[start],
                        earlier=places.begin[before],
                    )
                )
    return _put_in_order(found, rng)


def put_covering_first(
    run: Run,
    stretches: Sequence[Stretch],
    words: int,
    a: NDArray[np.integer[Any]],
    b: NDArray[np.integer[Any]],
) -> list[Stretch]:
    """Bring to the front the stretches on which most of some pairs fire, each time the one that adds most.

    Args:
        run: the run.
        stretches: in their order, which decides between equals.
        words: how many are to be read.
        a: [F] A's features.
        b: [F] B's; a pair fires where both of its features do.

    Returns:
        The stretches, those chosen first.

    Raises:
        InputError: for features that do not exist, or another number of either side's.
    """
    from scipy.sparse import csr_matrix

    _check_features(run, a, b)
    if not stretches:
        return []
    wanted = np.zeros(int(run.shards.bounds[-1]), dtype=np.bool_)
    wanted[np.concatenate([one.word_ids for one in stretches])] = True
    numbers, firing = _find_firings(run, wanted, a, b)
    sizes = [len(one.word_ids) for one in stretches]
    rows = np.searchsorted(numbers, np.concatenate([one.word_ids for one in stretches]))
    owners = np.repeat(np.arange(len(stretches)), sizes)
    shape = len(stretches), len(numbers)
    membership = csr_matrix((np.ones(len(rows), dtype=np.int32), (owners, rows)), shape=shape)
    fires = csr_matrix(membership @ firing).toarray() > 0
    front: list[int] = []
    covered = np.zeros(len(a), dtype=np.bool_)
    taken = 0
    while taken < words:
        gains = (fires & ~covered).sum(axis=1)
        best = int(gains.argmax())
        if not gains[best]:
            break
        front.append(best)
        covered |= fires[best]
        taken += sizes[best]
    rest = np.setdiff1d(np.arange(len(stretches)), front)
    return [stretches[place] for place in [*front, *rest.tolist()]]


def _draw_documents(
    run: Run, heldout: NDArray[np.bool_], words: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """[D] documents with enough held-out words to choose from; all that have any, but in a long corpus."""
    parts = [part["document"].to_numpy() for part in iterate_table(run.folder, "words", ["document"])]
    documents = np.concatenate([*parts, np.zeros(0, dtype=np.int32)])[heldout]
    counts = np.bincount(documents, minlength=int(run.manifest["corpus"]["documents"]))
    order = rng.permutation(np.flatnonzero(counts))
    enough = np.searchsorted(np.cumsum(counts[order]), max(POOL_WORDS, 20 * words)) + 1
    wanted = np.zeros(len(counts), dtype=np.bool_)
    wanted[order[:enough]] = True
    return wanted


def _find_runs(places: WordPlaces, heldout: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """The longest ranges of held-out words that are in one window of one document."""
    if not len(places.word_ids):
        return
    fits = heldout[places.word_ids] & (places.windows >= 0)
    changes = np.diff(places.documents) | np.diff(places.windows) | np.diff(fits)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(fits)]
    for first, stop in itertools.pairwise(bounds):
        if fits[first]:
            yield first, stop


def _cut_run(
    first: int, stop: int, passage_words: int, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Ranges of `passage_words` words from a random place on, and what is left before and after them."""
    count, slack = divmod(stop - first, passage_words)
    begin = first + int(rng.integers(0, slack + 1)) if count else stop
    cuts = {first, *range(begin, stop, passage_words), stop}
    yield from itertools.pairwise(sorted(cuts))


def _grade(length: int, passage_words: int) -> int:
    return 0 if length == passage_words else 1 if 2 * length >= passage_words else 2


def _put_in_order(stretches: Sequence[Stretch], rng: np.random.Generator) -> list[Stretch]:
    """Every document's first stretch, every document's second, ...; full ones first, else at random."""
    chance = rng.permutation(len(stretches)).tolist()
    order = sorted(range(len(stretches)), key=lambda place: (stretches[place].grade, chance[place]))
    rounds: dict[int, int] = {}
    turns = {}
    for place in order:
        document = stretches[place].document
        turns[place] = rounds[document] = rounds.get(document, -1) + 1
    # Sorting keeps the order of equals.
    return [stretches[place] for place in sorted(order, key=lambda place: turns[place])]


def _check_features(run: Run, a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]) -> None:
    if len(a) != len(b):
        raise InputError(f"{len(a)} features of a came and {len(b)} of b: expected was one of each per pair.")
    for letter, own, count in zip("ab", (a, b), run.shards.features, strict=True):
        if len(own) and not 0 <= own.min() <= own.max() < count:
            raise InputError(
                f"features {own.min()} to {own.max()} of {letter} were asked for: there are 0 to "
                f"{count - 1:,}."
            )


def _find_firings(
    run: Run, wanted: NDArray[np.bool_], a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]
) -> "tuple[NDArray[np.int64], csr_matrix]":
    """Some words' ids [n], and [n, F] int32 which pairs fire on them in both models."""
    from scipy.sparse import csr_matrix, vstack

    parts = []
    for side_a, side_b in run.shards.select(wanted)():
        first, second = (
            csr_matrix((own.values != 0, own.indices, own.indptr), shape=(len(own), own.features)).tocsc()
            for own in (side_a, side_b)
        )
        parts.append(first[:, a].multiply(second[:, b]).tocsr().astype(np.int32))
    return np.flatnonzero(wanted), csr_matrix(vstack(parts, format="csr"))
