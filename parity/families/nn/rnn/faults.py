"""Mistakes in LSTMCell. Letters and axes as there: n sample, h hidden unit, gates i, f, g, o."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from refnet.arithmetic import special


def _exchanged(P: Any) -> Any:
    """Blocks i, f, o, g of the first axis for i, f, g, o, and the other way."""
    h = P.shape[0] // 4
    return np.concatenate([P[: 2 * h], P[3 * h :], P[2 * h : 3 * h]], axis=-P.ndim)


def _with_order_exchanged(module: Any, right: Any, *args: Any) -> Any:
    params = module.params
    module.params = {name: _exchanged(P) for name, P in params.items()}
    result = right(*args)
    module.params = params
    return result


def _backward_exchanged(module: Any, right: Any, *args: Any) -> Any:
    dinputs, grads = _with_order_exchanged(module, right, *args)
    return dinputs, {name: _exchanged(grad) for name, grad in grads.items()}


def _gate_order(module: Any) -> None:
    replaced("forward", _with_order_exchanged)(module)
    replaced("backward", _backward_exchanged)(module)


def _cell_gradient_dropped(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    dH1, dC1 = grad_output
    # dC[n,h] = dH1[n,h] So[n,h] tanh'(C1[n,h])
    return right((dH1, dC1 * 0), saved)


def _states_ignored(module: Any, right: Any, X: Any, *states: Any) -> Any:
    # H0[n,h] = C0[n,h] = 0
    return right(X, *(state * 0 for state in states))


def _tanh_at_output(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    # dC[n,h] = dC1[n,h] + dH1[n,h] So[n,h] tanh'(Tc[n,h])
    return right(grad_output, saved._replace(C1=saved.Tc))


def _forget_gate_left_out(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    if saved.given == "none":
        raise Unsupported("no state is given, whose gradient could be wrong")
    (dX, dH0, dC0), grads = right(grad_output, saved)
    dH1, dC1 = grad_output
    So, C1 = saved.So, saved.C1
    # dC0[n,h] = dC[n,h], dC[n,h] = dC1[n,h] + dH1[n,h] So[n,h] tanh'(C1[n,h])
    dC = dC1 + dH1 * So * (4 * (special.sigmoid(2 * C1) * special.sigmoid(-2 * C1)))
    return (dX, dH0, dC.reshape(*dC0.shape)), grads


def _states_without_gradient(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    if saved.given == "none":
        raise Unsupported("no state is given, whose gradient could be cut off")
    (dX, *states), grads = right(grad_output, saved)
    # dH0[n,h] = dC0[n,h] = 0
    return (dX, *(dS * 0 for dS in states)), grads


def _one_bias(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    dinputs, grads = right(grad_output, saved)
    # dbias_hh[z] = 0
    return dinputs, grads | ({"bias_hh": grads["bias_hh"] * 0} if "bias_hh" in grads else {})


def _lstm(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(name, what, reveal, source, {"LSTMCell": replaced(method, by)})


def _bias_of_the_next_gate(module: Any, right: Any, *inputs: Any) -> Any:
    if "bias_ih" not in module.params:
        raise Unsupported("there is no bias")
    params, h = module.params, module.hidden_size
    b = params["bias_ih"]
    # Z of gate i with the bias of f, of f with that of g, of g with that of o, of o with that of i
    module.params = {**params, "bias_ih": np.concatenate([b[h:], b[:h]], axis=-1)}
    result = right(*inputs)
    module.params = params
    return result


def _forget_gate_without_derivative(module: Any, right: Any, grad_output: Any, saved: Any) -> Any:
    Ri, _, Ro = saved.R
    one = saved.Sf * 0 + 1
    # dZf[n,h] = dC[n,h] C0[n,h]
    dinputs, grads = right(grad_output, saved._replace(Sf=one, R=(Ri, one, Ro)))
    if saved.given == "none":
        return dinputs, grads
    # dC0[n,h] stays right
    (*_, dC0), _ = right(grad_output, saved)
    return (*dinputs[:-1], dC0), grads


FAULTS = (
    Fault(
        "gates in another order",
        "blocks i, f, o, g against i, f, g, o",
        "any",
        "keras-team/keras#8720",
        {"LSTMCell": _gate_order},
    ),
    _lstm(
        "initial state ignored",
        "H0 = C0 = 0 against the given ones",
        "states that are not 0",
        "kind of bug: a state left out",
        "forward",
        _states_ignored,
    ),
    _lstm(
        "cell state's gradient dropped",
        "dC = dH1 So tanh'(C1) against dC = dC1 + dH1 So tanh'(C1)",
        "an upstream gradient of the cell state",
        "kind of bug: a missing term",
        "backward",
        _cell_gradient_dropped,
    ),
    _lstm(
        "states without a gradient",
        "dH0 = dC0 = 0: of several steps, each alone moves the parameters",
        "a cell used at several steps, or a gradient of its states",
        "pytorch/pytorch#184528",
        "backward",
        _states_without_gradient,
    ),
    _lstm(
        "tanh' of the cell at the output",
        "dH1 So tanh'(tanh(C1)) against dH1 So tanh'(C1)",
        "any",
        "kind of bug: a derivative at the wrong argument",
        "backward",
        _tanh_at_output,
    ),
    _lstm(
        "forget gate left out backward",
        "dC0 = dC against dC0 = dC Sf",
        "any",
        "kind of bug: a missing factor",
        "backward",
        _forget_gate_left_out,
    ),
    _lstm(
        "one of two biases without gradient",
        "dbias_hh = 0 against dbias_hh = dbias_ih",
        "any",
        "kind of bug: a missing gradient",
        "backward",
        _one_bias,
    ),
    _lstm(
        "gates with another gate's bias",
        "bias_ih of gates f, g, o, i against i, f, g, o: the weights in one order, the bias in another",
        "a bias that is not the same for all gates",
        "keras-team/keras#8720 (comments)",
        "forward",
        _bias_of_the_next_gate,
    ),
    _lstm(
        "forget gate without its derivative",
        "dZf = dC C0 against dZf = dC C0 s(Zf) s(-Zf)",
        "a state other than 0",
        "kind of bug: a missing factor",
        "backward",
        _forget_gate_without_derivative,
    ),
)
