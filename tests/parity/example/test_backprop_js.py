"""The page's arithmetic under Node, judged by parity; and its verdicts on figures worked out by hand."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from parity.budget.array import Budget, Profile
from parity.example.certified_example import POSITIONS
from parity.example.engine_runs import _budgets
from parity.example.hand_computation import CONSTANTS, FIGURES
from parity.example.perceptron import PARAMS, RECIPES, UPDATES, Example
from parity.example.published import PUBLISHED
from parity.example.web_page import ASSETS
from parity.verdict.tensor import Enclosure, judge
from refnet.arithmetic.runs import Runs

ENGINE = ASSETS / "backprop.js"
NETWORKS = 1_000

SCRIPT = """
const B = require(process.argv[1]);
const { networks, recipes, slip, rounds, positions, entries } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const answers = {
  // Every figure of the first rounds, networks as the leading axis.
  rounds: () => recipes.map((recipe) => networks.map((net) => {
    const found = [];
    for (let n = 0; n < rounds; n++) {
      const { figures, next } = B.round(B.FLOATS, net, recipe, slip);
      found.push(figures);
      net = next;
    }
    return found;
  })),
  // The error and the outputs along a training.
  series: () => recipes.map((recipe) => {
    const found = [];
    const at = new Set(positions);
    B.train(networks[0], recipe, Math.max(...positions), "", (n, net) => {
      if (at.has(n)) found.push(B.round(B.FLOATS, net, recipe).figures);
    });
    return found.map(({ E, out_o }) => ({ E, out_o }));
  }),
  // Verdicts on typed figures: entries[network] is [[figure, text], ...].
  verdicts: () => networks.map((net, k) => {
    const judge = new B.Judge(net, recipes[0]);
    return entries[k].map(([figure, text]) => {
      const { kind, carried, cut, mistakes } = judge.judge(figure, B.parse(text));
      return [kind, carried, cut, mistakes.map(({ key, carried }) => [key, carried === Infinity ? 99 : carried])];
    });
  }),
  spelled: () => entries.map(([x, digits]) => B.significant(B.exact(x), digits)),
  parsed: () => entries.map((text) => {
    try {
      const { value, places } = B.parse(text);
      return [value, places];
    } catch (error) {
      return error.message;
    }
  }),
};
console.log(JSON.stringify(answers[process.argv[2]]()));
"""


def node(question, **given):
    """What the engine answers."""
    program = shutil.which("node")
    if program is None:
        reason = "expected Node for the tests of the page's arithmetic, found none"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    command = [program, "-e", SCRIPT, str(ENGINE), question]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def network(params, inputs=(0.05, 0.1), targets=(0.01, 0.99), rate=0.5):
    """A network as the engine takes it."""
    layers = {
        layer: {part: np.asarray(params[f"{place}.{part}"], float).tolist() for part in ("weight", "bias")}
        for layer, place in (("hidden", 0), ("output", 2))
    }
    return {"input": list(inputs), "target": list(targets), "rate": rate, **layers}


def spell(recipe):
    return {"order": recipe.order, "biases": recipe.biases}


ALL_RECIPES = [spell(recipe) for recipe in RECIPES]
EXAMPLE = network(PARAMS)


def located(key):
    figure = FIGURES[key]
    return {"tensor": figure.tensor, "index": list(figure.index), "updates": figure.updates}


@pytest.fixture(scope="module")
def many():
    """Random networks: parameters, inputs and targets as arrays with the networks in front."""
    draw = np.random.default_rng(5)
    params = {name: draw.uniform(-2, 2, (NETWORKS, *np.shape(exact))) for name, exact in PARAMS.items()}
    return params, draw.uniform(-2, 2, (NETWORKS, 2)), draw.uniform(0, 1, (NETWORKS, 2))


def spelled_networks(many):
    params, inputs, targets = many
    return [
        network({name: p[k] for name, p in params.items()}, inputs[k].tolist(), targets[k].tolist())
        for k in range(NETWORKS)
    ]


class Lone(Example):
    """The example with inputs, targets and parameters that are there already, in any arithmetic."""

    def __init__(self, recipe, lift, params, inputs, targets):
        super().__init__(recipe, lift, params)
        self.input, self.target = lift(inputs), lift(targets)


def bounds(recipe, many, rounds):
    """Budgets of binary64 for each network and figure."""
    params, inputs, targets = many
    profile = Profile.of("float64")

    def lift(values):
        # What the example gives itself is the same in every run.
        shape = np.shape(values)
        stacked = (
            np.asarray(values, float)
            if shape[:1] == (NETWORKS,)
            else np.broadcast_to(np.asarray(values, float), (NETWORKS, *shape))
        )
        return Runs(Budget.exact(stacked, profile))

    example = Lone(recipe, lift, params, inputs, targets)
    return [{name: t.a for name, t in example.round().items()} for _ in range(rounds)]


def share(found, expected):
    """The largest part of its budget by which any figure is off; the budget's value has used up to one of its own."""
    worst = 0.0
    for k, tensors in enumerate(expected):
        for name, budget in tensors.items():
            got = np.array([rounds[k][name] for rounds in found])
            off, limit = abs(got - budget.x), 2 * budget.e
            assert np.isfinite(limit).all()
            assert got.shape == off.shape
            worst = max(worst, np.max(np.where(off == 0, 0.0, off / np.where(limit == 0, 5e-324, limit))))
    return worst


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_example_is_within_its_budget_of_the_certified_values(recipe, kept):
    (((*found,),),) = node("rounds", networks=[EXAMPLE], recipes=[spell(recipe)], rounds=2)
    for n, (got, budgets) in enumerate(zip(found, _budgets(recipe, "float64"), strict=True)):
        for name, budget in budgets.items():
            verdict = judge(name, np.array(got[name]), Enclosure(kept.tensor(name, n, recipe), budget.e), "float64")
            assert verdict.verdict in ("exact", "rounding"), verdict


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_whole_training_is_within_its_budget(recipe, kept):
    (found,) = node("series", networks=[EXAMPLE], recipes=[spell(recipe)], positions=POSITIONS)
    lasting = [n for n in POSITIONS if n < kept.spent(recipe, "float64")]
    assert lasting[-1] == UPDATES
    for name in ("E", "out_o"):
        truth = kept.truth(f"series.{name}")[RECIPES.index(recipe), list(POSITIONS)]
        got = np.array([step[name] for step in found])
        verdict = judge(name, got, Enclosure(truth, kept.bound(recipe, "float64", name)), "float64")
        assert verdict.verdict == "rounding", verdict


def test_random_networks_are_within_their_budgets(many):
    found = node("rounds", networks=spelled_networks(many), recipes=ALL_RECIPES, rounds=2)
    for recipe, got in zip(RECIPES, found, strict=True):
        assert share(got, bounds(recipe, many, 2)) <= 1, recipe.key


@pytest.mark.parametrize(
    "slip", ["no-slope-output", "no-slope-hidden", "slope-at-net", "sign", "ascent", "no-half", "no-bias", "one-share"]
)
def test_a_mistake_is_outside(slip, many):
    (got,) = node("rounds", networks=spelled_networks(many), recipes=[spell(RECIPES[0])], rounds=2, slip=slip)
    assert share(got, bounds(RECIPES[0], many, 2)) > 1e6


def test_other_recipes_are_outside(many):
    (got,) = node("rounds", networks=spelled_networks(many), recipes=[spell(RECIPES[1])], rounds=2)
    assert share(got, bounds(RECIPES[0], many, 2)) > 1e6


# Figures worked out by hand.


class Carried:
    """An array each of whose results is rounded to so many decimals; `cut`, cut off."""

    def __init__(self, x, places, cut):
        self.x, self.places, self.cut = x, places, cut

    def _new(self, x):
        scaled = x * 10.0**self.places
        # What binary64 makes of 29 may be a little less: to be cut off, it is rounded first.
        whole = np.trunc(np.round(scaled, 6)) if self.cut else np.round(scaled)
        return Carried(whole / 10.0**self.places, self.places, self.cut)

    def _with(self, other, function):
        return self._new(function(self.x, other.x if isinstance(other, Carried) else other))

    def __add__(self, other):
        return self._with(other, np.add)

    def __sub__(self, other):
        return self._with(other, np.subtract)

    def __rsub__(self, other):
        return self._new(other - self.x)

    def __mul__(self, other):
        return self._with(other, np.multiply)

    def __truediv__(self, other):
        return self._with(other, np.divide)

    def __rtruediv__(self, other):
        return self._new(other / self.x)

    def __pow__(self, power):
        return self._new(self.x**power)

    def __neg__(self):
        return Carried(-self.x, self.places, self.cut)

    __radd__, __rmul__ = __add__, __mul__


def by_hand(constants, places, each, cut=False):
    """The figures up to E after 1 update, each result rounded (or each operation, if `each`) to so many decimals."""

    def exp(x):
        return x._new(np.exp(x.x)) if isinstance(x, Carried) else np.exp(x)

    def rounded(x):
        return Carried(x, places, cut)._new(x).x

    figures = dict(constants)

    def work(figure, template, names):
        values = [names.get(key, key) for key in figure.operands]
        texts = iter(f"v[{k}]" for k in range(len(values)))
        expression = re.sub(r"\{.*?\}", lambda _: next(texts), template)
        operands = [Carried(figures[v], places, cut) if each else figures[v] for v in values]
        result = eval(expression, {"exp": exp, "v": operands})
        return result.x if each else rounded(result)

    for key, figure in FIGURES.items():
        if figure.formula:
            figures[key] = work(figure, figure.formula, {})
    # The forward pass of the next round, with the new weights.
    new = {f"w{n}": f"w{n}@1" for n in range(1, 9)}
    for key in ("net_h1", "out_h1", "net_h2", "out_h2", "net_o1", "out_o1", "net_o2", "out_o2", "E_o1", "E_o2", "E"):
        figures[f"{key}@1"] = work(FIGURES[key], FIGURES[key].formula, new)
        new[key] = f"{key}@1"
    return figures


@pytest.fixture(scope="module")
def classroom():
    """Random networks as a teacher would make them up: two decimals, one bias for the two units of a layer."""
    draw = np.random.default_rng(7)
    names = [name for name in CONSTANTS if name != "eta"]
    constants = {name: draw.integers(-100, 101, NETWORKS) / 100 for name in names}
    constants |= {f"t{k}": draw.integers(1, 100, NETWORKS) / 100 for k in (1, 2)}
    constants["eta"] = np.full(NETWORKS, 0.5)
    nets = []
    for k in range(NETWORKS):
        c = {name: float(values[k]) for name, values in constants.items()}
        params = {
            "0.weight": [[c["w1"], c["w2"]], [c["w3"], c["w4"]]],
            "0.bias": [c["b1"]] * 2,
            "2.weight": [[c["w5"], c["w6"]], [c["w7"], c["w8"]]],
            "2.bias": [c["b2"]] * 2,
        }
        nets.append(network(params, (c["i1"], c["i2"]), (c["t1"], c["t2"])))
    return constants, nets


KEYS = [key for key, figure in FIGURES.items() if figure.updates < 2]


@pytest.mark.parametrize("each", [False, True], ids=["figures", "operations"])
@pytest.mark.parametrize("places", [2, 3, 4, 6])
def test_figures_worked_out_with_so_many_decimals(places, each, classroom):
    constants, nets = classroom
    figures = by_hand(constants, places, each)
    # As they were written down; in every fourth network to one decimal less.
    entries = [
        [(located(key), f"{figures[key][k]:.{places - (k % 4 == 0)}f}") for key in KEYS] for k in range(NETWORKS)
    ]
    verdicts = [v for net in node("verdicts", networks=nets, recipes=ALL_RECIPES[:1], entries=entries) for v in net]
    assert len(verdicts) == NETWORKS * len(KEYS)
    wrong = [(kind, carried) for kind, carried, _, _ in verdicts if kind != "right" and carried < places]
    assert not wrong
    assert {kind for kind, *_ in verdicts} == {"right", "carried"}
    # It is worth saying: much that was worked out so is not right to the last digit.
    assert sum(kind == "carried" for kind, *_ in verdicts) > 0.05 * len(verdicts)


def test_decimals_cut_off_on_the_way(classroom):
    constants, nets = classroom
    figures = by_hand(constants, 4, each=True, cut=True)
    entries = [[(located(key), f"{figures[key][k]:.4f}") for key in KEYS] for k in range(NETWORKS)]
    verdicts = [v for net in node("verdicts", networks=nets, recipes=ALL_RECIPES[:1], entries=entries) for v in net]
    assert not [v for v in verdicts if v[0] != "right" and max(v[1], v[2]) < 4]


def test_decimals_do_not_explain_what_is_far_off(classroom):
    # Three budgets beyond: six decimals, and figures that are off in the fourth.
    constants, nets = classroom
    figures = by_hand(constants, 12, each=False)
    key = "dE/dw5"
    entries = [[(located(key), f"{figures[key][k] + 4e-4:.6f}")] for k in range(NETWORKS)]
    verdicts = [v for net in node("verdicts", networks=nets, recipes=ALL_RECIPES[:1], entries=entries) for v in net]
    assert all(carried <= 3 for _, carried, _, _ in verdicts)


def judged(pairs, recipe=RECIPES[0]):
    entries = [[(located(key), text) for key, text in pairs]]
    (found,) = node("verdicts", networks=[EXAMPLE], recipes=[spell(recipe)], entries=entries)
    return [(kind, carried, [key for key, _ in mistakes]) for kind, carried, _, mistakes in found]


EXPECTED = {
    ("article", "E@1", "0.291027924"): ("mistake", ["updated-weights"]),
    ("article", "E@10000", "0.0000351085"): ("mistake", ["updates-1", "misprint-sequential"]),
    ("article", "out_o1@10000", "0.015912196"): ("mistake", ["updated-weights"]),
    ("article", "out_o2@10000", "0.984065734"): ("mistake", ["updated-weights"]),
    ("copies", "E@10000", "0.000035085"): ("mistake", ["updated-weights"]),
    # Off by three quarters of a unit: what carrying nine decimals makes of it.
    ("original", "dE_o2/dout_h1", "-0.019049119"): ("carried", []),
}
"""The verdicts on the printed figures that are not right."""


def test_published_figures():
    found = judged([(p.key, p.text) for p in PUBLISHED])
    for p, (kind, carried, mistakes) in zip(PUBLISHED, found, strict=True):
        assert (kind, mistakes) == EXPECTED.get((p.source, p.key, p.text), ("right", [])), p
        if kind == "carried":
            assert carried == 9


def test_right_figures_are_right(kept):
    figures = {key: float(kept.figure(key).hi) for key in FIGURES}
    pairs = [(key, f"{figure:.{places}f}") for key, figure in figures.items() for places in (3, 5, 9, 12)]
    assert {kind for kind, _, _ in judged(pairs)} == {"right"}


MISTAKES = {
    # By hand, from the article's figures: 0.74136507, 0.186815602, 0.593269992, 0.40 and so on.
    "no-slope-output": ("dE/dnet_o1", "0.741365070"),
    "sign": ("dE/dw5", "-0.082167041"),
    "no-half": ("E_o1", "0.549622166"),
    "no-half-anywhere": ("dE/dout_o1", "1.482730139"),
    "half-gradient": ("dE/dout_o1", "0.370682535"),
    "ascent": ("w5@1", "0.441083520"),
    "no-rate": ("w5@1", "0.317832959"),
    "no-slope-hidden": ("dE/dnet_h1", "0.036350306"),
    "one-share": ("dE/dout_h1", "0.055399425"),
    "slope-at-net": ("dout_h1/dnet_h1", "0.234993750"),
    "no-bias": ("net_h1", "0.0275"),
    "transposed": ("net_h1", "0.3825"),
    "biases-unit": ("E@1", "0.280471447"),
    "biases-layer": ("E@1", "0.285750887"),
    "updated-weights": ("E@1", "0.291027924"),
    "updated-weights-biases-unit": ("E@1", "0.280484077"),
    "updates-1": ("E@1", "0.298371109"),
}


def test_mistakes_are_named():
    found = judged(MISTAKES.values())
    for (mistake, entry), (kind, _, mistakes) in zip(MISTAKES.items(), found, strict=True):
        assert kind == "mistake", (mistake, entry)
        assert mistake in mistakes


def test_every_mistake_that_explains_a_figure_is_listed():
    # With the sign turned, and with the step uphill, the new weight is the same.
    ((kind, _, mistakes),) = judged([("w5@1", "0.441083520")])
    assert kind == "mistake"
    assert {"sign", "ascent"} <= set(mistakes)


def test_what_nothing_explains():
    ((kind, carried, mistakes),) = judged([("out_h1", "0.871234")])
    assert (kind, carried, mistakes) == ("unexplained", 0, [])


def test_biases_are_judged_by_the_recipe():
    unit = next(r for r in RECIPES if r.key == "simultaneous/unit")
    found = judged([("E@1", "0.280471447"), ("E@1", "0.291027774")], unit)
    assert [kind for kind, _, _ in found] == ["right", "mistake"]
    assert found[1][2] == ["biases-frozen"]


# Digits.


def test_numbers_are_spelled_as_parity_spells_them():
    from parity.truth.value import decimal

    draw = np.random.default_rng(1)
    numbers = [*(draw.normal(size=300) * 10.0 ** draw.integers(-30, 8, 300)).tolist(), 0.0, 1.0, 0.5, 9.9999999, 1e-5]
    entries = [(x, int(d)) for x in numbers for d in draw.integers(1, 33, 3)]
    assert node("spelled", entries=entries) == [decimal(x, d) for x, d in entries]


@pytest.mark.parametrize(
    ("text", "value", "places"),
    [
        ("0.35", 0.35, 2),
        (" 0,35 ", 0.35, 2),
        ("−.5", -0.5, 1),
        ("+3.51e-5", 3.51e-5, 7),
        ("12", 12, 0),
        ("1e2", 100, 0),
    ],
)
def test_numbers_are_read(text, value, places):
    assert node("parsed", entries=[text]) == [[value, places]]


@pytest.mark.parametrize(
    "text", ["", "  ", "x", "0.3x", "1e400", "1,2,3", ".", "e5", "NaN", "Infinity", "1001", "0x10"]
)
def test_what_is_no_number_is_refused(text):
    (message,) = node("parsed", entries=[text])
    assert message.startswith("Expected a ")
