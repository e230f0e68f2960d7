"""Other formulas for what refnet computes: weaker ones that are equal in exact arithmetic, and documented conventions.

A variant is a patch of refnet's own module, written in the same NumPy functions, so it runs in every arithmetic: its
budget is derived like any other. An answer outside the budget of the formula but inside that of a variant is said to be
so by name. The variants themselves stand in their families' `formulas.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from parity.records.definition import Patch

__all__ = ["Patch", "Variant", "bearing_on", "together"]


@dataclass(frozen=True)
class Variant:
    """A listed other formula.

    Attributes:
        name: the formula, short. why: when it differs, and who uses it. source: where that can be read.
        patches: for each module type, what makes a module of it the variant.
        users: the engines that use it; the variants of one engine are also judged all at once.
        dtypes: those in which it differs from the formula itself.
        narrow: whether it computes in a narrower format than the engine's own. Its budget then holds much else, and it
            is named last.
    """

    name: str
    why: str
    source: str
    patches: Mapping[str, Patch]
    users: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")
    narrow: bool = False


def together(variants: Sequence[Variant]) -> Variant:
    """Several variants at once."""
    patches: dict[str, Patch] = {}
    for variant in variants:
        for kind, patch in variant.patches.items():
            patches[kind] = _both(patches[kind], patch) if kind in patches else patch
    return Variant(", ".join(v.name for v in variants), "", "", patches, narrow=any(v.narrow for v in variants))


def _both(first: Patch, second: Patch) -> Patch:
    def patch(module: Any) -> None:
        first(module)
        second(module)

    return patch


def bearing_on(types: Set[str], listed: Sequence[Variant]) -> list[Variant]:
    """The listed formulas for modules of these types: each alone, then those that one engine uses, all at once."""
    own = [v for v in listed if v.patches.keys() & types]
    users = dict.fromkeys(user for v in own for user in v.users)
    used = {user: tuple(v.name for v in own if user in v.users) for user in users}
    sets = dict.fromkeys(names for names in used.values() if len(names) > 1)
    return own + [together([v for v in own if v.name in names]) for names in sets]
