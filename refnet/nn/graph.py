"""Networks whose values branch and meet: residuals, several branches, tied weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refnet import _check
from refnet._steps import Saved, clock, unmoved
from refnet.nn.module import Array, Module, Params

Step = tuple[Any, ...]
OPERATIONS = ("+", "*")


class Graph(Module):
    """Modules and sums, one after the other, on values with names.

        Graph(
            {"norm": LayerNorm(8), "linear": Linear(8, 8)},
            (("h", "norm", "input"), ("y", "linear", "h"), ("output", "+", "input", "y")),
        )

    is x + Linear(LayerNorm(x)). A step says what its result is called, which module makes it, and of which values. "+"
    adds values of one shape, "*" multiplies two, elementwise. A module that gives several results has a tuple of names.

    A value that goes to several places has the sum of their gradients, and so has a module that stands in several
    steps. Modules that share an array (`b.params["weight"] = a.params["weight"]` before the graph is made) share its
    gradient: it stands under the first of its names, as in `Sequential`.

    Args:
        layers: the modules by name, as in torch's `ModuleDict`.
        steps: (result, name of a module or an operation, value, ...) each.
        inputs, outputs: the names of the values that go in and come out.

    Raises:
        TypeError: a layer is not a Module.
        ValueError: a step names a module or a value that is not there, a value is made twice or never used; shapes do
            not agree in a sum or product.
    """

    def __init__(
        self,
        layers: Mapping[str, Module],
        steps: Sequence[Step],
        inputs: Sequence[str] = ("input",),
        outputs: Sequence[str] = ("output",),
    ) -> None:
        super().__init__()
        self.adopt(layers)
        self.steps = tuple((_names(result), place, tuple(values)) for result, place, *values in steps)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.one_input, self.one_output = len(self.inputs) == 1, len(self.outputs) == 1
        made, used = set(self.inputs), set(self.outputs)
        for results, place, values in self.steps:
            if place not in self._modules and place not in OPERATIONS:
                raise ValueError(f"Graph: expected one of {', '.join((*self._modules, *OPERATIONS))}, got {place!r}")
            if place in OPERATIONS and (len(results) != 1 or len(values) < 2 or (place == "*" and len(values) > 2)):
                raise ValueError(f"Graph: expected one result of two values in {place!r}, got {results} of {values}")
            for name in values:
                if name not in made:
                    raise ValueError(f"Graph: expected a value that is made before {place!r}, got {name!r}")
            for name in results:
                if name in made:
                    raise ValueError(f"Graph: expected each value to be made once, got {name!r} again")
            made |= set(results)
            used |= set(values)
        for name in (*self.outputs, *self.inputs, *(n for results, *_ in self.steps for n in results[:1])):
            if name not in made & used:
                raise ValueError(f"Graph: expected every value to be made and used, got {name!r}")

    def extra_repr(self) -> str:
        return "; ".join(
            f"{', '.join(results)} = "
            + (f" {place} ".join(values) if place in OPERATIONS else f"{place}({', '.join(values)})")
            for results, place, values in self.steps
        )

    def forward(self, *inputs: Array) -> tuple[Any, Any]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"Graph: expected the inputs {', '.join(self.inputs)}, got {len(inputs)}")
        values: dict[str, Array] = dict(zip(self.inputs, inputs, strict=True))
        saved = Saved()
        saved.steps = clock.now
        for results, place, names in self.steps:
            given = [values[name] for name in names]
            if place in OPERATIONS:
                _check.floating("Graph", **dict(zip(names, given, strict=True)))
                _check.same_shape("Graph", **dict(zip(names, given, strict=True)))
                Y, s = given[0], None
                for X in given[1:]:
                    Y = Y + X if place == "+" else Y * X
            else:
                Y, s = self._modules[place].forward(*given)
            values.update(zip(results, Y if isinstance(Y, tuple) else (Y,), strict=False))
            saved.append(s)
        output = tuple(values[name] for name in self.outputs)
        return output[0] if self.one_output else output, (values, saved)

    def backward(self, grad_output: Any, saved: Any) -> tuple[Any, Params]:
        if not isinstance(saved, tuple) or len(saved) != 2 or not isinstance(saved[0], dict):
            raise TypeError(
                f"Graph.backward: expected as saved what forward returned beside the output, got {type(saved).__name__}"
            )
        values, inner = saved
        if type(inner) is Saved:
            unmoved("Graph.backward", self.params, inner.steps)
        grads: Params = {}
        # dV[name]: the sum of the gradients from all places that a value goes to
        dV: dict[str, Array] = {}

        def arrive(name: str, dX: Array | None) -> None:
            if dX is not None:
                dV[name] = dV[name] + dX if name in dV else dX

        for name, dY in zip(
            self.outputs, grad_output if isinstance(grad_output, tuple) else (grad_output,), strict=True
        ):
            arrive(name, _check.upstream("Graph", dY, values[name].shape, values[name].dtype))
        for (results, place, names), s in zip(reversed(self.steps), reversed(inner), strict=True):
            dYs = tuple(dV[name] if name in dV else values[name] * 0 for name in results)
            if place == "+":
                for name in names:
                    arrive(name, dYs[0])
            elif place == "*":
                # dA[.] = dY[.] B[.]     dB[.] = dY[.] A[.]
                arrive(names[0], dYs[0] * values[names[1]])
                arrive(names[1], dYs[0] * values[names[0]])
            else:
                dX, dP = self._modules[place].backward(dYs if dYs[1:] else dYs[0], s)
                for name, d in zip(names, dX if isinstance(dX, tuple) else (dX,), strict=True):
                    arrive(name, d)
                self.add_grads(grads, place, dP)
        dX = tuple(dV.get(name) for name in self.inputs)
        return dX[0] if self.one_input else dX, {name: grads[name] for name in self.params}


def _names(result: Any) -> tuple[str, ...]:
    return (result,) if isinstance(result, str) else tuple(result)
