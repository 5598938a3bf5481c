"""How far a run is, on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from xmodel.cli.program import report_line

if TYPE_CHECKING:
    from xmodel.alignment.features import Report

STAGES = {
    "load": "loading models and dictionaries",
    "check": "checking that the SAEs fit their sites",
    "resumed": "words that an earlier attempt had finished",
    "words": "words through both models",
    "pair": "pairing features",
    "cells": "cells of the grid",
    "shifts": "cells paired again under every shift",
    "read": "reading the run",
    "shift": "pairing again after shifting words",
    "score": "sets of pairs scored",
    "bootstrap": "resamplings of the documents",
    "lan2024": "rows of the table",
    "padding": "shards of padding through both models",
    "planted": "simulated models that share features",
    "trained": "simulated models with trained SAEs",
    "chance": "simulated models that share nothing",
    "steering": "damaged copies of the bundled model",
    "push_a": "pushes of model A",
    "push_b": "pushes of model B",
    "random": "pushes of model B in random directions",
    "reinit": "pushes of both models with random layers after the site, draw",
    "tests": "testing pairs against chance",
    "next_word_a": "what model A's pushes do to the next word",
    "next_word_b": "what model B's pushes do to the next word",
    "next_token_a": "dose by dose, what model A predicts",
    "next_token_b": "dose by dose, what model B predicts",
    "alignment": "passages looked at for the page",
    "re-pairing null": "pairing again after shifting words",
    "re-pairing null of some": "the same for features whose partner it leaves open",
    "explorer": "steps of the table of pairs",
    "maps": "maps of decoder directions",
    "figures": "figures for print",
    "page": "writing the page",
}
"""What the stages of a run are called in front of a person."""
QUIET = 10.0
"""Seconds between two plain lines."""


def name_stage(stage: str) -> str:
    """What a stage is called; one that is done several times keeps its number: ``reinit_2``."""
    name, _, number = stage.rpartition("_")
    return f"{STAGES[name]} {number}" if number.isdecimal() and name in STAGES else STAGES.get(stage, stage)


@contextmanager
def show_progress() -> "Iterator[Report]":
    """A function that shows how far a run is, for as long as the block lasts."""
    if sys.stderr.isatty():
        with _show_bars() as report:
            yield report
    else:
        yield _make_lines()


@contextmanager
def _show_bars() -> "Iterator[Report]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(name_stage(stage), total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


def _make_lines() -> "Report":
    shown: dict[str, float] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        now = monotonic()
        if stage in shown and now - shown[stage] < QUIET and done != total:
            return
        shown[stage] = now
        count = (
            ""
            if not done and total is None
            else f": {done:,}"
            if total is None
            else f": {done:,} of {total:,}"
        )
        report_line(f"{name_stage(stage)}{count}")

    return report
