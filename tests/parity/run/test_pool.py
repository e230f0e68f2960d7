"""The pool of processes: what dies, hangs or raises in it, and what is left when it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from parity.run import pool
from parity.run.pool import Lost

REPOSITORY = Path(__file__).parents[3]

WORK = """
    import ctypes, os, signal, time
    from pathlib import Path

    class Strange(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def square(x):
        return x * x

    def pid(task):
        return os.getpid()

    def threads(task):
        return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")

    def hostile(task):
        match task:
            case "exits":
                os._exit(7)
            case "crashes":
                ctypes.string_at(0)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(600)
            case "holds":
                # A child of the worker's own keeps the pipe open.
                if os.fork() == 0:
                    time.sleep(10)
                os._exit(9)
        return task

    def each(tasks):
        return [hostile(task) for task in tasks]

    def raises(task):
        raise Strange(task, 2) if task else ValueError("no task")

    def lambdas(task):
        return lambda: task

    def noted(folder, task):
        Path(folder, str(os.getpid())).touch()
        time.sleep(600)

    def exits():
        os._exit(5)

    def exits_once(folder):
        try:
            Path(folder, "once").mkdir()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    class Fatal:
        def __reduce__(self):
            return os._exit, (6,)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module that workers can import."""
    folder = tmp_path / "importable"
    folder.mkdir()
    name = f"pool_work_{tmp_path.name}".replace("-", "_")
    (folder / f"{name}.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(folder)
    return __import__(name)


def results(function, tasks, jobs=2, **options):
    """What has come of the tasks, in the order of their ends."""
    found = []
    pool.run(function, tasks, jobs, lambda task, result: found.append((task, result)), **options)
    assert not [p for p in multiprocessing.active_children() if p.is_alive()]
    return found


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_task_is_done_once(work, jobs):
    assert sorted(results(work.square, range(20), jobs)) == [(k, k * k) for k in range(20)]


def test_nothing_to_do(work):
    assert results(work.square, []) == []


def test_no_more_processes_than_tasks_or_jobs(work):
    assert len({pid for _, pid in results(work.pid, range(10), 2)}) <= 2
    assert {pid for _, pid in results(work.pid, range(10), 2)}.isdisjoint({os.getpid()})


def test_long_tasks_come_first(work):
    assert [task for task, _ in results(work.square, range(6), 1, long=lambda task: task % 2)] == [1, 3, 5, 0, 2, 4]


def test_one_thread_for_linear_algebra(work, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert results(work.threads, [0]) == [(0, ("2", "1"))]
    assert "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("exits", "the process died (exit code 7)"),
        ("crashes", "the process died (exit code -11)"),
        ("killed", "the process died (exit code -9)"),
        ("hangs", "no answer within 2 s"),
        ("holds", "the process died (exit code 9)"),
    ],
)
def test_a_lost_task_costs_no_other(work, task, reason):
    tasks = ["a", task, "b", "c", task, "d"]
    found = results(work.hostile, tasks, timeout=2)
    assert sorted(map(str, found)) == sorted(str((t, Lost(reason) if t == task else t)) for t in tasks)


def test_who_is_to_blame(work):
    """What is lost together is done again one by one."""
    tasks = [("a", "killed", "b"), ("c", "d"), ("exits",)]
    found = results(work.each, tasks, apart=lambda task: [(t,) for t in task] if len(task) > 1 else [])
    assert dict(found) == {
        ("a",): ["a"],
        ("killed",): Lost("the process died (exit code -9)"),
        ("b",): ["b"],
        ("c", "d"): ["c", "d"],
        ("exits",): Lost("the process died (exit code 7)"),
    }
    assert len(found) == 5


# ---- a worker that dies before its task


def test_a_task_that_was_not_begun_is_done_by_another_worker(work, monkeypatch):
    """The race, forced: the worker is killed when it is ready, just before a task is handed to it."""
    killed = []
    give = pool._Worker.give

    def race(worker, task, timeout):
        if len(killed) < 3:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
            # A dead worker's pipe refuses the task; one that is about to die still takes it.
            if len(killed) == 1:
                worker.process.join()
        return give(worker, task, timeout)

    monkeypatch.setattr(pool._Worker, "give", race)
    found = results(work.square, range(6), 2)
    assert len(killed) == 3
    assert sorted(found) == [(k, k * k) for k in range(6)]


def test_a_worker_that_dies_while_it_prepares_is_replaced(work, tmp_path):
    found = results(work.square, range(4), 1, prepare=partial(work.exits_once, tmp_path))
    assert sorted(found) == [(k, k * k) for k in range(4)]
    assert (tmp_path / "once").exists()


def test_preparing_that_is_fatal_is_left_out(work):
    assert sorted(results(work.square, range(4), 2, prepare=work.exits)) == [(k, k * k) for k in range(4)]


def test_a_pool_that_breaks_down_gives_its_tasks_up(work, monkeypatch):
    """No worker lives to take a task: after some, none is started any more."""
    started = []

    class Dying(pool._Worker):
        def __init__(self, function, prepare):
            started.append(1)
            super().__init__(function, work.exits)

    monkeypatch.setattr(pool, "_Worker", Dying)
    assert sorted(map(str, results(work.square, range(3), 1))) == [
        str((k, Lost("the process died (exit code 5)"))) for k in range(3)
    ]
    assert len(started) == pool.STILLBORN


def test_a_task_that_kills_whoever_reads_it_is_lost_alone(work):
    found = results(work.square, [2, work.Fatal(), 3], 1)
    assert [(task if isinstance(task, int) else "fatal", result) for task, result in found] == [
        (2, 4),
        ("fatal", Lost("the process died (exit code 6)")),
        (3, 9),
    ]


# ---- what is raised


def test_what_is_raised_in_a_worker_is_raised_here(work):
    with pytest.raises(ValueError, match="no task") as caught:
        results(work.raises, [0])
    (note,) = caught.value.__notes__
    assert note.startswith("in a worker process:\nTraceback (most recent call last)")
    assert "in raises" in note
    assert not [p for p in multiprocessing.active_children() if p.is_alive()]


def test_an_exception_that_does_not_travel_is_told(work):
    with pytest.raises(RuntimeError) as caught:
        results(work.raises, [1])
    assert str(caught.value) == "Strange: 1 and 2"
    assert "in raises" in caught.value.__notes__[0]


def test_a_result_that_does_not_travel_is_told(work):
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"pickle|local"):
        results(work.lambdas, [1])


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
def test_what_is_raised_here_ends_all_workers(work, error):
    def ended(task, result):
        raise error

    start = time.monotonic()
    with pytest.raises(type(error)):
        pool.run(work.hostile, ["a", "hangs", "hangs"], 2, ended)
    assert time.monotonic() - start < 60
    assert not [p for p in multiprocessing.active_children() if p.is_alive()]


# ---- interrupted from outside


def gone(pid):
    """Whether a process has ended, though nobody may have waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["int", "term", "kill"])
def test_no_worker_outlives_its_run(work, tmp_path, number):
    pids = tmp_path / "pids"
    pids.mkdir()
    code = f"""
        import sys
        from functools import partial
        sys.path[:0] = [{str(tmp_path / "importable")!r}]
        import {work.__name__} as work
        from parity.run import pool
        pool.run(partial(work.noted, {str(pids)!r}), range(4), 2, print)
    """
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, start_new_session=True)
    while len(list(pids.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    # Ctrl-C reaches the whole group of processes, the others only one.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert "leaked" not in err
    assert err.count("Traceback") == (number == signal.SIGINT)
    workers = [int(path.name) for path in pids.iterdir()]
    for _ in range(200):
        if all(map(gone, workers)):
            break
        time.sleep(0.05)
    assert all(map(gone, workers))
