"""Records of a run: the worst of many, and totals."""

import math
import shlex

from parity.run.results import CaseResult, Comparison, Results, total
from parity.verdict.table import TABLE
from parity.verdict.tensor import TensorVerdict


def result(engine, verdicts=(), case="Linear/a", unsupported="", comparison=None):
    return CaseResult(case, "full", "float64", engine, tuple(verdicts), unsupported, comparison)


def tensor(verdict, share=0.0, name="t", formula=""):
    return TensorVerdict(name, verdict, formula, share=share)


def test_a_case():
    case = result("mine", [tensor("exact"), tensor("rounding", 0.5), tensor("rounding", 0.75, "u")])
    assert (case.group, case.verdict, case.conforms, case.worst_tensor.name) == ("Linear", "rounding", True, "u")
    case = result("mine", [tensor("FAIL", 2.0), tensor("unstable", 99.0)])
    assert (case.verdict, case.conforms, case.worst_tensor.verdict) == ("FAIL", False, "FAIL")
    case = result("mine", unsupported="no vjp")
    assert (case.verdict, case.conforms, case.worst_tensor) == ("unsupported", True, None)
    against = {row.name for row in TABLE if not result("mine", [tensor(row.name)]).conforms}
    assert against == {"FAIL", "undecided", "imprecise"}


def test_comparisons_add_up():
    a, b = Comparison(4, 3, 2, 1), Comparison(1, 1, 1, 1)
    assert a + b == Comparison(5, 4, 3, 2)
    assert total([result("x", comparison=a), result("x"), result("x", comparison=b)]) == a + b
    assert total([result("x")]) is None


def test_a_summary():
    results = Results(
        ("first", "mine"),
        (
            result("first", [tensor("exact")]),
            result("mine", [tensor("rounding", 0.25), tensor("exact")], "Linear/a", comparison=Comparison(2, 1, 1, 1)),
            result("mine", [tensor("unstable", 7.0, "v", "weaker"), tensor("rounding", 0.9)], "Tanh/b"),
            result("mine", [tensor("rounding", 0.5)], "Tanh/c"),
            result("mine", [tensor("convention", 8.0, "w", "elsewhere"), tensor("undecided")], "Linear/c"),
            result("mine", [tensor("FAIL", math.inf), tensor("rounding", 0.95)], "Linear/d"),
            result("mine", unsupported="no vjp", case="Linear/e"),
            result("mine", unsupported="no vjp", case="Linear/e"),
        ),
        1.0,
    )
    s = results.summary("mine")
    assert (s.engine, s.cases, s.records, s.tensors, s.failed, s.unsupported) == ("mine", 6, 7, 9, 2, 2)
    counted = {"exact": 1, "rounding": 4, "unstable": 1, "convention": 1, "undecided": 1, "FAIL": 1}
    assert {name: n for name, n in s.verdicts.items() if n} == counted
    assert s.formulas == {"weaker": 1, "elsewhere": 1}
    assert s.reasons == {"no vjp": 2}
    # What comes beside a weaker formula, or a failure, is no right result's share.
    assert (s.largest_share, s.largest_share_at) == (0.25, "Linear/a, full float64, t")
    # Elsewhere in that group the engine's formula is the weaker one too, and its share is told apart.
    assert (s.weaker_share, s.weaker_share_at) == (0.5, "Tanh/c, full float64, t")
    assert s.comparison == Comparison(2, 1, 1, 1)
    assert not s.conforms
    assert not results.conforms
    assert results.summary("first").conforms
    assert results.summary("first").comparison is None


def test_nothing_judged_does_not_conform():
    unsupported = Results(("mine",), (result("mine", unsupported="no cuda here"),), 0.0)
    assert not unsupported.summary("mine").conforms
    assert not unsupported.conforms
    # One engine's answers are not another's.
    both = Results(("first", "mine"), (result("first", [tensor("exact")]), *unsupported.cases), 0.0)
    assert both.summary("first").conforms
    assert not both.conforms


def test_a_blind_tensor_counts_where_no_other_record_of_its_class_sees_it():
    blind = result("mine", [tensor("blind"), tensor("exact", name="u")])
    alone = Results(("mine",), (blind, result("mine", [tensor("rounding")], "Tanh/a")), 0.0)
    s = alone.summary("mine")
    assert (s.failed, s.unseen, s.verdicts["blind"], s.conforms) == (0, ("Linear float64 t",), 1, False)
    other = CaseResult("Linear/b", "full", "float32", "mine", (tensor("rounding"),))
    assert Results(("mine",), (blind, other), 0.0).summary("mine").unseen == ("Linear float64 t",)
    for name in ("t", "part 2 t"):
        seen = Results(("mine",), (blind, result("mine", [tensor("rounding", name=name)], "Linear/b")), 0.0)
        assert (seen.summary("mine").unseen, seen.conforms) == ((), True)


def test_coverage():
    cases = (result("mine", [tensor("FAIL")]), result("mine", unsupported="no vjp", case="Tanh/a"))
    s = Results(("mine",), cases, 0.0).summary("mine")
    assert (s.records, s.judged, s.coverage, s.classes, s.classes_judged) == (2, 1, 50.0, 2, 1)


def test_the_command_of_one_record():
    odd = CaseResult("Linear/it's [a] case", "full", "float64", "my.module:Engine")
    assert shlex.split(odd.command) == [
        *("parity", "run", "--case", odd.case, "--family", "full", "--dtype", "float64"),
        *("--engine", "my.module:Engine"),
    ]


def test_a_summary_of_nothing():
    s = Results(("mine",), (), 0.0).summary("mine")
    assert (s.records, s.largest_share, s.largest_share_at, s.comparison, s.conforms) == (0, 0.0, "", None, False)
    assert s.coverage == 0
