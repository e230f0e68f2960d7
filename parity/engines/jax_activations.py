"""torch.nn's activations as JAX has them: functions of jax.nn, with the arguments that these take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Array = Any
Args = Mapping[str, Any]
Arrays = Mapping[str, Array]


def elementwise(function: Callable[[Array], Array]) -> Callable[..., Array]:
    """A function of the input alone."""
    return lambda args, p, x, training: function(x)


def _with(function: Callable[..., Array], **defaults: Any) -> Callable[..., Array]:
    """A function of the input and of some of the class's arguments, given with torch's defaults."""
    return lambda args, p, x, training: function(x, **{name: args.get(name, value) for name, value in defaults.items()})


def _along(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply_along(args: Args, p: Arrays, x: Array, training: bool) -> Array:
        axes = jnp.atleast_1d(x)
        return function(axes, axis=args["dim"]).reshape(x.shape)

    return apply_along


def _softplus(x: Array, beta: float, threshold: float) -> Array:
    # jax.nn.softplus has neither; beyond the threshold torch's is x.
    return jnp.where(beta * x > threshold, x, jax.nn.softplus(beta * x) / beta)


def _hardtanh(x: Array, min_val: float, max_val: float) -> Array:
    return jax.nn.hard_tanh(x) if (min_val, max_val) == (-1, 1) else jnp.clip(x, min_val, max_val)


def _prelu(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    weight = p["weight"]
    return jax.nn.leaky_relu(x, weight.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else weight.reshape(()))


def _gelu(x: Array, approximate: str) -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _gated(args: Args, p: Arrays, x: Array, activation: Callable[[Array], Array]) -> Array:
    gate, up = (linear(p, x, f"{name}_proj.") for name in ("gate", "up"))
    return linear(p, activation(gate) * up, "down_proj.")


def linear(p: Arrays, x: Array, prefix: str = "") -> Array:
    """x W^T + b, of the arrays whose names begin in that way."""
    y = x @ p[f"{prefix}weight"].T
    return y + p[f"{prefix}bias"] if f"{prefix}bias" in p else y


def _swiglu(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    return _gated(args, p, x, jax.nn.silu)


def _geglu(args: Args, p: Arrays, x: Array, training: bool) -> Array:
    return _gated(args, p, x, lambda gate: _gelu(gate, args.get("approximate", "none")))


ACTIVATIONS: Mapping[str, Callable[..., Array]] = {
    "Sigmoid": elementwise(jax.nn.sigmoid),
    "Tanh": elementwise(jnp.tanh),
    "ReLU": elementwise(jax.nn.relu),
    "Softmax": _along(jax.nn.softmax),
    "LogSoftmax": _along(jax.nn.log_softmax),
    "Softmin": _along(lambda x, axis: jax.nn.softmax(-x, axis=axis)),
    "Softmax2d": elementwise(lambda x: jax.nn.softmax(x, axis=-3)),
    "SiLU": elementwise(jax.nn.silu),
    "GELU": _with(_gelu, approximate="none"),
    "Mish": elementwise(jax.nn.mish),
    "Softplus": _with(_softplus, beta=1.0, threshold=20.0),
    "LogSigmoid": elementwise(jax.nn.log_sigmoid),
    "Softsign": elementwise(jax.nn.soft_sign),
    "ELU": _with(jax.nn.elu, alpha=1.0),
    "SELU": elementwise(jax.nn.selu),
    "CELU": _with(jax.nn.celu, alpha=1.0),
    "LeakyReLU": _with(jax.nn.leaky_relu, negative_slope=1e-2),
    "PReLU": _prelu,
    "ReLU6": elementwise(jax.nn.relu6),
    "Hardtanh": _with(_hardtanh, min_val=-1.0, max_val=1.0),
    "Hardsigmoid": elementwise(jax.nn.hard_sigmoid),
    "Hardswish": elementwise(jax.nn.hard_silu),
    "GLU": lambda args, p, x, training: jax.nn.glu(x, axis=args.get("dim", -1)),
    "SwiGLU": _swiglu,
    "GEGLU": _geglu,
}
