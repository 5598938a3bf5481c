"""Trains the two language models that come with xmodel: a small GPT-NeoX and a small Gemma 3.

    python recipes/demo_models.py TEXTS NAME WORK [--device cuda]

NAME is ``neox-demo`` or ``gemma-demo``. The model goes to ``WORK/NAME``, in the layout of Hugging Face; what
was measured on the way to ``WORK/NAME.json``. A run that was killed goes on from its last checkpoint.
`build_demo.py` calls this for both.
"""

import argparse
import hashlib
import json
import math
import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import demo_texts
import numpy as np
import torch
from tokenizers import Tokenizer

from xmodel.run import RunFolder

CONTEXT = 256
"""Positions of a window, in training and at most afterwards."""

SAVED = 500
"""Steps between two checkpoints: what a kill loses at most."""

WARMUP = 0.04
"""The part of the steps in which the learning rate rises; then it falls along a cosine to a twentieth."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model is built and trained.

    Attributes:
        seed: of its first weights and of the order of its windows.
        separator: the token between two documents.
        bos: the token before each window; None for none.
        learning_rate: the highest.
        passes: how often every training token is seen.
        batch: windows in a step.
    """

    seed: int
    separator: str
    bos: str | None
    learning_rate: float = 2e-3
    passes: float = 7.0
    batch: int = 16


PLANS = {
    "neox-demo": Plan(seed=1, separator="<|endoftext|>", bos=None),
    "gemma-demo": Plan(seed=2, separator="<eos>", bos="<bos>"),
}
"""The two models; their shapes are in `make_model`."""


def make_model(name: str) -> Any:
    """A model with fresh weights, from the seed that is set."""
    if name == "neox-demo":
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        return GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=4096,
                hidden_size=160,
                num_hidden_layers=6,
                num_attention_heads=5,
                intermediate_size=640,
                max_position_embeddings=CONTEXT,
                rotary_pct=0.25,
                tie_word_embeddings=True,
                use_cache=False,
                bos_token_id=0,
                eos_token_id=0,
                pad_token_id=1,
                attn_implementation="eager",
            )
        )
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=6144,
            hidden_size=128,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=32,
            query_pre_attn_scalar=32,
            intermediate_size=512,
            max_position_embeddings=CONTEXT,
            sliding_window=128,
            layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 2,
            use_cache=False,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=2,
            attn_implementation="eager",
        )
    )


PACKAGE = Path(__file__).resolve().parent.parent / "xmodel" / "datasets" / "demo"
"""The folder of the package where everything that is bundled lies."""


def read_tokenizer(name: str, folder: Path = PACKAGE) -> tuple[Tokenizer, bytes]:
    """The tokenizer of a model, and its file."""
    content = (folder / name / "tokenizer.json").read_bytes()
    return Tokenizer.from_str(content.decode()), content


def write_facts(facts: dict[str, Any], path: Path) -> None:
    """Writes what was measured. The file says that a step is finished, so it appears whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    temporary.replace(path)


def digest_inputs(plan: object, documents: list[np.ndarray]) -> str:
    """SHA-256, hexadecimal, of what a result depends on: the plan, and the ids of the training text."""
    digest = hashlib.sha256(repr(plan).encode())
    for ids in documents:
        digest.update(ids.tobytes())
    return digest.hexdigest()


def check_inputs(found: str, expected: str, place: Path) -> None:
    """Refuse to go on with what was begun from other texts, another tokenizer or another plan."""
    if found != expected:
        raise SystemExit(f"{place} was made from other texts, another tokenizer or plan: take another WORK.")


def lock_model(name: str, work: Path) -> AbstractContextManager[None]:
    """Keeps two processes from training the same model in the same folder.

    Raises:
        InputError: if another process does so.
    """
    return RunFolder(work / name).lock()


def encode_texts(tokenizer: Tokenizer, texts: list[str], separator: str) -> list[np.ndarray]:
    """The ids of every text, the separator after each."""
    end = tokenizer.token_to_id(separator)
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [np.array([*encoding.ids, end], dtype=np.int64) for encoding in encodings]


def draw_windows(documents: list[np.ndarray], bos: int | None, seed: int) -> np.ndarray:
    """[windows, CONTEXT] the ids of one pass: documents in a random order, cut, and the windows mixed."""
    generator = np.random.default_rng(seed)
    stream = np.concatenate([documents[place] for place in generator.permutation(len(documents))])
    size = CONTEXT - (bos is not None)
    stream = stream[generator.integers(size) :]
    windows = stream[: len(stream) // size * size].reshape(-1, size)
    if bos is not None:
        windows = np.concatenate([np.full((len(windows), 1), bos), windows], axis=1)
    return windows[generator.permutation(len(windows))]


@torch.no_grad()
def measure_loss(
    model: Any, documents: list[np.ndarray], first: int, device: str, *, always: bool = False
) -> float:
    """Bits of all tokens of some documents, the separators left out.

    Every document is read with the token `first` before it, in windows that overlap by half, and each token
    is counted once, in the window where it has the longer past. With `always` each window begins
    with `first`.
    """
    total = 0.0
    step = CONTEXT // 2
    for ids in documents:
        tokens = np.concatenate([[first], ids[:-1]])
        for start in range(0, max(len(tokens) - step, 1), step):
            window = torch.from_numpy(tokens[start : start + CONTEXT].copy()).to(device)[None]
            if always:
                window[0, 0] = first
            logits = model(window).logits[0, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
            total += float(losses[0 if start == 0 else step - 1 :].sum(dtype=torch.float64))
    return total / math.log(2)


def measure_model(name: str, folder: Path, texts: list[str], device: str = "cpu") -> float:
    """Bits per byte of a stored model, in the folder `folder`, on some texts."""
    from transformers import AutoModelForCausalLM

    plan, (tokenizer, _) = PLANS[name], read_tokenizer(folder.name, folder.parent)
    first = tokenizer.token_to_id(plan.bos or plan.separator)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    documents = encode_texts(tokenizer, texts, plan.separator)
    bits = measure_loss(model, documents, first, device, always=plan.bos is not None)
    return bits / sum(len(text.encode()) for text in texts)


def train(name: str, texts: Path, work: Path, device: str, tokenizers: Path) -> None:
    """Train one model and write it, unless that was done before."""
    plan, (tokenizer, tokenizer_file) = PLANS[name], read_tokenizer(name, tokenizers)
    training, held_out = demo_texts.hold_out(demo_texts.read_texts(texts))
    documents = encode_texts(tokenizer, [text.text for text in training], plan.separator)
    inputs = digest_inputs(plan, documents)
    if (work / f"{name}.json").exists():
        check_inputs(json.loads((work / f"{name}.json").read_text("utf-8"))["inputs"], inputs, work)
        return
    rows = demo_texts.cut_passages(held_out)
    unseen = encode_texts(tokenizer, [row["text"] for row in rows], plan.separator)
    unseen_bytes = sum(len(row["text"].encode()) for row in rows)
    bos = None if plan.bos is None else tokenizer.token_to_id(plan.bos)
    first = tokenizer.token_to_id(plan.bos or plan.separator)

    torch.manual_seed(plan.seed)
    model = make_model(name).to(device)
    weights = [weight for weight in model.parameters() if weight.ndim >= 2]
    rest = [weight for weight in model.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=plan.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    tokens = sum(len(ids) for ids in documents)
    steps = int(plan.passes * tokens / (plan.batch * CONTEXT))
    # Compiled code takes half the time; without a compiler the same model is trained, only slower.
    run = torch.compile(model) if device != "cpu" or shutil.which("g++") else model

    checkpoint = work / f"{name}.checkpoint"
    step, seconds, history = 0, 0.0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        check_inputs(state["inputs"], inputs, checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds, history = state["step"], state["seconds"], state["history"]
        print(f"{name}: on from step {step:,}", flush=True)
    begun, number, windows = time.perf_counter() - seconds, -1, np.zeros((0, CONTEXT), np.int64)
    per_pass = tokens // CONTEXT // plan.batch - 1
    while step < steps:
        if step // per_pass != number:
            number = step // per_pass
            windows = draw_windows(documents, bos, plan.seed * 1000 + number)
        place = step % per_pass * plan.batch
        batch = torch.from_numpy(windows[place : place + plan.batch]).to(device)
        rate = min((step + 1) / (WARMUP * steps), 0.525 + 0.475 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * rate
        with torch.autocast(device, torch.bfloat16):
            loss = run(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            pace = (time.perf_counter() - begun) / step
            print(f"{name}: step {step:,}/{steps:,}, loss {loss.item():.3f}, {pace:.3f} s a step", flush=True)
        if step % SAVED == 0 or step == steps:
            bits = measure_loss(model, unseen, first, device, always=bos is not None) / unseen_bytes
            history.append([step, bits])
            print(f"{name}: step {step:,}, held out {bits:.4f} bits per byte", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            state["inputs"] = inputs
            temporary = checkpoint.with_suffix(".new")
            torch.save({**state, "seconds": time.perf_counter() - begun, "history": history}, temporary)
            temporary.replace(checkpoint)

    _write(name, model, tokenizer, tokenizer_file, work)
    bits = measure_model(name, work / name, [row["text"] for row in rows], device)
    facts = {
        "inputs": inputs,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training_tokens": tokens,
        "training_words": sum(text.words for text in training),
        "steps": steps,
        "tokens_per_step": plan.batch * CONTEXT,
        "held_out_bits_per_byte": bits,
        "history": history,
        "seconds": time.perf_counter() - begun,
        "device": device,
    }
    write_facts(facts, work / f"{name}.json")
    print(f"{name}: {bits:.4f} bits per byte as stored", flush=True)


def _write(name: str, model: Any, tokenizer: Tokenizer, tokenizer_file: bytes, work: Path) -> None:
    """The model's folder, weights in float16."""
    import copy

    stored = copy.deepcopy(model).to("cpu", torch.float16)
    stored.config.dtype = torch.float16
    stored.save_pretrained(work / name)
    (work / name / "tokenizer.json").write_bytes(tokenizer_file)
    write_tokenizer_config(name, tokenizer, work / name)


def write_tokenizer_config(name: str, tokenizer: Tokenizer, folder: Path) -> None:
    """What transformers wants to know beside the tokenizer's own file."""
    plan = PLANS[name]
    special = {"eos_token": plan.separator, "pad_token": "<pad>" if plan.bos else "<|padding|>"}
    if plan.bos:
        special |= {"bos_token": plan.bos, "unk_token": "<unk>"}
    missing = [token for token in special.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise ValueError(f"the tokenizer of {name} has no {', '.join(missing)}")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train the model that is asked for."""
    parser = argparse.ArgumentParser(description="Trains one of the two bundled language models.")
    parser.add_argument("texts", type=Path, help="folder with moby-dick/, sotu/ and kjv/")
    parser.add_argument("name", choices=sorted(PLANS))
    parser.add_argument("work", type=Path, help="where the model goes, and checkpoints on the way")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--tokenizers", type=Path, default=PACKAGE, help="folder with NAME/tokenizer.json")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with lock_model(arguments.name, arguments.work):
        train(arguments.name, arguments.texts, arguments.work, arguments.device, arguments.tokenizers)


if __name__ == "__main__":
    main()
