"""A study's folder: what it is, and every cell that was computed.

    study.json                     the study's specification and the environment it was begun in
    cells/<2 digits>/<key>.json    a cell and its outcome
    parts/<name>.json              what the study measures besides cells, and for which arguments

Files are written under a temporary name and renamed, so that one that is there is whole. One that was damaged since is
known by its digest and counts as not there. Nothing ever lists the folder: a cell costs as much among many as alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.convergence.cells import Cell, Outcome

FORMAT = 1
"""Of the folder and its files."""

STUDY, LOCK, TEMPORARY = "study.json", ".lock", ".writing"


class FolderError(Exception):
    """The folder can't be used for this study: why, and what to do."""


class Store:
    """Cells and parts of the study in a folder (see `opened`).

    Args:
        environment: the one in which the study was begun.
        say: is told of each damaged file that is passed over.
    """

    def __init__(self, folder: Path, environment: Mapping[str, Any], say: Callable[[str], object]) -> None:
        self.folder, self.environment = folder, environment
        self._say = say

    def outcome(self, cell: Cell) -> Outcome | None:
        """What was kept of `cell`; None if nothing was, or if it is damaged."""
        value = self._read(_cell_file(cell), cell.as_dict())
        return None if value is None else Outcome.from_dict(value)

    def keep(self, cell: Cell, outcome: Outcome) -> None:
        self._write(_cell_file(cell), cell.as_dict(), outcome.as_dict())

    def part(self, name: str, arguments: Any) -> Any:
        """What was kept under `name` for these `arguments` (JSON values); None if nothing was, or if it is damaged."""
        return self._read(f"parts/{name}.json", arguments)

    def keep_part(self, name: str, arguments: Any, value: Any) -> None:
        self._write(f"parts/{name}.json", arguments, value)

    def _read(self, name: str, content: Any) -> Any:
        file = self.folder / name
        try:
            kept = json.loads(file.read_bytes())
            if kept["sha256"] != _digest(kept["of"], kept["value"]):
                raise ValueError("its digest is another")
            if kept["of"] != json.loads(_canonical(content)):
                raise ValueError("it holds something else")
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            self._say(f"{file} is damaged ({error}): computed again")
            return None
        return kept["value"]

    def _write(self, name: str, content: Any, value: Any) -> None:
        kept = {"of": content, "value": value, "sha256": _digest(content, value)}
        file = self.folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _replace(file, _canonical(kept), self.folder / TEMPORARY)
        except OSError as error:
            raise FolderError(f"can't write {file}: {error.strerror}") from error


@contextmanager
def opened(
    folder: Path,
    study: Mapping[str, Any],
    environment: Mapping[str, Any],
    *,
    resume: bool,
    say: Callable[[str], object],
) -> Iterator[Store]:
    """The store of `study` in `folder`, which is this study's alone while the `with` block lasts.

    A folder that is not there or empty is begun; one that holds this study is gone on with if `resume`.

    Args:
        study: the whole specification, as JSON values.
        environment: versions and the like, as JSON values; `say` is told what but its "date" has changed since the
            study was begun.

    Raises:
        FolderError: the folder holds another study, or one written by a newer version, or other files; or this one,
            without `resume`; or it is in use by another run; or it can't be written.
    """
    begun_in = _check(folder, study, environment, resume, say)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FolderError(f"{folder}: expected a folder that can be written, got: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderError(f"{folder}: another run is at work in it") from error
        try:
            (folder / TEMPORARY).unlink(missing_ok=True)
            if begun_in is None:
                about = {"format": FORMAT, "study": study, "environment": environment}
                _replace(folder / STUDY, json.dumps(about, indent=1) + "\n", folder / TEMPORARY)
        except OSError as error:
            raise FolderError(f"{folder}: expected a folder that can be written, got: {error.strerror}") from error
        yield Store(folder, environment if begun_in is None else begun_in, say)
    finally:
        os.close(lock)


def _replace(file: Path, text: str, temporary: Path) -> None:
    """Write `file` under the name `temporary`, in the same file system, and rename it.

    `refnet.files.write_bytes` waits for the disk besides. These files are thousands, and what a power failure damages
    is known by its digest and computed again.
    """
    # An interrupt in the middle of opening leaves a file object behind, which warns; a descriptor does not.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
    os.replace(temporary, file)


def _check(
    folder: Path,
    study: Mapping[str, Any],
    environment: Mapping[str, Any],
    resume: bool,
    say: Callable[[str], object],
) -> Mapping[str, Any] | None:
    """The environment in which the study that `folder` holds was begun, None if it holds none; errors as `opened`."""
    try:
        there = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        about = json.loads((folder / STUDY).read_bytes()) if STUDY in there else None
    except OSError as error:
        raise FolderError(f"{folder}: expected a folder, got: {error.strerror}") from error
    except ValueError as error:
        raise FolderError(f"{folder / STUDY} is damaged ({error}): delete it, or choose another folder") from error
    if about is None:
        if others := there - {LOCK, TEMPORARY}:
            raise FolderError(
                f"{folder}: expected an empty folder or that of a study, got one with {min(others)} and no {STUDY}"
            )
        return None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise FolderError(f"{folder / STUDY}: expected a study's specification, got something else")
    if about["format"] > FORMAT:
        raise FolderError(
            f"{folder} was written by a newer version: its format is {about['format']}, this version knows {FORMAT}"
        )
    if (other := _difference(about.get("study"), json.loads(json.dumps(study)))) is not None:
        raise FolderError(f"{folder} holds another study ({other}): choose another folder")
    if not resume:
        raise FolderError(f"{folder} holds this study already: go on with --resume, or choose another folder")
    begun_in: Mapping[str, Any] = about["environment"]
    for name, now in environment.items():
        if name != "date" and (then := begun_in.get(name)) != now:
            say(f"{folder} was begun with {name} {then}, now it is {now}: bits may differ between old and new cells")
    return begun_in


def _difference(there: Any, here: Any, name: str = "") -> str | None:
    """Where two specifications differ first: "seeds: 20 there, 5 here"; None if nowhere."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = (
            _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key) for key in {**there, **here}
        )
        return next((difference for difference in found if difference is not None), None)
    if there == here:
        return None
    return f"{name or 'study'}: {json.dumps(there):.100} there, {json.dumps(here):.100} here"


def _cell_file(cell: Cell) -> str:
    return f"cells/{cell.key[:2]}/{cell.key}.json"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(content: Any, value: Any) -> str:
    return hashlib.sha256(_canonical([content, value]).encode()).hexdigest()
