"""The worked example: the widely copied 2-2-2 network, figure by figure.

Published figures, certified ones, refnet's and torch's, and every recipe that yields each. This file is the door: the
command line and other rooms use nothing else. Each function imports what it needs when it is called: a report needs no
python-flint, `certify` and `check` no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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


def as_json(dtype: str = "float64") -> str:
    """All of it as JSON, in the layout of `parity.example.json_document`.

    Raises as `report`.
    """
    from parity.example.content import gather
    from parity.example.json_document import document, dumps

    return dumps(document(gather(dtype)))


def as_html() -> str:
    """The page to walk through, as one HTML document.

    Raises:
        UsageError: the kept file is missing, corrupt or edited.
    """
    from parity.example.web_page import build

    return build()


def worksheet(seed: int) -> str:
    """A worksheet to print, as one HTML document: numbers by seed, a line for each figure, and the certified key.

    Raises:
        UsageError: the seed is not one of a generator.
    """
    from parity.example.teacher_sheet import build

    return build(seed)


def recognise(console: Console, typed: str, step: str = "", own: Path | None = None) -> bool:
    """Print what a figure is that somebody worked out by hand; whether it is right.

    Args:
        typed: the figure. step: the name of the figure that it is meant to be. own: a file of one's own numbers.

    Raises:
        UsageError: no number, no such step, or no such file; see `parity.example.typed_report.read_own`.
    """
    from parity.example.typed_report import render

    return render(console, typed, step, own)


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
