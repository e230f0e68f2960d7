"""Mistakes in TransformerEncoderLayer, beside those of its parts."""

from __future__ import annotations

from typing import Any

from parity.families.fault import Fault, Unsupported, replaced


def _other_order(module: Any, right: Any, *args: Any, **options: Any) -> Any:
    module.norm_first = not module.norm_first
    result = right(*args, **options)
    module.norm_first = not module.norm_first
    return result


def _norms(module: Any) -> None:
    for method in ("forward", "backward"):
        replaced(method, _other_order)(module)


def _without_value(module: Any) -> None:
    def backward(attention: Any, right: Any, *args: Any) -> Any:
        (dQ, dK, dV, *masks), grads = right(*args)
        # dX = dQ + dK
        return (dQ, dK, dV * 0, *masks), grads

    replaced("backward", backward)(module._modules["self_attn"])


def _one_eps(module: Any, right: Any, *args: Any, **options: Any) -> Any:
    norm = module._modules["norm2"]
    if norm.eps == 1e-5:
        raise Unsupported("the default eps")
    own, norm.eps = norm.eps, 1e-5
    result = right(*args, **options)
    norm.eps = own
    return result


def _dropout_forgotten(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if "dropout1" not in saved.parts:
        raise Unsupported("no dropout")
    # d dropout1 = 1
    parts = {name: part for name, part in saved.parts.items() if name != "dropout1"}
    return right(dY, saved._replace(parts=parts))


def _activation_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    # f' = 1
    return right(dY, saved._replace(parts={n: p for n, p in saved.parts.items() if n != "activation"}))


def _encoder(name: str, what: str, reveal: str, source: str, patch: Any) -> Fault:
    return Fault(f"encoder layer: {name}", what, reveal, source, {"TransformerEncoderLayer": patch})


FAULTS = (
    _encoder(
        "norms in the other place",
        "norm_first taken for its opposite",
        "any",
        "issue class: pre-norm and post-norm",
        _norms,
    ),
    _encoder(
        "gradient through the value left out",
        "dX = dQ + dK against dQ + dK + dV",
        "any",
        "issue class: a missing term",
        _without_value,
    ),
    _encoder(
        "eps of the second norm",
        "the default against layer_norm_eps",
        "an eps of its own",
        "issue class: an argument that is not handed on",
        replaced("forward", _one_eps),
    ),
    _encoder(
        "dropout1 not differentiated",
        "dA = dX1 against [kept] dX1 / (1 - p)",
        "dropout",
        "issue class: a missing factor",
        replaced("backward", _dropout_forgotten),
    ),
    _encoder(
        "activation not differentiated",
        "f' = 1",
        "any",
        "iamtrask/Grokking-Deep-Learning#50",
        replaced("backward", _activation_left_out),
    ),
)
