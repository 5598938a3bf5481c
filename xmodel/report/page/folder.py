"""The folder of a page: built beside the one that is there, and put in its place when it is whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmodel.errors import InputError
from xmodel.run import RunFolder, explain_disk

REPORT = "report"
"""Where the page of a run is."""
INDEX = "index.html"
"""The page itself."""
_NEW, _OLD = "report.new", "report.old"


@contextmanager
def replace_report(folder: RunFolder) -> Iterator[Path]:
    """An empty folder to build a page in; takes the place of the page that is there when the block ends.

    An error in the block leaves the page that was there as it was. After a kill the next call removes what
    was half built.

    Args:
        folder: of the run; held while the block lasts.

    Raises:
        InputError: if another process holds the run, the disk is full, or there is a folder of that name
            which is no page.
    """
    with folder.lock():
        place, new, old = folder / REPORT, folder / _NEW, folder / _OLD
        _check_replaceable(place)
        try:
            if old.exists() and not place.exists():
                os.replace(old, place)
            for left in (new, old):
                shutil.rmtree(left, ignore_errors=not left.exists())
            new.mkdir()
            try:
                yield new
            except BaseException:
                shutil.rmtree(new)
                raise
            if place.exists():
                os.replace(place, old)
            os.replace(new, place)
            shutil.rmtree(old, ignore_errors=not old.exists())
        except OSError as error:
            raise explain_disk(error, place) from error


def _check_replaceable(place: Path) -> None:
    if not place.exists() or ((place / INDEX).is_file() and (place / "data" / "run.js").is_file()):
        return
    if place.is_dir() and not any(place.iterdir()):
        return
    raise InputError(
        f"{place} is there and is no page that xmodel wrote: move it away, and run the same command again."
    )


def measure_folder(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(place.stat().st_size for place in folder.rglob("*") if place.is_file())
