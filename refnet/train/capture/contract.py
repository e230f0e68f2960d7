"""What may be captured: what is known, and what declares that it can be.

Known are refnet's own classes, exactly: a class that is derived from one of them may do anything. Another class says
`capturable = True` in its own body, and thereby promises:

1. What it computes depends only on its arguments, on its parameters and buffers (of an optimizer: on the parameters and
   on arrays in `state`), on its attributes, and on draws from refnet generators among them. Attributes change only from
   outside, between two updates. It keeps no counter, and remembers nothing.
2. It computes with NumPy's functions and operators. It makes no Python number, and no decision, from an array's values.
3. It writes only into its buffers (an optimizer into parameters and state, with `array[...] = value`), and into arrays
   that it has made in the same call. It never writes into an argument, and binds no array anew.
4. State is complete after an optimizer's first step, and is arrays.

A schedule of the learning rate, `lr_lambda`, that is a function declares itself by an attribute (`f.capturable = True`)
and promises that it depends on its argument alone and changes nothing. `check_promise` puts the promise to the test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refnet.arithmetic.runs import plain
from refnet.generator import default_generator
from refnet.nn.module import Module
from refnet.train.configuration import configuration_of
from refnet.train.step import Update


def is_capturable(thing: Any) -> bool:
    """Whether a module, an optimizer or a schedule is known, or declares that it can be captured."""
    kind = type(thing)
    known = kind.__module__.split(".")[0] == "refnet" or vars(kind).get("capturable") is True
    declared = vars(thing).get("capturable") is True if hasattr(thing, "__dict__") else False
    if not known:
        return declared and callable(thing) and not isinstance(thing, Module)
    # An attribute of the object that hides one of its class's methods is foreign code.
    return not any(callable(getattr(kind, name, None)) for name in vars(thing))


def why_not(update: Update) -> str:
    """What stands against capturing an update; empty if nothing does."""
    net, loss, opt = update.net, update.loss, update.opt
    if getattr(opt, "takes_closure", False):
        return f"{type(opt).__name__} evaluates the loss as often as its values ask for"
    modules = (*net.modules(), *loss.modules())
    for thing in (*modules, opt):
        if not is_capturable(thing):
            return f"{type(thing).__name__} is no class of refnet's, and does not declare itself capturable"
    for what, array in (("inputs", update.inputs), ("targets", update.targets)):
        if not array.dtype.isnative:
            return f"the {what} are of foreign byte order"
    if not all(isinstance(plain(array), np.ndarray) for array in _arrays(update)):
        return "a parameter, a buffer or a part of the optimizer's state is no array of NumPy's"
    arrays = [*map(plain, _arrays(update)), update.inputs, update.targets]
    if not all(array.dtype.isnative for array in arrays):
        return "an array is of foreign byte order"
    if _overlap(arrays):
        return "two arrays lie in the same memory"
    for root in (net, loss):
        held = {id(array) for array in (*root.params.values(), *root.buffers.values())}
        for module in root.modules():
            if any(id(array) not in held for array in (*module.params.values(), *module.buffers.values())):
                return f"an array of {type(module).__name__} is not the one that {type(root).__name__} holds"
    return ""


def _arrays(update: Update) -> Iterator[Any]:
    for module in (update.net, update.loss):
        yield from module.params.values()
        yield from module.buffers.values()
    for kept in update.opt.state.values():
        yield from kept.values()


def _overlap(arrays: list[Any]) -> bool:
    """Whether two different arrays share memory."""
    each = {id(array): array for array in arrays if array.size}.values()
    extents = sorted(((*np.lib.array_utils.byte_bounds(array), array) for array in each), key=lambda extent: extent[:2])
    reaching: list[tuple[int, NDArray[Any]]] = []
    for low, high, array in extents:
        reaching = [(end, other) for end, other in reaching if end > low]
        if any(np.shares_memory(array, other) for _, other in reaching):
            return True
        reaching.append((high, array))
    return False


def check_promise(
    net: Module, loss: Module, opt: Callable[[dict[str, Any]], Any], inputs: NDArray[Any], targets: NDArray[Any]
) -> None:
    """Raise AssertionError if classes that declare themselves capturable break what they promise, as far as that shows
    on these samples.

    Copies of `net` and `loss` are looked at, in the mode that they are in, with read-only samples; `opt` makes an
    optimizer on the parameters that it is given.
    """
    inputs, targets = inputs.copy(), targets.copy()
    inputs.flags.writeable = targets.flags.writeable = False
    results, state = [], default_generator.get_state()
    for _ in range(2):
        default_generator.set_state(state)
        memory: dict[int, Any] = {}
        ours, criterion = copy.deepcopy(net, memory), copy.deepcopy(loss, memory)
        optimizer = opt(ours.params)
        update = Update(ours, criterion, optimizer, inputs, targets)
        update(slice(0, len(inputs)))
        before = _seen_from_outside(update)
        values = [np.asarray(update(slice(0, len(inputs)))) for _ in range(3)]
        after = _seen_from_outside(update)
        for name, was, now in zip(("net", "loss", "optimizer"), before, after, strict=True):
            assert was == now, f"check_promise: expected the attributes of the {name} to stay, got others after a step"
        arrays = [*map(plain, _arrays(update)), *values]
        results.append([np.asarray(array).tobytes() for array in arrays])
    assert results[0] == results[1], "check_promise: expected the same updates from the same start, got other bits"


def _seen_from_outside(update: Update) -> list[Any]:
    opt = {**vars(update.opt), "state": None, "param_groups": None}
    state = {
        name: [(key, np.shape(plain(array))) for key, array in kept.items()] for name, kept in update.opt.state.items()
    }
    return [configuration_of(update.net), configuration_of(update.loss), (configuration_of(opt), state)]
