"""Networks of two or three layers that end in a loss: refnet's errors and torch's against certified truth.

A layer that is accurate alone need not be so in a network: what one layer rounds, the next may divide by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parity.truth import ball, tape
from refnet import nn

Array = NDArray[Any]

SIZES = (0.5, 3.0, 12.0, 20.0, 25.0, 40.0)
"""The inputs are of these sizes, in both signs."""


class Chain(NamedTuple):
    """Layers, then a loss.

    Attributes:
        layers: class names of refnet.nn and torch.nn with their arguments. loss: likewise. remedy: what to use instead
            where refnet's pair loses more than torch's, as the docstrings say; empty where it does not.
    """

    layers: tuple[tuple[str, dict[str, Any]], ...]
    loss: tuple[str, dict[str, Any]]
    remedy: str = ""

    @property
    def name(self) -> str:
        return ", ".join([*(name for name, _ in self.layers), self.loss[0]])


_DIM: dict[str, Any] = {"dim": -1}

CHAINS = (
    Chain((("Sigmoid", {}),), ("BCELoss", {}), "BCEWithLogitsLoss"),
    Chain((("Sigmoid", {}),), ("MSELoss", {})),
    Chain((("Tanh", {}),), ("MSELoss", {})),
    Chain((("Tanh", {}), ("Tanh", {})), ("SmoothL1Loss", {})),
    Chain((("Sigmoid", {}), ("Tanh", {})), ("HuberLoss", {})),
    Chain((("LogSoftmax", _DIM),), ("NLLLoss", {})),
    Chain((("LogSoftmax", _DIM),), ("KLDivLoss", {"reduction": "batchmean"})),
    Chain((("Softmax", _DIM),), ("CrossEntropyLoss", {})),
    Chain((("Softmax", _DIM),), ("MSELoss", {})),
    Chain((("Softmax", _DIM), ("LogSoftmax", _DIM)), ("NLLLoss", {})),
    Chain((("Tanh", {}), ("LogSoftmax", _DIM)), ("NLLLoss", {})),
    Chain((("Tanh", {}),), ("BCEWithLogitsLoss", {})),
    Chain((("Sigmoid", {}),), ("PoissonNLLLoss", {"log_input": False})),
    Chain((("Tanh", {}),), ("SoftMarginLoss", {})),
)
"""Each activation in front of the losses that it is used with."""


class Row(NamedTuple):
    """The largest error of the gradient by the input, relative to the gradient's largest element: the input's size, the
    dtype, and who computed it."""

    chain: str
    size: float
    dtype: str
    refnet: float
    torch: float
    remedy: str

    @property
    def worse(self) -> bool:
        """Whether refnet's error is larger than torch's by more than a few roundings."""
        return self.refnet > 4 * self.torch + 16 * float(np.finfo(self.dtype).eps)


def _target(loss: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """What the loss takes as a target."""
    if loss in ("CrossEntropyLoss", "NLLLoss"):
        # Of the first sample the likeliest class, of the second another.
        return np.array([0, 1])
    if loss == "SoftMarginLoss":
        return np.where(rng.random(shape) < 0.5, -1, 1)
    if loss == "KLDivLoss":
        T: Array = rng.dirichlet(np.ones(shape[-1]), shape[0])
        return T
    return np.asarray(rng.uniform(0.1, 0.9, shape))


def _input(size: float, rng: np.random.Generator) -> Array:
    """Two samples of four, the first element of the size, the others around it."""
    X: Array = rng.uniform(-1, 1, (2, 4))
    X[:, 0] = size
    X[:, 1] = -size
    return X


def _refnets(chain: Chain, X: Array, T: Array) -> Array:
    """The gradient by the input."""
    network = nn.Sequential(*(getattr(nn, name)(**options) for name, options in chain.layers))
    loss = getattr(nn, chain.loss[0])(**chain.loss[1])
    Y, saved = network.forward(X)
    (dY, *_), _ = loss.backward(np.ones((), X.dtype), loss.forward(Y, T)[1])
    dX: Array = network.backward(dY, saved)[0]
    return dX


def truth(chain: Chain, X: Array, T: Array) -> Array:
    """The gradient by the input, by the tape over balls, rounded once."""
    with ball.precision(1024):
        lifted = Y = ball.lift(X)
        for name, options in chain.layers:
            Y = getattr(nn, name)(**options)(Y)
        L = getattr(nn, chain.loss[0])(**chain.loss[1])(Y, ball.lift(T))
        tape.differentiate(np.asarray(L, object).reshape(-1).tolist(), [ball.ball(1)])
        grads = ball.gradients(lifted)
        return np.array([ball.nearest(g) for g in grads.reshape(-1).tolist()]).reshape(X.shape)


def _torchs(chain: Chain, X: Array, T: Array) -> Array:
    import torch

    x = torch.tensor(X, requires_grad=True)
    modules = [getattr(torch.nn, name)(**options) for name, options in chain.layers]
    y = torch.nn.Sequential(*modules)(x)
    getattr(torch.nn, chain.loss[0])(**chain.loss[1])(y, torch.tensor(T)).backward()
    assert x.grad is not None
    made: Array = x.grad.numpy()
    return made


def rows(sizes: tuple[float, ...] = SIZES) -> Iterator[Row]:
    """A row for each chain, size and dtype."""
    for chain in CHAINS:
        for size in sizes:
            for dtype in ("float64", "float32"):
                rng = np.random.default_rng(0)
                X = _input(size, rng).astype(dtype)
                T = _target(chain.loss[0], rng, X.shape)
                T = T.astype(dtype) if T.dtype.kind == "f" else T
                true = truth(chain, X, T)
                with np.errstate(all="ignore"):
                    found = _refnets(chain, X, T), _torchs(chain, X, T)
                largest = abs(true).max() or 1.0
                ours, theirs = (float(np.max(abs(G.astype(np.float64) - true)) / largest) for G in found)
                yield Row(chain.name, size, dtype, ours, theirs, chain.remedy)
