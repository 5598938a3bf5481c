"""Names of features for a page: those that are given, and what the partners get from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodel.pairing.results import Run
from xmodel.report.layout import count
from xmodel.report.page.carried import Carried, carry_labels, spread_carried, spread_labels, write_carried
from xmodel.report.page.credible import Credible
from xmodel.report.page.labels import Labels, check_source, read_labels
from xmodel.report.page.neuronpedia import find_neuronpedia_id

_OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True, eq=False)
class Names:
    """Names of both models' features."""

    given: Mapping[str, Labels]
    """By side, where any were given."""
    carried: Mapping[str, Carried]
    """By the side that gets them."""
    features: Mapping[str, int]
    """F by side."""

    def list_given(self, side: str) -> list[str | None] | None:
        """[F] given names as the page shows them; None if none were given."""
        return spread_labels(self.given[side].names, self.features[side]) if side in self.given else None

    def list_carried(self, side: str) -> dict[str, list[Any]] | None:
        """Names from the partners, see `spread_carried`; None if the partners have none."""
        return spread_carried(self.carried[side], self.features[side]) if side in self.carried else None

    def list_any(self, side: str) -> list[str | None] | None:
        """[F] the given name of a feature, or else its partner's."""
        given, carried = self.list_given(side), self.list_carried(side)
        if given is None or carried is None:
            return given if carried is None else carried["label"]
        return [own or other for own, other in zip(given, carried["label"], strict=True)]

    def describe_carried(self) -> tuple[str, ...]:
        """What became of the given names, a sentence per side."""
        told = []
        for side, carried in self.carried.items():
            other = _OTHER[side]
            own = f"{count(len(self.given[other].names), 'name')} of {other} went to "
            own += f"{count(len(carried), 'feature')} of {side} that have such a feature as best partner"
            told.append(f"{own}; {int(carried.mutual.sum()):,} of these are its best partner as well.")
        return tuple(told)


def read_names(run: Run, files: Mapping[str, Path | None], warn: Callable[[str], None]) -> dict[str, Labels]:
    """Read the names that are given.

    Args:
        run: the run.
        files: by side, or None.
        warn: told of files that are of another dictionary, and of names left out.

    Raises:
        InputError: see `read_labels`.
    """
    given = {}
    for side, path in files.items():
        if path is None:
            continue
        known = find_neuronpedia_id(run, side)
        labels = read_labels(path, run.shards.features["ab".index(side)], source=known)
        if message := check_source(labels, path, side, known, run.manifest["sides"][side]["model"]["name"]):
            warn(message)
        given[side] = labels
    return given


def carry_names(run: Run, given: Mapping[str, Labels], credible: Credible | None) -> Names:
    """Give the partners of named features their names.

    Args:
        run: a run with pairs.
        given: names by side.
        credible: what `judge_partners` found, or None.
    """
    features = dict(zip("ab", run.shards.features, strict=True))
    pairs = run.pairs if given else None
    carried = {
        _OTHER[side]: carry_labels(pairs, labels.names, credible, to=_OTHER[side])
        for side, labels in given.items()
        if pairs is not None
    }
    return Names(given, carried, features)


def write_names(run: Run, folder: Path, names: Names) -> list[str]:
    """Write the carried names as files; see `write_carried`.

    Returns:
        The files' names.
    """
    files = []
    for side, carried in names.carried.items():
        own = run.manifest["sides"][side]
        found = find_neuronpedia_id(run, side)
        model, source = found.split("/") if found else (own["model"]["name"], own["site"])
        files += write_carried(folder, carried, model=model, source=source)
    return files
