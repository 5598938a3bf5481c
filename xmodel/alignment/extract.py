"""One model, one shard: windows through the model once, rows through its dictionaries, words out.

Nothing here keeps a dense matrix of all words: a batch's activations are encoded in slices of bounded
size, pooled, and kept as sparse rows only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.batches import Batch, WindowPlan, find_windows, make_batches
from xmodel.alignment.pooling import keep_entries, pool_rows, take_groups
from xmodel.alignment.rows import spread_ranges
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.tokenizer import Tokenizer
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel
from xmodel.models.saes import FeatureDictionary
from xmodel.records import Members, WordFeatures

if TYPE_CHECKING:
    import torch

SLICE_BYTES = 1 << 26
"""Most bytes of encoded activations that are dense at one time."""
EXCLUDED_FIRST, EXCLUDED_MASSIVE, EXCLUDED_OVERSIZED = 1, 2, 3
"""Why a token stands for no word: a first position, a massive activation, in no window. 0: it does."""


@dataclass(frozen=True, eq=False)
class Side:
    """One model with its dictionary, ready to run; and more dictionaries that read the same pass."""

    letter: str
    """``a`` or ``b``; with a number after it for the dictionaries in `others`: ``a1``, ``a2``, ..."""
    model: LanguageModel
    dictionary: FeatureDictionary
    tokenizer: Tokenizer
    site: str
    """Where activations are read."""
    prefix: tuple[int, ...]
    """Ids before every window: BOS, or nothing."""
    limit: int
    """Most tokens of a window, the prefix not counted."""
    ceiling: float = float("inf")
    """Tokens of a larger norm are massive and stand for no word."""
    unfitted: str | None = None
    """The source of principal components that are still to be fitted; `dictionary` stands in till then."""
    others: "tuple[Side, ...]" = ()
    """More dictionaries of the same model, with the same tokenizer, prefix and limit."""

    @property
    def dictionaries(self) -> "tuple[Side, ...]":
        """The side itself, and its others."""
        return (self, *self.others)


@dataclass
class Clock:
    """Seconds spent per stage. On a GPU a stage ends when the device is done with it."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str, device: "torch.device | None" = None) -> Iterator[None]:
        """Add the time of a block to a stage."""
        begin = perf_counter()
        try:
            yield
            if device is not None and device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - begin


@dataclass(frozen=True, eq=False)
class SideWords:
    """What one model makes of a shard's units."""

    present: NDArray[np.bool_]
    """[G] whether any token of the unit remained."""
    features: WordFeatures
    """[G] rows; empty where the unit is not present."""
    excluded: NDArray[np.uint8]
    """[N] why a token stands for no word, 0 where it does. A token that is massive under one of the side's
    dictionaries is so under all of them, so that they share their words."""
    others: tuple[WordFeatures, ...] = ()
    """[G] rows of the side's other dictionaries, in their order."""


def read_batches(
    side: Side, plan: WindowPlan, number: int, ids: NDArray[np.int64], sites: Sequence[str], batch_tokens: int
) -> Iterator[tuple[Batch, dict[str, "torch.Tensor"]]]:
    """Run a model over a shard's windows, and yield each batch with [R, d] rows of its tokens per site."""
    import torch

    device = side.model.device
    for batch in make_batches(plan, number, ids, side.prefix, batch_tokens):
        captured = capture(
            side.model,
            torch.from_numpy(batch.ids).to(device),
            torch.from_numpy(batch.mask).to(device),
            sites,
        )
        slots = torch.from_numpy(batch.slots).to(device)
        yield batch, {site: rows.flatten(0, 1)[slots] for site, rows in captured.items()}


def extract_words(
    side: Side,
    plan: WindowPlan,
    number: int,
    ids: NDArray[np.int64],
    members: Members,
    solid_bytes: NDArray[np.int64],
    settings: PassSettings,
    clock: Clock,
    names: Sequence[str],
) -> SideWords:
    """The features of all units of a shard under one model: one forward pass for all its dictionaries.

    Args:
        side: the model, its dictionaries and their sites.
        plan: the shard's windows.
        number: the model's number in `plan`.
        ids: [N] the shard's ids under this model.
        members: [G] which tokens belong to which unit.
        solid_bytes: [N] non-whitespace bytes of each token.
        settings: pooling, exclusion, batch size.
        clock: gets the seconds of `forward` and `encode`.
        names: the shard's documents, for messages.

    Raises:
        InputError: for activations that are not finite, with the site and the document.
    """
    window_of = find_windows(plan, number, len(ids))
    units = np.flatnonzero(members.indptr[1:] > members.indptr[:-1])
    unit_windows = window_of[members.tokens[members.indptr[units]]]
    units, unit_windows = units[unit_windows >= 0], unit_windows[unit_windows >= 0]
    bounds = np.searchsorted(unit_windows, np.arange(len(plan.document) + 1))

    excluded = np.where(window_of < 0, np.uint8(EXCLUDED_OVERSIZED), np.uint8(0))
    slot_of = np.zeros(len(ids), dtype=np.int64)
    pieces = [_Pieces() for _ in side.dictionaries]
    stage = f"forward_{side.letter}"
    sites = list(dict.fromkeys(one.site for one in side.dictionaries))
    batches = read_batches(side, plan, number, ids, sites, settings.batch_tokens)
    while True:
        with clock.measure(stage, side.model.device):
            found = next(batches, None)
        if found is None:
            break
        batch, rows = found
        with clock.measure(f"encode_{side.letter}", side.model.device):
            _judge_tokens(side, rows, batch, plan, excluded, settings, names)
            slot_of[batch.tokens] = np.arange(len(batch.tokens))
            own = np.concatenate([units[bounds[w] : bounds[w + 1]] for w in batch.windows])
            chosen = take_groups(members, own)
            kept = keep_entries(chosen, excluded[chosen.tokens] == 0, settings.pool)
            filled = kept.indptr[1:] > kept.indptr[:-1]
            packed = Members(
                np.concatenate([[0], kept.indptr[1:][filled]]).astype(np.int64), kept.tokens, kept.weights
            )
            for one, found in zip(side.dictionaries, pieces, strict=True):
                x = rows[one.site]
                found.units.append(own[filled])
                for low, high in _slice_units(packed, one.dictionary.info.features):
                    part = take_groups(packed, np.arange(low, high))
                    bytes_of = solid_bytes[part.tokens]
                    found.add(_encode(one, x, slot_of[part.tokens], part, bytes_of, settings))
    assembled = [
        found.assemble(len(members.indptr) - 1, one.dictionary.info.features)
        for one, found in zip(side.dictionaries, pieces, strict=True)
    ]
    present, first = assembled[0]
    return SideWords(present, first, excluded, tuple(features for _, features in assembled[1:]))


def _judge_tokens(
    side: Side,
    rows: "dict[str, torch.Tensor]",
    batch: Batch,
    plan: WindowPlan,
    excluded: NDArray[np.uint8],
    settings: PassSettings,
    names: Sequence[str],
) -> None:
    """Mark the tokens of a batch that stand for no word under any of a side's dictionaries."""
    for site, x in rows.items():
        reading = [one for one in side.dictionaries if one.site == site]
        norms = measure_norms(x)
        check_finite(reading[0], norms, batch, plan, names)
        excluded[batch.tokens[norms > min(one.ceiling for one in reading)]] = EXCLUDED_MASSIVE
    excluded[batch.tokens[batch.positions < settings.skip_positions]] = EXCLUDED_FIRST


def check_finite(
    side: Side, norms: NDArray[np.float32], batch: Batch, plan: WindowPlan, names: Sequence[str]
) -> None:
    """Refuse a batch with activations that are not finite.

    Args:
        side: the model and its site.
        norms: [R] norms of the batch's tokens.
        batch: the batch.
        plan: the windows that it is made of.
        names: the shard's documents.

    Raises:
        InputError: naming the site, the document and the position of the first such token.
    """
    if np.isfinite(norms).all():
        return
    token = int(np.flatnonzero(~np.isfinite(norms))[0])
    row = int(np.searchsorted(np.cumsum(batch.mask.sum(1) - len(side.prefix)), token, "right"))
    raise InputError(
        f"{side.model.name} has activations that are not finite at {side.site} in document "
        f"{names[int(plan.document[batch.windows[row]])]!r}, position {int(batch.positions[token])} of its "
        "window: with --dtype float32 (or bfloat16 in place of float16) they may be finite; else the weights "
        "are damaged."
    )


def measure_norms(x: "torch.Tensor") -> NDArray[np.float32]:
    """[n] Euclidean norms of rows, in float32; not finite where a row is not."""
    import torch

    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float32).cpu().numpy()


def _slice_units(members: Members, features: int) -> Iterator[tuple[int, int]]:
    """Ranges of units whose entries, encoded, fit the budget."""
    most = max(1, SLICE_BYTES // (4 * features))
    low, count = 0, len(members.indptr) - 1
    while low < count:
        high = int(np.searchsorted(members.indptr, members.indptr[low] + most, side="right")) - 1
        high = min(max(high, low + 1), count)
        yield low, high
        low = high


def _encode(
    side: Side,
    x: "torch.Tensor",
    rows: NDArray[np.int64],
    members: Members,
    bytes_of: NDArray[np.int64],
    settings: PassSettings,
) -> "torch.Tensor":
    """[G, F] features of some units."""
    import torch

    with torch.inference_mode():
        own = x[torch.from_numpy(rows).to(x.device)].to(side.dictionary.dtype)
        if settings.pool_before_encoding:
            return side.dictionary.encode(pool_rows(own, members, bytes_of, settings.pool, True))
        signed = side.dictionary.info.signed
        return pool_rows(side.dictionary.encode(own), members, bytes_of, settings.pool, signed)


class _Pieces:
    """Sparse rows as they come, put in the order of units at the end."""

    def __init__(self) -> None:
        self.units: list[NDArray[np.int64]] = []
        self.counts: list[NDArray[np.int64]] = []
        self.indices: list[NDArray[np.int32]] = []
        self.values: list[NDArray[np.float32]] = []

    def add(self, dense: "torch.Tensor") -> None:
        import torch

        dense = dense.to(torch.float32).contiguous()
        if dense.device.type == "cpu":
            # NumPy finds the few places that are not 0 seven times as fast as PyTorch does.
            flat = dense.numpy().reshape(-1)
            places = np.flatnonzero(flat != 0)
            values = flat[places]
        else:
            found = dense.flatten().nonzero().flatten()
            places, values = found.cpu().numpy(), dense.flatten()[found].cpu().numpy()
        row_ends = np.arange(len(dense) + 1) * dense.shape[1]
        self.counts.append(np.diff(np.searchsorted(places, row_ends)))
        self.indices.append((places % dense.shape[1]).astype(np.int32))
        self.values.append(values)

    def assemble(self, units: int, features: int) -> tuple[NDArray[np.bool_], WordFeatures]:
        """[units] which are present, and their rows."""
        present = np.zeros(units, dtype=np.bool_)
        own = np.concatenate(self.units) if self.units else np.zeros(0, np.int64)
        present[own] = True
        counts = np.concatenate(self.counts) if self.counts else np.zeros(0, np.int64)
        sizes = np.zeros(units, dtype=np.int64)
        sizes[own] = counts
        came = np.concatenate([[0], np.cumsum(counts)])
        begins = np.zeros(units, dtype=np.int64)
        begins[own] = came[:-1]
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        order = spread_ranges(begins, sizes)
        indices = np.concatenate(self.indices)[order] if self.indices else np.zeros(0, np.int32)
        values = np.concatenate(self.values)[order] if self.values else np.zeros(0, np.float32)
        return present, WordFeatures(indptr, indices, values, features)
