"""A large run for the tests and the benchmark of `xmodel report`."""

import json

import numpy as np
from scipy.sparse import csr_matrix

from tests.tiny_runs import build_run
from xmodel.datasets.demo import find_builtin
from xmodel.datasets.word_kinds import fold_word
from xmodel.datasets.words import split_words
from xmodel.pairing.settings import PairSettings

OWN = 10
"""Concepts that come with a word's type."""


def read_paragraphs():
    """The paragraphs of the bundled corpus."""
    lines = find_builtin("demo-corpus", "corpus").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines if line]
    return [part for text in texts for part in text.split("\n\n") if part.strip()]


def resample_texts(words, documents, seed=0):
    """Documents of paragraphs drawn from the bundled corpus, with about `words` words in all."""
    rng = np.random.default_rng(seed)
    paragraphs = read_paragraphs()
    sizes = [len(split_words(text).starts) for text in paragraphs]
    texts = []
    for _ in range(documents):
        parts, size = [], 0
        while size < words / documents:
            drawn = int(rng.integers(len(paragraphs)))
            parts.append(paragraphs[drawn])
            size += sizes[drawn]
        texts.append("\n\n".join(parts))
    return texts


def plant_many(spelled, features, active=30, seed=0):
    """[W, F] sparse activations of either side: concepts of words and of places, most of them shared.

    Every type of word has its own few concepts and every place some that are drawn at random. A's feature k
    is concept k; B has it under another number on a share of its firings, which differs from concept to
    concept (none at all for every fortieth), and fires at random elsewhere.
    """
    rng = np.random.default_rng(seed)
    types = {folded: number for number, folded in enumerate(dict.fromkeys(map(fold_word, spelled)))}
    of = np.array([types[fold_word(word)] for word in spelled])
    own = rng.integers(0, features, (len(types), OWN))[of]
    drawn = rng.integers(0, features, (len(spelled), active - OWN))
    concepts = np.concatenate([own, drawn], axis=1)
    strengths = rng.gamma(2.0, 1.0, concepts.shape).astype(np.float32) + 0.1
    renamed = rng.permutation(features)
    shares = rng.uniform(0.3, 1.0, features) * (np.arange(features) % 40 > 0)
    kept = rng.random(concepts.shape) < shares[concepts]
    in_b = np.where(kept, renamed[concepts], rng.integers(0, features, concepts.shape))
    noise = rng.uniform(0.7, 1.3, concepts.shape).astype(np.float32)
    shape = (len(spelled), features)
    return {"a": _as_rows(concepts, strengths, shape), "b": _as_rows(in_b, 20 * strengths * noise, shape)}


def _as_rows(columns, values, shape):
    indptr = np.arange(0, columns.size + 1, columns.shape[1])
    rows = csr_matrix((values.ravel(), columns.ravel().astype(np.int32), indptr), shape=shape)
    rows.sum_duplicates()
    return rows


def make_large_run(path, *, features=20_000, words=200_000, documents=400, active=30, shards=8, seed=0):
    """A run of many features, words and pairs, without any model; see `tests.tiny_runs.build_run`."""
    texts = resample_texts(words, documents, seed)
    return build_run(
        path,
        texts,
        shards=shards,
        values=lambda spelled: plant_many(spelled, features, active, seed),
        pairing=PairSettings(workers=1),
        names=[f"book-{number:03d}.txt" for number in range(len(texts))],
    )
