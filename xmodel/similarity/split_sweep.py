"""``xmodel split``: how one feature of a sweep splits, and whether its partner does so too."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xmodel.errors import InputError
from xmodel.pairing.filters import choose_words
from xmodel.pairing.results import describe_letter, list_letters, open_shards
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.concepts import list_top_words
from xmodel.similarity.layers import Layer, load_layer
from xmodel.similarity.splitting import (
    DRAWS,
    FLOOR,
    compare_widths,
    describe_children,
    find_partner,
    match_children,
    partner_children,
)
from xmodel.similarity.sweep import Sweep

LEVEL = 0.05
"""Below this p the children are said to be related."""


def split_feature(
    sweep: Sweep,
    side: str,
    feature: int,
    *,
    narrow: str | None = None,
    wide: str | None = None,
    partner: str | None = None,
    floor: float = FLOOR,
    draws: int = DRAWS,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """How a feature splits in a wider SAE, and whether its partner splits the same way.

    Args:
        sweep: a sweep with SAEs of two widths at one site of a model.
        side: ``a`` or ``b``, whose feature it is.
        feature: of the narrower SAE.
        narrow, wide: names of the two SAEs; left out, the only site with several widths gives its narrowest,
            and the next wider one.
        partner: name of the other model's SAE; left out, that of a site with several widths, or else
            the one in which the feature's best partner has the greatest r on the discovery half.
        floor: least r of a child with its parent.
        draws: of the null.
        seed: of the draws.
        device: where dictionaries are loaded.

    Returns:
        What JSON can hold: ``side``, ``narrow``, ``wide``, ``floor``, what `describe_children` says, each
        feature with its ``top_words``; ``partner`` (its SAE, ``feature``, ``r``, ``r_heldout``, ``mutual``;
        None where there is none), ``partner_split`` (its children and `match_children`) where the other model
        has SAEs of several widths, else ``children_partners`` (`partner_children`); ``verdict``, in words.

    Raises:
        InputError: if no site has SAEs of two widths, or for names and features that are not there.
    """
    if side not in ("a", "b"):
        raise InputError(f"the side came as {side!r}: it is 'a' or 'b'.")
    manifest, settings = sweep.run.manifest, sweep.summary["pairing"]
    pairing = PairSettings.of_manifest({"pairing": settings})
    words = choose_words(open_shards(sweep.run.folder, manifest), pairing)
    load = partial(load_layer, sweep.run, words=words, settings=pairing, device=device)
    letters = _choose_widths(manifest, side, narrow, wide)
    other = "b" if side == "a" else "a"
    if partner is not None:
        _find_letter(manifest, other, partner)
    widths = compare_widths(load(letters[0]), load(letters[1]), pairing, floor)
    found: dict[str, Any] = {
        "run": str(sweep.path),
        "side": side,
        "narrow": _name(manifest, letters[0]),
        "wide": _name(manifest, letters[1]),
        "floor": floor,
        **describe_children(widths, feature),
    }
    _add_words(sweep, words.discovery, letters[0], [found])
    _add_words(sweep, words.discovery, letters[1], found["children"])
    theirs = _find_widths(manifest, other) if partner is None else None
    if theirs is not None:
        second = compare_widths(load(theirs[0]), load(theirs[1]), pairing, floor)
        found["partner"] = _describe_partner(
            manifest, theirs[0], find_partner(widths.narrow, second.narrow, feature, pairing)
        )
        if own := found["partner"]:
            matched = own["feature"]
            _add_words(sweep, words.discovery, theirs[0], [own])
            split = describe_children(second, matched)
            _add_words(sweep, words.discovery, theirs[1], split["children"])
            found["partner_split"] = {
                "wide": _name(manifest, theirs[1]),
                **split,
                **match_children(widths, second, feature, matched, draws=draws, seed=seed),
            }
    else:
        letter, best = _choose_partner(manifest, other, partner, widths.narrow, feature, load, pairing)
        found["partner"] = _describe_partner(manifest, letter, best)
        _add_words(sweep, words.discovery, letter, [one for one in (found["partner"],) if one])
        found["children_partners"] = partner_children(
            widths, load(letter), feature, best["feature"] if best else None, pairing, draws=draws, seed=seed
        )
        _add_words(sweep, words.discovery, letter, found["children_partners"]["partners"])
    return {**found, "verdict": judge_split(found)}


def judge_split(found: dict[str, Any]) -> str:
    """What `split_feature` found, in a sentence that has its null beside it."""
    children = len(found["children"])
    if children < 2:
        return (
            f"Feature {found['feature']} does not split: {children or 'none'} of the wider SAE's features "
            f"matches it best with r above {found['floor']:g}."
        )
    lead = f"Feature {found['feature']} splits into {children}"
    if not found["partner"]:
        return f"{lead}; it has no partner in the other model to compare with."
    partner = found["partner"]["feature"]
    if "partner_split" in found:
        own = found["partner_split"]
        if len(own["children"]) < 2:
            return f"{lead}; its partner {partner} does not split ({len(own['children'])} children)."
        against = _spell_null(own)
        pairs = f"{len(own['matched'])} pairs of children"
        if own["p"] >= LEVEL:
            return (
                f"{lead} and its partner {partner} into {len(own['children'])}, but not the same way: "
                f"{pairs} correlate no more than children of other features that fire as often ({against})."
            )
        specific = own["others"] is not None and own["mean_r_heldout"] > 2 * max(own["others"], 0.0)
        how = "the same way" if specific else "into related features, which cannot be told apart one by one"
        others = "" if own["others"] is None else f"; the other combinations of them: {own['others']:.3f}"
        return f"{lead} and its partner {partner} {how}: {pairs} ({against}{others})."
    own = found["children_partners"]
    if not own["partners"]:
        return f"{lead}, none of which has a partner in the other model's SAE."
    same = sum(one["same"] for one in own["partners"])
    if own["p"] >= LEVEL:
        return (
            f"{lead}, whose best partners correlate with them no more than partners of other children that "
            f"fire as often ({_spell_null(own)})."
        )
    if own["others"] is not None and own["mean_r_heldout"] <= 2 * own["others"]:
        return (
            f"{lead}; their partners in the other model's one SAE are related to all of them and do not tell "
            f"them apart ({_spell_null(own)}; with each other's partners: {own['others']:.3f})."
        )
    if own["different"] == 1:
        told = f"all {len(own['partners'])} have one partner" + (", their parent's" if same else "")
        return f"{lead}, and the other model does not: {told} ({_spell_null(own)})."
    return (
        f"{lead}, and the other model's one SAE tells them apart: {own['different']} different partners, "
        f"{same} of the {children} children with their parent's ({_spell_null(own)}; with each other's "
        f"partners: {own['others']:.3f})."
    )


def _spell_null(own: dict[str, Any]) -> str:
    return (
        f"mean held-out r {own['mean_r_heldout']:.3f}, by chance {own['null_mean']:.3f}, p {own['p']:.2g} "
        f"from {own['draws']:,} draws"
    )


def _choose_widths(
    manifest: dict[str, Any], side: str, narrow: str | None, wide: str | None
) -> tuple[str, str]:
    if narrow is None and wide is None:
        found = _find_widths(manifest, side)
        if found is None:
            sizes = ", ".join(
                f"{_name(manifest, one)} ({describe_letter(manifest, one)['dictionary']['features']:,} at "
                f"{describe_letter(manifest, one)['site']})"
                for one in list_letters(manifest, side)
            )
            raise InputError(
                f"side {side} of the sweep has no site, or more than one, with SAEs of several widths: it "
                f"has {sizes}. Sweep with two widths of one site, or name them with --narrow and --wide."
            )
        return found
    if narrow is None or wide is None:
        raise InputError("--narrow and --wide come together: name both SAEs of the site.")
    letters = _find_letter(manifest, side, narrow), _find_letter(manifest, side, wide)
    own = [describe_letter(manifest, letter) for letter in letters]
    if own[0]["site"] != own[1]["site"]:
        raise InputError(
            f"{narrow} reads {own[0]['site']}, and {wide} {own[1]['site']}: a feature splits in a wider SAE "
            "of the same site."
        )
    if own[0]["dictionary"]["features"] >= own[1]["dictionary"]["features"]:
        raise InputError(
            f"{narrow} has {own[0]['dictionary']['features']:,} features, and {wide} "
            f"{own[1]['dictionary']['features']:,}: --narrow is the one with fewer."
        )
    return letters


def _find_widths(manifest: dict[str, Any], side: str) -> tuple[str, str] | None:
    """The narrowest and the next wider SAE of the only site that has several widths."""
    sites: dict[str, dict[int, str]] = {}
    for letter in list_letters(manifest, side):
        own = describe_letter(manifest, letter)
        sites.setdefault(own["site"], {}).setdefault(own["dictionary"]["features"], letter)
    several = [widths for widths in sites.values() if len(widths) > 1]
    if len(several) != 1:
        return None
    narrow, wide = sorted(several[0])[:2]
    return several[0][narrow], several[0][wide]


def _find_letter(manifest: dict[str, Any], side: str, name: str) -> str:
    names = {_name(manifest, letter): letter for letter in list_letters(manifest, side)}
    if name not in names:
        raise InputError(f"there is no {name} on side {side} of the sweep: it has {', '.join(names)}.")
    return names[name]


def _choose_partner(
    manifest: dict[str, Any],
    side: str,
    name: str | None,
    narrow: Layer,
    feature: int,
    load: Callable[[str], Layer],
    pairing: PairSettings,
) -> tuple[str, dict[str, Any] | None]:
    """The dictionary that is named, or the one with the best partner; and that partner."""
    letters = list_letters(manifest, side) if name is None else [_find_letter(manifest, side, name)]
    best: tuple[str, dict[str, Any] | None] = letters[0], None
    for letter in letters:
        found = find_partner(narrow, load(letter), feature, pairing)
        if found and (best[1] is None or found["r"] > best[1]["r"]):
            best = letter, found
    return best


def _describe_partner(
    manifest: dict[str, Any], letter: str, best: dict[str, Any] | None
) -> dict[str, Any] | None:
    return best and {
        "sae": _name(manifest, letter),
        "site": describe_letter(manifest, letter)["site"],
        **best,
    }


def _name(manifest: dict[str, Any], letter: str) -> str:
    return describe_letter(manifest, letter)["dictionary"]["name"]


def _add_words(sweep: Sweep, chosen: Any, letter: str, listed: list[dict[str, Any]]) -> None:
    """Give every feature that is listed its top words on the discovery half."""
    if not listed:
        return
    run, side = sweep.run, letter[0]
    shards = open_shards(run.folder, run.manifest, (letter, "b") if side == "a" else ("a", letter))
    features = np.unique([one["feature"] for one in listed]).astype(np.int32)
    words = dict(zip(features.tolist(), list_top_words(shards, side, chosen, features), strict=True))
    for one in listed:
        one["top_words"] = words[one["feature"]]
