"""SAEs of the SAELens library, from folders that it saved and from plain weights that it can express."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.sparsify import name_site
from xmodel.models.weights import (
    check_numbers,
    check_rows,
    guard_saelens,
    hash_files,
    parse_dtype,
    read_config,
)
from xmodel.records import DictionaryInfo

if TYPE_CHECKING:
    import torch
    from sae_lens import SAE
    from torch import Tensor

WEIGHTS = "sae_weights.safetensors"
"""The file with the weights in a SAELens folder."""

_SCALER = "activation_scaler.json"
# These scale every row by its own coefficient; the others are constants that are folded into the weights.
_PER_ROW = ("constant_norm_rescale", "layer_norm")
_FOLDED = ("expected_average_only_in", "covariance_whitening")
# The flags of TransformerLens that change a model's weights.
_PROCESSING = (
    "fold_ln",
    "center_writing_weights",
    "center_unembed",
    "fold_value_biases",
    "refactor_factored_attn_matrices",
)


@dataclass(frozen=True, eq=False)
class SaeLensDictionary:
    """A SAELens SAE behind the protocol: its own normalisation and biases, without its reshaping of heads."""

    info: DictionaryInfo
    sae: "SAE[Any]"
    """The SAELens object; frozen, its output normalisation taken out into `denormalize`."""
    encoder: "Callable[[Tensor], Tensor]"
    """Activations to features, equal to ``sae.encode`` bit for bit."""
    denormalize: "Callable[[Tensor], Tensor]"
    """Undoes the normalisation of the rows that were normalised last."""

    @property
    def dtype(self) -> "torch.dtype":
        """Of its weights and of what it returns."""
        return self.sae.dtype

    @property
    def decoder(self) -> "Tensor":
        """[F, d_in] decoder directions, as stored."""
        return self.sae.W_dec

    def encode(self, x: "Tensor") -> "Tensor":
        """[n, F] features of activations x [n, d_in]. Raises `InputError` for another width."""
        check_rows(self.info.name, x, self.info.width, "activations")
        return self.encoder(x)

    def decode(self, f: "Tensor", like: "Tensor | None" = None) -> "Tensor":
        """[n, d_in] activations from features f [n, F].

        An SAE that rescales every row by itself cannot know the scale from the features: then `like` is
        needed, the activations [n, d_in] that they were encoded from. Raises `InputError` without it.
        """
        check_rows(self.info.name, f, self.info.features, "features")
        normalized = self.sae.decode(f.to(self.dtype))
        if self.sae.cfg.normalize_activations in _PER_ROW:
            if like is None:
                raise InputError(
                    f"the SAE {self.info.name!r} normalises every row by itself "
                    f"({self.sae.cfg.normalize_activations}), so features alone do not say the scale of the "
                    "activations: give the activations that they came from (decode(f, like=x))."
                )
            self.sae.run_time_activation_norm_fn_in(like.to(self.dtype))
        return self.denormalize(normalized)

    def reconstruct(self, x: "Tensor") -> "tuple[Tensor, Tensor]":
        """The activations after the SAE's own normalisation, and their reconstruction there: [n, d_in]."""
        normalized = self.sae.run_time_activation_norm_fn_in(x.to(self.dtype))
        return normalized, self.sae.decode(self.encode(x))


def load_saelens_folder(folder: Path, name: str, *, device: str, dtype: str) -> SaeLensDictionary:
    """The SAE in a folder with ``cfg.json`` and ``sae_weights.safetensors``.

    A checkpoint of training is turned into the SAE that SAELens would save for inference. Raises `InputError`
    for transcoders, unknown architectures and damaged files.
    """
    config = read_config(folder / "cfg.json")
    check_architecture(config, name)
    # The same weights under another configuration are another SAE.
    files = [folder / "cfg.json", folder / WEIGHTS]
    with explain_damage(name), guard_saelens(name, allow_pt=False):
        from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader

        overrides = {"dtype": dtype, "reshape_activations": "none"}
        config, state = sae_lens_disk_loader(folder, device, overrides)
        sae = build_sae(config, state, device=device, dtype=dtype)
        if sae.cfg.normalize_activations in _FOLDED:
            if (folder / _SCALER).is_file():
                files.append(folder / _SCALER)
            _fold_scaling(sae, folder / _SCALER, name)
    return wrap_sae(sae, name, hash_files(files))


def load_plain(
    state: "dict[str, Tensor]", config: Mapping[str, Any], name: str, *, device: str, dtype: str, digest: str
) -> SaeLensDictionary:
    """A ReLU SAE, or with ``threshold`` a JumpReLU SAE, from W_enc [d_in, F], b_enc, W_dec [F, d_in], b_dec.

    `config` may say hook_name, model_name, prepend_bos, context_size and apply_b_dec_to_input (default True).
    Raises `InputError` where weights are missing or do not fit together.
    """
    expected = {"W_enc", "b_enc", "W_dec", "b_dec"}
    if expected - set(state) or set(state) - expected - {"threshold"}:
        raise InputError(
            f"the SAE {name!r} has the weights {', '.join(sorted(state)) or 'none'}: expected W_enc, b_enc, "
            "W_dec, b_dec and, for a JumpReLU SAE, threshold."
        )
    if state["W_enc"].ndim != 2:
        raise InputError(
            f"the SAE {name!r} has W_enc of shape {list(state['W_enc'].shape)}: expected [d_in, F]."
        )
    width, features = state["W_enc"].shape
    flat = {
        **config,
        "architecture": "jumprelu" if "threshold" in state else "standard",
        "d_in": width,
        "d_sae": features,
        "reshape_activations": "none",
    }
    with explain_damage(name):
        sae = build_sae(flat, state, device=device, dtype=dtype)
    return wrap_sae(sae, name, digest)


def build_sae(config: dict[str, Any], state: "dict[str, Tensor]", *, device: str, dtype: str) -> "SAE[Any]":
    """The SAELens object of a configuration and its weights; a training class becomes that of inference."""
    from sae_lens import SAE
    from sae_lens.registry import SAE_CLASS_REGISTRY
    from sae_lens.saes.sae import TrainingSAE

    config = {**config, "device": device, "dtype": dtype}
    state = {key: tensor.to(device=device, dtype=parse_dtype(dtype)) for key, tensor in state.items()}
    if config.get("architecture", "standard") not in SAE_CLASS_REGISTRY or "log_threshold" in state:
        training = TrainingSAE.load_from_disk(
            "", device=device, dtype=dtype, converter=lambda *_, **__: (config, state)
        )
        state = training.state_dict()
        training.process_state_dict_for_saving_inference(state)
        config = training.cfg.get_inference_sae_cfg_dict()
    with warnings.catch_warnings():
        # It says how to load the model: `DictionaryInfo.processing` says the same to the pass.
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from_pretrained_kwargs")
        return SAE.load_from_disk("", device=device, dtype=dtype, converter=lambda *_, **__: (config, state))


def wrap_sae(sae: "SAE[Any]", name: str, digest: str) -> SaeLensDictionary:
    """Put a loaded SAELens object, which is taken over and frozen, behind the protocol.

    Raises `InputError` for weights that are not finite, shapes that do not fit, or k > number of features.
    """
    sae.requires_grad_(False)
    sae.turn_off_forward_pass_hook_z_reshaping()  # our activations are flat: [n, heads * d_head]
    check_numbers(name, dict(sae.named_parameters()))
    k = getattr(sae.cfg, "k", 0)
    if k > sae.cfg.d_sae:
        raise InputError(
            f"the SAE {name!r} keeps the top {k} of {sae.cfg.d_sae} features: expected k of at most the "
            "number of features. Its configuration is damaged."
        )
    denormalize = sae.run_time_activation_norm_fn_out
    sae.run_time_activation_norm_fn_out = lambda x: x
    return SaeLensDictionary(_describe(sae, name, digest), sae, _choose_encoder(sae), denormalize)


def check_architecture(config: Mapping[str, Any], name: str) -> None:
    """Raise `InputError` for what is no SAE of one site, or an architecture that SAELens does not have."""
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

    architecture = config.get("architecture") or "standard"
    metadata = config.get("metadata") or {}
    writes_elsewhere = config.get("d_out") or config.get("hook_name_out") or metadata.get("hook_name_out")
    if writes_elsewhere or any(kind in architecture for kind in ("transcoder", "crosscoder", "clt")):
        raise InputError(
            f"{name!r} is a transcoder ({architecture}): it reads one site and writes another, so "
            "its features do not reconstruct what they are read from and cannot be checked against "
            "it. Expected an SAE of one site: choose one of the same layer."
        )
    if architecture == "temporal":
        raise InputError(
            f"{name!r} is a temporal SAE: its features depend on the tokens before, while features are "
            "compared here token by token. Expected an SAE that encodes every token by itself."
        )
    known = {*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY}
    if architecture not in known:
        raise InputError(
            f"the SAE {name!r} has the architecture {architecture!r}, which the installed SAELens does not "
            f"know: expected one of {', '.join(sorted(k for k in known if 'transcoder' not in k))}. A newer "
            "SAELens may have it."
        )


@contextmanager
def explain_damage(name: str) -> Iterator[None]:
    """A context in which whatever SAELens raises over damaged files becomes an `InputError`."""
    from safetensors import SafetensorError

    try:
        yield
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the SAE {name!r} cannot be loaded: {type(error).__name__}: {reason}. Expected a configuration "
            "and weights that belong together, as SAELens saves them: download or save both again."
        ) from error


def _fold_scaling(sae: "SAE[Any]", file: Path, name: str) -> None:
    """Fold the constants that training found into the weights, as SAELens does at the end of training."""
    from sae_lens.training.activation_scaler import ActivationScaler

    scaler = ActivationScaler()
    if file.is_file():
        scaler.load(file)
    if scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    elif scaler.whitening is not None:
        white = scaler.whitening
        sae.fold_activation_whitening(white.mean, white.matrix, white.inverse_matrix)
    else:
        warnings.warn(
            f"the SAE {name!r} was trained on activations normalised by {sae.cfg.normalize_activations}, but "
            f"there is no {_SCALER} beside it that says the constants: it is used without, as SAELens does. "
            "A high FVU would show that they are missing.",
            stacklevel=2,
        )


def _choose_encoder(sae: "SAE[Any]") -> "Callable[[Tensor], Tensor]":
    """The quickest encoder that gives SAELens' own numbers."""
    architecture = sae.cfg.architecture()
    if architecture == "topk":
        norms = sae.W_dec.norm(dim=-1) if sae.cfg.rescale_acts_by_decoder_norm else None
        return partial(_encode_topk, sae, sae.cfg.k, norms)
    if architecture == "jumprelu":
        return partial(_encode_jumprelu, sae, sae.get_parameter("threshold").clamp(min=0))
    return sae.encode


def _encode_topk(sae: "SAE[Any]", k: int, norms: "Tensor | None", x: "Tensor") -> "Tensor":
    """`TopKSAE.encode`, with the decoder's norms taken once and one matrix instead of four."""
    pre = sae.process_sae_in(x) @ sae.W_enc
    pre += sae.get_parameter("b_enc")
    if norms is not None:
        pre *= norms
    values, indices = pre.topk(k, dim=-1, sorted=False)
    return pre.zero_().scatter_(-1, indices, values.relu())


def _encode_jumprelu(sae: "SAE[Any]", least: "Tensor", x: "Tensor") -> "Tensor":
    """`JumpReLUSAE.encode`: ReLU and threshold are one comparison with the larger of 0 and the threshold."""
    pre = sae.process_sae_in(x) @ sae.W_enc
    pre += sae.get_parameter("b_enc")
    return pre.masked_fill_(pre <= least, 0)


def _describe(sae: "SAE[Any]", name: str, digest: str) -> DictionaryInfo:
    """What the SAE's metadata says, in this program's terms."""
    metadata = sae.cfg.metadata
    context = metadata.context_size
    bos = metadata.prepend_bos
    return DictionaryInfo(
        name=name,
        architecture=sae.cfg.architecture(),
        width=sae.cfg.d_in,
        features=sae.cfg.d_sae,
        site=_read_site(metadata),
        model=_find_model(metadata.model_name),
        prepend_bos=bos if isinstance(bos, bool) else None,
        context_size=context if isinstance(context, int) else None,
        processing=_read_processing(metadata),
        signed=sae.cfg.architecture() == "abstopk",
        digest=digest,
    )


def _read_site(metadata: Any) -> str | None:
    """The site, or None where the SAE does not say or reads one head alone, which no site describes."""
    site = metadata.hook_name or metadata.hook_point
    if not isinstance(site, str) or metadata.hook_head_index is not None:
        return None
    # SAEs that were trained on a Hugging Face model name its module.
    return site if "hook" in site else name_site(site) or site


def _read_processing(metadata: Any) -> dict[str, Any]:
    """The flags that changed the model's weights. SAELens loads without processing but for these."""
    flags = metadata.model_from_pretrained_kwargs
    if not isinstance(flags, Mapping) or metadata.model_class_name not in (None, "HookedTransformer"):
        return {}
    return {key: flags[key] for key in _PROCESSING if flags.get(key)}


def _find_model(name: Any) -> str | None:
    """The Hugging Face id of a model as TransformerLens calls it; other names as they are."""
    if not isinstance(name, str) or not name:
        return None
    from transformer_lens.loading_from_pretrained import get_official_model_name

    try:
        return get_official_model_name(name)
    except ValueError:
        return name
