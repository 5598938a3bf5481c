"""What ``xmodel split`` found, kept in the sweep's folder: one entry per feature and choice of SAEs."""

import json
import math
from typing import Any

from xmodel.errors import InputError
from xmodel.run import digest_json
from xmodel.similarity.sweep import Sweep

SPLITS = "splits.json"
"""The file, in the sweep's folder."""
_KEY = ("side", "feature", "narrow", "wide")


def keep_split(sweep: Sweep, found: dict[str, Any]) -> None:
    """Add what `split_feature` found to what is kept; it replaces an entry of the same feature and SAEs.

    Entries of another pass or another pairing than the sweep's are dropped.

    Args:
        sweep: the one that was asked.
        found: as `split_feature` gives it.

    Raises:
        InputError: if another process writes to the folder, or it cannot be written to.
    """
    own = _identify(found)
    with sweep.run.folder.lock():
        others = [one for one in read_splits(sweep) if _identify(one) != own]
        kept = {name: value for name, value in found.items() if name != "run"}
        content = {"of": _fingerprint(sweep), "splits": [*others, _drop_infinite(kept)]}
        sweep.run.folder.write_json(SPLITS, {**content, "sha256": digest_json(content)})


def read_splits(sweep: Sweep) -> list[dict[str, Any]]:
    """What is kept of a sweep, the oldest first: entries as `split_feature` gives them, without ``run``.

    Empty where nothing was kept, or what was is of another pass or another pairing.

    Raises:
        InputError: if the file is damaged.
    """
    place = sweep.path / SPLITS
    if not place.is_file():
        return []
    try:
        content = json.loads(place.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.pop("sha256", None) != digest_json(content):
        raise InputError(
            f"{place} is damaged: remove it, and run `xmodel split {sweep.path}` again for every feature "
            "that is to be kept."
        )
    return content["splits"] if content["of"] == _fingerprint(sweep) else []


def _identify(found: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(found[name] for name in _KEY)


def _fingerprint(sweep: Sweep) -> str:
    """A digest of the features and of how pairs are found among them."""
    shards = [shard["files"] for shard in sweep.run.manifest["shards"]]
    return digest_json({"shards": shards, "pairing": sweep.summary["pairing"]})


def _drop_infinite(value: Any) -> Any:
    """What JSON can hold: None for what is not finite, in all that is nested."""
    if isinstance(value, dict):
        return {name: _drop_infinite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_drop_infinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
