"""The cells of a sweep on disk: each is computed once, whatever comes between, and all become one table."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from xmodel.alignment.features import Report
from xmodel.pairing.filters import WordChoice, choose_words
from xmodel.pairing.manifest import list_packages
from xmodel.pairing.results import Run, describe_letter, list_letters, open_shards
from xmodel.pairing.settings import PairSettings
from xmodel.run import RunFolder, digest_json
from xmodel.similarity.grid_cells import Shifts, draw_grid_shifts, score_cell, shift_cell, time_shift
from xmodel.similarity.grids import (
    GridRow,
    ShiftedCell,
    SweepSettings,
    correct_grid,
    correct_shifted,
    list_widths,
)
from xmodel.similarity.layers import Layer, hold_layers, load_layer
from xmodel.similarity.orders import count_lengths
from xmodel.similarity.threads import describe_time, limit_threads


def score_sweep(
    run: Run,
    sweep: SweepSettings,
    pairing: PairSettings,
    *,
    device: str = "cpu",
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Score the grid of a finished pass; writes grid.parquet and sweep.json.

    Args:
        run: the pass, whose lock the caller holds.
        sweep: metrics, rule, nulls.
        pairing: filters, floor, least firings.
        device: where dictionaries are loaded for their decoders.
        report: told of cells done.
        warn: told what a user should know.

    Raises:
        InputError: if a file is missing or damaged, or a half has too few words.
    """
    grid = _Grid(run, sweep, pairing, device, report, warn)
    seconds: dict[str, float] = {}
    rows: list[GridRow] = []
    told: dict[str, Any] = {}
    for null in sweep.nulls:
        begin = perf_counter()
        rows += grid.shuffle() if null == "shuffle" else grid.shift(told)
        seconds[null] = round(perf_counter() - begin, 3)
    digest = run.folder.write("grid.parquet", lambda place: _write_rows(rows, place))
    run.folder.write_json(
        "sweep.json",
        {
            "sweep": sweep.as_json(),
            "pairing": pairing.as_json(),
            "packages": list_packages(),
            "letters": {side: grid.letters[place] for place, side in enumerate("ab")},
            "dictionaries": {
                letter: _describe(grid.manifest, letter) for own in grid.letters for letter in own
            },
            "words": len(grid.words.discovery),
            "discovery_words": int(grid.words.discovery.sum()),
            "heldout_words": int(grid.words.heldout.sum()),
            "widths": list_widths(rows),
            **told,
            "seconds": seconds,
            "grid_sha256": digest,
        },
    )


class _Grid:
    """The cells of one sweep, computed or taken from what an earlier attempt finished."""

    def __init__(
        self,
        run: Run,
        sweep: SweepSettings,
        pairing: PairSettings,
        device: str,
        report: Report,
        warn: Callable[[str], None],
    ):
        self.run, self.sweep, self.pairing = run, sweep, pairing
        self.report, self.warn = report, warn
        self.manifest = run.manifest
        self.letters = tuple(list_letters(self.manifest, side) for side in "ab")
        self.words: WordChoice = choose_words(open_shards(run.folder, self.manifest), pairing)
        self.load = hold_layers(
            lambda letter: load_layer(run, letter, self.words, pairing, device=device), pairing.memory
        )
        self.cells = [(a, b) for a in self.letters[0] for b in self.letters[1]]
        self.files = {
            name: digest for one in self.manifest["shards"] for name, digest in one["files"].items()
        }

    def shuffle(self) -> list[GridRow]:
        """All rows against shuffled pairs, corrected."""
        count = self.sweep.count_permutations(len(self.cells))
        if len(self.cells) / (count + 1) > 0.05:
            self.warn(
                f"with {count:,} permutations no p can be below {1 / (count + 1):.2g}, and Holm's correction "
                f"for {len(self.cells)} cells multiplies the smallest by {len(self.cells)}: no cell can come "
                f"out below 0.05 by it. --permutations {20 * len(self.cells) - 1:,} lets it."
            )

        def score(first: Layer, second: Layer) -> list[dict[str, Any]]:
            rows = score_cell(first, second, self.sweep, self.pairing, len(self.cells))
            return [asdict(row) for row in rows]

        found = self._work("cells", count, score)
        return correct_grid([GridRow(**row) for cell in found for row in cell])

    def shift(self, told: dict[str, Any]) -> list[GridRow]:
        """All rows against pairing again under shifts; the time this takes is told before it begins."""
        documents = self.run.words["document"].to_numpy()
        halves = (self.words.discovery, self.words.heldout)
        lengths = [count_lengths(documents[half]) for half in halves]
        shifts = draw_grid_shifts(lengths[0], lengths[1], self.sweep.shifts, self.sweep.seed)
        missing = [
            cell
            for number, cell in enumerate(self.cells)
            if self._find("shifts", number, len(shifts)) is None
        ]
        if missing:
            told["shift_estimate"] = self._estimate(missing, shifts)

        def score(first: Layer, second: Layer) -> dict[str, Any]:
            return asdict(shift_cell(first, second, self.sweep, self.pairing, shifts))

        found = self._work("shifts", len(shifts), score)
        cells = [ShiftedCell([GridRow(**row) for row in cell["rows"]], cell["nulls"]) for cell in found]
        return correct_shifted(cells)

    def _estimate(self, missing: list[tuple[str, str]], shifts: Shifts) -> dict[str, Any]:
        """Measure one shift of one cell, and tell what all that are still to be done will take."""
        first, second = missing[0]
        seconds = time_shift(self.load(first), self.load(second), self.sweep, self.pairing, shifts)
        whole = seconds * len(missing) * len(shifts)
        self.warn(
            f"the re-pairing null takes about {describe_time(whole)}: {len(missing)} cells are paired "
            f"again under {len(shifts)} shifts each, at {seconds:.2g} seconds a time, measured on the first."
        )
        return {"seconds": round(whole, 1), "per_cell_and_shift": round(seconds, 4)}

    def _work(self, stage: str, count: int, score: Callable[[Layer, Layer], Any]) -> list[Any]:
        """The result of every cell; those that are on disk already are not computed again."""
        found = []
        self.report(stage, 0, len(self.cells))
        for number, (a, b) in enumerate(self.cells):
            result = self._find(stage, number, count)
            if result is None:
                first, second = self.load(a), self.load(b)
                with limit_threads(_count_multiplications(first, second)):
                    result = score(first, second)
                content = {"key": self._identify(a, b, count), "result": result}
                content["sha256"] = digest_json(content)
                self.run.folder.write_json(_name_cell(stage, number), content)
            found.append(result)
            self.report(stage, number + 1, len(self.cells))
        return found

    def _find(self, stage: str, number: int, count: int) -> Any:
        """The result of a cell that an earlier attempt finished, or None."""
        key = self._identify(*self.cells[number], count)
        return _read_cell(self.run.folder, _name_cell(stage, number), key)

    def _identify(self, a: str, b: str, count: int) -> str:
        """A digest of all that a cell depends on."""
        ends = tuple(f"features_{letter}/" for letter in (a, b))
        own = self.sweep.as_json()
        return digest_json(
            {
                "settings": {name: own[name] for name in ("metrics", "rule", "seed")},
                "count": count,
                "pairing": self.pairing.as_json(),
                "dictionaries": [describe_letter(self.manifest, letter)["dictionary"] for letter in (a, b)],
                "features": {name: digest for name, digest in self.files.items() if name.startswith(ends)},
                "words": self.manifest["files"]["words.parquet"],
                "packages": list_packages(),
            }
        )


def _count_multiplications(first: Layer, second: Layer) -> int:
    """Of the largest product of both sides' decoder vectors; 0 where a side has none."""
    if first.decoder is None or second.decoder is None:
        return 0
    pairs = min(len(first.decoder), len(second.decoder))
    return pairs * first.decoder.shape[1] * second.decoder.shape[1]


def _describe(manifest: dict[str, Any], letter: str) -> dict[str, Any]:
    """What sweep.json says of a dictionary."""
    own = describe_letter(manifest, letter)
    info, calibration = own["dictionary"], own.get("calibration", {})
    return {
        "name": info["name"],
        "site": own["site"],
        "features": info["features"],
        "digest": info["digest"],
        "model": manifest["sides"][letter[0]]["model"]["name"],
        "fvu": calibration.get("fvu"),
        "fvu_tokens": calibration.get("tokens"),
        "misfit": calibration.get("misfit"),
    }


def _name_cell(stage: str, number: int) -> str:
    return f"parts/{stage}-{number:05d}.json"


def _read_cell(folder: RunFolder, name: str, key: str) -> Any:
    """The result of a cell of an earlier attempt; None if it is not there, damaged, or of other data."""
    place = folder / name
    if not place.is_file():
        return None
    try:
        content = json.loads(place.read_bytes())
    except ValueError:
        return None
    if not isinstance(content, dict) or content.pop("sha256", None) != digest_json(content):
        return None
    return content["result"] if content["key"] == key else None


def _write_rows(rows: Sequence[GridRow], place: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    columns = {
        name: pa.array([getattr(row, name) for row in rows], kinds[str(kind).partition(" ")[0]])
        for name, kind in _list_columns()
    }
    pq.write_table(pa.table(columns), place)


def _list_columns() -> list[tuple[str, str]]:
    """Names of the columns of grid.parquet and their types, those of the contract first."""
    own = {
        name: kind.__name__ if isinstance(kind, type) else str(kind)
        for name, kind in GridRow.__annotations__.items()
    }
    first = ("site_a", "site_b", "metric", "value", "p", "p_adjusted", "n")
    return [(name, own[name]) for name in (*first, *(name for name in own if name not in first))]
