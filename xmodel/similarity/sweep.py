"""``xmodel sweep``: every dictionary of A against every dictionary of B, from one pass per model."""

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.alignment.features import Report
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest
from xmodel.datasets.text_files import Cut
from xmodel.errors import InputError
from xmodel.pairing.comparing import describe_arguments, open_source, run_models
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.run import RunFolder, digest_file
from xmodel.similarity.grid_folder import score_sweep
from xmodel.similarity.grids import (
    SweepSettings,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished sweep on disk."""

    path: Path
    """Its folder, which is also that of a run: of the first dictionaries of both sides."""

    @property
    def run(self) -> Run:
        """The words, tokens and documents of the sweep."""
        return Run(self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """The content of sweep.json: arguments, dictionaries, widths, warnings, seconds."""
        return json.loads(self._find("sweep.json").read_text("utf-8"))

    @property
    def grid(self) -> "pa.Table":
        """One row per cell, metric and null: see `GridRow` for the columns.

        Raises:
            InputError: if it was not written by the same sweep as sweep.json, or was changed.
        """
        import pyarrow.parquet as pq

        place = self._find("grid.parquet")
        if digest_file(place) != self.summary["grid_sha256"]:
            raise InputError(
                f"{place} is not what the sweep in {self.path} wrote: run the same `xmodel sweep` command "
                "again; what is finished is kept."
            )
        return pq.read_table(place)

    def _find(self, name: str) -> Path:
        place = self.path / name
        if not place.is_file():
            raise InputError(
                f"{place} is not there: {self.path} holds no finished sweep. Run the same `xmodel sweep` "
                "command again, and it goes on."
            )
        return place


def open_sweep(path: str | Path) -> Sweep:
    """Open a finished sweep.

    Raises:
        InputError: if the folder holds none.
    """
    sweep = Sweep(Path(path))
    _ = sweep.summary
    return sweep


def sweep_models(
    saes_a: Sequence[str],
    saes_b: Sequence[str],
    corpus: str | Iterable[str],
    out: str | Path,
    *,
    model_a: str | None = None,
    model_b: str | None = None,
    sites_a: Sequence[str] = (),
    sites_b: Sequence[str] = (),
    sweep: SweepSettings | None = None,
    settings: PassSettings | None = None,
    pairing: PairSettings | None = None,
    options: LoadOptions | None = None,
    text_column: str = "text",
    document: Cut = "paragraphs",
    seed: int = 0,
    fresh: bool = False,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Sweep:
    """Compare every dictionary of model A with every dictionary of model B.

    Each model runs once for all its dictionaries. A sweep that was interrupted goes on after its finished
    shards and cells when it is called again with the same arguments; other metrics, rules and nulls need no
    new pass.

    Args:
        saes_a, saes_b: one or more SAEs or baselines per model, as for `align_models`.
        corpus: a file, folder or name that `open_corpus` knows, or texts, one per document.
        out: the folder of the sweep.
        model_a, model_b: Hugging Face ids or folders; left out, the SAEs' metadata name them.
        sites_a, sites_b: where SAEs read that do not say so themselves: none, one for all, or one per SAE.
        sweep: metrics, rule, nulls.
        settings: the pass over the corpus.
        pairing: filters, floor, least firings.
        options: device, dtype and what may be loaded.
        text_column: of jsonl and parquet files.
        document: how text files are cut, ``paragraphs`` or ``file``.
        seed: of the split into a discovery and a held-out half.
        fresh: start over where the folder already holds a run.
        report: told of progress.
        warn: told what a user should know; a Python warning by default.

    Returns:
        The sweep: ``.grid``, ``.summary``.

    Raises:
        InputError: for anything that cannot be used as it is: no SAE for a side, one that came twice, SAEs of
            different models on one side, and all that `align_models` refuses.
    """
    sweep, settings = sweep or SweepSettings(), settings or PassSettings()
    pairing, options = pairing or PairSettings(), options or LoadOptions()
    requests = (
        _request("a", saes_a, model_a, sites_a),
        _request("b", saes_b, model_b, sites_b),
    )
    source = open_source(corpus, text_column, document)
    folder = RunFolder(Path(out))
    asked = describe_arguments(requests, source, settings, options, text_column, document, seed)
    folder.check_place(fresh)
    with folder.lock():
        run_models(folder, asked, source, requests, settings, options, seed, fresh, report, warn)
        score_sweep(Run(folder.path), sweep, pairing, device=options.device, report=report, warn=warn)
    return open_sweep(folder.path)


def _request(side: str, saes: Sequence[str], model: str | None, sites: Sequence[str]) -> SideRequest:
    if isinstance(saes, str) or not saes:
        raise InputError(f"--sae-{side} came as {saes!r}: give a list of one SAE or more.")
    if len(sites) > 1 and len(sites) != len(saes):
        raise InputError(
            f"--site-{side} came {len(sites)} times for {len(saes)} SAEs: give none, one for all, or one for "
            "each, in the same order."
        )
    own = [*sites] if len(sites) > 1 else [*sites, *[None]][:1] * len(saes)
    seen: set[tuple[str, str | None]] = set()
    for sae, site in zip(saes, own, strict=True):
        if (sae, site) in seen:
            raise InputError(f"--sae-{side} {sae} came twice: leave one of them out.")
        seen.add((sae, site))
    first, *others = (SideRequest(sae, model, site) for sae, site in zip(saes, own, strict=True))
    return SideRequest(first.dictionary, model, first.site, tuple(others))
