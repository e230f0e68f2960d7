"""The plan's decisions, each a function of outcomes; and the runner, which computes nothing twice."""

import math
from dataclasses import replace
from functools import partial

import fake_training
import pytest

from benchmarks.convergence import fixed_targets
from benchmarks.convergence.arms import REGIMES, Arm
from benchmarks.convergence.cells import Cell
from benchmarks.convergence.executors import Workers, executor
from benchmarks.convergence.problems import load
from benchmarks.convergence.study import (
    EXTENSIONS,
    GROUP,
    PILOT_SEEDS,
    RISE,
    TIE,
    TOGETHER,
    Runner,
    Study,
    choose,
    conduct,
    extended,
    final_loss,
    groups,
)
from benchmarks.convergence.study_folder import opened

BATCH, STOCHASTIC = Arm(None), Arm(1)


def diverged(outcome):
    return replace(outcome, train_loss=(*outcome.train_loss[:-1], math.nan), diverged_at=outcome.updates[-1])


def sweep(losses, problem="xor", arm=BATCH):
    """Outcomes of three pilot seeds at each rate; None has diverged."""
    outcomes = {}
    for rate, by_seed in losses.items():
        for seed, loss in zip(PILOT_SEEDS, by_seed, strict=True):
            cell = Cell(problem, arm, rate, seed, "refnet", 10)
            made = fake_training.outcome(cell, loss or 0.0)
            outcomes[cell] = diverged(made) if loss is None else replace(made, train_loss=(10.0, loss))
    return outcomes


def choice(losses):
    outcomes = sweep(losses)
    return choose(list(outcomes), outcomes)["xor", BATCH]


def test_the_rate_with_the_lowest_median_of_final_losses():
    made = choice({1.0: (0.1, 9.0, 0.2), 2.0: (0.15, 0.15, 0.15), 4.0: (0.0, 0.0, 8.0), 8.0: (0.1, 0.2, 0.3)})
    assert (made.rate, made.median_final_train_loss, made.largest_stable_rate) == (4.0, 0.0, 8.0)
    assert (made.lowest_rate_tried, made.highest_rate_tried, made.inside) == (1.0, 8.0, True)
    assert (made.problem, made.arm) == ("xor", "batch")


def test_a_run_that_diverged_is_worse_than_any_other():
    assert choice({1.0: (5.0, 5.0, 5.0), 2.0: (0.1, None, None), 4.0: (None, None, None)}).rate == 1.0
    assert final_loss(diverged(fake_training.outcome(Cell("xor", BATCH, 1.0, 0, "refnet", 10)))) == math.inf


def test_of_equally_good_rates_the_smallest_whatever_the_order():
    for order in ((1.0, 2.0, 4.0), (4.0, 2.0, 1.0)):
        assert choice(dict.fromkeys(order, (0.5, 0.5, 0.5))).rate == 1.0
        assert choice(dict.fromkeys(order, (None, None, None))).rate == 1.0


def test_of_rates_equal_but_for_rounding_the_one_that_was_better_on_the_way():
    outcomes = sweep({1.0: (0.5,) * 3, 2.0: (0.5 * (1 + TIE / 2),) * 3, 4.0: (0.5 * (1 + 2 * TIE),) * 3})
    faster = {
        cell: replace(outcome, train_loss=(1.0 / cell.rate, outcome.train_loss[-1]))
        for cell, outcome in outcomes.items()
    }
    assert choose(list(faster), faster)["xor", BATCH].rate == 2.0


@pytest.mark.parametrize(("best", "inside"), [(1.0, False), (2.0, True), (4.0, False)])
def test_inside_means_between_the_ends(best, inside):
    assert choice({rate: (abs(rate - best),) * 3 for rate in (1.0, 2.0, 4.0)}).inside is inside


def test_a_grid_is_extended_where_its_ends_were_chosen():
    grid = (0.5, 1.0, 4.0)
    assert extended(grid, {1.0}) == grid
    assert extended(grid, {1.0, 4.0}) == (*grid, 16.0)
    assert extended(grid, {0.5}) == (0.25, *grid)
    assert extended(grid, {0.5, 4.0}) == (0.25, *grid, 16.0)


def risen(outcome, times):
    """The same, but that its loss was on the way so many times what it was at first."""
    return replace(outcome, train_loss=(outcome.train_loss[0], times * outcome.train_loss[0], outcome.train_loss[-1]))


def test_no_rate_above_the_largest_stable_one():
    """At rate 4 one seed's loss rises too far; at 8 none does, but that is chance."""
    losses = {1.0: 0.4, 2.0: 0.3, 4.0: 0.2, 8.0: 0.1}
    outcomes = sweep({rate: (loss,) * 3 for rate, loss in losses.items()})
    for rise, rate, largest in ((RISE, 8.0, 8.0), (1.01 * RISE, 2.0, 2.0)):
        made = {c: risen(o, rise) if (c.rate, c.seed) == (4.0, PILOT_SEEDS[1]) else o for c, o in outcomes.items()}
        chosen = choose(list(made), made)["xor", BATCH]
        assert (chosen.rate, chosen.largest_stable_rate) == (rate, largest)
        assert chosen.median_final_train_loss == losses[rate]


def test_without_a_stable_rate_the_lowest_which_widens_the_grid():
    made = choice({1.0: (None, 0.1, 0.1), 2.0: (0.0, 0.0, 0.0)})
    assert made.rate == 1.0
    assert math.isnan(made.largest_stable_rate)
    assert not made.inside


def test_the_targets_are_fixed_whatever_runs():
    for regimes in (REGIMES, ("batch",), ("stochastic",)):
        results = conduct(replace(STUDY, regimes=regimes), FakeRun())
        assert {t.problem: t.target_train_loss for t in results.targets} == {
            name: fixed_targets.of(name) for name in ("xor", "line")
        }
    assert math.isnan(fixed_targets.of("a problem of tomorrow"))


class FakeRun:
    """Keeps what it was asked for."""

    def __init__(self, loss=None):
        self.loss, self.stages = loss, []

    def __call__(self, stage, cells, later=0):
        self.stages.append((stage, list(cells), later))
        return {cell: fake_training.outcome(cell, self.loss and self.loss(cell)) for cell in cells}


STUDY = Study(("xor", "line"), seeds=4, iterations=10)


def test_the_stages_of_a_study():
    run = FakeRun()
    results = conduct(STUDY, run)
    (sweep_name, pilots, later), (finals_name, finals, none_later) = run.stages
    assert (sweep_name, finals_name, none_later) == ("sweep", "final runs", 0)
    arms = {name: STUDY.arms(name) for name in ("xor", "line")}
    assert {cell.seed for cell in pilots} == set(PILOT_SEEDS)
    assert {cell.seed for cell in finals} == set(range(4))
    for name in ("xor", "line"):
        # Equal budgets: every arm at every rate.
        tried = {(cell.arm, cell.rate, cell.seed) for cell in pilots if cell.problem == name}
        assert tried == {(arm, rate, seed) for arm in arms[name] for rate in load(name).rates for seed in PILOT_SEEDS}
        assert {(cell.arm, cell.seed) for cell in finals if cell.problem == name} == {
            (arm, seed) for arm in arms[name] for seed in range(4)
        }
    assert {cell.rate for cell in finals} == {0.125}
    assert later == len(finals) == 4 * (len(arms["xor"]) + len(arms["line"]))
    assert {cell.iterations for cell in (*pilots, *finals)} == {10}
    assert [cell for cell, _ in results.sweep] == pilots
    assert [cell for cell, _ in results.finals] == finals
    assert all(outcome == fake_training.outcome(cell) for cell, outcome in (*results.sweep, *results.finals))
    assert [target.problem for target in results.targets] == ["xor", "line"]
    assert len(results.choices) == len(arms["xor"]) + len(arms["line"])


def test_a_grid_is_extended_for_every_arm_of_the_problem_and_no_other():
    def loss(cell):
        best = 2.0 ** (7 if cell.problem == "xor" and cell.arm == STOCHASTIC else -3)
        return abs(math.log2(cell.rate / best))

    run = FakeRun(loss)
    results = conduct(STUDY, run)
    extensions = [f"sweep, extension {k}" for k in (1, 2, 3)]
    assert [stage for stage, _, _ in run.stages] == ["sweep", *extensions, "final runs"]
    xor = load("xor").rates
    assert max(xor) == 2.0**5
    for arm in STUDY.arms("xor"):
        tried = {cell.rate for cell, _ in results.sweep if (cell.problem, cell.arm) == ("xor", arm)}
        assert tried == {*xor, 2.0**6, 2.0**7, 2.0**8}
    for arm in STUDY.arms("line"):
        tried = {cell.rate for cell, _ in results.sweep if (cell.problem, cell.arm) == ("line", arm)}
        assert tried == set(load("line").rates)
    assert all(made.inside for made in results.choices)
    assert {cell.rate for cell, _ in results.finals if cell.arm == STOCHASTIC and cell.problem == "xor"} == {2.0**7}


def test_a_grid_is_extended_so_many_times_and_then_it_is_said():
    run = FakeRun(lambda cell: 1 / cell.rate)
    results = conduct(replace(STUDY, problems=("xor",)), run)
    assert len(run.stages) == EXTENSIONS + 2
    highest = load("xor").rates[-1] * 2**EXTENSIONS
    for made in results.choices:
        assert (made.rate, made.highest_rate_tried, made.inside) == (highest, highest, False)


def test_a_study_that_repeats_sweeps_and_trains_what_it_tells_with_other_bits():
    def loss(cell):
        # With other bits the best rate is the next one.
        return abs(math.log2(cell.rate) + (2 if cell.other_bits else 3)) + 1

    run = FakeRun(loss)
    study = replace(STUDY, extent="full", repeat=True, engine="both")
    results = conduct(study, run)
    names = ["sweep", "final runs", "sweep, other last bits", "final runs, other last bits"]
    assert [stage for stage, _, _ in run.stages] == names
    retold = {(name, arm) for name in study.problems for arm in study.retold(name)}
    assert {arm.name for _, arm in retold if arm.schedule == "decay"} == {"stochastic, decaying rate"}
    assert {arm.order for _, arm in retold} == {"epoch"}
    pilots, finals, again, last = (cells for _, cells, _ in run.stages)
    assert all(cell.other_bits for cell in (*again, *last))
    assert not any(cell.other_bits for cell in (*pilots, *finals))
    assert {replace(cell, other_bits=False) for cell in again} == {c for c in pilots if (c.problem, c.arm) in retold}
    assert {(c.problem, c.arm, c.seed) for c in last} == {(*pair, seed) for pair in retold for seed in range(4)}
    assert {cell.engine for cell in last} == {"refnet"}
    assert {cell.rate for cell in finals} == {0.125}
    assert {cell.rate for cell in last} == {0.25} == {made.rate for made in results.choices_again}
    assert [cell for cell, _ in results.finals_again] == last
    assert not conduct(STUDY, FakeRun()).finals_again


def test_torch_makes_final_runs_only():
    for engine, engines in (("torch", {"torch"}), ("both", {"refnet", "torch"}), ("refnet", {"refnet"})):
        results = conduct(replace(STUDY, engine=engine), FakeRun())
        assert {cell.engine for cell, _ in results.sweep} == {"refnet"}
        assert {cell.engine for cell, _ in results.finals} == engines
        assert len(results.finals) == len({cell for cell, _ in results.finals}) == len(engines) * 4 * 8


def test_regimes_are_families_of_arms():
    assert {arm.regime for arm in STUDY.arms("xor")} == set(REGIMES)
    assert STUDY.arms("xor")[0] == BATCH
    assert replace(STUDY, regimes=("batch",)).arms("xor") == (BATCH,)
    assert len(replace(STUDY, extent="full").arms("xor")) > len(STUDY.arms("xor"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems": ()}, "one or more different problems, got none"),
        ({"problems": ("xor", "xor")}, "one or more different problems, got xor, xor"),
        ({"regimes": ()}, "different regimes, got none"),
        ({"seeds": 0}, "1 to 1000 seeds, got 0"),
        ({"seeds": 1001}, "1 to 1000 seeds, got 1001"),
    ],
)
def test_a_study_that_can_not_be(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(STUDY, **changes)


def test_groups_hold_every_cell_once_with_what_it_can_be_trained_with():
    cells = [
        Cell(problem, arm, rate, seed, "refnet", 10)
        for seed in range(30)
        for problem in ("xor", "line")
        for arm in (BATCH, STOCHASTIC)
        for rate in (0.1, 0.2, 0.3)
    ]
    made = groups([*cells, *cells[:7]])
    assert sorted(cell.key for group in made for cell in group) == sorted(cell.key for cell in cells)
    for group in made:
        assert len({(cell.problem, cell.arm, cell.engine, cell.iterations) for cell in group}) == 1
        samples = group[0].arm.batch_size or len(load(group[0].problem).train_inputs)
        assert 18 <= len(group) <= GROUP
        assert samples * len(group) <= TOGETHER
    # A training so large that none is made beside it is a group of its own.
    assert {len(group) for group in groups([Cell("mnist_all", BATCH, 0.1, seed) for seed in range(3)])} == {1}
    # The longest work first.
    assert (made[0][0].problem, made[0][0].arm) == ("line", BATCH)
    assert groups([]) == []


class Log:
    def __init__(self):
        self.begun, self.advanced, self.ended = [], [], []

    def begin(self, *stage):
        self.begun.append(stage)

    def advance(self, cells):
        self.advanced.append(cells)

    def end(self, *stage):
        self.ended.append(stage)

    def say(self, message):
        raise AssertionError(message)


def conducted(folder, study=STUDY, train=fake_training.train, spec="serial", jobs=2, resume=False):
    """Results, progress and what was said."""
    log, said = Log(), []
    with (
        Workers(partial(executor, spec, jobs)) as workers,
        opened(folder, study.as_dict(), {}, resume=resume, say=said.append) as store,
    ):
        return conduct(study, Runner(store, workers, train, log)), log, said


def never(cells):
    raise AssertionError(f"trained again: {cells}")


def test_a_complete_study_that_is_resumed_trains_nothing(tmp_path):
    first, log, _ = conducted(tmp_path)
    pilots, finals = len(first.sweep), len(first.finals)
    assert log.begun == [("sweep", pilots, finals), ("final runs", finals, 0)]
    assert log.ended == [("sweep", pilots, 0), ("final runs", finals, 0)]
    assert sum(log.advanced) == pilots + finals
    second, log, said = conducted(tmp_path, train=never, resume=True)
    assert second == first
    assert log.ended == [("sweep", 0, pilots), ("final runs", 0, finals)]
    assert not said


def test_no_cell_is_trained_twice_in_one_run(tmp_path):
    trained = []

    def train(cells):
        trained.extend(cells)
        return [fake_training.outcome(cell, abs(math.log2(cell.rate) - 7)) for cell in cells]

    results, log, _ = conducted(tmp_path, train=train)
    assert len(log.ended) > 3
    assert len(trained) == len(set(trained)) == len(results.sweep) + len(results.finals)


def test_what_was_kept_before_a_failure_is_not_trained_again(tmp_path):
    trained = []

    def train(cells):
        if len(trained) > 100:
            raise MemoryError
        trained.extend(cells)
        return fake_training.train(cells)

    with pytest.raises(MemoryError):
        conducted(tmp_path, train=train)
    before = list(trained)
    trained.clear()

    def rest(cells):
        trained.extend(cells)
        return fake_training.train(cells)

    results, _, _ = conducted(tmp_path, train=rest, resume=True)
    assert not set(before) & set(trained)
    assert len(before) + len(trained) == len(results.sweep) + len(results.finals)


def test_a_damaged_cell_alone_is_trained_again_and_told(tmp_path):
    first, _, _ = conducted(tmp_path)
    cell = first.finals[3][0]
    (file,) = (tmp_path / "cells").rglob(f"{cell.key}.json")
    file.write_bytes(file.read_bytes()[:-9])
    trained = []

    def train(cells):
        trained.extend(cells)
        return fake_training.train(cells)

    second, _, said = conducted(tmp_path, train=train, resume=True)
    assert trained == [cell]
    assert second == first
    (message,) = said
    assert str(file) in message


def test_the_cells_of_a_worker_that_dies_are_trained_by_another(tmp_path, monkeypatch):
    monkeypatch.setenv("DIES_ONCE", str(tmp_path / "died"))
    results, _, _ = conducted(tmp_path / "study", train=fake_training.train_or_die, spec="process")
    assert (tmp_path / "died").exists()
    assert results == conduct(STUDY, FakeRun())
