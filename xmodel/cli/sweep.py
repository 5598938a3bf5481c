"""``xmodel sweep`` and ``split``: a grid of layers from one pass per model, and how features split."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xmodel.cli.options import (
    Device,
    Document,
    DocumentOption,
    Json,
    MinFirings,
    Pool,
    PoolOption,
    RuleOption,
    Words,
    WordsLimit,
)
from xmodel.cli.program import app, report_line
from xmodel.cli.progress import show_progress
from xmodel.cli.runs import show_found


class NullOption(StrEnum):
    """What chance is."""

    SHUFFLE = "shuffle"
    SHIFT = "shift"


@app.command("sweep")
def sweep(
    sae_a: Annotated[
        list[str],
        typer.Option("--sae-a", metavar="SAE", help="An SAE or baseline of model A; again for each layer."),
    ],
    sae_b: Annotated[list[str], typer.Option("--sae-b", metavar="SAE", help="The same for model B.")],
    corpus: Annotated[
        str,
        typer.Option(
            "--corpus", metavar="CORPUS", help="A file, a folder of texts, hf:..., builtin:NAME, or -."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder of the sweep.")],
    model_a: Annotated[
        str | None, typer.Option("--model-a", metavar="MODEL", help="Default: the one the SAEs name.")
    ] = None,
    model_b: Annotated[
        str | None, typer.Option("--model-b", metavar="MODEL", help="The same for model B.")
    ] = None,
    site_a: Annotated[
        list[str] | None,
        typer.Option(
            "--site-a",
            metavar="SITE",
            help="Where SAEs read that do not say so: once for all, or once per --sae-a, in their order.",
        ),
    ] = None,
    site_b: Annotated[
        list[str] | None, typer.Option("--site-b", metavar="SITE", help="The same for model B.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="svcca:20, cka, rsa:cosine:pearson, ...; again for each. Default: svcca, cka_debiased, rsa, "
            "mutual_knn. The mean held-out r of the pairs always comes beside them.",
        ),
    ] = None,
    rule: Annotated[RuleOption, typer.Option("--rule", help="Which pairs are scored.")] = RuleOption.MUTUAL,
    null: Annotated[
        list[NullOption] | None,
        typer.Option(
            "--null",
            help="shuffle: partners change places (default). shift: one model's words are shifted and the "
            "features paired anew; slow, its time is told first. Again for both.",
        ),
    ] = None,
    permutations: Annotated[
        int | None,
        typer.Option(
            "--permutations",
            min=1,
            metavar="N",
            help="Shuffles per cell. Default: 999, or 20 per cell of the grid if that is more.",
        ),
    ] = None,
    shifts: Annotated[
        int, typer.Option("--shifts", min=1, metavar="N", help="Shifts, for --null shift.")
    ] = 99,
    words_limit: WordsLimit = None,
    words: Words = "default",
    pool: Pool = PoolOption.LAST,
    context: Annotated[
        int | None, typer.Option("--context", min=2, metavar="N", help="Most tokens of a window.")
    ] = None,
    text_column: Annotated[
        str, typer.Option("--text-column", metavar="NAME", help="The text's column in jsonl and parquet.")
    ] = "text",
    document: Document = DocumentOption.PARAGRAPHS,
    min_firings: MinFirings = 10,
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
    batch_tokens: Annotated[
        int, typer.Option("--batch-tokens", min=1, metavar="N", help="Tokens of a batch.")
    ] = 4096,
    shard_words: Annotated[
        int, typer.Option("--shard-words", min=1, metavar="N", help="Words of a shard.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the halves, shuffles and shifts.")] = 0,
    allow_pt: Annotated[bool, typer.Option("--allow-pt", help="Read SAEs from .pt files.")] = False,
    accept_misfit: Annotated[
        bool, typer.Option("--accept-misfit", help="Go on though an SAE does not fit its site or model.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on with a sweep that is there, or start it over."),
    ] = True,
    json: Json = False,
) -> None:
    """Compare every SAE of model A with every SAE of model B, each model running once.

    Prints one matrix of layers per metric, every value against its null and corrected over the grid, and
    similarity by width where SAEs of several sizes share a site. An interrupted sweep goes on when the same
    command is given again; other metrics, rules and nulls need no new pass.

    \b
    Example:
      xmodel sweep --sae-a builtin:neox-demo-l0 --sae-a builtin:neox-demo-l2 \\
        --sae-b builtin:gemma-demo-l1 --sae-b builtin:gemma-demo-l3 \\
        --corpus builtin:demo-corpus --out grid
    """
    from transformers.utils.logging import disable_progress_bar

    from xmodel.alignment.settings import PassSettings
    from xmodel.alignment.setup import LoadOptions
    from xmodel.pairing.settings import PairSettings
    from xmodel.report.sweep import describe_sweep, render_sweep
    from xmodel.similarity.grids import SweepSettings
    from xmodel.similarity.metrics import DEFAULT_METRICS
    from xmodel.similarity.sweep import sweep_models

    disable_progress_bar()
    chosen = SweepSettings(
        metrics=tuple(metric) if metric else DEFAULT_METRICS,
        rule=rule.value,
        nulls=tuple(dict.fromkeys(one.value for one in null)) if null else ("shuffle",),
        permutations=permutations,
        shifts=shifts,
        seed=seed,
    )
    settings = PassSettings(
        words=words,
        words_limit=words_limit,
        pool=pool.value,
        context=context,
        batch_tokens=batch_tokens,
        shard_words=shard_words,
    )
    try:
        with show_progress() as report:
            found = sweep_models(
                sae_a,
                sae_b,
                corpus,
                out,
                model_a=model_a,
                model_b=model_b,
                sites_a=site_a or (),
                sites_b=site_b or (),
                sweep=chosen,
                settings=settings,
                pairing=PairSettings(min_firings=min_firings),
                options=LoadOptions(device, dtype, allow_pt=allow_pt, accept_misfit=accept_misfit),
                text_column=text_column,
                document=document.value,
                seed=seed,
                fresh=not resume,
                report=report,
                warn=report_line,
            )
    except KeyboardInterrupt:
        report_line(f"interrupted. The same command goes on with whatever is finished in {out}.")
        raise
    show_found(describe_sweep(found), render_sweep, json)


@app.command("split")
def split(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished sweep.")],
    a: Annotated[
        int | None, typer.Option("--a", metavar="N", help="A feature of model A's narrower SAE.")
    ] = None,
    b: Annotated[int | None, typer.Option("--b", metavar="N", help="The same of model B.")] = None,
    narrow: Annotated[
        str | None, typer.Option("--narrow", metavar="SAE", help="Which SAE the feature is of.")
    ] = None,
    wide: Annotated[
        str | None, typer.Option("--wide", metavar="SAE", help="In which wider SAE it splits.")
    ] = None,
    partner: Annotated[
        str | None, typer.Option("--partner", metavar="SAE", help="The other model's SAE to compare with.")
    ] = None,
    floor: Annotated[
        float, typer.Option("--floor", min=0.0, max=1.0, metavar="R", help="Least r of a child.")
    ] = 0.3,
    draws: Annotated[
        int, typer.Option("--permutations", min=1, metavar="N", help="Draws of the null.")
    ] = 999,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    json: Json = False,
) -> None:
    """Show how a feature splits in a wider SAE of its site, and whether its partner splits the same way.

    Needs a sweep in which one site of a model has SAEs of two widths. What is found is kept in RUN, where
    `xmodel report` draws it.

    \b
    Example:
      xmodel split grid --b 123
    """
    from xmodel.errors import InputError
    from xmodel.report.splitting import render_split
    from xmodel.similarity.kept_splits import keep_split
    from xmodel.similarity.split_sweep import split_feature
    from xmodel.similarity.sweep import open_sweep

    if (a is None) == (b is None):
        raise InputError("give one of --a N and --b N: a feature of A's or of B's narrower SAE.")
    side, feature = ("a", a) if a is not None else ("b", b)
    assert feature is not None
    opened = open_sweep(run)
    found = split_feature(
        opened, side, feature, narrow=narrow, wide=wide, partner=partner, floor=floor,
        draws=draws, seed=seed,
    )  # fmt: skip
    try:
        keep_split(opened, found)
    except InputError as error:
        # What was found is worth showing also where the folder cannot be written to.
        report_line(f"this is not kept for `xmodel report`: {error}")
    show_found(found, render_split, json)
