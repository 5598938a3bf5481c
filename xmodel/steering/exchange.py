"""How much a push does, by its length; and which push of B does as much as one of A: the exchange rate.

Two measures say that two pushes are equally strong. One is their length, as a share of the residual stream's
norm. The other is what they do to the prediction of the next token: the divergence (KL) from the clean model.
It needs the model's head, but no assumption about how norms of two models compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmodel.alignment.extract import SLICE_BYTES
from xmodel.errors import InputError
from xmodel.steering.next_words import LOGIT_BYTES

if TYPE_CHECKING:
    from torch import Tensor

SMALL_DOSE = 0.25
"""Doses up to which a response is expected to grow in proportion to them."""


@dataclass(frozen=True, eq=False)
class DoseCurves:
    """What pushes along F directions of one model do at J doses."""

    doses: NDArray[np.float64]
    """[J] ascending, as shares of `scale`."""
    kl: NDArray[np.float64]
    """[F, J] nats: mean over positions and both signs of the KL of the next token (`measure_kl`)."""
    scale: float
    """Median norm of the residual stream at the site: what a dose of 1 is in the model's own units."""

    def __post_init__(self) -> None:
        doses = _check_doses(np.asarray(self.doses))
        if np.ndim(self.kl) != 2 or np.shape(self.kl)[1] != len(doses):
            raise InputError(
                f"Divergences came with shape {np.shape(self.kl)} for {len(doses)} doses; expected was one "
                "row per direction, with one number per dose."
            )
        if not 0 < self.scale < np.inf:
            raise InputError(f"The scale of doses came as {self.scale}; expected was a number above 0.")


@dataclass(frozen=True, eq=False)
class Exchange:
    """The dose in B that does as much as a dose in A. Rates are None where no number can be given."""

    rate: float | None
    """Median over pairs of dose in B by dose in A, both relative, at equal KL."""
    low: float | None
    """Lower quartile over pairs."""
    high: float | None
    """Upper quartile."""
    units: float | None
    """`rate` in the models' own units: length of B's push by length of A's."""
    by_norm: float
    """The same in own units where equal relative doses are called equal: B's scale by A's."""
    pairs: int
    """Pairs that were compared."""
    matched: int
    """Those with a dose in A whose KL lies within what B's doses reach."""
    above: int
    """Those whose every dose in A does more than all of B's: their rate is beyond what was measured, and
    counts as the largest."""
    below: int
    """Those whose every dose in A does less: their rate counts as the smallest."""
    doses: NDArray[np.float64]
    """[F, J] the dose in B for each pair and dose in A; NaN where there is none."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """How a response grows at small doses."""

    exponent: NDArray[np.float64]
    """[...] slope of log response over log dose: 1 where it is in proportion; NaN where fewer than two small
    doses have a response."""
    gain: NDArray[np.float64]
    """[...] response per dose: geometric mean over small doses; 0 where there is no response."""


def measure_kl(logits: "Tensor", clean: "Tensor") -> NDArray[np.float64]:
    """The divergence of pushed predictions from clean ones: KL(clean || pushed), in float64.

    Args:
        logits: [..., n, V] under pushes; -inf for tokens that a model never says.
        clean: [n, V] without.

    Returns:
        [..., n] nats, at least 0, and exactly 0 where the predictions are the same; infinite where a token
        that the clean model may say has become impossible.

    Raises:
        InputError: shapes that do not fit, or values that are not numbers.
    """
    import torch

    if clean.ndim != 2 or logits.ndim < 2 or logits.shape[-2:] != clean.shape or not clean.numel():
        raise InputError(
            f"Logits came with shape {tuple(logits.shape)} under a push and {tuple(clean.shape)} without; "
            "expected were the same positions and vocabulary, [..., n, V] and [n, V], at least one of each."
        )
    flat = logits.reshape(-1, *clean.shape)
    found = torch.empty(flat.shape[:2], dtype=torch.float64, device=clean.device)
    # Some five float64 copies of a slice are held at one time.
    step = max(1, SLICE_BYTES // (40 * clean.shape[1]))
    for low in range(0, len(clean), step):
        rows = slice(low, low + step)
        own = clean[rows].to(torch.float64)
        total = own.logsumexp(-1)
        p = (own - total[:, None]).exp_()
        for number, pushed in enumerate(flat):
            other = pushed[rows].to(torch.float64)
            gone = torch.where(p > 0, own - other, 0).mul_(p).sum(-1)
            found[number, rows] = gone - total + other.logsumexp(-1)
    kl = found.reshape(logits.shape[:-1]).numpy(force=True)
    if np.isnan(kl).any():
        raise InputError(
            "Predictions of the next token are not numbers under this push; expected were a model's logits. "
            "Push by less, or run the model with --dtype float32."
        )
    # Rounding may take a divergence of almost nothing below 0.
    return np.maximum(kl, 0)


def measure_damage(
    logits: "Callable[[Tensor], Tensor]", pushed: "Tensor", clean: "Tensor"
) -> NDArray[np.float64]:
    """`measure_kl` from the residual stream after the last block, in slices of bounded memory.

    Args:
        logits: a head's logits [n, V] of rows [n, d] (`Head.logits`).
        pushed: [..., n, d] rows under pushes.
        clean: [n, d] rows without.

    Returns:
        [..., n] nats.

    Raises:
        InputError: as `measure_kl`.
    """
    import torch

    if clean.ndim != 2 or pushed.ndim < 2 or pushed.shape[-2:] != clean.shape or not clean.numel():
        raise InputError(
            f"Rows came with shape {tuple(pushed.shape)} under pushes and {tuple(clean.shape)} without; "
            "expected were the same positions, [..., n, d] and [n, d], at least one."
        )
    flat = pushed.reshape(-1, *clean.shape)
    found = np.empty(flat.shape[:2])
    with torch.inference_mode():
        first = logits(clean[:1])
        step = max(1, LOGIT_BYTES // (2 * first.element_size() * first.shape[1]))
        for low in range(0, len(clean), step):
            rows = slice(low, low + step)
            own = logits(clean[rows])
            for number, one in enumerate(flat):
                found[number, rows] = measure_kl(logits(one[rows]), own)
    return found.reshape(pushed.shape[:-1])


def match_doses(kl_a: ArrayLike, kl_b: ArrayLike, doses: ArrayLike) -> NDArray[np.float64]:
    """The dose in B that does as much as each dose in A.

    B's curve is made monotone (isotonic regression of log KL; doses that are tied then count as their
    geometric mean) and is straight between doses on two logarithmic scales, as KL is for small pushes, where
    it grows with the square of the dose.

    Args:
        kl_a: [K] nats, what A's doses do.
        kl_b: [J] nats, what B's doses do.
        doses: [J] B's doses, ascending and above 0.

    Returns:
        [K] doses in B; NaN where B's doses do not reach as little or as much, and where A's does nothing.

    Raises:
        InputError: shapes that do not fit, divergences that are negative or not numbers, doses that do not
            ascend.
    """
    from scipy.optimize import isotonic_regression

    target, reached, doses = (np.asarray(one, np.float64) for one in (kl_a, kl_b, doses))
    if target.ndim != 1 or reached.ndim != 1 or reached.shape != doses.shape:
        raise InputError(
            f"Divergences came with shapes {target.shape} and {reached.shape} for {doses.shape} doses; "
            "expected were two curves, and a dose for each point of the second."
        )
    if not (target >= 0).all() or not (reached >= 0).all():
        raise InputError(
            "A curve of divergences has values that are negative or not numbers; expected were those of "
            "`measure_kl`."
        )
    _check_doses(doses)
    usable = (reached > 0) & np.isfinite(reached)
    found = np.full(len(target), np.nan)
    asked = (target > 0) & np.isfinite(target)
    if not usable.any() or not asked.any():
        return found
    heights = isotonic_regression(np.log(reached[usable])).x
    levels, group = np.unique(heights, return_inverse=True)
    places = np.bincount(group, np.log(doses[usable])) / np.bincount(group)
    found[asked] = np.exp(np.interp(np.log(target[asked]), levels, places, left=np.nan, right=np.nan))
    return found


def compute_exchange(first: DoseCurves, second: DoseCurves) -> Exchange:
    """The exchange rate at equal KL, over pairs.

    A pair's rate is the geometric mean, over the doses of A that B's doses reach, of dose in B by dose in A.
    Pairs that are beyond reach at every dose are not left out, which would pull the median towards 1: they
    count as the largest or the smallest rates, and where the median falls among them there is no number.

    Args:
        first: A's curves.
        second: B's curves; row f is the partner of row f. The doses may be others than A's.

    Raises:
        InputError: other numbers of directions, none, or as `match_doses`.
    """
    if len(first.kl) != len(second.kl) or not len(first.kl):
        raise InputError(
            f"Curves came of {len(first.kl)} directions of A and {len(second.kl)} of B; expected was one of "
            "each for every pair."
        )
    doses = np.stack(
        [match_doses(one, two, second.doses) for one, two in zip(first.kl, second.kl, strict=True)]
    )
    logs = np.array([_rate_pair(*pair, first.doses) for pair in zip(first.kl, second.kl, doses, strict=True)])
    counted = np.sort(logs[~np.isnan(logs)])
    low, rate, high = (_pick_quantile(counted, share) for share in (0.25, 0.5, 0.75))
    by_norm = second.scale / first.scale
    return Exchange(
        rate=rate,
        low=low,
        high=high,
        units=None if rate is None else rate * by_norm,
        by_norm=by_norm,
        pairs=len(logs),
        matched=int(np.isfinite(logs).sum()),
        above=int(np.isposinf(logs).sum()),
        below=int(np.isneginf(logs).sum()),
        doses=doses,
    )


def measure_slopes(doses: ArrayLike, responses: ArrayLike, *, small: float = SMALL_DOSE) -> Slopes:
    """How a response grows with the dose where doses are small.

    Args:
        doses: [J] ascending and above 0.
        responses: [..., J] sizes of the response, for instance the norms of odd responses.
        small: the largest dose that is small.

    Raises:
        InputError: shapes that do not fit, doses that do not ascend, or sizes that are negative or not
            finite.
    """
    doses, responses = np.asarray(doses, np.float64), np.asarray(responses, np.float64)
    if doses.ndim != 1 or responses.ndim < 1 or responses.shape[-1] != len(doses):
        raise InputError(
            f"Responses came with shape {responses.shape} for {doses.shape} doses; expected was one size per "
            "dose."
        )
    _check_doses(doses)
    if not (responses >= 0).all() or not np.isfinite(responses).all():
        raise InputError("Sizes of responses are negative or not finite; expected were norms.")
    near = doses <= small
    x, sizes = np.log(doses[near]), responses[..., near]
    there = sizes > 0
    y = np.log(np.where(there, sizes, 1))
    count = there.sum(-1)
    mean_x, mean_y = ((there * one).sum(-1) / np.maximum(count, 1) for one in (x, y))
    away = there * (x - mean_x[..., None])
    spread = (away**2).sum(-1)
    exponent = np.where(count > 1, (away * y).sum(-1) / np.where(spread > 0, spread, 1), np.nan)
    return Slopes(exponent, np.where(count > 0, np.exp(mean_y - mean_x), 0.0))


def _check_doses(doses: NDArray[np.float64]) -> NDArray[np.float64]:
    if doses.ndim != 1 or not len(doses) or not (doses > 0).all() or not (np.diff(doses) > 0).all():
        raise InputError(f"Doses came as {doses.tolist()}; expected were ascending numbers above 0.")
    return doses


def _rate_pair(
    kl_a: NDArray[np.float64],
    kl_b: NDArray[np.float64],
    matched: NDArray[np.float64],
    doses: NDArray[np.float64],
) -> float:
    """The logarithm of one pair's rate; infinite beyond reach, NaN where it cannot be told."""
    found = np.isfinite(matched)
    if found.any():
        return float(np.log(matched[found] / doses[found]).mean())
    if kl_a.min() > kl_b.max():
        return np.inf
    return -np.inf if kl_a.max() < kl_b.min() else np.nan


def _pick_quantile(logs: NDArray[np.float64], share: float) -> float | None:
    """exp of a quantile of sorted values that may be infinite; None where it is, or there are no values."""
    if not len(logs):
        return None
    place = share * len(logs)
    after = min(int(place), len(logs) - 1)
    before = after - 1 if place == after and after else after
    ends = logs[[before, after]]
    return float(np.exp(ends.mean())) if np.isfinite(ends).all() else None
