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
from parity.verdict import findings_on_cuda as on_cuda
from parity.verdict.findings_computed import Formula

Shown = Callable[[Formula], bool]
NARROW = ("bfloat16", "float16")
ADAPTIVE = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "SparseAdam")
"""Optimizers that divide by a root and an eps that float16 does not hold."""

OF_MOMENTS = tuple(
    f"{what}.{name}{key}"
    for name in ("weight", "gain")
    for what, keys in (("update", ("",)), ("state", (".exp_avg", ".exp_avg_sq", ".max_exp_avg_sq", ".exp_inf")))
    for key in keys
)
"""Updates and running means of a record's parameters."""
CUDA: Mapping[str, Collection[str]] = {"device": ("cuda",)}


@dataclass(frozen=True)
class Finding:
    """A failure that is known.

    Attributes:
        title: of its section in docs/findings.md, behind the framework's name and version.
        case: a pattern of the cases' names. dtypes, tensors: in which formats and tensors it shows.
        computes: what the framework computes there. Only what is this is the finding.
        package, versions: whose failure it is, and how the versions begin that have it; the first stands in the title.
        engine: the engine that shows it, where that has another name than the package.
        options: the engine's options without which it does not show, each with the values that show it: a compiler's
            backends, ways of carrying out an optimizer's step, or kinds of device. Other options do not matter.
        steady: whether it shows at every call; memory that nobody has written may hold the right number by chance.
    """

    title: str
    case: str
    tensors: Collection[str]
    computes: Formula
    dtypes: Collection[str] = ("float64", "float32", *NARROW)
    package: str = "torch"
    versions: tuple[str, ...] = ("2.13.", "2.11.")
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
            and all(_given(engine, option) in values for option, values in self.options.items())
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
        ("0.10.", "0.11."),
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
        ("0.10.", "0.11."),
    ),
    *(
        Finding(
            "the gradient of a norm of 0 is NaN",
            f"PairwiseDistance/ties and zeros, p {p}",
            ("grad_input.0", "grad_input.1"),
            computed.norm_of_zero,
            ("float64", "float32"),
            package="jax",
            versions=("0.10.", "0.11."),
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
        ("0.2.",),
        engine="jax",
    ),
    Finding(
        "rprop moves by the step before",
        "Rprop/*",
        ("update.weight", "update.gain"),
        of_optimizers.step_before,
        ("float64", "float32"),
        package="optax",
        versions=("0.2.",),
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
            f"{name}/*",
            OF_MOMENTS,
            of_optimizers.corrected_in_float32,
            ("float64",),
            options={"optimizer": ("capturable",), **where},
        )
        for name in of_optimizers.CORRECTING
        for where in ({"compile": ("eager",)}, CUDA)
    ),
    *(
        Finding(
            "on CUDA fused steps of Adam and AdamW take 1 - beta in float32",
            f"{name}/*",
            OF_MOMENTS,
            of_optimizers.averages_in_float32,
            ("float32",),
            versions=("2.11.",),
            options={"optimizer": ("fused",), **CUDA},
        )
        for name in ("Adam", "AdamW")
    ),
    *(
        Finding(
            "on CUDA Hardsigmoid and Hardswish take float32's 1/6 in float64",
            f"{name}/*",
            tensors,
            formula,
            ("float64",),
            versions=("2.11.",),
            options=CUDA,
        )
        for name, tensors, formula in (
            ("Hardsigmoid", ("output", "grad_input"), on_cuda.hardsigmoid),
            ("Hardswish", ("output",), on_cuda.hardswish),
        )
    ),
    Finding(
        "on CUDA max_norm of Embedding and EmbeddingBag leaves out the absolute values but for the norms 1 and 2",
        "Embedding*/*max_norm *, norm_type *",
        ("output",),
        on_cuda.norm_without_absolute_values,
        versions=("2.11.",),
        options=CUDA,
    ),
    Finding(
        "on CUDA BatchNorm's bias gradient in bfloat16 and float16 is rounded between threads",
        "BatchNorm*/*",
        ("grad.bias",),
        on_cuda.bias_by_shuffles,
        NARROW,
        versions=("2.11.",),
        options=CUDA,
    ),
    Finding(
        "on CUDA MultiMarginLoss in bfloat16 and float16 takes its margins in that format",
        "MultiMarginLoss/*",
        ("output",),
        on_cuda.margins_in_the_format,
        NARROW,
        versions=("2.11.",),
        options=CUDA,
    ),
    Finding(
        "a compiled MultiLabelMarginLoss takes what fills up the targets for class 0",
        "MultiLabelMarginLoss/*",
        ("output", "grad_input.0"),
        computed.padding_as_class_0,
        ("float64", "float32"),
        options={"compile": ("aot_eager_decomp_partition", "1", "inductor")},
    ),
    Finding(
        "on CUDA the weight gradient of Embedding in bfloat16 and float16 is added up in that format, 32 at a time",
        "Embedding/*",
        ("grad.weight",),
        on_cuda.rows_by_thirty_two,
        NARROW,
        versions=("2.11.",),
        options=CUDA,
    ),
)


def known(engine: str, case: str, dtype: str, failing: Collection[str], shown: Shown) -> str:
    """The title of the finding that accounts for these failing tensors; empty where none does, or nothing fails."""
    if not failing:
        return ""
    return next((f.title for f in FINDINGS if f.explains(engine, case, dtype, failing, shown)), "")


def _given(engine: str, option: str) -> str:
    """The value of an engine's option, of a device the kind: "cuda" of "cuda:1"."""
    return loading.options(engine).get(option, "").partition(":")[0]


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
