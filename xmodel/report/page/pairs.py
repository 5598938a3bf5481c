"""The table of pairs, and of every pair both features on the same words."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.pair_table import RULES
from xmodel.report.page.chunks import ChunkWriter, name_part, round_decimals, round_significant
from xmodel.report.page.columns import Columns, Report
from xmodel.report.page.contexts import Needed, Windows, find_activations

if TYPE_CHECKING:
    import pyarrow as pa

PAIR_CHUNK = 64
"""Pairs per chunk."""
POINTS = 120
"""Words of a pair's scatter."""
_FIRINGS = ("n_a", "n_b", "n_ab", "n_a_heldout", "n_b_heldout", "n_ab_heldout")
_PARTS = ("both", "only_a", "only_b")


def list_shown_pairs(pairs: "pa.Table") -> "pa.Table":
    """The pairs that a rule chose, best first: the rows of ``pairs/table``.

    Args:
        pairs: the content of pairs.parquet.
    """
    chosen = np.zeros(len(pairs), dtype=np.bool_)
    for rule in RULES:
        chosen |= pairs[rule].to_numpy()
    return pairs.take(np.flatnonzero(chosen))


def write_pair_table(writer: ChunkWriter, shown: "pa.Table") -> int:
    """Write ``pairs/table``: a column of each number, for all pairs at once.

    Args:
        writer: of the chunks.
        shown: as `list_shown_pairs` gives them.

    Returns:
        Bytes.
    """
    rules = np.zeros(len(shown), dtype=np.int64)
    for bit, rule in enumerate(RULES):
        rules |= shown[rule].to_numpy().astype(np.int64) << bit
    r, heldout, margin = (_read_numbers(shown, name) for name in ("r", "r_heldout", "margin"))
    payload = {
        "a": shown["feature_a"].to_pylist(),
        "b": shown["feature_b"].to_pylist(),
        "r": round_decimals(r),
        "r_heldout": round_decimals(heldout),
        **{name: shown[name].to_pylist() for name in _FIRINGS},
        "jaccard": round_significant(_read_numbers(shown, "jaccard")),
        "margin": round_decimals(margin),
        "rules": rules.tolist(),
    }
    return writer.write("pairs/table", payload)


def write_pairs(
    writer: ChunkWriter,
    shown: "pa.Table",
    columns: Mapping[str, Columns],
    windows: Mapping[str, Sequence[Windows]],
    needed: Needed,
    *,
    report: Report = lambda stage, done, total: None,
) -> tuple[int, int]:
    """Write ``pairs/0000`` and so on: each feature of a pair on the other's contexts, and a scatter.

    Args:
        writer: of the chunks.
        shown: as `list_shown_pairs` gives them.
        columns: activations by side.
        windows: [F] of the features by side.
        needed: takes in the words of the scatters.
        report: told of progress.

    Returns:
        Chunks and bytes.
    """
    a, b = (shown[f"feature_{side}"].to_pylist() for side in "ab")
    size, chunks = 0, -(-len(a) // PAIR_CHUNK)
    for number in range(chunks):
        report("pairs", number, chunks)
        own = slice(number * PAIR_CHUNK, (number + 1) * PAIR_CHUNK)
        some = list(zip(a[own], b[own], strict=True))
        scatters = [sample_scatter(columns["a"].get(one), columns["b"].get(other)) for one, other in some]
        needed.add_words(np.concatenate([scatter.words for scatter in scatters]))
        b_on_a = find_activations(columns["b"], [(other, windows["a"][one]) for one, other in some])
        a_on_b = find_activations(columns["a"], [(one, windows["b"][other]) for one, other in some])
        payload = [
            {"b_on_a": on_a, "a_on_b": on_b, "scatter": scatter}
            for on_a, on_b, scatter in zip(b_on_a, a_on_b, _describe_scatters(scatters), strict=True)
        ]
        size += writer.write(name_part("pairs", number), payload)
    report("pairs", chunks, chunks)
    return chunks, size


@dataclass(frozen=True, eq=False)
class Scatter:
    """Some of the words on which either of two features fires."""

    words: NDArray[np.int32]
    """[m] ids, ascending."""
    a: NDArray[np.float32]
    """[m] activations of A's feature, 0 where it does not fire."""
    b: NDArray[np.float32]
    """[m]"""
    all: tuple[int, int, int]
    """Of all words of the run those on which both fire, only A's, only B's."""


def sample_scatter(
    a: tuple[NDArray[np.int32], NDArray[np.float32]], b: tuple[NDArray[np.int32], NDArray[np.float32]]
) -> Scatter:
    """The words on which either of two features fires; of many an even sample of `POINTS` along the corpus.

    Args:
        a: [n] word ids, ascending, and [n] activations.
        b: the same.
    """
    ids = np.concatenate([a[0], b[0]])
    # Two ascending runs: a stable sort merges them.
    ids.sort(kind="stable")
    begins = np.ones(len(ids), dtype=np.bool_)
    begins[1:] = ids[1:] != ids[:-1]
    places = np.flatnonzero(begins)
    both = len(ids) - len(places)
    if len(places) > POINTS:
        places = places[np.linspace(0, len(places) - 1, POINTS).round().astype(np.int64)]
    words = ids[places]
    return Scatter(words, _look_up(a, words), _look_up(b, words), (both, len(a[0]) - both, len(b[0]) - both))


def _describe_scatters(scatters: Sequence[Scatter]) -> Iterator[dict[str, Any]]:
    """Scatters as chunks have them; activations to three digits."""
    rounded = [
        iter(round_significant(np.concatenate(values)))
        for values in ([one.a for one in scatters], [one.b for one in scatters])
    ]
    for one in scatters:
        shown = len(one.words)
        fires_a, fires_b = one.a != 0, one.b != 0
        listed = int((fires_a & fires_b).sum()), int((fires_a & ~fires_b).sum()), int((~fires_a).sum())
        yield {
            "a": list(itertools.islice(rounded[0], shown)),
            "b": list(itertools.islice(rounded[1], shown)),
            "words": one.words.tolist(),
            "shown": shown,
            **dict(zip(_PARTS, one.all, strict=True)),
            "of": dict(zip(_PARTS, listed, strict=True)),
        }


def _look_up(
    own: tuple[NDArray[np.int32], NDArray[np.float32]], words: NDArray[np.int32]
) -> NDArray[np.float32]:
    """[m] a feature's activations on some words, 0 where it does not fire."""
    ids, values = own
    if not len(ids):
        return np.zeros(len(words), dtype=np.float32)
    places = np.minimum(np.searchsorted(ids, words), len(ids) - 1)
    return np.where(ids[places] == words, values[places], np.float32(0))


def _read_numbers(table: "pa.Table", name: str) -> NDArray[np.float64]:
    """[P] a column, null as NaN."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)
