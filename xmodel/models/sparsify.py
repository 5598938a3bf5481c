"""SAEs of EleutherAI's sparsify library, by folder or hub id.

Formats and formulas follow https://github.com/EleutherAI/sparsify (sparse_coder.py, fused_encoder.py).
SAELens also reads them, but calls ``layers.N.mlp`` the residual stream and transposes a decoder that
is already [latents, d_in].
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.weights import (
    check_numbers,
    check_rows,
    check_shape,
    explain_download,
    hash_files,
    parse_dtype,
    read_config,
    read_safetensors,
)
from xmodel.records import DictionaryInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS = "sae.safetensors"
"""The file with the weights in a sparsify folder."""

# Options under which the features are not those of this site's activations alone.
_REFUSED = {
    "transcode": "it is a transcoder, which reads one site and writes another",
    "skip_connection": "it has a linear skip connection, so its features alone do not reconstruct",
    "embed_skip": "it also reads the embedding of the token",
    "gram_lookup": "it subtracts a table of n-gram means from the activations, which is stored elsewhere",
    "signed": "it keeps features by absolute value, which current sparsify does not define",
}
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h)[._](\d+)(?:\.(\w+))?")
_OUTPUTS = {
    None: "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attention": "hook_attn_out",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
}


def name_site(module: str) -> str | None:
    """The site of a Hugging Face module whose output an SAE reads, None where there is no name for it.

    ``layers.5`` is ``blocks.5.hook_resid_post``; ``gpt_neox.layers.5.mlp`` and ``transformer.h.5.mlp`` are
    ``blocks.5.hook_mlp_out``; ``layers.5.attention``, ``.attn`` and ``.self_attn`` are
    ``blocks.5.hook_attn_out``.
    """
    found = _MODULE.fullmatch(module)
    if found is None or found[2] not in _OUTPUTS:
        return None
    return f"blocks.{found[1]}.{_OUTPUTS[found[2]]}"


@dataclass(frozen=True, eq=False)
class SparsifyDictionary:
    """A sparsify SAE: ReLU, then the k largest (``topk``) or the largest of k groups each (``groupmax``)."""

    info: DictionaryInfo
    encoder: "Tensor"
    """[L, d_in] encoder rows."""
    encoder_bias: "Tensor"
    """[L]."""
    decoder: "Tensor"
    """[L, d_in] decoder directions."""
    bias: "Tensor"
    """[d_in] subtracted before encoding, added after decoding."""
    k: int
    """Features that are kept per row."""

    @property
    def dtype(self) -> "torch.dtype":
        """Of its weights and of what it returns."""
        return self.decoder.dtype

    def encode(self, x: "Tensor") -> "Tensor":
        """[n, L] features of activations x [n, d_in]. Raises `InputError` for another width."""
        import torch

        check_rows(self.info.name, x, self.info.width, "activations")
        pre = torch.nn.functional.linear(x.to(self.dtype) - self.bias, self.encoder, self.encoder_bias)
        pre = pre.relu_()
        if self.info.architecture == "topk":
            values, indices = pre.topk(self.k, dim=-1, sorted=False)
            return pre.zero_().scatter_(-1, indices, values)
        groups = pre.unflatten(-1, (self.k, -1))
        values, indices = groups.max(dim=-1, keepdim=True)
        return groups.zero_().scatter_(-1, indices, values).flatten(1)

    def decode(self, f: "Tensor", like: "Tensor | None" = None) -> "Tensor":
        """[n, d_in] activations from features f [n, L]; `like` is not needed."""
        check_rows(self.info.name, f, self.info.features, "features")
        return f.to(self.dtype) @ self.decoder + self.bias

    def reconstruct(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """The activations, which sparsify does not normalise, and their reconstruction, both [n, d_in]."""
        return x.to(self.dtype), self.decode(self.encode(x))


def load_sparsify_folder(folder: Path, name: str, *, device: str, dtype: str) -> SparsifyDictionary:
    """The SAE in a folder with ``cfg.json`` and ``sae.safetensors``; the folder's name says the site.

    ``config.json`` beside or above it, which training writes, says the model and the context. Raises
    `InputError` for transcoders and damaged files.
    """
    config = read_config(folder / "cfg.json")
    for option, reason in _REFUSED.items():
        if config.get(option):
            raise InputError(
                f"the sparsify SAE {name!r} has {option} set: {reason}. Expected an SAE that encodes and "
                "reconstructs the activations of one site."
            )
    width, latents, k, activation = _read_sizes(config, name)
    state = read_safetensors(folder / WEIGHTS, device)
    expected = {
        "encoder.weight": (latents, width),
        "encoder.bias": (latents,),
        "W_dec": (latents, width),
        "b_dec": (width,),
    }
    if set(state) != set(expected):
        raise InputError(
            f"the sparsify SAE {name!r} has the weights {', '.join(sorted(state))}: expected "
            f"{', '.join(expected)}. Save it with sparsify's save_to_disk."
        )
    for key, shape in expected.items():
        check_shape(name, key, state[key], shape)
    check_numbers(name, state)
    run = _read_run(folder)
    model, context = run.get("model"), run.get("ctx_len")
    info = DictionaryInfo(
        name=name,
        architecture=activation,
        width=width,
        features=latents,
        site=_find_site(folder),
        model=model if isinstance(model, str) else None,
        context_size=context if isinstance(context, int) else None,
        digest=hash_files([folder / "cfg.json", folder / WEIGHTS]),
    )
    own = {key: tensor.to(parse_dtype(dtype)) for key, tensor in state.items()}
    return SparsifyDictionary(info, own["encoder.weight"], own["encoder.bias"], own["W_dec"], own["b_dec"], k)


def load_sparsify_hub(
    repository: str, folder: str, name: str, *, device: str, dtype: str
) -> SparsifyDictionary:
    """The SAE in a folder (may be empty) of a hub repository, or of the local cache without a connection.

    Raises `InputError` where it cannot be fetched.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    try:
        path = Path(hf_hub_download(repository, f"{prefix}cfg.json")).parent
        hf_hub_download(repository, f"{prefix}{WEIGHTS}")
    except (OSError, EntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        raise explain_download(name, repository, folder, error) from error
    with contextlib.suppress(EntryNotFoundError, OSError):
        hf_hub_download(repository, "config.json")  # says the model; many repositories do not have it
    return load_sparsify_folder(path, name, device=device, dtype=dtype)


def load_sparsify(source: str, *, device: str, dtype: str) -> SparsifyDictionary:
    """The SAE of ``sparsify:HUB_ID/SUBFOLDER`` or ``sparsify:FOLDER``; raises `InputError` if none."""
    rest = source.removeprefix("sparsify:")
    if rest and Path(rest).is_dir():
        return load_sparsify_folder(Path(rest), source, device=device, dtype=dtype)
    parts = rest.split("/")
    if len(parts) < 2 or not all(parts[:2]):
        raise InputError(
            f"the SAE {source!r} cannot be read: expected sparsify:OWNER/REPOSITORY/SUBFOLDER, for instance "
            "sparsify:EleutherAI/sae-pythia-160m-32k/layers.5, or the path of a folder."
        )
    return load_sparsify_hub("/".join(parts[:2]), "/".join(parts[2:]), source, device=device, dtype=dtype)


def _read_sizes(config: dict[str, Any], name: str) -> tuple[int, int, int, str]:
    """Width, latents, k and activation of a configuration, by sparsify's own defaults."""
    width = config.get("d_in")
    latents = config.get("num_latents") or (config.get("expansion_factor", 32) * (width or 0))
    k, activation = config.get("k", 32), config.get("activation", "topk")
    if not (isinstance(width, int) and isinstance(latents, int) and isinstance(k, int)) or not (
        width > 0 and 0 < k <= latents
    ):
        raise InputError(
            f"the sparsify SAE {name!r} has d_in {width!r}, latents {latents!r} and k {k!r} in its cfg.json: "
            "expected positive integers with k of at most the latents."
        )
    if activation not in ("topk", "groupmax"):
        raise InputError(
            f"the sparsify SAE {name!r} has the activation {activation!r}: expected topk or groupmax."
        )
    if activation == "groupmax" and latents % k:
        raise InputError(
            f"the sparsify SAE {name!r} has {latents} latents in {k} groups: expected a whole number in each."
        )
    return width, latents, k, activation


def _read_run(folder: Path) -> dict[str, Any]:
    """The configuration of the training run, {} where there is none at hand."""
    for parent in (folder, folder.parent, folder.parent.parent):
        if (parent / "config.json").is_file():
            return read_config(parent / "config.json")
    return {}


def _find_site(folder: Path) -> str | None:
    """The site that a folder is named after; with several seeds it is the folder above."""
    name = folder.resolve() if folder.name in ("", ".", "..") else folder
    return name_site(name.parent.name if re.fullmatch(r"seed_?\d+", name.name) else name.name)
