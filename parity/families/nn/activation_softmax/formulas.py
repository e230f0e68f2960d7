"""Other formulas of Softmin and Softmax2d."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Softmin": "torch computes it as Softmax of -x, of which no other formula is known in use",
    "Softmax2d": "torch computes it as Softmax, of which no other formula is known in use",
}
