"""xmodel: compare the features of two language models whose tokenizers differ, word by word.

This file is the table of contents. Names are loaded when first used, so that importing the package, and
`xmodel --help`, cost next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmodel.alignment.align import align_ids, align_text, align_texts
    from xmodel.alignment.loading import load_tokenizer
    from xmodel.alignment.pooling import choose_last_tokens
    from xmodel.alignment.windows import cut_windows
    from xmodel.datasets.words import split_words
    from xmodel.errors import InputError

__all__ = [
    "InputError",
    "align_ids",
    "align_text",
    "align_texts",
    "choose_last_tokens",
    "cut_windows",
    "load_tokenizer",
    "split_words",
]

_HOMES = {
    "InputError": "xmodel.errors",
    "align_ids": "xmodel.alignment.align",
    "align_text": "xmodel.alignment.align",
    "align_texts": "xmodel.alignment.align",
    "choose_last_tokens": "xmodel.alignment.pooling",
    "cut_windows": "xmodel.alignment.windows",
    "load_tokenizer": "xmodel.alignment.loading",
    "split_words": "xmodel.datasets.words",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xmodel' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
