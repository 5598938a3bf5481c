"""Data of the page as scripts, because a page that is opened from disk may load scripts but fetch nothing."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_NAME = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)?")
# What could end the script or begin a comment in it; JSON has these only within strings.
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}
# As a key of an object literal this sets the object's prototype, and is no key.
_PROTOTYPE = re.compile(r'(?<!\\)"__proto__":')
_EXACT = 22
"""Largest power of ten that is a float without rounding."""


@dataclass(frozen=True)
class ChunkWriter:
    """Writes payloads under a page's folder, each as ``data/NAME.js``, which calls ``xmodel.take``."""

    folder: Path
    """The page's folder."""

    def write(self, name: str, payload: object) -> int:
        """Write one chunk.

        Args:
            name: lower-case letters, digits, ``_`` and ``-``; it may have one folder (``pairs/0003``).
            payload: what JSON can hold, with texts already made harmless (`xmodel.report.page.texts`).

        Returns:
            The bytes of the file.

        Raises:
            ValueError: for another name, NaN, infinity, or a key ``__proto__``.
            TypeError: for what JSON cannot hold.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a chunk.")
        content = f'xmodel.take("{name}", {dump_script(payload)});\n'
        place = self.folder / "data" / f"{name}.js"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, "ascii")
        return len(content)


def dump_script(payload: object) -> str:
    """A payload as JSON that means the same in a script: ASCII only, without ``<``, ``>`` and ``&``.

    Raises:
        ValueError: for NaN, infinity, or a key ``__proto__``.
        TypeError: for what JSON cannot hold.
    """
    content = json.dumps(payload, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    if "__proto__" in content and _PROTOTYPE.search(content):
        raise ValueError("__proto__ cannot be a key of a chunk: in a script it is none.")
    return content.translate(_ESCAPES) if any(sign in content for sign in "<>&") else content


def name_part(folder: str, number: int) -> str:
    """The name of one of many chunks: ``pairs/0003``."""
    return f"{folder}/{number:04d}"


def round_significant(values: ArrayLike, digits: int = 3) -> list[Any]:
    """Round to some significant digits, for JSON that is short.

    Args:
        values: [n] numbers.
        digits: how many are kept of each.

    Returns:
        [n] floats; whole numbers as int, NaN as None.
    """
    numbers = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore"):
        sizes = np.floor(np.log10(np.abs(numbers)))
    shift = np.where(np.isfinite(sizes), digits - 1 - sizes, 0)
    beyond = np.abs(shift) > _EXACT
    listed = shorten_numbers(_round(numbers, np.where(beyond, 0, shift)))
    for place in np.flatnonzero(beyond).tolist():
        listed[place] = float(f"{numbers[place]:.{digits}g}")
    return listed


def round_decimals(values: ArrayLike, decimals: int = 4) -> list[Any]:
    """Round to some digits after the point: [n] floats; whole numbers as int, NaN as None."""
    numbers = np.asarray(values, dtype=np.float64)
    return shorten_numbers(_round(numbers, np.full(numbers.shape, float(decimals))))


def shorten_numbers(values: Sequence[float] | np.ndarray) -> list[Any]:
    """[n] numbers as JSON has them shortest: whole ones as int, NaN as None."""
    numbers = np.asarray(values, dtype=np.float64)
    whole = (np.rint(numbers) == numbers) & (np.abs(numbers) < 2**53)
    listed: list[Any] = numbers.tolist()
    for place in np.flatnonzero(whole).tolist():
        listed[place] = int(listed[place])
    for place in np.flatnonzero(np.isnan(numbers)).tolist():
        listed[place] = None
    return listed


def _round(numbers: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The floats nearest to the digits: `shift` is whole, and no power of ten is rounded."""
    up, down = 10.0 ** np.maximum(shift, 0), 10.0 ** np.maximum(-shift, 0)
    return np.rint(numbers * up / down) * down / up
