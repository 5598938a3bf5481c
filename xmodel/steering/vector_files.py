"""Files of steering vectors: safetensors, and the GGUF control vectors of llama.cpp and repeng.

Both programs number layers by the block to whose output the direction is added, from 0: ``direction.9`` is
``blocks.9.hook_resid_post``. (repeng reads ``hidden_states[9 + 1]``; llama.cpp's loader puts it at slot 9 - 1
of a buffer whose first slot belongs to block 1.) llama.cpp has no slot for block 0 and refuses a file that
has ``direction.0``.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.models.sites import parse_site
from xmodel.steering.vectors import SteeringVector, find_output_block

ARCHITECTURE = "controlvector"
"""What a GGUF file of directions says that it is."""

_DIRECTION = re.compile(r"direction\.(0|[1-9][0-9]{0,5})", re.ASCII)
_TEMPORARY = ".partial"


def read_vectors(path: str | Path, *, site: str | None = None) -> list[SteeringVector]:
    """Read the steering vectors of a file.

    A safetensors file has one tensor [d] per site, named as the site (``blocks.9.hook_resid_post``) or
    ``direction.9``; or a single tensor of any name, whose site its metadata (``site``) or the caller says.
    A GGUF file is a control vector as llama.cpp and repeng write it.

    Args:
        path: the file, which ends in ``.safetensors`` or ``.gguf``.
        site: take the vector of this site only. Another name for the same place of the residual stream will
            do (the output of block 8 is the input of block 9), and is replaced by this one.

    Returns:
        The vectors in the order of their sites; one, with `site`.

    Raises:
        InputError: if the file cannot be read, is damaged or of another kind, or has no vector, no vector of
            that site, or one that is not a vector of finite numbers.
    """
    place = Path(path)
    readers: dict[str, Callable[[Path, str | None], list[SteeringVector]]] = {
        ".safetensors": _read_safetensors,
        ".gguf": _read_gguf,
    }
    if place.suffix not in readers:
        raise InputError(
            f"the steering vector {str(path)!r} cannot be read: expected a file that ends in .safetensors or "
            ".gguf (a control vector of llama.cpp or repeng). Pickles (.pt, .bin, .pkl) are never read, as "
            "they can run code: save the tensor with safetensors where it was made."
        )
    if not place.is_file():
        raise InputError(f"there is no steering vector at {str(path)!r}: expected a file.")
    vectors = sorted(readers[place.suffix](place, site), key=_order)
    if not vectors:
        raise InputError(f"the file {str(path)!r} has no steering vector: expected at least one.")
    return vectors if site is None else [_choose(vectors, site, place)]


def write_vectors(path: str | Path, vectors: Sequence[SteeringVector]) -> None:
    """Write steering vectors, each of another site, so that the file appears whole or not at all.

    A safetensors file keeps everything. A GGUF file is what repeng's ``ControlVector.export_gguf`` writes
    (the kind of model, the number of directions and one float32 tensor ``direction.N`` each), with the names
    of model and vectors beside, which other programs pass over. Sites are read back from it as
    ``blocks.N.hook_resid_post``, the same place of the residual stream.

    Args:
        path: where to, ending in ``.safetensors`` or ``.gguf``. What is there is replaced.
        vectors: at least one, of one model and one width.

    Raises:
        InputError: if there is no vector, if two are of one site or they differ in width or model, if the
            format has no place for one, or if the file cannot be written.
    """
    place = Path(path)
    writers: dict[str, Callable[[Path, Sequence[SteeringVector]], None]] = {
        ".safetensors": _write_safetensors,
        ".gguf": _write_gguf,
    }
    if place.suffix not in writers:
        raise InputError(
            f"a steering vector cannot be written to {str(path)!r}: expected a file that ends in "
            ".safetensors or .gguf."
        )
    _check_together(vectors)
    partial = place.with_name(place.name + _TEMPORARY)
    try:
        writers[place.suffix](partial, sorted(vectors, key=_order))
        os.replace(partial, place)
    except OSError as error:
        raise InputError(
            f"the steering vector cannot be written to {str(path)!r}: {error.strerror or error}. Choose a "
            "folder that is there, has room and may be written to."
        ) from error
    finally:
        if partial.exists():
            partial.unlink()


def _order(vector: SteeringVector) -> tuple[int, str]:
    site = parse_site(vector.site)
    return site.block, site.kind


def _choose(vectors: list[SteeringVector], site: str, place: Path) -> SteeringVector:
    """The vector of a site, under the name that the caller has for it."""
    block = find_output_block(site)
    exact = [one for one in vectors if one.site == site]
    alike = [one for one in vectors if block is not None and find_output_block(one.site) == block]
    found = exact or alike
    if len(found) != 1:
        raise InputError(
            f"the file {str(place)!r} has {len(found) or 'no'} vector{'s' if found else ''} for {site}: "
            f"it has {', '.join(one.site for one in vectors)}. Ask for one of these, or make the vector at "
            "that site."
        )
    return replace(found[0], site=site)


def _check_together(vectors: Sequence[SteeringVector]) -> None:
    if not vectors:
        raise InputError("no steering vector came to be written: expected at least one.")
    sites = [one.site for one in vectors]
    twice = next((site for site in sites if sites.count(site) > 1), None)
    if twice:
        raise InputError(
            f"two steering vectors for {twice} came: expected one per site. Add them, or write two files."
        )
    for one in vectors:
        if (one.width, one.model) != (vectors[0].width, vectors[0].model):
            raise InputError(
                f"steering vectors of {one.width} dimensions for {one.model} and of {vectors[0].width} for "
                f"{vectors[0].model} came: expected vectors of one model. Write one file per model."
            )


def _place_tensor(name: str, metadata: Mapping[str, str], site: str | None, alone: bool, place: Path) -> str:
    """The site that a tensor belongs to."""
    if match := _DIRECTION.fullmatch(name):
        return f"blocks.{int(match[1])}.hook_resid_post"
    if name.startswith("blocks."):
        return parse_site(name).name
    stated = metadata.get("site", site)
    if not alone or stated is None:
        raise InputError(
            f"the file {str(place)!r} does not say where its tensor {name!r} is to be added: expected "
            "tensors that are named by their site, as blocks.9.hook_resid_post or direction.9, or a single "
            "one with its site in the metadata or given by the caller (site). Name it so."
        )
    return parse_site(stated).name


def _read_safetensors(place: Path, site: str | None) -> list[SteeringVector]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise _explain_damage(place, "safetensors", error) from error
    names = _read_names(metadata)
    vectors = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(
                f"the tensor {name!r} of {str(place)!r} is {tensor.dtype}: expected floating-point numbers."
            )
        where = _place_tensor(name, metadata, site, len(tensors) == 1, place)
        # NumPy has no bfloat16; float64 holds the numbers of every format.
        values = tensor.double().numpy(force=True)
        called = names.get(name) or metadata.get("name") or name
        vectors.append(
            SteeringVector(values, where, metadata.get("model"), called, metadata.get("architecture"))
        )
    _refuse_doubles(vectors, place)
    return vectors


def _read_names(metadata: Mapping[str, str]) -> dict[str, str]:
    """What the vectors are called, where the file says it as this program writes it."""
    try:
        names = json.loads(metadata.get("names", "{}"))
    except ValueError:
        return {}
    return {str(key): str(name) for key, name in names.items()} if isinstance(names, dict) else {}


def _refuse_doubles(vectors: list[SteeringVector], place: Path) -> None:
    sites = [one.site for one in vectors]
    if len(set(sites)) < len(sites) or len({one.width for one in vectors}) > 1:
        shown = ", ".join(f"{one.site} [{one.width}]" for one in vectors)
        raise InputError(
            f"the file {str(place)!r} has tensors for {shown}: expected one per site, all of one width."
        )


def _write_safetensors(place: Path, vectors: Sequence[SteeringVector]) -> None:
    from safetensors.numpy import save

    first = vectors[0]
    metadata = {"names": json.dumps({one.site: one.name for one in vectors}, ensure_ascii=False)}
    if len(vectors) == 1:
        metadata["site"] = first.site
    if first.model is not None:
        metadata["model"] = first.model
    if first.architecture is not None:
        metadata["architecture"] = first.architecture
    place.write_bytes(save({one.site: one.values for one in vectors}, metadata=metadata))


def _read_gguf(place: Path, _: str | None) -> list[SteeringVector]:
    from gguf import GGUFReader

    class BoundedReader(GGUFReader):
        """Refuses to read past the end, where the library gives empty arrays and can go on for ever."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> NDArray[Any]:
            if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError("it ends too early")
            return super()._get(offset, dtype, count, override_order)

    try:
        reader = BoundedReader(place)
        found = {one.name: np.array(one.data) for one in reader.tensors}
        architecture, hint, model = (
            _read_string(reader, key)
            for key in ("general.architecture", f"{ARCHITECTURE}.model_hint", "xmodel.model")
        )
        names = {name: _read_string(reader, f"xmodel.{name}.name") for name in found}
    except (OSError, ValueError, LookupError, ArithmeticError, TypeError, MemoryError) as error:
        # The library has no error of its own: a damaged file shows in whatever fails first.
        raise _explain_damage(place, "GGUF", error) from error
    if architecture != ARCHITECTURE:
        raise InputError(
            f"the GGUF file {str(place)!r} is of the architecture {architecture!r}: expected "
            f"{ARCHITECTURE!r}, which llama.cpp and repeng give to control vectors. It may be a model."
        )
    vectors = []
    for name, data in found.items():
        if not _DIRECTION.fullmatch(name) or data.dtype.kind != "f":
            raise InputError(
                f"the GGUF file {str(place)!r} has a tensor {name!r} of {data.dtype}: expected tensors "
                "direction.N of floating-point numbers, N being the block after which they are added. It is "
                "no control vector that llama.cpp can read."
            )
        where = _place_tensor(name, {}, None, False, place)
        vectors.append(SteeringVector(data, where, model, names[name] or name, hint))
    _refuse_doubles(vectors, place)
    return vectors


def _read_string(reader: Any, key: str) -> str | None:
    from gguf import GGUFValueType

    field = reader.get_field(key)
    if field is None or field.types[:1] != [GGUFValueType.STRING]:
        return None
    return bytes(field.parts[field.data[0]]).decode()


def _write_gguf(place: Path, vectors: Sequence[SteeringVector]) -> None:
    from gguf import GGUFWriter

    directions: dict[int, SteeringVector] = {}
    for one in vectors:
        block = find_output_block(one.site)
        if block is None or block < 1 or block in directions:
            raise InputError(
                f"the steering vector at {one.site} has no place in a GGUF control vector, which llama.cpp "
                "adds to the residual stream after a block, from block 1 on, one per block: write a "
                ".safetensors file, or make the vector at another site."
            )
        directions[block] = one
    first = vectors[0]
    writer = GGUFWriter(place, ARCHITECTURE)
    try:
        # repeng refuses a file without a hint, and the writer leaves out empty strings.
        writer.add_string(f"{ARCHITECTURE}.model_hint", first.architecture or first.model or "unknown")
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))
        writer.add_string("xmodel.model", first.model or "")
        for block, one in directions.items():
            writer.add_string(f"xmodel.direction.{block}.name", one.name)
            writer.add_tensor(f"direction.{block}", np.array(one.values, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _explain_damage(place: Path, kind: str, error: BaseException) -> InputError:
    return InputError(
        f"the steering vector {str(place)!r} cannot be read: {str(error) or type(error).__name__}. Expected "
        f"a complete {kind} file: download or save it again."
    )
