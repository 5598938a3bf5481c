"""What comes with xmodel itself, so that it can be tried without a download: two small tokenizers."""

from pathlib import Path

from xmodel.errors import InputError

BUILTIN_TOKENIZERS = ("neox-demo", "gemma-demo")
"""Names that may follow ``builtin:``; the first is built like Pythia's tokenizer, the second like Gemma's."""


def find_builtin(name: str) -> Path:
    """The file of a tokenizer that comes with xmodel.

    Args:
        name: one of `BUILTIN_TOKENIZERS`, with or without ``builtin:`` before it.

    Returns:
        The path of its ``tokenizer.json.gz``.

    Raises:
        InputError: for any other name.
    """
    plain = name.removeprefix("builtin:")
    if plain not in BUILTIN_TOKENIZERS:
        known = ", ".join(f"builtin:{known}" for known in BUILTIN_TOKENIZERS)
        raise InputError(f"No tokenizer called {plain!r} comes with xmodel. Known are: {known}.")
    return Path(__file__).parent / plain / "tokenizer.json.gz"
