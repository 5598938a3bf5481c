"""Finished parts of a long measurement on disk, so that a killed run goes on where it stopped."""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from xmodel.run import RunFolder

FOLDER = "steering"
"""Where parts and matrices are, inside the run."""


def keep_part(
    folder: RunFolder, name: str, fingerprint: str, compute: Callable[[], Mapping[str, NDArray]]
) -> dict[str, NDArray]:
    """The arrays of a part: read where a part of this fingerprint lies whole on disk, else computed and kept.

    Args:
        folder: the run.
        name: file name without its ending, in `FOLDER`.
        fingerprint: SHA-256 of all that the part depends on.
        compute: makes its arrays.
    """
    found = _read_part(folder, name, fingerprint)
    if found is not None:
        return found
    arrays = dict(compute())
    write_arrays(folder, name, fingerprint, arrays)
    return arrays


def write_arrays(folder: RunFolder, name: str, fingerprint: str, arrays: Mapping[str, NDArray]) -> None:
    """Write arrays as safetensors with what they depend on and their checksum."""
    from safetensors.numpy import save

    # Of an array that is laid out otherwise, safetensors writes the bytes as they lie.
    own = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    metadata = {"fingerprint": fingerprint, "sha256": _digest(own)}
    folder.write_bytes(_place(name), save(own, metadata=metadata))


def read_arrays(folder: RunFolder, name: str) -> tuple[dict[str, NDArray], dict[str, str]] | None:
    """Arrays and metadata of a file; None where it is not there or damaged."""
    from safetensors import SafetensorError, safe_open

    place = folder / _place(name)
    if not place.is_file():
        return None
    try:
        with safe_open(place, "np") as opened:
            names = opened.keys()
            arrays = {name: opened.get_tensor(name) for name in names}
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return (arrays, metadata) if metadata.get("sha256") == _digest(arrays) else None


def remove_parts(folder: RunFolder, keep: str) -> None:
    """Remove all parts but one file."""
    for place in (folder / FOLDER).glob("*.safetensors"):
        if place.name != f"{keep}.safetensors":
            place.unlink()


def _read_part(folder: RunFolder, name: str, fingerprint: str) -> dict[str, NDArray] | None:
    found = read_arrays(folder, name)
    return found[0] if found is not None and found[1].get("fingerprint") == fingerprint else None


def _place(name: str) -> str:
    return f"{FOLDER}/{name}.safetensors"


def _digest(arrays: Mapping[str, NDArray]) -> str:
    total = hashlib.sha256()
    for key in sorted(arrays):
        array = np.asarray(arrays[key], order="C")
        total.update(f"{key} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()
