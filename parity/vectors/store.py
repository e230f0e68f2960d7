"""Certified results, computed once and kept in files.

A file is safetensors: named arrays of known dtype and shape behind a JSON header, readable from most languages, with no code in it. Beside
the files lies `MANIFEST.json`, with the format's version and each file's SHA-256. What is read is what was certified, or it is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from parity.errors import UsageError

FORMAT = "refnet-vectors"
VERSION = 1

FOLDER = Path(__file__).parent
MANIFEST = "MANIFEST.json"

Arrays = dict[str, np.ndarray[Any, Any]]


def names(folder: Path = FOLDER) -> list[str]:
    """The files that the manifest lists, without their suffix."""
    return sorted(_manifest(folder)["files"])


def read(name: str, folder: Path = FOLDER) -> tuple[Arrays, dict[str, str]]:
    """The arrays and the metadata of a file.

    Raises:
        UsageError: the file is missing, unlisted, truncated, corrupt, edited, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    listed = _manifest(folder)["files"]
    path = folder / f"{name}.safetensors"
    if name not in listed:
        raise UsageError(
            f"{path.name}: expected one of the files in {MANIFEST}, {', '.join(sorted(listed))}; got {name}"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path.name}: expected a readable file, got: {error.strerror}. {_REMEDY}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != listed[name]:
        raise UsageError(
            f"{path.name}: expected SHA-256 {listed[name]}, got {digest}: truncated, corrupt or edited since it was certified. {_REMEDY}"
        )
    try:
        arrays = load(content)
        metadata: dict[str, str] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get(
            "__metadata__", {}
        )
    except (SafetensorError, ValueError) as error:
        raise UsageError(f"{path.name}: expected a safetensors file, got: {error}. {_REMEDY}") from None
    return arrays, metadata


def write(name: str, arrays: Arrays, metadata: dict[str, str], folder: Path = FOLDER) -> None:
    """Keep arrays under a name. The same arrays and metadata give the same bytes; a reader sees the old file or the new one."""
    from safetensors.numpy import save

    content = _ordered(save({key: np.asarray(arrays[key], order="C") for key in sorted(arrays)}, metadata))
    manifest = (
        _manifest(folder) if (folder / MANIFEST).exists() else {"format": FORMAT, "version": VERSION, "files": {}}
    )
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    manifest["files"] = dict(sorted(manifest["files"].items()))
    replace(folder / f"{name}.safetensors", content)
    replace(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def replace(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside its place, then rename: nobody ever sees half of it.

    Raises:
        UsageError: the folder is missing or not writable.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path}: expected a place to write to, got: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


_REMEDY = "Reinstall the package, or compute it again with: parity certify"


def _manifest(folder: Path) -> Any:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{MANIFEST}: expected a readable file, got: {error.strerror}. {_REMEDY}") from None
    except ValueError as error:
        raise UsageError(f"{MANIFEST}: expected JSON, got: {error}. {_REMEDY}") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise UsageError(f"{MANIFEST}: expected the format {FORMAT}, got {str(manifest)[:80]}. {_REMEDY}")
    if manifest.get("version") != VERSION:
        raise UsageError(
            f"{MANIFEST}: expected version {VERSION} of the format {FORMAT}, got {manifest.get('version')}. {_REMEDY}"
        )
    return manifest


def _ordered(content: bytes) -> bytes:
    """The file with its header's metadata in order: the library writes them in the order of a hash map, new every time."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
