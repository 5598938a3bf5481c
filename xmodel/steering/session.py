"""A steering run made ready: models, passages, words, and the directions that will be pushed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.extract import Side
from xmodel.errors import InputError
from xmodel.pairing.reloading import load_sides
from xmodel.pairing.results import Run
from xmodel.run import digest_json
from xmodel.steering.candidates import HardPairs, Pairs, choose_hard_pairs, choose_live, choose_pairs
from xmodel.steering.measuring import SteeredSide, prepare_side
from xmodel.steering.passages import Passages, SidePassages, choose_passages
from xmodel.steering.random_directions import draw_directions
from xmodel.steering.replaying import choose_reads
from xmodel.steering.settings import LEAST_WORDS, SteerSettings

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions that are pushed in one model: features first, then vectors of the user's."""

    features: NDArray[np.int32]
    """[n] number of the feature that each is of; -1 for a vector."""
    vectors: NDArray[np.float32]
    """[n, d] unit rows."""

    def __len__(self) -> int:
        return len(self.vectors)

    def find(self, features: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """[k] the row of each feature; -1 where it is none of them."""
        order = np.argsort(self.features, kind="stable")
        at = np.clip(np.searchsorted(self.features, features, sorter=order), 0, len(order) - 1)
        rows = order[at]
        return np.where((self.features[rows] == features) & (features >= 0), rows, -1)


@dataclass(frozen=True, eq=False)
class Session:
    """Everything that steering measures, before anything is measured."""

    run: Run
    settings: SteerSettings
    loaded: tuple[Side, Side]
    """Models and dictionaries."""
    passages: Passages
    kept: NDArray[np.int64]
    """[N] which of the passages' words are read."""
    reads: tuple[tuple[int, ...], tuple[int, ...]]
    """Of each side, the block after which each depth is read."""
    sides: tuple[SteeredSide, SteeredSide]
    """Clean passes."""
    pairs: Pairs
    """What is tested."""
    hard: HardPairs
    live: NDArray[np.int32]
    """[L] other live features of B."""
    directions: tuple[Directions, Directions]

    @property
    def sign(self) -> NDArray[np.float64]:
        """[F] -1 where the partner of a signed feature does the opposite."""
        return self.pairs.sign.astype(np.float64)

    @property
    def signed(self) -> bool:
        """Whether which way a feature points is arbitrary."""
        return any(one.dictionary.info.signed for one in self.loaded)

    @property
    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[F] rows of the pairs' features in A's and in B's directions."""
        first, second = self.directions
        return first.find(self.pairs.a), second.find(self.pairs.b)

    @property
    def words(self) -> int:
        """N, the words that are read."""
        return len(self.kept)

    @property
    def strata(self) -> NDArray[np.int64]:
        """[N] the passage of every word: words are permuted inside their passage."""
        return self.passages.passage[self.kept]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that measurements depend on but the settings of single stages."""
        settings, manifest = self.settings, self.run.manifest
        return digest_json(
            {
                "packages": manifest["packages"],
                "sides": [[one.model.digest, one.dictionary.info.digest, one.site] for one in self.loaded],
                "words": self.passages.word_ids[self.kept].tolist(),
                "ids": [own.ids.tolist() for own in (self.passages.a, self.passages.b)],
                "reads": self.reads,
                "doses": settings.doses,
                "mode": settings.mode,
                "device": settings.device,
                "dtype": settings.dtype,
                "directions": [one.features.tolist() for one in self.directions],
                "vectors": [one.vectors[one.features < 0].tolist() for one in self.directions],
                "pairs": [self.pairs.a.tolist(), self.pairs.b.tolist()],
            }
        )

    def draw_random(self) -> NDArray[np.float32]:
        """[R, d_B] random directions of B."""
        return draw_directions(
            self.settings.random, self.directions[1].vectors.shape[1], self.settings.seed + 1
        )

    def place(
        self,
        number: int,
        *,
        passages: Passages | None = None,
        blocks: "nn.ModuleList | None" = None,
        reads: Sequence[int] | None = None,
    ) -> SteeredSide:
        """One side again: over other passages of the same words, or with other later layers.

        Args:
            number: 0 for A, 1 for B.
            passages: other passages of the same words.
            blocks: layers in place of the model's own; see `prepare_side`.
            reads: other read-outs.
        """
        given = passages or self.passages
        own = _take_side(given, number)
        side = _prepare(self.loaded[number], own, reads or self.reads[number], self.settings, blocks)
        found = _keep(side, self.kept)
        # A dose means the same push whatever stands behind the site or before a passage.
        return replace(found, scale=self.sides[number].scale)


def open_session(run: Run, settings: SteerSettings) -> Session:
    """Load models and choose words, pairs and directions.

    Args:
        run: a finished run.
        settings: what is asked for.

    Raises:
        InputError: for a run without enough pairs or held-out words, a site at the last block or outside of
            the residual stream, a feature that never fires, or models that are not what they were.
    """
    pairs = choose_pairs(run, rule=settings.rule, count=settings.pairs, features=settings.features)
    hard = choose_hard_pairs(run, pairs, seed=settings.seed)
    if settings.mode == "ablate":
        # A feature that points the other way and fires with the other sign is taken out by the same change.
        pairs = replace(pairs, sign=np.ones(len(pairs)))
        hard = replace(hard, sign=np.ones(len(hard)), next_best_sign=np.ones(len(pairs)))
    asked = (pairs.a, pairs.b) if settings.mode == "ablate" else None
    passages = choose_passages(
        run, settings.words, passage_words=settings.passage_words, seed=settings.seed, features=asked
    )
    loaded = load_sides(run, device=settings.device, dtype=settings.dtype)
    norms = loaded[1].dictionary.decoder.detach().norm(dim=1).numpy(force=True)
    live = choose_live(run, pairs.b, settings.live, settings.seed, norms=norms)
    reads = tuple(choose_reads(one.model, one.site, settings.depths) for one in loaded)
    raw = tuple(
        _prepare(one, _take_side(passages, number), reads[number], settings)
        for number, one in enumerate(loaded)
    )
    kept = _choose_words(run, raw)
    sides = tuple(_keep(side, kept) for side in raw)
    directions = tuple(_list_directions(one, number, pairs, hard, live) for number, one in enumerate(loaded))
    return Session(
        run,
        settings,
        loaded,
        passages,
        kept,
        (reads[0], reads[1]),
        (sides[0], sides[1]),
        pairs,
        hard,
        live,
        (directions[0], directions[1]),
    )


def add_vectors(session: Session, vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Session:
    """A session with further directions after its features: [v, d_A] of A and [w, d_B] of B, unit rows."""
    first, second = (
        Directions(
            np.concatenate([own.features, np.full(len(more), -1, np.int32)]),
            np.concatenate([own.vectors, more.astype(np.float32)]),
        )
        for own, more in zip(session.directions, vectors, strict=True)
    )
    return replace(session, directions=(first, second))


def take_units(side: Side, features: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """[n, d] decoder rows of some features, of length 1.

    Raises:
        InputError: for a feature whose decoder row is zero.
    """
    import torch

    chosen = torch.from_numpy(np.asarray(features, np.int64)).to(side.dictionary.decoder.device)
    rows = side.dictionary.decoder.detach()[chosen].double()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        dead = int(features[int((norms[:, 0] == 0).nonzero()[0])])
        raise InputError(
            f"feature {dead} of {side.dictionary.info.name} has a decoder row of zeros, so there is no "
            "direction to push: choose another feature."
        )
    return (rows / norms).float().numpy(force=True)


def _prepare(
    side: Side,
    passages: SidePassages,
    reads: Sequence[int],
    settings: SteerSettings,
    blocks: "nn.ModuleList | None" = None,
) -> SteeredSide:
    return prepare_side(
        side.model,
        side.site,
        passages.ids,
        passages.mask,
        passages.rows,
        passages.columns,
        reads,
        budget=settings.budget,
        blocks=blocks,
        special=passages.special,
    )


def _take_side(passages: Passages, number: int) -> SidePassages:
    return passages.a if number == 0 else passages.b


def _keep(side: SteeredSide, kept: NDArray[np.int64]) -> SteeredSide:
    """A side that reads only some of its words."""
    import torch

    side = replace(side, rows=side.rows[kept], columns=side.columns[kept])
    norms = torch.linalg.vector_norm(side.take(side.replay.hidden), dim=-1, dtype=torch.float32)
    return replace(side, scale=float(norms.median()))


def _choose_words(run: Run, sides: Sequence[SteeredSide]) -> NDArray[np.int64]:
    """[N] words whose last token has no massive activation at the site, in either model.

    Passages begin elsewhere than the run's windows did, and what is massive depends on that.
    """
    import torch

    massive = run.manifest["arguments"]["settings"]["massive"]
    kept = np.ones(len(sides[0].rows), dtype=np.bool_)
    for side in sides:
        norms = torch.linalg.vector_norm(side.take(side.replay.hidden), dim=-1, dtype=torch.float32)
        if massive:
            kept &= (norms <= massive * norms.median()).numpy(force=True)
    if kept.sum() < LEAST_WORDS:
        raise InputError(
            f"{int(kept.sum())} held-out words are left to be read after those with massive activations, and "
            f"comparing Gram matrices needs at least {LEAST_WORDS}: use more --words or a longer corpus."
        )
    return np.flatnonzero(kept)


def _list_directions(
    side: Side, number: int, pairs: Pairs, hard: HardPairs, live: NDArray[np.int32]
) -> Directions:
    """Every feature that is pushed, once, pairs first."""
    others = [hard.a], [hard.b, hard.next_best[hard.next_best >= 0], live]
    asked = [(pairs.a, pairs.b)[number], *others[number]]
    features = np.array(list(dict.fromkeys(np.concatenate(asked).tolist())), dtype=np.int32)
    return Directions(features, take_units(side, features))
