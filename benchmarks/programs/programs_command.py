"""`python -m benchmarks programs`: random programs through `parity.enclose`, beside torch and the truth by scalars."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.programs.grammar import Program, program

SCALARS = 10
"""One program out of this number is also certified scalar by scalar."""

CHUNK = 50


def judged(number: int) -> Counter[str]:
    """What became of a program: `enclosed`, or why not; and what should not be, by name."""
    from parity.expression import enclose
    from parity.records.record import UsageError
    from refnet.arithmetic import special
    from refnet.arithmetic.array_like import Undecided

    made = program(number)
    found: Counter[str] = Counter()
    for dtype in ("float64", "float32"):
        x, y = made.x.astype(dtype), made.y.astype(dtype)
        try:
            e = enclose(lambda x, y: eval(made.numpy, {"np": np, "special": special, "x": x, "y": y}), x, y)
        except Undecided:
            found[f"{dtype} undecided"] += 1
            continue
        except UsageError as refusal:
            reason = "no finite value" if "expected a finite" in str(refusal) else f"refused: {refusal}"
            found[f"{dtype} {reason}"] += 1
            continue
        found[f"{dtype} enclosed"] += 1
        truths, bounds = [e.value, *e.gradients], [e.value_budget, *e.gradient_budgets]
        for truth, bound, got in zip(truths, bounds, _by_torch(made, x, y), strict=True):
            assert truth is not None
            assert bound is not None
            found[f"{dtype} torch's tensors outside"] += bool((~(truth.error(got) <= bound) & ~truth.undecided).any())
            found[f"{dtype} tensors with an open element"] += bool(truth.undecided.any())
            found[f"{dtype} tensors without a bound"] += not np.isfinite(bound).all()
        if dtype == "float64" and number % SCALARS == 0:
            found["compared with the truth by scalars"] += 1
            found["unlike the truth by scalars"] += not _as_by_scalars(made, truths)
    return found


def _by_torch(made: Program, x: Any, y: Any) -> list[Any]:
    import torch

    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, y)]
    value = eval(made.torch, {"torch": torch, "x": tensors[0], "y": tensors[1]})
    weights = torch.from_numpy(np.cos(np.arange(9.0)).reshape(3, 3).astype(x.dtype))
    result = (value * weights).sum()
    grads = torch.autograd.grad(result, tensors, allow_unused=True)
    return [result.detach().numpy(), *(np.zeros((3, 3)) if g is None else g.numpy() for g in grads)]


def _as_by_scalars(made: Program, truths: Any) -> bool:
    from parity.notation import Meter, Written
    from parity.truth import ball, tape
    from parity.truth.certify import settle
    from parity.truth.scalars import Scalars
    from refnet.arithmetic import special
    from refnet.arithmetic.array_like import Undecided

    def answer() -> dict[str, Any]:
        x, y = (Scalars(ball.lift(a.astype(np.float64)), np.dtype(np.float64)) for a in (made.x, made.y))
        names = {"np": np, "special": special, "x": Written(x, Meter()), "y": Written(y, Meter())}
        result = eval(made.numpy, names).inner
        tape.differentiate(result.nodes.flat, [ball.ball(1)])
        return {
            "value": ball.values(result.nodes),
            "x": ball.gradients(x.nodes),
            "y": ball.gradients(y.nodes),
        }

    try:
        by_scalars = settle(answer)
    except Undecided:  # a single scalar decides for all there
        return True
    same = [
        np.array_equal(np.where(t.undecided | s.undecided, 0, t.hi), np.where(t.undecided | s.undecided, 0, s.hi))
        for t, s in zip(truths, by_scalars.values(), strict=True)
    ]
    return all(same)


def tally(numbers: Iterable[int]) -> Counter[str]:
    """What became of these programs, all together."""
    return sum(map(judged, numbers), Counter())


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=10_000, show_default=True, help="How many programs.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="How many at a time.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A JSON file of what was found."
)
def programs(count: int, processes: int, out: Path) -> None:
    """Enclose random programs by parity.enclose, and judge torch's values and gradients of them."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    found: Counter[str] = Counter()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done, part in enumerate(pool.map(tally, chunks), 1):
            found.update(part)
            click.echo(f"{min(done * CHUNK, count)} of {count}", err=True)
    import torch

    record = {
        "programs": count,
        "found": dict(sorted(found.items())),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
    }
    unfinished = out.with_name(out.name + ".unfinished")
    unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(out)
    click.echo(json.dumps(record["found"], indent=1))
