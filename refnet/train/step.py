"""One update: forward, loss, backward, step."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic import special
from refnet.arithmetic.runs import Runs
from refnet.nn.module import Array, Module
from refnet.nn.utils import NOT_CLIPPED, Clipping


class Update:
    """An update of `net` by `opt`, called with a batch: a slice or indices of the samples to see.

    Attributes:
        net, loss, opt: of one training, or of many at once, their arrays `Runs` then.
        inputs, targets: (n, ...), all samples; every run has the same.
        held: the names of the parameters that `opt` moves, in its order, without those that are frozen.
        clipping: what is done to the gradients of what `opt` moves.
        accumulate: in how many micro-batches a batch is seen.
        runs: how many trainings these are; None for one.
        several: whether they are many trainings; indices have shape (R, b) then, and otherwise (b,).
    """

    def __init__(
        self,
        net: Module,
        loss: Module,
        opt: Any,
        inputs: NDArray[Any],
        targets: NDArray[Any],
        clipping: Clipping = NOT_CLIPPED,
        accumulate: int = 1,
        frozen: Collection[str] = (),
    ) -> None:
        self.clipping, self.accumulate = clipping, accumulate
        self.net, self.loss, self.opt, self.inputs, self.targets = net, loss, opt, inputs, targets
        first = next(iter(net.params.values()))
        self.runs = first.a.shape[0] if isinstance(first, Runs) else None
        self.several = self.runs is not None
        self._one = np.ones((), first.dtype)
        self.freeze(frozen)

    def freeze(self, names: Collection[str]) -> None:
        """Let `opt` move all that it holds but these."""
        self.held = [name for group in self.opt.param_groups for name in group["params"] if name not in names]
        self._some = len(self.held) < len(self.net.params)

    def __call__(self, batch: Any) -> Array:
        """Do it, and return the loss that it descended."""
        return self.on(self.of_runs(self.inputs[batch], batch), self.of_runs(self.targets[batch], batch))

    def of_runs(self, samples: Array, batch: Any) -> Array:
        """Samples picked by `batch` as the modules take them: a slice is the same for all runs, indices are not."""
        return Runs(samples) if self.several and isinstance(batch, np.ndarray) else samples

    def on(self, X: Array, T: Array) -> Array:
        """The same on inputs and targets."""
        if getattr(self.opt, "takes_closure", False):
            return self.opt.step(lambda: self.gradients(X, T)[::-1])
        grads, value = self.gradients(X, T)
        self.opt.step(grads)
        return value

    def gradients(self, X: Array, T: Array) -> tuple[dict[str, Array], Array]:
        """The gradients of what `opt` moves, and the loss."""
        value, grads = self._of_batch(X, T)
        if self._some:
            grads = {name: grads[name] for name in self.held}
        return self.clipping.of(grads), value

    def _of_batch(self, X: Array, T: Array) -> tuple[Array, dict[str, Array]]:
        """The loss of a batch and its gradients; of micro-batches j, one after the other, their weighted sums.

        Y = sum_j w_j Y_j     dP = sum_j w_j dP_j     w_j = n_j / n for a loss that is a mean, 1 for one that is a sum
        """
        if self.accumulate == 1:
            return gradients(self.net, self.loss, X, T, self._one)
        n = X.shape[0]
        total: Array = None
        sums: dict[str, Array] = {}
        for rows in micro_batches(n, self.accumulate):
            of = n if is_mean(self.loss) else None
            # Y = sum_j w_j Y_j, dP = sum_j w_j dP_j: w_j goes into the gradient that the backward pass begins with
            value, grads = gradients(self.net, self.loss, X[rows], T[rows], self._one, of)
            total = value if total is None else total + value
            sums = {name: sums[name] + G for name, G in grads.items()} if sums else grads
        return total, sums


def micro_batches(n: int, parts: int) -> Iterator[slice]:
    """The rows of the micro-batches of n samples, as torch.chunk makes them: of n / parts samples each, rounded up, and
    the last of what is left. There may be fewer than `parts`."""
    size = max(1, -(-n // parts))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def is_mean(loss: Module) -> bool:
    """Whether a loss is a mean over its samples, rather than their sum."""
    return getattr(loss, "reduction", "sum") in ("mean", "batchmean")


def gradients(
    net: Module, loss: Module, X: Array, T: Array, one: Array, of: int | None = None
) -> tuple[Array, dict[str, Array]]:
    """The loss, and its gradient by every parameter of `net`; `one` is the number 1 in the arithmetic of the loss.

    Of a micro-batch of a batch of `of` samples both are times its share of them.
    """
    Y, saved = net.forward(X)
    value, saved_loss = loss.forward(Y, T)
    if value.ndim:
        raise ValueError(f"fit: expected a loss that is one number, got shape {tuple(value.shape)}")
    if of is not None:
        # w_j = n_j / n
        one = special.lift(X.shape[0], value) / special.lift(of, value)
        value = value * one
    (dY, _), _ = loss.backward(one, saved_loss)
    _, grads = net.backward(dY, saved)
    return value, grads
