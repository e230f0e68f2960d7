"""JAX as an engine: it answers as torch does, conforms, and leaves JAX's settings alone."""

import importlib
import inspect

import numpy as np
import pytest

from parity.budget.formats import Profile
from parity.engines import loading, optax_updates
from parity.engines.jax import JaxEngine
from parity.families.case import DTYPES, OptimizeCase
from parity.families.listing import catalogue
from parity.records.facts import MODULES
from parity.records.record import VJP, Optimize, Spec, Unsupported, UsageError
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
    "Adafactor/more axes",
    "Adafactor/signs that change",
    "Muon/groups, each with its options",
    "Muon/gradients of 1e-12",
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
        ("Adafactor/defaults", "state.weight.row_var", "unstable", "1 - t^tau in float32"),
        ("Adafactor/lr 0.1, eps 0.25 and 0.75", "update.gain", "convention", "eps1^2 added to the squares"),
        (
            "Muon/gradients of 1e-12",
            "update.weight",
            "convention",
            "momentum with its bias corrected, eps added to the norm",
        ),
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


def of_optax(optimizer, params, grads):
    """Updates by an optax transformation, without this engine."""
    own = {name: jax.numpy.asarray(p) for name, p in params.items()}
    state, updates = optimizer.init(own), []
    for k in range(len(next(iter(grads.values())))):
        moved, state = optimizer.update({name: jax.numpy.asarray(g[k]) for name, g in grads.items()}, state, own)
        own = {name: own[name] + moved[name] for name in own}
        updates.append({name: np.asarray(m, np.float64) for name, m in moved.items()})
    return updates


def test_adafactor_is_that_of_optax(engines):
    """Put together of optax's parts, it has the bits of optax.adafactor where that has its arguments."""
    import optax

    draws = np.random.default_rng(5)
    params = {"weight": draws.normal(size=(2, 3)), "tall": draws.normal(size=(4, 2)), "gain": draws.normal(size=3)}
    grads = {name: draws.normal(size=(3, *p.shape)) for name, p in params.items()}
    args = {"lr": 0.1, "beta2_decay": -0.6, "eps": (2.0**-10, 1e-3), "d": 1.5, "weight_decay": 0.25}
    answer = engines[0].optimize(Optimize(Spec("Adafactor", args), params, grads))
    with jax.enable_x64(True):
        theirs = optax.adafactor(
            lambda count: jax.numpy.minimum(0.1, (count + 1.0) ** -0.5),
            min_dim_size_to_factor=1,
            decay_rate=0.6,
            clipping_threshold=1.5,
            weight_decay_rate=0.025,
            eps=2.0**-20,
        )
        updates = of_optax(theirs, params, grads)
    for name, before in params.items():
        own = answer[f"update.{name}"]
        position = before
        for k, moved in enumerate(updates):
            after = position + moved[name]
            np.testing.assert_array_equal(own[k], after - position)
            position = after
    # The rows' means and the columns' under torch's names, whichever axis is the longer one.
    assert answer["state.tall.row_var"].shape == (3, 4, 1)
    assert answer["state.tall.col_var"].shape == (3, 1, 2)
    squares = grads["tall"][0] ** 2 + 2.0**-20
    np.testing.assert_allclose(answer["state.tall.row_var"][0], squares.mean(-1, keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(answer["state.tall.col_var"][0], squares.mean(-2, keepdims=True), rtol=1e-15)


def test_adafactor_of_other_axes_is_unsupported(engines):
    params = {"weight": np.ones((3, 2, 2))}
    record = Optimize(Spec("Adafactor", {}), params, {"weight": np.ones((1, 3, 2, 2))})
    with pytest.raises(Unsupported, match="the two longest axes, which of weight are not the last two"):
        engines[0].optimize(record)


@pytest.mark.parametrize(
    ("name", "part", "mistaken"),
    [
        ("Adafactor/lr 0.1, eps 0.25 and 0.75", "scale_by_factored_rms", {"epsilon": 0.25}),
        ("Adafactor/signs that change", "scale_by_factored_rms", {"min_dim_size_to_factor": 128}),
        ("Adafactor/twelve steps", "scale_by_factored_rms", {"step_offset": -1}),
        ("Adafactor/signs that change", "clip_by_block_rms", {"threshold": 1.0}),
        ("Adafactor/gradients that become smaller", "scale_by_param_block_rms", {"min_scale": 1e-3}),
        ("Adafactor/a large rate", "add_decayed_weights", {"weight_decay": 0.1}),
        ("Adafactor/a large rate", "scale_by_learning_rate", {"learning_rate": 0.7}),
        ("Muon/gradients of 1e-12", "contrib.muon", {"muon_weight_dimension_numbers": None}),
        ("Muon/gradients of 1e-12", "contrib.muon", {"nesterov": False}),
        ("Muon/gradients of 1e-12", "contrib.muon", {"adaptive": True}),
        ("Muon/gradients of 1e-12", "contrib.muon", {"eps": 1e-8}),
    ],
)
def test_mistakes_in_what_optax_is_given_are_caught(engines, monkeypatch, name, part, mistaken):
    """The dialects of optax excuse nothing else."""
    package = importlib.import_module(f"optax.{part}".rpartition(".")[0])
    right = getattr(package, part.rpartition(".")[2])

    def wrong(*args, **options):
        return right(**{**inspect.signature(right).bind(*args, **options).arguments, **mistaken})

    monkeypatch.setattr(package, right.__name__, wrong)
    case = BY_NAME[name]
    (found,) = judging.judge_case(case, "full", "float64", engines[:1])
    assert [v.name for v in found.verdicts if v.verdict == "FAIL" and v.name.startswith("update.")]


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
