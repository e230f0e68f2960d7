"""The page's arithmetic under Node, judged by parity; and its verdicts on figures worked out by hand."""

import json
import os
import re
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from parity.budget.array import Budget, Profile
from parity.example.certified_example import POSITIONS
from parity.example.engine_runs import _budgets
from parity.example.hand_computation import CONSTANTS, FIGURES, constants, figures
from parity.example.model import ARTICLE, MODELS
from parity.example.perceptron import PARAMS, RECIPES, UPDATES, WEIGHTS, Example
from parity.example.published import PUBLISHED
from parity.example.typed_figure import Judge, parse
from parity.example.typed_report import sentences
from parity.example.web_page import ASSETS, ENGINE, _figure, known
from parity.verdict.tensor import Enclosure, judge
from refnet.arithmetic.runs import Runs

SOURCE = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in ENGINE)
NETWORKS = 200
PUPILS = 100

SCRIPT = """
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const { known, model, networks, recipes, mistake, rounds, positions, entries, alone } = asked;
const rules = (recipe) => [
  ...Judging.recipeRules(known, recipe),
  ...(mistake ? known.mistakes.find(({ key }) => key === mistake).rules : []),
];
const program = (recipe) => Formulas.program(model, recipe, rules(recipe));
const answers = {
  // Every figure of the first rounds, networks as the leading axis.
  rounds: () => recipes.map(program).map((made) => networks.map((net) => {
    const found = [];
    for (let n = 0; n < rounds; n++) {
      found.push(made.evaluate(Arithmetic.FLOATS, net));
      net = made.next(found[n]);
    }
    return found;
  })),
  // The error and the outputs along a training.
  series: () => recipes.map(program).map((made) => {
    let net = networks[0];
    return positions.map((n, k) => {
      if (k) net = made.advance(net, n - positions[k - 1]);
      return made.evaluate(Arithmetic.FLOATS, net);
    });
  }),
  // Verdicts on typed figures: entries[network] is [[figure, text], ...].
  verdicts: () => networks.map((start, k) => {
    const judge = new Judging.Judge({ known, figures: model, start, biases: recipes[0].biases });
    return entries[k].map(([figure, text]) => {
      const typed = Digits.parse(text);
      const found = alone ? { ...judge.judge(figure, typed), places: [] } : judge.recognise(figure, typed);
      const { kind, carried, cut, blind, mistakes, places } = found;
      return [
        kind, carried, cut,
        mistakes.map(({ key, carried, cut }) => [key, carried === Infinity ? 99 : carried, cut]),
        places.map(({ figure, kind, cut, mistake }) => [figure, kind, cut, mistake ? mistake.key : ""]),
        blind,
        kind === "elsewhere" ? [] : Words.verdict(found, Digits.parse(text).places),
      ];
    });
  }),
  spelled: () => entries.map(([x, digits]) => Digits.significant(Digits.exact(x), digits)),
  parsed: () => entries.map((text) => {
    try {
      const { value, places } = Digits.parse(text);
      return [value, places];
    } catch (error) {
      return error.message;
    }
  }),
};
console.log(JSON.stringify(answers[process.argv[1]]()));
"""


def node(question, model=ARTICLE, **given):
    """What the engine answers."""
    program = shutil.which("node")
    if program is None:
        reason = "expected Node for the tests of the page's arithmetic, found none"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    words = (ASSETS / "words.js").read_text(encoding="utf-8")
    source = f"{SOURCE}\nconst Drawing = {{}};\n{words}\n{SCRIPT}"
    given |= {"known": known(), "model": figures_of(model)}
    command = [program, "-e", source, question]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def network(params, inputs=(0.05, 0.1), targets=(0.01, 0.99), rate=0.5):
    """A network as the engine takes it."""
    net = {f"i{k + 1}": inputs[k] for k in range(2)} | {f"t{k + 1}": targets[k] for k in range(2)} | {"eta": rate}
    net |= {name: np.asarray(params[tensor], float)[index] for name, (tensor, index) in WEIGHTS.items()}
    net |= {f"b_{u}{k + 1}": np.asarray(params[f"{place}.bias"], float)[k] for u, place in ("h0", "o2") for k in (0, 1)}
    return {name: float(number) for name, number in net.items()}


def key_of(tensor, index):
    """The name under which the engine has an element of a tensor of `Example.round`."""
    if tensor in ("input", "target"):
        return f"{tensor[0]}{index[0] + 1}"
    if tensor.endswith(".bias"):
        return f"{tensor[:-6]}b_{'h' if '0.' in tensor else 'o'}{index[0] + 1}"
    weights = {place: name for name, place in WEIGHTS.items()}
    if (tensor, index) in weights:
        return weights[tensor, index]
    return next(f.key for f in FIGURES.values() if (f.tensor, f.index, f.updates) == (tensor, index, 0))


def tensor_of(found, name, shape):
    """A tensor of `Example.round` from the engine's figures."""
    array = np.empty(shape)
    for index in np.ndindex(*shape):
        array[index] = found[key_of(name, index)]
    return array


def spell(recipe):
    return {"order": recipe.order, "biases": recipe.biases}


ALL_RECIPES = [spell(recipe) for recipe in RECIPES]
EXAMPLE = network(PARAMS)


@pytest.fixture(scope="module")
def many():
    """Random networks: parameters, inputs and targets as arrays with the networks in front."""
    draw = np.random.default_rng(5)
    params = {name: draw.uniform(-2, 2, (NETWORKS, *np.shape(exact))) for name, exact in PARAMS.items()}
    return params, draw.uniform(-2, 2, (NETWORKS, 2)), draw.uniform(0, 1, (NETWORKS, 2))


def figures_of(model):
    return [_figure(figure) for figure in figures(model)]


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
            got = np.array([tensor_of(rounds[k], name, np.shape(budget.x)[1:]) for rounds in found])
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
            array = tensor_of(got, name, np.shape(budget.x))
            verdict = judge(name, array, Enclosure(kept.tensor(name, n, recipe), budget.e), "float64")
            assert verdict.verdict in ("exact", "rounding"), verdict


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.key)
def test_the_whole_training_is_within_its_budget(recipe, kept):
    (found,) = node("series", networks=[EXAMPLE], recipes=[spell(recipe)], positions=POSITIONS)
    lasting = [n for n in POSITIONS if n < kept.spent(recipe, "float64")]
    assert lasting[-1] == UPDATES
    for name in ("E", "out_o"):
        truth = kept.truth(f"series.{name}")[RECIPES.index(recipe), list(POSITIONS)]
        got = np.array([tensor_of(step, name, truth.hi.shape[1:]) for step in found])
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
    (got,) = node("rounds", networks=spelled_networks(many), recipes=[spell(RECIPES[0])], rounds=2, mistake=slip)
    assert share(got, bounds(RECIPES[0], many, 2)) > 1e6


def test_other_recipes_are_outside(many):
    (got,) = node("rounds", networks=spelled_networks(many), recipes=[spell(RECIPES[1])], rounds=2)
    assert share(got, bounds(RECIPES[0], many, 2)) > 1e6


# Figures worked out by hand.


class Carried:
    """An array each of whose results is rounded to a number of decimals; `cut`, cut off."""

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
    """The figures up to E after 1 update, each result rounded (or each operation, if `each`) to that many decimals."""

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
    constants = {name: draw.integers(-100, 101, PUPILS) / 100 for name in names}
    constants |= {f"t{k}": draw.integers(1, 100, PUPILS) / 100 for k in (1, 2)}
    constants["eta"] = np.full(PUPILS, 0.5)
    nets = []
    for k in range(PUPILS):
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
def test_figures_worked_out_with_a_few_decimals(places, each, classroom):
    constants, nets = classroom
    figures = by_hand(constants, places, each)
    # As they were written down; in every fourth network to one decimal less.
    entries = [[(key, f"{figures[key][k]:.{places - (k % 4 == 0)}f}") for key in KEYS] for k in range(PUPILS)]
    verdicts = [
        v for net in node("verdicts", networks=nets, recipes=ALL_RECIPES[:1], entries=entries, alone=True) for v in net
    ]
    assert len(verdicts) == PUPILS * len(KEYS)
    wrong = [(kind, carried) for kind, carried, *_ in verdicts if kind not in ("right", "cut") and carried < places]
    assert not wrong
    # A figure that was rounded on the way may by chance be the true one cut off.
    assert {kind for kind, *_ in verdicts} <= {"right", "cut", "carried"}
    # It is worth saying: much that was worked out so is not right to the last digit.
    assert sum(kind != "right" for kind, *_ in verdicts) > 0.05 * len(verdicts)


def test_decimals_cut_off_on_the_way(classroom):
    constants, nets = classroom
    figures = by_hand(constants, 4, each=True, cut=True)
    entries = [[(key, f"{figures[key][k]:.4f}") for key in KEYS] for k in range(PUPILS)]
    verdicts = [
        v for net in node("verdicts", networks=nets, recipes=ALL_RECIPES[:1], entries=entries, alone=True) for v in net
    ]
    assert not [v for v in verdicts if v[0] not in ("right", "cut") and max(v[1], v[2]) < 4]


def test_decimals_do_not_explain_what_is_far_off(classroom):
    # Three budgets beyond: six decimals, and figures that are off in the fourth.
    constants, nets = classroom
    figures = by_hand(constants, 12, each=False)
    key = "dE/dw5"
    entries = [[(key, f"{figures[key][k] + 4e-4:.6f}")] for k in range(PUPILS)]
    verdicts = [
        v for net in node("verdicts", networks=nets, recipes=ALL_RECIPES[:1], entries=entries, alone=True) for v in net
    ]
    assert all(carried <= 3 for _, carried, *_ in verdicts)


def judged(pairs, recipe=RECIPES[0]):
    entries = [[(key, text) for key, text in pairs]]
    (found,) = node("verdicts", networks=[EXAMPLE], recipes=[spell(recipe)], entries=entries)
    return [(kind, carried, [key for key, *_ in mistakes]) for kind, carried, _, mistakes, *_ in found]


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


def test_nine_digits_are_not_excused_by_a_few_decimals():
    # 0.298371109 rounded to one decimal on the way would be 0.3: no excuse for nine decimals, and one for one.
    found = judged([("E", "0.312345678"), ("E", "0.300000000"), ("E", "0.31"), ("E@1", "0.291027924")])
    assert [kind for kind, *_ in found] == ["unexplained", "unexplained", "carried", "mistake"]


@pytest.mark.parametrize(
    ("key", "text"), [("E@1", "0.29102"), ("E", "0.29837"), ("out_h2", "0.5968843"), ("w1@1", "0.1497")]
)
def test_a_figure_that_is_cut_off_is_called_so(key, text):
    # 0.2910277, 0.2983711, 0.59688437 and 0.14978: the next digit would have rounded each of them up, but for E.
    expected = "right" if key == "E" else "cut"
    assert [kind for kind, *_ in judged([(key, text)])] == [expected]


def test_a_figure_of_another_step_is_recognised():
    found = node(
        "verdicts",
        networks=[EXAMPLE],
        recipes=ALL_RECIPES[:1],
        entries=[[("net_h1", "0.291027924"), ("net_h1", "0.291027774"), ("net_h1", "0.2910277"), ("net_h1", "0.29")]],
    )
    kinds, places = zip(*[(v[0], v[4]) for v in found[0]], strict=True)
    assert kinds == ("elsewhere", "elsewhere", "elsewhere", "carried")
    assert places[0] == [["E@1", "mistake", False, "updated-weights"]]
    assert places[1] == [["E@1", "right", False, ""]]
    assert places[2] == [["E@1", "right", True, ""]]
    assert places[3] == []


# The two languages.


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.key)
def test_the_page_and_the_terminal_judge_alike(model):
    draw = np.random.default_rng(MODELS.index(model))
    numbers = {name: Fraction(int(draw.integers(-150, 150)), 100) for name in constants(model)}
    biases = ("frozen", "unit", "layer")[MODELS.index(model) % 3]
    judge_ = Judge(model, numbers, biases)
    keys = [key for key, figure in judge_.figures.items() if figure.updates < 2]
    entries = []
    for _ in range(40):
        key = keys[draw.integers(len(keys))]
        from_ = key if draw.random() < 0.6 else keys[draw.integers(len(keys))]
        mistake, recipe = [(None, judge_.recipe), *judge_.mistakes][draw.integers(1 + len(judge_.mistakes))]
        places = int(draw.choice([2, 3, 4, 6, 8, 9]))
        off = int(draw.integers(-20, 20)) if draw.random() < 0.3 else 0
        value = judge_.value(from_, recipe, mistake) + off * 10.0**-places
        entries.append((key, f"{value:.{places}f}"))
    (answers,) = node("verdicts", model, networks=[judge_.start], recipes=[{"biases": biases}], entries=[entries])
    kinds = set()
    for (key, text), (kind, carried, cut, mistakes, places, blind, words) in zip(entries, answers, strict=True):
        said, located = judge_.recognise(key, parse(text))
        assert (kind, carried, cut, blind) == (said.kind, said.carried, said.cut, said.blind), (key, text)
        assert mistakes == [[m.key, 99 if np.isinf(m.carried) else m.carried, m.cut] for m in said.mistakes], (
            key,
            text,
        )
        assert places == [[p.figure, p.kind, p.cut, p.mistake.key if p.mistake else ""] for p in located], (key, text)
        if kind != "elsewhere":
            assert words == list(sentences(said, parse(text)))
        kinds.add(kind)
    assert {"right", "mistake", "unexplained"} <= kinds


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
