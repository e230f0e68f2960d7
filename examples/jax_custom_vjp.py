"""A jax.custom_vjp of one's own, a softmax, held against the truth: python examples/jax_custom_vjp.py"""

import sys

import jax
import jax.numpy as jnp

import parity


@jax.custom_vjp
def softmax(x):
    e = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def forward(x):
    y = softmax(x)
    return y, y


def backward(y, g):
    return (y * (g - jnp.sum(g * y, axis=-1, keepdims=True)),)


softmax.defvjp(forward, backward)


if __name__ == "__main__":
    x = jax.random.normal(jax.random.key(0), (4, 6))
    report = parity.check(softmax, "softmax", x, dim=-1, sweep=True)
    print(report)
    sys.exit(not report.ok)
