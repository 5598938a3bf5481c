"""What comes with xmodel itself, so that everything in it can be tried without a download.

Two small language models of different families with their tokenizers, SAEs of both, and a corpus that neither
was trained on. ``builtin:NAME`` only finds the folder: what is in it is loaded like a user's own.
"""

from pathlib import Path
from typing import Literal

from xmodel.errors import InputError

Kind = Literal["model", "tokenizer", "SAE", "corpus"]

PREFIX = "builtin:"
"""What stands before the name of something that comes with xmodel."""
BUILTIN_MODELS = ("neox-demo", "gemma-demo")
"""The models, each with its tokenizer; the first is built like Pythia, the second like Gemma 3."""
BUILTIN_SAES = (
    "neox-demo-l0",
    "neox-demo-l2",
    "neox-demo-l4",
    "gemma-demo-l1",
    "gemma-demo-l3",
    "gemma-demo-l5",
    "gemma-demo-l3-1k",
)
"""The SAEs, by model and block; 2,048 features each, and 1,024 where it says 1k."""
BUILTIN_CORPORA = ("demo-corpus", "demo-texts")
"""The corpora: passages that the models were not trained on, and texts on which aligners break."""

_KINDS: dict[Kind, tuple[str, ...]] = {
    "model": BUILTIN_MODELS,
    "tokenizer": BUILTIN_MODELS,
    "SAE": BUILTIN_SAES,
    "corpus": BUILTIN_CORPORA,
}


def is_builtin(source: object) -> bool:
    """Whether a user names something that comes with xmodel."""
    return str(source).startswith(PREFIX)


def refuse_bare_name(source: object, kind: Kind) -> None:
    """Tell a user who left out the prefix, before the name is looked up anywhere else.

    Raises:
        InputError: if something of that kind and name comes with xmodel.
    """
    if str(source) in _KINDS[kind]:
        raise InputError(
            f"there is no {kind} at {str(source)!r}; the one that comes with xmodel is {PREFIX}{source}."
        )


def find_builtin(source: object, kind: Kind) -> Path:
    """Where something that comes with xmodel lies.

    Args:
        source: its name, with or without ``builtin:`` before it.
        kind: what is expected under that name.

    Returns:
        The folder of a model, tokenizer or SAE, the file of a corpus.

    Raises:
        InputError: for any other name.
    """
    name = str(source).removeprefix(PREFIX)
    if name not in _KINDS[kind]:
        known = ", ".join(f"{PREFIX}{known}" for known in _KINDS[kind])
        others = [other for other, names in _KINDS.items() if name in names]
        article = "an" if others == ["SAE"] else "a"
        hint = f" {PREFIX}{name} is {article} {others[0]}." if others else ""
        raise InputError(f"No {kind} called {name!r} comes with xmodel.{hint} Known are: {known}.")
    own = {"demo-corpus": "corpus.jsonl", "demo-texts": "texts.py"}.get(name, name)
    return Path(__file__).parent / own


DEMO_SAES = ("builtin:neox-demo-l2", "builtin:gemma-demo-l3")
"""What ``xmodel demo`` compares: the SAEs in the middle of either model."""
DEMO_CORPUS = "builtin:demo-corpus"
"""What it reads."""
