"""What all schedules of the learning rate share: steps, and state that can be saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from types import FunctionType
from typing import Any, ClassVar

from refnet import _check
from refnet.optim.optimizer import Optimizer

LEAST = {
    **dict.fromkeys(("last_epoch", "_step_count", "cooldown_counter", "num_bad_epochs"), -1),
    **dict.fromkeys(("total_iters", "anneal_epochs", "patience", "cooldown"), 0),
    **dict.fromkeys(("step_size", "T_0", "T_i", "T_mult", "total_steps"), 1),
}
"""Names in a state that are integers, and the least of each."""

POSITIVE = ("T_max", "total_size")
"""Names in a state that are above 0."""

BOUNDLESS = ("best", "mode_worse")
"""Names in a state that may be infinite."""

PER_GROUP = ("base_lrs", "_last_lr", "max_lrs", "min_lrs", "base_momentums", "max_momentums", "lr_lambdas")
"""Names in a state that have one entry for each group."""


class LRScheduler:
    """Sets the learning rate of every group of an optimizer, step after step. A class adds its equation.

    As in torch, a scheduler takes its first step when it is made: it notes each group's rate as `initial_lr` (unless
    another scheduler has done so), and sets the rate of the first update. `step` is called after each step of the
    optimizer, or after each epoch; the equations call either an epoch. The recursive equations take the group's present
    rate and multiply it, so that several schedulers on one optimizer act together. Rates are Python floats, computed
    with torch's own operations in their order.

    torch warns where `step` comes before the optimizer's; here nothing looks at that.

    In the equations eta_e is a group's rate at epoch e = `last_epoch`, and eta its `initial_lr`.

    Attributes:
        optimizer: the one whose groups it changes.
        base_lrs: eta, for each group.
        last_epoch: e.

    Args:
        optimizer: one of refnet's.
        last_epoch: the epoch to go on from, with groups that have `initial_lr`; -1 begins.

    Raises:
        TypeError: `optimizer` is none; an argument is no number, integer or function where one is needed.
        ValueError: an argument is out of its range, or there are not as many values as groups.
        KeyError: `last_epoch` is not -1, and a group has no `initial_lr`.
    """

    functions: ClassVar[tuple[str, ...]] = ()
    """Attributes that are functions of the user's, or lists of them. A state has their attributes, not themselves."""

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Attributes that are one of some texts."""

    optimizer: Optimizer
    last_epoch: int
    _last_lr: list[Any]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = self._own(optimizer)
        self.last_epoch = _check.size(self._name, "last_epoch", last_epoch, -1)
        with whole_or_none(optimizer):
            for place, group in enumerate(optimizer.param_groups):
                if last_epoch == -1:
                    group.setdefault("initial_lr", group["lr"])
                elif "initial_lr" not in group:
                    raise KeyError(
                        f"{self._name}: expected groups with initial_lr to go on from last_epoch {last_epoch}, got "
                        f"group {place} without; load the optimizer's state first"
                    )
            self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
            # Without a meaning here: torch's schedulers have it in their state.
            self._get_lr_called_within_step = False
            self._initial_step()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _own(self, optimizer: Any) -> Optimizer:
        """The optimizer, if it is one."""
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{self._name}: expected an optimizer of refnet's, got {type(optimizer).__name__}")
        return optimizer

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[Any]:
        """The rate of each group at `last_epoch`, from the groups' present ones. `get_last_lr` has those that hold."""
        raise NotImplementedError(f"{self._name}: expected a method get_lr that returns a rate for each group")

    def closed_form_lr(self) -> list[Any]:
        """The rate of each group at `last_epoch` from `base_lrs` alone, where the class has an equation for it;
        otherwise `get_lr`."""
        return self.get_lr()

    def get_momentum(self) -> list[Any] | None:
        """The momentum, or first beta, of each group at `last_epoch`; None where it stays."""
        return None

    def get_last_lr(self) -> list[Any]:
        """The rate of each group after the last step."""
        return list(self._last_lr)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of the next epoch.

        Nothing is changed where a rate cannot be computed.

        Args:
            epoch: the epoch to go to, by the closed form where there is one, as torch still takes it.
        """
        if epoch is not None:
            _check.size(f"{self._name}.step", "epoch", epoch)
        self._step_count += 1
        try:
            self._update_lr(epoch)
        except BaseException:
            self._step_count -= 1
            raise

    def _update_lr(self, epoch: int | None = None) -> None:
        before = self.last_epoch
        try:
            if epoch is None:
                self.last_epoch += 1
                rates = self.get_lr()
            else:
                self.last_epoch = epoch
                rates = self.closed_form_lr()
            momentums = self.get_momentum()
            self._check_groups(rates)
            if momentums is not None:
                self._set_momentums(momentums)
        except BaseException:
            self.last_epoch = before
            raise
        self._set(rates)

    def _set(self, rates: Iterable[Any]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            # Past the check of the group: a schedule may go below 0, as torch's may.
            dict.update(group, lr=rate)
        self._last_lr = self._rates()

    def _rates(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _set_momentums(self, momentums: Iterable[Any]) -> None:
        with whole_or_none(self.optimizer):
            for group, momentum in zip(self.optimizer.param_groups, momentums, strict=True):
                if "betas" in self.optimizer.defaults:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum

    def _number(self, name: str, value: Any) -> Any:
        """What a function of the user's has returned, if it is a number."""
        if not isinstance(value, Real) and getattr(value, "ndim", None) != 0:
            raise TypeError(f"{self._name}: expected {name} to return a number, got {value!r}")
        return value

    def _check_groups(self, values: list[Any]) -> None:
        if len(values) != (groups := len(self.optimizer.param_groups)):
            raise ValueError(
                f"{self._name}: expected the {len(values)} groups that the optimizer had when the scheduler was made, "
                f"got {groups}"
            )

    def per_group(self, name: str, value: Any, check: Callable[[str, str, Any], None] = _check.number) -> list[Any]:
        """An argument that is one value for all groups, or a list of one for each."""
        groups = len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, list | tuple) else [value] * groups
        if len(values) != groups:
            raise ValueError(f"{self._name}: expected {name} for {groups} groups, got {len(values)} values")
        for one in values:
            check(self._name, name, one)
        return values

    def parts(self) -> Iterator[LRScheduler]:
        """This scheduler, and those that it is made of."""
        yield self
        for part in vars(self).get("_schedulers", ()):
            yield from part.parts()

    def state_dict(self) -> dict[str, Any]:
        """All it takes, with the optimizer's state, to go on bit for bit, under torch's names. A function of the user's
        is not kept; the attributes of one that is an object of a class are."""
        state = {name: value for name, value in vars(self).items() if name != "optimizer"}
        for name in self.functions:
            state[name] = _attributes(state[name])
        if "_schedulers" in state:
            state["_schedulers"] = [part.state_dict() for part in state["_schedulers"]]
        return {name: value.copy() if isinstance(value, list | dict) else value for name, value in state.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, arguments included. The state of torch's scheduler of the same name
        fits too. The groups' rates are part of the optimizer's state, which is to be loaded as well.

        Nothing is changed unless everything fits.

        Raises:
            KeyError: the state lacks an entry, or has an unknown one.
            ValueError: there is not one value for each group or scheduler; a value is out of its range, or NaN.
            TypeError: the state is no dict, or a value not what it should be: an integer, a number, a text, a truth
                value, or a list.
        """
        self._check_state(state_dict)
        self._load(state_dict)

    def _check_state(self, state: Any) -> None:
        operation = f"{self._name}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{operation}: expected a dict, got {type(state).__name__}")
        due = vars(self).keys() - {"optimizer"}
        if missing := sorted(due - state.keys()):
            raise KeyError(f"{operation}: expected {', '.join(sorted(due))}; missing {', '.join(missing)}")
        if unknown := sorted(state.keys() - due):
            raise KeyError(f"{operation}: expected {', '.join(sorted(due))}; got {', '.join(unknown)} among them")
        for name in sorted(due):
            self._check_value(operation, name, getattr(self, name), state[name])
        for part, given in zip(vars(self).get("_schedulers", ()), state.get("_schedulers", ()), strict=True):
            part._check_state(given)

    def _check_value(self, operation: str, name: str, own: Any, given: Any) -> None:
        """Raise unless a value of a state may come into the place of the present one."""
        if name in (*PER_GROUP, "_schedulers"):
            if not isinstance(given, list | tuple) or len(given) != len(own):
                raise ValueError(f"{operation}: expected {name} with {len(own)} entries, got {given!r}")
            for one in given if name in PER_GROUP else ():
                if name not in self.functions:
                    _check.is_number(operation, name, one)
                elif one is not None and not isinstance(one, Mapping):
                    raise TypeError(f"{operation}: expected {name} to be dicts or None, got {one!r}")
        elif name in self.functions:
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"{operation}: expected {name} to be a dict or None, got {given!r}")
        elif name in LEAST:
            _check.size(operation, name, given, LEAST[name])
        elif name in POSITIVE:
            _check.between(0, math.inf, low_too=False)(operation, name, given)
        elif name in BOUNDLESS:
            _check.is_number(operation, name, given)
        elif name in self.choices and given != own:
            _check.one_of(operation, name, given, self.choices[name])
        elif isinstance(own, bool):
            _check.flag(operation, name, given)
        elif isinstance(own, Real) and not (given is None and name == "default_min_lr"):
            _check.number(operation, name, given)

    def _load(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if name == "_schedulers":
                for part, given in zip(vars(self)[name], value, strict=True):
                    part._load(given)
            elif name in self.functions:
                _give_attributes(getattr(self, name), value)
            else:
                vars(self)[name] = value.copy() if isinstance(value, list | dict) else value


@contextmanager
def whole_or_none(optimizer: Optimizer) -> Iterator[None]:
    """Puts the groups' options back where an error ends what changes them."""
    before = [dict(group) for group in optimizer.param_groups]
    try:
        yield
    except BaseException:
        for group, options in zip(optimizer.param_groups, before, strict=True):
            group.clear()
            # Past the check of the group: a rate may have been below 0.
            dict.update(group, options)
        raise


def _attributes(function: Any) -> Any:
    """What a state keeps of a function: nothing but the attributes of an object."""
    if isinstance(function, list):
        return [_attributes(one) for one in function]
    if function is None or isinstance(function, FunctionType):
        return None
    return dict(getattr(function, "__dict__", {}))


def _give_attributes(function: Any, given: Any) -> None:
    if isinstance(function, list):
        for one, own in zip(function, given, strict=True):
            _give_attributes(one, own)
    elif given is not None and function is not None:
        function.__dict__.update(given)
