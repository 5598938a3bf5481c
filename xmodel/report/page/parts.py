"""All parts of a page, built from a run: what is there is shown, and what is not is named."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xmodel.pairing.results import Run
from xmodel.report.page.alignment import write_alignment
from xmodel.report.page.chunks import ChunkWriter
from xmodel.report.page.credible import Credible, judge_partners
from xmodel.report.page.explorer import ExplorerData, gather_explorer, write_explorer
from xmodel.report.page.facts import describe_frame, describe_page
from xmodel.report.page.feature_concepts import find_concepts, spell_concept
from xmodel.report.page.layers import build_layers
from xmodel.report.page.maps import TITLE as MAPS_TITLE
from xmodel.report.page.maps import build_maps
from xmodel.report.page.naming import Names, carry_names, read_names, write_names
from xmodel.report.page.only import write_only
from xmodel.report.page.overview import build_overview
from xmodel.report.page.pairs_part import build_pairs_part
from xmodel.report.page.records import Figure, Missing, Part
from xmodel.report.page.rendering import PageFacts
from xmodel.report.page.settings import ReportSettings
from xmodel.report.page.steering import build_steering
from xmodel.report.page.sweep_overview import build_sweep_overview

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
ONLY_TITLE = "What only one model has"
PAIRS_TITLE = "Pairs"
STEPS = 9
"""Steps of writing the explorer."""


@dataclass(frozen=True, eq=False)
class Built:
    """A page whose chunks are written."""

    parts: tuple[Part, ...]
    """In the order of the menu."""
    print_only: tuple[Figure, ...]
    """Figures that the page draws in a way of its own."""
    facts: Mapping[str, Any]
    """The chunk ``run``."""
    frame: PageFacts
    """What stands around the parts."""
    files: Mapping[str, str]
    """Files beside the page, and what each is."""
    carried: tuple[str, ...]
    """What became of given names."""
    pairs: int
    """Pairs in the explorer."""


def build_parts(
    run: Run,
    settings: ReportSettings,
    writer: ChunkWriter,
    *,
    report: Report,
    warn: Callable[[str], None],
) -> Built:
    """Build all parts and write their chunks, but for those of figures.

    Args:
        run: a finished run.
        settings: what is to be shown.
        writer: of the chunks.
        report: told of progress.
        warn: told what a user should know.

    Raises:
        InputError: see `write_report`.
    """
    typed = str(run.path)
    given = read_names(run, {"a": settings.labels_a, "b": settings.labels_b}, warn)
    # What may be refused comes before what takes long.
    layers = build_layers(run.path, sweep=settings.sweep, name=typed)
    steering, said = build_steering(run, name=typed)
    if said is not None:
        writer.write("steering", said)
    paired = (run.folder / "pairs.parquet").is_file()
    overview = build_overview(run, typed) if paired else build_sweep_overview(run, typed)
    alignment = write_alignment(run, writer, passages=settings.passages, report=report)
    files: dict[str, str] = {}
    if paired:
        middle = _build_pairs(run, settings, writer, given, files, report, warn)
    else:
        middle = _leave_out_pairs(run)
    pairs, maps, only = middle.parts
    parts = (overview, pairs, maps, only, steering, layers, alignment)
    return Built(
        parts=parts,
        print_only=middle.figures,
        facts=describe_page(run, parts, middle.pairs, middle.names),
        frame=describe_frame(run, files | ({"figures/": "for print"} if settings.figures else {})),
        files=files,
        carried=middle.names.describe_carried() if middle.names else (),
        pairs=middle.pairs,
    )


@dataclass(frozen=True, eq=False)
class _Middle:
    """The parts that rest on pairs."""

    parts: tuple[Part, Part, Part]
    figures: tuple[Figure, ...]
    pairs: int
    names: Names | None


def _build_pairs(
    run: Run,
    settings: ReportSettings,
    writer: ChunkWriter,
    given: Mapping[str, Any],
    files: dict[str, str],
    report: Report,
    warn: Callable[[str], None],
) -> _Middle:
    credible = judge_partners(run, shifts=settings.shifts, seed=settings.seed, report=report)
    names = carry_names(run, given, credible)
    concepts = {
        side: [None if name is None else spell_concept(name) for name in find_concepts(run, side)]
        for side in "ab"
    }
    count = _count_steps(report)
    with gather_explorer(run, writer.folder / "scratch", contexts=settings.contexts, report=count) as data:
        found = write_explorer(
            data,
            writer,
            concepts=concepts,
            labels={side: names.list_given(side) for side in "ab"},
            carried={side: names.list_carried(side) for side in "ab"},
            report=count,
            warn=warn,
        )
        only = _write_only(run, writer, credible, data, concepts, names)
    files |= {f"only_{side}.csv": f"features of {side} not shown to have a partner" for side in "ab"}
    files |= dict.fromkeys(write_names(run, writer.folder, names), "names carried over")
    maps = Part(name="maps", title=MAPS_TITLE, missing=_explain_no_maps(run))
    figures: tuple[Figure, ...] = ()
    if settings.maps:
        drawn = build_maps(run, seed=settings.seed, concepts=concepts, report=report, warn=warn)
        maps, figures = drawn.part, tuple(drawn.figures)
        if drawn.payload is not None:
            writer.write("maps", drawn.payload)
    return _Middle((build_pairs_part(run, found, PAIRS_TITLE), maps, only), figures, found.pairs, names)


def _count_steps(report: Report) -> Report:
    """Progress of the explorer's many short steps as that of one."""
    done: list[str] = []

    def count(step: str, number: int, total: int | None) -> None:
        if number == total and step not in done:
            done.append(step)
            report("explorer", len(done), STEPS)

    return count


def _write_only(
    run: Run,
    writer: ChunkWriter,
    credible: Credible,
    data: ExplorerData,
    concepts: Mapping[str, list[str | None]],
    names: Names,
) -> Part:
    labels = {side: own for side in "ab" if (own := names.list_any(side)) is not None}
    top = {side: data.list_top_words(side) for side in "ab"}
    return write_only(run, writer, credible, top=top, concepts=concepts, labels=labels)


def _leave_out_pairs(run: Run) -> _Middle:
    missing = Missing(
        "This run has no pairs: it is a sweep, which pairs features only to score them.",
        f"xmodel pair {shlex.quote(str(run.path))}",
    )
    titles = {"pairs": PAIRS_TITLE, "maps": MAPS_TITLE, "only": ONLY_TITLE}
    pairs, maps, only = (Part(name=name, title=title, missing=missing) for name, title in titles.items())
    return _Middle((pairs, maps, only), (), 0, None)


def _explain_no_maps(run: Run) -> Missing:
    return Missing("Maps were left out (--no-maps).", f"xmodel report {shlex.quote(str(run.path))}")
