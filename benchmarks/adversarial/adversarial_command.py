"""`python -m benchmarks adversarial`: engines that round as badly as the model allows, held against the budgets.

Each answers the catalogue's records with refnet's own lines, and random expressions, on a `Machine`: directed or random
rounding, elementary functions off by all that is granted them, sums as random trees, fused products, results flushed to
zero. No element may be outside its budget.
"""

from __future__ import annotations

import json
import math
import platform
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.adversarial.rounded_array import Rounded
from benchmarks.adversarial.rounding_machine import MODES, Machine
from benchmarks.programs.grammar import program
from parity.budget.formats import Profile

DTYPES = ("float64", "float32")

ELEMENTS, EVALUATIONS = 1_000_000, 50_000

MACHINES = 10
"""How many evaluate each expression in each dtype."""

Found = dict[str, Any]


def machine(dtype: str, number: int) -> Machine:
    """The engine of this number: every direction of rounding, fused or not, flushing or not, an order of its own."""
    mode, kind = MODES[number % len(MODES)], number // len(MODES)
    return Machine(Profile.of(dtype), mode, fma=kind % 2 == 1, flush=kind % 4 in (1, 2), seed=number, infinite=True)


def record_judged(number: int) -> Found:
    """What one engine's answer to one record is: the records come in one random order after the other."""
    from parity.engines.refnet import collect
    from parity.records import definition
    from parity.records.record import VJP
    from parity.vectors import catalogue_answers
    from parity.verdict.answer import Judge
    from parity.verdict.evaluation import Request
    from parity.verdict.tensor import judge
    from refnet.arithmetic.array_like import Undecided

    asked = _asked()
    case, family, dtype = asked[_order(number // len(asked), len(asked))[number % len(asked)]]
    record, engine = case.record(family, dtype), machine(dtype, number)
    try:
        judged = Judge(Request.plain(record), catalogue_answers.truths(case, family, dtype))
    except Undecided:
        return {"undecided records": 1}
    with np.errstate(all="ignore"):
        made = definition.tensors(record, lambda a: Rounded(a, engine))
        if isinstance(record, VJP):
            answer = {name: _stored(t, dtype) for name, t in made.items()}
        else:
            answer = collect({name: [_stored(t, dtype) for t in series] for name, series in made.items()})
    found: Found = {"records": 1, "additions in a random order": engine.additions, "outside": []}
    for name, enclosure in judged.enclosures.items():
        verdict = judge(name, answer[name], enclosure, record.dtype_of(name))
        where = f"{case.name}, {family} {dtype}, {name}"
        found["elements"] = found.get("elements", 0) + enclosure.truth.hi.size
        if verdict.verdict == "FAIL":
            if not _as_listed(judge, judged, record, name, answer[name]):
                found["outside"].append(f"{where}, engine {number}: {verdict.reason}")
        elif math.isfinite(verdict.share):
            found["largest share"] = max(found.get("largest share", [0.0, ""]), [verdict.share, where])
    return found


def _as_listed(judge: Callable[..., Any], judged: Any, record: Any, name: str, got: Any) -> bool:
    """Whether refnet follows a listed convention there."""
    conventions = [o for o in judged.others if o.kind == "convention"]
    return bool(judge(name, got, judged.enclosures[name], record.dtype_of(name), conventions).verdict == "convention")


def _asked() -> list[tuple[Any, str, str]]:
    """The records of the catalogue but for the trainings, which are judged update by update."""
    from parity.families.case import TrainCase
    from parity.families.listing import catalogue

    cases = [case for case in catalogue() if not isinstance(case, TrainCase)]
    return [(case, family, dtype) for case in cases for family in case.families for dtype in DTYPES]


def _order(turn: int, length: int) -> list[int]:
    return random.Random(turn).sample(range(length), length)


def _stored(t: Any, dtype: str) -> Any:
    """A tensor in the dtype, which holds its values; what no rounding touches is as it is."""
    return t.floats().astype(dtype) if isinstance(t, Rounded) else np.asarray(t)


def expression_judged(number: int) -> Found:
    """What comes of a random expression, value and gradients, on engines of both dtypes."""
    from parity.expression import enclose
    from parity.notation import Meter, Written
    from parity.records.record import UsageError
    from parity.truth.taped import Taped, gradients
    from refnet.arithmetic import special
    from refnet.arithmetic.array_like import Undecided

    made = program(number)
    found: Found = {"expressions": 1, "outside": []}

    def evaluated(x: Any, y: Any) -> Any:
        return eval(made.numpy, {"np": np, "special": special, "x": x, "y": y})

    for dtype in DTYPES:
        arrays = [a.astype(dtype) for a in (made.x, made.y)]
        try:
            e = enclose(evaluated, *arrays)
        except (UsageError, Undecided):
            found["not enclosed"] = found.get("not enclosed", 0) + 1
            continue
        enclosures = e.enclosures()
        for k in range(MACHINES):
            engine = machine(dtype, number * MACHINES + k)
            leaves = [Taped(Rounded(a, engine)) for a in arrays]
            result = evaluated(*(Written(leaf, Meter()) for leaf in leaves)).inner
            zeros = partial(_zeros, engine)
            own = {"value": result.value} | gradients(result, Rounded(np.ones(()), engine), leaves, zeros)
            found["evaluations"] = found.get("evaluations", 0) + 1
            found["additions in a random order"] = found.get("additions in a random order", 0) + engine.additions
            for name, enclosure in enclosures.items():
                error, bound = enclosure.truth.error(own[name].floats()), enclosure.bound
                known = enclosure.known & np.isfinite(bound)
                where = f"expression {number}, {dtype}, {name}"
                found["elements"] = found.get("elements", 0) + int(known.sum())
                if (known & ~(error <= bound)).any():
                    found["outside"].append(f"{where}, engine {k}")
                share = float((error / np.where(bound > 0, bound, 1.0)).max(initial=0.0, where=known & (bound > 0)))
                found["largest share"] = max(found.get("largest share", [0.0, ""]), [share, where])
    return found


def _zeros(engine: Machine, shape: tuple[int, ...]) -> Rounded:
    return Rounded(np.zeros(shape), engine)


def together(a: Found, b: Found) -> Found:
    """Both findings."""
    made = dict(a)
    for name, value in b.items():
        made[name] = (
            value if name not in made else max(made[name], value) if name == "largest share" else made[name] + value
        )
    return made


PARTS: dict[str, tuple[Callable[[int], Found], str, int]] = {
    "catalogue": (record_judged, "elements", 20),
    "expressions": (expression_judged, "evaluations", 2),
}
"""What is judged one by one, what is counted until there is enough, and how many are judged in one go."""


def _chunk(part: str, start: int) -> list[Found]:
    judged, _, chunk = PARTS[part]
    return [judged(number) for number in range(start, start + chunk)]


def campaign(
    out: Path | None, wanted: dict[str, int], processes: int = 1, tell: Callable[[str], object] = lambda line: None
) -> Found:
    """All of it, from where the file ends; the findings are the same however often it was interrupted, and whatever the
    number of processes."""
    made: Found = json.loads(out.read_text(encoding="utf-8")) if out and out.exists() else {}
    for part, (_, counted, chunk) in PARTS.items():
        known = made.setdefault(part, {"judged": 0, counted: 0, "outside": []})
        chunks = _in_order(partial(_chunk, part), count(known["judged"], chunk), processes)
        while known[counted] < wanted[part]:
            for found in next(chunks):
                if known[counted] < wanted[part]:
                    known = together(known, {"judged": 1, **found})
            made[part] = known
            _save(out, made)
            tell(f"{part}: {known[counted]:,} of {wanted[part]:,} {counted}, {len(known['outside'])} outside")
        chunks.close()
    return made


def _in_order(f: Callable[[int], list[Found]], starts: Iterator[int], processes: int) -> Any:
    """f of each chunk, without an end."""
    if processes == 1:
        yield from map(f, starts)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        while batch := list(islice(starts, 4 * processes)):
            yield from pool.map(f, batch)


def _save(out: Path | None, made: Found) -> None:
    if out:
        from parity.report.export import save

        versions = {"python": platform.python_version(), "numpy": np.__version__}
        save(out, json.dumps({**made, "versions": versions}, indent=1) + "\n")


def lines(made: Found) -> Iterator[str]:
    """What came of it, in words."""
    for part in PARTS:
        known = made[part]
        what = f"{known['evaluations']:,} evaluations" if part == "expressions" else f"{known['records']:,} answers"
        share, where = known.get("largest share", (0.0, "none"))
        yield (
            f"{part}: {what}, {known['elements']:,} elements, {known['additions in a random order']:,} additions in a "
            f"random order: {len(known['outside'])} outside; largest share of a budget {share:.3f} ({where})"
        )
        yield from (f"  outside: {text}" for text in known["outside"])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Keep what is found; go on where it ends.")
@click.option(
    "--elements",
    type=click.IntRange(min=0),
    default=ELEMENTS,
    show_default=True,
    help="At least this many elements of the catalogue.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(min=0),
    default=EVALUATIONS,
    show_default=True,
    help="At least this many evaluations of expressions.",
)
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="How many at a time.")
def adversarial(out: Path | None, elements: int, evaluations: int, processes: int) -> None:
    """Judge engines that are right but round as badly as the model allows.

    They round in one direction or at random, add in random orders, fuse products, flush to zero, and err in elementary
    functions by all that is granted. No element may be outside its budget. Exit code 1 means that one is.
    """
    wanted = {"catalogue": elements, "expressions": evaluations}
    made = campaign(out, wanted, processes, lambda line: click.echo(line, err=True))
    for line in lines(made):
        click.echo(line)
    if any(made[part]["outside"] for part in PARTS):
        raise SystemExit(1)
