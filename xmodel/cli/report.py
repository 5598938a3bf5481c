"""``xmodel report``: a run as a page that opens in a browser, from disk."""

from pathlib import Path
from typing import Annotated

import typer

from xmodel.cli.options import Json
from xmodel.cli.program import app, report_line
from xmodel.cli.progress import show_progress
from xmodel.cli.runs import show_found


@app.command("report")
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run, or of a sweep.")],
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Also draw every figure for print: SVG, PDF, and its data as CSV."),
    ] = False,
    maps: Annotated[
        bool,
        typer.Option("--maps/--no-maps", help="Lay out the decoder directions in the plane (UMAP)."),
    ] = True,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", metavar="SWEEP", help="A sweep whose grid of layers is shown."),
    ] = None,
    labels_a: Annotated[
        Path | None,
        typer.Option(
            "--labels-a",
            metavar="FILE",
            help="Names of A's features, which B's partners get: a CSV or JSONL file with `feature` and "
            "`label`, or an export of Neuronpedia's explanations.",
        ),
    ] = None,
    labels_b: Annotated[
        Path | None, typer.Option("--labels-b", metavar="FILE", help="The same for B's features.")
    ] = None,
    contexts: Annotated[
        int, typer.Option("--contexts", min=2, metavar="N", help="Contexts per pair, half of either side.")
    ] = 20,
    passages: Annotated[
        int, typer.Option("--passages", min=1, metavar="N", help="Passages that show the alignment.")
    ] = 40,
    shifts: Annotated[
        int,
        typer.Option(
            "--shifts",
            min=1,
            metavar="N",
            help="How often features are paired again after shifting words, to see what r chance reaches; at "
            "least 5 are drawn.",
        ),
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of maps, shifts and samples.")] = 0,
    json: Json = False,
) -> None:
    """Write a run as a page: RUN/report/index.html opens from disk, offline, without a server.

    Shows what the run has: its overview, a table of all pairs with both features side by side in context,
    maps of both feature spaces, features that only one of the models has, the grid of layers, what steering
    found, and how the words were aligned. For a part that the run lacks it names the command that adds it.

    \b
    Examples:
      xmodel report RUN
      xmodel report RUN --figures
      xmodel report RUN --labels-a explanations.jsonl
    """
    from xmodel.pairing.results import open_run
    from xmodel.report.page.report import write_report
    from xmodel.report.page.settings import ReportSettings
    from xmodel.report.page.telling import render_report

    settings = ReportSettings(figures, maps, sweep, labels_a, labels_b, contexts, passages, shifts, seed)
    opened = open_run(run)
    try:
        with show_progress() as progress:
            written = write_report(opened, settings, report=progress, warn=report_line)
    except KeyboardInterrupt:
        report_line(f"interrupted. The page that was in {run / 'report'}, if any, is as it was.")
        raise
    show_found(written.as_json(), render_report, json)
