"""The notebooks in examples/ run from top to bottom, in a folder of their own."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_documentation import agrees

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_shows_what_it_was_saved_with(path: Path, tmp_path: Path) -> None:
    saved = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    folder = {"metadata": {"path": str(tmp_path)}}
    # A slow cell's standard output comes in pieces; the saved notebook has it whole.
    NotebookClient(fresh, timeout=600, resources=folder, coalesce_streams=True).execute()
    for before, after in zip(saved.cells, fresh.cells, strict=True):
        shown, printed = (list(list_texts(cell)) for cell in (before, after))
        assert len(shown) == len(printed), before.source
        assert all(map(agrees, shown, printed, repeat(False))), f"{before.source}\n{shown}\n{printed}"


def list_texts(cell: nbformat.NotebookNode) -> Iterator[str]:
    """What a cell shows, as text; not what libraries say on standard error."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield from [output.text] if output.name == "stdout" else []
        else:
            yield output.data["text/plain"]


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS] == ["demo.ipynb"]
