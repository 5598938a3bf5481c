"""The head of a language model: from the residual after the last block to logits."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xmodel.errors import InputError
from xmodel.models.capture import check_batch, find_model_decoder, make_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xmodel.models.language import LanguageModel

_TOLERANCE = 64


@dataclass(frozen=True, eq=False)
class Head:
    """What turns residuals after the last block into logits."""

    norm: "nn.Module | None"
    """The norm after the last block, if there is one."""
    unembedding: "nn.Module"
    """The linear map to logits."""
    scale: float
    """What logits are multiplied with."""
    cap: float | None
    """Logits are bent into -cap to cap by cap tanh(logits / cap); None if they are not."""

    def logits(self, rows: "Tensor") -> "Tensor":
        """[n, V] logits of residuals [n, d] after the last block, in the model's dtype and on its device."""
        import torch

        with torch.inference_mode():
            return self._bend(self.unembedding(self._normalise(rows)))

    def logits_of(self, rows: "Tensor", columns: "Tensor") -> "Tensor":
        """[n, v] logits of residuals [n, d] for the ids `columns` [v] alone: the same as ``logits(rows)[:,
        columns]`` but for rounding, without the rest of the vocabulary."""
        import torch

        weight: Any = self.unembedding.weight
        bias: Any = getattr(self.unembedding, "bias", None)
        with torch.inference_mode():
            columns = columns.to(weight.device)
            part = None if bias is None else bias[columns]
            return self._bend(torch.nn.functional.linear(self._normalise(rows), weight[columns], part))

    def _normalise(self, rows: "Tensor") -> "Tensor":
        return rows if self.norm is None else self.norm(rows)

    def _bend(self, logits: "Tensor") -> "Tensor":
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else (logits / self.cap).tanh() * self.cap


def find_head(model: "LanguageModel", ids: "Tensor", mask: "Tensor") -> Head:
    """Find the head of a model by structure, and compare it with the model's own logits on a short batch.

    The norm is the decoder's child that runs after the last block; scaling and capping of logits are read
    from the config.

    Args:
        model: the model.
        ids: [B, T] int64 token ids; a few of them are enough.
        mask: [B, T] bool, False for padding.

    Raises:
        InputError: if the batch does not fit the model, or what was found gives other logits than the model.
    """
    import torch

    check_batch(model, ids, mask)
    module: Any = model.module.original_model if model.processing else model.module
    decoder = find_model_decoder(model)
    after: list[nn.Module] = []
    residual: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        residual.append(output if isinstance(output, torch.Tensor) else output[0])

    with ExitStack() as hooks, torch.inference_mode():
        hooks.callback(decoder.blocks[-1].register_forward_hook(keep).remove)
        for child in decoder.module.children():
            hooks.callback(child.register_forward_hook(_make_noter(after, residual)).remove)
        expected = module(**make_inputs(model, ids, mask)).logits
    config = module.config.get_text_config()
    divisor = float(getattr(config, "logits_scaling", None) or 1)
    head = Head(
        norm=after[0] if after else None,
        unembedding=module.get_output_embeddings(),
        scale=float(getattr(config, "logit_scale", None) or 1) / divisor,
        cap=getattr(config, "final_logit_softcapping", None),
    )
    mask = mask.to(model.device)
    exact = torch.promote_types(model.dtype, torch.float32)
    found = head.logits(residual[-1][mask]).to(exact)
    wanted = expected[mask].to(exact)
    allowed = _TOLERANCE * torch.finfo(model.dtype).eps * wanted.norm(dim=-1)
    if len(after) > 1 or not bool(((found - wanted).norm(dim=-1) <= allowed).all()):
        raise InputError(
            f"the head of {model.name} is not known: the norm after its last block, its unembedding and the "
            "scaling that its config names give other logits than the model itself."
        )
    return head


def _make_noter(after: "list[nn.Module]", residual: "list[Tensor]") -> Callable[..., None]:
    """A hook that notes a submodule, if the last block has run."""

    def note(module: "nn.Module", _: Any, __: Any) -> None:
        if residual:
            after.append(module)

    return note
