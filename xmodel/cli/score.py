"""``xmodel score``: how similar the feature spaces of a run are, and whether that is more than chance."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodel.cli.options import Json, RuleOption
from xmodel.cli.program import app, report_line
from xmodel.cli.progress import show_progress
from xmodel.cli.runs import show_found
from xmodel.errors import InputError

if TYPE_CHECKING:
    from xmodel.pairing.results import Run


class OnOption(StrEnum):
    """What is compared."""

    DECODER = "decoder"
    ACTIVATIONS = "activations"


class NullOption(StrEnum):
    """What chance is."""

    SHUFFLE = "shuffle"
    STRATIFIED = "stratified"
    SUBSETS = "subsets"
    SUBSETS_STRATIFIED = "subsets_stratified"
    PAIRS = "pairs"
    SHIFT = "shift"


class PartOption(StrEnum):
    """Questions that a score answers."""

    RULE = "rule"
    COVERAGE = "coverage"
    STRATUM = "stratum"
    CONCEPT = "concept"


class CorrectionOption(StrEnum):
    """How p-values are corrected for the number of tests."""

    AUTO = "auto"
    HOLM = "holm"
    BH = "bh"
    BY = "by"
    MAX = "max"


class RecipeOption(StrEnum):
    """Published recipes that can be repeated."""

    LAN2024 = "lan2024"


@app.command("score")
def score(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="May be repeated: cca, cca_squared, svcca:K, svcca:0.99, pwcca, cka, cka_debiased, "
            "rsa:{cosine|euclidean|sqeuclidean}:{pearson|spearman}, procrustes, mutual_knn:K, jaccard:K, "
            "mean_max_cosine, soft_matching.",
        ),
    ] = None,
    on: Annotated[
        OnOption,
        typer.Option("--on", help="Compare decoder vectors, or activations over held-out words."),
    ] = OnOption.DECODER,
    null: Annotated[
        list[NullOption] | None,
        typer.Option("--null", help="What chance is; may be repeated. shift pairs the features again."),
    ] = None,
    permutations: Annotated[
        int | None,
        typer.Option("--permutations", metavar="N", help="Default: 999; 199 where rows are drawn anew."),
    ] = None,
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive",
            help="Stop at 20 permutations that reach the value, or at ten times as many.",
        ),
    ] = False,
    rule: Annotated[
        list[RuleOption] | None,
        typer.Option("--rule", help="Rule of pairing; may be repeated. Default: all; two on activations."),
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option("--concept", metavar="NAME", help="Only this concept, or NAME/SUBSET; may be repeated."),
    ] = None,
    concepts: Annotated[
        Path | None,
        typer.Option(
            "--concepts",
            metavar="FILE",
            help="Concepts of your own in place of the bundled: YAML, `name: [word, word]`.",
        ),
    ] = None,
    part: Annotated[
        list[PartOption] | None,
        typer.Option("--part", help="Only this table; may be repeated. Default: all; rule on activations."),
    ] = None,
    correction: Annotated[
        CorrectionOption,
        typer.Option(
            "--correction", help="For the tests of a table. auto: max with --null shift, else holm."
        ),
    ] = CorrectionOption.AUTO,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", metavar="N", help="Resamplings of documents; 0: no interval.")
    ] = 20,
    ceiling: Annotated[bool, typer.Option("--ceiling/--no-ceiling", help="Measure the ceiling.")] = True,
    alpha: Annotated[float, typer.Option("--alpha", metavar="A", help="Level of the decisions.")] = 0.05,
    words: Annotated[
        int, typer.Option("--words", metavar="N", help="Most held-out words, with --on activations.")
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Of all random numbers.")] = 0,
    device: Annotated[str, typer.Option("--device", help="Where dictionaries are loaded.")] = "cpu",
    compat: Annotated[
        RecipeOption | None,
        typer.Option("--compat", help="Repeat a published recipe choice by choice: lan2024."),
    ] = None,
    json: Json = False,
) -> None:
    """Score how similar two feature spaces are, each value beside what chance gives.

    By rule of pairing, by coverage, by frequency and by concept. Pairs were found on one half of the
    documents. Writes scores.json into the run; with --compat lan2024.json instead.

    \b
    Examples:
      xmodel score run
      xmodel score run --metric svcca:50 --metric cka_debiased --null shift
      xmodel score run --part concept --concept nature/water --concepts mine.yaml
      xmodel score run --compat lan2024
    """
    from xmodel.pairing.results import open_run

    opened = open_run(run)
    if compat is not None:
        if metric or null or rule or concept or concepts or part or on is OnOption.ACTIVATIONS:
            raise InputError(
                f"--compat {compat.value} has metrics, nulls and pairs of its own: leave out --metric, "
                "--null, --rule, --part, --concept, --concepts and --on."
            )
        _score_lan2024(opened, permutations, seed, json)
        return
    from xmodel.report.scores import describe_scores, render_scores
    from xmodel.similarity.scoring import score_run
    from xmodel.similarity.settings import ScoreSettings

    parts = tuple(one.value for one in part or ()) or (("concept",) if concept else ())
    settings = ScoreSettings(
        on=on.value,
        metrics=tuple(metric or ()),
        nulls=tuple(dict.fromkeys(one.value for one in null or ())),
        rules=tuple(dict.fromkeys(one.value for one in rule or ())),
        parts=parts,
        concepts=tuple(concept or ()),
        concept_file=str(concepts) if concepts else None,
        permutations=permutations,
        adaptive=adaptive,
        alpha=alpha,
        correction=correction.value,
        bootstrap=bootstrap,
        ceiling=ceiling,
        most_words=words,
        seed=seed,
        device=device,
    )
    try:
        with show_progress() as report:
            scores = score_run(opened, settings, report=report, warn=report_line)
    except KeyboardInterrupt:
        report_line(f"interrupted. Nothing was written: scores in {run} are as they were.")
        raise
    sides = {letter: side["dictionary"]["name"] for letter, side in opened.manifest["sides"].items()}
    show_found(describe_scores(str(run), sides, settings, scores), render_scores, json)


def _score_lan2024(run: "Run", permutations: int | None, seed: int, json: bool) -> None:
    from transformers.utils.logging import disable_progress_bar

    from xmodel.report.lan2024 import describe_lan2024, render_lan2024
    from xmodel.similarity.lan2024 import tabulate_lan2024

    disable_progress_bar()
    count = {} if permutations is None else {"shuffles": permutations}
    with show_progress() as report:
        rows = tabulate_lan2024(run, seed=seed, report=report, warn=report_line, **count)
    found = describe_lan2024(run, rows)
    with run.folder.lock():
        run.folder.write_json("lan2024.json", found)
    show_found(found, render_lan2024, json)
