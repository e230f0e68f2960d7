"""Mistakes of number formats, of memory, and of whole tensors: whatever the layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from parity.budget.fewer_bits import accumulated_in, significand
from parity.families.fault import VJP, Answer, Fault

Array = np.ndarray[Any, Any]

CONTRACTIONS = ("Linear", "Conv2d", "LSTMCell")


def _products_of(bits: int) -> dict[str, Callable[..., Any]]:
    # A[n,k] and B[k,m] rounded, then sum_k A[n,k] B[k,m]
    return {"matmul": lambda a, b: np.matmul(significand(a, bits), significand(b, bits))}


def _gradients(change: Callable[[Array], Array]) -> Callable[[Answer], Answer]:
    """The same change of every gradient."""

    def reply(answer: Answer) -> Answer:
        return {name: change(t) if name.startswith("grad") and t.size else t for name, t in answer.items()}

    return reply


def _first_element_off(grad: Array) -> Array:
    changed = grad.copy()
    # dP[0] + 1e-9 max |dP|
    changed.flat[0] += grad.dtype.type(1e-9) * abs(grad).max()
    return changed


def _largest_element_off(grad: Array) -> Array:
    changed = grad.copy()
    changed.flat[abs(grad).argmax()] *= grad.dtype.type(1.01)
    return changed


def _last_row_unwritten(grad: Array) -> Array:
    changed = grad.copy()
    changed[(-1,) if grad.ndim else ()] = 0
    return changed


def _rows_shifted(grad: Array) -> Array:
    return np.roll(grad, 1, axis=0) if grad.ndim else grad


def _as_stored(array: Array) -> Array:
    """The array as one reads it who walks through memory from its lowest address and knows nothing of strides."""
    if array.flags.c_contiguous or not array.size:
        return array
    shape, array = array.shape, array[tuple(slice(None, None, -1 if s < 0 else 1) for s in array.strides)]
    steps = [s // array.itemsize for s in array.strides]
    reach = 1 + sum((n - 1) * s for n, s in zip(array.shape, steps, strict=True))
    return np.resize(np.lib.stride_tricks.as_strided(array, (reach,), (array.itemsize,)), shape)


def _gradient_as_stored(record: VJP) -> VJP:
    stored = tuple(_as_stored(g) for g in record.grad_outputs)
    return record if _same(stored, record.grad_outputs) else replace(record, grad_outputs=stored)


def _input_as_stored(record: VJP) -> VJP:
    stored = tuple(_as_stored(x) if x.dtype.kind == "f" else x for x in record.inputs)
    return record if _same(stored, record.inputs) else replace(record, inputs=stored)


def _same(stored: tuple[Array, ...], given: tuple[Array, ...]) -> bool:
    return all(a is b for a, b in zip(stored, given, strict=True))


FAULTS = (
    Fault(
        "products of 11 bits",
        "factors of a matrix product rounded to 11 significant bits (TF32, float16)",
        "factors of more than 11 bits",
        "kind of bug: inputs rounded to 11 bits",
        rules=_products_of(11),
        types=CONTRACTIONS,
    ),
    Fault(
        "products of 8 bits",
        "factors of a matrix product rounded to 8 significant bits (bfloat16)",
        "factors of more than 8 bits",
        "kind of bug: inputs rounded to 8 bits",
        rules=_products_of(8),
        types=CONTRACTIONS,
    ),
    Fault(
        "sums in float32",
        "matrix products and sums carried out in float32, of float64",
        "float64, and terms of more than 24 bits",
        "kind of bug: a narrower accumulator",
        rules={
            "matmul": accumulated_in("float32", np.matmul),
            "sum": accumulated_in("float32", np.sum),
        },
        types=(
            *CONTRACTIONS,
            "BatchNorm1d",
            "Softmax",
            "LogSoftmax",
            "CrossEntropyLoss",
            "MSELoss",
            "L1Loss",
            "BCELoss",
        ),
        dtypes=("float64",),
    ),
    Fault(
        "computed in float32",
        "everything in float32, and the answer converted to float64",
        "float64",
        "kind of bug: computed in float32 and returned as float64",
        computes="float32",
        dtypes=("float64",),
    ),
    Fault(
        "gradients of zero",
        "dP = 0",
        "any; an absolute tolerance hides it where gradients are small",
        "ml-explore/mlx#610; kind of bug: zero gradient",
        reply=_gradients(np.zeros_like),
    ),
    Fault(
        "gradients negated",
        "-dP against dP",
        "any; a comparison of norms or means hides it",
        "kind of bug: sign",
        reply=_gradients(np.negative),
    ),
    Fault(
        "gradients doubled",
        "2 dP against dP, as of two workers",
        "any; a correlation hides it",
        "neuralmagic/sparseml#135",
        reply=_gradients(lambda grad: grad * 2),
    ),
    Fault(
        "gradients off by 0.09 per cent",
        "1.0009 dP against dP",
        "a tolerance below 1e-3",
        "what torch.autograd.gradcheck passes by default",
        reply=_gradients(lambda grad: grad * grad.dtype.type(1.0009)),
    ),
    Fault(
        "one element off by 1 per cent",
        "1.01 dP[k] against dP[k], k the largest element",
        "elementwise comparison",
        "what torch.autograd.gradcheck passes with fast_mode=True",
        reply=_gradients(_largest_element_off),
    ),
    Fault(
        "one element off by a billionth",
        "dP[0] + 1e-9 max |dP| against dP[0]",
        "elementwise comparison in float64",
        "kind of bug: one element off by 1e-9 of the tensor's largest",
        reply=_gradients(_first_element_off),
        dtypes=("float64",),
    ),
    Fault(
        "last row not written",
        "dP[N - 1] = 0",
        "any",
        "pytorch/pytorch#193061; kind of bug: an index off by one",
        reply=_gradients(_last_row_unwritten),
    ),
    Fault(
        "rows shifted by one",
        "dP[n - 1] against dP[n]",
        "more than one row",
        "kind of bug: an index off by one",
        reply=_gradients(_rows_shifted),
    ),
    Fault(
        "upstream gradient read as stored",
        "dY in the order of memory against that of its strides",
        "an upstream gradient that is not contiguous",
        "torch/nn#345, pytorch/FBGEMM#3006",
        ask=_gradient_as_stored,
    ),
    Fault(
        "input read as stored",
        "X in the order of memory against that of its strides",
        "an input that is not contiguous",
        "kind of bug: strides ignored, forward and backward",
        ask=_input_as_stored,
    ),
)
