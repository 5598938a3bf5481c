"""Weight files: read safely, checked for damage, hashed, and never unpickled unasked."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
"""Suffixes of files that PyTorch pickles."""


def hash_files(paths: Sequence[Path]) -> str:
    """The SHA-256 of a file, hexadecimal; of several files that of their digests in ascending order."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def parse_dtype(dtype: str) -> "torch.dtype":
    """The torch dtype of that name. Raises `InputError` for a name that is no floating-point dtype."""
    import torch

    known = {
        "float32": torch.float32,
        "float64": torch.float64,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    if dtype not in known:
        raise InputError(f"the dtype {dtype!r} is not known: expected one of {', '.join(known)}.")
    return known[dtype]


def read_config(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `InputError` where the file is none."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the SAE's configuration {str(path)!r} cannot be read as JSON: {error}. Download or "
            "save it again."
        ) from error
    if not isinstance(config, dict):
        raise InputError(
            f"the SAE's configuration {str(path)!r} holds a {type(config).__name__}: expected a JSON object."
        )
    return config


def read_safetensors(path: Path, device: str) -> "dict[str, Tensor]":
    """All tensors of a safetensors file. Raises `InputError` where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the weights {str(path)!r} cannot be read: {error}. Expected a complete safetensors file: "
            "download or save it again."
        ) from error


def check_numbers(name: str, tensors: "Mapping[str, Tensor]") -> None:
    """Raise `InputError` where a weight is NaN or infinite (a threshold may be: its feature never fires)."""
    for key, tensor in tensors.items():
        bad = tensor.isnan() if key == "threshold" else ~tensor.isfinite()
        if bad.any():
            raise InputError(
                f"the SAE {name!r} has {int(bad.sum())} numbers in {key} that are NaN or infinite: expected "
                "finite weights. The file is damaged or the training diverged: download or train it again."
            )


def check_shape(name: str, key: str, tensor: "Tensor", shape: tuple[int, ...]) -> None:
    """Raise `InputError` where a weight has another shape than the configuration says."""
    if tuple(tensor.shape) != shape:
        raise InputError(
            f"the SAE {name!r} has {key} of shape {list(tensor.shape)}: expected {list(shape)} by its own "
            "configuration. Configuration and weights belong to different SAEs: download both again."
        )


def check_rows(name: str, rows: "Tensor", width: int, what: str) -> None:
    """Raise `InputError` where `rows` is not [n, width]."""
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InputError(
            f"the SAE {name!r} was given {what} of shape {list(rows.shape)}: expected [n, {width}]. The SAE "
            "belongs to another model or site."
        )


def refuse_pickle(name: str, file: str) -> InputError:
    """The error that says why a pickled file is not read."""
    return InputError(
        f"the SAE {name!r} is stored as {file!r}, a PyTorch pickle, which can run code when it is read: "
        "expected safetensors or npz. If you trust its source, allow it with --allow-pt (allow_pt=True); it "
        "is then read with weights_only=True."
    )


def explain_pickle(name: str, error: Exception) -> InputError:
    """The error for a pickle that holds more than tensors, or is damaged.

    PyTorch then raises a class of the pickle module, which is not imported here: callers catch `Exception`.
    """
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(
        f"the SAE {name!r} cannot be read with weights_only=True: {reason} Expected a dictionary of tensors "
        "alone: save it again as safetensors where it was made."
    )


@contextmanager
def guard_saelens(name: str, allow_pt: bool) -> Iterator[list[Path]]:
    """While it is open, SAELens neither downloads nor reads a pickle unless `allow_pt`; yields what was read.

    SAELens' loaders call ``torch.load`` without saying how. Within this context that function refuses, or
    with `allow_pt` insists on ``weights_only=True``; and their download function refuses a pickle before it
    is fetched. Both are put back on leaving, also after an exception. Not for several threads at once.
    """
    import sae_lens.loading.pretrained_sae_loaders as loaders
    import torch

    files: list[Path] = []
    load, download = torch.load, loaders.hf_hub_download

    def load_guarded(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not allow_pt:
            raise refuse_pickle(name, str(file))
        try:
            return load(file, *args, **{**kwargs, "weights_only": True})
        except Exception as error:
            raise explain_pickle(name, error) from error

    def download_guarded(repo_id: str, filename: str, *args: Any, **kwargs: Any) -> str:
        if not allow_pt and filename.endswith(PICKLED):
            raise refuse_pickle(name, f"{repo_id}/{filename}")
        path = download(repo_id, filename, *args, **kwargs)
        files.append(Path(path))
        return path

    torch.load = load_guarded
    loaders.hf_hub_download = download_guarded
    try:
        yield files
    finally:
        torch.load = load
        loaders.hf_hub_download = download


def explain_download(name: str, repository: str, folder: str, error: Exception) -> InputError:
    """The error for a hub that cannot be reached or does not have the file."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(
        f"the SAE {name!r} cannot be downloaded: {reason} Expected the folder {folder!r} of the repository "
        f"{repository!r} on the Hugging Face hub, or in the local cache. Without a connection, download that "
        "folder elsewhere and give its path here, or copy a cache that has it and set HF_HOME to its folder; "
        "for a gated repository set HF_TOKEN."
    )
