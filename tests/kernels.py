"""The tests marked `arithmetic` under every kind of arithmetic that this processor can do.

    python tests/kernels.py [--list] [PYTEST ARGUMENTS]

Which instructions a product, a sum or an exp is computed with is chosen when NumPy, its OpenBLAS and torch are loaded.
Environment variables make them choose as on other processors. Each choice is one run of the marked tests, and every
choice that this processor cannot execute, or its libraries do not have, is named. To be run by hand, or now and then:
it takes one to two minutes for each of a dozen choices. Exit code: 0 when every run was green.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

CORES = {
    "Prescott": "pni",
    "Core2": "ssse3",
    "Penryn": "sse4_1",
    "Nehalem": "sse4_2",
    "Sandybridge": "avx",
    "Haswell": "avx2",
    "Zen": "avx2",
    "SkylakeX": "avx512vl",
    "Cooperlake": "avx512_bf16",
    "Sapphirerapids": "amx_bf16",
}
"""Names of kernels that OpenBLAS goes by, and the flag of a processor that can execute them, as Linux calls it."""

LOADED = """
import json, threadpoolctl
from numpy._core import _multiarray_umath as numpy
blas = [found["architecture"] for found in threadpoolctl.threadpool_info() if found["internal_api"] == "openblas"]
import torch
there = [name for name in numpy.__cpu_dispatch__ if numpy.__cpu_features__[name]]
print(json.dumps({"blas": blas, "numpy": there, "torch": torch.backends.cpu.get_cpu_capability()}))
"""


def loaded(setting: dict[str, str]) -> dict[str, object]:
    """What the libraries choose: OpenBLAS's kernels, NumPy's dispatched features, torch's capability."""
    program = [sys.executable, "-c", LOADED]
    done = subprocess.run(program, env={**os.environ, **setting}, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def flags() -> set[str]:
    """What the processor can execute, in Linux' words; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def settings() -> Iterator[tuple[dict[str, str], str]]:
    """Each setting of the environment, and why it is not to be run; nothing if it is."""
    automatic, able = loaded({}), flags()
    yield {}, ""
    seen = [automatic["blas"]]
    for core, flag in CORES.items():
        setting = {"OPENBLAS_CORETYPE": core}
        if flag not in able:
            yield setting, f"the processor has no {flag}"
            continue
        kernels = loaded(setting)["blas"]
        yield setting, f"the same kernels as before: {kernels}" if kernels in seen else ""
        seen.append(kernels)
    for capability in ("default", "avx2"):
        setting = {"ATEN_CPU_CAPABILITY": capability}
        same = loaded(setting)["torch"] == automatic["torch"]
        yield setting, f"torch's own choice: {automatic['torch']}" if same else ""
    # torch's products are oneDNN's and MKL's, which choose for themselves.
    yield {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, ""
    features = automatic["numpy"]
    assert isinstance(features, list)
    # The newest alone, all but the oldest, all.
    for first in sorted({0, 1, len(features) - 1} & set(range(len(features))), reverse=True):
        yield {"NPY_DISABLE_CPU_FEATURES": " ".join(features[first:])}, ""
    yield {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}, ""


def main(arguments: list[str]) -> int:
    listing, arguments = "--list" in arguments, [a for a in arguments if a != "--list"]
    red = []
    for setting, reason in settings():
        words = " ".join(f'{name}="{value}"' for name, value in setting.items()) or "automatic"
        if reason or listing:
            print(f"{words}: {f'not run: {reason}' if reason else 'to be run'}", flush=True)
            continue
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-m", "arithmetic", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **setting}, capture_output=True, text=True, check=False
        )
        print(f"{words}: {done.stdout.splitlines()[-1]}; {time.monotonic() - start:.0f} s in all", flush=True)
        if done.returncode:
            red.append(words)
            print(done.stdout, done.stderr, flush=True)
    if red:
        print("Red under:", *red, sep="\n  ")
    return int(bool(red))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
