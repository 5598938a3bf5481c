"""``xmodel demo``: the whole program on the two small models that come with it."""

from pathlib import Path
from typing import Annotated

import typer

from xmodel.cli.options import Json
from xmodel.cli.program import app, report_line
from xmodel.cli.progress import show_progress
from xmodel.cli.runs import show_found


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder of the run.")] = Path(
        "xmodel-demo"
    ),
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on with a run that is there, or start it over."),
    ] = True,
    json: Json = False,
) -> None:
    """See the program work on two small language models that come with it; offline, in seconds.

    Finds which SAE feature of the one model is which of the other, over passages that neither has read,
    scores how alike the two feature spaces are, pushes both models along paired features, and writes all of
    it as a page for a browser.

    \b
    Examples:
      xmodel demo
      xmodel demo --out /tmp/run
    """
    from transformers.utils.logging import disable_progress_bar

    from xmodel.datasets.demo import DEMO_CORPUS, DEMO_SAES
    from xmodel.pairing.comparing import align_models
    from xmodel.report.demo import DEMO_SCORES, DEMO_STEERING, describe_demo, render_demo
    from xmodel.report.page.report import write_report
    from xmodel.similarity.scoring import score_run
    from xmodel.steering.steering import steer_run

    disable_progress_bar()
    with show_progress() as report:
        run = align_models(*DEMO_SAES, DEMO_CORPUS, out, fresh=not resume, report=report, warn=report_line)
        scores = score_run(run, DEMO_SCORES, report=report, warn=report_line)
        steering = steer_run(run, DEMO_STEERING, report=report, warn=report_line)
        written = write_report(run, report=report, warn=report_line)
    show_found(describe_demo(run, scores, steering, written.as_json()), render_demo, json)
