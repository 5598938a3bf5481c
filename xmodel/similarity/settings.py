"""What a user may choose about scores."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from xmodel.errors import InputError
from xmodel.similarity.metrics import DEFAULT_METRICS
from xmodel.similarity.repairing import RULES

On = Literal["decoder", "activations"]
PARTS = ("rule", "coverage", "stratum", "concept")
"""Questions that a score answers; the scores of one are a family of tests."""
NULLS = {
    "shuffle": "B's side of the pairs is permuted; features that share a partner move together",
    "stratified": "the same, among features (or words) of about equal frequency only",
    "subsets": "as many random features on both sides, unpaired",
    "subsets_stratified": "the same, of the same frequencies as those that are scored",
    "pairs": "as many other pairs of the same rule and of the same frequencies",
    "shift": "one model's words are shifted in a circle, and the features are paired again",
}
"""What chance is, by name."""
METRICS_BY_PART: dict[On, dict[str, tuple[str, ...]]] = {
    "decoder": {
        "rule": DEFAULT_METRICS,
        "coverage": ("svcca", "cka_debiased"),
        "stratum": ("svcca", "cka_debiased"),
        # A concept has few features: too few for twenty components or ten neighbours.
        "concept": ("cka_debiased", "rsa"),
    },
    "activations": {
        "rule": ("svcca", "cka_debiased"),
        "coverage": ("svcca", "cka_debiased"),
        "stratum": ("svcca", "cka_debiased"),
        "concept": ("cka_debiased", "procrustes"),
    },
}
"""What is measured where the user names no metric."""
LEAST_PAIRS = 10
"""Pairs below which nothing is measured: almost any value comes by chance."""
DEFAULT_NULL: dict[On, str] = {"decoder": "stratified", "activations": "shift"}
"""What chance is where the user does not say. Frequent features resemble each other in every model, so pairs
are exchanged only among features of about equal frequency."""
ORDERS = 999
"""Permutations by default, where a permutation leaves most of the work as it was."""
DRAWS = 199
"""Draws by default, where everything is computed anew for each."""
CORRECTIONS = ("auto", "holm", "bh", "by", "max")


@dataclass(frozen=True)
class ScoreSettings:
    """Choices of `score_run`.

    Raises:
        InputError: for a value that makes no sense.
    """

    on: On = "decoder"
    """Compare decoder vectors of paired features, or the paired features' activations over held-out words."""
    metrics: tuple[str, ...] = ()
    """Names as `parse_metric` knows them; empty takes `METRICS_BY_PART`."""
    nulls: tuple[str, ...] = ()
    """Names of `NULLS`; empty takes `DEFAULT_NULL`, and for concepts ``pairs`` beside it."""
    rules: tuple[str, ...] = ()
    """Rules of pairing that are scored side by side; empty takes all on decoders, and ``mutual`` and
    ``one_to_one`` on activations, whose products are much larger."""
    parts: tuple[str, ...] = ()
    """Which of `PARTS`; empty takes all on decoders, and ``rule`` on activations."""
    concepts: tuple[str, ...] = ()
    """Which concepts; empty takes all that are no subsets."""
    concept_file: str | None = None
    """A YAML file of concepts in place of those that come with the program."""
    permutations: int | None = None
    """Permutations or draws per test; None takes `ORDERS` where rows are permuted and `DRAWS` elsewhere."""
    adaptive: bool = False
    """Stop a test when its decision is settled, and go on to ten times as many permutations where not."""
    alpha: float = 0.05
    """The level of the decisions."""
    correction: str = "auto"
    """What ``p_adjusted`` is; all corrections stand beside it. ``auto``: the max-statistic where all tests of
    a table share their draws, as under ``shift``, and Holm's elsewhere."""
    bootstrap: int = 20
    """Resamplings of documents for the interval; 0 leaves it out."""
    ceiling: bool = True
    """Whether the ceiling is measured."""
    most_words: int = 2000
    """Most held-out words whose activations are compared."""
    seed: int = 0
    """Of all permutations, draws and resamplings."""
    device: str = "cpu"
    """Where dictionaries are loaded."""

    def __post_init__(self) -> None:
        _check_choice("on", self.on, tuple(METRICS_BY_PART))
        # Results carry these settings, so that they must say what was done.
        own_rules = RULES if self.on == "decoder" else ("mutual", "one_to_one")
        object.__setattr__(self, "rules", self.rules or own_rules)
        object.__setattr__(self, "parts", self.parts or (PARTS if self.on == "decoder" else ("rule",)))
        _check_choice("correction", self.correction, CORRECTIONS)
        for null in self.nulls:
            _check_choice("null", null, tuple(NULLS))
        for part in self.parts:
            _check_choice("part", part, PARTS)
        for rule in self.rules:
            _check_choice("rule", rule, RULES)
        if self.permutations is not None and self.permutations < 1:
            raise InputError(
                f"permutations is {self.permutations}: it must be at least 1, and 19 or more for a p of 0.05."
            )
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha}: it lies between 0 and 1, 0.05 for instance.")
        if not any(self.list_nulls(part) for part in self.parts):
            raise InputError(
                "the null pairs compares a choice of pairs with others, and all pairs of a rule or of a "
                "frequency are no choice: add the part coverage or concept, or take another null."
            )
        if self.correction == "max" and any(
            null != "shift" for part in self.parts for null in self.list_nulls(part)
        ):
            raise InputError(
                "correction is 'max', which needs draws that all tests of a table share, and only the null "
                "shift has them: add it as the only null, or take holm, bh or by."
            )
        if self.concepts and "concept" not in self.parts:
            raise InputError(
                f"the concept {self.concepts[0]!r} was asked for, and the part concept was not: leave the "
                "parts out, or add it."
            )
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be 0 or more.")
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise InputError(f"bootstrap is {self.bootstrap}: give 0 for no interval, or 2 and more.")
        if self.most_words < 10:
            raise InputError(f"most_words is {self.most_words}: it must be at least 10.")

    def list_metrics(self, part: str) -> tuple[str, ...]:
        """The metrics of one part, defaults put in."""
        return tuple(dict.fromkeys(self.metrics or METRICS_BY_PART[self.on][part]))

    def list_nulls(self, part: str) -> tuple[str, ...]:
        """The nulls of one part, defaults put in."""
        if self.nulls:
            # All pairs of a rule, or of a frequency, have no others to be compared with.
            return tuple(null for null in self.nulls if null != "pairs" or part in ("coverage", "concept"))
        own = DEFAULT_NULL[self.on]
        return (own, "pairs") if part == "concept" else (own,)

    def count_permutations(self, null: str, family: int = 1) -> int:
        """How many permutations or draws a null gets.

        Args:
            null: its name.
            family: tests in its table: by default as many as let Holm's correction reach `alpha`.
        """
        if self.permutations is not None:
            return self.permutations
        permuted = null in ("shuffle", "stratified") or (null == "shift" and self.on == "activations")
        if null == "shift":
            return DRAWS
        return max(ORDERS if permuted else DRAWS, math.ceil(family / self.alpha))

    def as_json(self) -> dict[str, Any]:
        """The choices by name."""
        return asdict(self)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}: choose {', '.join(known)}.")
