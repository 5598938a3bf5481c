"""What steering is tried on where the truth is known: the bundled model, and features with known partners.

The other model is a copy of it: the same up to the site, so that feature i of one is feature i of the other.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.steering.random_directions import draw_directions

if TYPE_CHECKING:
    from xmodel.models.language import LanguageModel
    from xmodel.models.saes import FeatureDictionary

MODEL, DICTIONARY, CORPUS = "builtin:neox-demo", "builtin:neox-demo-l2", "builtin:demo-corpus"
"""What is damaged, whose directions are pushed, and what is read."""
FREQUENT = (0.005, 0.3)
"""Features are pushed that fire on this share of tokens."""


@dataclass(frozen=True)
class PlantedSize:
    """How large a planted comparison is; the default is a second's work."""

    features: int = 20
    """Pairs."""
    others: int = 19
    """Draws of every null: the least p is then exactly 0.05."""
    words: int = 60
    """Words whose Gram matrix is compared."""
    passages: int = 4
    """Passages that they are in, each of another document."""
    tokens: int = 32
    """Tokens of a passage."""
    draws: int = 3
    """Draws of re-initialised layers that make up the null."""


@dataclass(frozen=True, eq=False)
class Material:
    """What planted comparisons are made of, loaded once."""

    model: "LanguageModel"
    dictionary: "FeatureDictionary"
    texts: tuple[NDArray[np.int64], ...]
    """Token ids of every document."""
    spaced: NDArray[np.bool_]
    """[V] which tokens begin with a space, and so begin a word."""


@dataclass(frozen=True, eq=False)
class PlantedComparison:
    """One model, passages, and directions whose partners are known."""

    model: "LanguageModel"
    site: str
    ids: NDArray[np.int64]
    """[P, T] tokens."""
    rows: NDArray[np.int64]
    """[N] passage of every word."""
    columns: NDArray[np.int64]
    """[N] column of its last token."""
    paired: NDArray[np.float32]
    """[F, d] unit directions of features; each is its own partner."""
    wrong: NDArray[np.float32]
    """[F, d] of other features, drawn as those were: wrong partners."""
    live: NDArray[np.float32]
    """[m, d] of yet others."""
    random: NDArray[np.float32]
    """[m, d] random ones."""
    draws: int
    """Draws of re-initialised layers that make up the null."""
    seed: int


def load_material() -> Material:
    """Load the bundled model, its SAE and the corpus, offline."""
    from xmodel.alignment.loading import load_tokenizer
    from xmodel.datasets.corpus import open_corpus
    from xmodel.datasets.demo import find_builtin
    from xmodel.models.language import load_language_model
    from xmodel.models.saes import load_dictionary

    tokenizer = load_tokenizer(find_builtin(MODEL, "model"))
    ids, counts = tokenizer.encode([document.text for document in open_corpus(CORPUS).documents()])
    known = tokenizer.spelling.native
    spaced = np.array([known[token][:1] == b" " for token in range(int(ids.max()) + 1)])
    texts = tuple(np.split(ids, np.cumsum(counts)[:-1]))
    return Material(load_language_model(MODEL), load_dictionary(DICTIONARY), texts, spaced)


def plant_comparison(material: Material, seed: int, size: PlantedSize) -> PlantedComparison:
    """Draw passages, words and features.

    Args:
        material: of `load_material`.
        seed: of all draws; 0 or more.
        size: how much.

    Raises:
        InputError: no such passages, or fewer features that fire in them than are wanted.
    """
    rng = np.random.default_rng(seed)
    site = str(material.dictionary.info.site)
    ids = _draw_passages(material, size, rng)
    ends = np.argwhere(_find_ends(material, ids))
    live = _list_live(material, site, ids)
    wanted = 2 * size.features + size.others
    if len(live) < wanted:
        raise InputError(
            f"{wanted} features were asked for, and {len(live)} fire in {size.passages} passages of "
            f"{size.tokens} tokens: ask for more passages."
        )
    rows, columns = ends[np.sort(rng.choice(len(ends), size.words, replace=False))].T
    chosen = _take_directions(material.dictionary, rng.choice(live, wanted, replace=False))
    first, second = size.features, 2 * size.features
    return PlantedComparison(
        model=material.model,
        site=site,
        ids=ids,
        rows=np.ascontiguousarray(rows),
        columns=np.ascontiguousarray(columns),
        paired=chosen[:first],
        wrong=chosen[first:second],
        live=chosen[second:],
        random=draw_directions(size.others, chosen.shape[1], seed),
        draws=size.draws,
        seed=seed,
    )


def _draw_passages(material: Material, size: PlantedSize, rng: np.random.Generator) -> NDArray[np.int64]:
    """[P, T] stretches of different documents, each from the beginning of a word, with its share of words."""
    least = -(-size.words // size.passages)
    stretches = []
    for text in material.texts:
        if len(text) >= size.tokens:
            windows = np.lib.stride_tricks.sliding_window_view(text, size.tokens)
            counts = _find_ends(material, windows).sum(axis=1)
            stretches.append(windows[material.spaced[windows[:, 0]] & (counts >= least)])
    stretches = [one for one in stretches if len(one)]
    if len(stretches) < size.passages:
        raise InputError(
            f"{size.passages} passages of {size.tokens} tokens with {least} words each were asked for, and "
            f"{len(stretches)} documents have one: ask for fewer words."
        )
    chosen = rng.choice(len(stretches), size.passages, replace=False).tolist()
    return np.stack([rng.choice(stretches[number]) for number in chosen])


def _find_ends(material: Material, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[n, T] the last tokens of words, which end where the next one begins; without passages' first tokens,
    which stand where BOS would."""
    ends = np.zeros(ids.shape, bool)
    ends[:, 1:-1] = material.spaced[ids[:, 2:]]
    return ends


def _list_live(material: Material, site: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Features that fire in the passages, but not everywhere."""
    import torch

    from xmodel.models.capture import capture

    given = torch.from_numpy(ids)
    activations = capture(material.model, given, torch.ones_like(given, dtype=torch.bool), [site])[site]
    fires = material.dictionary.encode(activations[:, 1:].flatten(0, 1)) > 0
    rates = fires.double().mean(0).numpy(force=True)
    return np.flatnonzero((rates >= FREQUENT[0]) & (rates <= FREQUENT[1]))


def _take_directions(dictionary: "FeatureDictionary", features: NDArray[np.int64]) -> NDArray[np.float32]:
    """[n, d] unit decoder rows."""
    rows = dictionary.decoder[features.tolist()].double().numpy(force=True)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
