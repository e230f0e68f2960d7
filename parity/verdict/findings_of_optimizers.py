"""What torch and optax really compute where an optimizer of theirs shows a known finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import FORMATS
from parity.families.fault import replaced
from parity.families.optim.radam.formulas import CONVENTIONS
from parity.records.record import Optimize
from parity.verdict.findings_computed import Computed, Enclosures, Record, around_itself, variant
from parity.verdict.tensor import Array
from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs


def rectified_in_float32(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """optax's r_t: rho_t = rho - 2 t b / (1 - b) in float32, b = beta2^t, with b as float32 has it, or next to it."""
    f = np.float32

    def patch(beside: int) -> Callable[..., Any]:
        def rectification(opt: Any, _: Any, beta2: float, t: Any, P: Any) -> Any:
            b = f(beta2) ** int(t)
            for _ in range(abs(beside)):
                b = np.nextafter(b, f(np.sign(beside) * np.inf))
            rho = f(2 / (1 - beta2) - 1)
            rho_t = rho - f(2) * f(int(t)) * b / (f(1) - b)
            if rho_t <= 5:
                return special.lift(0.0, P)
            r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
            # Each of its roundings to float32 moves it by half a unit in the last place.
            return Budget.exact(np.array(r), P.profile, np.array(8 * P.profile.storage.u * r))

        return rectification

    (of_optax,) = (v.patches["RAdam"] for v in CONVENTIONS if v.name == "eps beside the corrected root")

    def both(beside: int) -> Callable[[Any], None]:
        def patched(opt: Any) -> None:
            of_optax(opt)
            replaced("rectification", patch(beside))(opt)

        return patched

    for beside in (0, 1, -1):
        yield from around_itself(record, {"RAdam": both(beside)})


def step_before(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """optax's rprop: each update is the one that was due a step earlier, or 0 where the gradient goes against that; the
    first is 0. Adding an update to a parameter rounds once."""
    assert isinstance(record, Optimize)
    own = {name: args for names, args in record.groups or () for name in names}
    for name, p in record.params.items():
        e = enclosures[f"update.{name}"]
        G = np.stack([record.gradients(k).get(name, np.zeros_like(p)) for k in range(record.steps)])
        if {**record.spec.args, **own.get(name, {})}.get("maximize"):
            G = -G
        before, within = (np.concatenate([np.zeros_like(a[:1]), a[:-1]]) for a in (e.truth.hi, e.bound))
        due = np.where(G * before > 0, 0.0, before)
        size = abs(p.astype(np.float64)) + np.cumsum(abs(due) + within, axis=0)
        yield f"update.{name}", Computed(due, np.where(due == 0, 0.0, within + FORMATS[record.dtype].rounding(size)))


def _bfloat16(x: Any) -> Array:
    return np.asarray(FORMATS["bfloat16"].nearest(np.asarray(x, np.float64)), np.float32)


def _normalized(X: Array, eps: float) -> Array:
    norm = _bfloat16(np.sqrt(np.sum(X.astype(np.float64) ** 2)))
    return _bfloat16(X / np.maximum(norm, _bfloat16(eps)))


def _orthogonalized(G: Array, args: Mapping[str, Any]) -> Array:
    """torch's Newton-Schulz iterations: every result in bfloat16, products of matrices added up in float32."""
    X = _bfloat16(G)
    tall = X.shape[0] > X.shape[1]
    X = _normalized(X.T if tall else X, args.get("eps", 1e-7))
    a, b, c = (np.float32(k) for k in args.get("ns_coefficients", (3.4445, -4.775, 2.0315)))
    for _ in range(args.get("ns_steps", 5)):
        # S = X X^T     B = b S + c S S     X = a X + B X
        S = _bfloat16(X @ X.T)
        X = _bfloat16(a * X + _bfloat16(b * S + c * (S @ S)) @ X)
    return X.T if tall else X


def first_step_of_muon(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """The first update from 0 at the defaults: -lr sqrt(max(1, rows / columns)) times the orthogonalized gradient,
    which has the direction of the first momentum."""
    assert isinstance(record, Optimize)
    for name, p in record.params.items():
        args = record.spec.args
        G, momentum = record.gradients(0)[name], args.get("momentum", 0.95)
        # B = (1 - mu) G     G = (1 - mu) G + mu B
        B = (1 - momentum) * G
        X = _orthogonalized(G + momentum * (B - G), args).astype(np.float64)
        rate = args.get("lr", 1e-3) * math.sqrt(max(1, p.shape[0] / p.shape[1]))
        yield f"update.{name}", Computed(-rate * X[None], 4 * 2.0**-53 * abs(rate * X[None]))


def overwritten_momentum(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """Muon in bfloat16 without Nesterov: after each step the buffer is what the iterations began with, of norm 1."""
    assert isinstance(record, Optimize)
    groups: Any = record.groups or [(tuple(record.params), {})]
    for names, own in groups:
        args = {**record.spec.args, **own}
        for name in names:
            momentum, series = args.get("momentum", 0.95), []
            B = np.zeros(record.params[name].shape, np.float32)
            for k in range(record.steps):
                if (G := record.gradients(k).get(name)) is not None:
                    B = _bfloat16(_lerp(B, G, 1 - momentum))
                    if not args.get("nesterov", True):
                        B = _normalized(B, args.get("eps", 1e-7))
                series.append(B)
            yield f"state.{name}.momentum_buffer", Computed(np.stack(series))


def _lerp(B: Array, G: Array, weight: float) -> Array:
    """torch.lerp, which begins at the nearer end."""
    w = np.float32(weight)
    return B + w * (G - B) if weight < 0.5 else G - (G - B) * (1 - w)


def left_as_it_is(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """A parameter that never moves, and a buffer that decays from the first gradient, negated for a maximum."""
    assert isinstance(record, Optimize)
    momentum = record.spec.args["momentum"]
    for name in record.params:
        series = [-record.gradients(0)[name]]
        for _step in range(1, record.steps):
            # b[.] = mu b[.]
            series.append(series[-1] * momentum)
        yield f"update.{name}", Computed(np.zeros((record.steps, *series[0].shape)))
        yield f"state.{name}.momentum_buffer", Computed(np.stack(series))


def _correction_in_float32(opt: Any, right: Any, beta: float, t: Any, P: Any) -> Any:
    return _as_in_float32(right(beta, t, P), beta, t)


def _as_in_float32(correction: Any, beta: float, t: Any) -> Any:
    """1 - beta^t from a counter in float32; beta is rounded once, so t factors of it are, and a power is off by 2 units
    in the last place. Four roundings follow: of the difference, of its root or of the rate's quotient by it, of their
    product, and of eps by that."""
    if isinstance(correction, Runs):
        return Runs(_as_in_float32(correction.a, beta, getattr(t, "a", t)))
    if not isinstance(correction, Budget):
        return correction
    own = FORMATS["float32"]
    power = abs(1 - correction.x) + correction.e
    e = own.growth(int(np.max(t, initial=1)) + 4) * power + own.growth(4) * (abs(correction.x) + correction.e)
    return Budget.exact(correction.x, correction.profile, correction.e + e)


CORRECTING = ("Adam", "AdamW", "NAdam", "Adamax")
corrected_in_float32 = variant({kind: replaced("correction", _correction_in_float32) for kind in CORRECTING})
"""Adam's kin, whose bias correction is computed in float32 for parameters in float64."""


def averages_in_float32(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """The running means m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2 with b1 and b2 as float32 has them: 1 - 0.999
    is 0.000999987 then."""
    assert isinstance(record, Optimize)

    def narrow(args: Mapping[str, Any]) -> dict[str, Any]:
        betas = args.get("betas", (0.9, 0.999))
        return {**args, "betas": tuple(float(np.float32(beta)) for beta in betas)}

    groups = record.groups and tuple((names, narrow({**record.spec.args, **own})) for names, own in record.groups)
    changed = replace(record, spec=replace(record.spec, args=narrow(record.spec.args)), groups=groups)
    yield from around_itself(changed, {})
