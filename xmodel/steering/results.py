"""What steering leaves in a run: one row per pair, dose and depth, and the matrices behind them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.steering.collecting import Collected
from xmodel.steering.judging import FLOOR_FACTOR, Judgement
from xmodel.steering.parts import read_arrays, write_arrays
from xmodel.steering.session import Session

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "transfer.parquet"
SUMMARY = "steering.json"
MATRICES = "matrices"


@dataclass(frozen=True, eq=False)
class Steering:
    """What `steer_run` found."""

    run: Run
    summary: dict[str, Any]
    """The content of steering.json."""

    @property
    def table(self) -> "pa.Table":
        """One row per pair, dose and depth; see docs/steering.md for its columns."""
        import pyarrow.parquet as pq

        return pq.read_table(self.run.path / TABLE)

    @property
    def matrices(self) -> dict[str, NDArray[Any]]:
        """``odd`` and ``even`` [C, F, F] of all pairs with all, ``reinitialised`` [R, C, F, F], ``hard``
        [C, H], ``halves`` [2, C, F, F] over either half of the passages, ``random`` [F, C, R].

        Raises:
            InputError: if the file is missing or damaged.
        """
        found = read_arrays(self.run.folder, MATRICES)
        if found is None:
            raise InputError(
                f"the matrices of {self.run.path} are missing or damaged: run `xmodel steer {self.run.path}` "
                "again."
            )
        return found[0]


def read_steering(run: Run) -> Steering | None:
    """What `steer_run` left in a run; None where it has not finished there."""
    place = run.path / SUMMARY
    if not place.is_file() or not (run.path / TABLE).is_file():
        return None
    try:
        return Steering(run, json.loads(place.read_text("utf-8")))
    except ValueError as error:
        raise InputError(
            f"{place} is not valid JSON ({error}): remove it, and run `xmodel steer {run.path}` again."
        ) from None


def tabulate_pairs(
    session: Session,
    found: Judgement,
    floors: tuple[NDArray[np.float64], NDArray[np.float64]],
    kl: NDArray[np.float64] | None,
) -> dict[str, list[Any]]:
    """The columns of transfer.parquet, pair by pair and cell by cell.

    Args:
        session: what was pushed.
        found: transfers and tests.
        floors: [C] of A and of B; see `xmodel.steering.floors`.
        kl: [2, F, C] next-token KL where it was measured, NaN elsewhere.
    """
    cells, pairs = session.settings.cells, len(session.pairs)
    hard = np.full((pairs, len(cells)), np.nan)
    hard[found.distinct[found.matched]] = found.hard.T
    # Of an ablation, a pair that fires nowhere has no value, and is no candidate of others.
    missing = np.isnan(found.pairs.combined)
    there = ~missing[:, 0]
    reinit = np.einsum("rcff->rfc", found.reinitialised)
    columns: dict[str, Any] = {
        "pair": np.repeat(np.arange(pairs), len(cells)),
        "feature_a": np.repeat(session.pairs.a, len(cells)),
        "feature_b": np.repeat(session.pairs.b, len(cells)),
        "r": np.repeat(session.pairs.r, len(cells)),
        "r_heldout": np.repeat(session.pairs.r_heldout, len(cells)),
        "dose": [dose for _ in range(pairs) for dose, _ in cells],
        "depth": [depth for _ in range(pairs) for _, depth in cells],
    }
    for number, letter in enumerate("ab"):
        blocks = [session.reads[number][cell % len(session.settings.depths)] for cell in range(len(cells))]
        columns[f"block_{letter}"] = blocks * pairs
    places = {
        "odd": found.values,
        "even": np.einsum("cff->fc", found.even),
        "p": found.pairs.combined,
        "p_adjusted": found.pairs.row_q,
        **{f"p_{name}": p for name, p in found.pairs.p.items()},
        **{f"mean_{name}": null.mean(axis=2) for name, null in found.nulls.items()},
        "mean_shuffled": _average_others(found.s, there),
        "mean_reinitialised": reinit.mean(axis=0) if len(reinit) else None,
        "hard": hard,
        "next_best": found.next_best.T,
        "rank": _rank(found.s, there),
        "effect_a": found.sizes[0],
        "effect_b": found.sizes[1],
        "damage_a": found.sizes[2],
        "damage_b": found.sizes[3],
        "kl_a": None if kl is None else kl[0],
        "kl_b": None if kl is None else kl[1],
    }
    valued = {"odd", "rank", *(name for name in places if name.startswith("mean_"))}
    for name, values in places.items():
        if values is not None and name in valued:
            values = np.where(missing, np.nan, values)
        columns[name] = None if values is None else np.asarray(values).reshape(-1)
    limits = [own * FLOOR_FACTOR for own in floors]
    clear = (found.sizes[0] > limits[0]) & (found.sizes[1] > limits[1])
    columns["above_floor"] = clear.reshape(-1)
    rows = pairs * len(cells)
    return {name: [None] * rows if own is None else _list(own) for name, own in columns.items()}


def write_table(run: Run, columns: dict[str, list[Any]]) -> None:
    """Write transfer.parquet so that it appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    integers = ("pair", "feature_a", "feature_b", "block_a", "block_b", "rank")
    kinds = {name: pa.int32() if name in integers else pa.float64() for name in columns}
    kinds["above_floor"] = pa.bool_()
    table = pa.table({name: pa.array(values, type=kinds[name]) for name, values in columns.items()})

    def write(place: Path) -> None:
        pq.write_table(table, place, compression="zstd")

    run.folder.write(TABLE, write)


def write_matrices(session: Session, collected: Collected, found: Judgement, fingerprint: str) -> None:
    """Keep the matrices that pictures are made of."""
    arrays = {
        "odd": found.s.astype(np.float32),
        "even": found.even.astype(np.float32),
        "reinitialised": found.reinitialised.astype(np.float32),
        "hard": found.hard.astype(np.float32),
        "halves": collected.halves,
    }
    if "random" in found.nulls:
        arrays["random"] = found.nulls["random"].astype(np.float32)
    write_arrays(session.run.folder, MATRICES, fingerprint, arrays)


def _list(values: Any) -> list[Any]:
    """Values as Python has them, None for what is not a number."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [None if isinstance(one, float) and np.isnan(one) else one for one in plain]


def _average_others(s: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[F, C] mean T of each A feature with the partners of the other pairs in `there` [F], as one of them;
    NaN where there are no others."""
    count = int(there.sum()) - 1
    if count < 1:
        return np.full((s.shape[1], len(s)), np.nan)
    return ((s[:, :, there].sum(axis=2) - np.einsum("cff->cf", s)) / count).T


def _rank(s: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[F, C] place of the partner among those of the pairs in `there` [F], from 1; ties come before it."""
    own = np.einsum("cff->cf", s)[:, :, None]
    return (s[:, :, there] >= own).sum(axis=2).T
