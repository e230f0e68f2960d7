"""Scaling of a loss, so that gradients in a narrow format do not vanish, under torch.amp.GradScaler's names.

torch finds gradients in the parameters; here they come by name, as `backward` returns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.nn.module import Array
from refnet.optim.optimizer import Optimizer


class GradScaler:
    """A loss times s = `scale` has gradients times s, which are divided by it before the step. Where one of them is
    not finite the step is left out, and s becomes smaller.

        after an update with a gradient that is not finite:  s = s b,  t = 0
        after any other:                                     t = t + 1;  where t = i:  s = s f,  t = 0

    Source: P. Micikevicius et al., "Mixed precision training", ICLR 2018, section 3.2; torch.amp.GradScaler. As in
    torch, s is kept in float32, and grows only where it stays finite.

    Args:
        device: accepted as torch's, and without a meaning here.
        init_scale: s at the beginning.
        growth_factor: f, above 1.
        backoff_factor: b, below 1.
        growth_interval: i, after how many updates in a row without an infinite gradient s grows.
        enabled: if not, all is as without a scaler.

    Raises:
        ValueError: f is not above 1, or b not below 1, as in torch; i is below 1; s is not above 0, or infinite in
            float32. (torch takes such an s.)
        TypeError: one of them is no number; `enabled` is no truth value.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        _check_factors("GradScaler", growth_factor, backoff_factor)
        _check.flag("GradScaler", "enabled", enabled)
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval = _check.size("GradScaler", "growth_interval", growth_interval, least=1)
        self.enabled = enabled
        self._scale, self._growth_tracker = _scale("GradScaler", "init_scale", init_scale), 0
        self._forget()

    def _forget(self) -> None:
        """What is known since the last update: for each optimizer whether a gradient was not finite, and who stepped.

        Both hold an optimizer by its `id`, as torch does.
        """
        self._found_inf: dict[int, bool] = {}
        self._stepped: set[int] = set()

    def scale(self, outputs: Array) -> Array:
        """A loss times s; or the gradient that a backward pass begins with, 1, which comes to the same.

        Raises:
            TypeError: it is no array, nor a number of NumPy's.
        """
        if not self.enabled:
            return outputs
        _check.arrays("scale", outputs=outputs)
        # A product that overflows is what the scaler is there to notice.
        with np.errstate(over="ignore"):
            return outputs * special.lift(float(self._scale), outputs)

    def unscale_(self, optimizer: Any, grads: Mapping[str, Array | None]) -> None:
        """Divide the gradients by s, in place, as clipping needs it; `step` does it where it was not done.

        Raises:
            RuntimeError: it was done since the last `update`, or the step was, as in torch.
            TypeError: `grads` is no dict, or has something else than arrays of floats.
            ValueError: a gradient is read-only. Nothing is changed where it raises.
        """
        if not self.enabled:
            return
        if not isinstance(grads, Mapping):
            raise TypeError(f"unscale_: expected gradients by name, as a dict, got {type(grads).__name__}")
        if id(optimizer) in self._stepped:
            raise RuntimeError("unscale_: expected a call before step, got one after it")
        if id(optimizer) in self._found_inf:
            raise RuntimeError("unscale_: expected one call for an optimizer since the last update(), got a second")
        given = [G for G in grads.values() if G is not None]
        for name, G in grads.items():
            if G is not None and _check.kind("unscale_", f"the gradient of {name}", G) not in "fO":
                raise TypeError(f"unscale_: expected the gradient of {name} as an array of floats, got {G.dtype}")
        _check.writable("unscale_", given)
        self._found_inf[id(optimizer)] = any(not np.isfinite(G).all() for G in given)
        inverse = np.float32(1.0 / np.float64(self._scale))
        for G in given:
            # g[.] = g[.] / s
            G[...] = G * special.lift(float(inverse), G)

    def step(self, optimizer: Any, grads: Mapping[str, Array | None]) -> None:
        """`optimizer.step(grads)`, unless a gradient is NaN or infinite: parameters and state stay as they are then.
        Another optimizer steps all the same.

        Raises:
            RuntimeError: this optimizer's step was asked for since the last `update`, as in torch.
            TypeError: `optimizer` has no `step`, or `grads` is no dict.
            KeyError, ValueError, TypeError: a gradient does not fit its parameter, as in `Optimizer.step`. Gradients,
                parameters and state are as before then.
        """
        if not callable(getattr(optimizer, "step", None)):
            raise TypeError(f"step: expected an optimizer, got {type(optimizer).__name__}")
        if not self.enabled:
            optimizer.step(grads)
            return
        if id(optimizer) in self._stepped:
            raise RuntimeError("step: expected one call for an optimizer since the last update(), got a second")
        if isinstance(optimizer, Optimizer) and isinstance(grads, Mapping):
            optimizer.due(grads)
        if id(optimizer) not in self._found_inf:
            self.unscale_(optimizer, grads)
        if not self._found_inf[id(optimizer)]:
            optimizer.step(grads)
        self._stepped.add(id(optimizer))

    def update(self, new_scale: float | None = None) -> None:
        """Let the scale follow what was seen since the last call, or set it.

        Raises:
            RuntimeError: no gradient was seen, as in torch.
            ValueError: `new_scale` is not above 0, or infinite in float32.
            TypeError: it is no number.
        """
        if not self.enabled:
            return
        if new_scale is not None:
            self._scale = _scale("update", "new_scale", new_scale)
        elif not self._found_inf:
            raise RuntimeError("update: expected a call of step or unscale_ before, got none")
        elif any(self._found_inf.values()):
            self._scale, self._growth_tracker = np.float32(self._scale * np.float64(self.backoff_factor)), 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self.growth_interval:
                with np.errstate(over="ignore"):
                    grown = np.float32(self._scale * np.float64(self.growth_factor))
                self._scale = grown if np.isfinite(grown) else self._scale
                self._growth_tracker = 0
        self._forget()

    def get_scale(self) -> float:
        return float(self._scale) if self.enabled else 1.0

    def is_enabled(self) -> bool:
        return self.enabled

    def state_dict(self) -> dict[str, Any]:
        """Under torch's names; empty if it is not enabled."""
        if not self.enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, or torch's.

        Raises:
            RuntimeError: the state is empty, as that of one that is not enabled.
            KeyError: it lacks a part, or has an unknown one.
            ValueError: a part is out of its range. TypeError: it is no number; the state is no dict. Nothing is changed
                where it raises.
        """
        if not self.enabled:
            return
        operation = "GradScaler.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{operation}: expected a dict, got {type(state_dict).__name__}")
        if not state_dict:
            raise RuntimeError(f"{operation}: expected a state, got an empty one")
        own = self.state_dict().keys()
        if missing := sorted(own - state_dict.keys()):
            raise KeyError(f"{operation}: expected a state with {', '.join(missing)}")
        if unknown := sorted(map(str, state_dict.keys() - own)):
            raise KeyError(f"{operation}: expected a state with {', '.join(own)} alone, got {', '.join(unknown)} too")
        scale = _scale(operation, "scale", state_dict["scale"])
        growth, backoff = state_dict["growth_factor"], state_dict["backoff_factor"]
        _check_factors(operation, growth, backoff)
        interval = _check.size(operation, "growth_interval", state_dict["growth_interval"], least=1)
        tracker = _check.size(operation, "_growth_tracker", state_dict["_growth_tracker"])
        self._scale, self._growth_tracker, self.growth_interval = scale, tracker, interval
        self.growth_factor, self.backoff_factor = growth, backoff


def _scale(operation: str, name: str, value: Any) -> np.float32:
    """s in float32, if it is above 0 and finite there."""
    _check.between(0, float(np.finfo(np.float32).max), low_too=False)(operation, name, value)
    return np.float32(value)


def _check_factors(operation: str, growth_factor: Any, backoff_factor: Any) -> None:
    for name, value in (("growth_factor", growth_factor), ("backoff_factor", backoff_factor)):
        _check.is_number(operation, name, value)
    if not growth_factor > 1:
        raise ValueError(f"{operation}: expected growth_factor above 1, got {growth_factor!r}")
    if not backoff_factor < 1:
        raise ValueError(f"{operation}: expected backoff_factor below 1, got {backoff_factor!r}")
