"""Object arrays of nodes as arrays of an arithmetic of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.truth import ball
from parity.truth.node import Node
from refnet.arithmetic import special
from refnet.arithmetic.array_like import MEMBERS, MOVES, ArrayLike, Rule


class Scalars(ArrayLike, inner="nodes"):
    """An object array of nodes behind NumPy's protocols: 0-d arrays stay arrays, and numbers that come in become nodes.

    Attributes:
        nodes: the object array. dtype: of the arrays that it stands for.
    """

    __slots__ = ("dtype", "nodes")

    def __init__(self, nodes: Any, dtype: np.dtype[Any]) -> None:
        self.nodes = _nodes(nodes)
        self.dtype = dtype

    def _moved(self, f: Rule) -> Scalars:
        return Scalars(f(self.nodes), self.dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.nodes[index] = _nodes(_inner(value))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Scalars:
        return Scalars(self.nodes.sum(axis=axis, keepdims=keepdims), self.dtype)

    def _each(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        return self._wrapped(ufunc(*(_nodes(_inner(i)) for i in inputs)))

    def _wrapped(self, result: Any) -> Any:
        of_nodes = isinstance(result, Node) or (isinstance(result, np.ndarray) and result.dtype == object)
        return Scalars(result, self.dtype) if of_nodes else result


def _nodes(values: Any) -> np.ndarray[Any, Any]:
    """An object array with a node for every number."""
    array = np.asarray(values, dtype=object)
    if all(type(x) is Node for x in array.flat):
        return array
    to_node = np.frompyfunc(lambda x: x if type(x) is Node else Node(ball.ball(x)), 1, 1)
    return np.asarray(to_node(array), dtype=object)


def _inner(argument: Any) -> Any:
    if isinstance(argument, (list, tuple)):
        return type(argument)(map(_inner, argument))
    return argument.nodes if isinstance(argument, Scalars) else argument


def _of_nodes(function: Rule) -> Rule:
    """NumPy's own function, on the object arrays."""

    def rule(*args: Any, **kwargs: Any) -> Any:
        arrays = args[0] if isinstance(args[0], (list, tuple)) else args
        like = next(a for a in arrays if isinstance(a, Scalars))
        return like._wrapped(function(*map(_inner, args), **kwargs))

    return rule


def _primitive(name: str) -> Rule:
    return lambda X, *args: Scalars(getattr(special, name)(X.nodes, *args), X.dtype)


def _of_several(name: str) -> Rule:
    return lambda X, *args: Scalars(getattr(special, name)(*map(_inner, args)), X.dtype)


# Every ufunc is NumPy's on object arrays, which asks the nodes.
Scalars.FUNCTIONS = {
    **MEMBERS,
    **MOVES,
    **{f: _of_nodes(f) for f in (np.where, np.concatenate, np.pad, np.einsum, np.cumsum)},
}

Scalars.SPECIALS = {
    "lift": lambda like, value: Scalars(value, like.dtype),
    "largest": lambda X, axis: special.largest(X.nodes, axis),
    **{
        name: _primitive(name)
        for name in ("shift", "sigmoid", "log_sigmoid", "erf", "erfc", "erf_derivative", "amax", "amax_weights")
    },
    "maximum": _of_several("maximum"),
    "gather": _of_several("gather"),
    "scatter": _of_several("scatter"),
}
