"""Mutants of refnet: made in memory, one change each, and judged like any engine."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import refnet
from parity.engines import mutants
from parity.engines.faulty import FaultyEngine
from parity.engines.mutants import KINDS, _changes, classes, fault
from parity.families.listing import catalogue, select
from parity.run import mutating

RESULTS = Path(refnet.__file__).parents[1] / "benchmarks" / "results" / "yardstick" / "mutants.json"
KEPT = json.loads(RESULTS.read_text(encoding="utf-8"))["classes"]


def test_every_class_that_computes_has_some():
    assert {"Linear", "Sigmoid", "Conv2d", "LSTMCell", "CrossEntropyLoss", "SGD"} <= set(classes())
    assert "Sequential" not in classes()
    found = [m for name in classes() for m in mutants.mutants(name)]
    assert {m.kind for m in found} == set(KINDS)
    assert all(m.before != m.after for m in found)
    assert len({(m.type, m.number) for m in found}) == len(found) > 300


def changes(source, name="C"):
    tree = ast.parse(source)
    found = []
    for place, change in _changes(tree, name):
        change.apply()
        found.append((change.kind, place, ast.unparse(change.shown)))
        change.undo()
    assert ast.unparse(tree) == ast.unparse(ast.parse(source))
    return found


def test_the_operators():
    assert changes("class C:\n def f(s, a, b):\n  return -a + b * a.mT") == [
        ("operator", "C.f", "-a - b * a.mT"),
        ("operator", "C.f", "+a"),
        ("operator", "C.f", "b / a.mT"),
        ("operator", "C.f", "a.real"),
    ]
    assert changes("class C:\n def f(s, a):\n  return a > 0") == [
        ("comparison", "C.f", "a >= 0"),
        ("comparison", "C.f", "a < 0"),
        ("constant", "C.f", "a > 1"),
    ]
    assert changes("class C:\n def f(s, a):\n  a += a.sum(axis=-1) / a.shape[0]") == [
        ("operator", "C.f", "a -= a.sum(axis=-1) / a.shape[0]"),
        ("operator", "C.f", "a.sum(axis=-1) * a.shape[0]"),
        ("axis", "C.f", "axis=-2"),
        ("index", "C.f", "a.shape[0 + 1]"),
    ]


def test_what_is_left_alone():
    made = "class C:\n def __init__(s):\n  s.a = 1\n"
    assert changes(made + " def f(s, a):\n  '1'\n  _check.x(1)\n  if a > 1:\n   raise E(1)") == []


def test_helpers_and_bases_in_the_file_count():
    source = "def h(a):\n return a + 1\ndef other():\n return 2\nclass B:\n def g(s):\n  return 3\n"
    found = changes(source + "class C(B):\n def f(s, a):\n  return h(a)")
    assert [place for _, place, _ in found] == ["B.g", "h", "h"]


def test_a_mutant_is_refnet_with_that_change():
    (case,) = (c for c in select("Sigmoid/moderate") if c.name == "Sigmoid/moderate")
    record = case.record("full", "float64")
    first = mutants.mutants("Sigmoid")[0]
    assert (first.before, first.after) == ("dY * (Y * Z)", "dY / (Y * Z)")
    right = FaultyEngine().vjp(record)
    wrong = FaultyEngine(fault(first)).vjp(record)
    assert np.array_equal(wrong["output"], right["output"])
    Y, Z = refnet.arithmetic.special.sigmoids(record.inputs[0])
    assert np.array_equal(wrong["grad_input"], record.grad_outputs[0] / (Y * Z))
    # refnet itself is as it was.
    assert np.array_equal(FaultyEngine().vjp(record)["grad_input"], right["grad_input"])


def test_a_sample_is_the_same_for_the_same_seed():
    whole = mutating.sample("LSTMCell", 1.0, 0)
    assert whole == mutants.mutants("LSTMCell")
    one = mutating.sample("LSTMCell", 0.1, 0)
    assert one == mutating.sample("LSTMCell", 0.1, 0) != mutating.sample("LSTMCell", 0.1, 1)
    assert len(one) == -(-len(whole) // 10)
    assert mutating.sample("Identity", 1.0, 0) == []


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Softmax"])
def test_small_classes_keep_no_mutant_alive(name):
    (found,) = mutating.run([name], "float64", 1.0, 0, 1)
    assert (found.survived, found.share, found.ok) == ((), 1.0, True)
    assert len(found.killed) + len(found.excused) == len(mutants.mutants(name)) > 0


def test_a_hundredth_of_every_class_that_has_cases():
    """At least one mutant of each. None survives but those that the committed results name."""
    names = [name for name in classes() if any(hasattr(c, "spec") and name in c.spec.types() for c in catalogue())]
    found = mutating.run(names, "float64", 0.01, 0, 1)
    assert sum(s.count for s in found) >= len(names) - 1
    listed = {mutant for kept in KEPT for mutant in kept["survived"]}
    assert [mutant for s in found for mutant in s.survived if mutant not in listed] == []


def test_what_is_asked_of_a_class():
    killed = {str(k): "" for k in range(98)}
    assert mutating.Survival("C", killed, ("a", "b"), {}).ok
    assert not mutating.Survival("C", killed, ("a", "b", "c"), {}).ok
    assert mutating.Survival("C", {}, (), {}).ok
    few, many = ({str(k): "why" for k in range(n)} for n in (5, 6))
    assert mutating.all_ok([mutating.Survival("C", killed, (), few)])
    assert not mutating.all_ok([mutating.Survival("C", killed, (), many)])
    assert mutating.all_ok([mutating.Survival("C", killed, (), many)], 0.5)
    assert not mutating.all_ok([mutating.Survival("C", killed, ("a", "b", "c"), {})])


def test_every_excuse_is_written_and_is_of_a_mutant_that_is_there():
    keys = {m.key for name in classes() for m in mutants.mutants(name)}
    assert set(mutating.EXCUSED) <= keys
    assert all(len(reason) > 20 for reason in mutating.EXCUSED.values())
