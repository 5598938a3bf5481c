"""What a page is to show."""

from dataclasses import dataclass
from pathlib import Path

from xmodel.errors import InputError


@dataclass(frozen=True)
class ReportSettings:
    """The options of `write_report`, and of ``xmodel report``."""

    figures: bool = False
    """Whether every figure is also drawn for print: SVG, PDF, and its data as CSV."""
    maps: bool = True
    """Whether the decoder directions are laid out in the plane (UMAP), which takes most of the time."""
    sweep: Path | None = None
    """The folder of a sweep whose grid of layers is shown; None takes that of the run, if it has one."""
    labels_a: Path | None = None
    """Names of A's features, which B's partners get: CSV, JSONL, or Neuronpedia's explanations."""
    labels_b: Path | None = None
    """The same for B's."""
    contexts: int = 20
    """Contexts per pair, half of them where A's feature fires most, half where B's does."""
    passages: int = 40
    """Passages of the alignment viewer."""
    shifts: int = 20
    """Circular shifts of B's words, after which features are paired again to see what chance reaches."""
    seed: int = 0
    """Of maps, shifts and samples."""

    def __post_init__(self) -> None:
        for name in ("contexts", "passages", "shifts"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if self.contexts % 2:
            raise InputError(
                f"contexts is {self.contexts}: it must be even, half for either feature of a pair."
            )
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be 0 or greater.")
