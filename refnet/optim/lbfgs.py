"""L-BFGS: a quasi-Newton method of limited memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from refnet import _check
from refnet._steps import moved
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Check, Optimizer, State
from refnet.optim.strong_wolfe import Point, strong_wolfe

Closure = Callable[[], tuple[Any, Mapping[str, Array | None]]]

CURVATURE = 1e-10
"""A change of the gradient is remembered if it has more than this along the step."""

LISTS = ("old_dirs", "old_stps", "ro")


def _count(operation: str, name: str, value: Any) -> None:
    _check.size(operation, name, value)


def _history(operation: str, name: str, value: Any) -> None:
    _check.size(operation, name, value, 1)


def _search(operation: str, name: str, value: Any) -> None:
    if value is not None:
        _check.one_of(operation, name, value, ("strong_wolfe",))


class LBFGS(Optimizer):
    """Descent along -H g, where H stands for the inverse of the Hessian, from the last steps and changes of gradient.

    x are all parameters as one vector, g the gradient of the objective f there; gamma = `lr`. A step does up to
    `max_iter` iterations. The k-th of all, counted over the steps:

        y = g_k - g_(k-1)     s = t_(k-1) d_(k-1)                                            for k > 1
        where y.s > 1e-10:  (y, s) is remembered, of at most `history_size` pairs; rho = 1 / y.s;  h = y.s / y.y
        q = -g_k;  newest to oldest pair:  a_i = rho_i s_i.q,  q = q - a_i y_i
        r = h q;   oldest to newest pair:  b_i = rho_i y_i.r,  r = r + (a_i - b_i) s_i
        d_k = r;  of the first, d_1 = -g_1
        t_k = gamma, or min(1, 1 / sum |g_1|) gamma for k = 1; with `line_search_fn` from there by `strong_wolfe`
        x = x + t_k d_k

    An iteration is the step's last one if it is the `max_iter`-th, if f was asked for `max_eval` times, if no |g| is
    above `tolerance_grad`, if no element moved by more than `tolerance_change`, or f changed by less. Where g.d is
    above -`tolerance_change` nothing moves. A step that begins with no |g| above `tolerance_grad` does nothing at all.

    Source: D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical
    Programming 45 (1989); J. Nocedal, S. J. Wright, "Numerical optimization", 2nd ed., Springer 2006, algorithm 7.4;
    torch/optim/lbfgs.py for what ends a step.

    A step takes a function, as in torch, which gives the objective and the gradients at the present parameters:

        def closure():
            output, saved = net.forward(inputs)
            value, saved_loss = loss.forward(output, targets)
            (grad_output, _), _ = loss.backward(np.ones(()), saved_loss)
            _, grads = net.backward(grad_output, saved)
            return value, grads

        value = optimizer.step(closure)

    If the function raises, or what it gives does not fit, parameters and state are what they were before the step. A
    parameter without a gradient counts as one with a gradient of 0. NaN goes where it goes in torch: no comparison
    holds with it.

    State, all of it kept for the first parameter, as in torch: `func_evals`, `n_iter` (k), `d`, `t`, `old_dirs` (y),
    `old_stps` (s), `ro` (rho), `H_diag` (h), `prev_flat_grad`, `prev_loss`. torch's `al` is a place to work in, and is
    not kept.

    Args:
        params: as for every `Optimizer`, in one group.
        lr, tolerance_grad, tolerance_change: as above. A float means its exact binary64 value.
        max_iter, history_size: as above.
        max_eval: as above; None is 5/4 of `max_iter`, rounded down.
        line_search_fn: None or "strong_wolfe".
    """

    options: ClassVar[Mapping[str, Check]] = {
        "lr": _check.not_negative,
        "max_iter": _count,
        "max_eval": _count,
        "tolerance_grad": _check.number,
        "tolerance_change": _check.number,
        "history_size": _history,
        "line_search_fn": _search,
    }
    schema: ClassVar[tuple[State, ...]] = (
        State("func_evals", counter=True),
        State("n_iter", counter=True),
        State("d"),
        State("t"),
        State("old_dirs", since=2),
        State("old_stps", since=2),
        State("ro", since=2),
        State("H_diag"),
        State("prev_flat_grad"),
        State("prev_loss"),
    )
    takes_closure: ClassVar[bool] = True

    def __init__(
        self,
        params: Any,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if max_eval is None:
            _count("LBFGS", "max_iter", max_iter)
            max_eval = max_iter * 5 // 4
        values = (lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size, line_search_fn)
        super().__init__(params, dict(zip(self.options, values, strict=True)))

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """The only one."""
        if self.param_groups:
            raise ValueError("LBFGS: expected one group of parameters, got another one")
        super().add_param_group(group)

    def update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        """There is none of one parameter alone."""
        raise TypeError(f"LBFGS: expected a step of all parameters, got an update of {name}")

    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Do up to `max_iter` iterations, and return the objective as it was before.

        Raises:
            TypeError: `closure` is no function, or does not give an objective and gradients by name.
            KeyError, ValueError, TypeError: a gradient does not fit, as in every optimizer.
        """
        if not callable(closure):
            raise TypeError(
                "LBFGS.step: expected a function that gives the objective and the gradients by name, "
                f"got {type(closure).__name__}"
            )
        before = [(P, P.copy()) for P in self._params.values()]
        try:
            value, state = self._iterations(closure)
        except BaseException:
            for P, was in before:
                P[...] = was
            raise
        finally:
            moved(self._params.values())
        self.state[next(iter(self._params))] = state
        return value

    def _iterations(self, closure: Closure) -> tuple[Any, dict[str, Any]]:
        """The objective before, and the state after, up to `max_iter` iterations."""
        group = self.param_groups[0]
        most, asks = group["max_iter"], group["max_eval"]
        state: dict[str, Any] = dict(self.state.get(next(iter(self._params)), {"func_evals": 0, "n_iter": 0}))
        # They are written in place below, and belong to the step only when it is over.
        state |= {key: list(state[key]) for key in LISTS if key in state}
        value, f, G = self._evaluated(closure)
        asked = 1
        state["func_evals"] += 1
        flat_enough, little = (special.lift(group[f"tolerance_{of}"], G) for of in ("grad", "change"))
        if special.amax(np.absolute(G), -1) <= flat_enough:
            return value, state
        for k in range(1, most + 1):
            state["n_iter"] += 1
            first = state["n_iter"] == 1
            if first:
                state |= {"old_dirs": [], "old_stps": [], "ro": [], "H_diag": special.lift(1.0, G)}
            else:
                self.remember(state, G, group["history_size"])
            # d[.] = -g[.] of the first, -H g[.] of the others
            D = -G if first else self.direction(state, G)
            before = f
            t = self.first_length(G, group["lr"]) if first else special.lift(group["lr"], G)
            slope = special.total(G * D, -1)
            state |= {"d": D, "t": t, "prev_flat_grad": G, "prev_loss": before}
            if slope > -little:
                break
            start, more = Point(special.lift(0.0, G), f, G, slope), 0
            if group["line_search_fn"] is not None:
                found, more = self.search(closure, t, D, start, max(asks - asked, 0), group["tolerance_change"])
                t, f, G = found.t, found.f, found.G
                state["t"] = t
                self.move(t, D)
            else:
                self.move(t, D)
                if k < most:
                    _, f, G = self._evaluated(closure)
                    more = 1
            asked += more
            state["func_evals"] += more
            if k == most or asked >= asks or special.amax(np.absolute(G), -1) <= flat_enough:
                break
            if special.amax(np.absolute(t * D), -1) <= little or (f - before < little and before - f < little):
                break
        return value, state

    def remember(self, state: dict[str, Any], G: Array, most: int) -> None:
        """The last step and what it changed of the gradient, if there is curvature along it."""
        # y[.] = g[.] - g_before[.]
        Y = G - state["prev_flat_grad"]
        # s[.] = t d[.]
        S = state["t"] * state["d"]
        # y.s = sum y[.] s[.]
        curvature = special.total(Y * S, -1)
        if curvature > special.lift(CURVATURE, G):
            for key, new in (("old_dirs", Y), ("old_stps", S), ("ro", 1 / curvature)):
                state[key] = [*state[key], new][-most:]
            # h = y.s / y.y
            state["H_diag"] = curvature / special.total(Y * Y, -1)

    def direction(self, state: Mapping[str, Any], G: Array) -> Array:
        """-H g, in two loops over the pairs that are remembered."""
        pairs = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
        Q, shares = -G, []
        for Y, S, rho in reversed(pairs):
            # a = rho s.q
            a = rho * special.total(S * Q, -1)
            # q[.] = q[.] - a y[.]
            Q = Q - a * Y
            shares.append(a)
        # r[.] = h q[.]
        R = state["H_diag"] * Q
        for (Y, S, rho), a in zip(pairs, reversed(shares), strict=True):
            # b = rho y.r
            b = rho * special.total(Y * R, -1)
            # r[.] = r[.] + (a - b) s[.]
            R = R + (a - b) * S
        return R

    def first_length(self, G: Array, lr: float) -> Array:
        """Of the first iteration, which knows nothing of the curvature."""
        one, size = special.lift(1.0, G), special.total(np.absolute(G), -1)
        # t = min(1, 1 / sum |g[.]|) gamma
        return np.where(size > 1, one / size, one) * special.lift(lr, G)

    def search(
        self, closure: Closure, t: Array, D: Array, start: Point, most: int, tolerance_change: float
    ) -> tuple[Point, int]:
        """The length of the step by a line search, and how often that asked for the objective."""
        origin = {name: P.copy() for name, P in self._params.items()}

        def at(length: Array) -> Point:
            self.move(length, D)
            _, f, G = self._evaluated(closure)
            for name, P in self._params.items():
                P[...] = origin[name]
            return Point(length, f, G, special.total(G * D, -1))

        return strong_wolfe(at, t, D, start, most, tolerance_change)

    def move(self, t: Array, D: Array) -> None:
        """All parameters, in place."""
        begin = 0
        for P in self._params.values():
            end = begin + math.prod(P.shape)
            # theta[.] = theta[.] + t d[.]
            P[...] = P + t * D[begin:end].reshape(tuple(P.shape))
            begin = end

    @property
    def _params(self) -> dict[str, Array]:
        params: dict[str, Array] = self.param_groups[0]["params"]
        return params

    def _evaluated(self, closure: Closure) -> tuple[Any, Array, Array]:
        """What the closure gives as the objective, that as a number of the parameters' arithmetic, and the gradients
        as one vector."""
        given = closure()
        if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], Mapping):
            raise TypeError(
                "LBFGS.step: expected the closure to give the objective and the gradients by name, "
                f"got {type(given).__name__}"
            )
        value, grads = given
        there = {name: G for name, _, G, _ in self.due(grads)}
        G = np.concatenate([_flat(there.get(name), P) for name, P in self._params.items()], axis=-1)
        if getattr(value, "ndim", 0) != 0:
            raise ValueError(f"LBFGS.step: expected one number as the objective, got shape {tuple(value.shape)}")
        return value, special.lift(value, G) if isinstance(value, float | int) else value, G

    def _fitting_state(
        self, operation: str, name: str, given: Mapping[str, Any], P: Array, group: Mapping[str, Any]
    ) -> dict[str, Any]:
        first, size = next(iter(group["params"])), sum(math.prod(Q.shape) for Q in group["params"].values())
        there = {key: value for key, value in given.items() if value is not None and key != "al"}
        counters = {"func_evals", "n_iter"}
        known = dict.fromkeys(array.name for array in self.schema)
        if name != first or (there and there.keys() not in (counters, known.keys())):
            raise KeyError(f"{operation}: expected {', '.join(known)} of {first} alone, got {list(there)} of {name}")
        made: dict[str, Any] = {}
        for key, value in there.items():
            shape = () if key in ("t", "ro", "H_diag", "prev_loss") else (size,)
            if key in counters:
                _check.number(operation, key, value, 0)
                made[key] = int(value)
            elif key in LISTS:
                made[key] = [_fitting(operation, key, one, shape, P) for one in value]
            else:
                made[key] = _fitting(operation, key, value, shape, P)
        if len({len(made[key]) for key in LISTS if key in made}) > 1:
            raise ValueError(f"{operation}: expected as many old_dirs as old_stps and ro, got others")
        return made


def _flat(G: Array | None, P: Array) -> Array:
    """A gradient as a vector, of zeros where there is none."""
    if G is None:
        G = P.copy()
        G[...] = special.lift(0.0, P)
    return G.reshape(-1)


def _fitting(operation: str, key: str, value: Any, shape: tuple[int, ...], P: Array) -> Array:
    """A copy of a part of the state, of that shape and of the dtype of P; single numbers are converted."""
    array = np.asarray(value)
    if tuple(array.shape) != shape:
        raise ValueError(f"{operation}: expected {key} of shape {shape}, got {tuple(array.shape)}")
    if shape and array.dtype != P.dtype:
        raise TypeError(f"{operation}: expected {key} of dtype {P.dtype}, got {array.dtype}")
    made: Array = np.asarray(array, P.dtype).copy()
    if isinstance(made, np.ndarray) and made.dtype.kind == "f" and not (abs(made) < np.inf).all():
        raise ValueError(f"{operation}: expected finite values in {key}, got NaN or infinity")
    return made
