"""A feature's partners, seen from that feature."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodel.errors import InputError
from xmodel.pairing.firings import Survey

if TYPE_CHECKING:
    import pyarrow as pa

OTHER = {"a": "b", "b": "a"}
"""The other side."""
BOTH_NOTE = "both: words on which both fire, discovery half / held-out half."
"""What `format_both` shows."""
SIGNED_NOTE = "A dictionary is signed: pairs go by |r|, and the sign of r is arbitrary."
"""What stands under pairs of signed features."""
_KEPT = (
    "r",
    "r_heldout",
    "n_ab",
    "n_ab_heldout",
    "jaccard",
    "log10_p_cofiring",
    "rank_a",
    "rank_b",
    "mutual",
    "one_to_one",
)


def list_partners(pairs: "pa.Table", side: str, number: int) -> list[dict[str, Any]]:
    """The rows of pairs.parquet that name a feature, best first, seen from that feature."""
    own = np.flatnonzero(pairs[f"feature_{side}"].to_numpy() == number)
    rows = pairs.take(own).to_pylist()
    rank, other = f"rank_{side}", f"feature_{OTHER[side]}"
    listed = {row[rank]: abs(row["r"]) for row in rows if row[rank]}
    found = []
    for row in sorted(rows, key=lambda row: (row[rank] or len(listed) + 1, -abs(row["r"]))):
        rival = listed.get(2 if row[rank] == 1 else 1)
        margin = None if rival is None else abs(row["r"]) - rival
        found.append({"feature": row[other], **{name: row[name] for name in _KEPT}, "margin": margin})
    return found


def format_both(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each pair the words on which both fire, ``49/47`` by half, the slashes under each other."""
    halves = [(f"{pair['n_ab']:,}", f"{pair['n_ab_heldout']:,}") for pair in pairs]
    column = max((len(heldout) for _, heldout in halves), default=0)
    return [f"{discovery}/{heldout.ljust(column)}" for discovery, heldout in halves]


def describe_survey(own: Survey) -> dict[str, Any]:
    """The facts of one feature, as JSON has them."""
    return {
        "firings": {"discovery": own.discovery, "heldout": own.heldout},
        "mean": own.mean,
        "maximum": own.maximum,
        "top_words": own.words,
    }


def check_count(number: int, name: str) -> None:
    """Refuse to show less than one of something."""
    if number < 1:
        raise InputError(f"{name} is {number}: it must be at least 1.")
