"""What the yardstick asks of an engine."""

from __future__ import annotations

from parity.budget import Profile
from parity.errors import Unsupported
from parity.records import VJP, Array, Optimize, Train

Answer = dict[str, Array]


class Engine:
    """Something that computes gradients and updates. Subclass it, name it, and answer the kinds of record that it can; see `parity.records` for the
    names and shapes of the answers. What it cannot do, it says by raising `Unsupported`.

    Answers are NumPy arrays of the record's dtype. Records are read-only.
    """

    name: str = ""

    def profile(self, dtype: str) -> Profile:
        """How the engine computes in `dtype`: by default, everything in it."""
        return Profile.of(dtype)

    def vjp(self, record: VJP) -> Answer:
        """Answer a VJP record."""
        raise Unsupported(f"{self.name} has no vjp")

    def optimize(self, record: Optimize) -> Answer:
        """Answer an Optimize record."""
        raise Unsupported(f"{self.name} has no optimize")

    def train(self, record: Train) -> Answer:
        """Answer a Train record."""
        raise Unsupported(f"{self.name} has no train")
