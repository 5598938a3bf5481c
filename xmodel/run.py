"""A run folder on disk: nothing half-written, every file with its checksum, resumable after a kill.

A file is written under a temporary name, flushed to the disk and renamed, so that under its own name it
is always whole. A shard counts as done when its receipt (a small JSON file with the checksums of all its
files) is there, the files agree with it, and it is of the same settings, weights and versions. The manifest
is written at the start and again at the end; nothing in a folder without one is trusted.
"""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xmodel.errors import InputError

FORMAT = 1
"""Version of the folder's layout."""
TEMPORARY = ".partial"
"""Ending of a file that is being written."""
OWN_FOLDERS = (
    "parts",
    "features_a",
    "features_b",
    "lan2024",
    "steering",
    "report",
    "report.new",
    "report.old",
)
"""Folders that a run may have; receipts are in the first. Besides these, one for every further dictionary of
a side: ``features_a1``, ``features_b2``, ..."""
OWN_FILES = (
    "components_a.npz", "components_b.npz", "documents.parquet", "words.parquet", "tokens_a.parquet",
    "tokens_b.parquet", "pairs.parquet", "summary.json", "grid.parquet", "sweep.json", "splits.json",
    "scores.json", "scores_nulls.parquet", "lan2024.json", "steering.json", "transfer.parquet", "maps.npz",
    "manifest.json",
)  # fmt: skip
"""Files that a run may have, its manifest last."""

_LOCK = ".lock"
_EARLY = re.compile(rf"{re.escape(_LOCK)}|components_[ab]\d*\.npz|manifest\.json{re.escape(TEMPORARY)}")
# What a process that is killed before it wrote the manifest may leave; none of it is anybody's work.
_NUMBERED = re.compile(r"features_[ab][1-9]\d*|components_[ab][1-9]\d*\.npz")
# What a side's further dictionaries have beside `OWN_FOLDERS` and `OWN_FILES`.
_OWN_PARTIAL = re.compile(
    r"([a-z_]+-\d{5,}\.(safetensors|parquet|json)|matrices\.safetensors)" + re.escape(TEMPORARY)
)
# What is being written of a shard, of a part of a long measurement, and of what steering leaves.


@dataclass(frozen=True)
class Receipt:
    """What one finished shard consists of."""

    number: int
    """Shard number, from 0."""
    fingerprint: str
    """SHA-256 of all that a shard depends on besides its documents: settings, models, dictionaries, versions.
    A receipt with another one is that of another run."""
    files: Mapping[str, str]
    """SHA-256 by path relative to the run folder."""
    facts: Mapping[str, Any]
    """Counts that the pass needs when it goes on: documents, words, certificates, what was left out."""
    seconds: Mapping[str, float]
    """What the shard took, per stage."""


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None if the folder holds no run.

        Raises:
            InputError: if it is not the manifest of a run, or of a layout that this version cannot read.
        """
        place = self.path / "manifest.json"
        if not place.is_file():
            return None
        try:
            manifest = json.loads(place.read_text("utf-8"))
        except ValueError as error:
            raise InputError(
                f"{place} is not valid JSON ({error}): restore it, or start the run over with --fresh."
            ) from None
        if not isinstance(manifest, dict) or "format" not in manifest:
            raise InputError(f"{place} is not the manifest of an xmodel run: name another folder.")
        if manifest["format"] != FORMAT:
            raise InputError(
                f"{place} has format {manifest['format']}, and this version of xmodel reads {FORMAT}: start "
                "the run over with --fresh, or use the version that wrote it "
                f"({manifest.get('packages', {}).get('xmodel', 'unknown')})."
            )
        return manifest

    def receipt(self, number: int) -> Receipt | None:
        """The receipt of a shard, or None if the shard is not done or its receipt is damaged."""
        content = _read_receipt(self.path / _name_receipt(number))
        if content is None or set(content) != {field.name for field in fields(Receipt)}:
            return None
        return Receipt(**content)

    def has_receipt(self, number: int) -> bool:
        """Whether a shard was ever done, be its receipt whole or not."""
        return (self.path / _name_receipt(number)).is_file()

    def write_receipt(self, receipt: Receipt) -> None:
        """Declare a shard done; the last thing written of it."""
        content = asdict(receipt)
        self.write_json(_name_receipt(receipt.number), {**content, "sha256": digest_json(content)})

    def find_damage(self, files: Mapping[str, str]) -> list[str]:
        """Which of these files are missing or differ from their checksum."""
        return [name for name, digest in files.items() if not self._agrees(name, digest)]

    def _agrees(self, name: str, digest: str) -> bool:
        place = self.path / name
        return place.is_file() and digest_file(place) == digest

    def read_checked(self, name: str, digest: str) -> bytes:
        """The bytes of a file, after comparison with its checksum.

        Raises:
            InputError: if the file is missing or has changed since it was written.
        """
        place = self.path / name
        if not place.is_file():
            raise _explain_missing(place)
        data = place.read_bytes()
        _compare_digests(place, hashlib.sha256(data).hexdigest(), digest)
        return data

    def check(self, name: str, digest: str) -> None:
        """Compare a file with its checksum, without holding it.

        Raises:
            InputError: if the file is missing or has changed since it was written.
        """
        place = self.path / name
        if not place.is_file():
            raise _explain_missing(place)
        _compare_digests(place, digest_file(place), digest)

    def write(self, name: str, write_to: Callable[[Path], object]) -> str:
        """Write a file so that it appears whole or not at all.

        Args:
            name: path relative to the run folder.
            write_to: writes the content to the path it is given.

        Returns:
            The SHA-256 of what was written.

        Raises:
            InputError: if the disk is full or the folder cannot be written to.
        """
        place = self.path / name
        partial = place.with_name(place.name + TEMPORARY)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_to(partial)
            digest = digest_file(partial)
            _flush(partial)
            os.replace(partial, place)
            _flush(place.parent)
        except OSError as error:
            if partial.exists():
                partial.unlink()
            raise explain_disk(error, place) from error
        return digest

    def write_bytes(self, name: str, data: bytes) -> str:
        """Write bytes; see `write`."""
        return self.write(name, lambda place: place.write_bytes(data))

    def write_json(self, name: str, content: Any) -> str:
        """Write JSON, keys in the order given; see `write`."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return self.write_bytes(name, text.encode())

    def remove_partials(self) -> None:
        """Remove what a killed process had begun to write, and no other file that ends so."""
        for name in (*OWN_FILES, *self._list_numbered()):
            (self.path / (name + TEMPORARY)).unlink(missing_ok=True)
        for folder in (*OWN_FOLDERS, *self._list_numbered()):
            for partial in (self.path / folder).glob("*" + TEMPORARY):
                if _OWN_PARTIAL.fullmatch(partial.name):
                    partial.unlink(missing_ok=True)

    def check_place(self, fresh: bool) -> None:
        """Refuse to write among files that are not a run's.

        Whose the files are is told from a manifest or a receipt, never from names alone: ``report`` and
        ``parts`` are names that people use.

        Args:
            fresh: whether what is there is to be replaced, also with a manifest that cannot be read.

        Raises:
            InputError: if it is a file, a folder of something else, or has a manifest that cannot be read.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file: name a folder for the run with --out.")
        names = [one.name for one in self.path.iterdir()] if self.path.is_dir() else []
        others = [name for name in names if not any(map(_EARLY.fullmatch, _spell(name)))]
        if not others or self._has_readable_manifest(fresh):
            return
        strange = [name for name in others if not _is_own(name.removesuffix(TEMPORARY))]
        if strange or not self._has_traces():
            raise InputError(
                f"{self.path} is not empty and holds no run (it has "
                f"{', '.join(sorted(strange or others)[:3])}): name a new folder with --out."
            )

    def _has_readable_manifest(self, fresh: bool) -> bool:
        try:
            return self.manifest is not None
        except InputError:
            # --fresh replaces a manifest that cannot be read, but only among files that are all a run's.
            if fresh:
                return False
            raise

    def _has_traces(self) -> bool:
        """Whether a run was ever begun here, manifest or not."""
        receipts = (self.path / OWN_FOLDERS[0]).glob("shard-*.json")
        begun = (self.path / ("manifest.json" + TEMPORARY)).is_file()
        return begun or any(_read_receipt(place) is not None for place in receipts)

    def clear(self) -> None:
        """Remove the run.

        Receipts go first and the manifest last: wherever this is interrupted, there is either the manifest
        to say whose the rest is, or no rest. Where the manifest is lost or damaged, an empty one that is
        being written says that a run was here.
        """
        self.remove_partials()
        marker = self.path / ("manifest.json" + TEMPORARY)
        if self._has_traces():
            marker.touch()
        for place in sorted((self.path / OWN_FOLDERS[0]).glob("shard-*.json")):
            place.unlink()
        for name in (*OWN_FOLDERS, *self._list_numbered(), *OWN_FILES):
            place = self.path / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)

    def _list_numbered(self) -> list[str]:
        """What is there of a side's further dictionaries; without `TEMPORARY` at the end."""
        names = (
            {one.name.removesuffix(TEMPORARY) for one in self.path.iterdir()} if self.path.is_dir() else ()
        )
        return sorted(name for name in names if _NUMBERED.fullmatch(name))

    def tell_old_page(self, warn: Callable[[str], None]) -> None:
        """Say so where there is a page, which shows the run as it was before."""
        if (self.path / "report").is_dir():
            warn(
                f"the page in {self.path / 'report'} shows the run as it was before: run "
                f"`xmodel report {shlex.quote(str(self.path))}` again."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, so that two processes never write to it at once.

        Raises:
            InputError: if another process holds it.
        """
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / _LOCK).open("w")
        except OSError as error:
            raise explain_disk(error, self.path) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is writing to {self.path}: wait for it, or name another folder."
                ) from None
            yield


def _spell(name: str) -> tuple[str, str]:
    """A file's name, and what it is to be when it is whole."""
    return name, name.removesuffix(TEMPORARY)


def _is_own(name: str) -> bool:
    return name in (*OWN_FILES, *OWN_FOLDERS) or _NUMBERED.fullmatch(name) is not None


def _explain_missing(place: Path) -> InputError:
    return InputError(f"{place} is missing: run the same `xmodel align` command again to recompute it.")


def _compare_digests(place: Path, found: str, digest: str) -> None:
    if found != digest:
        raise InputError(
            f"{place} is damaged: its SHA-256 begins with {found[:12]}, and {digest[:12]} was written. Run "
            "the same `xmodel align` command again: it recomputes just what is damaged."
        )


def _name_receipt(number: int) -> str:
    return f"parts/shard-{number:05d}.json"


def _read_receipt(place: Path) -> dict[str, Any] | None:
    """What a receipt says, without its checksum; None where there is none or it is damaged."""
    if not place.is_file():
        return None
    try:
        content = json.loads(place.read_bytes())
    except ValueError:
        return None
    if not isinstance(content, dict) or content.pop("sha256", None) != digest_json(content):
        return None
    return content


def digest_json(content: Any) -> str:
    """The SHA-256 of JSON, hexadecimal, however its keys are ordered."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def explain_disk(error: OSError, place: Path) -> InputError:
    """What an error of the file system means for the user.

    A full disk reaches us under several types (OSError, pyarrow's and safetensors' own), so its message
    is looked at too.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return InputError(
            f"the disk is full: {place} could not be written. What is finished is safe; make room and run "
            f"the "
            "same command again, and it goes on from there."
        )
    return InputError(f"{place} cannot be written: {error.strerror or error}.")


def _flush(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
