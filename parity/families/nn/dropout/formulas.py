"""No other formula of Dropout is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Dropout": "one quotient or product for each element",
}
