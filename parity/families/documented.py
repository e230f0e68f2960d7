"""What torch's documentation says the answer to a record is, in mpmath, from the families' transcriptions.

The truth proves that its figures are the derivatives of refnet's formulas. That those are the formulas which torch
documents cannot be proved. A second transcription of the pages, which agrees, is evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpmath import mp, mpf

from parity.families.listing import transcriptions
from parity.families.mpmath_arrays import Array, Index, Module, array_of
from parity.records import definition
from parity.records.record import VJP, Optimize, Spec, Unsupported

DIGITS = 500
"""1 - sigmoid(1000), as documented, loses the first 434 of them; more than 32 are wanted of the rest."""

LAYERS = transcriptions("LAYERS")
OPTIMIZERS = transcriptions("OPTIMIZERS")


def transcribed(record: VJP | Optimize, digits: int = DIGITS) -> dict[str, Array]:
    """What the documentation says the answer is, but for gradients; names as in `parity.records.record`.

    Raises:
        Unsupported: a class in the record has no transcription.
    """
    with mp.workdps(digits):
        if isinstance(record, Optimize):
            answer: dict[str, Array] = _known(OPTIMIZERS, record.spec)(record)
            return answer
        module = Module({name: _lifted(a) for name, a in record.arrays.items()}, record.training)
        outputs = _forward(record.spec, module, *(_lifted(x) for x in record.inputs))
        names = ["output"] if len(outputs) == 1 else [f"output.{k}" for k in range(len(outputs))]
        buffers = {f"buffer.{n}": module.arrays[n] for n in definition.build(record.spec, record.arrays).buffers}
        return {**dict(zip(names, outputs, strict=True)), **buffers}


def differences(record: VJP, each: int = 3, digits: int = 100, step: str = "1e-30") -> dict[tuple[str, Index], Any]:
    """Central differences of the documented forward, by elements of inputs and parameters: `each` of every tensor.

    They stand under the names and indices of the gradients that they approximate, to about 50 digits. nan stands where
    the differences to the left and to the right have no common limit: at a kink.

    Raises:
        Unsupported: a class in the record has no transcription.
    """
    with mp.workdps(digits):
        arrays, inputs = {n: _lifted(a) for n, a in record.arrays.items()}, [_lifted(x) for x in record.inputs]
        upstream = [_lifted(g) for g in record.grad_outputs]

        def objective() -> Any:
            outputs = _forward(record.spec, Module(dict(arrays), record.training), *inputs)
            return mp.fsum(mp.fdot(y.flat, g.flat) for y, g in zip(outputs, upstream, strict=True))

        names = ["grad_input"] if len(inputs) == 1 else [f"grad_input.{k}" for k in range(len(inputs))]
        wanted = {
            name: x for name, x, given in zip(names, inputs, record.inputs, strict=True) if given.dtype.kind == "f"
        }
        wanted |= {f"grad.{n}": arrays[n] for n in definition.build(record.spec, record.arrays).params}
        here = objective()
        return {
            (name, i): _slope(objective, here, x, i, mpf(step))
            for name, x in wanted.items()
            for i in _spread(x.shape, each)
        }


def _spread(shape: Index, count: int) -> list[Index]:
    """`count` indices into an array of this shape, at even distances in C order."""
    size = math.prod(shape)
    chosen = {k * (size - 1) // max(count - 1, 1) for k in range(count)} if size else set()
    return [tuple(int(n) for n in np.unravel_index(k, shape)) for k in sorted(chosen)]


def _slope(objective: Callable[[], Any], here: Any, x: Array, i: Index, h: Any) -> Any:
    with _moved(x, i, h):
        right = (objective() - here) / h
    with _moved(x, i, -h):
        left = (here - objective()) / h
    return (left + right) / 2 if abs(left - right) <= mpf("1e-15") * (1 + abs(left) + abs(right)) else mp.nan


@contextmanager
def _moved(x: Array, i: Index, h: Any) -> Iterator[None]:
    before = x[i]
    x[i] = before + h
    yield
    x[i] = before


def _known(transcriptions: Mapping[str, Callable[..., Any]], spec: Spec) -> Callable[..., Any]:
    if spec.type not in transcriptions:
        raise Unsupported(f"transcription: expected one of {', '.join(transcriptions)}, got {spec.type}")
    return transcriptions[spec.type]


def _lifted(given: Any) -> Array:
    values: Array = np.asarray(given)
    if values.dtype.kind != "f":
        return values
    return array_of(values.shape, lambda *i: mpf(float(values[i])))


def _forward(spec: Spec, module: Module, *inputs: Array) -> tuple[Array, ...]:
    if spec.type == "Sequential":
        return (_sequential(spec, module, *inputs),)
    if spec.type == "Objective":
        return _objective_of(spec, module, *inputs)
    outputs = _known(LAYERS, spec)(module, *inputs, **spec.args)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _sequential(spec: Spec, module: Module, x: Array) -> Array:
    """torch.nn.Sequential: each output is the next one's input. A layer has the name of its first place."""
    for k in spec.places:
        (x,) = _forward_inside(spec.layers[k], module, f"{spec.places.index(k)}.", x)
    return x


def _objective_of(spec: Spec, module: Module, x: Array, t: Array) -> tuple[Array, ...]:
    """The tutorial "Optimizing Model Parameters": pred = model(x), loss = loss_fn(pred, t)."""
    network, loss = spec.layers
    (y,) = _forward_inside(network, module, "network.", x)
    return _forward_inside(loss, module, "loss.", y, t)


def _forward_inside(spec: Spec, module: Module, prefix: str, *inputs: Array) -> tuple[Array, ...]:
    """The forward of a module whose arrays are among those of `module`, under names that begin with `prefix`."""
    own = Module({n.removeprefix(prefix): a for n, a in module.arrays.items() if n.startswith(prefix)}, module.training)
    outputs = _forward(spec, own, *inputs)
    module.arrays.update({prefix + n: a for n, a in own.arrays.items()})
    return outputs
