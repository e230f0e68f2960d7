"""The weaker formulas of cross-entropy, p - [c = t] of a rounded p, behind a layer, with targets nearly certain."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from benchmarks.adversarial.rounded_array import Rounded
from benchmarks.adversarial.rounding_machine import MODES, Machine
from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.engines.refnet import RefnetEngine
from parity.families.listing import WEAKER, Variant
from parity.records import definition
from parity.records.record import VJP, Answer, Array, Spec, Train
from parity.verdict.answer import enclose, enclosed, judge_answer
from parity.verdict.evaluation import Request, TrainingRequest
from refnet import nn

VARIANTS = [variant for variant in WEAKER if "CrossEntropyLoss" in variant.patches]

(LOG_SOFTMAX,) = (variant for variant in VARIANTS if variant.name == "nll(log_softmax(x))")

CLASSES, FEATURES = 5, 200
LINEAR = Spec("Linear", {"in_features": FEATURES, "out_features": CLASSES})
LEAST = 9.0
"""By about how much the logit of the first sample's class is above the others; of each next one's by 1 more."""


def numbers(dtype: str, least: float = LEAST) -> tuple[dict[str, Array], Array, Array]:
    """Parameters of the layer, inputs and targets, one sample a class. What cancels in a logit is larger than the
    logit, so that it is off by far more than its last place."""
    rng, T = np.random.default_rng(5), np.arange(CLASSES)
    X = rng.standard_normal((CLASSES, FEATURES))
    logits = 0.1 * rng.standard_normal((CLASSES, CLASSES)) + np.diag(least + T)
    unseen = np.eye(FEATURES) - np.linalg.pinv(X) @ X
    weight = (np.linalg.pinv(X) @ logits).T + rng.standard_normal((CLASSES, FEATURES)) @ unseen
    return {"weight": weight.astype(dtype), "bias": np.zeros(CLASSES, dtype)}, X.astype(dtype), T


def objective(dtype: str, least: float = LEAST) -> VJP:
    params, X, T = numbers(dtype, least)
    arrays = {f"network.{name}": P for name, P in params.items()}
    return VJP(Spec("Objective", layers=(LINEAR, Spec("CrossEntropyLoss"))), arrays, (X, T), (np.ones((), dtype),))


def verdicts(record: VJP, answer: Answer) -> dict[str, tuple[str, str]]:
    truths, room = enclosed(Request(record, Profile.of("float64")))
    found = judge_answer(Request(record, Profile.of(record.dtype), room), truths, answer)
    return {v.name: (v.verdict, v.formula) for v in found}


def test_it_is_named_where_it_has_lost_most_digits() -> None:
    """And seen: its own budget is smaller than the gradient that is left."""
    record = objective("float32", 17.0)
    found = verdicts(record, RefnetEngine(LOG_SOFTMAX.patches).vjp(record))
    assert found["grad.network.weight"] == ("unstable", LOG_SOFTMAX.name)


def test_a_share_taken_for_1_is_no_rounding_of_it() -> None:
    """Where p of the target is above 0.9999, a gradient of 0 in place of p - 1 is wrong, little as it is off."""
    record = objective("float32")
    X, T = record.inputs
    right = RefnetEngine().vjp(record)
    E = np.exp(X @ record.arrays["network.weight"].T)
    P = E / E.sum(axis=1, keepdims=True)
    taken = (P > 0.9999) & (np.arange(CLASSES) == T[:, None])
    assert 0 < taken.sum() < CLASSES
    missing = (np.where(taken, P - 1, 0) / CLASSES).T @ X
    answer = {**right, "grad.network.weight": (right["grad.network.weight"] - missing).astype(np.float32)}
    assert verdicts(record, answer)["grad.network.weight"] == ("FAIL", "")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_update_by_a_clipped_gradient_has_a_bound(dtype: str) -> None:
    """The norm is that of a gradient that has cancelled: were its bound larger than itself, nothing would be left."""
    params, X, T = numbers(dtype)
    asked: dict[str, Any] = {"clip": {"max_norm": 1.0}}
    spec = Spec("Sequential", layers=(LINEAR,))
    named = {f"0.{name}": P for name, P in params.items()}
    every = np.arange(len(T))
    record = Train(spec, Spec("CrossEntropyLoss"), Spec("AdamW"), named, X, T, (every,), **asked)
    found = TrainingRequest.plain(record).first_update(LOG_SOFTMAX.patches)
    for key in ("exp_avg", "exp_avg_sq"):
        moment = found[f"state.0.weight.{key}"]
        assert (moment.e < abs(moment.x)).mean() > 0.9, key


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_rounds_as_badly_as_it_may_keeps_to_the_budget(variant: Variant, mode: str) -> None:
    """Logits alone, whose errors are none of the budget: what is left is what the formula itself loses."""
    rng = np.random.default_rng(MODES.index(mode))
    for dtype in ("float64", "float32"):
        X = (8 * rng.standard_normal((6, CLASSES))).astype(dtype)
        T = np.where(np.arange(6) < 4, X.argmax(axis=1), X.argmin(axis=1))
        record = VJP(Spec("CrossEntropyLoss"), {}, (X, T), (np.ones((), dtype),))
        truths, room = enclosed(Request(record, Profile.of("float64")))
        budget = enclose(Request(record, Profile.of(dtype), room), truths, variant.patches)["grad_input.0"]
        engine = Machine(Profile.of(dtype), mode, seed=1)
        made = definition.vjp(record, lambda a, engine=engine: Rounded(a, engine), variant.patches)["grad_input.0"]
        assert isinstance(made, Rounded)
        assert (budget.truth.error(made.floats()) <= budget.bound).all()


@pytest.mark.parametrize(("off", "budget", "possible"), [(1e-3, 4e-3, 2e-3), (0.1, 1.7, 0.22), (0.3, np.inf, 0.82)])
def test_how_wide_the_budget_of_the_formula_itself_is(off: float, budget: float, possible: float) -> None:
    """As docs/model.md tells: logits that are off move both the shift and what it is taken from."""
    profile, T = Profile.of("float32"), np.arange(CLASSES)
    X = np.diag(LEAST + T)
    module = nn.CrossEntropyLoss(reduction="sum")
    one = Budget.exact(np.array(1.0), profile)
    with np.errstate(all="ignore"):
        _, saved = module.forward(Budget.exact(X, profile, np.full(X.shape, off)), T)
        (made, _), _ = module.backward(one, saved)

    def gradient(X: Array) -> Array:
        _, saved = module.forward(X, T)
        return module.backward(np.array(1.0), saved)[0][0]

    right = gradient(X)
    signs = itertools.product((-off, off), repeat=CLASSES)
    moved = np.max([abs(gradient(X + np.array(s)) - right) for s in signs], axis=0)
    assert np.median(moved / abs(right)) == pytest.approx(possible, rel=0.05)
    assert np.median(made.e / abs(right)) == pytest.approx(budget, rel=0.05)
    assert (moved <= made.e).all()
