"""Load a language model from wherever the user has it, exactly as it is stored."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.hub import find_bos, find_model, hash_model
from xmodel.models.processed import check_processing, process_weights
from xmodel.models.structure import find_decoder

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16", "float64")
"""Names of the number formats that a model can be run in."""


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model in eval mode, with what other stages ask of it."""

    name: str
    """As the user wrote it."""
    module: "nn.Module"
    """The Hugging Face causal language model; with `processing`, the `TransformerBridge` around it."""
    folder: str
    """The local folder (for a hub id, its snapshot in the cache) whose tokenizer belongs to it; for a live
    module what it says it was loaded from."""
    revision: str | None
    """The commit, for a hub id."""
    device: "torch.device"
    """Where it is."""
    dtype: "torch.dtype"
    """The number format of its weights and activations."""
    layers: int
    """Number of blocks."""
    width: int
    """Dimensions of the residual stream."""
    context: int | None
    """The most positions it can take; None where its config does not say."""
    bos: int | None
    """Id of the BOS token; None if it has none."""
    processing: Mapping[str, Any] = field(default_factory=dict)
    """The flags of TransformerLens in force; empty for the model as it is."""
    digest: str = ""
    """SHA-256, hexadecimal, of its weights before any processing and of its config.json; for a live module of
    its weights and its configuration."""


def load_language_model(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    processing: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a causal language model from safetensors.

    Args:
        source: a local folder, a Hugging Face id, or ``ID@REVISION``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: one of `DTYPES`; the stored weights are converted to it.
        processing: flags of TransformerLens for its weights (`xmodel.models.processed.FLAGS`), for a
            dictionary that was trained on processed weights; the model then runs through TransformerLens.
        trust_remote_code: whether code from the model's own repository may be run.

    Raises:
        InputError: if there is no such model, no connection to fetch it, no safetensors, a weight that is
            missing, an architecture that is not known, or no such device or dtype.
    """
    flags = check_processing(processing)
    place, number_format = check_device(device), check_dtype(dtype)
    folder, commit = find_model(source)
    module = _move(_read_module(folder, str(source), number_format, trust_remote_code), place, str(source))
    return _describe(
        module,
        name=str(source),
        folder=str(folder),
        revision=commit,
        bos=find_bos(folder),
        flags=flags,
        keep=False,
        digest=hash_model(folder),
    )


def wrap_language_model(
    module: "nn.Module",
    *,
    name: str | None = None,
    folder: str | Path | None = None,
    bos: int | None = None,
    processing: Mapping[str, Any] | None = None,
    digest: str | None = None,
) -> LanguageModel:
    """Describe a live model. The model itself is not changed; with `processing` a copy of it is used.

    Args:
        module: a Hugging Face causal language model in eval mode, on one device.
        name: what to call it; by default what it says it was loaded from.
        folder: where its tokenizer is; by default what it says it was loaded from.
        bos: id of its BOS token; by default what its config says.
        processing: as for `load_language_model`.
        digest: SHA-256 of its weights and configuration; by default they are hashed, which takes seconds per
            GB.

    Raises:
        InputError: if it is in training mode or of an unknown architecture.
    """
    given = str(getattr(module, "name_or_path", "") or "")
    return _describe(
        module,
        name=name or given or type(module).__name__,
        folder=str(folder or given),
        revision=None,
        bos=bos,
        flags=check_processing(processing),
        keep=True,
        digest=_hash_module(module) if digest is None else digest,
    )


def _describe(
    module: Any,
    *,
    name: str,
    folder: str,
    revision: str | None,
    bos: int | None,
    flags: dict[str, bool],
    keep: bool,
    digest: str,
) -> LanguageModel:
    if module.training:
        raise InputError(
            f"{name} is in training mode, where dropout changes activations: call .eval() first."
        )
    decoder = find_decoder(module)
    config = module.config.get_text_config()
    embedding: Any = decoder.embedding
    device, dtype, width = embedding.weight.device, embedding.weight.dtype, embedding.embedding_dim
    return LanguageModel(
        name=name,
        module=process_weights(module, flags, name=name, keep=keep) if flags else module,
        folder=folder,
        revision=revision,
        device=device,
        dtype=dtype,
        layers=len(decoder.blocks),
        width=width,
        context=getattr(config, "max_position_embeddings", None),
        bos=getattr(config, "bos_token_id", None) if bos is None else bos,
        processing=flags,
        digest=digest,
    )


def check_device(device: str) -> "torch.device":
    """A device by name.

    Raises:
        InputError: if there is no such device on this machine.
    """
    import torch

    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"{device!r} is not a device: expected cpu, cuda, cuda:N or mps.") from error
    if place.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (place.index or 0) >= count:
            raise InputError(
                f"the device {device!r} came, and PyTorch sees {count} CUDA devices on this machine: use "
                "--device cpu, or install a PyTorch and a driver that fit the GPU."
            )
    elif place.type == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("the device 'mps' came, and PyTorch cannot use it here: use --device cpu.")
    elif place.type != "cpu":
        raise InputError(f"the device {device!r} is not supported: expected cpu, cuda, cuda:N or mps.")
    return place


def check_dtype(dtype: str) -> "torch.dtype":
    """A number format by name.

    Raises:
        InputError: if it is not one of `DTYPES`.
    """
    import torch

    formats = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "float64": torch.float64,
    }
    if dtype not in formats:
        raise InputError(f"{dtype!r} is not a dtype that a model can run in: expected {', '.join(formats)}.")
    return formats[dtype]


def _read_module(folder: Path, source: str, dtype: "torch.dtype", trust_remote_code: bool) -> "nn.Module":
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the model {source!r} could not be loaded: {reason} Expected a causal language model as "
            "save_pretrained writes it; if a file is damaged, download or copy it again."
        ) from error
    module, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"the model {source!r} lacks {len(missing)} of its weights, for instance {missing[0]}, which "
            "would have been made up at random: copy or download it again, all its safetensors files and "
            "their index."
        )
    return module.eval().requires_grad_(False)


def _move(module: "nn.Module", device: "torch.device", source: str) -> "nn.Module":
    import torch

    try:
        return module.to(device)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the model {source!r} does not fit into the memory of {device}: use another --device, or "
            "--dtype bfloat16."
        ) from error


def _hash_module(module: Any) -> str:
    """SHA-256 over a live model's configuration and names, formats, shapes and bytes of all its weights."""
    import torch

    find_decoder(module)  # Says so where there is none, before anything is asked of it.
    config = _drop_origin(module.config.to_dict())
    total = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Hashing happens on the host, one tensor at a time.
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        total.update(memoryview(flat.view(torch.uint8).numpy()))
    return total.hexdigest()


def _drop_origin(config: Any) -> Any:
    """A configuration without what saving writes into it, which changes nothing of what is computed.

    The dtype is that of the weights, which are hashed with theirs.
    """
    if not isinstance(config, dict):
        return config
    origin = ("_name_or_path", "architectures", "dtype", "transformers_version")
    return {key: _drop_origin(value) for key, value in config.items() if key not in origin}
