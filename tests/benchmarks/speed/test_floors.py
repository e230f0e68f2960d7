"""What is asked, against made-up times."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.floors import FLOORS, findings
from benchmarks.speed.networks import NETWORKS
from benchmarks.speed.timed_rounds import Outcome


def outcome(network, contender, *seconds, **options):
    (network,) = (n for n in NETWORKS if n.name == network)
    (contender,) = (c for c in CONTENDERS if c.name == contender)
    return Outcome(contender, network, "measured", seconds=np.array(seconds), **options)


def found(outcomes, network, over, under):
    (finding,) = (
        f for f in findings(outcomes) if (f.floor.network, f.floor.over, f.floor.under) == (network, over, under)
    )
    return finding


@pytest.mark.parametrize(
    ("network", "over", "under", "times", "met"),
    [
        ("2-2-2", "torch-eager", "refnet-captured", (14.0, 15.0, 30.0), True),
        ("2-2-2", "torch-eager", "refnet-captured", (14.0, 14.9, 30.0), False),
        ("784-512-512-10", "refnet-captured", "products", (1.0, 1.3, 9.0), True),
        ("784-512-512-10", "refnet-captured", "products", (1.0, 1.31, 1.4), False),
        ("784-128-10", "jax-loop", "refnet-captured", (0.9, 0.9, 0.9, 1.0, 1.1), True),
        ("784-128-10", "jax-loop", "refnet-captured", (0.9, 0.9, 0.9, 0.9, 1.1), False),
        ("256x2-2-2", "jax-vmap", "refnet-ensemble", (0.1, 0.2, 0.3), None),
    ],
)
def test_bounds(network, over, under, times, met):
    pair = [outcome(network, over, *times), outcome(network, under, *([1.0] * len(times)))]
    finding = found(pair, network, over, under)
    assert finding.met is met
    np.testing.assert_array_equal(finding.ratios, times)


@pytest.mark.parametrize(("plain", "same_bits", "met"), [(1.0, True, True), (0.99, True, False), (2.0, False, False)])
def test_captured_is_never_slower_and_has_the_same_bits(plain, same_bits, met):
    pair = [
        outcome("cnn-14x14", "refnet-plain", *[plain] * 3),
        outcome("cnn-14x14", "refnet-captured", 1.0, 1.0, 1.0, same_bits=same_bits),
    ]
    assert found(pair, "cnn-14x14", "refnet-plain", "refnet-captured").met is met


def test_what_was_not_measured_is_not_met():
    (torch,) = (c for c in CONTENDERS if c.name == "torch-eager")
    (network,) = (n for n in NETWORKS if n.name == "2-2-2")
    pair = [Outcome(torch, network, "not installed", "no module torch"), outcome("2-2-2", "refnet-captured", 1.0)]
    finding = found(pair, "2-2-2", "torch-eager", "refnet-captured")
    assert finding.met is None
    assert finding.reason == "torch-eager not installed"
    assert found(pair, "64-64-10", "torch-eager", "refnet-captured").reason == "not part of this run"


def test_the_floors_are_asked_in_the_networks_dtypes_on_one_thread():
    pair = [outcome("2-2-2", name, 1.0) for name in ("refnet-plain", "refnet-captured")]
    assert len(findings(pair)) == len(FLOORS) + 1
    single = [replace(o, network=replace(o.network, dtype="float32")) for o in pair]
    for found in (findings(single), findings(pair, threads=2)):
        assert [finding.floor.over for finding in found] == ["refnet-plain"]


def test_the_floors_of_the_issues():
    assert [(f.network, f.over, f.under, f.says) for f in FLOORS] == [
        ("2-2-2", "torch-eager", "refnet-captured", "at least 15"),
        ("64-64-10", "torch-eager", "refnet-captured", "at least 6"),
        ("784-128-10", "torch-eager", "refnet-captured", "at least 1.5"),
        ("784-128-10", "jax-loop", "refnet-captured", "level: 1"),
        ("784-512-512-10", "torch-eager", "refnet-captured", "at least 1.2"),
        ("784-512-512-10", "refnet-captured", "products", "at most 1.3"),
        ("adam", "torch-eager", "refnet-captured", "at least 6"),
        ("encoder", "refnet-captured", "torch-eager", "at most 1.5"),
        ("mlp-block", "refnet-captured", "torch-eager", "at most 1.5"),
        ("layernorm", "refnet-captured", "torch-eager", "at most 2"),
        ("gelu", "refnet-captured", "torch-eager", "at most 2"),
        ("attention", "refnet-captured", "torch-eager", "at most 2"),
        ("256x2-2-2", "torch-func", "refnet-ensemble", "at least 6"),
        ("256x2-2-2", "jax-vmap", "refnet-ensemble", "as near as possible"),
    ]
