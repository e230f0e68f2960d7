"""Another formula of Rprop. Letters as there: g gradient, c sign of the product, d step."""

from __future__ import annotations

from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Variant


def _of_the_product(opt: Any, right: Any, G: Any, before: Any) -> Any:
    # c[.] has the sign of g[.] g'[.]
    return G * before


WEAKER = (
    Variant(
        "sign(g g')",
        "The sign of a product, which underflows to 0 for small gradients: with 1e-25 in float32 the step neither "
        "grows nor shrinks.",
        "torch: torch/optim/rprop.py, _single_tensor_rprop, sign = grad.mul(prev).sign()",
        {"Rprop": replaced("sign_of_product", _of_the_product)},
        ("torch",),
    ),
)
