"""Builds everything that comes with xmodel, from the texts: one command.

    python recipes/build_demo.py TEXTS [--work WORK] [--out OUT]

TEXTS is a folder with the sub-folders ``moby-dick``, ``sotu`` and ``kjv``: see `demo_texts.py`. Both
tokenizers, both models, their SAEs, the corpus and the model cards are made, and put into OUT (by default the
package's own folder). WORK keeps what is finished, and checkpoints: the same command goes on with it.

Without a GPU the two models are trained beside each other, a core each.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import demo_baselines
import demo_cards
import demo_models
import demo_saes
import demo_texts
import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
SAE_FILES = ("cfg.json", "sae_weights.safetensors")
MOST_BYTES = 20_000_000
"""What everything together may take."""


def train_everything(texts: Path, work: Path, device: str, tokenizers: Path) -> None:
    """Both models and their SAEs, in processes of their own: of what is finished they only make sure."""
    threads = ["--threads", "1"] if device == "cpu" else []
    chains = {
        name: [["demo_models.py", "--tokenizers", str(tokenizers)], ["demo_saes.py"]]
        for name in demo_models.PLANS
    }
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while any(chains.values()) or running:
            for name, steps in chains.items():
                if name not in running and steps:
                    script, *options = steps.pop(0)
                    command = [sys.executable, str(HERE / script), str(texts), name, str(work), *options]
                    running[name] = subprocess.Popen([*command, "--device", device, *threads])
            time.sleep(1)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                if running.pop(name).returncode:
                    raise SystemExit(f"training of {name} failed: see above. The same command goes on.")
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


def collect(texts: Path, work: Path, out: Path) -> None:
    """Measure the baselines, write cards and corpus, and copy what belongs into the package."""
    training, held_out = demo_texts.hold_out(demo_texts.read_texts(texts))
    rows = demo_texts.cut_passages(held_out)
    demo_texts.write_corpus(rows, out / "corpus.jsonl")
    unseen = [row["text"] for row in rows]
    size = sum(len(text.encode()) for text in unseen)
    gzip, by_bytes = (
        demo_baselines.measure_gzip(unseen),
        demo_baselines.measure_byte_trigrams([text.text for text in training], unseen),
    )
    for name, plan in demo_models.PLANS.items():
        facts = json.loads((work / f"{name}.json").read_text("utf-8"))
        tokenizer, _ = demo_models.read_tokenizer(name, work)
        seen, own = (
            demo_models.encode_texts(tokenizer, list(some), plan.separator)
            for some in ([text.text for text in training], unseen)
        )
        facts |= {
            "held_out_bits_per_byte": demo_models.measure_model(name, work / name, unseen),
            "trigrams": demo_baselines.measure_token_trigrams(
                seen,
                [ids[:-1] for ids in own],
                tokenizer.get_vocab_size(),
                tokenizer.token_to_id(plan.separator),
                size,
            ),
            "byte_trigrams": by_bytes,
            "gzip": gzip,
            "seed": plan.seed,
            "saelens": version("sae-lens"),
        }
        for file in MODEL_FILES:
            _copy(work / name / file, out / name / file)
        saes = [_collect_sae(plan, work, out) for plan in sorted(demo_saes.PLANS[name], key=lambda p: p.name)]
        config = json.loads((work / name / "config.json").read_text("utf-8"))
        card = demo_cards.write_card(name, facts, config, saes)
        (out / name / "README.md").write_text(card, encoding="utf-8")
        print(
            f"{name}: {facts['held_out_bits_per_byte']:.4f} bits per byte; trigrams {facts['trigrams']:.4f}"
        )
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.suffix != ".pyc")
    print(f"{total:,} bytes in {out}")
    if total > MOST_BYTES:
        raise SystemExit(f"{total:,} bytes are more than the {MOST_BYTES:,} that may come with the package.")


def _collect_sae(plan: demo_saes.Plan, work: Path, out: Path) -> dict[str, Any]:
    for file in SAE_FILES:
        _copy(work / plan.name / file, out / plan.name / file)
    measured = json.loads((work / plan.name / "measured.json").read_text("utf-8"))
    config = json.loads((work / plan.name / "cfg.json").read_text("utf-8"))
    features = load_file(work / plan.name / "sae_weights.safetensors")["W_dec"].shape[0]
    trained_as = {"batchtopk": "BatchTopK, as JumpReLU", "topk": "TopK"}
    return {
        "name": plan.name,
        "site": plan.site,
        "features": features,
        "architecture": trained_as[config["metadata"]["training_architecture"]] + f", k {measured['k']}",
        **measured,
    }


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def main() -> None:
    """Build everything, or go on with it."""
    parser = argparse.ArgumentParser(description="Builds the models, SAEs and corpus that come with xmodel.")
    parser.add_argument("texts", type=Path, help="folder with moby-dick/, sotu/ and kjv/")
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="for checkpoints and results")
    parser.add_argument(
        "--out", type=Path, default=demo_models.PACKAGE, help="the demo folder of the package"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizers = arguments.work / "tokenizers"
    command = [sys.executable, str(HERE / "demo_tokenizers.py"), str(arguments.texts), str(tokenizers)]
    subprocess.run(command, check=True)
    # A build that is told to end takes its trainers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    train_everything(arguments.texts, arguments.work, arguments.device, tokenizers)
    collect(arguments.texts, arguments.work, arguments.out)


if __name__ == "__main__":
    main()
