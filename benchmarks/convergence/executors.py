"""Where the cells are computed: in this process, in a pool of processes, on a Dask cluster or under MPI.

All of them are `concurrent.futures.Executor`s, and what is computed does not depend on which: tasks are independent,
every process computes on one thread, and nothing follows from the order in which tasks end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from multiprocessing import get_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

BREAKDOWNS = 3
"""How many times in a row workers may die before the study gives up, when nothing is finished in between."""

CONNECTING, WAITING = 10, 60
"""Seconds for a Dask scheduler to answer, and for its first worker to appear."""


class Unavailable(Exception):
    """The executor that was asked for is not there: no scheduler at this address, a package not installed."""


class WorkersLost(Exception):
    """Workers die again and again, and with them the same tasks."""


class Serial(Executor):
    """Everything at once, in the process and thread that submits it. An interrupt is not kept for the future."""

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def executor(spec: str, jobs: int) -> AbstractContextManager[Executor]:
    """An executor for a `with` block: left with an exception, it stops at once, otherwise when its tasks have ended.

    Args:
        spec: "serial"; "process", a pool of `jobs` processes; "dask://HOST:PORT", the workers of the Dask scheduler at
            that address, which must be able to import `benchmarks`; "mpi", the ranks of
            `mpiexec -n N python -m mpi4py.futures -m benchmarks convergence --executor mpi`.
        jobs: processes of the pool; the other executors bring their own.

    Raises:
        ValueError: any other spec, or fewer than one job.
        Unavailable: when entered: see there.
    """
    if jobs < 1:
        raise ValueError(f"executor: expected at least one job, got {jobs}")
    if spec == "serial":
        return Serial()
    if spec == "process":
        return _processes(jobs)
    if spec == "mpi":
        return _mpi()
    return _dask(_dask_address(spec))


class Workers:
    """An executor that outlives the death of its workers: what they had in hand is done again by new ones.

    Args:
        start: gives a new executor for a `with` block, such as `functools.partial(executor, "process", 2)`. It is
            called when the workers' own block is entered, and after a breakdown.
    """

    def __init__(self, start: Callable[[], AbstractContextManager[Executor]]) -> None:
        self._start = start
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._executor = self._stack.enter_context(self._start())
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self._stack.__exit__(*exception)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """(task, function(task)) as each ends. With processes, function and tasks must be picklable.

        Raises:
            WorkersLost: BREAKDOWNS times in a row workers died and no task ended.
            Unavailable: after a breakdown there is no executor any more.
            Exception: what `function` raised.
        """
        waiting, breakdowns = deque(tasks), 0
        while waiting:
            under_way: dict[Future[R], T] = {}
            finished: SimpleQueue[Future[R]] = SimpleQueue()
            lost: list[T] = []
            while waiting or under_way:
                # An executor that computes while it submits is to hand over each result before the next.
                if waiting and finished.empty():
                    task = waiting.popleft()
                    future = self._submit(function, task)
                    under_way[future] = task
                    future.add_done_callback(finished.put)
                    continue
                future = finished.get()
                task = under_way.pop(future)
                error = None if future.cancelled() else future.exception()
                if future.cancelled() or (error is not None and _lost(error)):
                    lost.append(task)
                elif error is not None:
                    raise error
                else:
                    breakdowns = 0
                    yield task, future.result()
            if lost:
                breakdowns += 1
                if breakdowns == BREAKDOWNS:
                    raise WorkersLost(
                        f"workers died {BREAKDOWNS} times in a row with no task ended in between; left are "
                        f"{len(lost)} tasks, the last of them {lost[-1]!r:.300}"
                    )
                self._stack.close()
                self.__enter__()
                # The first were under way, so the culprit is among them: the others are done before it kills again.
                waiting.extend(reversed(lost))

    def _submit(self, function: Callable[[T], R], task: T) -> Future[R]:
        try:
            return self._executor.submit(_on_one_thread, function, task)
        except BrokenExecutor as error:
            future: Future[R] = Future()
            future.set_exception(error)
            return future


def _lost(error: BaseException) -> bool:
    """Whether not the task raised this, but its worker died, or the way there.

    Dask's own (KilledWorker, FutureCancelledError, CommClosedError) are known by where they come from, so that
    `distributed` need not be installed.
    """
    return isinstance(error, BrokenExecutor) or type(error).__module__.partition(".")[0] == "distributed"


def _on_one_thread(function: Callable[[T], R], task: T) -> R:
    """On more threads BLAS would add up in another order, and every core has a worker of its own already."""
    from threadpoolctl import threadpool_limits

    # For good: a limit that is taken back would be taken back under the feet of a Dask worker's other threads.
    threadpool_limits(1)
    return function(task)


@contextmanager
def _processes(jobs: int) -> Iterator[Executor]:
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, context, _begin, (theirs,))
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _begin(line: Connection) -> None:
    """In a new worker: end when the parent ends, however it does, and leave interrupts to it.

    Otherwise the processes of a pool whose parent was killed would wait for work and never end.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    """Nothing is ever sent: the line falls silent when its other end is closed, by hand or by death."""
    with suppress(EOFError, OSError):
        line.recv_bytes()
    os._exit(1)


def _dask_address(spec: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(spec)
        if parts.scheme == "dask" and parts.hostname and parts.port and spec == f"dask://{parts.netloc}":
            return parts.netloc
    raise ValueError(f"executor: expected serial, process, dask://HOST:PORT or mpi, got {spec!r}")


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise Unavailable("--executor dask://... needs the package `distributed` (pip install distributed)") from error

    try:
        client = Client(f"tcp://{address}", timeout=CONNECTING, set_as_default=False)
    except OSError as error:
        raise Unavailable(f"no Dask scheduler answers at {address} within {CONNECTING} s") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAITING)
        except TimeoutError as error:
            raise Unavailable(f"the Dask scheduler at {address} had no worker for {WAITING} s") from error
        # By default Dask takes two tasks of the same content for one, also when the first has lost its worker.
        pool = client.get_executor(pure=False)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False)


@contextmanager
def _mpi() -> Iterator[Executor]:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError as error:
        raise Unavailable("--executor mpi needs the package `mpi4py` and an MPI (pip install mpi4py)") from error

    pool = MPIPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
