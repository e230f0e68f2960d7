"""`python -m benchmarks accuracy`: the errors of refnet's sums beside torch's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from refnet import nn
from refnet.arithmetic import special
from refnet.files import write_bytes

Array = NDArray[Any]

LENGTHS = (1, 16, 17, 100, 256, 257, 1000, 10_000, 100_000, 1_000_000)
WIDTH = 4
"""Size of the axes that are not summed over."""


class Reduction(NamedTuple):
    """A sum of n terms.

    Attributes:
        shapes: the shapes of what it is made of.
        ours: refnet's, of arrays of float32.
        torchs: torch's, of tensors.
        truth: the same in float64, whose own error is below 1e-9 of float32's.
    """

    shapes: Callable[[int], tuple[tuple[int, ...], ...]]
    ours: Callable[..., Array]
    torchs: Callable[..., Any]
    truth: Callable[..., Array]


def _total(shape: Callable[[int], tuple[int, ...]], axis: int | tuple[int, ...]) -> Reduction:
    return Reduction(
        lambda n: (shape(n),),
        lambda A: special.total(A, axis),
        lambda A: A.sum(axis),
        lambda A: A.sum(axis=axis),
    )


def _linear(X: Array, W: Array) -> Array:
    layer = nn.Linear(W.shape[1], W.shape[0], bias=False, dtype=X.dtype)
    layer.params["weight"][...] = W
    Y: Array = layer(X)
    return Y


def _weight_gradient(dY: Array, X: Array) -> Array:
    layer = nn.Linear(X.shape[1], dY.shape[1], bias=False, dtype=X.dtype)
    _, grads = layer.backward(dY, layer.forward(X)[1])
    dW: Array = grads["weight"]
    return dW


def _squared_errors(X: Array, T: Array) -> Array:
    L: Array = nn.MSELoss(reduction="sum")(X, T)
    return L


REDUCTIONS = {
    "total, last axis": _total(lambda n: (WIDTH, n), -1),
    "total, first axis": _total(lambda n: (n, WIDTH), -2),
    "total, middle axis": _total(lambda n: (2, n, WIDTH), -2),
    "total, two axes": _total(lambda n: (n, WIDTH, 2), (-3, -1)),
    "Linear, output": Reduction(lambda n: ((10, n), (WIDTH, n)), _linear, lambda X, W: X @ W.mT, lambda X, W: X @ W.mT),
    "Linear, gradient of weight": Reduction(
        lambda n: ((n, WIDTH), (n, 10)), _weight_gradient, lambda dY, X: dY.mT @ X, lambda dY, X: dY.mT @ X
    ),
    "MSELoss, sum": Reduction(
        lambda n: ((n,), (n,)),
        _squared_errors,
        lambda X, T: ((X - T) ** 2).sum(),
        lambda X, T: np.sum((X - T) ** 2),
    ),
}
"""Every way in which a layer or loss of refnet adds up many terms."""


class Row(NamedTuple):
    """Root-mean-square errors of sums of n terms, relative to the root mean square of the sums."""

    reduction: str
    n: int
    refnet: float
    torch: float

    @property
    def ratio(self) -> float:
        return self.refnet / self.torch if self.torch else 1.0 if not self.refnet else float("inf")


NO_ROWS: Mapping[tuple[str, int], Row] = MappingProxyType({})


def rows(lengths: tuple[int, ...], seeds: int, known: Mapping[tuple[str, int], Row] = NO_ROWS) -> Iterator[Row]:
    """A row for each reduction and length, from normal deviates in float32; a known one is not made again."""
    import torch

    for name, reduction in REDUCTIONS.items():
        for n in lengths:
            if (name, n) in known:
                yield known[name, n]
                continue
            squares = np.zeros(3)
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                given = [rng.standard_normal(shape, np.float32) for shape in reduction.shapes(n)]
                truth = reduction.truth(*(A.astype(np.float64) for A in given))
                theirs = reduction.torchs(*map(torch.from_numpy, given)).numpy()
                ours = reduction.ours(*given)
                squares += [np.mean((A.astype(np.float64)) ** 2) for A in (ours - truth, theirs - truth, truth)]
            refnet, torchs, whole = np.sqrt(squares / seeds)
            yield Row(name, n, float(refnet / whole), float(torchs / whole))


@click.command()
@click.option(
    "--largest", type=click.IntRange(min=1), default=10_000, show_default=True, help="The longest sums, in terms."
)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True, help="Arrays of each length.")
@click.option("--networks", is_flag=True, help="Networks of two or three layers in place of sums; needs python-flint.")
@click.option(
    "--drawn",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --networks: this many more, drawn at random.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and no table.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep each row here; what is there is kept.",
)
def accuracy(largest: int, seeds: int, networks: bool, drawn: int, as_json: bool, out: Path | None) -> None:
    """Print the root-mean-square errors of refnet's float32 sums and of torch's, along each axis.

    Sums have 1 to a million terms. Errors are relative to the root mean square of the sums themselves. With --networks
    they are those of the gradients by the input and by the parameters of networks that end in a loss, against certified
    truth, relative to the largest element; of each network that gradient is shown in which refnet is the worst.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise click.UsageError("accuracy: expected torch to compare with, got none; pip install torch") from None
    if networks:
        if out:
            raise click.UsageError("accuracy: expected --out without --networks, got both")
        _print_networks(drawn, as_json)
        return
    if drawn:
        raise click.UsageError("accuracy: expected --drawn with --networks, got it alone")
    lengths = tuple(n for n in LENGTHS if n <= largest)
    if as_json:
        click.echo(_document(_kept(out, lengths, seeds)))
        return
    click.echo(f"{'reduction':27} {'n':>8}  {'refnet':>8}  {'torch':>8}  {'ratio':>5}")
    worst = 0.0
    for row in _kept(out, lengths, seeds):
        worst = max(worst, row.ratio)
        click.echo(f"{row.reduction:27} {row.n:>8}  {row.refnet:8.1e}  {row.torch:8.1e}  {row.ratio:5.2f}")
    click.echo(f"largest ratio {worst:.2f}, over {seeds} arrays of each length")


def _document(made: Iterable[Row]) -> str:
    return json.dumps([{**row._asdict(), "ratio": row.ratio} for row in made], indent=2)


def _kept(out: Path | None, lengths: tuple[int, ...], seeds: int) -> Iterator[Row]:
    """The rows, written into the file as they come: {"seeds": ..., "rows": [...]}."""
    known: dict[tuple[str, int], Row] = {}
    if out and out.exists():
        try:
            document = json.loads(out.read_text())
            there = [Row(**{name: row[name] for name in Row._fields}) for row in document["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise click.UsageError(f"accuracy: expected {out} to hold rows of --out, got {error!r}") from None
        if document.get("seeds") != seeds:
            raise click.UsageError(f"accuracy: expected {out} to be of {seeds} seeds, got {document.get('seeds')}")
        known = {(row.reduction, row.n): row for row in there}
    for row in rows(lengths, seeds, dict(known)):
        known[row.reduction, row.n] = row
        if out:
            kept = [{**r._asdict(), "ratio": r.ratio} for r in known.values()]
            write_bytes(out, (json.dumps({"seeds": seeds, "rows": kept}, indent=1) + "\n").encode())
        yield row


def _print_networks(drawn: int, as_json: bool) -> None:
    try:
        networks = import_module("benchmarks.accuracy_networks")
    except ImportError as error:
        raise click.UsageError(f"accuracy --networks: expected python-flint, got: {error}") from None
    made = networks.rows(chains=(*networks.CHAINS, *networks.drawn(drawn)))
    if as_json:
        click.echo(json.dumps([row._asdict() for row in made], indent=2))
        return
    click.echo(f"{'network':44} {'input':>5} {'dtype':>8}  {'gradient':12} {'refnet':>8}  {'torch':>8}")
    shown = worse = 0
    for row in made:
        note = f"  worse than torch: use {row.remedy}" if row.worse and row.remedy else "  worse" if row.worse else ""
        click.echo(
            f"{row.chain:44} {row.size:>5g} {row.dtype:>8}  {row.tensor:12} {row.refnet:8.1e}  {row.torch:8.1e}{note}"
        )
        shown, worse = shown + 1, worse + row.worse
    click.echo(f"{worse} of {shown} rows have refnet's error above torch's by more than rounding")
