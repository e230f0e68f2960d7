"""LSTMCell."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given


def _lstm(
    what: str,
    *lead: int,
    x: int = 4,
    h: int = 3,
    scale: float = 1.0,
    bias: bool = True,
    states: Draw | None = None,
    dH: Draw | None = None,
    dC: Draw | None = None,
    X: Draw | None = None,
    extra: dict[str, Draw] | None = None,
    stateless: bool = False,
    families: tuple[str, ...] = FAMILIES,
) -> VJPCase:
    """`scale` is the weights'; a `stateless` one is asked with its input alone."""
    z, state = 4 * h, Draw((*lead, h))
    args: dict[str, Any] = {"input_size": x, "hidden_size": h, **({} if bias else {"bias": False})}
    arrays = {"weight_ih": Draw((z, x), scale=scale), "weight_hh": Draw((z, h), scale=scale)}
    if bias:
        arrays |= {"bias_ih": Draw((z,)), "bias_hh": Draw((z,))}
    return VJPCase(
        f"LSTMCell/{what}",
        Spec("LSTMCell", args),
        (X or Draw((*lead, x)), *(() if stateless else (states or state, states or state))),
        (dH or state, dC or state),
        arrays | (extra or {}),
        families=families,
    )


# Biases that hold gates shut or open: input shut and forget open (the state is kept), and the reverse.
KEEPS = given((12,), *(-32.0,) * 3, *(32.0,) * 3, *(0.0,) * 6)
REPLACES = given((12,), *(32.0,) * 3, *(-32.0,) * 3, *(0.0,) * 6)
ZEROS = given((3, 3), 0.0)

CASES = (
    *(_lstm(f"batch {n}", n) for n in (0, 1, 3, 7)),
    _lstm("no batch axis"),
    _lstm("small weights", 3, scale=0.125),
    _lstm("zero states", 3, states=ZEROS),
    _lstm("no states", 2, stateless=True, families=FULL),
    _lstm("no states, no batch axis", stateless=True, families=FULL),
    _lstm("without bias", 3, bias=False),
    _lstm("without bias, zero states", 3, bias=False, states=ZEROS),
    _lstm("one input, one hidden unit", 3, x=1, h=1),
    _lstm("more hidden units than inputs", 2, x=2, h=6),
    _lstm("gradient of the output alone", 3, dC=ZEROS),
    _lstm("gradient of the state alone", 3, dH=ZEROS),
    _lstm("gradients one-hot", 3, dH=Draw((3, 3), "onehot"), dC=Draw((3, 3), "onehot")),
    _lstm("gradients of stride zero", 3, dH=Draw((3, 3), layout="expanded"), dC=Draw((3, 3), layout="expanded")),
    _lstm("gradients transposed and sliced", 3, dH=Draw((3, 3), layout="transposed"), dC=Draw((3, 3), layout="sliced")),
    _lstm(
        "input and states transposed", 3, X=Draw((3, 4), layout="transposed"), states=Draw((3, 3), layout="transposed")
    ),
    _lstm("gates saturated", 3, scale=8.0),
    _lstm("gates saturated beyond float32", 3, scale=64.0),
    _lstm("state kept by its gates", 3, scale=0.125, extra={"bias_ih": KEEPS}),
    _lstm("state replaced by its gates", 3, scale=0.125, extra={"bias_ih": REPLACES}),
    _lstm("states of a hundred", 3, scale=0.125, states=Draw((3, 3), scale=64.0)),
)
