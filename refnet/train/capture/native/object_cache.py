"""Translated kernels on disk, so that another process need not translate them again.

A kernel has no address in it, so its object code is the same in every process that has the same translator, settings
and processor: these are part of its key. The folder is the user's own: `$REFNET_CACHE`, or `refnet` in the place that
the system has for caches. `REFNET_CACHE=0` turns it off.

What is loaded from here is run. So the folder and its files must belong to the user, and nobody else may write to them;
otherwise they are left alone. A checksum over key and code tells whether a file is whole: one that is not is taken for
absent, and written anew. It does not tell who wrote it; the permissions do.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from refnet.files import write_bytes

VARIABLE = "REFNET_CACHE"
"""The environment variable that names the folder, or is 0."""

MAGIC = b"refnet object 1\n"

LARGEST = 2**22
"""Bytes of a file; a group of kernels has some thousand."""

MOST = 4_000
"""Files in the folder, about; beyond it the oldest half goes."""

_counted = False


def folder() -> Path | None:
    """Where the cache is, or None if it is turned off or there is no place for it."""
    named = os.environ.get(VARIABLE)
    if named == "0":
        return None
    if named:
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "refnet" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "refnet"
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(caches) if os.path.isabs(caches) else home / ".cache") / "refnet"


def key_of(*parts: str) -> str:
    """A name for what these texts say, each with its length before it, so that no two lists of texts are alike."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode()
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()


def load(key: str) -> bytes | None:
    """The object code under a key; None if there is none that is whole and the user's own."""
    place = folder()
    if place is None:
        return None
    try:
        if not _own(os.lstat(place), stat.S_ISDIR):
            return None
        file = os.open(place / key, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(file, "rb") as opened:
            about = os.fstat(opened.fileno())
            if not _own(about, stat.S_ISREG) or about.st_size > LARGEST:
                return None
            content = opened.read()
    except OSError:
        return None
    head = len(MAGIC) + hashlib.sha256().digest_size
    code = content[head:]
    return code if content[:head] == MAGIC + _checksum(key, code) else None


def keep(key: str, code: bytes) -> None:
    """Put object code under a key. Where that is not possible, nothing is kept, and nothing is said."""
    place = folder()
    if place is None:
        return
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _own(os.lstat(place), stat.S_ISDIR):
            _make_room(place)
            write_bytes(place / key, MAGIC + _checksum(key, code) + code, sync=False)


def _checksum(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _own(about: os.stat_result, kind: object) -> bool:
    """Whether a folder or file is what it should be, belongs to the user, and is closed to other writers. (Windows has
    no such bits; there the folder of a user is closed by the system.)"""
    if not kind(about.st_mode):  # type: ignore[operator]
        return False
    return sys.platform == "win32" or (about.st_uid == os.geteuid() and not about.st_mode & 0o022)


def _make_room(place: Path) -> None:
    """Once in a process: the oldest half of too many files goes."""
    global _counted
    if _counted:
        return
    _counted = True
    files = [entry for entry in os.scandir(place) if entry.is_file(follow_symlinks=False)]
    if len(files) > MOST:
        for entry in sorted(files, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)[: len(files) // 2]:
            os.unlink(entry.path)
