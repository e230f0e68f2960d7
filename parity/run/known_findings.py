"""What certified answers have found in torch and JAX, and where it shows. `docs/findings.md` tells each.

A failure that is listed here is still a failure, and is told; it does not make a run fail, so that a new one is seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Finding:
    """A failure that is known.

    Attributes:
        title: of its section in docs/findings.md, behind the framework's name and version.
        case: a pattern of the cases' names. dtypes, tensors: in which formats and tensors it shows.
        package, versions: whose failure it is, and how the versions begin that have it.
        steady: whether it shows at every call; memory that nobody has written may hold the right number by chance.
    """

    title: str
    case: str
    tensors: Collection[str]
    dtypes: Collection[str] = ("float64", "float32")
    package: str = "torch"
    versions: str = "2.13."
    steady: bool = True

    def explains(self, engine: str, case: str, dtype: str, tensors: Collection[str]) -> bool:
        """Whether it accounts for all failing tensors of an engine's answer."""
        return (
            engine.partition(":")[0] == self.package
            and fnmatchcase(case, self.case)
            and dtype in self.dtypes
            and set(tensors) <= set(self.tensors)
            and _installed(self.package).startswith(self.versions)
        )


FINDINGS = (
    Finding("the gradient of Hardsigmoid has float32's 1/6 in float64", "Hardsigmoid/*", ("grad_input",), ("float64",)),
    Finding(
        "the gradient of CELU rounds alpha to float32 in float64", "CELU/*alpha 0.3", ("grad_input",), ("float64",)
    ),
    Finding("GroupNorm without places gives a weight gradient of NaN", "GroupNorm/no places", ("grad.weight",)),
    Finding(
        "EmbeddingBag divides by the frequency of another index",
        "EmbeddingBag/sum, by frequency, repeated",
        ("grad.weight",),
    ),
    Finding(
        "log1p in float64 loses seven bits between 1 - sqrt(2) and -0.36",
        "BCELoss/*",
        ("output", "grad_input.1"),
        ("float64",),
        "jax",
        "0.10.",
    ),
    Finding(
        "MultiMarginLoss and MultiLabelMarginLoss of an empty batch return memory that nobody has written",
        "Mult*[il]MarginLoss/batch 0, sum",
        ("output", "asked again"),
        steady=False,
    ),
    Finding(
        "SoftMarginLoss is infinite, and its gradient NaN, where the loss is 710",
        "SoftMarginLoss/overflow, none",
        ("output", "grad_input.0"),
    ),
    Finding(
        "Muon has two digits, in float64 too, and its documentation shows another buffer",
        "Muon/defaults",
        ("update.weight", "update.gain"),
        ("float64",),
    ),
)


def known(engine: str, case: str, dtype: str, failing: Collection[str]) -> str:
    """The title of the finding that accounts for these failing tensors; empty where none does, or nothing fails."""
    if not failing:
        return ""
    return next((f.title for f in FINDINGS if f.explains(engine, case, dtype, failing)), "")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
