"""Reported bugs of functions that are no covered class, or of what is done around one: each as a program that
`parity.check` has to fail, beside the right one, which it has to pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import parity
from refnet.arithmetic import special

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.arithmetic


@dataclass(frozen=True)
class Program:
    """One report.

    Attributes:
        reference: as `parity.check` takes it. inputs: NumPy's, and handed on as torch's where the functions are its.
        grad_output: the upstream gradient, where its place in memory is part of the report.
        right: what has to pass. wrong: each of what has to fail; nothing where the report is of what is right.
    """

    reference: Any
    inputs: tuple[Any, ...]
    right: Any
    wrong: tuple[Any, ...]
    numpy: bool = False
    grad_output: Any = None

    def report(self, fn: Any) -> parity.Report:
        given = self.inputs if self.numpy else tuple(torch.tensor(x) for x in self.inputs)
        with np.errstate(all="ignore"):
            return parity.check(fn, self.reference, *given, grad_output=self.grad_output)


def drawn(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    draws = np.random.default_rng(5)
    return tuple(draws.standard_normal(shape) for shape in shapes)


# ---- sums of exponentials over a part of the elements

KEEP = np.array([True, True, False, True])
X_MASKED = np.array([0.5, -1.0, 1000.0, 2.0])


def _masked_logsumexp(projected: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(x: Any) -> Any:
        M = x[KEEP].max()
        E = np.exp((np.where(KEEP, x, M) if projected else x) - M)
        S = np.where(KEEP, E, 0.0).sum()
        return np.log(S) + M, (E, S)

    def backward(dY: Any, saved: Any) -> Any:
        E, S = saved
        # dX = dE E with dE = 0 where nothing is kept: 0 times infinity, unless what is not kept stands for the largest
        return np.where(KEEP, dY / S, 0.0) * E

    return forward, backward


# ---- memory


class _Unwritten:
    """GELU's backward in a buffer that it leaves as it is where the upstream gradient is not contiguous."""

    def __init__(self) -> None:
        self.calls = 0

    def forward(self, x: Any) -> Any:
        return F.gelu(torch.tensor(x)).numpy(), x

    def backward(self, dY: Any, x: Any) -> Any:
        leaf = torch.tensor(x, requires_grad=True)
        F.gelu(leaf).backward(torch.tensor(np.ascontiguousarray(dY)))
        self.calls += 1
        return leaf.grad.numpy() if dY.flags.c_contiguous else np.full_like(x, self.calls)


def _gelu(written: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    own = _Unwritten()
    return own.forward, (lambda dY, x: own.backward(np.ascontiguousarray(dY) if written else dY, x))


def _written_after_forward(x: Any) -> Any:
    y = torch.sigmoid(x)
    z = y * 1.0
    # The saved output is written to behind the back of the version counter.
    y.data.zero_()
    return z


# ---- pooling

WINDOWS = (lambda x: np.concatenate([(x[:, 0:4:2] + x[:, 1:5:2]) / 2, x[:, 4:]], axis=-1), drawn((2, 5)))
PADDED = lambda x: np.concatenate([x[:, :1], np.where(x[:, 1:2] >= x[:, 2:3], x[:, 1:2], x[:, 2:3]), x[:, 3:]], axis=-1)  # noqa: E731
TIED = np.array([[1.0, 1.0, -0.5, 2.0], [3.0, 0.25, -1.0, -1.0]])


class _EveryMaximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = F.max_pool1d(x, 2, 2)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, dY: Any) -> Any:
        x, y = ctx.saved_tensors
        return torch.where(x == y.repeat_interleave(2, -1), dY.repeat_interleave(2, -1), 0.0)


# ---- transposed convolution, of one axis: Y[h s + i d] += X[h] W[i]

S, D = 2, 1
PLACES = np.array([[[float(y == h * S + i * D) for y in range(7)] for i in range(3)] for h in range(3)])


def _transposed(stride: int, dilation: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def backward(dY: Any, saved: Any) -> Any:
        x, w = saved
        dX = [sum(dY[h * stride + i * dilation] * w[i] for i in range(3)) for h in range(3)]
        return np.array(dX), np.einsum("y,h,hiy->i", dY, x, PLACES)

    return (lambda x, w: (np.einsum("h,i,hiy->y", x, w, PLACES), (x, w))), backward


# ---- a matrix times its own transpose; a bias that all units share; an exponential


def _gram(both: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (lambda x: (x @ x.T, x)), (lambda dY, x: (dY + dY.T if both else dY) @ x)


def _shared_bias(of: Callable[[Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def backward(dY: Any, saved: Any) -> Any:
        x, w = saved
        return dY @ w, dY.T @ x, of(dY).reshape(1)

    return (lambda x, w, b: (x @ w.T + b, (x, w))), backward


EXPONENTIAL = ((lambda x: (np.exp(x), np.exp(x))), (lambda dY, y: y * dY))

# ---- layers of recurrent cells, T steps of one sample, with torch's weights


def _lstm(x: Any, h: Any, c: Any, w: Any, u: Any, steps: Any) -> Any:
    """The outputs (T, h) of one direction of one layer, by the equations of torch.nn.LSTM, as a list."""
    found = {}
    for t in steps:
        z = x[t] @ w.mT + h @ u.mT
        i, f, g, o = (z[..., k * 2 : k * 2 + 2] for k in range(4))
        c = special.sigmoid(f) * c + special.sigmoid(i) * np.tanh(g)
        h = special.sigmoid(o) * np.tanh(c)
        found[t] = h
    return [found[t] for t in sorted(found)]


def _stacked(rows: Any) -> Any:
    return np.concatenate([np.expand_dims(row, -2) for row in rows], axis=-2)


def _two_layers(x: Any, h0: Any, c0: Any, w0: Any, u0: Any, w1: Any, u1: Any) -> Any:
    first = _lstm([x[t] for t in range(2)], h0[0], c0[0], w0, u0, range(2))
    return _stacked(_lstm(first, h0[1], c0[1], w1, u1, range(2)))


def _both_ways(x: Any, h0: Any, c0: Any, w: Any, u: Any, w_back: Any, u_back: Any) -> Any:
    rows = [x[t] for t in range(2)]
    ahead = _lstm(rows, h0[0], c0[0], w, u, range(2))
    behind = _lstm(rows, h0[1], c0[1], w_back, u_back, (1, 0))
    return _stacked([np.concatenate([a, b], axis=-1) for a, b in zip(ahead, behind, strict=True)])


def _torch_lstm(names: tuple[str, ...], **how: Any) -> Callable[..., Any]:
    module = torch.nn.LSTM(4 if "bidirectional" in how else 3, 2, bias=False, dtype=torch.float64, **how)

    def run(x: Any, h0: Any, c0: Any, *weights: Any) -> Any:
        return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x, (h0, c0)))[0]

    return run


LAYERS = ("weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1")
WAYS = ("weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse")
LAYERED = _torch_lstm(LAYERS, num_layers=2)
TURNED = _torch_lstm(WAYS, bidirectional=True)
OF_LAYERS = drawn((2, 3), (2, 2), (2, 2), (8, 3), (8, 2), (8, 2), (8, 2))
OF_WAYS = drawn((2, 4), (2, 2), (2, 2), (8, 4), (8, 2), (8, 4), (8, 2))


def _other_layers_state(x: Any, h0: Any, c0: Any, *weights: Any) -> Any:
    return LAYERED(x, h0.flip(0), c0, *weights)


def _not_turned(x: Any, h0: Any, c0: Any, w: Any, u: Any, w_back: Any, u_back: Any) -> Any:
    ahead = TURNED(x, h0, c0, w, u, w_back, u_back)[:, :2]
    return torch.cat([ahead, TURNED(x, h0.flip(0), c0.flip(0), w_back, u_back, w, u)[:, :2]], -1)


class _Overwritten(torch.autograd.Function):
    """Both directions; dX of the first is written where dY lies, before the second has read its part of that."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        ctx.save_for_backward(*inputs)
        return TURNED(*inputs)

    @staticmethod
    def backward(ctx: Any, dY: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            Y = TURNED(*leaves)
        upstream = dY.clone()
        first = torch.autograd.grad(Y, leaves, torch.cat([upstream[:, :2], 0 * upstream[:, 2:]], -1), retain_graph=True)
        upstream.copy_(first[0])
        second = torch.autograd.grad(Y, leaves, torch.cat([0 * upstream[:, :2], upstream[:, 2:]], -1))
        return tuple(a + b for a, b in zip(first, second, strict=True))


def _gru(x: Any, h: Any, w: Any, u: Any, b: Any, d: Any) -> Any:
    """The equations of torch.nn.GRUCell: blocks r, z, n."""
    a, e = x @ w.mT + b, h @ u.mT + d
    r, z = (special.sigmoid(a[:, k : k + 2] + e[:, k : k + 2]) for k in (0, 2))
    n = np.tanh(a[:, 4:] + r * e[:, 4:])
    return (1 - z) * n + z * h


GRU = torch.nn.GRUCell(3, 2, dtype=torch.float64)


def _torch_gru(x: Any, h: Any, *weights: Any) -> Any:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return torch.func.functional_call(GRU, dict(zip(names, weights, strict=True)), (x, h))


def _gates_exchanged(x: Any, h: Any, *weights: Any) -> Any:
    return _torch_gru(x, h, *(torch.cat([w[2:4], w[:2], w[4:]]) for w in weights))


def _biases_exchanged(x: Any, h: Any, w: Any, u: Any, *biases: Any) -> Any:
    return _torch_gru(x, h, w, u, *(torch.cat([b[2:4], b[:2], b[4:]]) for b in biases))


PROGRAMS = {
    "logsumexp of a part": Program(
        lambda x: np.log(np.sum(np.where(KEEP, np.exp(np.where(KEEP, x, 0.0)), 0.0))),
        (X_MASKED,),
        _masked_logsumexp(True),
        (_masked_logsumexp(False),),
        numpy=True,
    ),
    "GELU of a gradient that is not contiguous": Program(
        "gelu", drawn((3, 4)), _gelu(True), (_gelu(False),), True, np.ascontiguousarray(*drawn((4, 3))).T
    ),
    "an output written to after the forward pass": Program(
        "sigmoid", drawn((3, 4)), torch.sigmoid, (_written_after_forward,)
    ),
    "average over what hangs over": Program(
        *WINDOWS,
        lambda x: F.avg_pool1d(x, 2, 2, ceil_mode=True),
        (lambda x: F.avg_pool1d(F.pad(x, (0, 1)), 2, 2),),
    ),
    "maximum over zeros around": Program(
        PADDED,
        tuple(-abs(x) for x in drawn((2, 4))),
        lambda x: F.max_pool1d(x, 2, 2, padding=1),
        (lambda x: F.max_pool1d(F.pad(x, (1, 1)), 2, 2),),
    ),
    "maximum at a tie": Program(
        lambda x: np.where(x[:, ::2] >= x[:, 1::2], x[:, ::2], x[:, 1::2]),
        (TIED,),
        lambda x: F.max_pool1d(x, 2, 2),
        (lambda x: torch.maximum(x[:, ::2], x[:, 1::2]), _EveryMaximum.apply),
    ),
    "transposed convolution with stride and dilation exchanged": Program(
        lambda x, w: np.sum(np.reshape(np.reshape(x, (3, 1)) * w, (3, 3, 1)) * PLACES, axis=(-3, -2)),
        drawn((3,), (3,)),
        _transposed(S, D),
        (_transposed(D, S),),
        numpy=True,
    ),
    "a matrix times its own transpose": Program(
        lambda x: x @ x.mT, drawn((3, 4)), _gram(True), (_gram(False),), numpy=True
    ),
    "a bias shared by the units of a layer": Program(
        lambda x, w, b: x @ w.mT + b,
        drawn((4, 3), (2, 3), (1,)),
        _shared_bias(np.sum),
        (_shared_bias(lambda dY: dY[:, 0].sum()),),
        numpy=True,
    ),
    "exponential differentiated by its output": Program(np.exp, drawn((3, 4)), EXPONENTIAL, (), numpy=True),
    "the initial state of another layer": Program(_two_layers, OF_LAYERS, LAYERED, (_other_layers_state,)),
    "both directions run ahead": Program(_both_ways, OF_WAYS, TURNED, (_not_turned,)),
    "upstream gradient overwritten between the directions": Program(_both_ways, OF_WAYS, TURNED, (_Overwritten.apply,)),
    "gates of a GRU exchanged": Program(
        _gru, drawn((3, 3), (3, 2), (6, 3), (6, 2), (6,), (6,)), _torch_gru, (_gates_exchanged, _biases_exchanged)
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_right_program_passes(name: str) -> None:
    report = PROGRAMS[name].report(PROGRAMS[name].right)
    assert report.ok, report


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, k) for name, program in PROGRAMS.items() for k in range(len(program.wrong))]
)
def test_the_reported_program_fails(name: str, wrong: int) -> None:
    program = PROGRAMS[name]
    report = program.report(program.wrong[wrong])
    assert "FAIL" in {v.verdict for v in report.verdicts}, report
