"""Vectors that are steered beside features: A's directions carried linearly, and contrast vectors carried."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.similarity.repairing import Matches, keep_one_per_feature
from xmodel.steering.carrying import Carried, carry_by_pairs
from xmodel.steering.contrasts import ContrastSet, compute_contrast, load_contrasts
from xmodel.steering.linear_maps import LinearMap
from xmodel.steering.mapping import fit_session_map
from xmodel.steering.random_directions import draw_directions
from xmodel.steering.session import Session, add_vectors
from xmodel.steering.settings import SteerSettings
from xmodel.steering.specificity import carry_linearly
from xmodel.steering.vectors import SteeringVector, name_architecture

WAYS = ("pairs", "linear", "own")
"""How a contrast vector gets into B: through the pairs, by the linear map, or computed from B's own
activations at the same prompts."""
RANDOM_SHARES = 20
"""Random vectors whose share is what the share of a vector is compared with."""


@dataclass(frozen=True, eq=False)
class ContrastRows:
    """Where one contrast vector stands among the directions."""

    contrast: ContrastSet
    vector: SteeringVector
    """A's difference in means."""
    carried: Carried
    """Through the pairs."""
    row_a: int
    """Row in A's directions."""
    rows_b: dict[str, int]
    """Rows in B's directions, by `WAYS`."""
    cosines: dict[str, float]
    """Cosine of each carried vector with B's own."""


@dataclass(frozen=True, eq=False)
class Extras:
    """Directions beside the features'."""

    linear: LinearMap
    linear_rows: NDArray[np.int64]
    """[F] rows in B's directions of each pair's A feature as the linear map carries it."""
    contrasts: tuple[ContrastRows, ...]
    share_random: float | None
    """Median share of the norm of random vectors that is carried; None without contrasts."""


def add_extras(session: Session) -> tuple[Session, Extras]:
    """Put A's directions as a linear map carries them, and contrast vectors, behind the features.

    Args:
        session: before anything is pushed.

    Raises:
        InputError: for a contrast set that does not exist or cannot be read.
    """
    linear = fit_session_map(session)
    carried = carry_linearly(session.directions[0].vectors[session.rows[0]], linear)
    begin = len(session.directions[1])
    linear_rows = begin + np.arange(len(carried))
    first: list[NDArray[np.float32]] = []
    second: list[NDArray[np.float32]] = [*carried]
    found = []
    for contrast in choose_contrasts(session.settings):
        own, by_pairs, vectors = _carry(session, contrast, linear)
        row_a = len(session.directions[0]) + len(first)
        first.append(own.unit().values)
        rows_b = {}
        for way in WAYS:
            rows_b[way] = begin + len(second)
            second.append(vectors[way].unit().values)
        native = vectors["own"].unit().values
        cosines = {way: float(vectors[way].unit().values @ native) for way in WAYS[:2]}
        found.append(ContrastRows(contrast, own, by_pairs, row_a, rows_b, cosines))
    widths = [own.vectors.shape[1] for own in session.directions]
    stacked = [
        np.stack(own).astype(np.float32) if own else np.zeros((0, width), np.float32)
        for own, width in zip((first, second), widths, strict=True)
    ]
    share = measure_random_share(session) if found else None
    return add_vectors(session, (stacked[0], stacked[1])), Extras(linear, linear_rows, tuple(found), share)


def carry_vector(session: Session, vector: SteeringVector, *, scale: float = 1.0) -> Carried:
    """A's vector as one of B, through all mutual pairs of the run; see `carry_by_pairs`.

    Args:
        session: models and run.
        vector: of A.
        scale: units of B per unit of A.
    """
    first, second = session.loaded
    pairs = list_carriers(session.run)
    return carry_by_pairs(
        vector,
        first.dictionary.decoder.detach().float().numpy(force=True),
        second.dictionary.decoder.detach().float().numpy(force=True),
        pairs.a,
        pairs.b,
        np.where(pairs.r < 0, -1.0, 1.0),
        site=second.site,
        model=second.model.name,
        architecture=name_architecture(second.model),
        scale=scale,
    )


def measure_random_share(session: Session) -> float:
    """Median share of random vectors of A: what so many features express of anything."""
    width = session.directions[0].vectors.shape[1]
    drawn = draw_directions(RANDOM_SHARES, width, session.settings.seed + 2)
    site, model = session.loaded[0].site, session.loaded[0].model.name
    shares = [carry_vector(session, SteeringVector(one, site, model, "random")).share for one in drawn]
    return float(np.median(shares))


def list_carriers(run: Run) -> Matches:
    """The pairs that vectors are carried through: each other's best partners, best r first."""
    table = run.pairs
    own = table.filter(table["mutual"])
    a, b = (own[f"feature_{letter}"].to_numpy().astype(np.int32) for letter in "ab")
    return keep_one_per_feature(Matches(a, b, own["r"].to_numpy()))


def choose_contrasts(settings: SteerSettings) -> list[ContrastSet]:
    """The contrast sets that are asked for.

    Raises:
        InputError: for one that does not exist, or a file that cannot be read.
    """
    if not settings.contrasts and settings.contrast_file is None:
        return []
    known = load_contrasts(settings.contrast_file)
    names = settings.contrasts or tuple(one.name for one in known)
    by_name = {one.name: one for one in known}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise InputError(f"there is no contrast set {unknown[0]!r}: choose {', '.join(by_name)}.")
    return [by_name[name] for name in names]


def _carry(
    session: Session, contrast: ContrastSet, linear: LinearMap
) -> tuple[SteeringVector, Carried, dict[str, Any]]:
    a, b = (
        compute_contrast(one.model, one.tokenizer, one.site, contrast, one.prefix) for one in session.loaded
    )
    by_pairs = carry_vector(session, a)
    return a, by_pairs, {"pairs": by_pairs.vector, "linear": linear.carry(a), "own": b}
