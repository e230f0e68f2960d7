"""The problems: what is in them, that nothing of the held-out part leaks, and that torch's twin is the same network."""

import math

import numpy as np
import pytest
import torch

import refnet
from benchmarks.convergence import problems

SAMPLES = {
    "line": (100, 25),
    "xor": (4, 0),
    "iris": (120, 30),
    "breast_cancer": (455, 114),
    "diabetes": (353, 89),
    "digits": (300, 1497),
    "mnist": (300, 1000),
    "digits_all": (1437, 360),
    "mnist_all": (4000, 1000),
}
CLASSES = ("iris", "breast_cancer", "digits", "mnist", "digits_all", "mnist_all")


@pytest.mark.parametrize("name", problems.PROBLEMS)
def test_shapes_and_dtypes_fit_network_and_loss(name):
    problem = problems.load(name)
    assert problem.name == name
    assert (len(problem.train_inputs), len(problem.test_inputs)) == SAMPLES[name]
    for inputs, targets in (
        (problem.train_inputs, problem.train_targets),
        (problem.test_inputs, problem.test_targets),
    ):
        assert inputs.shape[1:] == problem.units[:1]
        assert inputs.dtype == np.float64
        assert np.isfinite(inputs).all()
        if problem.kind == "classification":
            assert targets.shape == (len(inputs),)
            assert targets.dtype == np.int64
        else:
            assert targets.shape == (len(inputs), *problem.units[-1:])
            assert targets.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            inputs[...] = 0
    assert list(problem.rates) == sorted(set(problem.rates))
    assert 6 <= len(problem.rates) <= 12
    assert problem.rates[0] > 0
    assert len(problem.batch_sizes) >= 2
    assert list(problem.batch_sizes) == sorted(set(problem.batch_sizes))
    assert problem.batch_sizes[0] > 1
    assert problem.batch_sizes[-1] < len(problem.train_inputs)


@pytest.mark.parametrize("name", problems.PROBLEMS)
def test_torch_has_the_same_network_and_loss(name):
    problem = problems.load(name)
    net, twin = problem.network(refnet.Generator(3)), problem.torch_network()
    twin.load_state_dict({key: torch.tensor(P) for key, P in net.params.items()})
    inputs, targets = problem.train_inputs[:7], problem.train_targets[:7]

    outputs, saved = net.forward(inputs)
    value, saved_loss = problem.loss().forward(outputs, targets)
    (grad_outputs, _), _ = problem.loss().backward(np.float64(1), saved_loss)
    _, grads = net.backward(grad_outputs, saved)
    twin_value = problem.torch_loss()(twin(torch.tensor(inputs)), torch.tensor(targets))
    twin_value.backward()

    assert twin_value.item() == pytest.approx(float(value), rel=1e-12)
    for key, P in twin.named_parameters():
        np.testing.assert_allclose(P.grad.numpy(), grads[key], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes"])
def test_columns_are_standardised_by_the_training_part_alone(name):
    problem = problems.load(name)
    np.testing.assert_allclose(problem.train_inputs.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(problem.train_inputs.std(0), 1, rtol=1e-12)
    both = np.concatenate([problem.train_inputs, problem.test_inputs])
    assert abs(problem.test_inputs.mean(0)).max() > 1e-3
    assert abs(both.mean(0)).max() > 1e-4


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_pixels_are_standardised_together_by_the_training_part_alone(name):
    problem = problems.load(name)
    assert problem.train_inputs.mean() == pytest.approx(0, abs=1e-12)
    assert problem.train_inputs.std() == pytest.approx(1, rel=1e-12)
    assert abs(problem.test_inputs.mean()) > 1e-4


def test_the_target_of_a_regression_is_standardised_by_the_training_part_alone():
    problem = problems.load("diabetes")
    assert problem.train_targets.mean() == pytest.approx(0, abs=1e-12)
    assert problem.train_targets.std() == pytest.approx(1, rel=1e-12)
    assert abs(problem.test_targets.mean()) > 1e-3


@pytest.mark.parametrize("name", CLASSES)
def test_both_parts_have_the_classes_in_the_same_shares(name):
    problem = problems.load(name)
    shares = [
        np.unique(targets, return_counts=True)[1] / len(targets)
        for targets in (problem.train_targets, problem.test_targets)
    ]
    assert len(shares[0]) == (2 if problem.kind == "binary" else problem.units[-1])
    np.testing.assert_allclose(*shares, atol=0.012)


@pytest.mark.parametrize("name", ["line", "breast_cancer", "diabetes", "digits", "mnist"])
def test_no_sample_is_in_both_parts(name):
    problem = problems.load(name)
    train, test = ({row.tobytes() for row in part} for part in (problem.train_inputs, problem.test_inputs))
    assert not train & test


def test_the_line_has_the_slope_and_intercept_that_its_source_states():
    problem = problems.load("line")
    design = np.column_stack([problem.train_inputs[:, 0], np.ones(100)])
    (w, b), *_ = np.linalg.lstsq(design, problem.train_targets[:, 0])
    assert w == pytest.approx(2, abs=0.2)
    assert b == pytest.approx(-1, abs=0.2)


def test_accuracy_of_classes_over_leading_axes():
    problem = problems.load("iris")
    outputs = np.array([[[3.0, 1, 2], [0, 0, 1]], [[1, 3, 2], [0, 0, 1]]])
    assert problem.evaluate(outputs, np.array([0, 2])).tolist() == [1, 0.5]
    assert problem.evaluate(outputs[0], np.array([1, 2])) == 0.5


def test_accuracy_of_one_logit():
    problem = problems.load("xor")
    targets = np.array([[0.0], [1.0], [1.0], [0.0]])
    assert problem.evaluate(np.array([[-1.0], [2.0], [0.0], [3.0]]), targets) == 0.5
    assert problem.evaluate(np.array([[[-1.0], [2.0], [1.0], [-3.0]]]), targets).tolist() == [1]


def test_there_is_no_accuracy_of_a_regression_or_of_no_samples():
    assert math.isnan(problems.load("line").evaluate(np.ones((3, 1)), np.ones((3, 1))))
    assert np.isnan(problems.load("xor").evaluate(np.ones((2, 0, 1)), np.ones((0, 1)))).tolist() == [True, True]


def test_an_unknown_problem_is_refused_by_name():
    with pytest.raises(ValueError, match=r"among line, xor, iris, .*, got 'moons'"):
        problems.load("moons")
