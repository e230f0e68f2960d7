"""Engines, found by name: `refnet`, `torch`, `torch:DEVICE`, or `package.module:Class` for anyone's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

from parity.engines.base import Engine
from parity.errors import UsageError

BUILT_IN = {"refnet": ("parity.engines.refnet", "RefnetEngine"), "torch": ("parity.engines.torch", "TorchEngine")}


def load(name: str) -> Engine:
    """The engine of that name, made.

    Raises:
        UsageError: there is no such engine, or it is none.
    """
    own, _, device = name.partition(":")
    if own in BUILT_IN:
        module, class_name = BUILT_IN[own]
        made = getattr(importlib.import_module(module), class_name)(*([device] if device else []))
    else:
        made = _foreign(name)
    if not isinstance(made, Engine):
        raise UsageError(f"engine {name}: expected a subclass of parity.Engine, got {type(made).__name__}")
    made.name = name if ":" in name and own in BUILT_IN else made.name or name
    return made


def check(name: str) -> None:
    """Refuse an engine that can't be loaded, without the cost of loading a heavy one.

    Raises:
        UsageError: as `load`; torch not installed.
    """
    own = name.partition(":")[0]
    if own not in BUILT_IN:
        load(name)
    elif own == "torch" and importlib.util.find_spec("torch") is None:
        raise UsageError("engine torch: expected the package torch, got none; install it with: pip install torch")


def _foreign(name: str) -> object:
    module_name, colon, class_name = name.partition(":")
    if not colon or not module_name or not class_name:
        raise UsageError(f"expected an engine named {', '.join(BUILT_IN)} or package.module:Class, got {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"engine {name}: expected an importable module {module_name}, got: {error}") from None
    made = getattr(module, class_name, None)
    if not inspect.isclass(made):
        raise UsageError(f"engine {name}: expected a class {class_name} in {module_name}, got {type(made).__name__}")
    return made()
