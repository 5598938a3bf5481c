"""Tiny language models with random weights: one builder for every architecture whose sites are known."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

VOCABULARY = 101
CONTEXT = 64


def build_neox(parallel: bool = True) -> "torch.nn.Module":
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=CONTEXT,
        use_parallel_residual=parallel,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPTNeoXForCausalLM(config)


def build_gpt2() -> "torch.nn.Module":
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=24,
        n_layer=3,
        n_head=3,
        n_inner=40,
        n_positions=CONTEXT,
        bos_token_id=100,
        eos_token_id=100,
    )
    return GPT2LMHeadModel(config)


def build_gpt_neo() -> "torch.nn.Module":
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_layers=4,
        num_heads=3,
        intermediate_size=40,
        attention_types=[[["global", "local"], 2]],
        window_size=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=100,
        eos_token_id=100,
    )
    return GPTNeoForCausalLM(config)


# Heads times their size is 32 where the architecture may choose it freely, the width is 24.
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}


def build_gemma() -> "torch.nn.Module":
    from transformers import GemmaConfig, GemmaForCausalLM

    return GemmaForCausalLM(GemmaConfig(**{**SMALL, "num_key_value_heads": 1}))


def build_gemma2() -> "torch.nn.Module":
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(**SMALL, query_pre_attn_scalar=8, sliding_window=4))


def make_gemma3_options() -> dict[str, Any]:
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    return {
        **SMALL,
        "num_hidden_layers": 4,
        "query_pre_attn_scalar": 8,
        "sliding_window": 4,
        "layer_types": kinds,
    }


def build_gemma3() -> "torch.nn.Module":
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(Gemma3TextConfig(**make_gemma3_options()))


def build_gemma3_multimodal() -> "torch.nn.Module":
    """With a vision tower, as the larger Gemma 3 are published."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    config = Gemma3Config(
        text_config=make_gemma3_options(),
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=90,
        eoi_token_index=91,
        image_token_index=92,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Gemma3ForConditionalGeneration(config)


def build_llama2() -> "torch.nn.Module":
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(**{**SMALL, "hidden_size": 32, "num_key_value_heads": 4, "head_dim": 8})
    )


def build_llama3() -> "torch.nn.Module":
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    return LlamaForCausalLM(LlamaConfig(**{**SMALL, "hidden_size": 32}, rope_parameters=rope))


def build_mistral() -> "torch.nn.Module":
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4))


def build_qwen2() -> "torch.nn.Module":
    from transformers import Qwen2Config, Qwen2ForCausalLM

    options = {name: value for name, value in SMALL.items() if name != "head_dim"}
    return Qwen2ForCausalLM(Qwen2Config(**options))


def build_qwen3() -> "torch.nn.Module":
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**SMALL))


KINDS: dict[str, Callable[[], "torch.nn.Module"]] = {
    "neox": build_neox,
    "neox-serial": lambda: build_neox(parallel=False),
    "gpt2": build_gpt2,
    "gpt-neo": build_gpt_neo,
    "gemma": build_gemma,
    "gemma2": build_gemma2,
    "gemma3": build_gemma3,
    "gemma3-multimodal": build_gemma3_multimodal,
    "llama2": build_llama2,
    "llama3": build_llama3,
    "mistral": build_mistral,
    "qwen2": build_qwen2,
    "qwen3": build_qwen3,
}


def tiny_model(kind: str, seed: int = 0) -> Any:
    """A causal language model of one of `KINDS`, float32 on the CPU, in eval mode.

    Every parameter gets noise, norms and biases too: with fresh weights (norms all one, biases all zero) a
    value read before a norm or a bias could pass for one read after it.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = KINDS[kind]()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.15)
    return module.eval().requires_grad_(False)
