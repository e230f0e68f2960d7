"""What a function is called, and where it can be imported from."""

from __future__ import annotations

import importlib
from types import BuiltinFunctionType
from typing import Any


def qualified_name(fn: Any) -> str:
    """The name of a function; of a class's method with the class that it was taken from: LayerNorm.apply, not
    Function.apply."""
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__qualname__}.{fn.__name__}"
    if isinstance(fn, BuiltinFunctionType):
        # torch keeps those that are written in C++ in a class that nobody knows.
        return fn.__name__
    return str(getattr(fn, "__qualname__", type(fn).__name__))


def importable(fn: Any) -> tuple[str, str]:
    """The module that a function can be imported from, and its name there; no module where there is none such."""
    owner = getattr(fn, "__self__", None)
    module, path = getattr(owner if isinstance(owner, type) else fn, "__module__", None) or "", qualified_name(fn)
    if type(fn).__module__.startswith("torch.nn.modules") and not list(fn.children()):
        return "torch.nn", repr(fn)
    for home in (module, "torch.nn.functional", "torch"):
        if home == "__main__" or not home:
            continue
        try:
            found: Any = importlib.import_module(home)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            continue
        if found == fn:
            return home, path
    return "", path if module in ("", "__main__") else f"{module}.{path}"
