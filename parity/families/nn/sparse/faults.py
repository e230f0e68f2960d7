"""Mistakes in Embedding and EmbeddingBag. Letters as there: n index, v row of the table, d its elements, b bag."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced
from refnet.arithmetic import special

BOTH = ("Embedding", "EmbeddingBag")


def _with(**changed: Any) -> Any:
    """A method with other options of the module while it runs."""

    def method(module: Any, right: Any, *args: Any) -> Any:
        before = {name: getattr(module, name) for name in changed}
        if before == changed:
            return right(*args)
        vars(module).update(changed)
        try:
            return right(*args)
        finally:
            vars(module).update(before)

    return method


def _padding_of_zeros(module: Any, right: Any, W: Any, K: Any) -> Any:
    E = right(W, K)
    # E[n,d] = 0 where K[n] is padding_idx, whatever stands in that row
    return E if module.padding_idx is None else np.where(np.expand_dims(module.padding_idx == K, -1), 0, E)


def _overwritten(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    _, grads = right(dY, saved)
    K, d = saved.K.reshape(-1), dY.shape[-1]
    if not K.size or module.scale_grad_by_freq:
        raise Unsupported("there is no index, or the gradient is divided by their number")
    # dW[v,d] = dY[n,d] of the last n with K[n] = v
    later = np.asarray([bool((K[n + 1 :] == K[n]).any()) for n in range(K.size)])
    dW = special.scatter(np.where(np.expand_dims(later, -1), 0, dY.reshape(K.size, d)), K, module.num_embeddings)
    return None, {"weight": np.where(grads["weight"] == 0, 0, dW)}


def _times(module: Any, saved: Any) -> Any:
    """How often each row is looked up (v, 1), at least 1."""
    times = np.bincount(saved.K.reshape(-1), minlength=module.num_embeddings)
    return np.expand_dims(np.where(times > 0, times, 1), -1)


def _by_frequency(factor: Any) -> Any:
    """Backward with the gradient of row v times factor(c[v]) in place of 1 / c[v]."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        dX, grads = right(dY, saved)
        if not module.scale_grad_by_freq:
            return dX, grads
        times = _times(module, saved)
        return dX, {"weight": grads["weight"] * special.lift(factor(times) * times.astype(float), dY)}

    return backward


def _frequency_of_another(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if not module.scale_grad_by_freq:
        return dX, grads
    # dW[v] / c[K'[i]] for v the i-th of the different indices, K' the sorted ones
    times, order = _times(module, saved), np.sort(saved.K.reshape(-1))
    other = times.copy()
    for i, v in enumerate(np.unique(order)):
        other[v] = times[order[i]]
    return dX, {"weight": grads["weight"] * times / other}


def _through_the_norm(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward
    factors: list[Any] = []

    def norm() -> Any:
        W = module.params["weight"]
        return np.sqrt((W * W).sum(axis=-1, keepdims=True))

    def forward(*inputs: Any) -> Any:
        before = norm()
        made = right_forward(*inputs)
        factors.append(np.where(before > 0, norm() / np.where(before > 0, before, 1), 1))
        return made

    def backward(dY: Any, saved: Any) -> Any:
        dX, grads = right_backward(dY, saved)
        if module.max_norm is None:
            return dX, grads
        # dW[v,d] s[v], s the factor of the renormalized row
        return dX, {"weight": grads["weight"] * factors.pop()}

    module.forward, module.backward = forward, backward


def _without_the_last(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if saved.K.size < 2 or saved.K.ndim != 1 or module.scale_grad_by_freq:
        raise Unsupported("there are less than two indices in a row")
    # dW[v,d] = sum over all n but the last
    dW = special.scatter(dY[:-1], saved.K[:-1], module.num_embeddings)
    return dX, {"weight": np.where(grads["weight"] == 0, 0, dW)}


def _sizes_with_padding(module: Any, right: Any, *args: Any) -> Any:
    Y, saved = right(*args)
    if module.mode != "mean" or module.padding_idx is None:
        return Y, saved
    # C[b]: all indices of a bag, the padding among them
    all_of = np.expand_dims(np.bincount(saved.bag, minlength=saved.size.shape[0]), -1)
    ratio = special.lift(np.maximum(saved.size, 1) / np.maximum(all_of, 1), saved.E)
    return Y * ratio, saved._replace(size=all_of)


def _not_divided(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.mode != "mean":
        return right(dY, saved)
    # dE[n,d] = dY[b,d]
    return right(dY * special.lift(np.maximum(saved.size, 1), saved.E), saved)


def _mean_of_the_bag(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.mode != "max":
        return right(dY, saved)
    # dE[n,d] = dY[b,d] / C[b], as for the mean
    return _with(mode="mean")(module, right, dY, saved._replace(places=None, M=None))


def _to_all_of_the_bag(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    if module.mode != "max":
        return right(dY, saved)
    # dE[n,d] = dY[b,d] for every n of the bag
    return _with(mode="sum")(module, right, dY, saved._replace(places=None, M=None))


def _last_of_the_largest(module: Any, right: Any, M: Any) -> Any:
    turned = M[:, ::-1]
    return right(turned)[:, ::-1]


def _gradient_of_the_weights(of: Any) -> Any:
    """Backward with dP = of(dP, dT, saved), dT[n,d] = dY[b,d] of the bag of n."""

    def backward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
        dX, grads = right(dY, saved)
        if saved.P is None:
            return dX, grads
        return (*dX[:2], of(dX[2], special.gather(dY, saved.bag), saved)), grads

    return backward


def _weights_left_out(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    if saved.P is None:
        return dX, grads
    # dE[n,d] = dY[b,d]
    return dX, right(dY, saved._replace(P=None))[1]


def _padding_counts(module: Any, right: Any, *args: Any) -> Any:
    return _with(padding_idx=None)(module, right, *args)


def _ends_one_late(module: Any, right: Any, K: Any, offsets: Any) -> Any:
    begin = right(K, offsets)
    if offsets is None or begin.shape[0] < 2:
        return begin
    # The first index of a bag goes to the bag before it
    return np.where((begin > 0) & (begin < K.shape[0]), begin + 1, begin)


def _fault(kinds: tuple[str, ...], name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"{kinds[0]}: {name}", what, reveal, source, dict.fromkeys(kinds, replaced(method, by)))


FAULTS = (
    _fault(
        BOTH[:1],
        "padding receives a gradient",
        "dW[padding_idx] = sum dY against 0",
        "padding among the indices",
        "pytorch/pytorch#26302, pytorch/pytorch#28716",
        "backward",
        _with(padding_idx=None),
    ),
    _fault(
        BOTH[:1],
        "padding is zero forward",
        "Y[n] = 0 against W[padding_idx]",
        "a row at padding_idx that is not zero",
        "pytorch/pytorch#46585, pytorch/pytorch#53368",
        "rows",
        _padding_of_zeros,
    ),
    _fault(
        BOTH[:1],
        "repeated index overwritten",
        "dW[v] = dY[n] of the last n with K[n] = v against the sum over all",
        "a repeated index",
        "tenstorrent/tt-metal#6232",
        "backward",
        _overwritten,
    ),
    _fault(
        BOTH[:1],
        "the last index dropped",
        "dW = sum over all n but the last against over all",
        "any",
        "pytorch/pytorch#27731",
        "backward",
        _without_the_last,
    ),
    _fault(
        BOTH,
        "frequency left out",
        "dW[v] against dW[v] / c[v]",
        "scale_grad_by_freq and a repeated index",
        "pytorch/pytorch#190061",
        "backward",
        _with(scale_grad_by_freq=False),
    ),
    _fault(
        BOTH,
        "frequency the other way",
        "dW[v] c[v] against dW[v] / c[v]",
        "scale_grad_by_freq and a repeated index",
        "kind of bug: a factor inverted",
        "backward",
        _by_frequency(lambda times: times.astype(float)),
    ),
    _fault(
        BOTH,
        "root of the frequency",
        "dW[v] / sqrt(c[v]) against dW[v] / c[v]",
        "scale_grad_by_freq and a repeated index",
        "pytorch/pytorch#84491",
        "backward",
        _by_frequency(lambda times: 1 / np.sqrt(times)),
    ),
    _fault(
        BOTH,
        "frequency of another index",
        "dW[v] / c[w], w what stands at another place of the sorted indices, against dW[v] / c[v]",
        "scale_grad_by_freq, and indices of several frequencies",
        "pytorch/pytorch#190063",
        "backward",
        _frequency_of_another,
    ),
    _fault(
        BOTH,
        "max_norm not applied",
        "W as it is against W max_norm / (N + 1e-7)",
        "a row whose norm is above max_norm",
        "pytorch/pytorch#1057",
        "forward",
        _with(max_norm=None),
    ),
    _fault(
        BOTH,
        "max_norm by the 2-norm",
        "N = sqrt(sum W^2) against the norm of norm_type",
        "another norm_type",
        "kind of bug: an argument left out",
        "forward",
        _with(norm_type=2.0),
    ),
    Fault(
        "Embedding: gradient scaled by the renormalization",
        "dW s against dW, s the factor of a renormalized row",
        "a row whose norm is above max_norm",
        "kind of bug: the derivative of what is not differentiated",
        dict.fromkeys(BOTH, _through_the_norm),
    ),
    _fault(
        BOTH[1:],
        "mean without division backward",
        "dE = dY against dY / C",
        "a bag of more than one index",
        "kind of bug: a missing factor",
        "backward",
        _not_divided,
    ),
    _fault(
        BOTH[1:],
        "mean divided by the padding, too",
        "C with the padding against without",
        "the mean with padding among the indices",
        "kind of bug: another count",
        "forward",
        _sizes_with_padding,
    ),
    _fault(
        BOTH[1:],
        "largest with the gradient of the mean",
        "dE = dY / C for every index of the bag against dY for the largest",
        "mode max",
        "flagos-ai/FlagGems#5220",
        "backward",
        _mean_of_the_bag,
    ),
    _fault(
        BOTH[1:],
        "gradient to all of the bag",
        "dE = dY for every index of the bag against dY for the largest",
        "mode max",
        "kind of bug: a choice left out",
        "backward",
        _to_all_of_the_bag,
    ),
    _fault(
        BOTH[1:],
        "gradient to the last of the largest",
        "dE = dY for the last of those that tie against for the first",
        "rows that tie",
        "kind of bug: another choice",
        "first",
        _last_of_the_largest,
    ),
    _fault(
        BOTH[1:],
        "weights left out backward",
        "dE = dY against P dY",
        "weights other than 1",
        "kind of bug: a missing factor",
        "backward",
        _weights_left_out,
    ),
    _fault(
        BOTH[1:],
        "no gradient of the weights",
        "dP = 0 against sum dY E",
        "per_sample_weights",
        "kind of bug: taken for a constant",
        "backward",
        _gradient_of_the_weights(lambda dP, dT, saved: dP * 0),
    ),
    _fault(
        BOTH[1:],
        "gradient of the padding's weights",
        "dP = sum dY E against 0 where the index is padding",
        "per_sample_weights and padding among the indices",
        "flagos-ai/FlagGems#3683",
        "backward",
        _gradient_of_the_weights(lambda dP, dT, saved: (dT * saved.E).sum(axis=-1)),
    ),
    _fault(
        BOTH[1:],
        "padding counts",
        "the sum over all indices against without padding_idx",
        "padding among the indices",
        "pytorch/pytorch#49237",
        "forward",
        _padding_counts,
    ),
    _fault(
        BOTH[1:],
        "bags end one index late",
        "bag[n] of the index before against of n",
        "offsets",
        "pytorch/pytorch#190060",
        "begins",
        _ends_one_late,
    ),
)
