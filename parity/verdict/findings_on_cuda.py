"""What torch computes on a CUDA device where it shows a known finding there; see `findings_computed`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from parity.budget.formats import FORMATS
from parity.records.record import VJP
from parity.verdict.evaluation import Request
from parity.verdict.findings_computed import Computed, Enclosures, Record
from parity.verdict.tensor import Array

SIXTH = np.float64(np.float32(1) / np.float32(6))
"""1/6 in float32."""


def hardsigmoid(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """Y[.] = min(max(X[.] + 3, 0), 6) s and dX[.] = dY[.] s for -3 < X[.] < 3, else 0; s is 1/6 in float32."""
    assert isinstance(record, VJP)
    (X,), (dY,) = record.inputs, record.grad_outputs
    yield "output", Computed(np.minimum(np.maximum(X + 3, 0), 6) * SIXTH)
    yield "grad_input", Computed(np.where((X > -3) & (X < 3), dY * SIXTH, 0.0))


def hardswish(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """Y[.] = X[.] min(max(X[.] + 3, 0), 6) s; s is 1/6 in float32."""
    assert isinstance(record, VJP)
    (X,) = record.inputs
    yield "output", Computed(X * np.minimum(np.maximum(X + 3, 0), 6) * SIXTH)


def norm_without_absolute_values(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """What Embedding and EmbeddingBag look up where `max_norm` goes by N[v] = (sum_d W[v,d]^p)^(1/p), without absolute
    values: NaN, which is above nothing, for a negative sum, and 1 for p = infinity and an element above 1."""
    assert isinstance(record, VJP)
    args, format = dict(record.spec.args), FORMATS[record.dtype]
    most, p = args.pop("max_norm"), args.pop("norm_type")
    W = record.arrays["weight"].astype(np.float64)
    with np.errstate(invalid="ignore"):
        N = np.power(np.power(W, p).sum(1, keepdims=True), 1 / p)
    used = np.isin(np.arange(len(W)), record.inputs[0])[:, None]
    made = np.where(used & (most < N), W * (most / (N + 1e-7)), W).astype(record.arrays["weight"].dtype)
    plain = replace(record, spec=replace(record.spec, args=args), arrays={**record.arrays, "weight": made})
    output = Request.plain(plain).around_itself({})["output"]
    # The rows are written back in their format, after the roundings of a norm in float32 or more.
    yield "output", Computed(output.x, output.e + (2 if format.u > 2**-20 else 8) * format.u * abs(made).max())


def rows_by_thirty_two(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """Embedding's weight gradient: of 32 look-ups at a time those of the same row are added up in float32, and that is
    added to the row's gradient in the storage format."""
    assert isinstance(record, VJP)
    (dY,), W, nearest = record.grad_outputs, record.arrays["weight"], FORMATS[record.dtype].nearest
    index, rows, made = record.inputs[0].ravel(), dY.reshape(-1, W.shape[1]).astype(np.float32), np.zeros(W.shape)
    for start in range(0, len(index), 32):
        some = index[start : start + 32]
        for k in np.unique(some):
            total = np.zeros(W.shape[1], np.float32)
            for place in np.flatnonzero(some == k):
                total = total + rows[start + place]
            made[k] = nearest(made[k] + nearest(total.astype(np.float64)))
    yield "grad.weight", Computed(made)


def bias_by_shuffles(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """BatchNorm's bias gradient, the sum of dY[n,c,s] over n and s: threads add up in float32, and what one hands to
    another is rounded to the format of the input first."""
    assert isinstance(record, VJP)
    nearest, dY = FORMATS[record.dtype].nearest, record.grad_outputs[0].astype(np.float32)
    dY = dY.reshape(*dY.shape[:2], math.prod(dY.shape[2:]))
    width = next(w for w in (32, 64, 128, 256, 512) if w >= min(dY.shape[2], 512))
    sums = np.zeros((dY.shape[1], 512 // width, width), np.float32)
    for n, sample in enumerate(dY):
        for first in range(0, dY.shape[2], width):
            some = sample[:, first : first + width]
            sums[:, n % sums.shape[1], : some.shape[1]] += some

    def shuffled(lanes: Array) -> Array:
        """The sum of 32 lanes: lane i adds what lane i + 16 hands to it, then i + 8, and so on."""
        for k in (16, 8, 4, 2, 1):
            lanes = lanes[..., :k] + nearest(lanes[..., k : 2 * k].astype(np.float64)).astype(np.float32)
        return lanes[..., 0]

    warps = np.zeros((dY.shape[1], 32), np.float32)
    warps[:, :16] = shuffled(sums.reshape(-1, 16, 32))
    yield "grad.bias", Computed(nearest(shuffled(warps).astype(np.float64)))


def margins_in_the_format(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """MultiMarginLoss of each sample, sum_(i != t) max(0, margin - x_t + x_i) / C, whose margins are rounded to the
    format after each step."""
    assert isinstance(record, VJP)
    nearest, args = FORMATS[record.dtype].nearest, record.spec.args
    if args.get("reduction") == "none" and args.get("p", 1) == 1 and "weight" not in record.arrays:
        X, t = record.inputs[0].astype(np.float64), record.inputs[1][:, None]
        M = nearest(nearest(args.get("margin", 1.0) - np.take_along_axis(X, t, 1)) + X)
        np.put_along_axis(M, t, 0.0, 1)
        yield "output", Computed(nearest(np.maximum(M, 0).sum(1) / X.shape[1]))
