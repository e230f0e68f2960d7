"""No other formula of Sequential is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Sequential": "it computes nothing but sums of gradients",
}
