"""Arrays of any framework, torch's, JAX's or NumPy's: what they are, their values, and others like them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FORMATS = ("float64", "float32", "bfloat16", "float16")


def home(array: Any) -> str:
    """The framework that an array is of: torch, jax or numpy; empty for what is no array."""
    package = type(array).__module__.partition(".")[0]
    if package in ("torch", "numpy"):
        return package if hasattr(array, "dtype") else ""
    return "jax" if package in ("jax", "jaxlib") else ""


def is_array(value: Any) -> bool:
    """Whether it is an array of some framework."""
    return bool(home(value))


def format_of(array: Any) -> str:
    """The name of an array's dtype, in any framework."""
    return str(array.dtype).removeprefix("torch.")


def is_floating(array: Any) -> bool:
    return format_of(array) in FORMATS


def to_numpy(array: Any) -> Array:
    """The array's values: in float32 where NumPy lacks its format, or refnet does."""
    if home(array) == "torch":
        plain = array.detach()
        if format_of(plain) in ("bfloat16", "float16"):
            plain = plain.float()
        return np.array(plain.cpu().numpy())
    given = np.asarray(array)
    return np.array(given.astype(np.float32) if format_of(given) in ("bfloat16", "float16") else given)


def like(values: Array, other: Any) -> Any:
    """NumPy values as an array of the framework, dtype and device of another."""
    match home(other):
        case "torch":
            import torch

            # A copy: what a function writes into its upstream gradient must reach nobody else.
            return torch.as_tensor(np.array(values)).to(dtype=other.dtype, device=other.device)
        case "jax":
            import jax.numpy as jnp

            return jnp.asarray(values, dtype=other.dtype)
        case _:
            return np.array(values, other.dtype)


def converted(array: Any, form: str) -> Any:
    """An array of floats in another format, in its framework."""
    if not is_array(array) or not is_floating(array):
        return array
    if home(array) == "torch":
        import torch

        return array.detach().to(getattr(torch, form))
    return array.astype(form)


def same(array: Any, before: Array) -> bool:
    """Whether an array has the very bits of these values."""
    return to_numpy(array).tobytes() == before.tobytes()


def put_back(array: Any, values: Array) -> None:
    """Best done in place: the array is the user's, and may be a view."""
    if home(array) == "torch":
        if 0 not in array.stride():
            array.detach().copy_(like(values, array))
    elif home(array) == "numpy" and array.flags.writeable:
        array[...] = values


@contextmanager
def buffers_put_back(fn: Any) -> Iterator[None]:
    """A module's buffers are afterwards as they were before: each call begins from the same ones."""
    named = getattr(fn, "named_buffers", dict)
    before = {name: to_numpy(b) for name, b in dict(named()).items()}
    try:
        yield
    finally:
        for name, b in dict(named()).items():
            if name in before and not same(b, before[name]):
                put_back(b, before[name])


def seed_draws(seed: int) -> np.random.Generator:
    """What random upstream gradients are drawn from. Inputs that somebody drew by `default_rng(seed)` are other
    numbers: of an upstream gradient equal to the input, gradients of a normalization vanish."""
    return np.random.default_rng([seed, 0x67726164])


@contextmanager
def with_gradients() -> Iterator[None]:
    """Whatever torch's mode is around a check: under no_grad or inference_mode nothing has a gradient."""
    if (torch := sys.modules.get("torch")) is None:
        yield
        return
    with torch.inference_mode(False), torch.enable_grad():
        yield


def leaf(x: Any, asks: bool) -> Any:
    """A tensor of torch as one that asks for a gradient or does not, in the same memory where that can be."""
    return (x.clone() if x.is_inference() else x).detach().requires_grad_(asks)
