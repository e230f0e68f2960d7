"""State files: a dict of arrays to a file and back, with nothing else in it and nothing executed.

The suffix of the path names the format: `.npz` (NumPy's own, never pickled) or `.safetensors` (torch's side is
`safetensors.torch`; needs `pip install safetensors`). The same state gives the same bytes.
"""

import io
import math
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

MOST_UNPACKED = 1 << 26
"""Bytes that an `.npz` file may unpack to, however small it is."""

MOST_NAME = 65_000
"""Bytes of a name: a zip file counts those of a file name, with its suffix, in 16 bits."""

Arrays: TypeAlias = dict[str, NDArray[Any]]


def save(state: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> None:
    """Write the arrays of `state`, of any shape, under their names to the file `path`.

    They may be 0-d, empty, not contiguous or of foreign byte order, and are stored in C order and native byte order. A
    file at `path` is replaced in one step, once the new one is whole and on the disk (`refnet.files.write_bytes`).

    Raises ValueError for a suffix other than `.npz` and `.safetensors`, for a dtype other than bool, integers and
    floats of at most 64 bits, and for a name that the format cannot hold; TypeError for a name that is no string or a
    value that is no array; ImportError without safetensors.
    """
    path = Path(path)
    encode, _ = _format("save", path)
    write_bytes(path, encode({name: _plain(name, value) for name, value in state.items()}))


def load(path: str | os.PathLike[str]) -> Arrays:
    """The arrays in the file `path` under their names, each with memory of its own, in the file's order.

    Memory is bounded by the file: a compressed `.npz` may hold 16 times its own size, at least MOST_UNPACKED bytes, and
    is refused before more is unpacked.

    Raises ValueError for a suffix other than `.npz` and `.safetensors`, and for a file that is truncated, damaged, too
    large once unpacked, with two arrays of one name, with anything before or after what belongs to it, or of another
    kind than its suffix says; FileNotFoundError if there is none; ImportError without safetensors. An `.npz` file has a
    checksum for each array; a `.safetensors` file has none, so a changed number in it goes unnoticed.
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
            info = zipfile.ZipInfo(f"{name}.npy")
            if info.filename != f"{name}.npy" or not _is_text(name) or len(name.encode()) > MOST_NAME:
                raise ValueError(
                    f"save expected names of at most {MOST_NAME} bytes of UTF-8 that .npz can hold, without NUL, "
                    f"got {name[:80]!r}"
                )
            archive.writestr(info, member.getvalue())
    return content.getvalue()


def _is_text(name: str) -> bool:
    """Whether the name has a form in UTF-8, which half of a surrogate pair has not."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _decode_npz(content: bytes) -> Arrays:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        inside = archive.infolist()
        _check_archive(archive, inside, content)
        state: Arrays = {}
        for info in inside:
            # The stated size is no more than a statement: what is unpacked stops one byte after it. A member is read
            # to its end before it is parsed, for only there is its checksum compared.
            with archive.open(info) as packed:
                unpacked = packed.read(info.file_size + 1)
            if len(unpacked) != info.file_size:
                raise ValueError(f"expected {info.file_size} bytes in {info.filename}, as it states, got another size")
            name = info.filename.removesuffix(".npy")
            if name in state:
                raise ValueError(f"expected each array once, got {name} twice")
            state[name] = _array(info.filename, unpacked)
    return state


def _check_archive(archive: zipfile.ZipFile, inside: list[zipfile.ZipInfo], content: bytes) -> None:
    """Raise ValueError unless the archive is the whole of `content`, and its members fit the bound."""
    first = min((info.header_offset for info in inside), default=archive.start_dir)
    end = content.rfind(b"PK\x05\x06")
    if archive.comment or end + 22 != len(content):
        raise ValueError("expected nothing after the end of the archive, got more bytes")
    if first != 0:
        raise ValueError(f"expected the archive at the first byte, got {first} bytes before it")
    most = max(MOST_UNPACKED, 16 * len(content))
    unpacked = sum(info.file_size for info in inside)
    if unpacked > most:
        raise ValueError(f"expected at most {most} bytes once unpacked, got {unpacked}")


def _array(filename: str, unpacked: bytes) -> NDArray[Any]:
    """The array in a member: a header and as many bytes of numbers as it announces, no more and no fewer.

    The header comes before any memory is set aside, so one that announces an array of any size costs nothing.
    """
    member = io.BytesIO(unpacked)
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is not None:
        shape, _, dtype = read(member)
        expected, got = math.prod(shape) * dtype.itemsize, len(unpacked) - member.tell()
        if not dtype.hasobject and got != expected:
            raise ValueError(f"expected {expected} bytes of numbers in {filename}, got {got}")
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(unpacked), allow_pickle=False)
    return array


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
