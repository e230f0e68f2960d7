"""One in a hundred of the adversary's evaluations, every time; the committed results of all of them."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.adversarial import adversarial_command
from benchmarks.adversarial.adversarial_command import ELEMENTS, EVALUATIONS, adversarial, campaign
from benchmarks.adversarial.rounded_array import Rounded
from benchmarks.adversarial.rounding_machine import MODES, Machine, OverflowsError
from parity.budget import elementwise
from parity.budget.formats import ULPS, Format, Profile
from parity.records.record import Array

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "adversarial.json"
F32 = Profile.of("float32")


def test_nothing_is_outside_in_a_hundredth_of_the_campaign() -> None:
    made = campaign(None, {"catalogue": ELEMENTS // 100, "expressions": EVALUATIONS // 100})
    assert made["catalogue"]["outside"] == made["expressions"]["outside"] == []
    # The engines are as bad as they may be: they nearly use up some budget, which right engines don't.
    assert 0.8 < made["catalogue"]["largest share"][0] <= 1
    assert 0.8 < made["expressions"]["largest share"][0] <= 1


def test_what_is_committed_is_the_whole_campaign() -> None:
    made = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert made["catalogue"]["elements"] >= ELEMENTS
    assert made["expressions"]["evaluations"] >= EVALUATIONS
    assert made["catalogue"]["outside"] == made["expressions"]["outside"] == []


SMALL = {"catalogue": 1_500, "expressions": 50}


def test_an_interrupted_campaign_goes_on_to_the_same_end(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    whole = campaign(None, SMALL)
    campaign(out, {"catalogue": 400, "expressions": 20})
    assert json.loads(out.read_text())["catalogue"]["judged"] < whole["catalogue"]["judged"]
    assert campaign(out, SMALL) == {**whole, "versions": json.loads(out.read_text())["versions"]}


@pytest.mark.parametrize("weakened", ["functions", "sums", "errors passed on"])
def test_a_budget_that_grants_too_little_is_exceeded(monkeypatch: pytest.MonkeyPatch, weakened: str) -> None:
    if weakened == "functions":
        for name in ULPS:
            monkeypatch.setitem(ULPS, name, 0.5)
    elif weakened == "sums":
        growth = Format.growth
        monkeypatch.setattr(Format, "growth", lambda self, k: growth(self, k) / 4)
    else:
        for name in ("times", "product"):
            right = getattr(elementwise, name)
            monkeypatch.setattr(elementwise, name, lambda a, b, right=right: right(a, b) / 8)
    made = campaign(None, {"catalogue": 12_000, "expressions": 0})
    assert made["catalogue"]["outside"] != []


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, few = tmp_path / "found.json", ["--elements", "100", "--evaluations", "20"]
    done = CliRunner().invoke(adversarial, [*few, "--out", str(out)])
    assert done.exit_code == 0
    assert "0 outside" in done.output
    assert {"catalogue", "expressions", "versions"} == set(json.loads(out.read_text()))
    parts = {"catalogue": (lambda number: {"records": 1, "elements": 9, "outside": ["x"]}, "elements", 1)}
    monkeypatch.setattr(adversarial_command, "PARTS", parts | {"expressions": adversarial_command.PARTS["expressions"]})
    assert CliRunner().invoke(adversarial, few).exit_code == 1


@pytest.mark.parametrize("mode", MODES)
def test_rounding_is_to_a_neighbour(mode: str) -> None:
    """Against NumPy's own conversion, whose result and its neighbours are the numbers of float32."""
    m = Machine(F32, mode, seed=1)
    for x in np.random.default_rng(0).standard_normal(200) * 2.0 ** np.arange(-100, 100):
        v = Fraction(float(x))
        got, near = m.fl(v), np.float32(x)
        neighbours = {Fraction(float(near)), *(Fraction(float(np.nextafter(near, s))) for s in (-np.inf, np.inf))}
        assert got in neighbours
        assert abs(got - v) < abs(Fraction(float(np.spacing(near))))
        if mode == "nearest":
            assert got == Fraction(float(near))
        assert {"up": got >= v, "down": got <= v, "out": abs(got) >= abs(v), "in": abs(got) <= abs(v)}.get(mode, True)


def test_past_the_largest_number() -> None:
    most = Fraction(float(np.finfo(np.float32).max))
    assert Machine(F32, infinite=True).fl(-2 * most) == -math.inf
    with pytest.raises(OverflowsError):
        Machine(F32).fl(2 * most)


def of(values: Any, **options: Any) -> Rounded:
    return Rounded(np.asarray(values, np.float32), Machine(F32, infinite=True, **options))


@np.errstate(all="ignore")
def test_infinity_and_nan_are_those_of_ieee() -> None:
    values: Array = np.array([0.0, 1.0, -2.0, np.inf, -np.inf, np.nan], np.float32)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    for operation in (np.add, np.subtract, np.multiply, np.divide, np.greater, np.less_equal, np.equal):
        got = operation(of(x), of(y))
        np.testing.assert_array_equal(got.floats() if isinstance(got, Rounded) else got, operation(x, y))
    for function in (np.exp, np.log, np.log1p, np.sqrt, np.tanh, np.absolute, np.negative, np.expm1):
        np.testing.assert_allclose(function(of(values)).floats(), function(values), rtol=1e-6)


def test_a_sum_goes_by_a_tree_of_its_own_for_each_seed() -> None:
    terms = np.random.default_rng(0).standard_normal(30)
    found = {float(np.sum(of(terms, seed=seed)).floats()) for seed in range(9)}
    assert len(found) > 1
    exact = sum(map(Fraction, map(float, terms.astype(np.float32))))
    assert all(abs(s - exact) < 30 * 2.0**-22 * abs(terms).sum() for s in found)


def test_results_below_the_smallest_normal_number_are_flushed_where_it_says_so() -> None:
    small = np.array([2.0**-70])
    assert (of(small) * of(small)).floats().tolist() == [2.0**-140]
    assert (of(small, flush=True) * of(small, flush=True)).floats().tolist() == [0.0]
