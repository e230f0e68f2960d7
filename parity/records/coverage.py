"""What refnet covers of torch.nn and torch.optim, class by class, asked of torch's own namespace.

A class is covered as soon as refnet has it: nothing is listed here but what will not be covered, with the reason. Every
other class of torch is not yet covered.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import refnet
from parity.records.record import UsageError

HOLDS = "holds modules or parameters, and computes nothing"
BASE = "base class of others, computes nothing itself"
LAZY = "takes its sizes from the first input, and then is the class of that name without Lazy"
PROCESSES = "needs several devices or processes"

OUT_OF_SCOPE: Mapping[str, Mapping[str, str]] = {
    "nn": {
        **dict.fromkeys(("Container", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"), HOLDS),
        **dict.fromkeys(("Module", "RNNBase", "RNNCellBase"), BASE),
        **dict.fromkeys(
            (f"Lazy{name}{n}d" for name in ("BatchNorm", "Conv", "ConvTranspose", "InstanceNorm") for n in (1, 2, 3)),
            LAZY,
        ),
        "LazyLinear": LAZY,
        **dict.fromkeys(("DataParallel", "SyncBatchNorm"), PROCESSES),
        "NLLLoss2d": "deprecated name of NLLLoss",
        "CrossMapLRN2d": "undocumented; LocalResponseNorm is its public form",
    },
    "optim": {"Optimizer": BASE},
}
"""By package: the classes that will not be covered, and why."""


@dataclass(frozen=True)
class Coverage:
    """What there is of one of torch's packages.

    Attributes:
        package: torch.nn or torch.optim. version: torch's.
        covered, not_yet: names of classes. out_of_scope: with the reasons. own: what refnet has and torch has not.
    """

    package: str
    version: str
    covered: tuple[str, ...]
    not_yet: tuple[str, ...]
    out_of_scope: Mapping[str, str]
    own: tuple[str, ...]

    @property
    def count(self) -> int:
        """torch's classes."""
        return len(self.covered) + len(self.not_yet) + len(self.out_of_scope)


def coverage() -> list[Coverage]:
    """Of torch.nn, and of torch.optim.

    Raises:
        UsageError: torch is not installed.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise UsageError(f"coverage: expected the package torch, got: {error}; pip install torch") from None
    return [_of(torch, "nn", torch.nn.Module), _of(torch, "optim", torch.optim.Optimizer)]


def _of(torch: Any, package: str, base: type) -> Coverage:
    theirs = {name for name, value in vars(getattr(torch, package)).items() if _is_class(value, base)}
    module = getattr(refnet, package)
    ours = {name for name in module.__all__ if isinstance(getattr(module, name), type)}
    out = {name: reason for name, reason in OUT_OF_SCOPE[package].items() if name in theirs}
    left = theirs - ours - out.keys()
    return Coverage(
        f"torch.{package}",
        str(torch.__version__),
        tuple(sorted(theirs & ours - out.keys())),
        tuple(sorted(left)),
        dict(sorted(out.items())),
        tuple(sorted(ours - theirs)),
    )


def _is_class(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)
