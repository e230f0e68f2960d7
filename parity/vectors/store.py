"""Certified results, computed once and kept in files.

A file is safetensors: named arrays of known dtype and shape behind a JSON header, readable from most languages, with no
code in it. Beside the files lies `MANIFEST.json`, with the format's version and each file's SHA-256. What is read is
what was certified, or it is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.records.record import UsageError
from refnet.files import write_bytes

FORMAT = "refnet-vectors"
VERSION = 1

FOLDER = Path(__file__).parent
"""The package's own files: what is meant where no folder is given."""

MANIFEST = "MANIFEST.json"

Arrays = dict[str, np.ndarray[Any, Any]]

_REMEDY = "Reinstall the package"
_OR_CERTIFY = f"{_REMEDY}, or compute it again with: parity certify"


def names(folder: Path | None = None) -> list[str]:
    """The files that the manifest lists, without their suffix; none where there is no manifest.

    Raises:
        UsageError: the manifest is corrupt, or of another version.
    """
    folder = folder or FOLDER
    return sorted(_manifest(folder)) if (folder / MANIFEST).exists() else []


def read(name: str, folder: Path | None = None) -> tuple[Arrays, dict[str, str]]:
    """The arrays and the metadata of a file.

    Raises:
        UsageError: the file is missing, unlisted, truncated, corrupt, edited, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = folder or FOLDER
    listed = _manifest(folder)
    path = folder / f"{name}.safetensors"
    if name not in listed:
        known = ", ".join(sorted(listed)) or "none"
        raise UsageError(f"{path.name}: expected one of the files in {MANIFEST} ({known}), got {name}. {_OR_CERTIFY}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path.name}: expected a readable file, got: {error.strerror}. {_OR_CERTIFY}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != listed[name]:
        due = str(listed[name])
        due = due if due.isprintable() and len(due) <= 64 else f"{due[:64]!r}"
        raise UsageError(
            f"{path.name}: expected SHA-256 {due}, got {digest}: truncated, corrupt or edited since it was "
            f"certified. {_OR_CERTIFY}"
        )
    try:
        # The library returns them in the order of a hash map, new every time.
        return dict(sorted(load(content).items())), _header(content).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise UsageError(f"{path.name}: expected a safetensors file, got: {error}. {_OR_CERTIFY}") from None


def sha256(name: str, folder: Path | None = None) -> str:
    """The SHA-256 of a file, as the manifest has it.

    Raises:
        UsageError: the manifest is missing, corrupt, of another version, or does not list the file.
    """
    listed = _manifest(folder or FOLDER)
    if name not in listed:
        raise UsageError(f"{name}.safetensors: expected one of the files in {MANIFEST}, got none. {_OR_CERTIFY}")
    return listed[name]


def write(name: str, arrays: Arrays, metadata: Mapping[str, str], folder: Path | None = None) -> None:
    """Keep arrays under a name. The same arrays and metadata give the same bytes.

    Whenever this is interrupted, a reader gets the old arrays or the new ones; or, where the file was renamed to its
    place and the manifest not yet, is told to compute them again.

    Raises:
        UsageError: as `replace` and `names`.
    """
    from safetensors.numpy import save

    folder = folder or FOLDER
    listed = _manifest(folder) if (folder / MANIFEST).exists() else {}
    content = ordered(save({key: np.asarray(arrays[key], order="C") for key in sorted(arrays)}, dict(metadata)))
    listed[name] = hashlib.sha256(content).hexdigest()
    manifest = {"format": FORMAT, "version": VERSION, "files": dict(sorted(listed.items()))}
    replace(folder / f"{name}.safetensors", content)
    replace(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def replace(path: Path, content: bytes) -> None:
    """Write a file, of which nobody ever sees half; see `refnet.files.write_bytes`.

    Raises:
        UsageError: it can't be written.
    """
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UsageError(f"{path}: expected a place to write to, got: {error.strerror}") from None


def _manifest(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise UsageError(f"{MANIFEST}: expected a readable file, got: {error.strerror}. {_REMEDY}") from None
    except ValueError as error:
        raise UsageError(f"{MANIFEST}: expected JSON, got: {error}. {_REMEDY}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UsageError(f"{MANIFEST}: expected the format {FORMAT}, got {str(manifest)[:80]}. {_REMEDY}")
    if manifest.get("version") != VERSION:
        got = manifest.get("version")
        raise UsageError(f"{MANIFEST}: expected version {VERSION} of the format {FORMAT}, got {got}. {_REMEDY}")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UsageError(f"{MANIFEST}: expected the SHA-256 of each file under files, got {str(files)[:80]}. {_REMEDY}")
    return files


def _header(content: bytes) -> Any:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def ordered(content: bytes) -> bytes:
    """The file with its header's metadata in order, which the library writes in that of a hash map too."""
    header = _header(content)
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    arrays = content[8 + int.from_bytes(content[:8], "little") :]
    return len(text).to_bytes(8, "little") + text + arrays
