"""How much a score depends on the documents that happened to be read."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.cells import Cell
from xmodel.similarity.material import Material
from xmodel.similarity.metrics import Metric, compares_neighbours
from xmodel.similarity.repairing import Matches
from xmodel.similarity.settings import LEAST_PAIRS, ScoreSettings
from xmodel.similarity.views import ActivationView, View, resample_documents

LEAST_DOCUMENTS = 5
"""Documents below which there is no interval."""
ENOUGH_DOCUMENTS = 20
"""Documents below which the user is told how few they are."""
Key = tuple[tuple[str, str, str | None], str]
"""Part, rule and name of a cell; and the metric."""


def measure_reaches(
    material: Material,
    view: View,
    cells: Sequence[Cell],
    matches: dict[str, Matches],
    metrics: Mapping[str, Sequence[Metric]],
    settings: ScoreSettings,
    report: Callable[[str, int, int | None], None] = lambda stage, done, total: None,
    warn: Callable[[str], None] = lambda told: None,
) -> dict[Key, float]:
    """Half of the 95 % interval of every score, from resampled documents.

    On decoders the documents of the discovery half are drawn with replacement, the features are paired again
    on them, and the pairs that take a cell's place are scored. On activations the pairs stay, and the
    held-out documents are drawn. The interval is the value and t standard deviations of the resampled values
    to either side (Efron and Tibshirani 1993, section 12.4), t being Student's for as many resamplings, 2.09
    for twenty. Documents that come twice raise many metrics, so the resampled values' own percentiles would
    lie too high.

    Args:
        material: the run.
        view: makes rows of pairs.
        cells: which pairs are scored.
        matches: the pairs of the run by rule.
        metrics: what is measured, by part.
        settings: how many resamplings, and their seed.
        report: told of progress.
        warn: told where documents are few.

    Returns:
        the reaches by cell and metric. There are none for cells that could not be scored in most
        resamplings, for fewer than `LEAST_DOCUMENTS` documents, and for nearest neighbours on activations:
        there the words of a document that comes twice are each other's neighbours.
    """
    from scipy.special import stdtrit

    if not settings.bootstrap:
        return {}
    documents = len(view.lengths if isinstance(view, ActivationView) else _list_lengths(material))
    if documents < LEAST_DOCUMENTS:
        warn(f"{documents} documents are too few to resample: there is no interval.")
        return {}
    if documents < ENOUGH_DOCUMENTS:
        warn(f"intervals rest on {documents} documents only: take them for rough.")
    rng = np.random.default_rng([settings.seed, 1])
    widest = max(map(len, metrics.values()))
    values = np.full((settings.bootstrap, len(cells), widest), np.nan)
    for number in range(settings.bootstrap):
        report("bootstrap", number, settings.bootstrap)
        values[number] = _resample(material, view, cells, matches, metrics, rng)
    report("bootstrap", settings.bootstrap, settings.bootstrap)
    found = {}
    for place, cell in enumerate(cells):
        for column, metric in enumerate(metrics[cell.part]):
            own = values[:, place, column]
            own = own[np.isfinite(own)]
            if len(own) < max(2, settings.bootstrap / 2) or not _resamples_well(metric, view):
                continue
            key = ((cell.part, cell.rule, cell.name), metric.name)
            found[key] = float(stdtrit(len(own) - 1, 0.975) * own.std(ddof=1))
    return found


def _list_lengths(material: Material) -> NDArray[np.int64]:
    return material.list_lengths(material.choice.discovery)


def _resamples_well(metric: Metric, view: View) -> bool:
    return not (compares_neighbours(metric) and isinstance(view, ActivationView))


def _resample(
    material: Material,
    view: View,
    cells: Sequence[Cell],
    matches: dict[str, Matches],
    metrics: Mapping[str, Sequence[Metric]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """[cells, metrics] the values on one resampling of the documents."""
    values = np.full((len(cells), max(map(len, metrics.values()))), np.nan)
    rows = None
    if isinstance(view, ActivationView):
        rows = resample_documents(view.lengths, rng)
        own = matches
    else:
        drawn = resample_documents(_list_lengths(material), rng)
        own = material.discovery.pair(rows=drawn, rules=list(matches))
    for place, cell in enumerate(cells):
        # As many pairs as the cell has: some metrics depend on their number.
        chosen = cell.choose(own[cell.rule])
        for column, metric in enumerate(metrics[cell.part]):
            value = _measure(metric, view, own[cell.rule], chosen, rows)
            values[place, column] = np.nan if value is None else value
    return values


def _measure(
    metric: Metric,
    view: View,
    matches: Matches,
    chosen: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
) -> float | None:
    if len(chosen) < LEAST_PAIRS:
        return None
    x, y = view.take(matches, chosen)
    if rows is not None:
        x, y = x[rows], y[rows]
    try:
        return metric.prepare(x, y).value
    except InputError:
        # Too few rows for this metric in this resampling: it does not count.
        return None
