"""What was measured where: versions, processor, linear algebra, threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in PACKAGES.values()},
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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Its model, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
