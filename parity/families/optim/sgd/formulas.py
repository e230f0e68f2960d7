"""No other formula of SGD is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "SGD": "a mean of moments in any order of its terms is within the budget",
}
