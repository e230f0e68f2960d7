"""The study's results as tidy tables: CSV files that figures and page are made from, and from nothing else.

Equal cells give equal bytes, in whatever order they were trained; only `timing.csv`, `cost.csv` and the columns in
seconds are measured anew by every study.

A run that diverged has the loss +infinity (`inf`) and the accuracy 0 from then on; an empty field is what a problem
does not have (the accuracy of a regression, a held-out part) or what was not measured. The time to a target is that of
the first checkpoint whose loss on the full training set is not above it; a run that never gets there has none, and
counts in medians as later than all others: they are `inf` where fewer than half of the runs arrive.

A study of other optimizers than plain gradient descent has a column `optimizer` behind every `schedule`. Seconds are
those of plain gradient descent, and empty for others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from benchmarks.convergence import order_statistics
from benchmarks.convergence.arms import Arm, Optimizer, Order, Schedule
from benchmarks.convergence.cells import MEASURES, Cell, Outcome
from benchmarks.convergence.engine_drift import Drift
from benchmarks.convergence.order_statistics import SHARES, Band, Paired
from benchmarks.convergence.problems import PROBLEMS, load
from benchmarks.convergence.theory import GradientVariance, Moment, Stability, Surface
from benchmarks.convergence.update_times import Cost, Prices, Timing, costs
from refnet.files import write_bytes
from refnet.generator import Generator

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]
Trained = Sequence[tuple[Cell, Outcome]]

REFERENCE_BATCH = 32
"""The mini-batch that others are compared with is the one nearest to this size, `refnet.fit`'s default."""


@dataclass(frozen=True)
class Choice:
    """The learning rate that the sweep chose for an arm.

    Attributes:
        median_final_train_loss: over the pilot seeds, at this rate.
        largest_stable_rate: see `study.choose`; NaN if no rate is stable.
        lowest_rate_tried, highest_rate_tried: the ends of the grid, with what was added to it.
        inside: whether the rate lies between them.
    """

    problem: str
    arm: str
    rate: float
    median_final_train_loss: float
    largest_stable_rate: float
    lowest_rate_tried: float
    highest_rate_tried: float
    inside: bool


@dataclass(frozen=True)
class Target:
    """The loss on the full training set that a problem's runs are timed to; NaN where none is fixed."""

    problem: str
    target_train_loss: float


@dataclass(frozen=True)
class Results:
    """What a study has found; what it has not come to yet is empty.

    Attributes:
        sweep, finals: cells and their outcomes.
        choices_again, finals_again: the choice and the final runs once more, with other last bits; empty if the study
            does not repeat.
        environment: what they were made in, as JSON values.
    """

    sweep: Trained = ()
    finals: Trained = ()
    choices: Sequence[Choice] = ()
    targets: Sequence[Target] = ()
    variance: Sequence[GradientVariance] = ()
    moments: Sequence[Moment] = ()
    stability: Sequence[Stability] = ()
    surface: Sequence[Surface] = ()
    twin: Sequence[Drift] = ()
    timing: Sequence[Timing] = ()
    choices_again: Sequence[Choice] = ()
    finals_again: Trained = ()
    environment: Mapping[str, Any] = field(default_factory=dict)


def _names(row: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(row))


ARM = ("arm", "batch_size", "order", "schedule")
AXES = ("update", "epoch", "samples", "seconds")
BANDS = tuple(f"{measure}_{part}" for measure in MEASURES for part in Band._fields)
TO_TARGET = tuple(f"{axis}_to_target_{part}" for axis in AXES for part in Band._fields)

COLUMNS: dict[str, tuple[str, ...]] = {
    "problems": (
        "problem",
        "title",
        "kind",
        "samples",
        "held_out",
        "inputs",
        "parameters",
        "network",
        "loss",
        "source",
    ),
    "sweep": ("problem", *ARM, "rate", "seed", "final_train_loss", "diverged_at"),
    "rates": _names(Choice),
    "targets": _names(Target),
    "curves": ("problem", *ARM, "engine", "seed", "rate", *AXES, *MEASURES),
    "bands": ("problem", "arm", "engine", *AXES, *BANDS),
    "times_to_target": ("problem", "arm", "engine", "seed", "reached", *AXES),
    "summary": (
        *("problem", *ARM, "engine", "rate", "seeds", "diverged", *BANDS),
        *("target_train_loss", "reached", *TO_TARGET),
    ),
    "pairs": ("problem", "engine", "arm", "against", "other", "measure", *Paired._fields),
    "path": ("arm", "engine", "seed", "update", "w", "b"),
    "surface": _names(Surface),
    "stability": _names(Stability),
    "moments": _names(Moment),
    "gradient_variance": _names(GradientVariance),
    "twin": _names(Drift),
    "timing": _names(Timing),
    "cost": _names(Cost),
}
"""The columns of each table, in order."""

REPEATED = ("rates", "times_to_target", "summary", "pairs")
"""Tables that a study has a second time, as NAME_again: with other last bits of the initial weights."""

COLUMNS |= {f"{name}_again": COLUMNS[name] for name in REPEATED}

INTEGERS = ("batch_size", "seed", "diverged_at", "update")
"""Columns of integers, some of them empty."""

TEXTS = ("unmeasured",)
"""Columns of text, some of it empty."""

DECIMALS = ("eigenvalue", "limit")
"""Columns of numbers with more digits than binary64 holds."""


def write(folder: Path, results: Results) -> None:
    """Write every table, those without rows too, and `environment.json`; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name}.csv": frame.to_csv(index=False, lineterminator="\n") for name, frame in frames(results).items()}
    texts["environment.json"] = json.dumps(dict(results.environment), indent=2, sort_keys=True) + "\n"
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())


def file(folder: Path, name: str) -> Path:
    """Where a table is: NAME.csv, or NAME.csv.gz if it has been compressed."""
    plain, compressed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    return compressed if compressed.exists() and not plain.exists() else plain


def read(folder: Path) -> dict[str, DataFrame]:
    """The tables that `write` left in a folder, by name; one may have been compressed since, as NAME.csv.gz.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: a table has other columns.
    """
    import pandas as pd

    tables = {}
    for name, columns in COLUMNS.items():
        frame = pd.read_csv(file(folder, name), dtype=dict.fromkeys((*DECIMALS, *TEXTS), "str"))
        for column in frame.columns.intersection(TEXTS):
            frame[column] = frame[column].fillna("").astype(object)
        if "optimizer" in frame.columns:
            columns = with_optimizer(columns)
        if tuple(frame.columns) != columns:
            raise ValueError(f"{name}.csv: expected the columns {', '.join(columns)}, got {', '.join(frame.columns)}")
        tables[name] = frame.astype(_integers(columns))
    return tables


def frames(results: Results) -> dict[str, DataFrame]:
    """The tables by name, with the columns of COLUMNS."""
    import pandas as pd

    prices = Prices(results.timing)
    sweep, finals, again = (_runs(runs, prices) for runs in (results.sweep, results.finals, results.finals_again))
    targets = {target.problem: target.target_train_loss for target in results.targets}
    rows: dict[str, Iterable[Row]] = {
        "problems": _problems({run.cell.problem for run in (*sweep, *finals)}),
        "sweep": map(_swept, sweep),
        "rates": map(asdict, results.choices),
        "targets": map(asdict, results.targets),
        "curves": _curves(finals),
        "bands": _bands(finals),
        "times_to_target": _times(finals, targets),
        "summary": _summary(finals, targets),
        "pairs": _pairs(finals),
        "path": _path(finals),
        "surface": map(asdict, results.surface),
        "stability": map(asdict, results.stability),
        "moments": map(asdict, results.moments),
        "gradient_variance": map(asdict, results.variance),
        "twin": map(asdict, results.twin),
        "timing": map(asdict, results.timing),
        "cost": map(asdict, costs(results.timing)),
        "rates_again": map(asdict, results.choices_again),
        "times_to_target_again": _times(again, targets),
        "summary_again": _summary(again, targets),
        "pairs_again": _pairs(again),
    }
    others = any(run.cell.arm.optimizer != "sgd" for run in (*sweep, *finals))
    tables = {}
    for name, known in COLUMNS.items():
        columns = with_optimizer(known) if others else known
        tables[name] = pd.DataFrame(list(rows[name]), columns=list(columns)).astype(_integers(columns))
    return tables


def with_optimizer(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a table in a study of several optimizers."""
    if "batch_size" not in columns or "schedule" not in columns:
        return columns
    after = columns.index("schedule") + 1
    return (*columns[:after], "optimizer", *columns[after:])


def _integers(columns: Iterable[str]) -> dict[str, str]:
    return {column: "Int64" for column in columns if column in INTEGERS}


@dataclass(frozen=True, eq=False)
class _Run:
    """A training as the tables show it.

    Attributes:
        axes: at each checkpoint, its place on AXES. measures: the values of each of MEASURES there, with the worst one
            from where the run diverged.
    """

    cell: Cell
    outcome: Outcome
    axes: list[Row]
    measures: dict[str, list[float]]

    @property
    def group(self) -> Row:
        return {"problem": self.cell.problem, "arm": self.cell.arm.name, "engine": self.cell.engine}

    @property
    def arm(self) -> Row:
        arm = self.cell.arm
        return {"arm": arm.name, **asdict(arm)}


def _runs(trained: Trained, prices: Prices) -> list[_Run]:
    """In the order of problems, engines, arms, rates and seeds."""
    return [
        _Run(cell, outcome, _axes(cell, outcome, prices), _measures(outcome))
        for cell, outcome in sorted(trained, key=lambda pair: _rank(pair[0]))
    ]


def _rank(cell: Cell) -> tuple[Any, ...]:
    arm = cell.arm
    size = math.inf if arm.batch_size is None else arm.batch_size
    place = (get_args(Order).index(arm.order), get_args(Schedule).index(arm.schedule), -size)
    made = get_args(Optimizer).index(arm.optimizer)
    return PROBLEMS.index(cell.problem), cell.engine, made, place, cell.rate, cell.seed


def _axes(cell: Cell, outcome: Outcome, prices: Prices) -> list[Row]:
    n = len(load(cell.problem).train_inputs)
    size = cell.arm.batch_size or n
    # A last batch that is not full is kept: an epoch is all samples, not a multiple of the batch.
    full, short = divmod(n, size)
    # What is timed is an update of plain gradient descent.
    price = prices(cell.problem, cell.engine, cell.arm.batch_size) if cell.arm.optimizer == "sgd" else math.nan
    axes = []
    for update in outcome.updates:
        epochs, rest = divmod(update, full + (short > 0))
        samples = epochs * n + rest * size
        axes.append({"update": update, "epoch": samples / n, "samples": samples, "seconds": update * price})
    return axes


def _measures(outcome: Outcome) -> dict[str, list[float]]:
    """A measure that is NaN from the start is one that the problem does not have."""
    measures = {}
    for name in MEASURES:
        values = list(getattr(outcome, name))
        worst = math.nan if math.isnan(values[0]) else 0.0 if name.endswith("accuracy") else math.inf
        measures[name] = [worst if math.isnan(value) else value for value in values]
    return measures


def _problems(names: set[str]) -> Iterator[Row]:
    for name in (name for name in PROBLEMS if name in names):
        problem = load(name)
        network, loss = problem.network(Generator(0)), problem.loss()
        yield {
            "problem": name,
            "title": problem.title,
            "kind": problem.kind,
            "samples": len(problem.train_inputs),
            "held_out": len(problem.test_inputs),
            "inputs": problem.units[0],
            "parameters": sum(P.size for P in network.params.values()),
            "network": "-".join(map(str, problem.units)),
            "loss": type(loss).__name__,
            "source": problem.source,
        }


def _swept(run: _Run) -> Row:
    return {
        "problem": run.cell.problem,
        **run.arm,
        "rate": run.cell.rate,
        "seed": run.cell.seed,
        "final_train_loss": run.measures["train_loss"][-1],
        "diverged_at": run.outcome.diverged_at,
    }


def _curves(runs: Iterable[_Run]) -> Iterator[Row]:
    for run in runs:
        fixed = {**run.group, **run.arm, "seed": run.cell.seed, "rate": run.cell.rate}
        for k, axes in enumerate(run.axes):
            yield {**fixed, **axes, **{name: values[k] for name, values in run.measures.items()}}


def _groups(runs: Iterable[_Run]) -> list[list[_Run]]:
    """The runs of each problem, engine and arm."""
    return [list(group) for _, group in groupby(runs, key=lambda run: run.group)]


def _bands(runs: Iterable[_Run]) -> Iterator[Row]:
    for group in _groups(runs):
        for k, axes in enumerate(group[0].axes):
            yield {**group[0].group, **axes, **_band_of(group, k)}


def _band_of(group: Sequence[_Run], checkpoint: int) -> Row:
    row: Row = {}
    for measure in MEASURES:
        values = [run.measures[measure][checkpoint] for run in group]
        parts = (math.nan,) * len(Band._fields) if any(map(math.isnan, values)) else order_statistics.band(values)
        row |= {f"{measure}_{name}": part for name, part in zip(Band._fields, parts, strict=True)}
    return row


def _arrival(run: _Run, target: float) -> Row | None:
    """Where on AXES the run is at the first checkpoint that is at the target."""
    return next((axes for axes, loss in zip(run.axes, run.measures["train_loss"], strict=True) if loss <= target), None)


def _times(runs: Iterable[_Run], targets: Mapping[str, float]) -> Iterator[Row]:
    for run in runs:
        if not math.isnan(targets.get(run.cell.problem, math.nan)):
            arrival = _arrival(run, targets[run.cell.problem])
            yield {**run.group, "seed": run.cell.seed, "reached": arrival is not None, **(arrival or {})}


def _summary(runs: Iterable[_Run], targets: Mapping[str, float]) -> Iterator[Row]:
    for group in _groups(runs):
        first, target = group[0], targets.get(group[0].cell.problem, math.nan)
        arrivals = [_arrival(run, target) for run in group]
        row = {
            **first.group,
            **first.arm,
            "rate": first.cell.rate,
            "seeds": len(group),
            "diverged": sum(run.outcome.diverged_at is not None for run in group),
            **_band_of(group, -1),
        }
        if not math.isnan(target):
            row |= {"target_train_loss": target, "reached": sum(a is not None for a in arrivals) / len(group)}
            for axis in AXES:
                times = [math.inf if arrival is None else arrival[axis] for arrival in arrivals]
                for part, share in zip(Band._fields, SHARES, strict=True):
                    unknown = any(map(math.isnan, times))
                    row[f"{axis}_to_target_{part}"] = math.nan if unknown else order_statistics.time_by(times, share)
        yield row


def _pairs(runs: Iterable[_Run]) -> Iterator[Row]:
    """Each arm against the full batch and against the mini-batch of reference, and one of a decaying rate against that
    of a constant one, at the end, seed by seed; under the same optimizer."""
    groups = _groups(runs)
    for group in groups:
        first = group[0].cell
        peers = [g for g in groups if (g[0].cell.problem, g[0].cell.engine) == (first.problem, first.engine)]
        peers = [g for g in peers if g[0].cell.arm.optimizer == first.arm.optimizer]
        arms = [g[0].cell.arm for g in peers]
        others = {
            "batch": Arm(None, optimizer=first.arm.optimizer),
            "mini-batch": _reference(arms),
            "constant rate": replace(first.arm, schedule="constant"),
        }
        for against, other in others.items():
            if other not in arms or other == first.arm:
                continue
            theirs = {run.cell.seed: run for run in peers[arms.index(other)]}
            pairs = [(run, theirs[run.cell.seed]) for run in group if run.cell.seed in theirs]
            for measure in MEASURES:
                values = [[run.measures[measure][-1] for run in pair] for pair in pairs]
                if not values or any(math.isnan(value) for pair in values for value in pair):
                    continue
                difference = order_statistics.paired(*zip(*values, strict=True))
                compared = {"against": against, "other": other.name, "measure": measure}
                yield {**group[0].group, **compared, **difference._asdict()}


def _reference(arms: Iterable[Arm]) -> Arm | None:
    """The plain mini-batch arm whose size is nearest to REFERENCE_BATCH in ratio, the smaller one of two."""
    plain = {arm.batch_size or 0: arm for arm in arms if arm.regime == "mini-batch" and arm.plain}
    size = min(plain, key=lambda size: (abs(math.log(size / REFERENCE_BATCH)), size), default=0)
    return plain.get(size)


def _path(runs: Iterable[_Run]) -> Iterator[Row]:
    for run in runs:
        for k, update in enumerate(run.outcome.updates if run.outcome.path else ()):
            weights = {name: course[k] for name, course in run.outcome.path.items()}
            yield {**run.arm, "engine": run.cell.engine, "seed": run.cell.seed, "update": update, **weights}
