"""Where the arrays of a network and its optimizer live while updates are captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import plain
from refnet.nn.module import Module
from refnet.train.capture.recorder import Uncapturable
from refnet.train.step import Update

SMALL = 2**15
"""Bytes up to which all parameters are laid side by side, so that one operation can update them together. Beyond, a
call costs little beside its work, and arrays are better off where the processor likes them."""


class Storage:
    """A home for every array that lasts from one update to the next: its own memory, or for the parameters of a small
    network, and their state, one beside the other.
    """

    def __init__(self, update: Update) -> None:
        # By the arrays' ids: the array itself, and the one that stands for it.
        self._homes: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._away = False
        self._update = update
        net, state = update.net, update.opt.state
        keys = dict.fromkeys(key for kept in state.values() for key in kept)
        kinds = [
            [net.params[name] for name in update.held],
            *([state[name][key] for name in update.held if key in state.get(name, {})] for key in keys),
        ]
        for kind in kinds:
            own = [plain(array) for array in kind]
            for array, home in zip(own, _side_by_side(own), strict=True):
                self._homes[id(array)] = array, home if array.flags.writeable else array
        for array in map(plain, (*arrays_of(net).values(), *arrays_of(update.loss).values())):
            self._homes.setdefault(id(array), (array, array))
        for array, _ in self._homes.values():
            if type(array) is not np.ndarray or array.dtype.kind not in "fiub":
                raise Uncapturable("the network's arrays are not NumPy's, or not of numbers")
        # Weights of a loss and frozen parameters may be read-only.
        self._written = [home for _, home in self._homes.values() if home.flags.writeable]

    def home(self, array: NDArray[Any]) -> NDArray[Any]:
        """What stands for an array of the network or the optimizer."""
        return self._homes[id(array)][1]

    def homes(self) -> list[NDArray[Any]]:
        return [home for _, home in self._homes.values()]

    def originals(self) -> list[NDArray[Any]]:
        """The arrays themselves, in the order of `homes`."""
        return [own for own, _ in self._homes.values()]

    @property
    def parameters(self) -> list[NDArray[Any]]:
        """The homes of what the optimizer moves."""
        return [self.home(plain(self._update.net.params[name])) for name in self._update.held]

    @property
    def state(self) -> list[NDArray[Any]]:
        """The homes of the optimizer's state."""
        return [self.home(plain(array)) for kept in self._update.opt.state.values() for array in kept.values()]

    def away(self) -> None:
        """From here on the homes are ahead of the arrays."""
        self._away = True

    def leave(self) -> None:
        """Take the values of the arrays; from here on their homes are ahead of them."""
        for own, home in self._homes.values():
            if own is not home:
                home[...] = own
        self._away = True

    def settle(self) -> None:
        """Let the arrays have the values of their homes."""
        if self._away:
            for own, home in self._homes.values():
                if own is not home:
                    own[...] = home
            self._away = False

    def contents(self) -> list[NDArray[Any]]:
        return [home.copy() for home in self._written]

    def restore(self, contents: Sequence[NDArray[Any]]) -> None:
        for home, content in zip(self._written, contents, strict=True):
            home[...] = content


def arrays_of(module: Module) -> Mapping[str, Any]:
    return {**module.params, **module.buffers}


def _side_by_side(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Copies of the arrays in one piece of memory, if they are small and alike; otherwise the arrays themselves."""
    total = sum(array.size for array in arrays)
    alike = len({array.dtype for array in arrays}) == 1 and all(array.flags.c_contiguous for array in arrays)
    if len(arrays) < 2 or not alike or total * arrays[0].itemsize > SMALL:
        return arrays
    memory = np.empty(total, arrays[0].dtype)
    copies, start = [], 0
    for array in arrays:
        copies.append(memory[start : start + array.size].reshape(array.shape))
        start += array.size
    return copies
