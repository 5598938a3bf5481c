"""``xmodel selfcheck``: the statistics on planted truth, on this machine."""

from typing import Annotated

import typer

from xmodel.cli.options import Json
from xmodel.cli.program import app
from xmodel.cli.progress import show_progress
from xmodel.cli.runs import show_found


@app.command("selfcheck")
def selfcheck(
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Of everything that is simulated.")
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A part of the simulations: seconds; misses smaller faults.")
    ] = False,
    trained: Annotated[
        bool, typer.Option("--trained", help="Also with SAEs trained here and now: half a minute more.")
    ] = False,
    json: Json = False,
) -> None:
    """See whether the program tells truth from chance, on simulated models where the truth is known.

    Pairs and scores models that share features, and models that share nothing; and pushes features in a
    bundled model and in damaged copies of it. Exit code 1 if it fails.

    \b
    Examples:
      xmodel selfcheck
      xmodel selfcheck --quick --json
    """
    from transformers.utils.logging import disable_progress_bar

    from xmodel.report.selfcheck import render_selfcheck
    from xmodel.steering.selfcheck import run_selfcheck

    disable_progress_bar()
    with show_progress() as report:
        found = run_selfcheck(seed, quick=quick, trained=trained, report=report)
    show_found(found, render_selfcheck, json)
    if not found["passed"]:
        raise typer.Exit(1)
