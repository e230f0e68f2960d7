"""Mistakes in the layers of a transformer, beside those of their parts."""

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


def _part(place: str, change: Any) -> Any:
    """A patch of the backward of the part at a place."""
    return lambda module: replaced("backward", change)(module._modules[place])


def _of_key_alone(attention: Any, right: Any, *args: Any) -> Any:
    (dQ, dK, dV, *masks), grads = right(*args)
    # dM = dK
    return (dQ, dK, dV * 0, *masks), grads


def _of_value_alone(attention: Any, right: Any, *args: Any) -> Any:
    (dQ, dK, dV, *masks), grads = right(*args)
    # dM = dV
    return (dQ, dK * 0, dV, *masks), grads


def _to_no_query(attention: Any, right: Any, *args: Any) -> Any:
    (dQ, *others), grads = right(*args)
    # dX1 = dS2
    return (dQ * 0, *others), grads


def _memory_mask_for_target(module: Any, right: Any, *args: Any, **given: Any) -> Any:
    pairs, of_memory = given.get("tgt_mask"), given.get("memory_mask")
    if of_memory is None or pairs is None or pairs.shape != of_memory.shape:
        raise Unsupported("no two masks of one shape")
    if pairs.dtype.kind == "b" and (pairs == of_memory).all():
        raise Unsupported("both masks are one")
    return right(*args, **{**given, "tgt_mask": of_memory})


def _padding_for_target(module: Any, right: Any, *args: Any, **given: Any) -> Any:
    if given.get("memory_key_padding_mask") is None:
        raise Unsupported("no padding of the memory")
    return right(*args, **{**given, "memory_key_padding_mask": None})


def _other_dropout(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if "dropout3" not in saved.parts or not module.training:
        raise Unsupported("no dropout")
    # the mask of dropout2 where that of dropout3 was used
    return right(dY, saved._replace(parts={**saved.parts, "dropout3": saved.parts["dropout2"]}))


def _memory_normed(module: Any, right: Any, tgt: Any = None, memory: Any = None, *args: Any, **given: Any) -> Any:
    if not module.norm_first:
        raise Unsupported("the norms stand behind")
    # multihead_attn(norm2(X1), norm2(M), norm2(M)), and its gradient
    M, own = module._modules["norm2"].forward(memory)
    Y, saved = right(tgt, M, *args, **given)
    return Y, saved._replace(parts={**saved.parts, "memory": own})


def _memory_unnormed(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (dX, dM, *masks), grads = right(dY, saved)
    if "memory" not in saved.parts:
        return (dX, dM, *masks), grads
    dM, dP = module._modules["norm2"].backward(dM, saved.parts["memory"])
    module.add_grads(grads, "norm2", dP)
    return (dX, dM, *masks), grads


def _normed_memory(module: Any) -> None:
    replaced("forward", _memory_normed)(module)
    replaced("backward", _memory_unnormed)(module)


def _back_in_other_order(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    return _other_order(module, right, dY, saved)


_OF_ENCODER = (
    _encoder(
        "norms in the other place",
        "norm_first taken for its opposite",
        "any",
        "kind of bug: pre-norm and post-norm",
        _norms,
    ),
    _encoder(
        "gradient through the value left out",
        "dX = dQ + dK against dQ + dK + dV",
        "any",
        "kind of bug: a missing term",
        _without_value,
    ),
    _encoder(
        "eps of the second norm",
        "the default against layer_norm_eps",
        "an eps of its own",
        "kind of bug: an argument that is not handed on",
        replaced("forward", _one_eps),
    ),
    _encoder(
        "dropout1 not differentiated",
        "dA = dX1 against [kept] dX1 / (1 - p)",
        "dropout",
        "kind of bug: a missing factor",
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

_BEHIND = "kind of bug: a missing term"

FAULTS = _OF_ENCODER + tuple(
    Fault(f"decoder layer: {name}", what, reveal, source, {"TransformerDecoderLayer": patch})
    for name, what, reveal, source, patch in (
        (
            "memory's gradient through the key alone",
            "dM = dK against dK + dV",
            "any",
            _BEHIND,
            _part("multihead_attn", _of_key_alone),
        ),
        (
            "memory's gradient through the value alone",
            "dM = dV against dK + dV",
            "any",
            _BEHIND,
            _part("multihead_attn", _of_value_alone),
        ),
        (
            "no gradient through the query of the memory",
            "dX1 = dS2 against dS2 + dQ",
            "any",
            _BEHIND,
            _part("multihead_attn", _to_no_query),
        ),
        ("gradient through the value left out", "dX = dQ + dK against dQ + dK + dV", "any", _BEHIND, _without_value),
        (
            "norms in the other place",
            "norm_first taken for its opposite",
            "any",
            "kind of bug: pre-norm and post-norm",
            _norms,
        ),
        (
            "backward with norms in the other place",
            "dS = dX + dnorm(dX) against dnorm(dX + ...)",
            "any",
            "kind of bug: pre-norm and post-norm",
            replaced("backward", _back_in_other_order),
        ),
        (
            "memory_mask for the target",
            "self_attn under memory_mask",
            "two masks that differ",
            "kind of bug: an argument in another's place",
            replaced("forward", _memory_mask_for_target),
        ),
        (
            "padding of the memory left out",
            "memory_key_padding_mask = None",
            "padding of the memory",
            "kind of bug: an argument that is not handed on",
            replaced("forward", _padding_for_target),
        ),
        (
            "dropout mask of another place",
            "dF by the mask of dropout2",
            "dropout",
            "kind of bug: a value saved for another place",
            replaced("backward", _other_dropout),
        ),
        (
            "dropout1 not differentiated",
            "dA = dS1 against [kept] dS1 / (1 - p)",
            "dropout",
            "kind of bug: a missing factor",
            replaced("backward", _dropout_forgotten),
        ),
        (
            "activation not differentiated",
            "f' = 1",
            "any",
            "iamtrask/Grokking-Deep-Learning#50",
            replaced("backward", _activation_left_out),
        ),
        (
            "memory through a norm",
            "norm2(M) against M, with norm_first",
            "norm_first",
            "kind of bug: pre-norm and post-norm",
            _normed_memory,
        ),
    )
)
