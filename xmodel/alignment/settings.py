"""What a user may choose about the pass over the corpus."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from xmodel.alignment.groups import check_policy
from xmodel.alignment.pooling import Pooling, check_pooling
from xmodel.datasets.words import check_rule
from xmodel.errors import InputError
from xmodel.records import Straddle

Unit = Literal["word", "token"]


@dataclass(frozen=True)
class PassSettings:
    """Choices of the pass; all of them are in the run's manifest.

    Raises:
        InputError: for a value that does not exist or makes no sense.
    """

    words: str = "default"
    """The word rule, see `xmodel.datasets.words`."""
    unit: Unit = "word"
    """``word``, or ``token`` where both tokenizers are equal."""
    straddle: Straddle = "merge"
    """What becomes of words that one token touches together."""
    words_limit: int | None = None
    """Stop after this many words of the corpus; None reads all of it."""
    window_words: int | None = None
    """Most words of a window; None fills the models' contexts."""
    pool: Pooling = "last"
    """How a word's tokens become one row."""
    pool_before_encoding: bool = False
    """Pool the activations and encode the pooled row, instead of encoding tokens and pooling features."""
    skip_positions: int = 1
    """First positions of every window, BOS included, that stand for no word."""
    massive: float = 6.0
    """Tokens whose norm is more than this many times the median stand for no word; 0 keeps them."""
    batch_tokens: int = 4096
    """Places of a batch, padding included."""
    shard_words: int = 10_000
    """Words after which a shard is closed; what a killed run loses at most."""
    context: int | None = None
    """Most tokens of a window, BOS included; None takes what the dictionaries were trained on."""

    def __post_init__(self) -> None:
        check_rule(self.words)
        check_policy(self.straddle)
        check_pooling(self.pool)
        if self.unit not in ("word", "token"):
            raise InputError(f"unknown unit {self.unit!r}: choose word or token.")
        if self.unit == "token" and self.straddle != "merge":
            raise InputError(
                f"--straddle {self.straddle} came with --unit token: it says what becomes of words that "
                "share a token, and units that are tokens share none. Leave --straddle out, or compare words."
            )
        for name in ("words_limit", "window_words", "batch_tokens", "shard_words", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1.")
        if self.skip_positions < 0:
            raise InputError(f"skip_positions is {self.skip_positions}: it must be 0 or more.")
        if self.massive != 0 and not self.massive > 1:
            raise InputError(
                f"massive is {self.massive}: it is a multiple of the median norm, so more than 1; or 0 to "
                "keep every token."
            )

    def as_json(self) -> dict[str, Any]:
        """The choices by name."""
        return asdict(self)
