"""`exec:COMMAND`: an engine in any language, a program that reads and writes lines of JSON. `docs/vectors.md` has the
protocol.

Whatever the program does costs it the record in its hands: it is ended and started afresh for the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from parity.budget.formats import Profile
from parity.engines.base import Engine
from parity.records.encoding import (
    ENCODINGS,
    Malformed,
    brief,
    decode_answer,
    elements,
    encode_record,
    loads,
    member,
    profile_arguments,
)
from parity.records.record import VJP, Answer, Optimize, Record, Train, Unsupported, UsageError

PROTOCOL = "parity-exec"
VERSION = 1

KINDS = ("vjp", "optimize", "train")

SECONDS = 20.0
"""What one record may take, and the handshake; a training, three times as long. $PARITY_EXEC_SECONDS sets another."""

MEMORY = 4 * 2**30
"""Bytes that the program and its children may have in memory, where /proc tells. $PARITY_EXEC_BYTES sets another."""

GLANCE = 0.05
"""Seconds between two looks at a program that says nothing."""

LAST_WORDS = 2_000
"""Characters of what the program wrote to standard error that are told with a failure."""


class ProgramFailed(RuntimeError):
    """The program died, hung, took too much memory, or did not keep to the protocol."""


class ExecEngine(Engine):
    """A program that answers records over its standard input and output.

    Args:
        command: the program and its arguments, as a shell would split them; no shell runs it.

    Raises:
        UsageError: there is no such program.
    """

    name = "exec"

    def __init__(self, command: str) -> None:
        self.arguments = arguments(command)
        self.seconds = _setting("PARITY_EXEC_SECONDS", SECONDS)
        self.memory = _setting("PARITY_EXEC_BYTES", MEMORY)
        self._program: _Program | None = None
        self._number = 0

    def handshake(self) -> dict[str, Any]:
        """What the program says that it can do. Raises as a record does."""
        return self._running().abilities

    def profile(self, dtype: str) -> Profile:
        return Profile.of(dtype, *profile_arguments(self._running().abilities["profiles"], dtype))

    def vjp(self, record: VJP) -> Answer:
        return self._answer(record, "vjp", record.spec.types())

    def optimize(self, record: Optimize) -> Answer:
        return self._answer(record, "optimize", {record.spec.type})

    def train(self, record: Train) -> Answer:
        types = record.network.types() | record.loss.types() | record.optimizer.types()
        return self._answer(record, "train", types)

    def close(self) -> None:
        """End the program."""
        if self._program is not None:
            self._program.end()
        self._program = None

    def _running(self) -> _Program:
        if self._program is not None and not self._program.silent():
            # What came after the last answer belongs to no record: this one gets a program of its own.
            self.close()
        if self._program is None:
            self._program = _Program(self.arguments, self.seconds, self.memory)
            try:
                self._program.greet()
            except BaseException:
                self.close()
                raise
        return self._program

    def _answer(self, record: Record, kind: str, types: set[str]) -> Answer:
        program = self._running()
        able = program.abilities
        if kind not in able["kinds"]:
            raise Unsupported(f"no {kind}, by the handshake")
        if record.dtype not in able["dtypes"]:
            raise Unsupported(f"no {record.dtype}, by the handshake")
        if lacking := sorted(types - set(able["classes"])):
            raise Unsupported(f"no {', '.join(lacking)}, by the handshake")
        self._number += 1
        question = {"id": self._number, **encode_record(record, able["encoding"])}
        longest = 2**20 + 128 * elements(record)
        try:
            line = program.ask(_line(question), (3 if kind == "train" else 1) * self.seconds, longest)
            return _read(loads(line), self._number, record)
        except Unsupported:
            raise
        except BaseException:
            self.close()
            raise


def arguments(command: str) -> list[str]:
    """The program and its arguments.

    Raises:
        UsageError: the command is none, or there is no such program.
    """
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"engine exec: expected a command, got {command!r}: {error}") from None
    if not found or shutil.which(found[0]) is None:
        raise UsageError(f"engine exec:{command}: expected a program to run, got {found[0] if found else 'nothing'!r}")
    if os.name != "posix":
        raise UsageError(f"engine exec:{command}: expected a POSIX system, got {os.name}")
    return found


def try_handshake(command: str) -> None:
    """Start the program once, and end it.

    Raises:
        UsageError: it says no proper handshake.
    """
    engine = ExecEngine(command)
    try:
        engine.handshake()
    except (ProgramFailed, Malformed) as error:
        raise UsageError(f"engine exec:{command}: expected a handshake, got: {error}") from None
    finally:
        engine.close()


def _setting(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{name}: expected a positive number, got {text!r}")
    return value


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _read(message: Any, number: int, record: Record) -> Answer:
    """The answer in a line."""
    came = member(message, "id", int, "a line of the program")
    if came != number:
        raise Malformed(f"expected the answer to record {number}, got one to record {came}")
    if "unsupported" in message:
        raise Unsupported(member(message, "unsupported", str, f"record {number}") or "no reason given")
    if "error" in message:
        raise ProgramFailed(f"said: {brief(member(message, 'error', str, f'record {number}'))}")
    return decode_answer(member(message, "answer", dict, f"record {number}"), record)


def _abilities(message: Any) -> dict[str, Any]:
    """The handshake, checked."""
    where = "handshake"
    if member(message, "protocol", str, where) != PROTOCOL or member(message, "version", int, where) != VERSION:
        raise Malformed(f"{where}: expected protocol {PROTOCOL}, version {VERSION}, got {brief(message)}")
    found = {
        "encoding": member(message, "encoding", str, where, "hex"),
        **{name: member(message, name, list, where) for name in ("kinds", "classes", "dtypes")},
        "profiles": member(message, "profiles", dict, where, {}),
    }
    if found["encoding"] not in ENCODINGS:
        raise Malformed(f"{where}: expected an encoding among {', '.join(ENCODINGS)}, got {brief(found['encoding'])}")
    for name in ("kinds", "classes", "dtypes"):
        if not all(isinstance(item, str) for item in found[name]):
            raise Malformed(f"{where}: expected a list of strings as {name}, got {brief(found[name])}")
    for dtype in found["dtypes"]:
        profile_arguments(found["profiles"], dtype)
    return found


class _Program:
    """A running program, and the pipes to it."""

    def __init__(self, arguments: list[str], seconds: float, memory: float) -> None:
        self.arguments, self.seconds, self.memory = arguments, seconds, memory
        self.abilities: dict[str, Any] = {}
        self._said, self._complained = b"", b""
        try:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise ProgramFailed(f"could not be started: {error.strerror}") from None
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        atexit.register(self.end)

    def greet(self) -> None:
        """Exchange handshakes."""
        hello = {"protocol": PROTOCOL, "version": VERSION, "encodings": list(ENCODINGS)}
        self.abilities = _abilities(loads(self.ask(_line(hello), self.seconds, 2**20)))

    def silent(self) -> bool:
        """Whether the program runs, and has said nothing that was not asked."""
        self._receive()
        return not self._said and self.process.poll() is None

    def ask(self, line: bytes, seconds: float, longest: int) -> bytes:
        """Send a line and give the one line that answers it, of at most that number of bytes.

        Raises:
            ProgramFailed: there is none, or more than one.
        """
        deadline, unsent = time.monotonic() + seconds, memoryview(line)
        out, err, inn = self.process.stdout, self.process.stderr, self.process.stdin
        assert out is not None
        assert err is not None
        assert inn is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            selector.register(inn, selectors.EVENT_WRITE)
            while b"\n" not in self._said:
                ready = selector.select(min(GLANCE, max(0.0, deadline - time.monotonic())))
                for key, _ in ready:
                    if key.fileobj is inn:
                        try:
                            unsent = unsent[os.write(inn.fileno(), unsent[: 2**16]) :]
                        except BrokenPipeError:
                            unsent = memoryview(b"")
                        except BlockingIOError:
                            continue
                        if not unsent:
                            selector.unregister(inn)
                    elif not self._receive_from(key.fd):
                        selector.unregister(key.fileobj)
                        if key.fileobj is out:
                            raise self._failure(self._end_of_output())
                if len(self._said) > longest:
                    raise self._failure(f"wrote more than {longest:,} bytes, longer than any right answer")
                if (size := _resident(self.process.pid)) > self.memory:
                    raise self._failure(f"took {size:,} bytes of memory, more than {self.memory:,.0f}")
                if time.monotonic() > deadline:
                    raise self._failure(f"no answer within {seconds:g} s")
        said, _, more = self._said.partition(b"\n")
        if len(said) > longest:
            raise self._failure(f"wrote more than {longest:,} bytes, longer than any right answer")
        self._said = more
        self._receive()
        if self._said:
            raise self._failure(f"expected one line, got more: {brief(self._said[:80].decode(errors='replace'))}")
        return said

    def _receive(self) -> None:
        """Read what has come."""
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            self._receive_from(pipe.fileno())

    def _receive_from(self, fd: int) -> bool:
        """Read what has come from one pipe; whether it is still open."""
        assert self.process.stdout is not None
        try:
            chunk = os.read(fd, 2**20)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if fd == self.process.stdout.fileno():
            self._said += chunk
        else:
            self._complained = (self._complained + chunk)[-LAST_WORDS:]
        return bool(chunk)

    def _end_of_output(self) -> str:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "closed its output"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"died by {signal.Signals(-code).name}"
        return f"ended (exit code {code}) without an answer"

    def _failure(self, what: str) -> ProgramFailed:
        self._receive()
        words = self._complained.decode(errors="replace").strip()
        error = ProgramFailed(what if not words else f"{what}; its last words: {brief(words.splitlines()[-1])}")
        if words:
            error.add_note(f"standard error of {shlex.join(self.arguments)}:\n{words}")
        return error

    def end(self) -> None:
        """End the program and what it has started, at once."""
        atexit.unregister(self.end)
        # The group is gone where the program ended by itself and left none behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait()


def _resident(pid: int) -> int:
    """Bytes in memory of a process and its children; 0 where the system does not tell."""
    total, waiting = 0, [pid]
    while waiting:
        one = Path("/proc") / str(waiting.pop())
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int((one / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            waiting += [int(child) for child in (one / "task" / one.name / "children").read_text().split()]
    return total
