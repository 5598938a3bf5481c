"""Where Neuronpedia shows a dictionary's features, for dictionaries that say so."""

import json
import re
from pathlib import Path

from xmodel.pairing.results import Run

_ID = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_SITE = "https://www.neuronpedia.org"


def find_neuronpedia(run: Run, side: str) -> str | None:
    """The address of a feature's page on Neuronpedia, with ``{feature}`` in place of its number.

    Args:
        run: the run.
        side: ``a`` or ``b``.

    Returns:
        ``https://www.neuronpedia.org/MODEL/SOURCE/{feature}``, or None where nothing says that it has one.
    """
    found = find_neuronpedia_id(run, side)
    return None if found is None else f"{_SITE}/{found}/{{feature}}"


def find_neuronpedia_id(run: Run, side: str) -> str | None:
    """``MODEL/SOURCE`` as Neuronpedia calls a run's dictionary: from SAELens' list, or the SAE's own files.

    Nothing is asked of the network.
    """
    return name_source(run.manifest["sides"][side]["dictionary"]["name"])


def name_source(dictionary: str) -> str | None:
    """``MODEL/SOURCE`` as Neuronpedia calls a dictionary.

    Args:
        dictionary: as the user named it: ``release/sae_id``, or a folder with ``cfg.json``.
    """
    if re.match(r"[a-z]+:", dictionary):
        return None  # a baseline, a built-in SAE, or one of sparsify's: none is on Neuronpedia
    folder = Path(dictionary).expanduser()
    found = _read_config(folder / "cfg.json") if folder.is_dir() else _look_up(dictionary)
    # A configuration comes from wherever the SAE does, and becomes part of an address.
    return found if isinstance(found, str) and _ID.fullmatch(found) and ".." not in found else None


def _read_config(place: Path) -> object:
    """What a saved SAE says: within its metadata, or in older files beside everything else."""
    if not place.is_file():
        return None
    try:
        config = json.loads(place.read_text("utf-8"))
    except ValueError:
        return None  # other formats have files of this name, and the page does without a link
    if not isinstance(config, dict):
        return None
    metadata = config.get("metadata")
    own = metadata.get("neuronpedia_id") if isinstance(metadata, dict) else None
    return own or config.get("neuronpedia_id")


def _look_up(source: str) -> object:
    parts = source.split("/")
    if len(parts) < 2 or source.startswith((".", "/", "~")):
        return None
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    prefixes = ["/".join(parts[: place + 1]) for place in range(len(parts) - 1)]
    release = next((prefix for prefix in prefixes if prefix in releases), None)
    if release is None:
        return None
    return (releases[release].neuronpedia_id or {}).get(source[len(release) + 1 :])
