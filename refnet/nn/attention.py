"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator, resolve
from refnet.nn.dropout import Dropout, DropoutSaved
from refnet.nn.module import Array, Module, Params

ALIGNMENTS = ("upper_left", "lower_right")


class Terms(NamedTuple):
    """What attention is computed from: Q, K and V; the scale of the scores; which pairs of query and key take part,
    None for all; what is added to the scores, None for nothing; what drops weights, None for nothing, and the mask that
    it is given."""

    Q: Array
    K: Array
    V: Array
    scale: Array
    keep: Array | None = None
    A: Array | None = None
    dropout: Dropout | None = None
    kept: Array | None = None


class AttentionSaved(NamedTuple):
    """What it was computed from; the weights P and the place of the largest of each row; the weights D after dropout,
    and what that saved."""

    terms: Terms
    P: Array
    top: Array
    D: Array
    dropped: DropoutSaved | None


def attend(terms: Terms) -> tuple[Array, AttentionSaved]:
    """Attention of all heads at once. Axes: h head, G[h] its head of K and V; l, m query; s, t key; e unit."""
    V, dropout, kept = terms.V, terms.dropout, terms.kept
    E, _, Z = exponentials(*scores(terms))
    # P[h,l,s] = E[h,l,s] / Z[h,l]     D[h,l,s] = [kept[h,l,s]] P[h,l,s] / (1 - p)
    P = E / Z
    D, dropped = (P, None) if dropout is None else dropout.forward(P, kept)
    # Y[h,l,e] = sum_s D[h,l,s] V[G[h],s,e]
    Y = ungrouped(special.product(grouped(D, V), V), D)
    return Y, AttentionSaved(terms, P, special.largest(E, -1), D, dropped)


def attend_backward(
    dY: Array, saved: AttentionSaved, dW: Array | None = None
) -> tuple[Array, Array, Array, Array | None]:
    """(dQ, dK, dV, dA) for the upstream gradients of Y and, where they are given out, of the weights D."""
    (Q, K, V, scale, _, A, dropout, _), P, top, D, dropped = saved
    # dV[g,s,e] = sum_{h: G[h] = g} sum_l D[h,l,s] dY[h,l,e]
    dV = special.over_samples(grouped(D, V), grouped(dY, V))
    # dD[h,l,s] = sum_e dY[h,l,e] V[G[h],s,e] + dW[h,l,s]
    dD = ungrouped(special.product(grouped(dY, V), V.mT), Q)
    if dW is not None:
        dD = dD + dW
    # dP[h,l,s] = [kept[h,l,s]] dD[h,l,s] / (1 - p)
    dP = dD if dropout is None or dropped is None else _of_the_first(dropout.backward(dD, dropped))
    # R[h,l,s] = dP[h,l,s] - dP[h,l,t], t the likeliest key, where that is 0
    R = np.where(top, dP * 0, dP - special.total(np.where(top, dP, special.lift(0.0, P)), -1, keepdims=True))
    # dS[h,l,s] = P[h,l,s] (R[h,l,s] - sum_t P[h,l,t] R[h,l,t])
    dS = P * (R - special.total(P * R, -1, keepdims=True))
    # dA[h,l,s] = dS[h,l,s], summed over what A is the same for
    dA = None if A is None else summed_to(dS, A.shape)
    # dQ[h,l,e] = scale sum_s dS[h,l,s] K[G[h],s,e]     dK[g,s,e] = scale sum_{h: G[h] = g} sum_l dS[h,l,s] Q[h,l,e]
    dQ = ungrouped(special.product(grouped(dS, K), K), Q) * scale
    dK = special.over_samples(grouped(dS, K), grouped(Q, K)) * scale
    return dQ, dK, dV, dA


def _of_the_first(answer: tuple[Any, Params]) -> Array:
    """The gradient of the first input alone."""
    grad = answer[0]
    return grad[0] if isinstance(grad, tuple) else grad


def scores(terms: Terms) -> tuple[Array, Array | None]:
    """The scores, and which pairs take part: not one at which -inf is added."""
    Q, K, _, scale, keep, A, *_ = terms
    # S[h,l,s] = scale sum_e Q[h,l,e] K[G[h],s,e] + A[h,l,s]
    S = ungrouped(special.product(grouped(Q, K), K.mT), Q) * scale
    if A is None:
        return S, keep
    finite, A = finite_part(A)
    return S + A, finite if keep is None else finite & keep


def finite_part(A: Array) -> tuple[Array, Array]:
    """Where a mask that is added is not -inf, and what it adds there; 0 elsewhere."""
    finite = -math.inf != A
    return finite, np.where(finite, A, special.lift(0.0, A))


def exponentials(S: Array, keep: Array | None) -> tuple[Array, Array, Array]:
    """E, the shift M and the sum Z. A NaN stays one, also where no key takes part."""
    if keep is None:
        # E[h,l,s] = exp(S[h,l,s] - M[h,l]), M[h,l] = max_s S[h,l,s]     Z[h,l] = sum_s E[h,l,s]
        M = special.shift(S, -1)
        E = np.exp(S - M)
        return E, M, special.total(E, -1, keepdims=True)
    # the same for the keys that take part; for the others E[h,l,s] = 0, and Z[h,l] = 1 where there are only others
    X = np.where(keep, S, S * 0 - special.shift(-S, -1))
    M = special.shift(X, -1)
    E = np.where(keep, np.exp(X - M), S * 0)
    Z = special.total(E, -1, keepdims=True)
    return E, M, np.where(keep.sum(axis=-1, keepdims=True) > 0, Z, special.lift(1.0, S))


def grouped(X: Array, like: Array) -> Array:
    """(..., h, l, e) as (..., g, h l, e) for the heads g of `like`: the queries of all heads that share one of K."""
    if X.ndim < 3 or X.shape[-3] == like.shape[-3]:
        return X
    g, rows = like.shape[-3], X.shape[-3] * X.shape[-2]
    return X.reshape(*X.shape[:-3], g, rows // g, X.shape[-1])


def ungrouped(X: Array, like: Array) -> Array:
    """The other way: with the heads and queries of `like`."""
    if X.ndim < 3 or X.shape[-3] == like.shape[-3]:
        return X
    return X.reshape(*like.shape[:-1], X.shape[-1])


def summed_to(X: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes along which an array of that shape was the same."""
    missing = X.ndim - len(shape)
    axes = tuple(k - X.ndim for k in range(X.ndim) if k < missing or shape[k - missing] != X.shape[k])
    return (special.total(X, axes, keepdims=True) if axes else X).reshape(*shape)


def causal(L: int, S: int, alignment: str = "upper_left") -> Array:
    """Which keys a query sees, (l, s): those up to its own place, counted from the first query and the first key, or,
    `lower_right`, from the last ones. torch.nn.attention.bias has both, under these names."""
    # keep[l,s] = [s <= l + offset]
    offset = 0 if alignment == "upper_left" else S - L
    return np.arange(S) <= np.expand_dims(np.arange(L), -1) + offset


class ScaledDotProductAttention(Module):
    """Y = softmax(scale Q K^T + A) V for every head: torch.nn.functional.scaled_dot_product_attention as a module.

    Axes: h head, l query, s key, e unit. Q (..., h, l, e), K (..., h, s, e), V (..., h, s, v), Y (..., h, l, v); h may
    be missing. With `enable_gqa`, K and V have fewer heads, each for as many heads of Q in a row.

    Backward, dS = P (dP - sum_t P dP) is the same when one number is taken off every dP of a row: that of the likeliest
    key is, where dP and the sum would cancel.

    A query that has no key, as its row of the mask leaves none: the output is 0, and so are its gradients, as torch's
    are on every path of 2.13. JAX's jax.nn.dot_product_attention gives it the mean of all values, and
    torch.nn.MultiheadAttention with `need_weights` NaN. A mask and `is_causal` together are refused, as torch documents
    it (its flash kernel on the CPU takes both).

    Args:
        dropout_p: probability of a weight to be dropped, in training mode.
        is_causal: whether a query sees no later key.
        scale: of the scores; None for 1 / sqrt(e).
        enable_gqa: whether heads of Q share those of K and V.
        alignment: which pairs lie on the diagonal of `is_causal`: `upper_left`, the first query and the first key,
            which is torch's, or `lower_right`, the last query and the last key.
        generator: source of the dropout masks that are not given.

    Raises:
        TypeError: Q, K, V and an added mask are not floats of one dtype.
        ValueError: shapes do not fit each other: only masks are broadcast; or there are a mask and `is_causal`.
    """

    def __init__(
        self,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        *,
        alignment: str = "upper_left",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        name = "ScaledDotProductAttention"
        if not 0 <= dropout_p <= 1:
            raise ValueError(f"{name}: expected 0 <= dropout_p <= 1, got {dropout_p}")
        if scale is not None:
            _check.number(name, "scale", scale)
        _check.flag(name, "is_causal", is_causal)
        _check.flag(name, "enable_gqa", enable_gqa)
        _check.one_of(name, "alignment", alignment, ALIGNMENTS)
        self.dropout_p, self.is_causal, self.scale, self.enable_gqa = dropout_p, is_causal, scale, enable_gqa
        self.alignment = alignment
        self.generator = resolve(generator) if dropout_p else None

    def extra_repr(self) -> str:
        return (
            f"dropout_p={self.dropout_p}, is_causal={self.is_causal}, scale={self.scale}, "
            f"enable_gqa={self.enable_gqa}, alignment={self.alignment!r}"
        )

    def forward(
        self,
        query: Array,
        key: Array,
        value: Array,
        attn_mask: Array | None = None,
        dropout_mask: Array | None = None,
    ) -> tuple[Array, Any]:
        """`attn_mask`: of booleans, True where a pair takes part, or of floats, added to the scores. `dropout_mask`:
        of booleans, True where a weight is kept; None draws one, in training mode."""
        masks = attn_mask is not None, dropout_mask is not None
        Y, saved = self.attend(self.terms(query, key, value, attn_mask, dropout_mask))
        return Y, (saved, *masks)

    def backward(self, grad_output: Array, saved: Any) -> tuple[tuple[Array | None, ...], Params]:
        """The gradients of query, key and value, and of each mask that was given: None for one of booleans."""
        own, masked, given = saved
        Q, V = own.terms.Q, own.terms.V
        dY = _check.upstream("ScaledDotProductAttention", grad_output, (*Q.shape[:-1], V.shape[-1]), Q.dtype)
        dQ, dK, dV, dA = self.attend_backward(dY, own)
        return (dQ, dK, dV, *((dA,) if masked else ()), *((None,) if given else ())), {}

    def attend(self, terms: Terms) -> tuple[Array, AttentionSaved]:
        """The function of that name, which another formula may replace."""
        return attend(terms)

    def attend_backward(self, dY: Array, saved: AttentionSaved) -> tuple[Array, Array, Array, Array | None]:
        """Likewise."""
        return attend_backward(dY, saved)

    def terms(self, Q: Array, K: Array, V: Array, attn_mask: Array | None, dropout_mask: Array | None) -> Terms:
        """What is computed from inputs that fit each other."""
        self.check(Q, K, V, attn_mask, dropout_mask)
        L, S = Q.shape[-2], K.shape[-2]
        scale = 1 / np.sqrt(special.lift(Q.shape[-1], Q)) if self.scale is None else special.lift(self.scale, Q)
        terms = Terms(Q, K, V, scale, *apart(attn_mask), self.dropout(dropout_mask), dropout_mask)
        return terms._replace(keep=causal(L, S, self.alignment)) if self.is_causal else terms

    def dropout(self, dropout_mask: Array | None) -> Dropout | None:
        """What drops weights, in the mode of this module; None where there is nothing to drop by."""
        if dropout_mask is None and not self.dropout_p:
            return None
        return Dropout(self.dropout_p, generator=self.generator).train(self.training)

    def check(self, Q: Array, K: Array, V: Array, attn_mask: Array | None, dropout_mask: Array | None) -> None:
        """Raise unless the inputs fit each other and the options."""
        name = "ScaledDotProductAttention"
        _check.floating(name, query=Q, key=K, value=V)
        least = 3 if self.enable_gqa else 2
        if not Q.ndim == K.ndim == V.ndim >= least or Q.shape[-1] != K.shape[-1] or K.shape[-2] != V.shape[-2]:
            heads = "H, " if self.enable_gqa else ""
            form = f"(..., {heads}L, E), (..., {heads}S, E) and (..., {heads}S, V)"
            raise ValueError(f"{name}: expected query, key and value of shapes {form}, got {_shapes(Q, K, V)}")
        lead = [X.shape[: -3 if self.enable_gqa else -2] for X in (Q, K, V)]
        if lead[0] != lead[1] or lead[0] != lead[2]:
            raise ValueError(f"{name}: expected query, key and value alike in leading axes, got {_shapes(Q, K, V)}")
        if self.enable_gqa:
            h, g = Q.shape[-3], (K.shape[-3], V.shape[-3])
            if min(g) < 1 or any(h % n for n in g):
                raise ValueError(f"{name}: expected heads of key and value that divide those of query, {h}, got {g}")
        if not Q.shape[-1] and self.scale is None:
            raise ValueError(f"{name}: expected a unit to scale by, got a query of shape {tuple(Q.shape)}")
        weights = (*Q.shape[:-1], K.shape[-2])
        if attn_mask is not None:
            if self.is_causal:
                raise ValueError(f"{name}: expected no attn_mask with is_causal, got both")
            check_mask(name, "attn_mask", attn_mask, Q)
            _check.broadcast_to(name, weights, attn_mask=attn_mask)
        check_dropout_mask(name, dropout_mask, weights)


def apart(mask: Array | None) -> tuple[Array | None, Array | None]:
    """A mask as what takes part, where it is of booleans, and as what is added, where it is of floats."""
    return (mask, None) if mask is not None and mask.dtype.kind == "b" else (None, mask)


def check_mask(operation: str, name: str, mask: Array, like: Array) -> None:
    """Raise TypeError unless a mask is of booleans or of the floats of the inputs."""
    if _check.kind(operation, name, mask) in "iu":
        raise TypeError(f"{operation}: expected {name} of dtype bool or {like.dtype}, got {mask.dtype}")
    if mask.dtype.kind != "b":
        _check.floating(operation, query=like, **{name: mask})


def check_dropout_mask(operation: str, mask: Array | None, shape: tuple[int, ...]) -> None:
    """Raise unless a mask of what dropout keeps is of booleans and of that shape."""
    if mask is None:
        return
    if _check.kind(operation, "dropout_mask", mask) != "b":
        raise TypeError(f"{operation}: expected dropout_mask of dtype bool, got {mask.dtype}")
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(f"{operation}: expected dropout_mask of shape {tuple(shape)}, got {tuple(mask.shape)}")


def _shapes(*arrays: Array) -> str:
    return ", ".join(str(tuple(array.shape)) for array in arrays)
