"""Keyword categories that name a part of meaning: emotions, time, calendar, nature, people, places, ..."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodel.datasets.word_kinds import fold_word
from xmodel.errors import InputError

BUNDLED = Path(__file__).with_name("concept_words.yaml")
"""The categories that come with the program."""


@dataclass(frozen=True)
class Concept:
    """A category, or one of its subsets, as ``nature/water``."""

    name: str
    """As the user names it."""
    words: frozenset[str]
    """Its keywords, case-folded."""


def load_concepts(path: str | Path | None = None) -> dict[str, Concept]:
    """The categories of a YAML file and their subsets, by name.

    A file maps names to lists of words, or to subsets by name: ``nature: {water: [sea, river], ...}`` gives
    the concept ``nature`` with all words and ``nature/water`` with those of the subset.

    Args:
        path: the file; None takes the categories that come with the program.

    Raises:
        InputError: if the file cannot be read, or does not have this form.
    """
    import yaml

    place = Path(path) if path is not None else BUNDLED
    try:
        content = yaml.safe_load(place.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the concepts {place} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise InputError(f"the concepts {place} are not valid YAML: {where}.") from None
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"the concepts {place} are not a mapping of names to words: write lines such as "
            "`colours: [red, green, blue]`."
        )
    concepts: dict[str, Concept] = {}
    for name, own in content.items():
        for concept in _read_concept(str(name), own, place):
            concepts[concept.name] = concept
    return concepts


def choose_concepts(names: Sequence[str], concepts: Mapping[str, Concept]) -> list[Concept]:
    """The concepts that a user asks for: by name, or all that are no subsets where no name is given.

    Raises:
        InputError: for a name that is not there; lists those that are.
    """
    if not names:
        return [concept for name, concept in concepts.items() if "/" not in name]
    unknown = [name for name in names if name not in concepts]
    if unknown:
        raise InputError(
            f"the concept {unknown[0]!r} is not known. There are {', '.join(concepts)}. Give a YAML file of "
            "your own with --concepts FILE."
        )
    return [concepts[name] for name in dict.fromkeys(names)]


def _read_concept(name: str, own: Any, place: Path) -> list[Concept]:
    if not isinstance(own, dict):
        return [Concept(name, _read_words(name, own, place))]
    subsets = [
        Concept(f"{name}/{part}", _read_words(f"{name}/{part}", one, place)) for part, one in own.items()
    ]
    if not subsets:
        raise InputError(f"the concept {name!r} in {place} has no subsets and no words.")
    return [Concept(name, frozenset().union(*(one.words for one in subsets))), *subsets]


def _read_words(name: str, own: Any, place: Path) -> frozenset[str]:
    # YAML reads `no`, `on` and `12` as other things than words.
    if not isinstance(own, list) or not own or not all(isinstance(word, str) for word in own):
        strange = (
            next((word for word in own if not isinstance(word, str)), None) if isinstance(own, list) else own
        )
        raise InputError(
            f"the concept {name!r} in {place} has {strange!r} where a list of words was expected: write "
            '`[red, green]`, and quote words that YAML reads as something else, such as "no" and "12".'
        )
    return frozenset(fold_word(word.strip()) for word in own)
