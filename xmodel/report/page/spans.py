"""Where scales begin and end, so that small differences do not look large: the same rules as the page's."""

import numpy as np

from xmodel.report.page.records import Heatmap, Lines

_LEAST_SPAN = 0.1
_FEW_POINTS = 3


def choose_span(figure: Heatmap) -> tuple[float, float]:
    """The values at which the colours of a matrix begin and end.

    Returns:
        Both ends, the first one smaller: from 0 where all values are positive, at least 0.1 apart where some
        are negative, equally far from 0 where colours part there; the figure's limit where it has one.
    """
    known = figure.values[np.isfinite(figure.values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if figure.diverging:
        far = figure.limit or max(abs(low), abs(high)) or 1.0
        return -far, far
    high = figure.limit or high
    if low >= 0:
        return 0.0, high or 1.0
    short = max(0.0, _LEAST_SPAN - (high - low)) / 2
    return low - short, high + short


def starts_at_zero(figure: Lines) -> bool:
    """Whether the y axis begins at 0: where curves have but a few points, and no value is negative."""
    values = [value for one in figure.series for value in (one.y, one.low, one.high) if value is not None]
    few = all(len(one.x) <= _FEW_POINTS for one in figure.series)
    return bool(values) and few and all((value[np.isfinite(value)] >= 0).all() for value in values)
