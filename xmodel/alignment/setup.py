"""Two models and their dictionaries, loaded and checked against each other before any text is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.alignment.extract import Side
from xmodel.alignment.loading import load_tokenizer
from xmodel.alignment.settings import PassSettings
from xmodel.errors import InputError
from xmodel.models.baselines import is_identity, needs_fitting
from xmodel.models.language import LanguageModel, check_device, check_dtype, load_language_model
from xmodel.models.saes import load_dictionary
from xmodel.models.sites import site_width
from xmodel.records import DictionaryInfo

if TYPE_CHECKING:
    from xmodel.alignment.tokenizer import Tokenizer

LONGEST_WINDOW = 1024
"""Most tokens of a window where neither the dictionary nor the user says."""


@dataclass(frozen=True)
class SideRequest:
    """What a user names for one model."""

    dictionary: str
    """SAE, or a baseline: see `load_dictionary`."""
    model: str | None = None
    """Hugging Face id or folder; None takes the model that the dictionary was trained on."""
    site: str | None = None
    """Where it reads; only where the dictionary does not say."""


@dataclass(frozen=True)
class LoadOptions:
    """How models and dictionaries are loaded."""

    device: str = "cpu"
    dtype: str = "float32"
    allow_pt: bool = False
    """Whether a dictionary may come as a .pt file, read with ``weights_only``."""
    trust_remote_code: bool = False
    accept_misfit: bool = False
    """Whether a dictionary of another model may be used."""


def prepare_sides(
    first: SideRequest, second: SideRequest, settings: PassSettings, options: LoadOptions
) -> tuple[Side, Side]:
    """Load both sides; a model that is the same on both is loaded once.

    Raises:
        InputError: for what cannot be loaded, for a dictionary whose width or site does not exist in the
            model, and where the user and the dictionary's metadata contradict each other.
    """
    check_device(options.device)
    check_dtype(options.dtype)
    loaded: dict[tuple[str, str], tuple[LanguageModel, Tokenizer]] = {}
    a = _prepare("a", first, settings, options, loaded)
    b = _prepare("b", second, settings, options, loaded)
    return a, b


def _prepare(
    letter: str,
    request: SideRequest,
    settings: PassSettings,
    options: LoadOptions,
    loaded: "dict[tuple[str, str], tuple[LanguageModel, Tokenizer]]",
) -> Side:
    site = _find_baseline_site(request.dictionary)
    width, dtype = None, _widen(options.dtype)
    if site is None:
        dictionary = load_dictionary(
            request.dictionary, device=options.device, dtype=dtype, allow_pt=options.allow_pt
        )
        source = _choose_model(letter, request, dictionary.info, options.accept_misfit)
        model, tokenizer = _load_model(source, dictionary.info.processing, options, loaded)
    else:
        model, tokenizer = _load_model(_choose_model(letter, request, None, False), {}, options, loaded)
        # Principal components are fitted when the first text is there; until then all dimensions stand in.
        stand_in = f"residual:{site}" if needs_fitting(request.dictionary) else request.dictionary
        width = site_width(model, site)
        dictionary = load_dictionary(stand_in, device=options.device, dtype=dtype, width=width)
    info = dictionary.info
    site = _choose_site(letter, request, info)
    width = site_width(model, site)
    if width != info.width:
        raise InputError(
            f"{info.name} reads {info.width} dimensions, and {site} of {model.name} has {width}: this SAE "
            f"is of "
            f"another model or site{f' (it was trained on {info.model})' if info.model else ''}."
        )
    prefix = _choose_prefix(model, tokenizer, info)
    return Side(
        letter=letter,
        model=model,
        dictionary=dictionary,
        tokenizer=tokenizer,
        site=site,
        prefix=prefix,
        limit=_choose_limit(model, info, settings, len(prefix)),
        unfitted=request.dictionary if needs_fitting(request.dictionary) else None,
    )


def _find_baseline_site(source: str) -> str | None:
    """The site of ``neurons:SITE``, ``residual:SITE`` and ``pca:SITE:K``; None for an SAE."""
    site = source.partition(":")[2]
    if needs_fitting(source):
        return site.rpartition(":")[0] or site
    return site if is_identity(source) else None


def _widen(dtype: str) -> str:
    """Dictionaries run in float32 also where the model runs in half precision."""
    return "float64" if dtype == "float64" else "float32"


def _choose_model(letter: str, request: SideRequest, info: DictionaryInfo | None, accept_misfit: bool) -> str:
    named = info.model if info else None
    if request.model is None:
        if not named:
            raise InputError(
                f"{request.dictionary} does not say which model it belongs to: name it with --model-{letter}."
            )
        return named
    if named and _is_hub_id(request.model) and not accept_misfit:
        asked = request.model.partition("@")[0]
        if asked.lower() != named.lower():
            raise InputError(
                f"--model-{letter} is {asked}, and {request.dictionary} was trained on {named}: leave "
                f"--model-{letter} out, or add --accept-misfit to use the dictionary on another model."
            )
    return request.model


def _is_hub_id(model: str) -> bool:
    """Whether a model's name is no folder's: also none of a folder that is not there, which loading tells."""
    is_path = model.startswith((".", "/", "~")) or model.partition("@")[0].count("/") > 1
    return not is_path and not Path(model).exists()


def _choose_site(letter: str, request: SideRequest, info: DictionaryInfo) -> str:
    if request.site and info.site and request.site != info.site:
        raise InputError(
            f"--site-{letter} is {request.site}, and {info.name} was trained at {info.site}: leave "
            f"--site-{letter} out, or correct the dictionary's metadata."
        )
    site = info.site or request.site
    if site is None:
        raise InputError(
            f"{info.name} does not say where it was trained: name the site with --site-{letter}, for "
            f"instance "
            "blocks.9.hook_resid_post."
        )
    return site


def _load_model(
    source: str,
    processing: Mapping[str, Any],
    options: LoadOptions,
    loaded: "dict[tuple[str, str], tuple[LanguageModel, Tokenizer]]",
) -> "tuple[LanguageModel, Tokenizer]":
    key = (source, repr(sorted(processing.items())))
    if key not in loaded:
        model = load_language_model(
            source,
            device=options.device,
            dtype=options.dtype,
            processing=processing or None,
            trust_remote_code=options.trust_remote_code,
        )
        loaded[key] = model, load_tokenizer(model.folder)
    return loaded[key]


def _choose_prefix(model: LanguageModel, tokenizer: "Tokenizer", info: DictionaryInfo) -> tuple[int, ...]:
    """BOS where the dictionary was trained with it; where it does not say, as the tokenizer's template."""
    if info.prepend_bos is None:
        return tokenizer.template[0]
    if not info.prepend_bos:
        return ()
    if model.bos is None:
        raise InputError(
            f"{info.name} was trained with BOS before every text, and {model.name} has none: this SAE is of "
            "another model."
        )
    return (model.bos,)


def _choose_limit(model: LanguageModel, info: DictionaryInfo, settings: PassSettings, prefix: int) -> int:
    """Most tokens of a window, the prefix not counted."""
    longest = settings.context or info.context_size or LONGEST_WINDOW
    if model.context is not None:
        if settings.context is not None and settings.context > model.context:
            raise InputError(
                f"--context is {settings.context}, and {model.name} reads at most {model.context} tokens."
            )
        longest = min(longest, model.context)
    if longest <= prefix:
        raise InputError(f"a window of {longest} tokens has no room for a word after BOS: raise --context.")
    return longest - prefix
