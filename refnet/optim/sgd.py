"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array, Params

OPTIONS = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")


class SGD:
    """Gradient descent, with momentum, dampening, weight decay and Nesterov's look-ahead where asked for.

    For one parameter theta with gradient dtheta, at its t-th step; gamma = `lr`, mu = `momentum`, tau = `dampening`,
    lambda = `weight_decay`:

        g_t = dtheta, or -dtheta with `maximize`
        g_t = g_t + lambda theta_(t-1)              where lambda is not 0
        b_t = mu b_(t-1) + (1 - tau) g_t            where mu is not 0; b_1 = g_1
        g_t = b_t, or g_t + mu b_t with `nesterov`  where mu is not 0
        theta_t = theta_(t-1) - gamma g_t

    Decay, momentum and dampening that are 0 take no part: their operations are left out, not carried out with 0.

    Source: documentation of torch.optim.SGD; I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of
    initialization and momentum in deep learning", ICML 2013. In the paper the velocity carries the rate,
    v_t = mu v_(t-1) - gamma g_t and theta_t = theta_(t-1) + v_t. Here the rate stands outside: while it stays the same,
    v_t = -gamma b_t; when it changes, all of b moves at the new rate at once, v only what enters it from then on. With
    Nesterov the paper takes the gradient at theta + mu v, which is the point that theta is here. The paper starts from
    v_0 = 0, so that dampening would act on the first gradient too; here it does not.

    Attributes:
        param_groups: the groups, each `{"params": {name: array}, "lr": ...}`; options may be changed between steps.
        state: `{name: {"momentum_buffer": array}}`, from a parameter's first step with momentum on.

    Args:
        params: parameters by name (`net.params`), or a list of groups: dicts with `params` and any of the options
            below, which stand in for the defaults.
        lr, momentum, dampening, weight_decay: gamma, mu, tau, lambda. A float means its exact binary64 value.
        nesterov: step along g + mu b instead of b.
        maximize: ascend instead of descend.

    Raises:
        ValueError: `lr`, `momentum` or `weight_decay` is negative; one of them or `dampening` is NaN; `nesterov`
            without momentum or with dampening; no parameters at all; a parameter stands in two groups.
        TypeError: an option is no number; a group is no dict, has no dict `params` or has an unknown option; a
            parameter is no array of floats.
    """

    def __init__(
        self,
        params: Params | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        values = (lr, momentum, dampening, weight_decay, nesterov, maximize)
        self.defaults: dict[str, Any] = dict(zip(OPTIONS, values, strict=True))
        _check_options(self.defaults)
        groups = ([{"params": params}] if params else []) if isinstance(params, Mapping) else list(params)
        if not groups:
            raise ValueError("SGD: expected at least one parameter, got none")
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[str, Params] = {}
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take on a further group of parameters; options that it does not name have the defaults."""
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), Mapping):
            raise TypeError(f"SGD: expected a group as a dict with a dict of arrays as params, got {group!r}")
        if unknown := sorted(group.keys() - {"params", *OPTIONS}):
            raise TypeError(
                f"SGD: expected a group with params and the options {', '.join(OPTIONS)}, got {', '.join(unknown)}"
            )
        _check_options(added := {**self.defaults, **group, "params": dict(group["params"])})
        held = {name: P for other in self.param_groups for name, P in other["params"].items()}
        places = {id(P): name for name, P in held.items()}
        for name, P in added["params"].items():
            if getattr(getattr(P, "dtype", None), "kind", None) not in ("f", "O"):
                raise TypeError(
                    f"SGD: expected {name} to be an array of floats, got {getattr(P, 'dtype', type(P).__name__)}"
                )
            if name in held or id(P) in places:
                raise ValueError(
                    f"SGD: expected each parameter once, got {name} again (known as {places.get(id(P), name)})"
                )
            places[id(P)] = name
        self.param_groups.append(added)

    def step(self, grads: Mapping[str, Array | None]) -> None:
        """Move the parameters, in place. One without a gradient, or with None, is left alone, and so is its state.

        Nothing is written unless every gradient fits, and no gradient is written to or kept.

        Raises:
            KeyError: a gradient has a name that no parameter has.
            ValueError: a gradient's shape is not its parameter's.
            TypeError: a gradient's dtype is not its parameter's.
        """
        due = []
        for group in self.param_groups:
            for name, P in group["params"].items():
                G = grads.get(name)
                if G is None:
                    continue
                if G.shape != P.shape:
                    raise ValueError(
                        f"SGD: expected a gradient of shape {tuple(P.shape)} for {name}, got {tuple(G.shape)}"
                    )
                if G.dtype != P.dtype:
                    raise TypeError(f"SGD: expected a gradient of dtype {P.dtype} for {name}, got {G.dtype}")
                due.append((name, P, G, group))
        if len(due) < len(grads):
            known = {name for group in self.param_groups for name in group["params"]}
            if unknown := sorted(grads.keys() - known):
                raise KeyError(f"SGD: expected gradients of {sorted(known)}, got {', '.join(unknown)} among them")
        for name, P, G, group in due:
            self._update(name, P, G, group)

    def _update(self, name: str, P: Array, G: Array, group: Mapping[str, Any]) -> None:
        if group["maximize"]:
            # g[.] = -dtheta[.]
            G = -G
        if group["weight_decay"] != 0:
            lambda_ = special.lift(group["weight_decay"], P)
            # g[.] = g[.] + lambda theta[.]
            G = G + lambda_ * P
        if group["momentum"] != 0:
            mu = special.lift(group["momentum"], P)
            state = self.state.setdefault(name, {})
            if "momentum_buffer" not in state:
                # b[.] = g[.]
                B = state["momentum_buffer"] = P.copy()
                B[...] = G
            elif group["dampening"] == 0:
                B = state["momentum_buffer"]
                # b[.] = mu b[.] + g[.]
                B[...] = mu * B + G
            else:
                B, tau = state["momentum_buffer"], special.lift(group["dampening"], P)
                # b[.] = mu b[.] + (1 - tau) g[.]
                B[...] = mu * B + (1 - tau) * G
            # g[.] = g[.] + mu b[.], or b[.]
            G = G + mu * B if group["nesterov"] else B
        gamma = special.lift(group["lr"], P)
        # theta[.] = theta[.] - gamma g[.]
        P[...] = P - gamma * G

    def state_dict(self) -> dict[str, Any]:
        """Options and a copy of the state, in plain dicts: all it takes, with the parameters, to go on bit for bit."""
        return {
            "state": _copied(self.state),
            "param_groups": [{**group, "params": list(group["params"])} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned: its options and a copy of its state in place of the present ones.

        Nothing is changed unless everything fits.

        Raises:
            KeyError: a group lacks an option; the state is that of an unknown parameter or of another optimizer.
            ValueError: the groups have other parameters; an option is one that the optimizer refuses; a shape differs;
                a floating-point value is NaN or infinite.
            TypeError: a dtype differs.
        """
        operation = "SGD.load_state_dict"
        groups = state_dict["param_groups"]
        own, saved = [list(group["params"]) for group in self.param_groups], [list(group["params"]) for group in groups]
        if own != saved:
            raise ValueError(f"{operation}: expected groups of the parameters {own}, got {saved}")
        for group in groups:
            if missing := [option for option in OPTIONS if option not in group]:
                raise KeyError(f"{operation}: expected groups with {', '.join(OPTIONS)}; missing {', '.join(missing)}")
            _check_options(group)
        params = {name: P for group in self.param_groups for name, P in group["params"].items()}
        for name, state in state_dict["state"].items():
            if name not in params or state.keys() - {"momentum_buffer"}:
                raise KeyError(f"{operation}: expected momentum_buffer of {own}, got {sorted(state)} of {name}")
            for key, B in state.items():
                P = params[name]
                if B.shape != P.shape:
                    raise ValueError(f"{operation}: expected {key} of {name} of shape {P.shape}, got {B.shape}")
                if B.dtype != P.dtype:
                    raise TypeError(f"{operation}: expected {key} of {name} of dtype {P.dtype}, got {B.dtype}")
                if isinstance(B, np.ndarray) and B.dtype.kind == "f" and not np.isfinite(B).all():
                    raise ValueError(f"{operation}: expected finite values in {key} of {name}, got NaN or infinity")
        self.state = _copied(state_dict["state"])
        self.param_groups = [
            {**group, "params": own["params"]} for own, group in zip(self.param_groups, groups, strict=True)
        ]


def _check_options(options: Mapping[str, Any]) -> None:
    for name in ("lr", "momentum", "weight_decay"):
        _check.number("SGD", name, options[name], least=0)
    _check.number("SGD", "dampening", options["dampening"])
    if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
        raise ValueError(
            "SGD: expected nesterov with a momentum and without dampening, "
            f"got momentum {options['momentum']} and dampening {options['dampening']}"
        )


def _copied(state: Mapping[str, Params]) -> dict[str, Params]:
    return {name: {key: array.copy() for key, array in arrays.items()} for name, arrays in state.items()}
