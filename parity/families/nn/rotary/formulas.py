"""No other formula of RotaryEmbedding is known; its two layouts are an argument."""

from __future__ import annotations

from collections.abc import Mapping

NO_OTHER: Mapping[str, str] = {
    "RotaryEmbedding": "two products and a sum for each element, as complex numbers or not",
}
