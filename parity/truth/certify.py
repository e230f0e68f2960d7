"""Certified answers to records.

A VJP is answered by refnet's forward on balls and the tape over scalars; refnet's hand-written backward runs on the
same balls and has to overlap the tape in every element. An optimizer's or a training's answer is refnet's own lines on
balls, forward and backward: the training step that the tape has vouched for, repeated.

Records of real size are answered likewise by tensors of balls and the tape over whole arrays. Of a large tensor some
elements are certified, drawn from a seed, and what they are not made of is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from parity.families.listing import DERIVATIVES
from parity.records import definition
from parity.records.record import VJP, Optimize, Record, Split, Train
from parity.truth import ball, tape, waiting
from parity.truth.deferred import Deferred, elements
from parity.truth.taped import Taped
from parity.truth.tensor_balls import certify_tensor
from parity.truth.value import Sample, Truth
from refnet.arithmetic.array_like import Undecided

NODES = 20_000
"""The most tape nodes of a case: about half a second."""

BLOCK = 2**18
"""Elements that are rounded at a time."""

RADIUS = 2.0**-150
"""The largest radius that the hand-written backward's balls may have, relative to the tensor's largest element."""


class Disagreement(AssertionError):
    """Two ways to one figure contradict each other, the hand-written backward and the tape, or a whole and its parts:
    one of the two is wrong, and no truth is given."""


@dataclass
class _Pending:
    """A tensor whose elements are being certified at rising precision."""

    hi: np.ndarray[Any, Any]
    lo: np.ndarray[Any, Any]
    open: np.ndarray[Any, Any]


def certified(record: Record | Split, updates: Iterable[int] = ()) -> dict[str, Truth]:
    """The true answer to `record`: precision rises until each element is settled; what is open at the end is
    `undecided`.

    For a `Train` record, with a leading axis over `updates` (numbers from 1, the first update being 1): `param.NAME`,
    `state.NAME.KEY` and `buffer.NAME` after, `update.NAME` by, and `loss` of the batch of each of these updates.

    For a `Split`: `whole.NAME`, `parts.K.NAME`, and `combined.grad.NAME`, what the parts make up. As the split has it,
    its balls overlap those of the whole's gradient in every element and have a radius below RADIUS, or some lie apart.

    Raises:
        Undecided: a comparison stays undecided at the highest precision; or no element tells what a split's parts make
            up from the whole.
        Disagreement: see there.
        ValueError: the case has more than NODES tape nodes.
    """
    match record:
        case VJP():
            return settle(lambda: _vjp(record))
        case Optimize():
            return settle(lambda: _optimize(record))
        case Train():
            return settle(lambda: _train(record, sorted(updates)))
        case Split():
            return settle(lambda: _split(record))


def settle(answer: Callable[[], Mapping[str, Any]]) -> dict[str, Truth]:
    """The balls of `answer`, asked again with more bits until each element is settled; what is open at the end is
    `undecided`.

    Raises:
        Undecided: a comparison stays undecided at the highest precision.
    """
    pending: dict[str, _Pending] = {}
    for bits in ball.PRECISIONS:
        with ball.precision(bits):
            try:
                balls = answer()
            except Undecided:
                if bits == ball.PRECISIONS[-1]:
                    raise
                continue
            for name, tensor in balls.items():
                if name not in pending:
                    shape = tensor.shape
                    pending[name] = _Pending(np.zeros(shape), np.zeros(shape), np.ones(shape, bool))
                _certify(tensor, pending[name])
            if bits == ball.PRECISIONS[-1]:
                for name, tensor in balls.items():
                    _undefined(tensor, pending[name])
        if not any(p.open.any() for p in pending.values()):
            break
    return {name: Truth(p.hi, p.lo, p.open) for name, p in pending.items()}


def _certify(tensor: Any, into: _Pending) -> None:
    balls = np.asarray(tensor, object).reshape(-1)
    hi, lo, open_ = (a.reshape(-1) for a in (into.hi, into.lo, into.open))
    left = np.flatnonzero(open_)
    # Some at a time, so that it can be interrupted.
    for start in range(0, len(left), BLOCK):
        some = left[start : start + BLOCK]
        hi[some], lo[some], open_[some] = certify_tensor(balls[some])


def _undefined(tensor: Any, into: _Pending) -> None:
    """What is still no number at the highest precision is none: 0 / 0."""
    for index, x in np.ndenumerate(tensor):
        if into.open[index] and x.is_nan():
            into.hi[index], into.open[index] = np.nan, False


def _vjp(record: VJP) -> dict[str, Any]:
    arrays = {name: ball.lift(a.copy()) for name, a in record.arrays.items()}
    inputs = [ball.lift(x) for x in record.inputs]
    module = definition.build(record.spec, arrays, DERIVATIVES, record.dtype).train(record.training)
    params = dict(module.params)
    output, saved = definition.forward(module, record, inputs)
    outputs = output if isinstance(output, tuple) else (output,)

    seeds = [ball.lift(g) for g in record.grad_outputs]
    flat = [node for y in outputs for node in np.asarray(y, dtype=object).flat]
    nodes = tape.differentiate(flat, [s.value for seed in seeds for s in seed.flat])
    if nodes > NODES:
        raise ValueError(f"certified: expected a case of at most {NODES} tape nodes, got {nodes}")
    found = {
        **{name: ball.values(y) for name, y in definition._numbered("output", output).items()},
        **_gradients_of_inputs(record, inputs),
        **{f"grad.{name}": ball.gradients(p) for name, p in params.items()},
        **{f"buffer.{name}": ball.values(b) for name, b in module.buffers.items()},
    }
    with tape.untaped():
        grad_input, grad_params = module.backward(tuple(seeds) if len(seeds) > 1 else seeds[0], saved)
    by_hand = definition.named(output, grad_input, grad_params, module.buffers)
    for name in found:
        if name.startswith("grad"):
            _agree(record, name, found[name], ball.values(by_hand[name]))
    return found


def _gradients_of_inputs(record: VJP, inputs: list[Any]) -> dict[str, Any]:
    grads = [
        ball.gradients(x) if given.dtype.kind == "f" else None for x, given in zip(inputs, record.inputs, strict=True)
    ]
    if len(grads) == 1:
        return {} if grads[0] is None else {"grad_input": grads[0]}
    return definition._numbered("grad_input", tuple(grads))


def _agree(
    record: VJP | Optimize,
    name: str,
    first: Any,
    second: Any,
    ways: tuple[str, str] = ("the tape", "the hand-written backward"),
) -> None:
    """Two ways to a tensor have the same values, as far as the second one's balls can say, which are narrow."""
    one, other = ways
    if first.shape != second.shape:
        raise Disagreement(f"{record.spec}: {name}: {one} has shape {first.shape}, {other} {second.shape}")
    largest = max((abs(float(x.mid())) for x in first.flat if not x.is_nan()), default=0.0) or 1.0
    for index, x in np.ndenumerate(first):
        y = second[index]
        if not x.overlaps(y):
            raise Disagreement(f"{record.spec}: {name}{list(index)}: {one} has {x}, {other} {y}")
        # What is no number by the first way has nothing to be narrow about.
        if not x.is_nan() and not float(y.rad()) <= RADIUS * largest:
            raise Undecided(f"{record.spec}: {name}{list(index)}: {other} has {y}: too wide")


def _apart(first: Any, second: Any) -> bool:
    """Whether two tensors certainly differ in some element."""
    return not all(x.overlaps(y) for x, y in zip(first.flat, second.flat, strict=True))


def _split(record: Split) -> dict[str, Any]:
    whole, parts = _vjp(record.whole), [_vjp(part) for part in record.parts]
    combined = definition.combination(parts, record.weights, record.divisor)
    if record.equal:
        for name, made in combined.items():
            _agree(record.whole, name, whole[name], made, ("the whole", "what its parts make up"))
    elif not any(_apart(whole[name], made) for name, made in combined.items()):
        raise Undecided(f"{record.whole.spec}: no element tells what the parts make up from the gradient of the whole")
    return {
        **{f"whole.{name}": balls for name, balls in whole.items()},
        **{f"parts.{k}.{name}": balls for k, part in enumerate(parts) for name, balls in part.items()},
        **{f"combined.{name}": balls for name, balls in combined.items()},
    }


def _optimize(record: Optimize) -> dict[str, Any]:
    with tape.untaped():
        tensors = definition.optimize(record, ball.lift)
    found = {}
    for name, series in tensors.items():
        if name.startswith("param."):
            series = [after - before for before, after in pairwise(series)]
            name = name.replace("param.", "update.")
        found[name] = np.stack([ball.values(s) for s in series])
    return found


def _train(record: Train, updates: list[int]) -> dict[str, Any]:
    kept: dict[str, list[Any]] = {}
    before: dict[str, Any] = {}
    with tape.untaped():
        for k, loss, params, state, buffers in definition.train(record, ball.lift):
            if k in updates:
                for name, p in params.items():
                    kept.setdefault(f"param.{name}", []).append(ball.values(p))
                    kept.setdefault(f"update.{name}", []).append(ball.values(p - before[name]))
                for name, s in state.items():
                    kept.setdefault(f"state.{name}", []).append(ball.values(s))
                for name, b in buffers.items():
                    kept.setdefault(f"buffer.{name}", []).append(ball.values(b))
                kept.setdefault("loss", []).append(ball.values(loss))
            if k >= updates[-1]:
                break
            if k + 1 in updates:
                before = {name: p.copy() for name, p in params.items()}
    return {name: np.stack(series) for name, series in kept.items()}


# ---- records of real size, through tensors of balls

Count = Callable[[Mapping[str, tuple[int, ...]]], int]
"""From the tensors' shapes, how many elements of each are certified at most."""


def certified_elements(
    record: VJP | Optimize, count: int | Count, seed: object
) -> tuple[dict[str, Truth], dict[str, Sample]]:
    """The true answer to a record, and which elements of its tensors these are, where they are not all.

    Raises:
        Undecided: a comparison stays undecided at the highest precision.
        Disagreement: the tape and the hand-written backward contradict each other.
    """
    samples: dict[str, Sample] = {}

    def answer() -> dict[str, Any]:
        found, by_hand = _vjp_by_tensors(record) if isinstance(record, VJP) else (_steps_by_tensors(record), {})
        shapes = {name: tuple(a.shape) for name, a in found.items()}
        most = count if isinstance(count, int) else count(shapes)
        for name, shape in shapes.items():
            if (sample := Sample.drawn(shape, most, seed, name)) is not None:
                samples[name] = sample
        places = {name: sample.places for name, sample in samples.items()}
        asked = [(a, places.get(name)) for name, a in (*found.items(), *by_hand.items())]
        balls = elements(asked)
        first = dict(zip(found, balls[: len(found)], strict=True))
        for name, other in zip(by_hand, balls[len(found) :], strict=True):
            _agree(record, name, first[name], other)
        return first

    with waiting.told("certifying in balls"):
        return settle(answer), samples


def _bare(array: Any) -> Any:
    """An array off the tape, in balls."""
    value = array.value if isinstance(array, Taped) else array
    return value if isinstance(value, Deferred) else Deferred.lift(np.asarray(value, np.float64))


def _vjp_by_tensors(record: VJP) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer by the tape, and the gradients of the hand-written backward."""

    def lifted(array: Any) -> Any:
        return Taped(Deferred.lift(array)) if array.dtype.kind == "f" else array

    module = definition.build(
        record.spec, {name: lifted(a.copy()) for name, a in record.arrays.items()}, DERIVATIVES, record.arrays_dtype
    )
    module.train(record.training)
    params, inputs = dict(module.params), [lifted(x) for x in record.inputs]
    output, saved = definition.forward(module, record, inputs)
    outputs = output if isinstance(output, tuple) else (output,)
    seeds = [Deferred.lift(g) for g in record.grad_outputs]
    by_hand = definition.named(output, *module.backward(tuple(seeds) if len(seeds) > 1 else seeds[0], saved), {})
    tape.differentiate(outputs, seeds, total=tape.together)
    grads = tuple(_gradient(x) if isinstance(x, Taped) else None for x in inputs)
    found = definition.named(
        output, grads if len(grads) > 1 else grads[0], {n: _gradient(p) for n, p in params.items()}, module.buffers
    )
    gradients = {name: _bare(by_hand[name]) for name in by_hand if name.startswith("grad")}
    due = {name: _bare(a) for name, a in found.items() if name in gradients or not name.startswith("grad")}
    return due, gradients


def _gradient(leaf: Taped) -> Any:
    return leaf.grad if isinstance(leaf.grad, Deferred) else Deferred.lift(np.zeros(leaf.shape))


def _steps_by_tensors(record: Optimize) -> dict[str, Any]:
    found = {}
    for name, series in definition.optimize(record, Deferred.lift).items():
        steps = [_bare(s) for s in series]
        if name.startswith("param."):
            steps = [after - before for before, after in pairwise(steps)]
            name = name.replace("param.", "update.")
        found[name] = np.concatenate([s.reshape(1, *s.shape) for s in steps])
    return found


def within(elements: int, most: int) -> Count:
    """At most `most` of each tensor, and so many that all tensors together have no more than `elements`."""

    def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
        sizes = [math.prod(shape) for shape in shapes.values()]
        return next(c for c in range(most, 0, -1) if c == 1 or sum(min(c, n) for n in sizes) <= elements)

    return count
