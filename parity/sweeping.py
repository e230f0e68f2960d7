"""What real kernels break on, layouts, upstream gradients, subsets of gradients, batches, repetition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from parity.engines import function_call
from parity.report.report import Report
from parity.verdict.evaluation import Array
from parity.verdict.tensor import TensorVerdict, failed

Asked = Any
"""A `parity.checking.Asked`: what is to be judged."""

MOST_SUBSETS = 4
"""Up to this number of inputs every subset is tried; of more, each input alone."""

INPUT_LAYOUTS = ("transposed", "sliced", "expanded", "negative stride")
SEED_LAYOUTS = ("transposed", "sliced", "expanded", "one-hot", "zero")


def swept(asked: Asked, grad_output: Any) -> Report:
    """The report on the inputs as they are, with every verdict that fails elsewhere under the name of what was tried.

    A result that differs from call to call is a failure of its own, apart from accuracy.
    """
    first = asked.report(grad_output)
    verdicts, notes, diagnosis = list(first.verdicts), list(first.notes), list(first.diagnosis)
    for name, report in (*_variants(asked, grad_output), ("called again", _repeated(asked))):
        if report is None:
            continue
        if report.ok:
            notes.append(f"{name}: ok")
            continue
        bad = [v for v in report.verdicts if v.verdict in ("FAIL", "undecided", "blind", "imprecise")]
        verdicts += [replace(v, name=f"{name}: {v.name}") for v in bad]
        diagnosis += [f"{name}: {d}" for d in report.diagnosis]
    return Report(f"{asked.title}, swept", str(asked.profile), verdicts, diagnosis, notes)


def _variants(asked: Asked, grad_output: Any) -> Iterator[tuple[str, Report]]:
    for k, x in enumerate(asked.inputs):
        if not function_call.is_array(x) or not function_call.is_floating(x):
            continue
        for layout in INPUT_LAYOUTS:
            other = _laid_out(x, layout)
            if other is not None:
                inputs = (*asked.inputs[:k], other, *asked.inputs[k + 1 :])
                yield f"input {k} {layout}", replace(asked, inputs=inputs).report(grad_output)
    for layout in SEED_LAYOUTS:
        yield f"upstream gradient {layout}", asked.report(grad_output, layout)
    for subset in _subsets(asked.wanted):
        only = ", ".join(map(str, subset))
        yield f"gradient of input {only} alone", replace(asked, wanted=subset).report(grad_output)
    for n in (0, 1):
        if (fewer := _batch(asked, n)) is not None:
            yield f"batch {n}", replace(asked, inputs=fewer).report(None)


def _subsets(wanted: Sequence[int]) -> Iterator[tuple[int, ...]]:
    sizes = range(1, len(wanted)) if len(wanted) <= MOST_SUBSETS else (1,)
    for size in sizes:
        if size < len(wanted):
            yield from combinations(wanted, size)


def _batch(asked: Asked, n: int) -> tuple[Any, ...] | None:
    """The inputs with the first n samples; None where the reference tells no batch: a loss, or one array."""
    places = asked.places()
    samples = [k for k, name in places.items() if name.startswith("grad_input")]
    rows = {asked.inputs[k].shape[0] if asked.inputs[k].ndim > 1 else 0 for k in samples}
    if len(rows) != 1 or n >= rows.copy().pop() or (n == 0 and len(samples) > 1):
        return None
    return tuple(x[:n] if k in samples else x for k, x in enumerate(asked.inputs))


def _repeated(asked: Asked) -> Report | None:
    """Whether the same call gives the same bits."""
    once, again = (asked.call(asked.inputs, asked.seeds(), asked.wanted) for _ in range(2))
    pairs: list[tuple[str, Array | None, Array | None]] = [
        *((f"output.{k}", a, b) for k, (a, b) in enumerate(zip(once.outputs, again.outputs, strict=True))),
        *((f"gradient of input {k}", once.grads[k], again.grads.get(k)) for k in once.grads),
    ]
    other = [name for name, a, b in pairs if (a is None) != (b is None) or (a is not None and a.tobytes() != _bytes(b))]
    found: tuple[TensorVerdict, ...] = (TensorVerdict("same bits", "exact"),)
    if other:
        found = (failed("same bits", f"expected the same bits from the same call, got others in {', '.join(other)}"),)
    return Report("called again", str(asked.profile), found)


def _bytes(array: Array | None) -> bytes:
    return b"" if array is None else array.tobytes()


def laid_out_seed(seed: Array, layout: str) -> Array:
    """An upstream gradient in another layout, or of other values."""
    if layout == "zero":
        return np.zeros_like(seed)
    if layout == "one-hot":
        flat = np.zeros_like(seed).reshape(-1)
        flat[flat.size // 2 : flat.size // 2 + 1] = 1
        return flat.reshape(seed.shape)
    other = _laid_out(seed, layout)
    return seed if other is None else np.asarray(other)


def _laid_out(x: Any, layout: str) -> Any:
    """The array in another memory layout, with its values but where it is expanded; None where there is none such."""
    framework = function_call.framework([x])
    if framework == "jax" or x.ndim == 0 or 0 in x.shape:
        return None
    if framework == "torch":
        x = x.detach()
    if layout == "transposed":
        return _contiguous(x.mT).mT if x.ndim > 1 else None
    if layout == "sliced":
        return _doubled(x)[..., ::2]
    if layout == "expanded":
        return x[:1].expand(x.shape) if framework == "torch" else np.broadcast_to(x[:1], x.shape)
    return _contiguous(x[::-1])[::-1] if framework == "numpy" else None


def _contiguous(x: Any) -> Any:
    return x.contiguous() if hasattr(x, "contiguous") else np.ascontiguousarray(x)


def _doubled(x: Any) -> Any:
    """Every element twice along the last axis."""
    return x.repeat_interleave(2, -1) if hasattr(x, "repeat_interleave") else np.repeat(x, 2, -1)
