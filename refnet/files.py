"""Files that nobody ever sees half of."""

import os
import secrets
import shutil
from pathlib import Path

__all__ = ["write_bytes"]


def write_bytes(path: str | os.PathLike[str], content: bytes, *, sync: bool = True) -> None:
    """Make `content` the file `path`, in one step: written beside it under another name, synced to the disk, renamed.

    Whenever this is interrupted, a reader finds the old file or the new one, and an error leaves nothing else behind.
    A link stays a link: what it points to is replaced. A device or a pipe is written to as it is. A file that is
    replaced keeps its permissions. Without `sync` a loss of power may leave a file that is damaged.

    Raises OSError, of the subclass that fits, if it cannot be written; its `filename` is `path`.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        place = path.resolve()
        temporary = place.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            if place.exists():
                shutil.copymode(place, temporary)
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
