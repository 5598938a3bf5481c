"""What a user may choose about steering."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from xmodel.errors import InputError
from xmodel.similarity.repairing import RULES

Reinit = Literal["initial", "shuffled"]
MODES = ("push", "ablate")
CURVE_DOSES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Doses of the dose-response curves and of the exchange rate."""
LEAST_WORDS = 20
"""Words below which a Gram matrix says nothing: it has 190 entries then."""
LARGEST_DOSE = 10.0
"""A push of ten times the residual stream's norm leaves nothing of it."""
EXAMPLE_DOSE = 0.5
"""Dose of the example: what both models say next."""


@dataclass(frozen=True)
class SteerSettings:
    """Choices of `steer_run`.

    Raises:
        InputError: for a value that makes no sense.
    """

    pairs: int = 100
    """How many pairs, best r first."""
    rule: str = "mutual"
    """Rule of pairing that they are taken from."""
    features: tuple[tuple[int, int], ...] = ()
    """Pairs of the user's own, (A, B), in place of the best."""
    mode: str = "push"
    """``push`` along both signs, or ``ablate``: the feature is decoded to zero where it fires."""
    doses: tuple[float, ...] = (0.1, 0.25)
    """rho: lengths of the push, as shares of the median norm of the residual stream over words."""
    depths: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Where responses are read, as shares of the way from the site to the last block."""
    words: int = 200
    """Held-out words over which responses are compared."""
    passage_words: int = 50
    """Words of a passage."""
    random: int = 1000
    """Random directions of B that every partner is compared with."""
    live: int = 400
    """Other live features of B, of the same frequencies and decoder norms."""
    permutations: int = 999
    """Permutations of words, and of partners."""
    reinit: int = 3
    """Draws of models whose layers after the site are random."""
    reinit_how: Reinit = "initial"
    """``initial``: as the architecture initialises itself; ``shuffled``: each weight tensor's own entries in
    random order."""
    curve_pairs: int = 10
    """Pairs whose dose-response curves and next-token KL are measured."""
    curve_doses: tuple[float, ...] = CURVE_DOSES
    """Doses of those curves."""
    contrasts: tuple[str, ...] = ()
    """Names of contrast sets whose difference-in-means vectors are carried over; all of the file's if empty
    and a file is given."""
    contrast_file: str | None = None
    """A YAML or JSONL file of contrast prompts; None takes the bundled sets."""
    budget: int = 1 << 30
    """Most bytes that the replayed layers' activations may take."""
    alpha: float = 0.05
    """The level of the decisions."""
    seed: int = 0
    """Of passages, directions, permutations and random layers."""
    device: str = "cpu"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "doses", check_doses(self.doses))
        object.__setattr__(self, "curve_doses", check_doses(self.curve_doses))
        if (
            not _is_numbers(self.depths)
            or not self.depths
            or not all(0 < depth <= 1 for depth in self.depths)
        ):
            raise InputError(
                f"depths are {_list(self.depths)}: give one or more between 0 and 1, shares of the way from "
                "the steering site to the last block, for instance 0.25,0.5,0.75."
            )
        object.__setattr__(self, "depths", tuple(dict.fromkeys(sorted(self.depths))))
        if self.mode not in MODES:
            raise InputError(f"mode is {self.mode!r}: choose {' or '.join(MODES)}.")
        if self.rule not in RULES:
            raise InputError(f"rule is {self.rule!r}: choose {', '.join(RULES)}.")
        if self.reinit_how not in ("initial", "shuffled"):
            raise InputError(f"reinit_how is {self.reinit_how!r}: choose initial or shuffled.")
        least = {"pairs": 1, "words": LEAST_WORDS, "passage_words": 5, "permutations": 1, "budget": 1 << 20}
        least |= {"random": 0, "live": 0, "reinit": 0, "curve_pairs": 0, "seed": 0}
        for name, low in least.items():
            if not isinstance(value := getattr(self, name), int) or value < low:
                raise InputError(
                    f"{name} is {value!r}: it must be a whole number, {low:,} or more.{_advise(name)}"
                )
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in self.features):
            raise InputError(
                f"features are {self.features!r}: give pairs of numbers, (A, B), for instance ((12, 5), (40, "
                "7))."
            )
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha}: it lies between 0 and 1, 0.05 for instance.")

    @property
    def primary(self) -> int:
        """The cell that the plain sentences are about, chosen before anything is measured.

        The middle one of the depths and, of the doses, the one nearest to a quarter of the residual's norm.
        """
        dose = min(range(len(self.doses)), key=lambda j: abs(self.doses[j] - 0.25))
        return self.middle if self.mode == "ablate" else dose * len(self.depths) + self.middle

    @property
    def middle(self) -> int:
        """Number of the depth in the middle."""
        return len(self.depths) // 2

    @property
    def cells(self) -> list[tuple[float | None, float]]:
        """(dose, depth) of every cell, dose by dose; an ablation has no dose."""
        doses = self.doses if self.mode == "push" else (None,)
        return [(dose, depth) for dose in doses for depth in self.depths]

    def as_json(self) -> dict[str, Any]:
        """The choices by name."""
        return asdict(self)


def check_doses(doses: tuple[float, ...]) -> tuple[float, ...]:
    """Doses in ascending order.

    Raises:
        InputError: for none, or one that is not a number above 0.
    """
    if not _is_numbers(doses) or not doses or not all(0 < dose <= LARGEST_DOSE for dose in doses):
        raise InputError(
            f"doses are {_list(doses)}: give one or more numbers above 0 and up to {LARGEST_DOSE:g}, shares "
            "of the residual stream's norm, for instance 0.1,0.25. Both signs are pushed for each; one of 0 "
            "changes nothing, and the numerical floor it would show is measured anyway."
        )
    return tuple(dict.fromkeys(sorted(doses)))


def _is_numbers(values: object) -> bool:
    return isinstance(values, Sequence) and all(isinstance(one, int | float) for one in values)


def _list(values: object) -> str:
    if not isinstance(values, Sequence) or not _is_numbers(values):
        return repr(values)
    return ", ".join(f"{value:g}" for value in values) or "none"


def _advise(name: str) -> str:
    return {
        "words": " Below that a Gram matrix over words says nothing.",
        "random": " 1,000 let p-values of many pairs survive correction; 0 leaves the null out.",
    }.get(name, "")
