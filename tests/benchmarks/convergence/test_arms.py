"""The arms: their names, the decaying rate against torch's scheduler, and what is refused."""

import json

import pytest
import torch

from benchmarks.convergence import problems
from benchmarks.convergence.arms import REGIMES, Arm, arms, core


@pytest.mark.parametrize(
    ("arm", "name", "regime"),
    [
        (Arm(None), "batch", "batch"),
        (Arm(32), "mini-batch 32", "mini-batch"),
        (Arm(1), "stochastic", "stochastic"),
        (Arm(1, "once"), "stochastic, shuffled once", "stochastic"),
        (Arm(8, "replacement"), "mini-batch 8, with replacement", "mini-batch"),
        (Arm(None, schedule="decay"), "batch, decaying rate", "batch"),
        (Arm(8, "once", "decay"), "mini-batch 8, shuffled once, decaying rate", "mini-batch"),
    ],
)
def test_an_arm_is_named_for_what_it_does(arm, name, regime):
    assert arm.name == name
    assert arm.regime == regime
    assert Arm.from_dict(json.loads(json.dumps(arm.as_dict()))) == arm


def test_the_full_study_has_every_size_under_both_schedules_and_two_sizes_in_every_order():
    assert [arm.name for arm in arms(problems.load("iris"), "full")] == [
        "batch",
        "mini-batch 64",
        "mini-batch 32",
        "mini-batch 8",
        "stochastic",
        "batch, decaying rate",
        "mini-batch 64, decaying rate",
        "mini-batch 32, decaying rate",
        "mini-batch 8, decaying rate",
        "stochastic, decaying rate",
        "mini-batch 32, shuffled once",
        "stochastic, shuffled once",
        "mini-batch 32, with replacement",
        "stochastic, with replacement",
    ]


@pytest.mark.parametrize("name", problems.PROBLEMS)
def test_the_small_study_has_every_regime_and_arms_of_the_full_one(name):
    problem = problems.load(name)
    few, real, all_of_them = (arms(problem, extent) for extent in ("small", "real", "full"))
    assert {arm.regime for arm in few} == set(REGIMES)
    assert set(core(problem)) < set(few) <= set(real) < set(all_of_them)
    assert [arm.regime for arm in core(problem)] == list(REGIMES)
    assert len(set(all_of_them)) == len(all_of_them) == 2 * (len(problem.batch_sizes) + 2) + 4


def test_a_decaying_rate_falls_as_one_over_the_updates_done():
    factor = Arm(1, schedule="decay").lr_lambda(1000)
    assert [factor(k) for k in (0, 100, 300, 900)] == [1, 1 / 2, 1 / 4, 1 / 10]


def test_torch_schedules_the_same_rates():
    factor = Arm(1, schedule="decay").lr_lambda(7)
    opt = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, factor)
    for k in range(7):
        assert opt.param_groups[0]["lr"] == 0.3 * factor(k)
        opt.step()
        schedule.step()


def test_a_constant_rate_has_no_schedule():
    assert Arm(1).lr_lambda(1000) is None


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "8"])
def test_a_batch_size_that_is_no_positive_integer_is_refused(size):
    with pytest.raises(ValueError, match=f"batch_size to be a positive integer or None, got {size!r}"):
        Arm(size)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": "sorted"}, "order among epoch, once, replacement, got 'sorted'"),
        ({"schedule": "cosine"}, "schedule among constant, decay, got 'cosine'"),
        ({"batch_size": None, "order": "once"}, "the whole set, which has none, got 'once'"),
    ],
)
def test_an_unknown_order_or_schedule_or_an_order_of_the_whole_set_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Arm(**{"batch_size": 8, **values})
