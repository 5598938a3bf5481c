"""The part of the page about steering: what it found, in sentences, figures and tables."""

from collections.abc import Mapping
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.results import Run
from xmodel.report.page.records import Figure, Missing, Part
from xmodel.report.page.steering_doses import draw_doses
from xmodel.report.page.steering_examples import list_examples
from xmodel.report.page.steering_figures import draw_transfers
from xmodel.report.page.steering_tables import list_tables, name_resampled
from xmodel.report.steer import (
    EXPLAINED,
    describe_steering,
    judge_transfer,
    tell_agreement,
    tell_doing,
    tell_retrieval,
    tell_rounding,
)
from xmodel.report.steer_tables import tell_single
from xmodel.steering.results import Steering, read_steering

NAME, TITLE = "steering", "Steering"
CHUNK = "steering"
"""The chunk of the examples."""
_NEEDED = (
    "mode", "pairs_sha256", "primary", "cells", "pairs", "settings", "sides", "hard_pairs",
    "pairs_sharing_no_feature", "pairs_significant", "live", "words",
)  # fmt: skip
_ABSENT: dict[str, Any] = {
    "ablation": None,
    "reliability": {"correlation": None, "full": None},
    "examples": [],
}
_ABSENT_IN_CELLS: dict[str, Any] = {"excess": None, "over_hard": None, "reinitialised": None, "damage": {}}


def build_steering(run: Run, name: str | None = None) -> tuple[Part, dict[str, Any] | None]:
    """What steering found in a run.

    Args:
        run: a finished run.
        name: the run as it is typed in commands; left out, its path.

    Returns:
        The part ``steering``, and the payload of its chunk (see `list_examples`); where the run was not
        steered, or steered before its pairs were made anew, why and how to steer it, and None.

    Raises:
        InputError: if a file of the run is missing or damaged.
    """
    steering = read_steering(run)
    reason = _find_reason(run, steering)
    if steering is None or reason is not None:
        missing = Missing(reason or "", f"xmodel steer {quote(name or str(run.path))}")
        return Part(name=NAME, title=TITLE, missing=missing), None
    found = fill_absent(describe_steering(Steering(run, fill_absent(steering.summary))))
    rows = steering.table.to_pydict()
    figures, notes = _draw(found, rows, steering)
    told = [judge_transfer(found)[0].removeprefix("Verdict: "), tell_doing(found), EXPLAINED[found["mode"]]]
    told += [tell_retrieval(found)]
    told += [" ".join(tell_agreement(found, name_resampled(found))), tell_single(found), tell_rounding(found)]
    sentences = [sentence[0].upper() + sentence[1:] for sentence in told if sentence]
    part = Part(
        name=NAME,
        title=TITLE,
        sentences=tuple(sentences),
        figures=tuple(figures),
        tables=tuple(list_tables(found, rows)),
        notes=tuple(notes),
    )
    return part, list_examples(found)


def fill_absent(found: Mapping[str, Any]) -> dict[str, Any]:
    """steering.json with None for what an older version did not measure."""
    cells = [_ABSENT_IN_CELLS | dict(cell) for cell in found["cells"]]
    return _ABSENT | dict(found) | {"cells": cells}


def _find_reason(run: Run, steering: Steering | None) -> str | None:
    """Why there is nothing to show, in a sentence; None where there is."""
    if steering is None:
        return "The run was not steered: whether a partner does the same as its feature is not known."
    lacking = [name for name in _NEEDED if name not in steering.summary]
    if lacking:
        return f"Steering was measured by another version of xmodel, which did not keep {lacking[0]}."
    if steering.summary["pairs_sha256"] != run.manifest.get("pairing", {}).get("pairs_sha256"):
        return "Pairs were made anew after this run was steered, so what steering found is of other pairs."
    return None


def _draw(
    found: Mapping[str, Any], rows: Mapping[str, Any], steering: Steering
) -> tuple[list[Figure], list[str]]:
    """The figures, and what is to be said where some cannot be drawn."""
    figures: list[Figure] = []
    try:
        matrices: Mapping[str, NDArray[Any]] = steering.matrices
    except InputError as error:
        return draw_doses(found, rows), [f"Matrices are not shown: {error}"]
    pairs, cells = len(found["pairs"]), len(found["cells"])
    if np.shape(matrices["odd"]) != (cells, pairs, pairs) or len(rows["odd"]) != pairs * cells:
        told = "Matrices are not shown: they are not of the pairs that steering.json names."
        return draw_doses(found, rows), [told]
    figures += draw_transfers(found, rows, matrices)
    return [*figures, *draw_doses(found, rows)], []
