"""Partners of dense features (neurons, residual dimensions, components) by tiled products of matrices.

Both sides are standardised once, so that a product of two columns is Pearson's r; tiles of the full matrix
are reduced to lists as soon as they are made. It runs on whatever device the activations are on.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.correlation import check_lists
from xmodel.pairing.moments import LEAST_VARIANCE
from xmodel.pairing.prepared import Limits, make_partners
from xmodel.records import Partners

if TYPE_CHECKING:
    import torch

BYTES_PER_PRODUCT = 48
"""What a tile needs for each product: itself, its scores, and what top-k sets aside."""
BLOCK_BYTES = 1 << 24
"""Size of the columns that are standardised at a time, in the type of the result."""
BLOCKS = 5
"""How many times this is needed besides the result: measured, with what the allocator keeps."""


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Dense word features, standardised; see `prepare_dense`."""

    x_a: "torch.Tensor"
    """[W, U_A] A's usable features, each of mean 0 and norm 1."""
    x_b: "torch.Tensor"
    """[W, U_B] B's."""
    names_a: NDArray[np.int32]
    """[U_A] their numbers, ascending."""
    names_b: NDArray[np.int32]
    """[U_B] likewise."""
    features: tuple[int, int]
    """F_A and F_B."""
    absolute: bool
    """Whether scores are |r|."""
    memory: int
    """Bytes for a tile of products."""

    def find_partners(self, top_k: int, floor: float) -> tuple[Partners, Partners]:
        """The best partners of every feature; see `find_partners_dense`."""
        check_lists(top_k, floor)
        side = max(1, int((self.memory / BYTES_PER_PRODUCT) ** 0.5))
        rows, columns = (_start(self.x_a, count, top_k) for count in (len(self.names_a), len(self.names_b)))
        for first in range(0, len(self.names_a), side):
            left = self.x_a[:, first : first + side].T
            for second in range(0, len(self.names_b), side):
                tile = left @ self.x_b[:, second : second + side]
                _update(rows, first, tile, second, self.absolute)
                _update(columns, second, tile.T, first, self.absolute)
        return (
            self._make_lists(*rows, self.names_a, self.names_b, self.features[0], floor),
            self._make_lists(*columns, self.names_b, self.names_a, self.features[1], floor),
        )

    def search(
        self,
        rows: NDArray[np.int32],
        bounds: NDArray[np.float64],
        top_k: int,
        *,
        limits: Limits | None = None,
        penalty: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """The best of B's features for some of A's, as `xmodel.pairing.prepared.Searchable.search`.

        Scores are |r| where `absolute`, less the penalty; -inf and -1 behind the end of a list.
        """
        import torch

        scores, names = np.full((len(rows), top_k), -np.inf), np.full((len(rows), top_k), -1, np.int32)
        usable = np.flatnonzero(np.isin(rows, self.names_a))
        if not len(self.names_b):
            return scores, names
        # The chosen columns of A are copied before they are multiplied.
        copied = self.x_a.element_size() * len(self.x_a)
        step = max(1, self.memory // max(BYTES_PER_PRODUCT * len(self.names_b), copied))
        like = {"device": self.x_a.device, "dtype": self.x_a.dtype}
        for begin in range(0, len(usable), step):
            part = usable[begin : begin + step]
            places = torch.as_tensor(np.searchsorted(self.names_a, rows[part]), device=self.x_a.device)
            products = self.x_a[:, places].T @ self.x_b
            strengths = products.abs() if self.absolute else products
            good = torch.ones_like(strengths, dtype=torch.bool)
            if limits is not None:
                low = torch.as_tensor(limits.r[self.names_b], **like)
                before = torch.as_tensor(
                    rows[part][:, None] < limits.names[self.names_b], device=self.x_a.device
                )
                good &= (strengths > low) | ((strengths == low) & before)
            if penalty is not None:
                strengths = strengths - torch.as_tensor(penalty[self.names_b], **like)
            good &= strengths > torch.as_tensor(bounds[part], **like)[:, None]
            best, where = _choose(strengths.masked_fill(~good, -torch.inf), top_k)
            own = best.double().cpu().numpy()
            scores[part, : own.shape[1]] = own
            names[part, : own.shape[1]] = np.where(np.isneginf(own), -1, self.names_b[where.cpu().numpy()])
        return scores, names

    def _make_lists(
        self,
        r: "torch.Tensor",
        places: "torch.Tensor",
        own: NDArray[np.int32],
        others: NDArray[np.int32],
        count: int,
        floor: float,
    ) -> Partners:
        """Lists of usable features as `Partners` of all."""
        top_k = r.shape[1]
        all_r, all_names = np.full((count, top_k), np.nan), np.full((count, top_k), -1, np.int32)
        values, found = r.double().cpu().numpy(), places.cpu().numpy()
        good = (found >= 0) & ((np.abs(values) if self.absolute else values) > floor)
        if len(others):
            all_names[own] = np.where(good, others[found], -1)
        all_r[own] = values
        return make_partners(all_r, all_names)


def prepare_dense(
    x_a: "torch.Tensor | NDArray[np.floating]",
    x_b: "torch.Tensor | NDArray[np.floating]",
    *,
    absolute: bool,
    kept_a: NDArray[np.bool_] | None = None,
    kept_b: NDArray[np.bool_] | None = None,
    dtype: "torch.dtype | None" = None,
    memory: int = 1 << 30,
) -> DenseFeatures:
    """Standardise both sides, on the device they are on, some columns at a time.

    Besides its result (W times as many values of `dtype` as there are features to keep) it needs
    `BLOCKS` * `BLOCK_BYTES`, or `BLOCKS` columns where that is more.

    Args:
        x_a: [W, F_A] activations of the words.
        x_b: [W, F_B] of the same words, on the same device.
        absolute: whether pairs go by |r|, for features whose sign is arbitrary.
        kept_a: [F_A] features that may have partners; None for all. Constant ones never have.
        kept_b: [F_B] likewise.
        dtype: to compute in; None for float64.
        memory: bytes for a tile of products; the standardised activations come on top.

    Raises:
        InputError: other shapes, different words or devices, or values that are not finite.
    """
    import torch

    left, right = torch.as_tensor(x_a), torch.as_tensor(x_b)
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right):
        raise InputError(
            f"Activations came with shapes {tuple(left.shape)} and {tuple(right.shape)}; expected were two "
            "matrices with one row for each word, the same words in both."
        )
    if left.device != right.device:
        raise InputError(
            f"Activations of a came on {left.device}, those of b on {right.device}. Put both on one device."
        )
    standard_a, names_a = _standardise(left, kept_a, dtype or torch.float64, "a")
    standard_b, names_b = _standardise(right, kept_b, dtype or torch.float64, "b")
    features = (left.shape[1], right.shape[1])
    return DenseFeatures(standard_a, standard_b, names_a, names_b, features, absolute, memory)


def find_partners_dense(
    x_a: "torch.Tensor | NDArray[np.floating]",
    x_b: "torch.Tensor | NDArray[np.floating]",
    *,
    top_k: int = 10,
    absolute: bool,
    floor: float = 0.0,
    kept_a: NDArray[np.bool_] | None = None,
    kept_b: NDArray[np.bool_] | None = None,
    dtype: "torch.dtype | None" = None,
    memory: int = 1 << 30,
) -> tuple[Partners, Partners]:
    """The best partners of dense features of both models, by Pearson's r over words.

    Lists are in order of r, or of |r| where `absolute` (r keeps its sign), at equal scores of the partner's
    number. Products come from the device's BLAS, so their last bits may depend on it and on `memory`.

    Args:
        x_a: [W, F_A] activations of the words.
        x_b: [W, F_B] of the same words, on the same device.
        top_k: length of the lists.
        absolute: whether pairs go by |r|, for features whose sign is arbitrary.
        floor: only pairs whose score is above it.
        kept_a: [F_A] features that may have partners; None for all. Constant ones never have.
        kept_b: [F_B] likewise.
        dtype: to compute in; None for float64.
        memory: bytes for a tile of products; the standardised activations come on top.

    Returns:
        partners of A's features, and of B's.

    Raises:
        InputError: other shapes, different words or devices, values that are not finite, or lists that
            cannot be made.
    """
    check_lists(top_k, floor)
    prepared = prepare_dense(
        x_a, x_b, absolute=absolute, kept_a=kept_a, kept_b=kept_b, dtype=dtype, memory=memory
    )
    return prepared.find_partners(top_k, floor)


def _standardise(
    x: "torch.Tensor", kept: NDArray[np.bool_] | None, dtype: "torch.dtype", side: str
) -> tuple["torch.Tensor", NDArray[np.int32]]:
    """Features of mean 0 and norm 1, without those that are constant or not kept, and their numbers."""
    import torch

    if kept is not None and (kept.shape != (x.shape[1],) or kept.dtype != np.bool_):
        raise InputError(
            f"The features to keep came as {kept.dtype} of shape {kept.shape}; expected was one truth value "
            f"for each of {x.shape[1]} features of {side}. Give a bool array of that length."
        )
    wanted = torch.arange(x.shape[1]) if kept is None else torch.from_numpy(np.flatnonzero(kept))
    found = torch.empty((len(x), len(wanted)), dtype=dtype, device=x.device)
    names: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    count = 0
    step = max(1, BLOCK_BYTES // (found.element_size() * max(1, len(x))))
    for first in range(0, x.shape[1], step):
        block = x[:, first : first + step]
        if not torch.isfinite(block).all():
            raise InputError(
                f"Activations of {side} hold values that are infinite or not a number. Leave such words out."
            )
        own = wanted[(wanted >= first) & (wanted < first + step)]
        columns, usable = _standardise_block(block[:, (own - first).to(x.device)], dtype)
        found[:, count : count + columns.shape[1]] = columns
        count += columns.shape[1]
        names.append(own[usable.cpu()].numpy().astype(np.int32))
    return found[:, :count], np.concatenate(names)


def _standardise_block(x: "torch.Tensor", dtype: "torch.dtype") -> tuple["torch.Tensor", "torch.Tensor"]:
    """The usable columns of a block, of mean 0 and norm 1, and which ones they are.

    The block is overwritten where it is of that type already.
    """
    import torch

    wide = x.to(dtype)
    total = wide.square().sum(dim=0)
    if len(wide):
        wide -= wide.mean(dim=0)
    norms = wide.square().sum(dim=0)
    usable = norms > max(LEAST_VARIANCE, len(x) * torch.finfo(dtype).eps ** 2) * total
    wide = wide if bool(usable.all()) else wide[:, usable]
    wide /= norms[usable].sqrt()
    return wide, usable


def _start(like: "torch.Tensor", count: int, top_k: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Empty lists: r of 0, which is above no floor, and places -1."""
    import torch

    r = torch.zeros((count, top_k), dtype=like.dtype, device=like.device)
    return r, torch.full((count, top_k), -1, dtype=torch.int64, device=like.device)


def _update(
    lists: tuple["torch.Tensor", "torch.Tensor"],
    first: int,
    tile: "torch.Tensor",
    offset: int,
    absolute: bool,
) -> None:
    """Put the best of a tile's rows into their lists, which hold only places before `offset`."""
    import torch

    r, places = lists
    part = slice(first, first + len(tile))
    _, where = _choose(tile.abs() if absolute else tile, r.shape[1])
    all_r = torch.cat([r[part], tile.gather(1, where).clamp(-1, 1)], dim=1)
    all_places = torch.cat([places[part], where + offset], dim=1)
    scores = all_r.abs() if absolute else all_r
    # Empty places last; a stable sort then leaves equal scores in order of their places.
    scores = scores.masked_fill(all_places < 0, -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, : r.shape[1]]
    r[part], places[part] = all_r.gather(1, order), all_places.gather(1, order)


def _choose(scores: "torch.Tensor", top_k: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The best of every row and their places; at equal scores the lower place first, as topk does not say."""
    top_k = min(top_k, scores.shape[1])
    best, where = scores.topk(top_k, dim=1)
    tied = ((scores >= best[:, -1:]).sum(dim=1) > top_k).nonzero()[:, 0]
    if len(tied):
        ordered = scores[tied].sort(dim=1, descending=True, stable=True)
        best[tied], where[tied] = ordered.values[:, :top_k], ordered.indices[:, :top_k]
    order = where.argsort(dim=1)
    best, where = best.gather(1, order), where.gather(1, order)
    order = best.sort(dim=1, descending=True, stable=True).indices
    return best.gather(1, order), where.gather(1, order)
