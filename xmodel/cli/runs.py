"""``xmodel align``, ``pair`` and ``features``: make a run, pair it again, look into it."""

import json as json_module
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodel.cli.options import (
    AT_MOST,
    FLOOR,
    MIN_FIRINGS,
    TOP_K,
    AtMost,
    Concepts,
    Device,
    Document,
    DocumentOption,
    Floor,
    Json,
    Limit,
    MinFirings,
    Pool,
    PoolOption,
    Price,
    SkipWords,
    TopK,
    UnitOption,
    Words,
    WordsLimit,
)
from xmodel.cli.program import StraddleOption, app, open_console, report_line, write_out
from xmodel.cli.progress import show_progress
from xmodel.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from xmodel.pairing.results import Run


@app.command("align")
def align(
    corpus: Annotated[
        str,
        typer.Option(
            "--corpus",
            metavar="CORPUS",
            help="A text, .jsonl or .parquet file, a folder of texts, hf:DATASET[:CONFIG[:SPLIT]], "
            "builtin:NAME, or - for standard input.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder of the run.")],
    sae_a: Annotated[
        str,
        typer.Option(
            "--sae-a",
            metavar="SAE",
            help="A SAELens release/sae_id or folder, sparsify:HUB_ID/SUBFOLDER or folder, or a baseline: "
            "neurons:SITE, residual:SITE, pca:SITE:K.",
        ),
    ],
    sae_b: Annotated[str, typer.Option("--sae-b", metavar="SAE", help="The same for the second model.")],
    model_a: Annotated[
        str | None,
        typer.Option(
            "--model-a",
            metavar="MODEL",
            help="A Hugging Face id, ID@REVISION, or a folder. Default: the SAE's.",
        ),
    ] = None,
    model_b: Annotated[
        str | None, typer.Option("--model-b", metavar="MODEL", help="The same for the second model.")
    ] = None,
    site_a: Annotated[
        str | None,
        typer.Option("--site-a", metavar="SITE", help="Where the SAE reads, if it does not say so itself."),
    ] = None,
    site_b: Annotated[str | None, typer.Option("--site-b", metavar="SITE", help="The same for B.")] = None,
    words_limit: WordsLimit = None,
    words: Words = "default",
    unit: Annotated[
        UnitOption, typer.Option("--unit", help="Compare words; or tokens, where both tokenizers are equal.")
    ] = UnitOption.WORD,
    straddle: Annotated[
        StraddleOption, typer.Option("--straddle", help="Words that one token touches together.")
    ] = StraddleOption.MERGE,
    window_words: Annotated[
        int | None, typer.Option("--window-words", min=1, metavar="N", help="Most words of a window.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=2,
            metavar="N",
            help="Most tokens of a window. Default: what the SAEs were trained on.",
        ),
    ] = None,
    pool: Pool = PoolOption.LAST,
    pool_before_encoding: Annotated[
        bool, typer.Option("--pool-before-encoding", help="Pool activations, then encode.")
    ] = False,
    keep_first: Annotated[
        int,
        typer.Option("--skip-first", min=0, metavar="N", help="First positions of a window to leave out."),
    ] = 1,
    massive: Annotated[
        float,
        typer.Option(
            "--massive",
            min=0.0,
            metavar="X",
            help="Leave out tokens of X times the median norm; 0 keeps all.",
        ),
    ] = 6.0,
    text_column: Annotated[
        str,
        typer.Option("--text-column", metavar="NAME", help="The text's column in jsonl, parquet and hf:."),
    ] = "text",
    document: Document = DocumentOption.PARAGRAPHS,
    min_firings: MinFirings = 10,
    floor: Floor = 0.0,
    top_k: TopK = 10,
    skip_words: SkipWords = None,
    concepts_only: Concepts = False,
    at_most: AtMost = 3,
    price: Price = None,
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16 or float16, of the models.")
    ] = "float32",
    batch_tokens: Annotated[
        int, typer.Option("--batch-tokens", min=1, metavar="N", help="Tokens of a batch, padding included.")
    ] = 4096,
    shard_words: Annotated[
        int,
        typer.Option(
            "--shard-words", min=1, metavar="N", help="Words of a shard: what a kill loses at most."
        ),
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the split into halves.")] = 0,
    allow_pt: Annotated[
        bool, typer.Option("--allow-pt", help="Read SAEs from .pt files, weights only.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that a model's repository brings along.")
    ] = False,
    accept_misfit: Annotated[
        bool,
        typer.Option(
            "--accept-misfit",
            help="Go on though an SAE does not fit its site or model; noted in the manifest.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on with a run of the same arguments, or start it over."),
    ] = True,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Find which feature of model A is which feature of model B.

    Aligns both models' tokens to words, extracts the features of their SAEs word by word, and pairs them. An
    interrupted run goes on when the same command is given again.

    \b
    Examples:
      xmodel align --sae-a pythia-70m-deduped-res-sm/blocks.3.hook_resid_post \\
        --sae-b gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical \\
        --corpus hf:Salesforce/wikitext:wikitext-103-raw-v1 --words-limit 1000000 --out run
      xmodel align --sae-a sae_a --model-a models/a --sae-b sae_b --model-b models/b \\
        --corpus book.txt --out run
    """
    # Its bars would come between ours.
    from transformers.utils.logging import disable_progress_bar

    from xmodel.alignment.settings import PassSettings
    from xmodel.alignment.setup import LoadOptions
    from xmodel.pairing.comparing import align_models
    from xmodel.pairing.settings import PairSettings

    disable_progress_bar()
    settings = PassSettings(
        words=words,
        unit=unit.value,
        straddle=straddle.value,
        words_limit=words_limit,
        window_words=window_words,
        pool=pool.value,
        pool_before_encoding=pool_before_encoding,
        skip_positions=keep_first,
        massive=massive,
        batch_tokens=batch_tokens,
        shard_words=shard_words,
        context=context,
    )
    pairing = PairSettings(
        min_firings=min_firings,
        floor=floor,
        top_k=top_k,
        skip_words=skip_words,
        drop_non_concepts=concepts_only,
        at_most=at_most,
        price=price,
    )
    options = LoadOptions(device, dtype, allow_pt, trust_remote_code, accept_misfit)
    try:
        with show_progress() as report:
            run = align_models(
                sae_a,
                sae_b,
                corpus,
                out,
                model_a=model_a,
                model_b=model_b,
                site_a=site_a,
                site_b=site_b,
                settings=settings,
                pairing=pairing,
                options=options,
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
    _show_run(run, limit, json)


@app.command("pair")
def pair(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    min_firings: Annotated[int | None, MIN_FIRINGS] = None,
    floor: Annotated[float | None, FLOOR] = None,
    top_k: Annotated[int | None, TOP_K] = None,
    skip_words: SkipWords = None,
    concepts_only: Annotated[
        bool | None,
        typer.Option(
            "--concepts-only/--all-features", help="Set aside features that are no concepts, or not."
        ),
    ] = None,
    at_most: Annotated[int | None, AT_MOST] = None,
    price: Price = None,
    defaults: Annotated[
        bool,
        typer.Option("--defaults", help="Begin from the defaults, not from how the run was paired last."),
    ] = False,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Pair the features of a run again, in place of its pairs; the models do not run.

    What is not said stays as the run was paired last.

    \b
    Examples:
      xmodel pair run --min-firings 30 --skip-words punctuation,digits,stop
      xmodel pair run --concepts-only --floor 0.2
      xmodel pair run --defaults
    """
    from dataclasses import replace

    from xmodel.pairing.pairs import pair_features
    from xmodel.pairing.results import open_run
    from xmodel.pairing.settings import PairSettings

    opened = open_run(run)
    asked: dict[str, Any] = {
        "min_firings": min_firings,
        "floor": floor,
        "top_k": top_k,
        "skip_words": skip_words,
        "drop_non_concepts": concepts_only,
        "at_most": at_most,
        "price": price,
    }
    before = PairSettings() if defaults else PairSettings.of_manifest(opened.manifest)
    settings = replace(before, **{name: value for name, value in asked.items() if value is not None})
    with opened.folder.lock(), show_progress() as report:
        pair_features(opened.folder, settings, report=report, warn=report_line)
    chosen = ", ".join(f"{name} {value}" for name, value in settings.as_json().items() if value is not None)
    report_line(f"the pairs in {run} are replaced ({chosen})")
    _show_run(opened, limit, json)


@app.command("features")
def features(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    a: Annotated[int | None, typer.Option("--a", metavar="N", help="A feature of model A.")] = None,
    b: Annotated[int | None, typer.Option("--b", metavar="N", help="A feature of model B.")] = None,
    word: Annotated[
        str | None, typer.Option("--word", metavar="WORD", help="The features that fire most on a word.")
    ] = None,
    partners: Annotated[int, typer.Option("--partners", min=1, metavar="N", help="Partners to show.")] = 3,
    contexts: Annotated[int, typer.Option("--contexts", min=1, metavar="N", help="Top words to show.")] = 8,
    json: Json = False,
) -> None:
    """Show a feature: its partners in the other model, and the words on which both fire, in context.

    \b
    Examples:
      xmodel features run --a 123
      xmodel features run --word whale
    """
    from xmodel.pairing.results import open_run

    if sum(one is not None for one in (a, b, word)) != 1:
        raise InputError("give one of --a N, --b N and --word WORD: a feature of A, one of B, or a word.")
    opened = open_run(run)
    if word is not None:
        from xmodel.report.features import describe_word, render_word

        found = describe_word(opened, word, count=partners, contexts=contexts)
        show_found(found, render_word, json)
        return
    from xmodel.report.features import describe_feature, render_feature

    side, number = ("a", a) if a is not None else ("b", b)
    assert number is not None
    show_found(
        describe_feature(opened, side, number, partners=partners, contexts=contexts), render_feature, json
    )


def _show_run(run: "Run", limit: int, json: bool) -> None:
    from xmodel.report.runs import describe_run, render_run

    show_found(describe_run(run, limit), render_run, json)


def show_found(
    found: dict[str, Any], render: "Callable[[dict[str, Any], int], RenderableType]", json: bool
) -> None:
    """Print what was found: as JSON, or drawn for the terminal's width."""
    if json:
        # On a terminal, what a corpus contains must not act.
        write_out([json_module.dumps(found, ensure_ascii=sys.stdout.isatty(), allow_nan=False), "\n"])
        return
    page = StringIO()
    console = open_console(page)
    console.print(render(found, console.width))
    write_out([page.getvalue()])
