"""Engines by name; anyone's own; and the built-in ones' answers."""

import secrets
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

import parity
from parity.budget.array import Profile
from parity.engines import loading
from parity.engines.base import Engine, one_line
from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue
from parity.records.record import VJP, Optimize, Spec, Unsupported, UsageError

pytestmark = pytest.mark.arithmetic

BY_NAME = {case.name: case for case in catalogue()}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Puts a module of this text where it can be imported; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(text):
        # What is imported once stays.
        name = f"anyones_{secrets.token_hex(4)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return written


def refusal(name, by=loading.load):
    with pytest.raises(UsageError) as caught:
        by(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- by name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pytorch",
        "refnet:",
        "refnet:cpu",
        "torch:",
        ":",
        "a:",
        ":B",
        "a.b",
        "a:b c",
        "exec:",
        "exec",
        "a.py:",
        "a.py",
        "__main__:B",
    ],
)
def test_what_is_no_engines_name(name):
    for by in (loading.check, loading.load):
        assert refusal(name, by) == (f"expected an engine named {loading.NAMES}, got {name!r}")


def test_an_engine_goes_by_the_name_it_was_asked_for_by(module):
    assert loading.load("refnet").name == "refnet"
    name = module("import parity\nclass Mine(parity.Engine):\n    name = 'refnet'")
    loading.check(f"{name}:Mine")
    assert loading.load(f"{name}:Mine").name == f"{name}:Mine"


def test_checking_imports_nothing(module):
    name = module("raise RuntimeError")
    loading.check(f"{name}:Mine")
    loading.check("torch:cuda")
    assert name not in sys.modules
    assert refusal("no_such_package.module:Mine", loading.check) == (
        "engine no_such_package.module:Mine: expected the package no_such_package, got none"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0", "expected an importable module {}, got ZeroDivisionError: division by zero"),
        ("import no_such_thing", "expected an importable module {}, got ModuleNotFoundError: No module named"),
        ("def", "expected an importable module {}, got SyntaxError: invalid syntax"),
        ("raise SystemExit(0)", "expected an importable module {}, got SystemExit: 0"),
        ("raise ValueError('two\\nlines')", "got ValueError: two lines"),
        ("", "expected a subclass of parity.Engine named Mine in {}, got none"),
        ("Mine = 1", "expected a subclass of parity.Engine named Mine in {}, got an object of int"),
        ("class Mine: pass", "expected a subclass of parity.Engine named Mine in {}, got the class Mine"),
        ("def Mine(): pass", "expected a subclass of parity.Engine named Mine in {}, got an object of function"),
        (
            "import parity\nclass Mine(parity.Engine):\n    def __init__(self, size): pass",
            "expected a class Mine that can be called without arguments, got TypeError: Mine.__init__() missing 1",
        ),
        (
            "import parity\nclass Mine(parity.Engine):\n    def __init__(self): raise OSError('no licence')",
            "expected a class Mine that can be called without arguments, got OSError: no licence",
        ),
    ],
)
def test_what_cannot_be_loaded(module, text, says):
    name = module(text)
    assert says.format(name) in refusal(f"{name}:Mine")


def test_a_class_inside_another(module):
    name = module("import parity\nclass Outer:\n    class Mine(parity.Engine): pass")
    assert isinstance(loading.load(f"{name}:Outer.Mine"), Engine)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("torch", {}),
        ("torch:cuda", {"device": "cuda"}),
        ("torch:cuda:1,compile=1", {"device": "cuda:1", "compile": "1"}),
        ("torch:device=cpu, dtype=float32", {"device": "cpu", "dtype": "float32"}),
    ],
)
def test_options(name, found):
    loading.check(name)
    assert loading.options(name) == found


@pytest.mark.parametrize("part", ["precision=8", "dtype=", "=1", "eager", "device=cpu"])
def test_what_is_no_option(part):
    name = f"torch:device=cpu,{part}"
    says = f"engine {name}: expected options device=..., dtype=..., compile=..., optimizer=..., each once, got {part!r}"
    for by in (loading.check, loading.load):
        assert refusal(name, by) == says


def test_values_that_torch_has_not():
    pytest.importorskip("torch")
    assert refusal("torch:abacus").startswith("engine torch: expected a device of torch, got 'abacus'")
    assert refusal("torch:dtype=float8") == (
        "engine torch: expected dtype=float64 or float32 or bfloat16 or float16, got 'float8'"
    )
    assert "got 'twice'" in refusal("torch:compile=twice")


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refusal("torch", loading.check) == (
        "engine torch: expected the package torch, got none; install it with: pip install torch"
    )
    for name in ("torch", "torch:cuda"):
        message = refusal(name)
        assert message.startswith("engine torch: expected the package torch, got: ")
        assert message.endswith("install it with: pip install torch")


def test_the_public_names():
    assert parity.Engine is Engine
    assert parity.Unsupported is Unsupported
    assert (parity.VJP, parity.Optimize) == (VJP, Optimize)


def test_an_engine_that_says_nothing_supports_nothing():
    engine = Engine()
    assert engine.profile("float32") == Profile.of("float32")
    for method, kind in ((engine.vjp, "vjp"), (engine.optimize, "optimize"), (engine.train, "train")):
        with pytest.raises(Unsupported, match=f"no {kind}"):
            method(None)


def test_one_line():
    assert one_line(" a\n\tb\x1b[31mred\x00 \ud800c ") == "a b [31mred c"
    assert one_line("x" * 301) == "x" * 297 + "..."
    assert one_line(ValueError("x" * 300)) == "x" * 300


# ---- the built-in ones


@pytest.fixture(scope="module")
def torch_engine():
    pytest.importorskip("torch")
    return loading.load("torch")


@pytest.fixture(params=["refnet", "torch"])
def engine(request):
    return RefnetEngine() if request.param == "refnet" else request.getfixturevalue("torch_engine")


def ask(engine, record):
    return engine.optimize(record) if isinstance(record, Optimize) else engine.vjp(record)


def shapes(answer):
    return {name: (t.shape, str(t.dtype)) for name, t in answer.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "name",
    [
        "Linear/batch 3",
        "Linear/batch 0",
        "LSTMCell/batch 3",
        "BatchNorm1d/momentum 0.25, sixteen samples",
        "Dropout/p 0.25",
        "CrossEntropyLoss/probabilities, weight and smoothing, mean",
        "HalfSquaredError/batch 7",
        "Network/one layer at two places, ReLU between",
        "SGD/groups, each with its options",
    ],
)
def test_both_answer_alike(torch_engine, name, dtype):
    case = BY_NAME[name]
    record = case.record(case.families[-1], dtype)
    own, other = ask(RefnetEngine(), record), ask(torch_engine, record)
    assert shapes(own) == shapes(other)
    for tensor in own:
        np.testing.assert_allclose(own[tensor], other[tensor], rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["Linear/batch 3", "SGD/groups, each with its options"])
def test_torch_compiled(torch_engine, name):
    """By the backend that needs no C++ compiler: torch.compile and its joint graph of forward and backward."""
    case = BY_NAME[name]
    record = case.record(case.families[-1], "float32")
    compiled = loading.load("torch:dtype=float32,compile=aot_eager")
    own, other = ask(torch_engine, record), ask(compiled, record)
    assert shapes(own) == shapes(other)
    for tensor in own:
        np.testing.assert_allclose(own[tensor], other[tensor], rtol=1e-6, atol=1e-6)
    with pytest.raises(Unsupported, match="float64, by dtype=float32"):
        ask(compiled, case.record(case.families[-1], "float64"))


@pytest.mark.parametrize("way", ["for-loop", "foreach", "fused"])
def test_torchs_ways_of_stepping(torch_engine, way):
    case = BY_NAME["Adam/defaults"]
    record = case.record(case.families[-1], "float32")
    own, other = ask(torch_engine, record), ask(loading.load(f"torch:optimizer={way}"), record)
    assert shapes(own) == shapes(other)
    for tensor in own:
        np.testing.assert_allclose(own[tensor], other[tensor], rtol=1e-4, atol=1e-6)


def test_ways_of_stepping_that_are_not_there():
    record = BY_NAME["Rprop/defaults"].record("full", "float32")
    with pytest.raises(Unsupported, match=r"torch\.optim\.Rprop has no fused implementation"):
        loading.load("torch:optimizer=fused").optimize(record)
    with pytest.raises(Unsupported, match="capturable steps need a device"):
        loading.load("torch:optimizer=capturable").optimize(record)
    with pytest.raises(UsageError, match="expected optimizer= one of for-loop, foreach, fused, capturable, got 'fast'"):
        loading.load("torch:optimizer=fast")


def test_both_train_alike(torch_engine, short_training):
    for dtype in ("float64", "float32"):
        record = short_training.record("full", dtype)
        own, other = RefnetEngine().train(record), torch_engine.train(record)
        assert shapes(own) == shapes(other)
        for tensor in own:
            np.testing.assert_allclose(own[tensor], other[tensor], rtol=1e-4, atol=1e-5)


def test_both_start_from_a_given_state(engine, short_training):
    record = short_training.record("full", "float64")
    run = engine.train(record)
    rest = replace(
        record,
        arrays={name: run[f"param.{name}"][4] for name in record.arrays},
        state={name.removeprefix("state."): a[3] for name, a in run.items() if name.startswith("state.")},
        batches=record.batches[4:],
    )
    for name, series in engine.train(rest).items():
        np.testing.assert_array_equal(series, run[name][4:])


def test_records_are_left_as_they_are(engine, short_training):
    for case in (BY_NAME["BatchNorm1d/momentum 0.25, sixteen samples"], BY_NAME["SGD/lr 0.1, momentum 0.9"]):
        record, untouched = (case.record("full", "float64") for _ in range(2))
        ask(engine, record)
        assert _bytes(record) == _bytes(untouched)
    record, untouched = (short_training.record("full", "float64") for _ in range(2))
    engine.train(record)
    assert _bytes(record) == _bytes(untouched)


def _bytes(value):
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {name: _bytes(v) for name, v in value.items()}
    if isinstance(value, tuple):
        return [_bytes(v) for v in value]
    return {n: _bytes(v) for n, v in vars(value).items()} if hasattr(value, "__dict__") else value


# ---- torch


LAYOUTS = {
    "contiguous": np.arange(12.0).reshape(3, 4),
    "transposed": np.arange(12.0).reshape(4, 3).mT,
    "sliced": np.arange(24.0).reshape(3, 8)[:, ::2],
    "rows left out": np.arange(24.0).reshape(6, 4)[1::2],
    "expanded": np.broadcast_to(np.arange(4.0), (3, 4)),
    "one number": np.broadcast_to(np.float64(2), (3, 4)),
    "three axes": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "float32": np.arange(12.0, dtype=np.float32).reshape(4, 3).mT,
    "0-d": np.array(2.0),
    "booleans": np.arange(6).reshape(3, 2).mT > 2,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_are_kept(torch_engine, layout):
    array = LAYOUTS[layout]
    tensor = torch_engine._tensor(array)
    assert tensor.stride() == tuple(s // array.itemsize for s in array.strides)
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_upstream_gradients_keep_their_strides(torch_engine, monkeypatch):
    """What autograd is handed lies in memory as the case says."""
    seen = []
    backward = torch_engine.torch.autograd.backward

    def watched(tensors, grads):
        seen.extend(g.stride() for g in grads)
        return backward(tensors, grads)

    monkeypatch.setattr(torch_engine.torch.autograd, "backward", watched)
    for name in ("contiguous", "transposed", "sliced", "expanded", "one number"):
        g = LAYOUTS[name]
        torch_engine.vjp(VJP(Spec("Identity"), {}, (np.ones((3, 4)),), (g,)))
    assert seen == [(4, 1), (1, 3), (8, 2), (0, 1), (0, 0)]


def test_negative_strides_and_nothing_at_all(torch_engine):
    backwards = np.arange(6.0).reshape(2, 3)[:, ::-1]
    np.testing.assert_array_equal(torch_engine._tensor(backwards).numpy(), backwards)
    assert tuple(torch_engine._tensor(np.zeros((0, 3))).shape) == (0, 3)


def test_a_tensor_has_memory_of_its_own(torch_engine):
    array = np.ones(3)
    torch_engine._tensor(array).zero_()
    assert array.tolist() == [1, 1, 1]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(torch_engine, short_training, device):
    torch = torch_engine.torch
    if {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}[device]():
        pytest.skip(f"this machine has {device}")
    engine = loading.load(f"torch:{device}")
    vjp, optimize = (BY_NAME[n].record("full", "float32") for n in ("Linear/batch 3", "SGD/lr 0.1, momentum 0.9"))
    train = short_training.record("full", "float32")
    for method, record in ((engine.vjp, vjp), (engine.optimize, optimize), (engine.train, train)):
        with pytest.raises(Unsupported, match=f"torch has no float32 on {device} here: ") as caught:
            method(record)
        assert one_line(caught.value) == str(caught.value)


def test_an_argument_that_this_torch_lacks(torch_engine, monkeypatch):
    class Older(torch_engine.torch.nn.GroupNorm):
        def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None):
            super().__init__(num_groups, num_channels, eps, affine, device, dtype)

    monkeypatch.setattr(torch_engine.torch.nn, "GroupNorm", Older)
    with pytest.raises(Unsupported, match=r"torch 2.*: GroupNorm has no argument 'bias'"):
        torch_engine.vjp(BY_NAME["GroupNorm/no bias"].record("full", "float32"))
    assert torch_engine.vjp(BY_NAME["GroupNorm/batch 3"].record("full", "float32")).keys() >= {"output", "grad.bias"}


def test_a_step_that_a_device_lacks(torch_engine, monkeypatch):
    def step(optimizer, closure=None):
        raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices")

    monkeypatch.setattr(torch_engine.torch.optim.Adagrad, "step", step)
    with pytest.raises(Unsupported, match="torch's Adagrad has no fused step on cpu"):
        loading.load("torch:optimizer=fused").optimize(BY_NAME["Adagrad/defaults"].record("full", "float32"))


@pytest.mark.parametrize(("precision", "product"), [("highest", "float32"), ("high", "tf32"), ("medium", "tf32")])
def test_tf32_is_declared_where_torch_may_take_it(torch_engine, precision, product):
    torch = torch_engine.torch
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        engine = loading.load("torch:cuda")
        assert engine.profile("float32") == Profile.of("float32", product=product)
        assert engine.profile("float64") == Profile.of("float64")
        assert torch_engine.profile("float32") == Profile.of("float32")
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_device_that_torch_does_not_know(torch_engine):
    assert refusal("torch:abacus").startswith("engine torch: expected a device of torch, got 'abacus': ")


def test_torch_says_what_it_lacks(torch_engine):
    lacking = VJP(Spec("Perceptron"), {}, (np.ones(2),), (np.ones(2),))
    with pytest.raises(Unsupported, match=r"torch\.nn has no Perceptron"):
        torch_engine.vjp(lacking)
    with pytest.raises(Unsupported, match=r"torch\.optim has no Newton"):
        torch_engine.optimize(Optimize(Spec("Newton"), {"w": np.ones(2)}, {"w": np.ones((1, 2))}))


def test_a_given_mask_prints_no_warning(torch_engine, capfd):
    """What torch says of attention with a given dropout mask, each time and not only the first, stays unseen."""
    always = torch_engine.torch.is_warn_always_enabled()
    torch_engine.torch.set_warn_always(True)
    try:
        torch_engine.vjp(BY_NAME["ScaledDotProductAttention/dropout 0.25"].record("full", "float64"))
    finally:
        torch_engine.torch.set_warn_always(always)
    assert capfd.readouterr() == ("", "")
