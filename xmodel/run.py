"""A run folder on disk: nothing half-written, every file with its checksum, resumable after a kill.

A file is written under a temporary name, flushed to the disk and renamed, so that under its own name it
is always whole. A shard counts as done when its receipt (a small JSON file with the checksums of all its
files) is there and the files agree with it. The manifest is written at the start and again at the end.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodel.errors import InputError

FORMAT = 1
"""Version of the folder's layout."""
TEMPORARY = ".partial"
"""Ending of a file that is being written."""


@dataclass(frozen=True)
class Receipt:
    """What one finished shard consists of."""

    number: int
    """Shard number, from 0."""
    files: Mapping[str, str]
    """SHA-256 by path relative to the run folder."""
    facts: Mapping[str, Any]
    """Counts that the pass needs when it goes on: documents, words, certificates, what was left out."""


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
        place = self.path / _name_receipt(number)
        if not place.is_file():
            return None
        try:
            content = json.loads(place.read_bytes())
        except ValueError:
            return None
        if not isinstance(content, dict) or content.pop("sha256", None) != _digest_json(content):
            return None
        return Receipt(content["number"], content["files"], content["facts"])

    def has_receipt(self, number: int) -> bool:
        """Whether a shard was ever done, be its receipt whole or not."""
        return (self.path / _name_receipt(number)).is_file()

    def write_receipt(self, receipt: Receipt) -> None:
        """Declare a shard done; the last thing written of it."""
        content = {"number": receipt.number, "files": dict(receipt.files), "facts": dict(receipt.facts)}
        self.write_json(_name_receipt(receipt.number), {**content, "sha256": _digest_json(content)})

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
        """Remove what a killed process had begun to write."""
        for partial in self.path.rglob("*" + TEMPORARY):
            partial.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, so that two processes never write to it at once.

        Raises:
            InputError: if another process holds it.
        """
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w")
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


def _digest_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


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
