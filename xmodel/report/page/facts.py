"""What a page says of itself: its frame, and what its scripts need to know first."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from xmodel.pairing.pair_table import RULES
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.report.layout import count
from xmodel.report.page.contexts import TEXT_CHUNK
from xmodel.report.page.features import FEATURE_CHUNK
from xmodel.report.page.naming import Names
from xmodel.report.page.neuronpedia import find_neuronpedia
from xmodel.report.page.pairs import PAIR_CHUNK
from xmodel.report.page.records import Part
from xmodel.report.page.rendering import PageFacts
from xmodel.report.page.texts import show_plain
from xmodel.report.runs import describe_side, is_signed


def describe_frame(run: Run, files: Mapping[str, str]) -> PageFacts:
    """What stands around the parts: the two models, and where the numbers are from.

    Args:
        run: the run.
        files: names of files beside the page, and what each is.
    """
    sides = {side: describe_side(run, side) for side in "ab"}
    manifest = run.manifest
    lines = [
        f"{side}: {show_plain(own['dictionary'])} at {show_plain(own['site'])}" for side, own in sides.items()
    ]
    corpus = manifest["corpus"]
    lines.append(
        f"{count(corpus['words'], 'word')} of {count(corpus['documents'], 'document')} "
        f"of {show_plain(corpus['name'])}"
    )
    made = datetime.fromtimestamp((run.folder / "manifest.json").stat().st_mtime, UTC)
    return PageFacts(
        title=_name_models(sides),
        lines=lines,
        version=version("xmodel"),
        date=f"{made:%Y-%m-%d}",
        downloads=list(files.items()),
    )


def describe_page(run: Run, parts: Sequence[Part], pairs: int, names: Names | None) -> dict[str, Any]:
    """The chunk ``run``, which the page's scripts read before all else.

    Args:
        run: the run.
        parts: of the page.
        pairs: how many the explorer has.
        names: of features; None without pairs.
    """
    sides = {side: describe_side(run, side) for side in "ab"}
    return {
        "title": _name_models(sides),
        "sides": {side: _describe_side(run, side, own) for side, own in sides.items()},
        "words": int(run.shards.bounds[-1]),
        "documents": run.manifest["corpus"]["documents"],
        "chunk": {"features": FEATURE_CHUNK, "pairs": PAIR_CHUNK, "text": TEXT_CHUNK},
        "pairs": pairs,
        "parts": [{"name": part.name, "title": part.title} for part in parts if part.missing is None],
        "missing": {
            part.name: {"reason": part.missing.reason, "command": part.missing.command}
            for part in parts
            if part.missing is not None
        },
        "labels": {side: names is not None and names.list_any(side) is not None for side in "ab"},
        "signed": is_signed(sides),
        "rules": list(RULES),
        "least_firings": PairSettings.of_manifest(run.manifest).min_firings,
    }


def _describe_side(run: Run, side: str, own: Mapping[str, Any]) -> dict[str, Any]:
    features = run.shards.features["ab".index(side)]
    return {
        "model": show_plain(own["model"]),
        "dictionary": show_plain(own["dictionary"]),
        "site": show_plain(own["site"]),
        "features": features,
        "signed": own["signed"],
        "neuronpedia": find_neuronpedia(run, side),
    }


def _name_models(sides: Mapping[str, Mapping[str, Any]]) -> str:
    return " ↔ ".join(show_plain(_shorten(own["model"])) for own in sides.values())


def _shorten(model: str) -> str:
    """A model's name without where it lies on this machine; an id of a hub stays whole."""
    is_path = model.startswith(("/", "./", "../", "~"))
    return PurePath(model).name if is_path else model.removeprefix("builtin:")
