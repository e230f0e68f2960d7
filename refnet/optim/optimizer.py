"""What all optimizers share: groups of parameters, steps, and state that can be saved."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from refnet import _absent
from refnet._steps import clock
from refnet.arithmetic import special
from refnet.nn.module import Array, Params
from refnet.optim.param_groups import Group, groups_of, named, unscheduled

Check = Callable[[str, str, Any], None]
"""Raises if an option is not what it must be; called with the optimizer's name, the option's name and its value."""

IGNORED = frozenset({"foreach", "capturable", "differentiable", "fused", "param_names"})
"""Options of torch's that choose how a step is carried out, and the names that torch notes in a group. They have no
meaning here, and are accepted and dropped."""

SCHEDULED = frozenset({"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"})
"""What schedulers note in a group, as torch's do."""

Shape = tuple[int, ...]


_ONE = np.ones((), np.float32)
"""(NumPy takes twice as long to add a Python number to a counter)"""


def same(shape: Shape) -> Shape | None:
    return shape


def number(shape: Shape) -> Shape | None:
    return ()


class State(NamedTuple):
    """One array that an optimizer keeps for each parameter.

    Attributes:
        name: torch's name.
        counter: whether it counts steps, a 0-d array of float32 as in torch, the same in every arithmetic; otherwise it
            has the dtype of its parameter.
        since: the step of a parameter after which it is there.
        when: the option that must be on for it to be kept; None if it always is.
        least: the smallest value that it can have, where there is one.
        start: what it begins with: a number, or the option whose value that is.
        shape: its shape, from that of its parameter: `same`, `number` (a single one), or one of its own, with axes
            of size 1; None for a parameter for which it is not kept.
    """

    name: str
    counter: bool = False
    since: int = 1
    when: str | None = None
    least: float | None = None
    start: float | str = 0.0
    shape: Callable[[Shape], Shape | None] = same


class Optimizer(ABC):
    """Moves parameters along their gradients, in place. A class adds its options, its state and its equations.

    Attributes:
        options: for each option its check.
        schema: all arrays that may be kept for a parameter.
        stands_for: the dtype that parameters stand for whose elements are no floats, such as balls; None for floats.
        takes_closure: whether a step takes a function that evaluates loss and gradients, in place of gradients.
        defaults: the options of a group that does not name them.
        param_groups: the groups, each `{"params": {name: array}, "lr": ...}`. Options may be changed between steps; a
            value that the optimizer refuses is refused when it is set.
        state: `{name: {key: array}}`, from a parameter's first step on.

    Args:
        params: parameters by name (`net.params` or `net.named_parameters()`), or a list of groups: dicts with `params`
            and any of the options, which stand in for the defaults.

    Raises:
        ValueError: an option is out of its range, or does not go with another; there are no parameters at all; a
            parameter stands in two groups.
        TypeError: an option has the wrong type; a group is no dict, has no `params` with names, or has an unknown
            option; a parameter is no array of floats.
    """

    options: ClassVar[Mapping[str, Check]]
    schema: ClassVar[tuple[State, ...]] = ()
    stands_for: Any = None
    takes_closure: ClassVar[bool] = False

    def __init__(self, params: Any, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.check(self.defaults)
        groups = groups_of(self._name, params)
        if not groups:
            raise ValueError(f"{self._name}: expected at least one parameter, got none")
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[str, Params] = {}
        for group in groups:
            self.add_param_group(group)
        clock.forget()

    @abstractmethod
    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        """Move the parameter `name` along its gradient, in place, with the options of its group.

        This is the whole of an optimizer's equations: what a variant of it replaces.
        """

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raise if an option is not what it must be. A class adds what its options ask of each other."""
        for name, check in cls.options.items():
            check(cls.__name__, name, options[name])

    def kept(self, name: str, P: Array, group: Mapping[str, Any]) -> Params:
        """The state of a parameter, with its first values for what is not there yet."""
        state = self.state.setdefault(name, {})
        for array in self.schema:
            if array.name in state or not (array.when is None or group[array.when]):
                continue
            shape = () if array.counter else array.shape(tuple(P.shape))
            if shape is not None:
                start = group[array.start] if isinstance(array.start, str) else array.start
                made = np.zeros((), np.float32) if array.counter else _full(P, shape, start)
                state[array.name] = self.as_kept(made) if array.shape is number else made
        return state

    def as_kept(self, x: Array) -> Array:
        """A single number of the state, as it is kept: here in full."""
        return x

    def counted(self, name: str, P: Array, group: Mapping[str, Any]) -> tuple[Params, Array]:
        """The state of a parameter at its next step, and the number t of that step, a counter."""
        state = self.kept(name, P, group)
        t = state["step"]
        t[...] = t + _ONE
        return state, t

    def gradient(self, P: Array, G: Array, group: Mapping[str, Any], coupled: bool = True) -> Array:
        """g, with which an update begins; a decay that is `coupled` is a part of it."""
        if group["maximize"]:
            # g[.] = -dtheta[.]
            G = -G
        if coupled and group["weight_decay"] != 0:
            lambda_ = special.lift(group["weight_decay"], P)
            # g[.] = g[.] + lambda theta[.]
            G = G + lambda_ * P
        return G

    def decay(self, P: Array, group: Mapping[str, Any]) -> None:
        """Weight decay apart from the gradient, in place."""
        if group["weight_decay"] != 0:
            gamma, lambda_ = special.lift(group["lr"], P), special.lift(group["weight_decay"], P)
            # theta[.] = theta[.] - gamma lambda theta[.]
            P[...] = P - gamma * lambda_ * P

    def moving_average(self, M: Array, beta: float, X: Array) -> Array:
        """A running mean, one step on; 1 - beta is exact and rounded once."""
        kept, added = _shares(beta, X)
        # m[.] = beta m[.] + (1 - beta) x[.]
        return kept * M + added * X

    def moving_average_of_squares(self, V: Array, beta: float, X: Array) -> Array:
        """A running mean of squares, likewise."""
        kept, added = _shares(beta, X)
        # v[.] = beta v[.] + (1 - beta) x[.]^2
        return kept * V + added * (X * X)

    def correction(self, beta: float, t: Array, P: Array) -> Array:
        """1 - beta^t, the weight of the first t values in a running mean."""
        return special.one_minus_power(beta, t, P)

    def admit(self, name: str, P: Array) -> None:  # noqa: B027  most optimizers take all
        """Raise if a parameter is none that this optimizer can move."""

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        """The options of each group, in torch's form."""
        groups = [
            "\n".join(
                [f"Parameter Group {k}", *(f"    {name}: {group[name]}" for name in sorted(group.keys() - {"params"}))]
            )
            for k, group in enumerate(self.param_groups)
        ]
        return "\n".join([f"{self._name} (", "\n\n".join(groups), ")"])

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # (only called where there is no such member)
            raise AttributeError(_absent.of_optimizer(self, name, type(self).options))

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take on a further group of parameters; options that it does not name have the defaults."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{self._name}: expected a group as a dict with params, got {group!r}")
        if unknown := sorted(group.keys() - {"params", *self.options} - IGNORED - SCHEDULED):
            raise TypeError(
                f"{self._name}: expected a group with params and the options {', '.join(self.options)}, "
                f"got {', '.join(unknown)}"
            )
        own = {name: value for name, value in group.items() if name not in IGNORED}
        added = {**self.defaults, **own, "params": named(self._name, group["params"])}
        self.check(added)
        held = {name: P for other in self.param_groups for name, P in other["params"].items()}
        places = {id(P): name for name, P in held.items()}
        for name, P in added["params"].items():
            self.admit(name, P)
            if getattr(getattr(P, "dtype", None), "kind", None) not in ("f", "O"):
                raise TypeError(
                    f"{self._name}: expected {name} to be an array of floats, "
                    f"got {getattr(P, 'dtype', type(P).__name__)}"
                )
            if name in held or id(P) in places:
                raise ValueError(
                    f"{self._name}: expected each parameter once, got {name} again (known as {places.get(id(P), name)})"
                )
            places[id(P)] = name
        self.param_groups.append(Group(type(self), added))

    def step(self, grads: Mapping[str, Array | None]) -> None:
        """Move the parameters, in place. One without a gradient, or with None, is left alone, and so is its state.

        Nothing is written unless every gradient fits, and no gradient is written to or kept.

        Raises:
            KeyError: a gradient has a name that no parameter has.
            ValueError: a gradient's shape is not its parameter's, or a parameter is read-only.
            TypeError: a gradient's dtype is not its parameter's.
        """
        due = self.due(grads)
        clock.now = now = next(clock.numbers)
        for name, P, G, group in due:
            self.update(name, P, G, group)
            clock.moved[id(P)] = now

    def due(self, grads: Mapping[str, Any]) -> list[tuple[str, Array, Any, dict[str, Any]]]:
        """The parameters that have a gradient, which fits, each with its group; raises as `step`."""
        due = []
        try:
            get = grads.get
        except AttributeError:
            raise TypeError(
                f"{self._name}.step: expected gradients by name, as backward returns them, got {type(grads).__name__}"
            ) from None
        for group in self.param_groups:
            for name, P in group["params"].items():
                G = get(name)
                if G is None:
                    continue
                self.check_gradient(name, P, G)
                if type(P) is np.ndarray and not P.flags.writeable:
                    raise ValueError(f"{self._name}: expected {name} to be writeable, got a read-only array")
                due.append((name, P, G, group))
        if len(due) < len(grads):
            known = {name for group in self.param_groups for name in group["params"]}
            if unknown := sorted(grads.keys() - known):
                raise KeyError(
                    f"{self._name}: expected gradients of {sorted(known)}, got {', '.join(unknown)} among them"
                )
        return due

    def check_gradient(self, name: str, P: Array, G: Any) -> None:
        """Raise unless a gradient has the shape and dtype of its parameter. Its values are not looked at: NaN goes into
        the parameter and the state, as in torch."""
        if not hasattr(G, "dtype"):
            raise TypeError(f"{self._name}: expected an array as the gradient of {name}, got {type(G).__name__}")
        if G.shape != P.shape:
            raise ValueError(
                f"{self._name}: expected a gradient of shape {tuple(P.shape)} for {name}, got {tuple(G.shape)}"
            )
        if G.dtype is not P.dtype and G.dtype != P.dtype:
            raise TypeError(f"{self._name}: expected a gradient of dtype {P.dtype} for {name}, got {G.dtype}")

    def state_dict(self) -> dict[str, Any]:
        """Options and a copy of the state, in plain dicts: all it takes, with the parameters, to go on bit for bit."""
        return {
            "state": {name: {key: _copied(array) for key, array in kept.items()} for name, kept in self.state.items()},
            "param_groups": [{**group, "params": list(group["params"])} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned: its options and a copy of its state in place of the present ones.

        The state of torch's optimizer of the same name fits too: where it has numbers in place of names, they are the
        places of the parameters, in their order.

        Nothing is changed unless everything fits.

        Raises:
            KeyError: the state lacks a part, a group an option, or a parameter one of the arrays that belong together;
                a part or an option is unknown; the state is that of an unknown parameter or of another optimizer.
            ValueError: the groups have other parameters; an option is one that the optimizer refuses; a shape differs;
                a value is NaN, infinite or too small.
            TypeError: the state is no dict, or a dtype differs.
        """
        operation = f"{self._name}.load_state_dict"
        groups = self._fitting_groups(operation, state_dict)
        names = [name for group in groups for name in group["params"]]
        params = {name: (P, group) for group in groups for name, P in group["params"].items()}
        state: dict[str, Params] = {}
        for key, given in state_dict["state"].items():
            name = names[key] if isinstance(key, int) and 0 <= key < len(names) else key
            if name not in params or not isinstance(given, Mapping):
                raise KeyError(f"{operation}: expected the state of {names}, got that of {name!r}")
            state[name] = self._fitting_state(operation, name, given, *params[name])
        self.state = state
        self.param_groups = [Group(type(self), group) for group in groups]

    def _fitting_groups(self, operation: str, state_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The groups that a state describes, on the parameters held."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{operation}: expected a dict, got {type(state_dict).__name__}")
        if missing := [part for part in ("state", "param_groups") if part not in state_dict]:
            raise KeyError(f"{operation}: expected a dict with state and param_groups; missing {', '.join(missing)}")
        if unknown := sorted(map(str, state_dict.keys() - {"state", "param_groups"})):
            raise KeyError(
                f"{operation}: expected a dict with state and param_groups alone, got {', '.join(unknown)} too"
            )
        if not all(isinstance(group, Mapping) and "params" in group for group in state_dict["param_groups"]):
            raise KeyError(f"{operation}: expected groups with params, got {list(state_dict['param_groups'])}")
        given = [list(group["params"]) for group in state_dict["param_groups"]]
        own = [list(group["params"]) for group in self.param_groups]
        places = iter(range(sum(map(len, own))))
        if given not in (own, [[next(places) for _ in group] for group in own]):
            raise ValueError(f"{operation}: expected groups of the parameters {own}, got {given}")
        groups = []
        for here, there in zip(self.param_groups, state_dict["param_groups"], strict=True):
            if missing := [option for option in self.options if option not in there]:
                raise KeyError(
                    f"{operation}: expected groups with {', '.join(self.options)}; missing {', '.join(missing)}"
                )
            if unknown := sorted(map(str, there.keys() - {"params", *self.options} - IGNORED - SCHEDULED)):
                raise KeyError(
                    f"{operation}: expected groups with {', '.join(self.options)}, got {', '.join(unknown)} among them"
                )
            groups.append({name: value for name, value in there.items() if name not in IGNORED})
            groups[-1]["params"] = here["params"]
            self.check(unscheduled(groups[-1]))
        return groups

    def _fitting_state(
        self, operation: str, name: str, given: Mapping[str, Any], P: Array, group: Mapping[str, Any]
    ) -> Params:
        """A copy of what a state holds for one parameter; None stands for an array that is not there yet."""
        there = {key: value for key, value in given.items() if value is not None}
        known = {array.name: array for array in self.schema if array.counter or array.shape(tuple(P.shape)) is not None}
        shapes = {array.name: shape for array, shape in _due(self.schema, group, tuple(P.shape))}
        due = list(shapes)
        if there.keys() - known or (there and any(key not in there for key in due)):
            raise KeyError(f"{operation}: expected {', '.join(due or known) or 'nothing'} of {name}, got {list(there)}")
        made = {}
        for key, value in there.items():
            shape = shapes.get(key, known[key].shape(tuple(P.shape)))
            if known[key].counter:
                value = np.asarray(value, np.float32)
            elif not hasattr(value, "copy"):  # an array of another library, or a number
                value = np.asarray(value)
            if known[key].shape is number and isinstance(value, np.ndarray) and value.dtype.kind == "f":
                # (torch keeps these in float32)
                value = np.asarray(value, P.dtype)
            if tuple(value.shape) != shape:
                raise ValueError(f"{operation}: expected {key} of {name} of shape {shape}, got {tuple(value.shape)}")
            if not known[key].counter and value.dtype != P.dtype:
                raise TypeError(f"{operation}: expected {key} of {name} of dtype {P.dtype}, got {value.dtype}")
            _check_values(f"{operation}: expected {{}} in {key} of {name}, got {{}}", value, known[key].least)
            made[key] = value.copy()
        return made


def _shares(beta: float, X: Array) -> tuple[Array, Array]:
    """beta and 1 - beta, exact and rounded once, as constants of the arithmetic and dtype of X."""
    if type(X) is np.ndarray and X.dtype.kind == "f":
        return _rounded_shares(beta, X.dtype.type)
    return special.lift(beta, X), special.lift(1 - Fraction(beta), X)


@functools.lru_cache(maxsize=64)
def _rounded_shares(beta: float, dtype: type) -> tuple[Array, Array]:
    """(kept, because an exact fraction takes as long as ten operations on a small tensor)"""
    like: Array = np.empty((), dtype)
    # (as arrays without axes: a product with a scalar takes half as long again)
    return np.asarray(special.lift(beta, like)), np.asarray(special.lift(1 - Fraction(beta), like))


def _due(schema: Iterable[State], group: Mapping[str, Any], of: Shape) -> list[tuple[State, Shape]]:
    """What is kept of a parameter of that shape with the options of its group, and the shape of each."""
    kept = [array for array in schema if array.when is None or group[array.when]]
    shapes = [() if array.counter else array.shape(of) for array in kept]
    return [(array, shape) for array, shape in zip(kept, shapes, strict=True) if shape is not None]


def _full(P: Array, shape: Shape, value: Any) -> Array:
    """An array of this value in the dtype and arithmetic of P; an axis is as long as that of P, or 1, or there is
    none."""
    Z = P.copy()
    Z[...] = special.lift(value, P)
    if shape == tuple(P.shape):
        return Z
    if not shape:
        return Z[(*(0 for _ in P.shape), ...)].copy()
    return Z[(..., *(slice(0, size) for size in shape))].copy()


def _copied(kept: Any) -> Any:
    """What is kept of a parameter: an array, a list of arrays or a Python number."""
    if isinstance(kept, list):
        return [_copied(one) for one in kept]
    return kept.copy() if hasattr(kept, "copy") else kept


def _check_values(message: str, array: Array, least: float | None) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return
    if array.size and not (abs(array) < np.inf).all():
        raise ValueError(message.format("finite values", "NaN or infinity"))
    if least is not None and array.size and not (array >= least).all():
        raise ValueError(message.format(f"values of at least {least:g}", f"{array.min():g}"))
