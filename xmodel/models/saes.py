"""SAEs of every format behind one protocol."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xmodel.datasets.demo import find_builtin, is_builtin, refuse_bare_name
from xmodel.errors import InputError
from xmodel.models import saelens, sparsify
from xmodel.models.baselines import fit_pca, is_identity, load_identity, needs_fitting, restore_pca
from xmodel.models.releases import load_release
from xmodel.models.weights import PICKLED, explain_pickle, hash_files, refuse_pickle
from xmodel.records import DictionaryInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["FeatureDictionary", "compute_fvu", "fit_pca", "load_dictionary", "needs_fitting", "restore_pca"]

_NPZ = "params.npz"


class FeatureDictionary(Protocol):
    """What the pass needs of an SAE, or of a baseline that stands for one.

    Encoding is row by row: features of a token depend on nothing but its activations.
    """

    @property
    def info(self) -> DictionaryInfo:
        """What it says about itself."""
        ...

    @property
    def dtype(self) -> "torch.dtype":
        """Of everything that it returns."""
        ...

    @property
    def decoder(self) -> "Tensor":
        """[F, d_in] decoder directions, one row per feature."""
        ...

    def encode(self, x: "Tensor") -> "Tensor":
        """[n, F] features, in the dictionary's own units, of activations x [n, d_in] in the model's."""
        ...

    def decode(self, f: "Tensor", like: "Tensor | None" = None) -> "Tensor":
        """[n, d_in] activations in the model's units from features f [n, F].

        `like` [n, d_in] are the activations that the features came from. Only SAEs that rescale every row by
        itself need them, and raise `InputError` without.
        """
        ...

    def reconstruct(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """x after the dictionary's own normalisation, and its reconstruction in that space: [n, d_in]."""
        ...


def load_dictionary(
    source: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    allow_pt: bool = False,
    width: int | None = None,
) -> FeatureDictionary:
    """The SAE or baseline of that name, on a device and in a dtype.

    `source` is a folder that SAELens or sparsify saved, a Gemma Scope ``params.npz`` or its folder, a SAELens
    ``release/sae_id``, ``sparsify:HUB_ID/SUBFOLDER``, ``builtin:NAME``, or ``neurons:SITE`` or
    ``residual:SITE`` with `width` dimensions. ``pca:SITE:K`` must be fitted with `fit_pca`. Pickles are read
    only with `allow_pt`, and then with ``weights_only=True``.

    Raises `InputError` for everything that is none of these, that is damaged, or that is no SAE of one site.
    """
    if needs_fitting(source):
        raise InputError(
            f"the baseline {source!r} has no weights of its own: expected activations of its site to fit it "
            "on (fit_pca)."
        )
    if is_identity(source):
        return load_identity(source, width, device=device, dtype=dtype)
    if source.startswith("sparsify:"):
        return sparsify.load_sparsify(source, device=device, dtype=dtype)
    if is_builtin(source):
        return _load_folder(find_builtin(source, "SAE"), source, device=device, dtype=dtype)
    path = Path(source).expanduser()
    if path.is_dir():
        return _load_folder(path, source, device=device, dtype=dtype)
    if path.is_file():
        return _load_file(path, source, device=device, dtype=dtype, allow_pt=allow_pt)
    if source.startswith(("/", "./", "../", "~")):
        raise InputError(
            f"there is no SAE at {source!r}: neither a folder nor a file is there. Expected a folder that "
            "SAELens or sparsify saved, or a Gemma Scope params.npz."
        )
    refuse_bare_name(source, "SAE")
    return load_release(source, device=device, dtype=dtype, allow_pt=allow_pt)


def compute_fvu(x: "Tensor", x_hat: "Tensor") -> float:
    """The fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean x|^2, over rows [n, d], n >= 2.

    Sums are taken in float64. Rows that are all equal, but for the rounding of their mean, have no variance:
    then it is 0 for a perfect reconstruction and infinite for any other. It is not finite, and perhaps not a
    number, where x or x_hat is not.
    """
    import torch

    exact = x.to(torch.float64)
    error = float((exact - x_hat).square().sum())
    variance = float((exact - exact.mean(0)).square().sum())
    if variance <= (16 * torch.finfo(torch.float64).eps) ** 2 * float(exact.square().sum()):
        return 0.0 if error == 0 else float("inf")
    return error / variance


def _load_folder(folder: Path, name: str, *, device: str, dtype: str) -> FeatureDictionary:
    """The SAE in a folder, by the files that it has."""
    if (folder / "cfg.json").is_file():
        if (folder / saelens.WEIGHTS).is_file():
            return saelens.load_saelens_folder(folder, name, device=device, dtype=dtype)
        if (folder / sparsify.WEIGHTS).is_file():
            return sparsify.load_sparsify_folder(folder, name, device=device, dtype=dtype)
    if (folder / _NPZ).is_file():
        return _load_npz(folder / _NPZ, name, device=device, dtype=dtype)
    inside = sorted(entry.name for entry in folder.iterdir())
    raise InputError(
        f"the folder {name!r} has no SAE: looked for cfg.json with {saelens.WEIGHTS} (SAELens), cfg.json "
        f"with {sparsify.WEIGHTS} (sparsify) and {_NPZ} (Gemma Scope), and found "
        f"{', '.join(inside[:8]) or 'nothing'}{', ...' if len(inside) > 8 else ''}. Give the folder of one "
        "SAE; a PyTorch file is given by its own path."
    )


def _load_file(path: Path, name: str, *, device: str, dtype: str, allow_pt: bool) -> FeatureDictionary:
    """The SAE in a single file, by its suffix."""
    if path.suffix == ".npz":
        return _load_npz(path, name, device=device, dtype=dtype)
    if path.suffix in PICKLED:
        if not allow_pt:
            raise refuse_pickle(name, path.name)
        return _load_pt(path, name, device=device, dtype=dtype)
    raise InputError(
        f"the file {name!r} is not an SAE that can be read: expected a folder that SAELens or sparsify saved"
        ", a Gemma Scope params.npz or, with --allow-pt, a .pt file. A plain pickle is never read. Of "
        "a safetensors file, give the folder, which also has cfg.json."
    )


def _load_npz(path: Path, name: str, *, device: str, dtype: str) -> FeatureDictionary:
    """A Gemma Scope SAE: JumpReLU, without subtracting b_dec from the input (arXiv:2408.05147).

    Its training texts began with BOS; the file says neither model nor site.
    """
    import torch

    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except Exception as error:  # zipfile.BadZipFile and zlib.error derive from Exception alone
        raise _explain_npz(name, str(error)) from error
    state = {
        "W_" + key[2:] if key.startswith("w_") else key: torch.tensor(array) for key, array in arrays.items()
    }
    if "threshold" not in state:
        raise _explain_npz(name, f"it has {', '.join(sorted(arrays))} and no threshold")
    config = {"apply_b_dec_to_input": False, "prepend_bos": True}
    return saelens.load_plain(state, config, name, device=device, dtype=dtype, digest=hash_files([path]))


def _explain_npz(name: str, reason: str) -> InputError:
    """The error for a damaged npz file."""
    return InputError(
        f"the SAE {name!r} cannot be read as an npz of numbers: {reason}. Expected Gemma Scope's params.npz "
        "with W_enc, W_dec, b_enc, b_dec and threshold: download it again."
    )


def _load_pt(path: Path, name: str, *, device: str, dtype: str) -> FeatureDictionary:
    """A PyTorch file with a state dictionary, read with weights_only=True."""
    import torch

    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise explain_pickle(name, error) from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"the SAE {name!r} holds a {type(content).__name__}: expected a dictionary of tensors."
        )
    config: Any = content.get("cfg", {})
    state = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    digest = hash_files([path])
    own = dict(config) if isinstance(config, Mapping) else {}
    return saelens.load_plain(state, own, name, device=device, dtype=dtype, digest=digest)
