"""Mutants of refnet: made in memory, one change each, and judged like any engine."""

import ast
import json
import platform
from pathlib import Path

import numpy as np
import pytest

import refnet
from parity.engines import mutants
from parity.engines.faulty import NO_FAULT, FaultyEngine
from parity.engines.mutants import KINDS, _anywhere, _changes, classes, fault
from parity.families.listing import catalogue, select
from parity.run import mutating
from parity.vectors import catalogue_answers
from parity.verdict.score import killed

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


def test_of_a_whole_file_every_line_is_changed_but_for_messages():
    source = (
        "N = 3\nclass C:\n K: int = 4\n def __init__(s, a, b=1, *, c=2):\n  if a > N:\n   raise E(f'{a + 1}', a + 1)\n"
        "  _check.size(a, 5)\ndef f():\n def g(a):\n  return -a\n return g\n"
    )
    tree = ast.parse(source)
    found = []
    for place, change in _anywhere(tree):
        change.apply()
        found.append((place, ast.unparse(change.shown)))
        change.undo()
    assert ast.unparse(tree) == ast.unparse(ast.parse(source))
    assert found == [
        ("module", "N = 4"),
        ("C", "K: int = 5"),
        ("C.__init__", "b=2"),
        ("C.__init__", "c=3"),
        ("C.__init__", "a >= N"),
        ("C.__init__", "a < N"),
        ("C.__init__", "_check.size(a, 6)"),
        ("f", "+a"),
    ]


def test_a_changed_file_has_one_change():
    first = mutants.in_file("refnet.amp.grad_scaler")[0]
    assert (first.before, first.after) == ("2.0 ** 16", "3.0 ** 16")
    right, wrong = (ast.unparse(mutants.changed_file(first.type, n)).splitlines() for n in (None, 0))
    assert (
        right == ast.unparse(ast.parse(Path(refnet.amp.grad_scaler.__file__).read_text(encoding="utf-8"))).splitlines()
    )
    ((before, after),) = ((a, b) for a, b in zip(right, wrong, strict=True) if a != b)
    assert before.replace(first.before, first.after) == after


def test_what_only_refuses_is_left_alone():
    checks = (
        " def f(s, a):\n  if a > 1:\n   _check.x(1)\n  most = a + 1\n  if most > 2:\n   raise E(most + 1)\n  return -a"
    )
    assert [text for _, _, text in changes("class C:\n" + checks)] == ["+a"]
    # What is computed with is no refusal, though one reads it too.
    both = " def f(s, a):\n  most = a + 1\n  if most > 2:\n   raise E(1)\n  return most"
    assert [text for _, _, text in changes("class C:\n" + both)] == ["a - 1", "a + 2"]


def test_a_call_whose_value_is_dropped_is_left_alone_where_it_has_one():
    shape = "def shape(a):\n return a + 1\ndef step(a):\n a += 1\n"
    assert changes(shape + "class C:\n def f(s, a):\n  shape(a - 1)") == []
    assert [text for _, _, text in changes(shape + "class C:\n def f(s, a):\n  step(a)")] == ["a -= 1", "a += 2"]
    assert [text for _, _, text in changes(shape + "class C:\n def f(s, a):\n  b = shape(a)")] == ["a - 1", "a + 2"]


def test_the_open_size_of_a_reshape_is_left_alone():
    """NumPy takes -2 there as it takes -1."""
    x = np.arange(6)
    assert np.array_equal(x.reshape(-2, 3), x.reshape(-1, 3))
    source = "class C:\n def f(s, a):\n  return a.reshape(-1, 3)"
    assert [text for _, _, text in changes(source)] == ["a.reshape(-1, 4)"]


def test_a_shared_base_is_changed_in_all_its_classes():
    (decay,) = (m for m in mutants.mutants("Optimizer") if m.before == "P - gamma * lambda_ * P" and "+" in m.after)
    assert set(mutants.bearers("Optimizer")) == {name for name in refnet.optim.__all__ if name != "Optimizer"}
    P, G = np.full(2, 4.0), np.zeros(2)
    opt = refnet.optim.AdamW({"w": P}, lr=0.5, weight_decay=0.5)
    fault(decay).patches["AdamW"](opt)
    opt.step({"w": G})
    assert P.tolist() == [5.0, 5.0]
    # refnet's own classes are as they were.
    refnet.optim.AdamW({"w": P}, lr=0.5, weight_decay=0.5).step({"w": G})
    assert P.tolist() == [3.75, 3.75]


def test_another_choice_at_a_kink_is_noticed():
    (at_0,) = (m for m in mutants.mutants("ReLU") if (m.before, m.after) == ("X <= 0", "X < 0"))
    cases = [c for c in catalogue() if hasattr(c, "spec") and c.spec.type == "ReLU"]
    assert list(killed([fault(at_0)], cases, catalogue_answers.truths, "float64")) == [str(at_0)]


def test_dropout_draws_the_masks_of_its_cases():
    torch = pytest.importorskip("torch")
    own, cases = mutants.drawing(NO_FAULT), [c for c in catalogue() if c.name in mutating.DRAWN]
    assert len(cases) == len(mutating.DRAWN)
    assert killed([own], cases, catalogue_answers.truths, "float64") == {}
    for case in cases:
        record = case.record("full", "float64")
        right, drawn = FaultyEngine().vjp(record), FaultyEngine(own).vjp(record)
        assert all(np.array_equal(right[name], drawn[name]) for name in right)
        if platform.machine() == "x86_64":
            torch.manual_seed(0)
            mask = torch.nn.functional.dropout(torch.ones(3, 5, dtype=torch.float64), record.spec.args["p"])
            assert np.array_equal(mask.numpy() != 0, record.inputs[1])


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


def test_the_committed_results_keep_what_is_asked():
    """Of every class at least 98% are killed, the excused apart; no more than 5% of all are excused; each is needed."""
    assert {kept["class"] for kept in KEPT} == set(classes())
    excused = sum(len(kept["excused"]) for kept in KEPT)
    assert excused <= 0.05 * sum(kept["mutants"] for kept in KEPT)
    for kept in KEPT:
        judged = kept["mutants"] - len(kept["excused"])
        assert kept["killed"] >= 0.98 * judged, kept["class"]
        assert kept["killed"] + len(kept["survived"]) == judged
    by_text = {str(m): m.key for name in classes() for m in mutants.mutants(name)}
    used = {by_text[text] for kept in KEPT for text in kept["excused"]}
    assert used == set(mutating.EXCUSED)


def test_every_excuse_is_written_and_is_of_a_mutant_that_is_there():
    keys = {m.key for name in classes() for m in mutants.mutants(name)}
    assert set(mutating.EXCUSED) <= keys
    assert all(len(reason) > 20 for reason in mutating.EXCUSED.values())
