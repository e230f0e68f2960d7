"""One update: forward, loss, backward, step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import Runs
from refnet.nn.module import Array, Module
from refnet.nn.utils import clipped


class Update:
    """An update of `net` by `opt`, called with a batch: a slice or indices of the samples to see.

    Attributes:
        net, loss, opt: of one training, or of many at once, their arrays `Runs` then.
        inputs, targets: (n, ...), all samples; every run has the same.
        held: the names of the parameters that `opt` moves, in its order.
        clip_norm: the norm to which the gradients of what `opt` moves are clipped; None where they are not.
        several: whether they are many trainings; indices have shape (R, b) then, and otherwise (b,).
    """

    def __init__(
        self,
        net: Module,
        loss: Module,
        opt: Any,
        inputs: NDArray[Any],
        targets: NDArray[Any],
        clip_norm: float | None = None,
    ) -> None:
        self.clip_norm = clip_norm
        self.net, self.loss, self.opt, self.inputs, self.targets = net, loss, opt, inputs, targets
        self.held = [name for group in opt.param_groups for name in group["params"]]
        first = next(iter(net.params.values()))
        self.several = isinstance(first, Runs)
        self._one = np.ones((), first.dtype)
        self._some = len(self.held) < len(net.params)

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
        value, grads = gradients(self.net, self.loss, X, T, self._one)
        if self._some:
            grads = {name: grads[name] for name in self.held}
        return grads if self.clip_norm is None else clipped(grads, self.clip_norm), value


def gradients(net: Module, loss: Module, X: Array, T: Array, one: Array) -> tuple[Array, dict[str, Array]]:
    """The loss, and its gradient by every parameter of `net`; `one` is the number 1 in the arithmetic of the loss."""
    Y, saved = net.forward(X)
    value, saved_loss = loss.forward(Y, T)
    if value.ndim:
        raise ValueError(f"fit: expected a loss that is one number, got shape {tuple(value.shape)}")
    (dY, _), _ = loss.backward(one, saved_loss)
    _, grads = net.backward(dY, saved)
    return value, grads
