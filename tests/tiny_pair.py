"""Two tiny models of different families, with tokenizers and SAEs, on disk in the real formats."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xmodel.datasets.demo import find_builtin

TEXT = Path(__file__).with_name("tiny_corpus.txt")


@dataclass(frozen=True)
class TinyPair:
    model_a: Path
    model_b: Path
    sae_a: Path
    sae_b: Path


def write_tokenizer(name, folder):
    content = (find_builtin(name, "tokenizer") / "tokenizer.json").read_text("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(content, "utf-8")
    return json.loads(content)


def write_neox(folder, seed=0, width=16, layers=3, exact=False):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    write_tokenizer("neox-demo", folder)
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=4096, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
        initializer_range=0.2,
    )  # fmt: skip
    return save(GPTNeoXForCausalLM(config), folder, exact)


def write_gemma(folder, seed=1, width=16, layers=4, exact=False):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    write_tokenizer("gemma-demo", folder)
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=6144, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=32, max_position_embeddings=64,
        bos_token_id=2, eos_token_id=1, pad_token_id=0, initializer_range=0.2, sliding_window=16,
    )  # fmt: skip
    return save(Gemma3ForCausalLM(config), folder, exact)


def write_pair(folder, site="blocks.1.hook_resid_post"):
    """Both models, each with an SAE that fits one site of it."""
    a, b = write_neox(folder / "a"), write_gemma(folder / "b")
    sae_a = write_fitting_sae(folder / "sae_a", read_rows(a, site), site)
    sae_b = write_fitting_sae(folder / "sae_b", read_rows(b, site, prefix=(2,)), site, bos=True)
    return TinyPair(a, b, sae_a, sae_b)


def read_rows(folder, site, prefix=(), context=32):
    """[n, d] what a model computes at a site on the tiny corpus, first positions left out."""
    from xmodel.alignment.loading import load_tokenizer
    from xmodel.models.capture import capture
    from xmodel.models.language import load_language_model

    model, length = load_language_model(folder), context - len(prefix)
    ids = load_tokenizer(str(folder)).encode([TEXT.read_text("utf-8")])[0]
    windows = np.reshape(ids[: len(ids) // length * length], (-1, length))
    windows = np.concatenate([np.tile(np.int64(prefix), (len(windows), 1)), windows], axis=1)
    batch = torch.from_numpy(windows.astype(np.int64))
    x = capture(model, batch, torch.ones_like(batch, dtype=torch.bool), [site])[site]
    return x[:, 1:].flatten(0, 1).double().numpy()


def read_texts():
    """The paragraphs of the tiny corpus, each a document."""
    return [text for text in TEXT.read_text("utf-8").split("\n\n") if text.strip()]


def write_corpus(path, texts):
    """A corpus in a .jsonl file, one text a line."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def align_pair(pair, corpus, out, shard_words=200, **options):
    """`align_models` on a pair; the loading progress of transformers is not of interest."""
    from xmodel.alignment.settings import PassSettings
    from xmodel.pairing.comparing import align_models

    models = {"model_a": str(pair.model_a), "model_b": str(pair.model_b)}
    options = {"settings": PassSettings(shard_words=shard_words), **models, **options}
    corpus = str(corpus) if isinstance(corpus, Path) else corpus
    return align_models(str(pair.sae_a), str(pair.sae_b), corpus, out, **options)


def read_run(folder):
    """Every file of a run by its name: its bytes; of the two with timings, their content without these."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            timed = name in ("manifest.json", "summary.json")
            found[name] = drop_seconds(json.loads(path.read_text("utf-8"))) if timed else path.read_bytes()
    return found


def drop_seconds(content):
    if isinstance(content, dict):
        return {key: drop_seconds(value) for key, value in content.items() if key != "seconds"}
    return [drop_seconds(value) for value in content] if isinstance(content, list) else content


def save(model, folder, exact):
    """With `exact`, embeddings are small multiples of 1/8, so that arithmetic on them is exact in float32."""
    if exact:
        weight = model.get_input_embeddings().weight
        with torch.no_grad():
            weight.copy_(torch.randint(-16, 17, weight.shape) / 8)
    model.eval().save_pretrained(folder)
    return folder


def write_sae(folder, w_enc, b_enc, w_dec, b_dec, site, model="somebody/tiny", bos=False, context=32):
    """A standard (ReLU) SAE in SAELens' own format."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    config = StandardSAEConfig(
        d_in=w_enc.shape[0], d_sae=w_enc.shape[1], dtype="float32", device="cpu",
        metadata=SAEMetadata(hook_name=site, model_name=model, prepend_bos=bos, context_size=context),
    )  # fmt: skip
    sae = StandardSAE(config)
    with torch.no_grad():
        for name, value in (("W_enc", w_enc), ("b_enc", b_enc), ("W_dec", w_dec), ("b_dec", b_dec)):
            getattr(sae, name).copy_(torch.as_tensor(value, dtype=torch.float32))
    sae.save_model(str(folder))
    return folder


def write_exact_sae(folder, width, features, site, seed, **options):
    """Weights are small integers over 4: encoding activations that are multiples of 1/8 is exact."""
    rng = np.random.default_rng(seed)
    w_enc = rng.integers(-2, 3, (width, features)) / 4
    b_enc = rng.integers(-12, 4, features) / 4
    return write_sae(folder, w_enc, b_enc, w_enc.T, np.zeros(width), site, **options)


def write_fitting_sae(folder, rows, site, features=24, **options):
    """The first principal directions of rows, each as one feature for either sign: FVU is low just there."""
    mean = rows.mean(0)
    _, _, directions = np.linalg.svd(rows - mean, full_matrices=False)
    v = directions[: features // 2]
    w_dec = np.concatenate([v, -v])
    return write_sae(folder, w_dec.T, -w_dec @ mean, w_dec, mean, site, **options)
