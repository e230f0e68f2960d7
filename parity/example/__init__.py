"""The worked example: the widely copied 2-2-2 network, figure by figure.

Published figures, certified ones, refnet's and torch's, and every recipe that yields each. This file is the door: the
command line and other rooms use nothing else. Each function imports what it needs when it is called: a report needs no
python-flint, `certify` and `check` no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def report(console: Console, dtype: str = "float64") -> None:
    """Print the worked example, with the engines in `dtype`: step by step, then what happened to the article's numbers.

    Raises:
        UsageError: no such dtype; the kept file is missing, corrupt or edited.
    """
    from parity.example.content import gather
    from parity.example.text_report import render

    with console.status("training refnet and torch"):
        content = gather(dtype)
    render(content, console)


def as_json(dtype: str = "float64") -> dict[str, Any]:
    """All of it as plain dicts, lists, strings and numbers, in the layout of `parity.example.json_document`.

    Raises as `report`.
    """
    from parity.example.content import gather
    from parity.example.json_document import document

    return document(gather(dtype))


def as_html() -> str:
    """The page to walk through, as one HTML document.

    Raises:
        UsageError: the kept file is missing, corrupt or edited.
    """
    from parity.example.web_page import build

    return build()


def parts() -> int:
    """How many parts `certify` and `check` consist of."""
    from parity.example.certified_example import TASKS

    return TASKS


def is_certified() -> bool:
    """Whether the certified example of this version is there."""
    from parity.example.certified_example import readable

    return readable()


def certify(jobs: int = 1, done: Callable[[], object] = lambda: None) -> None:
    """Compute what is kept, in `jobs` processes, and keep it. `done` is called after each of `parts()` parts.

    Needs python-flint.
    """
    from parity.example import certification

    certification.certify(jobs, done)


def check(jobs: int = 1, done: Callable[[], object] = lambda: None) -> list[str]:
    """Compute it all again, likewise: the names of the kept arrays that are not the same, bit for bit. None: proved."""
    from parity.example import certification

    return certification.check(jobs, done)
