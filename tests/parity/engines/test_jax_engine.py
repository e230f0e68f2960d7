"""JAX as an engine: it answers as torch does, conforms, and leaves JAX's settings alone."""

import numpy as np
import pytest

from parity.budget.formats import Profile
from parity.engines import loading, optax_updates
from parity.engines.jax import JaxEngine
from parity.families.case import DTYPES, OptimizeCase
from parity.families.listing import catalogue
from parity.records.facts import MODULES
from parity.records.record import VJP, Unsupported, UsageError
from parity.run import judging

jax = pytest.importorskip("jax")
pytest.importorskip("optax")

BY_NAME = {case.name: case for case in catalogue()}

CASES = (
    "Linear/batch 3",
    "Linear/batch 0",
    "Identity/batch 3",
    "Flatten/batch 3",
    "Sigmoid/extreme",
    "Tanh/moderate",
    "ReLU/at the kink, both zeros",
    "Softmax/batch 3",
    "LogSoftmax/no axes",
    "BatchNorm1d/momentum 0.25, sixteen samples",
    "BatchNorm1d/batch 0",
    "LayerNorm/batch 3",
    "Dropout/p 0.25",
    "Conv2d/batch 3",
    "LSTMCell/batch 3",
    "MSELoss/batch 3, mean",
    "BCELoss/near 0 and 1, target 0.25",
    "BCEWithLogitsLoss/batch 3, mean",
    "CrossEntropyLoss/probabilities, weight and smoothing, mean",
    "CrossEntropyLoss/all ignored, mean",
    "HalfSquaredError/batch 7",
    "GELU/batch 3",
    "Softmin/batch 3",
    "PReLU/batch 3",
    "SwiGLU/batch 3",
    "GroupNorm/batch 3",
    "RMSNorm/batch 3",
    "InstanceNorm1d/batch 3",
    "Embedding/batch 3",
    "EmbeddingBag/sum, weights",
    "KLDivLoss/plain, batchmean",
    "CosineSimilarity/plain",
    "RotaryEmbedding/interleaved, batch 3",
    "MultiheadAttention/a key of zeros, mask added",
    "Graph/one module at two places",
    "SGD/lr 0.1, momentum 0.9, nesterov, weight_decay 0.01, maximize",
    "Adadelta/twelve steps",
    "Lion/twelve steps",
    "Adamax/groups, each with its options",
    "Network/one layer at two places, ReLU between",
    "Network/dropout, evaluation",
)


@pytest.fixture(scope="module")
def engines():
    return loading.load("jax"), loading.load("torch") if loading.installed("torch") else None


# Nearly all of the time JAX compiles: each case is judged in one format, the next one in the other.
@pytest.mark.parametrize(("name", "dtype"), [(name, DTYPES[k % 2]) for k, name in enumerate(CASES) if name in BY_NAME])
def test_it_conforms(engines, name, dtype):
    case = BY_NAME[name]
    (found,) = judging.judge_case(case, case.families[-1], dtype, engines[:1])
    assert found.unsupported == ""
    assert [v for v in found.verdicts if v.verdict in ("FAIL", "undecided")] == []
    # torch has no Lion.
    if engines[1] is not None and not name.startswith("Lion"):
        record = case.record(case.families[-1], dtype)
        own, other = (e.vjp(record) if isinstance(record, VJP) else e.optimize(record) for e in engines)
        assert {n: (t.shape, t.dtype) for n, t in own.items()} == {n: (t.shape, t.dtype) for n, t in other.items()}


def test_every_case_here_is_one():
    assert set(CASES) <= BY_NAME.keys()


@pytest.mark.parametrize(
    ("name", "tensor", "verdict", "formula"),
    [
        ("L1Loss/ties, mean", "grad_input.0", "convention", "|x|'(0) = 1"),
        ("BCEWithLogitsLoss/batch 3, sum", "grad_input.1", "unstable", "exp(x - softplus(x))"),
        ("BCELoss/near 0 and 1, target 0.25", "grad_input.0", "unstable", "(1 - t) / (1 - x) - t / x"),
        ("Mish/moderate", "grad_input", "unstable", "exp(x - y) in softplus'"),
        ("SELU/moderate", "grad_input", "unstable", "expm1(x) + 1 in elu'"),
        ("HuberLoss/plain, none", "grad_input.0", "unstable", "delta + (|d| - delta) in huber'"),
        ("CrossEntropyLoss/logits confident, none", "output", "unstable", "log sum exp(x) - x_t"),
        (
            "PairwiseDistance/ties and zeros, p 1",
            "grad_input.0",
            "convention",
            "a slope of 1 at 0 in the norm of order 1",
        ),
        ("SoftMarginLoss/extreme, target 1, none", "grad_input.0", "unstable", "s(x) as exp(x - softplus(x))"),
        ("Adam/from zero, amsgrad", "update.weight", "convention", "the largest corrected v"),
        (
            "Adagrad/lr 0.1, initial_accumulator_value 0.7, eps 0.5, maximize",
            "update.gain",
            "convention",
            "sqrt(s + eps)",
        ),
        ("NAdam/defaults", "update.weight", "convention", "no schedule of the momentum"),
        ("RMSprop/twelve steps", "state.weight.momentum_buffer", "convention", "the step as the momentum"),
    ],
)
def test_its_other_formulas_are_named(engines, name, tensor, verdict, formula):
    case = BY_NAME[name]
    (found,) = judging.judge_case(case, case.families[-1], "float64", engines[:1])
    assert {v.name: (v.verdict, v.formula) for v in found.verdicts}[tensor] == (verdict, formula)


def test_every_class_is_had_or_is_not_for_a_reason():
    functions = pytest.importorskip("parity.engines.jax_functions")
    had, absent = set(functions.FUNCTIONS), set(functions.ABSENT)
    assert not had & absent
    assert had | absent == set(MODULES) - {"Graph"}
    optimizers = {case.name.partition("/")[0] for case in catalogue() if isinstance(case, OptimizeCase)}
    assert not set(optax_updates.OPTIMIZERS) & set(optax_updates.ABSENT)
    assert set(optax_updates.OPTIMIZERS) | set(optax_updates.ABSENT) == optimizers


def test_state_that_is_not_kept_is_told_and_not_judged(engines):
    case = BY_NAME["NAdam/defaults"]
    (found,) = judging.judge_case(case, "full", "float64", engines[:1])
    assert not [v for v in found.verdicts if v.name.endswith("mu_product")]
    assert "state mu_product: not judged, the engine keeps none of that name" in found.notes

    class Forgetful(JaxEngine):
        def keeps_no(self, record):
            return ("weight",)

    (found,) = judging.judge_case(case, "full", "float64", [Forgetful()])
    # Nothing but state is left out.
    assert {"update.weight", "state.weight.mu_product"} <= {v.name for v in found.verdicts}


def test_float64_stays_inside(engines):
    before = jax.config.jax_enable_x64
    record = BY_NAME["Linear/batch 3"].record("full", "float64")
    assert {str(t.dtype) for t in engines[0].vjp(record).values()} == {"float64"}
    assert jax.config.jax_enable_x64 == before
    assert jax.numpy.asarray(np.ones(2)).dtype == (np.float64 if before else np.float32)


def test_compiled(engines):
    case = BY_NAME["Network/one layer at two places, ReLU between"]
    (found,) = judging.judge_case(case, "full", "float32", [loading.load("jax:compile=1,device=cpu")])
    assert {v.verdict for v in found.verdicts} <= {"exact", "rounding"}


def test_what_it_does_not_do(engines):
    jax_engine = engines[0]
    for name, reason in (
        ("Training/L1Loss", "no train"),
        ("Hardshrink/batch 3", "jax.nn has no hardshrink"),
        ("ASGD/defaults", "optax has no ASGD"),
        ("SGD/dampening 1", "optax.sgd has no dampening"),
        ("Lion/gradients that are absent", "optax has no steps without a gradient of a parameter"),
    ):
        case = BY_NAME[name]
        (found,) = judging.judge_case(case, case.families[0], "float64", [jax_engine])
        assert found.unsupported == reason
    record = BY_NAME["Linear/batch 3"].record("full", "float64")
    with pytest.raises(Unsupported, match="float64, by dtype=float32"):
        loading.load("jax:dtype=float32").vjp(record)
    with pytest.raises(Unsupported, match="JAX has no METAL here"):
        loading.load("jax:METAL").vjp(record)


@pytest.mark.parametrize("options", [{"device": "abacus"}, {"dtype": "float8"}, {"compile": "twice"}])
def test_values_that_it_has_not(options):
    (key, value), *_ = options.items()
    with pytest.raises(UsageError, match=f"engine jax: expected {key}=.*, got '{value}'"):
        JaxEngine(**options)


@pytest.mark.parametrize(
    ("device", "factors"), [("gpu", "tf32"), ("cuda", "tf32"), ("tpu", "bfloat16"), ("cpu", "float32")]
)
def test_narrow_factors_are_declared(device, factors):
    engine = loading.load(f"jax:{device}")
    assert engine.profile("float32") == Profile.of("float32", product=factors)
    assert engine.profile("float64") == Profile.of("float64")
    with jax.default_matmul_precision("highest"):
        assert engine.profile("float32") == Profile.of("float32")
