"""The overview of a sweep that has no pairs of its own: what was compared, and where its numbers are."""

import shlex

from xmodel.pairing.results import Run
from xmodel.report.layout import count
from xmodel.report.page.records import Column, Part, Table
from xmodel.report.page.texts import show_plain
from xmodel.similarity.sweep import open_sweep

NAME, TITLE = "overview", "Overview"


def build_sweep_overview(run: Run, name: str) -> Part:
    """Describe a sweep.

    Args:
        run: the run that a sweep's folder is.
        name: the folder as it is typed in commands.

    Raises:
        InputError: if there is no finished sweep, or a file is missing or damaged.
    """
    found = open_sweep(run.path).summary
    corpus = run.manifest["corpus"]
    columns = (
        Column("side"), Column("model"), Column("dictionary"), Column("site"),
        Column("features", "count"), Column("FVU", "value", "FVU: variance that the SAE does not rebuild."),
    )  # fmt: skip
    rows = tuple(
        (side, *(show_plain(str(own[key])) for key in ("model", "name", "site")), own["features"], own["fvu"])
        for side, letters in found["letters"].items()
        for own in (found["dictionaries"][letter] for letter in letters)
    )
    return Part(
        name=NAME,
        title=TITLE,
        sentences=(
            f"A sweep: {len(found['letters']['a'])} × {len(found['letters']['b'])} pairs of dictionaries, "
            "each scored against chance. The part Layers shows the grid.",
            f"Both models read {show_plain(corpus['name'])}: {count(found['words'], 'word')} of "
            f"{count(corpus['documents'], 'document')}; pairs found on {found['discovery_words']:,} of them, "
            f"judged on {found['heldout_words']:,} others.",
            "Pairs of single features are not kept by a sweep. "
            f"`xmodel pair {shlex.quote(name)}` pairs those of the first dictionary of either side, and the "
            "same command again then shows them.",
        ),
        tables=(Table("What was compared", columns, rows),),
    )
