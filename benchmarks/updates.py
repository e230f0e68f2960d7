"""`python -m benchmarks updates`: every optimizer, step by step, on gradients that are hard, by refnet and by torch.

1,000 steps of the defaults, and 20 of every setting that torch's own tests of optimizers use
(benchmarks/optimizer_settings.py). The gradients are random, zero, of 1e-12 and 1e12, of a sign that flips,
absent, and shrinking. Each step is judged from the engine's own parameters and state before it: update and state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import refnet
from benchmarks.optimizer_settings import SETTINGS
from parity.budget.array import Budget
from parity.budget.formats import Profile
from parity.records import definition
from parity.records.record import Spec, Undecided
from parity.verdict.answer import other_formulas
from parity.verdict.evaluation import Evaluation, Patches
from parity.verdict.table import is_caught
from parity.verdict.tensor import Enclosure, judge
from refnet.arithmetic.runs import Runs
from refnet.files import write_bytes
from refnet.optim.optimizer import Optimizer, number

Array = NDArray[Any]
Arrays = dict[str, Array]

OPTIMIZERS = tuple(
    name
    for name in refnet.optim.__all__
    if issubclass(made := getattr(refnet.optim, name), Optimizer)
    and made.schema
    and not made.takes_closure
    and made.check_gradient is Optimizer.check_gradient
)
"""Those whose steps take whole gradients."""
SHAPES: Mapping[str, tuple[int, ...]] = {"weight": (3, 2), "gain": (2, 1)}
DTYPES = ("float64", "float32", "bfloat16")
TORCH = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
PROFILES = {"bfloat16": "bfloat16, accumulate float32"}


@dataclass(frozen=True)
class Row:
    """One engine's steps of one setting.

    Attributes:
        verdict: `conforms`; `FAIL`, with the tensors in `wrong`; or why it was not asked.
        formulas: the weaker formulas and conventions that some tensor keeps to.
        share: the largest part of a budget that was used. blind: the part of the updates' elements that any value near
            them would pass for.
    """

    optimizer: str
    setting: str
    dtype: str
    engine: str
    steps: int
    verdict: str
    wrong: list[str]
    formulas: list[str]
    share: float
    blind: float


def settings(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Those of torch's own tests that say something about the updates; the defaults first."""
    given = SETTINGS.get(name, ())
    named = [(", ".join(f"{key}={value}" for key, value in args.items()), dict(args)) for args in given]
    return [("defaults", {}), *named]


def gradients(steps: int, dtype: str) -> list[dict[str, Array | None]]:
    """Of each step; no gradient where a parameter has none."""
    draws = np.random.default_rng(16)
    rows: list[dict[str, Array | None]] = []
    for k in range(steps):
        kind, sign = k % 10, -1.0 if k % 2 else 1.0
        size = {3: 0.0, 4: 1e-12, 5: 1e12, 8: 2.0 ** -(k // 10)}.get(kind, 1.0)
        row: dict[str, Array | None] = {}
        for name, shape in SHAPES.items():
            # A sign that flips from step to step, and draws of either sign.
            values = sign * abs(draws.standard_normal(shape)) if kind in (6, 7) else draws.standard_normal(shape)
            row[name] = _rounded(values * size, dtype)
        if kind == 9:
            row["gain" if k % 20 == 9 else "weight"] = None
        rows.append(row)
    return rows


def _rounded(values: Array, dtype: str) -> Array:
    if dtype != "bfloat16":
        return values.astype(dtype)
    import torch

    rounded: Array = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    return rounded


def start(dtype: str) -> Arrays:
    """The parameters before the first step."""
    draws = np.random.default_rng(61)
    return {name: _rounded(draws.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


@dataclass(frozen=True)
class Course:
    """Parameters and state before the first step and after each."""

    params: list[Arrays]
    states: list[Arrays]


def by_refnet(name: str, args: Mapping[str, Any], dtype: str, grads: list[dict[str, Array | None]]) -> Course:
    params = start(dtype)
    opt = getattr(refnet.optim, name)(params, **args)
    course = Course([], [])

    def keep() -> None:
        course.params.append({n: P.copy() for n, P in params.items()})
        course.states.append({path: np.array(a) for path, a in definition.state_of(opt).items()})

    keep()
    with np.errstate(all="ignore"):
        for row in grads:
            opt.step(row)
            keep()
    return course


def by_torch(
    name: str, args: Mapping[str, Any], dtype: str, grads: list[dict[str, Array | None]], way: Mapping[str, bool]
) -> Course:
    import torch

    own = getattr(torch, dtype)
    params = {n: torch.from_numpy(P).to(own).requires_grad_() for n, P in start(dtype).items()}
    made = getattr(torch.optim, name)(list(params.values()), **args, **way)
    schema = {array.name: array for array in getattr(refnet.optim, name).schema}
    course = Course([], [])

    def array(tensor: Any) -> Array:
        return np.array((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy())

    def keep() -> None:
        course.params.append({n: array(p) for n, p in params.items()})
        course.states.append(
            {
                f"{n}.{key}": array(kept.to(p.dtype) if of.shape is number and not of.counter else kept)
                for n, p in params.items()
                for key, of in schema.items()
                if (kept := made.state.get(p, {}).get(key)) is not None
            }
        )

    keep()
    for row in grads:
        for n, p in params.items():
            G = row[n]
            p.grad = None if G is None else torch.from_numpy(G).to(own)
        made.step()
        keep()
    return course


def judged(
    name: str, args: Mapping[str, Any], dtype: str, grads: list[dict[str, Array | None]], course: Course
) -> tuple[list[str], list[str], float, float]:
    """The tensors that are wrong, the formulas that others keep to, the largest share, and the blind part."""
    wrong, formulas, share, blind, seen = set(), set(), 0.0, 0, 0
    spec, stored = Spec(name, dict(args)), "float32" if dtype == "bfloat16" else dtype
    profile = Profile.parse(PROFILES.get(dtype, dtype))
    for parameter in SHAPES:
        kept = [{n: a for n, a in state.items() if n.startswith(f"{parameter}.")} for state in course.states]
        present = [k for k, row in enumerate(grads) if row[parameter] is not None]
        for k in set(range(len(grads))) - set(present):
            # Without a gradient nothing moves.
            same = np.array_equal(course.params[k][parameter], course.params[k + 1][parameter])
            stays = all(n in kept[k] and np.array_equal(kept[k][n], a) for n, a in kept[k + 1].items())
            if not (same and stays):
                wrong.add(f"{parameter} without a gradient")
        for numbers in _alike(present, kept):
            before = np.stack([course.params[k][parameter] for k in numbers])
            after = np.stack([course.params[k + 1][parameter] for k in numbers])
            state = {n: np.stack([kept[k][n] for k in numbers]) for n in kept[numbers[0]]}
            state_after = {n: np.stack([kept[k + 1][n] for k in numbers]) for n in kept[numbers[0] + 1]}
            G = np.stack([np.asarray(grads[k][parameter]) for k in numbers])
            answer = {f"update.{parameter}": after.astype(np.float64) - before, **state_after}

            def enclosed(
                patches: Patches,
                before: Array = before,
                state: Arrays = state,
                G: Array = G,
                parameter: str = parameter,
            ) -> dict[str, Enclosure]:
                given = parameter, before, state, G, stored
                wide = _step(spec, Profile.of("float64"), *given, patches)
                own = wide if profile == Profile.of("float64") else _step(spec, profile, *given, patches)
                return {n: Enclosure.around(v.x, v.e + own[n].e) for n, v in wide.items()}

            try:
                truth = enclosed({})
            except Undecided:
                wrong.add("undecided")
                continue
            others = other_formulas({name}, enclosed, enclosed)
            for n, enclosure in truth.items():
                form = "float64" if n.startswith("update.") else str(answer[n].dtype)
                said = judge(n, answer[n], enclosure, form, others)
                if is_caught(said.verdict):
                    wrong.add(f"{n}: {said.reason}")
                elif said.formula:
                    formulas.add(said.formula)
                else:
                    share = max(share, said.share)
                if n.startswith("update."):
                    blind += round(said.blind_share * enclosure.bound.size)
                    seen += enclosure.bound.size
    return sorted(wrong), sorted(formulas), share, blind / max(seen, 1)


def _alike(present: list[int], kept: list[Arrays]) -> Iterator[list[int]]:
    """Steps that find state of the same names."""
    for names in sorted({tuple(kept[k]) for k in present}):
        yield [k for k in present if tuple(kept[k]) == names]


def _step(
    spec: Spec,
    profile: Profile,
    parameter: str,
    before: Array,
    state: Arrays,
    G: Array,
    dtype: str,
    patches: Patches,
) -> dict[str, Evaluation]:
    """One step of each run in budgets."""
    P = Runs(Budget.exact(before, profile))
    made = definition.optimizer(spec, {parameter: P}, None, patches)
    made.stands_for = dtype
    definition.restore(
        made,
        {n: Runs(np.array(a) if spec.is_counter(n) else Budget.exact(a, profile)) for n, a in state.items()},
    )
    with np.errstate(all="ignore"):
        made.step({parameter: Runs(Budget.exact(G, profile))})
        moved = P.a.x - before
        found = {f"update.{parameter}": Evaluation(moved, P.a.e + 2.0**-53 * (abs(moved) + 2 * P.a.e))}
    for n, a in definition.state_of(made).items():
        inner = a.a if isinstance(a, Runs) else np.broadcast_to(a, (len(before), *np.shape(a)))
        found[n] = Evaluation.of(inner)
    return found


def rows(names: tuple[str, ...], steps: int, short: int, kept: Iterable[Row] = ()) -> Iterator[Row]:
    """Every setting of these optimizers by every engine: `steps` of the defaults, `short` of the others; those that
    are `kept` are not judged again."""
    import torch

    known = {(row.optimizer, row.setting, row.dtype, row.engine, row.steps): row for row in kept}

    for name in names:
        for setting, args in settings(name):
            count = steps if setting == "defaults" else short
            for dtype in DTYPES:
                grads = gradients(count, dtype)
                for engine in ("refnet", *TORCH):
                    about = name, setting, dtype, f"torch {engine}" if engine in TORCH else engine, count
                    if engine == "refnet" and dtype == "bfloat16":
                        continue
                    if engine != "refnet" and not hasattr(torch.optim, name):
                        continue
                    if about in known:
                        yield known[about]
                        continue
                    try:
                        course = (
                            by_refnet(name, args, dtype, grads)
                            if engine == "refnet"
                            else by_torch(name, args, dtype, grads, _way(name, engine))
                        )
                    except (TypeError, RuntimeError, ValueError) as error:
                        why = f"refused: {str(error).partition(chr(10))[0][:100]}"
                        yield Row(*about, why, [], [], 0.0, 0.0)
                        continue
                    wrong, formulas, share, blind = judged(name, args, dtype, grads, course)
                    yield Row(*about, "FAIL" if wrong else "conforms", wrong, formulas, share, blind)


def _way(name: str, engine: str) -> Mapping[str, bool]:
    """What tells torch's optimizer to be this implementation; one that has no other than the loop is not told."""
    import torch

    told = "foreach" in signature(getattr(torch.optim, name)).parameters
    return TORCH[engine] if told or engine != "for-loop" else {}


@click.command()
@click.option("--optimizer", "names", multiple=True, type=click.Choice(OPTIMIZERS), help="Only these.")
@click.option(
    "--steps", type=click.IntRange(1), default=1_000, show_default=True, help="Steps with the default options."
)
@click.option("--short", type=click.IntRange(1), default=20, show_default=True, help="Steps with every other setting.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows as JSON, each as it ends."
)
@click.option("--resume", is_flag=True, help="What FILE of --out has is not judged again.")
def updates(names: tuple[str, ...], steps: int, short: int, out: Path | None, resume: bool) -> None:
    """Judge every step of every optimizer of refnet and torch on hard gradients."""
    if resume and out is None:
        raise click.UsageError("--resume goes on with the file of --out: expected --out FILE as well")
    kept = _kept(out) if resume and out is not None and out.exists() else []
    found = []
    for row in rows(names or OPTIMIZERS, steps, short, kept):
        found.append(row)
        if out is not None and row not in kept:
            # What is kept for later rows stays in the file.
            rest = [other for other in kept if other not in found]
            write_bytes(out, _json([*found, *rest]))
        told = f"; {', '.join(row.formulas)}" if row.formulas else ""
        click.echo(f"{row.optimizer:10} {row.dtype:9} {row.engine:15} {row.verdict}{told} ({row.setting})")
        for reason in row.wrong:
            click.echo(f"    {reason}")
    if out is not None:
        write_bytes(out, _json(found))
    if any(row.verdict == "FAIL" for row in found):
        raise click.ClickException("some updates are not the true ones up to rounding")


def _json(found: list[Row]) -> bytes:
    return (json.dumps([asdict(row) for row in found], indent=1) + "\n").encode()


def _kept(out: Path) -> list[Row]:
    try:
        return [Row(**row) for row in json.loads(out.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise click.UsageError(f"{out}: expected the rows of `updates` as JSON, got: {error}") from error
