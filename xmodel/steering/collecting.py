"""Push everything: A's directions, then B's against them, then random ones; each part kept on disk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.similarity.orders import draw_orders
from xmodel.steering.ablating import collect_ablations
from xmodel.steering.floors import measure_floor
from xmodel.steering.measuring import Responses, SteeredSide
from xmodel.steering.parts import keep_part
from xmodel.steering.reinitialising import reinitialise_blocks
from xmodel.steering.replaying import find_stream_block
from xmodel.steering.responses import correlate_responses, measure_norms, permute_words, take_words
from xmodel.steering.session import Session
from xmodel.steering.transfers import collect_responses, compare_responses

Report = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done, and the total where it is known."""
PART = 32
"""Directions of a part on disk: what a killed run loses at most."""
NOTHING = 1e-4
"""Share of a response that is rounding."""
MOST_BYTES = 1 << 32
"""Most bytes of A's responses, which are all held at the same time."""


@dataclass(frozen=True, eq=False)
class Collected:
    """Transfers of a session, and what its tests compare them with."""

    odd: NDArray[np.float32]
    """[C, n_A, n_B] T of the odd responses of A's with B's directions."""
    even: NDArray[np.float32]
    """[C, n_A, n_B] of the even responses."""
    random: NDArray[np.float32]
    """[C, n_A, R] odd, with random directions of B."""
    permuted: NDArray[np.float32]
    """[F, C, m] of each pair, B's words permuted inside their passages."""
    halves: NDArray[np.float32]
    """[2, C, F, F] of pairs with pairs, over either half of the passages."""
    norms_a: NDArray[np.float64]
    """[2, n_A, C] sizes of A's odd and even responses."""
    norms_b: NDArray[np.float64]
    """[2, n_B, C] sizes of B's."""


class Collector:
    """Measures a session part by part."""

    def __init__(self, session: Session, report: Report) -> None:
        self.session = session
        self.report = report
        self.fingerprint = session.fingerprint
        self._check_memory()

    @cached_property
    def first(self) -> Responses:
        """A's responses, all directions."""
        own = self.session.directions[0]
        parts = []
        for number, low, high in _cut(len(own)):
            self.report("push_a", low, len(own))
            parts.append(
                self.keep(f"push_a-{number:05d}", lambda low=low, high=high: self._push(0, slice(low, high)))
            )
        self.report("push_a", len(own), len(own))
        return Responses(*(np.concatenate([one[name] for one in parts]) for name in ("odd", "even")))

    def collect(self) -> Collected:
        """All that the tests of pairs need."""
        second = self.session.directions[1]
        _ = self.first  # A's are pushed before progress on B's is told.
        parts = []
        for number, low, high in _cut(len(second)):
            self.report("push_b", low, len(second))
            parts.append(
                self.keep(f"push_b-{number:05d}", lambda low=low, high=high: self._compare(slice(low, high)))
            )
        self.report("push_b", len(second), len(second))
        permuted, halves = self._gather_pairs(parts)
        return Collected(
            odd=np.concatenate([one["odd"] for one in parts], axis=2),
            even=np.concatenate([one["even"] for one in parts], axis=2),
            random=self._push_random(),
            permuted=permuted,
            halves=halves,
            norms_a=np.stack([measure_norms(self.first.odd), measure_norms(self.first.even)]),
            norms_b=np.concatenate([one["norms"] for one in parts], axis=1).astype(np.float64),
        )

    def reinitialise(self, draw: int) -> dict[str, NDArray]:
        """T where the layers after the site are random in both models.

        Of B only the features of pairs and hard pairs are pushed, the first n_B' of its directions.

        Args:
            draw: number of the draw.

        Returns:
            ``odd`` [C, n_A, n_B']; ``floor`` [2, C] what rounding makes of A's and B's odd responses, and
            ``size`` [2, C] the median size of those of the pairs.
        """
        session = self.session
        how, seed = session.settings.reinit_how, session.settings.seed
        name = f"reinit-{draw:05d}"

        def compute() -> dict[str, NDArray]:
            sides = [self.randomise(number, draw) for number in range(2)]
            wanted = self.count_compared()
            total = len(session.directions[0]) + wanted
            done = 0

            def tick(count: int) -> None:
                nonlocal done
                done += count
                self.report(f"reinit_{draw + 1}", done, total)

            first = self._respond(0, slice(None), sides[0], tick)
            second = self._respond(1, slice(0, wanted), sides[1], tick)
            sizes = [
                np.median(measure_norms(own.odd[rows]), axis=0)
                for own, rows in zip((first, second), session.rows, strict=True)
            ]
            floors = [self.measure_floor(number, side) for number, side in enumerate(sides)]
            odd = compare_responses(first, second).odd
            return {"odd": odd, "floor": np.stack(floors), "size": np.stack(sizes)}

        return self.keep(name, compute, how, seed, "floor")

    def measure_floor(self, number: int, side: SteeredSide | None = None) -> NDArray[np.float64]:
        """[C] what rounding makes of odd responses; 0 in ablations, which have no dose.

        Args:
            number: 0 for A, 1 for B.
            side: with other later layers; None for the model's own.
        """
        session = self.session
        settings = session.settings
        if settings.mode == "ablate":
            return np.zeros(len(settings.cells))
        vectors = session.directions[number].vectors[session.rows[number]]
        return measure_floor(side or session.sides[number], vectors, len(settings.doses))

    def randomise(self, number: int, draw: int, *, reads: Sequence[int] | None = None) -> SteeredSide:
        """One side with random layers after the site.

        Args:
            number: 0 for A, 1 for B.
            draw: number of the draw.
            reads: other read-outs than the session's.
        """
        loaded, settings = self.session.loaded[number], self.session.settings
        start = find_stream_block(loaded.model, loaded.site) + 1
        own = np.random.SeedSequence([settings.seed, 4, 2 * draw + number]).generate_state(1)
        blocks = reinitialise_blocks(loaded.model, start, int(own[0]), settings.reinit_how)
        return self.session.place(number, blocks=blocks, reads=reads)

    def count_compared(self) -> int:
        """How many of B's directions are features of pairs, hard pairs and next-best matches."""
        session = self.session
        wanted = np.concatenate([session.pairs.b, session.hard.b, session.hard.next_best])
        rows = session.directions[1].find(wanted)
        return int(rows.max()) + 1

    def draw_orders(self) -> NDArray[np.int64]:
        """[m, N] permutations of words inside their passages."""
        session = self.session
        rng = np.random.default_rng([session.settings.seed, 3])
        return draw_orders(session.words, session.settings.permutations, rng, strata=session.strata)

    def split_words(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Words of the earlier passages and of the later ones, cut where halves are nearest to equal.

        Where a half would have fewer than a third of the words the cut goes through a passage.
        """
        strata = self.session.strata
        cuts = np.flatnonzero(np.diff(strata)) + 1
        middle = len(strata) // 2
        cut = int(cuts[np.abs(cuts - middle).argmin()]) if len(cuts) else middle
        if min(cut, len(strata) - cut) < len(strata) // 3:
            cut = middle
        words = np.arange(len(strata))
        return words[:cut], words[cut:]

    def _push(self, number: int, chosen: slice) -> dict[str, NDArray]:
        own = self._respond(number, chosen, self.session.sides[number])
        return {"odd": own.odd, "even": own.even}

    def _respond(
        self, number: int, chosen: slice, side: SteeredSide, tick: Callable[[int], None] = lambda count: None
    ) -> Responses:
        directions, settings = self.session.directions[number], self.session.settings
        if settings.mode == "ablate":
            dictionary = self.session.loaded[number].dictionary
            return collect_ablations(side, dictionary, directions.features[chosen], tick=tick)
        return collect_responses(side, directions.vectors[chosen], settings.doses, tick=tick)

    def _compare(self, chosen: slice) -> dict[str, NDArray]:
        """One part of B's directions against all of A's; of partners also what each pair is tested with."""
        session = self.session
        own = self._respond(1, chosen, session.sides[1])
        found = compare_responses(self.first, own)
        arrays: dict[str, NDArray] = {
            "odd": found.odd,
            "even": found.even,
            "norms": np.stack([found.norms_odd, found.norms_even]),
        }
        rows_a, rows_b = session.rows
        places = np.arange(len(session.directions[1]))[chosen]
        inside = np.flatnonzero(np.isin(rows_b, places))
        local = rows_b[inside] - (chosen.start or 0)
        cells = range(own.odd.shape[1])
        orders = self.draw_orders()
        arrays["pairs"] = inside
        arrays["permuted"] = permute_words(self.first.odd[rows_a[inside]], own.odd[local], orders).astype(
            np.float32
        )
        arrays["halves"] = np.array(
            [
                [
                    correlate_responses(
                        _take_half(self.first.odd[rows_a, c], half), _take_half(own.odd[local, c], half)
                    )
                    for c in cells
                ]
                for half in self.split_words()
            ],
            dtype=np.float32,
        )
        return arrays

    def _gather_pairs(
        self, parts: Sequence[dict[str, NDArray]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        order = np.argsort(np.concatenate([one["pairs"] for one in parts]))
        permuted = np.concatenate([one["permuted"] for one in parts])[order]
        halves = np.concatenate([one["halves"] for one in parts], axis=3)[..., order]
        return permuted, halves

    def _push_random(self) -> NDArray[np.float32]:
        session = self.session
        count = session.settings.random if session.settings.mode == "push" else 0
        cells = self.first.odd.shape[1]
        if count == 0:
            return np.zeros((cells, len(self.first), 0), np.float32)
        directions, parts = session.draw_random(), []
        for number, low, high in _cut(count):
            self.report("random", low, count)

            def compute(low: int = low, high: int = high) -> dict[str, NDArray]:
                own = collect_responses(session.sides[1], directions[low:high], session.settings.doses)
                return {"odd": compare_responses(self.first, own).odd}

            parts.append(self.keep(f"random-{number:05d}", compute, low, high)["odd"])
        self.report("random", count, count)
        return np.concatenate(parts, axis=2)

    def keep(self, name: str, compute: Callable[[], dict[str, NDArray]], *more: object) -> dict[str, NDArray]:
        """`keep_part` of this session; `more` is what the part depends on besides the session."""
        settings = self.session.settings
        extra = (settings.permutations, settings.seed, *more)
        return keep_part(self.session.run.folder, name, f"{self.fingerprint} {extra}", compute)

    def _check_memory(self) -> None:
        session = self.session
        words, directions = session.words, len(session.directions[0])
        cells = len(session.settings.cells)
        need = directions * cells * words * (words - 1) // 2 * 4 * 2
        if need > MOST_BYTES:
            raise InputError(
                f"{directions} directions of A over {words} words in {cells} cells of dose and depth need "
                f"{need / 1e9:.1f} GB, and at most {MOST_BYTES / 1e9:.1f} GB are held: ask for fewer "
                "--words (the need grows with their square), pairs, doses or depths."
            )


def _take_half(packed: NDArray[np.float32], half: NDArray[np.int64]) -> NDArray[np.float32]:
    """Responses over half of the words; 0 where that half has none of it, as where an ablated feature does
    not fire: what is left then is rounding, and its direction is anybody's."""
    taken = take_words(packed, half)
    empty = measure_norms(taken) <= NOTHING * measure_norms(packed)
    return np.where(empty[..., None], np.float32(0), taken)


def _cut(count: int) -> Iterator[tuple[int, int, int]]:
    for number, low in enumerate(range(0, count, PART)):
        yield number, low, min(count, low + PART)
