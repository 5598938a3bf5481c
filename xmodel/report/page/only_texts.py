"""What the page says and draws about features that are not shown to have a partner."""

import numpy as np

from xmodel.report.page.credible import OPEN, Credible, SideCredible
from xmodel.report.page.own_nulls import ALPHA
from xmodel.report.page.records import Scatter
from xmodel.similarity.orders import SHORT_DOCUMENT

FEW_FIRINGS = 65
"""Features that fire on fewer words have little power to show a partner: chance reaches a high r."""
POINTS = 4000
"""Features in the figure at most."""


def describe_alone(side: str, found: SideCredible, least: int) -> str:
    """How many of one model's features are not shown to have a partner, and how much that says.

    Args:
        side: ``a`` or ``b``.
        found: of its features.
        least: words of the discovery half that a feature must fire on to be judged.
    """
    other = "b" if side == "a" else "a"
    judged, alone = int(found.judged.sum()), int(found.alone.sum())
    if not judged:
        return (
            f"No feature of {side} was judged: none fires on {least:,} words or more of the discovery half "
            "and passes the other filters of pairing."
        )
    sentence = (
        f"Of {judged:,} features of {side} that fire on {least:,} words or more of the discovery half and "
        f"pass the filters of pairing, {alone:,} ({100 * alone / judged:.0f}%) are not shown to have a "
        f"partner in {other} (p > {ALPHA:g})"
    )
    if alone:
        sentence += f"; that is no proof that they have none{_tell_power(found, least)}"
    sentence += "."
    without = int((found.judged & (found.partner < 0)).sum())
    if without:
        sentence += f" {without:,} of them have no partner with r above 0 at all."
    rest = len(found.judged) - judged
    if rest:
        sentence += f" {rest:,} features of {side} fire too rarely, or were filtered out, and are not judged."
    return sentence


def draw_best(side: str, found: SideCredible, signed: bool) -> Scatter:
    """Every judged feature's best r beside the r that chance reaches for it."""
    name = "|r|" if signed else "r"
    places = np.flatnonzero(found.judged & np.isfinite(found.reach))
    above = int(found.credible[places].sum())
    caption = (
        f"The {len(places):,} judged features of {side}: {name} with the best partner, against the {name} "
        f"that chance reaches for the same feature with a probability of {ALPHA:g}, after circular shifts of "
        f"b's words. {above:,} lie above the line of equal values and are shown to have a partner; "
        f"{len(places) - above:,} lie on it or below."
    )
    if len(places) > POINTS:
        caption += f" {POINTS:,} of the features are drawn, evenly by their number."
        places = places[np.linspace(0, len(places) - 1, POINTS).round().astype(np.int64)]
    credible = found.credible[places]
    return Scatter(
        name=f"only-{side}-best-r",
        title=f"Best {name} of {side}'s features, and what chance reaches",
        caption=caption,
        x_label=f"{name} that chance reaches",
        y_label=f"best {name}",
        x=found.reach[places],
        y=np.nan_to_num(np.abs(found.r[places])),
        hover=tuple(f"{side} {place}" for place in places.tolist()),
        groups=tuple("shown to have a partner" if one else "not shown" for one in credible.tolist()),
        links=tuple(f"#{side}={place}" for place in places.tolist()),
        diagonal=True,
    )


def explain(credible: Credible) -> tuple[str, ...]:
    """What counts as a partner, and what having none does not mean."""
    name = "|r|" if credible.signed else "r"
    return (
        f"A feature is shown to have a partner if {name} with the best one is more than what the same search "
        "finds for this same feature after b's words were shifted in a circle against a's (p of "
        f"{ALPHA:g} or less). The features below are those for which it is not, ranked by firings × mean "
        "activation: how often and how strongly they fire over the whole corpus.",
        "Nor does it mean that the other model lacks what a feature stands for. It may hold it at another "
        "layer, spread over several features, or in directions that this dictionary did not learn; a wider "
        "dictionary, or a longer text, may show it. Only that no single feature compared here was seen to "
        "fire with it more than chance.",
    )


def list_notes(credible: Credible) -> tuple[str, ...]:
    """How p was found, and what it is worth."""
    notes = [_tell_method(credible), _tell_error(credible), _tell_shifts(credible)]
    notes.append(
        "chance reaches: the r that the feature's own null reaches with a probability of "
        f"{ALPHA:g}; its mean and standard deviation stand in the files. total is firings × mean activation, "
        "in the model's own units: it ranks the features of one model, and cannot be compared between both."
    )
    if credible.shifts < credible.asked:
        notes.append(
            f"{credible.shifts} shifts of all features were drawn, not the {credible.asked} asked for, which "
            "would have taken long with so many features."
        )
    return tuple(notes)


def _tell_power(found: SideCredible, least: int) -> str:
    """That rare features have little power, with how far chance gets for them and for others."""
    if least >= FEW_FIRINGS:
        return ""
    rare = found.judged & (found.firings < FEW_FIRINGS)
    listed = int((found.alone & rare).sum())
    text = f", as features that fire on {least:,} to {FEW_FIRINGS - 1} of these words have little power"
    reaches = [found.reach[one & np.isfinite(found.reach)] for one in (rare, found.judged & ~rare)]
    if all(len(one) for one in reaches):
        low, high = (float(np.median(one)) for one in reaches)
        text += f" (chance reaches r {low:.2f} for them, {high:.2f} for the others, medians)"
    return f"{text}: {listed:,} of the {int(found.alone.sum()):,} fire on fewer than {FEW_FIRINGS}"


def _tell_method(credible: Credible) -> str:
    text = (
        f"All features were paired again after {credible.shifts} shifts. Each best r was then taken in units "
        "of its feature's own null (less its mean, over its standard deviation) and compared with the draws "
        "of features of like firing count, taken likewise."
    )
    sides = (credible.a, credible.b)
    refined = sum(int(side.refined.sum()) for side in sides)
    left = sum(int((side.alone & (side.partner >= 0) & ~side.refined).sum()) for side in sides)
    if refined:
        text += (
            f" The {refined:,} features for which this left p above {OPEN:g} were paired again after "
            f"{credible.own_shifts} further shifts; their p is the share of these in which their own best r "
            "was as high."
        )
    elif left:
        text += (
            " Further shifts of single features were not drawn: they would have taken long, or are too few."
        )
    return text


def _tell_error(credible: Credible) -> str:
    text = (
        f"p is not corrected for the number of features: about {100 * ALPHA:.0f}% of features that truly "
        "have no partner get a p this small by chance, and are missing from these lists."
    )
    if credible.own_shifts:
        return text + (
            " This holds for every kind of feature, as long as it does not matter where in "
            f"{'a document' if credible.within else 'the text'} the circle begins."
        )
    return text + " This holds on average over features of like firing count."


def _tell_shifts(credible: Credible) -> str:
    if credible.within:
        return (
            "Each document's words were shifted within it: that two features fire in the same documents is "
            "in the null, and no sign of a partner."
        )
    same = "a partner that merely fires in the same stretches of the text may count as one"
    if credible.documents < 2:
        return f"The discovery half is a single document, which was shifted as a whole: {same}."
    return (
        f"Most documents have fewer than {SHORT_DOCUMENT} words, so words were shifted along all of them "
        f"together: {same}."
    )
