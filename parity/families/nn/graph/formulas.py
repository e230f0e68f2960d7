"""No other formula of Graph is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Graph": "it computes nothing but sums and products of values and of gradients",
}
