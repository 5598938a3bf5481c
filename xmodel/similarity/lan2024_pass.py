"""What the published recipe reads of the models and a run does not: one block early, and padding.

Both need the models again. What is read lies in the run's folder ``lan2024``, is read once, and goes on where
it was interrupted. The text comes from the run itself, so only the models must still be there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.extract import SLICE_BYTES, Side
from xmodel.alignment.features import Report, run_pass
from xmodel.alignment.rows import spread_ranges
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.shards import write_features
from xmodel.alignment.tables import iterate_table
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.models.sites import parse_site
from xmodel.pairing.halves import Shards
from xmodel.pairing.manifest import complete_manifest, is_damaged
from xmodel.pairing.results import Run, open_run, open_shards
from xmodel.records import Document, WordFeatures
from xmodel.run import FORMAT, Receipt, RunFolder, digest_json
from xmodel.similarity.repairing import join_rows

if TYPE_CHECKING:
    import torch

    from xmodel.models.language import LanguageModel

FOLDER = "lan2024"
"""Where all of this lies in the run's folder."""

Sides = tuple[Side, Side]
Load = Callable[[], Sides]
"""Gives the models and dictionaries of a run; called only where something is still to be read."""


def shift_site(site: str) -> str:
    """The site that the published code reads for a dictionary that was trained at a site.

    It takes ``hidden_states[i]`` for block i: the *input* of the block, the first entry being the embeddings.
    So a dictionary of the block's output reads one block early. Those of other sites are read where they
    belong.
    """
    own = parse_site(site)
    if own.kind != "hook_resid_post":
        return site
    return f"blocks.{own.block - 1}.hook_resid_post" if own.block else "blocks.0.hook_resid_pre"


def list_sites(run: Run, early: bool) -> tuple[str, str]:
    """Where both dictionaries of a run read, or where the published code would read."""
    first, second = (run.manifest["sides"][letter]["site"] for letter in "ab")
    return (shift_site(first), shift_site(second)) if early else (first, second)


def read_early(run: Run, load: Load, report: Report) -> Run:
    """The words of a run, read one block early.

    Words and their tokens are those of the run; left out as massive are tokens that are so *there*.

    Args:
        run: the run.
        load: gives its models and dictionaries.
        report: told how many words are done.

    Returns:
        A run of its own, without pairs.

    Raises:
        InputError: as `run_pass`.
    """
    parent, sites = run.manifest, list_sites(run, True)
    fingerprint = digest_json({"shards": parent["shards"], "sites": sites})
    folder = RunFolder(run.path / FOLDER / "one_block_early")
    if (found := _find_finished(folder, fingerprint)) is not None:
        return found
    sides = _place(load(), sites)
    own: dict[str, Any] = {name: parent[name] for name in ("format", "packages", "arguments")}
    own.update(complete=False, fingerprint=fingerprint, sides={})
    for side in sides:
        described = parent["sides"][side.letter]
        own["sides"][side.letter] = {
            **{name: described[name] for name in ("model", "dictionary")},
            "site": side.site,
        }

    def begin(*_: Any) -> str:
        folder.write_json("manifest.json", own)
        return fingerprint

    with folder.lock():
        _clear_others(folder, fingerprint)
        settings = PassSettings(**parent["arguments"]["settings"])
        documents = _read_documents(run)
        result = run_pass(documents, sides, folder, settings, accept_misfit=True, begin=begin, report=report)
        folder.write_json("manifest.json", complete_manifest(own, result))
    return open_run(folder.path)


def _place(sides: Sides, sites: tuple[str, str]) -> Sides:
    """Both sides, their dictionaries reading at other sites."""
    first, second = (replace(side, site=site) for side, site in zip(sides, sites, strict=True))
    return first, second


def _find_finished(folder: RunFolder, fingerprint: str) -> Run | None:
    manifest = folder.manifest
    if manifest is None or not manifest["complete"] or manifest["fingerprint"] != fingerprint:
        return None
    return None if is_damaged(folder, manifest) else open_run(folder.path)


def _clear_others(folder: RunFolder, fingerprint: str) -> None:
    """Remove what was read for a run that has been replaced since."""
    manifest = folder.manifest
    if manifest is None or manifest["fingerprint"] != fingerprint:
        folder.clear()


def _read_documents(run: Run) -> Iterator[Document]:
    _check_table(run, "documents")
    for table in iterate_table(run.folder, "documents", ["name", "text"]):
        for one in table.to_pylist():
            yield Document(one["name"], one["text"])


def _check_table(run: Run, table: str) -> None:
    name = f"{table}.parquet"
    run.folder.check(name, run.manifest["files"][name])


def read_padding(run: Run, load: Load, report: Report, *, early: bool = False) -> Shards:
    """Features on padding, as rows of their own.

    The published code pads all texts on the right, with the end-of-text token, to the length of the longest,
    gives the models their attention mask, and then correlates *all* positions. Here texts are the run's
    windows. Causal attention leaves what stands before the padding as it is, so words need no second reading:
    only the rows of padding are added, the i-th of a window in A with the i-th in B, as many as both have.
    Windows without a token in either model have none.

    Args:
        run: the run.
        load: gives its models and dictionaries.
        report: told how many shards are done.
        early: whether to read one block early.

    Returns:
        Shards of rows; there may be none, where all windows are equally long.

    Raises:
        InputError: for a model without an end-of-text token, or activations that are not finite.
    """
    parent, sites = run.manifest, list_sites(run, early)
    tokens = [parent["files"][f"tokens_{letter}.parquet"] for letter in "ab"]
    content = {"shards": parent["shards"], "tokens": tokens, "sites": sites}
    fingerprint = digest_json(content)
    folder = RunFolder(run.path / FOLDER / ("padding_one_block_early" if early else "padding"))
    if (found := _find_finished(folder, fingerprint)) is not None:
        return found.shards
    sides = _place(load(), sites)
    with folder.lock():
        _clear_others(folder, fingerprint)
        own: dict[str, Any] = {
            "format": FORMAT, "complete": False, "fingerprint": fingerprint, "files": {}, "shards": [],
            "sides": {
                side.letter: {"dictionary": parent["sides"][side.letter]["dictionary"], "site": side.site}
                for side in sides
            },
        }  # fmt: skip
        folder.write_json("manifest.json", own)
        for side in sides:
            _check_table(run, f"tokens_{side.letter}")
        longest = [max(int(own.sizes.max(initial=0)) for own in _read_windows(run, side)) for side in sides]
        rows = 0
        settings = PassSettings(**parent["arguments"]["settings"])
        for number, windows in enumerate(zip(*(_read_windows(run, side) for side in sides), strict=True)):
            receipt = folder.receipt(number)
            if receipt is None or receipt.fingerprint != fingerprint or folder.find_damage(receipt.files):
                receipt = _pad_shard(folder, number, rows, sides, windows, longest, settings, fingerprint)
            rows += receipt.facts["rows"]
            listed = {"number": number, "words": receipt.facts["rows"], "files": dict(receipt.files)}
            own["shards"].append(listed)
            report("padding", number + 1, len(parent["shards"]))
        folder.write_json("manifest.json", {**own, "complete": True})
        return open_shards(folder, own)


@dataclass(frozen=True, eq=False)
class _Windows:
    """The tokens of a shard's windows under one model, window by window."""

    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """[K] tokens of every window."""
    first: NDArray[np.int64]
    """[K] where its ids begin."""


def _read_windows(run: Run, side: Side) -> Iterator[_Windows]:
    """Shard by shard, from the run's table of tokens."""
    for table in iterate_table(run.folder, f"tokens_{side.letter}", ["id", "window"]):
        window = table["window"].to_numpy()
        kept = np.flatnonzero(window >= 0)
        order = kept[np.argsort(window[kept], kind="stable")]
        sizes = np.bincount(window[kept]).astype(np.int64)
        yield _Windows(table["id"].to_numpy()[order].astype(np.int64), sizes, np.cumsum(sizes) - sizes)


def _pad_shard(
    folder: RunFolder,
    number: int,
    first_row: int,
    sides: Sides,
    windows: tuple[_Windows, ...],
    longest: list[int],
    settings: PassSettings,
    fingerprint: str,
) -> Receipt:
    """Write the features of one shard's padding."""
    count = min(len(own.sizes) for own in windows)
    sizes = np.stack([own.sizes[:count] for own in windows])
    pads = np.min(np.array(longest)[:, None] - sizes, axis=0)
    chosen = np.flatnonzero((pads > 0) & (sizes > 0).all(axis=0))
    files = {}
    for side, own in zip(sides, windows, strict=True):
        found = list(_encode_padding(side, own, chosen, pads[chosen], settings.batch_tokens))
        features = join_rows(found, side.dictionary.info.features)
        name = f"features_{side.letter}/shard-{number:05d}.safetensors"
        content = write_features(features, np.arange(len(features)), first_row)
        files[name] = folder.write_bytes(name, content)
    receipt = Receipt(number, fingerprint, files, {"rows": int(pads[chosen].sum())}, {})
    folder.write_receipt(receipt)
    return receipt


def _encode_padding(
    side: Side, windows: _Windows, chosen: NDArray[np.int64], pads: NDArray[np.int64], batch_tokens: int
) -> Iterator[WordFeatures]:
    """The features of some windows' padding, in their order, batch by batch."""
    import torch

    pad, dictionary = find_padding_id(side.model), side.dictionary
    lengths = len(side.prefix) + windows.sizes[chosen]
    per_batch = max(1, batch_tokens // int((lengths + pads).max(initial=1)))
    for begin in range(0, len(chosen), per_batch):
        part = slice(begin, begin + per_batch)
        width = int((lengths[part] + pads[part]).max())
        ids = np.full((len(lengths[part]), width), pad, dtype=np.int64)
        ids[:, : len(side.prefix)] = side.prefix
        for row, window in enumerate(chosen[part].tolist()):
            first, size = int(windows.first[window]), int(windows.sizes[window])
            ids[row, len(side.prefix) : len(side.prefix) + size] = windows.ids[first : first + size]
        x = read_padded(side, ids, lengths[part]).flatten(0, 1)
        places = spread_ranges(np.arange(len(ids)) * width + lengths[part], pads[part])
        step = max(1, SLICE_BYTES // (4 * dictionary.info.features))
        with torch.inference_mode():
            for low in range(0, len(places), step):
                rows = x[torch.from_numpy(places[low : low + step]).to(x.device)]
                if not bool(torch.isfinite(rows).all()):
                    raise InputError(
                        f"{side.model.name} has activations that are not finite on padding at {side.site}: "
                        "the published recipe would correlate these."
                    )
                yield _pack(dictionary.encode(rows.to(dictionary.dtype)))


def read_padded(side: Side, ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> "torch.Tensor":
    """[B, T, d] activations at a side's site of texts that are padded on the right.

    As Hugging Face models run them when they are given ids and mask, and nothing else: padding takes no part
    in attention but as what attends, and its positions go on counting.

    Args:
        side: the model and its site.
        ids: [B, T] padded ids.
        lengths: [B] how many of each row are real.
    """
    import torch

    places = np.arange(ids.shape[1])
    mask = torch.from_numpy(places < lengths[:, None])
    positions = torch.from_numpy(np.tile(places, (len(ids), 1)))
    return capture(side.model, torch.from_numpy(ids), mask, [side.site], positions=positions)[side.site]


def find_padding_id(model: "LanguageModel") -> int:
    """The id that texts are padded with: end of text, as in the published code, else the padding token.

    Raises:
        InputError: for a model that has neither.
    """
    module: Any = model.module
    module = module.original_model if model.processing else module
    config = module.config.get_text_config()
    for name in ("eos_token_id", "pad_token_id"):
        own = getattr(config, name, None)
        own = own[0] if isinstance(own, list | tuple) and own else own
        if isinstance(own, int) and own >= 0:
            return own
    raise InputError(
        f"{model.name} names no end-of-text and no padding token in its config.json, so it is not known what "
        "texts would be padded with."
    )


def _pack(dense: "torch.Tensor") -> WordFeatures:
    """Dense rows as sparse ones."""
    values = dense.float().cpu().numpy()
    rows, columns = np.nonzero(values)
    indptr = np.searchsorted(rows, np.arange(len(values) + 1)).astype(np.int64)
    return WordFeatures(indptr, columns.astype(np.int32), values[rows, columns], values.shape[1])
