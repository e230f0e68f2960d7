"""State files: a dict of arrays to a file and back, with nothing else in it and nothing executed.

The suffix of the path names the format: `.npz` (NumPy's own, never pickled) or `.safetensors` (torch's side is
`safetensors.torch`; needs `pip install safetensors`). The same state gives the same bytes.
"""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refnet.files import write_bytes

__all__ = ["load", "save"]

Arrays: TypeAlias = dict[str, NDArray[Any]]


def save(state: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> None:
    """Write the arrays of `state`, of any shape, under their names to the file `path`.

    They may be 0-d, empty, not contiguous or of foreign byte order, and are stored in C order and native byte order. A
    file at `path` is replaced in one step, once the new one is whole and on the disk (`refnet.files.write_bytes`).

    Raises ValueError for a suffix other than `.npz` and `.safetensors`, and for a dtype other than bool, integers and
    floats of at most 64 bits; TypeError for a name that is no string or a value that is no array; ImportError without
    safetensors.
    """
    path = Path(path)
    encode, _ = _format("save", path)
    write_bytes(path, encode({name: _plain(name, value) for name, value in state.items()}))


def load(path: str | os.PathLike[str]) -> Arrays:
    """The arrays in the file `path` under their names, each with memory of its own, in the file's order.

    Raises ValueError for a suffix other than `.npz` and `.safetensors`, and for a file that is truncated, damaged or of
    another kind than its suffix says; FileNotFoundError if there is none; ImportError without safetensors. An `.npz`
    file has a checksum for each array; a `.safetensors` file has none, so a changed number in it goes unnoticed.
    """
    path = Path(path)
    _, decode = _format("load", path)
    content = path.read_bytes()
    try:
        return decode(content)
    except ImportError:
        raise
    except Exception as error:  # the ways in which foreign bytes fail to parse have no other base class in common
        raise ValueError(
            f"load expected a whole {path.suffix} file of arrays, got {path} of {len(content)} bytes: {error}"
        ) from error


def _format(operation: str, path: Path) -> tuple[Callable[[Arrays], bytes], Callable[[bytes], Arrays]]:
    match path.suffix:
        case ".npz":
            return _encode_npz, _decode_npz
        case ".safetensors":
            return _encode_safetensors, _decode_safetensors
    raise ValueError(f"{operation} expected a path that ends in .npz or .safetensors, got {str(path)!r}")


def _plain(name: object, value: object) -> NDArray[Any]:
    """`value` in C order and native byte order, if it is an array that both formats can hold."""
    if not isinstance(name, str):
        raise TypeError(f"save expected names that are strings, got {type(name).__name__} {name!r}")
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"save expected an array as {name!r}, got {type(value).__name__}")
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise ValueError(f"save expected bool, integers or floats of at most 64 bits as {name!r}, got {value.dtype}")
    return np.asarray(value).astype(value.dtype.newbyteorder("="), order="C", copy=False)


def _encode_npz(state: Arrays) -> bytes:
    # Not numpy.savez: it takes the names as keyword arguments, so that none could be `file`, and writes the time.
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in state.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return content.getvalue()


def _decode_npz(content: bytes) -> Arrays:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # Members are read to their end before they are parsed, for only there are checksums compared.
        members = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
    return {name: np.lib.format.read_array(member, allow_pickle=False) for name, member in members.items()}


def _encode_safetensors(state: Arrays) -> bytes:
    if "__metadata__" in state:
        raise ValueError("save expected no array named '__metadata__', which .safetensors keeps for itself, got one")
    content: bytes = _safetensors().save(state)
    return content


def _decode_safetensors(content: bytes) -> Arrays:
    # Copies, because safetensors hands out views of one buffer, unaligned and in some versions read-only.
    return {name: np.array(array) for name, array in _safetensors().load(content).items()}


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(".safetensors files need the safetensors package: pip install safetensors") from error
    module: ModuleType = safetensors.numpy
    return module
