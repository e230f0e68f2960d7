"""Another form of AdamW's decay. Its other formulas are Adam's."""

from __future__ import annotations

from typing import Any

from parity.families.fault import replaced
from parity.families.formula import Variant
from refnet.arithmetic import special


def _by_the_schedule_alone(opt: Any, right: Any, P: Any, group: Any) -> None:
    # theta[.] = theta[.] - lambda theta[.]
    P[...] = P - special.lift(group["weight_decay"], P) * P


CONVENTIONS = (
    Variant(
        "decay not scaled by the rate",
        "theta - lambda theta in place of theta - alpha lambda theta: the decay is scaled by a schedule alone.",
        "I. Loshchilov, F. Hutter, 'Decoupled weight decay regularization', ICLR 2019, algorithm 2, line 12",
        {"AdamW": replaced("decay", _by_the_schedule_alone)},
    ),
)
