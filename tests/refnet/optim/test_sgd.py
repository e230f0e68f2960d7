"""refnet.optim.SGD against torch.optim.SGD, step by step, and against hand arithmetic."""

import copy
import inspect
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from refnet.arithmetic.runs import Runs
from refnet.optim import SGD, sgd

pytestmark = pytest.mark.arithmetic

SHAPES = {"0.weight": (3, 4), "0.bias": (3,), "scale": ()}
DTYPES = [np.float32, np.float64]

# Every option on and off. On the grid the values are powers of two, elsewhere they have full significands.
GRID = {"lr": 0.25, "momentum": 0.5, "dampening": 0.75, "weight_decay": 0.5}
FULL = {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.07}
SWITCHES = [
    dict(zip(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), on, strict=True))
    for on in product((False, True), repeat=5)
    if not on[3] or (on[0] and not on[1])
]


def options(values, switches):
    numbers = {name: value for name, value in values.items() if switches.get(name, name == "lr")}
    return numbers | {name: switches[name] for name in ("nesterov", "maximize")}


def label(switches):
    return "+".join(name for name, on in switches.items() if on) or "plain"


def grid(rng, shape, dtype):
    return (rng.integers(-4, 5, shape) / 4).astype(dtype)


def full(rng, shape, dtype):
    return (rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)).astype(dtype)


def draw(family, seed, dtype, steps):
    """Parameters and, for each step, gradients; on every third step one of them is None and another is not there."""
    rng = np.random.default_rng(seed)
    params = {name: np.asarray(family(rng, shape, dtype)) for name, shape in SHAPES.items()}
    course = [{name: np.asarray(family(rng, shape, dtype)) for name, shape in SHAPES.items()} for _ in range(steps)]
    for t in range(2, steps, 3):
        names = [str(name) for name in rng.permutation(list(SHAPES))]
        course[t][names[0]] = None
        del course[t][names[1]]
    return params, course


class Torch:
    """torch.optim.SGD on copies of the same parameters."""

    def __init__(self, params, **options):
        self.tensors = {name: torch.nn.Parameter(torch.tensor(P)) for name, P in params.items()}
        self.opt = torch.optim.SGD(list(self.tensors.values()), **options)

    def step(self, grads):
        for name, tensor in self.tensors.items():
            G = grads.get(name)
            tensor.grad = None if G is None else torch.tensor(G)
        self.opt.step()

    def params(self):
        return {name: tensor.detach().numpy().copy() for name, tensor in self.tensors.items()}

    def buffers(self):
        found = {name: self.opt.state[tensor].get("momentum_buffer") for name, tensor in self.tensors.items()}
        return {name: B.numpy().copy() for name, B in found.items() if B is not None}


def buffers(opt):
    return {name: state["momentum_buffer"] for name, state in opt.state.items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert isinstance(ours[name], np.ndarray)
        assert (ours[name].shape, ours[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(ours[name], array)


def assert_same_on_the_grid(optimizer, switches, dtype):
    """The same bits where every product and sum is exact: few enough steps for all digits to fit in the significand."""
    params, course = draw(grid, 1, dtype, 3 if dtype == np.float32 else 6)
    theirs = Torch(params, **options(GRID, switches))
    opt = optimizer(params, **options(GRID, switches))
    for t, grads in enumerate(course):
        # The rate changes as under a scheduler.
        opt.param_groups[0]["lr"] = theirs.opt.param_groups[0]["lr"] = GRID["lr"] * (1, 2)[t % 2]
        opt.step(grads)
        theirs.step(grads)
        assert_same(params, theirs.params())
        assert_same(buffers(opt), theirs.buffers())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("switches", SWITCHES, ids=label)
def test_same_bits_on_the_grid(switches, dtype):
    assert_same_on_the_grid(SGD, switches, dtype)


RATE_IN_THE_VELOCITY = [
    ("B[...] = G\n", "B[...] = special.lift(group['lr'], P) * G\n"),
    ("B[...] = mu * B + G\n", "B[...] = mu * B + special.lift(group['lr'], P) * G\n"),
    ("mu * B + (1 - tau) * G\n", "mu * B + special.lift(group['lr'], P) * ((1 - tau) * G)\n"),
    ("G + mu * B if", "special.lift(group['lr'], P) * G + mu * B if"),
    ("P - gamma * G\n", "P - (gamma * G if group['momentum'] == 0 else G)\n"),
]
FAULTS = {
    "dampened first gradient": [("B[...] = G\n", "B[...] = (1 - special.lift(group['dampening'], P)) * G\n")],
    "buffer starts at 0": [("B[...] = G\n", "B[...] = 0 * G\n")],
    "no dampening": [("mu * B + (1 - tau) * G", "mu * B + G")],
    "dampening of the buffer": [("mu * B + (1 - tau) * G", "(1 - tau) * (mu * B + G)")],
    "average": [("B[...] = mu * B + G", "B[...] = mu * B + (1 - mu) * G")],
    "rate in the velocity": RATE_IN_THE_VELOCITY,
    "Nesterov without the gradient": [("G + mu * B if", "mu * B if")],
    "Nesterov's buffer not decayed": [("G + mu * B if", "G + B if")],
    "Nesterov always": [('if group["nesterov"] else B', "")],
    "decay in the wrong direction": [("G + lambda_ * P", "G - lambda_ * P")],
    "decay times the rate": [("G + lambda_ * P", "G + lambda_ * special.lift(group['lr'], P) * P")],
    "decay before the sign": [("G = -G", "G = -(G + 2 * special.lift(group['weight_decay'], P) * P)")],
    "maximize ignored": [("G = -G", "G = G")],
    "ascent": [("P - gamma * G", "P + gamma * G")],
    "rebound, not in place": [("P[...] = P - gamma * G", 'group["params"][name] = P - gamma * G')],
}


def faulty_sgd(edits):
    source = inspect.getsource(sgd)
    for old, new in edits:
        assert source.count(old) == 1
        source = source.replace(old, new)
    names = {"__name__": "faulty"}
    exec(source, names)
    return names["SGD"]


class StepsWithoutGradient(SGD):
    def step(self, grads):
        super().step({name: grads.get(name, 0 * P) for name, P in self.param_groups[0]["params"].items()})


@pytest.mark.parametrize("fault", [*FAULTS, StepsWithoutGradient], ids=str)
def test_a_fault_is_seen_on_the_grid(fault):
    optimizer = faulty_sgd(FAULTS[fault]) if fault in FAULTS else fault
    seen = []
    for switches in SWITCHES:
        try:
            assert_same_on_the_grid(optimizer, switches, np.float64)
        except AssertionError:
            seen.append(switches)
    assert seen


def bounded_step(values, switches, exact, grads, u):
    """The next `(P, eP, B, eB)` for each name: values, and bounds on their error in any evaluation with roundoff u.

    An option is rounded to the dtype, u, before it multiplies, and its product is rounded, u. Of 1 - tau the tau may be
    rounded and then the difference, with the product u (tau + 2 (1 - tau)) <= 2u of |g|. A sum adds u of its result,
    fused operations less. 4u instead of 2u pays for terms in u^2 and for the roundoff of these very lines in float64.
    """
    lr, mu, tau, decay = (values[n] if switches.get(n, n == "lr") else 0 for n in GRID)
    after = {}
    for name, (P, eP, B, eB) in exact.items():
        G = grads.get(name)
        if G is None:
            after[name] = P, eP, B, eB
            continue
        G, eG = (-1 if switches["maximize"] else 1) * G.astype(np.float64), 0
        if decay:
            G, eG = G + decay * P, decay * eP + 4 * u * decay * abs(P) + u * abs(G + decay * P)
        if mu and B is None:
            B, eB = G, eG
        elif mu:
            new = mu * B + (1 - tau) * G
            eB = mu * eB + (1 - tau) * eG + 4 * u * (mu * abs(B) + abs(G)) + u * abs(new)
            B = new
        if switches["nesterov"]:
            G, eG = G + mu * B, eG + mu * eB + 4 * u * mu * abs(B) + u * abs(G + mu * B)
        elif mu:
            G, eG = B, eB
        new = P - lr * G
        after[name] = new, eP + lr * eG + 4 * u * lr * abs(G) + u * abs(new), B, eB
    return after


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("switches", SWITCHES, ids=label)
def test_within_rounding_over_20_steps(switches, dtype):
    params, course = draw(full, 2, dtype, 20)
    theirs = Torch(params, **options(FULL, switches))
    exact = {name: (P.astype(np.float64), np.zeros(P.shape), None, 0) for name, P in params.items()}
    opt = SGD(params, **options(FULL, switches))
    for grads in course:
        opt.step(grads)
        theirs.step(grads)
        exact = bounded_step(FULL, switches, exact, grads, float(np.finfo(dtype).eps) / 2)
        for name, (_, eP, _, eB) in exact.items():
            # Both engines may be off by the bound, in opposite directions.
            assert (abs(params[name].astype(np.float64) - theirs.params()[name]) <= 2 * eP).all()
            if name in theirs.buffers():
                B = opt.state[name]["momentum_buffer"].astype(np.float64)
                assert (abs(B - theirs.buffers()[name]) <= 2 * eB).all()
        assert all(P.dtype == dtype for P in params.values())


def test_hand_arithmetic():
    """Two steps in fractions: rate 1/10, momentum 1/2, dampening 1/3, decay 1/5, from theta = 1 with g = 1, then 3."""
    params = {"w": np.array([Fraction(1)])}
    parts = {"momentum": Fraction(1, 2), "dampening": Fraction(1, 3), "weight_decay": Fraction(1, 5)}
    opt = SGD(params, lr=Fraction(1, 10), **parts)
    opt.step({"w": np.array([Fraction(1)])})
    # g = 1 + 1/5 = 6/5 = b; theta = 1 - 6/50 = 22/25
    assert (params["w"][0], opt.state["w"]["momentum_buffer"][0]) == (Fraction(22, 25), Fraction(6, 5))
    opt.step({"w": np.array([Fraction(3)])})
    # g = 3 + 22/125 = 397/125; b = 3/5 + 2/3 397/125 = 1019/375; theta = 22/25 - 1019/3750 = 2281/3750
    assert (params["w"][0], opt.state["w"]["momentum_buffer"][0]) == (Fraction(2281, 3750), Fraction(1019, 375))


def test_a_rate_that_changes_acts_on_the_whole_buffer():
    params = {"w": np.array([0.0])}
    opt = SGD(params, lr=1.0, momentum=0.5)
    opt.step({"w": np.array([1.0])})
    opt.param_groups[0]["lr"] = 0.25
    opt.step({"w": np.array([0.0])})
    # b = 1, then 1/2: theta = -1 - 1/4 1/2; the paper's velocity would be -1, then -1/2: theta = -1 - 1/2
    assert params["w"][0] == -1.125


def test_many_runs_are_their_lone_twins():
    rng = np.random.default_rng(3)
    params, rates = rng.standard_normal((5, 3, 4)), rng.random(5)
    grads = rng.standard_normal((4, 5, 3, 4))
    parts = options(
        FULL, {"momentum": True, "dampening": True, "weight_decay": True, "nesterov": False, "maximize": False}
    )
    runs = Runs(params.copy())
    opt = SGD({"w": runs}, **parts | {"lr": Runs(rates)})
    for G in grads:
        opt.step({"w": Runs(G)})
    for r, rate in enumerate(rates.tolist()):
        lone = {"w": params[r].copy()}
        twin = SGD(lone, **parts | {"lr": rate})
        for G in grads:
            twin.step({"w": G[r]})
        np.testing.assert_array_equal(runs.a[r], lone["w"])
        np.testing.assert_array_equal(opt.state["w"]["momentum_buffer"].a[r], twin.state["w"]["momentum_buffer"])


def assert_gradients_left_alone(optimizer):
    params, course = draw(full, 4, np.float64, 4)
    before = copy.deepcopy(course)
    opt = optimizer(params, lr=0.1, momentum=0.9)
    for grads in course:
        opt.step(grads)
    np.testing.assert_equal(course, before)


def test_gradients_are_neither_written_nor_kept():
    assert_gradients_left_alone(SGD)


def test_a_kept_gradient_is_seen():
    kept = [('B = state["momentum_buffer"] = P.copy()', 'B = state["momentum_buffer"] = G')]
    with pytest.raises(AssertionError):
        assert_gradients_left_alone(faulty_sgd(kept))


def test_read_only_zero_stride_and_transposed_gradients():
    strange = {
        "w": np.broadcast_to(np.float64(0.5), (3, 4)),
        "v": np.arange(6.0).reshape(2, 3).T,
    }
    params = {"w": np.ones((3, 4)), "v": np.ones((3, 2))}
    SGD(params, lr=0.5, momentum=0.5).step(strange)
    np.testing.assert_array_equal(params["w"], np.full((3, 4), 0.75))
    np.testing.assert_array_equal(params["v"], [[1, -0.5], [0.5, -1], [0, -1.5]])


def test_parameters_keep_their_arrays():
    params, course = draw(full, 5, np.float64, 3)
    arrays = dict(params)
    opt = SGD(params, lr=0.1, momentum=0.9)
    opt.step(course[0])
    held = {name: state["momentum_buffer"] for name, state in opt.state.items()}
    for grads in course[1:]:
        opt.step(grads)
    assert all(params[name] is P for name, P in arrays.items())
    assert all(opt.state[name]["momentum_buffer"] is B for name, B in held.items())


def test_no_state_without_momentum():
    params, course = draw(full, 6, np.float64, 2)
    opt = SGD(params, lr=0.1, weight_decay=0.1)
    for grads in course:
        opt.step(grads)
    assert opt.state == {}


def test_a_parameter_without_gradient_has_no_state():
    params, (grads, *_) = draw(full, 7, np.float64, 1)
    before = params["scale"].copy()
    opt = SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1)
    opt.step({**grads, "scale": None})
    assert opt.state.keys() == SHAPES.keys() - {"scale"}
    assert params["scale"] == before


def test_options_that_are_off_take_no_part():
    """0 times infinity is NaN, and -0 + 0 is 0: an operation with an option of 0 would show."""
    params = {"w": np.array([np.inf, 1.0])}
    SGD(params, lr=1.0).step({"w": np.array([0.0, 0.0])})
    np.testing.assert_array_equal(params["w"], [np.inf, 1.0])
    buffer = SGD({"w": np.zeros(1)}, lr=1.0, momentum=0.5)
    buffer.step({"w": np.array([-0.0])})
    assert np.signbit(buffer.state["w"]["momentum_buffer"][0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups(dtype):
    params, course = draw(grid, 8, dtype, 3)
    groups = [{"names": ["0.weight"], "lr": 0.5, "momentum": 0.5}, {"names": ["0.bias", "scale"], "weight_decay": 0.25}]
    tensors = {name: torch.nn.Parameter(torch.tensor(P)) for name, P in params.items()}

    def build(optimizer, arrays, kind):
        parts = [
            {"params": kind({name: arrays[name] for name in group["names"]})}
            | {name: value for name, value in group.items() if name != "names"}
            for group in groups
        ]
        return optimizer(parts, lr=0.125, maximize=True)

    ours, theirs = build(SGD, params, dict), build(torch.optim.SGD, tensors, lambda d: list(d.values()))
    for own, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert {k: v for k, v in own.items() if k != "params"} == {k: other[k] for k in own if k != "params"}
    for grads in course:
        ours.step(grads)
        for name, tensor in tensors.items():
            tensor.grad = None if grads.get(name) is None else torch.tensor(grads[name])
        theirs.step()
    assert_same(params, {name: tensor.detach().numpy() for name, tensor in tensors.items()})
    assert ours.state.keys() == {"0.weight"}


def test_defaults_are_torchs():
    ours, theirs = (inspect.signature(optimizer).parameters for optimizer in (SGD, torch.optim.SGD))
    assert list(ours) == list(theirs)[: len(ours)]
    assert all(p.kind == theirs[name].kind and p.default == theirs[name].default for name, p in ours.items())


def test_the_callers_groups_are_not_written():
    group = {"params": {"w": np.zeros(2)}, "lr": 0.5}
    opt = SGD([group])
    opt.param_groups[0]["lr"] = 0.25
    assert group.keys() == {"params", "lr"}
    assert group["lr"] == 0.5


def test_add_param_group():
    v, w = np.ones(2), np.ones(2)
    opt = SGD({"v": v}, lr=0.5)
    opt.add_param_group({"params": {"w": w}, "lr": 0.25})
    opt.step({"v": np.ones(2), "w": np.ones(2)})
    np.testing.assert_array_equal([v, w], [[0.5, 0.5], [0.75, 0.75]])


@pytest.mark.parametrize("cut", [0, 1, 5, 19])
def test_resumes_bit_for_bit(cut):
    switches = {"momentum": True, "dampening": True, "weight_decay": True, "nesterov": False, "maximize": True}
    params, course = draw(full, 9, np.float32, 20)
    whole = {name: P.copy() for name, P in params.items()}
    opt = SGD(whole, **options(FULL, switches))
    for t, grads in enumerate(course):
        if t == cut:
            state, there = opt.state_dict(), {name: P.copy() for name, P in whole.items()}
        opt.step(grads)
    resumed = SGD(there, lr=123.0)
    resumed.load_state_dict(state)
    kept = copy.deepcopy(state)
    for grads in course[cut:]:
        resumed.step(grads)
    assert_same(there, whole)
    assert_same(buffers(resumed), buffers(opt))
    np.testing.assert_equal(state, kept)  # the saved state did not move on with the optimizer that it was loaded into
    assert resumed.state_dict()["param_groups"] == opt.state_dict()["param_groups"]


def test_state_dict_is_a_copy_in_plain_dicts():
    opt = SGD({"w": np.zeros(2)}, lr=1.0, momentum=0.5)
    opt.step({"w": np.ones(2)})
    state = opt.state_dict()
    opt.step({"w": np.ones(2)})
    np.testing.assert_equal(
        state,
        {
            "state": {"w": {"momentum_buffer": np.ones(2)}},
            "param_groups": [
                {
                    "params": ["w"],
                    "lr": 1.0,
                    "momentum": 0.5,
                    "dampening": 0,
                    "weight_decay": 0,
                    "nesterov": False,
                    "maximize": False,
                }
            ],
        },
    )


BUFFER = np.ones(2)
BAD_STATES = [
    (lambda s: s["param_groups"].pop(), ValueError, "groups of the parameters"),
    (lambda s: s["param_groups"][0].update(params=["v"]), ValueError, r"got \[\['v'\]\]"),
    (lambda s: s["param_groups"][0].pop("dampening"), KeyError, "missing dampening"),
    (lambda s: s["param_groups"][0].update(lr=-1.0), ValueError, "lr"),
    (lambda s: s["state"].update(v={"momentum_buffer": BUFFER}), KeyError, "of 'v'"),
    (lambda s: s["state"].update(w={"exp_avg": BUFFER}), KeyError, "exp_avg"),
    (lambda s: s["state"].update(w={"momentum_buffer": np.ones(3)}), ValueError, r"shape \(2,\), got \(3,\)"),
    (lambda s: s["state"].update(w={"momentum_buffer": BUFFER.astype(np.float32)}), TypeError, "float64, got float32"),
    (lambda s: s["state"].update(w={"momentum_buffer": np.array([1, np.nan])}), ValueError, "finite"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), BAD_STATES)
def test_a_bad_state_changes_nothing(spoil, error, message):
    opt = SGD({"w": np.zeros(2)}, lr=1.0, momentum=0.5)
    opt.step({"w": np.ones(2)})
    state, before = opt.state_dict(), opt.state_dict()
    spoil(state)
    with pytest.raises(error, match=message):
        opt.load_state_dict(state)
    np.testing.assert_equal(opt.state_dict(), before)


REFUSED_BY_BOTH = [
    {"lr": -0.1},
    {"momentum": -0.5},
    {"weight_decay": -0.1},
    {"nesterov": True},
    {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
]


@pytest.mark.parametrize("parts", REFUSED_BY_BOTH, ids=str)
def test_options_refused_as_torch_refuses_them(parts):
    with pytest.raises(ValueError, match=r"Invalid|Nesterov"):
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], **parts)
    with pytest.raises(ValueError, match=r"SGD: expected .*(lr|momentum|weight_decay)"):
        SGD({"w": np.zeros(2)}, **parts)
    with pytest.raises(ValueError, match="SGD: expected"):
        SGD([{"params": {"w": np.zeros(2)}, **parts}])


W = np.zeros(2)
BAD_PARAMS = [
    ({}, ValueError, "at least one"),
    ([], ValueError, "at least one"),
    ({"w": np.zeros(2, np.int64)}, TypeError, "int64"),
    ({"w": [0.0, 0.0]}, TypeError, "list"),
    ([W], TypeError, "as a dict"),
    ([{"lr": 0.1}], TypeError, "a dict with params"),
    ([{"params": [W]}], TypeError, "dict of arrays"),
    ([{"params": {"w": W}, "momentun": 0.9}], TypeError, "momentun"),
    ([{"params": {"w": W}}, {"params": {"w": np.zeros(2)}}], ValueError, "w again"),
    ([{"params": {"w": W}}, {"params": {"v": W}}], ValueError, "v again .known as w"),
    ({"w": W, "v": W}, ValueError, "v again .known as w"),
]


@pytest.mark.parametrize(("params", "error", "message"), BAD_PARAMS)
def test_parameters_refused(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="lr to be at least 0, got nan"):
        SGD({"w": W}, lr=float("nan"))
    with pytest.raises(ValueError, match="dampening to be a number, got nan"):
        SGD({"w": W}, momentum=0.5, dampening=float("nan"))


@pytest.mark.parametrize("name", ["lr", "momentum", "dampening", "weight_decay"])
@pytest.mark.parametrize("value", [None, "0.1", [0.1], 1j])
def test_options_are_numbers(name, value):
    """None would be NaN as an array, and so would every parameter be after a step."""
    with pytest.raises(TypeError, match=rf"SGD: expected {name} to be a number, got "):
        SGD({"w": W}, **{name: value})


@pytest.mark.parametrize("value", [np.array(-0.1), np.float32(-0.1)])
def test_an_array_is_no_way_around_the_least_rate(value):
    with pytest.raises(ValueError, match="lr to be at least 0"):
        SGD({"w": W}, lr=value)


BAD_GRADS = [
    ({"v": np.ones(2)}, KeyError, "got v among"),
    ({"w": np.ones(2), "v": None}, KeyError, "got v among"),
    ({"w": np.ones((1, 2))}, ValueError, r"shape \(2,\) for w, got \(1, 2\)"),
    ({"w": np.float64(1)}, ValueError, r"shape \(2,\) for w, got \(\)"),
    ({"w": np.ones(2, np.float32)}, TypeError, "float64 for w, got float32"),
    ({"w": np.ones(2, np.int64)}, TypeError, "float64 for w, got int64"),
]


@pytest.mark.parametrize(("grads", "error", "message"), BAD_GRADS)
def test_a_bad_gradient_changes_nothing(grads, error, message):
    params = {"first": np.zeros(1), "w": np.zeros(2)}
    opt = SGD(params, lr=0.1, momentum=0.9)
    with pytest.raises(error, match=message):
        opt.step({"first": np.ones(1), **grads})
    assert not params["first"].any()
    assert not params["w"].any()
    assert opt.state == {}
