"""How many threads the libraries may use, and where they keep what they compile."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PJRT_NPROC")
"""Read by libraries when they are loaded; the last is the size of XLA's pool."""


def allowed() -> int:
    """Threads that a library which is starting may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Libraries that are loaded inside have `threads` threads. They compile anew what an earlier run may have left
    compiled on this machine, so that the time of compiling is seen."""
    flags = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = {
            **dict.fromkeys(VARIABLES, str(threads)),
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
            "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
            "CACHEDB": os.path.join(folder, "tinygrad.db"),
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            with settled(threads):
                yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextmanager
def settled(threads: int) -> Iterator[None]:
    """Libraries that are loaded by now have `threads` threads."""
    from threadpoolctl import threadpool_limits

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    with threadpool_limits(threads):
        yield
