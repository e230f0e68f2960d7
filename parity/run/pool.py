"""Work in processes of its own: the one pool for judging, scoring and certifying.

Each worker has a pipe of its own and one task at a time. So it is always known who was at what: a worker that dies or
hangs costs the task in its hands and nothing else, and no lock is left behind. A worker has one thread for linear
algebra, so that a result does not depend on how many others are at work.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

STILLBORN = 5
"""After this many workers in a row have died before they could take a task, no more are started."""

GLANCE = 1.0
"""Seconds after which a worker is looked at though it has said nothing: its own children may keep its pipe open."""

FAREWELL = 5.0
"""Seconds that an idle worker has to end by itself."""


@dataclass(frozen=True)
class Lost:
    """What there is in the place of a result when a worker died, or was stopped, at its task."""

    reason: str


def run(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    jobs: int,
    ended: Callable[[Task, Result | Lost], object],
    *,
    timeout: float = inf,
    prepare: Callable[[], object] | None = None,
    long: Callable[[Task], bool] = lambda task: False,
    apart: Callable[[Task], Sequence[Task]] = lambda task: (),
) -> None:
    """Do all tasks in at most `jobs` processes. When this returns or raises, no worker is left.

    Args:
        work: what is done with a task, in the worker. What it raises is raised here, and ends the run.
        ended: is called here as each task ends, in no particular order.
        timeout: seconds that one task may take.
        prepare: is called in each new worker, before its first task and outside of its time.
        long: whether a task is known to take long. These come first, so that none is left running alone at the end.
        apart: the tasks that take the place of a lost one, to find which part of it is to blame. Where there are none,
            the task has ended, with `Lost`.
    """
    waiting = deque(sorted(tasks, key=lambda task: not long(task)))
    workers: list[_Worker[Task]] = []
    stillborn = 0
    try:
        while waiting or any(worker.at_work for worker in workers):
            while len(workers) < jobs and sum(not worker.at_work for worker in workers) < len(waiting):
                # What kills a worker in `prepare` is left to the task that needs it.
                workers.append(_Worker(work, None if stillborn else prepare))
            for worker in workers:
                if worker.idle and waiting and worker.give(waiting[0], timeout):
                    waiting.popleft()
            wait([worker.channel for worker in workers], _pause(workers))
            for worker in tuple(workers):
                said = worker.said(timeout)
                if said is None:
                    continue
                task, begun = worker.take_back()
                if not isinstance(said, Lost):
                    stillborn = 0
                    ended(task[0], said())
                    continue
                workers.remove(worker)
                worker.end()
                if begun:
                    waiting.extend(parts := apart(task[0]))
                    if not parts:
                        ended(task[0], said)
                    continue
                # A worker that dies before it begins with a task says nothing against that task.
                waiting.extendleft(task)
                stillborn += 1
                while waiting and stillborn >= STILLBORN:
                    ended(waiting.popleft(), said)
        for worker in workers:
            worker.channel.close()
        for worker in workers:
            worker.end(FAREWELL)
    finally:
        for worker in workers:
            worker.end()


def _pause(workers: Sequence[_Worker[Any]]) -> float:
    """Until the first of the deadlines."""
    return max(0.0, min(GLANCE, min(worker.deadline for worker in workers) - time.monotonic()))


class _Worker(Generic[Task]):
    """A process, the pipe to it, and the task in its hands."""

    def __init__(self, work: Callable[[Task], Any], prepare: Callable[[], object] | None) -> None:
        context = get_context("spawn")
        self.channel, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, prepare), name="parity worker")
        with one_thread(), _undisturbed():
            self.process.start()
        theirs.close()
        self.ready = self.begun = False
        self.task: tuple[Task, ...] = ()
        self.deadline = inf

    @property
    def at_work(self) -> bool:
        return bool(self.task)

    @property
    def idle(self) -> bool:
        return self.ready and not self.task

    def give(self, task: Task, timeout: float) -> bool:
        """Whether the task could be handed over: not to a worker that has died meanwhile."""
        try:
            self.channel.send_bytes(pickle.dumps(task))
        except OSError:
            return False
        self.task, self.deadline = (task,), time.monotonic() + timeout
        return True

    def take_back(self) -> tuple[tuple[Task, ...], bool]:
        """The task, if there is one, and whether the worker has begun with it."""
        before = self.task, self.begun
        self.task, self.begun, self.deadline = (), False, inf
        return before

    def said(self, timeout: float) -> Callable[[], Any] | Lost | None:
        """What has come of the worker: what gives its task's result, or raises; that it is lost; None: nothing yet."""
        # Asked in this order: what a dead worker has said before still counts.
        dead = not self.process.is_alive()
        try:
            if self.channel.poll():
                reply = pickle.loads(self.channel.recv_bytes())
                self.ready, self.begun = True, reply != _READY
                return reply if isinstance(reply, _Reply) else None
        except (EOFError, OSError):
            dead = True
        if dead:
            self.process.join(GLANCE)
            return Lost(f"the process died (exit code {self.process.exitcode})")
        if time.monotonic() >= self.deadline:
            return Lost(f"no answer within {timeout:g} s")
        return None

    def end(self, patience: float = 0.0) -> None:
        """End the process: by itself in some seconds, or at once."""
        self.channel.close()
        self.process.join(patience)
        self.process.kill()
        self.process.join()


@dataclass(frozen=True)
class _Reply:
    """What a worker sends: the result, or what was raised."""

    result: Any = None
    error: Exception | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


_READY, _BEGUN = "ready", "begun"
"""What a worker says before its first task, and as soon as it has one."""


def _serve(channel: Connection[Any, Any], work: Callable[[Any], Any], prepare: Callable[[], object] | None) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever interrupts the run ends the workers too
    _unblock()
    Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()
    try:
        channel.send_bytes(pickle.dumps(_READY))
        while True:
            content = channel.recv_bytes()
            channel.send_bytes(pickle.dumps(_BEGUN))
            channel.send_bytes(_reply(work, content))
    except (EOFError, OSError):
        return  # nobody is left to ask, or to be told


def _reply(work: Callable[[Any], Any], task: bytes) -> bytes:
    try:
        return pickle.dumps(_Reply(work(pickle.loads(task))))
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            content = pickle.dumps(_Reply(error=error))
            pickle.loads(content)
        except Exception:
            # Not every exception survives the way to another process.
            told = RuntimeError(f"{type(error).__name__}: {error}")
            told.add_note(error.__notes__[-1])
            content = pickle.dumps(_Reply(error=told))
        return content


def _end_with_parent() -> None:
    """A worker whose parent was killed does not go on alone."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No interruption from the keyboard reaches a process that starts meanwhile, before it is able to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unblock() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for each library of linear algebra that a new process loads, where the user has not said otherwise."""
    added = [variable for variable in THREADS if variable not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for variable in added:
            del os.environ[variable]
