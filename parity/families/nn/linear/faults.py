"""Mistakes in Linear. Axes as there: n sample, i input unit, o output unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced


def _rows(X: Any) -> Any:
    return X.reshape(-1, X.shape[-1])


def _weight_not_transposed(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    W = module.params["weight"]
    if W.shape[0] != W.shape[1]:
        raise Unsupported("the product with W in place of W^T needs as many inputs as outputs")
    _, grads = right(dY, saved)
    # dX[n,i] = sum_o dY[n,o] W[i,o]
    return dY @ W.mT, grads


def _gradient_transposed(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dW[i,o] = sum_n dY[n,o] X[n,i]
    return dX, {**grads, "weight": grads["weight"].mT}


def _bias_not_summed(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # db[n,o] = dY[n,o]
    return dX, grads | ({"bias": _rows(dY)} if "bias" in grads else {})


def _bias_of_last_sample(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # db[o] = dY[N - 1,o]
    return dX, grads | ({"bias": _rows(dY)[-1:].sum(axis=-2)} if "bias" in grads else {})


def _bias_averaged(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # db[o] = sum_n dY[n,o] / N
    return dX, grads | ({"bias": grads["bias"] / (len(_rows(dY)) or 1)} if "bias" in grads else {})


def _bias_from_the_weights(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # db[o] = sum_i dW[o,i]
    return dX, grads | ({"bias": grads["weight"].sum(axis=-1)} if "bias" in grads else {})


def _averaged_again(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # dW[o,i] = sum_n dY[n,o] X[n,i] / N     db[o] = sum_n dY[n,o] / N
    return dX, {name: grad / (len(_rows(dY)) or 1) for name, grad in grads.items()}


def _bias_without_gradient(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    # db[o] = 0
    return dX, grads | ({"bias": grads["bias"] * 0} if "bias" in grads else {})


def _bias_forgotten(module: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    # Y[n,o] = sum_i X[n,i] W[o,i]
    return X @ module.params["weight"].mT, saved


def _input_of_previous_sample(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    X = _rows(saved.X)
    # dW[o,i] = sum_n dY[n,o] X[n - 1,i]
    return dX, {**grads, "weight": _rows(dY).mT @ np.concatenate([X[-1:], X[:-1]], axis=-2)}


def _ones(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = 1
    dX, grads = right(dY, saved)
    return dX * 0 + 1, grads


def _cut_off(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = 0
    dX, grads = right(dY, saved)
    return dX * 0, grads


def _twice(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[.] = dY[.] + dY[.]
    dX, grads = right(dY, saved)
    return dX + dX, grads


def _exchanged(module: Any, right: Any, X: Any) -> Any:
    # Y[n,k] of X[n,b,a] for X[n,a,b]
    Y, saved = right(X)
    return right(X.mT)[0].reshape(*Y.shape), saved


def _exchanged_backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX[n,a,b] = dY[n,k], k counting b first and then a
    dX, grads = right(dY, saved)
    return dX.reshape(*dX.shape[:-2], dX.shape[-1], dX.shape[-2]).mT, grads


def _from_the_end(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dX = dY[n,K - 1 - k] in the shape of X
    return right(dY[..., ::-1], saved)


def _otherwise(kind: str, name: str, what: str, reveal: str, by: Any, method: str = "backward") -> Fault:
    return Fault(f"{kind}: {name}", what, reveal, f"kind of bug: {name}", {kind: replaced(method, by)})


FAULTS = (
    Fault(
        "weight not transposed",
        "dX = dY W^T against dX = dY W, for a weight of (out, in)",
        "as many inputs as outputs: other shapes do not fit",
        "kind of bug: a transposed W",
        {"Linear": replaced("backward", _weight_not_transposed)},
    ),
    Fault(
        "weight gradient transposed",
        "dW = X^T dY against dW = dY^T X",
        "any; as many inputs as outputs, if only values are compared",
        "kind of bug: a transposed W",
        {"Linear": replaced("backward", _gradient_transposed)},
    ),
    Fault(
        "bias gradient keeps the batch axis",
        "db = dY against db = sum_n dY",
        "a batch of more than one, and a comparison of shapes",
        "deeplearning4j/nd4j#2424, jimfleming/differentiation#1",
        {"Linear": replaced("backward", _bias_not_summed)},
    ),
    Fault(
        "bias gradient of the last sample",
        "db = dY[N - 1] against db = sum_n dY",
        "a batch of more than one",
        "kind of bug: a bias gradient not summed over the batch",
        {"Linear": replaced("backward", _bias_of_last_sample)},
    ),
    Fault(
        "bias gradient averaged",
        "db = sum_n dY / N against db = sum_n dY: the loss was averaged already",
        "a batch of more than one",
        "kvfrans/notes#5",
        {"Linear": replaced("backward", _bias_averaged)},
    ),
    Fault(
        "bias gradient from the weight's",
        "db[o] = sum_i dW[o,i] against db[o] = sum_n dY[n,o]",
        "any",
        "kind of bug: the gradient of another parameter",
        {"Linear": replaced("backward", _bias_from_the_weights)},
    ),
    Fault(
        "parameter gradients averaged again",
        "dW / N, db / N against dW, db: the loss was averaged already",
        "a batch of more than one",
        "d2l-ai/d2l-en#1000",
        {"Linear": replaced("backward", _averaged_again)},
    ),
    Fault(
        "bias without gradient",
        "db = 0 against db = sum_n dY",
        "any: the bias never moves",
        "the article, and programs after it",
        {"Linear": replaced("backward", _bias_without_gradient)},
    ),
    Fault(
        "bias not added",
        "Y = X W^T against Y = X W^T + b",
        "a bias that is not 0, as it often is at the start",
        "kind of bug: a missing term",
        {"Linear": replaced("forward", _bias_forgotten)},
    ),
    _otherwise("Identity", "gradient of ones", "dX = 1 against dX = dY", "a gradient other than 1", _ones),
    _otherwise("Identity", "gradient cut off", "dX = 0 against dX = dY", "any", _cut_off),
    _otherwise("Identity", "gradient counted twice", "dX = 2 dY against dX = dY", "any", _twice),
    _otherwise(
        "Flatten",
        "last axes exchanged backward",
        "dX read with its last two axes exchanged against dX in the order of X",
        "two flattened axes",
        _exchanged_backward,
    ),
    _otherwise(
        "Flatten",
        "last axes exchanged",
        "X read with its last two axes exchanged against X in its own order",
        "two flattened axes",
        _exchanged,
        "forward",
    ),
    _otherwise(
        "Flatten",
        "gradient from the end",
        "dX of dY from its last element on against from its first",
        "more than one element",
        _from_the_end,
    ),
    Fault(
        "input of the previous sample",
        "dW = sum_n dY[n] X[n - 1] against dW = sum_n dY[n] X[n]",
        "a batch of more than one",
        "kind of bug: an index off by one",
        {"Linear": replaced("backward", _input_of_previous_sample)},
    ),
)
