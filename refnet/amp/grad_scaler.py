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
        ValueError: f is not above 1, or b not below 1, as in torch; i is below 1.
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
        _check.is_number("GradScaler", "init_scale", init_scale)
        if not growth_factor > 1:
            raise ValueError(f"GradScaler: expected growth_factor above 1, got {growth_factor!r}")
        if not backoff_factor < 1:
            raise ValueError(f"GradScaler: expected backoff_factor below 1, got {backoff_factor!r}")
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval = _check.size("GradScaler", "growth_interval", growth_interval, least=1)
        self.enabled = enabled
        self._scale, self._growth_tracker = np.float32(init_scale), 0
        self._unscaled: set[int] = set()
        self._found_inf: bool | None = None

    def scale(self, outputs: Array) -> Array:
        """A loss times s; or the gradient that a backward pass begins with, 1, which comes to the same."""
        if not self.enabled:
            return outputs
        # A product that overflows is what the scaler is there to notice.
        with np.errstate(over="ignore"):
            return outputs * special.lift(float(self._scale), outputs)

    def unscale_(self, optimizer: Any, grads: Mapping[str, Array | None]) -> None:
        """Divide the gradients by s, in place, as clipping needs it; `step` does it where it was not done.

        Raises:
            RuntimeError: it was done since the last `update`, as in torch.
        """
        if not self.enabled:
            return
        if id(optimizer) in self._unscaled:
            raise RuntimeError("unscale_: expected one call for an optimizer since the last update(), got a second")
        self._unscaled.add(id(optimizer))
        given = [G for G in grads.values() if G is not None]
        infinite = any(not np.isfinite(G).all() for G in given)
        self._found_inf = bool(self._found_inf) or infinite
        inverse = np.float32(1.0 / np.float64(self._scale))
        for G in given:
            # g[.] = g[.] / s
            G[...] = G * special.lift(float(inverse), G)

    def step(self, optimizer: Any, grads: Mapping[str, Array | None]) -> None:
        """`optimizer.step(grads)`, unless a gradient is NaN or infinite: parameters and state stay as they are then."""
        if self.enabled and id(optimizer) not in self._unscaled:
            self.unscale_(optimizer, grads)
        if not (self.enabled and self._found_inf):
            optimizer.step(grads)

    def update(self, new_scale: float | None = None) -> None:
        """Let the scale follow what was seen since the last call, or set it.

        Raises:
            RuntimeError: no gradient was seen, as in torch.
        """
        if not self.enabled:
            return
        if new_scale is not None:
            self._scale = np.float32(new_scale)
        elif self._found_inf is None:
            raise RuntimeError("update: expected a call of step or unscale_ before, got none")
        elif self._found_inf:
            self._scale, self._growth_tracker = np.float32(self._scale * np.float64(self.backoff_factor)), 0
        else:
            self._growth_tracker += 1
            if self._growth_tracker == self.growth_interval:
                with np.errstate(over="ignore"):
                    grown = np.float32(self._scale * np.float64(self.growth_factor))
                self._scale = grown if np.isfinite(grown) else self._scale
                self._growth_tracker = 0
        self._unscaled, self._found_inf = set(), None

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
            KeyError: it lacks a part. Nothing is changed then.
        """
        if not self.enabled:
            return
        if not state_dict:
            raise RuntimeError("GradScaler.load_state_dict: expected a state, got an empty one")
        if missing := sorted(self.state_dict().keys() - state_dict.keys()):
            raise KeyError(f"GradScaler.load_state_dict: expected a state with {', '.join(missing)}")
        self._scale, self._growth_tracker = np.float32(state_dict["scale"]), state_dict["_growth_tracker"]
        self.growth_factor, self.backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self.growth_interval = state_dict["growth_interval"]
