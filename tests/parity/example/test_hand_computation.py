"""Each figure is what its formula says, and each published figure is what is in print."""

import re

import pytest

from parity.example.digits import exact
from parity.example.hand_computation import CONSTANTS, FIGURES, SECTIONS
from parity.example.perceptron import UPDATES
from parity.example.published import PUBLISHED, SOURCES
from parity.truth import ball

# Every figure in the running text of the article, in its order.
ARTICLE = ["0.596884378", "0.75136507", "0.772928465", "0.27481108", "0.274811083", "0.023560026", "0.298371109"]
ARTICLE += ["0.291027924", "0.0000351085", "0.015912196", "0.984065734"]


def enclosed(truth):
    """A certified number as the ball that it stands for: lo is the rest after hi, rounded to binary64."""
    return ball.ball(exact(truth)) + ball.ball(float(truth.hi)) * ball.ball(2.0**-106) * ball.arb(0, 1)


@pytest.mark.parametrize("figure", [f for f in FIGURES.values() if f.formula], ids=lambda f: f.key)
def test_a_formula_yields_its_figure(kept, figure):
    assert set(figure.operands) <= {*CONSTANTS, *FIGURES}
    names = {key: f"x{k}" for k, key in enumerate(figure.operands)}
    expression = re.sub(r"\{(.*?)\}", lambda match: names[match[1]], figure.formula)
    with ball.precision(256):
        operands = {
            name: ball.ball(CONSTANTS[key]) if key in CONSTANTS else enclosed(kept.figure(key))
            for key, name in names.items()
        }
        value = eval(expression, {"exp": lambda x: x.exp()}, operands)
        assert value.overlaps(enclosed(kept.figure(figure.key)))
        assert value.rad() < abs(value) * ball.ball(2.0**-100)


def test_formulas_use_only_what_stands_before_them():
    known = set(CONSTANTS)
    for figure in FIGURES.values():
        assert known.issuperset(figure.operands)
        assert bool(figure.formula) == (figure.section != "after")
        known.add(figure.key)


def test_every_step_of_the_hand_computation_is_there():
    units = [f"{layer}{k}" for layer in "ho" for k in (1, 2)]
    expected = {f"{name}_{u}" for name in ("net", "out") for u in units}
    expected |= {"E_o1", "E_o2", "E", *(f"dE_o{o}/dout_h{h}" for o in (1, 2) for h in (1, 2))}
    expected |= {
        name.format(u) for name in ("dE/dout_{}", "dout_{0}/dnet_{0}", "dE/dnet_{}", "dE/db_{}") for u in units
    }
    expected |= {f"dnet_o{o}/dout_h{h}" for o in (1, 2) for h in (1, 2)}
    expected |= {f"dE/dw{n}" for n in range(1, 9)} | {f"w{n}@1" for n in range(1, 9)}
    expected |= {
        f"dnet_{u}/dw{n}" for u, pair in zip(units, ((1, 2), (3, 4), (5, 6), (7, 8)), strict=True) for n in pair
    }
    expected |= {f"{name}@{n}" for name in ("E", "out_o1", "out_o2") for n in (1, UPDATES)}
    assert set(FIGURES) == expected
    assert {figure.section for figure in FIGURES.values()} == set(SECTIONS)


def test_spelled():
    assert FIGURES["E_o1"].spelled() == "(t1 - out_o1)^2 / 2"
    assert FIGURES["dE/dout_h1"].spelled({"dE_o1/dout_h1": "0.5", "dE_o2/dout_h1": "-0.1"}.get) == "0.5 - 0.1"
    assert FIGURES["w7@1"].spelled({"w7": "0.5", "eta": "0.5", "dE/dw7": "-0.02"}.get) == "0.5 - 0.5 * (-0.02)"


def test_published():
    article = [p.text for p in PUBLISHED if p.source == "article"]
    assert article == ARTICLE
    assert {p.source for p in PUBLISHED} == set(SOURCES)
    assert len({(p.key, p.text) for p in PUBLISHED}) == len(PUBLISHED)
    for published in PUBLISHED:
        assert published.key in FIGURES
        assert published.value % published.unit == 0
