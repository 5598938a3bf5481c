"""Runs whose features are known to be shared, with decoder vectors that are related, or are not."""

import numpy as np

from tests.tiny_runs import build_run, make_texts
from xmodel.pairing.settings import PairSettings

FEATURES = 60
WIDTHS = (16, 12)


def plant_values(spelled, *, firing=0.05, miss=0.1, seed=0, split=0):
    """[W, F] by side: A's feature f and B's feature order[f] fire on the same words, but for some misses.

    Args:
        spelled: the words.
        firing: how often a feature fires.
        miss: share of firings that one side lacks.
        seed: of everything.
        split: how many of A's last features repeat one of its first, so that they share a partner.
    """
    rng = np.random.default_rng(seed)
    truth = rng.random((len(spelled), FEATURES)) < firing
    if split:
        truth[:, FEATURES - split :] = truth[:, :split]
    order = find_order(seed)
    sides = []
    for _ in range(2):
        fires = truth & (rng.random(truth.shape) >= miss)
        sides.append(np.where(fires, 1 + rng.random(truth.shape), 0).astype(np.float32))
    b = np.zeros_like(sides[1])
    b[:, order] = sides[1]
    if split:
        # B has one feature where A has two.
        b[:, order[FEATURES - split :]] = 0
    return {"a": sides[0], "b": b}


def find_order(seed=0):
    """[F] B's feature for each of A's."""
    return np.random.default_rng([seed, 7]).permutation(FEATURES)


def make_decoders(related, *, seed=0, noise=0.3, split=0):
    """[F, 16] and [F, 12]: B's are A's, turned into other dimensions with noise, or have nothing of them."""
    rng = np.random.default_rng([seed, 3])
    a = rng.standard_normal((FEATURES, WIDTHS[0]))
    if split:
        a[FEATURES - split :] = a[:split] + 0.1 * rng.standard_normal((split, WIDTHS[0]))
    b = np.zeros((FEATURES, WIDTHS[1]))
    b[find_order(seed)] = a @ np.linalg.qr(rng.standard_normal(WIDTHS[::1]))[0]
    own = rng.standard_normal(b.shape)
    b = b + noise * own if related else own
    return a.astype(np.float32), b.astype(np.float32)


def make_world(path, monkeypatch, *, related=True, split=0, seed=0, documents=24, **planted):
    """A run with these values, whose dictionaries have these decoder vectors."""
    from xmodel.similarity import material

    run = build_run(
        path,
        make_texts(documents=documents, seed=seed),
        values=lambda spelled: plant_values(spelled, seed=seed, split=split, **planted),
        pairing=PairSettings(min_firings=5, workers=1),
    ).run
    decoders = make_decoders(related, seed=seed, split=split)
    monkeypatch.setattr(material, "load_decoders", lambda run, device: decoders)
    return run, decoders
