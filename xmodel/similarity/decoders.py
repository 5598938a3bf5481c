"""The decoder vectors of a run's dictionaries: what the features of both models write."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.baselines import is_identity, needs_fitting, restore_pca
from xmodel.models.saes import load_dictionary
from xmodel.pairing.reloading import read_components
from xmodel.pairing.results import Run, describe_letter


def load_decoders(run: Run, *, device: str = "cpu") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The decoder vectors of both dictionaries of a run.

    Args:
        run: a finished run.
        device: where the dictionaries are loaded.

    Returns:
        [F_A, d_A] and [F_B, d_B], one row per feature, as the dictionaries have them.

    Raises:
        InputError: if a dictionary cannot be loaded or is another than that of the run, and for neurons and
            residual dimensions, which have no vectors of their own.
    """
    manifest = run.manifest
    first, second = (load_decoder(run, manifest, letter, device=device) for letter in "ab")
    return first, second


def load_decoder(
    run: Run, manifest: dict[str, Any], letter: str, *, device: str = "cpu"
) -> NDArray[np.float32]:
    """The decoder vectors of one dictionary: ``a`` or ``b``, or ``a1``, ``b2``, ... where a side has several.

    Returns:
        [F, d].

    Raises:
        InputError: as `load_decoders`.
    """
    asked = manifest["arguments"][letter[0]]
    source = (asked if len(letter) == 1 else asked["others"][int(letter[1:]) - 1])["dictionary"]
    if is_identity(source):
        raise InputError(
            f"{source} has no decoder vectors to compare, its features being the dimensions themselves: "
            "compare activations, with --on activations."
        )
    if needs_fitting(source):
        dictionary = restore_pca(source, read_components(run, letter), device=device)
    else:
        allow_pt = manifest["arguments"]["options"]["allow_pt"]
        dictionary = load_dictionary(source, device=device, allow_pt=allow_pt)
    found, expected = dictionary.info.digest, describe_letter(manifest, letter)["dictionary"]["digest"]
    if found != expected:
        raise InputError(
            f"{source} has changed since {run.path} was made: its SHA-256 begins with {found[:12]}, and it "
            f"was {expected[:12]}. Restore it, or make the run again with --fresh."
        )
    return dictionary.decoder.detach().float().numpy(force=True)
