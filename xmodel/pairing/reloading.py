"""The models and dictionaries of a finished run, loaded again."""

import zlib
from dataclasses import replace
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.extract import Side
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.errors import InputError
from xmodel.models.baselines import restore_pca
from xmodel.pairing.results import Run


def load_sides(run: Run, *, device: str | None = None, dtype: str | None = None) -> tuple[Side, Side]:
    """The models and dictionaries of a run, loaded again; of several dictionaries of a side the first.

    Args:
        run: a finished run.
        device: where to; None takes the run's own.
        dtype: of the models; None takes the run's own.

    Raises:
        InputError: if they cannot be loaded, or are not what they were.
    """
    manifest = run.manifest
    arguments = manifest["arguments"]
    first, second = (
        SideRequest(**{name: arguments[letter][name] for name in ("dictionary", "model", "site")})
        for letter in "ab"
    )
    given = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    options = LoadOptions(**{**arguments["options"], **given})
    loaded = prepare_sides(first, second, PassSettings(**arguments["settings"]), options)
    a, b = (_fit(run, side, options.device) for side in loaded)
    for side in (a, b):
        own = manifest["sides"][side.letter]
        _check_same(run, side.model.name, own["model"]["sha256"], side.model.digest)
        _check_same(run, side.dictionary.info.name, own["dictionary"]["digest"], side.dictionary.info.digest)
    return a, b


def read_components(run: Run, letter: str) -> dict[str, NDArray[Any]]:
    """The principal components that were fitted in a run, as `restore_pca` takes them.

    Args:
        run: a finished run.
        letter: the side, ``a`` or ``b``; ``a1``, ``b2``, ... for further dictionaries of it.

    Raises:
        InputError: if the file is missing or damaged.
    """
    place = run.folder / f"components_{letter}.npz"
    try:
        with np.load(place, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise InputError(
            f"{place}, the principal components of {letter}, cannot be read ({error}): restore it, or make "
            "the run again with --fresh."
        ) from None


def _fit(run: Run, side: Side, device: str) -> Side:
    """A side with the principal components that were fitted in the run."""
    if side.unfitted is None:
        return side
    arrays = read_components(run, side.letter)
    return replace(side, dictionary=restore_pca(side.unfitted, arrays, device=device), unfitted=None)


def _check_same(run: Run, name: str, expected: str, found: str) -> None:
    if found != expected:
        raise InputError(
            f"{name} has changed since {run.path} was made: its SHA-256 begins with {found[:12]}, and it was "
            f"{expected[:12]}. Restore it, or make the run again with --fresh."
        )
