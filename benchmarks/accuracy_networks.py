"""Networks of up to three layers that end in a loss: refnet's errors and torch's against certified truth.

A layer that is accurate alone need not be so in a network: what one layer rounds, the next may divide by. Looked at are
the gradients by the input and by every parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parity.truth import ball, tape
from refnet import nn

Array = NDArray[Any]
Arrays = Mapping[str, Array]

SIZES = (0.5, 3.0, 12.0, 20.0, 25.0, 40.0)
"""The inputs are of these sizes, in both signs."""

SEEDS, MORE_SEEDS = 2, 16
"""So many inputs and parameters of each network; and where refnet looks worse, so that luck does not decide."""

FEATURES = 4


class Chain(NamedTuple):
    """Layers, then a loss.

    Attributes:
        layers: class names of refnet.nn and torch.nn with their arguments. loss: likewise. remedy: what to use instead
            where refnet's layers lose more than torch's, as the docstrings say; empty where they do not.
    """

    layers: tuple[tuple[str, dict[str, Any]], ...]
    loss: tuple[str, dict[str, Any]]
    remedy: str = ""

    @property
    def name(self) -> str:
        return ", ".join([*(name for name, _ in self.layers), self.loss[0]])

    @property
    def narrow(self) -> bool:
        """Whether the first layer normalizes: its inputs lie close together then."""
        return bool(self.layers) and "Norm" in self.layers[0][0]


_DIM: dict[str, Any] = {"dim": -1}
_LINEAR: tuple[str, dict[str, Any]] = ("Linear", {"in_features": FEATURES, "out_features": FEATURES})
_LAYER_NORM: tuple[str, dict[str, Any]] = ("LayerNorm", {"normalized_shape": FEATURES, "eps": 1e-12})
_BATCH_NORM: tuple[str, dict[str, Any]] = ("BatchNorm1d", {"num_features": FEATURES, "eps": 1e-12})

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
    Chain((_LINEAR, ("Sigmoid", {})), ("BCELoss", {}), "BCEWithLogitsLoss"),
    Chain((_LINEAR,), ("BCEWithLogitsLoss", {})),
    Chain((_LINEAR, ("Softmax", _DIM)), ("PoissonNLLLoss", {"log_input": False})),
    Chain((_LINEAR, ("LogSoftmax", _DIM)), ("NLLLoss", {})),
    Chain((_LINEAR, ("Tanh", {})), ("MSELoss", {})),
    Chain((_LINEAR, ("Tanh", {}), _LINEAR), ("CrossEntropyLoss", {})),
    Chain((_LINEAR, ("Sigmoid", {}), _LINEAR), ("MSELoss", {})),
    Chain((_LAYER_NORM, _LINEAR), ("CrossEntropyLoss", {})),
    Chain((_LAYER_NORM, _LINEAR, ("Sigmoid", {})), ("BCELoss", {}), "BCEWithLogitsLoss"),
    Chain((_BATCH_NORM, _LINEAR), ("CrossEntropyLoss", {})),
    Chain((_LINEAR, _LAYER_NORM, ("Softmax", _DIM)), ("MSELoss", {})),
)
"""Each activation in front of the losses that it is used with, and layers with parameters in front of them."""

_FIRST = (_LINEAR, _LAYER_NORM, _BATCH_NORM)
_BETWEEN: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in ("Sigmoid", "Tanh", "SiLU", "GELU", "Softplus", "LogSigmoid", "Mish", "ELU", "Softsign")),
    ("Softmax", _DIM),
    ("LogSoftmax", _DIM),
    _LINEAR,
    _LAYER_NORM,
)
_LOSSES: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in ("MSELoss", "SmoothL1Loss", "HuberLoss", "CrossEntropyLoss", "BCEWithLogitsLoss")),
    ("SoftMarginLoss", {}),
    ("PoissonNLLLoss", {"log_input": True}),
)
# Losses that are used behind one layer.
_BEHIND: Mapping[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "Sigmoid": (("BCELoss", {}),),
    "Softmax": (("BCELoss", {}), ("PoissonNLLLoss", {"log_input": False})),
    "LogSoftmax": (("NLLLoss", {}), ("KLDivLoss", {"reduction": "batchmean"})),
}


def drawn(count: int, seed: int = 0) -> list[Chain]:
    """Different networks of two or three layers and a loss that fits the last one."""
    rng = np.random.default_rng(seed)
    made: dict[str, Chain] = {}
    while len(made) < count:
        layers = [_FIRST[rng.integers(len(_FIRST))] if rng.random() < 0.75 else _BETWEEN[rng.integers(len(_BETWEEN))]]
        layers += [_BETWEEN[k] for k in rng.integers(len(_BETWEEN), size=rng.integers(1, 3))]
        fitting = (*_LOSSES, *2 * _BEHIND.get(layers[-1][0], ()))
        loss = fitting[rng.integers(len(fitting))]
        pair = layers[-1][0], loss[0]
        chain = Chain(tuple(layers), loss, next((c.remedy for c in CHAINS if pair == (c.layers[-1][0], c.loss[0])), ""))
        made[chain.name] = chain
    return list(made.values())


class Row(NamedTuple):
    """The medians over the seeds of the largest error in a gradient, relative to the gradient's largest element: of the
    gradient in which refnet is the worst beside torch.

    Attributes:
        size: of the inputs. tensor: which gradient, `input` or a parameter's name.
    """

    chain: str
    size: float
    dtype: str
    tensor: str
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


def _input(chain: Chain, size: float, rng: np.random.Generator) -> Array:
    """Two samples of four, the first element of the size, the others around it; in front of a normalization numbers
    that differ from the size by a thousandth."""
    X: Array = rng.uniform(-1, 1, (2, FEATURES))
    if chain.narrow:
        return size + X / 1024
    X[:, 0] = size
    X[:, 1] = -size
    return X


def _network(chain: Chain) -> nn.Sequential:
    return nn.Sequential(*(getattr(nn, name)(**options) for name, options in chain.layers))


def _loss(chain: Chain) -> nn.Module:
    loss: nn.Module = getattr(nn, chain.loss[0])(**chain.loss[1])
    return loss


def _arrays(chain: Chain, rng: np.random.Generator) -> dict[str, Array]:
    """Parameters and buffers."""
    network = _network(chain)
    return {**{name: rng.uniform(-1, 1, P.shape) for name, P in network.params.items()}, **network.buffers}


def _as(dtype: str, array: Array) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array.copy()


def _refnets(chain: Chain, arrays: Arrays, X: Array, T: Array) -> dict[str, Array]:
    """The gradients by the input and by the parameters."""
    network, loss = _network(chain), _loss(chain)
    network.bind({name: _as(str(X.dtype), a) for name, a in arrays.items()})
    Y, saved = network.forward(X)
    (dY, *_), _ = loss.backward(np.ones((), X.dtype), loss.forward(Y, T)[1])
    dX, grads = network.backward(dY, saved)
    return {"input": dX, **grads}


def truth(chain: Chain, arrays: Arrays, X: Array, T: Array) -> dict[str, Array]:
    """The same by the tape over balls, rounded once."""
    with ball.precision(1024):
        network = _network(chain)
        network.bind({name: ball.lift(a) if a.dtype.kind == "f" else a.copy() for name, a in arrays.items()})
        leaves = {"input": ball.lift(X), **network.params}
        L = _loss(chain)(network(leaves["input"]), ball.lift(T))
        tape.differentiate(np.asarray(L, object).reshape(-1).tolist(), [ball.ball(1)])
        return {name: _rounded(ball.gradients(leaf)) for name, leaf in leaves.items()}


def _rounded(balls: Any) -> Array:
    return np.array([ball.nearest(b) for b in balls.reshape(-1).tolist()]).reshape(balls.shape)


def _torchs(chain: Chain, arrays: Arrays, X: Array, T: Array) -> dict[str, Array]:
    import torch

    x = torch.tensor(X, requires_grad=True)
    modules = [getattr(torch.nn, name)(**options) for name, options in chain.layers]
    network = torch.nn.Sequential(*modules).to(x.dtype)
    network.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
    getattr(torch.nn, chain.loss[0])(**chain.loss[1])(network(x), torch.tensor(T)).backward()
    grads = {"input": x, **dict(network.named_parameters())}
    return {name: p.grad.numpy() for name, p in grads.items() if p.grad is not None}


def rows(sizes: Sequence[float] | None = None, chains: Sequence[Chain] | None = None) -> Iterator[Row]:
    """A row for each chain, size and dtype."""
    for chain in CHAINS if chains is None else chains:
        for size in SIZES if sizes is None else sizes:
            for dtype in ("float64", "float32"):
                row = _row(chain, size, dtype, SEEDS)
                yield _row(chain, size, dtype, MORE_SEEDS) if row.worse else row


def _row(chain: Chain, size: float, dtype: str, seeds: int) -> Row:
    errors: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        X = _input(chain, size, rng).astype(dtype)
        T = _as(dtype, _target(chain.loss[0], rng, X.shape))
        arrays = {name: _as(dtype, a) for name, a in _arrays(chain, rng).items()}
        with np.errstate(all="ignore"):
            ours, theirs = _refnets(chain, arrays, X, T), _torchs(chain, arrays, X, T)
        for name, G in truth(chain, arrays, X, T).items():
            # What is 0 has no digits to lose.
            if G.any():
                errors.setdefault(name, []).append([_error(made[name], G) for made in (ours, theirs)])
    medians = {name: np.median(found, axis=0).tolist() for name, found in errors.items()} or {"input": [0.0, 0.0]}
    tensor = max(medians, key=lambda name: medians[name][0] - 4 * medians[name][1])
    mine, other = medians[tensor]
    return Row(chain.name, size, dtype, tensor, mine, other, chain.remedy)


def _error(made: Array, G: Array) -> float:
    error = float(np.max(abs(made.astype(np.float64) - G)) / abs(G).max())
    return error if error == error else float("inf")
