"""The main job as one call: models, dictionaries and a corpus in, a run folder with pairs out."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xmodel.alignment.calibration import Calibration
from xmodel.alignment.extract import Side
from xmodel.alignment.features import PassResult, Report, run_pass
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.datasets.concepts import parse_skip_words
from xmodel.datasets.corpus import Corpus, open_corpus
from xmodel.datasets.text_files import Cut
from xmodel.pairing.manifest import (
    check_same_corpus,
    check_same_weights,
    compare_arguments,
    complete_manifest,
    compute_fingerprint,
    describe_calibrated,
    describe_side,
    is_damaged,
    list_packages,
)
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.results import Run, open_run
from xmodel.pairing.settings import PairSettings
from xmodel.records import Document
from xmodel.run import FORMAT, RunFolder

UNEQUAL = 0.35
"""Share of the words below which a half is small enough to tell the user."""


def align_models(
    sae_a: str,
    sae_b: str,
    corpus: str | Iterable[str],
    out: str | Path,
    *,
    model_a: str | None = None,
    model_b: str | None = None,
    site_a: str | None = None,
    site_b: str | None = None,
    settings: PassSettings | None = None,
    pairing: PairSettings | None = None,
    options: LoadOptions | None = None,
    text_column: str = "text",
    document: Cut = "paragraphs",
    seed: int = 0,
    fresh: bool = False,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Run:
    """Align two models' words, extract their features, and pair them.

    A run that was interrupted goes on where it stopped when it is called again with the same arguments.

    Args:
        sae_a, sae_b: SAEs: a SAELens ``release/sae_id`` or folder, ``sparsify:HUB_ID/SUBFOLDER`` or folder,
            or a baseline ``neurons:SITE``, ``residual:SITE``, ``pca:SITE:K``.
        corpus: a file, folder or name that `open_corpus` knows, or texts, one per document.
        out: the run folder.
        model_a, model_b: Hugging Face ids or folders; left out, the SAEs' metadata name them.
        site_a, site_b: where SAEs read that do not say so themselves.
        settings: the pass over the corpus.
        pairing: filters and rules.
        options: device, dtype and what may be loaded.
        text_column: of jsonl and parquet files.
        document: how text files are cut, ``paragraphs`` or ``file``.
        seed: of the split into a discovery and a held-out half.
        fresh: start over where the folder already holds a run.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Returns:
        The run: ``.pairs``, ``.words``, ``.summary`` and more.

    Raises:
        InputError: for anything that cannot be used as it is; see the message.
    """
    settings, pairing = settings or PassSettings(), pairing or PairSettings()
    options = options or LoadOptions()
    requests = SideRequest(sae_a, model_a, site_a), SideRequest(sae_b, model_b, site_b)
    if pairing.skip_words:
        parse_skip_words(pairing.skip_words)  # A word list that is not there is told before hours of work.
    source = open_source(corpus, text_column, document)
    folder = RunFolder(Path(out))
    asked = describe_arguments(requests, source, settings, options, text_column, document, seed)
    folder.check_place(fresh)
    with folder.lock():
        before = run_models(folder, asked, source, requests, settings, options, seed, fresh, report, warn)
        if before is not None:
            _tell_replaced(folder, before, pairing, warn)
        pair_features(folder, pairing, report=report, warn=warn)
    return open_run(folder.path)


def describe_arguments(
    requests: tuple[SideRequest, SideRequest],
    source: Corpus,
    settings: PassSettings,
    options: LoadOptions,
    text_column: str,
    document: Cut,
    seed: int,
) -> dict[str, Any]:
    """What a pass was asked for, for the manifest."""
    return {
        "a": requests[0].as_json(),
        "b": requests[1].as_json(),
        "corpus": source.name,
        "text_column": text_column,
        "document": document,
        "settings": settings.as_json(),
        "options": asdict(options),
        "seed": seed,
    }


def run_models(
    folder: RunFolder,
    asked: dict[str, Any],
    source: Corpus,
    requests: tuple[SideRequest, SideRequest],
    settings: PassSettings,
    options: LoadOptions,
    seed: int,
    fresh: bool,
    report: Report,
    warn: Callable[[str], None],
) -> dict[str, Any] | None:
    """Bring the pass of a run to its end: all that does not depend on how features are paired.

    Args:
        folder: the run; its place is checked, and the caller holds its lock.
        asked: what `describe_arguments` says of all the others.
        source: the corpus.
        requests: models and dictionaries of A and B.
        settings: the pass over the corpus.
        options: device, dtype and what may be loaded.
        seed: of the split into halves.
        fresh: start over where the folder already holds a run.
        report: told of progress.
        warn: told what a user should know.

    Returns:
        The manifest of a pass that had been finished before, None where there was something to do.

    Raises:
        InputError: for anything that cannot be used as it is, and where the folder holds another run.
    """
    if fresh:
        folder.clear()
    before = compare_arguments(folder, asked)
    folder.remove_partials()
    if before is None:
        # Components, or shards whose manifest was lost: nobody knows what they are of.
        folder.clear()
    if before is None or not before["complete"] or is_damaged(folder, before):
        _run(folder, asked, source, requests, settings, options, seed, report, warn)
        return None
    check_same_corpus(folder, before, source, settings)
    return before


def _tell_replaced(
    folder: RunFolder, before: Mapping[str, Any], pairing: PairSettings, warn: Callable[[str], None]
) -> None:
    """Say so where pairs that were made in another way, by `xmodel pair`, give way to those asked for."""
    own, asked = PairSettings.of_manifest(before).as_json(), pairing.as_json()
    other = ", ".join(f"{name} {own[name]}" for name in own if own[name] != asked[name])
    if other and "pairing" in before:
        warn(f"the pairs that were in {folder.path}, made with {other}, are replaced.")


def open_source(corpus: str | Iterable[str], text_column: str, document: Cut) -> Corpus:
    """A corpus by its name, or texts that a program gives, one per document."""
    if isinstance(corpus, str | Path):
        return open_corpus(str(corpus), text_column=text_column, document=document)
    texts = list(corpus)

    def read() -> Iterator[Document]:
        return (Document(f"text {number}", text) for number, text in enumerate(texts))

    return Corpus("texts of the calling program", True, read)


def _run(
    folder: RunFolder,
    asked: dict[str, Any],
    source: Corpus,
    requests: tuple[SideRequest, SideRequest],
    settings: PassSettings,
    options: LoadOptions,
    seed: int,
    report: Report,
    warn: Callable[[str], None],
) -> None:
    report("load", 0, None)
    sides = prepare_sides(*requests, settings, options)
    for notice in dict.fromkeys(notice for side in sides for notice in side.tokenizer.notices):
        warn(notice)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "complete": False,
        "packages": list_packages(),
        "arguments": asked,
        "sides": {side.letter: describe_side(side) for side in sides},
    }
    check_same_weights(folder, manifest)  # Before a wrong file is told by its consequences.

    def begin(ready: tuple[Side, Side], calibrations: tuple[Calibration, Calibration]) -> str:
        manifest["sides"] = {
            side.letter: describe_calibrated(side, calibration)
            for side, calibration in zip(ready, calibrations, strict=True)
        }
        check_same_weights(folder, manifest)
        folder.write_json("manifest.json", manifest)
        return compute_fingerprint(manifest)

    result = run_pass(
        source.documents(),
        sides,
        folder,
        settings,
        seed=seed,
        accept_misfit=options.accept_misfit,
        begin=begin,
        report=report,
    )
    _warn_of(result, warn)
    folder.write_json("manifest.json", complete_manifest(manifest, result))


def _warn_of(result: PassResult, warn: Callable[[str], None]) -> None:
    """Tell the user what the pass has found out."""
    halves = result.splitter
    if halves.by_blocks:
        warn(
            f"the corpus has only {halves.filled} documents with words: the discovery and held-out halves "
            "are contiguous blocks of words, not documents."
        )
    if not UNEQUAL < halves.share < 1 - UNEQUAL:
        warn(
            f"{halves.share:.0%} of the words are in the discovery half, the others held out: a few "
            "documents are much longer than the rest."
        )
    for side, calibration in zip(result.sides, result.calibrations, strict=True):
        for own in (calibration, *calibration.others):
            for told in filter(None, (own.misfit, own.note)):
                warn(f"{side.letter}: {told}")
