"""xmodel: compare the features of two language models whose tokenizers differ, word by word.

This file is the table of contents. Names are loaded when first used, so that importing the package, and
`xmodel --help`, cost next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmodel.alignment.align import align_ids, align_text, align_texts
    from xmodel.alignment.loading import load_tokenizer
    from xmodel.alignment.settings import PassSettings
    from xmodel.alignment.setup import LoadOptions
    from xmodel.alignment.windows import cut_windows
    from xmodel.errors import InputError
    from xmodel.models.capture import capture
    from xmodel.models.language import load_language_model
    from xmodel.models.saes import load_dictionary
    from xmodel.pairing.comparing import align_models
    from xmodel.pairing.results import open_run
    from xmodel.pairing.settings import PairSettings
    from xmodel.report.page.report import write_report
    from xmodel.report.page.settings import ReportSettings
    from xmodel.similarity.scoring import score_run
    from xmodel.similarity.settings import ScoreSettings
    from xmodel.steering.settings import SteerSettings
    from xmodel.steering.steering import steer_run

__all__ = [
    "InputError",
    "LoadOptions",
    "PairSettings",
    "PassSettings",
    "ReportSettings",
    "ScoreSettings",
    "SteerSettings",
    "align_ids",
    "align_models",
    "align_text",
    "align_texts",
    "capture",
    "cut_windows",
    "load_dictionary",
    "load_language_model",
    "load_tokenizer",
    "open_run",
    "score_run",
    "steer_run",
    "write_report",
]

_HOMES = {
    "InputError": "xmodel.errors",
    "LoadOptions": "xmodel.alignment.setup",
    "PairSettings": "xmodel.pairing.settings",
    "PassSettings": "xmodel.alignment.settings",
    "ReportSettings": "xmodel.report.page.settings",
    "ScoreSettings": "xmodel.similarity.settings",
    "SteerSettings": "xmodel.steering.settings",
    "align_ids": "xmodel.alignment.align",
    "align_models": "xmodel.pairing.comparing",
    "align_text": "xmodel.alignment.align",
    "align_texts": "xmodel.alignment.align",
    "capture": "xmodel.models.capture",
    "cut_windows": "xmodel.alignment.windows",
    "load_dictionary": "xmodel.models.saes",
    "load_language_model": "xmodel.models.language",
    "load_tokenizer": "xmodel.alignment.loading",
    "open_run": "xmodel.pairing.results",
    "score_run": "xmodel.similarity.scoring",
    "steer_run": "xmodel.steering.steering",
    "write_report": "xmodel.report.page.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xmodel' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
