"""No other formula of Adadelta is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Adadelta": "the roots and their quotient in any order are within the budget; optax and Keras have the same lines",
}
