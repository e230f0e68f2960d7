"""`python -m benchmarks depth`: whether budgets of a declared depth hold, and what they see."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.precision.summation import ROUNDINGS, Array, in_blocks, rounded, tree

DECLARED = {64: "depth 8", 512: "depth 13", 4096: "depth 20"}
"""For each length a depth that leaves room for uneven trees."""

BLOCKS = {64: "blocks of 8", 512: "blocks of 32", 4096: "blocks of 64"}

TREES = 1_000
"""Trees of each length."""

KINDS = ("gaussian", "positive", "products", "one, then 0.999 u")

OUTPUTS = 8
"""Sums that a tree makes at once, of terms of their own."""

SEES = ("float32", "float32, depth 160", "float32, depth 20")
FORMATS = {"tf32": 11, "bfloat16": 8}
"""Bits of the factors whose products should be flagged."""


def judged(number: int, terms: int) -> dict[str, float]:
    """The largest share of its budget that each kind of terms used in the tree of that number; more than 1 is a false
    alarm."""
    draws = np.random.default_rng([number, terms])
    rounding = list(ROUNDINGS)[number % len(ROUNDINGS)]
    add, found = ROUNDINGS[rounding], {}
    declared = DECLARED[terms] if number % 4 else BLOCKS[terms]
    for kind in KINDS:
        x, exact, bound = _terms(kind, terms, draws, f"float32, {declared}")
        order = draws.permutation(terms)
        size = int(declared.rpartition(" ")[2])
        got = tree(x[order], size, draws, add) if number % 4 else in_blocks(x[order], size, draws, add)
        found[kind] = float(np.max(abs(got.astype(np.float64) - exact) / bound))
    return found


def _terms(kind: str, n: int, draws: np.random.Generator, profile: str) -> tuple[Array, Array, Array]:
    """The terms as an engine has them, their exact sum as float64 encloses it, and the budget."""
    if kind == "products":
        a, b = (draws.standard_normal((n, OUTPUTS)).astype(np.float32) for _ in range(2))
        exact, bound = _budget(lambda a, b: np.einsum("ij,ij->j", a, b), (a, b), profile)
        return a * b, exact, bound
    if kind == "one, then 0.999 u":
        # Each addition to 1 loses all of what is added, rounded toward zero or to nearest.
        x = np.full((n, OUTPUTS), 0.999 * 2.0**-24, np.float32)
        x[draws.integers(0, n, OUTPUTS), np.arange(OUTPUTS)] = 1
    else:
        x = (draws.standard_normal if kind == "gaussian" else draws.random)((n, OUTPUTS)).astype(np.float32)
    exact, bound = _budget(lambda x: np.sum(x, axis=-2), (x,), profile)
    return x, exact, bound


def _budget(f: Any, arrays: tuple[Array, ...], profile: str) -> tuple[Array, Array]:
    from parity.budget.array import Budget
    from parity.budget.formats import Profile

    wide, own = (f(*(Budget.exact(a, p) for a in arrays)) for p in (Profile.of("float64"), Profile.parse(profile)))
    return wide.x, own.e + wide.e


def seen(seed: int) -> dict[str, float]:
    """The part of the outputs of a 64 x 4096 x 64 product of Gaussian factors that are flagged, by profile and format:
    factors are rounded, and nothing else."""
    draws = np.random.default_rng([seed, 1])
    a, b = draws.standard_normal((64, 4096)).astype(np.float32), draws.standard_normal((4096, 64)).astype(np.float32)
    found = {}
    for profile in SEES:
        exact, bound = _budget(np.matmul, (a, b), profile)
        for name, bits in FORMATS.items():
            got = rounded(a, bits) @ rounded(b, bits)
            found[f"{name}, {profile}"] = float((abs(got - exact) > bound).mean())
    return found


def campaign(out: Path | None, trees: int, seeds: int) -> dict[str, Any]:
    """All of it, from where the file ends."""
    made: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {}
    made.setdefault("trees", {})
    made.setdefault("seen", {})
    for terms in DECLARED:
        known = made["trees"].setdefault(str(terms), {"trees": 0, "false alarms": 0, "largest share": {}})
        for number in range(known["trees"], trees):
            for kind, share in judged(number, terms).items():
                known["false alarms"] += share > 1
                known["largest share"][kind] = max(known["largest share"].get(kind, 0.0), share)
            known["trees"] = number + 1
            if number % 20 == 19 or number == trees - 1:
                _save(out, made)
    for seed in range(seeds):
        if str(seed) not in made["seen"]:
            made["seen"][str(seed)] = seen(seed)
            _save(out, made)
    return made


def _save(out: Path | None, made: dict[str, Any]) -> None:
    if out:
        from parity.report.export import save

        save(out, json.dumps({**made, "numpy": np.__version__, "machine": platform.machine()}, indent=1) + "\n")


def lines(made: dict[str, Any]) -> Iterator[str]:
    """What came of it, in words."""
    for terms, known in made["trees"].items():
        shares = ", ".join(f"{kind} {share:.2f}" for kind, share in known["largest share"].items())
        yield (
            f"{terms} terms, {DECLARED[int(terms)]} or {BLOCKS[int(terms)]}: {known['false alarms']} false alarms in "
            f"{known['trees']:,} trees; largest share of a budget: {shares}"
        )
    seen = list(made["seen"].values())
    for name in seen[0] if seen else ():
        format, _, profile = name.partition(", ")
        part = 100 * np.mean([s[name] for s in seen])
        yield f"4,096 terms, {profile}: {part:.0f}% of the outputs are flagged where factors are in {format}"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Keep what is found; go on where it ends.")
@click.option("--trees", type=click.IntRange(min=1), default=TREES, show_default=True, help="For each length of sums.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Products of rounded factors.")
def depth(out: Path | None, trees: int, seeds: int) -> None:
    """Judge sums by random trees, and products of rounded factors, by budgets of a declared depth.

    No tree may be outside its budget. Exit code 1 means that one is.
    """
    made = campaign(out, trees, seeds)
    for line in lines(made):
        click.echo(line)
    if any(known["false alarms"] for known in made["trees"].values()):
        raise SystemExit(1)
