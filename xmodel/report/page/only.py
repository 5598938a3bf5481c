"""What only one model has: features not shown to have a partner, those that do most first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.report.page.chunks import ChunkWriter, round_decimals, round_significant
from xmodel.report.page.credible import Credible, SideCredible
from xmodel.report.page.csv_files import write_csv
from xmodel.report.page.only_texts import describe_alone, draw_best, explain, list_notes
from xmodel.report.page.records import Cell, Part

LISTED = 500
"""Features per model in the page; the file has all."""
COLUMNS = (
    "rank", "feature", "firings", "mean", "maximum", "total", "best_r", "p", "shifts", "null_mean", "null_sd",
    "null_reach", "r_heldout", "best_partner", "top_words", "concept", "label",
)  # fmt: skip
"""Of ``only_a.csv``. A feature's own null is its best r after ``shifts`` shifts; ``null_reach`` is the r that
it reaches with a probability of 0.05."""
Names = Mapping[str, Sequence[str | None]]


@dataclass(frozen=True, eq=False)
class Activity:
    """What one model's features do over all words of a run, both halves."""

    firings: NDArray[np.int64]
    """[F] words on which a feature is not 0."""
    total: NDArray[np.float64]
    """[F] sum of its activations' magnitudes: how often and how strongly it fires, in one number."""
    maximum: NDArray[np.float64]
    """[F] its strongest activation, of greatest magnitude where signed; 0 if it never fires."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """[F] mean magnitude where it fires; 0 if it never does."""
        return self.total / np.maximum(self.firings, 1)


def measure_activity(run: Run, side: str) -> Activity:
    """Go through one model's shards once.

    Raises:
        InputError: if a file is missing or damaged.
    """
    features = run.shards.features["ab".index(side)]
    firings, total = np.zeros(features, np.int64), np.zeros(features)
    high, low = np.zeros(features), np.zeros(features)
    for number in range(len(run.shards)):
        own = run.shards.load(side, number)
        firings += np.bincount(own.indices, minlength=features)
        total += np.bincount(own.indices, weights=np.abs(own.values), minlength=features)
        np.maximum.at(high, own.indices, own.values)
        np.minimum.at(low, own.indices, own.values)
    return Activity(firings, total, np.where(-low > high, low, high))


def rank_alone(found: SideCredible, activity: Activity) -> NDArray[np.int64]:
    """[n] the features not shown to have a partner, greatest total first, at a tie the lower number."""
    alone = np.flatnonzero(found.alone)
    return alone[np.argsort(-activity.total[alone], kind="stable")]


def write_only(
    run: Run,
    writer: ChunkWriter,
    credible: Credible,
    *,
    top: Mapping[str, Sequence[Sequence[str]]] | None = None,
    concepts: Names | None = None,
    labels: Names | None = None,
) -> Part:
    """Write what the part shows (``only/a``, ``only/b``) and the files ``only_a.csv`` and ``only_b.csv``.

    Args:
        run: the run.
        writer: of the page's chunks.
        credible: what `judge_partners` found.
        top: by side, per feature its top words as shown; looked up if left out.
        concepts: by side, per feature the concept that it belongs to, or None.
        labels: by side, per feature its name, given or carried over, or None.

    Raises:
        InputError: if a file is missing or damaged.
    """
    figures, sentences = [], []
    least = PairSettings.of_manifest(run.manifest).min_firings
    for side in "ab":
        found, activity = credible.side(side), measure_activity(run, side)
        ranked = rank_alone(found, activity)
        heldout = find_heldout(run, side, found)
        _write_chunk(writer, side, found, activity, heldout, ranked)
        words = _list_words(run, side, ranked, top)
        rows = _list_rows(found, activity, heldout, ranked, words, _pick(concepts, side), _pick(labels, side))
        write_csv(writer.folder / f"only_{side}.csv", COLUMNS, rows)
        sentences.append(describe_alone(side, found, least))
        figures.append(draw_best(side, found, credible.signed))
    return Part(
        name="only",
        title="What only one model has",
        sentences=(*sentences, *explain(credible)),
        figures=tuple(figures),
        notes=list_notes(credible),
    )


def find_heldout(run: Run, side: str, found: SideCredible) -> NDArray[np.float64]:
    """[F] r of every feature with its best partner on the held-out half; NaN where the run has none."""
    table = run.pairs
    best = np.flatnonzero(table[f"best_of_{side}"].to_numpy(zero_copy_only=False).astype(np.bool_))
    own = table[f"feature_{side}"].to_numpy()[best]
    others = table[f"feature_{'b' if side == 'a' else 'a'}"].to_numpy()[best]
    r = table["r_heldout"].to_numpy(zero_copy_only=False).astype(np.float64)[best]
    heldout = np.full(len(found.judged), np.nan)
    same = found.partner[own] == others
    heldout[own[same]] = r[same]
    return heldout


def _write_chunk(
    writer: ChunkWriter,
    side: str,
    found: SideCredible,
    activity: Activity,
    heldout: NDArray[np.float64],
    ranked: NDArray[np.int64],
) -> None:
    own = ranked[:LISTED]
    writer.write(
        f"only/{side}",
        {
            "f": own.tolist(),
            "firings": activity.firings[own].tolist(),
            "mean": round_significant(activity.mean[own]),
            "maximum": round_significant(activity.maximum[own]),
            "total": round_significant(activity.total[own]),
            "r": round_decimals(found.r[own]),
            "p": round_significant(found.p[own]),
            "reach": round_decimals(found.reach[own]),
            "mean_r": round_decimals(found.null_mean[own]),
            "sd_r": round_decimals(found.null_sd[own]),
            "heldout": round_decimals(heldout[own]),
            "partner": [None if one < 0 else one for one in found.partner[own].tolist()],
            "alone": len(ranked),
            "file": f"only_{side}.csv",
        },
    )


def _list_words(
    run: Run, side: str, ranked: NDArray[np.int64], top: Mapping[str, Sequence[Sequence[str]]] | None
) -> list[list[str]]:
    from xmodel.report.page.texts import show_plain

    if top is not None:
        return [list(top[side][int(feature)]) for feature in ranked]
    return [[show_plain(word, 60) for word in own] for own in run.top_words(side, ranked.tolist())]


def _pick(names: Names | None, side: str) -> Sequence[str | None] | None:
    return None if names is None else names.get(side)


def _list_rows(
    found: SideCredible,
    activity: Activity,
    heldout: NDArray[np.float64],
    ranked: NDArray[np.int64],
    words: Sequence[Sequence[str]],
    concepts: Sequence[str | None] | None,
    labels: Sequence[str | None] | None,
) -> list[tuple[Cell, ...]]:
    r, mean, sd, reach, held = (
        [None if np.isnan(one) else round(one, 6) for one in column[ranked].tolist()]
        for column in (found.r, found.null_mean, found.null_sd, found.reach, heldout)
    )
    return [
        (
            place + 1,
            feature,
            int(activity.firings[feature]),
            float(f"{activity.mean[feature]:.6g}"),
            float(f"{activity.maximum[feature]:.6g}"),
            float(f"{activity.total[feature]:.6g}"),
            r[place],
            float(f"{found.p[feature]:.6g}"),
            int(found.draws[feature]),
            mean[place],
            sd[place],
            reach[place],
            held[place],
            int(found.partner[feature]) if found.partner[feature] >= 0 else None,
            " ".join(words[place]),
            concepts[feature] if concepts else None,
            labels[feature] if labels else None,
        )
        for place, feature in enumerate(ranked.tolist())
    ]
