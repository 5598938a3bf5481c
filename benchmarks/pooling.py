"""Which pooling? Every pooling and both orders on a real pair, judged on documents that pairing never saw.

    python benchmarks/pooling.py PAIR SAES CORPUS [--words N]

PAIR holds the folders smollm2-135m-instruct and gemma-3-270m, SAES holds smollm2-135m-instruct-l15 and
gemma-3-270m-l9, CORPUS is a file or folder of text. The models run once; their activations are kept in
memory and pooled and encoded in every way.

reproduced: features of A whose best partner on the discovery half is their best partner on the held-out
half too, found there afresh. mutual: pairs that are each other's best on the discovery half, and how many
of these are so on the held-out half as well.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np

from xmodel.alignment import extract
from xmodel.alignment.features import run_pass
from xmodel.alignment.pooling import POOLINGS
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions, SideRequest, prepare_sides
from xmodel.datasets.corpus import open_corpus
from xmodel.pairing.correlation import correlate_pairs, find_partners
from xmodel.pairing.halves import Shards
from xmodel.pairing.moments import measure_moments
from xmodel.run import RunFolder

MIN_FIRINGS = 10


def keep_activations():
    """The models run when a batch is asked for the first time; after that, its rows are at hand."""
    read, kept = extract.read_batches, {}

    def read_once(side, plan, number, ids, sites, batch_tokens):
        key = (side.letter, ids.tobytes(), tuple(sites), batch_tokens)
        if key not in kept:
            kept[key] = list(read(side, plan, number, ids, sites, batch_tokens))
        yield from kept[key]

    extract.read_batches = read_once


def judge(result, folder, features):
    words = sum(receipt.facts["words"] for receipt in result.receipts)
    bounds = np.cumsum([0, *(receipt.facts["words"] for receipt in result.receipts)])
    files = {name: digest for receipt in result.receipts for name, digest in receipt.files.items()}
    shards = Shards(folder, files, bounds, features)
    import pyarrow.parquet as pq

    split = pq.read_table(folder / "words.parquet", columns=["split"])["split"].cast("string")
    discovery = split.to_numpy() == "discovery"
    halves = [shards.select(discovery), shards.select(~discovery)]
    moments = [measure_moments(half, *features) for half in halves]
    kept = [own.firings >= MIN_FIRINGS for own in moments[0]]
    best = [
        find_partners(half, *own, kept_a=kept[0], kept_b=kept[1], top_k=1)
        for half, own in zip(halves, moments, strict=True)
    ]
    (of_a, of_b), (again_a, again_b) = best
    a = np.flatnonzero(of_a.features[:, 0] >= 0)
    b = of_a.features[a, 0]
    held, _ = correlate_pairs(halves[1], *moments[1], a.astype(np.int32), b)
    same = again_a.features[a, 0] == b
    mutual = of_b.features[b, 0] == a
    mutual_again = same & (again_b.features[b, 0] == a)
    shuffled, _ = correlate_pairs(
        halves[1], *moments[1], a.astype(np.int32), np.random.default_rng(0).permutation(b)
    )
    return {
        "words": words,
        "features": len(a),
        "r": of_a.r[a, 0].mean(),
        "held": np.nanmean(held),
        "shuffled": np.nanmean(shuffled),
        "same": int(same.sum()),
        "mutual": int(mutual.sum()),
        "mutual_held": np.nanmean(held[mutual]),
        "mutual_again": int((mutual & mutual_again).sum()),
    }


def main():
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("pair", type=Path)
    parser.add_argument("saes", type=Path)
    parser.add_argument("corpus")
    parser.add_argument("--words", type=int, default=40_000)
    arguments = parser.parse_args()
    names = ("smollm2-135m-instruct", "gemma-3-270m")
    requests = tuple(
        SideRequest(str(arguments.saes / f"{name}-l{layer}"), str(arguments.pair / name))
        for name, layer in zip(names, (15, 9), strict=True)
    )
    keep_activations()
    settings = PassSettings(words_limit=arguments.words)
    sides = prepare_sides(*requests, settings, LoadOptions())
    features = tuple(side.dictionary.info.features for side in sides)
    print(f"{platform.processor() or platform.machine()}; {arguments.words:,} words of {arguments.corpus}")
    header = (
        "pooling", "order", "words", "A feat.", "r", "held-out", "shuffled", "reproduced", "mutual",
        "held-out", "again",
    )  # fmt: skip
    print(("{:>8} {:>18} {:>7} {:>7} {:>6} {:>8} {:>8} {:>10} {:>7} {:>8} {:>6}").format(*header), flush=True)
    for before in (False, True):
        for pooling in POOLINGS:
            settings = PassSettings(words_limit=arguments.words, pool=pooling, pool_before_encoding=before)
            with tempfile.TemporaryDirectory() as scratch:
                folder = RunFolder(Path(scratch) / "run")
                result = run_pass(open_corpus(arguments.corpus).documents(), sides, folder, settings)
                row = judge(result, folder, features)
            order = "pool, then encode" if before else "encode, then pool"
            print(
                f"{pooling:>8} {order:>18} {row['words']:7,} {row['features']:7,} "
                f"{row['r']:6.3f} {row['held']:8.3f} "
                f"{row['shuffled']:8.3f} {row['same']:10,} {row['mutual']:7,} {row['mutual_held']:8.3f} "
                f"{row['mutual_again']:6,}",
                flush=True,
            )


if __name__ == "__main__":
    main()
