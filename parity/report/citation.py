"""A certified figure as one cites it: its name, its value and radius, how it is made, and how it is computed again."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import numpy as np

from parity.records.record import UsageError
from parity.truth.value import Truth, decimal

RELEASED = "2026-11-24"
"""The date of this version, as in CITATION.cff."""

DIGITS = 30
"""Significant digits of a value that is printed. What is kept has two to three more."""

MOST = 1_000
"""The most elements that are printed at once."""

TINIEST = Fraction(1, 2**1075)
"""Half the smallest number of binary64."""


@dataclass(frozen=True)
class Element:
    """One certified number, t.

    Attributes:
        index: its place in the tensor. value: hi + lo as a decimal of DIGITS digits. hi, lo: as hexadecimal floats.
        radius: |t - (hi + lo)| is at most this, a decimal that is rounded up.
    """

    index: tuple[int, ...]
    value: str
    radius: str
    hi: str
    lo: str


@dataclass(frozen=True)
class Citation:
    """What there is to say of a certified figure.

    Attributes:
        id: its name, which `parity cite` takes; ends in the first 16 digits of the SHA-256 of what it is made from.
        about: what it is, in a sentence. formula: how it is made, in lines. inputs: what it is made from, by name.
        elements: the certified numbers. proof: what vouches for them. kept: the file, and its SHA-256.
    """

    id: str
    about: str
    formula: tuple[str, ...]
    inputs: dict[str, Any]
    elements: tuple[Element, ...]
    proof: str
    kept: str

    def text(self, verified: bool | None = None) -> str:
        """All of it, for reading. `verified` says how computing it again went, where that was asked."""
        lines = [self.id, *_folded(self.about), ""]
        width = max(len(str(list(e.index))) for e in self.elements)
        for e in self.elements:
            place = f"{list(e.index)!s:{width}}  " if e.index else ""
            lines += [f"  {place}{e.value}  +- {e.radius}", f"  {' ' * len(place)}{e.hi} + {e.lo}"]
        lines += ["", "formula", *(f"  {line}".rstrip() for line in self.formula), "", "inputs"]
        lines += [f"  {name} = {shown(value)}" for name, value in self.inputs.items()]
        lines += ["", *_folded(self.proof), f"kept in {self.kept}"]
        if verified is not None:
            lines.append("computed again: " + ("the same bits" if verified else "NOT the same bits"))
        return "\n".join([*lines, "", self.bibtex()])

    def document(self, verified: bool | None = None) -> dict[str, Any]:
        """The same for JSON."""
        told = {} if verified is None else {"verified": verified}
        inputs = {name: _exact(value) for name, value in self.inputs.items()}
        return {**asdict(self), "inputs": inputs, **told, "bibtex": self.bibtex()}

    def bibtex(self) -> str:
        """An entry for a bibliography."""
        name, _, digest = self.id.rpartition(" #")
        release = version("refnet")
        fields = {
            "title": f"Certified value of {_escaped(name)}",
            "author": "{The refnet maintainers}",
            "year": RELEASED[:4],
            "howpublished": f"refnet {release}, a reference implementation of backpropagation",
            "note": f"SHA-256 of its inputs begins with {digest}; "
            f'computed again by: parity cite --verify "{_escaped(self.id)}"',
        }
        inside = "".join(f"  {key:12} = {{{value}}},\n" for key, value in fields.items())
        return f"@misc{{refnet-{digest},\n{inside}}}"


def split(text: str) -> tuple[str, str]:
    """A citation's id as the figure's name and the digest behind it; empty where it was left out."""
    name, mark, digest = text.strip().rpartition("#")
    return (name.rstrip(), digest) if mark else (digest, "")


def check_digest(name: str, asked: str, made_from: str) -> None:
    """Refuse a figure that is made from something else today than what was cited.

    Raises:
        UsageError: the digests differ.
    """
    if asked and asked != made_from:
        raise UsageError(
            f"cite: expected {name} #{made_from}, got #{asked}: in this version it is made from other numbers, or in "
            "another way. Use the version that is cited"
        )


def need_balls() -> None:
    """Refuse to compute a figure again where there is no ball arithmetic.

    Raises:
        UsageError: python-flint is missing.
    """
    try:
        import flint  # noqa: F401
    except ImportError:
        raise UsageError(
            "cite: --verify expected the package python-flint, got none; install it with: pip install python-flint"
        ) from None


def elements(truth: Truth, what: str, index: Sequence[int] | None = None) -> tuple[Element, ...]:
    """The certified numbers of a tensor, or the one at `index`.

    Raises:
        UsageError: no such place; no certified number there; more than MOST numbers are asked for.
    """
    if index is not None:
        fits = len(index) == len(truth.shape) and all(-n <= k < n for k, n in zip(index, truth.shape, strict=True))
        if not fits:
            raise UsageError(f"{what}: expected an index into the shape {truth.shape}, got {list(index)}")
        places = [tuple(k % n for k, n in zip(index, truth.shape, strict=True))]
    else:
        places = list(np.ndindex(truth.shape))
    if not 0 < len(places) <= MOST:
        raise UsageError(f"{what}: expected 1 to {MOST} numbers, got shape {truth.shape}; give an index, as NAME[0, 1]")
    return tuple(_element(truth, place, what) for place in places)


def _element(truth: Truth, place: tuple[int, ...], what: str) -> Element:
    hi, lo = float(truth.hi[place]), float(truth.lo[place])
    if truth.undecided[place] or not np.isfinite(hi):
        raise UsageError(f"{what}{list(place)}: expected a certified number, got none: it is undecided or not finite")
    # lo is the number of binary64 that is nearest to t - hi.
    radius = max(Fraction(float(np.spacing(abs(lo)))) / 2, TINIEST)
    return Element(place, decimal(Fraction(hi) + Fraction(lo), DIGITS), _up(radius), hi.hex(), lo.hex())


def _up(radius: Fraction) -> str:
    """Two digits, rounded up."""
    exponent = len(str(radius.numerator)) - len(str(radius.denominator)) - 1
    scaled = -(-radius * 10 // Fraction(10) ** exponent)
    while scaled >= 100:
        scaled, exponent = -(-scaled // 10), exponent + 1
    return f"{scaled // 10}.{scaled % 10}e{exponent}"


def shown(value: Any) -> str:
    """An input for reading: an array's numbers as they are, or, where there are many, its shape."""
    if isinstance(value, tuple):
        return f"{len(value)} arrays of integers (all numbers with --json)"
    if not isinstance(value, np.ndarray):
        return str(value)
    if value.size > 64:
        return f"{value.dtype}, shape {list(value.shape)} (all numbers with --json)"
    return f"{value.dtype} {value.tolist()}"


def _exact(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_exact(part) for part in value]
    if not isinstance(value, np.ndarray):
        return str(value)
    numbers = [float(x).hex() if value.dtype.kind == "f" else int(x) for x in value.flat]
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": numbers}


def _folded(text: str) -> list[str]:
    return textwrap.wrap(text, 100)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "#%&_$" else c for c in text)
