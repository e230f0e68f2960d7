"""The example's own lines in each arithmetic, and its six recipes."""

from fractions import Fraction

import numpy as np
import pytest

from parity.budget.formats import FORMATS
from parity.example.perceptron import BUG, CORRECT, INPUT, PARAMS, RECIPES, TARGET, WEIGHTS, Example, budgets, floats
from parity.truth import ball, tape
from refnet.arithmetic.runs import Runs
from refnet.generator import default_generator


def after(recipe, rounds=1):
    example = Example(recipe, floats("float64"))
    found = [example.round() for _ in range(rounds)]
    return example, found


def test_constants_are_the_articles():
    # The table of constants of the worked example, and the order of the weights: w1 w2 into h1, ..., w7 w8 into o2.
    weights = [PARAMS[tensor][index] for tensor, index in WEIGHTS.values()]
    assert list(WEIGHTS) == [f"w{n}" for n in range(1, 9)]
    assert weights == [Fraction(n, 100) for n in (15, 20, 25, 30, 40, 45, 50, 55)]
    assert [*INPUT, *TARGET] == [Fraction(1, 20), Fraction(1, 10), Fraction(1, 100), Fraction(99, 100)]
    assert [*PARAMS["0.bias"], *PARAMS["2.bias"]] == [Fraction(7, 20)] * 2 + [Fraction(3, 5)] * 2


def test_six_different_recipes_the_correct_one_first():
    assert len({recipe.key for recipe in RECIPES}) == 6
    assert (CORRECT.key, BUG.key) == ("simultaneous/frozen", "sequential/frozen")
    errors = {recipe: after(recipe, 2)[1][1]["E"] for recipe in RECIPES}
    assert len(set(errors.values())) == 6


@pytest.mark.parametrize("biases", ["frozen", "unit", "layer"])
def test_the_bug_changes_the_hidden_weights_of_round_1_and_nothing_else(biases):
    right, wrong = (
        next(r for r in RECIPES if (r.order, r.biases) == (order, biases)) for order in ("simultaneous", "sequential")
    )
    (one, (first,)), (other, (second,)) = after(right), after(wrong)
    moved = {name for name in one.params if not np.array_equal(one.params[name], other.params[name])}
    assert moved == ({"0.weight"} if biases == "frozen" else {"0.weight", "0.bias"})
    hidden = {"dE_o/dout_h", "dE/dout_h", "dE/dnet_h", "dE/d0.weight", "dE/d0.bias"}
    assert {name for name in first if not np.array_equal(first[name], second[name])} == hidden


def test_the_bugs_deltas_come_through_the_new_weights():
    example, (found,) = after(BUG)
    np.testing.assert_array_equal(found["dE/dout_h"], found["dE/dnet_o"] @ example.params["2.weight"])
    assert not np.array_equal(found["dE/dout_h"], found["dE/dnet_o"] @ found["2.weight"])


def test_biases_frozen_per_unit_and_shared():
    db = {}
    for recipe in RECIPES[::2]:
        example, (found,) = after(recipe)
        for name in ("0.bias", "2.bias"):
            moved = found[name] - example.params[name]
            db[recipe.biases, name] = found[f"dE/d{name}"]
            expected = (
                np.zeros(2)
                if recipe.biases == "frozen"
                else found[name] - (found[name] - 0.5 * db[recipe.biases, name])
            )
            np.testing.assert_array_equal(moved, expected)
    for name in ("0.bias", "2.bias"):
        np.testing.assert_array_equal(db["frozen", name], db["unit", name])
        np.testing.assert_array_equal(db["layer", name], np.full(2, db["unit", name][0] + db["unit", name][1]))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_floats_stay_within_their_budget_of_the_balls(recipe, dtype):
    as_floats, as_budgets = Example(recipe, floats(dtype)), Example(recipe, budgets(dtype))
    with ball.precision(256), tape.untaped():
        as_balls = Example(recipe, ball.lift)
        for _ in range(3):
            found, bounds, balls = as_floats.round(), as_budgets.round(), as_balls.round()
            assert found.keys() == bounds.keys() == balls.keys()
            for name, values in found.items():
                assert values.dtype == dtype
                triples = zip(values.flat, bounds[name].e.flat, ball.values(balls[name]).flat, strict=True)
                assert all(abs(ball.ball(float(x)) - true) <= ball.ball(float(e)) for x, e, true in triples), name


def test_budgets_count_the_conversion_of_decimals():
    lifted = budgets("float32")(np.array([Fraction(1, 20), Fraction(1, 2)], dtype=object))
    assert lifted.e[0] >= abs(Fraction(1, 20) - Fraction(float(np.float32(0.05)))) > 0
    assert lifted.e[0] < 4 * FORMATS["float32"].u * 0.05
    assert lifted.e[1] == 0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_runs_have_the_bits_of_their_lone_twins(recipe):
    factors = (Fraction(1), Fraction(3, 2), Fraction(-2))
    alone = [Example(recipe, floats("float64"), {name: p * by for name, p in PARAMS.items()}) for by in factors]

    def together(exact):
        many = np.stack([exact * by for by in factors] if any(exact is p for p in PARAMS.values()) else [exact] * 3)
        return Runs(floats("float64")(many))

    runs = Example(recipe, together)
    for _ in range(2):
        found, twins = runs.round(), [example.round() for example in alone]
        for name, many in found.items():
            np.testing.assert_array_equal(many.a, np.stack([twin[name] for twin in twins]), err_msg=name)


def test_the_default_generator_is_left_alone():
    before = default_generator.get_state().tobytes()
    Example(CORRECT, floats("float64"))
    assert default_generator.get_state().tobytes() == before
