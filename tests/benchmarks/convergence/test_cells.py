"""Cells: their keys, their training by both engines, and outcomes that nothing but the cell decides."""

import dataclasses
import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import refnet
from benchmarks.convergence import cells, problems
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.cells import Cell, Outcome, checkpoints, train
from refnet import nn

ARMS = [
    Arm(None),
    Arm(3),
    Arm(1),
    Arm(1, schedule="decay"),
    Arm(3, "once"),
    Arm(1, "once"),
    Arm(3, "replacement"),
    Arm(1, "replacement", "decay"),
]


def cell(problem="xor", arm=ARMS[1], rate=0.125, seed=0, engine="refnet", iterations=60):
    return Cell(problem, arm, rate, seed, engine, iterations)


def bits(outcomes):
    """Floats written as `repr` writes them: equal for equal bits, NaN too."""
    return [json.dumps(outcome.as_dict()) for outcome in outcomes]


# What a cell is


def test_a_key_is_the_digest_of_the_content():
    content = (
        '{"arm":{"batch_size":3,"order":"epoch","schedule":"constant"},"engine":"refnet","format":3,"iterations":60,'
        '"other_bits":false,"problem":"xor","rate":0.125,"seed":0}'
    )
    assert cell().key == hashlib.sha256(content.encode()).hexdigest()[:32]


def test_keys_differ_wherever_cells_do():
    others = [
        cell(problem="iris"),
        cell(arm=Arm(3, "once")),
        cell(rate=math.nextafter(0.125, 1)),
        cell(seed=1),
        cell(engine="torch"),
        cell(iterations=61),
        dataclasses.replace(cell(), other_bits=True),
    ]
    assert len({one.key for one in (cell(), *others)}) == 8


def test_a_cell_survives_json():
    one = cell(arm=Arm(None, schedule="decay"), rate=0.1)
    again = Cell.from_dict(json.loads(json.dumps(one.as_dict())))
    assert again == one
    assert again.key == one.key


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"problem": "moons"}, "a problem among line, .*, got 'moons'"),
        ({"engine": "jax"}, "an engine among refnet, torch, got 'jax'"),
        ({"rate": -0.5}, "rate to be a finite float of at least 0, got -0.5"),
        ({"rate": math.nan}, "rate to be a finite float of at least 0, got nan"),
        ({"rate": math.inf}, "rate to be a finite float of at least 0, got inf"),
        ({"rate": 1}, "rate to be a finite float of at least 0, got 1"),
        ({"seed": -1}, "seed to be an integer of at least 0, got -1"),
        ({"seed": 0.0}, "seed to be an integer of at least 0, got 0.0"),
        ({"iterations": 0}, "iterations to be an integer of at least 1, got 0"),
        ({"iterations": True}, "iterations to be an integer of at least 1, got True"),
    ],
)
def test_what_cannot_be_trained_is_no_cell(values, message):
    with pytest.raises(ValueError, match=message):
        cell(**values)


@pytest.mark.parametrize("engine", ["refnet", "torch"])
def test_a_batch_larger_than_the_training_set_is_refused(engine):
    with pytest.raises(ValueError, match="batches within the 4 training samples of xor, got 5"):
        train([cell(engine=engine), cell(arm=Arm(5), engine=engine)])


@pytest.mark.parametrize("iterations", [1, 2, 9, 10, 11, 99, 300, 10_000])
def test_checkpoints_go_from_the_start_to_the_end_ten_a_decade(iterations):
    updates = checkpoints(iterations)
    assert updates[0] == 0
    assert updates[-1] == iterations
    assert list(updates) == sorted(set(updates))
    steps = [b / a for a, b in pairwise(updates) if a >= 10]
    assert all(ratio < 1.31 for ratio in steps)
    assert len(updates) <= 10 * math.log10(iterations) + 3


# Outcomes


def test_an_outcome_survives_json_to_the_bit():
    measures = (0.1, math.pi * 1e-300, math.nan)
    one = Outcome((0, 1, 2), measures, measures, measures, measures, 2, {"w": (-0.0, math.inf, math.nan)})
    text = json.dumps(one.as_dict(), allow_nan=False)
    again = Outcome.from_dict(json.loads(text))
    assert bits([again]) == bits([one])
    assert again.train_loss[1] == math.pi * 1e-300
    assert math.isnan(again.test_accuracy[2])
    assert math.copysign(1, again.path["w"][0]) == -1
    assert again.path["w"][1] == math.inf
    assert again.updates == (0, 1, 2)


def test_measures_are_those_of_a_training_by_hand():
    """Written out: an update, and the loss and accuracy on both parts before and after it."""
    problem = problems.load("iris")
    (outcome,) = train([cell("iris", Arm(None), 0.5, seed=4, iterations=1)])
    net, _ = cells.start(problem, 4)
    twin, loss = problem.torch_network(), torch.nn.CrossEntropyLoss()
    twin.load_state_dict({name: torch.tensor(P) for name, P in net.params.items()})
    opt = torch.optim.SGD(twin.parameters(), lr=0.5)
    parts = {
        part: (torch.tensor(getattr(problem, f"{part}_inputs")), torch.tensor(getattr(problem, f"{part}_targets")))
        for part in ("train", "test")
    }
    for row in range(2):
        for part, (X, T) in parts.items():
            outputs = twin(X)
            assert getattr(outcome, f"{part}_loss")[row] == pytest.approx(loss(outputs, T).item(), rel=1e-12)
            share = (outputs.argmax(1) == T).double().mean().item()
            assert getattr(outcome, f"{part}_accuracy")[row] == pytest.approx(share)
        loss(twin(parts["train"][0]), parts["train"][1]).backward()
        opt.step()
    assert outcome.updates == (0, 1)
    assert outcome.diverged_at is None
    assert outcome.path == {}


def test_a_problem_without_held_out_part_or_accuracy_has_nan_there():
    xor, line = train([cell("xor"), cell("line", Arm(4), 0.0625)])
    assert np.isnan([xor.test_loss, xor.test_accuracy]).all()
    assert np.isfinite([xor.train_loss, xor.train_accuracy]).all()
    assert np.isnan([line.train_accuracy, line.test_accuracy]).all()
    assert np.isfinite([line.train_loss, line.test_loss]).all()
    assert xor.diverged_at is line.diverged_at is None


def test_the_path_of_the_line_is_its_two_weights():
    (outcome,) = train([cell("line", Arm(4), 0.0625)])
    problem = problems.load("line")
    assert list(outcome.path) == ["w", "b"]
    for k, (w, b) in enumerate(zip(outcome.path["w"], outcome.path["b"], strict=True)):
        residual = w * problem.train_inputs + b - problem.train_targets
        assert outcome.train_loss[k] == pytest.approx((residual**2).mean(), rel=1e-12)
    net, _ = cells.start(problem, 0)
    assert (outcome.path["w"][0], outcome.path["b"][0]) == (net.params["0.weight"].item(), net.params["0.bias"].item())


@pytest.mark.parametrize("engine", ["refnet", "torch"])
def test_a_run_that_diverges_is_an_outcome_and_no_warning(engine):
    calm, wild = train([cell("line", Arm(4), rate, engine=engine, iterations=400) for rate in (0.0625, 4.0)])
    first = wild.updates.index(wild.diverged_at)
    assert 0 < wild.diverged_at < 400
    for measure in (wild.train_loss, wild.test_loss):
        assert np.isfinite(measure[:first]).all()
        assert np.isnan(measure[first:]).all()
    assert not np.isfinite(wild.path["w"][-1])
    assert calm.diverged_at is None
    assert np.isfinite(calm.train_loss).all()


# What decides an outcome


@pytest.mark.arithmetic
@pytest.mark.parametrize("engine", ["refnet", "torch"])
@pytest.mark.parametrize("problem", ["xor", "line"])
def test_outcomes_do_not_depend_on_what_is_trained_together(problem, engine):
    """Rates up to those that diverge, seeds and arms mixed, one cell twice."""
    arms = [Arm(3), Arm(1, "once", "decay"), Arm(None)]
    some = [
        cell(problem, arm, rate, seed, engine, 40) for seed in (0, 7) for arm in arms for rate in (0.01, 0.5, 1e200)
    ]
    some.append(some[0])
    together = bits(train(some))
    assert together == [bits(train([one]))[0] for one in some]
    assert together == bits(train(some[::-1]))[::-1]
    assert len(set(together)) == len(set(some))


@pytest.mark.parametrize("arm", [Arm(3), Arm(1, schedule="decay"), Arm(None)], ids=lambda arm: arm.name)
def test_long_trainings_do_not_depend_on_what_is_trained_together_either(arm):
    """Long enough for refnet to replay its updates, some through the divergence of others."""
    some = [cell("line", arm, rate, seed, iterations=3000) for seed in (0, 7) for rate in (0.01, 0.25, 4.0)]
    together = train(some)
    assert bits(together) == [bits(train([one]))[0] for one in some]
    assert [outcome.diverged_at is None for outcome in together] == [True, True, False] * 2


def test_larger_batches_and_images_do_not_depend_on_what_is_trained_together_either():
    some = [cell("digits", Arm(32), rate, seed, iterations=12) for seed in (0, 1) for rate in (0.01, 0.25)]
    assert bits(train(some)) == [bits(train([one]))[0] for one in some]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.parametrize("problem", ["xor", "line", "breast_cancer"])
def test_torch_sees_the_same_weights_data_order_and_rates(problem, arm):
    own, other = train([cell(problem, arm, 0.0625, 3, engine) for engine in ("refnet", "torch")])
    np.testing.assert_allclose(own.train_loss, other.train_loss, rtol=1e-11)
    np.testing.assert_allclose(own.test_loss, other.test_loss, rtol=1e-11)
    # That would not hide another order: with another seed for it alone, losses are far apart.
    if arm.batch_size is not None:
        (elsewhere,) = train([cell(problem, arm, 0.0625, 4, "torch")])
        assert not np.allclose(own.train_loss[5:], elsewhere.train_loss[5:], rtol=1e-6)


def test_all_regimes_and_rates_of_a_seed_start_from_the_same_weights():
    starts = {
        outcome.train_loss[0] for outcome in train([cell(arm=arm, rate=rate) for arm in ARMS for rate in (0.1, 1.0)])
    }
    assert len(starts) == 1
    (other,) = train([cell(seed=1)])
    assert other.train_loss[0] not in starts


def test_other_bits_are_neighbours_of_the_initial_weights_and_the_order_is_the_same():
    problem = problems.load("iris")
    (net, order), (other, same) = cells.start(problem, 3), cells.start(problem, 3, other_bits=True)
    sides = set()
    for name, P in net.params.items():
        moved = other.params[name]
        up, down = np.nextafter(P, np.inf), np.nextafter(P, -np.inf)
        assert ((moved == up) | (moved == down)).all()
        sides |= set((moved > P).ravel().tolist())
    assert sides == {True, False}
    assert np.array_equal(order.randperm(50), same.randperm(50))


def test_a_training_with_other_bits_goes_nearly_the_same_way_at_a_stable_rate():
    first, other = train([cell(rate=0.125), dataclasses.replace(cell(rate=0.125), other_bits=True)])
    assert first.train_loss != other.train_loss
    assert first.train_loss == pytest.approx(other.train_loss, rel=1e-12)


def test_initial_weights_and_order_are_drawn_apart():
    net, order = cells.start(problems.load("xor"), 5)
    # A network that draws more must not move the order.
    larger, same_order = cells.start(problems.load("iris"), 5)
    assert sum(P.size for P in larger.params.values()) > sum(P.size for P in net.params.values())
    np.testing.assert_array_equal(order.get_state(), same_order.get_state())


@pytest.mark.parametrize("size", [2, 3])
def test_shuffled_once_is_one_permutation_gone_through_again_and_again(size):
    """Six updates on four cases: three epochs in the order of the first, a short batch kept."""
    problem = problems.load("xor")
    (outcome,) = train([cell(arm=Arm(size, "once"), iterations=6)])
    net, generator = cells.start(problem, 0)
    permutation = generator.randperm(4)
    assert permutation.tolist() != [0, 1, 2, 3]
    opt, loss = refnet.optim.SGD(net.params, lr=0.125), problem.loss()
    for k in range(6):
        batch = permutation[size * (k % 2) :][:size]
        outputs, saved = net.forward(problem.train_inputs[batch])
        _, saved_loss = loss.forward(outputs, problem.train_targets[batch])
        (grad_outputs, _), _ = loss.backward(np.float64(1), saved_loss)
        opt.step(net.backward(grad_outputs, saved)[1])
    value, _ = loss.forward(net.forward(problem.train_inputs)[0], problem.train_targets)
    assert outcome.train_loss[-1] == pytest.approx(float(value), rel=1e-14)


# The worked example: one sample


class WorkedExample(problems.Problem):
    """The network of the widely copied tutorial, each unit with its own bias."""

    def network(self, generator=None):
        net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2), nn.Sigmoid())
        net.load_state_dict(
            {
                "0.weight": np.array([[0.15, 0.20], [0.25, 0.30]]),
                "0.bias": np.array([0.35, 0.35]),
                "2.weight": np.array([[0.40, 0.45], [0.50, 0.55]]),
                "2.bias": np.array([0.60, 0.60]),
            }
        )
        return net

    def loss(self):
        return nn.HalfSquaredError()


@pytest.fixture
def worked_example(monkeypatch):
    """The name of a further problem with the example's one sample."""
    inputs, targets = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
    values = {field.name: getattr(problems.load("line"), field.name) for field in dataclasses.fields(problems.Problem)}
    parts = {"train_inputs": inputs, "train_targets": targets, "test_inputs": inputs[:0], "test_targets": targets[:0]}
    example = WorkedExample(**{**values, "name": "example", "units": (2, 2, 2), **parts})
    monkeypatch.setattr(problems, "PROBLEMS", (*problems.PROBLEMS, "example"))
    monkeypatch.setattr(problems, "load", lambda name: example)
    return example


def test_with_one_sample_batch_mini_batch_and_stochastic_coincide_bit_for_bit(worked_example):
    arms = [Arm(None), Arm(1), Arm(1, "once"), Arm(1, "replacement")]
    outcomes = train([cell("example", arm, 0.5, seed, iterations=1000) for arm in arms for seed in (0, 1)])
    assert len(set(bits(outcomes))) == 1
    # Before and after one update: the article's 0.298371109, and 0.291027774 with every bias trained alike.
    assert outcomes[0].train_loss[0] == pytest.approx(0.298371109, abs=5e-10)

    nets = [worked_example.network() for _ in range(3)]
    histories = [
        refnet.fit(
            net,
            nn.HalfSquaredError(),
            refnet.optim.SGD(net.params, lr=0.5),
            worked_example.train_inputs,
            worked_example.train_targets,
            batch_size=batch_size,
            iterations=1000,
            generator=refnet.Generator(0),
            record=True,
        )
        for net, batch_size in zip(nets, (None, 32, 1), strict=True)
    ]
    for other in histories[1:]:
        assert other.loss.tobytes() == histories[0].loss.tobytes()
        for name, course in histories[0].weights.items():
            assert other.weights[name].tobytes() == course.tobytes()
    assert list(outcomes[0].train_loss[:-1]) == [histories[0].loss[k] for k in outcomes[0].updates[:-1]]
