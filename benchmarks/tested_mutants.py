"""`python -m benchmarks mutants`: refnet's source with one thing changed at a time, and whether a test notices.

`parity mutate` asks this of what the catalogue's cases reach. These files no case reaches: schedules of the rate,
clipping, averages of weights, scaling of the loss, samplers, initial values and the generator. The changes are those of
`parity.engines.mutants`, on every line. A mutant is a child process of this one, in which refnet is imported anew with
the change in it, and the tests about that file run until one fails: those that have killed mutants before it come
first, the latest at the front, and then the quickest.
"""

from __future__ import annotations

import ast
import gc
import json
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, ModuleType
from typing import Any

import click
import pytest

from parity.engines import mutants
from parity.engines.mutants import Mutant
from parity.report import mutants_table
from parity.run.mutating import Survival, all_ok, figures, part
from refnet.files import write_bytes

ROOT = Path(__file__).parent.parent

TESTS: dict[str, tuple[str, ...]] = {
    "refnet.optim.lr_scheduler": ("optim/test_lr_scheduler.py",),
    "refnet.optim.lr_scheduler_base": ("optim/test_lr_scheduler.py",),
    "refnet.optim.lr_scheduler_combined": ("optim/test_lr_scheduler.py",),
    "refnet.optim.lr_scheduler_cyclic": ("optim/test_lr_scheduler.py",),
    "refnet.optim.lr_scheduler_plateau": ("optim/test_lr_scheduler.py",),
    "refnet.optim.swa_utils": ("optim/test_swa_utils.py",),
    "refnet.amp.grad_scaler": ("amp/test_grad_scaler.py",),
    "refnet.nn.utils": ("nn/test_utils.py",),
    "refnet.train.index_samplers": ("train/test_index_samplers.py",),
    "refnet.train.sampler": ("train/test_sampler.py",),
    "refnet.nn.init": ("nn/test_init.py",),
    "refnet.generator": ("test_generator.py",),
}
"""The modules, and the tests about each, in tests/refnet."""

EXCUSED: dict[str, str] = json.loads(Path(__file__).with_name("excused_mutants.json").read_text(encoding="utf-8"))
"""Mutants that no test can notice, by `Mutant.key`, each with the reason."""

AFRESH = ("refnet", "parity", "benchmarks", "tests", "conftest")
"""What a child process forgets, besides its tests, so that it is imported anew with the change."""

SLOWER, LEAST = 4, 5
"""A mutant counts as killed after this many times the processor seconds of the tests, or after this many seconds."""

WAITED = 20
"""A mutant that waits for ever counts as killed after this many times what it may take of the processor, which it may
share with many others."""

MEMORY = 4 * 2**30
"""Bytes that a mutant may take beyond those of this process."""

OPTIONS = (
    *("-o", "addopts=", "--import-mode=importlib", "-x", "-m", "not slow"),
    # Each costs more than a test, or prints.
    *("-p", "no:cacheprovider", "-p", "no:logging", "-p", "no:terminal"),
)


@dataclass(frozen=True)
class Outcome:
    """How the tests ended on a mutant.

    Attributes:
        by: the test that failed, or what else ended them; empty where none did. seconds: of each test that ran.
        processor: seconds of the whole process.
    """

    by: str
    seconds: dict[str, float]
    processor: float = 0.0


class _Source(SourceFileLoader):
    """Loads a module from a changed tree of its source."""

    def __init__(self, fullname: str, path: str, tree: ast.Module) -> None:
        super().__init__(fullname, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        made: CodeType = compile(self._tree, self.path, "exec")
        return made


@dataclass(frozen=True)
class _Finder:
    """Finds one module in a changed tree of its source."""

    home: str
    tree: ast.Module

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.home:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            raise RuntimeError(f"mutants: expected the file of {name}, got none")
        spec.loader = _Source(name, spec.origin, self.tree)
        return spec


class _Watch:
    """A plugin of pytest: tests in a given order, of which the first that fails is noted, and what each takes.

    Args:
        order: tests in their order. Others come before them.
    """

    def __init__(self, order: Sequence[str]) -> None:
        self._places = {test: place for place, test in enumerate(order)}
        self.failed, self.seconds = "", dict[str, float]()

    def pytest_configure(self, config: Any) -> None:
        config.option.tbstyle = "native"  # which is seen by nobody, and takes the least time

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self._places.get(item.nodeid, -1))

    def pytest_collectreport(self, report: Any) -> None:
        self._note(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def _paths(files: Sequence[str]) -> list[str]:
    return [str(ROOT / "tests" / "refnet" / file) for file in files]


def _tests(files: Sequence[str], order: Sequence[str], *options: str) -> Outcome:
    """Run the tests of these files, in this process, until one fails."""
    watch = _Watch(order)
    code = pytest.main([*OPTIONS, *options, *_paths(files)], plugins=[watch])
    return Outcome(watch.failed or ("" if code == 0 else f"pytest ended with {code!r}"), watch.seconds)


def _child(home: str, number: int | None, order: Sequence[str], allowed: float, answer: int) -> None:
    """All that a child process does: the tests, with that change in that module, in this order and time."""
    gc.disable()  # which would copy the pages that this process shares
    if allowed:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = math.ceil(allowed)
        # Limits of the system, so that a loop in C ends too, and also where the process that began this one is gone.
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
        signal.alarm(math.ceil(WAITED * most))
    if (size := Path("/proc/self/statm")).exists():
        most_memory = int(size.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most_memory, most_memory))
    silent = os.open(os.devnull, os.O_RDWR)
    for number_of_stream in (0, 1, 2):
        os.dup2(silent, number_of_stream)
    tree = mutants.changed_file(home, number)
    paths = _paths(TESTS[home])
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in AFRESH or getattr(module, "__file__", None) in paths:
            del sys.modules[name]
    sys.meta_path.insert(0, _Finder(home, tree))
    found = _tests(TESTS[home], order)
    with open(answer, "w", encoding="utf-8") as stream:
        stream.write(json.dumps([found.by, found.seconds, time.process_time()]) + "\n")


@dataclass(frozen=True)
class _Running:
    """A mutant under way.

    Attributes:
        number: which; None without a change. read: where it answers. until: when its time is over.
    """

    number: int | None
    read: int
    until: float


class _Children:
    """Mutants of a module, each in a process of its own, some at a time.

    Args:
        unchanged: how the tests ended without a change, where that is known.
    """

    def __init__(self, home: str, unchanged: Outcome | None = None) -> None:
        self._home = home
        self._allowed = max(LEAST, SLOWER * unchanged.processor) if unchanged else 0.0
        seconds = unchanged.seconds if unchanged else {}
        self._order = sorted(seconds, key=lambda test: seconds[test])
        self._running: dict[int, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, number: int | None) -> None:
        sys.stdout.flush()
        gc.freeze()
        read, write = os.pipe()
        if pid := os.fork():
            os.close(write)
            until = time.monotonic() + WAITED * self._allowed if self._allowed else math.inf
            self._running[pid] = _Running(number, read, until)
            return
        code = 1
        try:
            os.setpgid(0, 0)  # so that what it starts ends with it
            _child(self._home, number, self._order, self._allowed, write)
            code = 0
        finally:
            os._exit(code)

    def end(self) -> tuple[int | None, Outcome]:
        """Wait for the first that ends, or end the one whose time is over."""
        pid = min(self._running, key=lambda each: self._running[each].until)
        left = max(0.0, self._running[pid].until - time.monotonic())
        reads = {one.read: each for each, one in self._running.items()}
        ready, _, _ = select.select(list(reads), [], [], left if left < math.inf else None)
        if ready:
            pid = reads[ready[0]]
        number, read = self._running[pid].number, self._running[pid].read
        with open(read, encoding="utf-8") as stream:
            # A long answer fills the pipe before its process ends, so it is read and not waited for; and not to the
            # end of the file, which another process that the tests have begun may keep open.
            text = stream.readline() if ready else ""
        status = self._stop(pid)
        if text.endswith("\n"):
            by, seconds, processor = json.loads(text)
            if by in self._order:
                self._order.remove(by)
                self._order.insert(0, by)
            return number, Outcome(by, seconds, processor)
        if os.WIFSIGNALED(status):
            kind = signal.Signals(os.WTERMSIG(status))
            late = kind in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
            return number, Outcome("no end in time" if late else f"the process ended with {kind.name}", {})
        return number, Outcome("the module could not be imported", {})

    def _stop(self, pid: int) -> int:
        """End a process, where it has not ended, and what it has begun; its status."""
        del self._running[pid]
        for stop in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):  # whose all have ended
                stop(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return status

    def close(self) -> None:
        """End all that are under way."""
        for pid, one in list(self._running.items()):
            os.close(one.read)
            self._stop(pid)


class State:
    """What is known of mutants from before, in a file: which test killed each, as long as the module is unchanged."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, dict[str, Any]] = {}
        if file is not None and file.exists():
            try:
                self._known = json.loads(file.read_bytes())["modules"]
            except (ValueError, KeyError, TypeError):
                raise click.UsageError(f"--resume: expected a file that this command wrote, got {file}") from None

    def killed(self, home: str) -> dict[int, str]:
        own = self._known.get(home, {})
        return {int(n): by for n, by in own["killed"].items()} if own.get("source") == _digest(home) else {}

    def keep(self, home: str, killed: Mapping[int, str]) -> None:
        if self._file is not None:
            self._known[home] = {"source": _digest(home), "killed": {str(n): by for n, by in killed.items()}}
            write_bytes(self._file, (json.dumps({"modules": self._known}, indent=1) + "\n").encode())


def _digest(home: str) -> str:
    return sha256((ROOT / f"{home.replace('.', '/')}.py").read_bytes()).hexdigest()


def run(
    names: Sequence[str],
    share: float = 1.0,
    seed: int = 0,
    jobs: int = 1,
    state: State | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[Survival]:
    """Put a sample of the mutants of each of these modules to its tests.

    Raises:
        click.ClickException: tests fail where nothing is changed.
    """
    state = state or State(None)
    known: dict[tuple[str, ...], Outcome] = {}
    with _prepared():
        for home in names:
            begin = time.perf_counter()
            found = _module(home, part(mutants.in_file(home), home, share, seed), jobs, state, known, say)
            say(f"{home}: {len(found.killed)} of {found.count} killed, {time.perf_counter() - begin:.0f} s")
            yield found


def _module(
    home: str,
    chosen: list[Mutant],
    jobs: int,
    state: State,
    known: dict[tuple[str, ...], Outcome],
    say: Callable[[str], object],
) -> Survival:
    killed = {n: by for n, by in state.killed(home).items() if n in {m.number for m in chosen}}
    waiting = [m.number for m in chosen if m.number not in killed]
    by_number = {m.number: m for m in chosen}
    if waiting and TESTS[home] not in known:
        known[TESTS[home]] = _unchanged(home)
    with closing(_Children(home, known.get(TESTS[home]))) as children:
        while waiting or children:
            while waiting and len(children) < jobs:
                children.begin(waiting.pop(0))
            number, outcome = children.end()
            assert number is not None
            if outcome.by:
                killed[number] = outcome.by
                state.keep(home, killed)
            elif by_number[number].key not in EXCUSED:
                say(f"survived: {by_number[number]}")
    left = [m for m in chosen if m.number not in killed]
    return Survival(
        home,
        {str(m): killed[m.number] for m in chosen if m.number in killed},
        tuple(str(m) for m in left if m.key not in EXCUSED),
        {str(m): EXCUSED[m.key] for m in left if m.key in EXCUSED},
    )


def _unchanged(home: str) -> Outcome:
    """How the tests end without a change: none may fail, in a child process as the mutants are.

    Raises:
        click.ClickException: one does.
    """
    # What the tests import besides, such as torch, is loaded here, and so is there in every child.
    _tests(TESTS[home], (), "--collect-only")
    if "torch" in sys.modules:
        import_module("torch._dynamo")  # which the first optimizer of torch's loads, and which takes seconds
    with closing(_Children(home)) as alone:
        alone.begin(None)
        _, outcome = alone.end()
    if outcome.by:
        raise click.ClickException(f"{home}: expected its tests to pass without a change, got a failure: {outcome.by}")
    return outcome


@contextmanager
def _prepared() -> Iterator[None]:
    """No other plugins of pytest; and compiled modules in a folder, so that no child has to compile them all again."""
    before = sys.pycache_prefix, sys.dont_write_bytecode
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        sys.pycache_prefix, sys.dont_write_bytecode = folder, False
        try:
            yield
        finally:
            sys.pycache_prefix, sys.dont_write_bytecode = before


@click.command(name="mutants")
@click.argument("names", nargs=-1, metavar="[MODULE]...")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Of each module this part of the mutants, drawn by the seed.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="How many at a time.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="STATE",
    help="Keep in this file what was killed, and do not put it to the tests again while its module is unchanged.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the results as JSON."
)
def mutants_command(
    names: Sequence[str], share: float, seed: int, processes: int, resume: Path | None, out: Path | None
) -> None:
    """Change schedules, clipping, averages and draws at one place, and see whether a test notices.

    Exit code 1 where, of the mutants of a module, fewer than 98% are killed, or more than 5% of all are excused.
    """
    for name in names:
        if name not in TESTS:
            raise click.UsageError(f"mutants: expected a module among {', '.join(TESTS)}, got {name}")
    for file in (resume, out):
        if file and not os.access(file.resolve().parent, os.W_OK):
            raise click.UsageError(f"mutants: expected a file in a folder that exists and is writable, got {file}")
    chosen = tuple(dict.fromkeys(names)) or tuple(TESTS)
    found = list(run(chosen, share, seed, processes, State(resume), lambda text: click.echo(text, err=True)))
    if out:
        document = {
            "format": "refnet-tested-mutants",
            "version": 1,
            "share": share,
            "seed": seed,
            "modules": [{"module": s.type, "tests": list(TESTS[s.type]), **figures(s)} for s in found],
        }
        write_bytes(out, (json.dumps(document, indent=1) + "\n").encode())
    mutants_table.show(found, "module")
    if not all_ok(found, share):
        raise SystemExit(1)
