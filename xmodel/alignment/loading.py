"""Load a tokenizer from wherever the user has it: exactly the file given, never a rebuilt one."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xmodel.alignment.sentencepieces import wrap_sentencepiece, wrap_tiktoken
from xmodel.alignment.slow import wrap_slow
from xmodel.alignment.tokenizer import Tokenizer, wrap_fast
from xmodel.datasets.connection import reaches_hub
from xmodel.datasets.demo import find_builtin, is_builtin, refuse_bare_name
from xmodel.errors import InputError

_FILES = ("tokenizer.json", "tokenizer.json.gz", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def load_tokenizer(source: Any, *, name: str | None = None) -> Tokenizer:
    """Load a tokenizer of any kind.

    Args:
        source: a path to a ``tokenizer.json`` (also gzipped), to a SentencePiece ``.model``, or to a
            folder with one of them; ``builtin:NAME``; a Hugging Face id, also ``ID@REVISION``; or a live
            object: `tokenizers.Tokenizer`, a transformers tokenizer (fast or slow),
            `sentencepiece.SentencePieceProcessor`, `tiktoken.Encoding`.
        name: what to call it in output; by default the id, or the file's folder.

    Raises:
        InputError: if there is no such file or id, if the file is malformed, or if the object is of a
            kind whose configuration cannot be read.
    """
    if isinstance(source, Tokenizer):
        return source
    if not isinstance(source, str | Path):
        return _wrap_object(source, name)
    if is_builtin(source):
        return _load_path(find_builtin(source, "tokenizer"), name or str(source))
    path = Path(source).expanduser()
    if path.exists():
        return _load_path(path, name or _name_path(path))
    refuse_bare_name(source, "tokenizer")
    looks_local = str(source).startswith((".", "/", "~")) or str(source).count("/") > 1
    if looks_local or path.suffix in (".json", ".gz", ".model", ".tiktoken"):
        raise InputError(
            f"there is no tokenizer at {str(source)!r}: give the path of a tokenizer.json, of a "
            "SentencePiece .model or of a folder that has one, builtin:NAME, or a Hugging Face id such as "
            "EleutherAI/pythia-160m."
        )
    return _load_path(_download(str(source)), name or str(source))


def _name_path(path: Path) -> str:
    plain = path.name.removesuffix(".gz").removesuffix(".json").removesuffix(".model")
    return path.resolve().parent.name if plain == "tokenizer" else plain


def _load_path(path: Path, name: str) -> Tokenizer:
    if path.is_dir():
        found = next((path / file for file in _FILES if (path / file).exists()), None)
        if found is None:
            raise InputError(
                f"the folder {str(path)!r} has no tokenizer: expected one of {', '.join(_FILES)} in it. A "
                "tokenizer that exists only as a class can be given to load_tokenizer as a live object."
            )
        path = found
    loaders: dict[str, Callable[[Path, str], Tokenizer]] = {
        ".json": _load_json,
        ".gz": _load_json,
        ".model": _load_model,
    }
    loader = loaders.get(path.suffix)
    if loader is None:
        hint = (
            " A file of tiktoken ranks lacks the pattern that splits a text: build a tiktoken.Encoding "
            "and give that to load_tokenizer."
            if path.suffix == ".tiktoken"
            else ""
        )
        raise InputError(
            f"{str(path)!r} is not a tokenizer file that can be read: expected a tokenizer.json (or "
            f".json.gz) or a SentencePiece .model.{hint}"
        )
    return loader(path, name)


def _load_json(path: Path, name: str) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"the tokenizer file {str(path)!r} cannot be read: {error}.") from error
    try:
        text = raw.decode()
        backend = Backend.from_str(text)
    except Exception as error:  # the tokenizers library raises bare Exception for every kind of damage
        raise InputError(
            f"{str(path)!r} is not a valid tokenizer.json: {_describe_damage(raw, error)} Expected the file "
            "that the tokenizers library saves; download it again or save it with save_pretrained."
        ) from error
    return wrap_fast(backend, name)


def _describe_damage(raw: bytes, error: Exception) -> str:
    """What is wrong with a tokenizer.json, as precisely as can be told."""
    if not raw.strip():
        return "the file is empty."
    if raw.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself (git lfs pull fetches it)."
    try:
        content = json.loads(raw)
    except ValueError as problem:
        return f"it is not JSON ({problem})."
    if not isinstance(content, dict) or "model" not in content:
        return "it is JSON, but has no 'model' entry."
    return f"{error}."


def _load_model(path: Path, name: str) -> Tokenizer:
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise InputError(f"{str(path)!r} is not a valid SentencePiece model: {error}.") from error
    return wrap_sentencepiece(processor, name)


def _download(source: str) -> Path:
    """The tokenizer file of a hub id, from the local cache where there is no connection."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    identity, _, revision = source.partition("@")
    offline = not reaches_hub()
    for file in ("tokenizer.json", "tokenizer.model"):
        try:
            return Path(hf_hub_download(identity, file, revision=revision or None, local_files_only=offline))
        except LocalEntryNotFoundError as error:
            if file == "tokenizer.json" and offline:
                continue
            raise InputError(
                f"{source!r} is no file or folder here, and it could not be fetched as a Hugging Face id: "
                "there is no connection to the hub, and it is not in the local cache. Give a path, or copy a "
                "cache that has it to this machine and set HF_HOME to its folder."
            ) from error
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{source!r} is no file or folder here, and as a Hugging Face id it could not be fetched: "
                f"{reason} Check the spelling, or set HF_TOKEN if the repository is gated."
            ) from error
    raise InputError(f"the repository {source!r} has neither a tokenizer.json nor a tokenizer.model.")


def _wrap_object(source: Any, name: str | None) -> Tokenizer:
    """A live object, told apart by what it offers."""
    kind = type(source)
    given = name or getattr(source, "name_or_path", None) or getattr(source, "name", None) or kind.__name__
    if kind.__module__.startswith("tokenizers"):
        return wrap_fast(source, given)
    if hasattr(source, "backend_tokenizer"):
        return wrap_fast(source.backend_tokenizer, given)
    if kind.__module__.startswith("sentencepiece"):
        return wrap_sentencepiece(source, given)
    if kind.__module__.startswith("tiktoken"):
        return wrap_tiktoken(source, given)
    if hasattr(source, "convert_ids_to_tokens"):
        return wrap_slow(source, given)
    raise InputError(
        f"a {kind.__module__}.{kind.__qualname__} came where a tokenizer was expected: give a path, a hub "
        "id, or a tokenizers, transformers, sentencepiece or tiktoken tokenizer."
    )
