"""Layouts of a run's decoder vectors, kept in its folder: they take longer than all else of a page."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.report.page.layouts import NEIGHBOURS
from xmodel.run import RunFolder, digest_json

NAME = "maps.npz"
"""The file, one of `xmodel.run.OWN_FILES`."""


@dataclass(frozen=True, eq=False)
class Layout:
    """One model's map before it is turned."""

    key: str
    """What it depends on: see `make_key`."""
    features: NDArray[np.int64]
    """[n] numbers of the features that are on it, ascending."""
    positions: NDArray[np.float64]
    """[n, 2]"""


def make_key(dictionary: str, live: NDArray[np.bool_], seed: int) -> str:
    """A digest of all that a layout depends on.

    Args:
        dictionary: the SHA-256 of the dictionary's weights.
        live: [F] features that are to be on the map.
        seed: of the layout.
    """
    return digest_json(
        {
            "dictionary": dictionary,
            "live": np.flatnonzero(live).tolist(),
            "seed": seed,
            "neighbours": NEIGHBOURS,
            "versions": [version(name) for name in ("umap-learn", "pynndescent", "numba")],
        }
    )


def write_layouts(folder: RunFolder, layouts: Mapping[str, Layout]) -> None:
    """Keep layouts.

    Args:
        folder: of the run.
        layouts: by side.

    Raises:
        InputError: if the disk is full or the folder cannot be written to.
    """
    arrays: dict[str, Any] = {
        "keys": np.array(json.dumps({side: layout.key for side, layout in layouts.items()}))
    }
    for side, layout in layouts.items():
        arrays[f"features_{side}"] = layout.features
        arrays[f"positions_{side}"] = layout.positions

    def write_to(place: Any) -> None:
        # With a path numpy would add an ending of its own.
        with open(place, "wb") as handle:
            np.savez(handle, **arrays)

    folder.write(NAME, write_to)


def read_layouts(
    folder: RunFolder, keys: Mapping[str, str], warn: Callable[[str], None]
) -> dict[str, Layout]:
    """The layouts that are kept and are still those asked for.

    Args:
        folder: of the run.
        keys: by side, of `make_key`.
        warn: told if the file is damaged; it is then as if there were none.

    Returns:
        By side; a side that is not there must be laid out.
    """
    place = folder / NAME
    if not place.is_file():
        return {}
    try:
        with np.load(place, allow_pickle=False) as file:
            kept = json.loads(str(file["keys"]))
            found = {
                side: Layout(key, file[f"features_{side}"], file[f"positions_{side}"])
                for side, key in keys.items()
                if kept.get(side) == key
            }
        for layout in found.values():
            _check(layout)
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        warn(f"{place} is damaged ({error}): the maps are laid out anew, and it is replaced.")
        return {}
    return found


def _check(layout: Layout) -> None:
    if layout.features.ndim != 1 or not np.issubdtype(layout.features.dtype, np.integer):
        raise ValueError("it holds no numbers of features")
    if layout.positions.shape != (len(layout.features), 2) or not np.isfinite(layout.positions).all():
        raise ValueError("it holds no positions")
