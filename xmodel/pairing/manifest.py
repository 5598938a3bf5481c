"""What the manifest of a run says of its models, and whether a run that is there is the one asked for."""

import math
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xmodel.alignment.calibration import Calibration
from xmodel.alignment.extract import Side
from xmodel.alignment.features import PassResult
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.shards import cut_shards
from xmodel.datasets.corpus import Corpus
from xmodel.errors import InputError
from xmodel.models.hub import hash_tokenizer
from xmodel.run import RunFolder, digest_json

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


def complete_manifest(manifest: dict[str, Any], result: PassResult) -> dict[str, Any]:
    """The manifest of a finished pass: with its shards, tables, counts and timings."""
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


def describe_side(side: Side) -> dict[str, Any]:
    """What results of a side depend on; without a dictionary that is still to be fitted."""
    model = side.model
    others = {
        one.letter: {**({} if one.unfitted else {"dictionary": _describe_dictionary(one)}), "site": one.site}
        for one in side.others
    }
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
        **({"others": others} if others else {}),
    }


def describe_calibrated(side: Side, calibration: Calibration) -> dict[str, Any]:
    """`describe_side` with what was measured on the first batch, of all its dictionaries."""
    described = {**describe_side(side), "calibration": drop_infinite(calibration.as_json())}
    for one, own in zip(side.others, calibration.others, strict=True):
        described["others"][one.letter]["calibration"] = drop_infinite(own.as_json())
    return described


def _describe_dictionary(side: Side) -> dict[str, Any]:
    info = side.dictionary.info
    return {**asdict(info), "processing": dict(info.processing)}


def drop_infinite(content: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(content, dict):
        return {name: drop_infinite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [drop_infinite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def compute_fingerprint(manifest: dict[str, Any]) -> str:
    """The SHA-256 of all that a shard depends on besides its documents; not the seed, which only splits."""
    arguments = manifest["arguments"]
    # Not to the last bit, in which a median may differ with the number of threads.
    ceilings = {
        letter: f"{one['calibration']['ceiling'] or math.inf:.4g}"
        for first, side in manifest["sides"].items()
        for letter, one in {first: side, **side.get("others", {})}.items()
    }
    return digest_json(
        {
            "settings": arguments["settings"],
            "device": arguments["options"]["device"],
            "dtype": arguments["options"]["dtype"],
            "sides": {letter: strip_side(side) for letter, side in manifest["sides"].items()},
            "ceilings": ceilings,
            "packages": manifest["packages"],
        }
    )


def list_packages() -> dict[str, str]:
    """The versions of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def compare_arguments(folder: RunFolder, asked: dict[str, Any]) -> dict[str, Any] | None:
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


def check_same_weights(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Refuse to go on with shards that other files or package versions began."""
    before = folder.manifest
    if before is None:
        return
    for part in ("sides", "packages"):
        old, new = before[part], manifest[part]
        if part == "sides":
            new = {letter: strip_side(side) for letter, side in new.items()}
            old = {letter: _take_known(old[letter], side) for letter, side in new.items()}
        for name, was, now in _list_differences(old, new):
            files = next((files for end, files in _DIGESTED.items() if name.endswith(end)), "")
            raise InputError(
                f"{folder.path} was begun with {name} {was!r}{files}, which is now {now!r}, and results of "
                "both must not be mixed: start over with --fresh, or restore what it was."
            )


def check_same_corpus(
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


def strip_side(side: dict[str, Any]) -> dict[str, Any]:
    """What `describe_side` says of a side, without what was measured."""
    stripped = {name: value for name, value in side.items() if name in _DESCRIBED}
    if "others" in side:
        stripped["others"] = {letter: strip_side(one) for letter, one in side["others"].items()}
    return stripped


def _take_known(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What was said before of a side, as far as it is said now: not of dictionaries that are to be fitted."""
    known = {key: old.get(key) for key in new}
    if known.get("others"):
        known["others"] = {
            letter: _take_known(one, new["others"].get(letter, one)) for letter, one in old["others"].items()
        }
    return known


def is_damaged(folder: RunFolder, manifest: dict[str, Any]) -> bool:
    """Whether any file of a finished pass is missing or has changed."""
    files = dict(manifest["files"])
    for shard in manifest["shards"]:
        files.update(shard["files"])
    return bool(folder.find_damage(files))
