"""Releases of SAEs that SAELens knows by name, downloaded from the Hugging Face hub."""

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

from xmodel.errors import InputError
from xmodel.models.saelens import SaeLensDictionary, check_architecture, explain_damage, wrap_sae
from xmodel.models.sparsify import SparsifyDictionary, load_sparsify_hub
from xmodel.models.weights import explain_download, guard_saelens, hash_files

if TYPE_CHECKING:
    from sae_lens import SAE

_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".bin", ".ckpt")


def split_release(source: str) -> tuple[str, str]:
    """Release and id of ``release/sae_id``, where the id may itself have slashes.

    Raises `InputError` with the nearest names where the installed SAELens has no such release or id.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    parts = source.split("/")
    prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    release = next((prefix for prefix in prefixes if prefix in releases), None)
    if release is None:
        raise InputError(
            f"there is no SAE {source!r}: no folder of that name is here, and the installed SAELens knows no "
            f"release {parts[0]!r}. {_suggest(parts[0], releases, 'release')} Give release/sae_id, a folder "
            "that SAELens or sparsify saved, sparsify:HUB_ID/SUBFOLDER, or a baseline such as "
            "pca:blocks.5.hook_resid_post:256."
        )
    sae_id = source[len(release) + 1 :]
    ids = releases[release].saes_map
    if sae_id not in ids:
        raise InputError(
            f"the release {release!r} has no SAE {sae_id!r}: it has {len(ids)} others. "
            f"{_suggest(sae_id, ids, 'id')}"
        )
    return release, sae_id


def load_release(
    source: str, *, device: str, dtype: str, allow_pt: bool
) -> SaeLensDictionary | SparsifyDictionary:
    """The SAE ``release/sae_id``, from the local cache where there is no connection.

    A transcoder is refused before its weights are fetched, and so is a pickle unless `allow_pt`. Raises
    `InputError` for these, for unknown names, and where nothing can be downloaded.
    """
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, sae_id = split_release(source)
    lookup = get_pretrained_saes_directory()[release]
    repository, folder = lookup.repo_id, lookup.saes_map[sae_id]
    if lookup.conversion_func == "sparsify":
        return load_sparsify_hub(repository, folder, source, device=device, dtype=dtype)
    with explain_damage(source), guard_saelens(source, allow_pt) as files:
        try:
            sae = _fetch(source, release, sae_id, device, dtype)
        except (OSError, EntryNotFoundError, HfHubHTTPError) as error:
            raise explain_download(source, repository, folder, error) from error
        read = {path for path in files if path.suffix in (*_WEIGHTS, ".json") and path.stem != "sparsity"}
        return wrap_sae(sae, source, hash_files(sorted(read)))


def _fetch(source: str, release: str, sae_id: str, device: str, dtype: str) -> "SAE":
    """The SAELens object of a release, the configuration looked at before the weights are fetched."""
    import warnings

    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import load_sae_config_from_huggingface

    check_architecture(load_sae_config_from_huggingface(release, sae_id, device=device), source)
    with warnings.catch_warnings():
        # It says how to load the model: `DictionaryInfo.processing` says the same to the pass.
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from_pretrained_kwargs")
        return SAE.from_pretrained(release, sae_id, device=device, dtype=dtype)


def _suggest(name: str, known: Collection[str], what: str) -> str:
    """The nearest known names, or some of them."""
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if near:
        return f"The nearest {what}s are {', '.join(near)}."
    return f"Some {what}s are {', '.join(sorted(known)[:5])}."
