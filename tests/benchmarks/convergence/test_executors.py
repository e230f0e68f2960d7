"""Tasks on every executor, real worker processes among them: results, deaths, interrupts, what can't be had."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import task_functions

from benchmarks.convergence import executors
from benchmarks.convergence.executors import Unavailable, Workers, WorkersLost, executor


@pytest.fixture(params=["serial", "process", "dask"])
def spec(request):
    return request.getfixturevalue("dask") if request.param == "dask" else request.param


def workers(spec, jobs=2):
    return Workers(partial(executor, spec, jobs))


def test_every_task_comes_back_with_its_result(spec):
    with workers(spec) as crew:
        assert sorted(crew.map(task_functions.square, range(20))) == [(x, x * x) for x in range(20)]
        # A stage follows the other on the same workers.
        assert sorted(crew.map(task_functions.square, [5, 5])) == [(5, 25), (5, 25)]
        assert list(crew.map(task_functions.square, [])) == []


def test_what_a_task_raises_is_raised(spec):
    with pytest.raises(LookupError, match="no 7"), workers(spec) as crew:
        list(crew.map(task_functions.fail, [7]))


def test_one_thread_for_linear_algebra(spec):
    with workers(spec) as crew:
        assert len(list(crew.map(task_functions.take_two_threads, range(8)))) == 8
        counts = {n for _, libraries in crew.map(task_functions.threads, range(8)) for n in libraries}
    assert counts == {1}


def test_serial_hands_over_each_result_before_it_begins_the_next(tmp_path):
    log = tmp_path / "log"
    with workers("serial") as crew:
        for _, x in crew.map(task_functions.log, [(log, x) for x in range(3)]):
            with log.open("a") as file:
                file.write(f"received {x}\n")
    assert log.read_text().split("\n")[:-1] == [f"{what} {x}" for x in range(3) for what in ("computed", "received")]


def test_an_interrupt_is_not_kept_by_the_serial_executor():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), workers("serial") as crew:
        list(crew.map(interrupted, [0]))


@pytest.mark.parametrize("spec", ["process", "dask"], indirect=True)
def test_the_tasks_of_a_worker_that_dies_are_done_again(spec, tmp_path):
    mark = tmp_path / "died"
    tasks = [(str(mark), x) for x in range(6)]
    with workers(spec) as crew:
        assert sorted(crew.map(task_functions.die_once, tasks)) == [(task, task[1]) for task in tasks]
    assert mark.exists()


def test_a_task_that_kills_every_worker_is_given_up_after_the_others_are_done():
    done = []
    with workers("process") as crew, pytest.raises(WorkersLost, match=r"3 times in a row.*the last of them 3"):
        done.extend(x for x, _ in crew.map(task_functions.die_at_3, range(12)))
    # Its neighbour may have died with it.
    assert len(set(done)) == len(done) >= 10
    assert 3 not in done


def test_any_executor_will_do():
    with Workers(partial(ThreadPoolExecutor, 3)) as crew:
        assert sorted(crew.map(task_functions.square, range(5))) == [(x, x * x) for x in range(5)]


def begun(folder, program, *args):
    """A program with two workers at work, and their process ids."""
    running = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)], stderr=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    until(lambda: len(list(folder.iterdir())) == 2)
    return running, [int(file.name) for file in folder.iterdir()]


def until(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, "waited for 600 s"
        time.sleep(0.02)


def alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        # A process that ended and that nobody has waited for yet is none.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


SLEEPERS = """
import sys
sys.path.insert(0, sys.argv[1])
import task_functions
from benchmarks.convergence.executors import Workers, executor
if __name__ == "__main__":
    with Workers(lambda: executor("process", 2)) as crew:
        list(crew.map(task_functions.sleep, [sys.argv[2]] * 4))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(number, tmp_path):
    program, pids = begun(tmp_path, SLEEPERS, Path(task_functions.__file__).parent, tmp_path)
    assert all(map(alive, pids))
    program.send_signal(number)
    _, said = program.communicate(timeout=600)
    assert program.returncode == -number
    until(lambda: not any(map(alive, pids)))
    if number == signal.SIGINT:
        assert said.count(b"Traceback") == 1
        assert said.rstrip().endswith(b"KeyboardInterrupt")


@pytest.mark.parametrize(
    "spec",
    ["", "processes", "dask", "dask://", "dask://here", "dask://:8786", "dask://h:x", "dask://h:1/x", "tcp://h:1"],
)
def test_an_unknown_executor(spec):
    with pytest.raises(ValueError, match=r"expected serial, process, dask://HOST:PORT or mpi, got "):
        executor(spec, 1)


def test_no_jobs():
    with pytest.raises(ValueError, match="at least one job, got 0"):
        executor("process", 0)


def test_no_dask_scheduler(monkeypatch):
    monkeypatch.setattr(executors, "CONNECTING", 1)
    with (
        pytest.raises(Unavailable, match=r"no Dask scheduler answers at 127\.0\.0\.1:9"),
        workers("dask://127.0.0.1:9"),
    ):
        pass


def test_a_dask_scheduler_without_workers(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(executors, "WAITING", 1)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty:
        spec = empty.scheduler_address.replace("tcp://", "dask://")
        with pytest.raises(Unavailable, match="had no worker for 1 s"), workers(spec):
            pass


@pytest.mark.parametrize(("spec", "package"), [("mpi", "mpi4py"), ("dask://127.0.0.1:9", "distributed")])
def test_a_package_that_is_not_installed(spec, package, monkeypatch):
    for module in (package, f"{package}.futures"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unavailable, match=f"pip install {package}"), workers(spec):
        pass


def test_mpi_is_mpi4pys_pool(monkeypatch):
    """mpi4py needs an MPI; its pool is an executor like others."""
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mpi4py.futures", SimpleNamespace(MPIPoolExecutor=ThreadPoolExecutor))
    with workers("mpi") as crew:
        assert sorted(crew.map(task_functions.square, range(5))) == [(x, x * x) for x in range(5)]
