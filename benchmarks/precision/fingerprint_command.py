"""`python -m benchmarks fingerprint`: how often the precision of a product is named, rightly and wrongly."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.precision.engines import IMPRECISE, RIGHT
from benchmarks.precision.summation import Array

CASES, RIGHT_CASES = 500, 1_000

KINDS = ("gaussian", "positive", "lognormal", "rectified")


def factors(number: int, seed: int) -> tuple[Array, Array, np.random.Generator]:
    """Two matrices of the case of that number: 16 to 8,192 terms, 16 to 64 outputs."""
    draws = np.random.default_rng([seed, number])
    terms = int(2 ** draws.uniform(4, 13))
    m, n = (int(draws.integers(4, 9)) for _ in range(2))
    kind = KINDS[number % len(KINDS)]

    def make(*shape: int) -> Array:
        if kind == "positive":
            return draws.random(shape)
        x = draws.standard_normal(shape)
        if kind == "lognormal":
            return x * np.exp(2 * draws.standard_normal(shape))
        return np.maximum(x, 0) + 0.1 if kind == "rectified" else x

    return make(m, terms), make(terms, n), draws


def imprecise(number: int) -> tuple[str, str]:
    """What an engine does in the case of that number, and what became of it: `named`, `overflow`, or another name."""
    from parity.verdict.fingerprint import of_product

    a, b, draws = factors(number, 0)
    what = list(IMPRECISE)[number % len(IMPRECISE)]
    due, product = IMPRECISE[what]
    if not what.startswith("float64"):
        a, b = a.astype(np.float32), b.astype(np.float32)
    got = product(a, b, draws)
    if not np.isfinite(got).all():
        return what, "overflow"
    name = of_product(a, b, got)
    return what, "named" if name == due else f"called: {name or 'nothing'}"


def right(number: int) -> tuple[str, str]:
    """Which right engine computed the case of that number, and what its precision was called."""
    from parity.verdict.fingerprint import of_product

    a, b, draws = factors(number, 1)
    known = [name for name in RIGHT if name not in ("torch", "jax") or find_spec(name)]
    what = known[number % len(known)]
    a, b = a.astype(np.float32), b.astype(np.float32)
    name = of_product(a, b, RIGHT[what](a, b, draws))
    return what, f"called: {name}" if name else "not named"


def campaign(out: Path | None, cases: int, right_cases: int) -> dict[str, Any]:
    """All of it, from where the file ends."""
    made: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {}
    for part, count, judged in (("imprecise", cases, imprecise), ("right", right_cases, right)):
        known = made.setdefault(part, {"cases": 0, "found": {}})
        for number in range(known["cases"], count):
            what, became = judged(number)
            of = known["found"].setdefault(what, {})
            of[became] = of.get(became, 0) + 1
            known["cases"] = number + 1
            if out and (number % 20 == 19 or number == count - 1):
                from parity.report.export import save

                save(out, json.dumps({**made, "numpy": np.__version__, "machine": platform.machine()}, indent=1) + "\n")
    return made


def share_named(made: dict[str, Any]) -> float:
    """Of the imprecise answers that did not overflow, the part that got its name."""
    found = made["imprecise"]["found"].values()
    finite = sum(n for of in found for became, n in of.items() if became != "overflow")
    return sum(of.get("named", 0) for of in found) / finite if finite else 0.0


def falsely_named(made: dict[str, Any]) -> int:
    return sum(n for of in made["right"]["found"].values() for became, n in of.items() if became != "not named")


def lines(made: dict[str, Any]) -> Iterator[str]:
    for part in ("imprecise", "right"):
        for what, of in sorted(made[part]["found"].items()):
            yield f"{what}: " + ", ".join(f"{n} {became}" for became, n in sorted(of.items()))
    yield f"{100 * share_named(made):.1f}% of {made['imprecise']['cases']:,} imprecise products named by what they are"
    yield f"{falsely_named(made)} of {made['right']['cases']:,} right products named imprecise"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Keep what is found; go on where it ends.")
@click.option(
    "--cases", type=click.IntRange(min=1), default=CASES, show_default=True, help="How many imprecise products."
)
@click.option(
    "--right",
    "right_cases",
    type=click.IntRange(min=1),
    default=RIGHT_CASES,
    show_default=True,
    help="How many right products.",
)
def fingerprint(out: Path | None, cases: int, right_cases: int) -> None:
    """Find out from the errors of products in which precision they were computed.

    Exit code 1 means that fewer than 95% of the imprecise ones got the right name, or that a right one got any.
    """
    made = campaign(out, cases, right_cases)
    for line in lines(made):
        click.echo(line)
    if share_named(made) < 0.95 or falsely_named(made):
        raise SystemExit(1)
