"""What does a whole run cost beside the bare forward passes of the two models?

    python benchmarks/end_to_end.py PAIR SAES CORPUS [--words N] [--repeats N] [--device cuda]

PAIR holds the folders smollm2-135m-instruct and gemma-3-270m, SAES holds smollm2-135m-instruct-l15 and
gemma-3-270m-l9, CORPUS is a file or folder of text.

Bare: both models cut after the last block that is needed, without a language-model head, over the same
windows in the same batches; nothing is read and nothing kept. Whole: everything that `xmodel align` does
once models and SAEs are loaded: reading the corpus, words, tokenization, alignment, the check of the SAEs,
forward passes, encoding, pooling, shards, tables, pairing by all rules. Both alternate in one process; the
ratio is the median over repeats of whole / bare of the same repeat.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from xmodel.alignment.batches import make_batches
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.alignment.shards import align_shard, cut_shards
from xmodel.datasets.corpus import open_corpus
from xmodel.models.sites import parse_site
from xmodel.models.structure import find_decoder
from xmodel.pairing import comparing
from xmodel.pairing.settings import PairSettings


def make_bare(sides, corpus, settings):
    """A function that runs both models, cut after the last block needed, over all batches of the corpus."""
    work, tokens = [], 0
    for shard in cut_shards(open_corpus(corpus).documents(), settings):
        own = align_shard(shard, sides, settings)
        for number, side in enumerate(sides):
            ids = own.aligned.spans[number].ids
            for batch in make_batches(own.plan, number, ids, side.prefix, settings.batch_tokens):
                assert batch.mask.any()
                mask = None if batch.mask.all() else torch.from_numpy(batch.mask).to(side.model.device)
                work.append((number, torch.from_numpy(batch.ids).to(side.model.device), mask))
                tokens += int(batch.mask.sum())
    decoders = []
    for side in sides:
        decoder = find_decoder(side.model.module)
        decoders.append((decoder.module, decoder.blocks, parse_site(side.site).block + 1))

    def run():
        for number, ids, mask in work:
            module, blocks, count = decoders[number]
            module.layers = blocks[:count]
            try:
                with torch.inference_mode():
                    module(input_ids=ids, attention_mask=mask, use_cache=False)
            finally:
                module.layers = blocks
        if sides[0].model.device.type == "cuda":
            torch.cuda.synchronize()

    return run, tokens


def main():
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("pair", type=Path)
    parser.add_argument("saes", type=Path)
    parser.add_argument("corpus")
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-tokens", type=int, default=PassSettings.batch_tokens)
    arguments = parser.parse_args()
    names = ("smollm2-135m-instruct", "gemma-3-270m")
    requests = tuple(
        SideRequest(str(arguments.saes / f"{name}-l{layer}"), str(arguments.pair / name))
        for name, layer in zip(names, (15, 9), strict=True)
    )
    settings = PassSettings(words_limit=arguments.words, batch_tokens=arguments.batch_tokens)
    begin = time.perf_counter()
    sides = prepare_sides(*requests, settings, LoadOptions(device=arguments.device))
    loading = time.perf_counter() - begin
    bare, tokens = make_bare(sides, arguments.corpus, settings)
    comparing.prepare_sides = lambda *_: sides  # Loading is timed above, once.
    on_gpu = arguments.device.startswith("cuda")
    device = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} cores"
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {device}; {arguments.words:,} words, {tokens:,} tokens")
    bare()
    ratios, last = [], {}
    for repeat in range(arguments.repeats):
        begin = time.perf_counter()
        bare()
        alone = time.perf_counter() - begin
        with tempfile.TemporaryDirectory() as scratch:
            begin = time.perf_counter()
            run = comparing.align_models(
                requests[0].dictionary,
                requests[1].dictionary,
                arguments.corpus,
                Path(scratch) / "run",
                settings=settings,
                pairing=PairSettings(),
                options=LoadOptions(device=arguments.device),
            )
            whole = time.perf_counter() - begin
            last = run.summary["seconds"]
        ratios.append(whole / alone)
        figures = f"bare {alone:.2f} s, whole {whole:.2f} s, ratio {whole / alone:.3f}"
        print(f"repeat {repeat + 1}: {figures}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}; loading both sides, once: {loading:.1f} s")
    for stage, seconds in sorted(last.items(), key=lambda item: -item[1]):
        print(f"  {stage:<10} {seconds:7.2f} s  {100 * seconds / whole:5.1f} %")
    print(f"  {'other':<10} {whole - sum(last.values()):7.2f} s")


if __name__ == "__main__":
    main()
