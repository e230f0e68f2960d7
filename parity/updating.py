"""The public door for anyone's optimizer: its steps and its state held against the truth.

report = parity.check_update(torch.optim.SGD, "SGD", [weight, bias], lr=0.1, momentum=0.9)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import refnet
from parity.budget.formats import Profile
from parity.engines import function_call
from parity.records.record import Answer, Optimize, Spec, UsageError
from parity.report.report import Report
from parity.verdict.any_record import Found, judge_any
from parity.verdict.tensor import failed
from refnet.optim.optimizer import State, number

Array = np.ndarray[Any, Any]

STEPS = 5


def check_update(
    optimizer: Callable[..., Any],
    reference: str,
    params: Sequence[Any] | Mapping[str, Any],
    *,
    grads: Sequence[Sequence[Any]] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    **options: Any,
) -> Report:
    """Judge an optimizer's updates (after minus before each step) and its state.

    Args:
        optimizer: a class of torch optimizers, or what makes one: it is called with the parameters and the options.
        reference: the class of torch.optim that it should be, which refnet covers.
        params: tensors, of which copies are stepped; their names are their keys, or their places.
        grads: the gradients of each step, in the order of the parameters; random where none are given.
        options: arguments of both, such as lr.

    Raises:
        UsageError: the reference is unknown, or does not take these arguments.
    """
    named = dict(params) if isinstance(params, Mapping) else {str(k): p for k, p in enumerate(params)}
    form = function_call.format_of_all(list(named.values()))
    if not hasattr(refnet.optim, reference) or not reference[:1].isupper():
        known = ", ".join(name for name in refnet.optim.__all__ if name[:1].isupper())
        raise UsageError(f"check_update: expected a class of torch.optim among {known}, got {reference!r}")
    profile, draws = Profile.of(form), np.random.default_rng(seed)
    values = {name: function_call.to_numpy(p) for name, p in named.items()}
    if grads is None:
        given = {n: function_call.rounded(draws.standard_normal((steps, *v.shape)), profile) for n, v in values.items()}
    else:
        given = {n: np.stack([function_call.to_numpy(g[k]) for g in grads]) for k, n in enumerate(named)}
    record = Optimize(Spec(reference, options), values, given)
    try:
        getattr(refnet.optim, reference)({name: v.copy() for name, v in values.items()}, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"check_update: expected arguments that {reference} takes, got: {error}") from None
    title = f"{getattr(optimizer, '__qualname__', type(optimizer).__name__)} against {reference}"
    try:
        answer = _steps(optimizer, named, given, options, Spec(reference).schema)
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        return Report(title, str(profile), [failed("step", f"raised {type(error).__name__}: {line}")])
    found: Found = judge_any(record, answer, profile)
    return Report(title, str(profile), found.verdicts, found.diagnosis, found.notes)


def _steps(
    make: Callable[..., Any],
    named: Mapping[str, Any],
    grads: Mapping[str, Array],
    options: Mapping[str, Any],
    known: Mapping[str, State],
) -> Answer:
    """What a torch optimizer makes of the gradients, as an answer has it."""
    own = {name: p.detach().clone().requires_grad_() for name, p in named.items()}
    optimizer = make(list(own.values()), **options)
    series: dict[str, list[Array | None]] = {}
    for k in range(len(next(iter(grads.values())))):
        before = {name: function_call.to_numpy(p).astype(np.float64) for name, p in own.items()}
        for name, p in own.items():
            p.grad = function_call.like(grads[name][k], p)
        optimizer.step()
        for name, p in own.items():
            after = function_call.to_numpy(p).astype(np.float64)
            series.setdefault(f"update.{name}", []).append(after - before[name])
            for key, value in optimizer.state.get(p, {}).items():
                if key in known and value is not None:
                    series.setdefault(f"state.{name}.{key}", [None] * k).append(_kept(known[key], value, p))
    return {
        name: np.stack([np.full_like(rows[-1], np.nan) if row is None else row for row in rows])
        for name, rows in series.items()
    }


def _kept(state: State, value: Any, p: Any) -> Array:
    """A part of the state as an array; a single number, which may be Python's, in the dtype that it should have."""
    if not hasattr(value, "shape"):
        return np.asarray(value, np.float32 if state.counter else function_call.to_numpy(p).dtype)
    made = function_call.to_numpy(value)
    return made.astype(function_call.to_numpy(p).dtype) if state.shape is number and not state.counter else made
