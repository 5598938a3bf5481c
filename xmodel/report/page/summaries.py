"""Every feature of a model in numbers: how often and how strongly it fires, and where most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.report.page.columns import Columns, Report
from xmodel.report.page.word_table import WordTable
from xmodel.report.runs import TOP_WORDS

AROUND = 12
"""Words shown before and after a peak."""
_REPORT_EVERY = 1024


@dataclass(frozen=True, eq=False)
class FeatureSummaries:
    """All features of one model, over all words of a run."""

    discovery: NDArray[np.int64]
    """[F] words of the discovery half that each fires on."""
    heldout: NDArray[np.int64]
    """[F] words of the held-out half."""
    mean: NDArray[np.float64]
    """[F] mean activation where it fires, in the dictionary's units; 0 where it never does."""
    maximum: NDArray[np.float64]
    """[F] strongest activation; for signed features the one of greatest magnitude."""
    top: list[list[int]]
    """[F] words of its strongest firings, strongest first, each different from the others without regard to
    case; `TOP_WORDS` at most."""
    peaks: list[list[int]]
    """[F] words of its strongest firings, strongest first, none within `AROUND` words of a stronger one in
    the same document."""

    @property
    def firings(self) -> NDArray[np.int64]:
        """[F] words that each fires on."""
        return self.discovery + self.heldout

    def count_live(self) -> int:
        """How many features fire at all."""
        return int(np.count_nonzero(self.firings))


def summarize_features(
    columns: Columns,
    words: WordTable,
    side: str,
    *,
    peaks: int,
    report: Report = lambda stage, done, total: None,
) -> FeatureSummaries:
    """Sum up all features of one model; signed features are ranked by magnitude.

    What `xmodel.pairing.firings.survey_features` finds for a few features, for tens of thousands.

    Args:
        columns: its activations.
        words: of the run.
        side: ``a`` or ``b``, for the report.
        peaks: how many peaks to keep per feature.
        report: told of progress.
    """
    total = len(columns)
    types = words.type_words()
    discovery = np.zeros(total, dtype=np.int64)
    means, maxima = np.zeros(total), np.zeros(total)
    top: list[list[int]] = [[] for _ in range(total)]
    places: list[list[int]] = [[] for _ in range(total)]
    for feature in range(total):
        if feature % _REPORT_EVERY == 0:
            report(f"contexts of {side}", feature, total)
        ids, values = columns.get(feature)
        if not len(ids):
            continue
        # The earlier word where two are equal.
        order = np.argsort(-np.abs(values), kind="stable")
        strongest = ids[order]
        discovery[feature] = np.count_nonzero(words.discovery[ids])
        means[feature] = values.mean(dtype=np.float64)
        maxima[feature] = values[order[0]]
        top[feature] = strongest[_find_distinct(types[strongest])].tolist()
        places[feature] = _choose_peaks(strongest, words, peaks)
    report(f"contexts of {side}", total, total)
    return FeatureSummaries(discovery, np.diff(columns.bounds) - discovery, means, maxima, top, places)


def _find_distinct(types: NDArray[np.int32]) -> NDArray[np.int64]:
    """[8] places of the first different types."""
    # Almost always they are among the first few.
    for most in (8 * TOP_WORDS, len(types)):
        _, first = np.unique(types[:most], return_index=True)
        if len(first) >= TOP_WORDS or most >= len(types):
            break
    return np.sort(first)[:TOP_WORDS]


def _choose_peaks(strongest: NDArray[np.int32], words: WordTable, most: int) -> list[int]:
    # Each peak hides at most its own window, so the last one is not beyond these.
    listed = strongest[: most * (2 * AROUND + 1)]
    documents = words.documents[listed].tolist()
    chosen: list[tuple[int, int]] = []
    for word, document in zip(listed.tolist(), documents, strict=True):
        if all(abs(word - other) > AROUND or document != own for other, own in chosen):
            chosen.append((word, document))
            if len(chosen) == most:
                break
    return [word for word, _ in chosen]
