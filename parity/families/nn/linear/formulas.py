"""No other formula of Linear, Identity and Flatten is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Linear": "a product and a sum, of which every order is within the budget",
    "Identity": "nothing is computed",
    "Flatten": "nothing is computed",
}
