"""Mistakes in GLU, SwiGLU and GEGLU. Letters as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, replaced
from refnet.arithmetic import special


def _glu(by: Any) -> Any:
    """A backward of GLU from dY, the halves A and B, and s(B), s(-B)."""

    def backward(m: Any, right: Any, dY: Any, saved: Any) -> Any:
        A, B, c = saved
        dA, dB = by(dY, A, B, *special.sigmoids(B))
        return np.concatenate([dA, dB], axis=c), {}

    return replaced("backward", backward)


def _glu_swapped(m: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    A, B, _ = saved
    # Y[.] = B[.] s(A[.])
    return B * special.sigmoid(A), saved


def _glu_interleaved(m: Any, right: Any, X: Any) -> Any:
    _, saved = right(X)
    behind = (slice(None),) * (-1 - saved.c)
    A, B = X[(..., slice(None, None, 2), *behind)], X[(..., slice(1, None, 2), *behind)]
    # A every even, B every odd element
    return A * special.sigmoid(B), saved._replace(A=A, B=B)


def _swapped_maps(m: Any, right: Any, X: Any) -> Any:
    gate, up, down = m.children()
    S, _ = m.act.forward(up.forward(X)[0])
    _, saved = right(X)
    B, _ = gate.forward(X)
    # H = B f(A) with gate and up in each other's place
    return down.forward(S * B)[0], saved


def _plus_one(m: Any, right: Any, X: Any) -> Any:
    _, _, down = m.children()
    _, saved = right(X)
    # H = f(A) B + f(A)
    return down.forward(saved.S * saved.B + saved.S)[0], saved


def _ungated(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dB = dH against dH f(A)
    return right(dY, saved._replace(S=0 * saved.S + 1))


def _gate_without_value(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    # dA = dH f'(A) against dH B f'(A)
    return right(dY, saved._replace(B=0 * saved.B + 1))


def _one_path(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    gate, _, down = m.children()
    _, grads = right(dY, saved)
    dH, _ = down.backward(dY, saved.down)
    dA, _ = m.act.backward(dH * saved.B, saved.act)
    # dX = dA Wg against dA Wg + dB Wu
    return gate.backward(dA, saved.gate)[0], grads


def _swapped_grads(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    dX, grads = right(dY, saved)
    names = {"gate_proj": "up_proj", "up_proj": "gate_proj", "down_proj": "down_proj"}
    # dWg and dWu in each other's place
    return dX, {name: grads[f"{names[(place := name.partition('.'))[0]]}.{place[2]}"] for name in grads}


def _no_activation_slope(m: Any, right: Any, dY: Any, saved: Any) -> Any:
    act, m.act = m.act, _Straight()
    result = right(dY, saved)
    m.act = act
    return result


class _Straight:
    """An activation whose derivative is taken for 1."""

    def backward(self, dY: Any, saved: Any) -> Any:
        return dY, {}


BLOCKS = ("SwiGLU", "GEGLU")

FAULTS = (
    *(
        Fault(f"glu: {name}", what, reveal, source, {"GLU": patch})
        for name, what, patch, reveal, source in (
            (
                "the halves swapped",
                "Y = B s(A) against A s(B)",
                replaced("forward", _glu_swapped),
                "any",
                "ooples/AiDotNet.Tensors#46",
            ),
            (
                "the halves interleaved",
                "even and odd elements for the halves",
                replaced("forward", _glu_interleaved),
                "more than two elements along the axis",
                "kind of bug: another layout",
            ),
            (
                "the gate without its derivative",
                "dB = dY A s(B) against dY A s(B) s(-B)",
                _glu(lambda dY, A, B, S, Z: (dY * S, dY * (A * S))),
                "any",
                "kind of bug: an inner derivative left out",
            ),
            (
                "the gate without the value",
                "dB = dY s(B) s(-B)",
                _glu(lambda dY, A, B, S, Z: (dY * S, dY * (S * Z))),
                "any",
                "kind of bug: a factor left out",
            ),
            (
                "the gradients swapped",
                "dA and dB in each other's place",
                _glu(lambda dY, A, B, S, Z: (dY * (A * (S * Z)), dY * S)),
                "any",
                "unslothai/unsloth#3314",
            ),
            (
                "the value not gated",
                "dA = dY",
                _glu(lambda dY, A, B, S, Z: (dY + 0 * A, dY * (A * (S * Z)))),
                "any",
                "kind of bug: a factor left out",
            ),
        )
    ),
    *(
        Fault(f"gated block: {name}", what, reveal, source, {kind: replaced(method, by) for kind in BLOCKS})
        for name, method, what, by, reveal, source in (
            (
                "gate and up swapped",
                "forward",
                "Y = (f(x Wu^T) * (x Wg^T)) Wd^T",
                _swapped_maps,
                "any",
                "ml-explore/mlx-lm#767",
            ),
            (
                "gate times value plus one",
                "forward",
                "H = f(A) (B + 1) against f(A) B",
                _plus_one,
                "any",
                "vllm-project/vllm#42578",
            ),
            (
                "the value's gradient not gated",
                "backward",
                "dB = dH against dH f(A)",
                _ungated,
                "any",
                "unslothai/unsloth#3314",
            ),
            (
                "the gate's gradient without the value",
                "backward",
                "dA = dH f'(A) against dH B f'(A)",
                _gate_without_value,
                "any",
                "kind of bug: a factor left out",
            ),
            (
                "one path back to the input",
                "backward",
                "dX = dA Wg against dA Wg + dB Wu",
                _one_path,
                "any",
                "kind of bug: a missing term",
            ),
            (
                "the weights' gradients swapped",
                "backward",
                "dWg and dWu in each other's place",
                _swapped_grads,
                "any",
                "unslothai/unsloth#3314",
            ),
            (
                "the activation's derivative left out",
                "backward",
                "dA = dH B against dH B f'(A)",
                _no_activation_slope,
                "any",
                "kind of bug: a derivative left out",
            ),
        )
    ),
)
