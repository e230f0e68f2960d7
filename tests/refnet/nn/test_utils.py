"""Clipping, against torch's within the roundings of both, in budgets, and against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from parity.budget.array import Budget, Profile
from refnet.arithmetic.runs import Runs
from refnet.nn import utils

SHAPES = {"weight": (3, 4), "bias": (4,), "scale": ()}
ORDERS = [1, 2, 3, 0.5, 2.5, math.inf, "inf"]


def draw(seed, dtype=np.float64, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(scale * rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def parameters(grads):
    made = [torch.nn.Parameter(torch.tensor(G)) for G in grads.values()]
    for p in made:
        p.grad = p.detach().clone()
    return made


def budget(array):
    return Budget.exact(array, Profile.of(array.dtype.name))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", ORDERS)
def test_norm_and_gradients_are_torchs(p, dtype, foreach):
    """torch roots each array's norm, and takes a reciprocal and a product in place of the quotient. A norm has at most
    24 operations behind each element, of relative error 4u with the powers (u = eps / 2), each enlarged by p or 1 / p.
    """
    for max_norm in (0.0, 0.3, 1e3, math.inf):
        grads, torchs = draw(1, dtype), parameters(draw(1, dtype))
        N = utils.clip_grad_norm_(grads, max_norm, p, foreach=foreach)
        theirs = torch.nn.utils.clip_grad_norm_(torchs, max_norm, p, foreach=foreach)
        order = 1 if float(p) == math.inf else max(float(p), 1 / float(p))
        within = 24 * 4 * order * np.finfo(dtype).eps
        assert N.dtype == dtype
        np.testing.assert_allclose(N, theirs.numpy(), rtol=within)
        for G, other in zip(grads.values(), torchs, strict=True):
            np.testing.assert_allclose(G, other.grad.numpy(), rtol=within)
        if max_norm > 100:
            np.testing.assert_equal(grads, draw(1, dtype))


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_the_norm_lies_in_its_budget_and_the_budget_holds_the_exact_one(p):
    grads = draw(2)
    budgets = {name: budget(G.copy()) for name, G in grads.items()}
    exact = [abs(Fraction(float(g))) for G in grads.values() for g in np.ravel(G)]
    N = utils.clip_grad_norm_(budgets, 0.5, p)
    low, high = Fraction(float(N.x)) - Fraction(float(N.e)), Fraction(float(N.x)) + Fraction(float(N.e))
    if p == 2:
        assert low**2 <= sum(g * g for g in exact) <= high**2
    else:
        assert low <= (sum(exact) if p == 1 else max(exact)) <= high
    assert high - low <= Fraction(1, 10**12)
    mine = utils.clip_grad_norm_(grads, 0.5, p)
    assert low <= Fraction(float(mine)) <= high
    for name, G in grads.items():
        np.testing.assert_array_less(abs(G - budgets[name].x), budgets[name].e + 1e-300)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_each_run_has_its_own_norm(p):
    first, second = draw(3), draw(4, scale=1e-3)
    together = {name: Runs(np.stack([first[name], second[name]])) for name in SHAPES}
    utils.clip_grad_norm_(together, 0.5, p)
    for run, grads in enumerate((first, second)):
        utils.clip_grad_norm_(grads, 0.5, p)
        for name, G in grads.items():
            np.testing.assert_array_equal(together[name].a[run], G)


def test_a_norm_of_exactly_the_limit_is_scaled_a_little():
    """c / (N + 1e-6) is below 1: torch's convention."""
    grads = {"w": np.array([3.0, 4.0])}
    assert utils.clip_grad_norm_(grads, 5.0) == 5.0
    factor = Fraction(5) / (5 + Fraction(1e-6))
    for g, whole in zip(grads["w"], (3, 4), strict=True):
        assert abs(Fraction(float(g)) - whole * factor) <= 3 * Fraction(1, 2**53) * whole


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_goes_torchs_way(bad):
    for name in SHAPES:
        grads = draw(5)
        grads[name][...] = bad
        torchs = parameters(grads)
        with np.errstate(invalid="ignore"):
            N = utils.clip_grad_norm_(grads, 1.0)
        np.testing.assert_array_equal(N, torch.nn.utils.clip_grad_norm_(torchs, 1.0).numpy())
        for G, other in zip(grads.values(), torchs, strict=True):
            np.testing.assert_array_equal(G, other.grad.numpy())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_refused_and_nothing_written(bad):
    grads = draw(5)
    grads["bias"][1] = bad
    before = {name: G.tobytes() for name, G in grads.items()}
    with pytest.raises(
        RuntimeError,
        match=r"clip_grad_norm_: expected the norm of order 2 .* to be finite, got (nan|inf)",
    ):
        utils.clip_grad_norm_(grads, 1.0, error_if_nonfinite=True)
    assert before == {name: G.tobytes() for name, G in grads.items()}
    runs = {name: Runs(np.stack([draw(5)[name], G])) for name, G in grads.items()}
    with pytest.raises(RuntimeError, match="get_total_norm: expected the norm"):
        utils.get_total_norm(runs, error_if_nonfinite=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_clipped_to_torchs_bits(dtype):
    for clip_value in (0.0, 0.3, 5.0):
        grads = {**draw(6, dtype), "bias": np.array([math.nan, math.inf, -math.inf, -0.0], dtype)}
        torchs = parameters(grads)
        utils.clip_grad_value_(grads, clip_value)
        torch.nn.utils.clip_grad_value_(torchs, clip_value)
        for G, other in zip(grads.values(), torchs, strict=True):
            np.testing.assert_array_equal(G, other.grad.numpy())


def test_one_array_a_list_and_what_has_no_gradient():
    assert utils.get_total_norm(np.array([3.0, -4.0])) == 5.0
    assert utils.get_total_norm([np.array([3.0]), None, np.empty((0, 2)), np.array(4.0)]) == 5.0
    assert utils.get_total_norm({"w": None}) == 0.0
    assert utils.get_total_norm([np.empty((0,), np.float32)], math.inf).dtype == np.float32
    assert utils.clip_grad_norm_({}, 1.0) == 0.0


def test_a_known_norm():
    one, other = draw(7), draw(7)
    utils.clip_grads_with_norm_(one, 0.5, utils.get_total_norm(one, 3))
    utils.clip_grad_norm_(other, 0.5, 3)
    np.testing.assert_equal(one, other)
    # torch's bits, whatever kind of number the norm is.
    for known in (8.0, 8, np.float32(8.0)):
        G, g = np.array([6.0], np.float32), torch.tensor([6.0], requires_grad=True)
        g.grad = g.detach().clone()
        utils.clip_grads_with_norm_([G], 4.0, known)
        torch.nn.utils.clip_grads_with_norm_([g], 4.0, torch.tensor(8.0))
        np.testing.assert_array_equal(G, g.grad.numpy())


@pytest.mark.parametrize("p", [None, 1, 3, math.inf])
def test_clipping_gives_new_gradients_that_are_torchs(p):
    """As `clip_grad_norm_` bit for bit, and as torch's within what is derived above."""
    within = 24 * 4 * (p if p in (1, 3) else 2) * np.finfo(np.float64).eps
    order = {} if p is None else {"norm_type": p}
    grads = draw(9)
    torchs = parameters(grads)
    torch.nn.utils.clip_grad_norm_(torchs, 0.5, **order)
    clipped = utils.Clipping(0.5, **order).of(grads)
    own = draw(9)
    utils.clip_grad_norm_(own, 0.5, **order)
    for name, other in zip(grads, torchs, strict=True):
        np.testing.assert_array_equal(clipped[name], own[name])
        np.testing.assert_allclose(clipped[name], other.grad.numpy(), rtol=within)
    np.testing.assert_equal(grads, draw(9))
    utils.clip_grad_value_(own, 0.125)
    np.testing.assert_equal(utils.Clipping(clip_value=0.125).of(clipped), own)
    assert utils.NOT_CLIPPED.of(grads) == grads


READ_ONLY = np.broadcast_to(np.ones(1), (3,))
REFUSED = [
    (lambda g: utils.clip_grad_norm_(g, -1.0), ValueError, "expected max_norm to be at least 0, got -1.0"),
    (lambda g: utils.clip_grad_norm_(g, math.nan), ValueError, "expected max_norm to be at least 0, got nan"),
    (lambda g: utils.clip_grad_norm_(g, "1"), TypeError, "expected max_norm to be a number, got '1'"),
    (lambda g: utils.clip_grad_norm_(g, 1.0, 0), ValueError, "expected norm_type above 0, got 0"),
    (lambda g: utils.clip_grad_norm_(g, 1.0, -math.inf), ValueError, "expected norm_type above 0, got -inf"),
    (lambda g: utils.clip_grad_value_(g, -0.5), ValueError, "expected clip_value to be at least 0, got -0.5"),
    (lambda g: utils.clip_grad_value_({**g, "k": np.arange(3)}, 1.0), TypeError, "as arrays of floats, got int64"),
    (lambda g: utils.clip_grad_norm_([*g.values(), np.ones(2, np.float32)], 1.0), TypeError, "of one dtype, got"),
    (lambda g: utils.clip_grad_norm_(["w"], 1.0), TypeError, "as arrays of floats, got str"),
    (lambda g: utils.clip_grad_norm_(None, 1.0), TypeError, "expected gradients to be a list, got NoneType"),
    (lambda g: utils.clip_grad_norm_(g, 1.0, "two"), TypeError, "expected norm_type to be a number, got 'two'"),
    (lambda g: utils.clip_grad_norm_(g, 1.0, None), TypeError, "expected norm_type to be a number, got None"),
    (lambda g: utils.clip_grads_with_norm_(g, 1.0, "3"), TypeError, "expected total_norm to be a number, got '3'"),
    (lambda g: utils.clip_grads_with_norm_(g, 1.0, np.ones(2)), ValueError, r"to be one number, got shape \(2,\)"),
    (lambda g: utils.clip_grad_norm_({**g, "k": READ_ONLY}, 1.0), ValueError, "clip_grad_norm_: .* is read-only"),
    (lambda g: utils.clip_grad_value_({**g, "k": READ_ONLY}, 0.1), ValueError, "clip_grad_value_: .* is read-only"),
    (lambda g: utils.clip_grads_with_norm_({**g, "k": READ_ONLY}, 1.0, 9.0), ValueError, "with_norm_: .* is read-only"),
]


@pytest.mark.parametrize(("act", "error", "message"), REFUSED)
def test_what_is_wrong_is_refused_and_nothing_written(act, error, message):
    grads = draw(8)
    with pytest.raises(error, match=message):
        act(grads)
    np.testing.assert_equal(grads, draw(8))
