"""One definition, several arithmetics: every listed function in each of them, and every layer on floats, balls, budgets
and runs of each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flint import arb

from parity.budget.array import Budget, Profile
from parity.families.altered import Altered
from parity.records.definition import named
from parity.truth import ball, tape
from parity.truth.scalars import Scalars
from parity.truth.taped import Taped
from parity.truth.tensor_balls import TensorBalls
from refnet import nn
from refnet.arithmetic import functions, special
from refnet.arithmetic.array_like import ArrayLike
from refnet.arithmetic.array_like import named as functions_named
from refnet.arithmetic.runs import Runs
from refnet.nn import Module
from refnet.train.capture.recorder import Recorder, Traced

pytestmark = pytest.mark.arithmetic

R = 3
F64 = Profile.of("float64")
Tensors = dict[str, Any]

X, Y = np.random.default_rng(1).uniform(0.1, 0.9, (2, 3, 4))
ROWS = np.array([[2, 0, 2], [1, 1, 0]])
WINDOWS = "lib.stride_tricks.sliding_window_view"
LISTED: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: 1.5 - x,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "negative": lambda x, y: -x,
    "matmul": lambda x, y: x @ y.mT,
    "exp": lambda x, y: np.exp(x),
    "log": lambda x, y: np.log(x),
    "log1p": lambda x, y: np.log1p(x),
    "sqrt": lambda x, y: np.sqrt(x),
    "tanh": lambda x, y: np.tanh(x),
    "absolute": lambda x, y: np.absolute(y - x),
    "sin": lambda x, y: np.sin(x),
    "cos": lambda x, y: np.cos(x),
    "expm1": lambda x, y: np.expm1(x),
    "power": lambda x, y: np.power(x, 3) + np.power(y, -1.5),
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "less": lambda x, y: x < 0.5,
    "less_equal": lambda x, y: x <= y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "where": lambda x, y: np.where(X > Y, x, y),
    "sum": lambda x, y: np.sum(x, axis=-1),
    "expand_dims": lambda x, y: np.expand_dims(x, -2),
    "reshape": lambda x, y: np.reshape(x, (2, 6)),
    "broadcast_to": lambda x, y: np.broadcast_to(x, (2, 3, 4)),
    "concatenate": lambda x, y: np.concatenate([x, y], axis=-1),
    "pad": lambda x, y: np.pad(x, ((1, 0), (0, 2))),
    "einsum": lambda x, y: np.einsum("ij,kj->ik", x, y),
    "cumsum": lambda x, y: np.cumsum(x, axis=-1),
    WINDOWS: lambda x, y: np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(-2, -1)),
    "lift": lambda x, y: x * special.lift(0.3, x),
    "shift": lambda x, y: x - special.shift(x, -1),
    "largest": lambda x, y: special.largest(x, -1),
    "sigmoid": lambda x, y: special.sigmoid(x),
    "log_sigmoid": lambda x, y: special.log_sigmoid(x),
    "erf": lambda x, y: special.erf(x - y),
    "erfc": lambda x, y: special.erfc(x - y),
    "erf_derivative": lambda x, y: special.erf_derivative(x),
    "maximum": lambda x, y: special.maximum(x, y),
    "amax": lambda x, y: special.amax(x, -1),
    "amax_weights": lambda x, y: special.amax_weights(x, -2) * y,
    "gather": lambda x, y: special.gather(x, ROWS),
    "scatter": lambda x, y: special.scatter(x, ROWS[0], 5),
    "mT": lambda x, y: x.mT,
    "copy": lambda x, y: x.copy(),
}
"""An example of each listed function."""

ARITHMETICS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "runs": (lambda a: Runs(np.stack([a] * R)), lambda y: y.a[R - 1]),
    "recorded": (lambda a: Traced(a, Recorder()), lambda y: y.a),
    "budgets": (lambda a: Budget.exact(a, F64), lambda y: y.x),
    "arrays on a tape": (lambda a: Taped(Budget.exact(a, F64)), lambda y: y.value.x),
    "scalars": (lambda a: Scalars(ball.lift(a), a.dtype), lambda y: ball.values(y.nodes)),
    "tensors of balls": (TensorBalls.lift, lambda y: y.balls),
    "balls": (ball.lift, ball.values),
    "altered": (lambda a: Altered(a, {}), lambda y: y.a),
}
"""How to take an array into each arithmetic, and values out of it."""
CLASSES = (Runs, Traced, Budget, Taped, Scalars, TensorBalls, Altered)
COUNTING = {Runs: functions.OF_COUNTERS, Traced: functions.OF_COUNTERS, Budget: ("of_counter",)}
"""Arithmetics that hold a counter of steps for each run, or record one, and one that knows its format's rounding."""


def unlike_the_list(arithmetic: type[ArrayLike]) -> set[str]:
    """The functions that are listed and have no entry in the arithmetic's tables, and those that have one unlisted."""
    tables = {*arithmetic.FUNCTIONS} - {np.ndim, np.shape, np.copy}
    different = tables ^ {*functions_named(functions.FUNCTIONS)}
    ufuncs = {*functions_named(functions.UFUNCS)}
    one_rule_for_all = (
        arithmetic._each is not ArrayLike._each or arithmetic.__array_ufunc__ is not ArrayLike.__array_ufunc__
    )
    different |= {*arithmetic.UFUNCS} - ufuncs if one_rule_for_all else {*arithmetic.UFUNCS} ^ ufuncs
    specials = {*functions.SPECIALS, *(functions.FOLLOWED if hasattr(arithmetic, "__follows__") else ())}
    specials |= {*COUNTING.get(arithmetic, ())}
    members = {name for name in functions.METHODS if not hasattr(arithmetic, name)}
    return {f.__name__ for f in different} | ({*arithmetic.SPECIALS} ^ specials) | members


@pytest.mark.parametrize("arithmetic", CLASSES, ids=lambda c: c.__name__)
def test_every_arithmetic_has_exactly_the_listed_functions(arithmetic: type[ArrayLike]) -> None:
    assert unlike_the_list(arithmetic) == set()


@pytest.mark.parametrize("arithmetic", CLASSES, ids=lambda c: c.__name__)
def test_missing_and_superfluous_entries_are_seen(arithmetic: type[ArrayLike], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {name: dict(getattr(arithmetic, name)) for name in ("FUNCTIONS", "UFUNCS", "SPECIALS")}
    del tables["FUNCTIONS"][np.pad], tables["SPECIALS"]["shift"]
    tables["FUNCTIONS"][np.cumprod] = tables["UFUNCS"][np.tan] = tables["SPECIALS"]["erfinv"] = lambda x: x
    for name, table in tables.items():
        monkeypatch.setattr(arithmetic, name, table)
    assert unlike_the_list(arithmetic) == {"pad", "shift", "cumprod", "tan", "erfinv"}


def test_every_listed_function_has_an_example() -> None:
    methods = {*functions.METHODS} - {"shape", "ndim", "size", "dtype"}
    assert {*LISTED} == {*functions.UFUNCS, *functions.FUNCTIONS, *functions.SPECIALS, *methods}


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", LISTED)
def test_a_listed_function_gives_in_every_arithmetic_what_it_gives_on_floats(name: str, arithmetic: str) -> None:
    lift, values = ARITHMETICS[arithmetic]
    expected = LISTED[name](X, Y)
    with ball.precision(100):
        result = LISTED[name](lift(X), lift(Y))
        # What decides is plain, but for runs and recorded arrays, which decide for every run and every replay.
        plain = expected.dtype == bool and arithmetic not in ("runs", "recorded")
        got = result if plain else values(result)
        assert type(got) is np.ndarray
        assert got.shape == result.shape == expected.shape
        assert result.ndim == expected.ndim
        assert result.size == expected.size
        assert len(result) == len(expected)
        np.testing.assert_allclose(got.astype(expected.dtype), expected, rtol=1e-14, atol=0)


@dataclass(frozen=True)
class Layer:
    """How to make a layer from `arrays` of these shapes; the shapes of its float inputs, and its other inputs."""

    make: Callable[..., Module]
    inputs: tuple[Any, ...]
    arrays: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    positive: bool = False


def of_integers(*shape: int) -> Any:
    return np.random.default_rng(9).integers(0, 4, (R, *shape))


def of_booleans(*shape: int) -> Any:
    return np.random.default_rng(8).integers(0, 2, (R, *shape)).astype(bool)


ELEMENTWISE = (
    *("SiLU", "GELU", "Mish", "Softplus", "LogSigmoid", "Softsign", "Tanhshrink", "ELU", "SELU", "CELU"),
    *("LeakyReLU", "ReLU6", "Hardtanh", "Hardsigmoid", "Hardswish", "Hardshrink", "Softshrink"),
)

LAYERS: dict[str, Layer] = {
    "Linear": Layer(lambda: nn.Linear(4, 3), ((5, 4),)),
    "Linear, no bias, more axes": Layer(lambda: nn.Linear(4, 3, bias=False), ((2, 5, 4),)),
    "Identity": Layer(nn.Identity, ((5, 4),)),
    "Flatten": Layer(nn.Flatten, ((2, 3, 4),)),
    "Sigmoid": Layer(nn.Sigmoid, ((5, 4),)),
    "Tanh": Layer(nn.Tanh, ((5, 4),)),
    "ReLU": Layer(nn.ReLU, ((5, 4),)),
    **{name: Layer(getattr(nn, name), ((5, 4),)) for name in ELEMENTWISE},
    "GELU by tanh": Layer(lambda: nn.GELU("tanh"), ((5, 4),)),
    "Softplus, of a beta": Layer(lambda: nn.Softplus(0.3, 0.1), ((5, 4),)),
    "Threshold": Layer(lambda: nn.Threshold(0.25, -2.0), ((5, 4),)),
    "PReLU": Layer(nn.PReLU, ((5, 4),)),
    "PReLU of channels": Layer(lambda: nn.PReLU(3), ((2, 3, 4),)),
    "GLU": Layer(nn.GLU, ((5, 4),)),
    "GLU along the first axis": Layer(lambda: nn.GLU(0), ((4, 3, 2),)),
    "SwiGLU": Layer(lambda: nn.SwiGLU(4, 3), ((5, 4),)),
    "GEGLU": Layer(lambda: nn.GEGLU(4, 3, 2, True, "tanh"), ((2, 5, 4),)),
    "Softmin": Layer(lambda: nn.Softmin(dim=-1), ((5, 4),)),
    "Softmax2d": Layer(nn.Softmax2d, ((2, 3, 4, 2),)),
    "Softmax": Layer(lambda: nn.Softmax(dim=-1), ((5, 4),)),
    "Softmax along the first axis": Layer(lambda: nn.Softmax(dim=0), ((5, 4),)),
    "LogSoftmax": Layer(lambda: nn.LogSoftmax(dim=1), ((2, 4, 3),)),
    "BatchNorm1d": Layer(lambda: nn.BatchNorm1d(4), ((5, 4),)),
    "BatchNorm1d, averaging": Layer(lambda: nn.BatchNorm1d(4, momentum=None), ((5, 4, 2),)),
    "BatchNorm1d, evaluating": Layer(lambda: nn.BatchNorm1d(4).eval(), ((5, 4),)),
    "BatchNorm2d": Layer(lambda: nn.BatchNorm2d(2), ((3, 2, 2, 2),)),
    "BatchNorm3d": Layer(lambda: nn.BatchNorm3d(2, momentum=None), ((2, 2, 2, 1, 2),)),
    "InstanceNorm1d": Layer(lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True), ((3, 2, 4),)),
    "InstanceNorm2d": Layer(lambda: nn.InstanceNorm2d(2), ((3, 2, 2, 2),)),
    "InstanceNorm3d, evaluating": Layer(
        lambda: nn.InstanceNorm3d(2, track_running_stats=True).eval(), ((2, 2, 2, 1, 2),)
    ),
    "GroupNorm": Layer(lambda: nn.GroupNorm(2, 4), ((3, 4, 2),)),
    "RMSNorm": Layer(lambda: nn.RMSNorm(4), ((5, 4),)),
    "RMSNorm, two axes": Layer(lambda: nn.RMSNorm((3, 4), eps=0.1), ((2, 5, 3, 4),)),
    "Embedding": Layer(lambda: nn.Embedding(4, 3), (of_integers(2, 3),)),
    "Embedding, renormalizing": Layer(
        lambda: nn.Embedding(4, 3, padding_idx=1, max_norm=0.5, norm_type=3.0, scale_grad_by_freq=True),
        (of_integers(5),),
    ),
    "EmbeddingBag": Layer(lambda: nn.EmbeddingBag(4, 3, padding_idx=2), (of_integers(2, 3),)),
    "EmbeddingBag, sum": Layer(
        lambda: nn.EmbeddingBag(4, 3, mode="sum", max_norm=0.5, scale_grad_by_freq=True), (of_integers(2, 3),)
    ),
    "EmbeddingBag, max": Layer(lambda: nn.EmbeddingBag(4, 3, mode="max", padding_idx=2), (of_integers(2, 3),)),
    "LayerNorm": Layer(lambda: nn.LayerNorm(4), ((5, 4),)),
    "LayerNorm, two axes": Layer(lambda: nn.LayerNorm((3, 4), bias=False), ((2, 5, 3, 4),)),
    "Dropout": Layer(lambda: nn.Dropout(0.3), ((5, 4), of_booleans(5, 4))),
    "Conv2d": Layer(lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), ((2, 2, 5, 4),)),
    "Conv2d, grouped": Layer(
        lambda: nn.Conv2d(2, 4, 2, groups=2, padding=(0, 1), padding_mode="reflect", bias=False), ((1, 2, 3, 3),)
    ),
    "LSTMCell": Layer(lambda: nn.LSTMCell(3, 2), ((4, 3), (4, 2), (4, 2))),
    "ScaledDotProductAttention": Layer(nn.ScaledDotProductAttention, ((2, 3, 4), (2, 5, 4), (2, 5, 2))),
    "ScaledDotProductAttention, masked": Layer(
        lambda: nn.ScaledDotProductAttention(0.3), ((2, 3, 4), (2, 5, 4), (2, 5, 4), (5,), of_booleans(2, 3, 5))
    ),
    "ScaledDotProductAttention, shared heads": Layer(
        lambda: nn.ScaledDotProductAttention(scale=0.3, enable_gqa=True),
        ((4, 3, 2), (2, 3, 2), (1, 3, 2), of_booleans(3, 3)),
    ),
    "ScaledDotProductAttention, causal": Layer(
        lambda: nn.ScaledDotProductAttention(is_causal=True, alignment="lower_right"), ((3, 4), (2, 4), (2, 4))
    ),
    "MultiheadAttention": Layer(lambda: nn.MultiheadAttention(2, 2), ((2, 1, 2), (3, 1, 2), (3, 1, 2))),
    "MultiheadAttention, padded": Layer(
        lambda: nn.MultiheadAttention(2, 1, add_bias_kv=True, add_zero_attn=True, kdim=1, batch_first=True),
        ((1, 2, 2), (1, 3, 1), (1, 3, 2), (1, 3)),
    ),
    "TransformerEncoderLayer": Layer(
        lambda: nn.TransformerEncoderLayer(2, 1, 2, dropout=0.0, layer_norm_eps=1.0, norm_first=True), ((2, 1, 2),)
    ),
    "TransformerDecoderLayer": Layer(
        lambda: nn.TransformerDecoderLayer(2, 1, 2, dropout=0.0, layer_norm_eps=256.0, norm_first=True),
        ((2, 1, 2), (1, 1, 2)),
    ),
    "Graph": Layer(lambda: residual(), ((5, 4),)),
    "RotaryEmbedding": Layer(nn.RotaryEmbedding, ((2, 3, 5), (3, 2), (3, 2))),
    "RotaryEmbedding, interleaved": Layer(lambda: nn.RotaryEmbedding(interleaved=True), ((3, 5), (3, 2), (3, 2))),
    "Sequential": Layer(lambda: shared(), ((5, 4),)),
    "MSELoss": Layer(nn.MSELoss, ((5, 4), (5, 4))),
    "HalfSquaredError": Layer(nn.HalfSquaredError, ((5, 4), (5, 4))),
    "L1Loss": Layer(lambda: nn.L1Loss(reduction="sum"), ((5, 4), (5, 4))),
    "BCELoss": Layer(lambda weight: nn.BCELoss(weight), ((5, 4), (5, 4)), {"weight": (4,)}, positive=True),
    "BCEWithLogitsLoss": Layer(
        lambda weight, pos_weight: nn.BCEWithLogitsLoss(weight, pos_weight=pos_weight),
        ((5, 4), (5, 4)),
        {"weight": (5, 4), "pos_weight": (4,)},
    ),
    "CrossEntropyLoss": Layer(nn.CrossEntropyLoss, ((5, 4), of_integers(5))),
    "CrossEntropyLoss, smoothed": Layer(
        lambda weight: nn.CrossEntropyLoss(weight, label_smoothing=0.1, ignore_index=2),
        ((5, 4, 2), of_integers(5, 2)),
        {"weight": (4,)},
    ),
    "CrossEntropyLoss of probabilities": Layer(lambda: nn.CrossEntropyLoss(reduction="none"), ((5, 4), (5, 4))),
}


def residual() -> Module:
    linear = nn.Linear(4, 4)
    steps = (("h", "a", "input"), ("y", "b", "h"), ("p", "*", "h", "y"), ("output", "+", "input", "p"))
    return nn.Graph({"a": linear, "b": linear}, steps)


def shared() -> Module:
    linear = nn.Linear(4, 4)
    return nn.Sequential(linear, nn.Tanh(), linear)


def draw(name: str, shape: tuple[int, ...], positive: bool) -> Any:
    values = np.random.default_rng(list(name.encode())).uniform(0.05, 0.95, (R, *shape))
    return values if positive or name.endswith(("var", "weight")) else values * 4 - 2


def answer(layer: Layer, lift: Callable[[Any], Any]) -> Tensors:
    """Forward and backward in the arithmetic that `lift` takes arrays with a run axis to."""

    def lifted(name: str, shape: tuple[int, ...]) -> Any:
        return lift(draw(name, shape, layer.positive))

    own = {name: lifted(name, shape) for name, shape in layer.arrays.items()}
    module = layer.make(**own)
    whole = {name: a for name, a in module.buffers.items() if a.dtype.kind == "i"}
    made = {
        name: lifted(name, a.shape) for name, a in (module.params | module.buffers).items() if name not in own | whole
    }
    module.bind(made | own | whole)
    inputs = [lifted(f"input.{k}", s) if isinstance(s, tuple) else lift(s) for k, s in enumerate(layer.inputs)]
    with tape.untaped():
        output, saved = module.forward(*inputs)
        outputs = output if isinstance(output, tuple) else (output,)
        grads = tuple(lifted(f"grad.{k}", np.shape(y)) for k, y in enumerate(outputs))
        grad_input, grad_params = module.backward(grads if len(grads) > 1 else grads[0], saved)
    return named(output, grad_input, grad_params, module.buffers)


def budgets(a: Any) -> Any:
    return Budget.exact(a, F64) if a.dtype.kind == "f" else a


def alone(layer: Layer, lift: Callable[[Any], Any]) -> list[Tensors]:
    return [answer(layer, lambda a, k=k: lift(a[k])) for k in range(R)]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_in_every_arithmetic(name: str) -> None:
    layer = LAYERS[name]
    floats, budgeted = alone(layer, lambda a: a), alone(layer, budgets)
    runs, runs_of_budgets = answer(layer, Runs), answer(layer, lambda a: Runs(budgets(a)))
    with ball.precision(200):
        balls, runs_of_balls = alone(layer, ball.lift), answer(layer, lambda a: Runs(ball.lift(a)))
        for k in range(R):
            assert floats[k].keys() == budgeted[k].keys() == balls[k].keys() == runs.keys() == runs_of_budgets.keys()
            for tensor, x in floats[k].items():
                if np.asarray(x).dtype.kind == "i":
                    assert int(x) == int(runs[tensor]) == int(balls[k][tensor])
                    continue
                # A run has the bits that it has alone.
                assert runs[tensor].dtype == x.dtype
                assert np.array_equal(runs[tensor].a[k], x)
                b, both = budgeted[k][tensor], runs_of_budgets[tensor].a
                assert np.array_equal(both.x[k], b.x)
                assert np.allclose(both.e[k], b.e, rtol=1e-12, atol=0)
                true = ball.values(balls[k][tensor])
                assert all(
                    t.overlaps(s) for t, s in zip(true.flat, ball.values(runs_of_balls[tensor].a[k]).flat, strict=True)
                )
                assert true.shape == np.shape(x) == b.shape
                for t, y, c, e in zip(true.flat, np.ravel(x), b.x.flat, b.e.flat, strict=True):
                    assert abs(arb(float(c)) - t) <= float(e)
                    assert abs(arb(float(y)) - t) <= float(e)
                    assert e < 1e-12


def test_every_layer_is_tried() -> None:
    modules = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - {"Module"}
    assert {name.split(",")[0].split(" ")[0] for name in LAYERS} == modules
