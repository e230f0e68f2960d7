"""Each layer's forward, and SGD's step, once more: scalar by scalar, in mpmath, from torch's documentation.

The truth proves that its figures are the derivatives of refnet's formulas. That those are the formulas which torch
documents cannot be proved; a second transcription of the pages, which agrees, is evidence. It shares with refnet no
line and no trick of numerical analysis: a sigmoid is 1 / (1 + exp(-x)) here, and what that costs is paid in digits.

Each function has its class's argument names and defaults and begins with its page's name below
<https://docs.pytorch.org/docs/stable/generated/>, read in version 2.13. What a page leaves undefined (0 / 0, say) is
nan: nothing is claimed of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from mpmath import mp, mpf

from parity.records.record import VJP, Optimize, Spec, Unsupported

Array = np.ndarray[Any, Any]  # of mpf; class indices and masks stay as they are
Pair = int | tuple[int, int]
Index = tuple[int, ...]

DIGITS = 500
"""1 - sigmoid(1000), as documented, loses the first 434 of them; more than 32 are wanted of the rest."""

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Module:
    """What a formula needs besides inputs and arguments.

    Attributes:
        arrays: parameters and buffers; a new value of a buffer takes the place of the old. training: the mode.
    """

    arrays: dict[str, Array]
    training: bool


def transcribed(record: VJP | Optimize, digits: int = DIGITS) -> dict[str, Array]:
    """What the documentation says the answer is, but for gradients; names as in `parity.records.record`.

    Raises:
        Unsupported: a class in the record has no transcription.
    """
    with mp.workdps(digits):
        if isinstance(record, Optimize):
            answer: dict[str, Array] = _known(OPTIMIZERS, record.spec)(record)
            return answer
        module = Module({name: _lifted(a) for name, a in record.arrays.items()}, record.training)
        outputs = _forward(record.spec, module, *(_lifted(x) for x in record.inputs))
        names = ["output"] if len(outputs) == 1 else [f"output.{k}" for k in range(len(outputs))]
        buffers = {f"buffer.{n}": a for n, a in module.arrays.items() if _is_buffer(record.spec, n)}
        return {**dict(zip(names, outputs, strict=True)), **buffers}


def differences(record: VJP, each: int = 3, digits: int = 100, step: str = "1e-30") -> dict[tuple[str, Index], Any]:
    """Central differences of the documented forward, by elements of inputs and parameters: `each` of every tensor.

    They stand under the names and indices of the gradients that they approximate, to about 50 digits. nan stands where
    the differences to the left and to the right have no common limit: at a kink.

    Raises:
        Unsupported: a class in the record has no transcription.
    """
    with mp.workdps(digits):
        arrays, inputs = {n: _lifted(a) for n, a in record.arrays.items()}, [_lifted(x) for x in record.inputs]
        upstream = [_lifted(g) for g in record.grad_outputs]

        def objective() -> Any:
            outputs = _forward(record.spec, Module(dict(arrays), record.training), *inputs)
            return mp.fsum(mp.fdot(y.flat, g.flat) for y, g in zip(outputs, upstream, strict=True))

        names = ["grad_input"] if len(inputs) == 1 else [f"grad_input.{k}" for k in range(len(inputs))]
        wanted = {
            name: x for name, x, given in zip(names, inputs, record.inputs, strict=True) if given.dtype.kind == "f"
        }
        wanted |= {f"grad.{n}": a for n, a in arrays.items() if not _is_buffer(record.spec, n)}
        here = objective()
        return {
            (name, i): _slope(objective, here, x, i, mpf(step))
            for name, x in wanted.items()
            for i in _spread(x.shape, each)
        }


def _spread(shape: Index, count: int) -> list[Index]:
    """So many indices into an array of this shape, at even distances in C order."""
    size = math.prod(shape)
    chosen = {k * (size - 1) // max(count - 1, 1) for k in range(count)} if size else set()
    return [tuple(int(n) for n in np.unravel_index(k, shape)) for k in sorted(chosen)]


def _slope(objective: Callable[[], Any], here: Any, x: Array, i: Index, h: Any) -> Any:
    with _moved(x, i, h):
        right = (objective() - here) / h
    with _moved(x, i, -h):
        left = (here - objective()) / h
    return (left + right) / 2 if abs(left - right) <= mpf("1e-15") * (1 + abs(left) + abs(right)) else mp.nan


@contextmanager
def _moved(x: Array, i: Index, h: Any) -> Iterator[None]:
    before = x[i]
    x[i] = before + h
    yield
    x[i] = before


def _known(transcriptions: Mapping[str, Callable[..., Any]], spec: Spec) -> Callable[..., Any]:
    if spec.type not in transcriptions:
        raise Unsupported(f"transcription: expected one of {', '.join(transcriptions)}, got {spec.type}")
    return transcriptions[spec.type]


def _is_buffer(spec: Spec, name: str) -> bool:
    return spec.type.endswith("Loss") or name.startswith("loss.") or name.rpartition(".")[2] in BUFFERS


def _lifted(array: Any) -> Array:
    array = np.asarray(array)
    return _array(array.shape, lambda *i: mpf(float(array[i]))) if array.dtype.kind == "f" else array


def _array(shape: Index, element: Callable[..., Any]) -> Array:
    made = np.empty(shape, dtype=object)
    for i in np.ndindex(*shape):
        made[i] = element(*i)
    return made


def _ratio(a: Any, b: Any) -> Any:
    return a / b if b != 0 else mp.nan


def _forward(spec: Spec, module: Module, *inputs: Array) -> tuple[Array, ...]:
    if spec.type == "Sequential":
        return (sequential(spec, module, *inputs),)
    if spec.type == "Objective":
        return objective(spec, module, *inputs)
    outputs = _known(LAYERS, spec)(module, *inputs, **spec.args)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def sequential(spec: Spec, module: Module, x: Array) -> Array:
    """torch.nn.Sequential: each output is the next one's input. A layer has the name of its first place."""
    for k in spec.places:
        (x,) = _forward_inside(spec.layers[k], module, f"{spec.places.index(k)}.", x)
    return x


def objective(spec: Spec, module: Module, x: Array, t: Array) -> tuple[Array, ...]:
    """The tutorial "Optimizing Model Parameters": pred = model(x), loss = loss_fn(pred, t)."""
    network, loss = spec.layers
    (y,) = _forward_inside(network, module, "network.", x)
    return _forward_inside(loss, module, "loss.", y, t)


def _forward_inside(spec: Spec, module: Module, prefix: str, *inputs: Array) -> tuple[Array, ...]:
    """The forward of a module whose arrays are among those of `module`, under names that begin with `prefix`."""
    own = Module({n.removeprefix(prefix): a for n, a in module.arrays.items() if n.startswith(prefix)}, module.training)
    outputs = _forward(spec, own, *inputs)
    module.arrays.update({prefix + n: a for n, a in own.arrays.items()})
    return outputs


def linear(m: Module, x: Array, in_features: int, out_features: int, bias: bool = True) -> Array:
    """torch.nn.Linear: y = x Aᵀ + b, where A is `weight`, of shape (out_features, in_features)."""
    A, b = m.arrays["weight"], m.arrays["bias"] if bias else _array((out_features,), lambda o: mpf(0))

    def y(*index: int) -> Any:
        *n, o = index
        return mp.fsum(x[*n, i] * A[o, i] for i in range(in_features)) + b[o]

    return _array((*x.shape[:-1], out_features), y)


def identity(m: Module, x: Array) -> Array:
    """torch.nn.Identity: the input."""
    return x


def flatten(m: Module, x: Array, start_dim: int = 1, end_dim: int = -1) -> Array:
    """torch.flatten, torch.nn.Flatten: dimensions start to end become one, and the order of the elements stays."""
    start, end = start_dim % x.ndim, end_dim % x.ndim
    size = math.prod(x.shape[start : end + 1])
    elements = iter([x[i] for i in np.ndindex(*x.shape)])
    return _array((*x.shape[:start], size, *x.shape[end + 1 :]), lambda *i: next(elements))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _tanh(x: Any) -> Any:
    return (mp.exp(x) - mp.exp(-x)) / (mp.exp(x) + mp.exp(-x))


def sigmoid(m: Module, x: Array) -> Array:
    """torch.nn.Sigmoid: 1 / (1 + exp(-x))."""
    return _array(x.shape, lambda *i: _sigmoid(x[i]))


def tanh(m: Module, x: Array) -> Array:
    """torch.nn.Tanh: (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return _array(x.shape, lambda *i: _tanh(x[i]))


def relu(m: Module, x: Array) -> Array:
    """torch.nn.ReLU: max(0, x)."""
    return _array(x.shape, lambda *i: max(mpf(0), x[i]))


def softmax(m: Module, x: Array, dim: int) -> Array:
    """torch.nn.Softmax: exp(x_i) / sum over j of exp(x_j), along `dim`."""
    dim %= x.ndim
    exps = _array(x.shape, lambda *i: mp.exp(x[i]))

    def total(*rest: int) -> Any:
        return mp.fsum(exps[*rest[:dim], j, *rest[dim:]] for j in range(x.shape[dim]))

    totals = _array((*x.shape[:dim], *x.shape[dim + 1 :]), total)
    return _array(x.shape, lambda *i: exps[i] / totals[*i[:dim], *i[dim + 1 :]])


def log_softmax(m: Module, x: Array, dim: int) -> Array:
    """torch.nn.LogSoftmax: the logarithm of the softmax."""
    P = softmax(m, x, dim)
    return _array(P.shape, lambda *i: mp.log(P[i]))


def _reduced(losses: Array, reduction: str) -> Array:
    """The losses themselves, their sum, or it divided by their number."""
    if reduction == "none":
        return losses
    total = mp.fsum(losses.flat)
    return _array((), lambda: {"sum": total, "mean": _ratio(total, losses.size)}[reduction])


def mse_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.MSELoss: l_n = (x_n - y_n)²."""
    return _reduced(_array(x.shape, lambda *n: (x[n] - y[n]) ** 2), reduction)


def l1_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.L1Loss: l_n = |x_n - y_n|."""
    return _reduced(_array(x.shape, lambda *n: abs(x[n] - y[n])), reduction)


def half_squared_error(m: Module, output: Array, target: Array, reduction: str = "sum") -> Array:
    """Not torch's but the article's: E = sum over outputs of 1/2 (target - output)²."""
    return _reduced(_array(output.shape, lambda *n: (target[n] - output[n]) ** 2 / 2), reduction)


def cross_entropy_loss(
    m: Module, x: Array, target: Array, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Array:
    """torch.nn.CrossEntropyLoss, of logits (C), (N, C) or (N, C, d1, ...); n runs through all but the classes.

    - class indices y_n: l_n = -w_y log p_ny if y_n ≠ ignore_index, else 0; a mean divides by the sum of the w_y of
      those n.
    - class probabilities y_nc: l_n = -sum over c of w_c log p_nc y_nc; a mean divides by the number of n.

    p is the softmax. The page gives label smoothing ε in words: the target becomes a mixture of itself and the uniform
    distribution, as in <https://arxiv.org/abs/1512.00567>, so y_nc becomes (1 - ε) y_nc + ε / C, where an index is the
    distribution that has all its mass at one class.
    """
    dim = 0 if x.ndim == 1 else 1
    C, samples = x.shape[dim], (*x.shape[:dim], *x.shape[dim + 1 :])
    w = m.arrays.get("weight", _array((C,), lambda c: mpf(1)))
    log_p = log_softmax(m, x, dim)
    by_index = target.dtype.kind in "iu"

    def counts(n: Index) -> bool:
        return not by_index or bool(target[n] != ignore_index)

    def y(n: Index, c: int) -> Any:
        mass = mpf(int(target[n] == c)) if by_index else target[*n[:dim], c, *n[dim:]]
        return (1 - mpf(label_smoothing)) * mass + mpf(label_smoothing) / C

    def loss(*n: int) -> Any:
        return -mp.fsum(w[c] * log_p[*n[:dim], c, *n[dim:]] * y(n, c) for c in range(C)) if counts(n) else mpf(0)

    losses = _array(samples, loss)
    if by_index and reduction == "mean":
        weights = mp.fsum(w[target[n]] for n in np.ndindex(*samples) if counts(n))
        return _array((), lambda: _ratio(mp.fsum(losses.flat), weights))
    return _reduced(losses, reduction)


def _weight(m: Module, name: str, n: Index) -> Any:
    """The weight of element n, 1 where there are none: <https://docs.pytorch.org/docs/stable/notes/broadcasting.html>."""
    if name not in m.arrays:
        return mpf(1)
    w = m.arrays[name]
    last = n[len(n) - w.ndim :]
    return w[tuple(0 if size == 1 else k for k, size in zip(last, w.shape, strict=True))]


def bce_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.BCELoss: l_n = -w_n [y_n log x_n + (1 - y_n) log(1 - x_n)], where a logarithm below -100 is -100."""

    def log(p: Any) -> Any:
        return max(mp.log(p), mpf(-100)) if p > 0 else mpf(-100)

    return _reduced(
        _array(x.shape, lambda *n: -_weight(m, "weight", n) * (y[n] * log(x[n]) + (1 - y[n]) * log(1 - x[n]))),
        reduction,
    )


def bce_with_logits_loss(m: Module, x: Array, y: Array, reduction: str = "mean") -> Array:
    """torch.nn.BCEWithLogitsLoss: l_n = -w_n [p_n y_n log σ(x_n) + (1 - y_n) log(1 - σ(x_n))]; p is `pos_weight`."""

    def loss(*n: int) -> Any:
        s, p = _sigmoid(x[n]), _weight(m, "pos_weight", n)
        return -_weight(m, "weight", n) * (p * y[n] * mp.log(s) + (1 - y[n]) * mp.log(1 - s))

    return _reduced(_array(x.shape, loss), reduction)


def batch_norm_1d(
    m: Module,
    x: Array,
    num_features: int,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
    bias: bool = True,
) -> Array:
    """torch.nn.BatchNorm1d, of (N, C) or (N, C, L): y = (x - E[x]) / sqrt(Var[x] + ε) γ + β, for each channel.

    E and Var are the batch's, Var biased; in evaluation they are the running ones if those are tracked. Training moves
    each running statistic to (1 - momentum) times itself plus momentum times the batch's, of which the variance is
    unbiased here. Without a momentum it is the plain average over all batches: the momentum of the t-th is 1 / t.
    """

    def of(c: int) -> list[Any]:
        return [x[i] for i in np.ndindex(*x.shape) if i[1] == c]

    def squares(c: int) -> Any:
        return mp.fsum((v - mean[c]) ** 2 for v in of(c))

    C, count = num_features, x.size // num_features
    if m.training or not track_running_stats:
        mean = _array((C,), lambda c: _ratio(mp.fsum(of(c)), count))
        var = _array((C,), lambda c: _ratio(squares(c), count))
    else:
        mean, var = m.arrays["running_mean"], m.arrays["running_var"]
    if m.training and track_running_stats:
        t = m.arrays["num_batches_tracked"] + 1
        f = mpf(1) / int(t) if momentum is None else mpf(momentum)
        old_mean, old_var = m.arrays["running_mean"], m.arrays["running_var"]
        m.arrays["running_mean"] = _array((C,), lambda c: (1 - f) * old_mean[c] + f * mean[c])
        m.arrays["running_var"] = _array(
            (C,), lambda c: (1 - f) * old_var[c] + f * _ratio(squares(c), max(count - 1, 0))
        )
        m.arrays["num_batches_tracked"] = np.asarray(t)

    gamma = m.arrays["weight"] if affine else _array((C,), lambda c: mpf(1))
    beta = m.arrays["bias"] if affine and bias else _array((C,), lambda c: mpf(0))

    def y(*i: int) -> Any:
        c = i[1]
        return (x[i] - mean[c]) / mp.sqrt(var[c] + mpf(eps)) * gamma[c] + beta[c]

    return _array(x.shape, y)


def dropout(m: Module, x: Array, mask: Array | None = None, p: float = 0.5) -> Array:
    """torch.nn.Dropout, with a given draw of what is kept: the rest is 0, and what is kept is scaled by 1 / (1 - p).

    In evaluation it is the identity. With p = 1 there is nothing that could have been kept.
    """
    if not m.training:
        return x
    assert mask is not None, "dropout: expected a mask in training, got none"
    return _array(x.shape, lambda *i: x[i] / (1 - mpf(p)) if mask[i] and p < 1 else mpf(0))


def conv_2d(
    m: Module,
    x: Array,
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
) -> Array:
    """torch.nn.Conv2d, of (N, C, H, W) or (C, H, W).

    An output channel is its bias plus the sum, over the input channels of its group, of their cross-correlations with
    its kernels. Modes of padding are those of torch.nn.ReflectionPad2d, torch.nn.ReplicationPad2d and
    torch.nn.CircularPad2d. Of padding="same" the pages say that the output has the input's shape, not which side gets
    the odd row or column: it is the far one, as torch does it.
    """
    (K, L), (s, r), (d, e) = _pair(kernel_size), _pair(stride), _pair(dilation)
    spans = (d * (K - 1), e * (L - 1))
    if isinstance(padding, str):
        totals = {"valid": (0, 0), "same": spans}[padding]
        before = (totals[0] // 2, totals[1] // 2)
    else:
        before = _pair(padding)
        totals = (2 * before[0], 2 * before[1])
    H, W = x.shape[-2:]
    height = (H + totals[0] - spans[0] - 1) // s + 1
    width = (W + totals[1] - spans[1] - 1) // r + 1
    A, b = m.arrays["weight"], m.arrays["bias"] if bias else _array((out_channels,), lambda o: mpf(0))
    ins, outs = in_channels // groups, out_channels // groups

    def pixel(n: Index, c: int, h: int, w: int) -> Any:
        h, w = _source(h, H, padding_mode), _source(w, W, padding_mode)
        return mpf(0) if h < 0 or w < 0 else x[*n, c, h, w]

    def y(*index: int) -> Any:
        *n, o, h, w = index
        first = o // outs * ins
        return b[o] + mp.fsum(
            A[o, c, u, v] * pixel(tuple(n), first + c, h * s + u * d - before[0], w * r + v * e - before[1])
            for c in range(ins)
            for u in range(K)
            for v in range(L)
        )

    return _array((*x.shape[:-3], out_channels, height, width), y)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _source(i: int, size: int, mode: str) -> int:
    """Which of `size` elements is at place i, which may lie outside; -1 is a zero."""
    if 0 <= i < size:
        return i
    if mode == "reflect":
        return -i if i < 0 else 2 * (size - 1) - i
    if mode == "replicate":
        return 0 if i < 0 else size - 1
    return i % size if mode == "circular" else -1


def lstm_cell(
    m: Module, x: Array, h: Array, c: Array, input_size: int, hidden_size: int, bias: bool = True
) -> tuple[Array, Array]:
    """torch.nn.LSTMCell, with the rows of the weights in the order of torch.nn.LSTM: W_ii, W_if, W_ig, W_io.

    i, f, o = σ(W_i x + b_i + W_h h + b_h), g = tanh(likewise), each with its rows; c' = f c + i g, h' = o tanh(c').
    """
    W_i, W_h = m.arrays["weight_ih"], m.arrays["weight_hh"]
    none = _array((4 * hidden_size,), lambda z: mpf(0))
    b_i, b_h = m.arrays.get("bias_ih", none), m.arrays.get("bias_hh", none)

    def net(*index: int) -> Any:
        *n, z = index
        from_x = mp.fsum(W_i[z, k] * x[*n, k] for k in range(input_size)) + b_i[z]
        return from_x + mp.fsum(W_h[z, k] * h[*n, k] for k in range(hidden_size)) + b_h[z]

    nets = _array((*h.shape[:-1], 4 * hidden_size), net)

    def cell(*index: int) -> Any:
        *n, u = index
        i, f = _sigmoid(nets[*n, u]), _sigmoid(nets[*n, hidden_size + u])
        return f * c[*n, u] + i * _tanh(nets[*n, 2 * hidden_size + u])

    new_c = _array(c.shape, cell)

    def hidden(*index: int) -> Any:
        *n, u = index
        return _sigmoid(nets[*n, 3 * hidden_size + u]) * _tanh(new_c[index])

    return _array(h.shape, hidden), new_c


LAYERS: Mapping[str, Callable[..., Any]] = {
    "Linear": linear,
    "Identity": identity,
    "Flatten": flatten,
    "Sigmoid": sigmoid,
    "Tanh": tanh,
    "ReLU": relu,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "MSELoss": mse_loss,
    "L1Loss": l1_loss,
    "HalfSquaredError": half_squared_error,
    "CrossEntropyLoss": cross_entropy_loss,
    "BCELoss": bce_loss,
    "BCEWithLogitsLoss": bce_with_logits_loss,
    "BatchNorm1d": batch_norm_1d,
    "Dropout": dropout,
    "Conv2d": conv_2d,
    "LSTMCell": lstm_cell,
}


def sgd(record: Optimize) -> dict[str, Array]:
    """torch.optim.SGD: the page's algorithm, for each parameter with the arguments of its group."""
    answer: dict[str, Array] = {}
    for names, own in record.groups or ((tuple(record.params), {}),):
        args = {**record.spec.args, **own}
        for name in names:
            theta, grads = record.params[name], record.grads[name]
            paths = {i: _descent(theta[i], grads[:, *i], **args) for i in np.ndindex(*theta.shape)}
            answer[f"update.{name}"] = _array(grads.shape, lambda t, *i, p=paths: p[i][0][t])
            if args.get("momentum", 0) != 0:
                answer[f"state.{name}.momentum_buffer"] = _array(grads.shape, lambda t, *i, p=paths: p[i][1][t])
    return answer


def _descent(
    start: Any,
    grads: Array,
    lr: float = 1e-3,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    maximize: bool = False,
) -> tuple[list[Any], list[Any]]:
    """By how much one parameter moves at each step, and its buffer after it."""
    gamma, mu, tau, lam = mpf(lr), mpf(momentum), mpf(dampening), mpf(weight_decay)
    thetas, buffers = [mpf(float(start))], [mpf(0)]
    for t, gradient in enumerate(grads, start=1):
        g = -mpf(float(gradient)) if maximize else mpf(float(gradient))
        if lam != 0:
            g = g + lam * thetas[-1]
        if mu != 0:
            b = mu * buffers[-1] + (1 - tau) * g if t > 1 else g
            buffers.append(b)
            g = g + mu * b if nesterov else b
        thetas.append(thetas[-1] - gamma * g)
    return [after - before for before, after in pairwise(thetas)], buffers[1:]


OPTIMIZERS: Mapping[str, Callable[..., Any]] = {"SGD": sgd}
