"""The metrics by name: what a user can ask for, and how each is prepared for its null distribution.

All compare matched rows x [n, d_x] and y [n, d_y], row i of x with row i of y: on decoder vectors rows are
paired features, on activations rows are words and columns are paired features. All are larger for more
similar rows, and 1 for a representation with itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.cca import prepare_cca, prepare_pwcca, prepare_svcca
from xmodel.similarity.distances import COMPARISONS, DISTANCES, prepare_rsa
from xmodel.similarity.kernels import prepare_cka
from xmodel.similarity.neighbours import prepare_neighbours
from xmodel.similarity.procrustes import prepare_procrustes
from xmodel.similarity.units import prepare_mean_max_cosine, prepare_soft_matching

DEFAULT_METRICS: tuple[str, ...] = ("svcca", "cka_debiased", "rsa", "mutual_knn")
"""One of subspaces, one of variance, one of distances, one of neighbours."""


class Prepared(Protocol):
    """A metric on matched rows, with everything computed that a permutation of y's rows leaves as it is."""

    @property
    def value(self) -> float:
        """The metric for the rows as they came."""
        ...

    @property
    def kept(self) -> tuple[int, int] | None:
        """Components kept of x and of y; None where the metric keeps none."""
        ...

    def permute(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """The metric with y's rows in other orders: [m, n] -> [m]; y becomes y[orders[i]]."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric with its settings."""

    name: str
    """As a user writes it, in full: "svcca:20"."""
    label: str
    """For people: "SVCCA, 20 components"."""
    ceiling: float
    """Its value for a representation with itself."""
    paired: bool
    """Whether it depends on which row of x belongs to which row of y."""
    prepare: Callable[[NDArray[Any], NDArray[Any]], Prepared]
    """From matched rows to the metric, ready for permutations."""


def parse_metric(text: str) -> Metric:
    """The metric of a name, such as "cka", "svcca:20" or "rsa:cosine:spearman"; see `list_metrics`.

    Raises:
        InputError: an unknown name, or settings that the metric does not have.
    """
    name, *settings = text.strip().split(":")
    if name in _PLAIN and not settings:
        label, prepare = _PLAIN[name]
        return Metric(name, label, 1.0, True, prepare)
    if name in _WITH_SETTINGS:
        made = _WITH_SETTINGS[name](settings)
        if made is not None:
            return made
    raise InputError(
        f"The metric came as {text!r}; known are {', '.join(list_metrics())}. A share of variance is written "
        "with a point (svcca:0.99), a number of components or neighbours without (svcca:20, mutual_knn:10)."
    )


def compares_neighbours(metric: Metric) -> bool:
    """Whether a metric is about nearest neighbours, to which rows that repeat or follow each other matter."""
    return metric.name.partition(":")[0] in ("mutual_knn", "jaccard")


def list_metrics() -> dict[str, str]:
    """What can be asked for, and one line on each."""
    return {
        "cca": "mean canonical correlation over all directions",
        "cca_squared": "mean squared canonical correlation",
        "svcca": "the same as svcca:20",
        "svcca:K": "mean canonical correlation of the first K principal components of each side",
        "svcca:SHARE": "of the components that hold this share of variance, such as svcca:0.99",
        "pwcca": "canonical correlations weighted by what they account for in the first model",
        "cka": "linear centred kernel alignment",
        "cka_debiased": "the same without its bias for few rows; 0 is chance",
        "rsa": "the same as rsa:cosine:pearson",
        "rsa:DISTANCE:COMPARISON": "correlation of the distances between rows: "
        f"{', '.join(DISTANCES)}; {', '.join(COMPARISONS)}",
        "procrustes": "how well one side can be rotated onto the other",
        "mutual_knn": "the same as mutual_knn:10",
        "mutual_knn:K": "share of common rows among the K nearest on both sides",
        "jaccard": "the same as jaccard:10",
        "jaccard:K": "common rows among the K nearest over all that are near on either side",
        "mean_max_cosine": "mean over columns of the first model of the largest cosine in the second",
        "soft_matching": "mean correlation of columns under optimal transport between them",
    }


def _make_svcca(settings: list[str]) -> Metric | None:
    (text,) = settings if len(settings) == 1 else ("20",) if not settings else ("",)
    if (components := _read_count(text)) is not None:
        label = f"SVCCA, {components} component{'' if components == 1 else 's'}"
        return Metric(f"svcca:{components}", label, 1.0, True, partial(prepare_svcca, components=components))
    share = _read_share(text)
    if share is None:
        return None
    label = f"SVCCA, {100 * share:.10g} % of variance"
    return Metric(f"svcca:{share!r}", label, 1.0, True, partial(prepare_svcca, share=share))


def _make_rsa(settings: list[str]) -> Metric | None:
    distance, comparison = [*settings, *("cosine", "pearson")[len(settings) :]][:2]
    if len(settings) > 2 or distance not in DISTANCES or comparison not in COMPARISONS:
        return None
    name = {"cosine": "cosine", "euclidean": "Euclidean", "sqeuclidean": "squared Euclidean"}[distance]
    label = f"RSA, {name} distance, {comparison.capitalize()}"
    prepare = partial(prepare_rsa, distance=distance, comparison=comparison)
    return Metric(f"rsa:{distance}:{comparison}", label, 1.0, True, prepare)


def _make_neighbours(name: str, label: str, settings: list[str]) -> Metric | None:
    k = _read_count(settings[0] if settings else "10")
    if k is None or len(settings) > 1:
        return None
    plural = "" if k == 1 else "s"
    prepare = partial(prepare_neighbours, k=k, jaccard=name == "jaccard")
    return Metric(f"{name}:{k}", f"{label}, {k} neighbour{plural}", 1.0, True, prepare)


def _read_count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _read_share(text: str) -> float | None:
    """A number above 0 and at most 1, written with a point."""
    try:
        share = float(text)
    except ValueError:
        return None
    return share if "." in text and 0 < share <= 1 else None


_PLAIN: dict[str, tuple[str, Callable[[NDArray[Any], NDArray[Any]], Prepared]]] = {
    "cca": ("mean CCA", prepare_cca),
    "cca_squared": ("mean squared CCA", partial(prepare_cca, squared=True)),
    "pwcca": ("PWCCA", prepare_pwcca),
    "cka": ("linear CKA", prepare_cka),
    "cka_debiased": ("debiased CKA", partial(prepare_cka, debiased=True)),
    "procrustes": ("Procrustes", prepare_procrustes),
    "mean_max_cosine": ("mean max cosine", prepare_mean_max_cosine),
    "soft_matching": ("soft matching", prepare_soft_matching),
}

_WITH_SETTINGS: dict[str, Callable[[list[str]], Metric | None]] = {
    "svcca": _make_svcca,
    "rsa": _make_rsa,
    "mutual_knn": partial(_make_neighbours, "mutual_knn", "mutual k-NN"),
    "jaccard": partial(_make_neighbours, "jaccard", "Jaccard of neighbours"),
}
