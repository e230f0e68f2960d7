"""Mistakes in RotaryEmbedding. Letters and axes as there: l position, e unit, r pair."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.fault import Fault, Unsupported, replaced


def _sines_sign_forward(module: Any, right: Any, X: Any, C: Any, S: Any) -> Any:
    # Y1[l,r] = X1[l,r] C[l,r] + X2[l,r] S[l,r]     Y2[l,r] = X2[l,r] C[l,r] - X1[l,r] S[l,r]
    Y, saved = right(X, C, -S)
    return Y, saved._replace(S=S)


def _turned_forward(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (_, dC, dS), grads = right(dY, saved)
    # dX1[l,r] = dY1[l,r] C[l,r] - dY2[l,r] S[l,r]     dX2[l,r] = dY1[l,r] S[l,r] + dY2[l,r] C[l,r]
    (dX, *_), _ = right(dY, saved._replace(S=-saved.S))
    return (dX, dC, dS), grads


def _handed_on(module: Any, right: Any, dY: Any, saved: Any) -> Any:
    (_, dC, dS), grads = right(dY, saved)
    # dX[l,e] = dY[l,e]
    return (dY, dC, dS), grads


def _in_the_other_layout(module: Any, right: Any, *args: Any) -> Any:
    module.interleaved = not module.interleaved
    result = right(*args)
    module.interleaved = not module.interleaved
    return result


def _tables_of_the_other_layout(module: Any, right: Any, X: Any, C: Any, S: Any) -> Any:
    # the angle of unit e is that of pair e modulo r where pairs are neighbours, and of pair e / 2 where they are halves
    r = C.shape[-1]
    if r < 2:
        raise Unsupported("fewer than two pairs")
    X1, X2 = module.pairs(X, r)
    first, second = ([k // 2 for k in range(2 * r)], [k % r for k in range(2 * r)])
    order = second if module.interleaved else first
    at = range(0, 2 * r, 2) if module.interleaved else range(r)
    behind = range(1, 2 * r, 2) if module.interleaved else range(r, 2 * r)

    def of(T: Any, units: range) -> Any:
        return np.concatenate([T[..., order[e] : order[e] + 1] for e in units], axis=-1)

    _, saved = right(X, C, S)
    Y1, Y2 = X1 * of(C, at) - X2 * of(S, at), X1 * of(S, behind) + X2 * of(C, behind)
    return module.joined(Y1, Y2, X), saved


def _from_position_one(module: Any, right: Any, X: Any, C: Any, S: Any) -> Any:
    if C.shape[-2] < 2:
        raise Unsupported("one position")
    # Y1[l,r] = X1[l,r] C[l+1,r] - X2[l,r] S[l+1,r]
    return right(X, *(np.concatenate([T[..., 1:, :], T[..., :1, :]], axis=-2) for T in (C, S)))


def _rest_dropped(module: Any, right: Any, X: Any, C: Any, S: Any) -> Any:
    r = C.shape[-1]
    if X.shape[-1] == 2 * r:
        raise Unsupported("every unit is turned")
    Y, saved = right(X, C, S)
    # Y[l,e] = 0 from e = 2 r on
    return np.concatenate([Y[..., : 2 * r], Y[..., 2 * r :] * 0], axis=-1), saved


def _exchanged(module: Any, right: Any, X: Any, C: Any, S: Any) -> Any:
    # Y1[l,r] = X1[l,r] S[l,r] - X2[l,r] C[l,r]
    return right(X, S, C)


def _rotary(name: str, what: str, reveal: str, source: str, method: str, by: Any) -> Fault:
    return Fault(f"rotary: {name}", what, reveal, source, {"RotaryEmbedding": replaced(method, by)})


def _other_layout(module: Any) -> None:
    for method in ("forward", "backward"):
        replaced(method, _in_the_other_layout)(module)


FAULTS = (
    Fault(
        "rotary: layouts confused",
        "pairs of neighbours against pairs of halves, or the other way",
        "two pairs or more",
        "EleutherAI/gpt-neox#834, NVIDIA-NeMo/Speech#6923",
        {"RotaryEmbedding": _other_layout},
    ),
    _rotary(
        "layout confused backward",
        "dX by pairs of the other layout than Y",
        "two pairs or more",
        "Dao-AILab/flash-attention#569",
        "backward",
        _in_the_other_layout,
    ),
    _rotary(
        "tables of the other layout",
        "angles in pairs where the units are in halves, or the other way",
        "two pairs or more",
        "huggingface/transformers#47328, facebookresearch/xformers#779",
        "forward",
        _tables_of_the_other_layout,
    ),
    _rotary(
        "turned the other way",
        "X1 C + X2 S against X1 C - X2 S",
        "any",
        "kind of bug: the sign of the sine",
        "forward",
        _sines_sign_forward,
    ),
    _rotary(
        "turned on instead of back",
        "dX1 = dY1 C - dY2 S against dY1 C + dY2 S",
        "any",
        "kind of bug: the sign of the sine in the backward",
        "backward",
        _turned_forward,
    ),
    _rotary(
        "gradient handed on",
        "dX = dY against dY turned back",
        "any",
        "kind of bug: no derivative",
        "backward",
        _handed_on,
    ),
    _rotary(
        "positions from one",
        "C[l+1] against C[l]",
        "two positions or more",
        "kind of bug: off by one",
        "forward",
        _from_position_one,
    ),
    _rotary(
        "cosine and sine exchanged",
        "X1 S - X2 C against X1 C - X2 S",
        "any",
        "kind of bug: exchanged",
        "forward",
        _exchanged,
    ),
    _rotary(
        "rest dropped",
        "0 against X for units that are not turned",
        "more units than twice the pairs",
        "kind of bug: partial rotation",
        "forward",
        _rest_dropped,
    ),
)
