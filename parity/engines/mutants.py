"""Mutants of refnet: its own source with one small thing changed, made in memory and run as an engine.

Nothing about the yardstick enters here. The operators:

- `operator`: + for -, * for / and the other way round; a minus sign dropped; .mT dropped.
- `constant`: a number plus one.
- `comparison`: > for >=, < for <=, == for !=, and the other way round; > for <.
- `axis`: the next axis (-1 for -2, others plus one).
- `index`: the next index of an array or of a tuple.

Changed are the methods that compute, and the functions that they call in the same file. What only refuses bad input
(`raise` and its condition, the calls of `_check`), describes or constructs a module is left alone: no answer depends
on it.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

import refnet
from parity.families.fault import Fault

__all__ = ["KINDS", "Mutant", "classes", "fault", "mutants"]

KINDS = ("operator", "constant", "comparison", "axis", "index")

LEFT_ALONE = ("__init__", "__repr__", "check", "extra_repr", "reset_parameters", "_collect", "bind", "state_dict")
"""Methods that construct, refuse or describe."""


@dataclass(frozen=True)
class Mutant:
    """One change of one class.

    Attributes:
        type: the class that is judged. number: of the change among those of this class. kind: one of KINDS.
        place: the method or function, and the line in its file. before, after: the expression that is changed.
    """

    type: str
    number: int
    kind: str
    place: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.type} #{self.number} {self.place}: {self.before} -> {self.after}"

    @property
    def key(self) -> str:
        """What it is known by, wherever its line moves: where and what, without the line."""
        return f"{self.type} {self.place.partition(',')[0]}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class _Change:
    kind: str
    shown: ast.AST
    apply: Callable[[], None]
    undo: Callable[[], None]


def classes() -> tuple[str, ...]:
    """The layers, losses and optimizers whose own file computes something."""
    return tuple(name for name in (*refnet.nn.__all__, *refnet.optim.__all__) if _home(name))


def _home(name: str) -> str:
    """The module that a class stands in, where its methods compute; empty where it only holds others."""
    made = getattr(refnet.nn, name, None) or getattr(refnet.optim, name, None)
    if not inspect.isclass(made):
        return ""
    home = made.__module__
    plumbing = ("refnet.nn.module", "refnet.nn.container", "refnet.nn.init", "refnet.optim.optimizer")
    return "" if home in plumbing or not home.startswith(("refnet.nn", "refnet.optim")) else home


def mutants(name: str) -> list[Mutant]:
    """Every mutant of a class, in the order of its file."""
    tree = _parsed(_home(name))
    found = []
    for number, (place, change) in enumerate(_changes(tree, name)):
        before = ast.unparse(change.shown)
        change.apply()
        after = ast.unparse(change.shown)
        change.undo()
        line = f"{place}, line {getattr(change.shown, 'lineno', 0)}"
        found.append(Mutant(name, number, change.kind, line, before, after))
    return found


def fault(mutant: Mutant) -> Fault:
    """The mutant as a mistake that `parity.engines.faulty` makes."""
    home = _home(mutant.type)
    tree = _parsed(home)
    _, change = list(_changes(tree, mutant.type))[mutant.number]
    change.apply()
    module = types.ModuleType(home)
    module.__file__ = import_module(home).__file__
    exec(compile(ast.fix_missing_locations(tree), f"<mutant of {home}>", "exec"), module.__dict__)
    changed = getattr(module, mutant.type)

    def patch(made: Any) -> None:
        made.__class__ = changed

    return Fault(str(mutant), f"{mutant.before} -> {mutant.after}", "", "a mutant", patches={mutant.type: patch})


@cache
def _source(home: str) -> str:
    return inspect.getsource(import_module(home))


def _parsed(home: str) -> ast.Module:
    """A tree of one's own: a change is made in it."""
    return ast.parse(_source(home))


def _changes(tree: ast.Module, name: str) -> Iterator[tuple[str, _Change]]:
    for place, function in _functions(tree, name):
        for statement in function.body:
            for change in _in(statement, statement):
                yield place, change


def _functions(tree: ast.Module, name: str) -> list[tuple[str, ast.FunctionDef]]:
    """The methods of a class and of its bases in this file, and the functions that these call, likewise."""
    tops = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    found: dict[str, ast.FunctionDef] = {}
    waiting, seen = [name], set()
    while waiting:
        node = tops.get(top := waiting.pop(0))
        if node is None or top in seen:
            continue
        seen.add(top)
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
            own = [node]
        else:
            own = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name not in LEFT_ALONE]
            # A method that the class itself has hides that of its base.
            own = [n for n in own if not any(k.rpartition(".")[2] == n.name for k in found)]
            found |= {f"{top}.{n.name}": n for n in own}
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
        waiting += [n.id for f in own for n in ast.walk(f) if isinstance(n, ast.Name) and n.id in tops]
    return list(found.items())


def _in(node: ast.AST, shown: ast.AST) -> Iterator[_Change]:
    """The changes in a node and below it, but for what computes nothing; `shown` is the expression around it."""
    if isinstance(node, ast.If) and all(isinstance(s, ast.Raise) for s in node.body):
        for other in node.orelse:
            yield from _in(other, other)
        return
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_check."):
        return
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        yield from _in(node.value, node)
        return
    shown = shown if isinstance(node, ast.Constant | ast.UnaryOp | ast.Tuple | ast.keyword) else node
    yield from (replace(change, shown=shown if isinstance(node, ast.Constant) else node) for change in _here(node))
    if isinstance(node, ast.keyword) and node.arg == "axis":
        return
    for child in ast.iter_child_nodes(node):
        is_index = isinstance(node, ast.Subscript) and child is node.slice and any(_indices(node))
        if not (isinstance(child, ast.arguments) or is_index):
            yield from _in(child, shown)


def _set(kind: str, node: ast.AST, holder: Any, field: str, new: Any) -> _Change:
    old = getattr(holder, field)
    return _Change(kind, node, lambda: setattr(holder, field, new), lambda: setattr(holder, field, old))


SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}


def _here(node: ast.AST) -> Iterator[_Change]:
    """The changes of one node itself."""
    match node:
        case ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPPED:
            yield _set("operator", node, node, "op", SWAPPED[type(node.op)]())
        case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
            yield _set("operator", node, node, "op", ast.UAdd())
        case ast.Attribute(attr="mT"):
            # X[...] is X itself.
            yield _set("operator", node, node, "attr", "real")
        case ast.Compare() if len(node.ops) == 1:
            for other in COMPARED.get(type(node.ops[0]), ()):
                yield _set("comparison", node, node, "ops", [other()])
        case ast.keyword(arg="axis"):
            yield _set("axis", node, node, "value", _next_axis(node.value))
        case ast.Subscript():
            for holder, field, value in _indices(node):
                yield _set("index", node, holder, field, _plus_one(value))
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            yield _set("constant", node, node, "value", value + 1)


def _indices(node: ast.Subscript) -> Iterator[tuple[Any, str, ast.expr]]:
    if isinstance(node.slice, ast.Constant) and type(node.slice.value) is int:
        yield node, "slice", node.slice
    if isinstance(node.slice, ast.UnaryOp) and isinstance(node.slice.operand, ast.Constant):
        yield node, "slice", node.slice


def _plus_one(value: ast.expr) -> ast.expr:
    return ast.BinOp(value, ast.Add(), ast.Constant(1))


def _next_axis(value: ast.expr) -> ast.expr:
    """-2 for -1, -1 for -2, and the next one for what is computed."""
    text = ast.unparse(value)
    if text in ("-1", "-2"):
        return ast.UnaryOp(ast.USub(), ast.Constant(3 - int(text[1:])))
    return _plus_one(value)
