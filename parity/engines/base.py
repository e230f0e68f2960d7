"""What the yardstick asks of an engine."""

from __future__ import annotations

from parity.budget.array import Profile
from parity.records.record import VJP, Answer, Optimize, Train, Unsupported


class Engine:
    """Something that computes gradients and updates.

    Subclass it and answer the kinds of record that it can; see `parity.records.record` for the names and shapes of the
    answers, which are NumPy arrays of the record's dtype. What it cannot do, it says by raising `Unsupported`. A record
    is the engine's own: what is written into it reaches nobody else.

    Attributes:
        name: what it goes by in results; `--engine` gives it the name it was asked for by.
    """

    name: str = ""

    def profile(self, dtype: str) -> Profile:
        """How the engine computes in `dtype`: by default, everything in it."""
        return Profile.of(dtype)

    def vjp(self, record: VJP) -> Answer:
        """Answer a VJP record."""
        raise Unsupported("no vjp")

    def optimize(self, record: Optimize) -> Answer:
        """Answer an Optimize record."""
        raise Unsupported("no optimize")

    def train(self, record: Train) -> Answer:
        """Answer a Train record."""
        raise Unsupported("no train")


def one_line(text: object) -> str:
    """Anyone's text as one printable line of at most 300 characters, which every form of report can hold."""
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words)
    return line if len(line) <= 300 else f"{line[:297]}..."
