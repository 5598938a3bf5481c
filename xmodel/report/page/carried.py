"""Labels carried over: names of one model's features for their best partners in the other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.report.page.chunks import round_decimals
from xmodel.report.page.credible import Credible
from xmodel.report.page.csv_files import write_csv
from xmodel.report.page.texts import show_plain

if TYPE_CHECKING:
    import pyarrow as pa

_CONFIDENCE = ("r", "r_heldout", "margin", "mutual", "credible")
OPPOSITE = "opposite of: "
"""Put before a name that comes from a partner with negative r."""


@dataclass(frozen=True, eq=False)
class Carried:
    """The features of one model that get a name from their best partner in the other."""

    to: str
    """``a`` or ``b``: whose features get names."""
    features: NDArray[np.int32]
    """[n] that get one, ascending."""
    sources: NDArray[np.int32]
    """[n] their best partners, which had it."""
    names: tuple[str, ...]
    """[n] with `OPPOSITE` before them where r is negative: the feature is greatest where the partner is
    least."""
    r: NDArray[np.float64]
    """[n] Pearson's r of the two, discovery half; negative only for signed features."""
    r_heldout: NDArray[np.float64]
    """[n] the same on the held-out half; NaN where a feature does not vary there."""
    margin: NDArray[np.float64]
    """[n] r less that of the feature's next best partner, in magnitude; NaN where it has no other."""
    mutual: NDArray[np.bool_]
    """[n] whether the feature is its partner's best partner too."""
    credible: NDArray[np.bool_] | None
    """[n] whether r is more than chance finds, see `judge_partners`; None where that was not judged."""

    def __len__(self) -> int:
        return len(self.features)


def carry_labels(
    pairs: "pa.Table", labels: Mapping[int, str], credible: Credible | None, *, to: str = "b"
) -> Carried:
    """Give every feature the name of its best partner, where that has one.

    Args:
        pairs: of a run.
        labels: names by the other model's features.
        credible: what `judge_partners` found, or None.
        to: whose features get names, ``a`` or ``b``.

    Returns:
        The features that get one. How far to trust it stands beside it: a best partner is one even where r
        is small.
    """
    own, other = (pairs[f"feature_{letter}"].to_numpy() for letter in (to, "b" if to == "a" else "a"))
    rank = pairs[f"rank_{to}"].fill_null(0).to_numpy()
    r = pairs["r"].to_numpy()
    best = np.flatnonzero((rank == 1) & np.isin(other, np.fromiter(labels, np.int64, len(labels))))
    best = best[np.argsort(own[best], kind="stable")]
    second = np.full(int(own.max(initial=-1)) + 1, np.nan)
    second[own[rank == 2]] = np.abs(r[rank == 2])
    judged = None if credible is None else credible.side(to).credible[own[best]]
    return Carried(
        to,
        own[best].astype(np.int32),
        other[best].astype(np.int32),
        tuple(
            f"{OPPOSITE if sign < 0 else ''}{labels[feature]}"
            for feature, sign in zip(other[best].tolist(), r[best].tolist(), strict=True)
        ),
        r[best],
        pairs["r_heldout"].to_numpy(zero_copy_only=False).astype(np.float64)[best],
        np.abs(r[best]) - second[own[best]],
        pairs["mutual"].to_numpy(zero_copy_only=False)[best].astype(np.bool_),
        judged,
    )


def spread_labels(names: Mapping[int, str], features: int) -> list[str | None]:
    """[F] names as the page shows them, None for features without: `labels` of ``features/words_X``."""
    return [show_plain(names[feature]) if feature in names else None for feature in range(features)]


def spread_carried(carried: Carried, features: int) -> dict[str, list[Any]]:
    """Carried names by feature, as lists of F entries, None where there is none: `carried` of
    ``features/words_X``."""
    credible = [None] * len(carried) if carried.credible is None else carried.credible.tolist()
    columns: dict[str, list[Any]] = {
        "label": [show_plain(name) for name in carried.names],
        "from": carried.sources.tolist(),
        "r": round_decimals(carried.r),
        "r_heldout": round_decimals(carried.r_heldout),
        "margin": round_decimals(carried.margin),
        "mutual": carried.mutual.tolist(),
        "credible": credible,
    }
    spread: dict[str, list[Any]] = {name: [None] * features for name in columns}
    for place, feature in enumerate(carried.features.tolist()):
        for name, column in columns.items():
            spread[name][feature] = column[place]
    return spread


def write_carried(folder: Path, carried: Carried, *, model: str, source: str) -> list[str]:
    """Write carried names for use elsewhere.

    ``labels_b.csv`` has the names with a formula's first sign made harmless (see
    `xmodel.report.page.csv_files`), ``labels_b.jsonl`` has them as they were, and
    ``labels_b.neuronpedia.jsonl`` has the keys of Neuronpedia's exports of explanations.

    Args:
        folder: of the page.
        carried: the names.
        model: of the features that get them, as Neuronpedia calls it where it does.
        source: their dictionary, likewise.

    Returns:
        The files' names.
    """
    to, other = carried.to, "b" if carried.to == "a" else "a"
    header = (f"feature_{to}", "label", f"feature_{other}", *_CONFIDENCE)
    rows = [
        (feature, name, partner, r, held, margin, mutual, credible)
        for feature, name, partner, r, held, margin, mutual, credible in zip(
            carried.features.tolist(),
            carried.names,
            carried.sources.tolist(),
            _list_numbers(carried.r),
            _list_numbers(carried.r_heldout),
            _list_numbers(carried.margin),
            carried.mutual.tolist(),
            [None] * len(carried) if carried.credible is None else carried.credible.tolist(),
            strict=True,
        )
    ]
    stem = f"labels_{to}"
    write_csv(folder / f"{stem}.csv", header, rows)
    _write_lines(folder / f"{stem}.jsonl", [dict(zip(header, row, strict=True)) for row in rows])
    _write_lines(
        folder / f"{stem}.neuronpedia.jsonl",
        [
            {
                "modelId": model,
                "layer": source,
                "index": str(row[0]),
                "description": row[1],
                "typeName": "carried-over",
                "explanationModelName": "xmodel",
                "notes": _describe(row, other),
            }
            for row in rows
        ],
    )
    return [f"{stem}.csv", f"{stem}.jsonl", f"{stem}.neuronpedia.jsonl"]


def _describe(row: tuple[Any, ...], other: str) -> str:
    """Where a name comes from and how far to trust it: whoever has only the export has nothing else."""
    *_, mutual, credible = row
    said = [
        f"{name} {value:.4f}"
        for name, value in zip(_CONFIDENCE[:3], row[3:6], strict=True)
        if value is not None
    ]
    said.append("mutual" if mutual else f"not mutual: feature {row[2]}'s own best partner is another feature")
    if not credible:
        said.append("not compared with chance" if credible is None else "r is no more than chance finds")
    return f"name of feature {row[2]} of {other}, its best partner: {'; '.join(said)}"


def _list_numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 6) for value in values.tolist()]


def _write_lines(place: Path, rows: list[dict[str, Any]]) -> None:
    place.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), "ascii")
