"""`python -m benchmarks yardstick`: what enclosing and judging take against size."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.yardstick.operations import DTYPES, OPERATIONS

SAMPLE = 1_000

Point = dict[str, Any]
"""A measurement: `operation`, `dtype`, `size`, `sample` (None: all), `elements`, `seconds`, `judging`, `megabytes`,
`way`."""


def measured(name: str, dtype: str, size: int, sample: int | None) -> Point:
    """One enclosing with all gradients, and one judging, in this process: seconds of the processor, and by how much the
    peak of memory has grown."""
    import parity
    import parity.expression

    operation = OPERATIONS[name]
    arrays, g = operation.arrays(size, dtype)
    # What is imported and compiled when it is first needed is no part of it.
    small, seed = operation.arrays(operation.sizes[0] // 2, dtype)
    parity.enclose(operation.f, *small, dtype=dtype, grad_output=seed).check(np.asarray(operation.f(*small)))
    before, start = _peak(), time.process_time()
    e = parity.enclose(operation.f, *arrays, dtype=dtype, grad_output=g, sample=sample)
    seconds = time.process_time() - start
    y = np.asarray(operation.f(*arrays))
    start = time.process_time()
    e.check(y)
    judging = time.process_time() - start
    return {
        "operation": name,
        "dtype": dtype,
        "size": size,
        "sample": sample,
        "elements": operation.elements(size),
        "seconds": seconds,
        "judging": judging,
        "megabytes": (_peak() - before) / 2**20,
        "way": e.way,
    }


def _peak() -> int:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


def wanted() -> Iterator[tuple[str, str, int, int | None]]:
    """What is measured, from small to large."""
    for name, operation in OPERATIONS.items():
        for dtype in DTYPES:
            for size in operation.sizes:
                yield name, dtype, size, None
                if dtype == "float64":
                    yield name, dtype, size, SAMPLE


def campaign(folder: Path, largest: float) -> list[Point]:
    """Every measurement that the folder lacks, each in a process of its own. Where one took over `largest` seconds,
    no larger one is made."""
    file = folder / "points.json"
    points: list[Point] = json.loads(file.read_text())["points"] if file.exists() else []
    known = {(p["operation"], p["dtype"], p["size"], p["sample"]) for p in points}
    all_of_them = list(wanted())
    for k, what in enumerate(all_of_them, 1):
        name, dtype, size, sample = what
        slow = [p for p in points if (p["operation"], p["dtype"], p["sample"]) == (name, dtype, sample)]
        if what in known or any(p["seconds"] > largest and p["size"] < size for p in slow):
            continue
        click.echo(f"{k} of {len(all_of_them)}: {name} {size}, {dtype}{', a sample' if sample else ''}", err=True)
        points.append(_in_a_process(what))
        _save(file, points)
    return points


def _in_a_process(what: tuple[str, str, int, int | None]) -> Point:
    lines = (
        "import json, sys",
        "from benchmarks.yardstick.yardstick_command import measured",
        f"print(json.dumps(measured(*{what!r})))",
    )
    made = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    point: Point = json.loads(made.stdout.splitlines()[-1])
    return point


def _save(file: Path, points: list[Point]) -> None:
    from parity.report.export import save

    about = {"numpy": np.__version__, "python": platform.python_version(), "machine": platform.machine()}
    save(file, json.dumps({"environment": about, "points": points}, indent=1) + "\n")


def lines(points: list[Point]) -> Iterator[str]:
    """The largest size of each line, in words; and how memory grows."""
    for (name, dtype, sample), own in _lines(points).items():
        last = max(own, key=lambda p: p["size"])
        how = f"{last['way']}{', 1,000 elements of each' if sample else ''}"
        yield (
            f"{name:<12} {dtype:<9} size {last['size']:>4} ({last['elements']:>9,} elements): {last['seconds']:7.2f} s "
            f"to enclose ({how}), {last['judging']:.3f} s to judge, {last['megabytes']:5.0f} MB"
        )


def _lines(points: list[Point]) -> dict[tuple[str, str, int | None], list[Point]]:
    found: dict[tuple[str, str, int | None], list[Point]] = {}
    for p in points:
        found.setdefault((p["operation"], p["dtype"], p["sample"]), []).append(p)
    return found


COLOURS = {"float64": "#D55E00", "float32": "#0072B2", "bfloat16": "#009E73"}


def drawn(points: list[Point]) -> Any:
    """Seconds to enclose, seconds to judge, and memory, a column for each operation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = {"seconds": "s to enclose", "judging": "s to judge", "megabytes": "MB"}
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(len(rows), len(OPERATIONS), sharex="col", sharey="row")
    for (name, dtype, sample), own in _lines(points).items():
        ordered = sorted(own, key=lambda p: p["size"])
        for row, (key, label) in enumerate(rows.items()):
            panel = axes[row][list(OPERATIONS).index(name)]
            panel.loglog(
                [p["elements"] for p in ordered],
                [max(p[key], 1e-4) for p in ordered],
                "--" if sample else "-",
                marker="o",
                markersize=3,
                color=COLOURS[dtype],
                label=f"{dtype}, 1,000 elements" if sample else dtype,
            )
            panel.xaxis.set_minor_formatter(NullFormatter())
            if row == 0:
                panel.set_title(name)
            if name == next(iter(OPERATIONS)):
                panel.set_ylabel(label)
            if row == len(rows) - 1:
                panel.set_xlabel("elements")
    axes[0][0].legend(fontsize=7)
    return figure


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the results; a run goes on with what it has.",
)
@click.option("--largest", type=float, default=20.0, show_default=True, help="Seconds after which no larger is tried.")
def yardstick(out: Path, largest: float) -> None:
    """Measure how the time and memory for enclosing and judging grow with the size.

    At each size: the seconds of one processor and the memory that parity takes to enclose a value with all gradients,
    and to judge one. An interrupted run goes on where it stopped."""
    import io

    from refnet.files import write_bytes

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    out.mkdir(parents=True, exist_ok=True)
    try:
        points = campaign(out, largest)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on from here", err=True)
        raise SystemExit(130) from None
    for line in lines(points):
        click.echo(line)
    for kind, metadata in {"png": {"Software": None}, "svg": {"Date": None}}.items():
        content = io.BytesIO()
        drawn(points).savefig(content, format=kind, metadata=metadata, dpi=150)
        write_bytes(out / f"yardstick.{kind}", content.getvalue())
