"""What a study has besides cells: which parts, and that each is computed once and comes back as it was."""

from functools import partial

import fake_training
import pytest

from benchmarks.convergence import engine_drift, problems, side_measurements, theory, update_times
from benchmarks.convergence.arms import Arm
from benchmarks.convergence.executors import Workers, executor
from benchmarks.convergence.side_measurements import Part
from benchmarks.convergence.study import Study
from benchmarks.convergence.study_folder import opened
from benchmarks.convergence.study_tables import Choice, Results

STUDY = Study(("line", "xor"), seeds=2, iterations=50)


def results(study):
    """Each arm has a rate of its own: its place among them."""
    arms = [(problem, arm) for problem in study.problems for arm in study.arms(problem)]
    choices = [Choice(name, arm.name, float(k), 0.0, 0.0, 0.0, 0.0, True) for k, (name, arm) in enumerate(arms)]
    return Results(choices=choices), {(name, arm.name): float(k) for k, (name, arm) in enumerate(arms)}


def of(field, wanted):
    return [part for part in wanted if part.field == field]


@pytest.mark.parametrize("full", [False, True])
def test_the_parts_of_a_study(full):
    study = Study(("line", "xor"), seeds=2, iterations=50, extent="full" if full else "small")
    found, rates = results(study)
    wanted = side_measurements.beside(study, found)
    assert len({(part.field, part.name) for part in wanted}) == len(wanted)
    assert [part.arguments for part in of("variance", wanted)] == [{"name": "line"}, {"name": "xor"}]
    plain = [(name, Arm(size)) for name, middle in (("line", 16), ("xor", 3)) for size in (None, middle, 1)]
    plain = plain if full else [(name, arm) for name, arm in plain if arm.regime != "mini-batch"]
    assert [part.arguments for part in of("twin", wanted)] == [
        {"name": name, "arm": arm, "rate": rates[name, arm.name], "iterations": 50} for name, arm in plain
    ]
    # Drawn with replacement where that is an arm of the study.
    arms = [("stochastic, with replacement", "constant"), ("stochastic, decaying rate", "decay")]
    assert [part.arguments for part in of("moments", wanted)] == [
        {"name": "line", "rate": rates["line", name], "schedule": schedule, "iterations": 50}
        for name, schedule in (arms if full else [("stochastic", "constant")])
    ]
    assert [part.function for part in wanted if part.needs == "flint"] == [theory.stability, theory.surface]


def test_mnist_has_no_twins():
    study = Study(("mnist",), seeds=2, iterations=50)
    assert {part.field for part in side_measurements.beside(study, results(study)[0])} == {"variance"}


def test_problems_of_real_size_have_nothing_beside_them():
    study = Study(problems.REAL, seeds=2, iterations=50, extent="real")
    assert side_measurements.beside(study, results(study)[0]) == []


def test_without_the_line_or_single_samples_there_is_less():
    found, _ = results(STUDY)
    fields = {part.field for part in side_measurements.beside(Study(("xor",), seeds=2, iterations=50), found)}
    assert fields == {"variance", "twin"}
    batch = Study(("line",), regimes=("batch",), seeds=2, iterations=50)
    fields = [part.field for part in side_measurements.beside(batch, results(batch)[0])]
    assert fields == ["variance", "twin", "stability", "surface"]


def test_each_engine_that_is_installed_is_timed(monkeypatch):
    wanted = side_measurements.timings(STUDY)
    assert [(part.function, part.arguments) for part in wanted] == [
        (update_times.measure, {"name": name, "engines": ["refnet", "torch"], "rounds": 3}) for name in ("line", "xor")
    ]
    monkeypatch.setattr(side_measurements, "find_spec", lambda package: None)
    assert {tuple(part.arguments["engines"]) for part in side_measurements.timings(STUDY)} == {("refnet",)}


class Log(list):
    begin = advance = lambda self, *args: None

    def end(self, *stage):
        self.append(stage)

    def say(self, message):
        self.append(message)


WANTED = [
    Part("variance", "line", fake_training.rows, {"name": "line"}),
    Part("twin", "xor-1", fake_training.drifts, {"name": "xor", "arm": Arm(1)}),
    Part("variance", "xor", fake_training.rows, {"name": "xor", "runs": 3}),
]


def carried_out(folder, wanted=WANTED, spec="serial"):
    log = Log()
    with (
        Workers(partial(executor, spec, 2)) as workers,
        opened(folder, {}, {}, resume=True, say=log.say) as store,
    ):
        return side_measurements.carry_out("parts", wanted, store, workers, log), log


@pytest.mark.parametrize("spec", ["serial", "process"])
def test_parts_are_computed_once_and_come_back_as_they_were(spec, tmp_path, monkeypatch):
    first, log = carried_out(tmp_path, spec=spec)
    assert log == [("parts", 3, 0)]
    assert list(first) == ["variance", "twin"]
    direct = [*fake_training.rows("line"), *fake_training.rows("xor", 3)]
    assert repr(first["variance"]) == repr(direct)
    assert repr(first["twin"]) == repr([engine_drift.Drift("xor", "stochastic", 0.5, 0, 1.0, 2.0, 0.0, 0)])
    monkeypatch.setattr(side_measurements, "_compute", None)
    second, log = carried_out(tmp_path)
    assert log == [("parts", 0, 3)]
    assert repr(second) == repr(first)


def test_other_arguments_are_computed_anew(tmp_path):
    carried_out(tmp_path)
    changed = [WANTED[0], Part("twin", "xor-1", fake_training.drifts, {"name": "xor", "arm": Arm(2)}), WANTED[2]]
    rows, log = carried_out(tmp_path, changed)
    assert log[-1] == ("parts", 1, 2)
    assert rows["twin"][0].arm == "mini-batch 2"


def test_what_needs_a_package_that_is_not_there_is_left_out_and_told(tmp_path):
    needy = Part("twin", "xor-1", fake_training.drifts, {"name": "xor", "arm": Arm(1)}, needs="no_such_package")
    rows, log = carried_out(tmp_path, [WANTED[0], needy])
    assert log == ["twin of xor-1 is left out: it needs the package no_such_package", ("parts", 1, 0)]
    assert (len(rows["variance"]), rows["twin"]) == (2, [])
