"""`python -m benchmarks seeded`: refnet and torch train a network each from one seed, and nothing is copied.

The seed alone makes the initial weights, the order of every epoch and the masks of dropout equal, bit for bit; both
generators are compared after every update. Weights then drift apart by what the two round differently. At the
checkpoints refnet also does one update from torch's own weights and state, with the same batch and mask, so that what
one update adds is told from what earlier ones have left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import refnet
from refnet.files import write_bytes
from refnet.generator import default_generator
from refnet.optim.lr_scheduler import CosineAnnealingLR
from refnet.train.sampler import batches

Array = NDArray[Any]

BATCH_SIZE = 32
RATE = 1e-3

NETWORKS: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    "mlp": (("Linear", (64, 32)), ("ReLU", ()), ("Dropout", (0.2,)), ("Linear", (32, 10))),
    "cnn": (("Conv2d", (1, 6, 3)), ("ReLU", ()), ("Flatten", ()), ("Dropout", (0.25,)), ("Linear", (216, 10))),
}
"""Classes of refnet.nn and torch.nn with their arguments."""

WITH_VALUES = ("Linear", "Conv2d")
"""Those that have parameters, and so a dtype."""


@dataclass(frozen=True)
class Row:
    """The two after `update` updates.

    Attributes:
        same_draws: whether the generators have been in one state after every update so far, and all batches the same.
        loss, torch_loss: of this update's batch.
        drift_ulps: the largest difference between their weights, in units in the last place of the largest weight.
        one_update_ulps: the same after one update of refnet's from torch's weights and state.
    """

    network: str
    dtype: str
    update: int
    same_draws: bool
    loss: float
    torch_loss: float
    drift_ulps: float
    one_update_ulps: float


def run(network: str, dtype: str, updates: int, seed: int = 0) -> Iterator[Row]:
    """Train both for `updates` updates under AdamW with a cosine schedule. The first row is that of the initial
    weights, with 0 in place of losses. Seeds both default generators, and leaves them seeded.
    """
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)  # sums that torch splits among threads have other bits
    inputs, targets = _digits(network, dtype)
    tensors = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))

    refnet.manual_seed(seed)
    net, twin = (_network(network, dtype, source) for source in (default_generator, refnet.Generator(1)))
    loss, opt, twin_opt = refnet.nn.CrossEntropyLoss(), *(refnet.optim.AdamW(n.params, lr=RATE) for n in (net, twin))
    schedule = CosineAnnealingLR(opt, updates)
    ours = batches(len(inputs), BATCH_SIZE, shuffle=True)

    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        *(
            getattr(torch.nn, name)(*args, **({"dtype": getattr(torch, dtype)} if name in WITH_VALUES else {}))
            for name, args in NETWORKS[network]
        )
    )
    criterion, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    theirs = _endless(DataLoader(tensors, BATCH_SIZE, shuffle=True))

    same = _same_state(torch)
    yield Row(network, dtype, 0, same, 0.0, 0.0, _apart(net.params, model), 0.0)
    for update in range(1, updates + 1):
        X, T = next(theirs)
        batch = next(ours)
        same = same and np.array_equal(inputs[batch], X.numpy()) and np.array_equal(targets[batch], T.numpy())
        watched = update in _checkpoints(updates)
        if watched:
            before = default_generator.get_state()
            twin.load_state_dict({name: P.detach().numpy() for name, P in model.state_dict().items()})
            twin_opt.load_state_dict(_plain(optimizer.state_dict()))
            _update(twin, loss, twin_opt, inputs[batch], targets[batch])
            default_generator.set_state(before)
        value = _update(net, loss, opt, inputs[batch], targets[batch])
        schedule.step()
        optimizer.zero_grad()
        torch_value = criterion(model(X), T)
        torch_value.backward()
        optimizer.step()
        scheduler.step()
        same = same and _same_state(torch)
        if watched:
            apart = _apart(net.params, model), _apart(twin.params, model)
            yield Row(network, dtype, update, same, float(value), torch_value.item(), *apart)


def _checkpoints(updates: int) -> set[int]:
    """1, 2, 5, 10, 20, 50, ... and the last."""
    return {k * 10**e for e in range(len(str(updates))) for k in (1, 2, 5) if k * 10**e <= updates} | {updates}


def _digits(network: str, dtype: str) -> tuple[Array, Array]:
    """Alpaydin and Kaynak's 1,797 digits as scikit-learn ships them, pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    shape = (-1, 1, 8, 8) if network == "cnn" else (-1, 64)
    return (inputs / 16).astype(dtype).reshape(shape), targets.astype(np.int64)


def _network(network: str, dtype: str, source: refnet.Generator) -> refnet.nn.Module:
    """Its layers draw from `source` when they are made, and from the default generator later."""
    layers = []
    for name, args in NETWORKS[network]:
        options = {"dtype": dtype, "generator": source} if name in WITH_VALUES else {}
        layers.append(getattr(refnet.nn, name)(*args, **options))
    return refnet.nn.Sequential(*layers)


def _update(net: refnet.nn.Module, loss: refnet.nn.Module, opt: Any, X: Array, T: Array) -> Array:
    Y, saved = net.forward(X)
    value: Array
    value, saved_loss = loss.forward(Y, T)
    grad_output = loss.backward(np.ones((), Y.dtype), saved_loss)[0][0]
    opt.step(net.backward(grad_output, saved)[1])
    return value


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def _same_state(torch: Any) -> bool:
    return np.array_equal(default_generator.get_state(), torch.get_rng_state().numpy())


def _apart(params: dict[str, Array], model: Any) -> float:
    others = {name: P.detach().numpy() for name, P in model.named_parameters()}
    unit = np.spacing(max(abs(P).max() for P in others.values()))
    return float(max(abs(params[name] - P).max() for name, P in others.items()) / unit)


def _plain(state: Any) -> Any:
    """A state of torch's with arrays in place of tensors."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.detach().numpy() if hasattr(state, "detach") else state


@click.command()
@click.option("--updates", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows as JSON.")
def seeded(updates: int, seed: int, out: Path | None) -> None:
    """Train refnet's and torch's networks from one seed, nothing copied, and show how they drift apart."""
    rows = []
    click.echo(
        "network  dtype    update  same draws      loss   torch's     drift  one update  (units in the last place)"
    )
    for network in NETWORKS:
        for dtype in ("float64", "float32"):
            for row in run(network, dtype, updates, seed):
                rows.append(row)
                click.echo(
                    f"{row.network:7}  {row.dtype}{row.update:8}  {'yes' if row.same_draws else 'NO':>10}"
                    f"{row.loss:10.5f}{row.torch_loss:10.5f}{row.drift_ulps:10.4g}{row.one_update_ulps:12.4g}"
                )
    if out is not None:
        write_bytes(out, (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode())
    if not all(row.same_draws for row in rows):
        raise click.ClickException("the draws of refnet and torch differ: see the column 'same draws'")
