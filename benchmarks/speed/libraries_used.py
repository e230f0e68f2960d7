"""What was measured where: versions, processor, linear algebra, threads."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.environment import processor, versions

PACKAGES = {
    "refnet": "refnet",
    "numpy": "numpy",
    "llvmlite": "llvmlite",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jaxlib",
    "autograd": "autograd",
    "mygrad": "mygrad",
    "sklearn": "scikit-learn",
    "tinygrad": "tinygrad",
}
"""Import names and the names they are installed under."""


def environment(threads: int) -> dict[str, Any]:
    """Taken after a run: only libraries that were loaded say what they use."""
    import numpy as np
    from threadpoolctl import threadpool_info

    build: Any = np.show_config(mode="dicts")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {**dict.fromkeys(PACKAGES.values(), "not installed"), **versions(PACKAGES.values())},
        "numpy's BLAS": {key: build["Build Dependencies"]["blas"].get(key) for key in ("name", "version")},
        "threads asked for": threads,
        "threads": [
            {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads", "filepath")}
            for pool in threadpool_info()
        ],
    }
    for pool in found["threads"]:
        pool["filepath"] = Path(pool["filepath"]).name
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found["torch"] = {
            "threads": torch.get_num_threads(),
            "processor": torch.backends.cpu.get_cpu_capability(),
            "mkl": torch.backends.mkl.is_available(),
        }
    if "jax" in sys.modules:
        jax = sys.modules["jax"]
        found["jax"] = {
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            "PJRT_NPROC": os.environ.get("PJRT_NPROC", ""),
            "jax_cpu_enable_async_dispatch": jax.config.values["jax_cpu_enable_async_dispatch"],
            "jax_enable_x64": jax.config.jax_enable_x64,
        }
    return found
