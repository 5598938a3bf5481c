"""How a feature splits: its children in a wider SAE of the same site, and whether its partner splits alike.

A feature's children are those of the wider SAE whose best match among the narrower SAE's features it is, by
r over words. Whether the partner in the other model splits the same way is told from the children's r on
words that had no part in finding them, against children of other features that fire about as often.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.rows import take_rows
from xmodel.errors import InputError
from xmodel.pairing.settings import PairSettings
from xmodel.records import WordFeatures
from xmodel.similarity.heldout import correlate_all
from xmodel.similarity.layers import Layer
from xmodel.similarity.nulls import cut_strata
from xmodel.similarity.pvalues import count_p
from xmodel.similarity.repairing import Repairer

FLOOR = 0.3
"""Least r of a child with its parent."""
DRAWS = 999
"""Random children that the matched ones are compared with."""
STRATA = 10
"""Strata of frequency that random children are drawn from."""


@dataclass(frozen=True, eq=False)
class Widths:
    """Two dictionaries of one site of one model, and who is whose child."""

    narrow: Layer
    wide: Layer
    parent: NDArray[np.int32]
    """[F] of the wider: the feature of the narrower that each matches best, -1 below the floor."""
    r: NDArray[np.float64]
    """[F] its r with that parent, discovery half; NaN where there is none."""
    strata: NDArray[np.int64]
    """[F] by how often each fires."""

    def list_children(self, feature: int) -> NDArray[np.int32]:
        """A feature's children, ascending."""
        return np.flatnonzero(self.parent == feature).astype(np.int32)


def compare_widths(narrow: Layer, wide: Layer, pairing: PairSettings, floor: float = FLOOR) -> Widths:
    """Find every feature's parent.

    Args:
        narrow: the dictionary with fewer features.
        wide: the one with more, at the same site.
        pairing: least firings.
        floor: least r of a child with its parent.

    Raises:
        InputError: for signed features, which do not split into others.
    """
    for layer in (narrow, wide):
        if layer.signed:
            raise InputError(
                f"{layer.name} has signed features, and only those of SAEs split: name SAEs of two widths."
            )
    if not 0 <= floor < 1:
        raise InputError(f"the floor came as {floor}: the least r of a child lies from 0 to below 1.")
    repairer = Repairer(wide.discovery, narrow.discovery, wide.kept, narrow.kept, pairing)
    matches = repairer.pair(rules=["best_of_a"])["best_of_a"]
    parent, r = np.full(wide.features, -1, np.int32), np.full(wide.features, np.nan)
    good = matches.r > floor
    parent[matches.a[good]], r[matches.a[good]] = matches.b[good], matches.r[good]
    return Widths(narrow, wide, parent, r, cut_strata(_count_firings(wide.discovery), STRATA))


def describe_children(widths: Widths, feature: int) -> dict[str, Any]:
    """A feature and its children.

    Returns:
        ``feature``, ``firings`` (words of the discovery half), ``covered`` (share of them on which any child
        fires) and ``children``, the closest first: ``feature``, ``r``, ``r_heldout``, ``cosine`` of the
        decoder vectors, ``firings``, ``covers`` (share of the parent's firings on which it fires).

    Raises:
        InputError: for a feature that does not exist, or that was set aside for firing too rarely.
    """
    narrow, wide = widths.narrow, widths.wide
    _check_feature(narrow, feature)
    own, children = np.array([feature], np.int32), widths.list_children(feature)
    held = correlate_all(narrow.heldout, wide.heldout, own, children)[0]
    where = _find_words(narrow.discovery, own)[0]
    among = take_rows(wide.discovery, where)
    covers = _count_firings(among)[children] / max(1, len(where))
    fires = np.isin(among.indices, children)
    rows = np.repeat(np.arange(len(among)), np.diff(among.indptr))
    cosines = _measure_cosines(narrow, wide, feature, children)
    firings = _count_firings(wide.discovery)
    order = np.argsort(-widths.r[children], kind="stable")
    return {
        "feature": feature,
        "firings": len(where),
        "covered": len(np.unique(rows[fires])) / max(1, len(where)),
        "children": [
            {
                "feature": int(children[place]),
                "r": float(widths.r[children[place]]),
                "r_heldout": float(held[place]),
                "cosine": None if cosines is None else float(cosines[place]),
                "firings": int(firings[children[place]]),
                "covers": float(covers[place]),
            }
            for place in order
        ],
    }


def find_partner(first: Layer, second: Layer, feature: int, pairing: PairSettings) -> dict[str, Any] | None:
    """A feature's best partner in the other model, by r on the discovery half; None where there is none.

    Returns:
        ``feature``, ``r``, ``r_heldout``, ``mutual``: whether it is that one's best partner too.
    """
    repairer = Repairer(first.discovery, second.discovery, first.kept, second.kept, pairing)
    found = repairer.pair(rules=["best_of_a", "mutual"])
    place = np.flatnonzero(found["best_of_a"].a == feature)
    if not len(place):
        return None
    partner = found["best_of_a"].b[place]
    held = correlate_all(first.heldout, second.heldout, np.array([feature], np.int32), partner)
    return {
        "feature": int(partner[0]),
        "r": float(found["best_of_a"].r[place[0]]),
        "r_heldout": float(held[0, 0]),
        "mutual": bool((found["mutual"].a == feature).any()),
    }


def match_children(
    first: Widths, second: Widths, feature: int, partner: int, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Match a feature's children to its partner's children, one to one.

    They are matched on the discovery half so that the sum of r is largest, and judged by the mean r of the
    matches on the held-out half. Its null: each of the partner's children is replaced by a random child of
    another parent from the same stratum of frequency (or stays), and all are matched anew.

    Args:
        first: the feature's two dictionaries.
        second: the partner's.
        feature: of `first.narrow`.
        partner: of `second.narrow`.
        draws: random children.
        seed: of the draws.

    Returns:
        ``matched``, pairs of children with ``r`` and ``r_heldout``; ``mean_r_heldout``; ``others``, the mean
        held-out r of the same children in all other combinations, None where there is none; ``null_mean``,
        ``null_sd``, ``z``, ``p``, ``draws``, ``seed``. Without a child on either side ``matched`` is empty.
    """
    own, theirs = first.list_children(feature), second.list_children(partner)
    if not len(own) or not len(theirs):
        return {"matched": [], "mean_r_heldout": None, "p": None}
    pool = np.flatnonzero((second.parent >= 0) & (second.parent != partner)).astype(np.int32)
    return _judge_matches(first.wide, second.wide, own, theirs, pool, second.strata, draws, seed)


def partner_children(
    first: Widths, other: Layer, feature: int, partner: int | None, pairing: PairSettings, *,
    draws: int = DRAWS, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Each child's own best partner in the other model's one SAE.

    The null of a child's held-out r is that of the same child with best partners of other parents' children
    that fire about as often, or its own.

    Args:
        first: the feature's two dictionaries.
        other: the other model's dictionary.
        feature: of `first.narrow`.
        partner: the feature's own partner, if it has one.
        pairing: least firings and floor.
        draws: random partners.
        seed: of the draws.

    Returns:
        ``partners``, one entry per child that has one: ``child``, ``feature``, ``r``, ``r_heldout``, ``same``
        (whether it is the parent's partner too); ``different``, how many different partners they are;
        ``others``, the mean held-out r of children with each other's partners, None where they have one;
        ``mean_r_heldout``, ``null_mean``, ``null_sd``, ``z``, ``p``, ``draws``, ``seed``.
    """
    wide = first.wide
    best = Repairer(wide.discovery, other.discovery, wide.kept, other.kept, pairing).pair(
        rules=["best_of_a"]
    )["best_of_a"]
    partner_of, r = np.full(wide.features, -1, np.int32), np.full(wide.features, np.nan)
    partner_of[best.a], r[best.a] = best.b, best.r
    own = first.list_children(feature)
    own = own[partner_of[own] >= 0]
    if not len(own):
        return {"partners": [], "different": 0, "mean_r_heldout": None, "p": None}
    pool = np.flatnonzero((first.parent >= 0) & (first.parent != feature) & (partner_of >= 0))
    names = np.unique(partner_of[np.concatenate([own, pool])])
    held = correlate_all(wide.heldout, other.heldout, own, names)
    columns = np.searchsorted(names, partner_of)
    observed = held[np.arange(len(own)), columns[own]]
    cross = held[:, columns[own]]
    apart = partner_of[own][:, None] != partner_of[own][None]
    rng = np.random.default_rng(seed)
    null = np.empty((draws, len(own)))
    for place, child in enumerate(own):
        # With the child itself among those that are drawn from, p is exact also where there are few.
        like = np.append(pool[first.strata[pool] == first.strata[child]], child)
        null[:, place] = held[place, columns[rng.choice(like, draws)]]
    return {
        "partners": [
            {
                "child": int(child),
                "feature": int(partner_of[child]),
                "r": float(r[child]),
                "r_heldout": float(observed[place]),
                "same": bool(partner_of[child] == partner),
            }
            for place, child in enumerate(own)
        ],
        "different": len(np.unique(partner_of[own])),
        "others": float(cross[apart].mean()) if apart.any() else None,
        **_compare(float(observed.mean()), null.mean(axis=1), seed),
    }


def _judge_matches(
    first: Layer,
    second: Layer,
    own: NDArray[np.int32],
    theirs: NDArray[np.int32],
    pool: NDArray[np.int32],
    strata: NDArray[np.int64],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    from scipy.optimize import linear_sum_assignment

    names = np.unique(np.concatenate([theirs, pool]))
    found, held = (
        correlate_all(*half, own, names)
        for half in ((first.discovery, second.discovery), (first.heldout, second.heldout))
    )
    columns = np.searchsorted(names, theirs)
    rows, places = linear_sum_assignment(found[:, columns], maximize=True)
    cross = held[:, columns]
    apart = np.ones(cross.shape, np.bool_)
    apart[rows, places] = False
    rng = np.random.default_rng(seed)
    # With the child itself among those that are drawn from, p is exact also where there are few.
    candidates = np.isin(names, pool)
    like = [np.flatnonzero((names == one) | (candidates & (strata[names] == strata[one]))) for one in theirs]
    null = np.empty(draws)
    for draw in range(draws):
        random = np.array([rng.choice(one) for one in like])
        chosen = linear_sum_assignment(found[:, random], maximize=True)
        null[draw] = held[chosen[0], random[chosen[1]]].mean()
    return {
        "matched": [
            {
                "child": int(own[row]),
                "partner_child": int(theirs[place]),
                "r": float(found[row, columns[place]]),
                "r_heldout": float(cross[row, place]),
            }
            for row, place in zip(rows, places, strict=True)
        ],
        "others": float(cross[apart].mean()) if apart.any() else None,
        **_compare(float(cross[rows, places].mean()), null, seed),
    }


def _compare(value: float, null: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """A mean held-out r beside its null."""
    spread = float(null.std(ddof=1)) if len(null) > 1 else 0.0
    return {
        "mean_r_heldout": value,
        "null_mean": float(null.mean()),
        "null_sd": spread,
        "z": (value - float(null.mean())) / spread if spread > 1e-12 else None,
        "p": count_p(int((null >= value - 1e-12).sum()), len(null)),
        "draws": len(null),
        "seed": seed,
    }


def _check_feature(layer: Layer, feature: int) -> None:
    if not 0 <= feature < layer.features:
        raise InputError(
            f"there is no feature {feature} in {layer.name}: it has {layer.features:,}, 0 to "
            f"{layer.features - 1}. It is a feature of the narrower SAE that splits."
        )
    if not layer.kept[feature]:
        fires = int(_count_firings(layer.discovery)[feature])
        raise InputError(
            f"feature {feature} of {layer.name} fires on {fires} words of the discovery half, too few to "
            "say how it splits: choose another, or sweep over a longer corpus."
        )


def _measure_cosines(
    narrow: Layer, wide: Layer, feature: int, children: NDArray[np.int32]
) -> NDArray[np.float64] | None:
    if narrow.decoder is None or wide.decoder is None:
        return None
    own, theirs = narrow.decoder[feature].astype(np.float64), wide.decoder[children].astype(np.float64)
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(own)
    return theirs @ own / np.maximum(lengths, 1e-30)


def _count_firings(features: WordFeatures) -> NDArray[np.int64]:
    return np.bincount(features.indices, minlength=features.features)


def _find_words(features: WordFeatures, chosen: Sequence[int] | NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """The words on which each of some features fires."""
    entries = [np.flatnonzero(features.indices == one) for one in chosen]
    return [np.searchsorted(features.indptr, own, side="right") - 1 for own in entries]
