"""Who is timed: one file for each library, which is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from benchmarks.speed.networks import Network, Sigmoid


class Training(NamedTuple):
    """A training under way.

    Attributes:
        run: goes on for a number of updates, to their end, and returns the loss of the last of them before it: a
            number, or (trainings,).
        weights: the present weights under torch's names, copied: (*shape), or (trainings, *shape).
        least: with fewer updates `run` is not what is to be timed.
        told: what is to be said of the last run.
    """

    run: Callable[[int], Any]
    weights: Callable[[], dict[str, Any]]
    least: int = 1
    told: Callable[[], str] = str


class Unsupported(Exception):
    """What a library cannot do; the text is the reason."""


@dataclass(frozen=True)
class Contender:
    """One way to train a network.

    Attributes:
        package: the library's name for `import`.
        place: module and function, `on_torch:eager`; called with a network it returns a Training.
        one, many: whether it is timed on single trainings, and on many.
        at_once: whether its Training is of all the runs; otherwise it trains them one after the other, and run 0 is
            timed for all.
        trains: the network that it trains in place of one that it has no way to express.
        note: what is to be known about its figures.
        compared: whether it trains at all, and so has weights to compare with refnet's.
        alone: module and function that give the training of a whole process; "" if these are `place`.
        basic: whether it is only timed on networks of basic layers, by gradient descent.
    """

    name: str
    package: str
    place: str
    about: str
    one: bool = True
    many: bool = False
    at_once: bool = False
    trains: Callable[[Network], Network] = lambda network: network
    note: str = ""
    compared: bool = True
    alone: str = ""
    basic: bool = False

    def takes(self, network: Network) -> bool:
        of_this_kind = self.many if network.many else self.one
        return of_this_kind and (network.basic or not self.basic) and (self.compared or bool(network.multiplications))

    def subject(self, network: Network) -> Network:
        """What it trains to stand for `network`."""
        return self.trains(network if self.at_once else network.lone)

    def build(self, network: Network) -> Training:
        """A training of `subject(network)` that has not begun.

        Raises:
            ImportError: the library is not there.
            Exception: whatever it answers to a network that it cannot train.
        """
        return self._made(self.place, network)

    def whole(self, network: Network) -> Training:
        """A training that is all that its process does; errors as `build`."""
        return self._made(self.alone or self.place, network)

    def _made(self, place: str, network: Network) -> Training:
        made: Training = getattr(import_module(library_of(self)), place.partition(":")[2])(self.subject(network))
        return made


def library_of(contender: Contender) -> str:
    """The module that translates to its library; to import it is to load the library."""
    return f"{__name__}.{contender.place.partition(':')[0]}"


def without_last_sigmoid(network: Network) -> Network:
    """The same, its last layer linear; other networks are left as they are."""
    if network.loss == "mse" and network.layers[-1] == Sigmoid():
        return Network(
            f"{network.name} (linear outputs)",
            network.layers[:-1],
            network.batch,
            network.loss,
            network.runs,
            network.dtype,
            network.optimizer,
            network.updates,
        )
    return network


LIMIT = Contender(
    "products",
    "numpy",
    "products:products",
    "the matrix products of a step and nothing else: numpy.matmul into buffers",
    many=True,
    at_once=True,
    compared=False,
)

PLAIN = Contender("refnet-plain", "refnet", "on_refnet:plain", "refnet.fit(..., capture=False)", many=True)

REPLAYED = Contender(
    "refnet-replayed", "refnet", "on_refnet:replayed", "refnet.fit(...), as it is without llvmlite", many=True
)

CAPTURED = Contender(
    "refnet-captured",
    "refnet",
    "on_refnet:captured",
    "refnet.fit(...), llvmlite loaded if it is installed",
    many=True,
    alone="on_refnet:alone",
)

ENSEMBLE = Contender(
    "refnet-ensemble", "refnet", "on_refnet:ensemble", "refnet.ensemble(...)", one=False, many=True, at_once=True
)

CONTENDERS = (
    LIMIT,
    PLAIN,
    REPLAYED,
    CAPTURED,
    ENSEMBLE,
    Contender("torch-eager", "torch", "on_torch:eager", "modules, autograd, optim", many=True),
    Contender("torch-fused", "torch", "on_torch:fused", "the same with a fused optimizer"),
    Contender("torch-compile", "torch", "on_torch:compiled", "torch.compile of the whole step"),
    Contender(
        "torch-func",
        "torch",
        "on_torch:ensemble",
        "torch.func: vmap of grad_and_value",
        one=False,
        many=True,
        at_once=True,
    ),
    Contender(
        "torch-func-compile",
        "torch",
        "on_torch:compiled_ensemble",
        "torch.compile of that whole step",
        one=False,
        many=True,
        at_once=True,
    ),
    Contender("jax-step", "jax", "on_jax:step", "jit of a step, called from Python", basic=True),
    Contender("jax-loop", "jax", "on_jax:loop", "jit of the whole loop: lax.fori_loop", many=True),
    Contender(
        "jax-vmap", "jax", "on_jax:vmap", "jit of vmap over runs of that loop", one=False, many=True, at_once=True
    ),
    Contender("autograd", "autograd", "on_autograd:tape", "HIPS autograd: value_and_grad", basic=True),
    Contender("mygrad", "mygrad", "on_mygrad:tape", "MyGrad, memory guarding off", basic=True),
    Contender(
        "sklearn",
        "sklearn",
        "on_sklearn:mlp",
        "MLPRegressor(solver='sgd').fit, warm started",
        trains=without_last_sigmoid,
        basic=True,
        note="without the last sigmoid, which it cannot express with squared errors",
    ),
    Contender("tinygrad", "tinygrad", "on_tinygrad:jit", "TinyJit of a step on its CPU device", basic=True),
)
