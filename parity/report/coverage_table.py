"""What refnet covers of torch's packages, as lines for a terminal."""

from __future__ import annotations

from rich.padding import Padding

from parity.engines import jax
from parity.records.coverage import coverage
from parity.report.console import standard_output


def show() -> None:
    """Print for each package the counts, the covered classes, those that are not yet, and those out of scope; then
    what the engine of JAX has."""
    out = standard_output()
    for c in coverage():
        counts = f"{len(c.covered)} covered, {len(c.not_yet)} not yet, {len(c.out_of_scope)} out of scope"
        out.print(f"{c.package} {c.version}: {c.count} classes, {counts}", soft_wrap=True)
        for heading, names in (("covered", c.covered), ("not yet", c.not_yet), ("refnet's own", c.own)):
            if names:
                out.print(f"  {heading}")
                out.print(Padding(", ".join(names), (0, 0, 0, 4)))
        out.print("  out of scope")
        for reason in dict.fromkeys(c.out_of_scope.values()):
            names = tuple(name for name, why in c.out_of_scope.items() if why == reason)
            out.print(Padding(f"{', '.join(names)}: {reason}", (0, 0, 0, 4)))
    _show_jax()


def _show_jax() -> None:
    """Print which classes the engine of JAX and optax has, and why it lacks the others."""
    out = standard_output()
    for package, had, lacks in jax.classes():
        out.print(f"engine jax, {package}: {len(had)} classes", soft_wrap=True)
        out.print(Padding(", ".join(sorted(had)), (0, 0, 0, 4)))
        for name, why in sorted(lacks.items()):
            out.print(Padding(f"no {name}: {why}", (0, 0, 0, 4)))
