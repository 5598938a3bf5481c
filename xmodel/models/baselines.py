"""Baselines: raw neurons or residual dimensions, and principal components, as dictionaries of features.

All are dense and signed: the sign of a principal component is arbitrary and a raw dimension is negative as
often as not, so they are paired on |r|.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.weights import check_rows, parse_dtype
from xmodel.records import DictionaryInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_IDENTITIES = ("neurons", "residual")


def is_identity(source: str) -> bool:
    """Whether a source is ``neurons:SITE`` or ``residual:SITE``."""
    return source.partition(":")[0] in _IDENTITIES and ":" in source


def needs_fitting(source: str) -> bool:
    """Whether a source is a baseline that must be fitted on activations first (``pca:SITE:K``)."""
    return source.startswith("pca:")


@dataclass(frozen=True, eq=False)
class IdentityDictionary:
    """Every dimension of the activations is a feature."""

    info: DictionaryInfo
    dtype: "torch.dtype"
    """Of what it returns."""
    device: "torch.device"
    """Where its decoder is made."""

    def encode(self, x: "Tensor") -> "Tensor":
        """The activations themselves, [n, width]."""
        check_rows(self.info.name, x, self.info.width, "activations")
        return x.to(self.dtype)

    def decode(self, f: "Tensor", like: "Tensor | None" = None) -> "Tensor":
        """The features themselves, [n, width]."""
        check_rows(self.info.name, f, self.info.features, "features")
        return f.to(self.dtype)

    def reconstruct(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """The activations twice: nothing is lost."""
        own = self.encode(x)
        return own, own

    @property
    def decoder(self) -> "Tensor":
        """[width, width] the unit vectors, made anew at every access: ask `dtype` for their dtype."""
        import torch

        return torch.eye(self.info.width, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, eq=False)
class PcaDictionary:
    """Principal components of the activations of one site, strongest first."""

    info: DictionaryInfo
    mean: "Tensor"
    """[width] what is subtracted."""
    decoder: "Tensor"
    """[K, width] orthonormal components; the largest entry of each is positive."""
    arrays: Mapping[str, NDArray[np.float64]]
    """What it was made from: ``mean``, ``components`` and ``variances``, in float64."""

    @property
    def dtype(self) -> "torch.dtype":
        """Of what it returns."""
        return self.decoder.dtype

    def encode(self, x: "Tensor") -> "Tensor":
        """[n, K] scores: the projection of x - mean on every component."""
        check_rows(self.info.name, x, self.info.width, "activations")
        return (x.to(self.decoder.dtype) - self.mean) @ self.decoder.T

    def decode(self, f: "Tensor", like: "Tensor | None" = None) -> "Tensor":
        """[n, width] activations from scores."""
        check_rows(self.info.name, f, self.info.features, "features")
        return f.to(self.decoder.dtype) @ self.decoder + self.mean

    def reconstruct(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """The activations and their projection on the components, both [n, width]."""
        return x.to(self.decoder.dtype), self.decode(self.encode(x))

    def pca_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Its arrays for a run folder; `restore_pca` makes an equal dictionary from them.

        ``mean`` [width], ``components`` [K, width], ``variances`` [K] (ddof 1), all float64.
        """
        return dict(self.arrays)


def load_identity(source: str, width: int | None, *, device: str, dtype: str) -> IdentityDictionary:
    """The identity on `width` dimensions for ``neurons:SITE`` or ``residual:SITE``.

    Raises `InputError` where the site or the width is missing.
    """
    import torch

    kind, _, site = source.partition(":")
    if not site:
        raise InputError(
            f"the baseline {source!r} names no site: expected {kind}:SITE, for instance "
            f"{kind}:blocks.5.mlp.hook_post."
        )
    if width is None or width < 1:
        raise InputError(
            f"the baseline {source!r} was given {width!r} dimensions: expected the dimensions of its site, "
            "a positive integer (width=...)."
        )
    info = DictionaryInfo(
        name=source,
        architecture=kind,
        width=width,
        features=width,
        site=site,
        signed=True,
        dense=True,
        digest=hashlib.sha256(f"{source} {width}".encode()).hexdigest(),
    )
    return IdentityDictionary(info, parse_dtype(dtype), torch.device(device))


def fit_pca(source: str, x: "Tensor", *, dtype: str = "float32") -> PcaDictionary:
    """The K strongest principal components of activations x [n, width], for ``pca:SITE:K``.

    Computed where x is: the covariance and its eigenvectors in float64. A component's sign is arbitrary; here
    its largest entry is positive, so that two fits of the same data agree.

    Raises `InputError` for a malformed source, values that are not finite, or K > min(n - 1, width).
    """
    import torch

    _, components = _parse_pca(source)
    if x.ndim != 2 or not x.isfinite().all():
        raise InputError(
            f"the baseline {source!r} was given activations of shape {list(x.shape)}, finite: "
            f"{bool(x.isfinite().all())}. Expected [n, width] of finite numbers."
        )
    rows, width = x.shape
    if components > min(rows - 1, width):
        raise InputError(
            f"the baseline {source!r} asks for {components} components of {rows} activations with {width} "
            f"dimensions: expected at most {max(min(rows - 1, width), 0)}. Ask for fewer or give more text."
        )
    mean = x.mean(0, dtype=torch.float64)
    centred = x.to(torch.float64) - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / (rows - 1))
    strongest = vectors.flip(1)[:, :components].T
    largest = strongest.gather(1, strongest.abs().argmax(1, keepdim=True))
    arrays = {
        "mean": mean.numpy(force=True),
        "components": (strongest * largest.sign()).contiguous().numpy(force=True),
        "variances": variances.flip(0)[:components].clamp(min=0).numpy(force=True),
    }
    return restore_pca(source, arrays, device=str(x.device), dtype=dtype)


def restore_pca(
    source: str, arrays: Mapping[str, NDArray[Any]], *, device: str = "cpu", dtype: str = "float32"
) -> PcaDictionary:
    """The dictionary that `PcaDictionary.pca_arrays` was taken from.

    Raises `InputError` where an array is missing, misshapen, or does not fit the source.
    """
    import torch

    site, components = _parse_pca(source)
    missing = sorted({"mean", "components", "variances"} - set(arrays))
    if missing:
        raise InputError(
            f"the stored baseline {source!r} lacks {', '.join(missing)}: expected mean, components and "
            "variances. Fit it again."
        )
    own = {key: np.asarray(arrays[key], np.float64) for key in ("mean", "components", "variances")}
    width = own["mean"].size
    expected = {"mean": (width,), "components": (components, width), "variances": (components,)}
    for key, array in own.items():
        if array.shape != expected[key] or not np.isfinite(array).all():
            raise InputError(
                f"the stored baseline {source!r} has {key} of shape {list(array.shape)}, finite: "
                f"{bool(np.isfinite(array).all())}. Expected {list(expected[key])} of finite numbers: "
                "fit it again."
            )
    digest = hashlib.sha256(source.encode())
    for key in sorted(own):
        digest.update(np.ascontiguousarray(own[key]).tobytes())
    info = DictionaryInfo(
        name=source,
        architecture="pca",
        width=width,
        features=components,
        site=site,
        signed=True,
        dense=True,
        digest=digest.hexdigest(),
    )
    kind = parse_dtype(dtype)
    mean = torch.tensor(own["mean"], dtype=kind, device=device)
    return PcaDictionary(info, mean, torch.tensor(own["components"], dtype=kind, device=device), own)


def _parse_pca(source: str) -> tuple[str, int]:
    """Site and number of components of ``pca:SITE:K``."""
    parts = source.split(":")
    if len(parts) != 3 or parts[0] != "pca" or not parts[1] or not parts[2].isdecimal() or int(parts[2]) < 1:
        raise InputError(
            f"the baseline {source!r} cannot be read: expected pca:SITE:K with a positive number K of "
            "components, for instance pca:blocks.5.hook_resid_post:256."
        )
    return parts[1], int(parts[2])
