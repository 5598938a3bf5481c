"""Contrast sets: prompts that differ in one respect, and the steering vector that their difference gives."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tokenizer import Tokenizer
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.steering.vectors import SteeringVector, name_architecture

if TYPE_CHECKING:
    from xmodel.models.language import LanguageModel

BUNDLED = Path(__file__).with_name("contrast_sets.yaml")
"""The contrast sets that come with the program."""
BATCH = 32
"""Prompts per forward pass."""

_FORM = (
    "Write YAML, `tense: {positive: [Yesterday he sailed], negative: [Today he sails]}`, or in a .jsonl file "
    'one object per line, {"set": "tense", "positive": "Yesterday he sailed", "negative": "Today he sails"}.'
)


@dataclass(frozen=True)
class ContrastSet:
    """Prompts of two kinds, at whose ends a model is read."""

    name: str
    """As the user names it, for instance ``past-present``."""
    description: str
    """What the two sides are, for readers; may be empty."""
    positive: tuple[str, ...]
    """The prompts that the vector points to, at least one."""
    negative: tuple[str, ...]
    """The prompts that it points away from, at least one; not necessarily as many."""


def load_contrasts(path: str | Path | None = None) -> list[ContrastSet]:
    """The contrast sets of a file, in its order.

    A YAML file maps names to ``{positive: [...], negative: [...]}``, and perhaps a ``description``. A file
    that ends in ``.jsonl`` has one pair of prompts per line, ``{"positive": "...", "negative": "..."}``, and
    perhaps the name of its ``set``; lines without one belong to a set that is named after the file.

    Args:
        path: the file; None takes the sets that come with the program.

    Raises:
        InputError: if the file cannot be read, does not have this form, or has an empty side or prompt.
    """
    place = Path(path) if path is not None else BUNDLED
    try:
        text = place.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the contrast sets {str(place)!r} cannot be read: {error}.") from None
    content = _parse_lines(text, place) if place.suffix == ".jsonl" else _parse_yaml(text, place)
    return [_check_set(name, own, place) for name, own in content.items()]


def compute_contrast(
    model: "LanguageModel",
    tokenizer: Tokenizer,
    site: str,
    contrast: ContrastSet,
    prefix: Sequence[int] = (),
) -> SteeringVector:
    """The difference in means: of the activations at the prompts' last tokens, positive less negative.

    This is the vector of Marks and Tegmark, "The Geometry of Truth" (arXiv:2310.06824, section 5: mass-mean
    probing); with one prompt per side, read at one token, it is close to that of Turner et al., "Steering
    Language Models With Activation Engineering" (arXiv:2308.10248).

    Args:
        model: the model.
        tokenizer: its tokenizer; its template is not put around the prompts.
        site: where it is read; any site of the model.
        contrast: the prompts.
        prefix: ids before every prompt, as the model is run: usually none, or that of BOS.

    Returns:
        A vector in the units of the model's activations there, not scaled. Means are taken in float64.

    Raises:
        InputError: if a prompt has no token or more than the model takes, if the site is not in the model, or
            if the sides do not differ.
    """
    sides = [
        _read_ends(model, tokenizer, site, prompts, prefix)
        for prompts in (contrast.positive, contrast.negative)
    ]
    difference = sides[0].mean(0) - sides[1].mean(0)
    if not difference.any():
        raise InputError(
            f"the two sides of the contrast set {contrast.name!r} are the same for {model.name} at {site}: "
            "expected prompts that differ at or before their last tokens."
        )
    return SteeringVector(difference, site, model.name, contrast.name, name_architecture(model))


def _read_ends(
    model: "LanguageModel", tokenizer: Tokenizer, site: str, prompts: Sequence[str], prefix: Sequence[int]
) -> NDArray[np.float64]:
    """[n, d] activations at the last tokens of some prompts."""
    import torch

    flat, counts = tokenizer.encode(prompts)
    tokens = [[*prefix, *row.tolist()] for row in np.split(flat, np.cumsum(counts)[:-1])]
    most = None if model.context is None else model.context - len(prefix)
    for prompt, count in zip(prompts, counts.tolist(), strict=True):
        if not count or (most is not None and count > most):
            limit = "" if most is None else f" and at most {most}"
            raise InputError(
                f"the prompt {prompt[:60]!r} has {count} tokens of {tokenizer.name}: expected at "
                f"least one{limit}."
            )
    found = []
    for first in range(0, len(tokens), BATCH):
        batch = tokens[first : first + BATCH]
        lengths = torch.tensor([len(row) for row in batch])
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
        for row, own in zip(ids, batch, strict=True):
            row[: len(own)] = torch.tensor(own)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        activation = capture(model, ids, mask, [site])[site]
        device = activation.device
        ends = activation[torch.arange(len(batch), device=device), (lengths - 1).to(device)]
        found.append(ends.cpu().double().numpy(force=True))
    return np.concatenate(found)


def _parse_yaml(text: str, place: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise InputError(f"the contrast sets {str(place)!r} are not valid YAML: {where}.") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"the contrast sets {str(place)!r} are not a mapping of names to prompts. {_FORM}")
    return {str(name): own for name, own in content.items()}


def _parse_lines(text: str, place: Path) -> dict[str, Any]:
    sets: dict[str, dict[str, list[Any]]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} of {str(place)!r} is not valid JSON: {error}. {_FORM}") from None
        if not isinstance(row, dict) or not {"positive", "negative"} <= set(row):
            raise InputError(f"line {number} of {str(place)!r} has no pair of prompts. {_FORM}")
        own = sets.setdefault(str(row.get("set", place.stem)), {"positive": [], "negative": []})
        for side, prompts in own.items():
            prompts.append(row[side])
    if not sets:
        raise InputError(f"the file {str(place)!r} has no contrast set. {_FORM}")
    return dict(sets)


def _check_set(name: str, own: Any, place: Path) -> ContrastSet:
    if not isinstance(own, dict) or not {"positive", "negative"} <= set(own) <= {
        "positive",
        "negative",
        "description",
    }:
        shown = ", ".join(map(str, own)) if isinstance(own, dict) else repr(own)
        raise InputError(
            f"the contrast set {name!r} in {str(place)!r} has {shown[:80]}: expected positive and negative, "
            f"and perhaps description. {_FORM}"
        )
    for side in ("positive", "negative"):
        prompts = own[side]
        # YAML reads `no`, `on` and `12` as other things than text.
        if not isinstance(prompts, list) or not prompts:
            raise InputError(
                f"the {side} side of the contrast set {name!r} in {str(place)!r} is {prompts!r}: expected a "
                f"list of prompts. {_FORM}"
            )
        bad = [one for one in prompts if not isinstance(one, str) or not one.strip()]
        if bad:
            raise InputError(
                f"the {side} side of the contrast set {name!r} in {str(place)!r} has {bad[0]!r} where a "
                "prompt was expected. In YAML, quote what it reads as something else than text, such as "
                f'"no" and "12". {_FORM}'
            )
    return ContrastSet(name, str(own.get("description", "")), tuple(own["positive"]), tuple(own["negative"]))
