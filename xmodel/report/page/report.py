"""`write_report`: a run as a page."""

import shlex
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from xmodel.pairing.results import Run, open_run
from xmodel.report.page.assets import copy_assets
from xmodel.report.page.chunks import ChunkWriter
from xmodel.report.page.figures_json import CHUNK, figure_as_json
from xmodel.report.page.folder import INDEX, REPORT, measure_folder, replace_report
from xmodel.report.page.parts import Built, build_parts
from xmodel.report.page.records import Figure, Missing, Part
from xmodel.report.page.rendering import render_index
from xmodel.report.page.settings import ReportSettings

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""


@dataclass(frozen=True)
class Written:
    """A page on disk."""

    path: Path
    """The page itself; opens in any browser."""
    parts: tuple[Part, ...]
    """What it consists of, and what it lacks."""
    unscored: Missing | None
    """Why the overview has no scores, if it has none."""
    carried: tuple[str, ...]
    """How many names went to how many partners, in sentences."""
    pairs: int
    """How many pairs can be looked at."""
    bytes: int
    """Of the whole folder."""
    files: tuple[str, ...]
    """Files beside the page that are made to be taken along, relative to the run."""
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """What ``xmodel report --json`` prints."""
        there = {part.name: part.title for part in self.parts if part.missing is None}
        lacking = [(part.name, part.title, part.missing) for part in self.parts]
        missing = {
            name: {"title": title, "reason": one.reason, "command": one.command}
            for name, title, one in [("scores", "Scores", self.unscored), *lacking]
            if one is not None
        }
        return {
            "page": str(self.path),
            "parts": there,
            "missing": missing,
            "carried": list(self.carried),
            "pairs": self.pairs,
            "bytes": self.bytes,
            "files": list(self.files),
            "seconds": round(self.seconds, 2),
        }


def write_report(
    run: Run | str | Path,
    settings: ReportSettings | None = None,
    *,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Written:
    """Write a run as a folder of files that opens in a browser, from disk, without a network.

    Takes the place of the page that is there when it is whole. What the run lacks (scores, steering, a grid
    of layers) is named in the page, with the command that adds it.

    Args:
        run: a finished run, or its folder; that of a sweep as well.
        settings: figures for print, maps, labels, how much is shown.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Raises:
        InputError: if the run is not finished or is damaged, labels or a sweep cannot be read, the disk is
            full, or there is a folder ``report`` that is no page.
    """
    settings = settings or ReportSettings()
    run = run if isinstance(run, Run) else open_run(run)
    begin = perf_counter()
    _tell_what_goes(run.path / REPORT, settings, warn)
    with replace_report(run.folder) as folder:
        writer = ChunkWriter(folder)
        built = build_parts(run, settings, writer, report=report, warn=warn)
        figures = [figure for part in built.parts for figure in part.figures]
        _write_figures(writer, figures)
        files = list(built.files)
        if settings.figures:
            from xmodel.report.page.drawing import draw_figures

            drawn = draw_figures([*figures, *built.print_only], folder / "figures", report)
            files.append(f"figures/ ({len(drawn)} files)")
        writer.write("run", built.facts)
        report("page", 0, None)
        (folder / INDEX).write_text(render_index(built.parts, built.frame), "utf-8")
        copy_assets(folder / "assets")
        size = measure_folder(folder)
    return _describe(run, built, files, size, perf_counter() - begin)


def _tell_what_goes(place: Path, settings: ReportSettings, warn: Callable[[str], None]) -> None:
    """Say what of the page that is there the new one will not have."""
    if (place / "figures").is_dir() and not settings.figures:
        warn(
            f"the figures in {place / 'figures'} go with the page before: --figures draws those of this one."
        )
    for side, labels in (("a", settings.labels_b), ("b", settings.labels_a)):
        if (place / f"labels_{side}.csv").is_file() and labels is None:
            option = "--labels-a" if side == "b" else "--labels-b"
            warn(
                f"the names in {place / f'labels_{side}.csv'} go with the page before: {option} carries them."
            )


def _write_figures(writer: ChunkWriter, figures: Sequence[Figure]) -> None:
    for figure in figures:
        writer.write(CHUNK.format(name=figure.name), figure_as_json(figure))


def _describe(run: Run, built: Built, files: Sequence[str], size: int, seconds: float) -> Written:
    place = run.path / REPORT
    return Written(
        path=place / INDEX,
        parts=tuple(built.parts),
        unscored=_find_unscored(run),
        carried=built.carried,
        pairs=built.pairs,
        bytes=size,
        files=tuple(f"{REPORT}/{name}" for name in files),
        seconds=seconds,
    )


def _find_unscored(run: Run) -> Missing | None:
    if (run.folder / "scores.json").is_file() or not (run.folder / "pairs.parquet").is_file():
        return None
    return Missing(
        "The run was not scored: how alike the feature spaces are as a whole, beyond chance, is not known.",
        f"xmodel score {shlex.quote(str(run.path))}",
    )
