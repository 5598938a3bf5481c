"""Trains the sparse autoencoders of a bundled language model, with SAELens.

    python recipes/demo_saes.py TEXTS NAME WORK [--device cuda]

NAME is ``neox-demo`` (TopK) or ``gemma-demo`` (BatchTopK, saved as JumpReLU); its model lies in
``WORK/NAME``. Every SAE goes to a folder of its own in WORK, with what was measured in it. Those that are
there already are left as they are. `build_demo.py` calls this for both models.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import demo_models
import demo_texts
import numpy as np
import torch

from xmodel.models.capture import capture
from xmodel.models.language import LanguageModel, load_language_model
from xmodel.models.saes import compute_fvu, load_dictionary

MASSIVE = 6.0
"""Tokens whose norm is above so many times the median are left out, as is the first position of a window."""

BATCH = 2048
"""Tokens in a training step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one SAE is built and trained.

    Attributes:
        name: its folder.
        block: whose output it reads.
        features: how many it has.
        seed: of its first weights and of the order of tokens.
        k: features active per token (on average under BatchTopK).
        tokens: seen in training.
        learning_rate: held, and lowered to nothing over the last third.
    """

    name: str
    block: int
    features: int
    seed: int
    k: int = 24
    tokens: int = 4_000_000
    learning_rate: float = 1e-3

    @property
    def site(self) -> str:
        """The site that it reads."""
        return f"blocks.{self.block}.hook_resid_post"


PLANS = {
    "neox-demo": (
        Plan("neox-demo-l2", 2, 2048, seed=11),
        Plan("neox-demo-l0", 0, 2048, seed=12),
        Plan("neox-demo-l4", 4, 2048, seed=13),
    ),
    "gemma-demo": (
        Plan("gemma-demo-l3", 3, 2048, seed=21),
        Plan("gemma-demo-l1", 1, 2048, seed=22),
        Plan("gemma-demo-l5", 5, 2048, seed=23),
        Plan("gemma-demo-l3-1k", 3, 1024, seed=24),
    ),
}
"""The SAEs of each model, those of the middle first."""


def read_activations(model: LanguageModel, windows: np.ndarray, sites: list[str]) -> dict[str, torch.Tensor]:
    """[tokens, d] float16 per site: the windows' tokens without first positions and massive ones."""
    found: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
    limits: dict[str, float] = {}
    for start in range(0, len(windows), 32):
        ids = torch.from_numpy(windows[start : start + 32])
        activations = capture(model, ids, torch.ones_like(ids, dtype=torch.bool), sites)
        for site, batch in activations.items():
            rows = batch[:, 1:].reshape(-1, batch.shape[-1])
            norms = rows.norm(dim=-1)
            limit = limits.setdefault(site, MASSIVE * float(norms.median()))
            found[site].append(rows[norms <= limit].to("cpu", torch.float16))
    return {site: torch.cat(parts) for site, parts in found.items()}


def read_unseen(
    name: str, model: LanguageModel, texts: list[str], sites: list[str]
) -> dict[str, torch.Tensor]:
    """[tokens, d] float16 per site: activations on the corpus that the model was not trained on."""
    plan = demo_models.PLANS[name]
    tokenizer, _ = demo_models.read_tokenizer(name, Path(model.folder).parent)
    bos = None if plan.bos is None else tokenizer.token_to_id(plan.bos)
    documents = demo_models.encode_texts(tokenizer, texts, plan.separator)
    return read_activations(model, demo_models.draw_windows(documents, bos, 0), sites)


def deal_batches(rows: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Batches of BATCH rows in a random order, without end; every pass is mixed anew."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            yield rows[order[start : start + BATCH]].float()


def train_sae(plan: Plan, model_name: str, rows: torch.Tensor, folder: Path, device: str) -> None:
    """Train one SAE and save it, its weights in float16."""
    from sae_lens import (
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer
    from safetensors.torch import load_file, save_file

    gemma = model_name == "gemma-demo"
    torch.manual_seed(plan.seed)
    make_config = BatchTopKTrainingSAEConfig if gemma else TopKTrainingSAEConfig
    config = make_config(
        d_in=rows.shape[1],
        d_sae=plan.features,
        k=plan.k,
        normalize_activations="expected_average_only_in",
        device=device,
        metadata=SAEMetadata(
            model_name=f"builtin:{model_name}",
            hook_name=plan.site,
            context_size=demo_models.CONTEXT,
            prepend_bos=demo_models.PLANS[model_name].bos is not None,
        ),
    )
    sae = (BatchTopKTrainingSAE if gemma else TopKTrainingSAE)(config)
    steps = plan.tokens // BATCH
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * BATCH,
            train_batch_size_samples=BATCH,
            lr=plan.learning_rate,
            lr_end=0.0,
            lr_warm_up_steps=steps // 50,
            lr_decay_steps=steps // 3,
            device=device,
            dead_feature_window=150,
            feature_sampling_window=500,
            n_batches_for_norm_estimate=50,
        ),
        sae,
        deal_batches(rows, plan.seed),
    )
    trained = trainer.fit()
    temporary = folder.with_name(folder.name + ".new")
    trained.save_inference_model(str(temporary))
    weights = temporary / "sae_weights.safetensors"
    save_file({name: tensor.to(torch.float16) for name, tensor in load_file(weights).items()}, weights)
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was stopped before it was measured
    temporary.replace(folder)


def measure_sae(folder: Path, rows: torch.Tensor) -> dict[str, float]:
    """FVU, mean number of active features and the share of features that never fire, on rows [n, d]."""
    dictionary = load_dictionary(str(folder))
    with torch.inference_mode():
        x, x_hat = dictionary.reconstruct(rows.float())
        active = dictionary.encode(rows.float()) != 0
    return {
        "fvu": compute_fvu(x, x_hat),
        "l0": float(active.sum(1).double().mean()),
        "dead": float((~active.any(0)).double().mean()),
        "tokens": len(rows),
    }


def main() -> None:
    """Train those SAEs of a model that are not there yet."""
    parser = argparse.ArgumentParser(description="Trains the SAEs of one of the bundled language models.")
    parser.add_argument("texts", type=Path, help="folder with moby-dick/, sotu/ and kjv/")
    parser.add_argument("name", choices=sorted(PLANS))
    parser.add_argument("work", type=Path, help="folder with the model; the SAEs go there too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with demo_models.lock_model(arguments.name, arguments.work):
        train_missing(arguments.name, arguments.texts, arguments.work, arguments.device)


def train_missing(name: str, texts: Path, work: Path, device: str) -> None:
    """Train those SAEs of a model that are not there yet."""
    tokenizer, _ = demo_models.read_tokenizer(name, work)
    own = demo_models.PLANS[name]
    bos = None if own.bos is None else tokenizer.token_to_id(own.bos)
    training, held_out = demo_texts.hold_out(demo_texts.read_texts(texts))
    seen = demo_models.encode_texts(tokenizer, [text.text for text in training], own.separator)
    model = load_language_model(work / name, device=device)
    plans, inputs = [], {}
    for plan in PLANS[name]:
        inputs[plan] = demo_models.digest_inputs((plan, model.digest), seen)
        place = work / plan.name / "measured.json"
        if place.exists():
            demo_models.check_inputs(json.loads(place.read_text("utf-8"))["inputs"], inputs[plan], place)
        else:
            plans.append(plan)
    if not plans:
        return
    sites = sorted({plan.site for plan in plans})
    activations = read_activations(model, demo_models.draw_windows(seen, bos, own.seed * 1000 + 500), sites)
    fresh = read_unseen(name, model, [row["text"] for row in demo_texts.cut_passages(held_out)], sites)
    for plan in plans:
        begun = time.perf_counter()
        train_sae(plan, name, activations[plan.site], work / plan.name, device)
        measured = measure_sae(work / plan.name, fresh[plan.site])
        facts = {**measured, "inputs": inputs[plan], "training_tokens": plan.tokens, "k": plan.k}
        facts["seconds"] = time.perf_counter() - begun
        demo_models.write_facts(facts, work / plan.name / "measured.json")
        print(f"{plan.name}: {json.dumps(facts)}", flush=True)


if __name__ == "__main__":
    main()
