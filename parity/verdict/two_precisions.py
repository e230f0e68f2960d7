"""Wrong, or right and inaccurate: an engine's answers in two precisions at the same inputs.

The error of a wrong formula stays when the precision grows; that of a right formula, however weak, is rounding, and
shrinks with the unit roundoff u. With r the largest error over the truth's largest element,

    p = log(r_coarse / r_fine) / log(u_coarse / u_fine)

is near 1 for rounding and near 0 for a mistake. In 200 seeds of a dozen weak and a dozen wrong formulas it was 0.85 to
1.18 for the ones and -0.03 to 0.36 for the others. Between OPEN nothing is concluded. This is a measurement and no
theorem: where the coarser format overflows, or has lost all digits, the error cannot shrink as it should, and nothing
is concluded either. Inputs that are better conditioned tell more then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.budget.formats import FORMATS
from parity.truth.value import Truth
from parity.verdict.tensor import TensorVerdict

__all__ = ["OPEN", "TwoPrecisions", "compared", "reconsidered"]

OPEN = (0.4, 0.8)
"""Exponents between which nothing is concluded."""

LOST = 0.5
"""From this error on, over the largest element, an answer has no digit left."""


@dataclass(frozen=True)
class TwoPrecisions:
    """What two answers show.

    Attributes:
        exponent: p; NaN where there is none. coarse, fine: the largest errors over the truth's largest element.
        finding: `inaccurate` (right, in a weaker form), `wrong`, or `open`.
    """

    exponent: float
    coarse: float
    fine: float
    finding: str


def compared(coarse: Any, fine: Any, truth: Truth, formats: tuple[str, str] = ("float32", "float64")) -> TwoPrecisions:
    """An engine's answers at the same inputs, in a coarser and a finer format, against one truth.

    Args:
        coarse, fine: the answers. The inputs are numbers of the coarser format, so that both formats hold them.
        truth: at those inputs. formats: the names of the two.

    Raises:
        ValueError: an answer has another shape than the truth.
    """
    for answer in (coarse, fine):
        if np.shape(answer) != truth.shape:
            raise ValueError(f"compared: expected answers of shape {truth.shape}, got {np.shape(answer)}")
    first, second = (_error(answer, truth) for answer in (coarse, fine))
    if not (0 < second < math.inf and 0 < first < math.inf):
        return TwoPrecisions(math.nan, first, second, "open")
    u, v = (FORMATS[name].u for name in formats)
    p = math.log(first / second) / math.log(u / v)
    finding = "inaccurate" if p >= OPEN[1] else "wrong" if p <= OPEN[0] else "open"
    # An error that has nowhere to grow does not shrink either. A finer answer without a digit left is wrong anyway.
    if finding == "wrong" and first >= LOST > second:
        finding = "open"
    return TwoPrecisions(p, first, second, finding)


def reconsidered(verdict: TensorVerdict, two: TwoPrecisions) -> TensorVerdict:
    """A failing verdict on the finer answer, in the light of both: `unstable` where the formula is right and weak.

    Everything else stays as it is; what was found is told in the reason.
    """
    if verdict.verdict != "FAIL" or math.isnan(two.exponent):
        return verdict
    if two.finding == "inaccurate":
        formula = (
            f"a weaker form of the right formula: its error shrinks with the unit roundoff (p = {two.exponent:.2f})"
        )
        return replace(verdict, verdict="unstable", formula=formula, reason="", detection_limit=two.fine)
    said = "a wrong formula's error" if two.finding == "wrong" else "wrong or inaccurate, nothing is concluded"
    words = f"in two precisions: {two.coarse:.1e} and {two.fine:.1e} of the largest element, p = {two.exponent:.2f}"
    return replace(verdict, reason=f"{verdict.reason}; {words}: {said}")


def _error(answer: Any, truth: Truth) -> float:
    """The largest error over the truth's largest element; infinity where a number is due and none came."""
    values = np.asarray(answer, np.float64)
    known = ~(truth.undecided | np.isnan(truth.hi))
    with np.errstate(all="ignore"):
        error = np.where(known, truth.error(values), 0.0)
    largest = float(abs(truth.hi).max(initial=0.0, where=known))
    worst = float(np.where(np.isnan(error), np.inf, error).max(initial=0.0))
    return worst / largest if largest else worst
