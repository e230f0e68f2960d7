"""Clipping of gradients, under torch.nn.utils' names, arguments and defaults; and `detect_overwriting`.

torch takes parameters and looks for the gradients in them. Here gradients come by name, as `backward` returns them: a
dict of arrays, or a list of arrays, or one array. None among them is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.nn.overwriting import detect_overwriting as detect_overwriting

Gradients = Mapping[str, Array | None] | Iterable[Array | None] | Array

EPSILON = 1e-6
"""What torch adds to a norm before it divides by it."""


def get_total_norm(
    tensors: Gradients, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Array:
    """The norm of all elements g of all arrays together.

        N = (sum_. |g[.]|^p)^(1/p)     N = max_. |g[.]| for p = inf

    torch takes the norm of the arrays' norms, which is the same but for rounding. The squares can overflow, as torch's
    do: N is infinite then. Of no array at all N is 0.

    Args:
        tensors: the arrays, of one dtype.
        norm_type: p, above 0; the text "inf" is taken too. (torch also takes 0 and negative ones, of which its norm of
            norms is none of all elements.)
        error_if_nonfinite: refuse a norm that is NaN or infinite.
        foreach: accepted as torch's, and without a meaning here.

    Raises:
        RuntimeError: the norm is not finite and `error_if_nonfinite`, as in torch.
        ValueError: p is not above 0.
        TypeError: an array is none of floats, or has another dtype than the first.
    """
    return _total_norm("get_total_norm", _listed("get_total_norm", tensors), norm_type, error_if_nonfinite)


def clip_grad_norm_(
    grads: Gradients,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Array:
    """Scale gradients, in place, so that their norm is at most about c = `max_norm`. Returns the norm before, N.

        g[.] = g[.] min(c / (N + 1e-6), 1)

    A norm that is infinite makes all gradients 0, and those that are infinite themselves NaN; one that is NaN makes all
    NaN, as in torch.

    Args:
        grads: what `backward` returned. Arrays are written to.
        max_norm: c, at least 0. (torch takes a negative one, which turns the gradients round.)
        norm_type, error_if_nonfinite, foreach: as for `get_total_norm`. Nothing is written where it raises.
    """
    arrays = _listed("clip_grad_norm_", grads)
    check_max_norm("clip_grad_norm_", max_norm)
    _check.writable("clip_grad_norm_", arrays)
    N = _total_norm("clip_grad_norm_", arrays, norm_type, error_if_nonfinite)
    _scale(arrays, max_norm, N)
    return N


def clip_grads_with_norm_(grads: Gradients, max_norm: float, total_norm: Array, foreach: bool | None = None) -> None:
    """The second half of `clip_grad_norm_`, with a norm N = `total_norm` that is known."""
    check_max_norm("clip_grads_with_norm_", max_norm)
    arrays = _listed("clip_grads_with_norm_", grads)
    _check.is_number("clip_grads_with_norm_", "total_norm", total_norm)
    if shape := np.shape(total_norm):
        raise ValueError(f"clip_grads_with_norm_: expected total_norm to be one number, got shape {shape}")
    _check.writable("clip_grads_with_norm_", arrays)
    like = arrays[0].dtype if arrays else np.float64
    _scale(arrays, max_norm, np.asarray(total_norm, like) if isinstance(total_norm, float | int) else total_norm)


def clip_grad_value_(grads: Gradients, clip_value: float, foreach: bool | None = None) -> None:
    """Bring the elements of gradients, in place, into the interval from -c to c = `clip_value`. A NaN stays.

        g[.] = min(max(g[.], -c), c)

    Args:
        grads: as for `clip_grad_norm_`.
        clip_value: c, at least 0.
        foreach: accepted as torch's, and without a meaning here.
    """
    _check.not_negative("clip_grad_value_", "clip_value", clip_value)
    arrays = _listed("clip_grad_value_", grads)
    _check.writable("clip_grad_value_", arrays)
    for G in arrays:
        G[...] = clipped_value(G, clip_value)


def clip_coefficient(max_norm: float, total_norm: Array) -> Array:
    """What gradients of that norm are multiplied with: the whole rule of `clip_grad_norm_`."""
    # min(c / (N + 1e-6), 1)
    quotient = special.lift(max_norm, total_norm) / (total_norm + special.lift(EPSILON, total_norm))
    return -special.maximum(-quotient, special.lift(-1.0, total_norm))


class Clipping(NamedTuple):
    """How the gradients of an update are clipped: by their norm, by value, or not at all.

    Attributes:
        max_norm, norm_type: as for `clip_grad_norm_`. clip_value: as for `clip_grad_value_`. None clips nothing.
    """

    max_norm: float | None = None
    norm_type: float = 2.0
    clip_value: float | None = None

    def of(self, grads: Mapping[str, Array]) -> dict[str, Array]:
        """Clipped gradients, as new arrays."""
        if self.max_norm is not None:
            N = _total_norm("Clipping", _listed("Clipping", grads), self.norm_type, False)
            factor = clip_coefficient(self.max_norm, N)
            # g[.] = g[.] min(c / (N + 1e-6), 1)
            return {name: G * factor for name, G in grads.items()}
        if self.clip_value is not None:
            return {name: clipped_value(G, self.clip_value) for name, G in grads.items()}
        return dict(grads)

    def check(self, operation: str) -> None:
        """Raise if it is none."""
        if self.max_norm is not None:
            check_max_norm(operation, self.max_norm, "clip_norm")
        _norm_order(operation, self.norm_type)
        if self.clip_value is not None:
            _check.not_negative(operation, "clip_value", self.clip_value)
            if self.max_norm is not None:
                raise ValueError(f"{operation}: expected clip_norm or clip_value, got both")


NOT_CLIPPED = Clipping()


def clipped_value(G: Array, clip_value: float) -> Array:
    """A gradient brought into the interval from -c to c."""
    least = special.lift(-clip_value, G)
    # g[.] = min(max(g[.], -c), c)
    return -special.maximum(-special.maximum(G, least), least)


def _scale(arrays: list[Array], max_norm: float, N: Array) -> None:
    if arrays:
        factor = clip_coefficient(max_norm, N)
        for G in arrays:
            # g[.] = g[.] min(c / (N + 1e-6), 1)
            G[...] = G * factor


def _total_norm(operation: str, arrays: list[Array], norm_type: float, error_if_nonfinite: bool) -> Array:
    p = _norm_order(operation, norm_type)
    flat = [G.reshape(-1) for G in arrays if G.size]
    if not flat:
        return np.zeros((), arrays[0].dtype if arrays else np.float64)
    like = flat[0]
    if p == math.inf:
        # N = max_. |g[.]|
        N = special.amax(_joined([special.amax(np.absolute(G), -1) for G in flat]), -1)
    elif p == 2:
        # N = sqrt(sum_. g[.]^2)
        N = np.sqrt(special.total(_joined([special.total(G * G, -1) for G in flat]), -1))
    else:
        # N = (sum_. |g[.]|^p)^(1/p)
        powers = [np.absolute(G) if p == 1 else np.power(np.absolute(G), special.lift(p, like)) for G in flat]
        N = special.total(_joined([special.total(G, -1) for G in powers]), -1)
        N = N if p == 1 else np.power(N, special.lift(float(1 / Fraction(p)), like))
    if error_if_nonfinite:
        _check.finite(operation, f"the norm of order {p:g} of the gradients", N)
    return N


def _norm_order(operation: str, norm_type: float) -> float:
    try:
        p = float(norm_type)
    except (TypeError, ValueError):
        raise TypeError(f"{operation}: expected norm_type to be a number, got {norm_type!r}") from None
    if not p > 0:
        raise ValueError(f"{operation}: expected norm_type above 0, got {norm_type!r}")
    return p


def _joined(each: list[Array]) -> Array:
    return np.concatenate([np.expand_dims(one, -1) for one in each], axis=-1)


def check_max_norm(operation: str, max_norm: Any, name: str = "max_norm") -> None:
    """At least 0, and infinity too: it clips nothing."""
    _check.is_number(operation, name, max_norm)
    if not max_norm >= 0:
        raise ValueError(f"{operation}: expected {name} to be at least 0, got {max_norm!r}")


def _listed(operation: str, grads: Gradients) -> list[Array]:
    values: Any = [grads] if hasattr(grads, "dtype") else grads.values() if isinstance(grads, Mapping) else grads
    arrays = [G for G in _check.listed(operation, "gradients", values) if G is not None]
    for G in arrays:
        dtype = getattr(G, "dtype", None)
        if getattr(dtype, "kind", None) not in ("f", "O"):
            raise TypeError(f"{operation}: expected gradients as arrays of floats, got {dtype or type(G).__name__}")
        if dtype != arrays[0].dtype:
            raise TypeError(f"{operation}: expected gradients of one dtype, got {arrays[0].dtype} and {dtype}")
    return arrays
