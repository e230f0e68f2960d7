"""`python -m benchmarks seeded`: refnet and torch train a network each from one seed, and nothing is copied.

The seed alone makes the initial weights, the order of every epoch and the masks of dropout equal, bit for bit; both
generators are compared after every update. Both train by AdamW with gradients clipped to a norm and a cosine schedule.
Weights then drift apart by what the two round differently. Whether they do more than that is proved update by update:
each update of either, from its own weights and state before, is held against the enclosure of the true one (`share`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np

import refnet
from benchmarks.judged_updates import Array, Judged, Steps, Stretch, Weights
from parity.records.record import Spec, Train
from refnet.files import write_bytes
from refnet.generator import default_generator
from refnet.nn.utils import clip_grad_norm_
from refnet.optim.lr_scheduler import CosineAnnealingLR
from refnet.train.sampler import batches

BATCH_SIZE = 32
RATE = 1e-3
MAX_NORM = 1.0

EPOCHS = 4
"""Epochs that are judged together, and after which what it takes to go on is kept."""

NETWORKS: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    "mlp": (("Linear", (64, 32)), ("ReLU", ()), ("Dropout", (0.2,)), ("Linear", (32, 10))),
    "cnn": (("Conv2d", (1, 6, 3)), ("ReLU", ()), ("Flatten", ()), ("Dropout", (0.25,)), ("Linear", (216, 10))),
}
"""Classes of refnet.nn and torch.nn with their arguments."""

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features"),
    "Conv2d": ("in_channels", "out_channels", "kernel_size"),
    "Dropout": ("p",),
}

WITH_VALUES = ("Linear", "Conv2d")
"""Those that have parameters, and so a dtype."""


@dataclass(frozen=True)
class Row:
    """The two after `update` updates.

    Attributes:
        same_draws: whether the generators have been in one state after every update so far, and all batches the same.
        loss, torch_loss: of this update's batch.
        drift_ulps: the largest difference between their weights, in units in the last place of the largest weight.
        failures, torch_failures: how often a parameter's update, a state or a loss was wrong so far, in an epoch.
        share, torch_share: the largest part of its budget that an element of one has used so far; what keeps to the
            budget of a weaker formula alone is left out.
        torch_formulas: those weaker formulas.
        blind: the part of the elements of refnet's updates so far whose budget is larger than they are.
        undecided: updates so far that were not judged, as a comparison was too close.
    """

    network: str
    dtype: str
    update: int
    same_draws: bool
    loss: float
    torch_loss: float
    drift_ulps: float
    failures: int
    torch_failures: int
    share: float
    torch_share: float
    torch_formulas: list[str]
    blind: float
    undecided: int


class Training:
    """Both trainings, side by side, as far as they have come.

    Args:
        folder: where what it takes to go on is kept after every few epochs; None for nowhere.
    """

    def __init__(self, network: str, dtype: str, updates: int, seed: int = 0, folder: Path | None = None) -> None:
        import torch

        torch.set_num_threads(1)  # sums that torch splits among threads have other bits
        self.torch, self.network, self.dtype, self.updates = torch, network, dtype, updates
        self.file = None if folder is None else folder / f"{network}-{dtype}-{updates}-{seed}.npz"
        self.inputs, self.targets = _digits(network, dtype)
        refnet.manual_seed(seed)
        self.net = _network(network, dtype, default_generator)
        self.loss, self.opt = refnet.nn.CrossEntropyLoss(), refnet.optim.AdamW(self.net.params, lr=RATE)
        self.schedule = CosineAnnealingLR(self.opt, updates)
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(
            *(
                getattr(torch.nn, name)(*args, **({"dtype": getattr(torch, dtype)} if name in WITH_VALUES else {}))
                for name, args in NETWORKS[network]
            )
        )
        self.named = dict(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=RATE)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, updates)
        self.done, self.same = 0, self._same_state()
        self.judged, self.torch_judged = Judged(), Judged()
        self.rows = [
            Row(network, dtype, 0, self.same, 0.0, 0.0, self._apart(self._theirs()), 0, 0, 0.0, 0.0, [], 0.0, 0)
        ]
        if self.file is not None and self.file.exists():
            self._restore(refnet.load(self.file))

    def run(self) -> Iterator[Row]:
        """All rows, those of before an interrupt first. What had not been judged when it came is done again."""
        given = 0
        while True:
            yield from self.rows[given:]
            given = len(self.rows)
            if self.done >= self.updates:
                return
            self._epochs()
            if self.file is not None:
                refnet.save(self._state(), self.file)

    def _epochs(self) -> None:
        """The next epochs, or what is left of the training, with what their enclosures say."""
        from torch.utils.data import DataLoader, TensorDataset

        torch = self.torch
        tensors = TensorDataset(torch.from_numpy(self.inputs), torch.from_numpy(self.targets))
        loader = DataLoader(tensors, BATCH_SIZE, shuffle=True)
        ours, theirs, masks, seen, rates = Steps(), Steps(), [], [], []
        later: list[tuple[int, tuple[float, float, float]]] = []
        for _ in range(EPOCHS):
            count = min(len(loader), self.updates - self.done)
            if not count:
                break
            picked = islice(batches(len(self.inputs), BATCH_SIZE, shuffle=True), count)
            for batch, (X, T) in zip(picked, loader, strict=False):
                same = np.array_equal(self.inputs[batch], X.numpy()) and np.array_equal(self.targets[batch], T.numpy())
                rates.append(self.opt.param_groups[0]["lr"])
                same = same and rates[-1] == self.optimizer.param_groups[0]["lr"]
                ours.keep(self.net.params, self.opt.state)
                theirs.keep(self._theirs(), self._their_state())
                value, mask = _update(self.net, self.loss, self.opt, self.inputs[batch], self.targets[batch])
                self.schedule.step()
                torch_value = self._their_update(X, T)
                self.same = self.same and same and self._same_state()
                self.done += 1
                seen.append(np.array(batch))
                masks.append(mask)
                ours.losses.append(np.asarray(value))
                theirs.losses.append(torch_value.detach().numpy())
                if self.done in _checkpoints(self.updates):
                    later.append((self.done, (float(value), torch_value.item(), self._apart(self._theirs()))))
        ours.keep(self.net.params, self.opt.state)
        theirs.keep(self._theirs(), self._their_state())
        record = self._record(tuple(seen), tuple(rates))
        Stretch(record, ((self.judged, ours), (self.torch_judged, theirs)), masks).judge()
        judged = self.judged
        for update, (loss, torch_loss, apart) in later:
            blind = judged.blind / max(judged.seen, 1)
            undecided = judged.undecided + self.torch_judged.undecided
            other = self.torch_judged
            far = judged.failures, other.failures, judged.share, other.share, other.formulas, blind, undecided
            self.rows.append(Row(self.network, self.dtype, update, self.same, loss, torch_loss, apart, *far))

    def _their_update(self, X: Any, T: Any) -> Any:
        """torch's loss before its update."""
        torch = self.torch
        self.optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(self.model(X), T)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.scheduler.step()
        return value

    def _record(self, seen: tuple[Array, ...], rates: tuple[float, ...]) -> Train:
        """Updates in a row, as parity asks for them."""
        layers = tuple(
            Spec(name, dict(zip(ARGUMENTS.get(name, ()), args, strict=True))) for name, args in NETWORKS[self.network]
        )
        return Train(
            Spec("Sequential", layers=layers),
            Spec("CrossEntropyLoss"),
            Spec("AdamW", {"lr": RATE}),
            {name: P.copy() for name, P in self.net.params.items()},
            self.inputs,
            self.targets,
            seen,
            clip={"max_norm": MAX_NORM},
            rates=rates,
        )

    def _state(self) -> dict[str, Array]:
        """What it takes to go on with the same bits."""
        facts = {
            "done": self.done,
            "same": self.same,
            "rows": [asdict(row) for row in self.rows],
            "judged": asdict(self.judged),
            "torch_judged": asdict(self.torch_judged),
            "schedules": [self.schedule.state_dict(), self.scheduler.state_dict()],
        }
        return {
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
            "generator": default_generator.get_state(),
            "torch generator": self.torch.get_rng_state().numpy(),
            **{f"refnet {name}": P for name, P in self.net.params.items()},
            **{f"torch {name}": P for name, P in self._theirs().items()},
            **{f"refnet {name}/{key}": a for name, kept in self.opt.state.items() for key, a in kept.items()},
            **{f"torch {name}/{key}": a for name, kept in self._their_state().items() for key, a in kept.items()},
        }

    def _restore(self, state: Mapping[str, Array]) -> None:
        torch = self.torch
        facts = json.loads(state["facts"].tobytes())
        self.done, self.same = facts["done"], facts["same"]
        self.rows = [Row(**row) for row in facts["rows"]]
        self.judged, self.torch_judged = Judged(**facts["judged"]), Judged(**facts["torch_judged"])
        self.schedule.load_state_dict(facts["schedules"][0])
        self.scheduler.load_state_dict(facts["schedules"][1])
        for group, rate in (
            (self.opt.param_groups[0], facts["schedules"][0]["_last_lr"][0]),
            (self.optimizer.param_groups[0], facts["schedules"][1]["_last_lr"][0]),
        ):
            group["lr"] = rate
        for name, P in self.net.params.items():
            P[...] = state[f"refnet {name}"]
            self.opt.state[name] = {
                key: state[f"refnet {name}/{key}"].copy() for key in ("step", "exp_avg", "exp_avg_sq")
            }
            with torch.no_grad():
                self.named[name].copy_(torch.from_numpy(state[f"torch {name}"].copy()))
            self.optimizer.state[self.named[name]] = {
                key: torch.from_numpy(state[f"torch {name}/{key}"].copy()) for key in ("step", "exp_avg", "exp_avg_sq")
            }
        default_generator.set_state(state["generator"].copy())
        torch.set_rng_state(torch.from_numpy(state["torch generator"].copy()))

    def _theirs(self) -> Weights:
        return {name: p.detach().numpy() for name, p in self.named.items()}

    def _their_state(self) -> dict[str, Weights]:
        kept = self.optimizer.state
        return {n: {key: a.numpy() for key, a in kept[p].items()} for n, p in self.named.items() if p in kept}

    def _same_state(self) -> bool:
        return np.array_equal(default_generator.get_state(), self.torch.get_rng_state().numpy())

    def _apart(self, others: Weights) -> float:
        unit = np.spacing(max(abs(P).max() for P in others.values()))
        return float(max(abs(self.net.params[name] - P).max() for name, P in others.items()) / unit)


def run(network: str, dtype: str, updates: int, seed: int = 0, folder: Path | None = None) -> Iterator[Row]:
    """Train both for `updates` updates. The first row is that of the initial weights, with 0 in place of losses. Seeds
    both default generators, and leaves them seeded."""
    yield from Training(network, dtype, updates, seed, folder).run()


def _checkpoints(updates: int) -> set[int]:
    """1, 2, 5, 10, 20, 50, ... and the last."""
    return {k * 10**e for e in range(len(str(updates))) for k in (1, 2, 5) if k * 10**e <= updates} | {updates}


def _digits(network: str, dtype: str) -> tuple[Array, Array]:
    """Alpaydin and Kaynak's 1,797 digits as scikit-learn ships them, pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    shape = (-1, 1, 8, 8) if network == "cnn" else (-1, 64)
    return (inputs / 16).astype(dtype).reshape(shape), targets.astype(np.int64)


def _network(network: str, dtype: str, source: refnet.Generator) -> refnet.nn.Sequential:
    """Its layers draw from `source` when they are made, and from the default generator later."""
    layers = []
    for name, args in NETWORKS[network]:
        options = {"dtype": dtype, "generator": source} if name in WITH_VALUES else {}
        layers.append(getattr(refnet.nn, name)(*args, **options))
    return refnet.nn.Sequential(*layers)


def _update(net: refnet.nn.Sequential, loss: refnet.nn.Module, opt: Any, X: Array, T: Array) -> tuple[Array, Array]:
    """The loss before the update, and the mask that dropout drew."""
    Y, saved = net.forward(X)
    (place,) = (k for k, layer in enumerate(net.layers) if isinstance(layer, refnet.nn.Dropout))
    value: Array
    value, saved_loss = loss.forward(Y, T)
    grad_output = loss.backward(np.ones((), Y.dtype), saved_loss)[0][0]
    grads = net.backward(grad_output, saved)[1]
    clip_grad_norm_(grads, MAX_NORM)
    opt.step(grads)
    return value, saved[place].kept


@click.command()
@click.option("--updates", type=click.IntRange(1), default=10_000, show_default=True, help="Updates of each training.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="The seed that both start from."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows as JSON, each as it comes."
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what it takes to go on in this folder after every few epochs, and go on from there if it is there.",
)
def seeded(updates: int, seed: int, out: Path | None, resume: Path | None) -> None:
    """Train networks of refnet and torch from one seed, with nothing copied, and show how they drift apart.

    Every update of both is held against the truth.
    """
    rows = []
    if resume is not None:
        resume.mkdir(parents=True, exist_ok=True)
    click.echo(
        "network  dtype    update  same draws      loss   torch's  drift (ulps)  wrong  torch's  of a budget  torch's"
        "  blind"
    )
    for network in NETWORKS:
        for dtype in ("float64", "float32"):
            row = None
            for row in run(network, dtype, updates, seed, resume):
                rows.append(row)
                if out is not None:
                    write_bytes(out, (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode())
                click.echo(
                    f"{row.network:7}  {row.dtype}{row.update:8}  {'yes' if row.same_draws else 'NO':>10}"
                    f"{row.loss:10.5f}{row.torch_loss:10.5f}{row.drift_ulps:14.4g}{row.failures:7}"
                    f"{row.torch_failures:9}{row.share:13.2g}{row.torch_share:9.2g}{row.blind:7.1%}"
                )
            if row is not None and row.torch_formulas:
                click.echo(f"         torch keeps to the budget of: {', '.join(row.torch_formulas)}")
    if not all(row.same_draws for row in rows):
        raise click.ClickException("the draws of refnet and torch differ: see the column 'same draws'")
    if any(row.failures or row.torch_failures for row in rows):
        raise click.ClickException("an update is not the true one up to rounding: see the column 'wrong'")
