"""SiLU, GELU, Mish, Softplus, LogSigmoid, Softsign, Tanhshrink."""

from __future__ import annotations

from parity.families.case import FULL, Draw, Spec, VJPCase, given
from parity.families.nn.activation.cases import SMALL, elementwise

# Where the result is far below 1 and not yet 0, in both formats.
TAIL = (-3.0, -4.5, -6.0, -7.5, -9.0, -10.5, -12.0, -13.5, 3.0, 4.5, 6.0, 9.0)
# exp(2 x) overflows, but exp(x) does not.
HUGE = (45.0, 88.0, 356.0, 700.0, -45.0, -88.0, -356.0, -700.0)
# At 0, and on both sides of it.
ZERO = (0.0, -0.0, 1 / 64, -1 / 64, 1.0, -1.0, 0.0, -0.0)


def _tail(name: str, *arguments: dict[str, str]) -> tuple[VJPCase, ...]:
    return tuple(
        VJPCase(
            f"{name}/in the tail{''.join(f', {value}' for value in args.values())}",
            Spec(name, args),
            (given((3, 4), *TAIL),),
            (Draw((3, 4)),),
            families=FULL,
        )
        for args in arguments or ({},)
    )


def _huge(name: str, **args: str) -> VJPCase:
    return VJPCase(f"{name}/huge", Spec(name, args), (given((2, 4), *HUGE),), (Draw((2, 4)),), families=FULL)


CASES = (
    *elementwise("SiLU"),
    *_tail("SiLU"),
    *elementwise("GELU", {}, {"approximate": "tanh"}),
    *_tail("GELU", {}, {"approximate": "tanh"}),
    _huge("GELU", approximate="tanh"),
    *elementwise("Mish"),
    *_tail("Mish"),
    _huge("Mish"),
    *elementwise(
        "Softplus",
        {},
        {"beta": 0.5, "threshold": 2},
        {"beta": -2.0, "threshold": 1.0},
        kinks=(4.0, 4.03125, 3.96875, -0.5, -0.515625, -0.484375, 20.0, 20.125, 0.0),
    ),
    *elementwise("LogSigmoid"),
    *elementwise("Softsign", kinks=ZERO),
    # Of the difference near 0 nothing is seen; with larger numbers in the tensor the others are judged beside them.
    *elementwise("Tanhshrink", small=(*SMALL, 0.125, -0.125)),
)
