"""The main job as one call: models, dictionaries and a corpus in, a run folder with pairs out."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xmodel.alignment.calibration import Calibration
from xmodel.alignment.extract import Side
from xmodel.alignment.features import PassResult, Report, run_pass
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.alignment.shards import cut_shards
from xmodel.datasets.concepts import parse_skip_words
from xmodel.datasets.corpus import Corpus, open_corpus
from xmodel.datasets.text_files import Cut
from xmodel.errors import InputError
from xmodel.models.hub import hash_tokenizer
from xmodel.pairing.pairs import pair_features
from xmodel.pairing.results import Run, open_run
from xmodel.pairing.settings import PairSettings
from xmodel.records import Document
from xmodel.run import FORMAT, RunFolder, digest_json

UNEQUAL = 0.35
"""Share of the words below which a half is small enough to tell the user."""
PACKAGES = (
    "xmodel",
    "torch",
    "transformers",
    "tokenizers",
    "sae-lens",
    "transformer-lens",
    "numpy",
    "scipy",
    "pyarrow",
    "safetensors",
    "spacy",
)
"""Whose versions results may depend on."""

_DESCRIBED = ("model", "dictionary", "site", "tokenizer", "tokenizer_sha256", "prefix", "window_tokens")
_DIGESTED = {
    "model.sha256": " (its weights and config.json)",
    "dictionary.digest": " (its weights and configuration)",
    "tokenizer_sha256": " (its tokenizer files)",
}


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
    source = _open(corpus, text_column, document)
    folder = RunFolder(Path(out))
    asked = {
        "a": asdict(requests[0]),
        "b": asdict(requests[1]),
        "corpus": source.name,
        "text_column": text_column,
        "document": document,
        "settings": settings.as_json(),
        "options": asdict(options),
        "seed": seed,
    }
    folder.check_place(fresh)
    with folder.lock():
        if fresh:
            folder.clear()
        before = _compare(folder, asked)
        folder.remove_partials()
        if before is None:
            # Components, or shards whose manifest was lost: nobody knows what they are of.
            folder.clear()
        if before is None or not before["complete"] or _is_damaged(folder, before):
            _run(folder, asked, source, requests, settings, options, seed, report, warn)
        else:
            _check_same_corpus(folder, before, source, settings)
            _tell_replaced(folder, before, pairing, warn)
        pair_features(folder, pairing, report=report, warn=warn)
    return open_run(folder.path)


def _tell_replaced(
    folder: RunFolder, before: Mapping[str, Any], pairing: PairSettings, warn: Callable[[str], None]
) -> None:
    """Say so where pairs that were made in another way, by `xmodel pair`, give way to those asked for."""
    own, asked = PairSettings.of_manifest(before).as_json(), pairing.as_json()
    other = ", ".join(f"{name} {own[name]}" for name in own if own[name] != asked[name])
    if other and "pairing" in before:
        warn(f"the pairs that were in {folder.path}, made with {other}, are replaced.")


def _open(corpus: str | Iterable[str], text_column: str, document: Cut) -> Corpus:
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
        "packages": _list_packages(),
        "arguments": asked,
        "sides": {side.letter: _describe(side) for side in sides},
    }
    _check_same_weights(folder, manifest)  # Before a wrong file is told by its consequences.

    def begin(ready: tuple[Side, Side], calibrations: tuple[Calibration, Calibration]) -> str:
        manifest["sides"] = {
            side.letter: {**_describe(side), "calibration": _drop_infinite(calibration.as_json())}
            for side, calibration in zip(ready, calibrations, strict=True)
        }
        _check_same_weights(folder, manifest)
        folder.write_json("manifest.json", manifest)
        return _compute_fingerprint(manifest)

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
    folder.write_json("manifest.json", _complete(manifest, result))


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
        for told in filter(None, (calibration.misfit, calibration.note)):
            warn(f"{side.letter}: {told}")


def _complete(manifest: dict[str, Any], result: PassResult) -> dict[str, Any]:
    shards = [
        {
            "number": receipt.number,
            "words": receipt.facts["words"],
            "files": {name: digest for name, digest in receipt.files.items() if name.startswith("features")},
        }
        for receipt in result.receipts
    ]
    total: dict[str, Any] = {
        name: sum(receipt.facts[name] for receipt in result.receipts)
        for name in ("documents", "failed_documents", "rule_words", "units", "words", "windows")
    }
    sides = {}
    for number, (letter, side) in enumerate(manifest["sides"].items()):
        certificates: dict[str, int] = {}
        for receipt in result.receipts:
            for status, count in receipt.facts["certificates"][number].items():
                certificates[status] = certificates.get(status, 0) + count
        sides[letter] = {
            **side,
            "certificates": dict(sorted(certificates.items())),
            **{
                name: sum(receipt.facts[name][number] for receipt in result.receipts)
                for name in ("tokens", "excluded_first", "excluded_massive", "firings")
            },
        }
    return {
        **manifest,
        "complete": True,
        "sides": sides,
        "corpus": {
            "name": manifest["arguments"]["corpus"],
            "sha256": result.receipts[-1].facts["corpus_sha256"],
            **total,
        },
        "split": "blocks of words" if result.splitter.by_blocks else "documents",
        "attrition": [{"filter": one.filter, "in": one.entered, "out": one.left} for one in result.attrition],
        "shards": shards,
        "files": result.files,
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
    }


def _describe(side: Side) -> dict[str, Any]:
    """What results of a side depend on; without its dictionary where that is still to be fitted."""
    model = side.model
    return {
        "model": {
            "name": model.name,
            "revision": model.revision,
            "sha256": model.digest,
            "layers": model.layers,
            "width": model.width,
            "processing": dict(model.processing),
        },
        **({} if side.unfitted else {"dictionary": _describe_dictionary(side)}),
        "site": side.site,
        "tokenizer": side.tokenizer.name,
        "tokenizer_sha256": hash_tokenizer(Path(model.folder)),
        "prefix": list(side.prefix),
        "window_tokens": side.limit + len(side.prefix),
    }


def _describe_dictionary(side: Side) -> dict[str, Any]:
    info = side.dictionary.info
    return {**asdict(info), "processing": dict(info.processing)}


def _drop_infinite(content: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(content, dict):
        return {name: _drop_infinite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_drop_infinite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _compute_fingerprint(manifest: dict[str, Any]) -> str:
    """The SHA-256 of all that a shard depends on besides its documents; not the seed, which only splits."""
    arguments = manifest["arguments"]
    # Not to the last bit, in which a median may differ with the number of threads.
    ceilings = {
        letter: f"{side['calibration']['ceiling'] or math.inf:.4g}"
        for letter, side in manifest["sides"].items()
    }
    return digest_json(
        {
            "settings": arguments["settings"],
            "device": arguments["options"]["device"],
            "dtype": arguments["options"]["dtype"],
            "sides": {letter: _strip(side) for letter, side in manifest["sides"].items()},
            "ceilings": ceilings,
            "packages": manifest["packages"],
        }
    )


def _list_packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _compare(folder: RunFolder, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the run that is there, if it is of the same arguments.

    Raises:
        InputError: if the arguments differ, naming the first that does.
    """
    before = folder.manifest
    if before is None:
        return None
    for name, old, new in _list_differences(before["arguments"], asked):
        raise InputError(
            f"{folder.path} holds a run with other arguments: {name} was {old!r} and is now {new!r}. Name "
            f"another "
            "folder, or start over with --fresh."
        )
    return before


def _list_differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            found += _list_differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
        return found
    return [] if old == new else [(name, old, new)]


def _check_same_weights(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Refuse to go on with shards that other files or package versions began."""
    before = folder.manifest
    if before is None:
        return
    for part in ("sides", "packages"):
        old, new = before[part], manifest[part]
        if part == "sides":
            new = {letter: _strip(side) for letter, side in new.items()}
            old = {letter: {key: old[letter].get(key) for key in side} for letter, side in new.items()}
        for name, was, now in _list_differences(old, new):
            files = next((files for end, files in _DIGESTED.items() if name.endswith(end)), "")
            raise InputError(
                f"{folder.path} was begun with {name} {was!r}{files}, which is now {now!r}, and results of "
                "both must not be mixed: start over with --fresh, or restore what it was."
            )


def _check_same_corpus(
    folder: RunFolder, manifest: dict[str, Any], source: Corpus, settings: PassSettings
) -> None:
    """Refuse to show the results of another text: a name stays the same when what it stands for changes."""
    digest = ""
    for shard in cut_shards(source.documents(), settings):
        digest = shard.digest
    if digest != manifest["corpus"]["sha256"]:
        raise InputError(
            f"the corpus has changed since the run in {folder.path} was made: give the same corpus, start "
            "over with --fresh, or look at the run as it is with `xmodel pair`."
        )


def _strip(side: dict[str, Any]) -> dict[str, Any]:
    """What `_describe` says of a side, without what was measured."""
    return {name: value for name, value in side.items() if name in _DESCRIBED}


def _is_damaged(folder: RunFolder, manifest: dict[str, Any]) -> bool:
    """Whether any file of a finished pass is missing or has changed."""
    files = dict(manifest["files"])
    for shard in manifest["shards"]:
        files.update(shard["files"])
    return bool(folder.find_damage(files))
