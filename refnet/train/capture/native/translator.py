"""The translator of LLVM's intermediate representation: llvmlite, if it is installed."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from typing import Any


class NotNative(Exception):
    """A program cannot be translated; the message says what stands against it."""


@functools.cache
def _target() -> tuple[Any, Any, str]:
    """The translator, its target, and what this processor can do beyond it."""
    try:
        from llvmlite import binding
    except ImportError:
        raise NotNative("llvmlite is not installed") from None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # it cannot tell
        features = ""
    return binding, binding.Target.from_default_triple(), features


def fuses() -> bool:
    """Whether the processor computes a b + c with one rounding."""
    _, _, features = _target()
    return "+fma" in features.split(",") or platform.machine() in ("aarch64", "arm64")


def compiled(source: str, *, unrolled: bool) -> Any:
    """The function `run` of a module; with loops that are unrolled, or are vectorized."""
    binding, target, features = _target()
    machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=2, jit=True)
    module = binding.parse_assembly(source)
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = unrolled
    options.loop_vectorization = not unrolled
    options.loop_interleaving = options.slp_vectorization = False
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    pointers = (ctypes.c_void_p,) * 4
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)(engine.get_function_address("run"))
    run.engine = engine  # type: ignore[attr-defined]  # the code lives as long as the engine
    return run


def loaded() -> bool:
    """Whether the translator is there without having to be loaded."""
    return "llvmlite.binding" in sys.modules
