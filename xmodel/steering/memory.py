"""How much memory a change needs while later blocks run on it, and what running out of it looks like."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xmodel.steering.block_calls import BlockCall, measure_calls

if TYPE_CHECKING:
    from xmodel.models.language import LanguageModel

# How many tensors of a kind are alive at once in the hungriest moment of a block: found by measuring every
# architecture that is known, and rounded up.
_RESIDUALS = 6
_HEAD_OUTPUTS = 8
_MLP_OUTPUTS = 4
_SCORES = 3


def measure_change(
    model: "LanguageModel", calls: Sequence[BlockCall], *, passages: int, tokens: int, reads: int
) -> int:
    """Bytes that one change of all passages needs while blocks run on it.

    Counted are the changed residual and the residuals read, twice, since the one who reads holds a tile while
    the next one is made; what is alive inside a block (residuals, attention's heads, its scores in float32,
    the MLP's inner width); and the arguments of the calls.

    Args:
        model: the model.
        calls: the blocks that run, as they were called with all passages.
        passages: P.
        tokens: T, with padding.
        reads: how many residuals are read out.
    """
    module: Any = model.module
    config = (module.original_model if model.processing else module).config.get_text_config()
    count = int(getattr(config, "num_attention_heads", None) or 1)
    heads = count * int(getattr(config, "head_dim", None) or -(-model.width // count))
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    width = 2 * (1 + reads) * model.width + _RESIDUALS * model.width
    within = max(_HEAD_OUTPUTS * heads, _MLP_OUTPUTS * int(inner or 4 * model.width))
    # Fused attention keeps no scores, but not every device has it for every mask.
    fused = getattr(config, "_attn_implementation", "eager") not in (None, "eager")
    scores = (1 if fused else _SCORES) * count * tokens
    return passages * tokens * ((width + within) * model.dtype.itemsize + scores * 4) + measure_calls(calls)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of a GPU, of PyTorch's allocators or of the machine."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The allocators of the CPU and of MPS raise nothing more particular.
    texts = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
