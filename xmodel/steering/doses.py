"""Dose-response curves of the best pairs, what they do to the next token, and the exchange rate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.steering.collecting import Collector
from xmodel.steering.exchange import DoseCurves, Exchange, compute_exchange, measure_damage, measure_slopes
from xmodel.steering.heads import Head, find_head
from xmodel.steering.measuring import SteeredSide
from xmodel.steering.responses import measure_norms, remove_copy
from xmodel.steering.session import Session
from xmodel.steering.transfers import collect_responses, compare_responses


@dataclass(frozen=True, eq=False)
class DoseStudy:
    """The curves of some pairs, at the depth in the middle."""

    doses: NDArray[np.float64]
    """[J]"""
    pairs: NDArray[np.int64]
    """[n] which of the session's pairs."""
    odd: NDArray[np.float32]
    """[J, n, n] T at each dose."""
    norms: NDArray[np.float64]
    """[2, n, J] sizes of A's and of B's odd responses."""
    even: NDArray[np.float64]
    """[2, n, J] sizes of the even responses."""
    kl: NDArray[np.float64]
    """[2, n, J] nats: mean next-token KL of both signs."""
    exchange: Exchange
    slopes: NDArray[np.float64]
    """[2, n] slope of log response over log dose at small doses: 1 where the response is in proportion."""
    matched: NDArray[np.float32] | None
    """[m, m] T at `dose` of A and, for each partner, the dose of B with the same KL."""
    dose: float
    """The dose of the curves that is nearest to the primary one."""
    matched_pairs: NDArray[np.int64]
    """[m] which of the session's pairs these are."""
    matched_doses: NDArray[np.float64]
    """[m] the doses of B."""


def study_doses(collector: Collector, chosen: NDArray[np.int64]) -> DoseStudy:
    """Measure the dose-response curves of some pairs in both models.

    Args:
        collector: of a session of pushes.
        chosen: [n] which pairs.
    """
    session = collector.session
    settings = session.settings
    doses = np.array(settings.curve_doses)

    def compute() -> dict[str, NDArray]:
        first, second = (_respond(session, number, chosen, doses) for number in range(2))
        kl = np.stack([_measure_kl(collector, number, chosen, doses) for number in range(2)])
        return {
            "odd": compare_responses(first, second).odd,
            "norms": np.stack([measure_norms(own.odd) for own in (first, second)]),
            "even": np.stack([measure_norms(own.even) for own in (first, second)]),
            "kl": kl,
        }

    found = collector.keep("curves-00000", compute, chosen.tolist(), settings.curve_doses)
    curves = [DoseCurves(doses, found["kl"][number], session.sides[number].scale) for number in range(2)]
    exchange = compute_exchange(*curves)
    dose, _ = settings.cells[settings.primary]
    column = int(np.argmin(np.abs(doses - (dose or 0.0))))
    own = exchange.doses[:, column]
    reached = np.flatnonzero(np.isfinite(own))
    matched = None
    if len(reached) > 1:
        matched = collector.keep(
            "matched-00000",
            lambda: {"odd": _match(session, chosen[reached], doses[column], own[reached])},
            chosen.tolist(),
            settings.curve_doses,
            own.tolist(),
        )["odd"]
    return DoseStudy(
        doses=doses,
        pairs=chosen,
        odd=found["odd"],
        norms=found["norms"],
        even=found["even"],
        kl=found["kl"],
        exchange=exchange,
        slopes=measure_slopes(doses, found["norms"]).exponent,
        matched=matched,
        dose=float(doses[column]),
        matched_pairs=chosen[reached],
        matched_doses=own[reached],
    )


def describe_doses(study: DoseStudy, sign: NDArray[np.float64]) -> dict[str, Any]:
    """The study as steering.json has it.

    Args:
        study: the curves.
        sign: [n] sign of each pair.
    """
    own = study.exchange
    diagonal = np.einsum("jnn->jn", study.odd) * sign
    return {
        "doses": study.doses.tolist(),
        "pairs": study.pairs.tolist(),
        "transfer": diagonal.T.tolist(),
        "odd_norms": {letter: study.norms[number].tolist() for number, letter in enumerate("ab")},
        "even_norms": {letter: study.even[number].tolist() for number, letter in enumerate("ab")},
        "kl": {letter: study.kl[number].tolist() for number, letter in enumerate("ab")},
        "slopes": {letter: study.slopes[number].tolist() for number, letter in enumerate("ab")},
        "exchange": {
            "rate": own.rate,
            "low": own.low,
            "high": own.high,
            "units": own.units,
            "by_norm": own.by_norm,
            "pairs": own.pairs,
            "matched": own.matched,
            "above": own.above,
            "below": own.below,
            "doses": own.doses.tolist(),
        },
        "kl_matched": _describe_matched(study, sign),
    }


def place_at_end(session: Session, number: int, side: SteeredSide | None = None) -> tuple[SteeredSide, Head]:
    """A side that is read after its last block, and the head that reads there.

    Args:
        session: models and passages.
        number: 0 for A, 1 for B.
        side: such a side with other layers; None makes one with the model's own.
    """
    import torch

    model = session.loaded[number].model
    side = side or session.place(number, reads=(model.layers - 1,))
    own = session.passages.a if number == 0 else session.passages.b
    ids, mask = (torch.from_numpy(one[:1]).to(model.device) for one in (own.ids, own.mask))
    return side, find_head(model, ids, mask)


def push_to_end(
    side: SteeredSide,
    vectors: NDArray[np.float32],
    strengths: NDArray[np.float64],
    *,
    keep_copy: bool = True,
) -> "Any":
    """[k, N, d] residuals after the last block, in the model's number format.

    Args:
        side: from `place_at_end`.
        vectors: [k, d] unit directions.
        strengths: [k] lengths, as shares of the side's scale, with their sign.
        keep_copy: leave the push's own copy on the skip connection in, as the model has it; or take it away,
            so that only what the layers make of the push is left.
    """
    import torch

    hidden, block = side.replay.hidden, side.blocks[0]
    steps = torch.from_numpy(vectors * (strengths * side.scale)[:, None].astype(np.float32)).to(hidden.device)

    def make(first: int, stop: int) -> torch.Tensor:
        return hidden + (steps[first:stop, None, None, :] * side.where[..., None]).to(hidden.dtype)

    with torch.inference_mode():
        clean, found = side.take(hidden), []
        for tile in side.replay.run(make, len(vectors)):
            rows = side.take(tile.reads[block])
            if not keep_copy:
                rows = remove_copy(rows, side.take(tile.pushed), clean).to(rows)
            found.append(rows)
        return torch.cat(found)


def _respond(session: Session, number: int, chosen: NDArray[np.int64], doses: NDArray[np.float64]) -> Any:
    side = session.place(number, reads=(session.reads[number][session.settings.middle],))
    vectors = session.directions[number].vectors[session.rows[number][chosen]]
    return collect_responses(side, vectors, doses)


def _measure_kl(
    collector: Collector, number: int, chosen: NDArray[np.int64], doses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[n, J] mean next-token KL over words and signs."""
    session = collector.session
    side, head = place_at_end(session, number)
    vectors = session.directions[number].vectors[session.rows[number][chosen]]
    clean = side.take(side.replay.clean[side.blocks[0]])
    signed = np.stack([doses, -doses], axis=1).ravel()
    found = np.empty((len(vectors), len(doses)))
    for row, vector in enumerate(vectors):
        collector.report(f"next_token_{'ab'[number]}", row, len(vectors))
        pushed = push_to_end(side, np.repeat(vector[None], len(signed), axis=0), signed)
        kl = measure_damage(head.logits, pushed, clean).mean(axis=1)
        found[row] = kl.reshape(len(doses), 2).mean(axis=1)
    collector.report(f"next_token_{'ab'[number]}", len(vectors), len(vectors))
    return found


def _match(
    session: Session, chosen: NDArray[np.int64], dose: float, doses_b: NDArray[np.float64]
) -> NDArray[np.float32]:
    """[m, m] T at A's dose and the partners' doses of equal KL."""
    responses = []
    for number, own in enumerate((np.full((len(chosen), 1), dose), doses_b[:, None])):
        side = session.place(number, reads=(session.reads[number][session.settings.middle],))
        vectors = session.directions[number].vectors[session.rows[number][chosen]]
        responses.append(collect_responses(side, vectors, own))
    return compare_responses(*responses).odd[0]


def _describe_matched(study: DoseStudy, sign: NDArray[np.float64]) -> dict[str, Any] | None:
    if study.matched is None:
        return None
    places = np.searchsorted(study.pairs, study.matched_pairs)
    odd = study.matched * sign[places]
    off = odd[~np.eye(len(odd), dtype=np.bool_)]
    return {
        "pairs": study.matched_pairs.tolist(),
        "dose_a": study.dose,
        "doses_b": study.matched_doses.tolist(),
        "transfer": np.diag(odd).tolist(),
        "mean_diagonal": float(np.diag(odd).mean()),
        "mean_off_diagonal": float(off.mean()),
    }
