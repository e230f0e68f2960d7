"""The formulas evaluated: against certified figures, against autograd, and against people who round on the way."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from parity.example.digits import exact
from parity.example.hand_arithmetic import CARRIED, FLOATS, binary, carry, program
from parity.example.hand_computation import CONSTANTS, FIGURES, constants
from parity.example.mistakes import MISTAKES, of_model, rewrite
from parity.example.model import ARTICLE, MODELS, Model
from parity.example.perceptron import CORRECT, RECIPES, UPDATES, Recipe


def start(numbers):
    given = {name: float(number) for name, number in numbers.items()}
    return given | {f"b_{u}{k}": given[b] for u, b in (("h", "b1"), ("o", "b2")) for k in (1, 2)}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_articles_figures_are_the_certified_ones(recipe, kept):
    made = program(ARTICLE, recipe)
    first = made.evaluate({name: binary(x) for name, x in start(CONSTANTS).items()}, CARRIED)
    floats = made.evaluate(start(CONSTANTS), FLOATS)
    for key, figure in FIGURES.items():
        if figure.formula:
            truth = exact(kept.tensor(figure.tensor, figure.updates, recipe)[figure.index])
            # The decimals of the example themselves are rounded to binary64, each by half a unit.
            assert abs(Fraction(floats[key]) - truth) <= Fraction(first[key].e) + Fraction(2) ** -50, key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_whole_training(recipe, kept):
    made = program(ARTICLE, recipe)
    end = made.evaluate(made.advance(start(CONSTANTS), UPDATES), FLOATS)
    assert end["E"] == pytest.approx(float(kept.tensor("E", UPDATES, recipe).hi), rel=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.key)
def test_every_gradient_is_autograds(model):
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(11)
    for _ in range(5):
        numbers = {name: draw.uniform(-1, 1) for name in constants(model)}
        found = program(model, Recipe("simultaneous", "unit")).evaluate(start(numbers), FLOATS)

        def tensor(*names, numbers=numbers):
            return torch.tensor([numbers[name] for name in names], dtype=torch.float64)

        V = tensor("w1", "w2", "w3", "w4").reshape(2, 2).requires_grad_()
        W = tensor("w5", "w6", "w7", "w8").reshape(2, 2).requires_grad_()
        b, c = tensor("b1", "b1").requires_grad_(), tensor("b2", "b2").requires_grad_()
        X = torch.stack([tensor("i1", "i2"), *([tensor("i1:2", "i2:2")] if model.samples > 1 else [])])
        T = torch.stack([tensor("t1", "t2"), *([tensor("t1:2", "t2:2")] if model.samples > 1 else [])])
        act = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[model.hidden]
        net_o = act(X @ V.mT + b) @ W.mT + c
        if model.error == "squares":
            E = 0.5 * ((T - torch.sigmoid(net_o)) ** 2).sum(-1).mean()
        else:
            E = torch.nn.functional.cross_entropy(net_o, T)
        E.backward()
        assert found["E"] == pytest.approx(E.item(), rel=1e-12)
        grads = [*V.grad.flatten().tolist(), *W.grad.flatten().tolist(), *b.grad.tolist(), *c.grad.tolist()]
        names = [*(f"w{n}" for n in range(1, 9)), "b_h1", "b_h2", "b_o1", "b_o2"]
        for name, grad in zip(names, grads, strict=True):
            assert found[f"dE/d{name}"] == pytest.approx(grad, rel=1e-10, abs=1e-15), name
        assert found["w6@1"] == pytest.approx(numbers["w6"] - numbers["eta"] * W.grad[0, 1].item(), rel=1e-12)


class Rounded:
    """A number each of whose results is rounded to a few decimals, in decimal arithmetic."""

    def __init__(self, x, places):
        self.x, self.places = Decimal(x), places

    def made(self, x):
        return Rounded(round(x, self.places), self.places)

    def of(self, other):
        return other.x if isinstance(other, Rounded) else Decimal(other)

    def __add__(self, other):
        return self.made(self.x + self.of(other))

    def __sub__(self, other):
        return self.made(self.x - self.of(other))

    def __rsub__(self, other):
        return self.made(self.of(other) - self.x)

    def __mul__(self, other):
        return self.made(self.x * self.of(other))

    def __truediv__(self, other):
        return self.made(self.x / self.of(other))

    def __rtruediv__(self, other):
        return self.made(self.of(other) / self.x)

    def __neg__(self):
        return Rounded(-self.x, self.places)

    __radd__, __rmul__ = __add__, __mul__


def by_hand(a, function):
    return a.made(Decimal(repr(function(float(a.x)))))


HAND = {
    "exp": lambda a: a.made(a.x.exp()),
    "ln": lambda a: a.made(a.x.ln()),
    "tanh": lambda a: by_hand(a, math.tanh),
    "relu": lambda a: a.made(max(a.x, Decimal(0))),
    "step": lambda a: a.made(Decimal(int(a.x > 0))),
    "square": lambda a: a * a,
}


@pytest.mark.parametrize("places", [2, 3, 5])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.key)
def test_who_rounds_on_the_way_stays_within_the_bound(model, places):
    """The formulas, run by Python on numbers that are rounded after each operation."""
    from parity.example.hand_arithmetic import _code, _names, _order, round_formulas

    draw = np.random.default_rng(places)
    formulas = round_formulas(model, CORRECT, stable=False)
    names = _names(formulas)
    within = 0
    for _ in range(40):
        numbers = {name: Fraction(int(draw.integers(5, 95)), 100) for name in constants(model)}
        exactly = program(model, CORRECT, (), False).evaluate(start(numbers), FLOATS)
        given = {name: carry(places)(x) for name, x in start(numbers).items()}
        bounds = program(model, CORRECT, (), False).evaluate(given, CARRIED)
        space = {names[name]: Rounded(repr(x), places) for name, x in start(numbers).items() if name in names}
        with localcontext() as context:
            context.prec = 40
            for key in _order(formulas):
                space[names[key]] = eval(_code(formulas[key], names), dict(HAND), space)
        for key in formulas:
            off = abs(float(space[names[key]].x) - exactly[key])
            assert off <= bounds[key].e * (1 + 1e-9) + 1e-15, (key, numbers)
            within += off > 0
    assert within > 100, "expected that rounding moves figures"


def test_a_sum_that_cancels_is_lost_with_few_decimals():
    # 0.375 to one decimal is 0.4, and 0.4 - 0.4 is 0.
    a, b = carry(1)(0.375), carry(1)(0.4)
    assert (a - b).e >= 0.025


def test_step_and_relu_are_undecided_near_the_kink():
    near, far = carry(1)(0.04), carry(1)(0.4)
    assert CARRIED["step"](near).e == 1
    assert CARRIED["step"](far).e == 0
    assert CARRIED["relu"](carry(1)(-0.4)).e == 0


def test_functions_do_not_overflow():
    assert FLOATS["exp"](1e6) == math.inf
    assert FLOATS["softplus"](1e6) == 1e6
    assert FLOATS["sigmoid"](-1e6) == 0
    assert FLOATS["ln"](0.0) == -math.inf


# Mistakes.


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.key)
def test_every_mistake_changes_a_figure_of_some_model(mistake):
    from parity.example.hand_computation import figures

    changed = False
    for model in MODELS:
        if mistake in of_model(figures(model)):
            numbers = start(constants(model))
            right = program(model, CORRECT).evaluate(numbers, FLOATS)
            wrong = program(model, CORRECT, mistake.rules).evaluate(numbers, FLOATS)
            changed |= any(abs(right[key] - wrong[key]) > 1e-6 for key in right)
    assert changed


def test_a_rule_replaces_what_it_finds():
    rules = [(r"^dE/", r"^(.*) - (.*)$", "<2> - <1>")]
    assert rewrite({"dE/dout": "{a} - {t}", "E": "{a} - {t}"}, rules) == {"dE/dout": "{t} - {a}", "E": "{a} - {t}"}


def test_a_mistake_that_cannot_be_made_is_not_listed():
    from parity.example.hand_computation import figures

    keys = {mistake.key for mistake in of_model(figures(Model("relu", "cross-entropy", 1)))}
    assert not keys & {"no-half", "no-slope", "no-square", "batch-sum"}
    assert {"slope-twice", "log10", "slope-of-sigmoid"} <= keys
