"""What a user may choose about pairing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from xmodel.errors import InputError


@dataclass(frozen=True)
class PairSettings:
    """Choices of pairing; all of them are in the run's manifest.

    Raises:
        InputError: for a value that makes no sense.
    """

    min_firings: int = 10
    """Features that fire on fewer words of the discovery half are set aside."""
    floor: float = 0.0
    """Pairs must correlate by more than this."""
    top_k: int = 10
    """Partners kept per feature, both ways."""
    skip_words: str | None = None
    """Words left out before correlation: punctuation, digits, stop, a file with one word a line, or several
    of these joined by commas."""
    drop_non_concepts: bool = False
    """Set aside features whose top words are mostly punctuation, digits, whitespace, stop words or special
    tokens."""
    at_most: int = 3
    """How many of A's features may share one of B's under the rule ``many_to_one``."""
    price: float | None = None
    """What r a pair must be worth in the optimal assignment for its features not to stay single; at least
    the floor, which None takes."""
    workers: int | None = None
    """Threads; None takes one per core. Results do not depend on it."""
    memory: int = 1 << 30
    """Bytes that correlation may take; more than this is done in tiles."""

    def __post_init__(self) -> None:
        for name, least in (("min_firings", 1), ("top_k", 1), ("at_most", 1), ("memory", 1 << 20)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}: it must be at least 1.")
        if not 0 <= self.floor < 1:
            raise InputError(f"floor is {self.floor}: r lies in [0, 1) here.")
        if not self.floor <= self.least_worth < 1:
            raise InputError(
                f"price is {self.price} and floor is {self.floor}: pairs below the floor are never made, so "
                "a price lies from the floor to below 1."
            )

    @property
    def least_worth(self) -> float:
        """The price, where None is the floor."""
        return self.floor if self.price is None else self.price

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> "PairSettings":
        """The choices with which a run was paired last; the defaults where it never was."""
        stored = manifest.get("pairing", {})
        own = {one.name: stored[one.name] for one in fields(cls) if one.name in stored}
        if own.get("price") == own.get("floor"):
            own.pop("price", None)
        return cls(**own)

    def as_json(self) -> dict[str, Any]:
        """The choices by name; not those that leave results as they are."""
        chosen = {name: value for name, value in asdict(self).items() if name not in ("workers", "memory")}
        return {**chosen, "price": self.least_worth}
