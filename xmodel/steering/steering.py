"""`xmodel steer`: push partners in two models, and see whether the same happens further down."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.models.language import check_device, check_dtype
from xmodel.pairing.manifest import drop_infinite, list_packages
from xmodel.pairing.results import Run, open_run
from xmodel.run import digest_json
from xmodel.steering.ceilings import measure_context_ceiling
from xmodel.steering.collecting import Collector, Report
from xmodel.steering.contrasts import ContrastSet
from xmodel.steering.doses import DoseStudy, describe_doses, study_doses
from xmodel.steering.extras import WAYS, Extras, add_extras, choose_contrasts
from xmodel.steering.floors import find_floor_dose
from xmodel.steering.judging import Judgement, describe_cell, describe_reliability, judge
from xmodel.steering.parts import read_arrays, remove_parts
from xmodel.steering.readouts import list_distinct, measure_retrieval
from xmodel.steering.results import (
    MATRICES,
    SUMMARY,
    Steering,
    read_steering,
    tabulate_pairs,
    write_matrices,
    write_table,
)
from xmodel.steering.saying import describe_saying, give_examples, study_saying
from xmodel.steering.session import Session, open_session
from xmodel.steering.settings import SteerSettings
from xmodel.steering.specificity import study_rises

EXAMPLES = 3
"""Pairs that are shown with what the models say next."""


def steer_run(
    run: Run | str | Path,
    settings: SteerSettings | None = None,
    *,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Steering:
    """Ask whether paired features do the same: push A along one and B along its partner, and compare.

    Pushes go along unit decoder rows, both ways, over held-out words; compared are the odd changes of the
    words' Gram matrices after later layers, without the push's own copy on the skip connection. Writes
    steering.json, transfer.parquet and steering/matrices.safetensors into the run. A call that was killed
    goes on where it stopped when it is made again.

    Args:
        run: a finished run, or its folder.
        settings: pairs, doses, depths, nulls.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Returns:
        what was written.

    Raises:
        InputError: for a run without enough pairs or held-out words, a site at the last block or outside of
            the residual stream, a feature that never fires, models that are not what they were, or memory
            that is not enough for a single push.
    """
    settings = settings or SteerSettings()
    run = run if isinstance(run, Run) else open_run(run)
    begin = perf_counter()
    # What can be seen to be wrong is told before models are loaded.
    check_device(settings.device)
    check_dtype(settings.dtype)
    asked = _digest_call(run, settings, choose_contrasts(settings))
    before = read_steering(run)
    if before is not None:
        whole = read_arrays(run.folder, MATRICES) is not None
        if whole and before.summary.get("asked_sha256") == asked:
            warn(
                f"{run.path / SUMMARY} is of the very same call and stays as it is: remove it to measure "
                "again."
            )
            return before
        warn(f"what is in {run.path / SUMMARY} is replaced when this is done.")
    with run.folder.lock():
        report("load", 0, None)
        session, extras = open_session(run, settings), None
        if settings.mode == "push":
            session, extras = add_extras(session)
        collector = Collector(session, report)
        collected = collector.collect()
        reinitialised = [collector.reinitialise(draw) for draw in range(settings.reinit)]
        report("tests", 0, None)
        found = judge(session, collected, [one["odd"] for one in reinitialised])
        cells = [describe_cell(session, found, cell) for cell in range(len(settings.cells))]
        floors = collector.measure_floor(0), collector.measure_floor(1)
        studies: dict[str, Any] = {}
        curves = None
        if settings.mode == "push":
            curves, studies = _study(collector, found, extras)
        _warn_of_limits(session, found, floors, warn)
        summary = _summarise(session, found, cells) | studies
        summary["floor"] = _describe_floors(session, floors, reinitialised)
        there = np.flatnonzero(~np.isnan(found.pairs.pair_p))
        summary["reliability"] = describe_reliability(
            collected.halves[:, :, there][..., there], session.sign[there], settings.primary
        )
        if extras is not None:
            summary["carried"] = _describe_carried(session, collected.odd, extras)
            summary["contrasts"] = _describe_contrasts(session, collected.odd, collected.random, extras)
        summary["asked_sha256"] = asked
        summary["seconds"] = round(perf_counter() - begin, 2)
        summary = drop_infinite(summary)
        # Written last again: a summary never stands beside the table of another call.
        (run.path / SUMMARY).unlink(missing_ok=True)
        write_table(run, tabulate_pairs(session, found, floors, _place_kl(session, curves)))
        write_matrices(session, collected, found, collector.fingerprint)
        run.folder.write_json(SUMMARY, summary)
        remove_parts(run.folder, keep=MATRICES)
        run.folder.tell_old_page(warn)
    return Steering(run, summary)


def _digest_call(run: Run, settings: SteerSettings, contrasts: Sequence[ContrastSet]) -> str:
    """SHA-256 of everything that results depend on: the run's models, words and pairs, and what is asked."""
    manifest = run.manifest
    parts = {name: manifest[name] for name in ("sides", "pairing", "files", "shards")}
    parts["contrasts"] = [asdict(one) for one in contrasts]  # A file may say something else by now.
    return digest_json({**parts, "settings": settings.as_json(), "packages": list_packages()})


def _study(
    collector: Collector, found: Judgement, extras: Extras | None
) -> tuple[DoseStudy | None, dict[str, Any]]:
    """What is measured beside the main table."""
    session = collector.session
    settings = session.settings
    ceilings = [measure_context_ceiling(collector, number) for number in range(2)]
    studies: dict[str, Any] = {"ceiling": _join_ceilings(ceilings)}
    saying = study_saying(collector)
    studies["next_words"] = None if saying is None else describe_saying(collector, saying)
    curves = None
    if settings.curve_pairs:
        chosen = np.arange(min(settings.curve_pairs, len(session.pairs)))
        curves = study_doses(collector, chosen)
        studies["dose_response"] = describe_doses(curves, session.sign[chosen])
    if extras is not None:
        studies["rises"] = study_rises(collector, extras.linear)
    best = np.lexsort((-found.values[:, settings.primary], found.pairs.pair_p))[:EXAMPLES]
    studies["examples"] = give_examples(collector, best, saying)
    return curves, studies


def _summarise(session: Session, found: Judgement, cells: list[dict[str, Any]]) -> dict[str, Any]:
    settings, primary = session.settings, cells[session.settings.primary]
    tests = found.pairs
    return {
        "mode": settings.mode,
        "pairs_sha256": session.run.manifest["pairing"]["pairs_sha256"],
        "retrieval": primary["retrieval"],
        "auroc": primary["auroc"],
        "mean_diagonal": primary["mean_diagonal"],
        "mean_off_diagonal": primary["mean_off_diagonal"],
        "p": primary["p"],
        "p_max": primary["p_max"],
        "excess": primary["excess"],
        "primary": settings.primary,
        "cells": cells,
        "pairs": [
            {
                "feature_a": int(a),
                "feature_b": int(b),
                "r": _number(r),
                "p": _number(p),
                "p_adjusted": _number(q),
            }
            for a, b, r, p, q in zip(
                session.pairs.a, session.pairs.b, session.pairs.r, tests.pair_p, tests.pair_q, strict=True
            )
        ],
        "pairs_significant": int((tests.pair_q <= settings.alpha).sum()),
        "pairs_sharing_no_feature": len(found.distinct),
        "hard_pairs": {
            "matched": session.hard.matched,
            "count": len(found.matched),
            "kinds": {kind: session.hard.kind.count(kind) for kind in sorted(set(session.hard.kind))},
        },
        "live": found.nulls["live"].shape[2] if "live" in found.nulls else 0,
        "ablation": {
            "pairs": len(found.distinct),
            "live": found.nulls["live"].shape[2] if "live" in found.nulls else 0,
        }
        if settings.mode == "ablate"
        else None,
        "words": session.words,
        "passages": len(session.passages),
        "sides": {
            letter: {
                "model": side.model.name,
                "dictionary": side.dictionary.info.name,
                "site": side.site,
                "layers": side.model.layers,
                "reads": list(session.reads[number]),
                "scale": session.sides[number].scale,
            }
            for number, (letter, side) in enumerate(zip("ab", session.loaded, strict=True))
        },
        "settings": settings.as_json(),
        "packages": list_packages(),
    }


def _describe_floors(
    session: Session,
    floors: tuple[NDArray[np.float64], NDArray[np.float64]],
    reinitialised: Sequence[dict[str, NDArray[Any]]],
) -> dict[str, Any]:
    """What rounding makes of responses: by cell, and as a share of what random layers give."""
    shares = None
    if reinitialised and session.settings.mode == "push":
        worst = np.max([one["floor"] / np.maximum(one["size"], 1e-300) for one in reinitialised], axis=(0, 2))
        shares = {"a": float(worst[0]), "b": float(worst[1])}
    return {
        "dose": find_floor_dose(session.sides[0]) if session.settings.mode == "push" else None,
        "a": floors[0].tolist(),
        "b": floors[1].tolist(),
        "reinitialised": shares,
    }


def _join_ceilings(ceilings: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Either model with itself in another context; between two models at most the geometric mean of both."""
    first, second = ceilings
    if first is None or second is None:
        return None
    product = max(first["mean_diagonal"], 0.0) * max(second["mean_diagonal"], 0.0)
    return {"a": first, "b": second, "transfer": float(np.sqrt(product))}


def _describe_carried(session: Session, odd: NDArray[np.float32], extras: Extras) -> dict[str, Any]:
    """A's directions in B through the pairs and by the linear map, at the primary cell."""
    rows_a, rows_b = session.rows
    cell = session.settings.primary
    ways = {"pairs": rows_b, "linear": extras.linear_rows}
    found: dict[str, Any] = {}
    for way, rows in ways.items():
        s = odd[cell][rows_a][:, rows].astype(np.float64) * (session.sign if way == "pairs" else 1)
        off = s[~np.eye(len(s), dtype=np.bool_)]
        retrieval = measure_retrieval(s, np.arange(len(s)))
        found[way] = {
            "mean_diagonal": float(np.diag(s).mean()),
            "mean_off_diagonal": float(off.mean()) if len(off) else None,
            "top1": retrieval.top1,
            "pairs": np.diag(s).tolist(),
        }
    own = extras.linear
    found["linear_map"] = {
        "penalty": own.penalty,
        "words": own.words,
        "r2": own.r2,
        "r2_heldout": own.r2_heldout,
    }
    return found


def _describe_contrasts(
    session: Session, odd: NDArray[np.float32], random: NDArray[np.float32], extras: Extras
) -> list[dict[str, Any]]:
    """T of every contrast vector of A with the ways it gets into B, beside random directions."""
    cell = session.settings.primary
    found = []
    for one in extras.contrasts:
        null = random[cell, one.row_a].astype(np.float64)
        ways = {}
        for way in WAYS:
            value = float(odd[cell, one.row_a, one.rows_b[way]])
            p = None if not len(null) else float(((null >= value).sum() + 1) / (len(null) + 1))
            ways[way] = {"odd": value, "p": p, "cosine_with_own": one.cosines.get(way, 1.0)}
        carried = one.carried
        found.append(
            {
                "name": one.contrast.name,
                "description": one.contrast.description,
                "norm": one.vector.norm,
                "share": carried.share,
                "share_random": extras.share_random,
                "features_a": carried.features_a.tolist(),
                "features_b": carried.features_b.tolist(),
                "coefficients": carried.coefficients.tolist(),
                **ways,
            }
        )
    return found


def _place_kl(session: Session, curves: DoseStudy | None) -> NDArray[np.float64] | None:
    """[2, F, C] next-token KL of pairs and doses that were measured, NaN elsewhere."""
    if curves is None:
        return None
    cells = session.settings.cells
    kl = np.full((2, len(session.pairs), len(cells)), np.nan)
    for cell, (dose, _) in enumerate(cells):
        for column in np.flatnonzero(curves.doses == dose):
            kl[:, curves.pairs, cell] = curves.kl[:, :, column]
    return kl


def _warn_of_limits(
    session: Session,
    found: Judgement,
    floors: tuple[NDArray[np.float64], NDArray[np.float64]],
    warn: Callable[[str], None],
) -> None:
    """Say what limits the answer."""
    settings = session.settings
    if session.words < settings.words:
        warn(
            f"{session.words} held-out words could be read where {settings.words} were asked for: the corpus "
            "has no more."
        )
    shared = len(session.pairs) - len(list_distinct(session.pairs.a, session.pairs.b))
    if shared:
        warn(
            f"{shared} of the {len(session.pairs)} pairs share a feature with another: tests over pairs "
            "leave them out."
        )
    if found.diagonal.reason is not None:
        warn(f"no test over pairs: {found.diagonal.reason}. Each pair is still compared with its nulls.")
    if settings.mode == "push":
        silent = [
            f"{'ab'[number]}:{feature}"
            for number, features in enumerate((session.pairs.a, session.pairs.b))
            for feature, sizes in zip(features.tolist(), found.sizes[number], strict=True)
            if (sizes <= floors[number]).any()
        ]
        if silent:
            warn(
                f"pushing {', '.join(silent[:5])}{', ...' if len(silent) > 5 else ''} does no more than "
                "rounding at some dose and depth: their transfers say nothing there (above_floor is false)."
            )
    else:
        still = [
            f"{'ab'[number]}:{feature}"
            for number, features in enumerate((session.pairs.a, session.pairs.b))
            for feature, sizes in zip(features.tolist(), found.sizes[number], strict=True)
            if not sizes.any()
        ]
        if still:
            warn(
                f"{len(still)} features ({', '.join(still[:5])}{', ...' if len(still) > 5 else ''}) fire on "
                "no token of the passages, so that their pairs are left out: ask for more --words."
            )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
