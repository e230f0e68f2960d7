"""Calling anyone's function on the arrays that it is used to, torch's, JAX's or NumPy's, forward and backward.

Arrays stay where they are: on their device, in their memory layout. What comes back is moved to NumPy once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.engines.base import Array, Profile, UsageError

FORMATS = ("float64", "float32", "bfloat16", "float16")

Seeds = Sequence[Array] | None
Pair = tuple[Callable[..., Any], Callable[..., Any]]


@dataclass
class Called:
    """What a function gave.

    Attributes:
        outputs: its outputs. grads: the gradient by each input, by number; None where it gave none. by_name: the
            gradient by each parameter of a module. buffers: of a module, after the call.
        dtypes: the name of each result's dtype, under `output.K`, `grad.K` and the parameter's name.
        written: inputs that are others than before.
    """

    outputs: list[Array]
    grads: dict[int, Array | None] = field(default_factory=dict)
    by_name: dict[str, Array | None] = field(default_factory=dict)
    buffers: dict[str, Array] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    written: tuple[str, ...] = ()


def framework(arrays: Sequence[Any]) -> str:
    """The framework that the arrays are of: torch, jax or numpy.

    Raises:
        UsageError: they are of several.
    """
    found = {name for a in arrays if (name := _home(a))}
    if len(found) > 1:
        raise UsageError(f"check: expected arrays of one framework, got {' and '.join(sorted(found))}")
    return found.pop() if found else "numpy"


def _home(array: Any) -> str:
    package = type(array).__module__.partition(".")[0]
    if package in ("torch", "numpy"):
        return package if hasattr(array, "dtype") else ""
    return "jax" if package in ("jax", "jaxlib") else ""


def is_array(value: Any) -> bool:
    """Whether it is an array of some framework."""
    return bool(_home(value))


def format_of(array: Any) -> str:
    """The name of an array's dtype, in any framework."""
    return str(array.dtype).removeprefix("torch.")


def is_floating(array: Any) -> bool:
    return format_of(array) in FORMATS


def to_numpy(array: Any) -> Array:
    """The array's values: in float32 where NumPy lacks its format, or refnet does."""
    if _home(array) == "torch":
        plain = array.detach()
        if format_of(plain) in ("bfloat16", "float16"):
            plain = plain.float()
        return np.array(plain.cpu().numpy())
    given = np.asarray(array)
    return np.array(given.astype(np.float32) if format_of(given) in ("bfloat16", "float16") else given)


def like(values: Array, other: Any) -> Any:
    """NumPy values as an array of the framework, dtype and device of another."""
    match _home(other):
        case "torch":
            import torch

            return torch.as_tensor(values).to(dtype=other.dtype, device=other.device)
        case "jax":
            import jax.numpy as jnp

            return jnp.asarray(values, dtype=other.dtype)
        case _:
            return np.asarray(values, other.dtype)


def options_for(fn: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options those that the function's signature names; all, where it takes any or does not tell."""
    try:
        names = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        # As of a function in C.
        return dict(options)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names.values()):
        # But torch.autograd.Function.apply, whose signature says so, takes none.
        return {} if getattr(fn, "__name__", "") == "apply" else dict(options)
    return {name: value for name, value in options.items() if name in names}


def call(
    fn: Any, inputs: Sequence[Any], grad_outputs: Sequence[Array] | None, wanted: Sequence[int], **options: Any
) -> Called:
    """Forward, and backward from the upstream gradients where there are any.

    Args:
        fn: a function, a torch.nn.Module, or a pair (forward, backward).
        wanted: the numbers of the inputs by which a gradient is due.
    """
    before = {k: to_numpy(x) for k, x in enumerate(inputs) if is_array(x)}
    if isinstance(fn, tuple):
        found = _call_pair(fn, inputs, grad_outputs, wanted, options)
    else:
        kind = {"torch": _call_torch, "jax": _call_jax, "numpy": _call_numpy}[framework(inputs)]
        found = kind(fn, inputs, grad_outputs, wanted, options)
    found.written = tuple(f"input {k}" for k, old in before.items() if to_numpy(inputs[k]).tobytes() != old.tobytes())
    return found


def _several(output: Any) -> list[Any]:
    return [y for y in output if y is not None] if isinstance(output, (tuple, list)) else [output]


def _kept(found: Called, kind: str, arrays: Mapping[int, Any]) -> None:
    for k, a in arrays.items():
        if a is not None:
            found.dtypes[f"{kind}.{k}"] = format_of(a)


def _plain(name: str) -> str:
    """A parameter's name in the module that torch.compile was given."""
    return name.replace("_orig_mod.", "")


def _call_torch(
    fn: Any,
    inputs: Sequence[Any],
    grad_outputs: Sequence[Array] | None,
    wanted: Sequence[int],
    options: Mapping[str, Any],
) -> Called:
    import torch

    own = [
        x.detach().requires_grad_(k in wanted) if is_array(x) and x.is_floating_point() else x
        for k, x in enumerate(inputs)
    ]
    params = {_plain(name): p for name, p in fn.named_parameters()} if isinstance(fn, torch.nn.Module) else {}
    outputs = _several(fn(*own, **options))
    _arrays(outputs)
    found = Called([to_numpy(y) for y in outputs])
    _kept(found, "output", dict(enumerate(outputs)))
    if grad_outputs is not None:
        leaves = [own[k] for k in wanted] + list(params.values())
        seeds = [like(g, y) for g, y in zip(grad_outputs, outputs, strict=True)]
        moving = [(y, g) for y, g in zip(outputs, seeds, strict=True) if y.requires_grad]
        grads: Sequence[Any] = [None] * len(leaves)
        asked = [k for k, leaf in enumerate(leaves) if leaf.requires_grad]
        if moving and asked:
            ys, gs = zip(*moving, strict=True)
            got = torch.autograd.grad(ys, [leaves[k] for k in asked], gs, allow_unused=True)
            grads = [dict(zip(asked, got, strict=True)).get(k) for k in range(len(leaves))]
        by_input = dict(zip(wanted, grads, strict=False))
        _kept(found, "grad", by_input)
        found.grads = {k: None if g is None else to_numpy(g) for k, g in by_input.items()}
        for (name, p), g in zip(params.items(), grads[len(wanted) :], strict=True):
            if p.requires_grad:
                found.by_name[name] = None if g is None else to_numpy(g)
                if g is not None:
                    found.dtypes[name] = format_of(g)
    if isinstance(fn, torch.nn.Module):
        found.buffers = {_plain(name): to_numpy(b) for name, b in fn.named_buffers()}
    return found


def _call_jax(
    fn: Any,
    inputs: Sequence[Any],
    grad_outputs: Sequence[Array] | None,
    wanted: Sequence[int],
    options: Mapping[str, Any],
) -> Called:
    import jax

    def of_wanted(*some: Any) -> Any:
        full = list(inputs)
        for k, x in zip(wanted, some, strict=True):
            full[k] = x
        return fn(*full, **options)

    if grad_outputs is None or not wanted:
        outputs = _several(fn(*inputs, **options))
        _arrays(outputs)
        found = Called([to_numpy(y) for y in outputs])
    else:
        output, pullback = jax.vjp(of_wanted, *(inputs[k] for k in wanted))
        outputs = _several(output)
        _arrays(outputs)
        seeds = [like(g, y) for g, y in zip(grad_outputs, outputs, strict=True)]
        grads = pullback(tuple(seeds) if isinstance(output, tuple) else seeds[0])
        found = Called([to_numpy(y) for y in outputs], {k: to_numpy(g) for k, g in zip(wanted, grads, strict=True)})
        _kept(found, "grad", dict(zip(wanted, grads, strict=True)))
    _kept(found, "output", dict(enumerate(outputs)))
    return found


def _call_numpy(
    fn: Any,
    inputs: Sequence[Any],
    grad_outputs: Sequence[Array] | None,
    wanted: Sequence[int],
    options: Mapping[str, Any],
) -> Called:
    outputs = _several(fn(*inputs, **options))
    _arrays(outputs)
    found = Called([to_numpy(y) for y in outputs])
    _kept(found, "output", dict(enumerate(outputs)))
    return found


def _call_pair(
    pair: Pair,
    inputs: Sequence[Any],
    grad_outputs: Sequence[Array] | None,
    wanted: Sequence[int],
    options: Mapping[str, Any],
) -> Called:
    """forward(*inputs) gives (output, saved), and backward(grad_output, saved) a gradient for each floating input."""
    forward, backward = pair
    gave = forward(*inputs, **options)
    if not isinstance(gave, tuple) or len(gave) != 2:
        raise TypeError(f"expected forward to give (output, saved), got {type(gave).__name__}")
    output, saved = gave
    outputs = _several(output)
    _arrays(outputs)
    found = Called([to_numpy(y) for y in outputs])
    _kept(found, "output", dict(enumerate(outputs)))
    if grad_outputs is not None:
        seeds = [like(g, y) for g, y in zip(grad_outputs, outputs, strict=True)]
        grads = backward(tuple(seeds) if isinstance(output, tuple) else seeds[0], saved)
        grads = list(grads) if isinstance(grads, (tuple, list)) else [grads]
        due = [k for k, x in enumerate(inputs) if is_array(x) and is_floating(x)]
        if len(grads) != len(due):
            raise TypeError(f"expected backward to give {len(due)} gradients, one for each input, got {len(grads)}")
        by_input = {k: g for k, g in zip(due, grads, strict=True) if k in wanted}
        _arrays([g for g in by_input.values() if g is not None])
        _kept(found, "grad", by_input)
        found.grads = {k: None if g is None else to_numpy(g) for k, g in by_input.items()}
    return found


def _arrays(values: Sequence[Any]) -> None:
    for value in values:
        if not is_array(value):
            raise TypeError(f"expected arrays, got {type(value).__name__}")


def format_of_all(inputs: Sequence[Any]) -> str:
    """The one format of all arrays of floats.

    Raises:
        UsageError: there is no such format, or a value is none.
    """
    arrays = [(k, x) for k, x in enumerate(inputs) if is_array(x)]
    if not arrays:
        raise UsageError("check: expected arrays of torch, JAX or NumPy as inputs, got none")
    framework([x for _, x in arrays])
    floating = {format_of(x): k for k, x in reversed(arrays) if is_floating(x)}
    if len(floating) != 1:
        came = " and ".join(f"{name} in input {k}" for name, k in floating.items()) or "none"
        raise UsageError(f"check: expected floats of one format in the inputs, got {came}")
    for k, x in arrays:
        if str(getattr(x, "device", "")) == "meta":
            raise UsageError(f"check: expected values in input {k}, got a tensor on the meta device")
        values = to_numpy(x)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UsageError(f"check: expected finite values in input {k}, got {values[~np.isfinite(values)][0]}")
    return next(iter(floating))


def rounded(values: Array, profile: Profile) -> Array:
    """Numbers of the storage format, in float64 or float32."""
    if profile.storage.name == "float64":
        return np.asarray(values, np.float64)
    mantissa, exponent = np.frexp(values)
    scale = 2.0**profile.storage.precision
    return np.asarray(np.ldexp(np.round(mantissa * scale) / scale, exponent), np.float32)


def converted(array: Any, form: str) -> Any:
    """An array of floats in another format, in its framework."""
    if not is_array(array) or not is_floating(array):
        return array
    if framework([array]) == "torch":
        import torch

        return array.detach().to(getattr(torch, form))
    return array.astype(form)
