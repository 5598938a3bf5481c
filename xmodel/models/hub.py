"""Find the files of a language model: a local folder, or a Hugging Face id, fetched or cached."""

import hashlib
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmodel.datasets.connection import reaches_hub
from xmodel.datasets.demo import find_builtin, is_builtin, refuse_bare_name
from xmodel.errors import InputError

# What transformers reads of a model in safetensors, and its tokenizer. Other copies of the same weights in
# the repository (consolidated.safetensors, pytorch_model.bin, ONNX) are left where they are.
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
_DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.py",
)
# What ids and the BOS token depend on.
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.json.gz",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer_config.json",
)


def find_model(source: str | Path) -> tuple[Path, str | None]:
    """The folder with a model's files, and the commit where they come from a hub.

    Args:
        source: a folder, a Hugging Face id, ``ID@REVISION``, or ``builtin:NAME``. Without a connection an id
            is looked up in the local cache.

    Raises:
        InputError: if there is no such folder or id, or it has no config.json or no safetensors.
    """
    path = Path(source).expanduser()
    text = str(source)
    if is_builtin(source):
        folder, commit = find_builtin(source, "model"), None
    elif path.exists():
        folder, commit = path, None
    elif text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise InputError(
            f"there is no model at {text!r}: give a folder with config.json and safetensors, or a Hugging "
            "Face id such as EleutherAI/pythia-160m, also ID@REVISION."
        )
    else:
        refuse_bare_name(text, "model")
        folder = _fetch(text)
        commit = folder.name
    _check_files(folder, text)
    return folder, commit


def _fetch(source: str) -> Path:
    """The snapshot of a hub id in the local cache, downloaded if it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    identity, _, revision = source.partition("@")
    try:
        folder = snapshot_download(
            identity,
            revision=revision or None,
            allow_patterns=[*_DESCRIPTIONS, *_WEIGHTS],
            ignore_patterns=["*/*"],
            local_files_only=not reaches_hub(),
        )
    except LocalEntryNotFoundError as error:
        raise InputError(_explain_offline(source)) from error
    except (HfHubHTTPError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{source!r} is no folder here, and as a Hugging Face id it could not be fetched: {reason} Check "
            "the spelling, or set HF_TOKEN if the repository is gated."
        ) from error
    return Path(folder)


def _explain_offline(source: str) -> str:
    return (
        f"{source!r} is no folder here, and it could not be fetched as a Hugging Face id: there is no "
        "connection to the hub, and it is not in the local cache. Give a folder with its config.json, "
        "safetensors and tokenizer.json, or copy a cache that has it to this machine and set HF_HOME to its "
        "folder."
    )


def _check_files(folder: Path, source: str) -> None:
    if not folder.is_dir():
        raise InputError(
            f"{source!r} is a file where a model's folder was expected: give the folder with its config.json "
            "and safetensors."
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            f"the folder {source!r} has no config.json: expected a model as save_pretrained writes it, with "
            "config.json and safetensors."
        )
    if list_weights(folder):
        return
    pickled = sorted(path.name for path in folder.glob("*.bin")) + sorted(
        path.name for path in folder.glob("*.pt*")
    )
    found = f"only {pickled[0]}, a pickle, which could run code" if pickled else "none"
    raise InputError(
        f"{source!r} has no weights in safetensors, there are {found}. Expected model.safetensors, or "
        "model-00001-of-0000N.safetensors with its index. To convert weights that you trust: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), and copy the tokenizer's "
        "files to it."
    )


def list_weights(folder: Path) -> list[Path]:
    """The files with a model's weights, by name."""
    return sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))


def hash_model(folder: Path) -> str:
    """SHA-256, hexadecimal, over the names and contents of the weight files and of config.json.

    In a cache of the hub a file is a link to a blob that is named by its SHA-256, which is then taken as it
    is; the result is the same as for a copy of the files.
    """
    return _hash_named([*list_weights(folder), folder / "config.json"])


def hash_tokenizer(folder: Path) -> str | None:
    """SHA-256, hexadecimal, over the names and contents of a folder's tokenizer files; None without any."""
    files = [folder / name for name in _TOKENIZER if (folder / name).is_file()]
    return _hash_named(files) if files else None


def _hash_named(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        blob = path.resolve().name
        if len(blob) == 64 and set(blob) <= set(string.hexdigits) and path.is_symlink():
            digest = blob
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()


def find_bos(folder: Path) -> int | None:
    """The id of the BOS token that a tokenizer's files name, or None where they name none."""
    settings = _read_json(folder / "tokenizer_config.json")
    token = settings.get("bos_token")
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        return None
    listed = [
        {**entry, "id": int(number)} for number, entry in settings.get("added_tokens_decoder", {}).items()
    ]
    listed += _read_json(folder / "tokenizer.json").get("added_tokens", [])
    return next((int(entry["id"]) for entry in listed if entry.get("content") == text), None)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not valid JSON: {error}.") from error
    return content if isinstance(content, dict) else {}
