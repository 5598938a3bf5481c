"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer


class UnitOption(StrEnum):
    """What is compared: words, or tokens where both tokenizers are equal."""

    WORD = "word"
    TOKEN = "token"


class PoolOption(StrEnum):
    """How a word's tokens become one row."""

    LAST = "last"
    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    FIRST = "first"
    BYTES = "bytes"


class DocumentOption(StrEnum):
    """How text files are cut into documents."""

    PARAGRAPHS = "paragraphs"
    FILE = "file"


class RuleOption(StrEnum):
    """Rules of pairing under which pairs are scored."""

    BEST_OF_A = "best_of_a"
    BEST_OF_B = "best_of_b"
    MUTUAL = "mutual"
    ONE_TO_ONE = "one_to_one"
    OPTIMAL = "optimal"


WordsLimit = Annotated[
    int | None, typer.Option("--words-limit", min=1, metavar="N", help="Stop after N words.")
]
Words = Annotated[
    str, typer.Option("--words", metavar="RULE", help="What a word is; see `xmodel words --help`.")
]
Pool = Annotated[PoolOption, typer.Option("--pool", help="How a word's tokens become one row.")]
Document = Annotated[
    DocumentOption, typer.Option("--document", help="Cut text files at blank lines, or not at all.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]
MIN_FIRINGS = typer.Option(
    "--min-firings", min=1, metavar="N", help="Set rarer features aside, by words they fire on."
)
MinFirings = Annotated[int, MIN_FIRINGS]
FLOOR = typer.Option("--floor", min=0.0, max=1.0, metavar="R", help="Least r of a pair.")
Floor = Annotated[float, FLOOR]
TOP_K = typer.Option("--top-k", min=1, metavar="K", help="Partners kept per feature, both ways.")
TopK = Annotated[int, TOP_K]
SkipWords = Annotated[
    str | None,
    typer.Option(
        "--skip-words",
        metavar="FILE|KINDS",
        help="Words left out before correlation: punctuation, digits, stop, or a file with one word a line; "
        "several joined by commas.",
    ),
]
Concepts = Annotated[
    bool,
    typer.Option(
        "--concepts-only", help="Set aside features whose top words are punctuation, digits or stop words."
    ),
]
AT_MOST = typer.Option(
    "--at-most", min=1, metavar="M", help="Features of A per feature of B under many_to_one."
)
AtMost = Annotated[int, AT_MOST]
Price = Annotated[
    float | None,
    typer.Option(
        "--price",
        metavar="R",
        help="What r a pair must be worth in the optimal assignment; the floor, or more.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many pairs to show.")]
