"""parity: the yardstick for engines that compute gradients and updates.

    report = parity.check(fn, "softmax", x, dim=-1)     a function, module or kernel, forward and backward
    e = parity.enclose(f, *arrays)      certified value and rounding budget of a NumPy expression, and of its gradient
    parity.gradient(f), parity.jvp(f)   the gradient of an expression, inside one; its derivative along a tangent
    class MyEngine(parity.Engine)       what the command line `parity run --engine my.module:MyEngine` takes

Names are imported when they are first used, so that `parity --help` does not wait for NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.checking import check, trusted
    from parity.engines.base import Engine
    from parity.expression import Enclosed, enclose
    from parity.notation import gradient, jvp
    from parity.records.record import VJP, Optimize, Spec, Train, Unsupported, UsageError
    from parity.report.report import Report
    from parity.updating import check_data_parallel, check_update
    from refnet.arithmetic.array_like import Undecided

_HOMES = {
    "check": "parity.checking",
    "trusted": "parity.checking",
    "check_update": "parity.updating",
    "check_data_parallel": "parity.updating",
    "enclose": "parity.expression",
    "Enclosed": "parity.expression",
    "gradient": "parity.notation",
    "jvp": "parity.notation",
    "Report": "parity.report.report",
    "Engine": "parity.engines.base",
    "Undecided": "refnet.arithmetic.array_like",
    "Unsupported": "parity.records.record",
    "UsageError": "parity.records.record",
    "VJP": "parity.records.record",
    "Optimize": "parity.records.record",
    "Train": "parity.records.record",
    "Spec": "parity.records.record",
}

__all__ = [  # noqa: RUF022  the order of the docstring
    "check",
    "trusted",
    "check_update",
    "check_data_parallel",
    "enclose",
    "Enclosed",
    "gradient",
    "jvp",
    "Report",
    "Engine",
    "VJP",
    "Optimize",
    "Train",
    "Spec",
    "Undecided",
    "Unsupported",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'parity' has no attribute {name!r}")
