"""torch's DistributedDataParallel on this machine: some processes, each with a part of a batch, joined by gloo over the
loopback interface.

Like every program that starts processes, a script that asks for this keeps its own work under
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from parity.engines.base import one_line
from parity.engines.torch import TorchEngine, _array
from parity.records.record import VJP, Answer, Unsupported


def gradients_of_processes(parts: Sequence[VJP], timeout: float) -> list[Answer]:
    """The gradients that each process ends with, of the modules of these records, which differ in their samples alone.

    Raises:
        Unsupported: this torch has no gloo. TimeoutError: it takes longer. RuntimeError: a process fails; its message.
    """
    distributed = TorchEngine().torch.distributed
    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise Unsupported("this torch is built without gloo, by which processes on one machine are joined")
    context, end = get_context("spawn"), time.monotonic() + timeout
    with tempfile.TemporaryDirectory() as folder:
        started: list[tuple[Any, Connection]] = []
        try:
            for rank, part in enumerate(parts):
                ours, theirs = context.Pipe(duplex=False)
                meeting = (Path(folder, "meeting").as_uri(), rank, len(parts), timeout)
                process = context.Process(target=_work, args=(theirs, part, meeting), daemon=True)
                process.start()
                theirs.close()
                started.append((process, ours))
            return [_answer(rank, ours, end) for rank, (_, ours) in enumerate(started)]
        finally:
            for process, ours in started:
                process.kill()
                process.join()
                ours.close()


def _answer(rank: int, ours: Connection, end: float) -> Answer:
    if not ours.poll(max(end - time.monotonic(), 0)):
        raise TimeoutError(f"expected an answer of process {rank} in time, got none")
    try:
        answer, failure = ours.recv()
    except EOFError:
        raise RuntimeError(f"process {rank} ended without an answer") from None
    if failure:
        raise RuntimeError(f"process {rank}: {failure}")
    made: Answer = answer
    return made


def _work(theirs: Connection, part: VJP, meeting: tuple[str, int, int, float]) -> None:
    """What a process does: its part of the batch forward and backward, the gradients averaged with the others'."""
    try:
        theirs.send((_averaged(part, *meeting), ""))
    except Exception as error:
        theirs.send((None, one_line(f"{type(error).__name__}: {error}")))


def _averaged(part: VJP, file: str, rank: int, size: int, timeout: float) -> Answer:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    engine = TorchEngine()
    torch = engine.torch
    torch.set_num_threads(1)
    distributed = torch.distributed
    distributed.init_process_group(
        "gloo", init_method=file, rank=rank, world_size=size, timeout=timedelta(seconds=timeout)
    )
    try:
        module = engine._build(part.spec, part.arrays, part.dtype).train(part.training)
        parallel = torch.nn.parallel.DistributedDataParallel(module)
        parallel(*(engine._tensor(x) for x in part.inputs)).backward()
        # Nobody leaves before all have what they need.
        distributed.barrier()
        return {f"grad.{name}": _array(p.grad) for name, p in module.named_parameters() if p.grad is not None}
    finally:
        distributed.destroy_process_group()
