"""No other formula of Lion is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Lion": "the published code and optax.lion have the same lines; means in any order are within the budget",
}
