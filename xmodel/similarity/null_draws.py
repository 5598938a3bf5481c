"""The null draws of a run's scores, kept so that they can be drawn: ``scores_nulls.parquet``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.run import RunFolder, digest_file

if TYPE_CHECKING:
    import pyarrow as pa

NULLS = "scores_nulls.parquet"
"""A row per score that has draws: ``score``, int32, its place in scores.json; ``values``, list of double."""
_SCORES = "scores.json"
_TIE = b"scores_sha256"


def write_score_nulls(folder: RunFolder, nulls: Sequence[NDArray[np.float64] | None], digest: str) -> None:
    """Write the null draws of all scores, in one step; whoever calls holds the folder.

    Args:
        folder: of the run.
        nulls: [m] per score, in the order of scores.json; None where it could not be measured.
        digest: SHA-256 of scores.json, so that draws are never taken for those of other scores.

    Raises:
        InputError: if the disk is full.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = [place for place, null in enumerate(nulls) if null is not None]
    table = pa.table(
        {
            "score": pa.array(known, pa.int32()),
            "values": pa.array([nulls[place] for place in known], pa.list_(pa.float64())),
        }
    ).replace_schema_metadata({_TIE: digest.encode(), b"scores": str(len(nulls)).encode()})
    folder.write(NULLS, lambda place: pq.write_table(table, place, compression="zstd"))


def read_score_nulls(run: Run) -> list[NDArray[np.float64] | None] | None:
    """Read the null draws of a run's scores.

    Args:
        run: a finished run.

    Returns:
        [m] draws per score, in the order of scores.json, None for those that could not be measured; None
        instead of all if the run is not scored, or its draws were not kept: early versions did not, and a
        call that was killed between the two files left scores without draws.

    Raises:
        InputError: if the file is damaged.
    """
    scores, place = run.path / _SCORES, run.path / NULLS
    if not (scores.is_file() and place.is_file()):
        return None
    table = _read_table(place)
    metadata = table.schema.metadata or {}
    if metadata.get(_TIE) != digest_file(scores).encode():
        return None
    found: list[NDArray[np.float64] | None] = [None] * int(metadata[b"scores"])
    for row, values in zip(table["score"].to_pylist(), table["values"], strict=True):
        found[row] = np.array(values.values.to_numpy(), dtype=np.float64)
    return found


def _read_table(place: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(place)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{place} is damaged ({error}): remove it, or run `xmodel score` again, which writes it anew."
        ) from error
