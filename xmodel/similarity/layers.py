"""One dictionary of a sweep, ready to be compared with those of the other model."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.filters import WordChoice, choose_features
from xmodel.pairing.halves import Shards
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.results import Run, describe_letter, open_shards
from xmodel.pairing.settings import PairSettings
from xmodel.records import WordFeatures
from xmodel.similarity.decoders import load_decoder
from xmodel.similarity.repairing import join_rows


@dataclass(frozen=True, eq=False)
class Layer:
    """A dictionary's features over the words of a run, in memory."""

    name: str
    """As the user wrote it."""
    site: str
    """Where it reads."""
    discovery: WordFeatures
    """[W] words of the discovery half."""
    heldout: WordFeatures
    """[V] words of the held-out half."""
    kept: NDArray[np.bool_]
    """[F] features that passed the filters and may be paired."""
    decoder: NDArray[np.float32] | None
    """[F, d] None where it has no vectors of its own, as neurons."""
    signed: bool = False
    """Whether its features' sign is arbitrary."""
    missing: str = ""
    """Why there is no decoder."""

    @property
    def features(self) -> int:
        """F, the size of the dictionary."""
        return self.discovery.features

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        halves = (self.discovery, self.heldout)
        own = sum(half.indptr.nbytes + half.indices.nbytes + half.values.nbytes for half in halves)
        return own + (0 if self.decoder is None else self.decoder.nbytes)


def load_layer(run: Run, letter: str, words: WordChoice, settings: PairSettings, *, device: str) -> Layer:
    """Read one dictionary of a run.

    Args:
        run: a finished pass.
        letter: ``a``, ``a1``, ``b``, ``b2``, ...
        words: the halves of the words.
        settings: filters of features.
        device: where the dictionary is loaded for its decoder.

    Raises:
        InputError: if a file is missing or damaged, or the dictionary is no longer that of the run.
    """
    manifest = run.manifest
    side = letter[0]
    letters = (letter, "b") if side == "a" else ("a", letter)
    shards = open_shards(run.folder, manifest, letters)
    discovery, heldout = (_join(shards, side, half) for half in (words.discovery, words.heldout))
    moments = measure_moments(lambda: [(discovery, discovery)], discovery.features, discovery.features)[0]
    kept, _ = choose_features(side, moments, shards, words, settings)
    own = describe_letter(manifest, letter)
    decoder, missing = None, ""
    if own["dictionary"]["architecture"] in ("neurons", "residual"):
        missing = f"{own['dictionary']['name']} has no decoder vectors, its features being the dimensions"
    else:
        decoder = load_decoder(run, manifest, letter, device=device)
    return Layer(
        own["dictionary"]["name"],
        own["site"],
        discovery,
        heldout,
        kept,
        decoder,
        own["dictionary"]["signed"],
        missing,
    )


def hold_layers(load: Callable[[str], Layer], memory: int) -> Callable[[str], Layer]:
    """The same function with the layers used last kept in memory, as many as fit, and two at least."""
    held: OrderedDict[str, Layer] = OrderedDict()

    def find(letter: str) -> Layer:
        if letter not in held:
            held[letter] = load(letter)
        held.move_to_end(letter)
        while len(held) > 2 and sum(layer.bytes for layer in held.values()) > memory:
            held.popitem(last=False)
        return held[letter]

    return find


def check_halves(first: Layer, second: Layer) -> None:
    """Refuse layers of different words.

    Raises:
        InputError: naming both.
    """
    for half in ("discovery", "heldout"):
        counts = len(getattr(first, half)), len(getattr(second, half))
        if counts[0] != counts[1]:
            raise InputError(
                f"{first.name} has {counts[0]:,} words in its {half} half and {second.name} {counts[1]:,}: "
                "layers that are compared must be of the same words. Extract them in one pass."
            )


def _join(shards: Shards, side: str, chosen: NDArray[np.bool_]) -> WordFeatures:
    parts = [rows for _, rows in shards.number_rows(side, chosen)]
    return join_rows(parts, shards.features["ab".index(side)])
