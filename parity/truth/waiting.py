"""How far long work is, on standard error, from SOON seconds on.

    with waiting.told("enclosing in balls"):
        ...  # calls expect(steps) and step(n) where it knows how far it is

A terminal shows one line that changes; elsewhere a line is written now and then. Work that ends earlier says nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SOON = 2.0
"""Seconds after which work is long."""

EVERY = 15.0
"""Seconds between two lines where there is no terminal."""


class _Work(threading.local):
    """What a thread is doing.

    Attributes:
        names: what, from the outermost to the innermost. steps, total: how many steps are done, and of how many; 0
            where that is not known.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.steps = self.total = 0


_work = _Work()


def expect(steps: int) -> None:
    """From here on there are that many steps."""
    _work.steps, _work.total = 0, steps


def step(count: int = 1) -> None:
    """That many steps are done."""
    _work.steps += count


@contextmanager
def told(what: str) -> Iterator[None]:
    """Says how far the work inside is; inside other work that says so, only what it is that takes long."""
    work = _work
    names = list(work.names)
    work.names = [*names, what]
    expect(0)
    if names:
        try:
            yield
        finally:
            work.names = names
            expect(0)
        return
    ended = threading.Event()
    # The attributes of a thread's own object are seen by that thread alone.
    teller = threading.Thread(target=_tell, args=(work.__dict__, ended), daemon=True)
    teller.start()
    try:
        yield
    finally:
        work.names = []
        ended.set()
        teller.join()


def _tell(work: dict[str, object], ended: threading.Event) -> None:
    start = time.monotonic()
    if ended.wait(SOON):
        return
    terminal = sys.stderr.isatty()
    while True:
        line = _line(work, time.monotonic() - start)
        print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if ended.wait(0.5 if terminal else EVERY):
            break
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _line(work: dict[str, object], seconds: float) -> str:
    names, steps, total = work["names"], work["steps"], work["total"]
    assert isinstance(names, list)
    assert isinstance(steps, int)
    assert isinstance(total, int)
    part = f", {min(100, 100 * steps // total)}%" if total else ""
    return f"parity: {names[-1] if names else 'ending'}{part} after {seconds:.0f} s"
