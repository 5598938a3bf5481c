"""Tiny random SAEs in the formats of their libraries."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

WIDTH, FEATURES = 12, 32
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "standard": {},
    "gated": {},
    "jumprelu": {},
    "topk": {"k": 5},
    "topk-rescaled": {"k": 5, "rescale_acts_by_decoder_norm": True},
    "abstopk": {"k": 5},
    "matching_pursuit": {"max_iterations": 6},
}


def randomize(sae: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in sae.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2


def make_sae(architecture: str, seed: int = 0, **config: Any) -> Any:
    """A SAELens SAE of inference with random weights."""
    from sae_lens import SAE

    own = {
        "architecture": architecture.removesuffix("-rescaled"),
        "d_in": WIDTH,
        "d_sae": FEATURES,
        **ARCHITECTURES.get(architecture, {}),
        **config,
    }
    sae = SAE.from_dict(own)
    randomize(sae, seed)
    return sae


def rows(count: int = 9, width: int = WIDTH, seed: int = 7) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a cfg.json; None removes one."""
    config = json.loads((folder / "cfg.json").read_text())
    config.update(changes)
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "cfg.json").write_text(json.dumps(kept))


def plain_weights(seed: int = 0, threshold: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "W_enc": (WIDTH, FEATURES),
        "b_enc": (FEATURES,),
        "W_dec": (FEATURES, WIDTH),
        "b_dec": (WIDTH,),
    }
    if threshold:
        shapes["threshold"] = (FEATURES,)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def save_sparsify(
    folder: Path, width: int = WIDTH, latents: int = FEATURES, seed: int = 0, **config: Any
) -> dict[str, torch.Tensor]:
    """Write what sparsify's save_to_disk writes; the weights are returned."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "encoder.weight": (latents, width),
        "encoder.bias": (latents,),
        "W_dec": (latents, width),
        "b_dec": (width,),
    }
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "sae.safetensors")
    own = {"activation": "topk", "k": 4, "num_latents": latents, "d_in": width, "normalize_decoder": True}
    (folder / "cfg.json").write_text(json.dumps({**own, **config}))
    return state
