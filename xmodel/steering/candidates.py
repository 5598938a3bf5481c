"""The features that are pushed: pairs, and those that they are compared with.

A push that finds its partner must be told from one that finds anything alike: so there are live features of
the same frequency and norm, and hard pairs, which fire together as much as a pair does and are none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.correlation import correlate_pairs
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.pair_table import RULES
from xmodel.pairing.results import Run
from xmodel.similarity.decoders import load_decoder
from xmodel.similarity.material import Material
from xmodel.similarity.repairing import Matches, keep_one_per_feature
from xmodel.steering.correlated import Neighbours, find_neighbours
from xmodel.steering.readouts import LEAST_PAIRS

NAMED = "named"
"""In place of a rule: the pairs were named by the user."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """F pairs to be steered."""

    a: NDArray[np.int32]
    """[F] A's features."""
    b: NDArray[np.int32]
    """[F] B's."""
    r: NDArray[np.float64]
    """[F] Pearson's r on the discovery half; not a number where a feature is constant there."""
    r_heldout: NDArray[np.float64]
    """[F] on the held-out half, likewise."""
    sign: NDArray[np.float64]
    """[F] -1 where features are signed and r is negative, so that B is to be pushed the other way; else 1."""
    rule: str
    """The rule of pairing, or `NAMED`."""

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True, eq=False)
class HardPairs:
    """H pairs of features that are not partners, and correlate as a steered pair does."""

    pair: NDArray[np.int64]
    """[H] the number of the steered pair that each belongs to, ascending."""
    a: NDArray[np.int32]
    """[H] A's features."""
    b: NDArray[np.int32]
    """[H] B's."""
    r: NDArray[np.float64]
    """[H] Pearson's r on the discovery half."""
    sign: NDArray[np.float64]
    """[H] as `Pairs.sign`."""
    kind: tuple[str, ...]
    """[H] ``same a`` or ``same b`` where that feature is the steered pair's own, else ``other``."""
    matched: float
    """Share of the steered pairs that have one, from 0 to 1."""
    next_best: NDArray[np.int32]
    """[F] the feature of B with the greatest r to each pair's A feature, its partner left out; -1 where none
    has an r above 0."""
    next_best_sign: NDArray[np.float64]
    """[F] as `Pairs.sign`; 1 where there is none."""

    def __len__(self) -> int:
        return len(self.a)


def choose_pairs(
    run: Run, *, rule: str = "mutual", count: int = 100, features: Sequence[tuple[int, int]] = ()
) -> Pairs:
    """Choose the pairs to steer: those of a rule with the greatest r, or those that are named.

    Args:
        run: a finished run.
        rule: of pairing, see `xmodel.pairing.pair_table.RULES`. Of pairs that share a feature, only the one
            with the greatest r is taken.
        count: most pairs; not for named ones.
        features: pairs of A's and B's features, in place of the rule's. They need be no pairs of the run,
            and may share features: tests over pairs then take one pair per feature.

    Returns:
        The pairs: the rule's by r falling (|r| where features are signed), named ones as they came.

    Raises:
        InputError: for an unknown rule, a count below 3, fewer than 3 pairs under the rule, and for named
            features that do not exist, never fire on the run's words, or came twice as the same pair.
    """
    material = Material(run)
    if features:
        a, b = (np.array([pair[side] for pair in features], dtype=np.int64) for side in (0, 1))
        _check_named(run, a, b)
        a, b, rule = a.astype(np.int32), b.astype(np.int32), NAMED
    else:
        a, b = _read_best(run, rule, count)
    shards = run.shards
    heldout = shards.select(material.choice.heldout)
    r, _ = correlate_pairs(shards.select(material.choice.discovery), *material.moments, a, b)
    r_heldout, _ = correlate_pairs(heldout, *measure_moments(heldout, *shards.features), a, b)
    return Pairs(a, b, r, r_heldout, _find_signs(material, r), rule)


def choose_live(
    run: Run,
    features_b: NDArray[np.int32],
    count: int,
    seed: int,
    *,
    norms: NDArray[np.floating] | None = None,
) -> NDArray[np.int32]:
    """Choose live features of B that are in no steered pair and resemble those that are.

    The pairs take turns, in random order; each takes the feature, not taken yet, that is nearest to its own
    in log firing rate and log decoder norm, either divided by its standard deviation over all live features.

    Args:
        run: a finished run.
        features_b: [F] B's features in the steered pairs.
        count: how many; fewer where fewer are alive.
        seed: of the order.
        norms: [F_B] lengths of B's decoder vectors; None loads the dictionary.

    Returns:
        [L] features that fire on some word of the run, in the order in which they were taken.

    Raises:
        InputError: for a negative count, no or unknown features, or a dictionary that cannot be loaded.
    """
    firings = _count_firings(run)[1]
    if count < 0 or not len(features_b):
        raise InputError(
            f"{count} live features were asked for, to resemble {len(features_b)} of B's: expected were 0 or "
            "more, and at least one to resemble."
        )
    _check_range("b", features_b.astype(np.int64), len(firings))
    lengths = np.linalg.norm(load_decoder(run, run.manifest, "b"), axis=1) if norms is None else norms
    alive = np.flatnonzero(firings > 0)
    traits = np.stack([np.log(np.maximum(firings, 1)), np.log(np.maximum(lengths, 1e-12))], axis=1)
    spread = traits[alive].std(axis=0) if len(alive) else np.ones(2)
    # Norms that are all 1 but for rounding say nothing.
    traits = traits / np.where(spread > 1e-6, spread, np.inf)
    free = np.setdiff1d(alive, features_b)
    taken: list[int] = []
    order = np.random.default_rng(seed).permutation(len(features_b))
    for turn in range(min(count, len(free))):
        own = traits[features_b[order[turn % len(order)]]]
        nearest = int(((traits[free] - own) ** 2).sum(axis=1).argmin())
        taken.append(int(free[nearest]))
        free = np.delete(free, nearest)
    return np.array(taken, dtype=np.int32)


def choose_hard_pairs(run: Run, pairs: Pairs, *, tolerance: float = 0.05, seed: int = 0) -> HardPairs:
    """Choose for every steered pair (f, g) two features that are no pair and have nearly its r.

    Tried in this order: (f, g') with another feature g' of B; (f', g) with another feature f' of A; any two
    features. Each time the one with the nearest r that no other steered pair has taken. Features are no pair
    if they are none of the steered pairs, none under the rule in use and not each other's best partners; two
    features that are neither f nor g are no pair under any rule. Only features that passed the filters of
    pairing serve.

    Args:
        run: the run of the pairs.
        pairs: the steered pairs.
        tolerance: how far r may be from the pair's; |r| where features are signed.
        seed: of the order in which pairs take theirs.

    Raises:
        InputError: for a tolerance that is not between 0 and 1, and if the run has no pairs to compare with.
    """
    if not 0 <= tolerance <= 1:
        raise InputError(f"the tolerance of r came as {tolerance}; expected was 0 to 1, for instance 0.05.")
    material = Material(run)
    of_a = find_neighbours(material, "a", pairs.a, pairs.b, pairs.r, tolerance)
    of_b = find_neighbours(material, "b", pairs.b, pairs.a, pairs.r, tolerance)
    taken = _take_turns(material, pairs, tolerance, of_a, of_b, seed)
    numbers = np.array(sorted(taken), dtype=np.int64)
    a, b = (np.array([taken[int(one)][side] for one in numbers], dtype=np.int32) for side in (0, 1))
    discovery = run.shards.select(material.choice.discovery)
    there = np.flatnonzero(of_a.best >= 0)
    r, _ = correlate_pairs(
        discovery,
        *material.moments,
        np.concatenate([a, pairs.a[there]]),
        np.concatenate([b, of_a.best[there]]),
    )
    signs = _find_signs(material, r)
    next_best_sign = np.ones(len(pairs))
    next_best_sign[there] = signs[len(a) :]
    return HardPairs(
        pair=numbers,
        a=a,
        b=b,
        r=r[: len(a)],
        sign=signs[: len(a)],
        kind=tuple(taken[int(one)][2] for one in numbers),
        matched=len(numbers) / len(pairs) if len(pairs) else 0.0,
        next_best=of_a.best,
        next_best_sign=next_best_sign,
    )


def _check_named(run: Run, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
    firings = _count_firings(run)
    for letter, own, counts in zip("ab", (a, b), firings, strict=True):
        _check_range(letter, own, len(counts))
        dead = own[counts[own] == 0]
        if len(dead):
            raise InputError(
                f"feature {dead[0]} of {letter} never fires on the words of {run.path}: what it stands for "
                "cannot be seen there. Choose another, for instance from `xmodel features`."
            )
    named = list(zip(a.tolist(), b.tolist(), strict=True))
    twice = [pair for place, pair in enumerate(named) if pair in named[:place]]
    if twice:
        raise InputError(f"the pair {twice[0][0]}:{twice[0][1]} was named twice: name it once.")


def _check_range(letter: str, features: NDArray[np.int64], count: int) -> None:
    unknown = features[(features < 0) | (features >= count)]
    if len(unknown):
        raise InputError(f"feature {unknown[0]} of {letter} was asked for: there are 0 to {count - 1:,}.")


def _read_best(run: Run, rule: str, count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A rule's best pairs, with no feature in two of them."""
    if rule not in RULES:
        raise InputError(f"the rule of pairing {rule!r} is not known: choose {', '.join(RULES)}.")
    if count < LEAST_PAIRS:
        raise InputError(
            f"{count} pairs were asked for, and a comparison among them needs at least {LEAST_PAIRS}; name "
            "single pairs with --features."
        )
    if (run.path / "sweep.json").is_file() and not (run.path / "pairs.parquet").is_file():
        raise InputError(
            f"{run.path} holds a sweep, which has no pairs to steer: run `xmodel align` on the two SAEs of "
            "one of its cells, and steer that run."
        )
    table = run.pairs
    own = table.filter(table[rule])
    a, b = (own[f"feature_{letter}"].to_numpy().astype(np.int32) for letter in "ab")
    best = keep_one_per_feature(Matches(a, b, own["r"].to_numpy()))
    if len(best) < LEAST_PAIRS:
        raise InputError(
            f"{run.path} has {len(best)} pairs under the rule {rule} that share no feature, and steering "
            f"needs at least {LEAST_PAIRS}: use a longer corpus, or pair again with a lower --floor or "
            "--min-firings."
        )
    return best.a[:count], best.b[:count]


def _find_signs(material: Material, r: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(material.signed & (r < 0), -1.0, 1.0)


def _count_firings(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[F_A] and [F_B] words of the run on which each feature fires."""
    first, second = (np.zeros(count, dtype=np.int64) for count in run.shards.features)
    for number in range(len(run.shards)):
        for letter, counts in zip("ab", (first, second), strict=True):
            counts += np.bincount(run.shards.load(letter, number).indices, minlength=len(counts))
    return first, second


def _take_turns(
    material: Material, pairs: Pairs, tolerance: float, of_a: Neighbours, of_b: Neighbours, seed: int
) -> dict[int, tuple[int, int, str]]:
    """The hard pair of every steered pair that has one: two features, and of which kind it is."""
    table = material.run.pairs
    a, b, r = (table[name].to_numpy() for name in ("feature_a", "feature_b", "r"))
    rules = {rule: table[rule].to_numpy(zero_copy_only=False).astype(np.bool_) for rule in RULES}
    partnered = rules["mutual"] | rules.get(pairs.rule, False)
    used = {*zip(a[partnered].tolist(), b[partnered].tolist(), strict=True)}
    used |= {*zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)}
    free = ~np.any(list(rules.values()), axis=0)
    strengths, targets = (np.abs(own) if material.signed else own for own in (r, pairs.r))
    taken: dict[int, tuple[int, int, str]] = {}
    for pair in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        f, g = int(pairs.a[pair]), int(pairs.b[pair])
        choices = [(f, other, "same a") for other in of_a.features[pair].tolist()]
        choices += [(other, g, "same b") for other in of_b.features[pair].tolist()]
        found = next((one for one in choices if -1 not in one and one[:2] not in used), None)
        if found is None:
            distances = np.abs(strengths - targets[pair])
            near = np.flatnonzero(free & (a != f) & (b != g) & (distances <= tolerance))
            order = near[np.argsort(distances[near], kind="stable")].tolist()
            found = next(
                (
                    (int(a[row]), int(b[row]), "other")
                    for row in order
                    if (int(a[row]), int(b[row])) not in used
                ),
                None,
            )
        if found is not None:
            used.add(found[:2])
            taken[pair] = found
    return taken
