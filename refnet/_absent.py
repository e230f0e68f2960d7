"""Members of torch's that modules and optimizers do not have: what an AttributeError says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["of_module", "of_optimizer"]

_RETURNED = "backward returns the gradients, and nothing keeps them: there is nothing to set to zero"
_MADE_WITH = "arrays are NumPy's, of the dtype that a module is made with (dtype=np.float32)"
_FROZEN = "fit(..., frozen=names) keeps parameters as they are; so does an optimizer that does not hold them"

_MODULE = {
    "zero_grad": _RETURNED,
    "requires_grad_": _FROZEN,
    **dict.fromkeys(("to", "cpu", "cuda", "type", "float", "double", "half", "bfloat16"), _MADE_WITH),
    "apply": "modules() goes through all modules inside",
    **dict.fromkeys(("get_parameter", "register_parameter"), "params has all parameters by name"),
    **dict.fromkeys(("get_buffer", "register_buffer"), "buffers has all buffers by name"),
    "get_submodule": "named_modules() has all modules by name",
    "add_module": "adopt takes modules inside",
}


def of_module(module: Any, name: str) -> str:
    """The text of the error for a member that a module does not have."""
    for held in ("params", "buffers"):
        if name in vars(module).get(held, ()):
            return _text(module, name, f"{held}[{name!r}] is that array")
    return _text(module, name, _MODULE.get(name, ""))


def of_optimizer(optimizer: Any, name: str, options: Mapping[str, Any]) -> str:
    """Likewise of an optimizer, whose options are in its groups."""
    if name in options:
        return _text(optimizer, name, f"param_groups[0][{name!r}] is that option")
    return _text(optimizer, name, _RETURNED if name == "zero_grad" else "")


def _text(thing: Any, name: str, instead: str) -> str:
    return f"{type(thing).__name__!r} object has no attribute {name!r}" + (f": {instead}" if instead else "")
