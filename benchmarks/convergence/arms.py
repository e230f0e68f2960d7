"""The arms of the study: a size of batch, an order of the data, a schedule of the learning rate and an optimizer.

A last batch that is not full is kept, as torch does by default: the mean over b of its samples weighs each of them
n / b times what it weighs in a full batch of n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

if TYPE_CHECKING:
    from benchmarks.convergence.problems import Problem

Order = Literal["epoch", "once", "replacement"]
Schedule = Literal["constant", "decay"]
Optimizer = Literal["sgd", "momentum", "adam"]

OPTIMIZERS: Mapping[Optimizer, tuple[str, dict[str, float], str]] = {
    "sgd": ("SGD", {}, "plain gradient descent"),
    "momentum": ("SGD", {"momentum": 0.9}, "momentum"),
    "adam": ("Adam", {}, "Adam"),
}
"""The class of refnet.optim and torch.optim, its arguments besides the rate, and what it is called."""

REGIMES = ("batch", "mini-batch", "stochastic")

Extent = Literal["small", "full", "real"]
"""How much a study takes in: the default, everything, or the problems of real size."""


@dataclass(frozen=True)
class Arm:
    """How an update's samples are chosen, and how the rate goes on.

    Attributes:
        batch_size: samples an update; None is the whole training set (batch), 1 is stochastic gradient descent.
        order: "epoch" (a new random order every epoch), "once" (one random order, drawn before training and kept) or
            "replacement" (an epoch is n independent draws, n the number of samples). The whole set has no order.
        schedule: "constant", or "decay" (see `lr_lambda`).
        optimizer: one of OPTIMIZERS.

    Raises:
        ValueError: a batch size that is no positive integer, an unknown order, schedule or optimizer, or an order of
            the whole set.
    """

    batch_size: int | None
    order: Order = "epoch"
    schedule: Schedule = "constant"
    optimizer: Optimizer = "sgd"

    def __post_init__(self) -> None:
        size = self.batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"Arm: expected batch_size to be a positive integer or None, got {size!r}")
        for what, value, known in (
            ("order", self.order, Order),
            ("schedule", self.schedule, Schedule),
            ("optimizer", self.optimizer, Optimizer),
        ):
            if value not in get_args(known):
                raise ValueError(f"Arm: expected {what} among {', '.join(get_args(known))}, got {value!r}")
        if size is None and self.order != "epoch":
            raise ValueError(f"Arm: expected order 'epoch' with the whole set, which has none, got {self.order!r}")

    @property
    def regime(self) -> str:
        """ "batch", "mini-batch" or "stochastic"."""
        return "batch" if self.batch_size is None else "stochastic" if self.batch_size == 1 else "mini-batch"

    @property
    def name(self) -> str:
        """Such as "batch", "mini-batch 32", "stochastic, shuffled once", "batch, decaying rate" or "batch, Adam"."""
        order = {"epoch": "", "once": ", shuffled once", "replacement": ", with replacement"}[self.order]
        schedule = {"constant": "", "decay": ", decaying rate"}[self.schedule]
        size = f" {self.batch_size}" if self.regime == "mini-batch" else ""
        optimizer = "" if self.optimizer == "sgd" else f", {OPTIMIZERS[self.optimizer][2]}"
        return f"{self.regime}{size}{order}{schedule}{optimizer}"

    @property
    def plain(self) -> bool:
        """Whether it is shuffled every epoch, at a constant rate."""
        return (self.order, self.schedule) == ("epoch", "constant")

    def make_optimizer(self, optim: Any, params: Any, rate: float) -> Any:
        """The optimizer of `optim`, which is refnet.optim or torch.optim."""
        name, args, _ = OPTIMIZERS[self.optimizer]
        return getattr(optim, name)(params, lr=rate, **args)

    def lr_lambda(self, iterations: int) -> Callable[[int], float] | None:
        """What update k = 0, 1, ... multiplies the rate by, as torch's LambdaLR takes it; None for a constant rate.

        "decay" is 1 / (1 + k / tau) with tau = iterations / 10: the rate's sum over all updates diverges and that of
        its squares does not, the conditions under which stochastic gradient descent converges (Robbins and Monro, "A
        stochastic approximation method", Annals of Mathematical Statistics 22, 1951). It falls to an eleventh by the
        end, and is one division, which every machine rounds alike.
        """
        if self.schedule == "constant":
            return None

        def decay(k: int) -> float:
            # 1 / (1 + 10 k / iterations)
            return iterations / (iterations + 10 * k)

        decay.capturable = True  # type: ignore[attr-defined]  # it depends on k alone, and may be asked ahead
        return decay

    def as_dict(self) -> dict[str, Any]:
        """Without the optimizer where it is plain gradient descent, so that a cell that was trained before there were
        others has the same key."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("optimizer", "sgd")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


def core(problem: Problem) -> tuple[Arm, Arm, Arm]:
    """The arms that stand for the three regimes in every study: the whole set, the middle size of mini-batch and single
    samples, at a constant rate."""
    return Arm(None), Arm(problem.batch_sizes[len(problem.batch_sizes) // 2]), Arm(1)


def arms(problem: Problem, extent: Extent = "small", optimizers: tuple[Optimizer, ...] = ("sgd",)) -> tuple[Arm, ...]:
    """The arms that a study compares on `problem`: these, by each of the optimizers.

    small: the three of `core`, and single samples at a decaying rate.
    real: the whole set, every mini-batch size and single samples at a constant rate; single samples at a decaying one.
    full: the whole set, every mini-batch size and single samples, each at a constant and at a decaying rate; then
        single samples and the middle mini-batch size shuffled once and drawn with replacement.
    """
    return tuple(replace(arm, optimizer=each) for each in optimizers for arm in _arms(problem, extent))


def _arms(problem: Problem, extent: Extent) -> tuple[Arm, ...]:
    if extent == "small":
        return (*core(problem), Arm(1, schedule="decay"))
    sizes = (None, *reversed(problem.batch_sizes), 1)
    if extent == "real":
        return (*(Arm(size) for size in sizes), Arm(1, schedule="decay"))
    middle = core(problem)[1].batch_size
    orders: tuple[Order, ...] = ("once", "replacement")
    return (
        *(Arm(size) for size in sizes),
        *(Arm(size, schedule="decay") for size in sizes),
        *(Arm(size, order) for order in orders for size in (middle, 1)),
    )
