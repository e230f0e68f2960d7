"""Files for others: vectors that `parity export` writes, and answers that `parity judge` reads.

`docs/vectors.md` describes both so that a reader can be written from it alone. The version is the format's own: it
changes when a reader has to.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from parity.records.encoding import Malformed, brief, expect_format, member, read
from parity.records.record import Array, UsageError
from parity.vectors.store import ordered

VECTORS = "parity-vectors"
ANSWERS = "parity-answers"
VERSION = 1

MANIFEST = "manifest.json"
SCHEMAS = ("vectors.schema.json", "answers.schema.json")

LARGEST = 1_000
"""Arrays of more elements lie in safetensors files."""

MOST_BYTES = 2**29
"""The largest file of answers that is read."""

MOST_ANSWERS = 100_000


def schema(name: str) -> dict[str, Any]:
    """One of SCHEMAS."""
    document: dict[str, Any] = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return document


def export(folder: Path, groups: Mapping[str, Iterable[dict[str, Any]]]) -> int:
    """Write a folder of vectors, of which nobody ever sees half; how many records there are in it.

    Args:
        groups: the records of each file, by its name without a suffix. Arrays in them go to a safetensors file of the
            same name.

    Raises:
        UsageError: the folder is there and not empty, or can't be written.
    """
    check_folder(folder)
    temporary = folder.resolve().with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir(parents=False)
        contents: dict[str, bytes] = {}
        where: dict[str, str] = {}
        for group, records in groups.items():
            tensors: dict[str, Array] = {}
            lines = []
            for record in records:
                label = f"{record['case']}, {record['family']}, {record['dtype']}"
                where[label] = f"{group}.json"
                lines.append(_line(_referring(record, f"{group}.safetensors", label, tensors)))
            head = f'{{"format":"{VECTORS}","version":{VERSION},"records":[\n'
            contents[f"{group}.json"] = (head + ",\n".join(lines) + "\n]}\n").encode()
            if tensors:
                contents[f"{group}.safetensors"] = _safetensors(tensors)
        for name in SCHEMAS:
            contents[name] = (Path(__file__).parent / name).read_bytes()
        manifest = {
            "format": VECTORS,
            "version": VERSION,
            "made_by": f"refnet {version('refnet')}",
            "files": {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                for name, content in contents.items()
            },
            "records": where,
        }
        contents[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        os.replace(temporary, folder.resolve())
    except OSError as error:
        raise UsageError(f"{folder}: expected a place to write to, got: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(where)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not empty, or can't be made.

    Raises:
        UsageError: it is.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder}: expected a folder that is empty or not there yet")
    try:
        # What access rights say is not all: /proc is writable, and takes no folder.
        if not folder.exists():
            folder.mkdir()
            folder.rmdir()
    except OSError as error:
        due = f"expected a place in a folder that exists and is writable, got: {error.strerror}"
        raise UsageError(f"{folder}: {due}") from None
    if not os.access(folder.resolve().parent, os.W_OK):
        raise UsageError(f"{folder}: expected a place in a folder that exists and is writable")


def _line(record: Any) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def _referring(value: Any, file: str, label: str, tensors: dict[str, Array]) -> Any:
    """The document with each array in it replaced by the file and the name under which it is kept."""
    if isinstance(value, Mapping):
        return {key: _referring(v, file, f"{label}/{key}", tensors) for key, v in value.items()}
    if isinstance(value, list):
        return [_referring(v, file, f"{label}/{k}", tensors) for k, v in enumerate(value)]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        tensors[label] = value
        return {"file": file, "name": label}
    return value


def _safetensors(tensors: dict[str, Array]) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    metadata = {"format": VECTORS, "version": str(VERSION)}
    return ordered(save({key: np.asarray(tensors[key], order="C") for key in sorted(tensors)}, metadata))


def read_answers(file: Path) -> dict[str, Any]:
    """A file of answers: `engine`, `profiles` by dtype, and the `answers`, each of which names its case.

    Raises:
        UsageError: it can't be read, or is no such file.
    """
    return read(file, MOST_BYTES, _answers)


def _answers(document: Any) -> dict[str, Any]:
    expect_format(document, ANSWERS, VERSION)
    answers = member(document, "answers", list, "the file")
    if not 0 < len(answers) <= MOST_ANSWERS:
        raise Malformed(f"expected 1 to {MOST_ANSWERS:,} answers, got {len(answers):,}")
    seen = set()
    for k, answer in enumerate(answers):
        key = tuple(member(answer, name, str, f"answer {k}") for name in ("case", "family", "dtype"))
        if key in seen:
            raise Malformed(f"answer {k}: expected each record once, got {brief(', '.join(key))} again")
        seen.add(key)
    return {
        "engine": brief(member(document, "engine", str, "the file", "the answers")),
        "profiles": member(document, "profiles", dict, "the file", {}),
        "answers": answers,
    }
