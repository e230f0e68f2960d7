"""The precision that an answer's errors come from: named only where it fits. It is a measurement, not a theorem.

The level of the errors alone tells little: it depends on the order of the sums. What tells is, in this order:

1. Float64 that passed through float32: every element is a number of float32, though the truth's are not.
2. The grid that the answer lies on. Sums and storage in a narrower format leave numbers of that format alone, though
   the truth is not of it. It is storage where most elements are the truth correctly rounded, else sums.
3. Rounded factors. Their errors hardly depend on the order of the sums, so that they can be simulated: what is left of
   the answer's error when the simulated one is taken away must be less than RESIDUAL of it, root mean square.

Split sums, and the accumulators of tensor cores, may fit nothing; then nothing is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from parity.verdict.tensor import Array, format_named

OUTPUTS = 16
"""Fewer elements than this say nothing."""

RESIDUAL = 0.7
"""The largest part of an error that a simulation may leave unexplained."""

ALL, FEW = 0.99, 0.5
"""Parts of the elements on a grid: of an answer in that format at least, of the truth less than."""

STORED = 0.9
"""The part of the elements that are the truth correctly rounded where it is storage alone that is narrow."""

NARROW = ("bfloat16", "float16")

DETOUR = "a detour through float32"


def nearest(bits: int) -> Callable[[Array], Array]:
    """Rounding to so many bits of significand."""

    def rounded(x: Array) -> Array:
        mantissa, exponent = np.frexp(np.asarray(x, np.float64))
        return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits))

    return rounded


def truncated(bits: int) -> Callable[[Array], Array]:
    """Leaving all bits of the significand away but so many."""

    def rounded(x: Array) -> Array:
        mantissa, exponent = np.frexp(np.asarray(x, np.float64))
        return np.asarray(np.ldexp(np.trunc(np.ldexp(mantissa, bits)), exponent - bits))

    return rounded


FACTORS: Mapping[str, Mapping[str, Callable[[Array], Array]]] = {
    "float32": {
        # TF32 and float16 have the same significand: their ranges alone could tell them apart.
        "factors of 11 bits": nearest(11),
        "factors of 8 bits": nearest(8),
        "factors of 11 bits, truncated": truncated(11),
        "factors of 8 bits, truncated": truncated(8),
    },
    "float64": {"factors of 24 bits": nearest(24), "factors of 11 bits": nearest(11), "factors of 8 bits": nearest(8)},
}
"""What factors may have been rounded to, by the dtype of the answer."""


def fingerprint(answer: Array, truth: Array, rest: Array, simulated: Mapping[str, Array]) -> str:
    """The name of the precision that fits, or nothing.

    Args:
        truth, rest: the true values, in two numbers of binary64. simulated: by name, the errors that factors of fewer
            bits would make.
    """
    dtype = str(answer.dtype)
    if answer.size < OUTPUTS or dtype not in FACTORS or not (np.isfinite(answer).all() and np.isfinite(truth).all()):
        return ""
    if dtype == "float64" and _on(answer, "float32") and _off(truth, "float32"):
        return DETOUR
    error = (answer.astype(np.float64) - truth) - rest
    size = _size(error)
    if size == 0:
        return ""
    for name in NARROW if dtype == "float32" else ():
        if _on(answer, name) and _off(truth.astype(np.float32), name):
            stored = (format_named(name).nearest(truth) == answer).mean() > STORED
            return f"stored in {name}" if stored else f"sums in {name}"
    left = {name: _size(error - s) / size for name, s in simulated.items() if np.isfinite(s).all() and s.any()}
    best = min(left, key=lambda name: left[name], default="")
    return best if best and left[best] < RESIDUAL else ""


def of_product(a: Array, b: Array, answer: Array) -> str:
    """The precision of a product of two matrices."""
    wide, other = a.astype(np.float64), b.astype(np.float64)
    exact, rest = _product(wide, other)
    formats = FACTORS.get(str(answer.dtype), {})
    simulated = {name: f(wide) @ f(other) - exact for name, f in formats.items()}
    return fingerprint(answer, exact, rest, simulated)


def _product(a: Array, b: Array) -> tuple[Array, Array]:
    """A product, and about what binary64 leaves out of it: by factors in two halves of about 26 bits."""
    total = a @ b
    halves = [(nearest(26)(x), x - nearest(26)(x)) for x in (a, b)]
    (p, q), (r, s) = halves
    return total, ((p @ r - total) + (p @ s + q @ r)) + q @ s


def _on(x: Array, name: str) -> bool:
    return bool((format_named(name).nearest(x) == x).mean() >= ALL)


def _off(x: Array, name: str) -> bool:
    return bool((format_named(name).nearest(x) == x).mean() < FEW)


def _size(e: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(e * e)))
