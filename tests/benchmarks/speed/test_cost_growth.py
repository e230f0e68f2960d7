"""How cost grows: on small values, and on made-up times."""

import subprocess
import sys

import numpy as np
import pytest

import refnet
from benchmarks.speed import cost_growth
from benchmarks.speed.contenders import on_refnet
from benchmarks.speed.cost_growth import Point
from benchmarks.speed.networks import perceptron

SMALL = {"width": (2, 4), "depth": (1, 2), "batch": (1, 2), "runs": (1, 2), "updates": (5, 110), "cases": (1, 2)}
NETWORK = perceptron(4, 3, 2, batch=2)


def test_every_axis_value_and_contender(monkeypatch):
    on_refnet.study.cache_clear()
    monkeypatch.setattr(on_refnet, "STUDY", 150)
    judged = []
    monkeypatch.setattr("parity.run.judging.run", lambda cases, engines, dtypes, jobs: judged.append(len(cases)))
    told = []
    points = cost_growth.measure("float64", 3, 1e-4, SMALL, told.append)
    both = ("refnet-plain", "refnet-captured")
    contenders = {axis: ("refnet-ensemble",) if axis == "runs" else both for axis in SMALL} | {"cases": ("parity",)}
    assert [(p.axis, p.value, p.contender) for p in points] == [
        (axis, value, name) for axis, values in SMALL.items() for value in values for name in contenders[axis]
    ]
    assert all(len(p.seconds) == 3 and not p.reason for p in points)
    assert all(np.isnan(p.exponent) == (p.value == SMALL[p.axis][0]) for p in points)
    assert all(np.isnan(p.memory) == (p.axis != "updates") for p in points)
    assert judged == [1, 2] * 3
    assert [text.removeprefix("growth: ") for text in told] == list(SMALL)
    on_refnet.study.cache_clear()
    assert set(cost_growth.OF) == set(cost_growth.VALUES) == set(cost_growth.QUICK) == set(SMALL)


def test_cases_are_judged():
    (point,) = cost_growth._cases((2,), rounds=1)
    assert point.median > 0


@pytest.mark.parametrize(("times", "power"), [((3.0, 3.0), 0), ((3.0, 12.0), 1), ((3.0, 48.0), 2)])
def test_powers(times, power):
    points = [Point("width", value, "a", np.array([time])) for value, time in zip((2, 8), times, strict=True)]
    first, second = cost_growth._with_exponents(points)
    assert np.isnan(first.exponent)
    assert second.exponent == pytest.approx(power)


PEAKS = """
import sys
from benchmarks.speed import cost_growth
from benchmarks.speed.networks import perceptron
from refnet.train.capture import captured

network, capture, share = perceptron(4, 3, 2, batch=2), sys.argv[1] != "plain", float(sys.argv[2])
# Whether machine code pays, and how many updates a call of it takes, would hang on a clock.
captured.PAID_BACK, captured.AT_ONCE = share, 0.0
cost_growth.peak(network, capture, 300)
for updates in (300, 1_500):
    # The least of three: tables of the interpreter's own grow now and then.
    print(min(cost_growth.peak(network, capture, updates) for _ in range(3)))
"""


@pytest.mark.parametrize("way", ["plain", "replayed", "machine code"])
def test_memory_is_flat_over_updates(way):
    # In a process of its own: other threads of this one take memory too.
    command = [sys.executable, "-c", PEAKS, way, "inf" if way == "machine code" else "-1"]
    few, many = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert abs(many - few) < 20_000


def test_memory_that_is_not_flat_is_seen(monkeypatch):
    true, kept = refnet.fit, []

    def leaking(net, *args, **options):
        return true(net, *args, **options, callback=lambda k, loss: kept.append(np.empty(10)))

    monkeypatch.setattr(refnet, "fit", leaking)
    # What the first training of a process makes once, such as caches, is not counted.
    _, few, many = (cost_growth.peak(NETWORK, False, updates) for updates in (300, 300, 1_500))
    assert many - few > 1_200 * 80
