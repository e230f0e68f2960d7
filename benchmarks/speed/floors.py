"""What refnet's speed must be, as ratios within one run, and what a run found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.networks import NETWORKS
from benchmarks.speed.timed_rounds import Outcome, ratios


@dataclass(frozen=True)
class Floor:
    """A bound on how many times as long one contender takes as another.

    Attributes:
        over, under: the ratio is over's time divided by under's.
        bound: what it must be; None where it is only told.
        kind: "least" and "most" bound the median. "level" asks that a quarter of the rounds or more are at the bound:
            then the two cannot be told apart, or `under` is ahead.
        same_bits: whether `under` must also have the bits of `over`.
    """

    network: str
    over: str
    under: str
    bound: float | None
    kind: str = "least"
    same_bits: bool = False

    @property
    def says(self) -> str:
        if self.bound is None:
            return "as near as possible"
        words = {"least": "at least", "most": "at most", "level": "level:"}
        return f"{words[self.kind]} {self.bound:g}" + ", same bits" * self.same_bits


FLOORS = (
    Floor("2-2-2", "torch-eager", "refnet-captured", 15),
    Floor("64-64-10", "torch-eager", "refnet-captured", 6),
    Floor("784-128-10", "torch-eager", "refnet-captured", 1.5),
    Floor("784-128-10", "jax-loop", "refnet-captured", 1, "level"),
    Floor("784-512-512-10", "torch-eager", "refnet-captured", 1.2),
    Floor("784-512-512-10", "refnet-captured", "products", 1.3, "most"),
    Floor("adam", "torch-eager", "refnet-captured", 6),
    Floor("encoder", "refnet-captured", "torch-eager", 1.5, "most"),
    Floor("mlp-block", "refnet-captured", "torch-eager", 1.5, "most"),
    Floor("layernorm", "refnet-captured", "torch-eager", 2, "most"),
    Floor("gelu", "refnet-captured", "torch-eager", 2, "most"),
    Floor("attention", "refnet-captured", "torch-eager", 2, "most"),
    Floor("256x2-2-2", "torch-func", "refnet-ensemble", 6),
    Floor("256x2-2-2", "jax-vmap", "refnet-ensemble", None),
)


OTHER_BITS = "other bits"
"""Why a floor is not met that asks for equal bits."""


@dataclass(frozen=True, eq=False)
class Finding:
    """A floor, the rounds' ratios (rounds,), and whether it is met: None where nothing is asked or was measured."""

    floor: Floor
    ratios: NDArray[np.float64]
    met: bool | None
    reason: str = ""


def findings(outcomes: Sequence[Outcome], threads: int = 1) -> list[Finding]:
    """What the outcomes say of each of FLOORS, which are asked in the networks' own dtypes on one thread; and on every
    network of one training, whether captured steps are slower than plain ones."""
    networks = dict.fromkeys(outcome.network.name for outcome in outcomes if not outcome.network.many)
    captured = [Floor(name, "refnet-plain", "refnet-captured", 1, same_bits=True) for name in networks]
    asked = threads == 1 and all(outcome.network in NETWORKS for outcome in outcomes)
    return [_judged(floor, outcomes) for floor in (*(FLOORS if asked else ()), *captured)]


def _judged(floor: Floor, outcomes: Sequence[Outcome]) -> Finding:
    nothing = np.empty(0)
    found: dict[str, Outcome] = {
        outcome.contender.name: outcome for outcome in outcomes if outcome.network.name == floor.network
    }
    for name in (floor.over, floor.under):
        if name not in found:
            return Finding(floor, nothing, None, "not part of this run")
        if found[name].status != "measured":
            return Finding(floor, nothing, None, f"{name} {found[name].status}")
    over, under = found[floor.over], found[floor.under]
    each = ratios(over, under)
    if floor.bound is None:
        return Finding(floor, each, None)
    if floor.kind == "most":
        met = bool(np.median(each) <= floor.bound)
    elif floor.kind == "level":
        met = bool(np.quantile(each, 0.75) >= floor.bound)
    else:
        met = bool(np.median(each) >= floor.bound)
    if floor.same_bits and not under.same_bits:
        return Finding(floor, each, False, OTHER_BITS)
    return Finding(floor, each, met)
