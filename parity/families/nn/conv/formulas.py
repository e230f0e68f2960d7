"""No other formula of Conv2d is known."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "Conv2d": "sums of products in any order; Winograd and FFT are outside the model",
}
