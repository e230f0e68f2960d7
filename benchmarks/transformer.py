"""`python -m benchmarks transformer`: a small transformer learns digits, in refnet and in torch from one seed.

A digit is a sequence of four places, of two rows of eight pixels each. A place is its pixels and, as one-hot, its
number, so that the columns of the first linear map are an embedding and learned positions. Behind it stand one encoder
layer and a linear head.

Every update of either is judged from its own weights and optimizer state before it, within the budget that its lines
derive (lockstep). Between updates nothing is copied: the weights drift apart by what the two round differently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import refnet
from benchmarks.environment import processor, versions
from parity.engines.base import Engine
from parity.engines.refnet import RefnetEngine
from parity.engines.torch import TorchEngine
from parity.records.definition import build
from parity.records.record import Spec, Train
from parity.verdict.evaluation import TrainingRequest
from parity.verdict.lockstep import judge_steps
from parity.verdict.table import all_ok
from refnet.files import write_bytes
from refnet.train import sampler

Array = NDArray[Any]
Arrays = dict[str, Array]

PLACES, PIXELS, UNITS, CLASSES, BATCH = 4, 16, 8, 10, 4
NETWORK = Spec(
    "Sequential",
    layers=(
        Spec("Linear", {"in_features": PIXELS + PLACES, "out_features": UNITS}),
        # GELU has no kink at which a budget could not tell the side.
        Spec(
            "TransformerEncoderLayer",
            {
                "d_model": UNITS,
                "nhead": 2,
                "dim_feedforward": 2 * UNITS,
                "dropout": 0.0,
                "activation": "gelu",
                "norm_first": True,
                "batch_first": True,
            },
        ),
        Spec("Flatten"),
        Spec("Linear", {"in_features": PLACES * UNITS, "out_features": CLASSES}),
    ),
)
OPTIMIZER = Spec("SGD", {"lr": 0.02, "momentum": 0.9})
DTYPES = ("float64",)
"""Those that are judged. In float32 the bounds of an update, through two norms, attention and a softmax, exceed nine of
ten elements: nothing would be proved."""
PART = 250
"""Updates that are judged together, and kept together."""


@dataclass(frozen=True)
class Row:
    """The two after `update` updates.

    Attributes:
        judged: how many updates of each were judged since the last row. conform: whether all of them conform.
        verdicts: how often each verdict was given to a tensor's updates since then, of refnet and of torch.
        share: the largest part of a budget that either used, where no weaker formula is named.
        unseen: the part of the elements, in the mean over tensors, whose budget exceeds their truth: there an update
            that is wrong by as much as it is large would not be told. The keys' part of attention's bias has a
            gradient of 0 at every input, and is never seen: 2.0% of all.
        loss, torch_loss: the mean since the last row.
        drift_ulps: the largest difference between their weights, in units in the last place of the largest weight.
        weights: what tells refnet's weights and torch's from any others.
    """

    dtype: str
    update: int
    judged: int
    conform: bool
    verdicts: dict[str, dict[str, int]]
    share: float
    unseen: float
    loss: float
    torch_loss: float
    drift_ulps: float
    weights: tuple[str, str]


@dataclass
class Kept:
    """Where a training stands: the weights and the optimizer's state of refnet and of torch."""

    arrays: list[Arrays]
    state: list[Arrays]


def digits(dtype: str) -> tuple[Array, Array]:
    """Alpaydin and Kaynak's 1,797 digits as scikit-learn ships them: (samples, places, pixels and places)."""
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    rows = (pixels / 16).reshape(-1, PLACES, PIXELS)
    places = np.broadcast_to(np.eye(PLACES), (len(rows), PLACES, PLACES))
    return np.concatenate([rows, places], axis=-1).astype(dtype), targets.astype(np.int64)


def initial(dtype: str, seed: int) -> list[Arrays]:
    """The initial weights of refnet's network and of torch's, each drawn from the seed by its own library."""
    import torch

    generator = refnet.Generator(seed)
    layers = []
    for layer in NETWORK.layers:
        options = {} if layer.type == "Flatten" else {"dtype": dtype, "generator": generator}
        layers.append(getattr(refnet.nn, layer.type)(**layer.args, **options))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            *(
                getattr(torch.nn, layer.type)(
                    **layer.args, **({} if layer.type == "Flatten" else {"dtype": getattr(torch, dtype)})
                )
                for layer in NETWORK.layers
            )
        )
    theirs = {name: P.detach().numpy().copy() for name, P in model.state_dict().items()}
    return [dict(refnet.nn.Sequential(*layers).params), theirs]


def run(dtype: str, updates: int, seed: int = 0, kept: Kept | None = None, done: int = 0) -> Iterator[tuple[Row, Kept]]:
    """Train both up to `updates` updates, from the beginning or from what was kept after `done` of them; yields after
    every part."""
    inputs, targets = digits(dtype)
    engines: tuple[Engine, Engine] = RefnetEngine(), TorchEngine()
    now = kept or Kept(initial(dtype, seed), [{}, {}])
    order = [
        *sampler.order(
            len(inputs),
            updates=updates,
            generator=refnet.Generator(seed),
            batch_size=BATCH,
            shuffle=True,
            drop_last=True,
        )
    ]
    while done < updates:
        batches = tuple(order[done : done + PART])
        done += len(batches)
        after = Kept([], [])
        losses, verdicts, share, unseen = [], [], 0.0, 0.0
        for engine, arrays, state in zip(engines, now.arrays, now.state, strict=True):
            record = Train(NETWORK, Spec("CrossEntropyLoss"), OPTIMIZER, arrays, inputs, targets, batches, state=state)
            answer = engine.train(record)
            found = judge_steps(TrainingRequest.plain(record), answer)
            counted = [v.verdict for v in found]
            verdicts.append({verdict: counted.count(verdict) for verdict in sorted(set(counted))})
            share = max([share, *(v.share for v in found if not v.formula)])
            unseen += sum(v.blind_share for v in found) / len(found) / len(engines)
            losses.append(float(answer["loss"].mean()))
            after.arrays.append(_last(answer, "param."))
            after.state.append(_last(answer, "state."))
        now = after
        conform = all(map(all_ok, verdicts))
        yield (
            Row(
                dtype,
                done,
                len(batches),
                conform,
                dict(zip(("refnet", "torch"), verdicts, strict=True)),
                share,
                unseen,
                losses[0],
                losses[1],
                _apart(*now.arrays),
                (_digest(now.arrays[0]), _digest(now.arrays[1])),
            ),
            now,
        )


def accuracy(dtype: str, arrays: Arrays) -> float:
    """The share of all digits that the network with these weights tells right."""
    inputs, targets = digits(dtype)
    return float((build(NETWORK, arrays).eval()(inputs).argmax(axis=1) == targets).mean())


def _last(answer: Mapping[str, Array], kind: str) -> Arrays:
    return {name.removeprefix(kind): np.array(a[-1]) for name, a in answer.items() if name.startswith(kind)}


def _apart(ours: Arrays, theirs: Arrays) -> float:
    unit = np.spacing(max(abs(P).max() for P in theirs.values()))
    return float(max(abs(ours[name] - P).max() for name, P in theirs.items()) / unit)


def _digest(arrays: Arrays) -> str:
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()[:16]


# ---- what is kept on the way


def _write(folder: Path, dtype: str, kept: Kept, rows: list[Row], asked: dict[str, int]) -> None:
    """Keep where the training stands, then the rows: an interrupt between the two costs the last part alone."""
    folder.mkdir(parents=True, exist_ok=True)
    done = rows[-1].update
    arrays = {
        f"{k}.{kind}.{name}": array
        for kind, of_both in (("arrays", kept.arrays), ("state", kept.state))
        for k, own in enumerate(of_both)
        for name, array in own.items()
    }
    refnet.save(arrays, folder / f"{dtype}-{done}.npz")
    document = {**asked, "rows": [asdict(row) for row in rows]}
    write_bytes(folder / f"{dtype}.json", (json.dumps(document, indent=1) + "\n").encode())
    for old in folder.glob(f"{dtype}-*.npz"):
        if old.name != f"{dtype}-{done}.npz":
            old.unlink()


def _read(folder: Path, dtype: str, asked: dict[str, int]) -> tuple[list[Row], Kept | None]:
    file = folder / f"{dtype}.json"
    if not file.exists():
        return [], None
    document = json.loads(file.read_text(encoding="utf-8"))
    if {name: document.get(name) for name in asked} != asked:
        raise click.UsageError(f"{folder}: expected what was kept of {asked}, got that of another training")
    rows = [Row(**{**row, "weights": tuple(row["weights"])}) for row in document["rows"]]
    arrays = refnet.load(folder / f"{dtype}-{rows[-1].update}.npz")
    kept = Kept([{}, {}], [{}, {}])
    for path, array in arrays.items():
        k, kind, name = path.split(".", 2)
        getattr(kept, kind)[int(k)][name] = array
    return rows, kept


@click.command()
@click.option("--updates", type=click.IntRange(1), default=10_000, show_default=True, help="Updates of each training.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="The seed that both start from."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows as JSON.")
@click.option(
    "--kept",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep every part in this folder; the same command goes on from there.",
)
def transformer(updates: int, seed: int, out: Path | None, kept: Path | None) -> None:
    """Train a small transformer on digits by refnet and torch from one seed, and judge every update of both."""
    asked = {"updates": updates, "seed": seed}
    before = {dtype: ([], None) if kept is None else _read(kept, dtype, asked) for dtype in DTYPES}
    click.echo("dtype     update  conform    share    unseen      loss   torch's     drift (units in the last place)")
    every: list[Row] = []
    accuracies = {}
    try:
        for dtype in DTYPES:
            rows, now = before[dtype]
            for row in rows:
                _show(row)
            for row, after in run(dtype, updates, seed, now, rows[-1].update if rows else 0):
                now = after
                rows.append(row)
                _show(row)
                if kept is not None:
                    _write(kept, dtype, now, rows, asked)
            every += rows
            assert now is not None
            accuracies[dtype] = [accuracy(dtype, arrays) for arrays in now.arrays]
            ours, theirs = accuracies[dtype]
            click.echo(f"{dtype}: refnet's network tells {ours:.1%} of all digits, torch's {theirs:.1%}")
    except KeyboardInterrupt:
        go_on = "give --kept FOLDER to go on from a part" if kept is None else "the same command goes on from there"
        click.echo(f"interrupted; {go_on}", err=True)
        raise click.exceptions.Exit(130) from None
    if out is not None:
        document = {
            **asked,
            "environment": {"processor": processor(), **versions(("numpy", "torch", "scikit-learn"))},
            "accuracy": accuracies,
            "rows": [asdict(r) for r in every],
        }
        write_bytes(out, (json.dumps(document, indent=1) + "\n").encode())
    if not all(row.conform for row in every):
        raise click.ClickException("some update does not conform: see the column 'conform'")


def _show(row: Row) -> None:
    click.echo(
        f"{row.dtype}{row.update:9}  {'yes' if row.conform else 'NO':>7}{row.share:9.2g}{row.unseen:10.1%}"
        f"{row.loss:10.5f}{row.torch_loss:10.5f}{row.drift_ulps:10.4g}"
    )
