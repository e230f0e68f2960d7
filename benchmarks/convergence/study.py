"""The plan of the study, and how it is carried out.

Every decision is a function of outcomes alone, so that a study ends with the same tables however often it was
interrupted and wherever its cells were computed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from statistics import fmean
from typing import Any, Literal, Protocol

from benchmarks.convergence import cells as cells_
from benchmarks.convergence import fixed_targets
from benchmarks.convergence.arms import REGIMES, Arm, Extent, Optimizer, arms
from benchmarks.convergence.cells import Cell, Engine, Outcome
from benchmarks.convergence.executors import Workers
from benchmarks.convergence.order_statistics import band
from benchmarks.convergence.problems import load
from benchmarks.convergence.study_folder import Store
from benchmarks.convergence.study_tables import Choice, Results, Target

PILOT_SEEDS = (1000, 1001, 1002)
"""The seeds of the sweep. The final runs have 0, 1, ..., and stay below."""

EXTENSIONS = 6
"""How often a grid of rates is made wider at most. After that a rate at its edge is accepted, and said to be there."""

GROUP = 32
"""The most cells that are trained at once: what one worker is given, and what a kill costs."""

TOGETHER = 2048
"""Samples in an update of all cells of a group, beyond which a group is smaller: there is nothing to gain then."""

TIE = 1e-3
"""Final losses that differ by less than this share count as equal: on a convex cost many rates reach the optimum, and
which of them is lowest is a matter of rounding."""

RISE = 2
"""A rate is stable while no run's loss rises above this many times what it was before training."""

Train = Callable[[Sequence[Cell]], list[Outcome]]


@dataclass(frozen=True)
class Study:
    """What is studied.

    Attributes:
        problems: their names. regimes: "batch", "mini-batch", "stochastic", or some of them.
        seeds: final runs of each arm, with the seeds 0 to `seeds` - 1.
        iterations: updates of each run.
        engine: that of the final runs. Rates are chosen by refnet's runs alone: both compute the same function.
        extent: which arms of each problem (see `arms`).
        repeat: whether sweep and final runs of the `retold` arms are made once more, with other last bits of the
            initial weights.
        optimizers: each arm is made by each of them.

    Raises:
        ValueError: a problem, regime or optimizer twice, or none; or no seed, or seeds that reach those of the sweep.
    """

    problems: tuple[str, ...]
    regimes: tuple[str, ...] = REGIMES
    seeds: int = 20
    iterations: int = 10_000
    engine: Literal["refnet", "torch", "both"] = "refnet"
    extent: Extent = "small"
    repeat: bool = False
    optimizers: tuple[Optimizer, ...] = ("sgd",)

    def __post_init__(self) -> None:
        some = ("problems", self.problems), ("regimes", self.regimes), ("optimizers", self.optimizers)
        for what, names in some:
            if not names or len(set(names)) < len(names):
                raise ValueError(f"Study: expected one or more different {what}, got {', '.join(names) or 'none'}")
        if not 1 <= self.seeds <= PILOT_SEEDS[0]:
            raise ValueError(f"Study: expected 1 to {PILOT_SEEDS[0]} seeds, got {self.seeds}")

    def arms(self, problem: str) -> tuple[Arm, ...]:
        return tuple(arm for arm in arms(load(problem), self.extent, self.optimizers) if arm.regime in self.regimes)

    def retold(self, problem: str) -> tuple[Arm, ...]:
        """The arms that the study's sentences compare: shuffled every epoch, at a constant rate; and single samples at
        a decaying one."""
        single = Arm(1, schedule="decay")
        return tuple(a for a in self.arms(problem) if a.plain or a == replace(single, optimizer=a.optimizer))

    @property
    def engines(self) -> tuple[Engine, ...]:
        return ("refnet", "torch") if self.engine == "both" else (self.engine,)

    def as_dict(self) -> dict[str, Any]:
        """The whole specification, with what follows from this version of the problems and arms, as JSON values.

        Optimizers are named where there are others than plain gradient descent: an older study's specification stays.
        """
        facts = asdict(self)
        if self.optimizers == ("sgd",):
            del facts["optimizers"]
        return {
            **facts,
            "pilot_seeds": PILOT_SEEDS,
            "extensions": EXTENSIONS,
            "cell_format": cells_.FORMAT,
            "grids": {name: load(name).rates for name in self.problems},
            "arms": {name: [arm.name for arm in self.arms(name)] for name in self.problems},
        }


class Run(Protocol):
    """Computes cells.

    Args:
        stage: what they are for. later: how many more cells are known to follow.
    """

    def __call__(self, stage: str, cells: Sequence[Cell], later: int = 0) -> Mapping[Cell, Outcome]: ...


def conduct(study: Study, run: Run) -> Results:
    """Sweep, choose, set the targets, make the final runs.

    1. Every arm is tried at every rate of its problem's grid, with the pilot seeds.
    2. Each arm has the rate that `choose` gives. Where that is the lowest or the highest that was tried, the grid of
       the problem is made wider there, by one rate for all of its arms: their budgets stay equal. This is repeated at
       most EXTENSIONS times.
    3. Every arm runs at its rate, with seeds that the sweep did not use.
    4. If the study repeats, 1 to 3 once more for the `retold` arms, on the grid that there is now, from initial weights
       with other last bits.

    A problem's target is fixed (see `fixed_targets`), so that it depends neither on the arms nor on the runs.
    """
    pairs = [(problem, arm) for problem in study.problems for arm in study.arms(problem)]
    grids = {problem: load(problem).rates for problem in study.problems}
    later = len(pairs) * study.seeds * len(study.engines)

    for extension in range(EXTENSIONS + 1):
        pilots = [
            Cell(problem, arm, rate, seed, "refnet", study.iterations)
            for problem, arm in pairs
            for rate in grids[problem]
            for seed in PILOT_SEEDS
        ]
        swept = run(f"sweep, extension {extension}" if extension else "sweep", pilots, later)
        choices = choose(pilots, swept)
        wider = {
            problem: extended(grid, {choice.rate for (named, _), choice in choices.items() if named == problem})
            for problem, grid in grids.items()
        }
        if wider == grids:
            break
        if extension < EXTENSIONS:
            grids = wider

    finals = [
        Cell(problem, arm, choices[problem, arm].rate, seed, engine, study.iterations)
        for problem, arm in pairs
        for engine in study.engines
        for seed in range(study.seeds)
    ]
    retold = {(problem, arm) for problem, arm in pairs if arm in study.retold(problem)} if study.repeat else set()
    again = [replace(cell, other_bits=True) for cell in pilots if (cell.problem, cell.arm) in retold]
    final = run("final runs", finals, len(again))
    swept_again = run("sweep, other last bits", again, len(retold) * study.seeds) if again else {}
    choices_again = choose(again, swept_again)
    finals_again = [
        replace(cell, other_bits=True, rate=choices_again[cell.problem, cell.arm].rate)
        for cell in finals
        if (cell.problem, cell.arm) in retold and cell.engine == study.engines[0]
    ]
    final_again = run("final runs, other last bits", finals_again) if again else {}
    return Results(
        sweep=[(cell, swept[cell]) for cell in pilots],
        finals=[(cell, final[cell]) for cell in finals],
        choices=list(choices.values()),
        targets=[Target(problem, fixed_targets.of(problem)) for problem in study.problems],
        finals_again=[(cell, final_again[cell]) for cell in finals_again],
        choices_again=list(choices_again.values()),
    )


def final_loss(outcome: Outcome) -> float:
    """On the full training set; +infinity after divergence."""
    return math.inf if outcome.diverged_at is not None else outcome.train_loss[-1]


def stable(outcome: Outcome) -> bool:
    """Whether the training stayed finite and its loss, on the full training set, within RISE times the first."""
    return outcome.diverged_at is None and max(outcome.train_loss) <= RISE * outcome.train_loss[0]


def choose(cells: Sequence[Cell], outcomes: Mapping[Cell, Outcome]) -> dict[tuple[str, Arm], Choice]:
    """The rate of each problem and arm.

    The largest stable rate is the highest one that is `stable` with every seed, as are all that are lower. At higher
    rates a loss rises far above where it began before it falls, and what becomes of it hangs on the last bits of the
    weights. Up to that rate, or at the lowest one if none is stable, the rate is chosen whose final loss is lowest in
    the median over seeds. Rates within a share TIE of the lowest count as equal: of these the one whose loss was lowest
    on the way (`loss_on_the_way`), then the smallest.
    """
    runs: dict[tuple[str, Arm], dict[float, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for cell in sorted(cells, key=lambda cell: cell.rate):
        runs[cell.problem, cell.arm][cell.rate].append(outcomes[cell])
    chosen = {}
    for (problem, arm), by_rate in runs.items():
        rates = list(by_rate)
        steady = [rate for rate, _ in takewhile(lambda item: all(map(stable, item[1])), by_rate.items())]
        medians = {rate: band(list(map(final_loss, by_rate[rate]))).median for rate in steady or rates[:1]}
        least = min(medians.values())
        equal = [rate for rate, median in medians.items() if median <= (1 + TIE) * least]
        rate = min(equal, key=lambda rate: band(list(map(loss_on_the_way, by_rate[rate]))).median)
        chosen[problem, arm] = Choice(
            problem=problem,
            arm=arm.name,
            rate=rate,
            median_final_train_loss=medians[rate],
            largest_stable_rate=steady[-1] if steady else math.nan,
            lowest_rate_tried=rates[0],
            highest_rate_tried=rates[-1],
            inside=rates[0] < rate < rates[-1],
        )
    return chosen


def loss_on_the_way(outcome: Outcome) -> float:
    """The mean over all checkpoints of the loss on the full training set; +infinity after divergence."""
    return math.inf if outcome.diverged_at is not None else fmean(outcome.train_loss)


def extended(grid: tuple[float, ...], chosen: set[float]) -> tuple[float, ...]:
    """The ascending grid, and one rate more, in the ratio of the last two, at each end that is among the chosen."""
    below = (grid[0] * (grid[0] / grid[1]),) if grid[0] in chosen else ()
    above = (grid[-1] * (grid[-1] / grid[-2]),) if grid[-1] in chosen else ()
    return (*below, *grid, *above)


class Progress(Protocol):
    """Is told how the work goes on."""

    def begin(self, stage: str, cells: int, later: int) -> None:
        """A stage begins: `cells` are yet to be computed for it, and `later` more in the stages after it."""

    def advance(self, cells: int) -> None:
        """`cells` more are computed and kept."""

    def end(self, stage: str, computed: int, kept: int) -> None:
        """A stage has ended: `computed` cells were computed for it, `kept` were found in the folder."""

    def say(self, message: str) -> None:
        """Something that the user should know."""


class Runner:
    """A `Run` that takes what the folder has, computes the rest and keeps it as it ends: no cell is computed twice.

    Args:
        train: computes cells that share problem, arm, engine and iterations; of a module that workers can import.
    """

    def __init__(self, store: Store, workers: Workers, train: Train, progress: Progress) -> None:
        self._store, self._workers, self._train, self._progress = store, workers, train, progress
        self._known: dict[Cell, Outcome] = {}

    def __call__(self, stage: str, cells: Sequence[Cell], later: int = 0) -> Mapping[Cell, Outcome]:
        missing, found = [], 0
        for cell in cells:
            if cell in self._known:
                continue
            outcome = self._store.outcome(cell)
            if outcome is None:
                missing.append(cell)
            else:
                self._known[cell] = outcome
                found += 1
        self._progress.begin(stage, len(missing), later)
        for group, outcomes in self._workers.map(self._train, groups(missing)):
            for cell, outcome in zip(group, outcomes, strict=True):
                self._store.keep(cell, outcome)
                self._known[cell] = outcome
            self._progress.advance(len(group))
        self._progress.end(stage, len(missing), found)
        return {cell: self._known[cell] for cell in cells}


def groups(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """The cells, once each, in groups that can be trained at once; the longest work first, so that none ends alone."""
    alike: dict[Any, list[Cell]] = defaultdict(list)
    for cell in dict.fromkeys(cells):
        alike[cell.problem, cell.arm, cell.engine, cell.iterations, cell.other_bits].append(cell)
    return sorted((group for members in alike.values() for group in _even(members)), key=_work, reverse=True)


def _even(members: Sequence[Cell]) -> Iterator[tuple[Cell, ...]]:
    samples = members[0].arm.batch_size or len(load(members[0].problem).train_inputs)
    # Beyond it trainings are made one after the other anyway, and a kill is to cost but one of them.
    least = 4 if samples <= TOGETHER else 1
    parts = -(-len(members) // min(GROUP, max(least, TOGETHER // samples)))
    for part in range(parts):
        yield tuple(members[part * len(members) // parts : (part + 1) * len(members) // parts])


def _work(group: Sequence[Cell]) -> int:
    """Multiplications, about: only their order matters."""
    cell, problem = group[0], load(group[0].problem)
    samples = cell.arm.batch_size or len(problem.train_inputs)
    return len(group) * cell.iterations * samples * problem.units[0]
