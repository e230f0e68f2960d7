"""Mutants of refnet: its own source with one small thing changed, made in memory and run as an engine.

Nothing about the yardstick enters here. The operators:

- `operator`: + for -, * for / and the other way round; a minus sign dropped; .mT dropped.
- `constant`: a number plus one.
- `comparison`: > for >=, < for <=, == for !=, and the other way round; > for <.
- `axis`: the next axis (-1 for -2, others plus one).
- `index`: the next index of an array or of a tuple.

Changed are the methods that compute, and the functions that they call in the same file; those of a shared base, which
all its classes run, are mutants of the base. Left alone is what no answer depends on:

- what describes or constructs a module, and what only refuses bad input: `raise` and the condition that leads to
  nothing else, the calls of `_check`, a call whose value is dropped, and a local value that only these read;
- -1 as a size in a `reshape`, for which NumPy takes any negative number alike.

No record reaches schedulers, clipping of gradients, averages of weights and initial values. `in_file` has the mutants
of such a file: every line is changed, what constructs and what refuses too, and only messages of errors are left alone.
Tests have to notice them (`python -m benchmarks mutants`).
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import Any

import refnet
from parity.families.fault import Fault

__all__ = ["KINDS", "Mutant", "bearers", "changed_file", "classes", "drawing", "fault", "in_file", "mutants"]

KINDS = ("operator", "constant", "comparison", "axis", "index")

LEFT_ALONE = (
    "__init__",
    "__repr__",
    "check",
    "draws",
    "extra_repr",
    "reset_parameters",
    "_collect",
    "bind",
    "state_dict",
)
"""Methods that construct, refuse or describe."""


SHARED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "Module": ("refnet.nn.module", ("add_grads",), ("Sequential", "Graph")),
    "TransformerLayer": (
        "refnet.nn.transformer_layer",
        ("through", "back_through", "attended", "of_attended", "fed", "of_fed"),
        ("TransformerEncoderLayer", "TransformerDecoderLayer"),
    ),
    "Optimizer": (
        "refnet.optim.optimizer",
        (
            *("kept", "as_kept", "counted", "gradient", "decay", "step"),
            *("moving_average", "moving_average_of_squares", "correction"),
        ),
        tuple(name for name in refnet.optim.__all__ if name != "Optimizer"),
    ),
}
"""The shared bases: where each stands, its methods that compute, and the classes whose answers show what they do."""


@dataclass(frozen=True)
class Mutant:
    """One change of one class, or of one file.

    Attributes:
        type: the class that is judged, or the module. number: of the change among those. kind: one of KINDS.
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
    """The layers, losses and optimizers whose own file computes something, and the shared bases."""
    return (
        *(name for name in (*refnet.nn.__all__, *refnet.optim.__all__) if name not in SHARED and _home(name)),
        *SHARED,
    )


def bearers(name: str) -> tuple[str, ...]:
    """The classes whose answers show a mutant of this class: itself, or those that have it as a base."""
    return SHARED[name][2] if name in SHARED else (name,)


def _home(name: str) -> str:
    """The module that a class stands in, where its methods compute; empty where it only holds others."""
    if name in SHARED:
        return SHARED[name][0]
    made = getattr(refnet.nn, name, None) or getattr(refnet.optim, name, None)
    if not inspect.isclass(made):
        return ""
    home = made.__module__
    plumbing = ("refnet.nn.module", "refnet.nn.container", "refnet.nn.init", "refnet.optim.optimizer")
    return "" if home in plumbing or not home.startswith(("refnet.nn", "refnet.optim")) else home


def mutants(name: str) -> list[Mutant]:
    """Every mutant of a class, in the order of its file."""
    return _described(name, _changes(_parsed(_home(name)), name))


def in_file(home: str) -> list[Mutant]:
    """Every mutant of a whole module, in the order of its file."""
    return _described(home, _anywhere(_parsed(home)))


def changed_file(home: str, number: int | None) -> ast.Module:
    """The source of a module with this change; with none as it is."""
    tree = _parsed(home)
    if number is not None:
        _, change = list(_anywhere(tree))[number]
        change.apply()
    return ast.fix_missing_locations(tree)


def _described(name: str, changes: Iterator[tuple[str, _Change]]) -> list[Mutant]:
    found = []
    for number, (place, change) in enumerate(changes):
        before = ast.unparse(change.shown)
        change.apply()
        after = ast.unparse(change.shown)
        change.undo()
        if "\n" in before:
            # Of a loop or the like the line that differs.
            lines = zip(before.splitlines(), after.splitlines(), strict=True)
            before, after = next((a.strip(), b.strip()) for a, b in lines if a != b)
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
    patch = _as_base(mutant.type, changed) if mutant.type in SHARED else partial(_become, changed)
    patches = dict.fromkeys(bearers(mutant.type), patch)
    return Fault(str(mutant), f"{mutant.before} -> {mutant.after}", "", "a mutant", patches=patches)


def _become(changed: type, made: Any) -> None:
    made.__class__ = changed


def _as_base(name: str, changed: type) -> Callable[[Any], None]:
    """Gives an object the changed methods of a base, where its class has the base's own."""
    base = getattr(import_module(SHARED[name][0]), name)

    def patch(made: Any) -> None:
        own = type(made)
        methods = {m: vars(changed)[m] for m in SHARED[name][1] if getattr(own, m) is vars(base)[m]}
        made.__class__ = type(own.__name__, (own,), methods)

    return patch


def drawing(mistake: Fault) -> Fault:
    """The mistake in an engine that is given no mask, and draws it with its generator seeded with 0."""

    def ask(record: Any) -> Any:
        return replace(record, inputs=record.inputs[:1], names=("input",))

    def reply(answer: dict[str, Any]) -> dict[str, Any]:
        return {"grad_input.0" if name == "grad_input" else name: t for name, t in answer.items()}

    return replace(mistake, ask=ask, reply=reply)


@cache
def _source(home: str) -> str:
    return inspect.getsource(import_module(home))


def _parsed(home: str) -> ast.Module:
    """A tree of one's own: a change is made in it."""
    return ast.parse(_source(home))


def _changes(tree: ast.Module, name: str) -> Iterator[tuple[str, _Change]]:
    tops = _tops(tree)
    for place, function in _functions(tree, name):
        idle = _idle(function, tops)
        for statement in function.body:
            for change in _in(statement, statement, idle):
                yield place, change


def _anywhere(node: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[str, _Change]]:
    """The changes of a whole file or class: of what stands in it, of default arguments, and of every function."""
    for statement in node.body:
        if isinstance(statement, ast.ClassDef):
            yield from _anywhere(statement, f"{within}{statement.name}.")
        elif isinstance(statement, ast.FunctionDef):
            place = within + statement.name
            for default, shown in _defaults(statement.args):
                yield from ((place, change) for change in _in(default, shown, refusals=True))
            for line in statement.body:
                yield from ((place, change) for change in _in(line, line, refusals=True))
        elif not isinstance(statement, ast.Import | ast.ImportFrom):
            yield from ((within[:-1] or "module", change) for change in _in(statement, statement, refusals=True))


def _defaults(given: ast.arguments) -> Iterator[tuple[ast.expr, ast.keyword]]:
    """Each default of a function, and with its name."""
    by_place = [*given.posonlyargs, *given.args][len(given.posonlyargs) + len(given.args) - len(given.defaults) :]
    named = [*zip(by_place, given.defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    for own, default in named:
        if default is not None:
            yield default, ast.copy_location(ast.keyword(own.arg, default), default)


def _tops(tree: ast.Module) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def _functions(tree: ast.Module, name: str) -> list[tuple[str, ast.FunctionDef]]:
    """The methods of a class and of its bases in this file, and the functions that these call, likewise."""
    tops = _tops(tree)
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
            own = [n for n in own if top not in SHARED or n.name in SHARED[top][1]]
            # A method that the class itself has hides that of its base.
            own = [n for n in own if not any(k.rpartition(".")[2] == n.name for k in found)]
            found |= {f"{top}.{n.name}": n for n in own}
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
        # What is called for its refusals alone is not followed.
        dropped = {id(n) for f in own for s in _dropped(f, tops) for n in ast.walk(s)}
        names = (n for f in own for n in ast.walk(f) if isinstance(n, ast.Name) and id(n) not in dropped)
        waiting += [n.id for n in names if n.id in tops]
    return list(found.items())


def _dropped(function: ast.FunctionDef, tops: Mapping[str, ast.stmt]) -> list[ast.Expr]:
    """The calls of functions of this file that give a value, where it is dropped: made for their refusals alone."""
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    giving = {
        name
        for name, top in tops.items()
        if any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(top))
    }
    return [n for n in calls if isinstance(n.value, ast.Call) and ast.unparse(n.value.func) in giving]


def _refuses(node: ast.AST) -> bool:
    """Whether a node does nothing but refuse, if that."""
    checks = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_check.")
    alone = isinstance(node, ast.Expr) and _refuses(node.value)
    return checks or alone or isinstance(node, ast.Raise | ast.Assert)


def _idle(function: ast.FunctionDef, tops: Mapping[str, ast.stmt]) -> set[int]:
    """Dropped calls, and the values that are given to local names which only refusals read, by `id`."""
    dropped = _dropped(function, tops)
    refusing = {id(n) for call in dropped for n in ast.walk(call)}
    for node in ast.walk(function):
        if isinstance(node, ast.If) and all(map(_refuses, node.body)):
            refusing |= {id(n) for part in (node.test, *node.body) for n in ast.walk(part)}
        # What `_check` gives back may be computed with.
        elif isinstance(node, ast.Raise | ast.Assert) or (isinstance(node, ast.Expr) and _refuses(node)):
            refusing |= {id(n) for n in ast.walk(node)}
    names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    read = {n.id for n in names if id(n) not in refusing}
    refused = {n.id for n in names} - read
    idle = {id(call) for call in dropped}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]  # type: ignore[attr-defined]
        idle |= {id(v) for t, v in pairs if isinstance(t, ast.Name) and t.id in refused}
    return idle


def _in(node: ast.AST, shown: ast.AST, idle: Set[int] = frozenset(), refusals: bool = False) -> Iterator[_Change]:
    """The changes in a node and below it, but for what computes nothing; `shown` is the expression around it.

    Args:
        refusals: whether what only refuses is changed too. Messages never are.
    """
    if not refusals and isinstance(node, ast.If) and all(map(_refuses, node.body)):
        for other in node.orelse:
            yield from _in(other, other, idle)
        return
    if isinstance(node, ast.Raise | ast.JoinedStr) or id(node) in idle or (not refusals and _refuses(node)):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        yield from _in(node.value, node, idle, refusals)
        return
    shown = shown if isinstance(node, ast.Constant | ast.UnaryOp | ast.Tuple | ast.keyword) else node
    yield from (replace(change, shown=shown if isinstance(node, ast.Constant) else node) for change in _here(node))
    if isinstance(node, ast.keyword) and node.arg == "axis":
        return
    for child in ast.iter_child_nodes(node):
        is_index = isinstance(node, ast.Subscript) and child is node.slice and any(_indices(node))
        if not (isinstance(child, ast.arguments) or is_index or _is_open_size(node, child)):
            yield from _in(child, shown, idle, refusals)


def _is_open_size(node: ast.AST, child: ast.AST) -> bool:
    """Whether an argument is the -1 of a `reshape`."""
    reshapes = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "reshape"
    return reshapes and isinstance(child, ast.UnaryOp) and ast.unparse(child) == "-1"


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
