import math

import pytest

from parity.run.results import CaseResult, Comparison, Results
from parity.verdict.tensor import TensorVerdict

FAILURE = (
    "1 of 6 elements outside their budget, first [1, 2]: "
    "expected 0.25000000000000000000 within 1e-17, got 0.3000000000000001"
)

TRACEBACK = """\
Traceback:
  File "mine.py", line 7, in vjp
ValueError: [bold]no[/bold] & <no>
"""


@pytest.fixture
def results():
    """refnet conforms; torch uses a weaker formula once; `mine:Engine` fails, raises, and leaves out."""
    rounding = TensorVerdict("output", "rounding", "", 15.654, 1.25, 0.375, (1, 0), 4.4e-16, 0.0)
    exact = TensorVerdict("grad.weight", "exact")
    weaker = TensorVerdict("output", "unstable", "E[x^2] - E[x]^2", 9.25, 12345.6, 1234.5, (0,), 2e-15, 0.125)
    wrong = TensorVerdict("grad.weight", "FAIL", "", 0.7, 9e14, 5.0e15, (1, 2), 0.0, 0.0, FAILURE)
    raised = TensorVerdict("answer", "FAIL", share=math.inf, reason="raised ValueError: [bold]no[/bold] & <no>")
    linear, normal = "Linear/batch 3", "BatchNorm1d/mean 1000, in a rather long name, evaluation"
    half = Comparison(2, 1, 1, 1)
    cases = (
        CaseResult(linear, "grid", "float64", "refnet", (rounding, exact), seconds=0.25),
        CaseResult(linear, "grid", "float64", "torch", (rounding, exact), "", half),
        CaseResult(
            linear, "grid", "float64", "mine:Engine", (rounding, wrong), "", Comparison(2, 1, 1, 0), ("zero: 0",)
        ),
        CaseResult(normal, "full", "float32", "refnet", (rounding,), notes=("free run: uncertified",)),
        CaseResult(normal, "full", "float32", "torch", (weaker,), "", half, notes=("free run: uncertified",)),
        CaseResult(normal, "full", "float32", "mine:Engine", (raised,), traceback=TRACEBACK),
        CaseResult("SGD/lr 0.1", "full", "float32", "refnet", (exact,)),
        CaseResult("SGD/lr 0.1", "full", "float32", "torch", (exact,), "", Comparison(1, 1, 1, 1)),
        CaseResult("SGD/lr 0.1", "full", "float32", "mine:Engine", unsupported="no optimize"),
    )
    return Results(("refnet", "torch", "mine:Engine"), cases, 12.3456, {"python": "3.11.0"})


@pytest.fixture
def conforming(results):
    return Results(("refnet", "torch"), tuple(c for c in results.cases if c.engine != "mine:Engine"), 1.0)
