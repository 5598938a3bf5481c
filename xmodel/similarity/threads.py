"""What work costs: how many threads a product of matrices gets, and how time is told."""

from collections.abc import Iterator
from contextlib import contextmanager

SMALL = 10**9
"""Multiplications below which one thread is enough: some milliseconds."""


@contextmanager
def limit_threads(multiplications: int) -> Iterator[None]:
    """Keep small products of matrices on one thread for as long as the block lasts.

    Threads that wait for each other cost small products more than they give, many times over on a machine
    that does other work too, or has many cores.

    Args:
        multiplications: of the largest product that is made again and again.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if multiplications < SMALL else None, "blas"):
        yield


def describe_time(seconds: float) -> str:
    """``40 seconds``, ``12 minutes``, ``3.5 hours``."""
    for least, name in ((5400, "hour"), (90, "minute")):
        if seconds >= least:
            return f"{seconds / {'hour': 3600, 'minute': 60}[name]:.2g} {name}s"
    return f"{max(1, round(seconds))} second{'s' if round(seconds) > 1 else ''}"
