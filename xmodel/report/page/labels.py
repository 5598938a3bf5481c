"""Names of features that a user has: CSV, JSONL, or an export of Neuronpedia's explanations."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodel.errors import InputError
from xmodel.report.page.csv_files import strip_guard

_NUMBERS = ("feature", "index", "feature_a", "feature_b")
_TEXTS = ("label", "description")
_WANTED = (
    "Expected CSV with the columns feature,label, JSONL with the same keys, or an export of Neuronpedia's "
    "explanations (index, description)"
)
_MOST = 500_000_000
# Bytes of one file when unpacked: beyond, a small .gz could fill the memory.


@dataclass(frozen=True)
class Labels:
    """Names of some of one model's features."""

    names: Mapping[int, str]
    """By the feature's number."""
    duplicates: int
    """Further names of features that had one; the first was kept."""
    others: int
    """Rows of other dictionaries, left out."""
    sources: tuple[str, ...]
    """Whose features the file says it names, as ``MODEL/SOURCE`` of Neuronpedia; empty if it does not say."""


def read_labels(path: str | Path, features: int, *, source: str | None = None) -> Labels:
    """Read names of features.

    Args:
        path: CSV, JSONL or JSON, also with ``.gz``; or a folder of such files, as Neuronpedia exports them.
            Names are in the column ``label`` or ``description``, numbers in ``feature`` or ``index``.
        features: F, the number of features of the dictionary.
        source: ``MODEL/SOURCE`` as Neuronpedia calls the dictionary, if it is known; of a file that has
            several dictionaries, the rows of this one are taken.

    Raises:
        InputError: for a file that cannot be read, a number that is no feature, a file without names, or one
            of several dictionaries of which none is known to be the run's.
    """
    path = Path(path)
    rows = [
        _take_row(row, place, number)
        for place in _list_files(path)
        for number, row in enumerate(_read_rows(place), start=1)
    ]
    sources = tuple(dict.fromkeys(own for _, _, own, _ in rows if own))
    others = 0
    if len(sources) > 1:
        if source not in sources:
            shown = ", ".join(sources[:3])
            raise InputError(
                f"{path} names features of {len(sources)} dictionaries ({shown}), and which of them is the "
                "run's is not known. Keep the rows of one dictionary."
            )
        others = sum(own != source for _, _, own, _ in rows)
        rows = [row for row in rows if row[2] == source]
    names: dict[int, str] = {}
    duplicates = 0
    for feature, text, _, where in rows:
        if not 0 <= feature < features:
            raise InputError(
                f"{where} names feature {feature}: the dictionary has 0 to {features - 1:,}. Is it the file "
                "of another dictionary, or of the other model?"
            )
        if feature in names:
            duplicates += 1
        elif text:
            names[feature] = text
    if not names:
        raise InputError(f"{path} names no feature. {_WANTED}.")
    return Labels(names, duplicates, others, sources)


def check_source(labels: Labels, path: str | Path, side: str, known: str | None, model: str) -> str | None:
    """What to tell a user whose file says that it names another dictionary's features; None if it fits.

    Args:
        labels: as read.
        path: where from.
        side: ``a`` or ``b``.
        known: ``MODEL/SOURCE`` of the run's dictionary, if known.
        model: the run's model.
    """
    if len(labels.sources) != 1 or labels.sources[0] == known:
        return None
    said = labels.sources[0]
    if known is None and _fold(said.split("/")[0]) in _fold(model):
        return None
    return (
        f"{path} says that it names features of {said}, and {side} of this run is {known or model}: the "
        "names are taken as they are, and are wrong unless the features are the same."
    )


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [own for own in path.iterdir() if re.search(r"\.(jsonl?|csv)(\.gz)?$", own.name)]
    if not files:
        raise InputError(f"{path} holds no CSV, JSON or JSONL file. {_WANTED}.")
    # batch-10 comes after batch-9.
    return sorted(files, key=lambda own: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", own.name)])


def _read_text(place: Path) -> str:
    try:
        with place.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(place) if packed else place.open("rb") as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise InputError(f"{place} has more than {_MOST:,} bytes. Keep the columns feature and label.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{place} is not UTF-8 (byte {error.start}): save it as UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{place} cannot be read: {error}. {_WANTED}.") from error


def _read_rows(place: Path) -> Iterator[Mapping[str, Any]]:
    text = _read_text(place)
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and place.name.removesuffix(".gz").endswith(".json")):
        yield from _read_json(text, place)
    elif start == "{":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _check_row(_parse(line, f"{place}, line {number}"), place)
    else:
        yield from _read_csv(text, place)


def _read_json(text: str, place: Path) -> Iterator[Mapping[str, Any]]:
    """A list of rows, or an object that has it under ``explanations`` as older exports do."""
    content = _parse(text, str(place))
    rows = content.get("explanations", content) if isinstance(content, dict) else content
    if isinstance(rows, dict):
        # {"12": "name"}
        rows = [{"feature": key, "label": value} for key, value in rows.items()]
    for row in rows if isinstance(rows, list) else []:
        yield _check_row(row, place)


def _read_csv(text: str, place: Path) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    header = [name.strip() for name in reader.fieldnames or ()]
    if not set(header) & set(_NUMBERS) or not set(header) & set(_TEXTS):
        raise InputError(f"{place} has the columns {', '.join(header)[:200] or 'none'}. {_WANTED}.")
    reader.fieldnames = header
    try:
        for row in reader:
            yield {key: strip_guard(value) for key, value in row.items() if key and isinstance(value, str)}
    except csv.Error as error:
        raise InputError(f"{place}, line {reader.line_num}: {error}. {_WANTED}.") from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {error}. {_WANTED}.") from error


def _check_row(row: Any, place: Path) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise InputError(f"{place} holds {json.dumps(row)[:60]} where a row should be. {_WANTED}.")
    return row


def _take_row(row: Mapping[str, Any], place: Path, number: int) -> tuple[int, str, str | None, str]:
    """The feature, its name, whose feature it is, and where that stands."""
    where = f"{place}, row {number},"
    # Files of carried names have the partner's number too, after that of the feature that is named.
    feature = next((row[key] for key in row if key in _NUMBERS and row[key] not in (None, "")), None)
    text = next((row[key] for key in _TEXTS if row.get(key) is not None), None)
    if feature is None or isinstance(feature, bool) or not re.fullmatch(r"\s*-?\d{1,12}\s*", str(feature)):
        raise InputError(f"{where} has the feature {feature!r}, which is no number. {_WANTED}.")
    if not isinstance(text, str):
        raise InputError(f"{where} has no label. {_WANTED}.")
    model, source = row.get("modelId"), row.get("layer")
    own = f"{model}/{source}" if isinstance(model, str) and isinstance(source, str) else None
    return int(feature), " ".join(text.split()), own, where


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
