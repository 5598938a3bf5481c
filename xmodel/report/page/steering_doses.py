"""Figures of doses: what pushes of several lengths do, pair by pair."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.report.layout import count
from xmodel.report.page.records import Figure, Lines, Series
from xmodel.report.steer_effects import tell_doses

BEST = 10
"""Pairs whose doses are drawn where no curves were measured."""
_DOSE = "dose: the push's length by the residual stream's"


def draw_doses(found: Mapping[str, Any], rows: Mapping[str, Any]) -> list[Figure]:
    """Dose-response curves; none where there is but one dose.

    Args:
        found: what `xmodel.report.steer.describe_steering` gives.
        rows: the columns of transfer.parquet.
    """
    study = found.get("dose_response")
    if study is None:
        return _draw_grid(found, rows)
    x = np.array(study["doses"], np.float64)
    names = [_name(found["pairs"][pair]) for pair in study["pairs"]]
    sides = [(letter, number) for number, letter in enumerate("ab")]
    transfer = Lines(
        name="steering-doses",
        title="Agreement of partners by dose",
        caption=f"A curve per pair ({len(names)}). {tell_doses(found) or ''}".strip(),
        x_label=_DOSE,
        y_label="agreement",
        series=tuple(
            Series(label=name, x=x, y=np.array(own, np.float64))
            for name, own in zip(names, study["transfer"], strict=True)
        ),
        logarithmic=True,
        pick=True,
    )
    responses, damage = (
        [np.array(study[key][letter], np.float64) for letter in "ab"] for key in ("odd_norms", "even_norms")
    )
    single = tuple(
        Series(label=f"{name}: {what} in {letter.upper()}", x=x, y=values[number][place], dashed=dashed)
        for place, name in enumerate(names)
        for what, values, dashed in (("response", responses, False), ("damage", damage, True))
        for letter, number in sides
    )
    pairs = count(len(names), "pair")
    return [
        transfer,
        Lines(
            name="steering-responses",
            title="Response and damage by dose",
            caption=f"Medians over {pairs}, with their quartiles: the size of what turns round with the "
            "push, and, dashed, of what it does whichever way it goes.",
            x_label=_DOSE,
            y_label="size of the change",
            series=(
                *(_summarise(f"response in {one.upper()}", x, responses[n], False) for one, n in sides),
                *(_summarise(f"damage in {one.upper()}", x, damage[n], True) for one, n in sides),
            ),
            logarithmic=True,
        ),
        Lines(
            name="steering-pairs",
            title="Response and damage of single pairs",
            caption=f"Of the same {pairs}: choose a curve to bring it to the front. Damage is dashed.",
            x_label=_DOSE,
            y_label="size of the change",
            series=single,
            logarithmic=True,
            pick=True,
        ),
        Lines(
            name="steering-next-token",
            title="What a dose does to the next token",
            caption=f"Medians over {pairs}, with their quartiles, of the divergence (KL) from the prediction "
            "without a push, in nats.",
            x_label=_DOSE,
            y_label="KL of the next token, nats",
            series=tuple(
                _summarise(letter.upper(), x, np.array(study["kl"][letter], np.float64), False)
                for letter, _ in sides
            ),
            logarithmic=True,
        ),
    ]


def _draw_grid(found: Mapping[str, Any], rows: Mapping[str, Any]) -> list[Figure]:
    """The doses of the grid itself, at the depth that sentences are about."""
    cells = found["cells"]
    depth = cells[found["primary"]]["depth"]
    own = [place for place, cell in enumerate(cells) if cell["depth"] == depth and cell["dose"] is not None]
    best = {(one["feature_a"], one["feature_b"]) for one in found["best_pairs"][:BEST]}
    shown = [
        place
        for place, one in enumerate(found["pairs"])
        if (one["feature_a"], one["feature_b"]) in best
    ]  # fmt: skip
    if len(own) < 2 or not shown:
        return []
    x = np.array([cells[place]["dose"] for place in own], np.float64)
    series = [
        Series(
            label=_name(found["pairs"][pair]),
            x=x,
            y=np.array([rows["odd"][pair * len(cells) + place] for place in own], np.float64),
        )
        for pair in shown
    ]
    return [
        Lines(
            name="steering-doses",
            title="Agreement of partners by dose",
            caption=f"The {count(len(series), 'pair')} that agree most. Curves over more doses were not "
            "measured (--curve-pairs).",
            x_label=_DOSE,
            y_label="agreement",
            series=tuple(series),
            logarithmic=True,
            pick=True,
        )
    ]


def _summarise(label: str, x: NDArray[np.float64], values: NDArray[np.float64], dashed: bool) -> Series:
    """The median over pairs and its quartiles; [n, doses] values."""
    low, middle, high = np.nanpercentile(values, (25, 50, 75), axis=0)
    return Series(label=label, x=x, y=middle, low=low, high=high, dashed=dashed)


def _name(pair: Mapping[str, Any]) -> str:
    return f"a {pair['feature_a']} – b {pair['feature_b']}"
