"""Take a steering vector made in A, and write the vector of B that should do the same."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.manifest import drop_infinite
from xmodel.pairing.results import Run
from xmodel.similarity.families import adjust_max
from xmodel.steering.carrying import Carried
from xmodel.steering.collecting import Report
from xmodel.steering.doses import place_at_end, push_to_end
from xmodel.steering.exchange import DoseCurves, Exchange, compute_exchange, measure_damage
from xmodel.steering.extras import carry_vector, measure_random_share
from xmodel.steering.mapping import fit_session_map
from xmodel.steering.readouts import count_exceeding
from xmodel.steering.results import SUMMARY
from xmodel.steering.session import Session, open_session
from xmodel.steering.settings import SteerSettings
from xmodel.steering.transfers import collect_responses, compare_responses, measure_transfers
from xmodel.steering.vector_files import read_vectors, write_vectors
from xmodel.steering.vectors import SteeringVector

SUFFIXES = (".safetensors", ".gguf")
PAIRS = 3
"""Pairs that a session needs to be opened; none of them is pushed."""


def port_vector(
    run: Run,
    source: str | Path,
    out: str | Path,
    settings: SteerSettings | None = None,
    *,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> dict[str, Any]:
    """Express a vector of A in its paired features, put their partners in their place, and write B's vector.

    B's vector gets the length that does in B what A's does in A, by the KL of the next token; by the norms of
    the residual streams where no doses of equal KL are found.

    Args:
        run: a finished run of both models; A's dictionary reads where the vector is added.
        source: safetensors or a GGUF control vector, with a vector at A's site.
        out: where B's vector goes; safetensors or GGUF by its suffix.
        settings: doses, depths, words and random directions.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Returns:
        what was carried (``share`` of the vector's norm, beside that of random vectors, and the features that
        it is made of), ``exchange``, and per dose and depth ``odd``, the agreement of A's and B's odd
        responses, with p against random directions of B.

    Raises:
        InputError: for a file that cannot be read or has no vector at A's site, a place that is taken or has
            another suffix, or a run that cannot be steered.
    """
    settings = settings or SteerSettings()
    if settings.mode != "push":
        raise InputError("a vector was to be ported with mode 'ablate': vectors are pushed; use mode 'push'.")
    source, out = Path(source), Path(out)
    _check_out(source, out)
    site = run.manifest["sides"]["a"]["site"]
    vector = _choose_vector(source, site, warn)
    report("load", 0, None)
    session = open_session(run, replace(settings, pairs=PAIRS, features=(), live=0))
    carried = carry_vector(session, vector)
    first, second = vector.unit(), carried.vector.unit()
    exchange = _exchange(session, first, second, report)
    units = exchange.by_norm if exchange.units is None else exchange.units
    ported = replace(second * (vector.norm * units), name=vector.name)
    cells, cosine = _compare(session, first, second, report)
    write_vectors(out, [ported])
    return drop_infinite(
        {
            "source": str(source),
            "out": str(out),
            "name": vector.name,
            "site_a": vector.site,
            "site_b": ported.site,
            "model_a": session.loaded[0].model.name,
            "model_b": session.loaded[1].model.name,
            "norm_a": vector.norm,
            "norm_b": ported.norm,
            "share": carried.share,
            "share_random": measure_random_share(session),
            "stretch": carried.stretch,
            "features": _list_features(carried),
            "cosine_linear": cosine,
            "exchange": {
                "by": "norm" if exchange.units is None else "kl",
                "rate": exchange.rate,
                "units": units,
                "by_norm": exchange.by_norm,
            },
            "cells": cells,
            "primary": settings.primary,
            "random": settings.random,
            "words": session.words,
            "reference": _read_reference(run),
            "settings": settings.as_json(),
        }
    )


def _check_out(source: Path, out: Path) -> None:
    if out.suffix not in SUFFIXES:
        raise InputError(
            f"the vector of B was to be written to {str(out)!r}: name a file that ends in "
            f"{' or '.join(SUFFIXES)}."
        )
    if out.exists():
        raise InputError(f"{str(out)!r} is there already, and nothing is overwritten: name another file.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"there is no folder {str(out.parent)!r} to write {out.name} to: make it first.")
    if not source.is_file():
        raise InputError(
            f"there is no steering vector at {str(source)!r}: expected safetensors or a GGUF control vector."
        )


def _choose_vector(source: Path, site: str, warn: Callable[[str], None]) -> SteeringVector:
    """The vector at A's site; what is assumed and what is left out of the file is told."""
    try:
        others = len(read_vectors(source)) - 1
    except InputError:
        # It does not say where its only tensor belongs; or it cannot be read, which is told below.
        others = None
    (own,) = read_vectors(source, site=site)
    if others is None:
        warn(f"{source.name} does not say where its vector belongs: it is taken as one of {site} of A.")
    elif others:
        warn(
            f"{source.name} has {others} vector{'s' if others > 1 else ''} of other layers, left out: only "
            f"of {site} are A's features known."
        )
    return own


def _exchange(session: Session, first: SteeringVector, second: SteeringVector, report: Report) -> Exchange:
    doses = np.array(session.settings.curve_doses)
    curves = []
    for number, vector in enumerate((first, second)):
        report(f"next_token_{'ab'[number]}", 0, 1)
        side, head = place_at_end(session, number)
        clean = side.take(side.replay.clean[side.blocks[0]])
        signed = np.stack([doses, -doses], axis=1).ravel()
        pushed = push_to_end(side, np.repeat(vector.values[None], len(signed), axis=0), signed)
        kl = measure_damage(head.logits, pushed, clean).mean(axis=1).reshape(1, len(doses), 2).mean(axis=2)
        curves.append(DoseCurves(doses, kl, side.scale))
        report(f"next_token_{'ab'[number]}", 1, 1)
    return compute_exchange(*curves)


def _compare(
    session: Session, first: SteeringVector, second: SteeringVector, report: Report
) -> tuple[list[dict[str, Any]], float]:
    """T of A's vector with B's, by pairs and linearly, beside random directions; the cosine of B's two."""
    settings = session.settings
    own = collect_responses(session.sides[0], first.values[None], settings.doses)
    linear = fit_session_map(session).carry(first).unit()
    mine = collect_responses(session.sides[1], np.stack([second.values, linear.values]), settings.doses)
    values = compare_responses(own, mine).odd[:, 0].astype(np.float64)
    null = np.zeros((len(settings.cells), 0))
    if settings.random:
        done = 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            report("random", done, settings.random)

        found = measure_transfers(own, session.sides[1], session.draw_random(), settings.doses, tick=tick)
        null = found.odd[:, 0].astype(np.float64)
    cells = []
    adjusted = adjust_max(values[:, 0], null) if null.shape[1] else np.full(len(values), np.nan)
    for cell, (dose, depth) in enumerate(settings.cells):
        p = count_exceeding(values[cell], np.stack([null[cell]] * 2)) if null.shape[1] else [np.nan, np.nan]
        cells.append(
            {
                "dose": dose,
                "depth": depth,
                "odd": float(values[cell, 0]),
                "p": float(p[0]),
                "p_adjusted": float(adjusted[cell]),
                "odd_linear": float(values[cell, 1]),
                "p_linear": float(p[1]),
                "random_mean": float(null[cell].mean()) if null.shape[1] else None,
                "random_largest": float(null[cell].max()) if null.shape[1] else None,
            }
        )
    return cells, float(second.values @ linear.values)


def _list_features(carried: Carried) -> list[dict[str, Any]]:
    """The features that a vector is made of, the largest coefficient first."""
    order = np.argsort(-np.abs(carried.coefficients), kind="stable")
    rows: tuple[NDArray[Any], ...] = (carried.features_a, carried.features_b, carried.coefficients)
    a, b, coefficients = (own[order].tolist() for own in rows)
    return [
        {"feature_a": one, "feature_b": two, "coefficient": weight}
        for one, two, weight in zip(a, b, coefficients, strict=True)
    ]


def _read_reference(run: Run) -> dict[str, Any] | None:
    """What single pairs of this run transfer, where that was measured."""
    place = run.path / SUMMARY
    if not place.is_file():
        return None
    summary = json.loads(place.read_text("utf-8"))
    if summary["mode"] != "push" or summary["pairs_sha256"] != run.manifest["pairing"]["pairs_sha256"]:
        return None
    return {"mean_diagonal": summary["mean_diagonal"], "ceiling": summary.get("ceiling")}
