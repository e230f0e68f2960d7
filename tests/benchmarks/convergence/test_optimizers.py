"""Arms under momentum and Adam: what is trained, and what tables, page and keys say of it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.convergence import cells, problems, recorded_study, study_tables
from benchmarks.convergence.arms import Arm, arms
from benchmarks.convergence.cells import Cell, train
from benchmarks.convergence.report import sentences
from benchmarks.convergence.study import Study
from benchmarks.convergence.study_commands import convergence


def test_names_say_the_optimizer_unless_it_is_plain_gradient_descent():
    assert [Arm(4, optimizer=name).name for name in ("sgd", "momentum", "adam")] == [
        "mini-batch 4",
        "mini-batch 4, momentum",
        "mini-batch 4, Adam",
    ]
    with pytest.raises(ValueError, match="optimizer among sgd, momentum, adam, got 'lion'"):
        Arm(4, optimizer="lion")


def test_every_arm_is_made_by_each_optimizer():
    problem = problems.load("line")
    by_both = arms(problem, "small", ("sgd", "adam"))
    assert by_both[:4] == arms(problem, "small")
    assert [(arm.batch_size, arm.order, arm.schedule) for arm in by_both[4:]] == [
        (arm.batch_size, arm.order, arm.schedule) for arm in by_both[:4]
    ]
    assert {arm.optimizer for arm in by_both[4:]} == {"adam"}
    with pytest.raises(ValueError, match="different optimizers, got adam, adam"):
        Study(("line",), optimizers=("adam", "adam"))


def test_keys_and_specifications_of_before_stay():
    # Keys of cells that were kept when there was no other optimizer.
    assert Cell("line", Arm(4, "once"), 0.5, 0).key == "154d3706e2ce6c9d2c7613bd77628c96"
    other_bits = Cell("iris", Arm(1, schedule="decay"), 0.25, 3, "torch", 77, True)
    assert other_bits.key == "fb1bb5d0799d95728d343ef7a97f28f4"
    made = [Cell("line", Arm(4, optimizer=name), 0.5, 0) for name in ("sgd", "momentum", "adam")]
    assert len({cell.key for cell in made}) == 3
    assert [Cell.from_dict(json.loads(json.dumps(cell.as_dict()))) for cell in made] == made
    assert "optimizers" not in Study(("line",)).as_dict()
    assert Study(("line",), optimizers=("adam",)).as_dict()["optimizers"] == ("adam",)


def test_columns_of_before_stay():
    outcome = train([Cell("line", Arm(None), 0.5, 0, iterations=3)])[0]
    frames = study_tables.frames(study_tables.Results(finals=[(Cell("line", Arm(None), 0.5, 0), outcome)]))
    assert {name: tuple(frame.columns) for name, frame in frames.items()} == study_tables.COLUMNS


@pytest.mark.parametrize("engine", ["refnet", "torch"])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_the_weights_are_those_of_the_recursion(name, engine):
    problem, rate = problems.load("line"), 0.125
    (outcome,) = train([Cell("line", Arm(None, optimizer=name), rate, 2, engine, 6)])
    net, _ = cells.start(problem, 2)
    v = np.array([net.params["0.weight"].item(), net.params["0.bias"].item()])
    x, y = problem.train_inputs[:, 0], problem.train_targets[:, 0]
    A, b, first, second = np.zeros(2), np.zeros(2), 0.0, 0.0
    course = [v]
    for k in range(1, 7):
        e = v[0] * x + v[1] - y
        g = np.array([2 * np.mean(e * x), 2 * np.mean(e)])
        if name == "momentum":
            A = 0.9 * A + g
            v = v - rate * A
        else:
            A, b = 0.9 * A + 0.1 * g, 0.999 * b + 0.001 * g * g
            first, second = 1 - 0.9**k, 1 - 0.999**k
            v = v - rate * (A / first) / (np.sqrt(b / second) + 1e-8)
        course.append(v)
    assert outcome.updates == tuple(range(7))
    # As other courses of this folder are compared: the order of rounding is not the recursion's.
    np.testing.assert_allclose(np.transpose([outcome.path["w"], outcome.path["b"]]), course, rtol=1e-11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("optimizers") / "study"
    asked = ["--problem", "line", "--iterations", "30", "--seeds", "2", "--regime", "batch", "--regime", "stochastic"]
    asked += ["--optimizer", "adam", "--optimizer", "sgd", "--no-times", "--executor", "serial", "--out", str(out)]
    result = CliRunner().invoke(convergence, asked)
    assert result.exit_code == 0, result.output
    return out


def test_tables_page_and_figures_show_them(folder):
    study = recorded_study.read(folder / "tables")
    assert study.optimizers == ["sgd", "adam"]
    assert [arm.name for arm in study.plain("line")] == ["batch", "stochastic"]
    assert {arm.name for arm in study.every_arm("line")} >= {"batch, Adam", "stochastic, decaying rate, Adam"}
    curves = study.frames["curves"]
    assert set(curves["optimizer"]) == {"sgd", "adam"}
    pairs = study.rows("pairs", arm="stochastic, Adam")
    assert set(pairs["other"]) == {"batch, Adam"}
    assert (folder / "figures" / "optimizers-line.svg").exists()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Regimes are compared under plain gradient descent" in page
    told = [text for text in sentences.of_problem(study, "line") if "by optimizer, " in text]
    assert [text.split(":")[0] for text in told] == [
        "Final training loss above the least possible by optimizer, batch",
        "Final training loss above the least possible by optimizer, stochastic",
    ]
    loss = study.rows("summary", arm="batch, Adam")["train_loss_median"].item()
    assert f"Adam {sentences.number(sentences.loss(study, 'line', loss))}" in told[0]


def test_an_unknown_optimizer_is_bad_usage(tmp_path):
    result = CliRunner().invoke(convergence, ["--optimizer", "lion", "--out", str(tmp_path / "study")])
    assert result.exit_code == 2
    assert not (tmp_path / "study").exists()
