"""What scores of a run are made of: its pairs, decoder vectors, held-out activations and top words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xmodel.datasets.concept_sets import Concept
from xmodel.errors import InputError
from xmodel.pairing.filters import WordChoice, choose_features, choose_words
from xmodel.pairing.moments import measure_moments
from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.records import Moments, WordFeatures
from xmodel.similarity.concepts import find_members, list_top_words
from xmodel.similarity.decoders import load_decoders
from xmodel.similarity.orders import count_lengths
from xmodel.similarity.repairing import Matches, Repairer, join_words


@dataclass(frozen=True, eq=False)
class Material:
    """A run, read for scoring; each part when it is first asked for."""

    run: Run
    device: str = "cpu"
    """Where dictionaries are loaded."""

    @cached_property
    def pairing(self) -> PairSettings:
        """How the run was paired."""
        return PairSettings.of_manifest(self.run.manifest)

    @cached_property
    def signed(self) -> bool:
        """Whether the sign of features is arbitrary."""
        sides = self.run.manifest["sides"]
        return any(sides[letter]["dictionary"]["signed"] for letter in "ab")

    @cached_property
    def choice(self) -> WordChoice:
        """Which words belong to which half."""
        return choose_words(self.run.shards, self.pairing)

    @cached_property
    def moments(self) -> tuple[Moments, Moments]:
        """Of the discovery half."""
        shards = self.run.shards
        return measure_moments(shards.select(self.choice.discovery), *shards.features)

    @cached_property
    def kept(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """[F_A] and [F_B] features that passed the filters."""
        first, second = (
            choose_features(letter, own, self.run.shards, self.choice, self.pairing)[0]
            for letter, own in zip("ab", self.moments, strict=True)
        )
        return first, second

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """[W] the document of every word of the run."""
        return self.run.words["document"].to_numpy().astype(np.int64)

    @cached_property
    def decoders(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[F_A, d_A] and [F_B, d_B]."""
        return load_decoders(self.run, device=self.device)

    @cached_property
    def discovery(self) -> Repairer:
        """The features over the discovery half, to be paired again."""
        return self._repair(self.choice.discovery)

    @cached_property
    def heldout(self) -> Repairer:
        """The features over the held-out half, to be paired again."""
        return self._repair(self.choice.heldout)

    def list_lengths(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[D] words of every document among the chosen words, documents without any left out."""
        return count_lengths(self.documents[chosen])

    def read_matches(self, rules: Sequence[str]) -> dict[str, Matches]:
        """The pairs of the run by rule, best r first.

        Raises:
            InputError: if a rule has fewer than three pairs.
        """
        if (self.run.path / "sweep.json").is_file() and not (self.run.path / "pairs.parquet").is_file():
            raise InputError(
                f"{self.run.path} holds a sweep, whose cells are scored already (grid.parquet): for all "
                "scores of one pair of SAEs, run `xmodel align` on the two and score that run."
            )
        table = self.run.pairs
        columns = {name: table[name].to_numpy() for name in ("feature_a", "feature_b", "r")}
        found = {}
        for rule in rules:
            own = np.flatnonzero(table[rule].to_numpy(zero_copy_only=False).astype(bool))
            if len(own) < 3:
                raise InputError(
                    f"{self.run.path} has {len(own)} pairs under the rule {rule}, and a score needs at least "
                    "3: use a longer corpus, or pair again with a lower --floor or --min-firings."
                )
            a, b = (columns[f"feature_{letter}"][own].astype(np.int32) for letter in "ab")
            found[rule] = Matches(a, b, columns["r"][own])
        return found

    def find_members(self, matches: Matches, concepts: Sequence[Concept]) -> dict[str, NDArray[np.int32]]:
        """A's paired features that belong to each concept, by their top words on the discovery half."""
        features = np.unique(matches.a)
        top = list_top_words(self.run.shards, "a", self.choice.discovery, features)
        return find_members(top, features, concepts)

    def choose_rows(self, most: int, seed: int) -> NDArray[np.bool_]:
        """[W] held-out words whose activations are compared: up to `most`, a stretch of every document.

        Stretches are as long as their documents' share of the half, and begin at random.
        """
        held = np.flatnonzero(self.choice.heldout)
        if len(held) <= most:
            return self.choice.heldout.copy()
        rng = np.random.default_rng(seed)
        chosen = np.zeros(len(self.choice.heldout), dtype=np.bool_)
        lengths = self.list_lengths(self.choice.heldout)
        stops = np.cumsum(lengths)
        takes = np.diff(np.concatenate([[0], stops * most // len(held)]))
        for stop, length, take in zip(stops.tolist(), lengths.tolist(), takes.tolist(), strict=True):
            first = stop - length + int(rng.integers(0, length - take + 1))
            chosen[held[first : first + take]] = True
        return chosen

    def _repair(self, chosen: NDArray[np.bool_]) -> Repairer:
        a, b = join_words(self.run.shards, chosen)
        return Repairer(a, b, *self.kept, self.pairing, self.signed)


def take_columns(features: WordFeatures, chosen: NDArray[np.int32]) -> NDArray[np.float32]:
    """[W, n] the activations of some features as a dense matrix, each as often as it is named."""
    from scipy.sparse import csr_matrix

    own = csr_matrix(
        (features.values, features.indices, features.indptr), shape=(len(features), features.features)
    )
    unique, places = np.unique(chosen, return_inverse=True)
    return np.asarray(own.tocsc()[:, unique].toarray()[:, places], dtype=np.float32)
