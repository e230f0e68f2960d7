"""JAX as an engine: it answers as torch does, conforms, and leaves JAX's settings alone."""

import numpy as np
import pytest

from parity.engines import loading
from parity.engines.jax import JaxEngine
from parity.families.listing import catalogue
from parity.records.record import Unsupported, UsageError
from parity.run import judging

jax = pytest.importorskip("jax")

pytestmark = pytest.mark.arithmetic

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
    "Network/one layer at two places, ReLU between",
    "Network/dropout, evaluation",
)


@pytest.fixture(scope="module")
def engines():
    return loading.load("jax"), loading.load("torch") if loading.installed("torch") else None


@pytest.mark.parametrize("name", [name for name in CASES if name in BY_NAME])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_it_conforms(engines, name, dtype):
    case = BY_NAME[name]
    (found,) = judging.judge_case(case, case.families[-1], dtype, engines[:1])
    assert found.unsupported == ""
    assert [v for v in found.verdicts if v.verdict in ("FAIL", "undecided")] == []
    if engines[1] is not None:
        record = case.record(case.families[-1], dtype)
        own, other = (engine.vjp(record) for engine in engines)
        assert {n: (t.shape, t.dtype) for n, t in own.items()} == {n: (t.shape, t.dtype) for n, t in other.items()}


def test_every_case_here_is_one():
    assert set(CASES) <= BY_NAME.keys()


@pytest.mark.parametrize(
    ("name", "tensor", "verdict", "formula"),
    [
        ("L1Loss/ties, mean", "grad_input.0", "convention", "|x|'(0) = 1"),
        ("BCEWithLogitsLoss/batch 3, sum", "grad_input.1", "unstable", "exp(x - softplus(x))"),
        ("BCELoss/near 0 and 1, target 0.25", "grad_input.0", "unstable", "(1 - t) / (1 - x) - t / x"),
    ],
)
def test_its_other_formulas_are_named(engines, name, tensor, verdict, formula):
    case = BY_NAME[name]
    (found,) = judging.judge_case(case, case.families[-1], "float64", engines[:1])
    assert {v.name: (v.verdict, v.formula) for v in found.verdicts}[tensor] == (verdict, formula)


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
    for name in ("SGD/groups, each with its options", "Training/L1Loss"):
        case = BY_NAME[name]
        (found,) = judging.judge_case(case, case.families[0], "float64", [jax_engine])
        assert found.unsupported in ("no optimize", "no train")
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
