"""Other formulas of SparseAdam. Letters as there: m and v moments, C1 and C2 corrections."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Variant
from parity.families.optim.adam.formulas import quotient
from refnet.arithmetic import special


def _mean(opt: Any, right: Any, M: Any, beta: float, X: Any) -> Any:
    # m[.] + (1 - beta) (x[.] - m[.])
    return M + special.lift(1 - Fraction(beta), X) * (X - M)


def _mean_of_squares(opt: Any, right: Any, V: Any, beta: float, X: Any) -> Any:
    return _mean(opt, right, V, beta, X * X)


def _both(opt: Any) -> None:
    replaced("moving_average", _mean)(opt)
    replaced("moving_average_of_squares", _mean_of_squares)(opt)


WEAKER = (
    Variant(
        "m + (1 - beta)(x - m)",
        "Both means as a step towards the new value: x - m is rounded where beta m + (1 - beta) x is exact, for every "
        "beta, 0 too.",
        "torch: torch/optim/_functional.py, sparse_adam, grad_values.sub(old_exp_avg_values).mul_(1 - beta1)",
        {"SparseAdam": _both},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "epsilon after the correction",
        "m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps), as Adam has it. It differs in the first steps where the "
        "gradient is about as small as eps.",
        "D. P. Kingma, J. Ba, ICLR 2015, algorithm 1; the documentation of torch.optim.Adam",
        {"SparseAdam": replaced("quotient", lambda opt, right, *parts: quotient(*parts))},
    ),
)
