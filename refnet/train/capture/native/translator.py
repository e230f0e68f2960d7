"""The translator of LLVM's intermediate representation, llvmlite, and what it has translated, in this process or, as
kept on disk, in others."""

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
from typing import Any, NamedTuple

from refnet.train.capture.native import object_cache
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


LEVEL = 2
SPEED_LEVEL = 1
OPTIONS = {"loop_interleaving": False, "loop_unrolling": False, "slp_vectorization": False, "loop_vectorization": True}
"""How the translator works: of code generation, of the passes before it, and which of these."""


class NotNative(Exception):
    """A program cannot be translated; the message says what stands against it."""


class Code:
    """Functions that were translated or loaded together, which live as long as this object.

    Args:
        codes: object codes, of this process or of others.
        names: of the functions that are wanted.

    Attributes:
        addresses: where each of them is.
    """

    def __init__(self, codes: Iterable[bytes], names: Iterable[str]) -> None:
        binding = _processor().binding
        # (the engine below becomes its owner)
        machine = _machine()
        # A context of its own: what is made in the one of all modules is never freed.
        self._context = binding.create_context()
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly("", self._context), machine)
        for code in codes:
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self.addresses = [self._engine.get_function_address(name) for name in names]
        # Before its context, and before the interpreter takes the library apart.
        weakref.finalize(self, self._engine.close)


def compiled(source: str) -> bytes:
    """The object code of a module."""
    binding, machine, context = _processor().binding, _machine(), _processor().binding.create_context()
    module = binding.parse_assembly(source, context)
    options = binding.create_pipeline_tuning_options(speed_level=SPEED_LEVEL)
    for name, value in OPTIONS.items():
        setattr(options, name, value)
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    passes.close()
    code: bytes = machine.emit_object(module)
    for made in (module, machine):
        made.close()
    return code


_known: dict[str, tuple[int, Code]] = {}
"""By a kernel's text its address, and the code that it is part of."""


def missing(texts: Iterable[str]) -> int:
    """How many of these kernels are yet to be translated, neither in this process nor, on this machine, in another."""
    return len(_load(text for text in dict.fromkeys(texts) if text not in _known))


def _load(texts: Iterable[str]) -> list[str]:
    """Take kernels from the disk; those that are not there are returned."""
    absent, found = [], dict[str, bytes]()
    for text in texts:
        code = object_cache.load(_key(text))
        if code is None:
            absent.append(text)
        else:
            found[text] = code
    if found:
        # (an engine for each would take longer than all else that there is to do)
        loaded = Code(dict.fromkeys(found.values()), map(_name, found))
        _known.update((text, (address, loaded)) for text, address in zip(found, loaded.addresses, strict=True))
    return absent


def forget() -> None:
    """Give up all that this process has translated and no training uses."""
    _known.clear()


def known() -> dict[str, tuple[int, Code]]:
    """By a kernel's text its address, and the code that it is part of: all that this process has at hand."""
    return dict(_known)


def translated(texts: Iterable[str], seconds: float, interrupted: Callable[[], bool]) -> dict[str, tuple[int, Code]]:
    """For each kernel its address and the code that it is part of.

    Raises:
        NotNative: it takes longer than `seconds` of the processor.
        Interrupted: somebody wants to interrupt.
    """
    texts = list(dict.fromkeys(texts))
    # (of this thread: that others use the processor too does not make the translation worth less)
    start = time.thread_time()
    new = [text for text in texts if text not in _known]
    for first in range(0, len(new), AT_ONCE):
        if interrupted():
            raise Interrupted
        if time.thread_time() - start > seconds:
            raise NotNative("the translation takes too long")
        some = new[first : first + AT_ONCE]
        made = compiled("\n".join([DECLARATIONS, *(_named(text, number) for number, text in enumerate(some))]))
        code = Code([made], map(_name, some))
        _known.update((text, (address, code)) for text, address in zip(some, code.addresses, strict=True))
        for text in some:
            object_cache.keep(_key(text), made)
    found = {text: _known.pop(text) for text in texts}
    # (the last used at the end)
    _known.update(found)
    for text in list(_known)[: max(0, len(_known) - max(KEPT, len(found)))]:
        del _known[text]
    return found


@functools.lru_cache(KEPT)
def _key(text: str) -> str:
    """What a kernel's code depends on, as a name: its text, the translator and how it is told to work, and the
    processor."""
    found = _processor()
    version = f"{found.version}, {SPEED_LEVEL}, {sorted(OPTIONS.items())}, {LEVEL}"
    return object_cache.key_of(version, found.target.triple, found.cpu, found.features, DECLARATIONS, text)


def _name(text: str) -> str:
    """Of a kernel's function, among all kernels."""
    return f"k{_key(text)}"


def _named(text: str, number: int) -> str:
    """A kernel with names of its own in a module."""
    names = {"@kernel": f"@{_name(text)}", "!group": f"!{3 * number}", "!loop": f"!{3 * number + 1}"}
    names["!accesses"] = f"!{3 * number + 2}"
    return re.sub(r"@kernel|!(?:group|loop|accesses)\b", lambda found: names[found[0]], text)


FUNCTIONS = ("run", "blocks", "copy", "take", "rate", "loss")


@functools.cache
def functions() -> tuple[dict[str, int], Any, Code]:
    """What is the same for every program: the addresses, `run` as a function, and the code."""
    source = importlib.resources.files(__package__).joinpath("loops.ll").read_text("utf-8")
    made = object_cache.load(_key(source))
    if made is None:
        made = compiled(source)
        object_cache.keep(_key(source), made)
    code = Code([made], FUNCTIONS)
    addresses = dict(zip(FUNCTIONS, code.addresses, strict=True))
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    run = ctypes.CFUNCTYPE(None, number, pointer, number, pointer, pointer, number, pointer, number, pointer, number)(
        addresses["run"]
    )
    return addresses, run, code


class Processor(NamedTuple):
    """The translator, its version, its target, this processor, and what it can do beyond its kind."""

    binding: Any
    version: str
    target: Any
    cpu: str
    features: str


@functools.cache
def _processor() -> Processor:
    try:
        import llvmlite
        from llvmlite import binding
    except ImportError:
        raise NotNative("llvmlite is not installed") from None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # it cannot tell
        features = ""
    version = f"llvmlite {llvmlite.__version__}, LLVM {binding.llvm_version_info}"
    return Processor(binding, version, binding.Target.from_default_triple(), binding.get_host_cpu_name(), features)


def _machine() -> Any:
    found = _processor()
    return found.target.create_target_machine(cpu=found.cpu, features=found.features, opt=LEVEL, jit=True)


def fuses() -> bool:
    """Whether the processor computes a b + c with one rounding."""
    return "+fma" in _processor().features.split(",") or platform.machine() in ("aarch64", "arm64")


def loaded() -> bool:
    """Whether the translator is there without having to be loaded."""
    return "llvmlite.binding" in sys.modules
