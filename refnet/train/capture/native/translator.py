"""The translator of LLVM's intermediate representation, llvmlite, and what it has translated in this process."""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import platform
import re
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from refnet.train.capture.native.llvm_loops import DECLARATIONS
from refnet.train.capture.recorder import Interrupted

AT_ONCE = 4
"""Kernels that are translated in one call, which nothing interrupts."""

KEPT = 1000
"""Kernels that are kept though no program needs them any more."""

SECONDS = 0.006
"""What the translation of a kernel takes, about."""

LOADING = 0.25
"""Seconds that loading the translator takes, about, and translating what is the same for all programs."""


class NotNative(Exception):
    """A program cannot be translated; the message says what stands against it."""


class Code:
    """Functions that were translated together, which live as long as this object.

    Attributes:
        addresses: where each of them is.
    """

    def __init__(self, source: str, names: Iterable[str]) -> None:
        binding, target, features = _processor()
        # (the engine below becomes its owner)
        machine = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=2, jit=True)
        # A context of its own: what is made in the one of all modules is never freed.
        self._context = binding.create_context()
        module = binding.parse_assembly(source, self._context)
        options = binding.create_pipeline_tuning_options(speed_level=1)
        options.loop_interleaving = options.loop_unrolling = options.slp_vectorization = False
        options.loop_vectorization = True
        passes = binding.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        passes.close()
        self._engine = binding.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        self.addresses = [self._engine.get_function_address(name) for name in names]
        # Before its context, and before the interpreter takes the library apart.
        weakref.finalize(self, self._engine.close)


_known: dict[str, tuple[int, Code]] = {}
"""By a kernel's text its address, and the code that it is part of."""


def missing(texts: Iterable[str]) -> int:
    """How many of these kernels are yet to be translated."""
    return len(set(texts) - _known.keys())


def translated(texts: Iterable[str], seconds: float, interrupted: Callable[[], bool]) -> dict[str, tuple[int, Code]]:
    """For each kernel its address and the code that it is part of.

    Raises:
        NotNative: it takes longer than `seconds`.
        Interrupted: somebody wants to interrupt.
    """
    texts = list(dict.fromkeys(texts))
    start = time.perf_counter()
    new = [text for text in texts if text not in _known]
    for first in range(0, len(new), AT_ONCE):
        if interrupted():
            raise Interrupted
        if time.perf_counter() - start > seconds:
            raise NotNative("the translation takes too long")
        some = new[first : first + AT_ONCE]
        source = "\n".join([DECLARATIONS, *(_named(text, number) for number, text in enumerate(some))])
        code = Code(source, [f"kernel{number}" for number in range(len(some))])
        _known.update((text, (address, code)) for text, address in zip(some, code.addresses, strict=True))
    found = {text: _known.pop(text) for text in texts}
    # (the last used at the end)
    _known.update(found)
    for text in list(_known)[: max(0, len(_known) - max(KEPT, len(found)))]:
        del _known[text]
    return found


def _named(text: str, number: int) -> str:
    """A kernel with names of its own in a module."""
    names = {"@kernel": f"@kernel{number}", "!group": f"!{3 * number}", "!loop": f"!{3 * number + 1}"}
    names["!accesses"] = f"!{3 * number + 2}"
    return re.sub(r"@kernel|!(?:group|loop|accesses)\b", lambda found: names[found[0]], text)


FUNCTIONS = ("run", "blocks", "copy", "take", "rate", "loss")


@functools.cache
def functions() -> tuple[dict[str, int], Any, Code]:
    """What is the same for every program: the addresses, `run` as a function, and the code."""
    source = importlib.resources.files(__package__).joinpath("loops.ll").read_text("utf-8")
    code = Code(source, FUNCTIONS)
    addresses = dict(zip(FUNCTIONS, code.addresses, strict=True))
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    run = ctypes.CFUNCTYPE(None, number, pointer, number, pointer, pointer, number, pointer, number, pointer, number)(
        addresses["run"]
    )
    return addresses, run, code


@functools.cache
def _processor() -> tuple[Any, Any, str]:
    """The translator, its target, and what this processor can do beyond its kind."""
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
    _, _, features = _processor()
    return "+fma" in features.split(",") or platform.machine() in ("aarch64", "arm64")


def loaded() -> bool:
    """Whether the translator is there without having to be loaded."""
    return "llvmlite.binding" in sys.modules
