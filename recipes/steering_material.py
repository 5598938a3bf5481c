"""What the pictures of steering show: a run's own results, and what has to be measured again for them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xmodel.pairing.results import open_run
from xmodel.steering.measuring import SteeredSide, read_changes
from xmodel.steering.random_directions import draw_directions
from xmodel.steering.readouts import measure_retrieval
from xmodel.steering.replaying import find_stream_block
from xmodel.steering.responses import correlate_responses, normalise_gram, split_response, take_words
from xmodel.steering.results import SUMMARY, Steering
from xmodel.steering.session import Session, open_session
from xmodel.steering.settings import SteerSettings
from xmodel.steering.transfers import collect_responses, compare_responses

EXAMPLE_WORDS = 20
BEST = 10
"""Pairs of the greatest T among which the example is looked for."""
RANDOM = 30
"""Random directions of either model."""


@dataclass(frozen=True, eq=False)
class Example:
    """One pair over a few words that stand next to each other, at the primary cell."""

    words: tuple[str, ...]
    """[n]"""
    features: tuple[int, int]
    """Of A and of B."""
    grams: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Of A and of B, [2, n, n] cosines between words, pushed one way and the other."""
    odd: NDArray[np.float64]
    """[2, M] packed, centred: half of how they differ, in A and in B."""
    transfer: float
    """T over these words."""
    whole: float
    """T over all words of the run."""


@dataclass(frozen=True, eq=False)
class CopyStudy:
    """What the push's own copy does, and what raw changes have in common."""

    top1: dict[tuple[str, bool], float]
    """By later layers ("none" or "trained") and whether the copy is kept: how many partners are found."""
    mean: dict[tuple[str, bool], float]
    """Mean T of partners, likewise."""
    doses: NDArray[np.float64]
    """[J]"""
    random: dict[str, NDArray[np.float64]]
    """``raw`` and ``odd``: [J, n, n] T of random directions of A with random ones of B."""


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that is drawn."""

    summary: dict[str, Any]
    """The content of steering.json."""
    settings: SteerSettings
    matrices: dict[str, NDArray[Any]]
    """See `Steering.matrices`."""
    next_best: NDArray[np.float64]
    """[k] T with next-best partners at the primary cell."""
    live: NDArray[np.float64]
    """[F, L] T with other live features of B at the primary cell."""
    example: Example
    copy: CopyStudy

    @property
    def cell(self) -> dict[str, Any]:
        """What steering.json says about the primary cell."""
        return self.summary["cells"][self.settings.primary]


def gather_material(path: Path) -> Material:
    """Read a steered run and measure what it does not have.

    Raises:
        SystemExit: for a run without what the pictures show.
        InputError: for a run that is damaged, or whose models are not there.
    """
    run = open_run(path)
    if not (run.path / SUMMARY).is_file():
        raise SystemExit(f"{path} was not steered yet: `xmodel steer {path}` does it.")
    steering = Steering(run, json.loads((run.path / SUMMARY).read_text("utf-8")))
    settings = restore_settings(steering.summary["settings"])
    if settings.mode != "push" or not (settings.reinit and settings.curve_pairs and settings.random):
        raise SystemExit(
            f"{path} was steered without pushes, random layers, random directions or dose-response curves, "
            "and the pictures show all of these: steer it with the defaults."
        )
    matrices = steering.matrices
    session = open_session(run, settings)
    stored = [(one["feature_a"], one["feature_b"]) for one in steering.summary["pairs"]]
    if stored != list(zip(session.pairs.a.tolist(), session.pairs.b.tolist(), strict=True)):
        raise SystemExit(
            f"{path} was steered by another version of xmodel, which chose other pairs: steer it again."
        )
    next_best = steering.table["next_best"].to_numpy().reshape(-1, len(settings.cells))[:, settings.primary]
    return Material(
        summary=steering.summary,
        settings=settings,
        matrices=matrices,
        next_best=next_best[~np.isnan(next_best)],
        live=_measure_live(session),
        example=_find_example(session, np.diag(matrices["odd"][settings.primary])),
        copy=_study_copy(session, matrices["odd"][settings.primary]),
    )


def restore_settings(stored: dict[str, Any]) -> SteerSettings:
    """Settings as steering.json has them."""
    return SteerSettings(**{name: _freeze(own) for name, own in stored.items()})


def _measure_live(session: Session) -> NDArray[np.float64]:
    first, second = (_place(session, number) for number in range(2))
    dose = _find_dose(session)
    own = collect_responses(first, _take_pairs(session, 0), (dose,))
    rows = session.directions[1].find(session.live)
    if not len(rows):
        return np.zeros((len(own), 0))
    other = collect_responses(second, session.directions[1].vectors[rows], (dose,))
    return compare_responses(own, other).odd[0].astype(np.float64)


def _find_example(session: Session, values: NDArray[np.floating]) -> Example:
    """The words next to each other and, of the best pairs, the one for which T is greatest."""
    best = np.argsort(-values, kind="stable")[:BEST]
    sides, dose = [_place(session, number) for number in range(2)], _find_dose(session)
    odd = [collect_responses(sides[n], _take_pairs(session, n)[best], (dose,)).odd[:, 0] for n in range(2)]
    strata, count = session.strata, min(EXAMPLE_WORDS, session.words)
    starts = np.arange(session.words - count + 1)
    inside = starts[strata[starts] == strata[starts + count - 1]]
    found = (-np.inf, 0, 0)
    for first in inside if len(inside) else starts:
        chosen = np.arange(first, first + count)
        own, other = (take_words(one, chosen) for one in odd)
        transfers = np.diag(correlate_responses(own, other)) * session.sign[best]
        if transfers.max() > found[0]:
            found = (float(transfers.max()), int(transfers.argmax()), first)
    _, row, first = found
    chosen = np.arange(first, first + count)
    grams, packed = zip(
        *(_push_once(sides[n], _take_pairs(session, n)[best[row]], dose, chosen) for n in range(2)),
        strict=True,
    )
    sign = float(session.sign[best[row]])
    packed = np.stack([packed[0], packed[1] * sign])
    return Example(
        words=tuple(session.passages.texts[session.kept[place]] for place in chosen),
        features=(int(session.pairs.a[best[row]]), int(session.pairs.b[best[row]])),
        grams=(grams[0], grams[1][:: int(sign)]),
        odd=packed,
        transfer=float(correlate_responses(packed[:1], packed[1:])[0, 0]),
        whole=float(values[best[row]]),
    )


def _push_once(
    side: SteeredSide, direction: NDArray[np.float32], dose: float, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gram matrices [2, n, n] under both pushes, and the packed odd response, over some words."""
    hidden = side.replay.hidden
    step = torch.from_numpy(direction * np.float32(dose * side.scale)).to(hidden.device, hidden.dtype)

    def make(first: int, stop: int) -> torch.Tensor:
        signs = torch.tensor([1.0, -1.0], device=hidden.device, dtype=hidden.dtype)[first:stop]
        return hidden + signs[:, None, None, None] * step * side.where[..., None]

    block = side.blocks[0]
    rows = read_changes(side, make, 2)[block][:, chosen]
    clean = side.take(side.replay.clean[block])[chosen]
    odd, _ = split_response(rows[0], rows[1], clean)
    return normalise_gram(rows).numpy(force=True), odd.double().numpy(force=True)


def _study_copy(session: Session, s: NDArray[np.floating]) -> CopyStudy:
    dose, doses = _find_dose(session), np.array(session.settings.curve_doses)
    transfers = {("trained", False): s.astype(np.float64)}
    for layers, keep in (("trained", True), ("none", True), ("none", False)):
        sides = [
            _place(session, n, _remove_layers(session, n) if layers == "none" else None) for n in range(2)
        ]
        pushed = [
            collect_responses(sides[n], _take_pairs(session, n), (dose,), keep_copy=keep) for n in range(2)
        ]
        transfers[layers, keep] = compare_responses(*pushed).odd[0].astype(np.float64) * session.sign
    own = []
    for number, one in enumerate(session.directions):
        directions = draw_directions(RANDOM, one.vectors.shape[1], session.settings.seed + 11 + number)
        own.append(collect_responses(_place(session, number), directions, doses))
    partners = np.arange(len(s))
    return CopyStudy(
        top1={name: measure_retrieval(one, partners).top1 for name, one in transfers.items()},
        mean={name: float(np.diag(one).mean()) for name, one in transfers.items()},
        doses=doses,
        random={
            name: np.stack([correlate_responses(x[:, j], y[:, j]) for j in range(len(doses))])
            for name, (x, y) in {
                "raw": (own[0].raw, own[1].raw),
                "odd": (own[0].odd, own[1].odd),
            }.items()
        },
    )


def _remove_layers(session: Session, number: int) -> nn.ModuleList:
    """Later layers that do nothing."""

    class Nothing(nn.Module):
        def forward(self, hidden: Any, *_: Any, **__: Any) -> Any:
            return hidden

    loaded = session.loaded[number]
    start = find_stream_block(loaded.model, loaded.site) + 1
    return nn.ModuleList([Nothing() for _ in range(start, loaded.model.layers)])


def _place(session: Session, number: int, blocks: nn.ModuleList | None = None) -> SteeredSide:
    """One side, read at the primary cell's depth only."""
    return session.place(number, blocks=blocks, reads=(session.reads[number][session.settings.middle],))


def _take_pairs(session: Session, number: int) -> NDArray[np.float32]:
    return session.directions[number].vectors[session.rows[number]]


def _find_dose(session: Session) -> float:
    return float(session.settings.cells[session.settings.primary][0] or 0.0)


def _freeze(value: Any) -> Any:
    return tuple(_freeze(one) for one in value) if isinstance(value, list) else value
