"""The worked example: the widely copied 2-2-2 network, figure by figure.

Published figures, certified ones, refnet's and torch's, and every recipe that yields each. Nothing is imported before
it is needed: a report needs no python-flint, `certify` and `check` no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from parity.records.record import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def report(console: Console, dtype: str = "float64") -> None:
    """Print the worked example, with the engines in `dtype`: step by step, then what happened to the article's numbers.

    Raises:
        UsageError: no such dtype; the kept file is missing, corrupt or edited.
    """
    from parity.example.content import gather
    from parity.example.terminal import render

    with console.status("training refnet and torch"):
        content = gather(dtype)
    render(content, console)


def as_json(dtype: str = "float64") -> dict[str, Any]:
    """All of it as plain dicts, lists, strings and numbers, in the layout of `parity.example.document`.

    Raises as `report`.
    """
    from parity.example.content import gather
    from parity.example.document import document

    return document(gather(dtype))


def page() -> str:
    """All of it as a page to walk through: one HTML file. Raises as `report`."""
    from parity.example.page import build

    return build()


def present() -> bool:
    """Whether what is kept is there, and of this version."""
    from parity.example import kept

    try:
        kept.load()
    except UsageError:
        return False
    return True


def tasks() -> int:
    """In how many parts it is certified."""
    from parity.example import proving

    return proving.TASKS


def certify(jobs: int = 1, done: Callable[[], object] = lambda: None) -> None:
    """Compute what is kept, in `jobs` processes, and keep it. `done` is called after each of `tasks()` parts.

    Needs python-flint.
    """
    from parity.example import proving

    proving.certify(jobs, done)


def check(jobs: int = 1, done: Callable[[], object] = lambda: None) -> list[str]:
    """Compute it all again, likewise: the names of the kept arrays that are not the same, bit for bit. None: proved."""
    from parity.example import proving

    return proving.check(jobs, done)
