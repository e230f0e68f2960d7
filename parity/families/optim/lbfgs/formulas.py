"""Other formulas of LBFGS."""

from __future__ import annotations

NO_OTHER = {
    "LBFGS": "The two loops have one form; of line searches each library has its own, and none is another form of "
    "this one.",
}
