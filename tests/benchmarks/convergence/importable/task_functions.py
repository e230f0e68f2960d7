"""What tests have worker processes do: a worker imports it by name."""

import os
import time
from pathlib import Path


def square(x):
    return x * x


def fail(x):
    raise LookupError(f"no {x}")


def die_once(task):
    """Ends its process at x = 3, the first time."""
    mark, x = task
    if x == 3 and not Path(mark).exists():
        Path(mark).touch()
        os._exit(9)
    return x


def die_at_3(x):
    if x == 3:
        os._exit(9)
    return x


def take_two_threads(x):
    import numpy  # noqa: F401  it brings BLAS
    import threadpoolctl

    threadpoolctl.threadpool_limits(2)


def threads(x):
    import threadpoolctl

    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]


def log(task):
    file, x = task
    with open(file, "a") as f:
        f.write(f"computed {x}\n")
    return x


def sleep(folder):
    """Leaves the number of its process, and stays."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)
