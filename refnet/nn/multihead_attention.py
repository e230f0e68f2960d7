"""Attention with several heads and projections."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator, resolve
from refnet.nn import init
from refnet.nn.attention import (
    AttentionSaved,
    Terms,
    attend,
    attend_backward,
    check_dropout_mask,
    check_mask,
    finite_part,
    summed_to,
)
from refnet.nn.dropout import Dropout
from refnet.nn.linear import Linear, LinearSaved
from refnet.nn.module import Array, Module, Params

NAME = "MultiheadAttention"


class MultiheadAttentionSaved(NamedTuple):
    """The inputs with an axis of samples; what attention and the last projection saved; the shape of the output; the
    masks that are added, padding and pairs, or None; the shapes of the masks that were given, or None; whether weights
    were given out, and as their mean."""

    X: tuple[Array, Array, Array]
    attention: AttentionSaved
    projected: LinearSaved
    shape: tuple[int, ...]
    added: tuple[Array | None, Array | None]
    given: tuple[tuple[int, ...] | None, ...]
    need_weights: bool
    average: bool


class MultiheadAttention(Module):
    """Y = concat over h of (softmax(Q_h K_h^T / sqrt(d)) V_h) W_o^T + b_o, with Q_h, K_h, V_h linear in the inputs.

    Axes: n sample, l query, s key, h head, d unit of a head, e = h d unit; x unit of an input. query (l, n, e), key
    (s, n, kdim), value (s, n, vdim), output (l, n, e); with `batch_first` (n, l, e) and so on; without samples (l, e).

        Q = query Wq^T + bq     K = key Wk^T + bk     V = value Wv^T + bv     each cut into heads of d units

    `in_proj_weight` is Wq, Wk, Wv in this order, or they are `q_proj_weight`, `k_proj_weight`, `v_proj_weight` where
    kdim or vdim differ from embed_dim; `in_proj_bias` is bq, bk, bv; `out_proj` a Linear. `add_bias_kv` appends a key
    `bias_k` and a value `bias_v`, the same for all samples, `add_zero_attn` a key and a value of zeros; no mask bears
    on these.

    A boolean mask is True where a pair, or a key, is left out: the opposite of scaled_dot_product_attention. A query
    that has no key gets zeros; torch gives NaN with `need_weights`, zeros without. `is_causal` is only a hint, as
    torch documents it, that attn_mask is causal: what is computed is what attn_mask says. (torch 2.13 replaces the
    mask without `need_weights`, and then hides appended keys too; see docs/findings.md.)

    Args:
        embed_dim, num_heads: e and h. dropout: probability of a weight to be dropped, in training mode.
        bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first: see above; kdim and vdim are e by default.
        device: accepted as torch's: the processor. dtype: float32 or float64 (the default).
        generator: source of initial values and of the dropout masks that are not given. The values are torch's, within
            the scope that `refnet.generator` states.

    Raises:
        TypeError: inputs, parameters and masks that are added are not floats of one dtype.
        ValueError: embed_dim is no multiple of num_heads; shapes do not fit each other: nothing is broadcast.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        E = self.embed_dim = _check.size(NAME, "embed_dim", embed_dim, 1)
        self.num_heads = _check.size(NAME, "num_heads", num_heads, 1)
        if E % num_heads:
            raise ValueError(f"{NAME}: expected embed_dim to be a multiple of num_heads, got {E} and {num_heads}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{NAME}: expected 0 <= dropout <= 1, got {dropout}")
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self.kdim = E if kdim is None else _check.size(NAME, "kdim", kdim, 1)
        self.vdim = E if vdim is None else _check.size(NAME, "vdim", vdim, 1)
        made = _check.dtype_of(NAME, dtype, device)
        out_proj = Linear(E, E, bias=bias, dtype=made, generator=generator)
        if self.kdim == self.vdim == E:
            shapes = {"in_proj_weight": (3 * E, E)}
        else:
            shapes = {"q_proj_weight": (E, E), "k_proj_weight": (E, self.kdim), "v_proj_weight": (E, self.vdim)}
        for name, shape in shapes.items():
            self.params[name] = init.xavier_uniform_(np.empty(shape, made), generator=generator)
        if bias:
            self.params["in_proj_bias"] = np.zeros(3 * E, made)
            out_proj.params["bias"][...] = 0
        if add_bias_kv:
            for name in ("bias_k", "bias_v"):
                self.params[name] = init.xavier_normal_(np.empty((1, 1, E), made), generator=generator)
        self.generator = resolve(generator) if dropout else None
        self.adopt({"out_proj": out_proj})

    def forward(
        self,
        query: Array,
        key: Array,
        value: Array,
        key_padding_mask: Array | None = None,
        need_weights: bool = True,
        attn_mask: Array | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        dropout_mask: Array | None = None,
    ) -> tuple[tuple[Array, Array | None], MultiheadAttentionSaved]:
        """Return `((output, weights), saved)`, weights None without `need_weights`: after dropout, their mean over the
        heads (n, l, s) with `average_attn_weights`, otherwise (n, h, l, s).

        `key_padding_mask` (n, s); `attn_mask` (l, s) or (n h, l, s); `dropout_mask` (n, h, l, s), True where a weight
        is kept. Without samples n is left out.
        """
        self.check(query, key, value, key_padding_mask, attn_mask, is_causal, dropout_mask)
        single = query.ndim == 2
        X = tuple(self.inside(x) for x in (query, key, value))
        # Q[n,l,e] = sum_x query[n,l,x] Wq[e,x] + bq[e], and likewise K and V
        Q, K, V = (
            split(special.product(x, W.mT) if b is None else special.product(x, W.mT) + b, self.num_heads)
            for x, (W, b) in zip(X, self.projections(), strict=True)
        )
        N, H, L, d = Q.shape
        S = K.shape[-2]
        for name in ("bias_k", "bias_v"):
            if name in self.params:
                row = np.broadcast_to(self.params[name].reshape(H, 1, d), (N, H, 1, d))
                K, V = (np.concatenate([K, row], -2), V) if name == "bias_k" else (K, np.concatenate([V, row], -2))
        if self.add_zero_attn:
            zeros = np.broadcast_to(special.lift(0.0, K), (N, H, 1, d))
            K, V = (np.concatenate([A, zeros], axis=-2) for A in (K, V))
        keep, added = self.masks(key_padding_mask, attn_mask, (N, H, L, S), K.shape[-2] - S)
        A = added[0] if added[1] is None else added[1] if added[0] is None else added[0] + added[1]
        kept = None if dropout_mask is None else dropout_mask.reshape(N, H, L, K.shape[-2])
        dropout = None if kept is None and not self.dropout else Dropout(self.dropout, generator=self.generator)
        scale = 1 / np.sqrt(special.lift(d, Q))
        heads, attention = self.attend(Terms(Q, K, V, scale, keep, A, dropout and dropout.train(self.training), kept))
        Y, projected = self._modules["out_proj"].forward(joined(heads))
        W = None
        if need_weights:
            # weights[n,l,s] = sum_h D[n,h,l,s] / H
            W = special.total(attention.D, -3) / H if average_attn_weights else attention.D
            W = W.reshape(*W.shape[1:]) if single else W
        given = tuple(
            None if mask is None else tuple(mask.shape) for mask in (key_padding_mask, attn_mask, dropout_mask)
        )
        saved = (X, attention, projected, tuple(query.shape), added, given, need_weights, average_attn_weights)
        return (self.outside(Y, single), W), MultiheadAttentionSaved(*saved)

    def backward(self, grad_output: Any, saved: MultiheadAttentionSaved) -> tuple[tuple[Array | None, ...], Params]:
        """The gradients of query, key, value and of each mask that was given, None for one of booleans, for those of
        output and weights, or of the output alone."""
        X, attention, projected, shape, added, given, need_weights, average = saved
        P = attention.P
        (N, H, L, _), S, single = P.shape, X[1].shape[-2], len(shape) == 2
        dY, dW = grad_output if isinstance(grad_output, tuple) else (grad_output, None)
        dY = _check.upstream(NAME, dY, shape, P.dtype)
        if dW is not None:
            if not need_weights:
                raise ValueError(f"{NAME}: expected one upstream gradient without need_weights, got two")
            weights = P.shape[:1] + (P.shape[2:] if average else P.shape[1:])
            dW = _check.upstream(NAME, dW, weights[1 if single else 0 :], P.dtype)
            # dD[n,h,l,s] = dweights[n,l,s] / H, to what comes from the output
            dW = dW.reshape(N, 1, L, P.shape[-1]) / H if average else dW.reshape(*P.shape)
        dO, inner = self._modules["out_proj"].backward(self.inside(dY), projected)
        dQ, dK, dV, dA = self.attend_backward(split(dO, H), attention, dW)
        grads: Params = {}
        for name, dK_or_dV in (("bias_k", dK), ("bias_v", dV)):
            if name in self.params:
                # dbias_k[h,d] = sum_n dK[n,h,S,d]
                grads[name] = special.total(dK_or_dV[..., S : S + 1, :], -4).reshape(1, 1, self.embed_dim)
        dX, dWs, dbs = [], [], []
        for x, (W, b), dZ in zip(X, self.projections(), (dQ, dK[..., :S, :], dV[..., :S, :]), strict=True):
            dZ = joined(dZ)
            dZr, xr = special.rows(dZ), special.rows(x)
            # dquery[n,l,x] = sum_e dQ[n,l,e] Wq[e,x]
            dX.append(self.outside(special.product(dZ, W), single))
            # dWq[e,x] = sum_{n,l} dQ[n,l,e] query[n,l,x]     dbq[e] = sum_{n,l} dQ[n,l,e]
            dWs.append(special.over_samples(dZr, xr))
            if b is not None:
                dbs.append(special.total(dZr, -2))
        if "in_proj_weight" in self.params:
            grads["in_proj_weight"] = np.concatenate(dWs, axis=-2)
        else:
            grads |= dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), dWs, strict=True))
        if dbs:
            grads["in_proj_bias"] = np.concatenate(dbs, axis=-1)
        self.add_grads(grads, "out_proj", inner)
        # of a mask that is added, what reaches the scores, summed over what it is the same for
        masks = [
            None if A is None or form is None else summed_to(dA, A.shape)[..., :S].reshape(*form)
            for A, form in zip((*added, None), given, strict=True)
        ]
        masks = [dM for dM, form in zip(masks, given, strict=True) if form is not None]
        return (*dX, *masks), {name: grads[name] for name in self.params}

    def attend(self, terms: Terms) -> tuple[Array, AttentionSaved]:
        """The function of that name, which another formula may replace."""
        return attend(terms)

    def attend_backward(
        self, dY: Array, saved: AttentionSaved, dW: Array | None
    ) -> tuple[Array, Array, Array, Array | None]:
        """Likewise."""
        return attend_backward(dY, saved, dW)

    def projections(self) -> list[tuple[Array, Array | None]]:
        """W and b of query, key and value."""
        E, b = self.embed_dim, self.params.get("in_proj_bias")
        W = self.params.get("in_proj_weight")
        return [
            (
                self.params[f"{name}_proj_weight"] if W is None else W[k * E : (k + 1) * E],
                None if b is None else b[k * E : (k + 1) * E],
            )
            for k, name in enumerate("qkv")
        ]

    def inside(self, X: Array) -> Array:
        """An input, or the output's gradient, as (n, l, x)."""
        return np.expand_dims(X, -3) if X.ndim == 2 else X if self.batch_first else exchanged(X)

    def outside(self, X: Array, single: bool) -> Array:
        """The other way."""
        return X.reshape(*X.shape[1:]) if single else X if self.batch_first else exchanged(X)

    def masks(
        self, padding: Array | None, pairs: Array | None, shape: tuple[int, ...], appended: int
    ) -> tuple[Array | None, tuple[Array | None, Array | None]]:
        """Which pairs take part, None for all, and what each mask adds, None for nothing: of shapes that spread over
        (n, h, l, s), s with the keys that are appended."""
        N, H, L, S = shape
        keep, added = None, []
        for mask in (
            padding if padding is None else padding.reshape(N, 1, 1, S),
            pairs if pairs is None or pairs.ndim == 2 else pairs.reshape(N, H, L, S),
        ):
            if mask is None or mask.dtype.kind == "b":
                own, A = None if mask is None else ~mask, None
            else:
                own, A = finite_part(mask)
                A = np.concatenate([A, np.broadcast_to(special.lift(0.0, A), (*A.shape[:-1], appended))], axis=-1)
            if own is not None:
                own = np.concatenate([own, np.ones((*own.shape[:-1], appended), np.bool_)], axis=-1)
                keep = own if keep is None else keep & own
            added.append(A)
        return keep, (added[0], added[1])

    def check(
        self,
        query: Array,
        key: Array,
        value: Array,
        padding: Array | None,
        pairs: Array | None,
        is_causal: bool,
        dropout_mask: Array | None,
    ) -> None:
        """Raise unless the inputs fit each other and the sizes of this module."""
        _check.floating(NAME, query=query, key=key, value=value, **self.params)
        sizes = (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim))
        for name, x, size in sizes:
            if x.ndim not in (2, 3) or x.ndim != query.ndim:
                raise ValueError(f"{NAME}: expected {name} with 2 axes, or 3 with samples, got {tuple(x.shape)}")
            if x.shape[-1] != size:
                raise ValueError(f"{NAME}: expected {name} of {size} units, got {tuple(x.shape)}")
        if key.shape[:-1] != value.shape[:-1]:
            raise ValueError(
                f"{NAME}: expected key and value alike but for units, got {tuple(key.shape)} and {tuple(value.shape)}"
            )
        at = 0 if self.batch_first else 1
        N = 1 if query.ndim == 2 else query.shape[at]
        if query.ndim == 3 and key.shape[at] != N:
            raise ValueError(f"{NAME}: expected key and value of {N} samples, as query, got {tuple(key.shape)}")
        L, S = (x.shape[0 if x.ndim == 2 else 1 - at] for x in (query, key))
        if padding is not None:
            check_mask(NAME, "key_padding_mask", padding, query)
            due = (S,) if query.ndim == 2 else (N, S)
            if tuple(padding.shape) != due:
                raise ValueError(f"{NAME}: expected key_padding_mask of shape {due}, got {tuple(padding.shape)}")
        if pairs is not None:
            check_mask(NAME, "attn_mask", pairs, query)
            forms = (L, S), (N * self.num_heads, L, S)
            if tuple(pairs.shape) not in forms:
                raise ValueError(
                    f"{NAME}: expected attn_mask of shape {forms[0]} or {forms[1]}, got {tuple(pairs.shape)}"
                )
        elif is_causal:
            raise ValueError(f"{NAME}: expected an attn_mask with is_causal, got None")
        samples = () if query.ndim == 2 else (N,)
        every = S + ("bias_k" in self.params) + bool(self.add_zero_attn)
        check_dropout_mask(NAME, dropout_mask, (*samples, self.num_heads, L, every))


def split(Z: Array, H: int) -> Array:
    """(n, l, e) as heads (n, h, l, d)."""
    N, L, E = Z.shape
    return Z.mT.reshape(N, H, E // H, L).mT


def joined(Z: Array) -> Array:
    """Heads (n, h, l, d) as (n, l, e)."""
    N, H, L, d = Z.shape
    return Z.mT.reshape(N, H * d, L).mT


def exchanged(X: Array) -> Array:
    """(a, b, c) as (b, a, c)."""
    a, b, c = X.shape
    return X.reshape(a, b * c).mT.reshape(b, c, a).mT
