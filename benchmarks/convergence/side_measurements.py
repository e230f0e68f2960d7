"""What a study measures beside its trainings, once the rates are chosen: theory, twin engines, times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from typing import Any

from benchmarks.convergence import engine_drift, theory, update_times
from benchmarks.convergence.arms import Arm, core
from benchmarks.convergence.engine_drift import Drift
from benchmarks.convergence.executors import Workers
from benchmarks.convergence.problems import REAL, load
from benchmarks.convergence.study import Progress, Study
from benchmarks.convergence.study_folder import Store
from benchmarks.convergence.study_tables import Results
from benchmarks.convergence.theory import GradientVariance, Moment, Stability, Surface
from benchmarks.convergence.update_times import Timing

ROWS: Mapping[str, type[Any]] = {
    "variance": GradientVariance,
    "moments": Moment,
    "stability": Stability,
    "surface": Surface,
    "twin": Drift,
    "timing": Timing,
}
"""The fields of `Results` that parts fill, and what they fill them with."""


@dataclass(frozen=True)
class Part:
    """A piece of work for a worker.

    Attributes:
        field: of `Results`, to which its rows belong. name: among the parts of that field.
        function: gives the rows; of a module that workers can import. arguments: its keyword arguments.
        needs: a package without which it can't be had; "" if there is none.
    """

    field: str
    name: str
    function: Callable[..., Sequence[Any]]
    arguments: Mapping[str, Any]
    needs: str = ""


def beside(study: Study, results: Results) -> list[Part]:
    """What does not depend on where and beside what it is computed, in the order of the rows.

    The moments are those of single samples drawn with replacement, at the rate chosen for that arm, or if it is none of
    the study's for the stochastic arm whose epochs are shuffled; under a decaying rate in full only. The twins train at
    the rates chosen for them, and have no schedule: the whole set, single samples and in full the middle mini-batch
    size of each problem. mnist has none, being digits once more at six times the cost; nor have the problems of real
    size, whose gradients' variance would take gigabytes.
    """
    rates = {(choice.problem, choice.arm): choice.rate for choice in results.choices}
    full = study.extent == "full"
    found = []
    for problem in (problem for problem in study.problems if problem not in REAL):
        found.append(Part("variance", problem, theory.gradient_variance, {"name": problem}))
        whole, middle, single = core(load(problem))
        twinned = (whole, single, middle)[: 3 if full else 2]
        for arm in study.arms(problem) if problem != "mnist" else ():
            if arm in twinned:
                twins = {"rate": rates[problem, arm.name], "iterations": study.iterations}
                name = f"{problem}-{arm.batch_size or 'all'}"
                arguments = {"name": problem, "arm": arm, **twins}
                found.append(Part("twin", name, engine_drift.drift, arguments, needs="torch"))
    if "line" in study.problems:
        for arm in (Arm(1), Arm(1, schedule="decay"))[: 2 if full else 1]:
            rate = rates.get(("line", Arm(1, "replacement", arm.schedule).name), rates.get(("line", arm.name)))
            if rate is not None:
                runs = {"rate": rate, "schedule": arm.schedule, "iterations": study.iterations}
                found.append(Part("moments", f"line-{arm.schedule}", theory.moments, {"name": "line", **runs}))
        for field, function in (("stability", theory.stability), ("surface", theory.surface)):
            found.append(Part(field, "line", function, {"name": "line"}, needs="flint"))
    return found


def timings(study: Study) -> list[Part]:
    """What must run alone on the machine."""
    how = {
        "engines": [engine for engine in update_times.ENGINES if engine == "refnet" or find_spec(engine)],
        "rounds": 3 if study.extent == "small" else 7,
    }
    return [Part("timing", name, update_times.measure, {"name": name, **how}) for name in study.problems]


def carry_out(
    stage: str, wanted: Sequence[Part], store: Store, workers: Workers, progress: Progress
) -> dict[str, list[Any]]:
    """The rows of each field of `Results` that the parts belong to; what the folder has is not computed again."""
    rows: dict[str, list[Any]] = {}
    missing = []
    for part in wanted:
        if part.needs and find_spec(part.needs) is None:
            progress.say(f"{part.field} of {part.name} is left out: it needs the package {part.needs}")
        elif (kept := store.part(_file(part), _plain(part.arguments))) is not None:
            rows[_file(part)] = _read(part, kept)
        else:
            missing.append(part)
    found = len(rows)
    progress.begin(stage, len(missing), 0)
    for part, values in workers.map(_compute, missing):
        store.keep_part(_file(part), _plain(part.arguments), values)
        rows[_file(part)] = _read(part, values)
        progress.advance(1)
    progress.end(stage, len(missing), found)
    return {
        field: [row for part in wanted if part.field == field for row in rows.get(_file(part), ())]
        for field in dict.fromkeys(part.field for part in wanted)
    }


def _compute(part: Part) -> list[dict[str, Any]]:
    return [_plain(asdict(row)) for row in part.function(**part.arguments)]


def _file(part: Part) -> str:
    return f"{part.field}-{part.name}"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values; NaN, inf and -inf, which JSON does not have, as these strings."""
    return {
        name: value.as_dict()
        if isinstance(value, Arm)
        else str(value)
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in values.items()
    }


def _read(part: Part, values: Sequence[Mapping[str, Any]]) -> list[Any]:
    row = ROWS[part.field]
    floats = {field.name for field in fields(row) if field.type in ("float", float)}
    return [row(**{name: float(v) if name in floats else v for name, v in value.items()}) for value in values]
