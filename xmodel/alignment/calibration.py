"""The check on the first batch that the dictionary belongs to this site of this model.

Fraction of variance unexplained, FVU = sum |x - x_hat|^2 / sum |x - mean x|^2, over word tokens after the
dictionary's own normalisation, at its own site and at all sites of the same width beside it, everywhere of
the same tokens. A dictionary that fits a neighbour better reads the wrong place, and nothing computed from it
would mean anything. Sites without variance, or whose FVU is not finite, say nothing and are left out.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.batches import WindowPlan
from xmodel.alignment.extract import Side, check_finite, measure_norms, read_batches
from xmodel.alignment.settings import PassSettings
from xmodel.errors import InputError
from xmodel.models.baselines import fit_pca, restore_pca
from xmodel.models.saes import FeatureDictionary, compute_fvu
from xmodel.models.sites import list_sites, parse_site, site_width
from xmodel.records import Members
from xmodel.run import RunFolder

if TYPE_CHECKING:
    import torch

CHECK_TOKENS = 384
"""Tokens of the batch that is checked, BOS and tokens of no word included: enough to tell sites apart, and
little beside the run. The median norm, and so the ceiling of the whole run, is of these tokens alone."""
LEAST_TOKENS = 50
"""With fewer word tokens, FVU is chance: it is measured, but nothing is concluded from it."""
WORST_FVU = 0.9
"""Above this a dictionary explains next to nothing, and the run stops."""
TIE = 1e-6
"""FVU that differ by less are equal: floating-point arithmetic tells them no further apart."""


@dataclass(frozen=True)
class Calibration:
    """What the first batch says about one side."""

    tokens: int
    """Word tokens it is measured on."""
    median_norm: float
    """Median norm of word tokens at the site, over the first `CHECK_TOKENS` tokens of the corpus."""
    ceiling: float | None
    """Norm above which a token is massive, in the whole run: `PassSettings.massive` times `median_norm`; None
    where such tokens are kept."""
    fvu: float | None
    """FVU at the site, always finite; None for baselines, which reconstruct by definition, and where there is
    none."""
    neighbours: dict[str, float]
    """FVU at the sites of the same width beside it, of the same tokens; sites without a finite one are left
    out."""
    misfit: str | None = None
    """Why the dictionary does not seem to belong here, where the user went on all the same."""
    checked: bool = True
    """False where there are too few word tokens to tell whether the dictionary fits; then `note` says so."""
    note: str | None = None
    """What the user should be told though the run goes on; None where there is nothing to tell."""
    others: "tuple[Calibration, ...]" = ()
    """What it says about the side's other dictionaries."""

    def as_json(self) -> dict[str, Any]:
        """By name, without the other dictionaries'."""
        return {name: value for name, value in asdict(self).items() if name != "others"}


def calibrate(
    side: Side,
    plan: WindowPlan,
    number: int,
    ids: NDArray[np.int64],
    members: Members,
    settings: PassSettings,
    names: Sequence[str],
    accept_misfit: bool = False,
) -> Calibration:
    """Measure norms and FVU on the first batch.

    The norm above which a token is massive, in all of the run, comes from the median over this batch. Massive
    tokens of the dictionary's own site are left out of FVU, at every site the same. With fewer than
    `LEAST_TOKENS` left, nothing is concluded from FVU.

    Args:
        side: the model, dictionary and site.
        plan: windows of the first shard; of these the first with `CHECK_TOKENS` tokens are used.
        number: the model's number in `plan`.
        ids: [N] ids under this model.
        members: tokens of the units.
        settings: which tokens are excluded.
        names: the shard's documents, for messages.
        accept_misfit: go on where the dictionary does not fit; the reason stands in the result.

    Raises:
        InputError: if no unit has a token, activations are not finite, or the dictionary fits another site
            better, or none.
    """
    plan = take_first_windows(plan, number, CHECK_TOKENS, len(side.prefix))
    beside = [] if _reconstructs(side.dictionary) else list_neighbours(side)
    at = _read_sites(side, plan, number, ids, members, [side.site, *beside], settings, names)
    norms = measure_norms(at[side.site])
    median = float(np.median(norms))
    ceiling = settings.massive * median if settings.massive else None
    if _reconstructs(side.dictionary):
        return Calibration(len(norms), median, ceiling, None, {})
    kept = find_ordinary(norms, settings.massive)
    fvu = _measure_all(side, at, kept)
    own = fvu.pop(side.site, None)
    if len(kept) < LEAST_TOKENS:
        note = (
            f"the first batch has only {len(kept)} word tokens of {side.model.name}, too few to tell whether "
            f"{side.dictionary.info.name} fits {side.site}: that was not checked."
        )
        return Calibration(len(norms), median, ceiling, own, fvu, checked=False, note=note)
    misfit = _find_misfit(side, own, fvu)
    if misfit:
        everywhere = [site for site in _list_all(side) if site not in at]
        others = _read_sites(side, plan, number, ids, members, everywhere, settings, names)
        misfit += _advise(own, {**fvu, **_measure_all(side, others, kept)}, len(kept))
        if not accept_misfit:
            raise InputError(misfit)
    return Calibration(len(norms), median, ceiling, own, fvu, misfit)


def take_first_windows(plan: WindowPlan, number: int, tokens: int, prefix: int) -> WindowPlan:
    """The first windows of a plan that together have this many tokens, or all."""
    places = np.cumsum(plan.stop[:, number] - plan.first[:, number] + prefix)
    count = int(np.searchsorted(places, tokens, side="left")) + 1
    return WindowPlan(plan.first[:count], plan.stop[:count], plan.document[:count], plan.oversized)


def list_neighbours(side: Side) -> list[str]:
    """Sites of the same width in the same block and in the blocks on either side."""
    block = parse_site(side.site).block
    return [
        site
        for near in (block - 1, block, block + 1)
        if 0 <= near < side.model.layers
        for site in _list_equal(side, near)
    ]


def measure_fvu(dictionary: FeatureDictionary, x: "torch.Tensor") -> float | None:
    """FVU of a dictionary on rows x [n, d_in] as they are.

    None where it says nothing: rows that are all equal, by which any constant is reconstructed, and rows or
    reconstructions that are not finite, as float16 has them where it overflows.
    """
    import torch

    with torch.inference_mode():
        normalised, found = dictionary.reconstruct(x)
        if not len(x) or bool((normalised == normalised[0]).all()):
            return None
        fvu = compute_fvu(normalised, found)
    return fvu if np.isfinite(fvu) else None


def find_ordinary(norms: NDArray[np.float32], massive: float) -> NDArray[np.int64]:
    """The rows of norms [n] that are at most `massive` times their median; all of them where it is 0."""
    return np.flatnonzero(norms <= massive * np.median(norms)) if massive else np.arange(len(norms))


def _measure_all(side: Side, at: Mapping[str, "torch.Tensor"], kept: NDArray[np.int64]) -> dict[str, float]:
    """FVU at every site where it says something, of the same rows everywhere."""
    found = {}
    for site, rows in at.items():
        fvu = measure_fvu(side.dictionary, _take(rows, kept))
        if fvu is not None:
            found[site] = fvu
    return found


def _take(x: "torch.Tensor", rows: NDArray[np.int64]) -> "torch.Tensor":
    import torch

    return x[torch.from_numpy(rows).to(x.device)]


def _reconstructs(dictionary: FeatureDictionary) -> bool:
    return dictionary.info.architecture in ("neurons", "residual", "pca")


def _list_equal(side: Side, block: int) -> list[str]:
    """Sites of a block where this dictionary could be applied, its own left out.

    A block's input is the output of the block before it; only the first block's input is a site of its own.
    """
    found = []
    for site in list_sites(side.model, block):
        twin = parse_site(site).kind == "hook_resid_pre" and block > 0
        if site != side.site and not twin and site_width(side.model, site) == side.dictionary.info.width:
            found.append(site)
    own = parse_site(side.site)
    if own.kind == "hook_resid_pre" and own.block > 0:
        found = [site for site in found if site != f"blocks.{own.block - 1}.hook_resid_post"]
    return found


def _list_all(side: Side) -> list[str]:
    return [site for block in range(side.model.layers) for site in _list_equal(side, block)]


def _read_sites(
    side: Side,
    plan: WindowPlan,
    number: int,
    ids: NDArray[np.int64],
    members: Members,
    sites: Sequence[str],
    settings: PassSettings,
    names: Sequence[str],
) -> dict[str, "torch.Tensor"]:
    """[n, d] rows of word tokens at every site.

    Raises:
        InputError: if there is no such token, or activations are not finite at the dictionary's own site.
    """
    if not sites:
        return {}
    import torch

    in_words = np.zeros(len(ids), dtype=np.bool_)
    in_words[members.tokens] = True
    rows: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
    for batch, found in read_batches(side, plan, number, ids, sites, settings.batch_tokens):
        if side.site in found:
            check_finite(side, measure_norms(found[side.site]), batch, plan, names)
        kept = np.flatnonzero(in_words[batch.tokens] & (batch.positions >= settings.skip_positions))
        for site in sites:
            rows[site].append(_take(found[site], kept))
    if not any(len(part) for part in rows[sites[0]]):
        raise InputError(
            f"the first texts of the corpus have no word with a token of {side.model.name} that could be "
            f"used in windows of {side.limit + len(side.prefix)} tokens, of which the first "
            f"{settings.skip_positions} are left out: check the corpus and the word rule, or raise --context "
            "and --window-words."
        )
    return {site: torch.cat(parts) for site, parts in rows.items()}


def _find_misfit(side: Side, own: float | None, beside: dict[str, float]) -> str | None:
    if own is None:
        return (
            f"whether {side.dictionary.info.name} belongs to {side.site} of {side.model.name} cannot be "
            "told: its activations there are all equal, or what it makes of them is not finite (which they "
            "may be with --dtype float32)"
        )
    better = min(beside, key=lambda site: beside[site], default=None)
    if better is not None and beside[better] < own - TIE:
        return (
            f"{side.dictionary.info.name} does not belong to {side.site} of {side.model.name}: there it "
            f"leaves "
            f"{own:.3f} of the variance unexplained (FVU), and {beside[better]:.3f} at {better}"
        )
    if own > WORST_FVU:
        return (
            f"{side.dictionary.info.name} does not belong to {side.site} of {side.model.name}: there it "
            f"leaves "
            f"{own:.3f} of the variance unexplained (FVU), and more than {WORST_FVU} means that it fits "
            "neither this site nor those beside it"
        )
    return None


def _advise(own: float | None, everywhere: dict[str, float], tokens: int) -> str:
    best = min(everywhere, key=lambda site: everywhere[site], default=None)
    if best is not None and everywhere[best] < min(WORST_FVU if own is None else own, WORST_FVU):
        fits = f"Of all sites of this model it fits {best} best (FVU {everywhere[best]:.3f})"
    else:
        fits = "No site of this model fits it, so it was probably trained on another model or other weights"
    return (
        f" ({tokens:,} word tokens of the first batch). {fits}. If the corpus begins with text of a kind "
        "that the dictionary was not trained on (another language, lists, very little of it), try other "
        "text; else name the right SAE, model or site. --accept-misfit goes on all the same, and the "
        "manifest says so."
    )


def fit_components(
    side: Side,
    plan: WindowPlan,
    number: int,
    ids: NDArray[np.int64],
    members: Members,
    settings: PassSettings,
    names: Sequence[str],
    folder: RunFolder,
) -> Side:
    """Fit a side's principal components on the word tokens of the first shard, massive ones left out.

    All words of that shard take part, those of the held-out half too: the halves are drawn when all words are
    known, and components are fitted to activations, not to pairs. Massive are tokens whose norm is more than
    `PassSettings.massive` times the median over that shard (the pass itself goes by `Calibration.ceiling`).

    They are kept in the run folder as components_a.npz or components_b.npz; a resumed run takes them from
    there.

    Returns:
        The side with its fitted dictionary.
    """
    assert side.unfitted is not None
    name = f"components_{side.letter}.npz"
    device, dtype = str(side.model.device), str(side.dictionary.dtype).removeprefix("torch.")
    fitted = None
    if (folder / name).is_file():
        try:
            with np.load(folder / name, allow_pickle=False) as stored:
                fitted = restore_pca(side.unfitted, dict(stored), device=device, dtype=dtype)
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):
            # Damaged: fitted again from the same text, and the manifest knows whether they came out the same.
            fitted = None
    if fitted is None:
        x = _read_sites(side, plan, number, ids, members, [side.site], settings, names)[side.site]
        kept = find_ordinary(measure_norms(x), settings.massive)
        fitted = fit_pca(side.unfitted, _take(x, kept), dtype=dtype)
        stream = BytesIO()
        np.savez(stream, allow_pickle=False, **fitted.pca_arrays())
        folder.write_bytes(name, stream.getvalue())
    return replace(side, dictionary=fitted, unfitted=None)
