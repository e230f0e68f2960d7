"""The activations, as their pages say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpmath import mp, mpf

from parity.families.mpmath_arrays import Array, Module, array_of, sigmoid_of, tanh_of


def sigmoid(m: Module, x: Array) -> Array:
    """torch.nn.Sigmoid: 1 / (1 + exp(-x))."""
    return array_of(x.shape, lambda *i: sigmoid_of(x[i]))


def tanh(m: Module, x: Array) -> Array:
    """torch.nn.Tanh: (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return array_of(x.shape, lambda *i: tanh_of(x[i]))


def relu(m: Module, x: Array) -> Array:
    """torch.nn.ReLU: max(0, x)."""
    return array_of(x.shape, lambda *i: max(mpf(0), x[i]))


def softmax(m: Module, x: Array, dim: int) -> Array:
    """torch.nn.Softmax: exp(x_i) / sum over j of exp(x_j), along `dim`."""
    if x.ndim == 0:
        return softmax(m, x.reshape(1), dim).reshape(())
    dim %= x.ndim
    exps = array_of(x.shape, lambda *i: mp.exp(x[i]))

    def total(*rest: int) -> Any:
        return mp.fsum(exps[*rest[:dim], j, *rest[dim:]] for j in range(x.shape[dim]))

    totals = array_of((*x.shape[:dim], *x.shape[dim + 1 :]), total)
    return array_of(x.shape, lambda *i: exps[i] / totals[*i[:dim], *i[dim + 1 :]])


def log_softmax(m: Module, x: Array, dim: int) -> Array:
    """torch.nn.LogSoftmax: the logarithm of the softmax."""
    P = softmax(m, x, dim)
    return array_of(P.shape, lambda *i: mp.log(P[i]))


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Sigmoid": sigmoid,
    "Tanh": tanh,
    "ReLU": relu,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
}
