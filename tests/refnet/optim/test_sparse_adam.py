"""SparseAdam beside torch's, on the same sparse gradients, within what budgets enclose; and what it refuses."""

import copy

import numpy as np
import pytest
import torch

from parity.budget.array import Budget, Profile
from refnet import optim
from refnet.arithmetic.runs import Runs
from refnet.arithmetic.sparse_gradient import SparseGradient

DTYPES = [np.float32, np.float64]
SHAPES = {"table": (5, 3), "gain": (4,), "cube": (3, 2, 2)}
SETTINGS = [
    {"lr": 0.1},
    {"lr": 0.1, "betas": (0.5, 0.25), "eps": 0.5},
    {"lr": 0.1, "maximize": True, "betas": (0.0, 0.0)},
]


def draw(dtype, steps=6):
    """Parameters, and gradients of random slices; those of cube are along its first two axes. On every third step one
    is absent, and one has no slices."""
    rng = np.random.default_rng(5)
    params = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    course = []
    for t in range(steps):
        count = int(rng.integers(1, 6))
        grads = {
            "table": SparseGradient(rng.integers(0, 5, count), rng.standard_normal((count, 3)).astype(dtype)),
            "gain": SparseGradient(rng.integers(0, 4, count), rng.standard_normal(count).astype(dtype)),
            "cube": SparseGradient(
                np.stack([rng.integers(0, 3, count), rng.integers(0, 2, count)]),
                rng.standard_normal((count, 2)).astype(dtype),
            ),
        }
        if t % 3 == 2:
            grads |= {"gain": None, "table": SparseGradient(np.zeros(0, np.int64), np.zeros((0, 3), dtype))}
        course.append(grads)
    return params, course


def give(tensors, grads):
    for name, p in tensors.items():
        G = grads[name]
        p.grad = None
        if G is not None:
            p.grad = torch.sparse_coo_tensor(
                torch.tensor(np.atleast_2d(G.indices)), torch.tensor(G.values), p.shape, check_invariants=True
            )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_updates_and_state_are_torchs(setting, dtype):
    params, course = draw(dtype)
    profile = Profile.of(np.dtype(dtype).name)
    tensors = {name: torch.tensor(P, requires_grad=True) for name, P in params.items()}
    budgets = {name: Budget.exact(P, profile) for name, P in params.items()}
    ours, theirs = optim.SparseAdam(params, **setting), torch.optim.SparseAdam(list(tensors.values()), **setting)
    enclosing = optim.SparseAdam(budgets, **setting)
    for grads in course:
        ours.step(grads)
        give(tensors, grads)
        theirs.step()
        enclosing.step({n: G and SparseGradient(G.indices, Budget.exact(G.values, profile)) for n, G in grads.items()})
        for name, p in tensors.items():
            kept = {"param": params[name], **ours.state.get(name, {})}
            other = {"param": p.detach().numpy(), **theirs.state.get(p, {})}
            made = {"param": budgets[name], **enclosing.state.get(name, {})}
            assert kept.keys() == other.keys()
            assert kept.pop("step", 0) == other.pop("step", 0)
            for key, array in kept.items():
                for engine in (array, np.asarray(other[key])):
                    bound = made[key].e
                    assert (bound < np.inf).all()
                    # torch's mean takes a difference first, and its power of beta is rounded.
                    room = 64 * bound + 1e-12 * (dtype == np.float64) + 1e-6 * (dtype == np.float32)
                    assert (abs(engine.astype(np.float64) - made[key].x) <= (bound if engine is array else room)).all()


def test_rows_without_a_gradient_stay_and_equal_indices_are_added():
    w = np.ones((3, 1))
    opt = optim.SparseAdam({"w": w}, lr=0.5, betas=(0.0, 0.0))
    opt.step({"w": (np.array([2, 2]), np.array([[1.0], [-3.0]]))})
    np.testing.assert_array_equal(opt.state["w"]["exp_avg"], [[0], [0], [-2]])
    np.testing.assert_array_equal(opt.state["w"]["exp_avg_sq"], [[0], [0], [4]])
    assert w[0] == w[1] == 1
    assert w[2] == 1 - 0.5 * (-2 / (2 + 1e-8))


def test_a_state_goes_to_torch_and_comes_back():
    params, course = draw(np.float64)
    opt = optim.SparseAdam(params, lr=0.1)
    for grads in course[:3]:
        opt.step(grads)
    saved = opt.state_dict()
    tensors = {name: torch.tensor(P, requires_grad=True) for name, P in params.items()}
    theirs = torch.optim.SparseAdam(list(tensors.values()), lr=9.0)
    state = {n: {k: torch.tensor(a) for k, a in kept.items()} for n, kept in saved["state"].items()}
    theirs.load_state_dict({**saved, "state": state})
    give(tensors, course[3])
    theirs.step()
    back = optim.SparseAdam({name: p.detach().numpy().copy() for name, p in tensors.items()})
    back.load_state_dict(theirs.state_dict())
    opt.step(course[3])
    assert back.param_groups[0]["lr"] == 0.1
    for name, kept in opt.state.items():
        assert kept["step"] == back.state[name]["step"]
        for key in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_allclose(kept[key], back.state[name][key], rtol=1e-13)


def test_many_runs_are_their_lone_twins():
    rng = np.random.default_rng(3)
    stacked, values = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2, 3))
    indices = np.array([3, 0])
    runs = Runs(stacked.copy())
    optim.SparseAdam({"w": runs}, lr=0.1).step({"w": SparseGradient(indices, Runs(values))})
    for r in range(4):
        lone = stacked[r].copy()
        optim.SparseAdam({"w": lone}, lr=0.1).step({"w": SparseGradient(indices, values[r])})
        np.testing.assert_array_equal(runs.a[r], lone)


ROWS = np.array([0, 1])
BAD = [
    (np.ones((3, 2)), TypeError, "for whole gradients there is Adam"),
    ((ROWS.astype(float), np.ones((2, 2))), TypeError, "an array of integers, got float64"),
    ((ROWS[None, None], np.ones((2, 2))), ValueError, r"indices of shape \(n,\) or \(axes, n\)"),
    ((ROWS, np.ones((3, 2))), ValueError, r"values of shape \(2, 2\) for w, got \(3, 2\)"),
    ((ROWS, np.ones((2, 2), np.float32)), TypeError, "values of dtype float64 for w, got float32"),
    ((ROWS + 2, np.ones((2, 2))), ValueError, "indices of w from 0 to 2, got 3"),
    ((ROWS - 1, np.ones((2, 2))), ValueError, "indices of w from 0 to 2, got -1"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD, ids=[row[2][:24] for row in BAD])
def test_a_gradient_that_does_not_fit_changes_nothing(bad, error, message):
    params = {"first": np.zeros((3, 2)), "w": np.zeros((3, 2))}
    opt = optim.SparseAdam(params)
    good = SparseGradient(ROWS, np.ones((2, 2)))
    opt.step({"first": good, "w": good})
    before = copy.deepcopy((params, opt.state))
    with pytest.raises(error, match=f"SparseAdam: expected .*{message}"):
        opt.step({"first": good, "w": bad})
    np.testing.assert_equal((params, opt.state), before)


@pytest.mark.parametrize(
    "bad", [{"lr": 0.0}, {"lr": -1.0}, {"eps": 0.0}, {"betas": (1.0, 0.5)}, {"betas": (0.5, -0.1)}]
)
def test_options_that_torch_refuses_are_refused(bad):
    with pytest.raises(ValueError, match="Invalid"):
        torch.optim.SparseAdam([torch.zeros(2)], **bad)
    with pytest.raises(ValueError, match="SparseAdam: expected"):
        optim.SparseAdam({"w": np.zeros(2)}, **bad)


def test_a_parameter_without_axes_is_refused():
    with pytest.raises(ValueError, match="w to have an axis for the indices"):
        optim.SparseAdam({"w": np.zeros(())})
