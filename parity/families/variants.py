"""Other formulas for what refnet computes: weaker ones that are equal in exact arithmetic, and documented conventions.

A variant is a patch of refnet's own module, written in the same NumPy functions, so it runs in every arithmetic: its
budget is derived like any other, and an answer outside the budget of the formula but inside that of a variant is said
to be so by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.records.definition import Patch
from refnet.arithmetic import special


@dataclass(frozen=True)
class Variant:
    """A listed other formula.

    Attributes:
        name: the formula, short. why: when it differs, and who uses it. source: where that can be read.
        patches: for each module type, what makes a module of it the variant.
        users: the engines that use it; the variants of one engine are also judged all at once.
    """

    name: str
    why: str
    source: str
    patches: Mapping[str, Patch]
    users: tuple[str, ...] = ()


def together(variants: Sequence[Variant]) -> Variant:
    """Several variants at once."""
    patches: dict[str, Patch] = {}
    for variant in variants:
        for kind, patch in variant.patches.items():
            patches[kind] = _both(patches[kind], patch) if kind in patches else patch
    return Variant(", ".join(v.name for v in variants), "", "", patches)


def _both(first: Patch, second: Patch) -> Patch:
    def patch(module: Any) -> None:
        first(module)
        second(module)

    return patch


def bearing_on(types: Set[str]) -> list[Variant]:
    """The weaker formulas for modules of these types: each alone, then those that one engine uses, all at once."""
    listed = [v for v in WEAKER if v.patches.keys() & types]
    users = dict.fromkeys(user for v in listed for user in v.users)
    own = {user: [v for v in listed if user in v.users] for user in users}
    sets = dict.fromkeys(tuple(v.name for v in used) for used in own.values() if len(used) > 1)
    return listed + [together([v for v in listed if v.name in names]) for names in sets]


def _sigmoid_from_output(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        Y, _ = saved
        # dX[.] = dY[.] (1 - Y[.]) Y[.]
        return dY * ((1 - Y) * Y), {}

    module.backward = backward


def _tanh_from_output(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        Y = np.tanh(saved.X)
        # dX[.] = dY[.] (1 - Y[.]^2)
        return dY * (1 - Y * Y), {}

    module.backward = backward


def _sigmoid_through_tanh(module: Any) -> None:
    def forward(X: Any) -> Any:
        # Y[.] = 1/2 + 1/2 tanh(X[.] / 2)
        Y = 0.5 + 0.5 * np.tanh(0.5 * X)
        return Y, (Y, special.sigmoid(-X))

    module.forward = forward


def _gates_from_outputs(module: Any) -> None:
    def backward(grad_output: Any, saved: Any) -> Any:
        single, X, H0, C0, *_, Si, Sf, Tg, So, _, Tc, _ = saved
        dH1, dC1 = (np.expand_dims(d, -2) for d in grad_output) if single else grad_output
        # dC[n,h] = dC1[n,h] + dH1[n,h] So[n,h] (1 - Tc[n,h]^2)
        dC = dC1 + dH1 * So * (1 - Tc * Tc)
        # dZi[n,h] = dC[n,h] Tg[n,h] (1 - Si[n,h]) Si[n,h]     dZf[n,h] = dC[n,h] C0[n,h] (1 - Sf[n,h]) Sf[n,h]
        dZi, dZf = dC * Tg * ((1 - Si) * Si), dC * C0 * ((1 - Sf) * Sf)
        # dZg[n,h] = dC[n,h] Si[n,h] (1 - Tg[n,h]^2)           dZo[n,h] = dH1[n,h] Tc[n,h] (1 - So[n,h]) So[n,h]
        dZg, dZo = dC * Si * (1 - Tg * Tg), dH1 * Tc * ((1 - So) * So)
        dZ = np.concatenate([dZi, dZf, dZg, dZo], axis=-1)
        # dX[n,x] = sum_z dZ[n,z] W[z,x]     dH0[n,h] = sum_z dZ[n,z] U[z,h]     dC0[n,h] = dC[n,h] Sf[n,h]
        dX, dH0, dC0 = dZ @ module.params["weight_ih"], dZ @ module.params["weight_hh"], dC * Sf
        if single:
            dX, dH0, dC0 = (d.reshape(d.shape[-1]) for d in (dX, dH0, dC0))
        # dW[z,x] = sum_n dZ[n,z] X[n,x]     dU[z,h] = sum_n dZ[n,z] H0[n,h]     db[z] = sum_n dZ[n,z]
        db = dZ.sum(axis=-2)
        grads = {"weight_ih": dZ.mT @ X, "weight_hh": dZ.mT @ H0, "bias_ih": db, "bias_hh": db}
        return (dX, dH0, dC0), {name: grads[name] for name in module.params}

    module.backward = backward


def _cross_entropy_of_log_softmax(module: Any) -> None:
    def along(c: int, A: Any) -> Any:
        return A.sum(axis=c, keepdims=True)

    def index(S: Any, E: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        # A[n,c] = log P[n,c] = S[n,c] - log sum_k E[n,k]     L[n] = -Z[n] A[n,t]
        A = S - np.log(along(c, E))
        return Z * -along(c, np.where(Q, A, zero)), (A, Q, Z, c, zero)

    def index_backward(dL: Any, A: Any, Q: Any, Z: Any, c: int, zero: Any) -> Any:
        # dA[n,c] = -dL[n] Z[n] [c = t[n]]
        return log_softmax_backward(np.where(Q, -(dL * Z), zero), A, c)

    def log_softmax_backward(dA: Any, A: Any, c: int) -> Any:
        # dX[n,c] = dA[n,c] - exp(A[n,c]) sum_k dA[n,k]
        return dA - np.exp(A) * along(c, dA)

    right = module.distribution_backward

    def distribution_backward(dL: Any, E: Any, A: Any, W: Any, D: Any, U: Any, c: int) -> Any:
        _, dQ = right(dL, E, A, W, D, U, c)
        # log P[n,c] = -U[n,c]     dA[n,c] = -dL[n] A[n,c]
        return log_softmax_backward(-(dL * A), -U, c), dQ

    module.index, module.index_backward, module.distribution_backward = index, index_backward, distribution_backward


def _logits_by_difference(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward

    def forward(X: Any, T: Any) -> Any:
        _, saved = right_forward(X, T)
        *_, A, _, W, P = saved
        # L[.] = W[.] ((1 - T[.]) X[.] - (1 + (P[.] - 1) T[.]) log s(X[.]))
        L = (1 - T) * X - (A if P is None else (1 + (P - 1) * T) * A)
        L = L if W is None else W * L
        if module.reduction == "none":
            return L, saved
        return np.sum(L) if module.reduction == "sum" else np.sum(L) / (X.size or math.nan), saved

    def backward(dY: Any, saved: Any) -> Any:
        X, T, *_, W, P = saved
        (_, dT), grads = right_backward(dY, saved)
        S = special.sigmoid(X)
        # dX[.] = dY[.] W[.] ((1 + P[.] T[.] - T[.]) s(X[.]) - P[.] T[.]), for a mean / n
        dX = dY * (S - T if P is None else (P * T + 1 - T) * S - P * T)
        dX = dX if W is None else dX * W
        return (dX / X.size if module.reduction == "mean" else dX, dT), grads

    module.forward, module.backward = forward, backward


def _normalize_by_a_line(module: Any) -> None:
    right = module.forward

    def forward(X: Any) -> Any:
        mean: Any = module.buffers["running_mean"].copy() if module.buffers else None
        _, saved = right(X)
        _, R, n, N, channel, batch = saved
        # M[c] = sum_n X[n,c] / N, or the running mean as it was
        M = X.sum(axis=n, keepdims=True) / max(N, 1) if batch else mean.reshape(*channel)
        # K[c] = R[c] G[c]     Y[n,c] = X[n,c] K[c] + (B[c] - M[c] K[c])
        K = R * module.params["weight"].reshape(*channel) if "weight" in module.params else R
        B = module.params["bias"].reshape(*channel) if "bias" in module.params else special.lift(0.0, X)
        return X * K + (B - M * K), saved

    module.forward = forward


def _one_pass_variance(module: Any) -> None:
    right_forward, right_backward = module.forward, module.backward
    track = module.track
    # The right forward finds out what is asked for; the statistics are moved below, once.
    module.track = lambda *_: None

    def forward(X: Any) -> Any:
        _, (H, R, n, N, channel, batch) = right_forward(X)
        if batch:
            # M[c] = sum_n X[n,c] / N     V[c] = sum_n X[n,c]^2 / N - M[c]^2
            M = X.sum(axis=n, keepdims=True) / max(N, 1)
            V = (X * X).sum(axis=n, keepdims=True) / max(N, 1) - M * M
            if module.training and module.buffers:
                track(M.reshape(module.num_features), (V * N).reshape(module.num_features), N)
            # R[c] = 1 / sqrt(V[c] + eps)     H[n,c] = (X[n,c] - M[c]) R[c]
            R = 1 / np.sqrt(V + special.lift(module.eps, X))
            H = (X - M) * R
        Y = H * module.params["weight"].reshape(*channel) if "weight" in module.params else H
        Y = Y + module.params["bias"].reshape(*channel) if "bias" in module.params else Y
        return Y, (X, (H, R, n, N, channel, batch))

    def backward(dY: Any, saved: Any) -> Any:
        X, right = saved
        H, R, n, N, channel, batch = right
        dX, grads = right_backward(dY, right)
        if not batch:
            return dX, grads
        # dH[n,c] = dY[n,c] G[c]     dV[c] = -R[c]^3 / 2 sum_n dH[n,c] D[n,c] = -R[c]^2 / 2 sum_n dH[n,c] H[n,c]
        dH = dY * module.params["weight"].reshape(*channel) if "weight" in module.params else dY
        dV = (dH * H).sum(axis=n, keepdims=True) * (R * R) / -2
        M = X.sum(axis=n, keepdims=True) / max(N, 1)
        # dM[c] = -R[c] sum_n dH[n,c] - 2 M[c] dV[c]     dX[n,c] = dH[n,c] R[c] + (2 X[n,c] dV[c] + dM[c]) / N
        dM = -(R * dH.sum(axis=n, keepdims=True)) - 2 * M * dV
        return dH * R + (2 * X * dV + dM) / max(N, 1), grads

    module.forward, module.backward = forward, backward


WEAKER = (
    Variant(
        "y(1 - y)",
        "The sigmoid's derivative from its rounded output: 1 - y has lost its digits where y is near 1.",
        "torch: tools/autograd/derivatives.yaml, sigmoid_backward",
        {"Sigmoid": _sigmoid_from_output},
        ("torch", "jax"),
    ),
    Variant(
        "1 - y^2",
        "The derivative of tanh from its rounded output: 1 - y^2 has lost its digits where |y| is near 1.",
        "torch: tools/autograd/derivatives.yaml, tanh_backward",
        {"Tanh": _tanh_from_output},
        ("torch", "jax"),
    ),
    Variant(
        "y(1 - y) and 1 - y^2 in the gates",
        "Both of these inside LSTMCell, whose gates torch's CPU backend differentiates one by one.",
        "torch: aten/src/ATen/native/RNN.cpp, CellParams and LSTMCell; derivatives as above",
        {"LSTMCell": _gates_from_outputs},
        ("torch", "jax"),
    ),
    Variant(
        "(1 + tanh(x/2)) / 2",
        "The sigmoid through tanh: where x is far below 0 the two halves cancel.",
        "XLA: xla/service/logistic_expander.cc, ExpandLogisticWithTanh",
        {"Sigmoid": _sigmoid_through_tanh},
        ("jax",),
    ),
    Variant(
        "nll(log_softmax(x))",
        "Cross-entropy's gradient as exp(log p) - [c = t]: it has lost its digits where p of the target is near 1.",
        "torch: aten/src/ATen/native/LossNLL.cpp, cross_entropy_loss; tools/autograd/derivatives.yaml, _log_softmax",
        {"CrossEntropyLoss": _cross_entropy_of_log_softmax},
        ("torch", "jax"),
    ),
    Variant(
        "(1 - t) x - log s(x)",
        "The loss of logits, and its gradient s(x) - t, as differences: no digits are left far on the target's side.",
        "torch: aten/src/ATen/native/Loss.cpp and torch/csrc/autograd/FunctionsManual.cpp, "
        "binary_cross_entropy_with_logits and its backward",
        {"BCEWithLogitsLoss": _logits_by_difference},
        ("torch",),
    ),
    Variant(
        "x w/s + (b - m w/s)",
        "Normalization as a line for each channel: its two terms cancel where the mean is large beside the deviation.",
        "torch: aten/src/ATen/native/cpu/batch_norm_kernel.cpp, batch_norm_cpu_collect_linear_and_constant_terms",
        {"BatchNorm1d": _normalize_by_a_line},
        ("torch",),
    ),
    Variant(
        "E[x^2] - E[x]^2",
        "The variance in one pass: its digits cancel where the mean is large beside the deviation.",
        "flax.linen.BatchNorm and flax.nnx.BatchNorm, use_fast_variance=True, which is the default",
        {"BatchNorm1d": _one_pass_variance},
        ("jax",),
    ),
)


FLOOR = float(np.float32(1e-12))
"""What torch keeps x(1 - x) above, in float64 too."""


def _derivative_of_clamps(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        X, T, A, B, W = saved
        dL = dY if W is None else dY * W
        # dX[.] = -dY[.] W[.] (T[.] [A[.] > -100] / X[.] - (1 - T[.]) [B[.] > -100] / (1 - X[.])), for a mean / n
        one, some, other = special.lift(1.0, X), A > -100, B > -100
        dX = -(
            dL
            * (
                np.where(some, T / np.where(some, X, one), 0)
                - np.where(other, (1 - T) / np.where(other, 1 - X, one), 0)
            )
        )
        dT = dL * (B - A)
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


DERIVATIVES: Mapping[str, Patch] = {"BCELoss": _derivative_of_clamps}
"""Where refnet follows a convention that is not its formula's derivative: the derivative, as the tape finds it."""


def _floored_variance(module: Any) -> None:
    # Written out once more: whatever refnet's own lines give would be right by definition, their mistakes too.
    def backward(dY: Any, saved: Any) -> Any:
        X, T, A, B, W = saved
        variance, floor = X * (1 - X), special.lift(FLOOR, X)
        dL = dY if W is None else dY * W
        # dX[.] = dY[.] W[.] (X[.] - T[.]) / max(X[.] (1 - X[.]), FLOOR)     dT[.] = dY[.] W[.] (B[.] - A[.]), / n
        dX = dL * ((X - T) / np.where(variance > floor, variance, floor))
        dT = dL * (B - A)
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


def _torch_binary_cross_entropy(module: Any) -> None:
    def backward(dY: Any, saved: Any) -> Any:
        X, T, _, _, W = saved
        variance, floor = X * (1 - X), special.lift(FLOOR, X)
        dL = dY if W is None else dY * W
        # dX[.] = dY[.] W[.] (X[.] - T[.]) / max(X[.] (1 - X[.]), 1e-12), multiplied first; for a mean / n
        dX = dL * (X - T) / np.where(variance > floor, variance, floor)
        # dT[.] = dY[.] W[.] (log(1 - X[.]) - log X[.]), for a mean / n
        dT = dL * (np.log1p(-X) - np.log(X))
        if module.reduction == "mean":
            dX, dT = dX / X.size, dT / X.size
        return (dX, dT), {}

    module.backward = backward


def _relu_at_zero(slope: float) -> Patch:
    def patch(module: Any) -> None:
        def forward(X: Any) -> Any:
            on = X > 0
            return np.where(on, X, 0), (on, X == 0)

        def backward(dY: Any, saved: Any) -> Any:
            on, tie = saved
            # dX[.] = dY[.] ([X[.] > 0] + slope [X[.] = 0])
            return np.where(on, dY, np.where(tie, slope * dY, 0)), {}

        module.forward, module.backward = forward, backward

    return patch


CONVENTIONS = (
    Variant(
        "(x - t) / max(x(1 - x), 1e-12)",
        "The gradient of binary cross-entropy where its logarithms are clamped and its derivative is therefore 0.",
        "torch: documentation of torch.nn.BCELoss; aten/src/ATen/native/Loss.cpp, binary_cross_entropy_backward",
        {"BCELoss": _floored_variance},
    ),
    Variant(
        "(x - t) / max(x(1 - x), 1e-12), target without clamps",
        "The same, with the target's gradient log(1 - x) - log x: infinite at 0 and 1.",
        "torch: tools/autograd/derivatives.yaml, binary_cross_entropy",
        {"BCELoss": _torch_binary_cross_entropy},
    ),
    Variant(
        "relu'(0) = 1/2",
        "The subgradient at the kink that splits the tie of max(x, 0).",
        "JAX: jax-ml/jax issue 2342, the gradient of jnp.maximum at a tie",
        {"ReLU": _relu_at_zero(0.5)},
    ),
    Variant(
        "relu'(0) = 1",
        "The subgradient at the kink from the right.",
        "a choice of x >= 0 for x > 0",
        {"ReLU": _relu_at_zero(1.0)},
    ),
)
"""Documented other choices, where a formula has no derivative or another is used on purpose."""
