"""The published recipe of feature-space similarity, each of its choices a switch.

Lan et al., "Quantifying Feature Space Universality Across Large Language Models via Sparse Autoencoders"
(arXiv 2410.06981), and its code. The recipe: every feature of B is paired with the feature of A of greatest
Pearson r over all tokens; pairs with r above 0.1 are kept, several with the same feature of A among them;
SVCCA compares their decoder vectors; and 100 shuffles of the vectors of B are the null.

Not switches, and as in the run: both models read their own tokens here and are compared word by word (the
published code gives both models the ids of one tokenizer); first positions and massive activations are left
out (there they are in); texts are whole (there each is cut to its first tokens); a TopK SAE fires on its k
strongest features (there what comes before the top-k is correlated); shuffles have a seed (there none).
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.features import Report
from xmodel.errors import InputError
from xmodel.pairing.reloading import load_sides
from xmodel.pairing.results import Run
from xmodel.similarity.decoders import load_decoders
from xmodel.similarity.lan2024_pairs import BestOfB, pair_best_of_b
from xmodel.similarity.lan2024_pass import Sides, list_sites, read_early, read_padding
from xmodel.similarity.lan2024_score import LEAST_R, average_best, judge_shuffled, prepare_svcca
from xmodel.similarity.orders import draw_orders

SHUFFLES = 100
"""Shuffles of the null, as published."""
FEW_ROWS = 5
"""Pairs per component below which CCA finds similarity in unrelated vectors."""


@dataclass(frozen=True)
class Lan2024:
    """Which of the published recipe's choices are made; false is what was intended."""

    one_component: bool = True
    """SVCCA keeps one component, because a share of the variance is compared with an absolute variance; else
    components with 99 % of it."""
    hook_off_by_one: bool = True
    """A dictionary of block i's output reads the block's input, ``hidden_states[i]``; else its own site."""
    unmasked_padding: bool = True
    """Positions of padding are rows of the correlation too; else only words are."""
    noop_filter: bool = True
    """Pairs of non-concept features stay, because the filter's result is overwritten; else a pair stays if
    the strongest words of both features have one in common, and none that is on the published list."""
    dead_in_mean: bool = True
    """Features of B that never fire are in the mean activation correlation, with r = 0; else they are not."""
    p_without_one: bool = True
    """p is b / m, which can be 0; else (b + 1) / (m + 1)."""

    @property
    def on(self) -> tuple[str, ...]:
        """The switches that are on."""
        return tuple(name for name in SWITCHES if getattr(self, name))


SWITCHES = tuple(one.name for one in fields(Lan2024))
"""The switches, in the order in which the table turns them on."""
PUBLISHED = Lan2024()
"""Everything as published."""
INTENDED = Lan2024(**dict.fromkeys(SWITCHES, False))
"""Everything as intended."""


@dataclass(frozen=True)
class Lan2024Score:
    """What the recipe gives with some switches on. None stands where there is no number."""

    switches: Lan2024
    shuffles: int
    seed: int
    words: int | None = None
    """Words (or tokens) that features were correlated over."""
    padding: int | None = None
    """Positions of padding that they were correlated over as well."""
    mean_actv_corr: float | None = None
    """Mean r of B's features with their best partners, before any filter."""
    pairs: int | None = None
    """Pairs that passed the filter and have r above 0.1, n."""
    features_a: int | None = None
    """Different features of A among them."""
    mean_r: float | None = None
    """Mean r of these pairs."""
    svcca: float | None = None
    """SVCCA of the pairs' decoder vectors."""
    k: tuple[int, int] | None = None
    """Components kept of A's vectors and of B's."""
    n_per_k: float | None = None
    """Pairs per component, of the side with more of them."""
    null_mean: float | None = None
    """Mean SVCCA of shuffled pairs."""
    p: float | None = None
    """Share of shuffles that reach the score."""
    warnings: tuple[str, ...] = ()
    """What makes these numbers say less than they seem to."""
    not_run: str | None = None
    """Why there are no numbers at all."""
    part: str = "intended"
    """In a table: ``intended``, ``alone`` (one switch on) or ``together`` (all switches up to one)."""

    def as_json(self) -> dict[str, Any]:
        """By name, what JSON can hold."""
        return {**asdict(self), "k": None if self.k is None else list(self.k), "warnings": [*self.warnings]}


def score_lan2024(
    run: Run,
    switches: Lan2024 = PUBLISHED,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Lan2024Score:
    """Score a run by the published recipe.

    `hook_off_by_one` and `unmasked_padding` need the models once more; what they read is kept in the run's
    folder ``lan2024``.

    Args:
        run: a finished run of two SAEs.
        switches: which published choices are made.
        shuffles: of the pairs.
        seed: of the shuffles.
        report: told of progress.
        warn: told what a user should know.

    Raises:
        InputError: for fewer than 1 shuffle, dictionaries that are not SAEs, files that are missing or have
            changed, or models that cannot be loaded where they are needed.
    """
    scorer = _Scorer(run, shuffles, seed, report)
    found = scorer.score(switches)
    for warning in found.warnings:
        warn(warning)
    return found


def tabulate_lan2024(
    run: Run,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    report: Report = lambda stage, done, total: None,
    warn: Callable[[str], None] = warnings.warn,
) -> list[Lan2024Score]:
    """Score a run as the recipe was intended, then with every switch alone, then with one after another.

    Rows whose models cannot be loaded say so in `Lan2024Score.not_run`. The last row is the published recipe.

    Args and errors are those of `score_lan2024`; models that cannot be loaded are told to `warn`.
    """
    scorer = _Scorer(run, shuffles, seed, report)
    asked = [("intended", INTENDED)]
    asked += [("alone", replace(INTENDED, **{name: True})) for name in SWITCHES]
    asked += [
        ("together", replace(INTENDED, **dict.fromkeys(SWITCHES[: number + 1], True)))
        for number in range(len(SWITCHES))
    ]
    found: list[Lan2024Score] = []
    for part, switches in asked:
        report("lan2024", len(found), len(asked))
        found.append(replace(scorer.try_score(switches), part=part))
    report("lan2024", len(found), len(asked))
    for reason in dict.fromkeys(one.not_run for one in found if one.not_run):
        warn(f"rows of the table that need the models were not run: {reason}")
    return found


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What comparing the vectors of some pairs gave."""

    value: float
    kept: tuple[int, int]
    null: NDArray[np.float64]


class _Scorer:
    """A run's decoder vectors and pairs, each read once however many combinations are scored."""

    def __init__(self, run: Run, shuffles: int, seed: int, report: Report) -> None:
        if shuffles < 1:
            raise InputError(f"{shuffles} shuffles were asked for: a null needs at least one.")
        self._run, self._shuffles, self._seed, self._report = run, shuffles, seed, report
        self._decoders = load_decoders(run)
        self._pairs: dict[tuple[bool, bool], BestOfB] = {}
        self._compared: dict[tuple[bool, bool, bool, bool], _Outcome | InputError] = {}
        self._sides: Sides | InputError | None = None

    def try_score(self, switches: Lan2024) -> Lan2024Score:
        """Score, or say why that cannot be done where models are needed."""
        try:
            return self.score(switches)
        except InputError as error:
            if not (switches.hook_off_by_one or switches.unmasked_padding):
                raise
            return Lan2024Score(switches, self._shuffles, self._seed, not_run=str(error))

    def score(self, switches: Lan2024) -> Lan2024Score:
        key = switches.hook_off_by_one, switches.unmasked_padding
        if key not in self._pairs:
            self._pairs[key] = self._pair(*key)
        pairs = self._pairs[key]
        kept = (pairs.r > LEAST_R) & (pairs.concept | switches.noop_filter)
        b = np.flatnonzero(kept)
        found = Lan2024Score(
            switches,
            self._shuffles,
            self._seed,
            words=pairs.words,
            padding=pairs.padding,
            mean_actv_corr=average_best(pairs.r, pairs.varies, switches.dead_in_mean),
            pairs=len(b),
            features_a=len(np.unique(pairs.a[b])),
            mean_r=float(pairs.r[b].mean()) if len(b) else None,
        )
        compared = (*key, switches.noop_filter, switches.one_component)
        if compared not in self._compared:
            self._compared[compared] = self._compare(pairs.a[b], b, switches.one_component)
        outcome = self._compared[compared]
        if isinstance(outcome, InputError):
            return replace(found, warnings=(f"no score: {outcome}",))
        return replace(
            found,
            svcca=outcome.value,
            k=outcome.kept,
            n_per_k=len(b) / max(outcome.kept),
            null_mean=float(outcome.null.mean()),
            p=judge_shuffled(outcome.value, outcome.null, switches.p_without_one),
            warnings=_warn_of(len(b), max(outcome.kept)),
        )

    def _compare(
        self, a: NDArray[np.integer], b: NDArray[np.integer], one_component: bool
    ) -> "_Outcome | InputError":
        try:
            prepared = prepare_svcca(self._decoders[0][a], self._decoders[1][b], one_component)
        except InputError as error:
            return error
        orders = draw_orders(len(b), self._shuffles, np.random.default_rng(self._seed))
        return _Outcome(prepared.value, prepared.kept or (0, 0), prepared.permute(orders))

    def _pair(self, early: bool, padded: bool) -> BestOfB:
        early = early and list_sites(self._run, True) != list_sites(self._run, False)
        words, padding = self._run, None
        if early:
            words = read_early(self._run, self._load, self._report)
        if padded:
            padding = read_padding(self._run, self._load, self._report, early=early)
        return pair_best_of_b(words, padding)

    def _load(self) -> Sides:
        """The models, tried once: one that cannot be had is not asked for again."""
        if self._sides is None:
            self._report("load", 0, None)
            try:
                self._sides = load_sides(self._run)
            except InputError as error:
                self._sides = error
        if isinstance(self._sides, InputError):
            raise self._sides
        return self._sides


def _warn_of(pairs: int, k: int) -> tuple[str, ...]:
    if pairs >= FEW_ROWS * k:
        return ()
    return (
        f"{pairs:,} pairs for {k:,} components, {pairs / k:.1f} each: with fewer than {FEW_ROWS} CCA is high "
        "for unrelated vectors too, as the mean of its null shows.",
    )
