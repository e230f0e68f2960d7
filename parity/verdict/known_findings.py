"""What certified answers have found in torch and JAX, and where it shows. `docs/findings.md` tells each.

A failure that is listed here is still a failure, and is told; it does not make a run fail, so that a new one is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version

from parity.engines import loading
from parity.verdict import findings_computed as computed
from parity.verdict import findings_of_optimizers as of_optimizers
from parity.verdict.findings_computed import Formula

Shown = Callable[[Formula], bool]
NARROW = ("bfloat16", "float16")
ADAPTIVE = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "SparseAdam")
"""Optimizers that divide by a root and an eps that float16 does not hold."""


@dataclass(frozen=True)
class Finding:
    """A failure that is known.

    Attributes:
        title: of its section in docs/findings.md, behind the framework's name and version.
        case: a pattern of the cases' names. dtypes, tensors: in which formats and tensors it shows.
        computes: what the framework computes there. Only what is this is the finding.
        package, versions: whose failure it is, and how the versions begin that have it.
        engine: the engine that shows it, where that has another name than the package.
        options: the engine's options without which it does not show, each with the values that show it: a compiler's
            backends, or ways of carrying out an optimizer's step. Other options do not matter.
        steady: whether it shows at every call; memory that nobody has written may hold the right number by chance.
    """

    title: str
    case: str
    tensors: Collection[str]
    computes: Formula
    dtypes: Collection[str] = ("float64", "float32", *NARROW)
    package: str = "torch"
    versions: str = "2.13."
    steady: bool = True
    engine: str = ""
    options: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def shown_by(self) -> str:
        """The name of the engine."""
        return self.engine or self.package

    @property
    def asked(self) -> str:
        """An engine with options that show it."""
        given = ",".join(f"{option}={next(iter(values))}" for option, values in self.options.items())
        return f"{self.shown_by}:{given}" if given else self.shown_by

    def explains(self, engine: str, case: str, dtype: str, tensors: Collection[str], shown: Shown) -> bool:
        """Whether it accounts for all failing tensors of an engine's answer; `shown` says whether these are what a
        formula gives."""
        return (
            engine.partition(":")[0] == self.shown_by
            and all(loading.options(engine).get(option) in values for option, values in self.options.items())
            and fnmatchcase(case, self.case)
            and dtype in self.dtypes
            and set(tensors) <= set(self.tensors)
            and _installed(self.package).startswith(self.versions)
            and shown(self.computes)
        )


FINDINGS = (
    Finding(
        "the gradient of Hardsigmoid has float32's 1/6 in float64",
        "Hardsigmoid/*",
        ("grad_input",),
        computed.hardsigmoid,
        ("float64",),
    ),
    Finding(
        "the gradient of CELU rounds alpha to float32 in float64",
        "CELU/*alpha 0.3",
        ("grad_input",),
        computed.celu,
        ("float64",),
    ),
    Finding(
        "GroupNorm without places gives a weight gradient of NaN",
        "GroupNorm/no places",
        ("grad.weight",),
        computed.weight_gradient_of_nan,
    ),
    Finding(
        "EmbeddingBag divides by the frequency of another index",
        "EmbeddingBag/sum, by frequency, repeated",
        ("grad.weight",),
        computed.by_another_frequency,
    ),
    Finding(
        "log1p in float64 loses seven bits between 1 - sqrt(2) and -0.36",
        "BCELoss/*",
        ("output", "grad_input.1"),
        computed.log1p,
        ("float64",),
        "jax",
        "0.10.",
    ),
    Finding(
        "MultiMarginLoss and MultiLabelMarginLoss of an empty batch return memory that nobody has written",
        "Mult*[il]MarginLoss/batch 0, sum",
        ("output", "asked again"),
        computed.not_written,
        steady=False,
    ),
    *(
        Finding(
            "SoftMarginLoss is infinite, and its gradient NaN, where the loss is 710",
            f"SoftMarginLoss/{case}, none",
            ("output", "grad_input.0"),
            computed.soft_margin,
            dtypes,
        )
        for case, dtypes in (
            ("overflow", ("float64", "float32", *NARROW)),
            ("extreme, target 1", ("float16",)),
            ("extreme, target -1", ("float16",)),
        )
    ),
    Finding(
        "dot_product_attention takes its softmax in float32 in float64",
        "ScaledDotProductAttention/*",
        ("output", *(f"grad_input.{k}" for k in range(4))),
        computed.softmax_in_float32,
        ("float64",),
        "jax",
        "0.10.",
    ),
    *(
        Finding(
            "the gradient of a norm of 0 is NaN",
            f"PairwiseDistance/ties and zeros, p {p}",
            ("grad_input.0", "grad_input.1"),
            computed.norm_of_zero,
            ("float64", "float32"),
            package="jax",
            versions="0.10.",
        )
        for p in ("1.5", "2", "3")
    ),
    Finding(
        "radam's rectification has two digits in float32",
        "RAdam/groups, each with its options",
        ("update.gain", "state.gain.exp_avg", "state.gain.exp_avg_sq"),
        of_optimizers.rectified_in_float32,
        ("float32",),
        "optax",
        "0.2.",
        engine="jax",
    ),
    Finding(
        "rprop moves by the step before",
        "Rprop/*",
        ("update.weight", "update.gain"),
        of_optimizers.step_before,
        ("float64", "float32"),
        package="optax",
        versions="0.2.",
        engine="jax",
    ),
    *(
        Finding(
            "LayerNorm's bias gradient in bfloat16 and float16 is added up in that format",
            case,
            (f"grad.{bias}",),
            computed.bias_row_by_row(bias),
            NARROW,
        )
        for case, bias in (("LayerNorm/*", "bias"), ("TransformerEncoder/*, a norm behind", "norm.bias"))
    ),
    Finding(
        "the weight gradients of Embedding and EmbeddingBag in bfloat16 and float16 are added up in that format",
        "Embedding*/*",
        ("grad.weight",),
        computed.rows_one_by_one,
        NARROW,
    ),
    Finding(
        "Muon in bfloat16 overwrites its momentum buffer",
        "Muon/*",
        ("state.weight.momentum_buffer", "state.gain.momentum_buffer"),
        of_optimizers.overwritten_momentum,
        ("bfloat16",),
    ),
    *(
        Finding(
            "in float16 Adam and seven other optimizers make a parameter NaN at their default eps",
            f"{name}/*{what}*",
            ("update.weight", "update.gain", "state.weight.momentum_buffer", "state.gain.momentum_buffer"),
            computed.in_float16(),
            ("float16",),
        )
        for name in ADAPTIVE
        for what in (
            "zero",
            "gradients of 1e-12",
            *(["gradients of the size of eps"] if name in ("Adam", "SparseAdam") else []),
        )
    ),
    *(
        Finding(
            "binary_cross_entropy's gradient in float16 is NaN or infinite at inputs of 0 and 1",
            f"BCELoss/{case}",
            ("grad_input.0",),
            computed.clamped_quotient,
            ("float16",),
        )
        for case in ("*0 and 1*", "just below the clamp")
    ),
    *(
        Finding(
            "in float16 the eps of CosineSimilarity, CosineEmbeddingLoss and PoissonNLLLoss is 0",
            case,
            ("output", "grad_input.0", "grad_input.1"),
            formula,
            ("float16",),
        )
        for case, formula in (
            ("CosineSimilarity/the same way, and none", computed.cosine_without_eps),
            ("CosineEmbeddingLoss/alike, *", computed.cosine_without_eps),
            ("CosineEmbeddingLoss/other targets, none", computed.cosine_without_eps),
            ("PoissonNLLLoss/rates, none", computed.poisson_without_eps),
        )
    ),
    Finding(
        "Muon has two digits, in float64 too, and its documentation shows another buffer",
        "Muon/defaults",
        ("update.weight", "update.gain"),
        of_optimizers.first_step_of_muon,
        ("float64",),
    ),
    Finding(
        "a compiled step of SGD in float64 leaves a parameter without axes as it is",
        "SGD/lr 0.1, momentum 0.9, nesterov, maximize",
        ("update.gain", "state.gain.momentum_buffer"),
        of_optimizers.left_as_it_is,
        ("float64",),
        options={"compile": ("aot_eager",)},
    ),
    *(
        Finding(
            "capturable steps correct in float32 for parameters in float64",
            f"{name}/defaults",
            ("update.weight", "update.gain"),
            of_optimizers.corrected_in_float32,
            ("float64",),
            options={"optimizer": ("capturable",), "compile": ("eager",)},
        )
        for name in ("AdamW", "NAdam")
    ),
)


def known(engine: str, case: str, dtype: str, failing: Collection[str], shown: Shown) -> str:
    """The title of the finding that accounts for these failing tensors; empty where none does, or nothing fails."""
    if not failing:
        return ""
    return next((f.title for f in FINDINGS if f.explains(engine, case, dtype, failing, shown)), "")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
