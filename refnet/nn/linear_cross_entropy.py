"""Cross-entropy of a linear map's output, which is never there as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn.cross_entropy import CrossEntropyLoss
from refnet.nn.linear import Linear
from refnet.nn.module import Array, Module, Params

CHUNK = "batch_chunk_size"

LOGITS = 2**18
"""The most logits that are there at once, where no chunk size is given: those of one sample, if there are more."""


class LinearCrossEntropyLossSaved(NamedTuple):
    """Samples and targets with a batch axis, the divisor of a mean, the shape of L, and the shapes of what came."""

    X: Array
    T: Array
    n: Array
    shape: tuple[int, ...]
    given: tuple[tuple[int, ...], tuple[int, ...]]


class LinearCrossEntropyLoss(Module):
    """CrossEntropyLoss of the logits x W^T + b: a classifier's last layer and its loss in one.

    Axes: n sample, i input unit, c class, C of them, and those of `out_features`. X (n, i) or (i); `linear.weight`
    (C prod(out_features), i), `linear.bias`, and logits (n, C, *out_features). The target is as CrossEntropyLoss has it
    for them: class indices (n, *out_features), or class probabilities of the logits' shape.

    The logits of all samples are never there at once: they are computed for some samples at a time, forward and again
    backward, which costs one more product. The samples of a chunk are as many as have LOGITS logits together, or
    `options.batch_chunk_size`. torch does so only if `options` is given, for class indices, without smoothing and
    `out_features`; otherwise it computes all logits. The result is the same.

    Source: documentation of torch.nn.LinearCrossEntropyLoss.

    Args:
        in_features: size of each sample. num_classes: C.
        out_features: further axes of the logits, for a batch only.
        bias: whether there is a b.
        device, dtype: as of Linear.
        reduction: "none", "mean" or "sum".
        weight: an array, the factor of each class; held in `buffers`.
        ignore_index: the index that marks samples to leave out; None is -100, for class indices.
        label_smoothing: the share of the uniform distribution in the target.
        options: None, or torch's LinearCrossEntropyOptions, or a dict of them; of these `batch_chunk_size` counts.
        generator: source of the initial values, as of Linear.

    Raises:
        TypeError: as of Linear and CrossEntropyLoss.
        ValueError: likewise; or the input has not one or two axes, the target is probabilities and `ignore_index` is
            given, or there are `out_features` and no batch.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Array | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        name = "LinearCrossEntropyLoss"
        self.in_features = _check.size(name, "in_features", in_features)
        self.num_classes = _check.size(name, "num_classes", num_classes, 1)
        self.out_features = tuple(_check.size(name, "out_features", size) for size in out_features)
        _check.one_of(name, "reduction", reduction, ("none", "mean", "sum"))
        if ignore_index is not None:
            _check.integer(name, "ignore_index", ignore_index)
        _check.is_number(name, "label_smoothing", label_smoothing)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"{name}: expected label_smoothing from 0 to 1, got {label_smoothing!r}")
        chunk = options.get(CHUNK) if isinstance(options, Mapping) else getattr(options, CHUNK, None)
        if chunk is not None:
            _check.size(name, "options.batch_chunk_size", chunk, 1)
        if weight is not None:
            _check.floating(name, weight=weight)
            if tuple(weight.shape) != (num_classes,):
                raise ValueError(f"{name}: expected weight of shape ({num_classes},), got {tuple(weight.shape)}")
            self.buffers["weight"] = weight
        self.reduction, self.ignore_index, self.label_smoothing = reduction, ignore_index, label_smoothing
        self.options, self.batch_chunk_size = options, chunk
        outputs = num_classes * math.prod(self.out_features)
        self.linear = Linear(in_features, outputs, bias, device, dtype, generator=generator)
        self.adopt({"linear": self.linear})

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
            f"bias={'linear.bias' in self.params}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )

    def forward(self, input: Array, target: Array) -> tuple[Array, LinearCrossEntropyLossSaved]:
        X, T = self.fit(input, target)
        shape = (X.shape[0], *self.out_features)
        n = self.divisor(X, T)
        saved = LinearCrossEntropyLossSaved(
            X, T, n, shape if input.ndim > 1 else (), (tuple(input.shape), tuple(target.shape))
        )

        def losses(low: int, high: int) -> Array:
            return self.chunk(X, T, low, high)[0]

        if self.reduction == "none":
            L = [losses(low, high) for low, high in self.chunks(X.shape[0])]
            return np.concatenate(L, axis=-len(shape)).reshape(saved.shape), saved
        # Y = sum_n L[n], for a mean / n
        Y = _added(losses, self.chunks(X.shape[0]))
        return (Y / n if self.reduction == "mean" else Y), saved

    def backward(self, grad_output: Array, saved: LinearCrossEntropyLossSaved) -> tuple[Any, Params]:
        X, T, n, shape, (input_shape, target_shape) = saved
        name, alone = "LinearCrossEntropyLoss", self.reduction == "none"
        dY = _check.upstream(name, grad_output, shape if alone else (), X.dtype)
        # dL[n] = dY[n], for a sum dY, for a mean dY / n
        dL = dY.reshape(X.shape[0], *self.out_features) if alone else dY / n if self.reduction == "mean" else dY
        inputs: list[Array] = []
        targets: list[Array] = []

        def gradients(low: int, high: int) -> _Sum:
            _, loss, linear, cross, shape = self.chunk(X, T, low, high)
            # dZ[n,c]: the gradient of the logits of these samples; dX, dW and db are Linear's
            (dZ, dT), _ = loss.backward(dL[low:high] if alone else dL, cross)
            dX, grads = self.linear.backward(dZ.reshape(high - low, math.prod(shape[1:])), linear)
            inputs.append(dX)
            targets.append(dT)
            return _Sum(grads)

        grads = _added(gradients, self.chunks(X.shape[0])).arrays
        dX = np.concatenate(inputs, axis=-2).reshape(input_shape)
        dT = None
        if targets[0] is not None:
            dT = np.concatenate(targets, axis=-2 - len(self.out_features)).reshape(target_shape)
        return (dX, dT), {f"linear.{key}": G for key, G in grads.items()}

    def loss(self) -> CrossEntropyLoss:
        """That of the logits of a chunk."""
        return CrossEntropyLoss(
            self.buffers.get("weight"),
            ignore_index=self.ignored,
            reduction="none" if self.reduction == "none" else "sum",
            label_smoothing=self.label_smoothing,
        )

    def chunk(
        self, X: Array, T: Array, low: int, high: int, loss: CrossEntropyLoss | None = None
    ) -> tuple[Array, CrossEntropyLoss, Any, Any, Any]:
        """Of some samples: the losses or their sum, the loss, what both backwards need, and the shape of the logits."""
        # Z[n,o] = sum_i X[n,i] W[o,i] + b[o], o = (c, *out_features)
        Z, linear = self.linear.forward(X[low:high])
        shape = (high - low, self.num_classes, *self.out_features)
        loss = loss or self.loss()
        L, cross = loss.forward(Z.reshape(shape), T[low:high])
        return L, loss, linear, cross, shape

    def chunks(self, samples: int) -> list[tuple[int, int]]:
        """The first and the last but one of the samples of each chunk."""
        size = self.batch_chunk_size or max(LOGITS // max(self.num_classes * math.prod(self.out_features), 1), 1)
        return [(low, min(low + size, samples)) for low in range(0, max(samples, 1), size)]

    def divisor(self, X: Array, T: Array) -> Array:
        """What a mean is divided by: the weights of the targets that count, or the number of samples."""
        if T.dtype.kind not in "iu":
            return special.lift(float(X.shape[0] * math.prod(self.out_features)) or math.nan, X)
        kept, zero = self.ignored != T, special.lift(0.0, X)
        W = self.buffers.get("weight")
        one = special.lift(1.0, X) if W is None else special.gather(W.reshape(-1, 1), np.where(kept, T, 0))[..., 0]
        n: Array = np.where(kept, one, zero)
        n = n.sum()
        return np.where(n == 0, math.nan, n)

    @property
    def ignored(self) -> int:
        """The index that is left out."""
        return -100 if self.ignore_index is None else self.ignore_index

    def fit(self, X: Array, T: Array) -> tuple[Array, Array]:
        """Input and target with a batch axis; raises where something is amiss."""
        name, C, out = "LinearCrossEntropyLoss", self.num_classes, self.out_features
        _check.floating(name, input=X, **self.params, **self.buffers)
        _check.arrays(name, target=T)
        _check.last_axis(name, X, self.in_features, "in_features")
        if X.ndim > 2 or (X.ndim == 1 and out):
            raise ValueError(
                f"{name}: expected input of shape (N, {self.in_features})"
                f"{'' if out else f' or ({self.in_features},)'}, got {tuple(X.shape)}"
            )
        batch = tuple(X.shape[:-1])
        indices, whole = (*batch, *out), (*batch, C, *out)
        if tuple(T.shape) == whole:
            if self.ignore_index is not None:
                raise ValueError(f"{name}: expected no ignore_index with class probabilities, got {self.ignore_index}")
            _check.floating(name, input=X, target=T)
        elif tuple(T.shape) != indices:
            raise ValueError(
                f"{name}: expected target of shape {indices} (class indices) or {whole} (class probabilities), got "
                f"{tuple(T.shape)}"
            )
        else:
            _check.class_indices(name, T, C, self.ignored)
        return (X, T) if batch else (X.reshape(1, -1), T.reshape(1, *T.shape))


class _Sum:
    """Arrays that are added by name."""

    def __init__(self, arrays: Params) -> None:
        self.arrays = arrays

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum({name: A + other.arrays[name] for name, A in self.arrays.items()})


def _added(part: Callable[[int, int], Any], chunks: list[tuple[int, int]]) -> Any:
    """The sum of part(low, high) over the chunks, in order, added by halves: each goes through log2 n additions."""
    if len(chunks) == 1:
        return part(*chunks[0])
    half = len(chunks) // 2
    first = _added(part, chunks[:half])
    return first + _added(part, chunks[half:])
