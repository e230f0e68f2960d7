"""JAX: jax.vjp over the functions of `parity.engines.jax_functions`, and optax's transformations."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from parity.engines import optax_updates
from parity.engines.base import Engine, one_line
from parity.records import definition
from parity.records.record import VJP, Answer, Array, Optimize, Unsupported, UsageError

PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu", "METAL")
"""The names that JAX's documentation gives to what it computes on."""

FACTORS = {"gpu": "tf32", "cuda": "tf32", "tpu": "bfloat16"}
"""The format of the factors of products in float32, where it is another one by default, see
<https://docs.jax.dev/en/latest/_autosummary/jax.default_matmul_precision.html>."""

DTYPES = ("float64", "float32", "bfloat16", "float16")


class JaxEngine(Engine):
    """JAX on one platform, operation by operation or compiled. Its optimizers are optax's; it has no trainings.

    Args:
        device: the platform; one that this machine lacks answers every record with Unsupported. JAX's own choice where
            it is empty.
        dtype: the only dtype that it computes in; records in others are Unsupported. Without it, a record's own.
        compile: 1 for jax.jit around a record's forward and backward, 0 for one operation at a time.

    Raises:
        UsageError: JAX is not installed, or an option has no such value.
    """

    name = "jax"

    def __init__(self, device: str = "", dtype: str = "", compile: str = "0") -> None:
        try:
            self.jax = importlib.import_module("jax")
            self.functions = importlib.import_module("parity.engines.jax_functions")
        except ImportError as error:
            raise UsageError(
                f"engine jax: expected the package jax, got: {error}; install it with: pip install jax"
            ) from None
        for key, value, known in (
            ("device", device, ("", *PLATFORMS)),
            ("dtype", dtype, ("", *DTYPES)),
            ("compile", compile, ("0", "1")),
        ):
            if value not in known:
                raise UsageError(f"engine jax: expected {key}={' or '.join(filter(None, known))}, got {value!r}")
        self.device, self.dtype, self.compile = device, dtype, compile == "1"

    def computing(self, dtype: str) -> str:
        """How JAX computes in `dtype`: its products in float32 have narrower factors on a GPU or TPU, unless
        `jax_default_matmul_precision` says otherwise."""
        if dtype == "float32" and self.jax.config.jax_default_matmul_precision in (None, "default", "fastest"):
            factors = FACTORS.get(self.device or self.jax.default_backend())
            return f"float32, factors in {factors}" if factors else "float32"
        return super().computing(dtype)

    @contextmanager
    def _settings(self, dtype: str) -> Iterator[None]:
        """JAX as the record needs it, and afterwards as it was: float64 is there only where it is allowed."""
        if self.dtype not in ("", dtype):
            raise Unsupported(f"{dtype}, by dtype={self.dtype}")
        with ExitStack() as stack:
            stack.enter_context(self.jax.enable_x64(dtype == "float64"))
            if self.device:
                try:
                    place = self.jax.devices(self.device)[0]
                except RuntimeError as error:
                    raise Unsupported(f"JAX has no {self.device} here: {one_line(error)}") from None
                stack.enter_context(self.jax.default_device(place))
            yield

    def vjp(self, record: VJP) -> Answer:
        with self._settings(record.dtype):
            return self._vjp(record)

    def optimize(self, record: Optimize) -> Answer:
        with self._settings(record.dtype):
            return optax_updates.optimized(record)

    def keeps_no(self, record: Optimize) -> Collection[str]:
        return optax_updates.KEPT_OTHERWISE.get(record.spec.type, ())

    def _vjp(self, record: VJP) -> Answer:
        as_array = self.jax.numpy.asarray
        names = list(definition.build(record.spec, dict(record.arrays)).params)
        fixed = {name: as_array(a) for name, a in record.arrays.items() if name not in names}
        moving = {k: as_array(x) for k, x in enumerate(record.inputs) if x.dtype.kind == "f"}
        still = {k: as_array(x) for k, x in enumerate(record.inputs) if k not in moving}

        def function(params: dict[str, Any], inputs: dict[int, Any]) -> Any:
            given = {**inputs, **still}
            return self.functions.apply(
                record.spec, {**params, **fixed}, [given[k] for k in sorted(given)], record.training, record.names
            )

        def both(params: dict[str, Any], inputs: dict[int, Any], seeds: tuple[Any, ...]) -> Any:
            output, pullback, changed = self.jax.vjp(function, params, inputs, has_aux=True)
            return output, pullback(seeds if isinstance(output, tuple) else seeds[0]), changed

        run = self.jax.jit(both) if self.compile else both
        params = {name: as_array(record.arrays[name]) for name in names}
        output, (by_name, by_input), changed = run(params, moving, tuple(map(as_array, record.grad_outputs)))
        outputs = output if isinstance(output, tuple) else (output,)
        several = len(record.inputs) > 1
        return {
            **{f"output.{k}" if len(outputs) > 1 else "output": _array(y) for k, y in enumerate(outputs)},
            **{f"grad_input.{k}" if several else "grad_input": _array(g) for k, g in by_input.items()},
            **{f"grad.{name}": _array(g) for name, g in by_name.items()},
            # Without float64 JAX has no int64 either, and counts in int32.
            **{
                f"buffer.{name}": _array({**fixed, **changed}[name]).astype(record.arrays[name].dtype) for name in fixed
            },
        }


def classes() -> Iterator[tuple[str, Collection[str], Mapping[str, str]]]:
    """For layers and losses, then for optimizers: which classes the engine has, and why it lacks the others. Nothing
    where JAX is not installed."""
    try:
        functions = importlib.import_module("parity.engines.jax_functions")
    except ImportError:
        return
    yield "refnet.nn", functions.FUNCTIONS, functions.ABSENT
    yield "refnet.optim", optax_updates.OPTIMIZERS, optax_updates.ABSENT


def _array(array: Any) -> Array:
    return np.array(array)
