"""Two models and their dictionaries, loaded and checked against each other before any text is read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
    others: "tuple[SideRequest, ...]" = ()
    """More dictionaries of the same model, read in the same pass."""

    def as_json(self) -> dict[str, Any]:
        """By name; ``others`` only where there are any."""
        own = {name: value for name, value in asdict(self).items() if name != "others"}
        more = [{"dictionary": one.dictionary, "site": one.site} for one in self.others]
        return {**own, "others": more} if more else own


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
    """Load both sides; a model that is the same on both is loaded once, as is one of several dictionaries.

    Raises:
        InputError: for what cannot be loaded, for a dictionary whose width or site does not exist in the
            model, where the user and the dictionary's metadata contradict each other, and where dictionaries
            of one side do: they are of different models, one was trained with BOS and another without, or
            one is another's twin.
    """
    check_device(options.device)
    check_dtype(options.dtype)
    loaded: dict[tuple[str, str], tuple[LanguageModel, Tokenizer]] = {}
    a = _prepare_all("a", first, settings, options, loaded)
    b = _prepare_all("b", second, settings, options, loaded)
    return a, b


def _prepare_all(
    letter: str,
    request: SideRequest,
    settings: PassSettings,
    options: LoadOptions,
    loaded: "dict[tuple[str, str], tuple[LanguageModel, Tokenizer]]",
) -> Side:
    """A side with all its dictionaries, which share prefix and limit."""
    sides = [_prepare(letter, request, settings, options, loaded)]
    for number, other in enumerate(request.others, 1):
        asked = replace(other, model=request.model)
        sides.append(_prepare(f"{letter}{number}", asked, settings, options, loaded, sides))
    if len(sides) == 1:
        return sides[0]
    _check_no_twins(letter, sides)
    prefix = _agree_on_prefix(sides)
    limit = min(one.limit + len(one.prefix) for one in sides) - len(prefix)
    first, *others = (replace(one, prefix=prefix, limit=limit) for one in sides)
    return replace(first, others=tuple(others))


def _check_one_model(letter: str, earlier: Sequence[Side], info: DictionaryInfo, accept_misfit: bool) -> None:
    """Refuse a dictionary of another model than those before it, or of the model processed in another way."""
    for one in earlier:
        theirs = one.dictionary.info.model
        if theirs is None and _is_hub_id(one.model.name):
            theirs = one.model.name.partition("@")[0]
        ways = dict(info.processing), dict(one.model.processing)
        other = bool(info.model and theirs) and str(info.model).lower() != str(theirs).lower()
        if (other and not accept_misfit) or ways[0] != ways[1]:
            how = "" if other else f" (processed as {ways[0] or 'it is'}, and before as {ways[1] or 'it is'})"
            raise InputError(
                f"--sae-{letter[0]} {one.dictionary.info.name} is of {theirs or one.model.name}, and "
                f"--sae-{letter[0]} {info.name} of {info.model or one.model.name}{how}: all SAEs of a side "
                "are read in one pass of one model. Give the second to the other side, or to another sweep."
            )


def _check_no_twins(letter: str, sides: Sequence[Side]) -> None:
    """Refuse a dictionary that came twice, be it under two names."""
    seen: dict[tuple[str, str], Side] = {}
    for one in sides:
        info = one.dictionary.info
        key = one.site, one.unfitted or info.digest or info.name
        if key in seen:
            raise InputError(
                f"--sae-{letter} came twice with the same SAE at {one.site}: "
                f"{seen[key].dictionary.info.name} and {info.name}. Leave one of them out."
            )
        seen[key] = one


def _agree_on_prefix(sides: Sequence[Side]) -> tuple[int, ...]:
    """What stands before every window, if the dictionaries that say so say the same."""
    stated = [one for one in sides if one.dictionary.info.prepend_bos is not None]
    for one in stated[1:]:
        first = stated[0].dictionary.info
        if one.prefix != stated[0].prefix:
            with_bos, without = (first, one.dictionary.info)
            if not with_bos.prepend_bos:
                with_bos, without = without, with_bos
            raise InputError(
                f"{with_bos.name} was trained with BOS before every text, and {without.name} without: they "
                "cannot read the same pass. Sweep over them one after the other."
            )
    return (stated or sides)[0].prefix


def _prepare(
    letter: str,
    request: SideRequest,
    settings: PassSettings,
    options: LoadOptions,
    loaded: "dict[tuple[str, str], tuple[LanguageModel, Tokenizer]]",
    earlier: Sequence[Side] = (),
) -> Side:
    site = _find_baseline_site(request.dictionary)
    width, dtype = None, _widen(options.dtype)
    if site is None:
        dictionary = load_dictionary(
            request.dictionary, device=options.device, dtype=dtype, allow_pt=options.allow_pt
        )
        model, tokenizer = _find_model(letter, request, dictionary.info, options, loaded, earlier)
    else:
        model, tokenizer = _find_model(letter, request, None, options, loaded, earlier)
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


def _find_model(
    letter: str,
    request: SideRequest,
    info: DictionaryInfo | None,
    options: LoadOptions,
    loaded: "dict[tuple[str, str], tuple[LanguageModel, Tokenizer]]",
    earlier: Sequence[Side],
) -> "tuple[LanguageModel, Tokenizer]":
    """The model of a dictionary; that of the side's first one, where this is not the first."""
    if earlier:
        if info is not None:
            _check_one_model(letter, earlier, info, options.accept_misfit)
        return earlier[0].model, earlier[0].tokenizer
    source = _choose_model(letter, request, info, bool(info) and options.accept_misfit)
    return _load_model(source, info.processing if info else {}, options, loaded)


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
            f"--site-{letter[0]} is {request.site}, and {info.name} was trained at {info.site}: leave "
            f"--site-{letter[0]} out, or correct the dictionary's metadata."
        )
    site = info.site or request.site
    if site is None:
        raise InputError(
            f"{info.name} does not say where it was trained: name the site with --site-{letter[0]}, for "
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
