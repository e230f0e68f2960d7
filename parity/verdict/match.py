"""What may be said of a failing answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """Something that a failing answer matches.

    Attributes:
        name: the mistake, or the relation to the truth. what: in the letters of the code, or in words.
        source: where the mistake was seen before. tensors: the failing ones that it accounts for.
        precision: whether it is the right formula with less precision than declared, by a simulation that fits.
    """

    name: str
    what: str
    source: str = ""
    tensors: tuple[str, ...] = ()
    precision: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.what}" + (f" ({self.source})" if self.source else "")
