"""A finished run as tables: what a library user works with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodel.errors import InputError
from xmodel.pairing.halves import Shards
from xmodel.run import RunFolder, digest_file

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, eq=False)
class Run:
    """A run on disk. Tables are read when they are asked for."""

    path: Path
    """Its folder."""

    @property
    def folder(self) -> RunFolder:
        """The folder, with its checks."""
        return RunFolder(self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything that is needed to repeat the run: see cli documentation for its keys."""
        return read_manifest(self.folder)

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, pairs by rule, attrition ledger and seconds; the content of summary.json."""
        summary = json.loads(self._find("summary.json").read_text("utf-8"))
        self._check_pairing(summary.get("pairs_sha256"))
        return summary

    @property
    def pairs(self) -> "pa.Table":
        """The pairs, best first; ``.to_pandas()`` makes a data frame.

        Columns: feature_a, feature_b (numbers of the features), r (Pearson, discovery half), r_heldout, n_a,
        n_b, n_ab (words on which A's, B's and both fire, discovery half), jaccard, log10_p_cofiring,
        runner_up_r and margin (A's next best partner), rank_a (place of B's feature among A's partners, from
        1), rank_b, and one column per rule.
        """
        self._check_pairing(digest_file(self._find("pairs.parquet")))
        return self._read("pairs.parquet")

    @property
    def words(self) -> "pa.Table":
        """The words: word_id (row in the features), document, start, end (bytes), text, group, split."""
        return self._read("words.parquet")

    @property
    def documents(self) -> "pa.Table":
        """The documents: document, name, text, split."""
        return self._read("documents.parquet")

    def tokens(self, side: str) -> "pa.Table":
        """The tokens of model ``a`` or ``b``: document, position, id, start, end, flags, window, excluded."""
        return self._read(f"tokens_{_check_side(side)}.parquet")

    @cached_property
    def shards(self) -> Shards:
        """The feature shards, to be read one at a time."""
        return open_shards(self.folder, self.manifest)

    def features(self, side: str) -> "csr_matrix":
        """[words, features] float32: all word features of model ``a`` or ``b``, in memory."""
        from scipy.sparse import csr_matrix, vstack

        _check_side(side)
        blocks = []
        for number in range(len(self.shards)):
            own = self.shards.load(side, number)
            shape = (len(own), own.features)
            blocks.append(csr_matrix((own.values, own.indices, own.indptr), shape=shape))
        return csr_matrix(vstack(blocks, format="csr"))

    def top_words(self, side: str, features: Sequence[int], count: int = 8) -> list[list[str]]:
        """The different words on which features fire most strongly, strongest first, over the whole run.

        Args:
            side: ``a`` or ``b``.
            features: their numbers.
            count: most words per feature; it has fewer where it fires on fewer.

        Raises:
            InputError: for a side or feature that does not exist, or if a file is missing or damaged.
        """
        from xmodel.pairing.firings import survey_features

        total = self.shards.features["ab".index(_check_side(side))]
        unknown = [feature for feature in features if not 0 <= feature < total]
        if unknown:
            raise InputError(f"feature {unknown[0]} of {side} was asked for: there are 0 to {total - 1:,}.")
        surveys = survey_features(self, side, [int(feature) for feature in features], words=count)
        return [surveys[feature].words for feature in features]

    def _check_pairing(self, digest: str | None) -> None:
        """Refuse pairs and a summary that were not written by the same pairing."""
        if self.manifest.get("pairing", {}).get("pairs_sha256") != digest:
            raise InputError(
                f"pairing was interrupted in {self.path}, or a file was changed: run `xmodel pair "
                f"{self.path}` "
                "again; it takes seconds."
            )

    def _read(self, name: str) -> "pa.Table":
        import pyarrow.parquet as pq

        return pq.read_table(self._find(name))

    def _find(self, name: str) -> Path:
        place = self.path / name
        if not place.is_file():
            raise InputError(
                f"{place} is not there: the run is not finished. Run the same `xmodel align` command "
                f"again, and "
                "it goes on."
            )
        return place


def open_run(path: str | Path) -> Run:
    """Open a finished run.

    Args:
        path: the folder that `align_models` or ``xmodel align --out`` wrote.

    Raises:
        InputError: if it holds no run, or one that was interrupted.
    """
    run = Run(Path(path))
    read_manifest(run.folder)
    return run


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """The manifest of a run whose pass is finished.

    Raises:
        InputError: if the folder holds no run, or one that was interrupted.
    """
    manifest = folder.manifest
    if manifest is None:
        raise InputError(
            f"{folder.path} holds no run (there is no manifest.json): name the folder that `xmodel align "
            f"--out` "
            "wrote."
        )
    if not manifest["complete"]:
        raise InputError(
            f"the run in {folder.path} was interrupted: run the same `xmodel align` command again, and it "
            f"goes on "
            "where it stopped."
        )
    return manifest


def open_shards(folder: RunFolder, manifest: dict[str, Any], letters: tuple[str, str] = ("a", "b")) -> Shards:
    """The feature shards of a run, with the checksums of its manifest.

    Args:
        folder: the run.
        manifest: its manifest.
        letters: which of A's and of B's dictionaries, where a side has several.
    """
    files = {name: digest for shard in manifest["shards"] for name, digest in shard["files"].items()}
    bounds = np.concatenate([[0], np.cumsum([shard["words"] for shard in manifest["shards"]])])
    features = tuple(describe_letter(manifest, letter)["dictionary"]["features"] for letter in letters)
    return Shards(folder, files, bounds.astype(np.int64), (features[0], features[1]), letters=letters)


def list_letters(manifest: dict[str, Any], side: str) -> list[str]:
    """The names of all dictionaries of a side: ``a``, ``a1``, ``a2``, ..."""
    return [side, *manifest["sides"][side].get("others", {})]


def describe_letter(manifest: dict[str, Any], letter: str) -> dict[str, Any]:
    """What the manifest says of one dictionary: ``dictionary``, ``site``, ``calibration``."""
    side = manifest["sides"][letter[0]]
    return side if len(letter) == 1 else side["others"][letter]


def _check_side(side: str) -> str:
    if side not in ("a", "b"):
        raise InputError(f"side {side!r}: it is 'a' or 'b'.")
    return side
