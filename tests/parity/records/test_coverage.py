"""The table of coverage says of every class of torch what is true of it."""

import subprocess
import sys

import pytest

import refnet
from parity.records import coverage
from parity.records.facts import MODULES

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def found():
    return {c.package: c for c in coverage.coverage()}


@pytest.mark.parametrize(("package", "base"), [("nn", torch.nn.Module), ("optim", torch.optim.Optimizer)])
def test_every_class_of_torch_has_one_place(found, package, base):
    c = found[f"torch.{package}"]
    names = [*c.covered, *c.not_yet, *c.out_of_scope]
    theirs = [n for n, v in vars(getattr(torch, package)).items() if isinstance(v, type) and issubclass(v, base)]
    assert sorted(names) == sorted(theirs)
    assert c.count == len(theirs)


def test_covered_is_what_is_judged(found):
    """Every class with a row in the table of facts, and no other but containers; each optimizer."""
    nn, optim = found["torch.nn"], found["torch.optim"]
    assert {*nn.covered, *nn.own} - {"Sequential"} == {*MODULES}
    assert {*optim.covered} == {*refnet.optim.__all__} - {*optim.own}
    assert {"HalfSquaredError", "SwiGLU", "GEGLU"} <= {*nn.own}


def test_what_is_out_of_scope_is_torchs_and_not_covered(found):
    for c in found.values():
        listed = coverage.OUT_OF_SCOPE[c.package.removeprefix("torch.")]
        assert {*listed} == {*c.out_of_scope}, "a class that torch does not have"
        assert not {*listed} & {*MODULES, *refnet.optim.__all__}
        assert all(listed.values())


def test_a_class_that_refnet_gets_is_covered_by_itself(monkeypatch):
    before = coverage.coverage()[0]
    name = before.not_yet[0]
    monkeypatch.setattr(refnet.nn, name, type(name, (), {}), raising=False)
    monkeypatch.setattr(refnet.nn, "__all__", [*refnet.nn.__all__, name])
    after = coverage.coverage()[0]
    assert after.covered == tuple(sorted([*before.covered, name]))
    assert name not in after.not_yet


def test_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "parity", "coverage"], capture_output=True, text=True, check=True, timeout=120
    )
    text = " ".join(done.stdout.split())
    for c in coverage.coverage():
        assert f"{c.package} {c.version}: {c.count} classes, {len(c.covered)} covered" in text
        for name in (*c.covered, *c.not_yet, *c.out_of_scope):
            assert name in text
