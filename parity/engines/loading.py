"""Engines, found by name: `refnet`, `torch` and `jax`, each with options, or anyone's own: `package.module:Class`,
`FILE.py:Class`, `exec:COMMAND`.

Options are `KEY=VALUE`, joined by commas, such as `torch:device=cuda,dtype=float32,compile=1`. A first word without `=`
is the device.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from parity.engines.base import Engine, one_line
from parity.records.record import UsageError

BUILT_IN = ("refnet", "torch", "jax")

NAMES = "refnet, torch, torch:OPTIONS, jax, jax:OPTIONS, package.module:Class, FILE.py:Class or exec:COMMAND"
"""The forms of an engine's name."""

OPTIONS: Mapping[str, Sequence[str]] = {
    "torch": ("device", "dtype", "compile", "optimizer"),
    "jax": ("device", "dtype", "compile"),
}
"""What the built-in engines take after their name. Each says itself which values it takes."""


def load(name: str) -> Engine:
    """The engine of that name, made; it goes by that name in results.

    Raises:
        UsageError: there is no such engine, or it can't be made.
    """
    own, _, rest = _parts(name)
    if own == "exec":
        from parity.engines.exec_engine import ExecEngine

        made: Engine = ExecEngine(rest)
    elif own == "refnet":
        from parity.engines.refnet import RefnetEngine

        made = RefnetEngine()
    elif own == "torch":
        from parity.engines.torch import TorchEngine

        made = TorchEngine(**options(name))
    elif own == "jax":
        from parity.engines.jax import JaxEngine

        made = JaxEngine(**options(name))
    else:
        made = _foreign(name, own, rest)
    made.name = name
    return made


def options(name: str) -> dict[str, str]:
    """What stands after a built-in engine's name, by key.

    Raises:
        UsageError: it is no list of options, or the engine takes no such option.
    """
    own, _, rest = name.partition(":")
    known, found = OPTIONS.get(own, ()), dict[str, str]()
    for k, part in enumerate(rest.split(",") if rest else []):
        key, _, value = part.partition("=") if "=" in part or k else ("device", "", part)
        if key.strip() not in known or not value.strip() or key.strip() in found:
            form = ", ".join(f"{option}=..." for option in known)
            raise UsageError(f"engine {name}: expected options {form}, each once, got {part!r}")
        found[key.strip()] = value.strip()
    return found


def check(name: str) -> None:
    """Refuse a name that is none, whose package is not installed, or whose program does not start, without importing
    anything.

    Raises:
        UsageError: as `load`, as far as that can be known.
    """
    own, _, rest = _parts(name)
    if own == "exec":
        from parity.engines.exec_engine import try_handshake

        try_handshake(rest)
        return
    if own.endswith(".py"):
        if not Path(own).is_file():
            raise UsageError(f"engine {name}: expected a file {own}, got none")
        return
    if own in BUILT_IN:
        options(name)
    package = own.partition(".")[0]
    if not installed(package):
        remedy = f"; install it with: pip install {own}" if own in BUILT_IN else ""
        raise UsageError(f"engine {name}: expected the package {package}, got none{remedy}")


def installed(package: str) -> bool:
    """Whether a package can be found, without importing it."""
    return importlib.util.find_spec(package) is not None


def _parts(name: str) -> tuple[str, str, str]:
    own, colon, rest = name.partition(":")
    if own == "exec":
        good = bool(rest.strip())
    elif ".py:" in name:
        # A path may have colons itself.
        own, colon, rest = name.rpartition(":")
        good = own.endswith(".py") and all(part.isidentifier() for part in rest.split("."))
    elif own in BUILT_IN:
        good = bool(rest) == bool(colon) and not (own == "refnet" and rest)
    else:
        # A script that runs, __main__, has no module that a worker could import.
        good = own != "__main__" and all(part.isidentifier() for part in (*own.split("."), *rest.split(".")))
    if not good:
        raise UsageError(f"expected an engine named {NAMES}, got {name!r}")
    return own, colon, rest


def _foreign(name: str, module_name: str, class_name: str) -> Engine:
    def refused(expected: str, got: object) -> UsageError:
        got = f"{type(got).__name__}: {got}" if isinstance(got, BaseException) else got
        return UsageError(f"engine {name}: expected {expected}, got {one_line(got)}")

    # What is imported and made here is anyone's, and may raise anything; a script may even exit.
    try:
        found: Any = _from_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part, None)
    except (Exception, SystemExit) as error:
        raise refused(
            f"an importable {'file' if module_name.endswith('.py') else 'module'} {module_name}", error
        ) from None
    if not inspect.isclass(found) or not issubclass(found, Engine):
        raise refused(f"a subclass of parity.Engine named {class_name} in {module_name}", _described(found))
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise refused(f"a class {class_name} that can be called without arguments", error) from None


def _from_file(path: str) -> ModuleType:
    """A file as a module. Its folder is where it may import its neighbours from, as if it were run as a script."""
    place = Path(path).resolve()
    name = f"parity_engine_{sha256(str(place).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python file: {path}")
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look for the module by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _described(found: object) -> str:
    if found is None:
        return "none"
    return f"the class {found.__name__}" if inspect.isclass(found) else f"an object of {type(found).__name__}"
